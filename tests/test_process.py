"""The script in a process: its own or its user's, on pipes, on terminals, interrupted."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, SMALL

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

SCRIPT = [sys.executable, str(ROOT / "reproduce.py")]


@pytest.fixture(autouse=True, scope="module")
def usual_surroundings() -> Iterator[None]:
    """Let the processes buffer their output, whatever this one does, and start without numpy."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PYTHONUNBUFFERED", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            patch.delenv(name, raising=False)
        yield


def script(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the script in a process of its own."""
    return subprocess.run(
        [*SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, **env},
    )


def python(code: str, *arguments: str, **env: str) -> str:
    """Run lines of Python in a process of their own, in the checkout; return what they print."""
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, **env},
    )
    assert process.stderr == ""
    assert process.returncode == 0
    return process.stdout


# Other surroundings, the same text


def test_the_text_depends_on_nothing_around_it(part: list[str], tmp_path: Path) -> None:
    arguments = "--hidden 30 --buggy-prime --batch-size 2000 --epochs 1 --diagnose"
    expected = script(*part, *arguments.split())
    assert (expected.returncode, expected.stderr) == (0, "")
    for env in (
        {"LC_ALL": "C", "COLUMNS": "40", "PYTHONHASHSEED": "7"},
        {"OPENBLAS_NUM_THREADS": "2"},
        {"PYTHONWARNINGS": "error"},
    ):
        other = subprocess.run(
            [*SCRIPT, *part, *arguments.split()],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, **env},
        )
        assert (other.returncode, other.stderr, other.stdout) == (0, "", expected.stdout)
    assert list(tmp_path.iterdir()) == []


def test_without_standard_error_there_is_the_table(part: list[str]) -> None:
    process = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *SCRIPT, *part, "--epochs", "1"],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    assert process.stdout == script(*part, "--epochs", "1").stdout


OVERFLOWING = [
    "--hidden 30 --init randn --init-scale 100 --epochs 3 --diagnose",
    "--init-scale 1e308 --dtype float32",
    "--hidden 3 --buggy-prime --init randn --eta 100 --batch-size 150 --epochs 5 --diagnose",
]


@pytest.mark.parametrize("arguments", OVERFLOWING)
def test_what_overflows_is_no_warning(arguments: str, part: list[str], tmp_path: Path) -> None:
    picture = ["--plot", str(tmp_path / "curves.png")]
    for more in ([], picture):
        process = script(*part, *arguments.split(), *more, PYTHONWARNINGS="error::RuntimeWarning")
        errors = process.stderr.splitlines()
        assert process.returncode == len(errors)
        assert all(re.match("Error: the network, seed 0: after epoch 0 ", line) for line in errors)


# A guest in its user's process

GUEST = """
import os, runpy, signal, sys, threading, time, warnings
import numpy as np

def mine(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, mine)
filters = list(warnings.filters)
errors = sys.stdout.errors, np.geterr()
arguments = sys.argv[1:]

def run(epochs):
    sys.argv = ["reproduce.py", "--hidden", "30", "--epochs", str(epochs), *arguments]
    try:
        runpy.run_path("reproduce.py", run_name="__main__")
    except SystemExit as end:
        return end.code

out = sys.stdout
read, write = os.pipe()
sys.stdout = os.fdopen(write, "w")

def interrupt_when_it_prints():
    text = b""
    while b"\\n       1 " not in text:
        text += os.read(read, 1000)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt_when_it_prints).start()
sys.stderr = open(os.devnull, "w")
code = run(1_000_000)
sys.stderr = sys.__stderr__
sys.stdout = out
assert code == 1, code
assert signal.getsignal(signal.SIGINT) is mine
assert warnings.filters == filters
assert (sys.stdout.errors, np.geterr()) == errors
while threading.active_count() > 1:  # until the other threads have done their last block
    time.sleep(0.01)
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("goes on")
run(2)
"""


def test_an_interrupt_ends_the_run_and_leaves_the_process_as_it_was(part: list[str]) -> None:
    first, *rows = python(GUEST, *part).splitlines()
    assert first == "goes on"
    assert rows == script(*part, "--hidden", "30", "--epochs", "2").stdout.splitlines()


THREADS = """
import sys
{first}
import reproduce
print(reproduce.THREADS > 1)
"""


@pytest.mark.skipif(os.cpu_count() == 1, reason="needs two cores")
@pytest.mark.parametrize(
    ("first", "env", "has_threads"),
    [
        ("", {}, True),
        ("", {"OPENBLAS_NUM_THREADS": "2"}, True),
        ("import numpy", {}, False),
        ("import numpy", {"OPENBLAS_NUM_THREADS": "1"}, True),
        ("import reproduce; del sys.modules['reproduce']", {}, True),
    ],
)
def test_either_blas_or_the_script_has_threads(
    first: str, env: dict[str, str], has_threads: bool
) -> None:
    assert python(THREADS.format(first=first), **env) == f"{has_threads}\n"


FORKS_AND_THREADS = """
import multiprocessing, sys, threading
from pathlib import Path
import reproduce

