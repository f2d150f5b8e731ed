"""The command, as its user meets it."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import itertools
import math
import pickle
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from conftest import SMALL, runner, write_idx
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

import mnist_loader
import reproduce

GOLDEN = Path(__file__).parent / "golden"
Run = Callable[..., Result]
Row = dict[str, str]  # of the CSV
Cells = list[str]

SETTINGS = ["hidden", "prime", "init", "init_scale", "eta", "batch_size", "seed", "dtype"]
FIGURES = ["epoch", "cost", "correct", "total", "top_digit", "top_count"]


def printed(result: Result) -> str:
    """Return what a run printed that ended well."""
    assert result.exit_code == 0, result.stderr or repr(result.exception)
    assert result.stderr == ""
    return result.stdout


def csv_of(result: Result) -> list[Row]:
    return list(csv.DictReader(io.StringIO(printed(result))))


def error_of(result: Result, status: int) -> str:
    """Return the one line of a run that ended in an error."""
    assert result.exit_code == status
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.splitlines()
    if status == 2:
        usage, hint, empty, *lines = lines
        assert usage.startswith("Usage: ")
        assert hint.startswith("Try ")
        assert empty == ""
        assert result.stdout == ""
    [error] = lines
    assert error.startswith("Error: ")
    return error


def command_in(text: str) -> list[str]:
    """Return the arguments of the command that a report shows."""
    [command] = re.findall(r"^ *python reproduce\.py (.+)$", text, re.M)
    return shlex.split(command)


def title_of(text: str) -> str:
    return " ".join(text.split("python reproduce.py")[0].split())


def blocks_of(text: str) -> list[list[str]]:
    """Return the lines of what stands between empty lines."""
    return [block.splitlines() for block in text.split("\n\n")]


def list_of(lines: list[str]) -> list[str]:
    """Return the items of a list in plain text, whose further lines are moved to the right."""
    items: list[str] = []
    for line in lines:
        if line.startswith("  "):
            items[-1] += " " + line.strip()
        else:
            items.append(line)
    return items


def name_and_figures(line: str, figures: int) -> Cells:
    """Return the name of a row, which may have spaces, and its figures."""
    name, *cells = line.rsplit(maxsplit=figures)
    assert len(cells) == figures
    return [name.strip(), *cells]


# The words


EXPLAINED = """\
mean z2, least z2: of the hidden layer's weighted inputs, the mean and the one
  that is nearest to 0 (for 1,000 training images at most)
a2 varies: the standard deviation of a hidden neuron's activation between these
  images, where it is largest; below 0.01, the layer is said to put out the same
  for every image
nabla w2, nabla w3: the norm of the gradient, the mean over all training images;
  right one: the norm of nabla w2 if the right derivative is used
error: how far nabla w2 or nabla w3 is from how the cost really changes when the
  weights are moved a little (for 20 training images at most); above 1%, the
  gradient is said to be wrong
falling, rising: by more than 1% of the cost in the last 3 epochs, or in all if
  there are fewer
"""
REPORTS = {
    "--hidden 30 --buggy-prime --epochs 2": """\
784-30-10 sigmoid network, cross-entropy, 50,000 MNIST images, full batch
python reproduce.py --hidden 30 --buggy-prime --init rand --init-scale 1 --eta 0.5 \
--batch-size 50000 --seed 0 --dtype float64 --epochs 2

   epoch        cost  correct  accuracy  most predicted
       0  131.034130     1135    11.35%  1 (100.00%)
       1   15.265121      958     9.58%  6 (100.00%)
baseline    3.249079     1135    11.35%  1 (100.00%)
""",
    "--buggy-prime --fixed-prime --hidden 30 --init rand --init rand-0.5 --epochs 1": """\
784-30-10 sigmoid network, cross-entropy, 50,000 MNIST images, full batch
python reproduce.py --hidden 30 --buggy-prime --fixed-prime --init rand --init rand-0.5 \
--init-scale 1 --eta 0.5 --batch-size 50000 --seed 0 --dtype float64 --epochs 1

A: --buggy-prime --init rand
B: --buggy-prime --init rand-0.5
C: --fixed-prime --init rand
D: --fixed-prime --init rand-0.5

epoch    A cost correct    B cost correct    C cost correct    D cost correct
    0  131.0341    1135    6.9060    1058  131.0341    1135    6.9060    1012

           steps        cost  correct  accuracy  most predicted
A              1  131.034130     1135    11.35%  1 (100.00%)
B              1    6.905971     1058    10.58%  8 (39.34%)
C              1  131.034130     1135    11.35%  1 (100.00%)
D              1    6.905971     1012    10.12%  8 (29.57%)
baseline            3.249079     1135    11.35%  1 (100.00%)
""",
    "--init rand --init rand-0.5,rand --hidden 30 --buggy-prime --epochs 3 --diagnose": """\
784-30-10 sigmoid network, cross-entropy, 50,000 MNIST images, full batch
python reproduce.py --hidden 30 --buggy-prime --init rand --init rand-0.5,rand --init-scale \
1 --eta 0.5 --batch-size 50000 --seed 0 --dtype float64 --epochs 3

A: --init rand
B: --init rand-0.5,rand

epoch    A cost correct    B cost correct
    0  131.0341    1135   64.3360    1009
    1   15.2651     958    7.4398    1011
    2    7.8100     958    6.5689    1012

           steps        cost  correct  accuracy  most predicted
A              3    7.810013      958     9.58%  6 (100.00%)
B              3    6.568912     1012    10.12%  9 (99.52%)
baseline            3.249079     1135    11.35%  1 (100.00%)

           mean z2  least z2  a2 varies  nabla w2  right one  nabla w3  error
A before      50.5      11.6   2.81e-07      27.3   1.68e-06      15.6 100.0%
A after       33.8      3.93   0.000723      1.36   0.000335      1.52 100.0%
B before    -0.115  0.000128      0.345        32       17.8      7.97  43.5%
B after      -26.3    0.0502     0.0789      7.73     0.0153    0.0247 100.0%

EXPLAINED

These figures say:
A: before and after the training, the hidden layer puts out the same for every
  image; the gradient is wrong; the cost was still falling at the end
B: the gradient is wrong; the cost was still falling at the end
""",
    "--init rand-0.5 --init rand --init-scale 1 --init-scale 0.01,1 --eta 1e-3 --eta 20 "
    "--batch-size 50 --batch-size 10 --hidden 5 --one-at-a-time --epochs 6 --diagnose --data "
    "nielsen_protocol2.pkl.gz": """\
784-5-10 sigmoid network, cross-entropy, 50 training images of
  nielsen_protocol2.pkl.gz
python reproduce.py --hidden 5 --fixed-prime --init rand-0.5 --init rand --init-scale 1 \
--init-scale 0.01,1 --eta 0.001 --eta 20 --batch-size 50 --batch-size 10 --seed 0 --dtype \
float64 --epochs 6 --one-at-a-time --data nielsen_protocol2.pkl.gz

                      steps        cost  correct  accuracy  most predicted
