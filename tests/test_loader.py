"""The data: MNIST as Nielsen's loader gives it, other sources of it, and bad ones."""

from __future__ import annotations

import collections
import copyreg
import functools
import gzip
import io
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import mnist_loader
from mnist_loader import Data, DataError, load_data

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = list(mnist_loader.SHA256)
any_tmp_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def assert_same(one: Data, other: Data) -> None:
    for pair, other_pair in zip(one, other, strict=True):
        for array, other_array in zip(pair, other_pair, strict=True):
            assert array.dtype == other_array.dtype
            np.testing.assert_array_equal(array, other_array)


def idx(items: np.ndarray[Any, Any], **changes: int) -> bytes:
    """Return an IDX file of uint8 items; `changes` replace fields of its header."""
    fields = {"magic": 0x800 + items.ndim}
    fields.update({f"size{axis}": size for axis, size in enumerate(items.shape)})
    fields.update(changes)
    return struct.pack(f">{len(fields)}I", *fields.values()) + items.tobytes()


IMAGES = np.arange(12 * 784).reshape(12, 28, 28).astype(np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of twelve training and twelve test images, not compressed."""
    for name in NAMES:
        (tmp_path / name).write_bytes(idx(IMAGES if "images" in name else LABELS))
    return tmp_path


def test_load_data_is_mnist(mnist: Data) -> None:
    for (images, labels), n in zip(mnist, (50_000, 10_000, 10_000), strict=True):
        assert images.shape == (n, 784)
        assert labels.shape == (n,)
        assert images.dtype == np.float32
        assert labels.dtype == np.int64
        assert images.min() == 0
        assert images.max() == 255 / 256
    # An independent reading of the files.
    raw = gzip.decompress((mnist_loader.SHIPPED / "train-images-idx3-ubyte.gz").read_bytes())
    for index in (0, 49_999, 50_000, 59_999):
        pixels = np.array(list(raw[16 + 784 * index :][:784])) / 256
        images = mnist[0][0] if index < 50_000 else mnist[1][0]
        np.testing.assert_array_equal(images[index % 50_000], pixels)
    assert mnist[0][1][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert mnist[2][1][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert mnist_loader.is_mnist(mnist)


def test_load_data_wrapper_gives_lists_of_columns(small: Data) -> None:
    path = FIXTURES / "nielsen_protocol2.pkl.gz"
    training, validation, test = mnist_loader.load_data_wrapper(path)
    assert [len(pairs) for pairs in (training, validation, test)] == [50, 10, 10]
    assert [len(pairs[2:5]) for pairs in (training, validation, test)] == [3, 3, 3]
    for index, (x, y) in enumerate(training):
        assert (x.shape, y.shape) == ((784, 1), (10, 1))
        np.testing.assert_array_equal(x[:, 0], small[0][0][index])
        np.testing.assert_array_equal(y, mnist_loader.vectorized_result(small[0][1][index]))
    for pairs, (images, labels) in ((validation, small[1]), (test, small[2])):
        x, digit = pairs[-1]
        np.testing.assert_array_equal(x[:, 0], images[-1])
        assert type(digit) is int
        assert digit == labels[-1]


@pytest.mark.parametrize("j", range(10))
def test_vectorized_result_is_one_hot(j: int) -> None:
    assert mnist_loader.vectorized_result(j).tolist() == [[float(i == j)] for i in range(10)]


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_pickles_of_python_2_hold_what_the_shipped_files_do(
    protocol: int, mnist: Data, tmp_path: Path
) -> None:
    path = FIXTURES / f"nielsen_protocol{protocol}.pkl.gz"
    data = load_data(path)
    (images, labels), _, (test_images, test_labels) = mnist
    expected = (
        (images[:50], labels[:50]),
        (images[50:60], labels[50:60]),
        (test_images[:10], test_labels[:10]),
    )
    assert_same(data, expected)
    assert not mnist_loader.is_mnist(data)
    plain = tmp_path / "mnist.pkl"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    assert_same(load_data(plain), expected)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", [list, tuple])
def test_pickles_of_python_3(protocol: int, kind: type, small: Data, tmp_path: Path) -> None:
    path = tmp_path / "mnist.pkl"
    variants = kind(
        (
            kind((np.asfortranarray(small[0][0]), small[0][1].astype(np.uint8))),
            kind((small[1][0].astype(np.float64), small[1][1].astype(">i4"))),
            kind((np.asfortranarray(256 * small[2][0]).astype(np.uint8), small[2][1])),
        )
    )
    path.write_bytes(pickle.dumps(variants, protocol))
    data = load_data(path)
    assert_same(data, small)
    assert all(
        array.flags.c_contiguous and array.flags.writeable for pair in data for array in pair
    )
    assert not mnist_loader.is_mnist(data)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_folders_of_idx_files(suffix: str, folder: Path) -> None:
    if suffix:
        for name in NAMES:
            (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
            (folder / name).unlink()
    (images, labels), validation, test = load_data(str(folder))
    np.testing.assert_array_equal(images * 256, IMAGES[:10].reshape(-1, 784))
    np.testing.assert_array_equal(labels, LABELS[:10])
    np.testing.assert_array_equal(validation[0] * 256, IMAGES[10:].reshape(-1, 784))
    np.testing.assert_array_equal(test[1], LABELS)


def test_gzip_data_needs_no_suffix(small: Data, tmp_path: Path) -> None:
    """Browsers unpack nothing, and take the suffix away."""
    path = tmp_path / "mnist.pkl"
    padding = bytes(10_000)  # as on a tape
    path.write_bytes((FIXTURES / "nielsen_protocol2.pkl.gz").read_bytes() + padding)
    assert_same(load_data(path), small)


def test_a_copy_of_mnist_is_mnist(mnist: Data) -> None:
    assert mnist_loader.is_mnist(load_data(mnist_loader.SHIPPED))
    (images, labels), validation, test = mnist
    altered = images.copy()
    altered[-1, 0] = 1 / 256
    assert not mnist_loader.is_mnist(((altered, labels), validation, test))


def test_altered_shipped_data_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(mnist_loader.SHIPPED, tmp_path / "copy"))
    path = copy / "t10k-labels-idx1-ubyte.gz"
    labels = bytearray(gzip.decompress(path.read_bytes()))
    labels[-1] ^= 1
    path.write_bytes(gzip.compress(labels))
    assert not mnist_loader.is_mnist(load_data(copy))  # As somebody's own data it will do.
    monkeypatch.setattr(mnist_loader, "SHIPPED", copy)
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz.*not the file that was"):
        load_data()


def assert_one_line(error: DataError) -> None:
    assert str(error).isascii()
    assert str(error).isprintable()
    assert len(str(error)) < 600


def spoil(name: str, content: bytes) -> Callable[[Path], Path]:
    """Return what writes a file into a folder and gives the folder."""

    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder

    return write


def without(name: str) -> Callable[[Path], Path]:
    def remove(folder: Path) -> Path:
        (folder / name).unlink()
        return folder

    return remove


def as_folder(name: str) -> Callable[[Path], Path]:
    def replace(folder: Path) -> Path:
        (folder / name).unlink()
        (folder / name).mkdir()
        return folder

    return replace


def as_pickle(content: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "mnist.pkl"
        path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
        return path

    return write


def pairs(images: object, labels: object) -> object:
    good = (np.zeros((2, 784), np.float32), np.zeros(2, int))
    return (good, good, (images, labels))


def full(value: float) -> np.ndarray[Any, Any]:
    return np.full((2, 784), value, np.float32)


TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = NAMES
GZIPPED = gzip.compress(idx(IMAGES))
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing folder": (lambda folder: folder / "nowhere", "nowhere': No such file"),
    "NUL in its name": (lambda folder: folder / "a\0b", r"a\\x00b': no file can"),
    "surrogate in its name": (lambda folder: folder / "\ud800", r"\\ud800': no file can"),
    "missing file": (without(TEST_LABELS), "t10k-labels.*': No such file"),
    "empty folder": (as_folder(TRAIN_IMAGES), "train-images.*': not a regular file"),
    "not gzip": (spoil(TRAIN_IMAGES + ".gz", idx(IMAGES)), "images.*not gzip"),
    "gzip truncated": (spoil(TRAIN_IMAGES + ".gz", GZIPPED[:-9]), "images.*truncated"),
    "gzip checksum": (spoil(TRAIN_IMAGES + ".gz", GZIPPED[:-8] + b"12345678"), "damaged"),
    "gzip body": (
        spoil(TRAIN_IMAGES + ".gz", GZIPPED[:40] + b"\xff" * 9 + GZIPPED[49:]),
        "damaged",
    ),
    "behind gzip": (spoil(TRAIN_IMAGES + ".gz", GZIPPED + b"more"), "damaged, or not gzip"),
    "empty file": (spoil(TEST_LABELS, b""), "t10k-labels.*truncated within its header"),
    "truncated": (spoil(TEST_IMAGES, idx(IMAGES)[:-1]), "images.*truncated: 9407 of 9408"),
    "trailing bytes": (spoil(TEST_LABELS, idx(LABELS) + b"\0"), "labels.*more bytes than the 12"),
    "other magic": (spoil(TEST_LABELS, idx(LABELS, magic=2051)), "labels.*magic number 2051"),
    "labels for images": (spoil(TEST_IMAGES, idx(LABELS)), "images.*magic number 2049"),
    "32 by 32": (spoil(TEST_IMAGES, idx(np.zeros((12, 32, 32), np.uint8))), "32 by 32 pixels"),
    "terabytes": (spoil(TEST_IMAGES, idx(IMAGES, size0=2**32 - 1)), "claims 4294967295 items"),
    "counts differ": (spoil(TEST_LABELS, idx(LABELS[:-1])), "12 t10k images but 11 labels"),
    "label 10": (spoil(TEST_LABELS, idx(LABELS + 1)), "t10k-labels.*a label 10"),
    "no images": (
        lambda folder: spoil(TEST_LABELS, idx(LABELS[:0]))(
            spoil(TEST_IMAGES, idx(IMAGES[:0]))(folder)
        ),
        "without an image",
    ),
    "text": (
        as_pickle(b"These are not the images you are looking for."),
        "not a pickle of three pairs of number arrays, it is too long",
    ),
    "empty pickle": (as_pickle(b""), "truncated"),
    "truncated pickle": (as_pickle(pickle.dumps(pairs(full(0), [0]))[:-9]), "mnist.pkl"),
    "behind the pickle": (
        as_pickle(pickle.dumps(pairs(full(0), np.zeros(2, int))) + b"."),
        "more bytes behind",
    ),
    "memo index": (as_pickle(b"g" + b"9" * 4000 + b"\n."), "not a pickle.*not found at index 9+;"),
    "a list": (as_pickle([1, 2, 3]), "not a pickle of three pairs"),
    "two pairs": (as_pickle((pairs(0, 0), pairs(0, 0))), "not a pickle of three pairs"),
    "lists for arrays": (as_pickle(pairs([[0.0] * 784], [0])), "not a pickle of three pairs"),
    "objects": (as_pickle(pairs(full(0).astype(object), [0])), "not a pickle of three pairs"),
    "complex": (as_pickle(pairs(full(0).astype(complex), np.zeros(2, int))), "type <c16"),
    "records": (
        as_pickle(
            pickle.dumps(pairs(full(0), np.zeros(2, int)), 2).replace(
                b"X\x01\0\0\0<", b"X\x04\0\0\0f4,<", 1
            )
        ),
        "type f4,<f4",
    ),
    "783 pixels": (as_pickle(pairs(full(0)[:, 1:], np.zeros(2, int))), r"\(2, 783\)"),
    "lengths differ": (as_pickle(pairs(full(0), np.zeros(3, int))), r"labels of shape \(3,\)"),
    "fractions": (as_pickle(pairs(full(0), np.zeros(2))), "not the digits"),
    "label -1": (as_pickle(pairs(full(0), np.full(2, -1))), "not the digits"),
    "above 1": (as_pickle(pairs(full(1.5), np.zeros(2, int))), "not numbers from 0 to 1"),
    "below 0": (as_pickle(pairs(full(-0.5), np.zeros(2, int))), "not numbers from 0 to 1"),
    "NaN": (as_pickle(pairs(full(np.nan), np.zeros(2, int))), "not numbers from 0 to 1"),
    "infinite": (as_pickle(pairs(full(np.inf), np.zeros(2, int))), "not numbers from 0 to 1"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD.keys())
def test_bad_data_is_named_in_one_line(
    make: Callable[[Path], Path], message: str, folder: Path
) -> None:
    with pytest.raises(DataError, match=message) as info:
        load_data(make(folder))
    assert folder.name in str(info.value)
    assert_one_line(info.value)


@pytest.mark.parametrize("name", ["a" * 300, "/".join(["\N{SNOWMAN}" * 50] * 20)])
def test_of_a_long_path_the_end_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^\.\.\..*/end': (No such|File name too)") as info:
        load_data(tmp_path / name / "end")
    assert_one_line(info.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
@pytest.mark.parametrize("name", [TRAIN_IMAGES, f"{TEST_LABELS}.gz", "mnist.pkl"])
def test_a_pipe_is_not_waited_for(name: str, folder: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    code = "import mnist_loader, sys; mnist_loader.load_data(sys.argv[1])"
    path = folder / name if ".pkl" in name else folder
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        cwd=mnist_loader.SHIPPED.parent,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert f"{name}': not a regular file" in done.stderr


def test_too_little_memory_for_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_loader, "MAX_BYTES", 2**62)
    path = as_pickle(b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b".")(tmp_path)
    with pytest.raises(DataError, match=r"mnist.pkl': too large for the memory; free some$"):
        load_data(path)


def test_too_little_memory_for_the_arrays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def divide(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "divide", divide)
    with pytest.raises(DataError, match=f"{folder.name}': too large for the memory"):
        load_data(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(folder: Path) -> None:
    (folder / TEST_LABELS).chmod(0)
    with pytest.raises(DataError, match="Permission denied"):
        load_data(folder)


class Hostile:
    """Pickles as a call of any function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


HOSTILE: dict[str, object] = {
    "a command": Hostile(os.system, "touch hacked"),
    "a write": Hostile(open, "hacked", "w"),
    "code": Hostile(exec, "open('hacked', 'w')"),
    "an import": Hostile(__import__, "antigravity"),
    "numpy's loader": Hostile(np.load, "hacked"),
    "an array of objects": np.array([Hostile(os.system, "touch hacked")], dtype=object),
    "an ordinary class": collections.Counter("hacked"),
    "a partial": functools.partial(os.system, "touch hacked"),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_pickle_is_refused_before_it_does_anything(
    protocol: int, content: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mnist.pkl"
    path.write_bytes(pickle.dumps(pairs(content, content), protocol))
    with pytest.raises(DataError, match=r"it names|type O"):
        load_data(path)
    assert [file.name for file in tmp_path.iterdir()] == ["mnist.pkl"]


def test_no_extension_of_pickle_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another module registered with copyreg needs no name in the pickle."""
    called: list[str] = []
    monkeypatch.setitem(vars(copyreg)["_extension_cache"], 241, called.append)
    content = b"\x80\x02\x82\xf1(U\x02hitR."
    pickle.loads(content)
    assert called == ["hi"]
    with pytest.raises(DataError):
        load_data(as_pickle(content)(tmp_path))
    assert called == ["hi"]


WIDE = "\U0001f600".encode() + bytes(25 * 10**6)  # At four bytes a character it is 100 MB.
NESTED = b")" + 100 * b"2\x86"  # A tuple in a tuple, twice, a hundred times: 2**100 in all.
BOMBS = {
    "key of a dict": b"\x80\x02}" + NESTED + b"Ns.",
    "key of another dict": b"\x80\x02(" + NESTED + b"Nd.",
    "item of a set": b"\x80\x04\x8f(" + NESTED + b"\x90.",
    "item of a frozenset": b"\x80\x04(" + NESTED + b"\x91.",
    "type": pickle.dumps(pairs(full(0), np.zeros(2, int)), 2).replace(b"X\x02\0\0\0f4", NESTED),
    "wide type": pickle.dumps(pairs(full(0), np.zeros(2, int)), 2).replace(
        b"X\x02\0\0\0f4", b"T" + struct.pack("<I", len(WIDE)) + WIDE
    ),
    "name": b"\x80\x02c" + 10**7 * b"a" + b"\nb\n.",
    "wide name": b"c" + WIDE + b"\nb\n.",
    "wide text": b"V\\U0001f600" + WIDE + b"\n.",
    "wide UTF-8": b"X" + struct.pack("<I", len(WIDE)) + WIDE + b".",
    "arguments": b"\x80\x04\x8e"
    + struct.pack("<Q", 10**5)
    + bytes(10**5)
    + b"\x940("
    + 1000 * b"cnumpy\nndarray\nh\0R"
    + b"t.",
    "memo index": b"\x80\x04K\x00r\xff\xff\xff\x7f.",
    "text memo index": b"I0\np2147483647\n.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**50) + b".",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**50) + b".",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**34) + b".",
    "str": b"\x80\x04\x8d" + struct.pack("<Q", 2**50) + b".",
    "long": b"\x80\x04\x8b" + struct.pack("<i", 2**31 - 1) + b".",
    "lists": b"\x80\x04" + b"]" * 10**7 + b".",
    "lists in a frame": b"\x80\x04\x95" + struct.pack("<Q", 10**7) + b"]" * 10**7 + b".",
    "shape": pickle.dumps(pairs(full(0), np.zeros(2, int)), 2).replace(
        b"M\x10\x03", b"J\xff\xff\xff\x7f"
    ),
}


@contextmanager
def little_memory() -> Iterator[None]:
    """Fail if 100 MB are in use at any time."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100e6


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS.keys())
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_claim_of_much_memory_or_time_gets_none(
    suffix: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist_loader, "MAX_BYTES", 2**26)  # What is claimed may be reserved.
    path = tmp_path / f"mnist.pkl{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with little_memory(), pytest.raises(DataError):
        load_data(path)


ENDLESS: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda packed: packed + bytes(10**6),
    "zeros and more": lambda packed: packed + bytes(10**6) + packed,
    "name": lambda packed: packed[:3] + b"\x08" + packed[4:10] + b"a" * 10**6,
    "comment": lambda packed: packed[:3] + b"\x10" + packed[4:10] + b"a" * 10**6,
    "members of nothing": lambda packed: gzip.compress(b"") * 10**5 + packed,
}


@pytest.mark.parametrize("endless", ENDLESS.values(), ids=ENDLESS.keys())
@pytest.mark.parametrize("name", [f"{TEST_LABELS}.gz", "mnist.pkl.gz"])
def test_gzip_data_without_end_is_left(
    name: str, endless: Callable[[bytes], bytes], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GzipFile reads all this in steps of a few bytes, for as long as it goes on."""
    monkeypatch.setattr(mnist_loader, "MAX_BYTES", 2**24)
    good = pickle.dumps(pairs(full(0), np.zeros(2, int)))
    path = folder / name
    path.write_bytes(endless(gzip.compress(good if ".pkl" in name else idx(LABELS))))
    with pytest.raises(DataError, match=f"{name}.*it is too long"):
        load_data(path if ".pkl" in name else folder)


def test_a_long_text_in_gzip_data_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST takes 828 MB in protocol 0 of Python 2: 77 % of the limit, nearly all in one line."""
    monkeypatch.setattr(mnist_loader, "MAX_BYTES", 2**24)
    sizes = [684, 1, 1]
    content = pickle.dumps([(np.zeros((n, 784), np.float32), np.zeros(n, int)) for n in sizes], 0)
    assert len(content) > 0.77 * 2**24
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(gzip.compress(content))
    assert [len(labels) for _, labels in load_data(path)] == sizes


@pytest.mark.parametrize("head", [idx(IMAGES), b"\x80\x04", b"S'"], ids=["idx", "pickle", "text"])
def test_a_decompression_bomb_is_not_unpacked(
    head: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist_loader, "MAX_BYTES", 2**24)  # 2**30 takes seconds and a GiB.
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = io.BytesIO()
    bomb.write(compressor.compress(head + b"\x8e" + struct.pack("<Q", 2**40)))
    for _ in range(150):
        bomb.write(compressor.compress(bytes(2**20)))
    bomb.write(compressor.flush())
    path = folder / (f"{TRAIN_IMAGES}.gz" if head == idx(IMAGES) else "mnist.pkl.gz")
    path.write_bytes(bomb.getvalue())
    with little_memory(), pytest.raises(DataError, match=r"more bytes than|too long"):
        load_data(folder if head == idx(IMAGES) else path)


def test_small_pickles_of_many_images_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One byte a pixel, and the same images three times, are 12 times as much as float32."""
    pair = IMAGES.reshape(12, 784), LABELS
    path = tmp_path / "mnist.pkl"
    path.write_bytes(pickle.dumps((pair, pair, pair)))
    assert path.stat().st_size < 12_000
    assert len(load_data(path)[2][0]) == 12
    monkeypatch.setattr(mnist_loader, "MAX_BYTES", 100_000)
    with pytest.raises(DataError, match="too many images"):
        load_data(path)


@pytest.mark.parametrize("protocol", [0, 2])
def test_one_text_is_not_copied_for_each_array(protocol: int, tmp_path: Path) -> None:
    """Of Python 3's bytes the early protocols make a text, here of all that Latin-1 has."""
    images = np.tile(IMAGES.reshape(12, 784), (1700, 1))
    path = tmp_path / "mnist.pkl"
    pair = images, np.zeros(len(images), int)
    path.write_bytes(pickle.dumps((pair, pair, pair), protocol))
    np.testing.assert_array_equal(load_data(path)[2][0] * 256, images)
    path.write_bytes(pickle.dumps(3 * ((images, images),), protocol))
    with little_memory(), pytest.raises(DataError, match=r"with labels of shape \(20400, 784\)"):
        load_data(path)


def load_or_refuse(path: Path) -> None:
    """Load data: nothing but data as promised, or a DataError, may come of it."""
    try:
        data = load_data(path)
    except DataError as error:
        assert_one_line(error)
        return
    for images, labels in data:
        assert images.flags.c_contiguous
        assert images.dtype == np.float32
        assert images.shape == (len(labels), 784)
        assert len(labels) > 0
        assert images.min() >= 0
        assert images.max() <= 1
        assert 0 <= labels.min() <= labels.max() <= 9


@any_tmp_path
@given(name=st.sampled_from(NAMES), header=st.binary(max_size=20), body=st.binary(max_size=2000))
@example(name=TRAIN_LABELS, header=struct.pack(">2I", 2049, 12), body=bytes(12))
def test_any_header_and_body(name: str, header: bytes, body: bytes, folder: Path) -> None:
    (folder / name).write_bytes(header + body)
    load_or_refuse(folder)


@any_tmp_path
@given(
    name=st.sampled_from(NAMES),
    magic=st.sampled_from([2049, 2051, 0]),
    sizes=st.lists(st.sampled_from([0, 1, 5, 12, 28, 2**31, 2**32 - 1]), max_size=3),
    length=st.integers(0, 12 * 784),
)
def test_any_sizes(name: str, magic: int, sizes: list[int], length: int, folder: Path) -> None:
    header = struct.pack(f">{1 + len(sizes)}I", magic, *sizes)
    (folder / name).write_bytes(header + bytes(length))
    load_or_refuse(folder)


SOURCES = {
    "mnist.pkl.gz": (FIXTURES / "nielsen_protocol2.pkl.gz").read_bytes(),
    "0.pkl": gzip.decompress((FIXTURES / "nielsen_protocol0.pkl.gz").read_bytes()),
    "2.pkl": gzip.decompress((FIXTURES / "nielsen_protocol2.pkl.gz").read_bytes()),
    f"{TEST_LABELS}.gz": (mnist_loader.SHIPPED / f"{TEST_LABELS}.gz").read_bytes(),
    TEST_LABELS: idx(LABELS),
    TRAIN_IMAGES: idx(IMAGES),
}


@any_tmp_path
@given(data=st.data(), name=st.sampled_from(list(SOURCES)))
def test_truncations_and_flipped_bits(data: st.DataObject, name: str, folder: Path) -> None:
    content = bytearray(SOURCES[name])
    if data.draw(st.booleans(), label="truncated"):
        del content[data.draw(st.integers(0, len(content)), label="length") :]
    for bit in data.draw(st.lists(st.integers(0, 8 * 400), max_size=5), label="bits"):
        if bit // 8 < len(content):  # The first 400 bytes tell what the rest is.
            content[bit // 8] ^= 1 << bit % 8
    (folder / name).write_bytes(content)
    load_or_refuse(folder / name if ".pkl" in name else folder)
