"""``trio-ws connect``: a WebSocket from the terminal or a pipe."""

from __future__ import annotations

import math
import os
import socket
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import trio

from .. import (
    Agent,
    ConnectionClosed,
    ConnectionClosedError,
    HandshakeError,
    HandshakeRejected,
    Limits,
    open_websocket,
)
from .._close import NORMAL
from .._nursery import BackgroundNursery
from .._wire.url import parse_url
from .arguments import add_command, add_shared_arguments, header, seconds
from .certificates import client_context, explain
from .console import STDOUT, Console
from .lines import Bye, InputError, Ping, Send, parse_line
from .running import FAILED, FINE, WRONG_USAGE, Failure
from .terminal import escape

if TYPE_CHECKING:
    from .. import CloseInfo, Compression, WebSocket
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
  /close [CODE [REASON]]   close with a code, 1000 or 3000 to 4999, and end
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
  echo '{"op": "subscribe"}' |
    trio-ws connect --raw --wait inf wss://example.com/feed | jq .
"""

_HELP = "commands: /ping [PAYLOAD], /binary HEX, /close [CODE [REASON]], //TEXT to send /TEXT; Ctrl-D ends"
_PIPE_WAIT = 1.0  # seconds
_PONG_TIMEOUT = 10.0  # seconds
_SHOWN_BYTES = 32
_SHOWN_BODY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """The arguments of ``trio-ws connect``."""

    url: str
    headers: list[tuple[str, str]]
    protocols: list[str]
    origin: str | None
    ca_file: str | None
    unix: str | None
    compression: Compression | None
    connect_timeout: float
    max_size: int
    wait: float | None
    raw: bool
    commands: bool


def add_parser(commands: Commands) -> None:
    """Add the command to the program's."""
    parser = add_command(
        commands, "connect", run, ConnectOptions, summary="a client: lines in, messages out", description=_DESCRIPTION
    )
    parser.add_argument("url", metavar="URL", help="ws://, wss://, http:// or https://")
    parser.add_argument(
        "--header",
        action="append",
        default=[],
        type=header,
        metavar="'NAME: VALUE'",
        dest="headers",
        help="add a header to the request; may be repeated",
    )
    add_shared_arguments(parser)
    parser.add_argument("--origin", help="send this Origin, as a browser would")
    parser.add_argument("--ca-file", metavar="PEM", help="trust the authorities in this file, and no others")
    parser.add_argument("--unix", metavar="PATH", help="connect to this Unix socket, whatever host the URL names")
    parser.add_argument(
        "--connect-timeout",
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="for DNS, TCP, TLS and the handshake together (default 10)",
    )
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
        websocket = await _open(stack, options)
        await console.tell(f"connected to {escape(_describe(websocket))}")
        if console.interactive and options.commands:
            await console.tell(_HELP)
        session = _Session(websocket, console, options)
        with interrupts.ending_gently(session.end):
            return await session.run()


async def _open(stack: AsyncExitStack, options: ConnectOptions) -> WebSocket:
    """Open the WebSocket for as long as the stack lasts, and put what fails into one line."""
    try:
        websocket = open_websocket(
            options.url,
            options.protocols,
            dispatcher=None if options.unix is None else Agent(socket_path=options.unix),
            headers=options.headers,
            origin=options.origin,
            ssl_context=None if options.ca_file is None else client_context(options.ca_file),
            compression=options.compression,
            limits=Limits(max_message_size=options.max_size),
            connect_timeout=options.connect_timeout,
        )
        return await stack.enter_async_context(websocket)
    except (OSError, HandshakeError) as error:
        raise Failure(f"cannot connect to {parse_url(options.url)}: {_explain(error)}") from None
    except ValueError as error:  # an argument breaks a rule; InvalidURL is one
        raise Failure(str(error), WRONG_USAGE) from None


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
                await self._print(message)
        except ConnectionClosed as closed:
            self._closed = closed
        except BrokenPipeError:
            self._status = FAILED

    def _expect_message(self) -> None:
        self._patience.deadline = trio.current_time() + self._silence_allowed

    async def _print(self, message: str | bytes) -> None:
        if self._raw:
            await self._console.show(f"{message}\n".encode() if isinstance(message, str) else message)
        else:
            await self._console.show_line(f"< {_printable(message)}")

    # ---- what is typed ----

    async def _read_input(self) -> None:
        try:
            while await self._obey_line():
                pass
        except ConnectionClosed:
            return  # noqa: ASYNC910  # whoever receives sees it as well
        self._silence_allowed = self._wait
        self._expect_message()

    async def _obey_line(self) -> bool:
        """Do what the next line asks for; False at the end of the input."""
        try:
            line = await self._console.read_line()
            if line is None:
                return False
            await self._obey(parse_line(line) if self._commands else Send(line))
        except InputError as error:
            await self._console.tell(escape(str(error)))
            if not self._console.typed:
                self._status = WRONG_USAGE
                self.end()
        return True

    async def _obey(self, command: Command) -> None:  # noqa: ASYNC910  # reading the next line is a checkpoint
        match command:
            case Send(value):
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


def _printable(message: str | bytes) -> str:
    if isinstance(message, str):
        return escape(message)
    shown = message[:_SHOWN_BYTES].hex(" ")
    more = " ..." if len(message) > _SHOWN_BYTES else ""
    return f"[binary, {len(message)} bytes] {shown}{more}".rstrip()


def _describe(websocket: WebSocket) -> str:
    details = [f"HTTP/{websocket.http_version}"]
    if websocket.protocol is not None:
        details.append(f"subprotocol {websocket.protocol}")
    details.append(websocket.extensions or "no extension")
    return f"{websocket.url} ({', '.join(details)})"


def _describe_end(info: CloseInfo, closed: ConnectionClosed | None) -> str:
    if closed is None:
        return f"closed: {info}" if info.was_clean else "closed, but the server did not answer"
    if closed.received is not None:
        return f"closed by the server: {closed.received}"
    cause = "the server ended it without a Close frame" if closed.__cause__ is None else str(closed.__cause__)
    return f"connection {'lost' if closed.sent is None else 'failed'}: {escape(cause)}"


def _explain(error: OSError | HandshakeError) -> str:
    match error:
        case HandshakeRejected():
            return _explain_rejection(error)
        case ssl.SSLCertVerificationError():
            return f"the server's certificate cannot be verified: {error.verify_message} (see --ca-file)"
        case ssl.SSLError():
            return f"TLS failed: {explain(error)}"
        case socket.gaierror():
            return f"the host cannot be found: {error.strerror}"
        case OSError():
            return _explain_os_error(error)
    return str(error)


def _explain_rejection(error: HandshakeRejected) -> str:
    try:
        phrase = f" {HTTPStatus(error.status).phrase}"
    except ValueError:
        phrase = ""
    parts = [f"the server answered with HTTP status {error.status}{phrase}"]
    if "Location" in error.headers:
        parts.append(f"Location {error.headers['Location']}")
    body = error.body.decode(errors="replace").strip()
    if body and len(body) <= _SHOWN_BODY:  # a page of HTML says nothing here
        parts.append(body)
    return ": ".join(parts)


def _explain_os_error(error: OSError) -> str:
    """Say what the system said, of each address that was tried."""
    causes = error.__cause__.exceptions if isinstance(error.__cause__, ExceptionGroup) else [error]
    reasons = [
        os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else str(cause) for cause in causes
    ]
    return ", ".join(dict.fromkeys(reasons))
