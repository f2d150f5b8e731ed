"""The script as a process: pipes, signals, terminals, threads, packaging."""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SMALL, write_idx

import mnist_loader

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = [sys.executable, str(ROOT / "reproduce.py")]
FOR_EVER = ["--hidden", "30", "--epochs", "1000000"]


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory, mnist: mnist_loader.Data) -> list[str]:
    """Return how to use 5000 training and 1000 test images: several blocks, and soon done."""
    folder = tmp_path_factory.mktemp("part")
    write_idx(folder, mnist, 6000, 1000)  # The last sixth is the validation data.
    return ["--data", str(folder)]


@pytest.fixture(autouse=True, scope="module")
def usual_surroundings() -> Iterator[None]:
    """Let the processes buffer their output, whatever this one does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONUNBUFFERED", raising=False)
        yield


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **env},
    )


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SCRIPT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def epoch_of(line: str) -> int | None:
    """Return the epoch of a whole row, of a table of one or several runs or of the CSV."""
    for row in (
        r" *(\d+) +\d+\.\d{6} +\d+ +\d+\.\d\d%  \d \(\d+\.\d\d%\)",
        r" *(\d+)(?: +\d+\.\d{4} +\d+)+",
        r"\d+,[a-z]*,.+,float64,(\d+),\d+\.\d+(?:,\d+){4}",
    ):
        match = re.fullmatch(row, line)
        if match:
            return int(match[1])
    return None


def read_rows(process: subprocess.Popen[str], count: int) -> None:
    """Read what a process prints until so many rows are there, as they are printed."""
    assert process.stdout
    rows = 0
    while rows < count:
        line = process.stdout.readline()
        assert line, "the output ended"
        rows += epoch_of(line.rstrip("\n")) is not None


# Output that ends early, and Ctrl-C


@pytest.mark.parametrize("arguments", [[], ["--format", "csv"], ["--seed", "0", "--seed", "1"]])
def test_a_closed_pipe_ends_it_quietly(arguments: list[str], part: list[str]) -> None:
    with start(*part, *FOR_EVER, *arguments) as process:
        read_rows(process, 2)
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--seed", "0", "--seed", "1"],
        ["--batch-size", "1000", "--format", "csv"],
        ["--batch-size", "10", "--buggy-prime", "--diagnose"],
    ],
)
def test_ctrl_c_leaves_whole_rows(arguments: list[str], part: list[str]) -> None:
    with start(*part, *FOR_EVER, *arguments) as process:
        read_rows(process, 3)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        assert process.stdout
        assert process.stderr
        assert process.stderr.read() == ""
        rest = process.stdout.read()
        assert rest == "" or rest.endswith("\n")
        epochs = [epoch_of(line) for line in rest.splitlines()]
        assert epochs == list(range(3, 3 + len(epochs)))


def test_csv_is_printed_epoch_by_epoch(part: list[str]) -> None:
    """And not when a buffer is full, which would take a hundred of these epochs."""
    command = [*SCRIPT, *part, "--hidden", "300", "--epochs", "1000", "--format", "csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout
        first = process.stdout.read(100_000)  # all that is there, when something is
        process.kill()
    assert first.endswith(b"\n")
    assert 2 <= first.count(b"\n") < 50


# The same output everywhere


def test_the_text_depends_on_nothing_around_it(
    part: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = "--hidden 30 --buggy-prime --batch-size 2000 --epochs 1 --diagnose"
    expected = run(*part, *arguments.split())
    assert (expected.returncode, expected.stderr) == (0, "")
    monkeypatch.chdir(tmp_path)
    other = run(*part, *arguments.split(), LC_ALL="C", COLUMNS="40", PYTHONHASHSEED="7")
    assert (other.returncode, other.stderr) == (0, "")
    assert other.stdout == expected.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_name_that_the_encoding_lacks_is_no_traceback(encoding: str, tmp_path: Path) -> None:
    data = tmp_path / "é ω.gz"
    shutil.copy(SMALL, data)
    process = subprocess.run(
        [*SCRIPT, "--data", str(data), "--epochs", "1"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C.UTF-8"},
    )
    assert process.stderr == b""
    assert process.returncode == 0
    if encoding == "utf-8":
        [command] = re.findall(r"^python reproduce.py (.+)$", process.stdout.decode(), re.M)
        again = run(*shlex.split(command), PYTHONIOENCODING=encoding, LC_ALL="C.UTF-8")
        assert again.stdout == process.stdout.decode()
    missing = run("--data", f"{data}2", PYTHONIOENCODING=encoding)
    assert missing.returncode == 1
    assert re.fullmatch(r"Error: .+\n", missing.stderr)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux has affinity")
@pytest.mark.skipif(os.cpu_count() == 1, reason="needs two cores")
def test_one_core_gives_the_same_bits(part: list[str]) -> None:
    """Weights where every bit counts, of the full batch and of mini-batches that are shared."""
    weights = ["--hidden", "30", "--init", "randn", "--init-scale", "fan-in"]
    sizes = ["--batch-size", "5000", "--batch-size", "1200", "--batch-size", "100"]
    arguments = [*part, *weights, *sizes, "--epochs", "3", "--format", "csv"]
    expected = run(*arguments)
    assert expected.returncode == 0
    assert len(expected.stdout.splitlines()) == 10
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        alone = run(*arguments)
    finally:
        os.sched_setaffinity(0, cores)
    assert alone.stdout == expected.stdout


# Terminals


class Terminal:
    """A process on a terminal, which shows its standard output and error."""

    def __init__(self, *arguments: str) -> None:
        self.terminal, end = pty.openpty()
        self.process = subprocess.Popen(
            [*SCRIPT, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=end,
            stderr=end,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(end)
        self.text = ""

    def read(self) -> bool:
        """Read what is shown next, and return whether there was something."""
        try:
            piece = os.read(self.terminal, 1000)
        except OSError:  # how Linux says that the other end is closed
            return False
        self.text += piece.decode()
        return piece != b""

    def read_all(self) -> int:
        """Read until the process ends, and return its status."""
        while self.read():
            pass
        os.close(self.terminal)
        return self.process.wait(timeout=60)

    def lines(self) -> list[str]:
        """Return the lines as they are left, of which the last writing counts."""
        lines = []
        for line in self.text.split("\r\n"):
            left = re.split(r"\r|\x1b\[K", line)[-1]
            lines.append(re.sub(r"\x1b\[\?25[lh]", "", left))
        return lines

    def cursor_is_shown(self) -> bool:
        return self.text.rfind("\x1b[?25h") > self.text.rfind("\x1b[?25l") >= 0


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ("--epochs 6 --seed 0 --seed 1 --seed 2 --seed 3 --seed 4", 30),
        ("--epochs 30 --every 10", 30),
        ("--epochs 2 --batch-size 10 --eta 1 --eta 2 --format csv", 20),
        ("--epochs 2 --batch-size 10 --batch-size 50 --eta 1 --eta 2 --one-at-a-time", 22),
    ],
)
def test_a_progress_bar_is_shown_and_erased(arguments: str, steps: int) -> None:
    small = ["--data", str(SMALL)]
    terminal = Terminal(*small, *arguments.split())
    assert terminal.read_all() == 0
    bars = re.findall(r"(\d+)/(\d+)", terminal.text)
    assert bars[-1] == (str(steps), str(steps))
    for done, of in bars:
        assert int(done) <= int(of) == steps
    assert terminal.cursor_is_shown()
    # What is left is what is printed where there is no terminal, and there is no bar there.
    process = run(*small, *arguments.split())
    assert process.stderr == ""
    lines = terminal.lines()
    while lines[-1] == "":
        lines.pop()
    assert lines == process.stdout.splitlines()


def test_ctrl_c_on_a_terminal_shows_the_cursor_again(part: list[str]) -> None:
    arguments = ["--hidden", "30", "--epochs", "200", "--every", "3"]
    terminal = Terminal(*part, *arguments)
    while " 8/200" not in terminal.text:
        assert terminal.read()
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.read_all() == 130
    assert terminal.cursor_is_shown()
    *rows, last = terminal.lines()[terminal.lines().index("") + 2 :]
    assert last == ""  # Where the bar was, the shell goes on.
    assert len(rows) >= 3
    assert [epoch_of(row) for row in rows] == list(range(0, 3 * len(rows), 3))


# The package


def test_the_script_and_the_package_need_the_same() -> None:
    block = re.search(
        r"(?m)^# /// script\n((?:^#.*\n)+?)^# ///$", (ROOT / "reproduce.py").read_text()
    )
    assert block
    script = tomllib.loads(re.sub(r"(?m)^# ?", "", block[1]))
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert script["dependencies"] == package["project"]["dependencies"]
    assert script["requires-python"] == package["project"]["requires-python"]
    assert sorted(name.split(">")[0] for name in script["dependencies"]) == ["click", "numpy"]
    assert package["tool"]["setuptools"]["py-modules"] == []