nothing changed           6    6.232881        1    10.00%  2 (60.00%)
--init rand               6   23.536165        1    10.00%  2 (100.00%)
--init-scale 0.01,1       6    6.040042        1    10.00%  2 (100.00%)
--eta 20                  6   34.978270        1    10.00%  2 (100.00%)
--batch-size 10          30    6.150132        1    10.00%  2 (60.00%)
baseline                       3.212590        2    20.00%  1 (100.00%)

                             mean z2  least z2  a2 varies  nabla w2  right one  nabla w3  error
nothing changed before         0.135    0.0157      0.367     0.872      0.872      1.34   0.0%
nothing changed after           0.14   0.00513      0.367     0.872      0.872      1.33   0.0%
--init rand before              48.3      18.6    1.2e-09  2.57e-09   2.57e-09      5.79   0.0%
--init rand after               48.3      18.6    1.2e-09  2.51e-09   2.51e-09      5.78   0.0%
--init-scale 0.01,1 before   0.00135  0.000157    0.00638      1.46       1.46      1.22   0.0%
--init-scale 0.01,1 after     0.0105  1.74e-05    0.00742      1.45       1.45      1.22   0.0%
--eta 20 before                0.135    0.0157      0.367     0.872      0.872      1.34   0.0%
--eta 20 after                  18.8       6.3   0.000423   0.00533    0.00533     0.567   0.0%
--batch-size 10 before         0.135    0.0157      0.367     0.872      0.872      1.34   0.0%
--batch-size 10 after          0.164   0.00517      0.367     0.871      0.871      1.31   0.0%

EXPLAINED

These figures say:
nothing changed: none of this was found
--init rand: before and after the training, the hidden layer puts out the same
  for every image
--init-scale 0.01,1: before and after the training, the hidden layer puts out
  the same for every image
--eta 20: after the training, the hidden layer puts out the same for every
  image; the cost was rising at the end
--batch-size 10: none of this was found
""",
    "--eta 1 --eta 3 --init rand --init randn --init rand-0.5 --batch-size 20 --seed 0 --seed "
    "1 --epochs 3 --one-at-a-time --data nielsen_protocol2.pkl.gz": """\
784-10 sigmoid network, cross-entropy, 50 training images of
  nielsen_protocol2.pkl.gz, batches of 20
python reproduce.py --hidden 0 --init rand --init randn --init rand-0.5 --init-scale 1 --eta \
1 --eta 3 --batch-size 20 --seed 0 --seed 1 --dtype float64 --epochs 3 --one-at-a-time \
--data nielsen_protocol2.pkl.gz

                  steps        cost   lowest  highest  accuracy  most predicted
