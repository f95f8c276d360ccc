"""A person at a terminal: lines are edited, what arrives does not disturb them, and the terminal is left as it was."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import termios
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from trio_ws import WebSocket, WebSocketRequest, serve_websocket
from trio_ws._cli.console import Console

from .program import COMMAND, HOST, ROOT, TIMEOUT, replaced, run_command, standard_input

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

ROWS, COLUMNS = 10, 40
CTRL_D = b"\x04"


class Terminal:
    """A terminal and the person before it.

    Attributes:
        device: the descriptor that a program has.
        seen: all that was written to the terminal.
    """

    def __init__(self) -> None:
        self._person, self.device = os.openpty()
        fcntl.ioctl(self.device, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.seen = b""
        self._looked_at = 0

    def close(self) -> None:
        os.close(self._person)
        os.close(self.device)

    @property
    def mode(self) -> list[object]:
        return list(termios.tcgetattr(self.device))

    def type(self, data: bytes) -> None:
        os.write(self._person, data)

    async def see(self, text: bytes) -> None:
        """Wait until text is seen, after what was waited for before."""
        with trio.fail_after(TIMEOUT):
            while text not in self.seen[self._looked_at :]:
                await trio.lowlevel.wait_readable(self._person)
                self.seen += os.read(self._person, 2**16)
        self._looked_at = self.seen.index(text, self._looked_at) + len(text)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture(autouse=True)
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "trio-ws" / "history"


def keep(history: Path, line: str) -> None:
    """Write a line into the file, as if it had been typed before."""
    history.parent.mkdir(parents=True)
    history.write_text(f"\n# 2026-01-01 00:00:00\n+{line}\n")


def kept(history: Path) -> list[str]:
    """Read the lines of the file, which others may not read, but for one that was not UTF-8."""
    if not history.exists():
        return []
    assert history.stat().st_mode & 0o777 == 0o600
    lines = history.read_text().splitlines()
    return [line[1:] for line in lines if line.startswith("+") and line.isascii() and line != "+?"]


async def start_server(nursery: trio.Nursery, talk: Callable[[WebSocket], Awaitable[None]]) -> str:
    async def handler(request: WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await talk(websocket)

    server = await nursery.start(partial(serve_websocket, compression=None), handler, HOST, 0)
    return f"ws://{HOST}:{server.port}/"


async def connect(terminal: Terminal, url: str, *arguments: str, term: str = "xterm") -> trio.Process:
    # A terminal that nobody is at does not tell where its cursor is.
    environment = os.environ | {"TERM": term, "LC_ALL": "C.UTF-8", "PROMPT_TOOLKIT_NO_CPR": "1"}
    for name in ("COLUMNS", "LINES"):
        environment.pop(name, None)
    device = terminal.device
    return await trio.lowlevel.open_process(
        [*COMMAND, "connect", url, *arguments], stdin=device, stdout=device, stderr=device, cwd=ROOT, env=environment
    )


async def ended(process: trio.Process) -> int:
    with trio.fail_after(TIMEOUT):
        return await process.wait()


async def test_a_conversation_at_a_terminal(nursery: trio.Nursery, terminal: Terminal, history: Path) -> None:
    typing = trio.Event()

    async def talk(websocket: WebSocket) -> None:
        await websocket.send(f"you said {await websocket.receive()!s}")
        await typing.wait()
        await websocket.send("meanwhile\x1b[2J")
        await websocket.send(f"at last {await websocket.receive()!s}")
        await websocket.wait_closed()

    before = terminal.mode
    process = await connect(terminal, await start_server(nursery, talk))
    await terminal.see(b"Ctrl-D ends")
    await terminal.see(b">")
    terminal.type(b"person\x01a \r")  # Ctrl-A: the line editor goes to the start of the line
    await terminal.see(b" \x1b[33m<\x1b[0m you said a person\r\n")
    terminal.type(b"half")
    await terminal.see(b"half")
    typing.set()
    await terminal.see(b"<\x1b[0m meanwhile\\x1b[2J\r\n")
    await terminal.see(b"half")  # what was being typed is there again
    terminal.type(b" done\r")
    await terminal.see(b"at last half done")
    terminal.type(b"/nope\r")
    await terminal.see(b"there is no command /nope")
    await terminal.see(b">")
    terminal.type(b"\xff\r")
    await terminal.see(b"the line is not UTF-8")
    await terminal.see(b">")
    terminal.type(CTRL_D)
    assert await ended(process) == 0
    await terminal.see(b"closed: 1000 (OK)\r\n")
    assert terminal.mode == before
    assert kept(history) == ["a person", "half done", "/nope"]


async def test_what_was_typed_is_there_in_the_next_run(
    nursery: trio.Nursery, terminal: Terminal, history: Path
) -> None:
    received: list[str | bytes] = []

    async def talk(websocket: WebSocket) -> None:
        received.append(await websocket.receive())
        await websocket.aclose()

    keep(history, "typed before")
    process = await connect(terminal, await start_server(nursery, talk))
    await terminal.see(b"Ctrl-D ends")
    await terminal.see(b">")
    terminal.type(b"\x1b[A\r")  # the arrow that goes up
    assert await ended(process) == 0
    assert received == ["typed before"]


async def test_nothing_is_kept_if_it_is_not_to_be(nursery: trio.Nursery, terminal: Terminal, history: Path) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.receive()

    process = await connect(terminal, await start_server(nursery, talk), "--no-history")
    await terminal.see(b"Ctrl-D ends")
    await terminal.see(b">")
    terminal.type(b"secret\r")
    assert await ended(process) == 0
    assert kept(history) == []


async def test_the_terminal_is_left_as_it_was_when_the_server_closes(nursery: trio.Nursery, terminal: Terminal) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.receive()
        await websocket.aclose(4000, "enough")

    before = terminal.mode
    process = await connect(terminal, await start_server(nursery, talk), "--no-commands", "--strict")
    await terminal.see(b"connected to")
    await terminal.see(b">")
    terminal.type(b"hello\r")
    assert await ended(process) == 1
    await terminal.see(b"closed by the server: 4000 (private use) 'enough'\r\n")
    assert b"commands" not in terminal.seen
    assert terminal.mode == before


async def test_ctrl_c_closes(nursery: trio.Nursery, terminal: Terminal) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.wait_closed()

    before = terminal.mode
    process = await connect(terminal, await start_server(nursery, talk))
    await terminal.see(b"Ctrl-D ends")
    await terminal.see(b">")
    terminal.type(b"half a line\x03")
    assert await ended(process) == 0
    await terminal.see(b"closed: 1000 (OK)\r\n")
    assert terminal.mode == before


async def test_messages_are_laid_out_and_cut_short_for_people(nursery: trio.Nursery, terminal: Terminal) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.send('{"name": [1]}')
        await websocket.send("x" * 5000)

    arguments = ("--execute", "hello")
    assert await ended(await connect(terminal, await start_server(nursery, talk), *arguments)) == 0
    await terminal.see(b'{\r\n  "name": [\r\n    1\r\n  ]\r\n}\r\n')
    await terminal.see(b"x ... (5,000 characters in all, --plain shows them)\r\n")
    assert b"> " not in terminal.seen
    assert await ended(await connect(terminal, await start_server(nursery, talk), *arguments, "--plain")) == 0
    await terminal.see(b'\n< {"name": [1]}\r\n< ' + b"x" * 5000 + b"\r\n")


async def test_the_warning_of_insecurity_is_red(nursery: trio.Nursery, terminal: Terminal) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.wait_closed()

    url = await start_server(nursery, talk)
    assert await ended(await connect(terminal, url, "--insecure", "-x", "/close")) == 0
    await terminal.see(b"\x1b[31m--insecure: the server may be anybody")
    await terminal.see(b"\x1b[0m\r\nconnected to")


async def test_without_prompt_toolkit_lines_are_read_all_the_same(
    nursery: trio.Nursery, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.send(await websocket.receive())
        await websocket.wait_closed()

    url = await start_server(nursery, talk)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "trio_ws._cli.prompt", None)
    with replaced(0, os.dup(terminal.device)), replaced(1, os.dup(terminal.device)):
        person = Console()
        assert person.typed
        assert not person.interactive
        assert person.advice is not None
        assert "pip install" in person.advice
        terminal.type(b"hello\n")
        async with person.session():
            assert await person.read_lines() == [b"hello"]
            await person.end_prompt()
        terminal.type(b"once more\n" + CTRL_D)
        assert await run_command("connect", url) == 0
    assert "lines are edited and kept between runs with prompt_toolkit" in capfd.readouterr().err


async def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(
    nursery: trio.Nursery, terminal: Terminal
) -> None:
    async def talk(websocket: WebSocket) -> None:
        async for message in websocket:
            await websocket.send(message)

    process = await connect(terminal, await start_server(nursery, talk), term="dumb")
    await terminal.see(b"connected to")
    terminal.type(b"hello\n")
    await terminal.see(b" < hello\r\n")
    terminal.type(b"/nope\n")
    await terminal.see(b"there is no command /nope")
    terminal.type(CTRL_D)
    assert await ended(process) == 0
    await terminal.see(b"closed: 1000 (OK)\r\n")
    assert b"\x1b" not in terminal.seen


async def test_raw_does_not_hold_for_terminals(nursery: trio.Nursery, terminal: Terminal) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.send("\x1b[2J")

    url = await start_server(nursery, talk)
    async with standard_input(b"", ends=False):
        with replaced(1, os.dup(terminal.device)):
            assert await run_command("connect", "--raw", url) == 0
    await terminal.see(b" \\x1b[2J\r\n")


async def test_a_pipe_is_no_person(capfd: pytest.CaptureFixture[str]) -> None:
    async with standard_input(b"one\r\ntwo\nthree"):
        person = Console()
        assert not person.typed
        assert not person.interactive
        async with person.session():
            assert [await person.read_lines() for _ in range(4)] == [[b"one", b"two"], [b"three"], [], []]
        await person.show(b"\x00")
        await person.show_lines(["shown \udcff", "again"])
        await person.tell("told")
    assert capfd.readouterr() == ("\0shown \\udcff\nagain\n", "told\n")
