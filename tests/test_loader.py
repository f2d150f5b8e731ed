"""The data: MNIST as Nielsen's loader gives it, other files that people have, and bad ones."""

from __future__ import annotations

import bz2
import copyreg
import gzip
import hashlib
import lzma
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL, idx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mnist_loader
from mnist_loader import NEEDED, Array, Data, DataError, load_data

NAMES = list(mnist_loader.SHA256)
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = NAMES
any_tmp_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def assert_same(one: Data, other: Data) -> None:
    for pair, other_pair in zip(one, other):
        for array, other_array in zip(pair, other_pair):
            assert array.dtype == other_array.dtype
            np.testing.assert_array_equal(array, other_array)


def assert_as_promised(data: Data) -> None:
    assert len(data) == 3
    for images, labels in data:
        assert (images.dtype.name, labels.dtype.name) == ("float32", "int64")
        assert images.shape == (len(labels), 784)
        assert 0 <= images.min() <= images.max() <= 1
        assert set(labels.tolist()) <= set(range(10))
        for array in (images, labels):
            assert array.flags.c_contiguous
            assert array.flags.writeable


def write(path: Path, content: object) -> Path:
    """Write a file of these bytes, or of the pickle of anything else."""
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return path


def assert_one_line(error: DataError, source: Path) -> None:
    """Assert that an error is printable, and names the file, or a file of the folder."""
    text = str(error)
    path, problem = error.args
    assert text.isprintable()
    assert len(text) <= 500
    assert source in (path, path.parent)
    assert repr(str(path))[-100:] + f": {problem}" in text
    assert str(pickle.loads(pickle.dumps(error))) == text  # as it leaves a worker process


def error_of(source: Path) -> DataError:
    """Return the error that bad data makes."""
    with pytest.raises(DataError) as info:
        load_data(source)
    assert_one_line(info.value, source)
    return info.value


def problem(source: Path) -> str:
    """Return what is said about bad data, all but the path."""
    return str(error_of(source).args[1])


