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

import numpy as np
import pytest
from click.testing import Result
from conftest import SMALL, printed, rows_of, run, run_small, write_idx
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import mnist_loader
import reproduce

SETTINGS = ["hidden", "prime", "init", "init_scale", "eta", "batch_size", "seed", "dtype"]


def settings_of(result: Result) -> list[list[str]]:
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


def command_in(text: str) -> list[str]:
    """Return the arguments of the command that a report shows."""
    [command] = re.findall(r"^ {4}python reproduce\.py (.+)$", text, re.M)
    return shlex.split(command)


def tables_in(text: str) -> list[list[str]]:
    """Return the rows of each table of a report."""
    tables = []
    for block in text.split("\n\n")[3:]:
        if not block.startswith("- "):
            tables.append(block.splitlines())
    return tables


# Which runs are made


@pytest.mark.parametrize(("hidden", "epochs", "prime"), [(0, 100, ""), (1, 30, "fixed")])
def test_defaults_are_those_of_the_question(hidden: int, epochs: int, prime: str) -> None:
    rows = rows_of(run_small("--hidden", hidden, "--format", "csv"))
    assert [row["epoch"] for row in rows] == [str(epoch) for epoch in range(epochs)]
    assert [row["steps"] for row in rows] == [str(epoch + 1) for epoch in range(epochs)]
    question = [str(hidden), prime, "rand", "1", "0.5", "50", "0", "float64"]
    assert [rows[0][name] for name in SETTINGS] == question
    # Those of the functions are the same.
    assert asdict(reproduce.Settings()) == {
        **dict(zip(SETTINGS, [0, "fixed", "rand", "1", 0.5, sys.maxsize, 0, "float64"]))
    }


def test_all_combinations_are_made_in_the_order_given() -> None:
    arguments = (
        "--init-scale 1 --init-scale 0.2 --init-scale 1,fan-in --init randn --init rand "
        "--buggy-prime --fixed-prime --hidden 3 --seed 4 --seeds 2 --eta 3 --batch-size 20 "
        "--dtype float32 --epochs 2 --format csv"
    )
    expected = []
    for prime, init, scale, seed in itertools.product(
        ["buggy", "fixed"], ["randn", "rand"], ["1", "0.2", "1,fan-in"], ["4", "5"]
    ):
        expected.append(["3", prime, init, scale, "3.0", "20", seed, "float32"])
    rows = rows_of(run_small(*arguments.split()))
    for start in range(0, len(expected), 2):
        its = rows[2 * start : 2 * start + 4]  # two seeds side by side, two epochs
        made = [[row[name] for name in SETTINGS] for row in its]
        assert made == expected[start : start + 2] * 2
        assert [row["epoch"] for row in its] == ["0", "0", "1", "1"]
    assert len(rows) == 2 * len(expected)


def test_a_run_has_the_same_numbers_alone_and_in_a_comparison() -> None:
    common = ["--hidden", 7, "--init", "randn", "--init-scale", "fan-in", "--format", "csv"]
    together = rows_of(
        run_small(*common, "--eta", 3, "--eta", 1, "--batch-size", 20, "--batch-size", 50)
    )
    for number, (eta, size) in enumerate(itertools.product([3, 1], [20, 50])):
        alone = rows_of(run_small(*common, "--eta", eta, "--batch-size", size))
        assert alone == together[number::4]


@pytest.mark.parametrize(
    ("arguments", "same"),
    [
        ("--batch-size 50 --batch-size 99", ""),
        ("--eta 0.5 --eta 0.50", ""),
        ("--init-scale 1.0,1", ""),
        ("--hidden 3 --init rand-0.5,rand-0.5 --init rand-0.5", "--hidden 3 --init rand-0.5"),
        ("--hidden 3 --init-scale 1.0,2e0 --init-scale 1,2", "--hidden 3 --init-scale 1,2"),
        ("--hidden 3 --fixed-prime --fixed-prime", "--hidden 3"),
    ],
)
def test_what_is_the_same_is_one_run(arguments: str, same: str) -> None:
    common = ["--epochs", 1, "--format", "csv"]
    assert rows_of(run_small(*arguments.split(), *common)) == rows_of(
        run_small(*same.split(), *common)
    )


# The suspects

