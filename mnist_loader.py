"""Load MNIST, with the interface of the `mnist_loader` of Nielsen's book
"Neural Networks and Deep Learning": `load_data`, `load_data_wrapper` and
`vectorized_result`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import pickle
import pickletools
import re
import zlib
from os import PathLike
from pathlib import Path
from typing import Any

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

MAX_BYTES = 2**30
"""How many bytes a file may have, unpacked: five times MNIST as float32."""


class DataError(Exception):
    """Data that cannot be used: its `args` are the path and, in one line, the problem."""

    def __str__(self) -> str:
        path, problem = self.args
        name = ascii(str(path))  # printable, and on one line
        if len(name) > 200:
            name = "..." + name[-200:]
        return f"{name}: {problem}"


def load_data(path: str | PathLike[str] | None = None) -> Data:
    """Return the training, validation and test data, each as (images, labels).

    Images are float32 of shape (n, 784), one row per image, pixels k/256 from 0
    (background) to 255/256 (ink). Labels are int64 of shape (n,). All are C-contiguous
    and writable. MNIST gives 50,000, 10,000 and 10,000 images.

    `path` is a folder with the four IDX files that SHA256 names, or one file like Nielsen's
    mnist.pkl.gz; a file may be packed with gzip or not, whatever its name. Without `path`
    the shipped files are read, and must be unaltered.

    Of the n training images of a folder the last n // 6 are the validation data (in MNIST
    10,000 of 60,000) and are not trained on. IDX files may have a dot in their names, as in
    train-images.idx3-ubyte. In a pickle, pixels are numbers from 0 to 1, or uint8, which are
    divided by 256 as those of IDX files are; labels are whole numbers of any type; and both
    may be lists, as the book's expand_mnist.py writes them.

    Raises DataError if the data is missing, damaged, not of this form or too large.

    Nothing that a pickle names is imported or called. A hostile file can still waste memory
    and time: one of a megabyte is enough for tens of gigabytes and many minutes.
    """
    source = SHIPPED if path is None else Path(path)
    try:
        if source.is_dir():
            return _read_folder(source)
        return _read_pickle(source)
    except OSError as error:
        raise DataError(Path(error.filename or source), error.strerror or str(error)) from None


def load_data_wrapper(
    path: str | PathLike[str] | None = None,
) -> tuple[list[Pair], list[tuple[Array, int]], list[tuple[Array, int]]]:
    """Return the data of `load_data` as three lists with a pair for each image.

    A training pair is (x, y): x float32 of shape (784, 1), y the one-hot vector of
    the digit, float64 of shape (10, 1). A validation or test pair is (x, digit).
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


def _checked(path: Path, name: str, pair: Pair) -> Pair:
    """Return copies of images and labels, as `load_data` promises them, or raise DataError."""
    images, labels = pair
    if images.size == 0:
        raise DataError(path, f"it has no {name} images")
    if images.ndim != 2 or images.shape[1] != 784 or labels.shape != images.shape[:1]:
        found = f"images of shape {images.shape!s:.60}, labels of shape {labels.shape!s:.60}"
        raise DataError(path, f"{name} {found}; (n, 784) and (n,) are needed")
    with np.errstate(invalid="ignore"):  # A NaN is no digit, and no reason for a warning.
        is_digit = (labels >= 0) & (labels <= 9) & (labels == np.floor(labels))
    if not is_digit.all():
        index = np.argmin(is_digit)  # the first that is False
        raise DataError(path, f"{name} labels[{index}] is {labels[index]:g}, not a digit 0 to 9")
    if images.dtype == np.uint8:
        pixels = np.divide(images, 256, dtype=np.float32, order="C")
    else:
        low = images.min()
        high = images.max()
        if not (low >= 0 and high <= 1):  # which is so for NaN, too
            problem = f"{name} pixels go from {low:g} to {high:g}, not from 0 to 1"
            if low >= 0 and high <= 255:
                problem += "; divide them by 256"
            raise DataError(path, problem)
        pixels = images.astype(np.float32, order="C")
    return pixels, labels.astype(np.int64, order="C")


