"""The program as a whole: what its arguments must be, its exit status, and that no error is a traceback."""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import trio_ws
from trio_ws import _cli
from trio_ws._cli import demo, main
from trio_ws._cli.running import Failure

from .program import COMMAND, ROOT, TIMEOUT, run_program

if TYPE_CHECKING:
    from trio_ws._cli.running import Interrupts


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command with arguments that it refuses, and return what it says."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    return output.err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "trio-ws: the following arguments are required: COMMAND (see trio-ws --help)\n"),
        (("connect",), "trio-ws connect: the following arguments are required: URL (see trio-ws connect --help)\n"),
        (
            ("connect", "ws://h", "--header", "X"),
            "trio-ws connect: argument --header: a header is written 'Name: value', with a colon "
            "(see trio-ws connect --help)\n",
        ),
        (
            ("connect", "ws://h", "--wait", "nan"),
            "trio-ws connect: argument -w/--wait: 'nan' is not a number of seconds from 0 on "
            "(see trio-ws connect --help)\n",
        ),
        (
            ("connect", "ws://h", "--wait", "soon"),
            "trio-ws connect: argument -w/--wait: 'soon' is not a number of seconds from 0 on "
            "(see trio-ws connect --help)\n",
        ),
        (
            ("connect", "ws://h", "--max-size=-1"),
            "trio-ws connect: argument --max-size: '-1' is not a whole number from 0 on (see trio-ws connect --help)\n",
        ),
        (
            ("connect", "ws://h", "--max-size", "1k"),
            "trio-ws connect: argument --max-size: '1k' is not a whole number from 0 on (see trio-ws connect --help)\n",
        ),
        (
            ("serve", "--port", "65536"),
            "trio-ws serve: argument --port: '65536' is not a port: a whole number from 0 to 65535 "
            "(see trio-ws serve --help)\n",
        ),
        (
            ("serve", "--port", "http"),
            "trio-ws serve: argument --port: 'http' is not a port: a whole number from 0 to 65535 "
            "(see trio-ws serve --help)\n",
        ),
        (("demo", "\x1b[2J"), "trio-ws: unrecognized arguments: \\x1b[2J (see trio-ws --help)\n"),
        (("serve", "--tl"), "trio-ws: unrecognized arguments: --tl (see trio-ws --help)\n"),
    ],
)
def test_wrong_arguments_get_one_line(
    arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert usage_error(capsys, *arguments) == line


def test_an_unknown_command_gets_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    line = usage_error(capsys, "destroy")
    assert line.startswith("trio-ws: argument COMMAND: invalid choice: 'destroy' (choose from ")
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("serve", "--unix", "/x", "--port", "0"), "trio-ws serve: --unix goes without --host and --port\n"),
        (("serve", "--unix", "/x", "--host", "h"), "trio-ws serve: --unix goes without --host and --port\n"),
        (("serve", "--cert-file", "x"), "trio-ws serve: --cert-file needs --tls\n"),
        (("serve", "--tls", "--key-file", "x"), "trio-ws serve: --key-file needs --cert-file\n"),
        (("serve", "--any-origin", "--origin", "https://x"), "trio-ws serve: --any-origin goes without --origin\n"),
        (
            ("connect", "ftp://user:secret@h"),
            "trio-ws connect: url 'ftp://***@h' is not a WebSocket URL: its scheme must be ws, wss, http or https\n",
        ),
    ],
)
def test_arguments_that_do_not_go_together_get_one_line(
    arguments: tuple[str, ...], line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capfd.readouterr() == ("", line)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"trio-ws {trio_ws.__version__} (Python 3.")


@pytest.mark.parametrize("command", [(), ("demo",), ("connect",), ("serve",)])
def test_the_help_fits_80_columns_and_has_examples(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= 80
    assert "examples:" in output or command == ("demo",)


def test_python_m_runs_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "trio_ws", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("trio-ws ")


def test_importing_the_main_module_runs_nothing() -> None:
    assert importlib.import_module("trio_ws.__main__").main is main


@pytest.mark.parametrize(
    ("error", "status", "output"),
    [
        (None, 7, ""),
        (Failure("no luck\x1b"), 1, "trio-ws demo: no luck\\x1b\n"),
        (Failure("your fault", 2), 2, "trio-ws demo: your fault\n"),
        (OSError("a disk\nis full"), 1, "trio-ws demo: a disk\\nis full\n"),
        (KeyboardInterrupt(), 130, "\n"),
    ],
)
def test_what_a_command_raises_becomes_a_line_and_a_status(
    error: BaseException | None,
    status: int,
    output: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run(options: demo.DemoOptions, interrupts: Interrupts) -> int:
        if error is not None:
            raise error
        return 7

    monkeypatch.setattr(demo, "run", run)
    assert main(["demo"]) == status
    assert capsys.readouterr() == ("", output)


def test_a_bug_is_no_such_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(options: demo.DemoOptions, interrupts: Interrupts) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(demo, "run", run)
    with pytest.raises(ZeroDivisionError):
        main(["demo"])


def test_output_that_nobody_reads_ends_the_program_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        done = subprocess.run(
            [*COMMAND, "demo"],
            stdin=subprocess.DEVNULL,
            stdout=nobody,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            timeout=TIMEOUT,
        )
    assert (done.returncode, done.stderr) == (1, b"")


def test_streams_that_are_closed_are_not_taken_for_sockets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    _cli._prepare_streams()
    streams = [sys.stdin, sys.stdout, sys.stderr]
    assert [stream.name for stream in streams] == [os.devnull] * 3
    for stream in streams:
        stream.close()


def test_closed_standard_streams_are_as_if_empty() -> None:
    shell = '"$@" <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *COMMAND, "connect", "ws://127.0.0.1:1/"], cwd=ROOT, timeout=TIMEOUT
    )
    assert done.returncode == 1


def test_a_stream_of_another_kind_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", errors)
    assert main(["serve", "--cert-file", "x"]) == 2
    assert errors.getvalue() == "trio-ws serve: --cert-file needs --tls\n"


def test_text_that_the_output_cannot_encode_is_escaped() -> None:
    done = run_program("connect", "ws://h/\N{SNOWMAN}#", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert b"\\u2603" in done.stderr
    assert done.stderr.count(b"\n") == 1