training, test = reproduce.load_images(Path(sys.argv[2]))

def train(number):
    run = reproduce.Run(reproduce.Settings(hidden=30, init="randn", seed=number))
    for _ in range(3):
        reproduce.train_epoch(run, training, test)
    return run.epochs

def in_thread(number):
    found[number] = train(number)

expected = [train(number) for number in range(4)]
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(train, range(4)) == expected
found = {}
threads = [threading.Thread(target=in_thread, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert [found[number] for number in range(4)] == expected
print("the same")
"""


def test_forked_processes_and_threads_of_the_user_can_train(part: list[str]) -> None:
    # Newer Pythons warn of a fork where threads are alive, which is so here only while it trains.
    assert python(FORKS_AND_THREADS, *part, PYTHONWARNINGS="ignore") == "the same\n"


# Output that ends early, and Ctrl-C


@pytest.mark.parametrize("arguments", [[], ["--format", "csv"]])
def test_a_closed_pipe_ends_it_quietly(arguments: list[str], part: list[str]) -> None:
    command = [*SCRIPT, *part, "--hidden", "30", "--epochs", "1000000", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert process.stderr.read() == b""


def test_csv_is_printed_epoch_by_epoch(part: list[str]) -> None:
    """And not when a buffer is full, which would take a hundred of these epochs."""
    command = [*SCRIPT, *part, "--hidden", "300", "--epochs", "1000", "--format", "csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout
        first = process.stdout.read(100_000)  # all that is there, when something is
        process.kill()
    assert first.endswith(b"\n")
    assert first.count(b"\n") < 50


class Terminal:
    """A process on a terminal, which shows its standard output and error."""

    def __init__(self, *arguments: str, term: str = "xterm") -> None:
        self.terminal, end = pty.openpty()
        self.process = subprocess.Popen(
            [*SCRIPT, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=end,
            stderr=end,
            env={**os.environ, "TERM": term},
            # What a shell starts in the background, as these tests may be, ignores Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
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
        """Return what is left of each line: what is written after a \\r covers what was there."""
        lines = []
        for line in self.text.split("\r\n"):
            left = ""
            for piece in line.split("\r"):
                left = piece + left[len(piece) :]
            lines.append(left.rstrip())
        return lines


@pytest.mark.parametrize(
    "arguments",
    [
        "--epochs 30 --every 10",
        "--epochs 2 --batch-size 10 --eta 1 --eta 2 --format csv",
        "--epochs 6 --suspects --diagnose --hidden 3",
    ],
)
def test_progress_is_shown_on_a_terminal_and_erased(arguments: str) -> None:
    small = ["--data", str(SMALL)]
    process = script(*small, *arguments.split())
    assert process.stderr == ""
    terminal = Terminal(*small, *arguments.split())
    assert terminal.read_all() == 0
    progress = re.findall(r"\r(\d+) of (\d+) epochs", terminal.text)
    total = len(progress)
    assert progress == [(str(done + 1), str(total)) for done in range(total)]
    assert total >= 4
    assert "\x1b" not in terminal.text
    pieces = re.findall(r"\r(\d+ of [^\r\n]+| +)", terminal.text)
    assert max(len(piece) for piece in pieces) < 40  # columns
    *lines, last = terminal.lines()
    assert lines == process.stdout.splitlines()
    assert last == ""

    dumb = Terminal(*small, *arguments.split(), term="dumb")
    assert dumb.read_all() == 0
    assert dumb.text.replace("\r\n", "\n") == process.stdout


@pytest.mark.parametrize(
    ("arguments", "row"),
    [
        ("--buggy-prime --fixed-prime --epochs 60", r" +\d+ +\d"),
        ("--suspects --epochs 10", "the network |--"),
    ],
)
def test_ctrl_c_leaves_the_rows_so_far(arguments: str, row: str, part: list[str]) -> None:
    common = [*part, "--hidden", "30", *arguments.split()]
    terminal = Terminal(*common)
    while "\r15 of " not in terminal.text:
        assert terminal.read()
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.read_all() == 1
    *rows, aborted, last = terminal.lines()
    assert (aborted, last) == ("Aborted!", "")
    while rows[-1] == "":
        rows.pop()
    assert re.match(row, rows[-1])
    assert script(*common).stdout.startswith("\n".join([*rows, ""]))


# The package


def test_the_script_and_the_package_need_the_same() -> None:
    block = re.search(
        r"(?m)^# /// script\n((?:^#.*\n)+?)^# ///$", (ROOT / "reproduce.py").read_text()
    )
    assert block
    needed = tomllib.loads(re.sub(r"(?m)^# ?", "", block[1]))
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert needed["dependencies"] == package["project"]["dependencies"]
    assert needed["requires-python"] == package["project"]["requires-python"]
    assert sorted(name.split(">")[0] for name in needed["dependencies"]) == ["click", "numpy"]
