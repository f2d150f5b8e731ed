"""The data: MNIST as Nielsen's loader gives it, other files that people have, and bad ones."""

from __future__ import annotations

import collections
import copyreg
import functools
import gzip
import hashlib
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import idx
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import mnist_loader
from mnist_loader import Array, Data, DataError, load_data

FIXTURES = Path(__file__).parent / "fixtures"
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
        assert images.dtype == np.float32
        assert labels.dtype == np.int64
        assert images.shape == (len(labels), 784)
        assert len(labels) > 0
        assert images.min() >= 0
        assert images.max() <= 1
        assert 0 <= labels.min() <= labels.max() <= 9
        for array in (images, labels):
            assert array.flags.c_contiguous
            assert array.flags.writeable


def assert_one_line(error: DataError) -> None:
    assert str(error).isascii()
    assert str(error).isprintable()
    assert len(str(error)) < 500


def load_or_refuse(path: Path) -> None:
    """Load data: nothing but data as promised, or a DataError, may come of it."""
    try:
        data = load_data(path)
    except DataError as error:
        assert_one_line(error)
    else:
        assert_as_promised(data)


def test_load_data_is_mnist(mnist: Data) -> None:
    assert_as_promised(mnist)
    assert [len(labels) for _, labels in mnist] == [50_000, 10_000, 10_000]
    # An independent reading of the files.
    raw = gzip.decompress((mnist_loader.SHIPPED / f"{TRAIN_IMAGES}.gz").read_bytes())
    for index in (0, 49_999, 50_000, 59_999):
        pixels = np.array(list(raw[16 + 784 * index :][:784])) / 256
        images = mnist[0][0] if index < 50_000 else mnist[1][0]
        np.testing.assert_array_equal(images[index % 50_000], pixels)
    assert mnist[0][1][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert mnist[2][1][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    digest = hashlib.sha256()
    for images, labels in mnist:
        digest.update(images.data)
        digest.update(labels.data)
    expected = "c1f6f04d235d2cc59ace7f3d311b01afa572545f5dce793011108e842770c5f1"
    assert digest.hexdigest() == expected


def test_load_data_wrapper_gives_what_nielsens_networks_rely_upon(small: Data) -> None:
    """His network.py and network2.py take lengths and slices, shuffle in place, and multiply."""
    path = FIXTURES / "nielsen_protocol2.pkl.gz"
    training, validation, test = mnist_loader.load_data_wrapper(path)
    for pairs, n in ((training, 50), (validation, 10), (test, 10)):
        assert type(pairs) is list
        assert len(pairs) == n
    for index, (x, y) in enumerate(training):
        assert (x.shape, x.dtype.name) == ((784, 1), "float32")
        assert (y.shape, y.dtype.name) == ((10, 1), "float64")
        np.testing.assert_array_equal(x[:, 0], small[0][0][index])
        assert y.argmax() == small[0][1][index]
        assert y.sum() == 1
    for pairs, (images, labels) in ((validation, small[1]), (test, small[2])):
        for index, (x, digit) in enumerate(pairs):
            assert (x.shape, x.dtype.name) == ((784, 1), "float32")
            np.testing.assert_array_equal(x[:, 0], images[index])
            assert type(digit) is int
            assert digit == labels[index]
    in_order = [id(pair) for pair in training]
    random.Random(0).shuffle(training)
    assert [id(pair) for pair in training] != in_order
    assert sorted(id(pair) for pair in training) == sorted(in_order)


@pytest.mark.parametrize("j", range(10))
def test_vectorized_result_is_one_hot(j: int) -> None:
    assert mnist_loader.vectorized_result(j).tolist() == [[float(i == j)] for i in range(10)]


# Pickles


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
    assert_as_promised(data)
    assert_same(data, expected)
    # A browser may unpack a file and leave its name, or leave it packed and take ".gz" away.
    unpacked = tmp_path / "mnist.pkl.gz"
    unpacked.write_bytes(gzip.decompress(path.read_bytes()))
    assert_same(load_data(unpacked), expected)
    packed = tmp_path / "mnist.pkl"
    padding = bytes(10_000)  # as on a tape
    packed.write_bytes(path.read_bytes() + padding)
    assert_same(load_data(packed), expected)


def few(small: Data) -> Data:
    """Return 3, 1 and 2 images: a pickle of them is short enough for a single frame."""
    (x, y), (validation_x, validation_y), (test_x, test_y) = small
    return (x[:3], y[:3]), (validation_x[:1], validation_y[:1]), (test_x[:2], test_y[:2])


RENAMED = [
    (b"cnumpy.core.", b"cnumpy._core."),  # protocols 0 to 3
    (b"\x15numpy.core.multiarray", b"\x16numpy._core.multiarray"),  # from 4 with their lengths
    (b"\x12numpy.core.numeric", b"\x13numpy._core.numeric"),
]


def of_other_numpy(content: bytes, protocol: int) -> bytes:
    """Return a pickle as the other numpy would write it: numpy 2 renamed a module."""
    old_to_new = b"numpy.core" in content
    if protocol >= 4:
        assert content[2:3] == pickle.FRAME
        content = content[:2] + content[11:]  # without the length of the frame, which changes
    renamed = content
    for old, new in RENAMED:
        renamed = renamed.replace(old, new) if old_to_new else renamed.replace(new, old)
    assert renamed != content
    return renamed


FORMS: dict[str, tuple[Callable[[Array], object], Callable[[Array], object]]] = {
    "as Nielsen's": (lambda x: x, lambda y: y),
    "by columns, bytes": (np.asfortranarray, lambda y: y.astype(np.uint8)),
    "float64, big-endian": (lambda x: x.astype(">f8"), lambda y: y.astype(">i4")),
    "uint8 by columns": (lambda x: np.asfortranarray(256 * x).astype(np.uint8), lambda y: y),
    "a part of an array": (lambda x: np.repeat(x, 2, axis=1)[:, ::2], lambda y: y),
    "float16": (lambda x: x.astype(np.float16), lambda y: y.astype("f2")),
    "as expand_mnist.py's": (list, list),  # lists of arrays and of numpy's integers
    "tuples": (tuple, tuple),
    "a list of int": (lambda x: x, lambda y: y.tolist()),
    "floats": (lambda x: x, lambda y: y.astype(float)),
    "a list of float": (lambda x: x, lambda y: y.astype(float).tolist()),
    "a list of arrays": (lambda x: x, lambda y: [np.array(label) for label in y]),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(("images_form", "labels_form"), FORMS.values(), ids=FORMS.keys())
def test_pickles_of_python_3(
    images_form: Callable[[Array], object],
    labels_form: Callable[[Array], object],
    protocol: int,
    small: Data,
    tmp_path: Path,
) -> None:
    data = few(small)
    pairs = [[images_form(images), labels_form(labels)] for images, labels in data]
    content = pickle.dumps(pairs, protocol)
    path = tmp_path / "mnist.pkl"
    for version in (content, of_other_numpy(content, protocol)):
        path.write_bytes(version)
        loaded = load_data(path)
        assert_as_promised(loaded)
        assert_same(loaded, data)


LONGS = {0: (b"I784\n", b"L784L\n"), 2: (b"M\x10\x03", b"\x8a\x02\x10\x03")}


@pytest.mark.parametrize("protocol", LONGS)
def test_shapes_of_python_2_on_windows_are_long(protocol: int, small: Data, tmp_path: Path) -> None:
    content = gzip.decompress((FIXTURES / f"nielsen_protocol{protocol}.pkl.gz").read_bytes())
    with_longs = content.replace(*LONGS[protocol])
    assert with_longs != content
    path = tmp_path / "mnist.pkl"
    path.write_bytes(with_longs)
    assert_same(load_data(path), small)


def test_numpy_integers_of_python_2(small: Data, tmp_path: Path) -> None:
    data = few(small)
    pairs = b"("
    for index, (_, labels) in enumerate(data):
        pairs += b"(g%d\n(" % (1000 + index)
        for label in labels:
            pairs += (
                b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'i8'\nI0\nI1\ntR(I3\nS'<'\n"
            )
            pairs += b"NNNI-1\nI-1\nI0\ntbS'\\x0%d\\x00\\x00\\x00\\x00\\x00\\x00\\x00'\ntR" % label
        pairs += b"lt"
    # The images one by one, each remembered under the number that its pair names.
    content = b""
    for index, (images, _) in enumerate(data):
        content += pickle.dumps(images, 0)[:-1] + b"p%d\n" % (1000 + index)
    path = tmp_path / "mnist.pkl"
    path.write_bytes(content + pairs + b"t.")
    assert_same(load_data(path), data)


def test_many_images_in_protocol_0_are_too_large(
    small: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 250,000 images of the book's expand_mnist.py are 3.2 GB, a quarter in protocol 2."""
    content = [[list(images), list(labels)] for images, labels in small]
    path = tmp_path / "mnist_expanded.pkl.gz"
    monkeypatch.setattr(mnist_loader, "MAX_BYTES", 500_000)
    path.write_bytes(gzip.compress(pickle.dumps(content, 4)))
    assert_same(load_data(path), small)
    path.write_bytes(gzip.compress(pickle.dumps(content, 0)))
    with pytest.raises(DataError, match=r"more than 500,000 bytes.*smaller in a newer protocol"):
        load_data(path)


def test_one_image_named_many_times_is_refused(
    small: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = few(small)[0]
    path = tmp_path / "mnist.pkl"
    path.write_bytes(pickle.dumps(3 * [(100 * [images[0]], 100 * [labels[0]])]))
    assert path.stat().st_size < 10_000
    assert load_data(path)[2][0].shape == (100, 784)
    monkeypatch.setattr(mnist_loader, "MAX_BYTES", 300_000)
    with pytest.raises(DataError, match="training images are 100, which is too many"):
        load_data(path)


# Folders


IMAGES = np.arange(12 * 784).reshape(12, 28, 28).astype(np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 10


def write_folder(folder: Path, n_train: int = 12, n_test: int = 12) -> Path:
    (folder / TRAIN_IMAGES).write_bytes(idx(IMAGES[:n_train]))
    (folder / TRAIN_LABELS).write_bytes(idx(LABELS[:n_train]))
    (folder / TEST_IMAGES).write_bytes(idx(IMAGES[:n_test]))
    (folder / TEST_LABELS).write_bytes(idx(LABELS[:n_test]))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of twelve training and twelve test images, not compressed."""
    return write_folder(tmp_path)


def dotted(name: str) -> str:
    return name.replace("-idx", ".idx")


SPELLINGS: dict[str, tuple[Callable[[str], str], Callable[[bytes], bytes]]] = {
    "plain": (lambda name: name, lambda content: content),
    "packed": (lambda name: f"{name}.gz", gzip.compress),
    "dotted": (dotted, lambda content: content),
    "dotted, packed": (lambda name: f"{dotted(name)}.gz", gzip.compress),
    "unpacked but named gz": (lambda name: f"{name}.gz", lambda content: content),
    "packed but not named so": (lambda name: name, gzip.compress),
}


@pytest.mark.parametrize(("spell", "pack"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_folders_of_idx_files(
    spell: Callable[[str], str], pack: Callable[[bytes], bytes], folder: Path
) -> None:
    for name in NAMES:
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / spell(name)).write_bytes(pack(content))
    data = load_data(str(folder))
    assert_as_promised(data)
    (images, labels), validation, test = data
    np.testing.assert_array_equal(images * 256, IMAGES[:10].reshape(-1, 784))
    np.testing.assert_array_equal(labels, LABELS[:10])
    np.testing.assert_array_equal(validation[0] * 256, IMAGES[10:].reshape(-1, 784))
    np.testing.assert_array_equal(validation[1], LABELS[10:])
    np.testing.assert_array_equal(test[0] * 256, IMAGES.reshape(-1, 784))
    np.testing.assert_array_equal(test[1], LABELS)


def test_a_dotted_file_is_found_beside_a_folder_without_the_dot(folder: Path) -> None:
    """So unpacks the MNIST of Kaggle: each file also lies in a folder of its name."""
    for name in NAMES:
        (folder / name).rename(folder / dotted(name))
        (folder / name).mkdir()
    assert len(load_data(folder)[2][0]) == 12


@pytest.mark.parametrize(("n", "n_validation"), [(6, 1), (11, 1), (12, 2)])
def test_the_last_sixth_is_validation_data(n: int, n_validation: int, tmp_path: Path) -> None:
    (_, labels), (_, validation_labels), _ = load_data(write_folder(tmp_path, n, 1))
    assert labels.tolist() == LABELS[: n - n_validation].tolist()
    assert validation_labels.tolist() == LABELS[n - n_validation : n].tolist()


def test_altered_shipped_data_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(mnist_loader.SHIPPED, tmp_path / "copy"))
    path = copy / f"{TEST_LABELS}.gz"
    labels = bytearray(gzip.decompress(path.read_bytes()))
    labels[-1] ^= 1
    path.write_bytes(gzip.compress(labels))
    load_data(copy)  # As somebody's own data it will do.
    monkeypatch.setattr(mnist_loader, "SHIPPED", copy)
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz.*not the file that was"):
        load_data()


# What is refused, and the words for it


def spoil(name: str, content: bytes) -> Callable[[Path], Path]:
    """Return what writes a file into a folder and gives the folder."""

    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder

    return write


def without(*names: str) -> Callable[[Path], Path]:
    def remove(folder: Path) -> Path:
        for name in names:
            (folder / name).unlink()
        return folder

    return remove


def as_folder(name: str) -> Callable[[Path], Path]:
    def replace(folder: Path) -> Path:
        (folder / name).unlink()
        (folder / name).mkdir()
        return folder

    return replace


def renamed(change: Callable[[str], str]) -> Callable[[Path], Path]:
    def rename(folder: Path) -> Path:
        for name in NAMES:
            (folder / name).rename(folder / change(name))
        return folder

    return rename


def within(name: str) -> Callable[[Path], Path]:
    def move(folder: Path) -> Path:
        (folder / name).mkdir(parents=True)
        for each in NAMES:
            (folder / each).rename(folder / name / each)
        return folder

    return move


def as_pickle(content: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "mnist.pkl"
        path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
        return path

    return write


def pairs(images: object, labels: object) -> object:
    """Return three pairs, the last of them of this."""
    return (GOOD, GOOD, (images, labels))


def full(value: float) -> Array:
    return np.full((2, 784), value, np.float32)


GOOD_LABELS = np.zeros(2, int)
GOOD = (full(0), GOOD_LABELS)
ARRAY = pickle.dumps((GOOD, GOOD, GOOD), 2)
GZIPPED = gzip.compress(idx(IMAGES))
WEB_PAGE = b"<!DOCTYPE html>\n<html>403 Forbidden</html>\n"
GIT_LFS = b"version https://git-lfs.github.com/spec/v1\nsize 1\n"
SIGNALING_NAN = np.frombuffer(2 * b"\x01\x00\x80\x7f", np.float32)
ALL_FOUR = ", ".join(NAMES)
NEEDED = r"\(training, validation, test\) is needed, each \(images, labels\)"
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing": (lambda folder: folder / "nowhere", "nowhere': there is no such file or folder; g"),
    "NUL in its name": (lambda folder: folder / "a\0b", r"a\\x00b': there is no such file"),
    "surrogate": (lambda folder: folder / "\ud800\n", r"\\ud800\\n': there is no such file"),
    "missing file": (without(TEST_LABELS), f"': it lacks {TEST_LABELS}, packed"),
    "missing files": (
        without(TRAIN_LABELS, TEST_IMAGES),
        f"': it lacks {TRAIN_LABELS} and {TEST_IMAGES}, packed",
    ),
    "a folder for a file": (as_folder(TRAIN_IMAGES), f"': it lacks {TRAIN_IMAGES}, packed"),
    "none of the files": (without(*NAMES), f"none of the files {ALL_FOUR}, packed"),
    "names of EMNIST": (
        renamed(lambda name: "emnist-digits-" + name.replace("t10k", "test")),
        f"none of the files {ALL_FOUR}, packed",
    ),
    "folder of torchvision": (within("MNIST/raw"), f"{ALL_FOUR}.*give the folder that has them"),
    "web page": (spoil(f"{TEST_LABELS}.gz", WEB_PAGE), r"labels.*gz': it begins with b'<!DOCTYPE"),
    "Git LFS": (spoil(f"{TRAIN_IMAGES}.gz", GIT_LFS), "it begins with b'version https://git-lfs"),
    "gzip truncated": (spoil(f"{TRAIN_IMAGES}.gz", GZIPPED[:-9]), "images.*truncated or damaged"),
    "gzip checksum": (spoil(f"{TRAIN_IMAGES}.gz", GZIPPED[:-8] + b"12345678"), "damaged"),
    "gzip body": (
        spoil(f"{TRAIN_IMAGES}.gz", GZIPPED[:40] + b"\xff" * 9 + GZIPPED[49:]),
        "damaged",
    ),
    "behind gzip": (spoil(f"{TRAIN_IMAGES}.gz", GZIPPED + b"more"), "truncated or damaged"),
    "empty file": (spoil(TEST_LABELS, b""), "t10k-labels.*': it is empty$"),
    "empty when unpacked": (spoil(TEST_LABELS, gzip.compress(b"")), "labels.*': it is empty$"),
    "header": (spoil(TEST_LABELS, idx(LABELS)[:7]), "t10k-labels.*truncated within its header"),
    "truncated": (spoil(TEST_IMAGES, idx(IMAGES)[:-1]), "data: 9407, by its header 9408;"),
    "trailing bytes": (spoil(TEST_LABELS, idx(LABELS) + b"\0"), "data: 13, by its header 12;"),
    "floats": (
        spoil(TEST_LABELS, idx(LABELS, magic=0xD01)),
        r"begins with b'\\x00\\x00\\r\\x01.*labels-idx1-ubyte begins with b'\\x00\\x00\\x08\\x01'",
    ),
    "labels for images": (
        spoil(TEST_IMAGES, idx(LABELS)),
        r"x01\\x00.*; t10k-images-idx3-ubyte begins with b'\\x00\\x00\\x08\\x03'",
    ),
    "32 by 32": (spoil(TEST_IMAGES, idx(np.zeros((12, 32, 32), np.uint8))), "32 by 32 pixels"),
    "terabytes": (spoil(TEST_IMAGES, idx(IMAGES, size0=2**32 - 1)), "by its header 3367254359280"),
    "counts differ": (
        spoil(TEST_LABELS, idx(LABELS[:1])),
        "number of test images: 12, of labels: 1; take both",
    ),
    "label 10": (spoil(TEST_LABELS, idx(LABELS + 1)), r"test labels\[9\] is 10, not a digit"),
    "no training images": (
        lambda folder: write_folder(folder, 0),
        "training images is 0; 6 are needed",
    ),
    "no test images": (lambda folder: write_folder(folder, 12, 0), "it has no test images$"),
    "one image": (
        lambda folder: write_folder(folder, 1),
        "number of its training images is 1; 6 are needed, as the last sixth is validation data",
    ),
    "five images": (lambda folder: write_folder(folder, 5), "images is 5; 6 are needed"),
    "text": (
        as_pickle(b"These are not the images you are looking for."),
        r"not a pickle of arrays \(EOFError\); it begins with b'These are not the images",
    ),
    "page for a pickle": (
        as_pickle(WEB_PAGE),
        rf"it holds no pickle; .*{NEEDED} \(it begins with b'<!DOCTYPE html>\\n",
    ),
    "zip": (as_pickle(b"PK\x03\x04"), r"b'PK\\x03\\x04'"),
    "empty pickle": (as_pickle(b""), "mnist.pkl': it is empty$"),
    "truncated pickle": (as_pickle(pickle.dumps(pairs(full(0), [0]))[:-9]), "mnist.pkl': damaged"),
    "behind the pickle": (
        as_pickle(pickle.dumps(pairs(full(0), GOOD_LABELS)) + b"."),
        "more bytes behind",
    ),
    "memo index": (as_pickle(b"g" + b"9" * 4000 + b"\n."), "damaged, or not a pickle"),
    "a list of numbers": (as_pickle([1, 2, 3]), f"training data is a number; .*{NEEDED}"),
    "a text": (as_pickle("mnist"), "it holds a text; "),
    "bytes": (as_pickle(pickle.dumps(b"mnist")), "it holds a text; "),
    "a number of numpy's": (as_pickle(np.float64(3)), "it holds a number; "),
    "None": (as_pickle(None), "it holds None; "),
    "a dtype": (as_pickle(np.dtype("f4")), "it holds something else; "),
    "an array": (as_pickle(full(0)), f"it holds an array; .*{NEEDED}"),
    "two pairs": (as_pickle(((1, 2), (3, 4))), f"it holds a tuple of 2; .*{NEEDED}"),
    "four arrays": (as_pickle([full(0)] * 4), f"it holds a list of 4; .*{NEEDED}"),
    "three arrays": (as_pickle((full(0),) * 3), f"training data is an array; .*{NEEDED}"),
    "a triple": (as_pickle([GOOD, GOOD, (1, 2, 3)]), "its test data is a tuple of 3; "),
    "a dictionary": (as_pickle({"train": full(0)}), f"it holds a dictionary; .*{NEEDED}"),
    "old dictionary": (as_pickle(pickle.dumps({"train": 1}, 0)), "it holds a dictionary; "),
    "a set": (as_pickle({1}), "it holds a set; "),
    "a frozen set": (as_pickle(frozenset([1])), "it holds a set; "),
    "an object": (as_pickle(collections.Counter("a")), "it asks for 'collections.Counter', which"),
    "None for images": (as_pickle(pairs(None, GOOD_LABELS)), "its test images are None; an array"),
    "texts for images": (
        as_pickle(pairs(["a", "b"], [0, 0])),
        "test images are a list with a text",
    ),
    "list of None": (as_pickle(pairs([None], [0])), "test images are a list with None"),
    "lists of numbers": (
        as_pickle(pairs([[0.0] * 784], [0])),
        "images are a list with a list of 784",
    ),
    "list of all": (as_pickle(pairs([full(0)], [0])), "a list with an array of 1568 numbers"),
    "list of numbers": (as_pickle(pairs([0.5, 0.5], [0, 0])), r"test images of shape \(2,\), lab"),
    "mixed list": (as_pickle(pairs([full(0)[0], 0.5], [0, 0])), "damaged, or not a pickle of arr"),
    "large number": (as_pickle(pairs(full(0), [0, 10**400])), "damaged, or not a pickle of arrays"),
    "large numbers": (as_pickle(pairs([10**400, 0], [0, 0])), "damaged, or not a pickle of arrays"),
    "empty arrays": (as_pickle(pairs(full(0)[:0], GOOD_LABELS[:0])), "it has no test images$"),
    "empty arrays, protocol 2": (
        as_pickle(pickle.dumps(pairs(full(0)[:0], GOOD_LABELS[:0]), 2)),
        "it has no test images$",
    ),
    "empty lists": (as_pickle(pairs([], [])), "it has no test images$"),
    "no labels": (as_pickle(pairs(full(0), [])), r"labels of shape \(0,\); \(n, 784\) and \(n,\)"),
    "objects": (as_pickle(pairs(full(0).astype(object), GOOD_LABELS)), r"array of type '\|O8'"),
    "hidden objects": (as_pickle(ARRAY.replace(b"\2\0\0\0f4", b"\2\0\0\0V8")), "of type '<V8'"),
    "long double": (as_pickle(ARRAY.replace(b"\2\0\0\0f4", b"\3\0\0\0f16")), "of type '<f16'"),
    "fields": (as_pickle(pairs(np.zeros(2, [("a", "O")]), GOOD_LABELS)), "holds a dictionary; "),
    "complex": (as_pickle(pairs(full(0).astype(complex), GOOD_LABELS)), "of type '<c16'"),
    "texts in an array": (as_pickle(pairs(full(0), np.array(["3", "4"]))), "of type '<U1'"),
    "records": (
        as_pickle(ARRAY.replace(b"X\1\0\0\0<", b"X\4\0\0\0f4,<", 1)),
        "of type 'f4,<f4'",
    ),
    "28 by 28": (as_pickle(pairs(full(0).reshape(2, 28, 28), GOOD_LABELS)), r"shape \(2, 28, 28\)"),
    "783 pixels": (as_pickle(pairs(full(0)[:, 1:], GOOD_LABELS)), r"test images of .*\(2, 783\)"),
    "lengths differ": (as_pickle(pairs(full(0), np.zeros(3, int))), r"labels of shape \(3,\)"),
    "one hot": (as_pickle(pairs(full(0), np.zeros((2, 10)))), r"labels of shape \(2, 10\)"),
    "a number for labels": (as_pickle(pairs(full(0), 0)), "its test labels are a number; an arr"),
    "many dimensions": (
        as_pickle(pairs(full(0).reshape(30 * [1] + [2, 784]), GOOD_LABELS)),
        r"test images of shape \(1, 1, [1, ]*, labels of shape \(2,\); ",
    ),
    "label 0.5": (as_pickle(pairs(full(0), np.array([3, 0.5]))), r"test labels\[1\] is 0.5, not"),
    "label -1": (as_pickle(pairs(full(0), [-1, 0])), r"test labels\[0\] is -1, not a digit"),
    "label 2**64 - 1": (as_pickle(pairs(full(0), np.array([0, 2**64 - 1], "u8"))), r"\[1\] is 1.8"),
    "label NaN": (as_pickle(pairs(full(0), SIGNALING_NAN)), r"test labels\[0\] is nan, not"),
    "labels of text": (as_pickle(pairs(full(0), ["3", "4"])), "labels are a list with a text"),
    "labels of None": (as_pickle(pairs(full(0), [None, 1])), "labels are a list with None"),
    "pixels to 255": (
        as_pickle(pairs(IMAGES[:2].reshape(2, 784) / 1, GOOD_LABELS)),
        "test pixels go from 0 to 255, not from 0 to 1; divide them by 256$",
    ),
    "pixels to 1000": (
        as_pickle(pairs(full(1000), GOOD_LABELS)),
        "from 1000 to 1000, not .* to 1$",
    ),
    "pixels below 0": (
        as_pickle(pairs(full(-0.5), GOOD_LABELS)),
        "from -0.5 to -0.5, not .* to 1$",
    ),
    "NaN": (as_pickle(pairs(full(np.nan), GOOD_LABELS)), "test pixels go from nan to nan"),
    "infinite": (as_pickle(pairs(full(np.inf), GOOD_LABELS)), "test pixels go from inf to inf"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD.keys())
def test_bad_data_is_named_in_one_line(
    make: Callable[[Path], Path], message: str, folder: Path
) -> None:
    with pytest.raises(DataError, match=message) as info:
        load_data(make(folder))
    assert folder.name in str(info.value)
    assert_one_line(info.value)
    # As it passes from a worker process to its parent.
    copy = pickle.loads(pickle.dumps(info.value))
    assert type(copy) is DataError
    assert str(copy) == str(info.value)
    path, problem = copy.args
    assert str(info.value) == f"{str(path)!a}: {problem}"


@pytest.mark.parametrize("name", ["a" * 300, "/".join(["\N{SNOWMAN}" * 50] * 20)])
def test_of_a_long_path_the_end_is_named(name: str, tmp_path: Path) -> None:
    message = r"^\.\.\..*/end': (there is no such|File name too)"
    with pytest.raises(DataError, match=message) as info:
        load_data(tmp_path / name / "end")
    assert_one_line(info.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
@pytest.mark.parametrize("name", [TRAIN_IMAGES, "mnist.pkl"])
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
    if ".pkl" in name:
        assert "mnist.pkl': it is neither a file nor a folder" in done.stderr
    else:
        assert f"it lacks {name}" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(folder: Path) -> None:
    (folder / TEST_LABELS).chmod(0)
    with pytest.raises(DataError, match=f"{TEST_LABELS}': Permission denied"):
        load_data(folder)


@pytest.mark.parametrize("name", [f"{TRAIN_IMAGES}.gz", "mnist.pkl.gz", "mnist.pkl"])
def test_a_file_is_read_up_to_max_bytes(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / name
    if ".pkl" in name:
        content = pickle.dumps(pairs(full(0), GOOD_LABELS))
        source = path
    else:
        content = idx(IMAGES)
        source = folder
    path.write_bytes(gzip.compress(content) if ".gz" in name else content)
    longest = max(len(content), len(idx(IMAGES)))
    monkeypatch.setattr(mnist_loader, "MAX_BYTES", longest)
    load_data(source)
    monkeypatch.setattr(mnist_loader, "MAX_BYTES", len(content) - 1)
    with pytest.raises(DataError, match=rf"{name}': too large: it has more than [\d,]+ bytes"):
        load_data(source)


def test_what_is_longer_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That it is cut off at its end is not seen."""
    monkeypatch.setattr(mnist_loader, "MAX_BYTES", 1000)
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(gzip.compress(random.Random(0).randbytes(10**6))[:-100])
    with pytest.raises(DataError, match="too large: it has more than 1,000 bytes"):
        load_data(path)


def test_too_little_memory_for_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stack(_: object) -> None:
        raise MemoryError

    path = as_pickle(pairs(list(full(0)), GOOD_LABELS))(tmp_path)
    load_data(path)
    monkeypatch.setattr(np, "stack", stack)
    with pytest.raises(DataError, match=r"mnist.pkl': it asks for more memory than there is$"):
        load_data(path)


# Hostile files


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
    "an expression": Hostile(eval, "open('hacked', 'w')"),
    "an import": Hostile(__import__, "antigravity"),
    "numpy's loader": Hostile(np.load, "hacked"),
    "a call in a call": Hostile(np.dtype, Hostile(os.system, "touch hacked")),
    "an array of objects": np.array([Hostile(os.system, "touch hacked")], dtype=object),
    "an ordinary class": collections.Counter("hacked"),
    "a partial": functools.partial(os.system, "touch hacked"),
    "an array of numpy's": np.ma.zeros((2, 784)),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_pickle_is_refused_before_it_does_anything(
    protocol: int, content: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mnist.pkl"
    path.write_bytes(pickle.dumps(pairs(content, content), protocol))
    with pytest.raises(DataError, match=r"it asks for '.*', which no array needs") as info:
        load_data(path)
    assert_one_line(info.value)
    assert [file.name for file in tmp_path.iterdir()] == ["mnist.pkl"]


def test_no_extension_of_pickle_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another module registered with copyreg needs no name in the pickle."""
    called: list[str] = []
    monkeypatch.setitem(vars(copyreg)["_extension_cache"], 241, called.append)
    content = b"\x80\x02\x82\xf1(U\x02hitR."
    pickle.loads(content)
    assert called == ["hi"]
    with pytest.raises(DataError, match="it holds the opcode EXT1"):
        load_data(as_pickle(content)(tmp_path))
    assert called == ["hi"]


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


DEEP = 200_000
DTYPE = b"cnumpy\ndtype\nq\0"
AS_PAIRS = b"q\0h\0\x86q\1h\1h\1\x87."  # what was read before for all images and labels
NOT_ARRAYS = "damaged, or not a pickle of arrays"
SKILFUL: dict[str, tuple[bytes, str]] = {
    # To hash a tuple that is nested so deep crashes the interpreter.
    "key of a dictionary": (b"\x80\x04})" + b"\x85" * DEEP + b"Ns.", "a dictionary"),
    "key of another": (b"\x80\x02()" + b"\x85" * DEEP + b"Nd.", "a dictionary"),
    "item of a set": (b"\x80\x04\x8f()" + b"\x85" * DEEP + b"\x90.", "a set"),
    "item of a frozen set": (b"\x80\x04()" + b"\x85" * DEEP + b"\x91.", "a set"),
    "images": (b"\x80\x02)" + b"\x85" * DEEP + AS_PAIRS, "a list with a tuple of 1"),
    "lists": (b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + AS_PAIRS, "a list with a list of 1"),
    "calls": (
        b"\x80\x02" + DTYPE + b"h\0" * DEEP + b"N" + b"\x85R" * DEEP + AS_PAIRS,
        "images are something else",
    ),
    "states": (b"\x80\x02" + DTYPE + b"h\0)R" * DEEP + b"b" * (DEEP - 1) + b".", "something else"),
    "type": (ARRAY.replace(b"X\x02\0\0\0f4", b")" + b"\x85" * DEEP), NOT_ARRAYS),
    "shape": (ARRAY.replace(b"K\x02M\x10\x03\x86", b")" + b"\x85" * DEEP), NOT_ARRAYS),
    "list of itself": (b"\x80\x02]q\0(h\0h\0h\0e.", "its training data is a list of 3"),
    "images of themselves": (b"\x80\x02]q\0(h\0h\0e" + AS_PAIRS, "images are a list with a list"),
    # Claims of more than there is.
    "bytes": (b"\x80\x04\x8e" + u64(2**60) + b".", NOT_ARRAYS),
    "bytearray": (b"\x80\x05\x96" + u64(2**60) + b".", NOT_ARRAYS),
    "text": (b"\x80\x04X\xff\xff\xff\xff.", NOT_ARRAYS),
    "long text": (b"\x80\x04\x8d" + u64(2**60) + b".", "the opcode BINUNICODE8"),
    "string": (b"T\xff\xff\xff\x7f.", NOT_ARRAYS),
    "long": (b"\x80\x04\x8b\xff\xff\xff\x7f.", "the opcode LONG4"),
    "frame": (b"\x80\x04\x95" + u64(2**50) + b".", NOT_ARRAYS),
    "longest frame": (b"\x80\x04\x95" + u64(2**64 - 1) + b".", NOT_ARRAYS),
    "memo": (b"\x80\x04K\x00r\xff\xff\xff\x7f.", "it holds a number"),
    "text memo": (b"I0\np2147483647\n.", "it holds a number"),
    "shape of 2**31": (ARRAY.replace(b"M\x10\x03", b"J\xff\xff\xff\x7f"), NOT_ARRAYS),
    # The stand-ins, used as numpy never would.
    "array without state": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R" + AS_PAIRS,
        NOT_ARRAYS,
    ),
    "scalar of nothing": (
        b"\x80\x02]cnumpy.core.multiarray\nscalar\n)Ra" + AS_PAIRS,
        NOT_ARRAYS,
    ),
    "buffer of one": (
        b"\x80\x02cnumpy.core.numeric\n_frombuffer\nN\x85R" + AS_PAIRS,
        NOT_ARRAYS,
    ),
    "state of None": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)RNb" + AS_PAIRS,
        NOT_ARRAYS,
    ),
    "state of a class": (b"\x80\x02" + DTYPE + b")b.", NOT_ARRAYS),
    "a class": (b"\x80\x02" + DTYPE + b".", "it holds something else"),
    "a list of classes": (b"\x80\x02]" + DTYPE + b"a" + AS_PAIRS, "a list with something else"),
    "call of a call": (b"\x80\x02" + DTYPE + b")R)R.", NOT_ARRAYS),
    "arguments of a number": (b"\x80\x02" + DTYPE + b"K\1R.", NOT_ARRAYS),
    "encoded number": (b"\x80\x02c_codecs\nencode\nK\1\x85R.", "it holds something else"),
    "stack": (b"\x80\x02(((.", NOT_ARRAYS),
    # What would make a line of its own, or needs no name.
    "name of two lines": (b"\x80\x04\x8c\x03a\nb\x8c\x01c\x93.", r"it asks for 'a\\nb.c', which"),
    "name with a colour": (b"c\x1b[31m\nb\n.", r"it asks for '\\x1b\[31m.b', which"),
    "long name": (b"c" + b"a" * 10**6 + b"\nb\n.", "it asks for 'a{60}', which"),
    "persistent id": (b"Pa\x0bb\n.", "the opcode PERSID; "),
    "binary persistent id": (b"\x80\x02NQ.", "the opcode BINPERSID; "),
    "old instance": (b"(ios\nsystem\n.", "the opcode INST; "),
    "old object": (b"(" + DTYPE + b"o.", "the opcode OBJ; "),
    "new object": (b"\x80\x02" + DTYPE + b")\x81.", "the opcode NEWOBJ; "),
    "buffer": (b"\x80\x05\x97.", "the opcode NEXT_BUFFER; "),
    "protocol": (b"\x80\xff.", NOT_ARRAYS),
}


@pytest.mark.parametrize(("content", "message"), SKILFUL.values(), ids=SKILFUL.keys())
def test_a_skilful_pickle_is_refused_in_one_line(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(gzip.compress(content, 1))
    with pytest.raises(DataError, match=message) as info:
        load_data(path)
    assert_one_line(info.value)


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
    "2.pkl": ARRAY,
    "4.pkl": pickle.dumps(pairs(list(full(0.5)), list(GOOD_LABELS)), 4),
    "5.pkl": pickle.dumps(pairs(full(0.5), [0.0, 1.0]), 5),
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


@any_tmp_path
@given(data=st.data(), name=st.sampled_from(["2.pkl", "4.pkl", "5.pkl"]))
def test_steps_of_a_pickle_where_they_do_not_belong(
    data: st.DataObject, name: str, tmp_path: Path
) -> None:
    content = SOURCES[name]
    steps = st.sampled_from([b"(", b")", b"]", b"R", b"b", b"t", b"l", b"e", b"a", b"\x85", b"N"])
    names = st.sampled_from([DTYPE, b"cnumpy\nndarray\n", b"c_codecs\nencode\n", b"h\0", b"h\5"])
    at = data.draw(st.integers(0, min(400, len(content))), label="at")
    added = b"".join(data.draw(st.lists(steps | names, min_size=1, max_size=6), label="added"))
    path = tmp_path / "mnist.pkl"
    path.write_bytes(content[:at] + added + content[at:])
    load_or_refuse(path)