def test_load_data_is_mnist(mnist: Data) -> None:
    assert_as_promised(mnist)
    # An independent reading of the files.
    raw = gzip.decompress((mnist_loader.SHIPPED / f"{TRAIN_IMAGES}.gz").read_bytes())
    for index in (0, 49_999, 50_000, 59_999):
        pixels = np.array(list(raw[16 + 784 * index :][:784])) / 256
        images = mnist[0][0] if index < 50_000 else mnist[1][0]
        np.testing.assert_array_equal(images[index % 50_000], pixels)
    assert mnist[0][1][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    digest = hashlib.sha256()
    for images, labels in mnist:
        digest.update(images.data)
        digest.update(labels.data)
    expected = "c1f6f04d235d2cc59ace7f3d311b01afa572545f5dce793011108e842770c5f1"
    assert digest.hexdigest() == expected


def test_load_data_wrapper_gives_what_nielsens_networks_rely_upon(small: Data) -> None:
    """His network.py and network2.py take lengths and slices, shuffle in place, and multiply."""
    training, validation, test = mnist_loader.load_data_wrapper(SMALL)
    for pairs, (images, labels) in zip((training, validation, test), small):
        assert isinstance(pairs, list)
        assert len(pairs) == len(labels)
        for (x, y), pixels, label in zip(pairs, images, labels):
            assert (x.shape, x.dtype.name) == ((784, 1), "float32")
            np.testing.assert_array_equal(x[:, 0], pixels)
            if pairs is training:
                assert (y.shape, y.dtype.name) == ((10, 1), "float64")
                assert y.tolist() == [[float(digit == label)] for digit in range(10)]
            else:
                assert type(y) is int
                assert y == label


# Pickles


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_pickles_of_python_2(protocol: int, mnist: Data, tmp_path: Path) -> None:
    (images, labels), _, (test_images, test_labels) = mnist
    expected = (
        (images[:50], labels[:50]),
        (images[50:60], labels[50:60]),
        (test_images[:10], test_labels[:10]),
    )
    packed = SMALL.with_name(f"nielsen_protocol{protocol}.pkl.gz").read_bytes()
    content = gzip.decompress(packed)
    # On Windows its integers are long.
    longs = content.replace(b"I784\n", b"L784L\n").replace(b"M\x10\x03", b"\x8a\x02\x10\x03")
    assert longs != content
    for written in (packed, packed + bytes(10_000), content, longs):  # padded as on a tape
        assert_same(load_data(write(tmp_path / "mnist.pkl.gz", written)), expected)


RENAMED = [
    (b"cnumpy.core.", b"cnumpy._core."),  # protocols 0 to 3
    (b"\x15numpy.core.multiarray", b"\x16numpy._core.multiarray"),  # from 4 with their lengths
    (b"\x12numpy.core.numeric", b"\x13numpy._core.numeric"),
]


def of_other_numpy(content: bytes, protocol: int) -> bytes:
    """Return a pickle as the other numpy would write it: numpy 2 renamed a module."""
    old_to_new = b"numpy.core" in content
    if protocol >= 4:
        content = content[:2] + content[11:]  # without the length of the frame, which changes
    for old, new in RENAMED:
        content = content.replace(old, new) if old_to_new else content.replace(new, old)
    assert old_to_new != (b"numpy.core" in content)
    return content


FORMS: dict[str, Callable[[Array, Array], object]] = {
    "as Nielsen's": lambda x, y: (x, y),
    "by columns, bytes": lambda x, y: (np.asfortranarray(x), y.astype(np.uint8)),
    "big-endian": lambda x, y: (x.astype(">f8"), y.astype(">i4")),
    "uint8 by columns": lambda x, y: (np.asfortranarray(256 * x).astype(np.uint8), y),
    "a part of an array": lambda x, y: (np.repeat(x, 2, axis=1)[:, ::2], np.repeat(y, 2)[::2]),
    "float16": lambda x, y: (x.astype(np.float16), y.astype(np.float16)),
    "as expand_mnist.py's": lambda x, y: [list(x), list(y)],  # arrays and numpy's integers
    "tuple, list of int": lambda x, y: [tuple(x), y.tolist()],
    "list of float": lambda x, y: [x, y.astype(float).tolist()],
    "list of arrays": lambda x, y: [x, [np.array(label) for label in y]],
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_pickles_of_python_3(
    form: Callable[[Array, Array], object], protocol: int, small: Data, tmp_path: Path
) -> None:
    (x, y), (validation_x, validation_y), (test_x, test_y) = small
    # So few that the pickle is a single frame.
    data = ((x[:3], y[:3]), (validation_x[:1], validation_y[:1]), (test_x[:2], test_y[:2]))
    content = pickle.dumps([form(*pair) for pair in data], protocol)
    for version in (content, of_other_numpy(content, protocol)):
        loaded = load_data(write(tmp_path / "mnist.pkl", version))
        assert_as_promised(loaded)
        assert_same(loaded, data)


@pytest.mark.parametrize(
    ("dtype", "ink"), [("bool", 1), ("int16", 1), ("int64", 1), ("uint8", 1 / 256)]
)
def test_black_and_white_images(dtype: str, ink: float, small: Data, tmp_path: Path) -> None:
    pairs = [((images > 0.5).astype(dtype), labels) for images, labels in small]
    loaded = load_data(write(tmp_path / "mnist.pkl", pairs))
    assert_as_promised(loaded)
    np.testing.assert_array_equal(loaded[0][0], ink * pairs[0][0])


@pytest.mark.parametrize("protocol", range(6))
def test_lists_of_many_images(protocol: int, small: Data, tmp_path: Path) -> None:
    """A pickle numbers what it may name again, and has other steps for numbers above 255."""
    (images, labels), validation, test = small
    x = np.repeat(images, 6, axis=0)
    y = np.repeat(labels, 6)
    content = pickle.dumps([(list(x), list(y)), validation, test], protocol)
    loaded = load_data(write(tmp_path / "mnist.pkl", content))
    assert_same(loaded, ((x, y), validation, test))


# Folders


IMAGES = np.arange(12 * 784).reshape(12, 28, 28).astype(np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of twelve training and twelve test images, not packed."""
    for name in NAMES:
        write(tmp_path / name, idx(IMAGES if "images" in name else LABELS))
    return tmp_path


@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_folders_of_idx_files(
    separator: str, ending: str, pack: Callable[[bytes], bytes], folder: Path
) -> None:
    for name in NAMES:
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        if separator == ".":
            (folder / name).mkdir()  # So unpacks the MNIST of Kaggle.
        write(folder / (name.replace("-idx", f"{separator}idx") + ending), pack(content))
    data = load_data(str(folder))
    assert_as_promised(data)
    pixels = (IMAGES.reshape(12, 784) / 256).astype(np.float32)
    labels = LABELS.astype(np.int64)
    assert_same(data, ((pixels[:10], labels[:10]), (pixels[10:], labels[10:]), (pixels, labels)))


def test_altered_shipped_data_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(mnist_loader.SHIPPED, tmp_path / "copy"))
    path = copy / f"{TEST_LABELS}.gz"
    labels = bytearray(gzip.decompress(path.read_bytes()))
    labels[-1] ^= 1
    write(path, gzip.compress(labels))
    load_data(copy)  # As somebody's own data it will do.
    monkeypatch.setattr(mnist_loader, "SHIPPED", copy)
    with pytest.raises(DataError) as info:
        load_data()
    assert info.value.args == (path, "not the file that was shipped; restore it")


# What is refused: in one line always, of which a few are here word for word

X, Y = GOOD = (np.zeros((2, 784), np.float32), np.zeros(2, int))
ARRAYS = pickle.dumps([GOOD] * 3, 2)
WEB_PAGE = b"<!DOCTYPE html>\n<html>403 Forbidden</html>\n"
MESSAGES: list[tuple[object, str]] = [
    (b"PK\3\4", f"it is a zip archive: unpack it (or an .npz file: pickle its arrays); {NEEDED}"),
    (idx(LABELS), f"it is a single IDX file: give the folder of all four; {NEEDED}"),
    (
        b"d\0\0\0",  # a TFRecord of 100 bytes: its first byte is a step of dictionaries
        rf"it holds a dictionary, or is no pickle; it begins with b'd\x00\x00\x00'; {NEEDED}",
    ),
    (
        b"(((lNt((lNtl.",
        "3 parts are needed, not [([], None), ([], None)]; "
        f"it begins with b'(((lNt((lNtl.'; {NEEDED}",
    ),
    (
        [(X + 255, Y), GOOD, GOOD],
        "training pixels go from 255.0 to 255.0, not from 0 to 1; divide them by 256",
    ),
    (
        [(X + np.float32(1.0000001), Y), GOOD, GOOD],
        "training pixels go from 1.0000001 to 1.0000001, not from 0 to 1",
    ),
    (pickle.dumps([GOOD, GOOD, (X[:0], Y[:0])], 2), "it has no test images"),
    ([GOOD, ([], []), GOOD], "it has no validation images"),
    (
        [GOOD, (X, [3, 3 - 2**-51]), GOOD],
        "validation labels[1] is 2.9999999999999996, not a digit 0 to 9",
    ),
]


@pytest.mark.parametrize(("content", "message"), MESSAGES)
def test_what_is_wrong_with_a_file(content: object, message: str, tmp_path: Path) -> None:
    assert problem(write(tmp_path / "mnist.pkl", content)) == message


OTHER_FILES = [bz2.compress(ARRAYS), lzma.compress(ARRAYS), b"\x89HDF\r\n\x1a\n", b"PAR1"]


@pytest.mark.parametrize("content", OTHER_FILES)
def test_other_kinds_of_files_are_named(content: bytes, tmp_path: Path) -> None:
    assert problem(write(tmp_path / "mnist.pkl", content)).startswith("it is ")


def test_what_is_wrong_with_a_path(folder: Path) -> None:
    for path in (folder / "nowhere", Path(os.devnull)):  # no regular file, as a pipe is none
        assert problem(path) == f"there is no regular file or folder of this name; {NEEDED}"
    write(folder / TRAIN_IMAGES, WEB_PAGE)
    assert problem(folder) == (
        r"it begins with b'<!DOCTYPE html>\n<htm'; "
        r"train-images-idx3-ubyte begins with b'\x00\x00\x08\x03'"
    )
    for name in NAMES:
        (folder / name).rename(folder / f"emnist-{name}")
    assert problem(folder) == f"it lacks {', '.join(NAMES)}, packed (.gz) or not; {NEEDED}"


GZIPPED = gzip.compress(idx(IMAGES))
BAD_IDX_FILES: dict[str, tuple[str, bytes]] = {
    "packed file truncated": (TRAIN_IMAGES, GZIPPED[:-9]),
    "packed file altered": (TRAIN_IMAGES, GZIPPED[:-8] + b"12345678"),
    "packed file damaged": (TRAIN_IMAGES, GZIPPED[:10] + b"\xff" + GZIPPED[11:]),
    "empty file": (TEST_LABELS, b""),
    "truncated in its header": (TEST_LABELS, idx(LABELS)[:7]),
    "truncated": (TEST_IMAGES, idx(IMAGES)[:-1]),
    "bytes behind": (TEST_LABELS, idx(LABELS) + b"\0"),
    "floats": (TEST_LABELS, idx(LABELS, magic=0xD01)),
    "labels for images": (TEST_IMAGES, idx(LABELS)),
    "32 by 32": (TEST_IMAGES, idx(np.zeros((12, 32, 32), np.uint8))),
    "terabytes": (TEST_IMAGES, idx(IMAGES, size0=2**32 - 1)),
}


@pytest.mark.parametrize(("name", "content"), BAD_IDX_FILES.values(), ids=BAD_IDX_FILES.keys())
def test_a_bad_file_in_a_folder_is_named(name: str, content: bytes, folder: Path) -> None:
    path = write(folder / name, content)
    assert error_of(folder).args[0] == path


def test_files_that_do_not_fit_together(folder: Path) -> None:
    write(folder / TRAIN_LABELS, idx(LABELS[:5]))
    assert problem(folder) == (
        "training data of shapes (10, 784) and (5,); (n, 784) and (n,) are needed"
    )
    write(folder / TRAIN_IMAGES, idx(IMAGES[:5]))
    assert problem(folder) == "it has no validation images"


NAN = np.frombuffer(b"\x01\x00\x80\x7f" * 2, np.float32)  # signalling: a cast would warn
LABELS_OF_2: list[object] = [0, [], [0], [0, None], ["3", "4"], [Y], np.zeros((2, 10)), np.zeros(3)]
LABELS_OF_2 += [[9, 10], [-1, 0], [0, 10**400], np.array([2**64 - 1, 0], "u8"), NAN]
LABELS_OF_2 += [np.array(["3", "4"]), np.zeros(2, [("a", "O")]), Y.astype(complex)]
IMAGES_OF_2: list[object] = [None, [], ["a", "b"], 2 * [784 * [0.0]], [X], [X[0], 0.5], X[:, 1:]]
IMAGES_OF_2 += [X[:0], X.reshape(2, 28, 28), X.reshape(30 * [1] + [2, 784]), X.astype(object)]
IMAGES_OF_2 += [X - 0.5, X + np.nan, X + np.inf, np.pad(NAN, (0, 1566)).reshape(2, 784)]
BAD: list[object] = [[GOOD, GOOD, (X, labels)] for labels in LABELS_OF_2]
BAD += [[GOOD, GOOD, (images, Y)] for images in IMAGES_OF_2]
BAD += [None, "mnist", {}, {1}, [1, 2, 3], X, [X, X, X, X], [GOOD, GOOD, (*GOOD, 3)]]
BAD += [b"", b"These are not the images you are looking for.", ARRAYS[:-9], ARRAYS + b".", WEB_PAGE]
# Types that hold objects, or two numbers each
BAD += [ARRAYS.replace(b"\0f4", b"\0O8"), ARRAYS.replace(b"X\1\0\0\0<", b"X\4\0\0\0f4,<", 1)]
BAD += [pickle.dumps([(X.astype(float), Y)] * 3, 2).replace(b"X\2\0\0\0f8", b"X\5\0\0\0f4,f4")]
# Claims of more than there is: bytes, bytearray, text, frame, memo, shape
BAD += [b"\x80\4\x8e%b\x10." % bytes(7), b"\x80\5\x96%b\x10." % bytes(7)]
BAD += [b"\x80\4X\xff\xff\xff\xff.", b"\x80\4\x95" + 8 * b"\xff" + b"."]
BAD += [b"\x80\4K\0r\xff\xff\xff\x7f.", ARRAYS.replace(b"M\x10\3", b"J\xff\xff\xff\x7f")]
# Steps and stand-ins, used as numpy never would; AS_PAIRS repeats what was read before.
DTYPE = b"cnumpy\ndtype\nq\0"
RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
AS_PAIRS = b"q\0h\0\x86q\1h\1h\1\x87."
BAD += [b"\x80\2" + RECONSTRUCT + b")R" + AS_PAIRS, b"\x80\2" + RECONSTRUCT + b")RNb" + AS_PAIRS]
BAD += [b"\x80\2]cnumpy.core.multiarray\nscalar\n)Ra" + AS_PAIRS, b"\x80\2" + DTYPE + AS_PAIRS]
BAD += [b"K\1)R.", b"\x80\2(((.", b"\x80\xff.", b"g" + b"9" * 4000 + b"\n.", b"Pa\x0bb\n."]
# Nested deep: tuples, lists, calls, states, a type, a shape, and a list of itself
DEEP = 200_000
BAD += [b"\x80\2)" + b"\x85" * DEEP + AS_PAIRS, b"]" * DEEP + b"a" * (DEEP - 1) + AS_PAIRS]
BAD += [b"\x80\2" + DTYPE + b"h\0" * DEEP + b"N" + b"\x85R" * DEEP + AS_PAIRS]
BAD += [b"\x80\2" + DTYPE + b"h\0)R" * DEEP + b"b" * (DEEP - 1) + b"."]
BAD += [ARRAYS.replace(b"X\2\0\0\0f4", b")" + b"\x85" * DEEP)]
BAD += [ARRAYS.replace(b"K\2M\x10\3\x86", b")" + b"\x85" * DEEP), b"]q\0(h\0h\0h\0e."]
# The same in a set or as a key: to hash it crashes the interpreter.
BAD += [b"\x80\4\x8f()" + b"\x85" * DEEP + b"\x90.", b"\x80\4()" + b"\x85" * DEEP + b"\x91."]
BAD += [b"\x80\4})" + b"\x85" * DEEP + b"Ns.", b"\x80\2()" + b"\x85" * DEEP + b"Nd."]


@pytest.mark.parametrize("content", BAD, ids=lambda content: ascii(content)[:50])
def test_bad_files(content: object, tmp_path: Path) -> None:
    # Nothing asks for as much memory as a file claims to need.
    assert "MemoryError" not in problem(write(tmp_path / "mnist.pkl", content))


@pytest.mark.parametrize("text", ["é", "é\x1b[2J\n", "é\ud800\u202e", "é\0", "é" * 1000])
def test_what_is_quoted_is_printable_and_letters_stay_letters(text: str, tmp_path: Path) -> None:
    encoded = text.encode("utf-8", "surrogatepass")
    step = b"X" + struct.pack("<I", len(encoded)) + encoded
    type_in_array = ARRAYS.replace(b"X\1\0\0\0<", step, 1)
    for content in (step + step + b"\x93.", step + b".", type_in_array):
        assert "é" in problem(write(tmp_path / "mnist.pkl", content))
    problem(tmp_path / text)


def test_a_file_may_have_the_size_of_nielsens(tmp_path: Path) -> None:
    path = tmp_path / "mnist.pkl"
    path.touch()
    os.truncate(path, 70_000 * (784 * 4 + 8))  # a hole: takes no room on disk
    assert "too large" not in problem(path)


def test_a_file_is_read_up_to_max_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mnist.pkl"
    packed = gzip.compress(ARRAYS)
    monkeypatch.setattr(mnist_loader, "MAX_BYTES", len(ARRAYS))
    for content in (packed, ARRAYS):
        load_data(write(path, content))
    monkeypatch.setattr(mnist_loader, "MAX_BYTES", 1000)
    write(path, packed[:-8])  # That its end is missing is not seen.
    assert problem(path) == (
        "too large: it has more than 1,000 bytes, unpacked; "
        "a pickle is smaller in a newer protocol than 0"
    )
    write(path, ARRAYS)
    if os.name != "nt":  # Files have no holes there.
        os.truncate(path, 2**42)  # more than any memory
    assert "too large" in problem(path)


def test_one_image_named_many_times_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "mnist.pkl", 3 * [(100 * [X[0]], 100 * [0])])
    assert load_data(path)[2][0].shape == (100, 784)
    monkeypatch.setattr(mnist_loader, "MAX_BYTES", 100 * X[0].nbytes - 1)
    assert path.stat().st_size < mnist_loader.MAX_BYTES
    problem(path)


HOSTILE = [b"cos\nmkdir\n(S'hacked'\ntR.", b"\x80\4\x8c\2os\x8c\5mkdir\x93\x8c\6hacked\x85R."]
HOSTILE += [b"(S'hacked'\nios\nmkdir\n.", b"(cos\nmkdir\nS'hacked'\no."]
HOSTILE += [b"\x80\2%bU\6hacked\x85R." % code for code in (b"\x82\1", b"\x83\1\0", b"\x84\1\0\0\0")]


@pytest.mark.parametrize("content", HOSTILE)
def test_nothing_is_called(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor what another module registered as an extension, which needs no name in the pickle."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(vars(copyreg)["_extension_cache"], 1, os.mkdir)
    problem(write(tmp_path / "mnist.pkl", content))
    assert not Path("hacked").exists()
    pickle.loads(content)
    assert Path("hacked").exists()


SOURCES: dict[str, bytes] = {
    "mnist.pkl.gz": SMALL.read_bytes(),
    "2.pkl": ARRAYS,
    "4.pkl": pickle.dumps([GOOD, GOOD, (list(X + 0.5), list(Y))], 4),
    "5.pkl": pickle.dumps([GOOD, GOOD, (X + 0.5, [0.0, 1.0])], 5),
    f"{TEST_LABELS}.gz": gzip.compress(idx(LABELS)),
    TEST_LABELS: idx(LABELS),
    TRAIN_IMAGES: idx(IMAGES),
}
STEPS = [b"(", b")", b"]", b"R", b"b", b"t", b"l", b"e", b"a", b"\x85", b"N", b"0", b"}", b"s"]
STEPS += [b"\x96\x09" + bytes(7), b"K\1", b"U\1<", b"\x82\1", b"h\0", b"h\5", DTYPE, RECONSTRUCT]


@any_tmp_path
@given(
    name=st.sampled_from(list(SOURCES)),
    at=st.integers(0, 400),  # The first 400 bytes tell what the rest is.
    removed=st.integers(0, 4),
    added=st.lists(st.sampled_from(STEPS) | st.binary(max_size=2), max_size=6),
    end=st.none() | st.integers(0, 7000),
)
def test_any_damage(
    name: str, at: int, removed: int, added: list[bytes], end: int | None, folder: Path
) -> None:
    """Nothing but data as promised, or a DataError, comes of it."""
    content = SOURCES[name]
    content = content[:at] + b"".join(added) + content[at + removed :]
    source = write(folder / name, content[:end])
    if ".pkl" not in name:
        source = folder
    try:
        data = load_data(source)
    except DataError as error:
        assert_one_line(error, source)
    else:
        assert_as_promised(data)
