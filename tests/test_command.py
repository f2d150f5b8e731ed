"""The command, as its user meets it: which runs it makes, what it prints, what it refuses."""

from __future__ import annotations

import itertools
import math
import os
import re
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import Result
from conftest import SMALL, printed, rows_of, run, run_small, write_idx
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

import mnist_loader
import reproduce

SETTINGS = ["hidden", "prime", "init", "init_scale", "eta", "batch_size", "seed", "dtype"]
CSV = ["--format", "csv"]


def settings_made(result: Result) -> list[list[str]]:
    """Return the settings of each run that is made, in the order of their first rows."""
    made = [[row[name] for name in SETTINGS] for row in rows_of(result)]
    return [its for its, _ in itertools.groupby(made)]


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
    assert error.isprintable()
    return error


class Report(NamedTuple):
    """What a command prints: `notes` by what they are about, tables as rows of cells."""

    title: str
    command: str
    notes: dict[str, str]
    explanations: list[dict[str, str]]  # of --diagnose, if it is asked for
    tables: list[list[list[str]]]


# With the typographer that forums have, which makes a dash of two hyphens that are not code.
MARKDOWN = MarkdownIt("commonmark", {"typographer": True}).enable(["table", "replacements"])


def texts_in(node: SyntaxTreeNode) -> list[str]:
    """Return the texts of the cells, items or paragraphs of a piece of Markdown, as they show."""
    texts = []
    for inline in node.walk():
        if inline.type == "inline":
            texts.append("".join(child.content for child in inline.children))
    return texts


def report_of(result: Result) -> Report:
    """Return the report of a run with --format markdown, as a forum would show it."""
    title, command, *rest = SyntaxTreeNode(MARKDOWN.parse(printed(result))).children
    assert command.type == "code_block"
    lists = []
    tables = []
    for node in rest:
        if node.type == "bullet_list":
            lists.append(dict(text.split(": ", 1) for text in texts_in(node)))
        if node.type == "table":
            tables.append([texts_in(row) for row in node.walk() if row.type == "tr"])
    return Report(texts_in(title)[0], command.content.strip(), lists[0], lists[1:], tables)


def report(*arguments: object) -> Report:
    """Return the report of a command about the small data."""
    return report_of(run_small(*arguments, "--format", "markdown"))


# Which runs are made


@pytest.mark.parametrize(("hidden", "epochs", "prime"), [(0, 100, "none"), (1, 30, "fixed")])
def test_defaults_are_those_of_the_question(hidden: int, epochs: int, prime: str) -> None:
    rows = rows_of(run_small("--hidden", hidden, *CSV))
    assert [row["epoch"] for row in rows] == [str(epoch) for epoch in range(epochs)]
    assert [row["steps"] for row in rows] == [str(epoch + 1) for epoch in range(epochs)]
    question = [str(hidden), prime, "rand", "1.0", "0.5", "50", "0", "float64"]
    assert [rows[0][name] for name in SETTINGS] == question
    # Those of the functions are the same.
    assert asdict(reproduce.Settings()) == {
        **dict(zip(SETTINGS, [0, "fixed", "rand", 1.0, 0.5, sys.maxsize, 0, "float64"]))
    }


