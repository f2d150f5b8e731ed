"""What README.md calls to have the program's own output in it: `cog -r README.md`."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import cog

ROOT = Path(__file__).resolve().parent.parent


def console(arguments: str) -> None:
    """Put a command into the README, and below it what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        output = subprocess.run(
            [sys.executable, str(ROOT / "reproduce.py"), *shlex.split(arguments)],
            capture_output=True,
            text=True,
            check=True,
            cwd=folder,
            env={**os.environ, "COLUMNS": "80"},
        ).stdout
    command = f"python reproduce.py {arguments}".strip()
    cog.outl(f"```console\n$ {command}\n{output}```")
