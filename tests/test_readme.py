"""The README: what it shows is what the program prints, and its figures are what it computes.

python -m tests.test_readme brings the outputs in it up to date (it takes some minutes).
"""

from __future__ import annotations

import functools
import itertools
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import reproduce  # before numpy: it sets the number of BLAS's threads

# isort: split
import numpy as np
import pytest

import mnist_loader
from reproduce import Array, Run, Settings

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCK = re.compile(r"```console\n\$ python reproduce\.py ((?:.*\\\n)*.*)\n((?:(?!```).*\n)*)```")
OUTPUTS = {match[1]: match[2] for match in BLOCK.finditer(TEXT)}
SLOW = [name for name in OUTPUTS if re.search("--seeds 5|--epochs 400|--batch-size", name)]
FAST = [name for name in OUTPUTS if name not in SLOW]
# The rows of the table of equal steps: options, and how many are right with each column's.
EQUAL_STEPS = re.findall(r"(?m)^\| `(.+?)` \| \d+ s \| (\d+) \| (\d+) \|$", TEXT)

# The numbers of the prose: text without code, the names of the networks and the addresses.
NUMBER = re.compile(r"-?\d[\d,.]*\d(?: %)?|-?\d(?: %)?")
PROSE = re.sub(r"(?s)```.*?```|`.*?`|\]\(.*?\)|784-(?:30-)?10", " ", TEXT)
NUMBERS = set(NUMBER.findall(" ".join(PROSE.split())))
# Settings, times that are said to be about, and how the question and its network are called
GIVEN = {"374415", "-100", "-700", "0", "0.1", "1", "2", "5", "8", "10", "15", "28", "30", "40"}
GIVEN |= {"50", "100", "400", "500", "1,000", "5,000", "10,000", "15,000", "50,000", "0.5", "0.22"}
GIVEN |= {"3.10", "80 %", "90 %"}
# What the tests below compute
FIGURES = {
    "sum of the pixels": "102",
    "mean z2": "51",
    "least wrong derivative": "0.196",
    "mean wrong derivative": "0.23",
    "mean right derivative": "0.13",
    "right derivative where init_scale is 0.1": "0.016",
    "right after 30 steps of 100": "6149",
    "within of the baseline": "0.001",
    "cost with eta 5": "44",
    "seconds": "0.05",
}
# Accuracies: the command and the row of an output, or how many of 10,000 are right
PERCENTAGES = {
    "62 %": "--hidden 30 --suspects --seeds 5: --init rand-0.5",
    "72 %": "--hidden 30 --suspects --seeds 5: --init glorot",
    "66 %": "--hidden 30 --buggy-prime --suspects --seeds 5: --init rand-0.5",
    "11.35 %": "--hidden 30 --buggy-prime --suspects --seeds 5: the network",
    "96 %": "9597",
    "70 %": "6978",
    "86.53 %": "8653",
}
CORRECT: dict[str, tuple[int, Settings]] = {  # right after so many epochs
    "8653": (100, Settings()),
    "6620": (30, Settings(30, "buggy", "rand-0.5")),
    "6587": (30, Settings(30, "constant", "rand-0.5")),
    "7094": (30, Settings(30, "twice", "rand-0.5")),
    "9344": (1, Settings(30, init="rand-0.5", batch_size=10)),
    "9499": (10, Settings(30, init="rand-0.5", batch_size=100)),
    # These two are not on the page: they show that noise costs more with --eta 3.
    "9066": (1, Settings(30, init="rand-0.5", batch_size=100, eta=3.0)),
    "9364": (10, Settings(30, init="rand-0.5", batch_size=1000, eta=3.0)),
    "9597": (30, Settings(30, init="rand-0.5", batch_size=100)),
    "8216": (30, Settings(30, "buggy", "rand-0.5", batch_size=100)),
    "8357": (30, Settings(30, "buggy", "rand-0.5", batch_size=1000)),
    "8240": (30, Settings(30, "buggy", "rand-0.5", batch_size=10_000)),
}


def printed(arguments: str) -> str:
    """Return what the command prints. A picture is drawn into a folder that is deleted again."""
    words = shlex.split(arguments.replace("\\\n", ""))
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            [sys.executable, str(ROOT / "reproduce.py"), *words],
            capture_output=True,
            text=True,
            check=True,
            cwd=folder,
        ).stdout


def shown(output: str, as_in: str) -> str:
    """Return as much of the end of an output as a block of the README shows."""
    paragraphs = output.split("\n\n")
    return "\n\n".join(paragraphs[-len(as_in.split("\n\n")) :])