def test_all_combinations_are_made_in_the_order_given() -> None:
    arguments = (
        "--init-scale 1 --init-scale 0.2 --init randn --init rand-0.5-w3 "
        "--buggy-prime --fixed-prime --hidden 3 --seed 4 --seeds 2 --eta 3 --batch-size 20 "
        "--dtype float32 --epochs 2"
    )
    expected = []
    for prime, init, scale, seed in itertools.product(
        ["buggy", "fixed"], ["randn", "rand-0.5-w3"], ["1.0", "0.2"], ["4", "5"]
    ):
        expected.append(["3", prime, init, scale, "3.0", "20", seed, "float32"])
    rows = rows_of(run_small(*arguments.split(), *CSV))
    for start in range(0, len(expected), 2):
        its = rows[2 * start : 2 * start + 4]  # two seeds side by side, two epochs
        made = [[row[name] for name in SETTINGS] for row in its]
        assert made == expected[start : start + 2] * 2
        assert [row["epoch"] for row in its] == ["0", "0", "1", "1"]
    assert len(rows) == 2 * len(expected)


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        ("--batch-size 50 --batch-size 99", ""),
        ("--eta 0.5 --eta 0.50", ""),
        ("--init-scale 1 --init-scale 1.0", ""),
        ("--init randn --init randn", "--init randn"),
        ("--hidden 3 --fixed-prime --fixed-prime", "--hidden 3"),
    ],
)
def test_what_is_the_same_is_one_run(arguments: str, same: str) -> None:
    common = ["--epochs", 1, *CSV]
    assert rows_of(run_small(*arguments.split(), *common)) == rows_of(
        run_small(*same.split(), *common)
    )


# The suspects

START = ["30", "buggy", "rand", "1.0", "0.5", "50", "0", "float64"]
OTHER_INITS = [
    {"init": "rand-0.5-w2"},
    {"init": "rand-0.5-w3"},
    {"init": "rand-fan-in"},
    {"init": "randn"},
    {"init": "randn-fan-in"},
    {"init": "glorot"},
]
SUSPECTS_OF = {  # settings of the start, and what each of the other rows has in their place
    "--hidden 30 --buggy-prime": (
        {},
        [
            {"prime": "fixed"},
            {"init": "rand-0.5"},
            *OTHER_INITS,
            {"init_scale": "0.1"},
            {"eta": "1.0"},
            {"eta": "5.0"},
            {"batch_size": "1000"},
        ],
    ),
    "--hidden 30 --init rand-0.5 --init-scale 0.10 --eta 5": (
        {"prime": "fixed", "init": "rand-0.5", "init_scale": "0.1", "eta": "5.0"},
        [
            {"prime": "buggy"},
            {"init": "rand"},
            *OTHER_INITS,
            {"init_scale": "1.0"},
            {"eta": "0.5"},
            {"eta": "1.0"},
            {"batch_size": "1000"},
        ],
    ),
    "--batch-size 10": (
        {"hidden": "0", "prime": "none", "batch_size": "10"},
        [
            {"init": "rand-0.5"},
            {"init": "rand-fan-in"},
            {"init": "randn"},
            {"init": "randn-fan-in"},
            {"init": "glorot"},
            {"init_scale": "0.1"},
            {"eta": "1.0"},
            {"eta": "5.0"},
            {"batch_size": "2500"},
            {"batch_size": "1000"},
        ],
    ),
}


@pytest.mark.parametrize(("arguments", "expected"), SUSPECTS_OF.items())
def test_suspects_change_one_setting_each(
    arguments: str,
    expected: tuple[dict[str, str], list[dict[str, str]]],
    tmp_path: Path,
    mnist: mnist_loader.Data,
) -> None:
    write_idx(tmp_path, mnist, 3000, 10)
    its_start, changes = expected
    common = ["--data", tmp_path, *arguments.split(), "--suspects", "--epochs", 1]
    start = {**dict(zip(SETTINGS, START)), "batch_size": "2500", **its_start}
    made = settings_made(run(*common, *CSV))
    assert made == [list({**start, **change}.values()) for change in [{}, *changes]]

    # Each row is named by its change.
    [[_, _, *rows, _]] = report_of(run(*common, "--format", "markdown")).tables
    for row, change in zip(rows, changes, strict=True):
        [(setting, value)] = change.items()
        if setting == "prime":
            assert row[0] == f"--{value}-prime"
        else:
            assert row[0] == f"--{setting.replace('_', '-')} {value.removesuffix('.0')}"


def test_who_adds_a_suspect_has_added_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "SUSPECTS", [*reproduce.SUSPECTS, ("eta", 0.25)])
    made = settings_made(run_small("--suspects", "--epochs", 1, *CSV))
    assert made[-1] == ["0", "none", "rand", "1.0", "0.25", "50", "0", "float64"]


