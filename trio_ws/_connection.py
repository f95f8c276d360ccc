"""One WebSocket connection: a protocol, a transport, and who waits for what.

Theory of operation:

1. Everything between the socket and the application is synchronous. The only awaits are waiting for input
   (``Transport.wait_readable``), for room (:class:`Outbox`), and parking until told. So no cancellation can leave a
   frame half-encoded or a message half-taken.
2. **One task at a time reads**: it holds ``_reading``. A task in :meth:`receive` reads for itself, which saves a task
   switch for each message. When no such task has read for ``Transport.handover_delay`` seconds, the *attendant*, the
   connection's own task, takes over, so that pings are answered and closes are seen while the application is busy.
3. Reading never waits for writing, nor for the application: when ``receive_buffer`` is full nobody reads, and the
   keepalive clock stands still. Once this side has closed, messages are dropped instead, or a full buffer would hide
   the peer's Close. A multiplexed transport gets its window back only while little waits, so that its peer stops at
   about one window.
4. The attendant ends the connection: closing handshake, then the transport, all within ``close_timeout``. Whoever
   cannot wait calls :meth:`abandon`. :meth:`_end` runs once, wakes everyone, and is the only way out.
5. Background tasks never raise. What went wrong is :attr:`cause`, and becomes the ``__cause__`` of the
   ConnectionClosedError that the waiting tasks get.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import TYPE_CHECKING

import trio

from ._close import GOING_AWAY, INTERNAL_ERROR, NO_STATUS, NORMAL, POLICY_VIOLATION
from ._exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedLocally,
    ConnectionClosedOK,
    RemoteProtocolError,
)
from ._keepalive import KeepaliveClock, Verdict
from ._outbox import Outbox
from ._pings import Pings, TokenBucket
from ._statistics import Statistics
from ._wire.protocol import State
from ._wire.reader import MESSAGE_OVERHEAD, Ping, Pong

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._options import Keepalive, Limits
    from ._pings import PingWaiter
    from ._transport import Transport
    from ._wire.protocol import Message, WebSocketProtocol
    from ._wire.reader import Event

logger = logging.getLogger("trio_ws.connection")

FRAMES_AT_ONCE = 256  # no task understands more without letting others run
LITTLE = 2**15  # bytes of messages that may wait while a multiplexed peer is told to go on: half of a usual window
_NEVER = -1  # no inbox is that small

_QUIET_CODES = (NORMAL, GOING_AWAY, NO_STATUS)


class Connection:
    """What a WebSocket stands on; :meth:`attend` must run from the start to the end.

    Args:
        transport: carries the bytes; owned from here on.
        protocol: the state of this side, just opened.
        is_client: a client lets the server end TCP first (RFC 6455 §7.1.1).
        limits: what the peer may cost us.
        keepalive: when to ask whether it is there.
        close_timeout: seconds that closing may take.
        nursery: where the connection's tasks run.
    """

    __slots__ = (
        "__weakref__",
        "_armed_at",
        "_attendant",
        "_close_deadline",
        "_close_timeout",
        "_control_frames",
        "_enders",
        "_inbox",
        "_inbox_size",
        "_keepalive",
        "_linger",
        "_little",
        "_local",
        "_low_mark",
        "_more",
        "_multiplexed",
        "_question",
        "_reading",
        "_receive_limit",
        "_receivers",
        "_scope",
        "_tell",
        "cause",
        "counters",
        "ended",
        "is_client",
        "outbox",
        "pings",
        "protocol",
        "stalled",
        "transport",
    )

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
    ) -> None:
        self.transport = transport
        self.protocol = protocol
        self.outbox = Outbox(transport, limits.send_buffer, nursery, self._moved, self._flushed)
        self.pings = Pings()
        self.counters = Statistics(bytes_received=protocol.pending)
        self.cause: BaseException | None = None
        self.ended = False
        self.stalled = False  # receive_buffer is full
        self.is_client = is_client
        self._close_timeout = close_timeout
        self._linger = limits.close_linger
        self._receive_limit = math.inf if limits.receive_buffer is None else limits.receive_buffer
        self._multiplexed = transport.multiplexed
        self._little = min(LITTLE, self._receive_limit / 2)
        self._low_mark: float = _NEVER  # when no more than this waits, somebody is to be told: _taken_enough()
        self._control_frames = TokenBucket(limits.control_burst, limits.control_rate)
        self._inbox: deque[str | bytes] = deque()
        self._inbox_size = 0
        self._receivers = trio.lowlevel.ParkingLot()
        self._enders = trio.lowlevel.ParkingLot()
        self._attendant = trio.lowlevel.ParkingLot()
        self._scope = trio.CancelScope()
        self._reading = 0  # tasks that wait for input: one, or two while one hands over to the other
        self._more = protocol.pending > 0  # bytes came with the handshake
        self._armed_at = -math.inf  # when the attendant takes over reading; inf: somebody reads
        self._keepalive = KeepaliveClock(keepalive, trio.current_time())
        self._question: PingWaiter | None = None  # the keepalive's last ping
        self._close_deadline = math.inf
        self._local = False
        self._tell: Callable[[str, object], None] | None = None

    # ---- how it stands ----

    def is_open(self) -> bool:
        """Whether messages can be sent, and come."""
        protocol = self.protocol
        return protocol.state is State.OPEN and protocol.failure is None

    @property
    def received(self) -> int:
        """Bytes of messages that wait for the application, each counted with 64 more."""
        return self._inbox_size

    def watch(self, tell: Callable[[str, object], None]) -> None:
        """Have ``tell(what, detail)`` called for each "ping", "pong", "error" and "close"."""
        self._tell = tell

    def closed_error(self) -> ConnectionClosed:
        """Make the exception for whoever uses a connection that is closed or closing."""
        received, sent = self.protocol.close_received, self.protocol.close_sent
        if self._local:
            return ConnectionClosedLocally(received, sent)
        if received is not None and received.code in _QUIET_CODES:
            return ConnectionClosedOK(received, sent)
        error = ConnectionClosedError(received, sent)
        error.__cause__ = self.protocol.failure or self.cause
        return error

    # ---- sending ----

    async def send(self, message: Message, compress: bool | None) -> None:
        """Send one message when there is room; cancelled, it was not sent."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self.outbox.has_room:
            await self.outbox.wait_for_room()
        self._send(message, compress)
        await trio.lowlevel.cancel_shielded_checkpoint()

    def send_nowait(self, message: Message, compress: bool | None) -> None:
        """Send one message if there is room, else raise trio.WouldBlock."""
        if self.is_open() and not self.outbox.has_room:
            raise trio.WouldBlock
        self._send(message, compress)

    def _send(self, message: Message, compress: bool | None) -> None:
        try:
            if not self.is_open():
                raise self.closed_error()
            self.outbox.write(self.protocol.encode_message(message, compress))
            self.counters.messages_sent += 1
            self._notice_loss()
        finally:
            self.outbox.let_next_in()

    def _notice_loss(self) -> None:
        """End a connection that broke while nobody reads, and so nobody would ever learn of it."""
        if self.stalled and self.transport.error is not None:
            self._lose(self.transport.error)

    def send_ping(self, payload: bytes) -> None:
        """Send a Ping now if the connection is open."""
        if self.is_open():
            self.outbox.write(self.protocol.encode_ping(payload))
            self.counters.pings_sent += 1

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
        if not self.outbox.has_room:
            await self.outbox.wait_for_room()
            self.outbox.let_next_in()
        if not self.is_open():
            raise self.closed_error()
        waiter = self.pings.expect(payload, trio.current_time())
        self.send_ping(waiter.payload)
        self._take_over_now()
        try:
            await waiter.parking_lot.park()
        finally:
            self.pings.forget(waiter)
        if waiter.round_trip is None:
            raise self.closed_error()
        return waiter.round_trip

    # ---- receiving ----

    async def receive(self) -> str | bytes:
        """Take the next message; cancelled, it stays for the next call."""
        try:
            if self._inbox:
                await trio.lowlevel.checkpoint()
            while not self._inbox:
                if not self.is_open():
                    raise self.closed_error()
                if self._reading:
                    await self._receivers.park()
                else:
                    await self._read_more()
            return self._take()
        finally:
            if self._receivers:
                self._receivers.unpark()  # it takes what is left, or reads
            elif self._armed_at == math.inf and not self._reading:
                self._arm()

    def receive_nowait(self) -> str | bytes:
        """Take the next message if one is here, else raise trio.WouldBlock."""
        if self._inbox:
            return self._take()
        if not self.is_open():
            raise self.closed_error()
        if not self._reading:
            self._read()
            if self._inbox:
                return self._take()
        raise trio.WouldBlock

    def _take(self) -> str | bytes:
        message = self._inbox.popleft()
        self._inbox_size -= len(message) + MESSAGE_OVERHEAD
        if self._inbox_size <= self._low_mark:
            self._taken_enough()
        return message

    def _taken_enough(self) -> None:
        """Go on reading, if the inbox was full; then, when little is left, let a multiplexed peer go on sending."""
        self._low_mark = _NEVER
        if self.stalled:
            self.stalled = False
            self._keepalive.restart(trio.current_time())
            self._arm()
        if self._multiplexed:
            self._give_back()

    def _give_back(self) -> None:
        if self._inbox_size <= self._little or self._local:
            self.transport.give_back()
        else:
            self._low_mark = self._little

    async def _read_more(self) -> None:
        """Wait for input and understand it."""
        self._reading += 1
        try:
            if self._more:
                await trio.lowlevel.checkpoint()
            else:
                await self.transport.wait_readable()
        finally:
            self._reading -= 1
        self._read()

    def _read(self) -> None:
        """Understand what is here."""
        if self.ended:
            return
        if not self._more:
            data = self.transport.read()
            if data is None:
                return
            if not data:
                self._lose(self.transport.error)
                return
            self._keepalive.hear(trio.current_time())
            self.counters.bytes_received += len(data)
            self.protocol.receive_data(data)
        self._understand()

    def _understand(self) -> None:
        events: list[Event] = []
        room = max(1, self._receive_limit - self._inbox_size)
        self._more = self.protocol.read_events(events, FRAMES_AT_ONCE, room)
        try:
            self._deliver(events)
        except RemoteProtocolError as failure:
            self.protocol.failure = failure
        if self.protocol.failure is not None:
            self._fail(self.protocol.failure)
        if self._inbox_size >= self._receive_limit:
            self.stalled = True
            self._low_mark = self._receive_limit / 2
            self._keepalive.stop()
        elif self._multiplexed and not self._more:
            self._give_back()

    def _deliver(self, events: list[Event]) -> None:
        """Hand out events; nothing counts after a breach (RFC 6455 §7.1.7), which is raised."""
        inbox = self._inbox
        for event in events:
            kind = type(event)
            if kind is str or kind is bytes:
                if not self._local:
                    inbox.append(event)  # type: ignore[arg-type]  # narrowed by its exact type, which is faster
                    self._inbox_size += len(event) + MESSAGE_OVERHEAD  # type: ignore[arg-type]
                    self.counters.messages_received += 1
            else:
                self._control(event)

    def _control(self, event: Event) -> None:
        if isinstance(event, Ping):
            self.counters.pings_received += 1
            self._limit_control_frames()
            if self.is_open():
                self._answer_ping(event.payload)
                self._told("ping", event.payload)
        elif isinstance(event, Pong):
            self.counters.pongs_received += 1
            self._limit_control_frames()
            self.pings.answer(event.payload, trio.current_time())
            self._told("pong", event.payload)
        else:
            if self.protocol.state is State.CLOSE_RECEIVED:
                self.outbox.write_close(self.protocol.encode_close_answer())
            self._begin_closing()

    def _limit_control_frames(self) -> None:
        if not self._control_frames.take(trio.current_time()):
            raise RemoteProtocolError("too many control frames", POLICY_VIOLATION)

    def _answer_ping(self, payload: bytes) -> None:
        if not self.outbox.write_pong(self.protocol.encode_pong(payload)):
            self.counters.pongs_sent += 1

    # ---- the attendant ----

    @trio.lowlevel.enable_ki_protection
    async def attend(self, *, shield: bool) -> None:
        """Look after the connection until it has ended; cancelled, it is abandoned.

        Args:
            shield: live on when the nursery is cancelled, until :meth:`abandon` or :meth:`aclose`: for a connection
                whose block may still use it while it is cancelled.
        """
        try:
            with trio.CancelScope(shield=shield):
                await self._attend_while_open()
                await self._attend_closing()
        # A bug of ours or of a transport's ends this connection, and nothing else (rule 5).
        except Exception as error:
            logger.exception("internal error on a connection to %r", self.transport.remote_address)
            self._lose(error)
        finally:
            self.abandon()

    async def _attend_while_open(self) -> None:
        while self.is_open():
            now = trio.current_time()
            deadline = self._check_keepalive(now)
            if self._reading or self.stalled:
                self._armed_at = math.inf
            if now < self._armed_at:
                await self._attend_once(min(deadline, self._armed_at), read=False)
                continue
            await self._attend_once(deadline, read=self.is_open())
            if self._inbox:
                self._receivers.unpark()
                # Somebody will come for it, and may go on reading.
                self._armed_at = trio.current_time() + self.transport.handover_delay

    async def _attend_once(self, deadline: float, *, read: bool) -> None:
        with trio.CancelScope(deadline=deadline) as self._scope:
            if read:
                await self._read_more()
            else:
                await self._attendant.park()

    def _check_keepalive(self, now: float) -> float:
        """Ping a peer that is silent, give up one that does not answer; return when to look again."""
        self._keepalive.overhear(self.transport.heard_at)
        verdict, again_at = self._keepalive.look(now)
        if verdict is Verdict.ASK and not self.transport.ask():
            if self._question is not None:
                self.pings.forget(self._question)  # answered by other bytes than a pong
            self._question = self.pings.expect(None, now)
            self.send_ping(self._question.payload)
        elif verdict is Verdict.GIVE_UP:
            self._fail(RemoteProtocolError("no answer to a keepalive ping", INTERNAL_ERROR))
            self._close_deadline = now  # it will not answer a Close either
        return again_at

    async def _attend_closing(self) -> None:
        with trio.CancelScope(deadline=self._close_deadline):
            while self.protocol.state is not State.LOST and (self.outbox.buffered or self._expects_close()):
                await self._attend_once(math.inf, read=self._expects_close())
            if self.protocol.state is not State.LOST and not self.ended:
                await self._end_transport()
        self._end()

    def _expects_close(self) -> bool:
        return self.protocol.state is State.CLOSE_SENT and self.protocol.failure is None

    async def _end_transport(self) -> None:
        # RFC 6455 §7.1.1: the server ends TCP first, so that TIME_WAIT stays with it. A socket closed before the
        # peer's end came would send RST, which can destroy the Close on its way: hence the wait. A stream of HTTP/2
        # leaves nothing behind, and its end follows the Close at once (RFC 8441 §5).
        transport = self.transport
        if self._multiplexed or not self.is_client or self.protocol.failure is not None:
            transport.write_eof()
        with trio.move_on_after(self._linger):
            while transport.read() != b"":
                transport.give_back()
                await transport.wait_readable()

    def _arm(self) -> None:
        """Have the attendant take over reading after the handover delay, unless somebody reads by then."""
        self._armed_at = trio.current_time() + self.transport.handover_delay
        self._scope.deadline = min(self._scope.deadline, self._armed_at)

    def _take_over_now(self) -> None:
        """Have the attendant read at once if nobody does: somebody waits for what comes."""
        if not self._reading and not self.stalled:
            self._armed_at = -math.inf
            self._attendant.unpark_all()

    def _moved(self) -> None:
        # A peer that takes what we send lives, and cannot answer a ping that is still behind a long message.
        self._keepalive.hear(trio.current_time())

    def _flushed(self) -> None:
        self._notice_loss()
        if not self.is_open():
            self._poke()

    def _poke(self) -> None:
        """Have everyone who waits for input look again."""
        self._attendant.unpark_all()
        if self._reading:
            self.transport.wake()

    # ---- the end ----

    async def aclose(self, code: int | None, reason: str) -> None:
        """Close, and return when the connection has ended; cancelled, it has ended too."""
        self.start_close(code, reason)
        self._inbox.clear()
        self._inbox_size = 0
        try:
            await self.wait_ended()
        finally:
            self.abandon()

    async def wait_ended(self) -> None:
        """Wait until the connection has ended."""
        if self.ended:
            await trio.lowlevel.checkpoint()
        while not self.ended:
            self._take_over_now()
            await self._enders.park()

    def start_close(self, code: int | None, reason: str) -> None:
        """Begin the closing handshake, if it has not begun."""
        if self.is_open():
            self._local = True
            self.stalled = False
            self._low_mark = _NEVER
            self.transport.give_back()
            self.outbox.write_close(self.protocol.encode_close(code, reason))
            self._begin_closing()

    def abandon(self) -> None:
        """End now: say Close 1001 if that can be written without waiting, and drop the transport."""
        goodbye = b""
        if self.is_open():
            self._local = True
            if not self.transport.congested:
                goodbye = self.protocol.encode_close(GOING_AWAY)
        self.outbox.flush_now(goodbye)
        if goodbye and self._multiplexed and not self.transport.unsent:
            self.transport.write_eof()  # or the reset that follows could overtake the Close
        self._end()

    def _fail(self, failure: RemoteProtocolError) -> None:
        """Tell the peer what it did wrong, and close without listening to it any more (RFC 6455 §7.1.7)."""
        self.protocol.failure = failure
        if self.protocol.state in (State.OPEN, State.CLOSE_RECEIVED):
            self.outbox.write_close(self.protocol.encode_failure(failure))
            self._told("error", failure)
        self._begin_closing()

    def _lose(self, error: Exception | None) -> None:
        self.cause = error
        self.protocol.lose()
        if self.protocol.state is State.LOST:
            self._told("error", self.closed_error())
        self._begin_closing()

    def _begin_closing(self) -> None:
        self._close_deadline = min(self._close_deadline, trio.current_time() + self._close_timeout)
        self._receivers.unpark_all()
        self.outbox.release()
        self.pings.release()
        self._poke()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self.protocol.lose()
        self.transport.abort()
        self._begin_closing()
        self._enders.unpark_all()
        self._told("close", self.protocol.close_info)

    def _told(self, what: str, detail: object) -> None:
        if self._tell is not None:
            self._tell(what, detail)