nothing changed       9    4.988375   30.00%   40.00%    35.00%  1 (30.00%)
--init randn          9    4.813056   30.00%   40.00%    35.00%  1 (20.00%)
--init rand-0.5       9    1.791643   50.00%   70.00%    60.00%  2 (25.00%)
--eta 3               9    4.529544   50.00%   70.00%    60.00%  0 (30.00%)
baseline                   3.212590   20.00%   20.00%    20.00%  1 (100.00%)
""",
}


@pytest.mark.parametrize(("arguments", "text"), REPORTS.items())
def test_reports_word_for_word(
    arguments: str, text: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(SMALL.parent)
    assert printed(run(*arguments.split())) == text.replace("EXPLAINED\n", EXPLAINED)


def test_the_printed_command_gives_the_same_again(run: Run) -> None:
    text = printed(run("--hidden", 7, "--buggy-prime", "--eta", 2, "--epochs", 1))
    assert printed(run(*command_in(text))) == text


@pytest.mark.parametrize(
    "arguments",
    [
        "--hidden 3 --epochs 2 --diagnose",
        "--hidden 3 --eta 1 --eta 2 --buggy-prime --epochs 2 --diagnose",
        "--hidden 3 --init rand --init rand-0.5 --init randn,rand --eta 1 --eta 2 --diagnose "
        "--epochs 1",
        "--eta 1 --eta 2 --seed 0 --seed 1 --seed 2 --epochs 2",
    ],
)
def test_markdown_says_what_the_text_says(arguments: str, run_small: Run) -> None:
    text = printed(run_small(*arguments.split()))
    markdown = printed(run_small(*arguments.split(), "--format", "markdown"))
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    parts = [token.type for token in tokens if token.level == 0 and token.nesting >= 0]
    title, *further = paragraphs_of(tokens)
    assert title == title_of(text)
    [command] = [token.content for token in tokens if token.type == "code_block"]
    assert shlex.split(command)[2:] == command_in(text)

    _, *blocks = blocks_of(text)
    expected_parts = ["paragraph_open", "code_block"]
    plain_tables = []
    plain_items = []
    for block in blocks:
        if block[0][0] in " e":  # below an empty heading, or that of the epochs
            expected_parts.append("table_open")
            plain_tables.append([line.split() for line in block])
            continue
        if "--diagnose" in arguments and block is blocks[-1]:
            expected_parts.append("paragraph_open")
            assert further == [block.pop(0)]
        expected_parts.append("bullet_list_open")
        plain_items += list_of(block)
    assert parts == expected_parts
    tables = []
    for table in tables_in(tokens):
        tables.append([" ".join(cells).split() for cells in table])
    assert tables == plain_tables
    assert items_in(tokens) == plain_items


def paragraphs_of(tokens: list[Token]) -> list[str]:
    """Return the paragraphs of a Markdown text that are in no list."""
    paragraphs = []
    for token, after in itertools.pairwise(tokens):
        if token.type == "paragraph_open" and token.level == 0:
            paragraphs.append(after.content)
    return paragraphs


def items_in(tokens: list[Token]) -> list[str]:
    """Return the items of all lists of a Markdown text, as they are shown."""
    items = []
    for token, after in itertools.pairwise(tokens):
        if token.type == "paragraph_open" and token.level > 0:
            items.append(shown_text(after))
    return items


def tables_in(tokens: list[Token]) -> list[list[Cells]]:
    """Return all tables of a Markdown text, row by row, the headings first."""
    tables: list[list[Cells]] = []
    for token, after in itertools.pairwise(tokens):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in ("th_open", "td_open"):
            tables[-1][-1].append(shown_text(after))
    return tables


def shown_text(inline: Token) -> str:
    return "".join(child.content for child in inline.children or [])


# The title


@pytest.mark.parametrize(
    ("arguments", "batches"),
    [
        ("--batch-size 50", "full"),
        ("--batch-size 51 --hidden 2", "full"),
        ("--batch-size 50 --batch-size 99", "full"),
        ("--batch-size 49", "49"),
        ("--batch-size 10 --eta 1 --eta 2", "10"),
        ("--batch-size 10 --batch-size 50", "several"),
    ],
)
def test_the_title_says_how_large_the_batches_are(
    arguments: str, batches: str, run_small: Run
) -> None:
    full = title_of(printed(run_small("--epochs", 1))).split(", ")[-1]
    title = title_of(printed(run_small(*arguments.split(), "--epochs", 1))).split(", ")
    if batches == "full":
        assert title[-1] == full
    elif batches == "several":
        assert title[-1].endswith(str(SMALL))
    else:
        assert title[-1].split()[-1] == batches
        assert title[-2].endswith(str(SMALL))


def test_large_numbers_in_the_title(run: Run) -> None:
    text = printed(run("--batch-size", 25000, "--epochs", 1))
    assert re.findall(r"\d+,\d+", title_of(text)) == ["50,000", "25,000"]


def test_other_images_are_named_and_counted(
    mnist: mnist_loader.Data, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("it's é ü ω")
    folder.mkdir()
    write_idx(folder, mnist, 300, 5)
    text = printed(run("--data", folder, "--epochs", 1))
    assert re.match(rf"250 .*images of {folder}$", title_of(text).split(", ")[-2])
    assert command_in(text)[-1] == str(folder)
    assert printed(run(*command_in(text))) == text


def test_one_image_is_one_image(mnist: mnist_loader.Data, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "one.pkl"
    one = [(images[:1], labels[:1]) for images, labels in mnist]
    path.write_bytes(pickle.dumps(tuple(one), protocol=2))
    text = printed(run("--data", path, "--hidden", 2, "--epochs", 2, "--diagnose"))
    assert re.match(rf"1 .*image of {path}$", title_of(text).split(", ")[-2])
    # A network that ignores the image can be right, too: no cost, and not less.
    assert blocks_of(text)[1][-1].split()[1] == "0.000000"


# The numbers

FROM_THE_QUESTIONS_CODE = {
    "--hidden 30 --buggy-prime --seed 1 --init-scale 0.1 --epochs 2": {
        "30 buggy rand 0.1 0.5 50000 1 float64": "hidden30_scale0.1_buggy_eta0.5_seed1"
    },
    "--hidden 30 --init-scale fan-in --epochs 1": {
        "30 fixed rand fan-in 0.5 50000 0 float64": (
            "hidden30_rand_scalefan-in_fixed_eta0.5_seed0_batch50000"
        )
    },
    "--hidden 30 --init rand-0.5 --batch-size 64 --seed 1 --epochs 2": {
        "30 fixed rand-0.5 1 0.5 64 1 float64": (
            "hidden30_rand-0.5_scale1_fixed_eta0.5_seed1_batch64"
        )
    },
    "--hidden 30 --init rand-0.5,rand --buggy-prime --init-scale 1,fan-in --epochs 2": {
        "30 buggy rand-0.5,rand 1,fan-in 0.5 50000 0 float64": (
            "hidden30_rand-0.5,rand_scale1,fan-in_buggy_eta0.5_seed0_batch50000"
        )
    },
    "--batch-size 50000 --batch-size 10 --epochs 2": {
        "0  rand 1 0.5 50000 0 float64": "hidden0_scale1_none_eta0.5_seed0",
        "0  rand 1 0.5 10 0 float64": "hidden0_rand_scale1_none_eta0.5_seed0_batch10",
    },
    "--hidden 30 --batch-size 10 --batch-size 99999 --buggy-prime --fixed-prime --epochs 1": {
        "30 buggy rand 1 0.5 10 0 float64": "hidden30_rand_scale1_buggy_eta0.5_seed0_batch10",
        "30 buggy rand 1 0.5 50000 0 float64": "hidden30_scale1_buggy_eta0.5_seed0",
        "30 fixed rand 1 0.5 10 0 float64": "hidden30_rand_scale1_fixed_eta0.5_seed0_batch10",
        "30 fixed rand 1 0.5 50000 0 float64": "hidden30_scale1_fixed_eta0.5_seed0",
    },
}


@pytest.mark.parametrize(("arguments", "runs"), FROM_THE_QUESTIONS_CODE.items())
def test_csv_has_the_numbers_of_the_questions_own_code(
    arguments: str, runs: dict[str, str], run: Run
) -> None:
    rows = csv_of(run(*arguments.split(), "--format", "csv"))
    goldens = {}
    for named, stem in runs.items():
        with (GOLDEN / f"{stem}.csv").open() as file:
            goldens[named] = list(csv.DictReader(file))
    number_of_epochs = int(arguments.split()[-1])
    places = [(epoch, named) for epoch in range(number_of_epochs) for named in runs]
    assert len(rows) == len(places)
    for row, (epoch, named) in zip(rows, places):
        golden = goldens[named][epoch]
        counts = [int(count) for count in golden["predicted"].split()]
        digit = counts.index(max(counts))
        cost = float(row["cost"])
        assert list(row) == SETTINGS + FIGURES
        assert [row[name] for name in SETTINGS] == named.split(" ")
        assert [row["epoch"], row["correct"], row["total"], row["top_digit"], row["top_count"]] == [
            str(epoch),
            golden["correct"],
            "10000",
            str(digit),
            str(max(counts)),
        ]
        assert math.isfinite(cost)
        if math.isfinite(float(golden["cost"])):  # The question's formula overflows.
            assert cost == pytest.approx(float(golden["cost"]), rel=1e-9, abs=0)


def test_the_weights_of_the_output_layer_are_a_cause_of_their_own(run: Run) -> None:
    """The hidden layer's are on both sides of 0 in all three; w3 is positive in all three."""
    arguments = "--hidden 30 --buggy-prime --init rand-0.5,rand --every 30"
    scales = "--init-scale 1 --init-scale 1,fan-in --init-scale fan-in,1"
    text = printed(run(*arguments.split(), *scales.split()))
    ends = blocks_of(text)[-1][1:]
    correct = [name_and_figures(line, 6)[3] for line in ends[:3]]
    assert correct == ["1152", "6092", "1135"]


@pytest.mark.parametrize(
    ("together", "alone"),
    [
        (
            "--hidden 7 --init-scale fan-in --eta 3 --buggy-prime --fixed-prime --batch-size 20 "
            "--batch-size 50 --seed 5",
            [
                "--hidden 7 --init-scale fan-in --eta 3 --buggy-prime --batch-size 20 --seed 5",
                "--hidden 7 --init-scale fan-in --eta 3 --buggy-prime --seed 5",
                "--hidden 7 --init-scale fan-in --eta 3 --batch-size 20 --seed 5",
                "--hidden 7 --init-scale fan-in --eta 3 --seed 5",
            ],
        ),
        (
            "--hidden 4 --init randn,rand --init rand --init-scale 0.5 --init-scale 0.1,fan-in "
            "--batch-size 7 --seed 1 --seed 2 --one-at-a-time --dtype float32",
            [
                "--hidden 4 --init randn,rand --init-scale 0.5 --batch-size 7 --seed 1 "
                "--dtype float32",
                "--hidden 4 --init randn,rand --init-scale 0.5 --batch-size 7 --seed 2 "
                "--dtype float32",
                "--hidden 4 --init rand --init-scale 0.5 --batch-size 7 --seed 1 --dtype float32",
                "--hidden 4 --init rand --init-scale 0.5 --batch-size 7 --seed 2 --dtype float32",
                "--hidden 4 --init randn,rand --init-scale 0.1,fan-in --batch-size 7 --seed 1 "
                "--dtype float32",
                "--hidden 4 --init randn,rand --init-scale 0.1,fan-in --batch-size 7 --seed 2 "
                "--dtype float32",
            ],
        ),
    ],
)
def test_a_run_has_the_same_numbers_alone_and_in_a_comparison(
    together: str, alone: list[str], run_small: Run
) -> None:
    common = ["--epochs", 3, "--format", "csv"]
    rows = csv_of(run_small(*together.split(), *common))
    assert len(rows) == 3 * len(alone)
    for number, arguments in enumerate(alone):
        assert csv_of(run_small(*arguments.split(), *common)) == rows[number :: len(alone)]


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        ("--batch-size 50 --batch-size 99", ""),
        ("--seed 0 --seed 0", ""),
        ("--eta 0.5 --eta 0.50", ""),
        ("--init rand", ""),
        ("--init rand,rand", ""),
        ("--init-scale 1.0,1", ""),
        ("--hidden 3 --init rand-0.5,rand-0.5 --init rand-0.5", "--hidden 3 --init rand-0.5"),
        ("--hidden 3 --init-scale fan-in,fan-in", "--hidden 3 --init-scale fan-in"),
        ("--hidden 3 --init-scale 1.0,2e0 --init-scale 1,2", "--hidden 3 --init-scale 1,2"),
        ("--hidden 3 --fixed-prime --fixed-prime", "--hidden 3"),
        ("--eta 1 --one-at-a-time", "--eta 1"),
    ],
)
def test_what_is_the_same_is_one_run(arguments: str, same: str, run_small: Run) -> None:
    common = ["--epochs", 2, "--format", "csv"]
    rows = csv_of(run_small(*arguments.split(), *common))
    assert len(rows) == 2
    assert rows == csv_of(run_small(*same.split(), *common))


