"""The page about the command line: its commands are such, and it names what options there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from trio_ws._cli import build_parser
from trio_ws._cli.display import _SHOWN_CHARACTERS
from trio_ws._cli.session import _PIPE_WAIT

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "command-line.md").read_text()
COMMANDS = re.findall(r"^\$ (.*trio-ws .*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_can_be_run(line: str) -> None:
    (command,) = [part for part in re.split(r" [|&<] ?", f"{line} ") if "trio-ws" in part]
    words = shlex.split(command)
    arguments = words[words.index("trio-ws") + 1 :]
    assert build_parser().parse_args(arguments).name == arguments[0]


def test_the_options_that_it_names_exist(capsys: pytest.CaptureFixture[str]) -> None:
    helps = ""
    for command in ("connect", "serve", "bench"):
        with pytest.raises(SystemExit):
            build_parser().parse_args([command, "--help"])
        helps += capsys.readouterr().out
    named = set(re.findall(r"--[a-z][a-z-]+", PAGE)) - {"--help"}
    assert named <= set(re.findall(r"--[a-z][a-z-]+", helps))


def test_its_figures_are_those_of_the_program() -> None:
    assert f"`--wait` seconds, {_PIPE_WAIT:g} by default" in PAGE
    assert f"text over {_SHOWN_CHARACTERS:,} characters is cut short" in PAGE