START = ["30", "buggy", "rand", "1", "0.5", "50", "0", "float64"]
OF_30 = {  # settings of the start, and what each of the other rows has in their place
    "--hidden 30 --buggy-prime": (
        {},
        [
            {"prime": "fixed"},
            {"init": "rand-0.5"},
            {"init": "randn"},
            {"init": "rand-0.5,rand"},
            {"init": "rand,rand-0.5"},
            {"init_scale": "fan-in"},
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
            {"init": "randn"},
            {"init": "rand-0.5,rand"},
            {"init": "rand,rand-0.5"},
            {"init_scale": "1"},
            {"init_scale": "fan-in"},
            {"eta": "0.5"},
            {"eta": "1.0"},
            {"batch_size": "1000"},
        ],
    ),
    "--batch-size 10 --init rand,rand": (
        {"hidden": "0", "prime": "", "batch_size": "10"},
        [
            {"init": "rand-0.5"},
            {"init": "randn"},
            {"init_scale": "fan-in"},
            {"init_scale": "0.1"},
            {"eta": "1.0"},
            {"eta": "5.0"},
            {"batch_size": "2500"},
            {"batch_size": "1000"},
        ],
    ),
}


@pytest.mark.parametrize(("arguments", "expected"), OF_30.items())
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
    made = settings_of(run(*common, "--format", "csv"))
    assert made == [list({**start, **change}.values()) for change in [{}, *changes]]

    # Each row is named by its change.
    [table] = tables_in(printed(run(*common)))
    names = [re.split(r"\s{2,}", row)[0] for row in table[2:-1]]
    for name, change in zip(names, changes):
        [(setting, value)] = change.items()
        if setting == "prime":
            assert name == f"--{value}-prime"
        else:
            assert name == f"--{setting.replace('_', '-')} {value.removesuffix('.0')}"


def test_who_adds_a_suspect_has_added_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "SUSPECTS", [*reproduce.SUSPECTS, ("eta", 0.25)])
    made = settings_of(run_small("--suspects", "--epochs", 1, "--format", "csv"))
    assert made[-1] == ["0", "", "rand", "1", "0.25", "50", "0", "float64"]


# What is printed


def test_figures_of_several_seeds_are_means_and_extremes() -> None:
    arguments = "--hidden 20 --init randn --eta 3 --eta 1 --batch-size 9 --seed 1 --seeds 3"
    common = [*arguments.split(), "--epochs", 2]
    [table] = tables_in(printed(run_small(*common)))
    rows = rows_of(run_small(*common, "--format", "csv"))
    training, test = reproduce.load_images(SMALL)
    for line, last in zip(table[1:], [rows[3:6], rows[9:12]]):
        cells = re.split(r"\s{2,}", line)
        correct = [int(row["correct"]) / 10 for row in last]
        assert min(correct) < max(correct)
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
        assert cells[1:] == [
            "12",
            f"{math.fsum(float(row['cost']) for row in last) / 3:.6f}",
            f"{sum(correct) / 3:.2%}",
            f"{min(correct):.2%}",
            f"{max(correct):.2%}",
            f"{predicted.argmax()} ({predicted.max() / 30:.2%})",
        ]


def test_epochs_side_by_side_are_those_of_the_csv() -> None:
    """After epoch 3 the first run takes as many images for a 1 as for a 3: the 1 is named."""
    arguments = "--hidden 6 --init rand-0.5 --eta 1 --eta 0.1 --batch-size 9 --epochs 4"
    common = arguments.split()
    text = printed(run_small(*common))
    epochs, ends = tables_in(text)
    assert re.findall(r"^- ([A-Z]: .+)$", text, re.M) == ["A: --eta 1", "B: --eta 0.1"]
    rows = rows_of(run_small(*common, "--format", "csv"))
    for number, line in enumerate(epochs[1:]):
        cells = [str(number)]
        for row in rows[2 * number : 2 * number + 2]:
            cells += [f"{float(row['cost']):.4f}", f"{int(row['correct']) / 10:.2%}"]
        assert line.split() == cells
    for line, name, row in zip(ends[1:], ["--eta 1", "--eta 0.1"], rows[-2:]):
        *figures, most = re.split(r"\s{2,}", line)
        assert figures[:4] == [name, "24", f"{float(row['cost']):.6f}", row["correct"]]
        assert most == f"{row['top_digit']} ({int(row['top_count']) / 10:.2%})"


def test_the_baseline_is_that_of_the_training_labels() -> None:
    """Of the 50 training images 8 are a 1, which is more than of any other digit."""
    [table] = tables_in(printed(run_small("--epochs", 1)))
    assert table[-1].split()[1:] == ["3.212590", "2", "20.00%", "1", "(100.00%)"]


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
    rows = rows_of(run_small(*arguments, "--format", "csv"))
    assert [int(row["epoch"]) for row in rows] == [epoch for epoch in expected for _ in range(runs)]
    if "--seeds" not in more:
        table, *_ = tables_in(printed(run_small(*arguments)))
        shown = re.findall(r"^ *(\d+) ", "\n".join(table), re.M)
        assert [int(epoch) for epoch in shown] == expected