@pytest.mark.parametrize(
    "flags", ["", "--buggy-prime", "--fixed-prime", "--fixed-prime --buggy-prime"]
)
def test_each_derivative_alone_and_both(flags: str, run_small: Run) -> None:
    rows = csv_of(run_small("--hidden", 1, *flags.split(), "--epochs", 1, "--format", "csv"))
    expected = {
        "": ["fixed"],
        "--buggy-prime": ["buggy"],
        "--fixed-prime": ["fixed"],
        "--fixed-prime --buggy-prime": ["buggy", "fixed"],
    }
    assert [row["prime"] for row in rows] == expected[flags]


@pytest.mark.parametrize(("hidden", "epochs", "prime"), [(0, 100, ""), (1, 30, "fixed")])
def test_defaults_are_those_of_the_question(
    hidden: int, epochs: int, prime: str, run_small: Run
) -> None:
    arguments = []
    if hidden:
        arguments = ["--hidden", hidden]
    rows = csv_of(run_small(*arguments, "--format", "csv"))
    assert [row["epoch"] for row in rows] == [str(epoch) for epoch in range(epochs)]
    question = [str(hidden), prime, "rand", "1", "0.5", "50", "0", "float64"]
    assert [rows[0][name] for name in SETTINGS] == question
    # Those of the function are the same.
    settings = asdict(reproduce.Settings(hidden=hidden))
    assert settings.pop("prime") == "fixed"
    assert settings.pop("batch_size") is None
    for name, value in settings.items():
        assert rows[0][name] == str(value)


