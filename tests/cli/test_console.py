"""A person at a terminal: lines are edited, what arrives does not disturb them, and the terminal is left as it was."""

from __future__ import annotations

import builtins
import fcntl
import os
import struct
import termios
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from trio_ws import WebSocket, WebSocketRequest, serve_websocket
from trio_ws._cli import console
from trio_ws._cli.console import Console
from trio_ws._cli.lines import InputError

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

    def close(self) -> None:
        os.close(self._person)
        os.close(self.device)

    @property
    def mode(self) -> list[object]:
        return list(termios.tcgetattr(self.device))

    def type(self, data: bytes) -> None:
        os.write(self._person, data)

    async def see(self, text: bytes, *, after: int = 0) -> None:
        """Wait until text is seen."""
        with trio.fail_after(TIMEOUT):
            while text not in self.seen[after:]:
                await trio.lowlevel.wait_readable(self._person)
                self.seen += os.read(self._person, 2**16)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


async def start_server(nursery: trio.Nursery, talk: Callable[[WebSocket], Awaitable[None]]) -> str:
    async def handler(request: WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await talk(websocket)

    server = await nursery.start(partial(serve_websocket, compression=None), handler, HOST, 0)
    return f"ws://{HOST}:{server.port}/"


async def connect(terminal: Terminal, url: str, *arguments: str, term: str = "xterm") -> trio.Process:
    environment = os.environ | {"TERM": term, "LC_ALL": "C.UTF-8"}
    for name in ("COLUMNS", "LINES"):
        environment.pop(name, None)
    device = terminal.device
    return await trio.lowlevel.open_process(
        [*COMMAND, "connect", url, *arguments], stdin=device, stdout=device, stderr=device, cwd=ROOT, env=environment
    )


async def ended(process: trio.Process) -> int:
    with trio.fail_after(TIMEOUT):
        return await process.wait()


async def test_a_conversation_at_a_terminal(nursery: trio.Nursery, terminal: Terminal) -> None:
    typing = trio.Event()

    async def talk(websocket: WebSocket) -> None:
        await websocket.send(f"you said {await websocket.receive()}")
        await typing.wait()
        await websocket.send("meanwhile\x1b[2J")
        await websocket.send("x" * COLUMNS * ROWS)
        await websocket.send(f"at last {await websocket.receive()}")
        await websocket.wait_closed()

    before = terminal.mode
    process = await connect(terminal, await start_server(nursery, talk))
    await terminal.see(b"Ctrl-D ends")
    await terminal.see(b"> ")
    terminal.type(b"helo\x1b[Dl\r")  # the line editor knows the cursor keys
    await terminal.see(b"< you said hello")
    terminal.type(b"half")
    await terminal.see(b"half")
    typing.set()
    # Above the line that is being typed, and back to it.
    await terminal.see(b"\x1b7\n\x1b[1A\r\x1b[1L< meanwhile\\x1b[2J\x1b8\x1b[1B".replace(b"\n", b"\r\n"))
    # A message that does not fit above it.
    await terminal.see(b"\r\x1b[J< " + b"x" * COLUMNS * ROWS + b"\r\n> ")
    terminal.type(b" done\r")
    await terminal.see(b"at last half done")
    terminal.type(b"/nope\r")
    await terminal.see(b"there is no command /nope")
    terminal.type(b"\xff\r")
    await terminal.see(b"the line is not UTF-8")
    mark = len(terminal.seen)
    terminal.type(CTRL_D)
    assert await ended(process) == 0
    await terminal.see(b"\r\nclosed: 1000 (OK)\r\n", after=mark)
    assert terminal.mode == before


async def test_the_terminal_is_left_as_it_was_when_the_server_closes(nursery: trio.Nursery, terminal: Terminal) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.receive()
        await websocket.aclose(4000, "enough")

    before = terminal.mode
    process = await connect(terminal, await start_server(nursery, talk), "--no-commands")
    await terminal.see(b"> ")
    terminal.type(b"hello\r")
    assert await ended(process) == 1
    await terminal.see(b"closed by the server: 4000 (private use) 'enough'\r\n")
    assert b"commands" not in terminal.seen
    assert terminal.mode == before


async def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(
    nursery: trio.Nursery, terminal: Terminal
) -> None:
    async def talk(websocket: WebSocket) -> None:
        async for message in websocket:
            await websocket.send(message)

    process = await connect(terminal, await start_server(nursery, talk), term="dumb")
    await terminal.see(b"connected to")
    terminal.type(b"hello\n/nope\n")
    await terminal.see(b"\r\n< hello\r\n")
    await terminal.see(b"there is no command /nope")
    terminal.type(CTRL_D)
    assert await ended(process) == 0
    await terminal.see(b"closed: 1000 (OK)\r\n")
    assert b"\x1b" not in terminal.seen


async def test_raw_does_not_hold_for_terminals(nursery: trio.Nursery, terminal: Terminal) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.send("\x1b[2J")

    url = await start_server(nursery, talk)
    with standard_input(b"", ends=False), replaced(1, os.dup(terminal.device)):
        assert await run_command("connect", "--raw", url) == 0
    await terminal.see(b"< \\x1b[2J\r\n")


@pytest.fixture
def at_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Have the terminal in the place of the standard streams."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(console, "_EDITOR_POLL_INTERVAL", 0.001)
    with replaced(0, os.dup(terminal.device)), replaced(1, os.dup(terminal.device)):
        yield terminal


@pytest.mark.parametrize("edits", [True, False])
async def test_an_abandoned_line_leaves_no_trace(
    edits: bool, at_terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, asked = threading.Event(), threading.Event()

    def read_line(prompt: str) -> str:
        if edits:
            mode = termios.tcgetattr(0)
            mode[3] &= ~termios.ICANON
            termios.tcsetattr(0, termios.TCSANOW, mode)
        asked.set()
        released.wait(TIMEOUT)
        raise EOFError

    monkeypatch.setattr(builtins, "input", read_line)
    before = at_terminal.mode
    person = Console()
    assert person.typed
    assert person.interactive
    with person.session(), trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(person.read_line)
            await trio.to_thread.run_sync(asked.wait)
            scope.cancel()
    released.set()
    assert at_terminal.mode == before
    await at_terminal.see(b"\r\n")


async def test_lines_are_asked_for_and_come_to_an_end(at_terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["hello", "\udcff"])

    def read_line(prompt: str) -> str:
        assert prompt == "> "
        for answer in answers:
            return answer
        raise EOFError

    monkeypatch.setattr(builtins, "input", read_line)
    person = Console()
    with person.session():
        assert await person.read_line() == "hello"
        with pytest.raises(InputError, match=r"^the line is not UTF-8$"):
            await person.read_line()
        assert await person.read_line() is None
        await person.show_line("shown")
    await at_terminal.see(b"shown\r\n\r\n")


async def test_what_arrives_is_put_above_the_line_that_is_typed(
    at_terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, asked = threading.Event(), threading.Event()

    def read_line(prompt: str) -> str:
        asked.set()
        released.wait(TIMEOUT)
        return "line"

    monkeypatch.setattr(builtins, "input", read_line)
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setenv("LINES", str(ROWS))
    person = Console()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(person.read_line)
        await trio.to_thread.run_sync(asked.wait)
        await person.show_line("y" * (COLUMNS + 1))
        await person.show_line("z" * COLUMNS * ROWS)
        released.set()
    await at_terminal.see(b"\x1b7\r\n\r\n\x1b[2A\r\x1b[2L" + b"y" * (COLUMNS + 1) + b"\x1b8\x1b[2B")
    await at_terminal.see(b"\r\x1b[J" + b"z" * COLUMNS * ROWS + b"\r\n> ")


async def test_a_pipe_is_no_person(capfd: pytest.CaptureFixture[str]) -> None:
    with standard_input(b"one\r\ntwo\nthree"):
        person = Console()
        assert not person.typed
        assert not person.interactive
        with person.session():
            assert [await person.read_line() for _ in range(5)] == ["one", "two", "three", None, None]
        await person.show(b"\x00")
        await person.show_line("shown \udcff")
        await person.tell("told")
    assert capfd.readouterr() == ("\0shown \\udcff\n", "told\n")
