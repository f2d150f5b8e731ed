"""Load MNIST, with the interface of the `mnist_loader` of Nielsen's book "Neural Networks
and Deep Learning" (http://neuralnetworksanddeeplearning.com): `load_data`,
`load_data_wrapper` and `vectorized_result`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import pickle
import re
import reprlib
import zlib
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Pair = tuple[Array, Array]  # images and labels
Data = tuple[Pair, Pair, Pair]  # training, validation and test

# The folder that `load_data` reads when no path is given.
SHIPPED = Path(__file__).resolve().parent / "data"

# The four files of MNIST, and the digest of what each holds, unpacked.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

# How many bytes a file may have, unpacked: about five times MNIST as float32.
MAX_BYTES = 2**30
# How many are read at a time: `read(n)` takes memory for n bytes, even if the file is small.
PART = 2**15

# The end of errors about data of a wrong form.
NEEDED = (
    "what is needed is a folder of MNIST's four files, or a pickle of "
    "(training, validation, test), each (images, labels)"
)

# Other files that people have, by their first bytes, and what to do with them.
OTHER_FILES = {
    b"\0\0\x08": "a single IDX file: give the folder of all four",
    b"PK": "a zip archive: unpack it (or an .npz file: pickle its arrays)",
    b"\xfd7zXZ": "packed with xz: unpack it",
    b"BZh": "packed with bzip2: unpack it",
    b"\x89HDF": "an HDF5 file: pickle its arrays",
    b"PAR1": "a parquet file: pickle its columns as arrays",
}


class DataError(Exception):
    """Data that cannot be used: its `args` are the path and, in one line, the problem."""

    def __str__(self) -> str:
        path, problem = self.args
        name = repr(str(path))  # printable, and on one line
        if len(name) > 150:
            name = "..." + name[-150:]
        return f"{name}: {problem}"


def load_data(path: str | PathLike[str] | None = None) -> Data:
    """Return the training, validation and test data, each as (images, labels).

    Images are float32 of shape (n, 784), one row per image, pixels from 0 (background) to 1
    (ink). Labels are int64 of shape (n,). All are C-contiguous and writable. MNIST gives
    50,000, 10,000 and 10,000 images, with pixels k/256 from 0 to 255/256.

    `path` is a folder with the four IDX files that SHA256 names, or one file like Nielsen's
    mnist.pkl.gz; a file may be packed with gzip or not, whatever its name. Without `path`
    the shipped files are read, and must be unaltered.

    Of the n training images of a folder the last n // 6 are the validation data (in MNIST
    10,000 of 60,000) and are not trained on. IDX files may have a dot in their names, as in
    train-images.idx3-ubyte. In a pickle, pixels are numbers from 0 to 1, or uint8, which are
    divided by 256 as those of IDX files are; labels are whole numbers of any type; and there
    may be lists of arrays and of numbers, as the book's expand_mnist.py writes them.

    Raises DataError if the data is missing, damaged, not of this form, or larger than MAX_BYTES.

    Nothing that a pickle names is imported or called. A hostile file can still waste memory
    and time: one of a megabyte is enough for tens of gigabytes and many minutes.
    """
    source = SHIPPED if path is None else Path(path)
    try:
        if source.is_dir():
            return _read_folder(source)
        if source.is_file():  # Opening a pipe would wait.
            return _read_pickle(source)
    except OSError as error:
        file = error.filename or source  # Errors of reading, and not of opening, name no file.
        raise DataError(Path(file), error.strerror) from None
    raise DataError(source, f"there is no regular file or folder of this name; {NEEDED}")


def load_data_wrapper(
    path: str | PathLike[str] | None = None,
) -> tuple[list[Pair], list[tuple[Array, int]], list[tuple[Array, int]]]:
    """Return the data of `load_data` as three lists with a pair for each image.

    A training pair is (x, y): x float32 of shape (784, 1), y the one-hot vector of
    the digit, float64 of shape (10, 1). A validation or test pair is (x, digit).

    Raises DataError as `load_data` does.
    """
    training, validation, test = load_data(path)
    training_inputs = [np.reshape(x, (784, 1)) for x in training[0]]
    training_results = [vectorized_result(y) for y in training[1]]
    validation_inputs = [np.reshape(x, (784, 1)) for x in validation[0]]
    test_inputs = [np.reshape(x, (784, 1)) for x in test[0]]
    return (
        list(zip(training_inputs, training_results)),
        list(zip(validation_inputs, validation[1].tolist())),
        list(zip(test_inputs, test[1].tolist())),
    )


def vectorized_result(j: int) -> Array:
    """Return the one-hot vector of digit `j`, float64 of shape (10, 1)."""
    e = np.zeros((10, 1))
    e[j] = 1.0
    return e


# Folders of IDX files


def _read_folder(folder: Path) -> Data:
    """Return the data of a folder of IDX files."""
    paths = _find_files(folder)
    training, validation = _read_training(folder, paths)
    test = _checked(folder, "test", _read_pair(paths, "t10k"))
    return training, validation, test


def _find_files(folder: Path) -> dict[str, Path]:
    """Return the paths of the four files by their names in SHA256."""
    paths = {}
    for name in SHA256:
        dotted = name.replace("-idx", ".idx")  # as several unpackers write it
        for spelling in (f"{name}.gz", name, f"{dotted}.gz", dotted):
            path = folder / spelling
            if path.is_file():
                paths[name] = path
                break
    missing = [name for name in SHA256 if name not in paths]
    if missing:
        raise DataError(folder, f"it lacks {', '.join(missing)}, packed (.gz) or not; {NEEDED}")
    return paths


def _read_training(folder: Path, paths: dict[str, Path]) -> tuple[Pair, Pair]:
    """Return the training data and the validation data, the last sixth of the images."""
    images, labels = _read_pair(paths, "train")
    end = len(images) - len(images) // 6
    training = _checked(folder, "training", (images[:end], labels[:end]))
    validation = _checked(folder, "validation", (images[end:], labels[end:]))
    return training, validation


def _read_pair(paths: dict[str, Path], prefix: str) -> Pair:
    """Return the images, uint8 of shape (n, 784), and labels, uint8, of two IDX files."""
    images = _read_idx(paths, f"{prefix}-images-idx3-ubyte", [28, 28])
    labels = _read_idx(paths, f"{prefix}-labels-idx1-ubyte", [])
    return images.reshape(-1, 784), labels


def _read_idx(paths: dict[str, Path], name: str, item_shape: list[int]) -> Array:
    """Return the items of an IDX file, uint8 of shape (n, *item_shape).

    The format (http://yann.lecun.com/exdb/mnist/): two zero bytes, 8 for unsigned bytes,
    the number of dimensions; each dimension in 4 bytes, big-endian; the items.
    """
    path = paths[name]
    content = _read(path)
    if path.parent == SHIPPED and hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise DataError(path, "not the file that was shipped; restore it")
    magic = bytes([0, 0, 8, 1 + len(item_shape)])
    if not content.startswith(magic):
        raise DataError(path, f"it begins with {content[:20]!r}; {name} begins with {magic!r}")
    header_length = 8 + 4 * len(item_shape)  # the magic, n, and the shape of an item
    sizes = [content[at : at + 4] for at in range(4, header_length, 4)]
    dimensions = [int.from_bytes(size, "big") for size in sizes]
    length = header_length + math.prod(dimensions)
    if len(content) != length:
        raise DataError(path, f"it has {len(content)} bytes, by its header {length}; get it again")
    if dimensions[1:] != item_shape:
        raise DataError(path, f"its items have shape {dimensions[1:]}; {item_shape} is needed")
    items = np.frombuffer(content, np.uint8, offset=header_length)
    return items.reshape(dimensions)


# Pickles
#
# A pickle can ask for any function to be called, with any arguments. The names that occur in
# pickles of arrays have stand-ins here, which keep the arguments and call nothing; all others
# are refused (see "Restricting Globals" in the documentation of pickle). numpy writes (see
# ndarray.__reduce__ and __reduce_ex__)
#
#   an array as     _reconstruct(ndarray, (0,), b"b"), which is then given the state
#                   (version, shape, dtype, is_fortran, bytes),
#   or, protocol 5: _frombuffer(bytes, dtype, shape, order),
#   a number as     scalar(dtype, bytes),
#   a dtype as      dtype("f4", False, True), which is then given the state (3, "<", ...).
#
# In protocols 0 to 2, Python 3 pickles bytes as encode(text, "latin1") or, if there are
# none, as bytes().

# The names in pickles of arrays, and the kind of thing that each stands for.
STAND_INS = {
    "numpy.core.multiarray._reconstruct": "array",
    "numpy.core.numeric._frombuffer": "array of protocol 5",
    "numpy.core.multiarray.scalar": "number",
    "numpy.dtype": "dtype",
    "numpy.ndarray": "class",
    "_codecs.encode": "bytes",
    "__builtin__.bytes": "bytes",
}

# The types that arrays may have: byte order; bool, float or integer; number of bytes.
TYPES = re.compile("[<>|](b1|f[248]|[iu][1248])")

# The opcodes of pickles of arrays, numbers, tuples and lists. None of them hashes what it is
# given: to hash a tuple that is nested deep enough crashes the interpreter.
OPCODES = """
    PROTO FRAME STOP MARK GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS
    GLOBAL STACK_GLOBAL REDUCE BUILD
"""


class _StandIn:
    """Stands in for a name in a pickle, and, once "called", for what the call would return."""

    def __init__(self, kind: str, arguments: tuple[Any, ...] = ()) -> None:
        self.kind = kind
        self.arguments = arguments

    def __call__(self, *arguments: Any) -> _StandIn:
        return _StandIn(self.kind, arguments)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __repr__(self) -> str:
        return f"<{self.kind}>"


class _Dispatch(dict[int, Any]):
    """What pickle's unpickler does at each of the OPCODES. At any other it stops."""

    def __init__(self) -> None:
        for name in OPCODES.split():
            code = getattr(pickle, name)[0]
            self[code] = pickle._Unpickler.dispatch[code]
        # For BYTEARRAY8, pickle fills as much memory as a file claims to need. BINBYTES8, which
        # is laid out alike, only reads.
        self[pickle.BYTEARRAY8[0]] = self[pickle.BINBYTES8[0]]

    def __missing__(self, code: int) -> Any:
        if bytes([code]) in (pickle.DICT, pickle.EMPTY_DICT):  # which many people have
            raise pickle.UnpicklingError("it holds a dictionary, or is no pickle")
        raise KeyError(code)


class _Unpickler(pickle._Unpickler):
    """Reads a pickle of these OPCODES alone, with stand-ins for what it names.

    This is the unpickler written in Python: the one in C has no table of opcodes to replace.
    """

    dispatch = _Dispatch()

    def find_class(self, module: str, name: str) -> _StandIn:
        # numpy 2 renamed numpy.core to numpy._core.
        full_name = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if full_name not in STAND_INS:
            raise pickle.UnpicklingError(f"it asks for what no array needs: {full_name!r}")
        return _StandIn(STAND_INS[full_name])


def _read_pickle(path: Path) -> Data:
    """Return the data of a file like Nielsen's mnist.pkl.gz."""
    training, validation, test = _read_pairs(path)
    return (
        _checked(path, "training", training),
        _checked(path, "validation", validation),
        _checked(path, "test", test),
    )


def _read_pairs(path: Path) -> list[Pair]:
    """Return the three pairs of arrays of a pickle, unchecked."""
    content = _read(path)
    for beginning, kind in OTHER_FILES.items():
        if content.startswith(beginning):
            raise DataError(path, f"it is {kind}; {NEEDED}")
    try:
        return _unpickle(content)
    except pickle.UnpicklingError as error:
        reason = str(error)[:100]
    except Exception as error:  # A bad pickle raises nearly anything, says pickle's documentation.
        reason = f"damaged, or not a pickle of arrays ({type(error).__name__})"
    raise DataError(path, f"{reason}; it begins with {content[:20]!r}; {NEEDED}")


def _unpickle(content: bytes) -> list[Pair]:
    """Return the three pairs of arrays that are pickled as these bytes."""
    file = io.BytesIO(content)
    # Python 2 had no bytes: what it pickled as str is kept as bytes.
    pickled = _Unpickler(file, encoding="bytes").load()
    if file.read(1):
        raise pickle.UnpicklingError("it has bytes after its end: damaged, or two files in one")
    pairs = []
    for pair in _parts(pickled, 3):
        images, labels = _parts(pair, 2)
        pairs.append((_array(images), _array(labels)))
    return pairs


def _parts(pickled: Any, number: int) -> Any:
    """Return a tuple or list of this length."""
    if not isinstance(pickled, (tuple, list)) or len(pickled) != number:
        # reprlib shows a part of what is long or deep.
        raise pickle.UnpicklingError(f"{number} parts are needed, not {reprlib.repr(pickled)}")
    return pickled


def _array(pickled: Any) -> Array:
    """Return the array that was pickled as one, or as a list of arrays or of numbers."""
    if not isinstance(pickled, (tuple, list)):
        return _item(pickled)
    items = []
    size = 0
    for each in pickled:
        item = _item(each)
        items.append(item)
        size += item.nbytes
        if size > MAX_BYTES:  # A pickle can name the same image many times.
            raise pickle.UnpicklingError(f"it holds a list of more than {MAX_BYTES:,} bytes")
    if not items:
        return np.empty(0)  # np.stack needs one item at least.
    return np.stack(items)


def _item(pickled: Any) -> Array:
    """Return an array, as a view of its bytes, or a number as an array of shape ()."""
    if isinstance(pickled, (int, float)):
        return np.array(pickled, np.float64)
    if not isinstance(pickled, _StandIn):
        raise pickle.UnpicklingError(f"an array is needed, not {reprlib.repr(pickled)}")
    shape: Any = ()  # as a number has it
    order: Any = "C"
    if pickled.kind == "number":
        dtype, data = pickled.arguments
    elif pickled.kind == "array of protocol 5":
        data, dtype, shape, order = pickled.arguments
    else:
        _, shape, dtype, is_fortran, data = pickled.state
        if is_fortran:
            order = "F"
    # A dtype's state could give it fields, of objects even. Of dtype("f4", ...) and its state
    # (3, "<", ...), only this is looked at: "<f4".
    code = _text(dtype.state[1]) + _text(dtype.arguments[0])
    if not TYPES.fullmatch(code):
        raise pickle.UnpicklingError(f"it holds an array of type {code!r}, not of numbers")
    if isinstance(data, _StandIn):
        # encode(text, "latin1"), or bytes()
        data = data.arguments[0].encode("latin-1") if data.arguments else b""
    array: Array = np.frombuffer(data, code)
    return array.reshape(shape, order=order)


def _text(pickled: Any) -> Any:
    """Return a text, which Python 2 pickled as bytes."""
    if isinstance(pickled, bytes):
        return pickled.decode("latin-1")
    return pickled


# Folders and pickles alike


def _read(path: Path) -> bytes:
    """Return what a file holds, unpacked if it is packed with gzip."""
    content = io.BytesIO()
    with path.open("rb") as file:
        stream: io.BufferedIOBase = file
        if file.peek(2).startswith(b"\x1f\x8b"):  # as all gzip files begin (RFC 1952)
            stream = gzip.GzipFile(fileobj=file)
        try:
            # One byte more than is allowed tells that there are more. After it, 0 are read.
            while part := stream.read(min(PART, MAX_BYTES + 1 - content.tell())):
                content.write(part)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(path, f"truncated or damaged ({error}); get it again") from None
    if content.tell() > MAX_BYTES:
        problem = f"too large: it has more than {MAX_BYTES:,} bytes, unpacked"
        raise DataError(path, f"{problem}; a pickle is smaller in a newer protocol than 0")
    return content.getvalue()


def _checked(path: Path, name: str, pair: Pair) -> Pair:
    """Return copies of images and labels, as `load_data` promises them, or raise DataError."""
    images, labels = pair
    if images.size == 0:
        raise DataError(path, f"it has no {name} images")
    if images.ndim != 2 or images.shape[1] != 784 or labels.shape != images.shape[:1]:
        shapes = f"{reprlib.repr(images.shape)} and {reprlib.repr(labels.shape)}"
        raise DataError(path, f"{name} data of shapes {shapes}; (n, 784) and (n,) are needed")
    with np.errstate(invalid="ignore"):  # A NaN is no digit, and no reason for a warning.
        is_digit = np.isin(labels, range(10))
    if not is_digit.all():
        index = np.argmin(is_digit)  # the first that is False
        # Numbers are shown by !s: without it, a float32 is shown with the digits of a float64.
        raise DataError(path, f"{name} labels[{index}] is {labels[index]!s}, not a digit 0 to 9")
    if images.dtype == np.uint8:
        pixels = np.divide(images, 256, dtype=np.float32, order="C")
    else:
        low = images.min()
        high = images.max()
        if not (low >= 0 and high <= 1):  # NaN is neither
            problem = f"{name} pixels go from {low!s} to {high!s}, not from 0 to 1"
            if low >= 0 and 2 <= high <= 255:  # below 2, they are not bytes but a little off
                problem += "; divide them by 256"
            raise DataError(path, problem)
        pixels = images.astype(np.float32, order="C")
    return pixels, labels.astype(np.int64, order="C")