@pytest.mark.parametrize(
    "unknown",
    [
        {"prime": "bugy"},
        {"init": "zeros"},
        {"init": "rand,zeros", "hidden": 3},
        {"init": "rand,randn"},
        {"init": "rand,rand,rand", "hidden": 3},
        {"init_scale": "fanin"},
        {"init_scale": -1},
        {"init_scale": math.nan},
        {"init_scale": math.inf},
        {"init_scale": "1,-1", "hidden": 3},
        {"init_scale": "1,fan-in"},
        {"dtype": "float16"},
    ],
)
def test_settings_that_are_not_known_are_no_others(unknown: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        reproduce.Settings(**unknown)


# Which runs are made


OF_THE_ANSWER = (
    "--buggy-prime --fixed-prime --init rand --init rand-0.5 --init rand-0.5,rand "
    "--init rand,rand-0.5 --init-scale 1 --init-scale fan-in --init-scale 0.1 --eta 0.5 --eta 1 "
    "--eta 5 --batch-size 50 --batch-size 10 --hidden 30 --epochs 2 --one-at-a-time"
)
ONE_AT_A_TIME = [
    ("buggy", "rand", "1", "0.5", "50"),
    ("fixed", "rand", "1", "0.5", "50"),
    ("buggy", "rand-0.5", "1", "0.5", "50"),
    ("buggy", "rand-0.5,rand", "1", "0.5", "50"),
    ("buggy", "rand,rand-0.5", "1", "0.5", "50"),
    ("buggy", "rand", "fan-in", "0.5", "50"),
    ("buggy", "rand", "0.1", "0.5", "50"),
    ("buggy", "rand", "1", "1.0", "50"),
    ("buggy", "rand", "1", "5.0", "50"),
    ("buggy", "rand", "1", "0.5", "10"),
]


@pytest.mark.parametrize("seeds", [["0"], ["3", "1"]])
def test_one_at_a_time_changes_one_setting_in_each_run(seeds: list[str], run_small: Run) -> None:
    arguments = OF_THE_ANSWER.split()
    for seed in seeds:
        arguments += ["--seed", seed]
    expected = []
    for changed in ONE_AT_A_TIME:
        expected += [(*changed, seed) for seed in seeds]
    rows = csv_of(run_small(*arguments, "--format", "csv"))
    made = []
    for row in rows:
        made.append(tuple(row[name] for name in SETTINGS[1:7]))
    assert made == expected * 2  # epochs


def test_all_combinations_are_made_in_the_order_given(run_small: Run) -> None:
    arguments = (
        "--seed 4 --seed 3 --init-scale 1 --init-scale 0.2 --init-scale 1,fan-in --init randn "
        "--init rand --buggy-prime --fixed-prime --hidden 3 --epochs 1 --format csv"
    )
    made = []
    for row in csv_of(run_small(*arguments.split())):
        made.append((row["prime"], row["init"], row["init_scale"], row["seed"]))
    scales = ["1", "0.2", "1,fan-in"]
    primes = ["buggy", "fixed"]
    assert made == list(itertools.product(primes, ["randn", "rand"], scales, ["4", "3"]))


# The figures, in all formats


def shown_cost(cost: float, digits: int) -> str:
    """Return a cost as the tables show it, but for how many digits large ones have."""
    if cost < 1000:
        return f"{cost:.{digits}f}"
    return f"{cost:.3e}"


def predicted_by(row: Row, epochs: int) -> list[int]:
    """Return how often each digit is predicted by a run of the CSV, made by the functions."""
    training, test = reproduce.load_images(SMALL)
    values: dict[str, Any] = {name: row[name] for name in SETTINGS}
    for name in ("hidden", "batch_size", "seed"):
        values[name] = int(values[name])
    values["eta"] = float(values["eta"])
    values["prime"] = values["prime"] or "fixed"
    run = reproduce.Run(reproduce.Settings(**values))
    for _ in range(epochs):
        reproduce.train_epoch(run, training, test)
    return run.epochs[-1].predicted


def end_of(rows: list[Row], repeated: bool) -> Cells:
    """Return what a table says of the last epoch of a run, or of those of several seeds."""
    epochs = int(rows[0]["epoch"]) + 1
    steps = epochs * math.ceil(50 / int(rows[0]["batch_size"]))
    mean_cost = math.fsum(float(row["cost"]) for row in rows) / len(rows)
    correct = [int(row["correct"]) for row in rows]
    total = int(rows[0]["total"])
    predicted = np.sum([predicted_by(row, epochs) for row in rows], axis=0)
    assert max(predicted) <= sum(int(row["top_count"]) for row in rows)
    digit = int(predicted.argmax())
    cells = [str(steps), shown_cost(mean_cost, 6)]
    if repeated:
        cells += [f"{min(correct) / total:.2%}", f"{max(correct) / total:.2%}"]
    else:
        cells.append(str(correct[0]))
    cells.append(f"{sum(correct) / total / len(rows):.2%}")
    return [*cells, str(digit), f"({predicted[digit] / predicted.sum():.2%})"]


def runs_of(rows: list[Row]) -> int:
    return len([row for row in rows if row["epoch"] == "0"])


ABREAST = {
    "--batch-size 7 --seed 1 --seed 2 --epochs 3": 2,
    "--hidden 5 --init randn --init rand --init rand-0.5,rand --epochs 2": 3,
    "--hidden 3 --buggy-prime --fixed-prime --batch-size 9 --batch-size 50 --epochs 2": 4,
    "--hidden 3 --eta 1e3 --eta 1 --epochs 6": 2,
    "--hidden 3 --init-scale 1e90 --init randn --init rand-0.5 --epochs 2": 2,
    "--hidden 3 --eta 1 --eta 2 --seed 0 --seed 1 --one-at-a-time --epochs 2": 4,
    "--hidden 3 --eta 1 --eta 2 --batch-size 50 --batch-size 8 --one-at-a-time --epochs 2": 3,
}


@pytest.mark.parametrize("arguments", ["--hidden 5 --epochs 4", "--init-scale 30 --epochs 9"])
def test_the_figures_of_one_run(arguments: str, run_small: Run) -> None:
    text = printed(run_small(*arguments.split()))
    rows = csv_of(run_small(*arguments.split(), "--format", "csv"))
    expected = []
    for row in rows:
        *_, accuracy, digit, share = end_of([row], False)
        cost = shown_cost(float(row["cost"]), 6)
        expected.append([row["epoch"], cost, row["correct"], accuracy, digit, share])
    _, table = blocks_of(text)
    assert [line.split() for line in table[1:-1]] == expected
    # All labels: the entropy of the digits in the training data, and the commonest of them.
    assert table[-1].split()[1:] == ["3.212590", "2", "20.00%", "1", "(100.00%)"]


@pytest.mark.parametrize(("arguments", "runs"), ABREAST.items())
def test_the_figures_of_two_to_four_runs(arguments: str, runs: int, run_small: Run) -> None:
    text = printed(run_small(*arguments.split()))
    rows = csv_of(run_small(*arguments.split(), "--format", "csv"))
    assert runs_of(rows) == runs
    _, key, by_epoch, ends = blocks_of(text)
    letters = list("ABCD"[:runs])
    assert [item[:3] for item in list_of(key)] == [f"{letter}: " for letter in letters]
    check_names([item[3:] for item in list_of(key)], rows[:runs])

    expected = []
    for start in range(0, len(rows), runs):
        cells = [rows[start]["epoch"]]
        for row in rows[start : start + runs]:
            cells += [shown_cost(float(row["cost"]), 4), row["correct"]]
        expected.append(cells)
    assert [line.split() for line in by_epoch[1:]] == expected

    expected = []
    for letter, row in zip(letters, rows[-runs:]):
        expected.append([letter, *end_of([row], False)])
    assert [line.split() for line in ends[1:-1]] == expected
    assert ends[-1].split()[1:] == ["3.212590", "2", "20.00%", "1", "(100.00%)"]


MORE = {
    "--hidden 5 --buggy-prime --fixed-prime --init randn,rand --init rand --init rand-0.5 "
    "--epochs 2": 1,
    "--batch-size 1 --batch-size 3 --batch-size 10 --batch-size 49 --batch-size 50 --epochs 3": 1,
    "--seed 0 --seed 1 --seed 2 --seed 3 --seed 4 --epochs 2": 5,
    "--eta 1 --eta 3 --seed 2 --seed 0 --seed 1 --init rand-0.5 --batch-size 7 --epochs 2": 3,
    f"{OF_THE_ANSWER} --seed 0": 1,
    f"{OF_THE_ANSWER} --seed 0 --seed 1 --seed 2": 3,
}


@pytest.mark.parametrize(("arguments", "seeds"), MORE.items())
def test_of_more_than_four_runs_how_they_end(arguments: str, seeds: int, run_small: Run) -> None:
    text = printed(run_small(*arguments.split()))
    rows = csv_of(run_small(*arguments.split(), "--format", "csv"))
    runs = runs_of(rows)
    assert runs > 4
    _, ends = blocks_of(text)
    expected = []
    for start in range(len(rows) - runs, len(rows), seeds):
        expected.append(end_of(rows[start : start + seeds], seeds > 1))
    figures = len(expected[0])
    lines = [name_and_figures(line, figures) for line in ends[1:-1]]
    assert [cells[1:] for cells in lines] == expected
    check_names([cells[0] for cells in lines], rows[:runs:seeds])
    baseline = ["3.212590", "20.00%", "20.00%", "20.00%", "1", "(100.00%)"]
    if seeds == 1:
        baseline[1:3] = ["2"]
    assert ends[-1].split()[1:] == baseline


def check_names(names: list[str], rows: list[Row]) -> None:
    """Check that each name says where the run of its row differs from the others, or the first."""
    assert len(names) == len(rows)
    assert len(set(names)) == len(names)
    for name, row in zip(names, rows):
        said = re.findall(r"--(\S+?)(?:-prime| (\S+))", name)
        for option, value in said:
            if value:
                assert row[option.replace("-", "_")] in (value, f"{value}.0")
            else:
                assert row["prime"] == option
        named = {option.replace("-", "_") for option, value in said if value}
        if len(named) < len(said):
            named.add("prime")
        for setting in SETTINGS:
            if setting not in named:
                assert row[setting] == rows[0][setting]


LARGE = {
    "--hidden 30 --init-scale 10 --epochs 9": [4, 7],
    "--hidden 30 --init-scale 10 --eta 0.5 --eta 3 --seed 0 --seed 1 --epochs 9": [9, 4, 7],
    "--hidden 3 --init-scale 1e150 --eta 1 --eta 3 --init rand-0.5 --init randn": [9, 4, 7],
    "--hidden 3 --init-scale 1e150 --eta 1 --eta 2 --eta 3 --seed 0 --seed 1": [5, 7],
}


@pytest.mark.parametrize(("arguments", "columns"), LARGE.items())
def test_large_numbers_stay_in_their_columns(
    arguments: str, columns: list[int], run_small: Run
) -> None:
    """The cost falls from thousands; no run of the question's has more than three digits."""
    text = printed(run_small("--epochs", 2, *arguments.split(), "--diagnose"))
    assert "e+" in text
    tables = [block for block in blocks_of(text) if block[0][0] in " e"]
    for table, count in zip(tables, columns, strict=True):
        if count in (4, 5):
            table.pop()  # the baseline, which has no steps
        places = set()
        for line in table[1:]:
            numbers = re.sub(r" \d \(.+", "", line)
            ends = [match.end() for match in re.finditer(r"\S+", numbers)]
            assert len(ends) >= count
            places.add(tuple(ends[-count:]))
        # With exponents of three digits it is enough that they do not touch.
        assert len(places) == 1 or "1e150" in arguments


@pytest.mark.parametrize("runs", [["--seed", 0], ["--seed", 0, "--seed", 1]])
@pytest.mark.parametrize(
    ("every", "epochs", "expected"),
    [(1, 3, [0, 1, 2]), (2, 5, [0, 2, 4]), (2, 6, [0, 2, 4, 5]), (9, 4, [0, 3]), (9, 1, [0])],
)
def test_every_shows_each_nth_epoch_the_first_and_the_last(
    every: int, epochs: int, expected: list[int], runs: list[object], run_small: Run
) -> None:
    arguments = [*runs, "--every", every, "--epochs", epochs]
    text = printed(run_small(*arguments))
    shown = []
    for line in text.splitlines():
        match = re.match(r" *(\d+) ", line)
        if match:
            shown.append(int(match[1]))
    assert shown == expected


# Lines of 80 columns

VALUES = {
    "--init": ["rand", "rand-0.5", "randn", "rand-0.5,rand"],
    "--init-scale": ["1", "fan-in", "0.1,fan-in", "0.012345678901234567", "1e-05"],
    "--eta": ["0.5", "3", "0.1", "0.987654321012345", "1.2345678901234567e-05"],
    "--batch-size": ["50000", "10", "7", "25", "49"],
    "--seed": ["0", "1", "2", "20", "4294967295"],
}


@st.composite
def comparisons(draw: st.DrawFn) -> list[str]:
    """Return a valid command line of at most 16 runs."""
    arguments = ["--hidden", "5", "--epochs", str(draw(st.integers(1, 4)))]
    most = 16
    for option, values in VALUES.items():
        chosen = draw(
            st.lists(st.sampled_from(values), min_size=1, max_size=min(most, 3), unique=True)
        )
        most //= len(chosen)
        for value in chosen:
            arguments += [option, value]
    flags = ["--buggy-prime", "--one-at-a-time", "--diagnose"]
    if most > 1:
        flags.append("--fixed-prime")
    return arguments + draw(st.lists(st.sampled_from(flags), unique=True))


@settings(max_examples=60)
@given(arguments=comparisons())
def test_any_comparison_fits_into_80_columns_and_can_be_had_again(arguments: list[str]) -> None:
    shown = ["--diagnose"] * ("--diagnose" in arguments)
    data = ["--data", str(SMALL)]
    text = printed(runner().invoke(reproduce.main, data + arguments))
    head, *blocks = text.split("\n\n")
    assert set(command_in(head)) >= {"--hidden", "--epochs", "--dtype", *VALUES}
    assert printed(runner().invoke(reproduce.main, command_in(head) + shown)) == text
    assert text.isascii()
    letters = re.findall(r"^([A-Z]): ", blocks[0], re.M)
    assert letters == list("ABCD"[: len(letters)])
    rows = csv_of(runner().invoke(reproduce.main, [*command_in(head), "--format", "csv"]))
    if 1 < runs_of(rows) <= 4:
        assert len(letters) == runs_of(rows)
    else:
        assert letters == []
    lines = text.splitlines()
    lines.remove(head.splitlines()[-1])
    for line in lines:
        assert line == line.rstrip()
        assert len(line) <= 80 or runs_of(rows) > 4
    if shown:
        check_findings(text, rows)


# Runs that go astray


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    "network", ["--hidden 0", "--hidden 5", "--hidden 5 --buggy-prime", "--batch-size 7"]
)
@pytest.mark.parametrize("cause", ["--eta 1e300", "--eta 1e30", "--init-scale 1e300"])
def test_a_run_that_diverges_says_where(
    cause: str, network: str, dtype: str, run_small: Run
) -> None:
    arguments = [*cause.split(), *network.split(), "--dtype", dtype]
    result = run_small(*arguments)
    if cause == "--eta 1e30" and dtype == "float64":
        printed(result)  # far from overflow
        return
    match = re.match(r"Error: epoch (\d): ", error_of(result, 1))
    assert match
    table = blocks_of(result.stdout)[1]
    assert len(table) == 1 + int(match[1]) < 3  # Those before it are printed.
    assert "nan" not in result.stdout
    rows = run_small(*arguments, "--format", "csv")
    assert (rows.exit_code, rows.stderr) == (1, result.stderr)
    assert len(rows.stdout.splitlines()) == len(table)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--eta 0.5 --eta 1e300", "B"),
        ("--eta 0.5 --eta 1e300 --seed 0 --seed 1 --seed 2", "--eta 1e+300 --seed 0"),
    ],
)
def test_which_of_several_runs_diverges(arguments: str, named: str, run_small: Run) -> None:
    assert f"epoch 0 of {named}: " in error_of(run_small(*arguments.split()), 1)


