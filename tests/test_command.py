"""The command, as its user meets it."""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from conftest import runner
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import mnist_loader
import reproduce

HERE = Path(__file__).resolve().parent
SMALL = HERE / "fixtures" / "nielsen_protocol2.pkl.gz"
Run = Callable[..., Result]
Table = list[list[str]]


def printed(result: Result) -> str:
    """Return what a run printed that ended well."""
    assert result.exit_code == 0, result.stderr or repr(result.exception)
    assert result.stderr == ""
    return result.stdout


def csv_of(result: Result) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(printed(result))))


def command_in(text: str) -> str:
    [command] = re.findall(r"^ *(python reproduce\.py .+)$", text, re.M)
    return str(command)


def title_of(text: str) -> str:
    return " ".join(text.split("python reproduce.py")[0].split())


def table_with(heading: str, text: str) -> list[str]:
    """Return the lines of the plain table that has a heading, from its headings on."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if heading in line and "python" not in line)
    end = lines.index("", start) if "" in lines[start:] else len(lines)
    return lines[start:end]


def cells_of(line: str) -> list[str]:
    return re.findall(r"\d \(\d+ of \d+\)|\S+", line)


# Reports


def test_the_report_of_one_run_can_be_had_again_by_its_command(run: Run) -> None:
    text = printed(run("--hidden", 30, "--buggy-prime", "--epochs", 2))
    assert text == (
        "784-30-10 sigmoid network, 50,000 MNIST images, cross-entropy, full-batch\n"
        "python reproduce.py --hidden 30 --buggy-prime --init rand --init-scale 1 --seed 0 "
        "--eta 0.5 --batch-size 50000 --dtype float64 --epochs 2\n"
        "\n"
        "epoch        cost  correct  accuracy  most predicted\n"
        "    0  131.034130     1135    11.35%  1 (10000 of 10000)\n"
        "    1   15.265121      958     9.58%  6 (10000 of 10000)\n"
        "\n"
        "          steps  first cost   last cost  correct  accuracy  most predicted\n"
        "              2  131.034130   15.265121      958     9.58%  6 (10000 of 10000)\n"
        " baseline                      3.249079     1135    11.35%  1 (10000 of 10000)\n"
    )
    assert printed(run(*shlex.split(command_in(text))[2:])) == text


def test_the_report_of_four_runs_has_a_key(run: Run) -> None:
    primes, inits = ["--buggy-prime", "--fixed-prime"], ["--init", "rand", "--init", "rand-0.5"]
    text = printed(run("--hidden", 30, *primes, *inits, "--epochs", 1))
    assert text == (
        "784-30-10 sigmoid network, 50,000 MNIST images, cross-entropy, full-batch\n"
        "python reproduce.py --hidden 30 --buggy-prime --fixed-prime --init rand --init rand-0.5 "
        "--init-scale 1 --seed 0 --eta 0.5 --batch-size 50000 --dtype float64 --epochs 1\n"
        "\n"
        "A: --buggy-prime --init rand\n"
        "B: --buggy-prime --init rand-0.5\n"
        "C: --fixed-prime --init rand\n"
        "D: --fixed-prime --init rand-0.5\n"
        "\n"
        "                      A                 B                 C                 D\n"
        "epoch      cost correct      cost correct      cost correct      cost correct\n"
        "    0 131.03413    1135   6.90597    1058 131.03413    1135   6.90597    1012\n"
        "\n"
        "          steps  first cost   last cost  correct  accuracy  most predicted\n"
        "        A     1  131.034130  131.034130     1135    11.35%  1 (10000 of 10000)\n"
        "        B     1    6.905971    6.905971     1058    10.58%  8 (3934 of 10000)\n"
        "        C     1  131.034130  131.034130     1135    11.35%  1 (10000 of 10000)\n"
        "        D     1    6.905971    6.905971     1012    10.12%  8 (2957 of 10000)\n"
        " baseline                      3.249079     1135    11.35%  1 (10000 of 10000)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "batches"),
    [
        ("", ", full-batch"),
        ("--batch-size 50", ", full-batch"),
        ("--batch-size 51 --hidden 2", ", full-batch"),
        ("--batch-size 50 --batch-size 99", ", full-batch"),
        ("--batch-size 49", ", mini-batches of 49"),
        ("--batch-size 10 --eta 1 --eta 2", ", mini-batches of 10"),
        ("--batch-size 10 --batch-size 50", ""),
        ("--batch-size 1 --batch-size 2", ""),
    ],
)
def test_the_title_says_how_large_the_batches_are(
    arguments: str, batches: str, run_small: Run
) -> None:
    text = printed(run_small(*arguments.split(), "--epochs", 1))
    assert title_of(text).endswith(f", not the standard MNIST, cross-entropy{batches}")


def test_large_mini_batches_in_the_title(run: Run) -> None:
    text = printed(run("--batch-size", 25000, "--epochs", 1))
    assert title_of(text) == (
        "784-10 sigmoid network, 50,000 MNIST images, cross-entropy, mini-batches of 25,000"
    )
    assert cells_of(table_with("steps", text)[1])[0] == "2"


@pytest.mark.parametrize(
    "repeated",
    ["--batch-size 50 --batch-size 99", "--seed 0 --seed 0", "--eta 0.5 --eta 0.50", "--init rand"],
)
def test_what_is_asked_for_twice_is_one_run(repeated: str, run_small: Run) -> None:
    arguments = [*repeated.split(), "--epochs", 2, "--format", "csv"]
    assert printed(run_small(*arguments)) == printed(run_small(*arguments[-4:]))


@pytest.mark.parametrize(
    ("arguments", "epochs", "prime"),
    [
        ([], 100, ""),
        (["--hidden", 1], 30, "fixed"),
        (["--hidden", 2, "--buggy-prime"], 30, "buggy"),
    ],
)
def test_defaults_are_those_of_the_question(
    arguments: list[object], epochs: int, prime: str, run_small: Run
) -> None:
    rows = csv_of(run_small(*arguments, "--format", "csv"))
    assert [int(row["epoch"]) for row in rows] == list(range(epochs))
    assert list(rows[0].values())[1:8] == ["rand", "1", prime, "0.5", "50", "0", "float64"]


@pytest.mark.parametrize("runs", [["--seed", 0], ["--seed", 0, "--seed", 1]])
@pytest.mark.parametrize(
    ("every", "epochs", "expected"),
    [(1, 3, [0, 1, 2]), (2, 5, [0, 2, 4]), (2, 6, [0, 2, 4, 5]), (9, 4, [0, 3]), (9, 1, [0])],
)
def test_every_shows_each_nth_epoch_the_first_and_the_last(
    every: int, epochs: int, expected: list[int], runs: list[object], run_small: Run
) -> None:
    arguments = [*runs, "--every", every, "--epochs", epochs]
    _, *rows = table_with("epoch", printed(run_small(*arguments)))
    assert [int(line.split()[0]) for line in rows] == expected
    everything = csv_of(run_small(*arguments, "--format", "csv"))
    assert len(everything) == epochs * len(runs) / 2


# The figures, in all formats

FROM_THE_QUESTIONS_CODE = {
    "--hidden 30 --buggy-prime --seed 1 --init-scale 0.1 --epochs 2": {
        "30,rand,0.1,buggy,0.5,50000,1,float64": "hidden30_scale0.1_buggy_eta0.5_seed1"
    },
    "--hidden 30 --init-scale fan-in --epochs 1": {
        "30,rand,fan-in,fixed,0.5,50000,0,float64": (
            "hidden30_rand_scalefan-in_fixed_eta0.5_seed0_batch50000"
        )
    },
    "--hidden 30 --init rand-0.5 --batch-size 64 --seed 1 --epochs 2": {
        "30,rand-0.5,1,fixed,0.5,64,1,float64": (
            "hidden30_rand-0.5_scale1_fixed_eta0.5_seed1_batch64"
        )
    },
    "--batch-size 50000 --batch-size 10 --epochs 2": {
        "0,rand,1,,0.5,50000,0,float64": "hidden0_scale1_none_eta0.5_seed0",
        "0,rand,1,,0.5,10,0,float64": "hidden0_rand_scale1_none_eta0.5_seed0_batch10",
    },
    "--hidden 30 --batch-size 10 --batch-size 99999 --buggy-prime --fixed-prime --epochs 1": {
        "30,rand,1,buggy,0.5,10,0,float64": "hidden30_rand_scale1_buggy_eta0.5_seed0_batch10",
        "30,rand,1,fixed,0.5,10,0,float64": "hidden30_rand_scale1_fixed_eta0.5_seed0_batch10",
        "30,rand,1,buggy,0.5,50000,0,float64": "hidden30_scale1_buggy_eta0.5_seed0",
        "30,rand,1,fixed,0.5,50000,0,float64": "hidden30_scale1_fixed_eta0.5_seed0",
    },
}


@pytest.mark.parametrize(("arguments", "runs"), FROM_THE_QUESTIONS_CODE.items())
def test_csv_has_the_numbers_of_the_questions_own_code(
    arguments: str, runs: dict[str, str], run: Run
) -> None:
    result = run(*arguments.split(), "--format", "csv")
    header, *lines = printed(result).splitlines()
    assert header == (
        "hidden,init,init_scale,prime,eta,batch_size,seed,dtype,epoch,cost,correct,total,"
        "top_digit,top_count"
    )
    expected = []
    for named, stem in runs.items():
        with (HERE / "golden" / f"{stem}.csv").open() as file:
            for row in itertools.islice(csv.DictReader(file), int(arguments.split()[-1])):
                counts = [int(count) for count in row["predicted"].split()]
                top = max(counts)
                figures = [row["correct"], 10000, counts.index(top), top]
                expected.append((int(row["epoch"]), named, float(row["cost"]), figures))
    expected.sort(key=lambda row: row[0])  # epoch by epoch, and in each as in the key
    assert len(lines) == len(expected)
    for line, (epoch, named, cost, figures) in zip(lines, expected, strict=True):
        *start, its_cost, correct, total, digit, count = line.split(",")
        assert ",".join(start) == f"{named},{epoch}"
        assert [correct, total, digit, count] == [str(figure) for figure in figures]
        assert math.isfinite(float(its_cost))
        if math.isfinite(cost):  # The question's formula overflows.
            assert float(its_cost) == pytest.approx(cost, rel=1e-9, abs=0)


def test_a_run_has_the_same_numbers_alone_and_in_a_comparison(run: Run) -> None:
    common = ["--hidden", 7, "--init-scale", "fan-in", "--seed", 5, "--epochs", 2]
    common += ["--eta", 3, "--format", "csv"]
    sizes = ["--batch-size", 20_000, "--batch-size", 50_000]
    together = csv_of(run(*common, "--buggy-prime", "--fixed-prime", *sizes))
    assert len(together) == 8
    for prime, size in (("buggy", "20000"), ("fixed", "20000"), ("buggy", "50000")):
        alone = csv_of(run(*common, f"--{prime}-prime", "--batch-size", size))
        assert alone == [
            row for row in together if (row["prime"], row["batch_size"]) == (prime, size)
        ]


def shown_cost(cost: str, digits: int) -> str:
    """Return a cost of the CSV as the tables show it."""
    return f"{float(cost):.{digits}f}" if float(cost) < 1000 else f"{float(cost):.{digits - 3}e}"


def markdown_tables(text: str) -> list[Table]:
    """Return all tables of a Markdown text, row by row, the headings first."""
    tables: list[Table] = []
    for token, after in itertools.pairwise(MarkdownIt("commonmark").enable("table").parse(text)):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in ("th_open", "td_open"):
            tables[-1][-1].append("".join(child.content for child in after.children or []))
    return tables


FORMS = {
    "--hidden 5 --epochs 4": 1,
    "--batch-size 7 --seed 1 --seed 2 --epochs 3": 2,
    "--hidden 5 --init randn --init rand --init rand-0.5 --epochs 2": 3,
    "--hidden 3 --buggy-prime --fixed-prime --batch-size 9 --batch-size 50 --epochs 2": 4,
    "--hidden 3 --eta 1e3 --eta 1 --epochs 6": 2,
}


@pytest.mark.parametrize(("arguments", "runs"), FORMS.items())
def test_epoch_by_epoch_all_formats_have_the_same_figures(
    arguments: str, runs: int, run_small: Run
) -> None:
    text = printed(run_small(*arguments.split()))
    rows = csv_of(run_small(*arguments.split(), "--format", "csv"))
    markdown = printed(run_small(*arguments.split(), "--format", "markdown"))
    assert len({tuple(row.values())[:8] for row in rows}) == runs
    epochs = [rows[start : start + runs] for start in range(0, len(rows), runs)]

    def percent_and_digit(row: dict[str, str]) -> list[str]:
        share = f"{int(row['correct']) / int(row['total']):.2%}"
        return [share, f"{row['top_digit']} ({row['top_count']} of {row['total']})"]

    expected = []
    for results in epochs:
        cells = [results[0]["epoch"]]
        for row in results:
            cells += [shown_cost(row["cost"], 5 if runs == 4 else 6), row["correct"]]
        expected.append(cells + percent_and_digit(results[0]) * (runs == 1))
    plain = [cells_of(line) for line in table_with("epoch", text)]
    assert plain[1:] == expected
    by_epoch, outcome = markdown_tables(markdown)
    assert by_epoch[1:] == expected
    if runs == 1:
        assert by_epoch[0] == ["epoch", "cost", "correct", "accuracy", "most predicted"]
    else:
        letters = "ABCD"[:runs]
        assert plain[0] == ["epoch", *["cost", "correct"] * runs]
        assert by_epoch[0] == [
            "epoch",
            *(f"{run} {what}" for run in letters for what in ("cost", "correct")),
        ]
        # The key: the same settings in plain text and in the list.
        key = re.findall(r"^([A-D]): (.+)$", text, re.M)
        assert key == re.findall(r"^- ([A-D]): `(.+)`$", markdown, re.M)
        assert "".join(letter for letter, _ in key) == letters
        for (_, options), row in zip(key, epochs[0], strict=True):
            for option, value in re.findall(r"--(\S+)(?: ([^-]\S*))?", options):
                if value:
                    assert row[option.replace("-", "_")] == value
                else:
                    assert f"{row['prime']}-prime" == option

    # The outcome: what the runs start and end with.
    ends = []
    for number, (first, last) in enumerate(zip(epochs[0], epochs[-1], strict=True)):
        steps = len(epochs) * math.ceil(50 / int(first["batch_size"]))
        costs = [shown_cost(row["cost"], 6) for row in (first, last)]
        name = ["ABCD"[number]] * (runs > 1)
        ends.append([*name, str(steps), *costs, last["correct"], *percent_and_digit(last)])
    lines = table_with("steps", text)
    assert [cells_of(line) for line in lines[1:-1]] == ends
    assert [cells_of(" ".join(cells)) for cells in outcome[1:-1]] == ends
    assert " ".join(cells_of(lines[0])) == " ".join(filter(None, outcome[0]))
    assert lines[-1].split() == " ".join(outcome[-1]).split()
    assert lines[-1].split()[:3] == ["baseline", "3.212590", "2"]


def test_markdown_is_tables_lists_and_a_command(run_small: Run) -> None:
    arguments = ["--hidden", 5, "--buggy-prime", "--fixed-prime", "--epochs", 3, "--diagnose"]
    text = printed(run_small(*arguments))
    markdown = printed(run_small(*arguments, "--format", "markdown"))
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    blocks = [token.type for token in tokens if token.level == 0 and token.nesting >= 0]
    assert blocks == [
        *["paragraph_open", "code_block", "bullet_list_open", "table_open", "table_open"],
        *["table_open", "bullet_list_open"] * 2,
    ]
    [command] = [token.content for token in tokens if token.type == "code_block"]
    assert printed(run_small(*shlex.split(command)[2:])) == markdown
    # The diagnoses have the same words and figures as in plain text.
    for letter, table in zip("AB", markdown_tables(markdown)[2:], strict=True):
        assert table[0] == [f"diagnosis of {letter}", "before", "after", "limit", "meaning"]
        plain = table_with(f"diagnosis of {letter}", text)
        assert [line.split() for line in plain] == [" ".join(cells).split() for cells in table]
    flat = " ".join(text.split())
    sentences = re.findall(r"^- (?!A: |B: )(.+)$", markdown, re.M)
    assert len(sentences) == 6
    assert all(sentence in flat for sentence in sentences)


def test_of_more_than_four_runs_each_gets_a_row_in_the_order_given(run_small: Run) -> None:
    line = (
        "--init-scale 1 --init-scale 0.2 --init-scale fan-in --init rand --init rand-0.5 "
        "--buggy-prime --fixed-prime --hidden 30 --epochs 2"
    )
    arguments = line.split()
    text = printed(run_small(*arguments))
    assert "epoch " not in text
    headings, *lines, baseline = table_with("init-scale", text)
    assert headings.split()[:4] == ["init-scale", "init", "prime", "first"]
    runs = [
        [scale, init, prime]
        for scale in ("1", "0.2", "fan-in")
        for init in ("rand", "rand-0.5")
        for prime in ("buggy", "fixed")
    ]
    assert [line.split()[:3] for line in lines] == runs
    rows = csv_of(run_small(*arguments, "--format", "csv"))
    assert len(rows) == 24
    for line, first, last in zip(lines, rows[:12], rows[12:], strict=True):
        figures = [shown_cost(first["cost"], 6), shown_cost(last["cost"], 6), last["correct"]]
        assert line.split()[3:] == [*figures, f"{int(last['correct']) / 10:.2%}"]
    assert baseline.split()[:2] == ["baseline", "3.212590"]
    [table] = markdown_tables(printed(run_small(*arguments, "--format", "markdown")))
    assert [" ".join(cells[:-1]).split() for cells in table] == [
        line.split() for line in [headings, *lines, baseline]
    ]
    digits = [f"{row['top_digit']} ({row['top_count']} of {row['total']})" for row in rows[12:]]
    assert [cells[-1] for cells in table[1:-1]] == digits
    # Above the figures of each diagnosis stands which run it is of.
    words = " ".join(printed(run_small(*arguments, "--diagnose")).split())
    *parts, _ = words.split(" before after limit meaning ")
    for part, (scale, init, prime) in zip(parts, runs, strict=True):
        name = f" --init-scale {scale} --init {init} --{prime}-prime"
        assert name in part.rpartition("baseline")[2]


def test_of_many_batch_sizes_the_steps_are_shown(run_small: Run) -> None:
    sizes = [word for size in (1, 3, 10, 49, 50) for word in ("--batch-size", size)]
    table = table_with("steps", printed(run_small(*sizes, "--epochs", 2)))
    assert " ".join(table[0].split()) == (
        "batch-size steps first cost last cost correct accuracy most predicted"
    )
    assert [line.split()[:2] for line in table[1:-1]] == [
        ["1", "100"],
        ["3", "34"],
        ["10", "10"],
        ["49", "4"],
        ["50", "2"],
    ]


# Lines of 80 columns

VALUES = {
    "--init": ["rand", "rand-0.5", "randn"],
    "--init-scale": ["1", "fan-in", "0.1", "0.012345678901234567", "1.2345678901234567e-05"],
    "--eta": ["0.5", "3", "0.1", "0.987654321012345", "1.2345678901234567e-05"],
    "--seed": ["0", "1", "2", "20", "4294967295"],
    "--batch-size": ["50000", "10", "7", "25", "49"],
}
# How many values of each option, and of the derivative: 1 to 10 runs.
SHAPES = [
    shape
    for shape in itertools.product(
        *(range(1, len(values) + 1) for values in VALUES.values()), [1, 2]
    )
    if math.prod(shape) <= 10
]


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[int, list[str]]:
    """Return a number of runs, and a valid command line for them."""
    shape = draw(st.sampled_from(SHAPES))
    hidden = draw(st.sampled_from([0, 1, 5])) if shape[-1] == 1 else 5
    words = ["--hidden", str(hidden), "--epochs", str(draw(st.integers(1, 2)))]
    words += ["--buggy-prime"] * (hidden > 1) + ["--fixed-prime"] * (shape[-1] == 2)
    for (option, values), count in zip(VALUES.items(), shape, strict=False):
        its = draw(st.lists(st.sampled_from(values), min_size=count, max_size=count, unique=True))
        words += [word for value in its for word in (option, value)]
    return math.prod(shape), words + ["--diagnose"] * draw(st.booleans())


@settings(max_examples=100)
@given(comparison=comparisons())
def test_any_comparison_fits_into_80_columns_and_can_be_had_again(
    comparison: tuple[int, list[str]],
) -> None:
    runs, arguments = comparison
    text = printed(runner().invoke(reproduce.main, ["--data", str(SMALL), *arguments]))
    command = command_in(text)
    # Too long a line is broken or loses its last columns, whatever the numbers' digits.
    assert [line for line in text.splitlines() if len(line) > 80 and line != command] == []
    assert text.isascii()
    assert all(line == line.rstrip() for line in text.splitlines())
    [outcome] = [block for block in text.split("\n\n") if re.search("(?m)^ *baseline", block)]
    assert len(outcome.splitlines()) == 1 + runs + 1
    letters = "".join(re.findall("(?m)^([A-Z]): ", text))
    assert letters == ("ABCD"[:runs] if 1 < runs <= 4 else "")
    assert set(shlex.split(command)) >= {"--hidden", "--epochs", "--dtype", *VALUES}
    again = runner().invoke(reproduce.main, shlex.split(command)[2:])
    assert printed(again) == text


def test_columns_that_do_not_fit_are_left_out_of_plain_text_only(run_small: Run) -> None:
    line = (
        "--hidden 3 --init rand --init rand-0.5 --init-scale 1 --init-scale 0.02 --buggy-prime "
        "--fixed-prime --eta 0.987654321012345 --eta 3 --seed 0 --seed 1 --epochs 1"
    )
    arguments = line.split()
    table = table_with("init-scale", printed(run_small(*arguments)))
    assert len(table) == 34
    headings = ["init", "init-scale", "prime", "eta", "seed", "first cost", "last cost"]
    [whole] = markdown_tables(printed(run_small(*arguments, "--format", "markdown")))
    assert whole[0] == [*headings, "correct", "accuracy", "most predicted"]
    assert [" ".join(cells[:7]).split() for cells in whole] == [line.split() for line in table]


@pytest.mark.parametrize("others", ["", "--seed 0 --seed 1", "--eta 0.5 --eta 3 --seed 0 --seed 1"])
def test_large_costs_stay_in_their_columns(others: str, run_small: Run) -> None:
    """The cost falls from thousands; no run of the question's has more than three digits."""
    arguments = ["--hidden", 30, "--init-scale", 10, "--epochs", 9, *others.split()]
    headings, *lines = table_with("epoch", printed(run_small(*arguments)))
    ends = [[match.end() for match in re.finditer(r"\S+", line)] for line in lines]
    columns = 1 + 2 * max(1, headings.count("cost"))
    assert len(lines) == 9
    assert len({tuple(its[:columns]) for its in ends}) == 1
    assert ends[0][:columns] == [m.end() for m in re.finditer(r"\S+", headings)][:columns]
    assert {"e+" in line.split()[1] for line in lines} == {True, False}


