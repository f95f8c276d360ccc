"""One WebSocket connection: a protocol, a transport, and who waits for what.

Theory of operation:

1. Everything between the socket and the application is synchronous. The only awaits are waiting for input
   (``Transport.wait_readable``), for room (:class:`Outbox`), and parking until told. So no cancellation can leave a
   frame half-encoded or a message half-taken.
2. **One task at a time reads**: it holds ``reading``. A task in :meth:`receive` reads for itself, which saves a task
   switch for each message. When no such task has read for a while (``_handover``), the *attendant*, the
   connection's own task, takes over, so that pings are answered and closes are seen while the application is busy.
3. Reading never waits for writing, nor for the application: when ``receive_buffer`` is full nobody reads, and the
   keepalive clock stands still. A multiplexed transport is told how much waits: its peer may not have more on its way
   and waiting, together, than its window.
4. The :class:`Attendant` ends the connection: closing handshake, then the transport, all within ``close_timeout``.
   Whoever cannot wait calls ``abandon``. How is told in ``_lifecycle``.
5. Background tasks never raise. What went wrong is ``cause``, and becomes the ``__cause__`` of the
   ConnectionClosedError that the waiting tasks get.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, NoReturn

import trio

from .._close import POLICY_VIOLATION
from .._exceptions import RemoteProtocolError
from .._util.token_bucket import TokenBucket
from .._wire.frames import LARGE
from .._wire.protocol import OPEN, State
from .._wire.reader import Piece, Ping, Pong, Start
from .._wire.speedups import weigh
from .attendant import Attendant
from .handover import Handover
from .lifecycle import NEVER, Lifecycle
from .statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._options import Keepalive, Limits
    from .._transport import Transport
    from .._util.waiters import Waiters
    from .._wire.prepared import PreparedMessage
    from .._wire.protocol import Message, WebSocketProtocol
    from .._wire.reader import Event
    from .pings import SentPing

FRAMES_AT_ONCE = 256  # no task understands more without letting others run
MOST_AT_ONCE = 2**20  # bytes of messages, and one message: a few compressed bytes can be many

_EMPTY: deque[str | bytes] = deque(maxlen=0)  # shared: a deque takes 760 bytes even when it is empty


class Connection(Lifecycle):
    """What a WebSocket stands on; its attendant must run from the start to the end.

    Args:
        handover: the clock that it shares with other connections; None: it has its own. The rest is :class:`Lifecycle`.
    """

    __slots__ = ("_control_frames", "_inbox", "_inbox_size", "_more", "_now", "_receive_limit", "counters")

    reading: int  # as in Lifecycle: a type checker must not have to infer what is assigned here
    stalled: bool

    def __init__(
        self,
        transport: Transport,
        protocol: WebSocketProtocol,
        *,
        is_client: bool,
        limits: Limits,
        keepalive: Keepalive | None,
        close_timeout: float,
        nursery: trio.Nursery,
        handover: Handover | None = None,
    ) -> None:
        super().__init__(
            transport,
            protocol,
            is_client=is_client,
            limits=limits,
            keepalive=keepalive,
            close_timeout=close_timeout,
            nursery=nursery,
        )
        self._now = trio.lowlevel.current_clock().current_time  # trio.current_time() looks for it each time
        self.attendant: Attendant = Attendant(self, handover or Handover(nursery))
        self.counters: Statistics = Statistics(bytes_received=protocol.pending)
        self._receive_limit = math.inf if limits.receive_buffer is None else limits.receive_buffer
        self._control_frames = TokenBucket(limits.control_burst, limits.control_rate)
        self._inbox = _EMPTY
        self._inbox_size = 0
        self._more = protocol.pending > 0  # bytes came with the handshake

    @property
    def received(self) -> int:
        """Bytes of messages that wait for the application, as ``weigh`` counts them."""
        return self._inbox_size

    # ---- sending ----

    async def wait_to_send(self) -> None:
        """Wait in line until it is this sender's turn: :meth:`send` must follow at once.

        Whoever finds ``outbox.calm`` need not wait.
        """
        if not self.outbox.has_room:
            await self.outbox.wait_for_room()
            if not self.is_open():
                await self.raise_closed()

    def send_nowait(self, message: Message, compress: bool | None) -> None:
        """Send one message if there is room, else raise trio.WouldBlock."""
        if self.is_open() and not self.outbox.has_room:
            raise trio.WouldBlock
        self.send(message, compress)

    def send(self, message: Message, compress: bool | None) -> None:
        """Send one message; there is room, and nobody before it."""
        outbox = self.outbox
        try:
            protocol = self.protocol
            if protocol.state is not OPEN or protocol.failure is not None:  # is_open()
                raise self.closed_error()
            if (
                (type(message) is bytes or type(message) is str)
                and len(message) >= LARGE
                and (large := protocol.encode_large(message, compress)) is not None
            ):
                outbox.write_large(large)
            else:
                outbox.write(protocol.encode_message(message, compress))
            self.counters.messages_sent += 1
            if self.stalled:
                self.notice_loss()
        finally:
            if not outbox.calm:
                outbox.let_next_in()

    def send_prepared(self, prepared: PreparedMessage, compress: bool | None) -> None:
        """Send a message now, room or not; the connection is open, and sends no message in pieces."""
        self.outbox.write(self.protocol.encode_prepared(prepared, compress))
        self.counters.messages_sent += 1
        self.notice_loss()

    def send_ping(self, payload: bytes | None) -> SentPing:
        """Send a Ping now, room or not; the connection is open. Without a payload it gets one of its own."""
        ping = self.pings.note(payload, trio.current_time())
        self.outbox.write(self.protocol.encode_ping(ping.payload))
        self.counters.pings_sent += 1
        return ping

    async def send_pong(self, payload: bytes) -> None:
        """Send a Pong that nobody asked for (RFC 6455 §5.5.3)."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self.is_open():
            raise self.closed_error()
        self._answer_ping(payload)
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def ping(self, payload: bytes | None) -> float:
        """Send a Ping when there is room, wait for its Pong, return the seconds between."""
        await trio.lowlevel.checkpoint_if_cancelled()
        while self.is_open() and not self.outbox.has_space:
            await self.outbox.wait_for_space()
        if not self.is_open():
            raise self.closed_error()
        ping = self.send_ping(payload)
        self._have_read()
        round_trip = await self.pings.wait(ping)
        if round_trip is None:
            await self.raise_closed()
        return round_trip

    async def raise_closed(self) -> NoReturn:
        """Tell a task that has waited in vain; if it was cancelled together with the connection, that is why."""
        await trio.lowlevel.checkpoint_if_cancelled()
        raise self.closed_error()

    # ---- receiving ----

    async def receive(self) -> str | bytes:
        """Take the next message; cancelled, it stays for the next call."""
        try:
            if self._inbox:
                await trio.lowlevel.checkpoint()
            while not self._inbox:
                if self.protocol.state is not OPEN and not self.can_receive():  # OPEN can receive
                    await self.raise_closed()
                if self.assembler.unclaimed is not None:
                    await self._want_whole()
                elif self.reading or self.stalled:
                    await self._receivers.park()
                elif self._more:
                    await self.read_more()
                else:
                    self.reading += 1  # as in read_more(), with two coroutines less
                    try:
                        await self.transport.readable()
                    except trio.ClosedResourceError:
                        pass
                    finally:
                        self.reading -= 1
                    if (message := self._read_whole()) is not None:
                        return message
            return self.take()
        finally:
            if self._receivers.lot:
                self._receivers.unpark()  # it takes what is left, or reads
            elif self.attendant.relieved and not self.reading:
                self.attendant.arm()

    def receive_nowait(self) -> str | bytes:
        """Take the next message if one is here, else raise trio.WouldBlock."""
        if self._inbox:
            return self.take()
        if not self.can_receive():
            raise self.closed_error()
        if self.assembler.unclaimed is not None and not self.assembler.asking:
            self._stream_no_more()
        if not self.reading and not self.stalled:
            if (message := self._read_whole()) is not None:
                return message
            if self._inbox:
                return self.take()
        raise trio.WouldBlock

    async def _want_whole(self) -> None:
        """Have the message in the making given whole, unless a task waits that asked for its pieces."""
        if self.assembler.asking:
            self._receivers.unpark()
            await self._receivers.park()
        else:
            self._stream_no_more()

    def _stream_no_more(self) -> None:
        """Give the unclaimed message back to the reader: no limit on its size must hold only for pieces."""
        incoming = self.assembler.take_unclaimed()
        self.let_go(incoming.size)
        try:
            self.protocol.stream_no_more(incoming.join())
        except RemoteProtocolError as failure:
            self.fail(failure)

    async def read_until(self, ready: Callable[[], bool], waiting: Waiters | None = None) -> None:
        """Read until ``ready()`` or the end; park in ``waiting``, or with those that receive, while others read."""
        line = self._receivers if waiting is None else waiting
        try:
            while not ready() and self.can_receive():
                if self.reading or self.stalled:
                    await line.park()
                else:
                    await self.read_more()
            if not ready():
                await trio.lowlevel.checkpoint_if_cancelled()  # as in raise_closed()
        finally:
            if self._receivers:
                self._receivers.unpark()
            elif not self.reading:
                self.attendant.arm()

    @property
    def has_unread(self) -> bool:
        """Whether something may have come that is not understood yet."""
        return self._more or self.transport.has_input

    def wake_receiver(self) -> None:
        """Let the receiver that has waited longest look."""
        self._receivers.unpark()

    @property
    def has_message(self) -> bool:
        """Whether a whole message waits for the application."""
        return bool(self._inbox)

    def let_go(self, size: int) -> None:
        """Note that so many bytes of pieces do not wait any more."""
        self._inbox_size -= size
        if self._inbox_size <= self._low_mark:
            self._taken_enough()

    def take(self) -> str | bytes:
        """Take the next message, which is here."""
        inbox = self._inbox
        message = inbox.popleft()
        if not inbox:
            self._inbox = _EMPTY
        self._inbox_size -= weigh(message)
        if self._inbox_size <= self._low_mark:
            self._taken_enough()
        return message

    def _taken_enough(self) -> None:
        """Go on reading, if the inbox was full, and let a multiplexed peer go on sending."""
        self._low_mark = NEVER
        if self.stalled:
            self.stalled = False
            self.keepalive.restart(trio.current_time())
            self.attendant.arm()
        if self._multiplexed:
            self._give_back()

    def _give_back(self) -> None:
        self._low_mark = self.transport.give_back(0 if self._dropping else self._inbox_size)

    async def read_more(self) -> None:
        """Wait for input and understand it."""
        self.reading += 1
        try:
            if self._more:
                await trio.lowlevel.checkpoint()
            else:
                await self.transport.wait_readable()
        finally:
            self.reading -= 1
        self.read_now()

    def read_now(self) -> None:
        """Understand what is here."""
        if self.ended:
            return
        if self._more:
            self.understand()
        elif data := self._take_input():
            self.understand(data)

    def _read_whole(self) -> str | bytes | None:
        """Do as :meth:`read_now` for a receiver that finds the inbox empty: one that came alone is not put there."""
        if self._more or self._inbox or self.protocol.state is not OPEN:
            self.read_now()
        elif data := self._take_input():
            message = self.protocol.take_whole(data)
            if message is None:
                self.understand(data)
            else:
                self.counters.messages_received += 1
                if self._multiplexed:
                    self._give_back()
            return message
        return None

    def _take_input(self) -> bytes | None:
        """Take what the transport has read; its end ends the connection."""
        data = self.transport.read()
        if data:
            self.keepalive.heard_at = self._now()
            self.counters.bytes_received += len(data)
        elif data is not None:
            self.lose(self.transport.error)
        return data

    def understand(self, data: bytes = b"") -> None:
        """Understand what has been read."""
        protocol = self.protocol
        events: list[Event] = []
        room = self._receive_limit - self._inbox_size
        room = MOST_AT_ONCE if room > MOST_AT_ONCE else 1 if room < 1 else room  # max() and min() cost more
        self._more = protocol.read_events(events, FRAMES_AT_ONCE, room, data)
        if self._inbox is _EMPTY:
            self._inbox = deque()
        try:
            for event in events:
                kind = type(event)
                if kind is bytes or kind is str:
                    if not self._dropping:
                        self._inbox.append(event)  # type: ignore[arg-type]  # narrowed by its exact type: faster
                        self._inbox_size += weigh(event)  # type: ignore[arg-type]
                        self.counters.messages_received += 1
                else:
                    self._control(event)  # nothing counts after a breach (RFC 6455 §7.1.7), which is raised
        except RemoteProtocolError as failure:
            protocol.failure = failure
        if protocol.failure is not None:
            self.fail(protocol.failure)
        if self._inbox_size >= self._receive_limit:
            self.stalled = True
            self._low_mark = self._receive_limit / 2
            self.keepalive.pause(self._now())
        elif self._multiplexed and not self._more:
            self._give_back()

    def _control(self, event: Event) -> None:
        if isinstance(event, Ping):
            self.counters.pings_received += 1
            self._limit_control_frames()
            if self.is_open():
                self._answer_ping(event.payload)
                self._told("websocket_ping", event.payload)
        elif isinstance(event, Start | Piece):
            self._deliver_piece(event)
        elif isinstance(event, Pong):
            self.counters.pongs_received += 1
            self._limit_control_frames()
            self.pings.answer(event.payload, trio.current_time())
            self._told("websocket_pong", event.payload)
        else:
            if self.protocol.state is State.CLOSE_RECEIVED:
                self.outbox.write_close(self.protocol.encode_close_answer())
            self._begin_closing()

    def _deliver_piece(self, event: Start | Piece) -> None:
        assembler = self.assembler
        if isinstance(event, Start):
            assembler.begin(event)
        elif not self._dropping:
            self._inbox_size += assembler.deliver(event)
            self.counters.messages_received += event.final
            if event.final and assembler.unclaimed is not None:
                incoming = assembler.take_unclaimed()
                message = incoming.join()
                self._inbox.append(message)
                self._inbox_size += weigh(message) - incoming.size

    def _limit_control_frames(self) -> None:
        if not self._control_frames.take(trio.current_time()):
            limits, came = self._control_frames, self.counters.pings_received + self.counters.pongs_received
            text = f"too many control frames (control_burst is {limits.burst}, control_rate {limits.rate:g} a second): "
            raise RemoteProtocolError(f"{text}{came}", POLICY_VIOLATION)

    def _answer_ping(self, payload: bytes) -> None:
        if not self.outbox.write_pong(self.protocol.encode_pong(payload)):
            self.counters.pongs_sent += 1

    # ---- the end ----

    async def aclose(self, code: int | None, reason: str) -> None:
        """Close, and return when the connection has ended; cancelled, it has ended too."""
        self.start_close(code, reason)
        self.drop_received()
        try:
            await self.wait_ended()
        finally:
            self.abandon()

    def drop_received(self) -> None:
        """Drop the messages that wait for the application."""
        self._inbox = _EMPTY
        self._inbox_size = 0
        self.assembler.drop()
