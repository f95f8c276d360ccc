"""``trio-ws connect``: a WebSocket from the terminal or a pipe."""

from __future__ import annotations

import math
import os
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from .. import HandshakeRejected, Keepalive, is_transient, open_websocket, reconnecting
from .._util.nursery import BackgroundNursery
from .arguments import add_command, seconds
from .console import STDIN, Console
from .history import history_path
from .opening import (
    ClientOptions,
    add_client_arguments,
    check_version,
    client_keywords,
    describe,
    explained,
    make_agent,
    warn_of_insecurity,
)
from .running import FAILED, WRONG_USAGE, Failure
from .session import HELP, Session
from .terminal import Screen, escape
from .trace import Trace, describe_body

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    from .. import Dispatcher, WebSocket
    from .arguments import Commands
    from .running import Interrupts

_DESCRIPTION = """\
Open a WebSocket; send each line of the input as a text message, print each
message that arrives.

A text message is printed as "< text" with control characters escaped, a binary
one as "< [binary, N bytes] hex". At a terminal there is more to see: the time,
colours, JSON laid out, and long text cut short; --plain does without. Messages
go to standard output, everything else to standard error.

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
Ctrl-C does not wait for the server. With --reconnect a line that a lost
connection has taken is not sent again: nobody knows whether it arrived.

exit status:
  0    closed cleanly: by this side, or by the server with 1000, 1001, no code,
       or without --strict a code of the application's, 3000 to 4999
  1    could not be opened, was lost, or was closed with an error
  2    wrong arguments
  130  interrupted before it was open, or twice

examples:
  trio-ws connect wss://example.com/chat --protocol chat
  trio-ws connect wss://127.0.0.1:8080/ --ca-file ca.pem
  trio-ws connect wss://example.com/ --header 'Authorization: Bearer TOKEN'
  trio-ws connect wss://example.com/ --http2
  trio-ws connect wss://example.com/ --proxy http://user:password@proxy:3128
  trio-ws connect wss://example.com/feed -x '{"op": "subscribe"}' --follow
  trio-ws connect wss://example.com/upload --binary < picture.png
  echo '{"op": "subscribe"}' |
    trio-ws connect --raw --wait inf wss://example.com/feed | jq .
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions(ClientOptions):
    """The arguments of ``trio-ws connect``.

    Raises:
        Failure: two of them do not go together.
    """

    execute: list[str]
    wait: float | None
    reconnect: bool
    binary: bool
    raw: bool
    plain: bool
    commands: bool
    history: bool
    keepalive: float
    strict: bool
    verbose: bool

    def __post_init__(self) -> None:
        ClientOptions.__post_init__(self)
        if self.binary and not self.execute and os.isatty(STDIN):
            raise Failure("--binary is for a pipe or a file: at a terminal, type /binary HEX", WRONG_USAGE)


def add_parser(commands: Commands) -> None:
    """Add the command to the program's."""
    parser = add_command(
        commands, "connect", run, ConnectOptions, summary="a client: lines in, messages out", description=_DESCRIPTION
    )
    add_client_arguments(parser)
    parser.add_argument(
        "-x",
        "--execute",
        action="append",
        default=[],
        metavar="TEXT",
        help="obey TEXT as a line, and read no input; may be repeated. With --reconnect on each connection anew",
    )
    _add_ending_arguments(parser)
    _add_format_arguments(parser)
    parser.add_argument(
        "--no-commands", action="store_false", dest="commands", help="send lines that begin with a slash, too"
    )
    parser.add_argument(
        "--no-history", action="store_false", dest="history", help="do not keep what is typed for the next run"
    )
    parser.add_argument(
        "--keepalive",
        type=seconds,
        default=20.0,
        metavar="SECONDS",
        help="send a ping after so long without a byte from the server, 0: never (default 20)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="end with status 1 when the server closes with 3000 to 4999"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="tell each head of the handshake, without secrets, and each frame"
    )


def _add_ending_arguments(parser: argparse.ArgumentParser) -> None:
    ending = parser.add_mutually_exclusive_group()
    ending.add_argument(
        "-w",
        "--wait",
        type=seconds,
        metavar="SECONDS",
        help="when the input has ended, close after so long without a message: "
        "0 at once, inf never (default 1, or 0 when the input is a terminal)",
    )
    ending.add_argument(
        "-f",
        "--follow",
        action="store_const",
        const=math.inf,
        dest="wait",
        help="go on printing messages when the input has ended, as --wait inf",
    )
    parser.add_argument(
        "--reconnect",
        action="store_true",
        help="when the connection is lost, or cannot be opened for a reason that may pass, open it again, "
        "with growing pauses",
    )


