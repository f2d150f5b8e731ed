from __future__ import annotations

import inspect
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import reproduce  # before anything imports numpy: it sets the number of BLAS's threads

# isort: split
import hypothesis
import numpy as np
import pytest
from click.testing import CliRunner, Result

import mnist_loader

SMALL = Path(__file__).parent / "fixtures" / "nielsen_protocol2.pkl.gz"

# No test may fail because the computer is slow, or busy with something else.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")


def runner() -> CliRunner:
    """Return a runner that keeps stdout and stderr apart, which click < 8.2 has to be told."""
    options: dict[str, Any] = {}
    if "mix_stderr" in inspect.signature(CliRunner).parameters:
        options["mix_stderr"] = False
    return CliRunner(**options)


def idx(items: mnist_loader.Array, **changes: int) -> bytes:
    """Return an IDX file of uint8 items; `changes` replace fields of its header."""
    fields = {"magic": 0x800 + items.ndim}
    fields.update({f"size{axis}": size for axis, size in enumerate(items.shape)})
    fields.update(changes)
    return struct.pack(f">{len(fields)}I", *fields.values()) + items.tobytes()


def write_idx(folder: Path, mnist: mnist_loader.Data, training: int, test: int) -> None:
    """Write the first images of MNIST into the four files of a folder."""
    for prefix, (images, labels), n in (("train", mnist[0], training), ("t10k", mnist[2], test)):
        pixels = (images[:n] * 256).astype(np.uint8).reshape(-1, 28, 28)
        digits = labels[:n].astype(np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(pixels))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(digits))


@pytest.fixture(scope="session")
def mnist() -> mnist_loader.Data:
    return mnist_loader.load_data()


@pytest.fixture(scope="session")
def small() -> mnist_loader.Data:
    """50 training, 10 validation and 10 test images."""
    return mnist_loader.load_data(SMALL)


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run the command on all of MNIST."""

    def invoke(*arguments: object) -> Result:
        return runner().invoke(reproduce.main, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
def run_small(run: Callable[..., Result]) -> Callable[..., Result]:
    """Run the command on the small data."""
    return lambda *arguments: run("--data", SMALL, *arguments)
