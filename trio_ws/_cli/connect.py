"""``trio-ws connect``: a WebSocket from the terminal or a pipe."""

from __future__ import annotations

import math
import os
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from .. import ConnectionClosed, ConnectionClosedError, MessageTooBig, open_websocket
from .._close import ABNORMAL, NORMAL
from .._util.nursery import BackgroundNursery
from .arguments import add_command, seconds
from .console import STDOUT, Console
from .lines import Bye, InputError, Ping, Send, decode_line, parse_line
from .opening import (
    ClientOptions,
    add_client_arguments,
    check_version,
    client_keywords,
    describe,
    explained,
    make_agent,
)
from .running import FAILED, FINE, WRONG_USAGE
from .terminal import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .. import CloseInfo, WebSocket
    from .arguments import Commands
    from .lines import Command
    from .running import Interrupts

_DESCRIPTION = """\
Open a WebSocket; send each line of the input as a text message, print each
message that arrives.

A text message is printed as "< text" with control characters escaped, a binary
one as "< [binary, N bytes] hex". Messages go to standard output, everything
else to standard error.

Lines that begin with a slash are commands:
  /ping [PAYLOAD]          send a ping, tell the round trip
  /binary HEX              send a binary message
  /close [CODE [REASON]]   close with a code, 1000 by default, and end
  /help                    tell the commands
  //TEXT                   send /TEXT
With --no-commands every line is sent as it is. A wrong command ends the
program, with status 2, unless it was typed at a terminal.

When the input ends, messages are printed until none has come for --wait
seconds; then the connection is closed. Ctrl-C closes it at once, a second
Ctrl-C does not wait for the server.

exit status:
  0    closed cleanly: by this side, or by the server with 1000, 1001 or no code
  1    could not be opened, was lost, or was closed with an error
  2    wrong arguments
  130  interrupted before it was open, or twice

examples:
  trio-ws connect wss://example.com/chat --protocol chat
  trio-ws connect wss://127.0.0.1:8080/ --ca-file ca.pem
  trio-ws connect wss://example.com/ --header 'Authorization: Bearer TOKEN'
  trio-ws connect wss://example.com/ --http2
  trio-ws connect wss://example.com/ --proxy http://user:password@proxy:3128
  echo '{"op": "subscribe"}' |
    trio-ws connect --raw --wait inf wss://example.com/feed | jq .
"""

_HELP = "commands: /ping [PAYLOAD], /binary HEX, /close [CODE [REASON]], //TEXT to send /TEXT; Ctrl-D ends"
_PIPE_WAIT = 1.0  # seconds
_PONG_TIMEOUT = 10.0  # seconds
_SHOWN_BYTES = 32
_SENT_AT_ONCE = 64  # lines
_WRITTEN_AT_ONCE = 2**16  # characters and bytes of messages


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions(ClientOptions):
    """The arguments of ``trio-ws connect``."""

    wait: float | None
    raw: bool
    commands: bool


def add_parser(commands: Commands) -> None:
    """Add the command to the program's."""
    parser = add_command(
        commands, "connect", run, ConnectOptions, summary="a client: lines in, messages out", description=_DESCRIPTION
    )
    add_client_arguments(parser)
    parser.add_argument(
        "--wait",
        type=seconds,
        metavar="SECONDS",
        help="when the input has ended, close after so long without a message: "
        "0 at once, inf never (default 1, or 0 when the input is a terminal)",
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="print text messages as they are, each with a line end, and the bytes of binary ones; not to a terminal",
    )
    parser.add_argument(
        "--no-commands", action="store_false", dest="commands", help="send lines that begin with a slash, too"
    )


async def run(options: ConnectOptions, interrupts: Interrupts) -> int:
    """Run the command and return its exit status."""
    console = Console()
    async with AsyncExitStack() as stack:
        agent = make_agent(options)
        await stack.enter_async_context(agent)
        with explained(options):
            opening = open_websocket(options.url, options.protocols, **client_keywords(options, agent))
            websocket = await stack.enter_async_context(opening)
        check_version(options, websocket)
        await console.tell(f"connected to {escape(describe(websocket))}")
        if console.interactive and options.commands:
            await console.tell(_HELP)
        session = _Session(websocket, console, options)
        with interrupts.ending_gently(session.end):
            return await session.run()


