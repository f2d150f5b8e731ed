"""The command, as its user meets it."""

from __future__ import annotations

import csv
import io
import itertools
import re
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

SMALL = Path(__file__).parent / "fixtures" / "nielsen_protocol2.pkl.gz"
Run = Callable[..., Result]


def rows_of(result: Result) -> list[dict[str, str]]:
    assert result.exit_code == 0, result.stderr
    return list(csv.DictReader(io.StringIO(result.stdout)))


def test_a_report_of_one_run(run: Run) -> None:
    result = run("--hidden", 30, "--buggy-prime", "--epochs", 2)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout == (
        "784-30-10 sigmoid network, cross-entropy, full-batch gradient descent on 50,000 MNIST "
        "images\n"
        "python reproduce.py --hidden 30 --init rand --init-scale 1 --buggy-prime --eta 0.5 "
        "--epochs 2 --seed 0\n"
        "\n"
        "epoch        cost  correct  accuracy  most predicted\n"
        "    0  131.034130     1135   11.35 %  1 (10000 of 10000)\n"
        "    1   15.265121      958    9.58 %  6 (10000 of 10000)\n"
        "\n"
        "cost 131.034130 -> 15.265121; 9.58 % correct; most predicted 6 (10000)\n"
        "baseline (class frequencies, image ignored): cost 3.249079; 11.35 % correct\n"
    )


def test_csv_has_the_question_s_numbers_in_full(run: Run) -> None:
    """The command line whose golden run is the second of test_numerics."""
    arguments = "--hidden 30 --buggy-prime --seed 1 --init-scale 0.1 --epochs 3 --format csv"
    result = run(*arguments.split())
    assert result.stdout.splitlines()[0] == (
        "hidden,init,init_scale,prime,eta,seed,dtype,epoch,cost,correct,total,top_digit,top_count"
    )
    golden_path = Path(__file__).parent / "golden" / "hidden30_scale0.1_buggy_eta0.5_seed1.csv"
    with golden_path.open() as file:
        golden = list(csv.DictReader(file))
    rows = rows_of(result)
    assert len(rows) == 3
    for row, expected in zip(rows, golden, strict=False):
        counts = [int(count) for count in expected["predicted"].split()]
        assert float(row.pop("cost")) == pytest.approx(float(expected["cost"]), rel=1e-9)
        assert row == {
            "hidden": "30",
            "init": "rand",
            "init_scale": "0.1",
            "prime": "buggy",
            "eta": "0.5",
            "seed": "1",
            "dtype": "float64",
            "epoch": expected["epoch"],
            "correct": expected["correct"],
            "total": "10000",
            "top_digit": str(counts.index(max(counts))),
            "top_count": str(max(counts)),
        }


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
    rows = rows_of(run_small(*arguments, "--format", "csv"))
    assert [int(row["epoch"]) for row in rows] == list(range(epochs))
    settings = {
        name: rows[0][name] for name in ("init", "init_scale", "prime", "eta", "seed", "dtype")
    }
    assert settings == {
        "init": "rand",
        "init_scale": "1",
        "prime": prime,
        "eta": "0.5",
        "seed": "0",
        "dtype": "float64",
    }


@pytest.mark.parametrize(
    ("every", "epochs", "expected"),
    [(1, 3, [0, 1, 2]), (2, 5, [0, 2, 4]), (2, 6, [0, 2, 4, 5]), (9, 4, [0, 3]), (9, 1, [0])],
)
def test_every_shows_each_nth_epoch_the_first_and_the_last(
    every: int, epochs: int, expected: list[int], run_small: Run
) -> None:
    result = run_small("--every", every, "--epochs", epochs)
    assert [int(n) for n in re.findall(r"^ +(\d+)  ", result.stdout, re.M)] == expected
    everything = run_small("--every", every, "--epochs", epochs, "--format", "csv")
    assert len(rows_of(everything)) == epochs


