"""The README: what it shows is what the program prints, and what it says follows from that.

python -m tests.test_readme brings the outputs in it up to date (it takes some minutes).
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import reproduce  # before numpy: it sets the number of BLAS's threads

# isort: split
import numpy as np
import pytest

import mnist_loader

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCK = re.compile(r"```console\n\$ python reproduce\.py ((?:.*\\\n)*.*)\n((?:(?!```).*\n)*)```")
OUTPUTS = {match[1]: match[2] for match in BLOCK.finditer(TEXT)}
PROSE = " ".join(re.sub(r"```.*?```", " ", TEXT, flags=re.S).split())
SLOW = [command for command in OUTPUTS if re.search("--seeds|--batch-size|--epochs 400", command)]
FAST = [command for command in OUTPUTS if command not in SLOW]


def printed(arguments: str) -> str:
    """Return what the command prints."""
    return subprocess.run(
        [sys.executable, str(ROOT / "reproduce.py"), *shlex.split(arguments.replace("\\\n", ""))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def shown(output: str, as_in: str) -> str:
    """Return as much of the end of an output as a block of the README shows."""
    paragraphs = output.split("\n\n")
    return "\n\n".join(paragraphs[-len(as_in.split("\n\n")) :])


def renewed(match: re.Match[str]) -> str:
    """Return a block of the README with what its command prints now."""
    output = shown(printed(match[1]), match[2])
    return f"```console\n$ python reproduce.py {match[1]}\n{output}```"


@pytest.mark.parametrize("command", FAST)
def test_every_output_is_what_its_command_prints(command: str) -> None:
    assert shown(printed(command), OUTPUTS[command]) == OUTPUTS[command]


@pytest.mark.slow
@pytest.mark.parametrize("command", SLOW)
def test_every_output_of_many_runs_is_what_its_command_prints(command: str) -> None:
    pairs = zip(
        shown(printed(command), OUTPUTS[command]).splitlines(),
        OUTPUTS[command].splitlines(),
        strict=True,
    )
    for line, its in pairs:
        if " 150000 " in line:  # steps, after which processors differ: to one percent
            (label, accuracy), (its_label, its_accuracy) = map(accuracy_of, (line, its))
            assert label == its_label
            assert accuracy == pytest.approx(its_accuracy, abs=1)
        else:
            assert line == its


def accuracy_of(line: str) -> tuple[str, float]:
    """Return the label of a row, and its accuracy in %."""
    label, _, _, _, accuracy, _ = re.split(r"\s{2,}", line)
    return label, float(accuracy.rstrip("%"))


def test_the_proof_with_one_seed() -> None:
    """As the slow test of the five seeds, in a fifth of its time."""
    output = printed("--hidden 30 --buggy-prime --suspects --format csv --every 30")
    last = [row for row in csv.DictReader(io.StringIO(output)) if row["epoch"] == "29"]
    correct = [int(row["correct"]) for row in last]
    assert correct == [1135, 1135, 6620, 4769, 1152, 1135, 4628, 3485, 2791, 1135, 8311]


@pytest.mark.slow
def test_a_constant_does_what_the_wrong_derivative_does(monkeypatch: pytest.MonkeyPatch) -> None:
    [(wrong, constant)] = re.findall(r"has (\d+) images right, with .* it has (\d+), and", PROSE)
    training, test = reproduce.load_images()
    for prime, correct in ((reproduce.buggy_prime, wrong), (lambda a: 0.2, constant)):
        monkeypatch.setitem(reproduce.PRIMES, "buggy", prime)
        run = reproduce.Run(reproduce.Settings(hidden=30, prime="buggy"))
        for _ in range(160):
            reproduce.train_epoch(run, training, test)
        assert run.epochs[-1].correct == int(correct)


def test_figures_of_the_images_the_weights_and_the_derivative() -> None:
    (images, labels), _, _ = mnist_loader.load_data()
    [total] = re.findall(r"add up to about (\d+)", PROSE)
    assert f"{images.sum(dtype=float) / len(images):.0f}" == total
    assert np.bincount(labels).argmax() == 1
    for seed in range(5):
        w2, w3 = reproduce.Run(reproduce.Settings(hidden=30, seed=seed)).network.weights
        assert w2.min() >= 0
        assert w3.min() >= 0
        assert w3.sum(axis=1).min() > 9  # whose sigmoid is 0.9999: every output starts near 1
    [lowest] = re.findall(r"never below (0\.\d+)", PROSE)
    assert 0 <= reproduce.buggy_prime(np.linspace(0, 1, 1001)).min() - float(lowest) < 0.001


def test_where_training_moves_the_hidden_layer() -> None:
    training, test = reproduce.load_images()
    x = training.images[:1000].T.astype(float)

    def hidden_layer_after(epochs: int, **changes: Any) -> tuple[reproduce.Array, reproduce.Array]:
        """Return z2 and a2 of the question's network with these changes."""
        question = reproduce.Settings(hidden=30, prime="buggy")
        run = reproduce.Run(dataclasses.replace(question, **changes))
        for _ in range(epochs):
            reproduce.train_epoch(run, training, test)
        [z2, _], [_, a2, _] = run.network.feedforward(x)
        return z2, a2

    for seed in range(3):
        for prime in reproduce.PRIMES:
            _, a2 = hidden_layer_after(1, prime=prime, init="rand-0.5,rand", seed=seed)
            assert np.mean(a2 < 0.1) > 0.9  # "nearly all of their outputs are then close to 0"
        z2, _ = hidden_layer_after(1, eta=5.0, seed=seed)
        assert z2.mean() == pytest.approx(-100, abs=15)  # "throws z2 to about -100"
        for scale, about in (("1", 51), ("fan-in", 2), ("0.1", 5)):
            z2, _ = hidden_layer_after(0, init_scale=scale, seed=seed)
            assert z2.mean() == pytest.approx(about, abs=1)
    z2, _ = hidden_layer_after(10, init_scale="0.1")
    assert abs(z2.mean()) < 1.5  # "is soon near 0"
    z2, _ = hidden_layer_after(30, prime="fixed")
    assert f"it stays at {z2.mean():.0f}" in PROSE


def test_the_lines_for_python_print_an_epoch() -> None:
    [lines] = re.findall(r"```python\n *(from reproduce .*?)```", TEXT, re.S)
    code = re.sub("(?m)^ +", "", lines)
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert process.stdout.startswith("Epoch(cost=131.03413")


def test_the_speed_is_that_of_the_record() -> None:
    record = (ROOT / "tests" / "benchmark.txt").read_text(encoding="utf-8")
    [seconds] = re.findall(r"full-batch epoch takes (\S+) s on two cores, half of what JAX", PROSE)
    [ours] = re.findall(r"^ +50000 +float64 +2 +reproduce\.py +(\S+)", record, re.M)
    [jax] = re.findall(r"^ +50000 +float64 +2 +JAX +(\S+)", record, re.M)
    assert f"{float(ours):.2f}" == seconds
    assert float(jax) / float(ours) == pytest.approx(2, abs=0.3)


def test_the_picture_is_there() -> None:
    [picture] = re.findall(r"!\[.+?\]\((.+?)\)", TEXT, re.S)
    assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")


if __name__ == "__main__":
    README.write_text(BLOCK.sub(renewed, TEXT), encoding="utf-8")
