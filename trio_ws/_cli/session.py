"""What happens between ``trio-ws connect`` and a server: on one connection, or on as many as ``--reconnect`` takes.

Rules:

1. The input is read by one task, whatever becomes of connections. A line is taken from the queue when it was sent, so
   one that a connection did not take goes to the next.
2. What is silent is the server, not the output: what ``--wait`` allows stands still while messages are written.
3. The prompt ends before the last notice is told.
"""

from __future__ import annotations

import math
import os
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from .. import ConnectionClosed, ConnectionClosedError, MessageTooBig, is_transient
from .._close import ABNORMAL, NORMAL
from .._util.nursery import BackgroundNursery
from . import display
from .console import STDOUT
from .lines import Bye, InputError, Ping, Send, decode_line, parse_line
from .running import FAILED, FINE, WRONG_USAGE
from .terminal import Screen, escape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from .. import CloseInfo, WebSocket
    from .connect import ConnectOptions
    from .console import Console
    from .lines import Command

HELP = "commands: /ping [PAYLOAD], /binary HEX, /close [CODE [REASON]], //TEXT to send /TEXT; Ctrl-D ends"
_PIPE_WAIT = 1.0  # seconds
_PONG_TIMEOUT = 10.0  # seconds
_SENT_AT_ONCE = 64  # lines
_WRITTEN_AT_ONCE = 2**16  # characters and bytes of messages
_PRIVATE_CODES = range(3000, 5000)  # RFC 6455 §7.4.2: what they mean is the application's to say