# What is printed


def test_figures_of_several_seeds_are_means_and_extremes() -> None:
    arguments = "--hidden 20 --init randn --eta 3 --eta 1 --batch-size 9 --seed 3 --seeds 4"
    common = f"{arguments} --epochs 2".split()
    [[_, *table, baseline]] = report(*common).tables
    rows = rows_of(run_small(*common, *CSV))
    training, test = reproduce.load_images(SMALL)
    for cells, last in zip(table, [rows[4:8], rows[12:16]], strict=True):
        correct = sorted(int(row["correct"]) / 10 for row in last)
        assert correct[0] < correct[1]
        assert correct[-2] < correct[-1]
        predicted = np.zeros(10)
        for row in last:
            run = reproduce.Run(
                reproduce.Settings(
                    20, init="randn", eta=float(row["eta"]), batch_size=9, seed=int(row["seed"])
                )
            )
            for _ in range(2):
                reproduce.train_epoch(run, training, test)
            predicted += run.epochs[-1].predicted
        assert cells == [
            f"--eta {last[0]['eta'].removesuffix('.0')}",
            "12",
            f"{math.fsum(float(row['cost']) for row in last) / 4:.6f}",
            f"{sum(correct) / 4:.2%}",
            f"{correct[0]:.2%}",
            f"{correct[-1]:.2%}",
            f"{predicted.argmax()} ({predicted.max() / 40:.2%})",
        ]
    # Of the 50 training images 8 are a 1, which is more than of any other digit.
    assert baseline == ["baseline", "", "3.212590", "20.00%", "20.00%", "20.00%", "1 (100.00%)"]


def test_epochs_side_by_side_are_those_of_the_csv() -> None:
    """After epoch 3 the first run takes as many images for a 1 as for a 3: the 1 is named."""
    arguments = "--hidden 6 --init rand-0.5 --eta 1 --eta 0.1 --batch-size 9 --epochs 4"
    common = arguments.split()
    notes = report(*common).notes
    [_, *epochs], [_, *ends, baseline] = report(*common).tables
    assert (notes["A"], notes["B"]) == ("--eta 1", "--eta 0.1")
    rows = rows_of(run_small(*common, *CSV))
    for number, cells in enumerate(epochs):
        expected = [str(number)]
        for row in rows[2 * number : 2 * number + 2]:
            expected += [f"{float(row['cost']):.4f}", f"{int(row['correct']) / 10:.2%}"]
        assert cells == expected
    for cells, name, row in zip(ends, ["--eta 1", "--eta 0.1"], rows[-2:], strict=True):
        cost = f"{float(row['cost']):.6f}"
        accuracy = f"{int(row['correct']) / 10:.2%}"
        most = f"{row['top_digit']} ({int(row['top_count']) / 10:.2%})"
        assert cells == [name, "24", cost, row["correct"], accuracy, most]
    assert baseline == ["baseline", "", "3.212590", "2", "20.00%", "1 (100.00%)"]


