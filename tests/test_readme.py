"""The README: what it shows is what the program prints, and what it says follows from that.

python -m tests.test_readme brings the outputs in it up to date.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import reproduce  # before numpy: it sets the number of BLAS's threads

# isort: split
import numpy as np
import pytest

import mnist_loader

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCK = re.compile(r"```console\n\$ python reproduce\.py (.*)\n((?:(?!```).*\n)*)```")
COMMANDS = [match[1] for match in BLOCK.finditer(TEXT)]
PROSE = " ".join(re.sub(r"```.*?```", " ", TEXT, flags=re.S).split())


def printed(arguments: str, cwd: Path) -> str:
    """Return what the command prints; of a picture it would draw, nothing is kept."""
    return subprocess.run(
        [sys.executable, str(ROOT / "reproduce.py"), *shlex.split(arguments)],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
    ).stdout


def accuracies(arguments: str, cwd: Path) -> list[float]:
    """Return the last accuracy of each run, in %."""
    rows = list(csv.DictReader(io.StringIO(printed(f"{arguments} --format csv", cwd))))
    last = max(int(row["epoch"]) for row in rows)
    return [
        100 * int(row["correct"]) / int(row["total"]) for row in rows if int(row["epoch"]) == last
    ]


def claimed(pattern: str) -> list[str]:
    """Return the figures that the one sentence of the prose that fits claims."""
    [match] = re.finditer(pattern, PROSE)
    return list(match.groups())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_output_is_what_its_command_prints(command: str, tmp_path: Path) -> None:
    [shown] = [match[2] for match in BLOCK.finditer(TEXT) if match[1] == command]
    assert printed(command, tmp_path) == shown


def test_there_are_the_outputs_that_prove_the_answer() -> None:
    assert len(COMMANDS) == len(set(COMMANDS)) == TEXT.count("```console") == 6
    assert len(TEXT.splitlines()) <= 260


SEEDS = "--seed 0 --seed 1 --seed 2 --seed 3 --seed 4"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "command"),
    [
        (r"B ends at (\d+)% to (\d+)%, D", "--hidden 30 --init rand --init-scale fan-in"),
        (r"D at (\d+)% to (\d+)%\.", "--hidden 30 --init rand-0.5 --init-scale fan-in"),
        (r"A ends at (\d+)% to (\d+)%\.", "--hidden 30 --buggy-prime --eta 1"),
    ],
)
def test_ranges_over_five_seeds(pattern: str, command: str, tmp_path: Path) -> None:
    found = accuracies(f"{command} {SEEDS}", tmp_path)
    assert claimed(pattern) == [f"{min(found):.0f}", f"{max(found):.0f}"]


@pytest.mark.slow
def test_the_784_10_network_comes_out_nearby(tmp_path: Path) -> None:
    [figure] = claimed(r"`--init-scale 0\.1 --eta 1`, it is (\d+\.\d\d)%")
    assert accuracies("--init-scale 0.1 --eta 1", tmp_path) == [float(figure)]
    golden = ROOT / "tests" / "golden" / "hidden0_scale1_none_eta0.5_seed0.csv"
    last = golden.read_text(encoding="utf-8").splitlines()[-1].split(",")
    assert claimed(r'"a hair above 90 %" \| (\d+\.\d\d)%') == [f"{int(last[2]) / 100:.2f}"]


def test_figures_of_the_images_and_the_derivative() -> None:
    images = mnist_loader.load_data()[0][0]
    [lit] = claimed(r"Some (\d+) lit pixels")
    assert f"{np.count_nonzero(images) / len(images):.0f}" == lit
    [lowest] = claimed(r"never below (0\.\d+)")
    assert 0 <= reproduce.buggy_prime(np.linspace(0, 1, 1001)).min() - float(lowest) < 0.001


def test_every_other_figure_of_the_prose_stands_in_an_output() -> None:
    outputs = "\n".join(match[2] for match in BLOCK.finditer(TEXT))
    prose = re.sub(r"For seeds 0 to 4, .*?\.|it is [\d.]+%|\| 86\.53%", "", PROSE)
    figures = re.findall(r"\b\d+(?:\.\d+)?%|\b\d\.\d{6}\b", prose)
    assert figures
    for figure in figures:
        assert figure in outputs, figure


def test_the_picture_is_there() -> None:
    [picture] = re.findall(r"!\[.+?\]\((.+?)\)", TEXT, re.S)
    assert (ROOT / picture).stat().st_size < 200_000


if __name__ == "__main__":

    def renewed(match: re.Match[str]) -> str:
        return f"```console\n$ python reproduce.py {match[1]}\n{printed(match[1], ROOT)}```"

    README.write_text(BLOCK.sub(renewed, TEXT), encoding="utf-8")
