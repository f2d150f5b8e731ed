"""The README: what it shows is what the program prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cogapp import Cog

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_every_output_in_the_readme_is_printed_by_its_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--check", "--diff", "-I", str(ROOT / "tests"), str(ROOT / "README.md")]
    status = Cog().main(["cog", *options])
    assert status == 0, capsys.readouterr().out


def test_every_command_in_the_readme_is_checked() -> None:
    shown = re.findall(r"^\$ python reproduce\.py ?(.*)$", README, re.M)
    made = re.findall(r'^console\("(.*)"\)$', README, re.M)
    assert shown == made
    assert len(made) >= 6


def test_the_picture_in_the_readme_is_there() -> None:
    [picture] = re.findall(r"!\[.+?\]\((.+?)\)", README, re.S)
    assert (ROOT / picture).stat().st_size < 200_000