def renewed(match: re.Match[str]) -> str:
    """Return a block of the README with what its command prints now."""
    output = shown(printed(match[1]), match[2])
    return f"```console\n$ python reproduce.py {match[1]}\n{output}```"


load_images = functools.cache(reproduce.load_images)


def trained(settings: Settings, epochs: int) -> Run:
    """Return a run after so many epochs."""
    training, test = load_images()
    run = Run(settings)
    for _ in range(epochs):
        reproduce.train_epoch(run, training, test)
    return run


def hidden_layer(run: Run) -> tuple[Array, Array]:
    """Return z2 and a2 for the images that are examined."""
    training, _ = load_images()
    zs, activations = run.network.feedforward(reproduce.examined(training))
    return zs[0], activations[1]


def test_every_number_of_the_prose_is_shown_or_computed() -> None:
    shown = {*FIGURES.values(), *CORRECT, *PERCENTAGES}
    for _, *correct in EQUAL_STEPS:
        shown.update(correct)
    for output in OUTPUTS.values():
        shown.update(NUMBER.findall(output))
    assert NUMBERS - GIVEN - shown == set()
    assert {*FIGURES.values(), *PERCENTAGES} - NUMBERS == set()


@pytest.mark.parametrize("percentage", PERCENTAGES)
def test_every_percentage_is_that_of_a_row_or_a_count(percentage: str) -> None:
    source = PERCENTAGES[percentage]
    if source.isdecimal():
        assert source in {*CORRECT, *sum(EQUAL_STEPS, ())}
        accuracy = int(source) / 100
    else:
        command, row = source.split(": ")
        [cells] = re.findall(rf"(?m)^{re.escape(row)} (.+)$", OUTPUTS[command])
        accuracy = float(cells.split("%")[0].split()[-1])
    decimals = len(percentage.partition(".")[2].removesuffix(" %"))
    assert percentage == f"{accuracy:.{decimals}f} %"


def test_no_line_is_too_wide_but_the_printed_command() -> None:
    for line in TEXT.splitlines():
        assert len(line) <= 100 or line.startswith("    python reproduce.py --hidden 30 --buggy")


@pytest.mark.parametrize("command", FAST)
def test_every_output_is_what_its_command_prints(command: str) -> None:
    assert shown(printed(command), OUTPUTS[command]) == OUTPUTS[command]


@pytest.mark.slow
@pytest.mark.parametrize("command", SLOW)
def test_every_output_of_many_steps_is_what_its_command_prints(command: str) -> None:
    assert shown(printed(command), OUTPUTS[command]) == OUTPUTS[command]


def marked(row: tuple[str, str, str]) -> Any:
    """Return a row of the table of equal steps, marked as slow if its batches are large."""
    if "0000" in row[0]:
        return pytest.param(*row, marks=pytest.mark.slow)
    return row


@pytest.mark.parametrize(("options", "corrected", "question"), [marked(row) for row in EQUAL_STEPS])
def test_equal_steps(options: str, corrected: str, question: str) -> None:
    for column, correct in (("--init rand-0.5", corrected), ("--buggy-prime", question)):
        *_, last, _ = printed(f"--hidden 30 {column} {options}").splitlines()
        assert last.split()[2] == correct


@pytest.mark.slow
@pytest.mark.parametrize("correct", CORRECT)
def test_how_many_are_right(correct: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reproduce.PRIMES, "constant", lambda a: 0.22)
    monkeypatch.setitem(reproduce.PRIMES, "twice", lambda a: 2 * reproduce.fixed_prime(a))
    epochs, settings = CORRECT[correct]
    assert trained(settings, epochs).epochs[-1].correct == int(correct)


def test_the_first_30_steps() -> None:
    """Of batches of 100, as against 30 of the full batch."""
    training, test = load_images()
    run = Run(Settings(30, init="rand-0.5"))
    for batch in itertools.islice(training.batches(100, run.random), 30):
        _, nabla_w, nabla_b = reproduce.gradient(run.network, batch)
        run.network.step(0.5 / 100, nabla_w, nabla_b)
    correct, _ = reproduce.evaluate(run.network, test)
    assert FIGURES["right after 30 steps of 100"] == str(correct)


