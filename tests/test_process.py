"""The script as a process: pipes, signals, terminals, threads, memory, packaging."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

import mnist_loader
import reproduce

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = [sys.executable, str(ROOT / "reproduce.py")]
SMALL = ["--data", str(ROOT / "tests" / "fixtures" / "nielsen_protocol2.pkl.gz")]
QUIET = subprocess.DEVNULL


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory, mnist: mnist_loader.Data) -> list[str]:
    """Return how to use 5000 training and 1000 test images: several chunks, and soon done."""
    folder = tmp_path_factory.mktemp("part")
    (images, labels), _, _ = mnist
    # The last sixth of what is in the files is the validation data.
    for name, rows in (("train", slice(6000)), ("t10k", slice(6000, 7000))):
        for kind, array in (
            ("images-idx3", (images[rows] * 256).reshape(-1, 28, 28)),
            ("labels-idx1", labels[rows]),
        ):
            header = np.array([0x800 + array.ndim, *array.shape], dtype=">u4")
            content = header.tobytes() + array.astype(np.uint8).tobytes()
            (folder / f"{name}-{kind}-ubyte").write_bytes(content)
    return ["--data", str(folder)]


@pytest.fixture(autouse=True, scope="module")
def usual_surroundings() -> Iterator[None]:
    """Let the processes buffer their output, and end at Ctrl-C, even if this one does not.

    SIGINT is ignored in what a shell without job control has started in the background. A
    process inherits that, but not a handler.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler == signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONUNBUFFERED", raising=False)
        yield
    signal.signal(signal.SIGINT, handler)


def run(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )


def run_program(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program that can import the script."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        cwd=ROOT,
    )


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SCRIPT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def epoch_of(line: str) -> int | None:
    """Return the epoch that a line of a report is the row of, if it is one."""
    return int(line[:5]) if re.match(r"[ \d]{4}\d +\d+\.\d", line) else None


def read_until_row(process: subprocess.Popen[str], row: int) -> list[int | None]:
    """Read what the process prints up to an epoch's row, and return the epochs.

    As the process would go on for days, rows are printed as they come.
    """
    assert process.stdout
    lines: list[str] = []
    while not (lines and epoch_of(lines[-1]) == row):
        line = process.stdout.readline()
        assert line, "the output ended"
        lines.append(line)
    return [epoch for line in lines if (epoch := epoch_of(line)) is not None]


# Output that ends early, and Ctrl-C


def test_a_closed_pipe_ends_it_quietly(part: list[str]) -> None:
    with start(*part, "--hidden", "30", "--epochs", "100000") as process:
        assert read_until_row(process, 1) == [0, 1]
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    "arguments", ["--hidden 30", "--seed 0 --seed 1", "--batch-size 1000 --diagnose"]
)
def test_ctrl_c_leaves_what_was_printed(arguments: str, part: list[str]) -> None:
    with start(*part, *arguments.split(), "--epochs", "100000") as process:
        assert read_until_row(process, 2) == [0, 1, 2]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 1
        assert process.stdout
        assert process.stderr
        stdout = process.stdout.read()
        assert process.stderr.read().strip() == "Aborted!"
        assert stdout == "" or stdout.endswith("\n")
        epochs = [epoch_of(line) for line in stdout.splitlines()]
        assert epochs == list(range(3, 3 + len(epochs)))


MODULES = "concurrent.futures click click.core click.types numpy numpy.linalg numpy.random"


@pytest.mark.parametrize("module", [*MODULES.split(), "mnist_loader"])
def test_ctrl_c_while_a_module_is_imported_ends_it_quietly(module: str) -> None:
    program = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

_, module, *sys.argv = sys.argv
sys.path.insert(0, os.path.dirname(sys.argv[0]))
sys.meta_path.insert(0, Finder())
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    command = [sys.executable, "-c", program, module, *SCRIPT[1:], *SMALL]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (process.returncode, process.stdout, process.stderr) == (-signal.SIGINT, "", "")