def test_numbers_are_aligned_to_the_right_and_names_to_the_left() -> None:
    text = printed(run_small("--eta", 1, "--eta", 2, "--epochs", 1, "--format", "markdown"))
    aligned = []
    for node in SyntaxTreeNode(MARKDOWN.parse(text)).walk():
        if node.type == "th":
            aligned.append((texts_in(node)[0], node.attrs.get("style", "text-align:left")))
    for heading, style in aligned:
        side = "left" if heading in ("", "most predicted") else "right"
        assert style == f"text-align:{side}"


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        ("", {}),
        ("--seeds 1", {}),
        ("--seed 4 --seeds 3", {"seeds 4 to 6": ""}),
        ("--suspects", {"the network": "one change"}),
        ("--hidden 3", {"buggy derivative": "sigmoid_prime(a2)"}),
        (
            "--hidden 3 --init rand-0.5-w3",
            {"buggy derivative": "", "rand-0.5-w2": r"w2 and b2 only; .*-w3: .*w3 and b3 only"},
        ),
        (
            "--eta 1 --eta 2 --eta 3 --eta 4",
            {"A": "--eta 1", "B": "--eta 2", "C": "--eta 3", "D": "--eta 4"},
        ),
    ],
)
def test_notes_say_what_the_rows_do_not(arguments: str, about: dict[str, str]) -> None:
    notes = report(*arguments.split(), "--epochs", 1).notes
    assert list(notes) == ["cost", "accuracy", "most predicted", "baseline", *about]
    for key, pattern in about.items():
        assert re.search(pattern.replace("(", r"\(").replace(")", r"\)"), notes[key])
    shows_the_end = "--seeds 3" in arguments or "--suspects" in arguments
    assert "10 test images" in notes["accuracy"]
    for key in ("cost", "accuracy"):
        assert ("last epoch" in notes[key]) == shows_the_end


@pytest.mark.parametrize("more", [[], ["--eta", 1, "--eta", 2], ["--seeds", 2]])
@pytest.mark.parametrize(
    ("every", "epochs", "expected"),
    [(2, 5, [0, 2, 4]), (2, 6, [0, 2, 4, 5]), (9, 4, [0, 3]), (9, 1, [0])],
)
def test_every_shows_each_nth_epoch_the_first_and_the_last(
    every: int, epochs: int, expected: list[int], more: list[object]
) -> None:
    arguments = [*more, "--every", every, "--epochs", epochs]
    runs = 1 + (more != [])
    rows = rows_of(run_small(*arguments, *CSV))
    assert [int(row["epoch"]) for row in rows] == [epoch for epoch in expected for _ in range(runs)]
    if "--seeds" not in more:
        [[_, *table], *_] = report(*arguments).tables
        shown = [int(cells[0]) for cells in table if cells[0] != "baseline"]
        assert shown == expected


def test_a_diagnosis_is_of_before_and_after_the_training() -> None:
    arguments = "--hidden 3 --init rand-0.5 --buggy-prime --eta 0.5 --eta 3 --seeds 2"
    diagnosed = report(*f"{arguments} --batch-size 7 --epochs 2 --diagnose".split())
    training, test = reproduce.load_images(SMALL)
    expected = []
    for eta, seed in itertools.product(["0.5", "3"], [0, 1]):
        run = reproduce.Run(
            reproduce.Settings(3, "buggy", "rand-0.5", eta=float(eta), batch_size=7, seed=seed)
        )
        for when in ("before", "after"):
            measurements = reproduce.examine(run.network, training)
            figures = [f"{measurement.value:.3g}" for measurement in measurements]
            expected.append([f"--eta {eta}, seed {seed}", when, *figures])
            for _ in range(2):
                reproduce.train_epoch(run, training, test)
    _, [headings, *rows] = diagnosed.tables
    assert rows == expected
    [explanations] = diagnosed.explanations
    assert headings == ["", "training", *explanations]


@pytest.mark.parametrize(
    ("arguments", "batches"),
    [
        ("--batch-size 51 --hidden 2", "full batch"),
        ("--batch-size 50 --batch-size 99", "full batch"),
        ("--batch-size 10 --eta 1 --eta 2", "batches of 10"),
        ("--batch-size 10 --batch-size 50", "50 training images"),
        ("--batch-size 10 --suspects", "50 training images"),
        ("--suspects", "full batch"),
    ],
)
def test_the_title_says_how_large_all_batches_are(arguments: str, batches: str) -> None:
    title = report(*arguments.split(), "--epochs", 1).title
    assert title.split(", ")[-1] == batches


def test_of_300_training_images_the_last_sixth_is_not_used(
    mnist: mnist_loader.Data, tmp_path: Path
) -> None:
    write_idx(tmp_path, mnist, 300, 5)
    arguments = "--suspects --batch-size 7 --epochs 1 --format markdown"
    reported = report_of(run("--data", tmp_path, *arguments.split()))
    assert "250 training images" in reported.title
    [table] = reported.tables
    assert len({row[0] for row in table}) == len(table)


