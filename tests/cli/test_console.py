"""A person at a terminal: lines are edited, what arrives does not disturb them, and the terminal is left as it was."""

from __future__ import annotations

import builtins
import fcntl
import os
import readline
import struct
import sys
import termios
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from trio_ws import WebSocket, WebSocketRequest, serve_websocket
from trio_ws._cli.console import Console

from .program import COMMAND, HOST, ROOT, TIMEOUT, replaced, run_command, standard_input

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    import trio.testing

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
        await websocket.send(f"you said {await websocket.receive()!s}")
        await typing.wait()
        await websocket.send("meanwhile\x1b[2J")
        await websocket.send("x" * COLUMNS * ROWS)
        await websocket.send(f"at last {await websocket.receive()!s}")
        await websocket.wait_closed()

    before = terminal.mode
    process = await connect(terminal, await start_server(nursery, talk))
    await terminal.see(b"Ctrl-D ends")
    await terminal.see(b"> ")
    terminal.type(b"person\x01a \r")  # Ctrl-A: the line editor goes to the start of the line
    await terminal.see(b"< you said a person")
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
    await terminal.see(b"> ")
    terminal.type(b"\xff\r")
    await terminal.see(b"the line is not UTF-8")
    await terminal.see(b"> ")
    terminal.type(CTRL_D)
    assert await ended(process) == 0
    await terminal.see(b"\r\nclosed: 1000 (OK)\r\n")
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
    terminal.type(b"hello\n")
    await terminal.see(b"\r\n< hello\r\n")
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
    await terminal.see(b"< \\x1b[2J\r\n")


@contextmanager
def sitting_at(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, read_line: Callable[[str], str]
) -> Iterator[Console]:
    """Have the terminal in the place of the standard streams, and ``read_line`` in that of ``input()``."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setenv("LINES", str(ROWS))
    monkeypatch.setattr(builtins, "input", read_line)
    with replaced(0, os.dup(terminal.device)), replaced(1, os.dup(terminal.device)):
        yield Console()


class LineEditor:
    """Takes the place of readline and ``input()``: shows the prompt when it is told to, and never gets a line."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self._ended = threading.Event(), threading.Event()
        self._hooks: list[Callable[[], None]] = []
        monkeypatch.setattr(readline, "set_pre_input_hook", self._hooks.append)

    def input(self, prompt: str) -> str:
        mode = termios.tcgetattr(0)
        mode[3] &= ~termios.ICANON
        termios.tcsetattr(0, termios.TCSANOW, mode)
        self.asked.set()
        self._ended.wait(TIMEOUT)
        raise EOFError

    def show_prompt(self) -> None:
        self._hooks[0]()

    def end(self) -> None:
        self._ended.set()


@pytest.mark.parametrize("shown", [True, False])
async def test_an_abandoned_line_leaves_no_trace(
    shown: bool, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = LineEditor(monkeypatch)
    before = terminal.mode
    with sitting_at(terminal, monkeypatch, editor.input) as person:
        assert person.typed
        assert person.interactive
        with person.session(), trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(person.read_lines)
                await trio.to_thread.run_sync(editor.asked.wait)
                if shown:
                    editor.show_prompt()
                scope.cancel()
    editor.end()
    assert terminal.mode == before
    await terminal.see(b"\r\n")


@pytest.mark.parametrize("tells", [True, False])
async def test_what_arrives_waits_for_the_prompt_and_goes_above_the_line_that_is_typed(
    tells: bool, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    editor = LineEditor(monkeypatch)
    with sitting_at(terminal, monkeypatch, editor.input) as person:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(person.read_lines)
            await trio.to_thread.run_sync(editor.asked.wait)
            started_at = trio.current_time()
            async with trio.open_nursery() as writers:
                writers.start_soon(person.show_lines, ["y" * (COLUMNS + 1)])
                await trio.sleep(0.01)
                if tells:
                    editor.show_prompt()
            assert trio.current_time() - started_at == pytest.approx(0.01 if tells else 0.2, abs=0.003)
            await person.show_lines(["z" * COLUMNS * ROWS])
            editor.end()
    await terminal.see(b"\x1b7\r\n\r\n\x1b[2A\r\x1b[2L" + b"y" * (COLUMNS + 1) + b"\x1b8\x1b[2B")
    await terminal.see(b"\r\x1b[J" + b"z" * COLUMNS * ROWS + b"\r\n> ")


async def test_lines_are_asked_for_and_come_to_an_end(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["\udcff", "hello"]

    def read_line(prompt: str) -> str:
        assert prompt == "> "
        if not answers:
            raise EOFError
        return answers.pop()

    with sitting_at(terminal, monkeypatch, read_line) as person, person.session():
        assert await person.read_lines() == [b"hello"]
        assert await person.read_lines() == [b"\xff"]
        assert await person.read_lines() == []
        await person.show_lines(["shown"])
    await terminal.see(b"shown\r\n\r\n")


async def test_without_a_line_editor_lines_are_read_all_the_same(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "readline", None)
    with sitting_at(terminal, monkeypatch, lambda prompt: f"{prompt}hello") as person:
        assert await person.read_lines() == [b"> hello"]


async def test_a_pipe_is_no_person(capfd: pytest.CaptureFixture[str]) -> None:
    async with standard_input(b"one\r\ntwo\nthree"):
        person = Console()
        assert not person.typed
        assert not person.interactive
        with person.session():
            assert [await person.read_lines() for _ in range(4)] == [[b"one", b"two"], [b"three"], [], []]
        await person.show(b"\x00")
        await person.show_lines(["shown \udcff", "again"])
        await person.tell("told")
    assert capfd.readouterr() == ("\0shown \\udcff\nagain\n", "told\n")