@pytest.mark.parametrize("kind", ["missing", "truncated", "empty"])
def test_bad_data_is_one_line_and_status_1(kind: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mnist.pkl.gz"
    if kind == "truncated":
        path.write_bytes(SMALL.read_bytes()[:5000])
    elif kind == "empty":
        path.mkdir()
    result = run("--data", path)
    assert str(path) in error_of(result, 1)
    assert result.stdout == ""


# The diagnosis


def figures_of(text: str) -> dict[str, list[tuple[float, ...]]]:
    """Return what is measured of each run, before and after, by its name; the error is in %."""
    figures: dict[str, list[tuple[float, ...]]] = {}
    *_, table, _, _ = blocks_of(text)
    for number, line in enumerate(table[1:]):
        label, *cells = name_and_figures(line, 7)
        assert cells[6].endswith("%")
        name, _, when = label.rpartition(" ")
        assert when == ["before", "after"][number % 2]
        values = [float(cell) for cell in [*cells[:6], cells[6][:-1]]]
        figures.setdefault(name, []).append(tuple(values))
    return figures


def findings_of(text: str) -> dict[str, str]:
    """Return what is said of each run, by its name."""
    _, *items = list_of(blocks_of(text)[-1])
    findings = {}
    for item in items:
        name, _, found = item.rpartition(": ")
        findings[name] = found.strip()
    return findings


def check_findings(text: str, rows: list[Row]) -> None:
    """Check that of each run what the figures and the costs say is said, and nothing else."""
    figures = figures_of(text)
    findings = findings_of(text)
    runs = runs_of(rows)
    assert list(findings) == list(figures)
    assert len(findings) == runs
    for number, (name, found) in enumerate(findings.items()):
        before, after = figures[name]
        for value in (*before, *after):
            assert math.isfinite(value)
        costs = [float(row["cost"]) for row in rows[number::runs]][-4:]
        expected = []
        when = [word for word, its in (("before", before), ("after", after)) if its[2] < 0.01]
        if when:
            expected.append(f"{' and '.join(when)} .* puts out the same for every image")
        # A percent that is shown is rounded; a right derivative has none.
        error = max(before[6], after[6])
        if rows[number]["prime"] == "fixed":
            assert error <= 1
            assert "wrong" not in found
        if error > 1 or (error == 1 and "wrong" in found):
            expected.append(".*gradient is wrong")
        if costs[-1] < 0.99 * costs[0]:
            expected.append(".*falling.*")
        if costs[-1] > 1.01 * costs[0]:
            expected.append(".*rising.*")
        assert re.fullmatch("; ".join(expected) or "none .*", found), found


FINDINGS = {
    "--init rand-0.5 --eta 1e-3": "none .*",
    "--init rand-0.5 --eta 1e-3 --buggy-prime": ".*gradient is wrong",
    "--init rand-0.5 --batch-size 10 --eta 0.01": ".*falling .*",
    "--init rand-0.5 --batch-size 10 --eta 0.01 --buggy-prime": ".*gradient is wrong; .*falling.*",
    "--init rand-0.5 --eta 20 --hidden 30": ".*rising.*",
    "--init rand-0.5 --eta 20": "after .* the same for every image; .*rising.*",
    "--init-scale fan-in --batch-size 5 --hidden 1": "after .* the same for every image",
    "--init-scale 1e-3 --batch-size 1": "before .* the same for every image; .*falling.*",
    "--init-scale 1e-3 --epochs 1": "before and after .* the same for every image",
    "--buggy-prime --eta 1": "before .* the same for every image; .*gradient is wrong",
}


@pytest.mark.parametrize(("arguments", "expected"), FINDINGS.items())
def test_findings(arguments: str, expected: str, run_small: Run) -> None:
    line = ["--hidden", 5, "--epochs", 6, *arguments.split()]
    text = printed(run_small(*line, "--diagnose"))
    check_findings(text, csv_of(run_small(*line, "--format", "csv")))
    assert re.fullmatch(expected, findings_of(text)[""])


@pytest.mark.parametrize(
    "arguments",
    [
        "--init-scale 0",
        "--init-scale 1e6",
        "--init-scale 1e150",
        "--init rand-0.5 --init-scale 1e150",
        "--eta 1e3",
        "--init rand-0.5 --eta 1e3",
        "--eta 1e30",
        "--dtype float32",
        "--init rand-0.5,randn --init-scale 1e18 --dtype float32",
        "--init rand-0.5,randn --init-scale 0.1,1e4 --seed 2",
        "--batch-size 1",
        "--init randn --eta 30 --batch-size 1",
    ],
)
@pytest.mark.parametrize("hidden", [1, 30, 784])
def test_nothing_untrue_is_said_of_degenerate_runs(
    arguments: str, hidden: int, run_small: Run
) -> None:
    """Gradients of exactly 0, no variation at all, activations of exactly 1, huge costs."""
    line = [*arguments.split(), "--hidden", hidden, "--buggy-prime", "--fixed-prime", "--epochs"]
    line.append(1 if hidden == 784 else 4)
    text = printed(run_small(*line, "--diagnose"))
    check_findings(text, csv_of(run_small(*line, "--format", "csv")))


# Data


def test_the_same_images_give_the_same_rows_from_any_file(
    mnist: mnist_loader.Data, run: Run, tmp_path: Path
) -> None:
    """The three pickles of Python 2, and IDX files of the same first images of MNIST."""
    write_idx(tmp_path, mnist, 60, 10)
    sources = [tmp_path]
    for protocol in range(3):
        sources.append(SMALL.with_name(f"nielsen_protocol{protocol}.pkl.gz"))
    arguments = ["--hidden", 30, "--buggy-prime", "--epochs", 9, "--format", "csv"]
    outputs = [printed(run(*arguments, "--data", source)) for source in sources]
    assert len(outputs[0].splitlines()) == 10
    assert outputs == [outputs[0]] * 4


# The command line

USAGE_ERRORS = {
    "--hidden -1": ("--hidden", "-1"),
    "--hidden 2.5": ("--hidden", "'2.5' is not a valid whole number"),
    "--hidden many": ("--hidden", "'many'"),
    "--hidden 30,10": ("--hidden", "'30,10' is not a valid whole number"),
    "--hidden 10001": ("--hidden", "10001"),
    "--epochs 0": ("--epochs", "0"),
    "--epochs -3": ("--epochs", "-3"),
    "--epochs 1e2": ("--epochs", "'1e2' is not a valid whole number"),
    "--every 0": ("--every", "0"),
    "--eta 0": ("--eta", "0"),
    "--eta -1": ("--eta", "-1"),
    "--eta nan": ("--eta", "'nan'"),
    "--eta inf": ("--eta", "'inf'"),
    "--eta 1e999": ("--eta", "'1e999'"),
    "--eta fan-in": ("--eta", "'fan-in'"),
    "--eta 0,5": ("--eta", "'0,5' is not a valid number"),
    "--eta 0.5 0.1": ("argument", "0.1"),
    "--init-scale -1": ("--init-scale", "-1"),
    "--init-scale nan": ("--init-scale", "'nan'"),
    "--init-scale inf": ("--init-scale", "'inf'"),
    "--init-scale fanin": ("--init-scale", "'fanin'"),
    "--hidden 3 --init-scale 1,two": ("--init-scale", "'two'"),
    "--hidden 3 --init-scale 1,-2": ("--init-scale", "-2"),
    "--hidden 3 --init-scale 1,": ("--init-scale", "''"),
    "--hidden 3 --init-scale 1,2,3": ("--init-scale", "'1,2,3'"),
    "--init-scale 1,fan-in": ("1,fan-in", "--hidden"),
    "--init zeros": ("--init", "'zeros'"),
    "--init fan-in": ("--init", "'fan-in'"),
    "--hidden 3 --init rand,Rand": ("--init", "'Rand'"),
    "--hidden 3 --init rand,rand,rand": ("--init", "'rand,rand,rand'"),
    "--init rand-0.5,rand": ("rand-0.5,rand", "--hidden"),
    "--batch-size 0": ("--batch-size", "0"),
    "--batch-size -1": ("--batch-size", "-1"),
    "--batch-size 1.5": ("--batch-size", "'1.5'"),
    "--batch-size ten": ("--batch-size", "'ten'"),
    "--seed -1": ("--seed", "-1"),
    "--seed 4294967296": ("--seed", "4294967296"),
    "--buggy-prime": ("--buggy-prime", "--hidden"),
    "--fixed-prime": ("--fixed-prime", "--hidden"),
    "--buggy-prime --fixed-prime": ("--buggy-prime", "--hidden"),
    "--diagnose": ("--diagnose", "--hidden"),
    "--hidden 3 --diagnose --format csv": ("--diagnose", "csv"),
    "--format yaml": ("--format", "'yaml'"),
    "--dtype float16": ("--dtype", "'float16'"),
    "--plot curves.gif": ("--plot", "curves.gif"),
    "--plot curves": ("--plot", "curves"),
    "--plot nowhere/curves.png": ("--plot", "nowhere"),
    "--plot .": ("--plot", "."),
    "--wrong": ("option", "--wrong"),
    "stray": ("argument", "stray"),
}


@pytest.mark.parametrize(("arguments", "named"), USAGE_ERRORS.items())
def test_a_wrong_command_line(
    arguments: str,
    named: tuple[str, str],
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    error = error_of(run(*arguments.split()), 2)
    for word in named:
        assert word in error
    assert list(tmp_path.iterdir()) == []


def test_help_describes_every_option(run: Run) -> None:
    text = printed(run("-h"))
    assert text == printed(run("--help"))
    assert text.startswith("Usage: ")
    for line in text.splitlines():
        assert len(line) <= 80
    described = {}
    for entry in re.split(r"^  (?=-)", text.split("Options:\n")[1], flags=re.M)[1:]:
        names, description = re.split(r"\s{2,}", entry, maxsplit=1)
        described[names.split()[-1 if names.startswith("-h") else 0]] = description
    options = {"--help"}
    for parameter in reproduce.main.params:
        options.add(parameter.opts[0])
    assert set(described) == options
    for description in described.values():
        assert len(description.split()) > 2
    repeatable = [name for name, description in described.items() if description[0] == "*"]
    assert repeatable == ["--buggy-prime", "--fixed-prime", *VALUES]


def test_version_is_that_of_the_package(run: Run) -> None:
    assert printed(run("--version")).split()[-1] == reproduce.__version__


whole = ["--hidden", "--seed", "--every", "--batch-size"]
real = ["--init-scale", "--eta"]
odd = ["-2", "1e300", "1e-300", "4294967296", "0.5", "nan", "0x10", "", "½", ",", "1,2"]
words = {
    "--epochs": ["1", "2", "4", "one"],
    "--init": ["rand", "rand-0.5", "randn", "Rand", "randn,rand", "rand,,rand"],
    "--init-scale": ["fan-in", "0", "0.1", "Fan-in", "fan-in,0", "1,1.0"],
    "--dtype": ["float64", "float32", "int"],
    "--format": ["table", "markdown", "csv", "html"],
}
flags = st.one_of(
    st.tuples(st.sampled_from(whole), st.integers(1, 12).map(str)),
    st.tuples(st.sampled_from(real), st.floats(0, width=32, exclude_min=True).map(str)),
    st.tuples(st.sampled_from(whole + real), st.sampled_from(odd)),
    st.sampled_from(list(words)).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(words[name]))
    ),
    st.tuples(st.sampled_from(["--buggy-prime", "--fixed-prime", "--one-at-a-time", "word"])),
    st.just(("--hidden", "5", "--diagnose")),
)


