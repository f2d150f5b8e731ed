"""Load MNIST, with the interface of the `mnist_loader` of Nielsen's book
"Neural Networks and Deep Learning": `load_data`, `load_data_wrapper` and
`vectorized_result`.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import pickle
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from os import PathLike
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Pair = tuple[Array, Array]
Data = tuple[Pair, Pair, Pair]

SHIPPED = Path(__file__).resolve().parent / "data"
"""The folder that `load_data` reads when no path is given."""

SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""The four files of MNIST and the digest of what each holds, uncompressed."""

ARRAYS_SHA256 = "c1f6f04d235d2cc59ace7f3d311b01afa572545f5dce793011108e842770c5f1"
"""The digest of the arrays of `load_data`, one after the other."""

ARRAY_NAMES = {
    "_codecs.encode",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.numeric._frombuffer",
    "numpy.dtype",
    "numpy.ndarray",
}
"""All that a pickle may name: what arrays are pickled with, by Python 2 and 3."""

ARRAY_OPCODES = """
    PROTO FRAME STOP MARK GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS
    GLOBAL STACK_GLOBAL REDUCE BUILD
"""
"""All the steps that a pickle of arrays, in tuples or lists, may take. None of them hashes an
object, which takes for ever if it is a tuple of two tuples, each of two tuples, and so on."""

ARRAY_TYPE = "[<>|](f[248]|[iu][1248])"
"""The types that an array in a pickle may have, as numpy names them: numbers."""

EXPECTED = "give a folder with the four files of MNIST, or one mnist.pkl.gz"

MAX_BYTES = 2**30
"""How long a file may be, unpacked, and its images as float32: five times MNIST.
The worst of pickles takes four times as much memory before it is refused."""


class DataError(Exception):
    """Data that cannot be used: one line that names the file, or its end, and says why."""

    def __init__(self, path: Path, problem: str) -> None:
        name = ascii(str(path))  # which is printable and on one line
        super().__init__(f"{name if len(name) <= 200 else '...' + name[-200:]}: {problem}")


def load_data(path: str | PathLike[str] | None = None) -> Data:
    """Return the training, validation and test data, each as (images, labels).

    Images are float32 of shape (n, 784), one row per image, pixels k/256 from 0
    (background) to 255/256 (ink). Labels are int64 of shape (n,). All are C-contiguous
    and writable. MNIST gives 50,000, 10,000 and 10,000 images.

    `path` is a folder with the four IDX files that SHA256 names, gzip'ed (`.gz`)
    or not, or one file like Nielsen's `mnist.pkl.gz`. Of a folder's `train` images
    the last sixth, in MNIST 10,000 of 60,000, is the validation data. Pixels in a
    pickle are numbers from 0 to 1, or uint8, which are divided by 256 as those of
    IDX files are. Without `path` the shipped files are read, and must be unaltered.

    Raises DataError if the data is missing, damaged, not of this form or too large.
    """
    source = SHIPPED if path is None else Path(path)
    try:
        pairs = _read_folder(source) if source.is_dir() else _read_pickle(source)
        if 4 * sum(images.size for images, _ in pairs) > MAX_BYTES:
            raise DataError(source, "too many images to be used")
        training, validation, test = (_checked(source, *pair) for pair in pairs)
    except OSError as error:
        raise DataError(Path(error.filename or source), f"{error.strerror}; {EXPECTED}") from None
    except MemoryError:
        raise DataError(source, "too large for the memory; free some") from None
    return training, validation, test


def is_mnist(data: Data) -> bool:
    """Tell whether what `load_data` returned is MNIST to the bit, in any wrapping."""
    digest = hashlib.sha256()
    for images, labels in data:
        digest.update(images.data)
        digest.update(labels.data)
    return digest.hexdigest() == ARRAYS_SHA256


def load_data_wrapper(
    path: str | PathLike[str] | None = None,
) -> tuple[list[Pair], list[tuple[Array, int]], list[tuple[Array, int]]]:
    """Return the data of `load_data` as three lists with a pair for each image.

    A training pair is (x, y): x float32 of shape (784, 1), y the one-hot vector of
    the digit, float64 of shape (10, 1). A validation or test pair is (x, digit).
    """
    training, validation, test = (
        [(image.reshape(-1, 1), int(label)) for image, label in zip(*pair, strict=True)]
        for pair in load_data(path)
    )
    return [(x, vectorized_result(j)) for x, j in training], validation, test


def vectorized_result(j: int) -> Array:
    """Return the one-hot vector of digit `j`, float64 of shape (10, 1)."""
    e = np.zeros((10, 1))
    e[j] = 1.0
    return e