class _Session:
    """What happens on an open WebSocket until its end."""

    def __init__(self, websocket: WebSocket, console: Console, options: ConnectOptions) -> None:
        self._websocket = websocket
        self._console = console
        self._commands = options.commands
        self._raw = options.raw and not os.isatty(STDOUT)
        default_wait = 0.0 if console.typed else _PIPE_WAIT
        self._wait = default_wait if options.wait is None else options.wait
        self._scope = trio.CancelScope()
        self._patience = trio.CancelScope()
        self._silence_allowed = math.inf
        self._closing: tuple[int | None, str] = (NORMAL, "")
        self._status = FINE
        self._closed: ConnectionClosed | None = None

    def end(self) -> None:
        """Begin to close."""
        self._scope.cancel()

    async def run(self) -> int:
        """Run to the end and return the exit status."""
        with self._console.session(), self._scope:
            async with BackgroundNursery() as nursery:
                nursery.start_soon(self._read_input)
                await self._print_messages()
        await self._websocket.aclose(*self._closing)
        return await self._conclude()

    async def _conclude(self) -> int:
        info = await self._websocket.wait_closed()
        by_server = self._closed is not None
        await self._console.tell(_describe_end(info, self._closed))
        if isinstance(self._closed, ConnectionClosedError) or not (by_server or info.was_clean):
            return FAILED
        return self._status

    # ---- what arrives ----

    async def _print_messages(self) -> None:  # noqa: ASYNC910  # receive() is a checkpoint, also when it raises
        try:
            while True:
                with trio.CancelScope() as self._patience:
                    self._expect_message()
                    message = await self._websocket.receive()
                if self._patience.cancelled_caught:
                    return
                await self._print([message, *self._take_what_is_here()])
        except ConnectionClosed as closed:
            self._closed = closed
        except BrokenPipeError:
            self._status = FAILED

    def _expect_message(self) -> None:
        self._patience.deadline = trio.current_time() + self._silence_allowed

    def _take_what_is_here(self) -> Iterator[str | bytes]:
        """Take the messages that have come already, within a bound, so that they are written at once."""
        size = 0
        with suppress(trio.WouldBlock, ConnectionClosed):  # receive() tells the end
            while size < _WRITTEN_AT_ONCE:
                message = self._websocket.receive_nowait()
                size += len(message)
                yield message

    async def _print(self, messages: list[str | bytes]) -> None:
        if self._raw:
            await self._console.show(b"".join(map(_raw, messages)))
        else:
            await self._console.show_lines([f"< {_printable(message)}" for message in messages])

    # ---- what is typed ----

    async def _read_input(self) -> None:
        try:
            while lines := await self._console.read_lines():
                for number, line in enumerate(lines):
                    if number % _SENT_AT_ONCE == 0:
                        await trio.lowlevel.checkpoint()
                    await self._obey_line(line)
        except ConnectionClosed:
            return  # noqa: ASYNC910  # whoever receives sees it as well
        self._silence_allowed = self._wait
        self._expect_message()

    async def _obey_line(self, line: bytes) -> None:
        try:
            await self._obey(parse_line(line) if self._commands else Send(decode_line(line)))
        except InputError as error:
            await self._console.tell(escape(str(error)))
            if not self._console.typed:
                self._status = WRONG_USAGE
                self.end()
                await trio.lowlevel.checkpoint()  # the lines after it are not obeyed

    async def _obey(self, command: Command) -> None:  # noqa: ASYNC910  # reading the next line is a checkpoint
        match command:
            case Send(value):
                try:
                    self._websocket.send_nowait(value)
                except trio.WouldBlock:
                    await self._websocket.send(value)
            case Ping(payload):
                await self._ping(payload)
            case Bye(code, reason):
                self._closing = (code, reason)
                self.end()
            case _:  # Help
                await self._console.tell(_HELP)

    async def _ping(self, payload: bytes | None) -> None:
        with trio.move_on_after(_PONG_TIMEOUT):
            round_trip = await self._websocket.ping(payload)
            await self._console.tell(f"pong after {round_trip * 1000:.1f} ms")
            return
        await self._console.tell(f"no pong within {_PONG_TIMEOUT:g} s")


def _raw(message: str | bytes) -> bytes:
    return f"{message}\n".encode() if isinstance(message, str) else message


def _printable(message: str | bytes) -> str:
    if isinstance(message, str):
        return escape(message)
    shown = message[:_SHOWN_BYTES].hex(" ")
    more = " ..." if len(message) > _SHOWN_BYTES else ""
    return f"[binary, {len(message)} bytes] {shown}{more}".rstrip()


def _describe_end(info: CloseInfo, closed: ConnectionClosed | None) -> str:
    if closed is None:
        if info.was_clean:
            return f"closed: {info}"
        return "closed, but the server did not answer" if info.code == ABNORMAL else f"closed, and failed: {info}"
    if closed.received is not None:
        return f"closed by the server: {closed.received}"
    cause = "the server ended it without a Close frame" if closed.__cause__ is None else str(closed.__cause__)
    advice = " (see --max-size)" if isinstance(closed.__cause__, MessageTooBig) else ""
    return f"connection {'lost' if closed.sent is None else 'failed'}: {escape(cause)}{advice}"