# Runs that go astray


@pytest.mark.parametrize("hidden", [0, 5])
@pytest.mark.parametrize("extra", [[], ["--diagnose"]])
def test_an_eta_far_too_large_gives_rows_all_the_same(
    hidden: int, extra: list[str], run_small: Run
) -> None:
    """Without a hidden layer the cost ends at exactly 0, and the gradient with it."""
    result = run_small("--hidden", hidden, "--eta", 1e4, "--epochs", 20, *extra)
    text = printed(result)
    *_, last = table_with("epoch", text)
    assert ("0.000000" in last) is (hidden == 0)
    assert "nan" not in text
    if extra:
        assert figures_of(text)["error of the gradient"][3] == "right"


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
        assert result.exit_code == 0  # far from overflow
        return
    assert result.exit_code == 1
    match = re.fullmatch(
        r"Error: epoch (\d+): .+ not .+; try a smaller --eta or --init-scale\.\n", result.stderr
    )
    assert match
    rows = table_with("epoch", result.stdout)[1:]
    assert len(rows) == int(match[1]) < 2  # Those before it are printed.
    assert "nan" not in result.stdout
    diagnosed = run_small(*arguments, "--diagnose")
    assert (diagnosed.exit_code, diagnosed.stderr) == (1, result.stderr)