def _checked(source: Path, images: Array, labels: Array) -> Pair:
    """Return images and labels as `load_data` promises them, or raise DataError."""
    if images.ndim != 2 or images.shape[1] != 784 or labels.shape != images.shape[:1]:
        found = f"images of shape {images.shape!s:.50} with labels of shape {labels.shape!s:.50}"
        raise DataError(source, f"{found}; (n, 784) and (n,) are needed")
    if len(images) == 0:
        raise DataError(source, "training, validation or test data without an image")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 9:
        raise DataError(source, "labels that are not the digits 0 to 9; check the data")
    if images.dtype == np.uint8:
        return np.divide(images, 256, dtype=np.float32, order="C"), labels.astype(np.int64)
    if not (images.min() >= 0 and images.max() <= 1):  # A NaN fails it too.
        raise DataError(source, "pixels that are not numbers from 0 to 1; check the data")
    # Copies, as arrays on the bytes of a pickle are read-only.
    return images.astype(np.float32, order="C"), labels.astype(np.int64)


def _read_folder(folder: Path) -> tuple[Pair, Pair, Pair]:
    """Return the three pairs of a folder of IDX files, everything uint8."""
    images, labels = _read_pair(folder, "train")
    n = len(images) - len(images) // 6
    return (images[:n], labels[:n]), (images[n:], labels[n:]), _read_pair(folder, "t10k")


def _read_pair(folder: Path, prefix: str) -> Pair:
    """Return the images, uint8 (n, 784), and labels, uint8 (n,), of two IDX files."""
    images = _read_idx(folder, f"{prefix}-images-idx3-ubyte", (28, 28))
    labels = _read_idx(folder, name := f"{prefix}-labels-idx1-ubyte", ())
    if labels.max(initial=0) > 9:
        raise DataError(folder / name, f"a label {labels.max()}, where all are digits 0 to 9")
    if len(images) != len(labels):
        counts = f"{len(images)} {prefix} images but {len(labels)} labels"
        raise DataError(folder, f"{counts}; take both files from the same data set")
    return images.reshape(-1, 784), labels


def _read_idx(folder: Path, name: str, shape: tuple[int, ...]) -> Array:
    """Return the items of an IDX file, uint8 of shape (n, *shape).

    The format: http://yann.lecun.com/exdb/mnist/ (big-endian header: two zero
    bytes, 8 for unsigned bytes, the number of dimensions, and each dimension).
    """
    packed = folder / f"{name}.gz"
    path = packed if packed.exists() else folder / name
    with _opened(path) as file:
        header = file.read(8 + 4 * len(shape))
        if len(header) < 8 + 4 * len(shape):
            raise DataError(path, "truncated within its header; copy it again")
        magic, n, *dimensions = np.frombuffer(header, ">u4").tolist()
        if magic != (needed := 0x801 + len(shape)):
            raise DataError(path, f"magic number {magic}, not {needed}; is it another file?")
        if tuple(dimensions) != shape:
            size = " by ".join(map(str, dimensions))
            raise DataError(path, f"images of {size} pixels; only 28 by 28 can be used")
        size = n * math.prod(shape)
        if size > MAX_BYTES // 4:
            raise DataError(path, f"its header claims {n} items, too many to be used")
        # One byte more than the header promises, to see whether there is one.
        body = file.read(size + 1)
    if len(body) < size:
        raise DataError(path, f"truncated: {len(body)} of {size} bytes of data; copy it again")
    if len(body) > size:
        raise DataError(path, f"more bytes than the {n} items of its header; copy it again")
    if folder == SHIPPED:
        digest = hashlib.sha256(header)
        digest.update(body)
        if digest.hexdigest() != SHA256[name]:
            raise DataError(path, "not the file that was shipped; restore it")
    return np.frombuffer(body, np.uint8).reshape(n, *shape)