def test_a_diagnosis_is_of_before_and_after_the_training(mnist: mnist_loader.Data) -> None:
    arguments = "--hidden 3 --init rand-0.5 --buggy-prime --eta 0.5 --eta 3 --seeds 2"
    text = printed(run_small(*arguments.split(), "--batch-size", 7, "--epochs", 2, "--diagnose"))
    _, table = tables_in(text)
    training, test = reproduce.load_images(SMALL)
    expected = []
    for eta, seed in itertools.product(["0.5", "3"], [0, 1]):
        run = reproduce.Run(
            reproduce.Settings(3, "buggy", "rand-0.5", eta=float(eta), batch_size=7, seed=seed)
        )
        for when in ("before", "after"):
            figures = reproduce.examine(run.network, training).values()
            cells = [f"--eta {eta} --seed {seed} {when}", *(f"{value:.3g}" for value in figures)]
            expected.append(" ".join(cells))
            for _ in range(2):
                reproduce.train_epoch(run, training, test)
    assert [" ".join(line.split()) for line in table[1:]] == expected


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
    text = printed(run_small(*arguments.split(), "--epochs", 1))
    assert text.splitlines()[0].split(", ")[-1] == batches


def test_of_300_training_images_the_last_sixth_is_not_used(
    mnist: mnist_loader.Data, tmp_path: Path
) -> None:
    write_idx(tmp_path, mnist, 300, 5)
    text = printed(run("--data", tmp_path, "--suspects", "--batch-size", 7, "--epochs", 1))
    assert "250 training images" in text.splitlines()[0]
    [table] = tables_in(text)
    assert len({re.split(r"\s{2,}", row)[0] for row in table}) == len(table)


def cells_of(line: str) -> list[str]:
    """Return the words of a line of a report, in plain text or Markdown."""
    return line.replace("|", " ").split()


WIDTH = 80
ONE_OR_MORE: dict[str, list[str]] = {
    "--init": ["rand", "rand-0.5", "randn", "rand-0.5,rand"],
    "--init-scale": ["1", "fan-in", "0.1,fan-in", "0.012345678901234567", "1e-05", "3e5"],
    "--eta": ["0.5", "3", "0.987654321012345", "1.2345678901234567e-05"],
    "--batch-size": ["50000", "10", "7", "49"],
}
ONE: dict[str, list[str]] = {
    "--seed": ["0", "20", "4294967290"],
    "--seeds": ["1", "1", "3"],
    "--every": ["1", "2"],
    "--dtype": ["float64", "float32"],
    "--data": ["plain.gz", "it's é ω.gz", "with\x1b[1m\n.gz"],
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
    assert text.replace("\n", "").isprintable()
    if path.name.isprintable():  # else it is in the form of bash, which shlex does not read
        assert printed(run(*command_in(text), *shown)) == text
        markdown = printed(run(*command_in(text), *shown, "--format", "markdown"))
    else:
        markdown = printed(run(*arguments, "--format", "markdown"))

    kinds = []
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        if token.level == 0 and token.nesting >= 0:
            kinds.append(token.type)
    assert kinds[:4] == ["paragraph_open", "code_block", "bullet_list_open", "table_open"]
    plain = [cells_of(line) for line in text.splitlines()]
    rule = re.compile(r"\|( -+:? \|)+\n")
    assert [cells_of(line) for line in rule.sub("", markdown).splitlines()] == plain

    # No two rows are the same run, and up to four stand side by side.
    made = [row.rsplit("  ", 1)[0] for row in tables_in(text)[-1]]
    assert len(set(made)) == len(made)
    if text.count(": cost") > 1:
        for line in tables_in(text)[0]:
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
    "--hidden 30,10": ("--hidden", "'30,10' is not a valid whole number"),
    "--hidden 30 --eta 0.5 0.1": ("argument", "0.1"),
    "--epochs 0": ("--epochs", "0"),
    "--epochs 1e2": ("--epochs", "'1e2' is not a valid whole number"),
    "--every 0": ("--every", "0"),
    "--eta 0": ("--eta", "0"),
    "--eta fan-in": ("--eta", "'fan-in'"),
    "--eta 0,5": ("--eta", "'0,5' is not a valid number"),
    "--init-scale -1": ("--init-scale", "-1"),
    "--init-scale fanin": ("--init-scale", "'fanin'"),
    "--hidden 3 --init-scale 1,-2": ("--init-scale", "-2"),
    "--hidden 3 --init-scale 1,": ("--init-scale", "''"),
    "--hidden 3 --init-scale 1,2,3": ("--init-scale", "'1,2,3'"),
    "--init-scale 1,fan-in": ("1,fan-in", "--hidden"),
    "--hidden 3 --init rand,Rand": ("--init", "'Rand'"),
    "--init rand-0.5,rand": ("rand-0.5,rand", "--hidden"),
    "--batch-size 0": ("--batch-size", "0"),
    "--batch-size 10,100": ("--batch-size", "'10,100' is not a valid whole number"),
    "--seed 4294967296": ("--seed", "4294967296"),
    "--seed 4294967295 --seeds 2": ("--seed 4294967295", "--seeds 2"),
    "--seeds 0": ("--seeds", "0"),
    "--buggy-prime": ("--buggy-prime", "--hidden"),
    "--fixed-prime": ("--fixed-prime", "--hidden"),
    "--diagnose": ("--diagnose", "--hidden"),
    "--hidden 3 --diagnose --format csv": ("--diagnose", "csv"),
    "--suspects --eta 1 --eta 2": ("--suspects", "once"),
    "--hidden 3 --suspects --buggy-prime --fixed-prime": ("--suspects", "once"),
    "--format yaml": ("--format", "'yaml'"),
    "--plot curves.xyz": ("--plot curves.xyz", "png"),
    "--plot nowhere/curves.png": ("--plot nowhere/curves.png", "No such file"),
    "--plot .": ("--plot", "."),
    "--one-at-a-time": ("option", "--one-at-a-time"),
    "stray": ("argument", "stray"),
}


