from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import reproduce  # before anything imports numpy: it sets the number of BLAS's threads

# isort: split
import hypothesis
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
