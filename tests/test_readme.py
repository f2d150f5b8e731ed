"""The README: what it shows is what the program prints, and what it says follows from that.

python -m tests.test_readme brings the outputs in it up to date (it takes some minutes).
"""

from __future__ import annotations

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
OUTPUTS = {match[1]: match[2] for match in BLOCK.finditer(TEXT)}
PROSE = " ".join(re.sub(r"```.*?```", " ", TEXT, flags=re.S).split())
SEEDS = "--seed 0 --seed 1 --seed 2 --seed 3 --seed 4"


def printed(arguments: str) -> str:
    """Return what the command prints."""
    return subprocess.run(
        [sys.executable, str(ROOT / "reproduce.py"), *shlex.split(arguments)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def renewed(match: re.Match[str]) -> str:
    """Return a block of the README with what its command prints now."""
    return f"```console\n$ python reproduce.py {match[1]}\n{printed(match[1])}```"


def claimed(pattern: str) -> tuple[str, ...]:
    """Return the figures of the one sentence of the prose that fits."""
    [match] = re.finditer(pattern, PROSE)
    return match.groups()


SLOW = [command for command in OUTPUTS if re.search("--seed 4|--epochs [24]00", command)]
FAST = [command for command in OUTPUTS if command not in SLOW]


@pytest.mark.parametrize("command", FAST)
def test_every_output_is_what_its_command_prints(command: str) -> None:
    assert printed(command) == OUTPUTS[command]


@pytest.mark.slow
@pytest.mark.parametrize("command", SLOW)
def test_every_output_of_many_runs_is_what_its_command_prints(command: str) -> None:
    assert printed(command) == OUTPUTS[command]


def table_of(*words: str) -> dict[str, list[str]]:
    """Return the rows, by their labels, of the table whose command has all these words."""
    [output] = [OUTPUTS[command] for command in OUTPUTS if all(word in command for word in words)]
    rows = {}
    for line in output.splitlines():
        match = re.fullmatch(r"(\S.*?)  +(\d+  +\S.*)", line)
        if match:
            rows[match[1]] = match[2].split()
    return rows


def ranges(table: dict[str, list[str]]) -> dict[str, tuple[float, float]]:
    """Return the lowest and highest accuracy, in %, of each row of a table over seeds."""
    found = {}
    for label, cells in table.items():
        found[label] = (float(cells[2].rstrip("%")), float(cells[3].rstrip("%")))
    return found


WRONG = ranges(table_of("--buggy-prime --fixed-prime", "--eta 5", SEEDS))
RIGHT = ranges(table_of("--hidden 30 --fixed-prime", SEEDS))
OUTPUT_LAYER = ranges(table_of("--init-scale 1,fan-in", SEEDS))
TENS = ranges(table_of("--batch-size 10 ", SEEDS))


def test_what_the_answer_promises_is_in_the_tables() -> None:
    low, high = RIGHT["--init rand-0.5"]
    assert claimed(r"this gives (\d+)% to (\d+)% with the right") == (f"{low:.0f}", f"{high:.0f}")
    low, high = TENS["--fixed-prime --init rand-0.5"]
    assert claimed(r"it has (\d+)% to (\d+)% after two") == (f"{low:.0f}", f"{high:.0f}")


@pytest.mark.parametrize("table", [WRONG, RIGHT])
def test_which_changes_are_said_to_help(table: dict[str, tuple[float, float]]) -> None:
    """Where a row is said to learn, all seeds do; where it is not, none does."""
    help_always = {"--init rand-0.5", "--init-scale fan-in"}
    help_the_wrong_derivative = {"--init-scale 0.1", "--eta 1", "--batch-size 1000"}
    for label, (low, high) in table.items():
        if label in help_always or (table is WRONG and label in help_the_wrong_derivative):
            assert low > 25, label
        else:
            assert high < 15, label
    assert help_always | help_the_wrong_derivative < set(table)


def test_the_size_of_the_output_layers_weights_decides() -> None:
    assert OUTPUT_LAYER["--buggy-prime --init-scale 1"] == WRONG["--init rand-0.5,rand"]
    assert len(OUTPUT_LAYER) == 4
    for label, (low, high) in OUTPUT_LAYER.items():
        if label.endswith("--init-scale 1"):
            assert high < 20
        else:
            assert low > 50


def test_with_batches_of_10_the_right_derivative_needs_the_weights() -> None:
    low, _ = TENS["--buggy-prime --init rand"]
    assert low > 75
    _, high = TENS["--fixed-prime --init rand"]
    assert high < 15
    best, _ = TENS["--fixed-prime --init rand-0.5"]
    for label, (_, high) in TENS.items():
        assert label == "--fixed-prime --init rand-0.5" or high < best


def test_figures_of_the_images_the_weights_and_the_derivative() -> None:
    (images, labels), _, _ = mnist_loader.load_data()
    [lit] = claimed(r"About (\d+) pixels of an image are not 0")
    assert f"{np.count_nonzero(images) / len(images):.0f}" == lit
    [total] = claimed(r"add up to about (\d+)\. Each")
    assert f"{images.sum(dtype=float) / len(images):.0f}" == total
    assert np.bincount(labels).argmax() == 1
    for seed in range(5):
        settings = reproduce.Settings(hidden=30, seed=seed)
        w2, w3 = reproduce.Run(settings).network.weights
        assert w2.min() >= 0
        assert w3.min() >= 0
        assert w3.sum(axis=1).mean() == pytest.approx(15, abs=1.5)
        assert w3.sum(axis=1).min() > 9  # whose sigmoid is 0.9999
    [lowest] = claimed(r"never below (0\.\d+)")
    assert 0 <= reproduce.buggy_prime(np.linspace(0, 1, 1001)).min() - float(lowest) < 0.001


def test_the_first_step_pushes_the_hidden_neurons_down() -> None:
    output = printed(
        "--hidden 30 --buggy-prime --fixed-prime --init rand-0.5,rand --init-scale 1 "
        "--init-scale 1,fan-in --epochs 1 --diagnose"
    )
    figures = {}
    for line in output.splitlines():
        if re.match("[A-D] (before|after) ", line):
            run, when, *cells = line.split()
            figures[run, when] = cells
    mean_z2, smaller_mean_z2 = claimed(r"from about 0 to (-17\.2) .*? and to (-2\.72) with")
    assert claimed(r"smaller, to (-9\.51), and") == (figures["C", "after"][0],)
    assert figures["A", "after"][0] == mean_z2
    assert figures["B", "after"][0] == smaller_mean_z2
    assert abs(float(figures["A", "before"][0])) < 1
    varied = claimed(r"`a2 varies` falls from (\S+) to (\S+\d)\. ")
    assert varied == (figures["A", "before"][2], figures["A", "after"][2])
    [about] = claimed(r"to a mean `z2` of about (-\d+)\. ")
    assert about == f"{float(mean_z2):.0f}"


def test_figures_of_single_runs_stand_in_their_outputs() -> None:
    inside = OUTPUTS["--hidden 30 --buggy-prime --fixed-prime --every 29 --diagnose"]
    wrong, right = claimed(r"`nabla w2` is (\S+), and with the right derivative (\S+\d)\. ")
    [before] = re.findall("^A before .*$", inside, re.M)
    assert before.split()[5:7] == [wrong, right]
    [mean_z2] = claimed(r"`z2`, is about (\d+),")
    assert abs(float(before.split()[2]) - float(mean_z2)) < 1
    more_steps = OUTPUTS["--hidden 30 --buggy-prime --fixed-prime --epochs 200 --every 50"]
    [wrong, right] = re.findall(r"^[AB] +200 .* (\d+)\.\d\d% ", more_steps, re.M)
    assert int(wrong) > 30
    assert right == "11"
    [failing] = claimed(r"the same: (\d+\.\d\d%)")
    assert f"1135    {failing}  1 (100.00%)" in OUTPUTS["--hidden 30 --buggy-prime --every 5"]
    iterations = OUTPUTS["--epochs 400 --every 99"]
    [single_layer] = claimed(r"(\d+\.\d\d%), with seed 0")
    assert re.search(rf"^ +99 .* {single_layer} ", iterations, re.M)
    [last] = re.findall(r"^ +399 .*?(\d+\.\d\d%)", iterations, re.M)
    assert last > "90"


def test_the_lines_for_python_print_an_epoch() -> None:
    [lines] = re.findall(r"```python\n(from reproduce .*?)```", TEXT, re.S)
    process = subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert process.stdout.startswith("Epoch(cost=131.03413")


def test_the_speed_table_is_made_from_the_record() -> None:
    record = (ROOT / "tests" / "benchmark.txt").read_text(encoding="utf-8")
    measured = {}
    for line in record.splitlines():
        cells = line.split()
        if len(cells) == 9 and cells[1] == "float64":
            size, _, name, seconds, _, _, ratio, _, _ = cells
            measured[size, name] = (float(seconds), float(ratio))
    rows = re.findall(r"^\| (all|\d+) \| (\S+) s \| (\S+) \| (\S+) \| (\S+) \|$", TEXT, re.M)
    assert [row[0] for row in rows] == ["all", "1000", "100", "10"]
    for size, seconds, *ratios in rows:
        size = size.replace("all", "50000")
        assert seconds == f"{measured[size, 'reproduce.py'][0]:.2f}"
        for name, ratio in zip(["numpy", "PyTorch", "JAX"], ratios):
            assert ratio == f"{measured[size, name][1]:.1f}"


def test_the_picture_is_there() -> None:
    [picture] = re.findall(r"!\[.+?\]\((.+?)\)", TEXT, re.S)
    assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")


if __name__ == "__main__":
    README.write_text(BLOCK.sub(renewed, TEXT), encoding="utf-8")