def test_up_to_four_runs_stand_side_by_side(run_small: Run) -> None:
    arguments = "--hidden 5 --fixed-prime --buggy-prime --init-scale 0.25 --init-scale 1 --epochs 2"
    lines = run_small(*arguments.split()).stdout.splitlines()
    assert lines[1].endswith(
        "--hidden 5 --fixed-prime --buggy-prime --init-scale 0.25 --init-scale 1 --init rand "
        f"--eta 0.5 --epochs 2 --seed 0 --data {SMALL}"
    )
    assert lines[3].split() == ["--fixed-prime"] * 2 + ["--buggy-prime"] * 2
    assert lines[4].split() == ["--init-scale", "0.25", "--init-scale", "1"] * 2
    assert lines[5].split() == ["epoch"] + ["cost", "accuracy"] * 4
    assert [line.split()[0] for line in lines[6:8]] == ["0", "1"]
    assert max(map(len, lines[3:])) <= 100
    assert lines[9].startswith("--fixed-prime --init-scale 0.25: cost ")
    assert lines[-1].startswith("baseline")


def test_large_costs_stay_in_their_columns(run_small: Run) -> None:
    """The cost falls from thousands; no run of the question's has more than three digits."""
    common = ["--hidden", 30, "--init-scale", 10, "--epochs", 9]
    for others in ([], ["--seed", 0, "--seed", 1, "--eta", 0.987654321012345]):
        lines = run_small(*common, *others).stdout.split("\n\n")[1].splitlines()
        costs = [re.match(r" +\d+ +(\S+)  ", line) for line in lines[-9:]]
        assert len({match.end() for match in costs if match}) == 1
        assert all(costs)
        assert {"e" in match[1] for match in costs if match} == {True, False}


def test_of_more_runs_each_gets_a_row_in_the_order_given(run_small: Run) -> None:
    arguments = (
        "--init-scale 1 --init-scale 0.2 --init-scale 0.02 --init rand --init fan-in "
        "--buggy-prime --fixed-prime --hidden 30 --epochs 2"
    )
    lines = run_small(*arguments.split()).stdout.splitlines()
    assert lines[3].split()[:3] == ["init-scale", "init", "prime"]
    assert [line.split()[:3] for line in lines[4:16]] == [
        [scale, init, prime]
        for scale in ("1", "0.2", "0.02")
        for init in ("rand", "fan-in")
        for prime in ("buggy", "fixed")
    ]
    assert lines[16] == ""
    assert max(map(len, lines[3:])) <= 100
    rows = rows_of(run_small(*arguments.split(), "--format", "csv"))
    assert len(rows) == 24
    # The same numbers in both, and the first and last cost of a run in its row.
    for line, first, last in zip(lines[4:16], rows[:12], rows[12:], strict=True):
        cells = line.split()
        assert cells[3:6] == [
            f"{float(first['cost']):.6f}",
            f"{float(last['cost']):.6f}",
            last["correct"],
        ]


def test_all_five_settings_at_once_stay_within_100_columns(run_small: Run) -> None:
    arguments = (
        "--hidden 3 --init rand --init fan-in --init-scale 1 --init-scale 0.02 --buggy-prime "
        "--fixed-prime --eta 0.5 --eta 3 --seed 0 --seed 1 --epochs 1"
    )
    table = run_small(*arguments.split()).stdout.split("\n\n")[1].splitlines()
    assert len(table) == 33
    assert max(map(len, table)) <= 100


def test_a_run_has_the_same_numbers_alone_and_in_a_comparison(run: Run) -> None:
    common = ["--hidden", 7, "--epochs", 2, "--format", "csv", "--init", "fan-in"]
    together = rows_of(
        run(*common, "--buggy-prime", "--fixed-prime", "--eta", 3, "--eta", 0.5, "--seed", 5)
    )
    assert len(together) == 8
    for prime in ("buggy", "fixed"):
        for eta in ("3", "0.5"):
            alone = rows_of(run(*common, f"--{prime}-prime", "--eta", eta, "--seed", 5))
            assert alone == [r for r in together if r["prime"] == prime and r["eta"] == eta]