class Session:
    """The input, the output and the state that outlive a connection.

    Args:
        nursery: where the input is read.
        console: where lines come from and messages go to.
        options: the arguments of the command.
        screen: knows whether standard output has colours.
        tell_trace: tells what --verbose has not told yet.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        console: Console,
        options: ConnectOptions,
        screen: Screen,
        tell_trace: Callable[[], Awaitable[None]],
    ) -> None:
        self._nursery = nursery
        self._begun = False
        self._console = console
        self._options = options
        self._tell_trace = tell_trace
        self._to_terminal = os.isatty(STDOUT)
        self._display = display.TerminalDisplay(screen) if self._to_terminal and not options.plain else display.plain
        default_wait = 0.0 if console.typed else _PIPE_WAIT
        self._wait = default_wait if options.wait is None else options.wait
        self._blocks, self._queue = trio.open_memory_channel[list[bytes]](0)
        self._unsent: deque[bytes] = deque()
        self._input_has_ended = False
        self._scope = trio.CancelScope()
        self._patience = trio.CancelScope()
        self._closing: tuple[int | None, str] = (NORMAL, "")
        self._status = FINE
        self._closed: ConnectionClosed | None = None

    def end(self) -> None:
        """Begin to close."""
        self._scope.cancel()

    async def begin(self) -> None:
        """Begin to read the input, unless that was begun on a connection before."""
        if not self._begun:
            self._begun = True
            await self._nursery.start(self._hold)
            self._nursery.start_soon(self._read_input)
        await trio.lowlevel.checkpoint()

    async def _hold(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with self._console.session():
            task_status.started()
            await trio.sleep_forever()

    async def converse(self, websocket: WebSocket) -> int:
        """Use a connection to its end and return the exit status.

        Raises:
            ConnectionClosed: it ended in a way that may pass, and --reconnect is wanted.
        """
        self._scope, self._closed = trio.CancelScope(), None
        if self._options.execute:
            self._unsent = deque(text.encode(errors="surrogateescape") for text in self._options.execute)
        with self._scope:
            async with BackgroundNursery() as nursery:
                nursery.start_soon(self._send_input, websocket)
                await self._print_messages(websocket)
        lost = self._closed if self._options.reconnect and self._closed is not None else None
        if lost is None or not is_transient(lost):
            await self._console.end_prompt()
        await websocket.aclose(*self._closing)
        info = await websocket.wait_closed()
        await self._tell_trace()
        await self._console.tell(_describe_end(info, self._closed))
        if lost is not None and is_transient(lost):
            raise lost
        return self._conclude(info)

    def _conclude(self, info: CloseInfo) -> int:
        if isinstance(self._closed, ConnectionClosedError):
            received = self._closed.received
            private = received is not None and received.code in _PRIVATE_CODES
            return self._status if private and not self._options.strict else FAILED
        return self._status if self._closed is not None or info.was_clean else FAILED

    # ---- what arrives ----

    async def _print_messages(self, websocket: WebSocket) -> None:  # noqa: ASYNC910  # receive() is a checkpoint, also when it raises
        try:
            while True:
                with trio.CancelScope() as self._patience:
                    self._expect_message()
                    message = await websocket.receive()
                if self._patience.cancelled_caught:
                    return
                await self._print([message, *_take_what_is_here(websocket)])
        except ConnectionClosed as closed:
            self._closed = closed
        except BrokenPipeError:
            self._status = FAILED

    def _expect_message(self) -> None:
        self._patience.deadline = trio.current_time() + (self._wait if self._input_has_ended else math.inf)

    async def _print(self, messages: list[str | bytes]) -> None:
        if self._to_terminal or not (self._options.raw or self._options.binary):
            await self._console.show_lines(list(map(self._display, messages)))
        else:
            as_bytes = display.unframed if self._options.binary else display.raw
            await self._console.show(b"".join(map(as_bytes, messages)))

    # ---- what is sent ----

    async def _read_input(self) -> None:
        read = self._console.read_blocks if self._options.binary else self._console.read_lines
        async with self._blocks:
            while not self._options.execute and (lines := await read()):
                await self._blocks.send(lines)

    async def _send_input(self, websocket: WebSocket) -> None:
        with suppress(ConnectionClosed):  # whoever receives sees it as well
            while not self._input_has_ended:
                await self._send_what_is_queued(websocket)
                try:
                    self._unsent.extend(await self._queue.receive())
                except trio.EndOfChannel:
                    self._input_has_ended = True
            await self._send_what_is_queued(websocket)  # --execute, on a connection that is not the first
            self._expect_message()

    async def _send_what_is_queued(self, websocket: WebSocket) -> None:
        turn = 0
        while self._unsent:
            if turn % _SENT_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            await self._obey_line(websocket, self._unsent[0])
            self._unsent.popleft()
            turn += 1

    async def _obey_line(self, websocket: WebSocket, line: bytes) -> None:
        try:
            await self._obey(websocket, self._parse(line))
        except InputError as error:
            await self._console.tell(escape(str(error)))
            if not self._console.typed:
                self._status = WRONG_USAGE
                self.end()
                await trio.lowlevel.checkpoint()  # the lines after it are not obeyed

    def _parse(self, line: bytes) -> Command:
        if self._options.binary and not self._options.execute:
            return Send(line)
        return parse_line(line) if self._options.commands else Send(decode_line(line))

    async def _obey(self, websocket: WebSocket, command: Command) -> None:  # noqa: ASYNC910  # there is one for many lines
        match command:
            case Send(value):
                try:
                    websocket.send_nowait(value)
                except trio.WouldBlock:
                    await websocket.send(value)
            case Ping(payload):
                await self._ping(websocket, payload)
            case Bye(code, reason):
                self._closing = (code, reason)
                self.end()
            case _:  # Help
                await self._console.tell(HELP)

    async def _ping(self, websocket: WebSocket, payload: bytes | None) -> None:
        with trio.move_on_after(_PONG_TIMEOUT):
            round_trip = await websocket.ping(payload)
            await self._console.tell(f"pong after {round_trip * 1000:.1f} ms")
            return
        await self._console.tell(f"no pong within {_PONG_TIMEOUT:g} s")


def _take_what_is_here(websocket: WebSocket) -> Iterator[str | bytes]:
    """Take the messages that have come already, within a bound, so that they are written at once."""
    size = 0
    with suppress(trio.WouldBlock, ConnectionClosed):  # receive() tells the end
        while size < _WRITTEN_AT_ONCE:
            message = websocket.receive_nowait()
            size += len(message)
            yield message


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