def _add_format_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--binary",
        action="store_true",
        help="send each block that is read as a binary message; print the bytes of messages and nothing else, "
        "but to a terminal",
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="print text messages as they are, each with a line end, and the bytes of binary ones; not to a terminal",
    )
    parser.add_argument(
        "--plain", action="store_true", help="print to a terminal as to a pipe: whole, on one line, nothing added"
    )


async def run(options: ConnectOptions, interrupts: Interrupts) -> int:
    """Run the command and return its exit status."""
    warn_of_insecurity(options)
    return await _Command(options, interrupts).run()


class _Command:
    """One run: the connections, and what outlives them."""

    def __init__(self, options: ConnectOptions, interrupts: Interrupts) -> None:
        self._options = options
        self._interrupts = interrupts
        self._console = Console(reads=not options.execute, history=history_path() if options.history else None)
        self._explained = False
        self._trace = Trace() if options.verbose else None
        self._telling = trio.Lock()

    async def run(self) -> int:
        async with make_agent(self._options) as agent, BackgroundNursery() as nursery:
            if self._trace is not None:
                nursery.start_soon(self._keep_telling, self._trace)
            self._session = Session(nursery, self._console, self._options, Screen(sys.stdout), self._tell_trace)
            connect = partial(self._connect, agent)
            status = await (self._connect_again_and_again(connect) if self._options.reconnect else connect())
            await self._tell_trace()
            return status

    async def _connect_again_and_again(self, connect: Callable[[], Awaitable[int]]) -> int:
        status = FAILED
        async for attempt in reconnecting():  # pragma: no branch  # it ends by break
            with attempt:
                if attempt.number > 1:
                    await self._console.tell(f"connecting again, after {attempt.pause:.1f} s")
                try:
                    status = await connect()
                    break
                except Failure as failure:
                    line, cause = str(failure), failure.__cause__
                    if cause is None or not is_transient(cause):
                        raise
                await self._console.tell(escape(line))
                raise cause
        return status

    async def _connect(self, agent: Dispatcher) -> int:
        """Open a WebSocket, use it to its end, and return the exit status.

        Raises:
            Failure: it could not be opened.
            ConnectionClosed: it was lost, and --reconnect is wanted.
        """
        async with AsyncExitStack() as stack:
            websocket = await self._open(stack, agent)
            await self._tell_trace()
            await self._console.tell(f"connected to {escape(describe(websocket))}")
            if not self._explained:
                self._explained = True
                await self._explain_console()
            with self._interrupts.ending_gently(self._session.end):
                await self._session.begin()
                return await self._session.converse(websocket)

    async def _open(self, stack: AsyncExitStack, agent: Dispatcher) -> WebSocket:
        options = self._options
        try:
            with explained(options):
                keywords = client_keywords(options, agent)
                keywords["keepalive"] = Keepalive(interval=options.keepalive) if options.keepalive else None
                keywords["instruments"] = [self._trace] if self._trace is not None else []
                opening = open_websocket(options.url, options.protocols, **keywords)
                websocket = await stack.enter_async_context(opening)
                check_version(options, websocket)
                return websocket
        except Failure as caught:
            failure = caught
        await self._tell_trace()
        if options.verbose and isinstance(failure.__cause__, HandshakeRejected):
            await self._console.tell(*describe_body(failure.__cause__))
        raise failure

    async def _explain_console(self) -> None:  # noqa: ASYNC910
        """Tell a person, the first time, what can be typed."""
        if self._console.advice is not None:
            await self._console.tell(self._console.advice)
        if self._console.typed and self._options.commands:
            await self._console.tell(HELP)

    async def _keep_telling(self, trace: Trace) -> None:
        while True:
            await trace.wait()
            await self._tell_trace()

    async def _tell_trace(self) -> None:
        """Tell what has been traced so far, and wait until that is told which another task has taken."""
        async with self._telling:
            if self._trace is not None and (lines := self._trace.take()):
                await self._console.tell(*lines)