def test_a_repeated_value_is_one_run(run_small: Run) -> None:
    once = run_small("--seed", 3, "--epochs", 2, "--format", "csv")
    assert (
        run_small("--seed", 3, "--seed", 3, "--epochs", 2, "--format", "csv").stdout == once.stdout
    )


@pytest.mark.parametrize(
    "arguments",
    [
        "--hidden 5 --epochs 3",
        "--hidden 5 --buggy-prime --fixed-prime --eta 1 --eta 2 --epochs 3",
        "--hidden 5 --init rand --init randn --init fan-in --seed 1 --seed 2 --epochs 3",
    ],
)
def test_markdown_is_the_table_and_lists(arguments: str, run_small: Run) -> None:
    markdown = run_small(*arguments.split(), "--format", "markdown", "--diagnose").stdout
    text = run_small(*arguments.split(), "--diagnose").stdout
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    kinds = [token.type for token in tokens]
    assert kinds.count("table_open") == 1
    assert kinds.index("code_block") < kinds.index("table_open") < kinds.index("bullet_list_open")
    [command] = [token.content for token in tokens if token.type == "code_block"]
    assert command.startswith("python reproduce.py --hidden 5 ")
    assert "--format markdown" in command

    def cells(kind: str) -> list[str]:
        return [
            "".join(child.content for child in after.children or [])
            for token, after in itertools.pairwise(tokens)
            if token.type == f"{kind}_open"
        ]

    # The table is that of the plain text, cell by cell, under its last line of headings.
    table = text.split("\n\n")[1].splitlines()
    start = next(i for i, line in enumerate(table) if "accuracy" in line)
    body = [re.split(r"  +", line.strip()) for line in table[start + 1 :]]
    assert cells("td") == [cell for row in body for cell in row]
    headings = re.split(r"  +", table[start].strip())
    for heading, plain in zip(cells("th"), headings, strict=True):
        assert heading.startswith(plain)
    assert len(set(cells("th"))) == len(headings)  # Each says which run it is of.
    items = [token for token in tokens if token.type == "list_item_open"]
    assert len(items) > 10