@pytest.mark.parametrize(("arguments", "named"), USAGE_ERRORS.items())
def test_a_wrong_command_line(
    arguments: str, named: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = error_of(run(*arguments.split()), 2)
    for word in named:
        assert word in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("network", ["", "--hidden 5 --buggy-prime", "--batch-size 7"])
@pytest.mark.parametrize(
    ("cause", "named"),
    [
        ("--eta 0.5 --eta 1e300", "--eta 1e+300, seed 7"),
        ("--dtype float32 --eta 1e30 --eta 0.5", "--eta 1e+30, seed 7"),
        ("--seeds 3 --init-scale 1e300", "the network, seed 7"),
        ("--eta nan", "the network, seed 7"),
    ],
)
def test_a_run_that_diverges_says_where(cause: str, named: str, network: str) -> None:
    arguments = ["--seed", 7, *cause.split(), *network.split()]
    result = run_small(*arguments)
    match = re.match(r"Error: (.+): after epoch (\d) ", error_of(result, 1))
    assert match
    assert match[1] == named
    tables = tables_in(result.stdout)
    if "--seeds" not in cause:  # What came before is there.
        assert len(tables[0]) == 1 + int(match[2])


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


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("", []),
        ("--hidden 5", []),
        ("--hidden 5 --buggy-prime --fixed-prime", ["--buggy-prime", "--fixed-prime"]),
        ("--eta 1 --eta 2 --seeds 2", ["--eta 1", "--eta 2"]),
    ],
)
def test_what_is_written_in_a_picture(arguments: str, names: list[str], tmp_path: Path) -> None:
    path = tmp_path / "curves.svg"
    drawn = [*arguments.split(), "--epochs", 3]
    assert printed(run_small(*drawn, "--plot", path)) == printed(run_small(*drawn))
    picture = path.read_text()
    # matplotlib has what is written in comments, beside the shapes.
    texts = [text.replace("- -", "--") for text in re.findall(r"<!-- (.+?) -->", picture)]
    panels = 2 + ("--hidden" in arguments)
    assert picture.count('id="axes_') == panels
    assert len([text for text in texts if "baseline" in text]) == 2
    assert texts.count("sigmoid") == panels - 2
    assert texts[len(texts) - len(names) :] == names


@pytest.mark.parametrize(
    ("arguments", "suffix"),
    [
        ("--eta 1e4 --epochs 20", ".PNG"),  # The cost ends at exactly 0.
        ("--hidden 5 --init-scale 0", ".png"),
        ("--hidden 5 --init-scale 1e150", ".png"),
        ("--hidden 1 --batch-size 1 --dtype float32 --epochs 1", ".pdf"),
        ("--hidden 5 --eta 1e9 --suspects", ".png"),
    ],
)
def test_degenerate_runs_are_drawn(arguments: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"curves{suffix}"
    printed(run_small("--epochs", 3, *arguments.split(), "--plot", path))
    heads = {".png": b"\x89PNG", ".pdf": b"%PDF"}
    assert path.read_bytes().startswith(heads[suffix.lower()])


def test_plot_without_matplotlib_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    error = error_of(run_small("--plot", tmp_path / "curves.png"), 2)
    assert "pip install matplotlib" in error
    assert list(tmp_path.iterdir()) == []