@settings(max_examples=100)
@given(arguments=st.lists(flags, max_size=5))
def test_any_command_line_runs_or_ends_in_one_error_line(arguments: list[tuple[str, ...]]) -> None:
    line = ["--data", str(SMALL), "--epochs", "3", *itertools.chain(*arguments)]
    result = runner().invoke(reproduce.main, line)
    if result.exit_code == 0:
        assert printed(result).isascii()
        assert not re.search(r"\bnan\b", result.stdout)
    else:
        error_of(result, result.exit_code)
        assert result.exit_code in (1, 2)


# Pictures

NINE = "--init rand --init rand-0.5 --init randn --init-scale 1e4 --init-scale 0.1 --init-scale 0"
HEADS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


def texts_of(svg: bytes) -> list[str]:
    """Return what is written in a picture: matplotlib has it in comments, beside the shapes."""
    comments = re.findall(r"<!-- (.+?) -->", svg.decode())
    return [comment.replace("- -", "--") for comment in comments]


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "--hidden 5",
        "--hidden 5 --buggy-prime --fixed-prime",
        "--eta 1 --eta 2 --seed 0 --seed 1",
        "--hidden 5 --eta 1 --eta 2 --seed 0 --seed 1 --seed 2 --one-at-a-time",
        "--eta 1 --eta 2 --eta 3 --init randn --init rand,rand --init rand-0.5",
    ],
)
def test_what_is_written_in_a_picture(arguments: str, run_small: Run, tmp_path: Path) -> None:
    path = tmp_path / "curves.svg"
    drawn = [*arguments.split(), "--epochs", 3]
    text = printed(run_small(*drawn, "--plot", path))
    assert text == printed(run_small(*drawn))
    picture = path.read_bytes()
    texts = texts_of(picture)
    has_z2 = "--hidden" in arguments
    assert picture.count(b'id="axes_') == 2 + has_z2
    assert len([label for label in texts if "baseline" in label]) == 2
    assert texts.count("sigmoid") == has_z2
    assert texts.count("epoch") == 2
    for words in ("cost", "accuracy in %", "z2 before the training")[: 2 + has_z2]:
        assert [label for label in texts if label.startswith(words)]
    # The legend calls the runs what the text calls them.
    _, *blocks = blocks_of(text)
    legend = []
    if len(blocks) == 3:
        legend = list_of(blocks[0])
    elif "--eta" in arguments:
        for line in blocks[0][1:-1]:
            legend.append(re.split(r"\s{2,}", line)[0])
    assert texts[len(texts) - len(legend) :] == legend
    assert bool(legend) is (arguments not in ("", "--hidden 5"))