def test_figures_of_the_images_and_of_the_start() -> None:
    (images, labels), _, _ = mnist_loader.load_data()
    assert FIGURES["sum of the pixels"] == f"{images.sum(dtype=float) / len(images):.0f}"
    assert np.bincount(labels).argmax() == 1
    wrong = reproduce.buggy_prime(np.linspace(0, 1, 1001))
    assert 0 <= wrong.min() - float(FIGURES["least wrong derivative"]) < 0.001

    w2, w3 = trained(Settings(30), 0).network.weights
    z2 = images.astype(float) @ w2.T
    assert FIGURES["mean z2"] == f"{z2.mean():.0f}"
    assert w3.sum(axis=1).min() > 9  # whose sigmoid is 0.9999: every output starts near 1
    z2, _ = hidden_layer(trained(Settings(30, init="rand-fan-in"), 0))
    assert z2.mean() == pytest.approx(2, abs=0.5)
    _, a2 = hidden_layer(trained(Settings(30, init="rand-0.5"), 0))
    assert FIGURES["mean wrong derivative"] == f"{reproduce.buggy_prime(a2).mean():.2f}"
    assert FIGURES["mean right derivative"] == f"{reproduce.fixed_prime(a2).mean():.2f}"


def test_figures_of_the_outputs() -> None:
    output = OUTPUTS["--hidden 30 --buggy-prime --every 5"]
    last, baseline = re.findall(r"(?m)^(?: +29|baseline) +(\S+)", output)
    distance = abs(float(last) - float(baseline))
    assert distance <= float(FIGURES["within of the baseline"]) < 3 * distance
    [cost] = re.findall(r"--eta 5 +30 +(\S+)", OUTPUTS["--hidden 30 --suspects --seeds 5"])
    assert FIGURES["cost with eta 5"] == f"{float(cost):.0f}"


def test_where_training_moves_the_hidden_layer() -> None:
    for prime in ("buggy", "fixed"):
        _, a2 = hidden_layer(trained(Settings(30, prime, "rand-0.5-w2"), 1))
        assert np.mean(a2 < 0.1) > 0.9  # "most of their outputs are close to 0"
    z2, _ = hidden_layer(trained(Settings(30, "buggy", eta=5.0), 1))
    assert z2.mean() == pytest.approx(-100, abs=15)
    with np.errstate(over="ignore"):
        z2, a2 = hidden_layer(trained(Settings(30, "buggy", eta=5.0), 30))
    assert z2.mean() == pytest.approx(-700, abs=100)
    assert a2.max() < 1e-80  # "every a2 is 0"
    z2, _ = hidden_layer(trained(Settings(30, eta=5.0), 1))
    assert z2.mean() == pytest.approx(float(FIGURES["mean z2"]), abs=1)
    z2, _ = hidden_layer(trained(Settings(30, "buggy", "rand-0.5-w3"), 30))
    assert z2.mean() == pytest.approx(50, abs=3)

    small = Settings(30, "buggy", init_scale=0.1)
    z2, a2 = hidden_layer(trained(small, 0))
    assert z2.mean() == pytest.approx(5, abs=0.2)
    right = reproduce.fixed_prime(a2).mean()
    assert FIGURES["right derivative where init_scale is 0.1"] == f"{right:.3f}"
    z2, _ = hidden_layer(trained(small, 10))
    assert abs(z2.mean()) < 1  # "is near 0 after 10 steps"


def test_the_lines_for_python_print_an_epoch() -> None:
    [lines] = re.findall(r"```python\n *(from reproduce .*?)```", TEXT, re.S)
    code = re.sub("(?m)^ +", "", lines)
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert process.stdout.startswith("Epoch(cost=131.03413")


def test_the_speed_is_that_of_the_record() -> None:
    record = (ROOT / "tests" / "benchmark.txt").read_text(encoding="utf-8")

    def seconds(batch_size: int, competitor: str) -> float:
        row = rf"(?m)^ +{batch_size} +float64 +2 +{competitor} +(\S+)"
        [median] = re.findall(row, record)
        return float(median)

    assert FIGURES["seconds"] == f"{seconds(50_000, 'reproduce.py'):.2f}"
    assert seconds(50_000, "JAX") / seconds(50_000, "reproduce.py") == pytest.approx(2, abs=0.3)
    assert seconds(100, "JAX") / seconds(100, "reproduce.py") == pytest.approx(0.75, abs=0.05)


def test_the_pictures_are_there() -> None:
    for picture in re.findall(r"!\[.+?\]\((.+?)\)", TEXT, re.S):
        assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")


if __name__ == "__main__":
    README.write_text(BLOCK.sub(renewed, TEXT), encoding="utf-8")