def test_ctrl_c_is_ignored_where_it_is_to_be(part: list[str]) -> None:
    """That is in the background of a shell without job control."""
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *SCRIPT, *part, "--epochs", "20"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert read_until_row(process, 0) == [0]
        process.send_signal(signal.SIGINT)
        assert read_until_row(process, 19) == list(range(1, 20))
        assert process.wait(timeout=60) == 0
        assert process.stderr
        assert process.stderr.read() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", ["--epochs 5", "--format csv", "--help", "--version"])
def test_a_full_disk_is_one_line(arguments: str, unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [*SCRIPT, *SMALL, *arguments.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=300,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert process.returncode == 1
    assert re.fullmatch(r"Error: .*No space left on device\.?\n", process.stderr)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_what_the_shell_has_closed_is_no_error(closed: str) -> None:
    command = f'"{SCRIPT[0]}" "{SCRIPT[1]}" {" ".join(SMALL)} --epochs 2 {closed}'
    process = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert process.stderr == ""
    assert ("baseline" in process.stdout) is (">&-" not in closed.replace("2>&-", ""))


# The same output everywhere


Surroundings = dict[str, str]


@pytest.fixture(scope="module")
def text_in(part: list[str]) -> Callable[..., str]:
    arguments = "--hidden 30 --buggy-prime --batch-size 2000 --epochs 1 --diagnose"

    def text(env: Surroundings, cwd: Path | None = None) -> str:
        process = run(*part, *arguments.split(), env=env, cwd=cwd)
        assert (process.returncode, process.stderr) == (0, "")
        return process.stdout

    return text


@pytest.fixture(scope="module")
def expected_text(text_in: Callable[..., str]) -> str:
    return text_in({})


@pytest.mark.parametrize(
    "env",
    [
        {"OPENBLAS_NUM_THREADS": "2"},
        {"OMP_NUM_THREADS": "3"},
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "COLUMNS": "40", "PYTHONHASHSEED": "7"},
    ],
    ids=" ".join,
)
def test_the_text_depends_on_nothing_around_it(
    env: Surroundings, text_in: Callable[..., str], expected_text: str, tmp_path: Path
) -> None:
    assert "baseline" in expected_text
    assert text_in(env, tmp_path) == expected_text
    assert list(tmp_path.iterdir()) == []


# Weights where every bit counts.
NIELSEN = ["--hidden", "30", "--init", "randn", "--init-scale", "fan-in"]


@pytest.fixture(scope="module")
def bits(part: list[str]) -> list[str]:
    """Return arguments for costs in full, of the full batch and of mini-batches."""
    sizes = ["--batch-size", "1000", "--batch-size", "5000"]
    return [*part, *NIELSEN, *sizes, "--epochs", "3", "--format", "csv"]


@pytest.fixture(scope="module")
def expected_bits(bits: list[str]) -> str:
    process = run(*bits)
    assert process.returncode == 0
    assert len(process.stdout.splitlines()) == 7
    return process.stdout


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux has affinity")
def test_one_core_gives_the_same_bits(bits: list[str], expected_bits: str) -> None:
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        alone = run(*bits)
    finally:
        os.sched_setaffinity(0, cores)
    assert alone.returncode == 0
    assert alone.stdout == expected_bits


def test_where_no_thread_can_be_started_it_gives_the_same_bits(
    bits: list[str], expected_bits: str
) -> None:
    program = """
import sys, threading
asked = []
def start(thread):
    asked.append(thread)
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
import reproduce
reproduce.THREADS = 2
reproduce.main(sys.argv[1:], standalone_mode=False)
print(len(asked), file=sys.stderr)
"""
    process = run_program(program, *bits)
    assert process.stdout == expected_bits
    assert int(process.stderr) > 0


def test_threads_and_those_of_blas_are_as_many_as_the_cores() -> None:
    def threads(**environment: str) -> int:
        clean = {name: value for name, value in os.environ.items() if "_THREADS" not in name}
        command = [sys.executable, "-c", "import reproduce; print(reproduce.THREADS)"]
        return int(subprocess.check_output(command, cwd=ROOT, env={**clean, **environment}))

    cores = threads()
    assert threads(OMP_NUM_THREADS="1") == cores
    assert threads(OPENBLAS_NUM_THREADS="2") == max(1, cores // 2)
    assert threads(OMP_NUM_THREADS="10000") == 1
    assert threads(OMP_NUM_THREADS="9" * 5000) == 1
    assert threads(MKL_NUM_THREADS="many") == cores


def test_python_may_be_isolated_and_strict(tmp_path: Path) -> None:
    """`-I` leaves out the script's folder, where its other module is, and the current one."""
    for options in ("-I", "-X warn_default_encoding -W error"):
        for arguments in (["--version"], [*SMALL, "--epochs", "1", "--diagnose"]):
            command = [SCRIPT[0], *options.split(), SCRIPT[1], *arguments]
            process = subprocess.run(
                command, capture_output=True, text=True, check=False, cwd=tmp_path
            )
            assert (process.returncode, process.stderr) == (0, "")
            expected = reproduce.__version__ if "--version" in arguments else "baseline"
            assert expected in process.stdout


# Terminals


def on_a_terminal(*arguments: str, stdout: bool = False) -> str:
    """Return what a terminal shows of the standard error (and the standard output)."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [*SCRIPT, *SMALL, *arguments],
        stdout=end if stdout else QUIET,
        stderr=end,
        stdin=QUIET,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(end)
    text = b""
    try:
        while piece := os.read(terminal, 1000):
            text += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(terminal)
    assert process.wait(timeout=60) == 0
    return text.decode()


def test_a_progress_bar_is_shown_where_no_rows_are() -> None:
    assert "5/5" in on_a_terminal("--epochs", "5", "--format", "csv")
    sweep = [word for seed in "123456" for word in ("--seed", seed)]
    assert "5/5" in on_a_terminal("--epochs", "5", *sweep, stdout=True)
    thinned = on_a_terminal("--epochs", "30", "--every", "10", stdout=True)
    assert "30/30" in thinned
    shown = [epoch_of(re.sub(r".*\x1b\[K", "", line)) for line in thinned.splitlines()]
    assert [epoch for epoch in shown if epoch is not None] == [0, 10, 20, 29]
    assert "5/5" not in on_a_terminal("--epochs", "5", stdout=True)
    assert run(*SMALL, "--epochs", "5", *sweep).stderr == ""


# Memory


def peak_memory(*arguments: str) -> float:
    """Return how many MB the command takes at most, with two threads."""
    program = """
import pathlib, sys, reproduce
reproduce.THREADS, reproduce.POOL = 2, reproduce.ThreadPoolExecutor(2)
reproduce.main(sys.argv[1:], standalone_mode=False)
print(pathlib.Path("/proc/self/status").read_text())
"""
    peak = re.search(r"VmHWM:\s+(\d+) kB", run_program(program, *arguments).stdout)
    assert peak
    return int(peak[1]) * 1024 / 1e6


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's /proc"
)


@needs_proc
@pytest.mark.parametrize("size", [10, 50_000])
def test_memory_is_below_400_mb(size: int) -> None:
    arguments = f"--hidden 30 --epochs 1 --batch-size {size}"
    assert peak_memory(*arguments.split()) < 400


@needs_proc
def test_memory_of_a_wide_layer_is_that_of_a_few_gradients(part: list[str]) -> None:
    arguments = [*part, "--epochs", "1", "--hidden"]
    narrow = peak_memory(*arguments, "30")
    wide = peak_memory(*arguments, "3000")
    gradient = 3000 * 794 * 8 / 1e6
    # 20 chunks have a gradient each, but few are there at the same time.
    assert wide - narrow < 10 * gradient


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
