"""The script in a process: its own or its user's, on pipes, interrupted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SCRIPT, SMALL, ended, environment, script

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")


def python(code: str, *arguments: str, **env: str) -> str:
    """Run lines of Python in a process of their own, in the checkout; return what they print."""
    process = ended([sys.executable, "-c", code, *arguments], ROOT, **env)
    assert (process.returncode, process.stderr) == (0, "")
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
        other = script(*part, *arguments.split(), cwd=tmp_path, **env)
        assert (other.returncode, other.stderr, other.stdout) == (0, "", expected.stdout)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not shutil.which("sh"), reason="no sh to close standard error")
def test_without_standard_error_there_is_the_table() -> None:
    command = [*SCRIPT, "--data", str(SMALL), "--epochs", "1"]
    process = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *command],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env=environment(),
    )
    assert process.stdout == script("--data", str(SMALL), "--epochs", "1").stdout


WITHOUT_ISATTY = """
import sys
import reproduce

class Errors:
    def write(self, text):
        print("written to standard error:", text)

    def flush(self):
        pass

sys.stderr = Errors()
reproduce.main(["--data", sys.argv[1], "--epochs", "1"], standalone_mode=False)
sys.stderr = sys.__stderr__
"""


def test_a_standard_error_that_is_no_file_gets_no_progress() -> None:
    expected = script("--data", str(SMALL), "--epochs", "1").stdout
    assert python(WITHOUT_ISATTY, str(SMALL)) == expected


@pytest.mark.parametrize("style", ["table", "markdown", "csv"])
def test_a_path_that_standard_output_cannot_encode(style: str, tmp_path: Path) -> None:
    path = tmp_path / "\u6570\u636e.gz"  # Chinese letters
    path.write_bytes(SMALL.read_bytes())
    arguments = ["--data", str(path), "--epochs", "1", "--format", style]
    process = script(*arguments, PYTHONIOENCODING="cp1252")
    assert (process.returncode, process.stderr) == (0, "")
    if style != "csv":
        assert r"\u6570\u636e.gz" in process.stdout


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


@pytest.mark.skipif(os.name == "nt", reason="no process can be sent a Ctrl-C there")
def test_an_interrupt_ends_the_run_and_leaves_the_process_as_it_was(part: list[str]) -> None:
    first, *rows = python(GUEST, *part).splitlines()
    assert first == "goes on"
    assert rows == script(*part, "--hidden", "30", "--epochs", "2").stdout.splitlines()


THREADS = """
import os, sys
os.cpu_count = lambda: {cores}
{first}
import reproduce
print(reproduce.THREADS)
"""


@pytest.mark.parametrize(
    ("first", "env", "cores", "threads"),
    [
        ("", {}, 1, 1),
        ("", {}, 4, 4),
        ("", {}, 64, 8),
        ("", {"OPENBLAS_NUM_THREADS": "2"}, 4, 4),
        ("import numpy", {}, 4, 1),
        ("import numpy", {"OPENBLAS_NUM_THREADS": "1"}, 4, 4),
        ("import reproduce; del sys.modules['reproduce']", {}, 4, 4),
    ],
)
def test_either_blas_or_the_script_has_threads(
    first: str, env: dict[str, str], cores: int, threads: int
) -> None:
    assert python(THREADS.format(first=first, cores=cores), **env) == f"{threads}\n"


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_processes_and_threads_of_the_user_can_train(part: list[str]) -> None:
    # Newer Pythons warn of a fork where threads are alive, which is so here only while it trains.
    assert python(FORKS_AND_THREADS, *part, PYTHONWARNINGS="ignore") == "the same\n"


# Output that ends early


@pytest.mark.parametrize("arguments", [[], ["--format", "csv"]])
def test_a_closed_pipe_ends_it_quietly(arguments: list[str], part: list[str]) -> None:
    command = [*SCRIPT, *part, "--hidden", "30", "--epochs", "1000000", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        try:
            assert process.wait(timeout=60) == 1
        finally:
            process.kill()  # or the end of the block would wait for ever
        assert process.stderr.read() == b""


def test_csv_is_printed_epoch_by_epoch(part: list[str]) -> None:
    """And not when a buffer is full, which would take a hundred of these epochs."""
    command = [*SCRIPT, *part, "--hidden", "300", "--epochs", "1000", "--format", "csv"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0, env=environment()) as process:
        assert process.stdout
        first = process.stdout.read(100_000)  # all that is there, when something is
        process.kill()
    assert first.endswith(b"\n")
    assert first.count(b"\n") < 50


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
    assert package["project"]["version"] in script("--version").stdout
    assert sorted(name.split(">")[0] for name in needed["dependencies"]) == ["click", "numpy"]
