"""The script as a process: pipes, signals, terminals, threads, memory, packaging."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import reproduce

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = [sys.executable, str(ROOT / "reproduce.py")]
SMALL = ["--data", str(ROOT / "tests" / "fixtures" / "nielsen_protocol2.pkl.gz")]
QUIET = subprocess.DEVNULL


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


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SCRIPT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def lines_until_row(process: subprocess.Popen[str], row: int) -> list[str]:
    """Read what the process prints up to an epoch's row: it is printed before the end."""
    assert process.stdout
    lines: list[str] = []
    while not (lines and re.match(rf" +{row}  ", lines[-1])):
        line = process.stdout.readline()
        assert line, "the output ended"
        lines.append(line)
    return lines


def test_a_closed_pipe_ends_it_quietly() -> None:
    with start("--hidden", "30", "--epochs", "100000") as process:
        lines = lines_until_row(process, 1)
        assert len(lines) == 6
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(timeout=20) == 1
        assert process.stderr.read() == ""


@pytest.mark.parametrize("arguments", ["--hidden 30", "--seed 0 --seed 1"])
def test_ctrl_c_leaves_what_was_printed(arguments: str) -> None:
    with start(*arguments.split(), "--epochs", "100000") as process:
        lines = lines_until_row(process, 2)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=20)
        assert process.returncode == 1
        assert stderr.strip() == "Aborted!"
        assert len(lines) >= 7
        assert all(
            line.endswith("%\n") or "of 10000)\n" in line for line in stdout.splitlines(True)
        )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [["--epochs", "5"], ["--help"], ["--version"]])
def test_a_full_disk_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [*SCRIPT, *SMALL, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    assert process.returncode == 1
    assert process.stderr == "Error: cannot write the output: No space left on device.\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_closed_output_is_no_error(closed: str) -> None:
    command = f'"{SCRIPT[0]}" "{SCRIPT[1]}" {" ".join(SMALL)} --epochs 2 {closed}'
    process = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert process.stderr == ""
    assert ("baseline" in process.stdout) is (closed == "2>&-")


def test_the_text_depends_on_nothing_around_it(tmp_path: Path) -> None:
    arguments = ["--hidden", "30", "--buggy-prime", "--epochs", "3", "--diagnose"]
    expected = run(*arguments)
    assert expected.returncode == 0
    surroundings = [
        {"OPENBLAS_NUM_THREADS": "2"},
        {"OMP_NUM_THREADS": "3"},
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "COLUMNS": "40", "PYTHONHASHSEED": "7"},
    ]
    for env in surroundings:
        other = run(*arguments, env=env, cwd=tmp_path)
        assert other.stdout == expected.stdout
        assert other.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_threads_and_those_of_blas_are_as_many_as_the_cores() -> None:
    def threads(**environment: str) -> int:
        clean = {name: value for name, value in os.environ.items() if "_THREADS" not in name}
        command = [sys.executable, "-c", "import reproduce; print(reproduce.THREADS)"]
        return int(subprocess.check_output(command, cwd=ROOT, env={**clean, **environment}))

    cores = threads()
    assert threads(OMP_NUM_THREADS="1") == cores
    assert threads(OPENBLAS_NUM_THREADS="2") == max(1, cores // 2)
    assert threads(OMP_NUM_THREADS="10000") == 1
    assert threads(MKL_NUM_THREADS="many") == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux has affinity")
def test_one_core_gives_the_same_bits() -> None:
    arguments = ["--hidden", "30", "--epochs", "2", "--format", "csv"]
    cores = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(cores)})
        alone = run(*arguments)
    finally:
        os.sched_setaffinity(0, cores)
    assert alone.returncode == 0
    assert alone.stdout == run(*arguments).stdout


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
        while part := os.read(terminal, 1000):
            text += part
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
    shown = [re.sub(r".*\x1b\[K", "", line) for line in thinned.splitlines()]
    assert [line[:5] for line in shown if line.endswith("of 10)")] == [
        "    0",
        "   10",
        "   20",
        "   29",
    ]
    assert "5/5" not in on_a_terminal("--epochs", "5", stdout=True)
    assert run(*SMALL, "--epochs", "5", *sweep).stderr == ""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("hidden", [30, 3000])
def test_memory_is_bounded(hidden: int) -> None:
    program = (
        "import pathlib, reproduce\n"
        f"reproduce.main(['--hidden', '{hidden}', '--epochs', '1'], standalone_mode=False)\n"
        "print(pathlib.Path('/proc/self/status').read_text())"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    peak = re.search(r"VmHWM:\s+(\d+) kB", output)
    assert peak
    weights = hidden * 794 * 8 / 1e6 if hidden > 30 else 0
    # Each thread has a gradient at hand, and as many wait for their turn.
    assert int(peak[1]) * 1024 / 1e6 < 400 + weights * (8 + 3 * reproduce.THREADS)


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