@contextmanager
def _opened(path: Path) -> Iterator[BufferedIOBase]:
    """Open a regular file, unpacked if it is gzip'ed; all else becomes a DataError."""
    if path.exists() and not path.is_file():  # A pipe would be waited for.
        raise DataError(path, f"not a regular file; {EXPECTED}")
    try:
        with path.open("rb") as raw:
            is_packed = path.suffix == ".gz" or raw.peek(2)[:2] == b"\x1f\x8b"
            # GzipFile reads once for 8 KiB of data or more, but once for each byte of padding.
            packed: Any = _Bounded(raw, MAX_BYTES // 2**13)
            yield gzip.GzipFile(fileobj=packed) if is_packed else raw
    except EOFError:
        raise DataError(path, "truncated, or another kind of file; copy it again") from None
    except (gzip.BadGzipFile, zlib.error, pickle.UnpicklingError) as error:
        raise DataError(path, f"damaged, or not gzip: {error}; copy it again") from None
    except ValueError:  # which opening raises for a NUL or half a surrogate pair
        raise DataError(path, f"no file can have this name; {EXPECTED}") from None


def _read_pickle(path: Path) -> list[Pair]:
    """Return the three pairs of a file like Nielsen's mnist.pkl.gz, unchecked."""
    with _opened(path) as file:
        try:
            # Python 2 had no bytes: what it pickled as str is kept as bytes.
            unpickler = _ArrayUnpickler(_Bounded(file, 10_000), encoding="bytes")
            training, validation, test = unpickler.load()
            pairs = [(_array(x), _array(y)) for x, y in (training, validation, test)]
        except (EOFError, OSError, zlib.error, MemoryError):  # which _opened and load_data describe
            raise
        except Exception as error:  # A bad pickle raises nearly anything, says pickle.
            problem = "not a pickle of three pairs of number arrays"
            if isinstance(error, pickle.UnpicklingError):
                problem += f", {ascii(str(error)[:60])[1:-1]}"
            raise DataError(path, f"{problem}; {EXPECTED}") from None
        if file.read(1):
            raise DataError(path, "more bytes behind the end of its pickle; copy it again")
    return pairs


class _ArrayUnpickler(pickle._Unpickler):
    """Reads a pickle of numpy arrays; the calls that it asks for are written down, not made.

    See "Restricting Globals" in the documentation of pickle. The base class is the
    one written in Python: the one in C allocates whatever memo index is claimed.
    """

    def find_class(self, module: str, name: str) -> str:
        # numpy 2 renamed numpy.core to numpy._core.
        full_name = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if full_name not in ARRAY_NAMES:
            raise pickle.UnpicklingError(f"it names {full_name:.50}")
        return full_name

    def load_global(self: Any) -> None:
        module, name = (self.readline()[:-1].decode("latin-1") for _ in range(2))
        self.append(self.find_class(module, name))

    def load_reduce(self: Any) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = SimpleNamespace(function=self.stack[-1], arguments=arguments)

    def load_build(self: Any) -> None:
        state = self.stack.pop()
        self.stack[-1].state = state

    # Of bytes, Python 3 makes text in protocols 0 to 2. It becomes bytes again at once, unless
    # a character beyond Latin-1 would have Python use two or four bytes for every character.

    def load_unicode(self: Any) -> None:
        text = self.readline()[:-1]
        if text.count(b"\\") > text.count(rb"\u00"):
            raise pickle.UnpicklingError("it has text beyond Latin-1")
        self.append(text.decode("raw-unicode-escape").encode("latin-1"))

    def load_binunicode(self: Any) -> None:
        text = self.read(int.from_bytes(self.read(4), "little"))
        if np.frombuffer(text, np.uint8).max(initial=0) > 0xC3:  # U+00FF is C3 BF
            raise pickle.UnpicklingError("it has text beyond Latin-1")
        self.append(text.decode().encode("latin-1"))

    # Of an opcode that is not in here, the base class says KeyError.
    dispatch: ClassVar = {
        opcode: pickle._Unpickler.dispatch[opcode]
        for opcode in (getattr(pickle, name)[0] for name in ARRAY_OPCODES.split())
    } | {
        pickle.GLOBAL[0]: load_global,
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.UNICODE[0]: load_unicode,
        pickle.BINUNICODE[0]: load_binunicode,
        # Frames only save reads, and _Bounded has to see every step.
        pickle.FRAME[0]: lambda self: self.read(8),
        # The original fills a bytearray of the length that is claimed with zeros.
        pickle.BYTEARRAY8[0]: pickle._Unpickler.dispatch[pickle.BINBYTES8[0]],
    }


class _Bounded:
    """A file that stops after MAX_BYTES or `reads_left` reads. A pickle reads at each step."""

    def __init__(self, file: BufferedIOBase, reads_left: int) -> None:
        self.file = file
        self.bytes_left = MAX_BYTES
        self.reads_left = reads_left

    def read(self, size: int) -> bytes:
        if size > MAX_BYTES // 2:  # No array of MNIST, float64 even, is as long.
            raise pickle.UnpicklingError("it is too long")
        return self._counted(self.file.read(min(size, self.bytes_left)))

    def readline(self) -> bytes:
        return self._counted(self.file.readline(self.bytes_left))

    def _counted(self, data: bytes) -> bytes:
        self.bytes_left -= len(data)
        self.reads_left -= 1
        if self.bytes_left <= 0 or self.reads_left <= 0:
            raise pickle.UnpicklingError("it is too long")
        return data


def _array(pickled: SimpleNamespace) -> Array:
    """Return the array that the calls of a pickle describe, a view of its bytes."""
    if pickled.function == "numpy.core.numeric._frombuffer":  # pickle protocol 5
        data, dtype, shape, order = pickled.arguments
    else:
        _, shape, dtype, is_fortran, data = pickled.state
        order = "F" if is_fortran else "C"
    code = dtype.state[1] + dtype.arguments[0]
    if isinstance(code, bytes):  # in protocols 0 to 3
        code = code.decode("latin-1")
    if not re.fullmatch(ARRAY_TYPE, code):
        raise pickle.UnpicklingError(f"an array of type {code:.20}")
    if isinstance(data, SimpleNamespace):  # a call of _codecs.encode
        data = data.arguments[0]
    array: Array = np.frombuffer(data, code)
    return array.reshape(shape, order=order)