def test_which_of_several_runs_diverges(run_small: Run) -> None:
    result = run_small("--eta", 0.5, "--eta", 1e300)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: epoch 0 of --eta 1e+300: ")


@pytest.mark.parametrize(
    ("arguments", "epochs_before"),
    [("", 3), ("--seed 0 --seed 1", 1), ("--format csv", 3), ("--format markdown", 3)],
)
def test_too_little_memory_is_one_line_below_the_rows_of_the_epochs_before(
    arguments: str, epochs_before: int, run_small: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate, calls = reproduce.evaluate, itertools.count(1)

    def evaluate_three_times(*images: object) -> tuple[int, list[int]]:
        if next(calls) > 3:
            raise MemoryError
        return evaluate(*images)  # type: ignore[arg-type]

    monkeypatch.setattr(reproduce, "evaluate", evaluate_three_times)
    result = run_small(*arguments.split())
    assert result.exit_code == 1
    assert re.fullmatch(r"Error: .*memory.*\n", result.stderr)
    *_, last = result.stdout.splitlines()
    number = re.findall(r"\d+", last)[0] if "csv" not in arguments else last.split(",")[8]
    assert int(number) == epochs_before - 1


def test_too_little_memory_for_the_weights_is_one_line(
    run_small: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(reproduce, "initial_network", fail)
    result = run_small("--hidden", 100_000)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(r"Error: .*memory.*--hidden.*\n", result.stderr)


# The diagnosis


def figures_of(text: str) -> dict[str, list[str]]:
    """Return before, after, limit and meaning by what they are of, from plain text."""
    figures = {}
    for line in table_with("diagnosis", text)[1:]:
        match = re.fullmatch(r"(\D.+?) +(-?\d\S*) +(-?\d\S*)(?: +(\S+)  (.+))?", line)
        assert match, line
        figures[match[1]] = [cell or "" for cell in match.groups()[1:]]
    return figures


def verdict_of(text: str) -> tuple[str, str]:
    """Return how a run ended, by the words alone, and what follows on that."""
    sentences = " ".join(text.split("all.)")[-1].split())
    match = re.fullmatch(
        r"(It .+?): after the last of (\S+) steps the cost is (\S+), and (\S+%) of the test "
        r"images are right \(baseline: (\S+), (\S+%)\)\. (.+)",
        sentences,
    )
    assert match, sentences
    *_, run, baseline = table_with("steps", text)
    steps, _, _, _, accuracy, *_ = run.split()
    assert [match[2].replace(",", ""), match[4]] == [steps, accuracy]
    assert [match[5], match[6]] == [baseline.split()[1], baseline.split()[3]]
    assert float(match[3]) == pytest.approx(float(figures_of(text)["cost"][1]), rel=5e-3, abs=1e-6)
    return match[1], match[7]


STUCK, WORSE, LITTLE, LEARNS = (
    "It is stuck at the baseline",
    "It is worse than the baseline",
    "It has learned little",
    "It learns",
)
SAME = "Main cause: the hidden layer puts out the same for every image. "
OF_THE_QUESTION = SAME + (
    "Before the training z2 is 50.5 on average and 11.6 or more in size, a2 varies by 2.65e-08 "
    "between images, and the gradient of w2 is 1.68e-06 with the right derivative, beside 15.6 "
    "of w3."
)
WRONG = "Main cause: the gradient is wrong. "
TOO_FEW = "Main cause: too few steps. After {} the cost was still falling."
UNKNOWN = "Main cause: not in these figures."
FINE = "Nothing wrong was found."

ON_MNIST = {
    "--buggy-prime --batch-size 10 --epochs 1": (
        LEARNS,
        "It learns in spite of a hidden layer that put out the same for every image before the "
        "training and of a wrong gradient.",
    ),
    "--init rand-0.5 --epochs 8": (LEARNS, FINE),
    "--init rand-0.5 --buggy-prime --epochs 8": (LEARNS, "It learns in spite of a wrong gradient."),
    "--init rand-0.5 --eta 1e-4 --epochs 2": (WORSE, TOO_FEW.format(2)),
    "--init-scale 0 --epochs 3": (
        STUCK,
        SAME + "Before the training z2 is 0 on average and 0 or more in size, a2 varies by 0 "
        "between images, and the gradient of w2 is 0 with the right derivative, beside 3.46 of w3.",
    ),
    "--init-scale 0.01 --epochs 12": (STUCK, TOO_FEW.format(12)),
    "--eta 1000 --epochs 2": (WORSE, OF_THE_QUESTION),
    "--hidden 0 --epochs 5": (LEARNS, FINE),
}
ON_THE_SMALL_DATA = {
    "--hidden 5 --init rand-0.5 --buggy-prime --epochs 6": (STUCK, WRONG),
    "--hidden 1 --init rand-0.5 --init-scale 0.1 --buggy-prime --batch-size 1 --epochs 6": (
        LITTLE,
        WRONG,
    ),
    "--init randn --batch-size 10 --epochs 6": (LITTLE, TOO_FEW.format(30)),
    "--eta 1e4 --epochs 6": (WORSE, TOO_FEW.format(6)),
    "--hidden 1 --init-scale fan-in --batch-size 1 --epochs 6": (LITTLE, UNKNOWN),
    "--hidden 1 --init rand-0.5 --batch-size 1 --epochs 6": (WORSE, UNKNOWN),
    "--hidden 5 --init rand-0.5 --eta 1e4 --epochs 3": (
        WORSE,
        SAME + "After the training z2 is 9.48e+03 on average and 2.67e+03 or more in size, a2 "
        "varies by 0 between images, and the gradient of w2 is 0 ",
    ),
    "--hidden 5 --init-scale 1e-3 --batch-size 1 --epochs 6": (
        LEARNS,
        "It learns in spite of a hidden layer that put out the same for every image before the "
        "training.",
    ),
    # Three test images right of ten, and the baseline two: 10 points above it, not more.
    "--hidden 5 --init rand-0.5 --batch-size 1 --epochs 6": (LEARNS, FINE),
}


@pytest.mark.parametrize(("arguments", "verdict"), ON_MNIST.items())
def test_how_it_ended_and_why_on_mnist(arguments: str, verdict: tuple[str, str], run: Run) -> None:
    text = printed(run("--hidden", 30, "--every", 30, "--diagnose", *arguments.split()))
    assert verdict_of(text) == verdict
    figures = figures_of(text)
    if "--hidden 0" in arguments:
        assert list(figures) == ["gradient of w", "error of the gradient", "cost"]
    else:
        assert list(figures) == [
            "z2, mean",
            "z2, smallest size",
            "a2, deviation between images",
            "gradient of w2, as computed",
            "gradient of w3",
            "gradient of w2, right derivative",
            "error of the gradient",
            "cost",
        ]
    # What rounding makes of a right gradient's error depends on the machine: it is not shown.
    error = figures["error of the gradient"]
    is_wrong = "--buggy-prime" in arguments
    assert error[3] == ("wrong" if is_wrong else "right")
    assert is_wrong or error == ["1e-05", "1e-05", "0.001", "right"]


def test_the_figures_of_the_questions_failing_run(run: Run) -> None:
    text = printed(run("--hidden", 30, "--buggy-prime", "--every", 30, "--diagnose"))
    assert verdict_of(text) == (STUCK, OF_THE_QUESTION)
    figures = figures_of(text)
    assert figures["z2, mean"] == ["50.5", "32", "", ""]
    assert figures["a2, deviation between images"] == ["2.65e-08", "0.000249", "0.01", "the same"]
    assert figures["gradient of w2, as computed"][0] == "27.3"
    assert figures["gradient of w3"][0] == "15.6"
    assert figures["gradient of w2, right derivative"][0] == "1.68e-06"
    assert figures["error of the gradient"][2:] == ["0.001", "wrong"]
    assert figures["cost"] == ["131", "3.25", "", ""]
    assert "after the last of 30 steps the cost is 3.248718, and" in " ".join(text.split())


@pytest.mark.parametrize(("arguments", "verdict"), ON_THE_SMALL_DATA.items())
def test_how_it_ended_and_why_on_the_small_data(
    arguments: str, verdict: tuple[str, str], run_small: Run
) -> None:
    text = printed(run_small("--diagnose", *arguments.split()))
    ended, cause = verdict_of(text)
    assert ended == verdict[0]
    assert cause.startswith(verdict[1])


@pytest.mark.parametrize(
    "arguments",
    [
        "--init-scale 0",
        "--init-scale 1e6",
        "--init-scale 1e150",
        "--eta 1e150",
        "--dtype float32",
        "--batch-size 1",
        "--init randn --eta 30 --batch-size 1 --epochs 6",
    ],
)
@pytest.mark.parametrize("hidden", [0, 1, 30])
def test_diagnosis_of_degenerate_cases(arguments: str, hidden: int, run_small: Run) -> None:
    """Gradients of exactly 0, no variation at all, a single epoch, activations of exactly 1."""
    text = printed(run_small("--hidden", hidden, "--epochs", 1, *arguments.split(), "--diagnose"))
    assert not re.search(r"\b(nan|inf)\b", text)
    assert figures_of(text)["error of the gradient"][3] == "right"
    ended, cause = verdict_of(text)
    assert ended in (STUCK, WORSE, LITTLE, LEARNS)
    assert cause.startswith(("Main cause: ", FINE)) or ended == LEARNS
    assert "wrong" not in cause.replace(FINE, "")


def test_diagnosis_in_single_precision_checks_the_same_backprop(run_small: Run) -> None:
    arguments = "--hidden 5 --buggy-prime --init-scale fan-in --dtype float32 --diagnose"
    text = printed(run_small(*arguments.split()))
    assert figures_of(text)["error of the gradient"][3] == "wrong"


# Data


def test_a_file_of_any_name_is_named_in_ascii(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "é\n.pkl.gz"
    path.write_bytes(SMALL.read_bytes())
    text = printed(run("--data", path, "--epochs", 1))
    assert text.isascii()
    assert command_in(text).endswith("\\xe9\\n.pkl.gz'")


def test_other_data_is_named_and_counted(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("it's small.gz").write_bytes(SMALL.read_bytes())
    text = printed(run("--data", "it's small.gz", "--epochs", 1))
    assert title_of(text) == (
        '784-10 sigmoid network, 50 images of "it\'s small.gz", not the standard MNIST, '
        "cross-entropy, full-batch"
    )
    assert table_with("epoch", text)[1].endswith(" of 10)")
    assert printed(run(*shlex.split(command_in(text))[2:])) == text
    mnist = printed(run("--epochs", 1, "--data", mnist_loader.SHIPPED))
    assert ", 50,000 MNIST images, " in mnist.splitlines()[0]


def test_the_same_images_give_the_same_rows_from_any_file(
    mnist: mnist_loader.Data, run: Run, tmp_path: Path
) -> None:
    """The three pickles of Python 2, and IDX files of the same first images of MNIST."""
    for prefix, (images, labels), n in (("train", mnist[0], 60), ("t10k", mnist[2], 10)):
        pixels = (images[:n] * 256).astype(np.uint8)
        header = np.array([2051, n, 28, 28], ">u4").tobytes()
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        header = np.array([2049, n], ">u4").tobytes()
        digits = labels[:n].astype(np.uint8).tobytes()
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(header + digits)
    sources = [tmp_path, *(SMALL.with_name(f"nielsen_protocol{p}.pkl.gz") for p in range(3))]
    arguments = ["--hidden", 30, "--buggy-prime", "--epochs", 9, "--format", "csv"]
    outputs = [printed(run(*arguments, "--data", source)) for source in sources]
    assert len(outputs[0].splitlines()) == 10
    assert outputs == [outputs[0]] * 4


@pytest.mark.parametrize("kind", ["missing", "truncated"])
def test_bad_data_is_one_line_and_status_1(kind: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mnist.pkl.gz"
    if kind == "truncated":
        path.write_bytes(SMALL.read_bytes()[:5000])
    result = run("--data", path)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert re.fullmatch(rf"Error: '{path}': .+\n", result.stderr)


# The command line

USAGE_ERRORS = {
    "--hidden -1": "--hidden",
    "--hidden 2.5": "--hidden",
    "--hidden many": "--hidden",
    "--hidden 100001": "--hidden",
    "--epochs 0": "--epochs",
    "--epochs -3": "--epochs",
    "--every 0": "--every",
    "--eta 0": "--eta",
    "--eta -1": "--eta",
    "--eta nan": "--eta",
    "--eta inf": "--eta",
    "--eta 1e999": "--eta",
    "--eta fan-in": "--eta",
    "--eta 0.5 0.1": "'0.1' an option of its own: --eta 0.5 --eta 0.1",
    "--init-scale -1": "--init-scale",
    "--init-scale nan": "--init-scale",
    "--init-scale inf": "--init-scale",
    "--init-scale fanin": "fan-in",
    "--batch-size 0": "--batch-size",
    "--batch-size -1": "--batch-size",
    "--batch-size 1.5": "--batch-size",
    "--batch-size ten": "--batch-size",
    "--seed -1": "--seed",
    "--seed 4294967296": "--seed",
    "--buggy-prime": "--buggy-prime needs a hidden layer",
    "--fixed-prime": "--fixed-prime needs a hidden layer: add --hidden",
    "--buggy-prime --fixed-prime": "--buggy-prime needs a hidden layer",
    "--format yaml": "--format",
    "--dtype float16": "--dtype",
    "--init zeros": "--init",
    "--init fan-in": "--init",
    "--diagnose --format csv": "--diagnose",
    "--plot curves.gif": "curves.gif",
    "--plot curves": "curves",
    "--plot nowhere/curves.png": "nowhere",
    "--plot .": "--plot",
    "--wrong": "--wrong",
    "stray": "stray",
}


@pytest.mark.parametrize(("arguments", "named"), USAGE_ERRORS.items())
def test_a_wrong_command_line(
    arguments: str, named: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments.split())
    assert result.exit_code == 2
    assert result.stdout == ""
    usage, hint, empty, error = result.stderr.splitlines()
    assert usage.startswith("Usage: ")
    assert hint.startswith("Try ")
    assert empty == ""
    assert error.startswith("Error: ")
    assert named in error
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_option(run: Run) -> None:
    text = printed(run("-h"))
    assert text == printed(run("--help"))
    assert text.startswith("Usage: ")
    assert set(re.findall(r"^  (--[a-z-]+)", text, re.M)) == {
        *VALUES,
        *("--hidden", "--buggy-prime", "--fixed-prime", "--epochs", "--dtype", "--data"),
        *("--every", "--diagnose", "--format", "--plot", "--version"),
    }
    assert max(map(len, text.splitlines())) <= 80


def test_version_is_that_of_the_package(run: Run) -> None:
    assert printed(run("--version")).endswith(f"version {reproduce.__version__}\n")


whole, real = ["--hidden", "--seed", "--every", "--batch-size"], ["--init-scale", "--eta"]
odd = ["-2", "1e300", "1e-300", "4294967296", "0.5", "nan", "0x10", "", "½"]
words = {
    "--epochs": ["1", "2", "4", "one"],
    "--init": ["rand", "rand-0.5", "randn", "Rand"],
    "--init-scale": ["fan-in", "0", "0.1", "Fan-in"],
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
    st.tuples(st.sampled_from(["--buggy-prime", "--fixed-prime", "--diagnose", "--no", "word"])),
    st.just(("--hidden", "5", "--diagnose")),
)


@settings(max_examples=100)
@given(arguments=st.lists(flags, max_size=5))
def test_any_command_line_runs_or_ends_in_one_error_line(arguments: list[tuple[str, ...]]) -> None:
    line = ["--data", str(SMALL), "--epochs", "3", *itertools.chain(*arguments)]
    result = runner().invoke(reproduce.main, line)
    if result.exit_code == 0:
        assert result.stderr == ""
        assert result.stdout.isascii()
        assert not re.search(r"\bnan\b", result.stdout)
    else:
        assert result.exit_code in (1, 2)
        assert isinstance(result.exception, SystemExit)
        lines = result.stderr.splitlines()
        [error] = [line for line in lines if line and not line.startswith(("Usage", "Try"))]
        assert error == lines[-1]
        assert error.startswith("Error: ")
        assert (result.stdout == "") is (result.exit_code == 2)


# Pictures

NINE = "--init rand --init rand-0.5 --init randn --init-scale 1e4 --init-scale 0.1 --init-scale 0"
FOUR = "--hidden 5 --buggy-prime --fixed-prime --init rand --init randn"
HEADS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


def texts_of(svg: bytes) -> list[str]:
    """Return what is written in a picture: matplotlib has it in comments, beside the shapes."""
    return re.findall(r"<!-- *(.+?) *-->", svg.decode().replace("- -", "--"))


@pytest.mark.parametrize(
    ("arguments", "suffix"),
    [
        ("", ".PNG"),
        ("--hidden 5 --diagnose", ".svg"),
        (FOUR, ".svg"),
        (f"{FOUR} --diagnose", ".pdf"),
        (NINE, ".pdf"),
        (f"{NINE} --hidden 5 --diagnose --eta 1e9", ".png"),
    ],
)
def test_plot_draws_the_same_picture_each_time(
    arguments: str, suffix: str, run_small: Run, tmp_path: Path
) -> None:
    pictures = []
    for name in ("first", "second")[: 1 if "png" in suffix.lower() else 2]:
        path = tmp_path / f"{name}{suffix}"
        text = printed(run_small(*arguments.split(), "--epochs", 3, "--plot", path))
        assert f"--plot {path}" in command_in(text)
        pictures.append(path.read_bytes())
    assert pictures[0].startswith(HEADS[suffix.lower()])
    assert pictures[0] == pictures[-1]
    if suffix == ".svg":
        texts = texts_of(pictures[0])
        for line in ("baseline, image ignored", "3.213", *re.findall(r"^[A-D]: .+", text, re.M)):
            assert line in texts
        # Where z2 lies is shown of what is diagnosed.
        has_z2 = "--diagnose" in arguments
        assert ("z2 before the training" in texts) is has_z2
        assert pictures[0].count(b'id="axes_') == 2 + has_z2


def test_a_picture_depends_on_nothing_around_it(run_small: Run, tmp_path: Path) -> None:
    arguments = ["--diagnose", "--epochs", "2", "--plot"]
    text = printed(run_small(*arguments, tmp_path / "here.svg"))
    (tmp_path / "matplotlibrc").write_text(
        "axes.facecolor: red\nsvg.fonttype: none\nsvg.hashsalt: x\nfont.size: 30\n"
    )
    process = subprocess.run(
        [sys.executable, HERE.parent / "reproduce.py", "--data", SMALL, *arguments, "there.svg"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "not_installed", "SOURCE_DATE_EPOCH": "1"},
    )
    assert process.stderr == ""
    assert process.returncode == 0
    assert process.stdout.splitlines()[-1] == text.splitlines()[-1]
    picture = (tmp_path / "here.svg").read_bytes()
    assert (tmp_path / "there.svg").read_bytes() == picture
    assert picture.count(b'id="axes_') == 2  # There is no z2 without a hidden layer.


@pytest.mark.parametrize(
    "error", [RuntimeError("first line\nsecond " + "and more " * 99), MemoryError(), KeyError("x")]
)
def test_a_picture_that_fails_leaves_the_results_and_the_old_one(
    error: Exception, run_small: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    path = tmp_path / "curves.png"
    arguments = ["--epochs", 2, "--plot", path]
    text = printed(run_small(*arguments))
    before = path.read_bytes()
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    result = run_small(*arguments)
    assert result.exit_code == 1
    assert result.stdout == text
    assert re.fullmatch(
        rf"Error: '{path}' could not be drawn: {type(error).__name__}:.{{0,200}}\n", result.stderr
    )
    assert path.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line_below_the_results(run_small: Run, tmp_path: Path) -> None:
    path = tmp_path / "curves.pdf"
    path.symlink_to("/dev/full")
    result = run_small("--epochs", 2, "--plot", path)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith(" baseline ")
    assert re.fullmatch(rf"Error: '{path}' could not be .+ No space left.*\n", result.stderr)


def test_plot_without_matplotlib_says_how_to_install_it(
    run_small: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "executable", "/opt/a venv/bin/python")
    result = run_small("--plot", tmp_path / "curves.png")
    assert result.exit_code == 2
    assert result.stderr.endswith("'/opt/a venv/bin/python' -m pip install matplotlib\n")
    assert result.stdout == ""