def words_of(line: str) -> list[str]:
    """Return the words of a line of a report, in plain text or Markdown."""
    return line.replace("|", " ").replace("`", "").split()


WIDTH = 80
ONE_OR_MORE: dict[str, list[str]] = {
    "--init": list(reproduce.INITS),
    "--init-scale": ["1", "0.1", "0.012345678901234567", "1e-05", "3e5"],
    "--eta": ["0.5", "3", "0.987654321012345", "1.2345678901234567e-05"],
    "--batch-size": ["50000", "10", "7", "49"],
}
ONE: dict[str, list[str]] = {
    "--seed": ["0", "20", "4294967290"],
    "--seeds": ["1", "1", "3"],
    "--every": ["1", "2"],
    "--dtype": ["float64", "float32"],
    "--data": ["plain.gz", "it's é ω.gz", "two  blanks & more.gz"],
}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Return a valid command line of at most 16 runs, or of suspects."""
    arguments = ["--hidden", "5", "--epochs", str(draw(st.integers(1, 4)))]
    suspects = draw(st.booleans())
    most = 1 if suspects else 16
    for option, values in ONE_OR_MORE.items():
        chosen = draw(
            st.lists(st.sampled_from(values), min_size=1, max_size=min(most, 3), unique=True)
        )
        most //= len(chosen)
        for value in chosen:
            arguments += [option, value]
    for option, values in ONE.items():
        arguments += [option, draw(st.sampled_from(values))]
    flags = ["--diagnose", "--buggy-prime"]
    if most > 1:
        flags.append("--fixed-prime")
    if suspects:
        arguments.append("--suspects")
    return arguments + draw(st.lists(st.sampled_from(flags), unique=True))


@settings(max_examples=40)
@given(arguments=command_lines())
@example(arguments=["--hidden", "0", "--every", "1", "--epochs", "1", "--data", "plain.gz"])
def test_any_report_can_be_had_again_and_says_the_same_in_markdown(
    arguments: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / arguments[arguments.index("--data") + 1]
    path.write_bytes(SMALL.read_bytes())
    arguments = [str(path) if word == path.name else word for word in arguments]
    shown = ["--every", arguments[arguments.index("--every") + 1]]
    if "--diagnose" in arguments:
        shown.append("--diagnose")
    text = printed(run(*arguments))
    again = run(*arguments, "--format", "markdown")
    reported = report_of(again)
    python, script, *printed_arguments = shlex.split(reported.command)
    assert (python, script) == ("python", "reproduce.py")
    assert printed(run(*printed_arguments, *shown)) == text

    rule = re.compile(r"\|( -+:? \|)+\n")
    markdown = rule.sub("", printed(again))
    assert [words_of(line) for line in markdown.splitlines()] == [
        words_of(line) for line in text.splitlines()
    ]
    # In plain text the numbers stand below each other.
    assert len({line.index(" (") for line in text.splitlines() if line.endswith("%)")}) == 1
    # Every option can be copied; no two rows are the same run, and up to four stand side by side.
    names = []
    for name, before_or_steps, *_ in reported.tables[-1][1:]:
        names.append((name, before_or_steps))
        assert name.isascii()  # no dash
    assert len(set(names)) == len(names)
    if "A" in reported.notes:
        [table] = re.findall(r"^epoch.*\n(?: .*\n)+", text, re.M)
        for line in table.splitlines():
            assert len(line) <= WIDTH


@pytest.mark.skipif(os.name == "nt", reason="a stand-in for it")
def test_on_windows_the_command_has_double_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        option = reproduce.as_option("data", r"C:\my data\x")
    assert option == r'--data "C:\my data\x"'


# What is refused

USAGE_ERRORS = {
    "--hidden -1": ("--hidden", "-1"),
    "--hidden 10001": ("--hidden", "10001"),
    "--hidden 30,10": ("--hidden", "'30,10' is not a valid whole number"),
    "--hidden 30 --eta 0.5 0.1": ("argument", "0.1"),
    "--epochs 0": ("--epochs", "0"),
    "--epochs 1e2": ("--epochs", "'1e2' is not a valid whole number"),
    "--every 0": ("--every", "0"),
    "--eta 0": ("--eta", "0"),
    "--eta nan": ("--eta", "'nan' is not a finite number"),
    "--eta 0,5": ("--eta", "'0,5' is not a valid number"),
    "--init-scale -1": ("--init-scale", "-1"),
    "--init-scale inf": ("--init-scale", "'inf' is not a finite number"),
    "--init-scale 0,1": ("--init-scale", "'0,1' is not a valid number"),
    "--hidden 3 --init rand,rand-0.5": ("--init", "'rand,rand-0.5'"),
    "--init rand-0.5-w2": ("--init rand-0.5-w2", "--hidden"),
    "--batch-size 0": ("--batch-size", "0"),
    "--batch-size 10,100": ("--batch-size", "'10,100' is not a valid whole number"),
    "--seed 4294967296": ("--seed", "4294967296"),
    "--seed 4294967295 --seeds 2": ("--seed 4294967295", "--seeds 2"),
    "--seeds 0": ("--seeds", "0"),
    "--seeds 1001": ("--seeds", "1001"),
    "--buggy-prime": ("--buggy-prime", "--hidden"),
    "--fixed-prime": ("--fixed-prime", "--hidden"),
    "--diagnose": ("--diagnose", "--hidden"),
    "--hidden 3 --diagnose --format csv": ("--diagnose", "csv"),
    "--suspects --eta 1 --eta 2": ("--suspects", "one value"),
    "--hidden 3 --suspects --buggy-prime --fixed-prime": ("--suspects", "one derivative"),
    "--format yaml": ("--format", "'yaml'"),
    "--plot curves.xyz": ("--plot curves.xyz", ".png"),
    "--plot curves": ("--plot curves", ".png"),
    "--plot nowhere/curves.png": ("--plot nowhere/curves.png", "no file"),
    "--plot .": ("--plot", "."),
    "--one-at-a-time": ("option", "--one-at-a-time"),
    "stray": ("argument", "stray"),
}


@pytest.mark.parametrize(("arguments", "named"), USAGE_ERRORS.items())
def test_a_wrong_command_line(
    arguments: str, named: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = error_of(run_small(*arguments.split()), 2)
    for word in named:
        assert word in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", ["--seed 4294967295", "--seed 4294967294 --seeds 2"])
def test_the_last_seed_can_be_used(arguments: str) -> None:
    printed(run_small("--epochs", 1, *arguments.split()))


@pytest.mark.parametrize("network", ["", "--hidden 5 --buggy-prime", "--batch-size 7"])
@pytest.mark.parametrize(
    ("cause", "named"),
    [
        ("--eta 0.5 --eta 1e300", "--eta 1e+300, seed 7"),
        ("--dtype float32 --eta 1e30 --eta 0.5", "--eta 1e+30, seed 7"),
        ("--seeds 3 --dtype float32 --init-scale 1e300", "the network, seed 7"),  # not numbers
    ],
)
def test_a_run_that_diverges_says_where(cause: str, named: str, network: str) -> None:
    arguments = ["--seed", 7, *cause.split(), *network.split()]
    result = run_small(*arguments)
    match = re.match(r"Error: (.+): after epoch (\d) ", error_of(result, 1))
    assert match
    assert match[1] == named
    # What came before is there.
    rows = re.findall(r"^ +(\d+) +\d", result.stdout, re.M)
    assert rows == [str(epoch) for epoch in range(int(match[2]))]


def test_bad_data_is_one_line_and_status_1(tmp_path: Path) -> None:
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(SMALL.read_bytes()[:5000])
    result = run("--data", path)
    assert str(path) in error_of(result, 1)
    assert result.stdout == ""


def test_help_describes_every_option_and_lists_the_suspects() -> None:
    text = printed(run("-h"))
    assert text == printed(run("--help"))
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
    for name, default in (
        ("--epochs", "30, or 100 without a hidden layer"),
        ("--batch-size", "all training images"),
        ("--data", "the MNIST files beside this script"),
    ):
        assert f"[default: ({default})" in " ".join(described[name].split())
    repeatable = [name for name, description in described.items() if description[0] == "*"]
    assert repeatable == ["--buggy-prime", "--fixed-prime", *ONE_OR_MORE]
    listed = re.sub(r"\s", "", described["--suspects"])
    for name, value in reproduce.SUSPECTS:
        if value != reproduce.FULL_BATCH:
            assert reproduce.as_option(name, value).replace(" ", "") in listed
    assert printed(run("--version")).split()[-1] == reproduce.__version__


whole = ["--hidden", "--seed", "--seeds", "--every", "--batch-size"]
real = ["--init-scale", "--eta"]
odd = ["-2", "1e300", "1e-300", "4294967296", "0.5", "nan", "inf", "0x10", "", "½", ",", "1,2"]
words = {
    "--epochs": ["1", "2", "4", "one"],
    "--init": ["rand", "rand-0.5-w2", "glorot", "Rand", "randn,rand"],
    "--init-scale": ["fan-in", "0", "0.1", "1,1.0"],
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
    st.tuples(st.sampled_from(["--buggy-prime", "--fixed-prime", "--suspects", "word"])),
    st.just(("--hidden", "5", "--diagnose")),
)


@settings(max_examples=100)
@given(arguments=st.lists(flags, max_size=5))
def test_any_command_line_runs_or_ends_in_one_error_line(arguments: list[tuple[str, ...]]) -> None:
    result = run_small("--epochs", 3, *itertools.chain(*arguments))
    if result.exit_code == 0:
        assert printed(result).replace("\n", "").isprintable()
        assert not re.search(r"\bnan\b", result.stdout)
    else:
        error_of(result, result.exit_code)
        assert result.exit_code in (1, 2)


# Pictures


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn."""
    drawn = []
    savefig = Figure.savefig

    def kept(figure: Figure, *arguments: Any, **options: Any) -> None:
        drawn.append(figure)
        savefig(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", kept)
    return drawn


def lines_of(axis: Any) -> list[list[list[float]]]:
    """Return x and y of each line of a panel."""
    return [[list(line.get_xdata()), list(line.get_ydata())] for line in axis.lines]


@pytest.mark.parametrize(
    ("arguments", "legend", "x"),
    [
        ("--hidden 5 --seeds 2", [], range(3)),
        ("--eta 1 --eta 2", ["--eta 1", "--eta 2"], range(3)),
        (
            "--hidden 5 --batch-size 7 --batch-size 99",
            ["--batch-size 7", "--batch-size 50"],
            None,
        ),
    ],
)
def test_a_picture_shows_what_was_measured(
    arguments: str, legend: list[str], x: range | None, figures: list[Figure], tmp_path: Path
) -> None:
    common = f"{arguments} --init randn --seed 4 --epochs 3".split()
    drawn = printed(run_small(*common, "--plot", tmp_path / "curves.png"))
    assert drawn == printed(run_small(*common))
    rows = rows_of(run_small(*common, *CSV))
    baseline = reproduce.baseline_of(*reproduce.load_images(SMALL))
    [figure] = figures
    cost, accuracy, *z2 = figure.axes
    for axis, column, scale, height in (
        (cost, "cost", 1, baseline.cost),
        (accuracy, "correct", 10, 100 * baseline.accuracy),
    ):
        for number, [its_x, its_y] in enumerate(lines_of(axis)[:2]):
            its_rows = rows[number::2]  # of two runs side by side
            assert its_y == [scale * float(row[column]) for row in its_rows]
            assert its_x == list(x or [int(row["steps"]) for row in its_rows])
        assert axis.lines[2].get_ydata() == [height, height]
        assert axis.get_xlabel() == ("epoch" if x else "steps")
        assert axis.get_xscale() == ("linear" if x else "log")
    assert (cost.get_ylabel().split(",")[0], cost.get_yscale()) == ("cost", "log")
    assert (accuracy.get_ylabel().split(",")[0], accuracy.get_ylim()) == ("accuracy in %", (0, 100))
    names = [text.get_text() for box in figure.legends for text in box.get_texts()]
    assert names == legend

    assert len(z2) == ("--hidden" in arguments and x is not None)
    for axis in z2:
        network = reproduce.Run(reproduce.Settings(5, init="randn", seed=4)).network
        [values, _], _ = network.feedforward(mnist_loader.load_data(SMALL)[0][0].T)
        [stairs] = axis.patches
        assert isinstance(stairs, StepPatch)
        counts, edges, _ = stairs.get_data()
        expected, its_edges = np.histogram(values, 100)
        np.testing.assert_allclose(edges, its_edges)
        np.testing.assert_allclose(counts, expected / expected.max())
        [[z, a]] = lines_of(axis)
        assert z[0] <= edges[0] < -10
        assert z[-1] >= edges[-1] > 10
        np.testing.assert_array_equal(a, reproduce.sigmoid(np.array(z)))
        assert axis.get_xlabel().startswith("z2")
        assert axis.get_ylabel().startswith("frequency")


def test_no_two_runs_are_drawn_alike(figures: list[Figure], tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    printed(run_small("--hidden", 5, "--suspects", "--epochs", 1, "--plot", path))
    *lines, _ = figures[0].axes[0].lines
    assert len(lines) > 7  # more than there are colours
    looks = {(line.get_color(), line.get_linestyle()) for line in lines}
    assert len(looks) == len(lines)
    assert "C7" not in dict(looks)  # which is grey, as the baseline


@pytest.mark.parametrize(
    ("arguments", "suffix"),
    [
        ("--eta 1e4 --epochs 20", ".PNG"),  # The cost ends at exactly 0.
        ("--hidden 5 --init-scale 0", ".png"),
        ("--hidden 5 --init-scale 1e150", ".png"),
        ("--hidden 1 --batch-size 1 --dtype float32 --epochs 1 --format csv", ".pdf"),
        ("--hidden 5 --eta 1e9 --suspects", ".svg"),
    ],
)
def test_degenerate_runs_are_drawn(arguments: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"curves{suffix}"
    printed(run_small("--epochs", 3, *arguments.split(), "--plot", path))
    heads = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
    assert path.read_bytes().startswith(heads[suffix.lower()])


def interrupted(*arguments: Any, **options: Any) -> None:
    raise KeyboardInterrupt


FAILURES = {
    "a mistyped --data": ("--data nowhere", 1),
    "a wrong option": ("--epochs 0", 2),
    "divergence": ("--eta 1e300", 1),
    "no matplotlib": ("", 2),
    "Ctrl-C while it trains": ("", 1),
    "Ctrl-C while it draws": ("", 1),
}


@pytest.mark.parametrize("old", [None, b"a good picture"])
@pytest.mark.parametrize("cause", FAILURES)
def test_no_picture_is_touched_before_the_new_one_is_there(
    cause: str, old: bytes | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "curves.png"
    if old:
        path.write_bytes(old)
    if cause == "no matplotlib":
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    if cause == "Ctrl-C while it trains":
        monkeypatch.setattr(reproduce, "train_epoch", interrupted)
    if cause == "Ctrl-C while it draws":
        monkeypatch.setattr(Figure, "savefig", interrupted)
    arguments, status = FAILURES[cause]
    result = run_small("--epochs", 2, *arguments.split(), "--plot", path)
    assert result.exit_code == status
    if cause == "no matplotlib":
        assert "pip install matplotlib" in result.stderr
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([old] if old else [])