def reading_of(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return " ".join(result.stdout.split("\nDiagnosis")[1].split())


def test_diagnosis_of_the_question_s_failing_network(run: Run) -> None:
    reading = reading_of(run("--hidden", 30, "--buggy-prime", "--diagnose", "--every", 30))
    assert "The gradient is wrong" in reading
    assert "starts saturated: 100.00 % of its activations" in reading
    assert "nearly the same for all images" in reading
    assert "next to nothing" in reading
    assert "It ends stuck at the baseline" in reading
    assert "0 to 9: 0 10000 0 0 0 0 0 0 0 0 -> 0 10000 0 0 0 0 0 0 0 0" in reading
    assert "Nothing wrong" not in reading


def test_diagnosis_of_a_wrong_gradient_that_learns(run: Run) -> None:
    arguments = "--hidden 30 --buggy-prime --init-scale 0.02 --epochs 100 --every 99 --diagnose"
    reading = reading_of(run(*arguments.split()))
    assert "The gradient is wrong" in reading
    assert "does not start saturated: 0.00 %" in reading
    assert "It learns, in spite of this" in reading
    for absent in ("nearly the same", "next to nothing", "stuck at", "Nothing wrong"):
        assert absent not in reading


def test_diagnosis_of_a_healthy_network(run: Run) -> None:
    reading = reading_of(run("--hidden", 30, "--init", "fan-in", "--diagnose", "--every", 30))
    # What rounding makes of the error depends on the machine, and is not shown.
    assert "The gradient is right" in reading
    assert "relative error is below 1e-05 (limit: 0.001)" in reading
    assert "does not start saturated" in reading
    assert "It learns:" in reading
    assert reading.endswith("Nothing wrong was found in the gradient or the hidden layer.")


def test_diagnosis_of_what_it_cannot_explain(run: Run) -> None:
    arguments = "--hidden 30 --init-scale 0.01 --diagnose --every 30"
    reading = reading_of(run(*arguments.split()))
    assert "It ends stuck" in reading
    assert reading.endswith(
        "Why, these figures do not tell: gradient and hidden layer show no fault."
    )


def test_diagnosis_tells_stuck_from_slow_and_from_worse(run: Run) -> None:
    slow = run("--hidden", 30, "--init-scale", 0.02, "--diagnose", "--every", 30)
    assert "It has learned little so far: " in reading_of(slow)
    worse = run("--hidden", 30, "--eta", 3, "--epochs", 9, "--diagnose")
    assert "It ends above the baseline" in reading_of(worse)


def test_diagnosis_without_a_hidden_layer(run: Run) -> None:
    reading = reading_of(run("--diagnose", "--every", 100))
    assert "The gradient is right" in reading
    assert "There is no hidden layer" in reading
    assert "It learns:" in reading
    assert "w2" not in reading


@pytest.mark.parametrize(
    "arguments", ["--init-scale 0", "--init-scale 1e6", "--eta 1e150", "--dtype float32"]
)
@pytest.mark.parametrize("hidden", [0, 1, 30])
def test_diagnosis_of_degenerate_cases(arguments: str, hidden: int, run_small: Run) -> None:
    """Gradients of exactly 0, no variation at all, a single epoch."""
    result = run_small("--hidden", hidden, *arguments.split(), "--epochs", 1, "--diagnose")
    reading = reading_of(result)
    assert "nan" not in reading
    assert "The gradient is right" in reading
    assert len(result.stdout) < 3000  # No number takes lines.


def test_diagnosis_in_single_precision_checks_the_same_backprop(run_small: Run) -> None:
    reading = reading_of(
        run_small(
            "--hidden", 5, "--buggy-prime", "--init", "fan-in", "--dtype", "float32", "--diagnose"
        )
    )
    assert "The gradient is wrong" in reading


def test_a_file_of_any_name_is_named_in_ascii(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "é\n.pkl.gz"
    path.write_bytes(SMALL.read_bytes())
    result = run("--data", path, "--epochs", 1)
    assert result.stdout.isascii()
    assert result.stdout.splitlines()[1].endswith("\\xe9\\n.pkl.gz'")


def test_other_data_is_named_and_counted(run: Run, run_small: Run) -> None:
    lines = run_small("--epochs", 1).stdout.splitlines()
    assert lines[0].endswith(f"50 images of '{SMALL}', not the standard MNIST")
    assert lines[1].endswith(f"--data {SMALL}")
    assert lines[4].endswith("of 10)")
    mnist = run("--epochs", 1, "--data", mnist_loader.SHIPPED).stdout
    assert mnist.splitlines()[0].endswith("on 50,000 MNIST images")


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
    outputs = [run(*arguments, "--data", source).stdout for source in sources]
    assert len(outputs[0].splitlines()) == 10
    assert outputs == [outputs[0]] * 4


USAGE_ERRORS = {
    "--hidden -1": "--hidden",
    "--hidden 2.5": "--hidden",
    "--hidden many": "--hidden",
    "--epochs 0": "--epochs",
    "--epochs -3": "--epochs",
    "--every 0": "--every",
    "--eta 0": "--eta",
    "--eta -1": "--eta",
    "--eta nan": "--eta",
    "--eta inf": "--eta",
    "--eta 1e999": "--eta",
    "--init-scale -1": "--init-scale",
    "--init-scale nan": "--init-scale",
    "--init-scale inf": "--init-scale",
    "--seed -1": "--seed",
    "--seed 4294967296": "--seed",
    "--buggy-prime": "--buggy-prime needs a hidden layer",
    "--buggy-prime --fixed-prime": "--buggy-prime needs a hidden layer",
    "--format yaml": "--format",
    "--dtype float16": "--dtype",
    "--init zeros": "--init",
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
    usage, *_, error = result.stderr.splitlines()
    assert usage.startswith("Usage: ")
    assert error.startswith("Error: ")
    assert named in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "truncated"])
def test_bad_data_is_one_line_and_status_1(kind: str, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mnist.pkl.gz"
    if kind == "truncated":
        path.write_bytes(SMALL.read_bytes()[:5000])
    result = run("--data", path)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert re.fullmatch(rf"Error: '{path}': .+\n", result.stderr)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("network", ["--hidden 0", "--hidden 5", "--hidden 5 --buggy-prime"])
@pytest.mark.parametrize("cause", ["--eta 1e300", "--eta 1e30", "--init-scale 1e300"])
def test_a_run_that_diverges_says_where(
    cause: str, network: str, dtype: str, run_small: Run
) -> None:
    result = run_small(*cause.split(), *network.split(), "--dtype", dtype)
    if cause == "--eta 1e30" and dtype == "float64":
        assert result.exit_code == 0  # far from overflow
        return
    assert result.exit_code == 1
    match = re.fullmatch(
        r"Error: epoch (\d+): .+ not .+; try a smaller --eta or --init-scale\.\n", result.stderr
    )
    assert match
    rows = re.findall(r"^ +(\d+)  ", result.stdout, re.M)
    assert len(rows) == int(match[1]) < 2  # Those before it are printed.
    assert "nan" not in result.stdout


def test_which_of_several_runs_diverges(run_small: Run) -> None:
    result = run_small("--eta", 0.5, "--eta", 1e300)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: epoch 0 of --eta 1e+300: ")


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
@pytest.mark.parametrize("seeds", [1, 6])
def test_plot_draws_a_picture(suffix: str, seeds: int, run_small: Run, tmp_path: Path) -> None:
    path = tmp_path / f"curves{suffix}"
    arguments = [word for seed in range(seeds) for word in ("--seed", seed)]
    result = run_small("--epochs", 3, "--plot", path, *arguments)
    assert result.exit_code == 0, result.stderr
    head = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(head)


def test_plot_without_matplotlib(
    run_small: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run_small("--plot", tmp_path / "curves.png")
    assert result.exit_code == 2
    assert "pip install matplotlib" in result.stderr
    assert result.stdout == ""


def test_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version").stdout.endswith(f"version {reproduce.__version__}\n")


numbers = st.one_of(
    st.integers(-2, 12).map(str),
    st.floats(width=32).map(str),
    st.sampled_from(["1e300", "1e-300", "4294967296", "0x10", "", "½"]),
)
flags = st.one_of(
    st.tuples(
        st.sampled_from(["--hidden", "--init-scale", "--eta", "--seed", "--every"]),
        numbers,
    ),
    st.tuples(st.just("--epochs"), st.sampled_from(["-1", "0", "1", "4", "1.5", "one"])),
    st.tuples(st.just("--init"), st.sampled_from(["rand", "randn", "fan-in", "Rand"])),
    st.tuples(st.just("--dtype"), st.sampled_from(["float64", "float32", "int"])),
    st.tuples(st.just("--format"), st.sampled_from(["table", "markdown", "csv", "html"])),
    st.tuples(st.sampled_from(["--buggy-prime", "--fixed-prime", "--diagnose", "--no", "word"])),
)


@settings(deadline=None, max_examples=200)
@given(arguments=st.lists(flags, max_size=7))
def test_any_command_line_runs_or_ends_in_one_error_line(arguments: list[tuple[str, ...]]) -> None:
    words = ["--data", str(SMALL), "--epochs", "3"]
    words += [word for argument in arguments for word in argument]
    result = runner().invoke(reproduce.main, words)
    if result.exit_code == 0:
        assert result.stderr == ""
        assert result.stdout.isascii()
    else:
        assert result.exit_code in (1, 2)
        assert isinstance(result.exception, SystemExit)
        errors = [
            line for line in result.stderr.splitlines() if not line.startswith(("Usage", "Try"))
        ]
        assert len([line for line in errors if line]) == 1
        assert errors[-1].startswith("Error: ")
        assert (result.stdout == "") is (result.exit_code == 2)