@pytest.mark.parametrize(
    ("arguments", "suffix"),
    [
        ("--eta 1e4 --epochs 20", ".PNG"),  # The cost ends at exactly 0.
        ("--hidden 5 --init-scale 0", ".png"),
        ("--hidden 5 --init-scale 1e150", ".png"),
        ("--hidden 1 --batch-size 1 --dtype float32 --epochs 1", ".pdf"),
        (f"{NINE} --hidden 5 --eta 1e9", ".png"),
    ],
)
def test_degenerate_runs_are_drawn(
    arguments: str, suffix: str, run_small: Run, tmp_path: Path
) -> None:
    path = tmp_path / f"curves{suffix}"
    printed(run_small("--epochs", 3, *arguments.split(), "--plot", path))
    assert path.read_bytes().startswith(HEADS[suffix.lower()])


def test_a_name_with_dollars_is_no_formula(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "a$x_{$b.gz"
    shutil.copy(SMALL, data)
    arguments = ["--hidden", 3, "--epochs", 1, "--eta", 1, "--eta", 2]
    printed(run("--data", data, *arguments, "--plot", tmp_path / "curves.svg"))


@pytest.mark.parametrize("version", [None, "3.6.3", "2.2.5"])
def test_plot_without_a_matplotlib_says_how_to_install_it(
    version: str | None, run_small: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def its_version(name: str) -> str:
        assert name == "matplotlib"
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", its_version)
    error = error_of(run_small("--plot", tmp_path / "curves.png"), 2)
    assert "matplotlib" in error
    assert (version or "") in error
    assert "pip install" in error
    assert list(tmp_path.iterdir()) == []