def _read(path: Path) -> bytes:
    """Return what a file holds, unpacked if it is packed with gzip."""
    with path.open("rb") as file:
        try:
            if file.peek(2).startswith(b"\x1f\x8b"):  # as all gzip files begin (RFC 1952)
                content = gzip.GzipFile(fileobj=file).read(MAX_BYTES + 1)
            else:
                content = file.read(MAX_BYTES + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(path, f"truncated or damaged ({error}); get it again") from None
    if len(content) == 0:
        raise DataError(path, "it is empty")
    if len(content) > MAX_BYTES:
        problem = f"too large: it has more than {MAX_BYTES:,} bytes, unpacked"
        raise DataError(path, f"{problem}; a pickle is smaller in a newer protocol than 0")
    return content


# Folders of IDX files


def _read_folder(folder: Path) -> Data:
    """Return the data of a folder of IDX files."""
    paths = _find_files(folder)
    training, validation = _read_training(folder, paths)
    test = _checked(folder, "test", _read_pair(paths, "t10k", "test"))
    return training, validation, test


def _read_training(folder: Path, paths: dict[str, Path]) -> tuple[Pair, Pair]:
    """Return the training and the validation data, which is the last sixth of the images."""
    images, labels = _read_pair(paths, "train", "training")
    n_validation = len(images) // 6
    if n_validation == 0:
        problem = f"the number of its training images is {len(images)}"
        raise DataError(folder, f"{problem}; 6 are needed, as the last sixth is validation data")
    n = len(images) - n_validation
    training = _checked(folder, "training", (images[:n], labels[:n]))
    validation = _checked(folder, "validation", (images[n:], labels[n:]))
    return training, validation


def _find_files(folder: Path) -> dict[str, Path]:
    """Return the paths of the four files of MNIST by their names."""
    paths = {}
    missing = []
    for name in SHA256:
        path = _find_file(folder, name)
        if path is None:
            missing.append(name)
        else:
            paths[name] = path
    if len(missing) == len(SHA256):
        problem = f"it has none of the files {', '.join(missing)}, packed (.gz) or not"
        raise DataError(folder, f"{problem}; give the folder that has them, or one mnist.pkl.gz")
    if missing:
        raise DataError(folder, f"it lacks {' and '.join(missing)}, packed (.gz) or not")
    return paths


def _find_file(folder: Path, name: str) -> Path | None:
    """Return the path of a file of this name, or of one that unpackers give it, or None."""
    dotted = name.replace("-idx", ".idx")
    for file_name in (f"{name}.gz", name, f"{dotted}.gz", dotted):
        path = folder / file_name
        if path.is_file():
            return path
    return None


def _read_pair(paths: dict[str, Path], prefix: str, name: str) -> Pair:
    """Return the images, uint8 of shape (n, 784), and labels, uint8, of two IDX files."""
    images_name = f"{prefix}-images-idx3-ubyte"
    labels_name = f"{prefix}-labels-idx1-ubyte"
    images = _read_idx(paths[images_name], images_name, [28, 28])
    labels = _read_idx(paths[labels_name], labels_name, [])
    if len(images) != len(labels):
        problem = f"number of {name} images: {len(images)}, of labels: {len(labels)}"
        raise DataError(paths[labels_name], f"{problem}; take both files from one data set")
    return images.reshape(-1, 784), labels


def _read_idx(path: Path, name: str, item_shape: list[int]) -> Array:
    """Return the items of an IDX file, uint8 of shape (n, *item_shape).

    The format (http://yann.lecun.com/exdb/mnist/): two zero bytes, 8 for unsigned bytes,
    the number of dimensions; the dimensions, 4 bytes each, big-endian; the items.
    """
    content = _read(path)
    if path.parent == SHIPPED and hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise DataError(path, "not the file that was shipped; restore it")
    magic = bytes([0, 0, 8, 1 + len(item_shape)])
    if not content.startswith(magic):
        raise DataError(path, f"it begins with {content[:24]!r}; {name} begins with {magic!r}")
    header_length = 8 + 4 * len(item_shape)
    if len(content) < header_length:
        raise DataError(path, "truncated within its header; get it again")
    dimensions = np.frombuffer(content[4:header_length], ">u4").tolist()
    if dimensions[1:] != item_shape:
        size = f"{dimensions[1]} by {dimensions[2]}"
        raise DataError(path, f"images of {size} pixels; only 28 by 28 can be used")
    items = np.frombuffer(content, np.uint8, offset=header_length)
    if len(items) != math.prod(dimensions):
        problem = f"bytes of data: {len(items)}, by its header {math.prod(dimensions)}"
        raise DataError(path, f"{problem}; get it again")
    return items.reshape(dimensions)


# Pickles
#
# A pickle can ask for any function to be called, with any arguments. What pickles of arrays
# ask for has a stand-in here, which keeps the arguments and calls nothing; all else is refused
# (see "Restricting Globals" in the documentation of pickle). numpy pickles (see __reduce__)
#
#   an array as     _reconstruct(ndarray, (0,), b"b"), which is then given the state
#                   (version, shape, dtype, is_fortran, bytes),
#   or, protocol 5: _frombuffer(bytes, dtype, shape, order),
#   a number as     scalar(dtype, bytes),
#   a dtype as      dtype("f4", False, True), which is then given the state (3, "<", ...).

NEEDED = "a pickle of (training, validation, test) is needed, each (images, labels)"


class _Call:
    """A call that a pickle asks for, and the state that it gives to the result.

    Each function that is called has a class of its own, to tell them apart.
    """

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Type(_Call): ...


class _Bytes(_Call): ...


class _Array(_Call): ...


class _BufferArray(_Call): ...


class _Scalar(_Call): ...


STAND_INS: dict[str, type[_Call]] = {
    "__builtin__.bytes": _Bytes,  # an empty one, pickled by Python 3 in protocols 0 to 2
    "_codecs.encode": _Bytes,  # others, as a text
    "numpy.dtype": _Type,
    "numpy.ndarray": _Call,
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy.core.multiarray.scalar": _Scalar,
    "numpy.core.numeric._frombuffer": _BufferArray,  # an array in protocol 5
}

OPCODES = """
    PROTO FRAME STOP MARK GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE
    BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS
    GLOBAL STACK_GLOBAL REDUCE BUILD
"""
"""The steps that pickles of arrays, numbers, tuples and lists take. None of them hashes what
it is given: to hash a tuple that is nested deep enough crashes the interpreter."""


def _dispatch() -> dict[int, Any]:
    """Return what the unpickler does at each of the OPCODES, and at no other."""
    dispatch: dict[int, Any] = {}
    for name in OPCODES.split():
        code = getattr(pickle, name)[0]
        dispatch[code] = pickle._Unpickler.dispatch[code]
    # For BYTEARRAY8, pickle fills as much memory as a file claims to need.
    dispatch[pickle.BYTEARRAY8[0]] = dispatch[pickle.BINBYTES8[0]]
    return dispatch


class _Unpickler(pickle._Unpickler):
    """Reads a pickle with stand-ins for what it names."""

    dispatch = _dispatch()

    def __init__(self, path: Path, file: io.BytesIO) -> None:
        # Python 2 had no bytes: what it pickled as str is kept as bytes.
        super().__init__(file, encoding="bytes")
        self.path = path

    def find_class(self, module: str, name: str) -> type[_Call]:
        # numpy 2 renamed numpy.core to numpy._core.
        full_name = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if full_name not in STAND_INS:
            raise DataError(self.path, f"it asks for {full_name[:60]!a}, which no array needs")
        return STAND_INS[full_name]


def _read_pickle(path: Path) -> Data:
    """Return the data of a file like Nielsen's mnist.pkl.gz."""
    if not path.exists():
        problem = "there is no such file or folder"
        raise DataError(path, f"{problem}; give a folder of MNIST's files, or one mnist.pkl.gz")
    if not path.is_file():  # A pipe would be waited for.
        raise DataError(path, "it is neither a file nor a folder")
    training, validation, test = _unpickle(path)
    return (
        _checked(path, "training", training),
        _checked(path, "validation", validation),
        _checked(path, "test", test),
    )


def _unpickle(path: Path) -> tuple[Pair, Pair, Pair]:
    """Return the training, validation and test arrays of a pickle, unchecked."""
    content = _read(path)
    beginning = f"it begins with {content[:24]!r}"
    try:
        file = io.BytesIO(content)
        pickled = _Unpickler(path, file).load()
        if file.read(1):
            raise DataError(path, "more bytes behind the end of its pickle; get it again")
        training, validation, test = _items(path, "it holds", pickled, 3)
        return (
            _pair(path, "training", training),
            _pair(path, "validation", validation),
            _pair(path, "test", test),
        )
    except DataError:
        raise
    except MemoryError:
        raise DataError(path, "it asks for more memory than there is") from None
    except KeyError as error:  # an opcode that is not one of OPCODES
        found = _opcode(error.args[0])
        raise DataError(path, f"it holds {found}; {NEEDED} ({beginning})") from None
    except Exception as error:  # A bad pickle raises nearly anything, says pickle.
        found = type(error).__name__
        problem = f"damaged, or not a pickle of arrays ({found}); {beginning}"
        raise DataError(path, problem) from None


def _opcode(code: int) -> str:
    """Return words for an opcode that is not one of OPCODES."""
    if code in (pickle.EMPTY_DICT[0], pickle.DICT[0]):
        return "a dictionary"
    if code in (pickle.EMPTY_SET[0], pickle.FROZENSET[0]):
        return "a set"
    for opcode in pickletools.opcodes:
        if opcode.code == chr(code):
            return f"the opcode {opcode.name}"
    return "no pickle"


def _items(path: Path, found: str, pickled: Any, length: int) -> Any:
    """Return a tuple or list that has this length, or raise DataError."""
    if not isinstance(pickled, (tuple, list)) or len(pickled) != length:
        raise DataError(path, f"{found} {_described(pickled)}; {NEEDED}")
    return pickled


def _described(pickled: Any) -> str:
    """Return words for what a pickle holds."""
    if isinstance(pickled, (tuple, list)):
        return f"a {type(pickled).__name__} of {len(pickled)}"
    if isinstance(pickled, (_Array, _BufferArray)):
        return "an array"
    if isinstance(pickled, (int, float, _Scalar)):
        return "a number"
    if isinstance(pickled, (str, bytes)):
        return "a text"
    if pickled is None:
        return "None"
    return "something else"


def _pair(path: Path, name: str, pickled: Any) -> Pair:
    """Return the arrays of the images and labels that were pickled."""
    images, labels = _items(path, f"its {name} data is", pickled, 2)
    return _array(path, f"{name} images", images), _array(path, f"{name} labels", labels)


def _array(path: Path, name: str, pickled: Any) -> Array:
    """Return the array that was pickled as one, or as a list of images or of numbers."""
    if isinstance(pickled, (_Array, _BufferArray)):
        return _called(path, pickled)
    if not isinstance(pickled, (tuple, list)):
        raise DataError(path, f"its {name} are {_described(pickled)}; an array is needed")
    if len(pickled) == 0:
        return np.zeros(0)
    # A pickle can name the same image many times: as float32, these would exceed MAX_BYTES.
    if len(pickled) > MAX_BYTES // (4 * 784):
        raise DataError(path, f"its {name} are {len(pickled):,}, which is too many")
    items = []
    for item in pickled:
        if isinstance(item, _Call):
            array = _called(path, item)
        elif isinstance(item, (int, float)):
            array = np.array(item, np.float64)
        else:
            problem = f"its {name} are a list with {_described(item)}"
            raise DataError(path, f"{problem}; arrays or numbers are needed")
        if array.size > 784:
            raise DataError(path, f"its {name} are a list with an array of {array.size} numbers")
        items.append(array)
    return np.stack(items)


def _called(path: Path, call: _Call) -> Array:
    """Return the array that a call would return, as a view of its bytes."""
    order: Any = "C"
    shape: Any = ()
    if isinstance(call, _Scalar):
        number_type, data = call.arguments
    elif isinstance(call, _BufferArray):
        data, number_type, shape, order = call.arguments
    else:
        _, shape, number_type, is_fortran, data = call.state
        if is_fortran:
            order = "F"
    # The state of a dtype could give it fields, of objects even: only this is looked at.
    code = _text(number_type.state[1]) + _text(number_type.arguments[0])
    if not re.fullmatch("[<>|](f[248]|[iu][1248])", code):
        raise DataError(path, f"it has an array of type {code[:20]!a}, not of numbers")
    if isinstance(data, _Bytes):
        data = _latin1(data)
    array: Array = np.frombuffer(data, code)
    return array.reshape(shape, order=order)


def _latin1(call: _Bytes) -> Any:
    """Return the bytes that Python 3 pickled as a text, or as nothing if there are none."""
    if len(call.arguments) == 0:
        return b""
    return call.arguments[0].encode("latin-1")


def _text(pickled: Any) -> Any:
    """Return a text, which Python 2 pickled as bytes."""
    if isinstance(pickled, bytes):
        return pickled.decode("latin-1")
    return pickled
