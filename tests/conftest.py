from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import mnist_loader
import reproduce

SMALL = Path(__file__).parent / "fixtures" / "nielsen_protocol2.pkl.gz"


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
        return CliRunner().invoke(reproduce.main, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
def run_small(run: Callable[..., Result]) -> Callable[..., Result]:
    """Run the command on the small data."""
    return lambda *arguments: run("--data", SMALL, *arguments)
