"""Progress and Ctrl-C on a terminal, where there are terminals that a program can open."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import Any

import pytest
from conftest import SCRIPT, SMALL, environment, script

pty = pytest.importorskip("pty")


class Terminal:
    """A process on a terminal, which shows its standard output and error, if not redirected."""

    def __init__(self, *arguments: str, term: str = "xterm", **redirected: Any) -> None:
        self.terminal, end = pty.openpty()
        self.process = subprocess.Popen(
            [*SCRIPT, *arguments],
            stdin=subprocess.DEVNULL,
            **{"stdout": end, "stderr": end, **redirected},
            env=environment(TERM=term),
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
        "--epochs 2 --seeds 3 --eta 1 --eta 2",
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
    assert progress == [(str(done), str(total)) for done in range(total)]
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


def test_progress_goes_to_standard_error_alone() -> None:
    arguments = ["--data", str(SMALL), "--epochs", "2"]
    of_output = Terminal(*arguments, stderr=subprocess.PIPE)
    assert of_output.read_all() == 0
    assert of_output.process.communicate() == (None, b"")
    of_errors = Terminal(*arguments, stdout=subprocess.DEVNULL)
    assert of_errors.read_all() == 0
    assert of_errors.text.startswith("\r")


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
