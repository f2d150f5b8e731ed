from __future__ import annotations

import inspect
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import reproduce  # before anything imports numpy: it sets the number of BLAS's threads

# isort: split
import hypothesis
import numpy as np
import pytest
from click.testing import CliRunner, Result

import mnist_loader

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = [sys.executable, str(ROOT / "reproduce.py")]
SMALL = ROOT / "tests" / "fixtures" / "nielsen_protocol2.pkl.gz"

# No test may fail because the computer is slow, or busy with something else.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")


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


@pytest.fixture(scope="session")
def part(tmp_path_factory: pytest.TempPathFactory, mnist: mnist_loader.Data) -> list[str]:
    """Return how to use 5000 training and 1000 test images: several blocks, and soon done."""
    folder = tmp_path_factory.mktemp("part")
    write_idx(folder, mnist, 6000, 1000)  # The last sixth is the validation data.
    return ["--data", str(folder)]


def run(*arguments: object) -> Result:
    """Run the command on all of MNIST, with stdout and stderr apart."""
    options: dict[str, Any] = {}
    if "mix_stderr" in inspect.signature(CliRunner).parameters:  # click before 8.2
        options["mix_stderr"] = False
    return CliRunner(**options).invoke(reproduce.main, [str(argument) for argument in arguments])


def run_small(*arguments: object) -> Result:
    """Run the command on the small data."""
    return run("--data", SMALL, *arguments)


def printed(result: Result) -> str:
    """Return what a run printed that ended well."""
    assert result.exit_code == 0, result.stderr or repr(result.exception)
    assert result.stderr == ""
    return result.stdout


def rows_of(result: Result) -> list[dict[str, str]]:
    """Return the rows of a run with --format csv: no cell is empty, quoted, or has a comma."""
    headings, *lines = printed(result).splitlines()
    rows = []
    for line in lines:
        cells = line.split(",")
        assert all(cells)
        assert '"' not in line
        rows.append(dict(zip(headings.split(","), cells, strict=True)))
    return rows


def environment(**changes: str) -> dict[str, str]:
    """Return the variables of a process that starts without numpy, as a user's does."""
    variables = dict(os.environ)
    for name in ("PYTHONUNBUFFERED", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        variables.pop(name, None)
    return {**variables, **changes}


def ended(command: list[str], cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Return a process of this command that has ended."""
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=cwd,
        env=environment(**env),
    )


def script(*arguments: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a process of its own."""
    return ended([*SCRIPT, *arguments], cwd, **env)
