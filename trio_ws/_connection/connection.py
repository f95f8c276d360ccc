"""One WebSocket connection: a protocol on a transport. A state machine without a task of its own.

Theory of operation:

1. Everything is synchronous but the waiting: a task waits for a message (:class:`Inbox`), for room (:class:`Outbox`),
   for a pong, or for the end. So no cancellation can leave a frame half-encoded or a message half-taken.
2. Three things move the state: calls of the application, what the transport pushes (``data_received``,
   ``eof_received``, ``connection_lost``, ``resume_writing``), and one timer of the reactor's for keepalive, linger and
   deadlines. A call understands at most :data:`FRAMES_AT_ONCE` frames; the rest follows in the reactor's next step.
3. Reading never waits for writing, nor for the application: when ``receive_buffer`` is full, reading pauses, and the
   keepalive clock stands still. A multiplexed transport is told how much waits: its peer may not have more on its way
   and waiting, together, than its window.
4. The end: what ends the connection notes why, writes the Close if there is one to write, and wakes every task that
   waits. :meth:`_advance` then takes the steps that are possible: flush, wait for the peer's Close, end our direction,
   linger for the peer's end. :meth:`end` runs once and is the only way out. All of it within ``close_timeout``.
5. A half-closed connection, one that has sent Close and still gives what comes, is ended when the peer has been silent
   for ``close_timeout``. Once this side has closed for good it drops what comes, or a full buffer would hide the
   peer's Close.
6. Nothing here raises into the reactor. What went wrong is ``cause``, and becomes the ``__cause__`` of the
   ConnectionClosedError that the waiting tasks get.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, NoReturn

import trio

from .._close import GOING_AWAY, INTERNAL_ERROR, NO_STATUS, NORMAL, POLICY_VIOLATION
from .._exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedLocally,
    ConnectionClosedOK,
    RemoteProtocolError,
)
from .._reactor import INPUT_PASSES
from .._util.token_bucket import TokenBucket
from .._util.waiters import Waiters
from .._wire.events import Piece, Ping, Pong, Start
from .._wire.frames import LARGE
from .._wire.protocol import OPEN, State
from .assembler import MessageAssembler
from .inbox import Inbox
from .keepalive import KeepaliveClock, Verdict
from .outbox import Outbox
from .pings import Pings
from .statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._options import Keepalive, Limits
    from .._reactor import Reactor, Timer
    from .._transport import Transport
    from .._wire.events import Event
    from .._wire.prepared import PreparedMessage
    from .._wire.protocol import Message, WebSocketProtocol
    from .pings import SentPing

NEVER = -1  # no inbox is that small
_FAILURES = {
    Verdict.SILENT: "no answer to a keepalive ping",
    Verdict.STUCK: "the peer takes nothing of what it is sent",
}

FRAMES_AT_ONCE = 256  # no step understands more without letting others run
MOST_AT_ONCE = 2**20  # bytes of messages, and one message: a few compressed bytes can be many

# Seconds to wait for the peer's END_STREAM after both Close frames.
CLIENT_STREAM_LINGER = 0.25  # it comes with the server's Close or right behind it
SERVER_STREAM_LINGER = 0.1  # it answers ours, or never comes

_QUIET_CODES = (NORMAL, GOING_AWAY, NO_STATUS)

logger = logging.getLogger("trio_ws.connection")


class Connection:
    """What a WebSocket stands on.

    Args:
        transport: carries the bytes; owned from here on.
        protocol: the state of this side, just opened.
        reactor: drives the transport and keeps the time.
        is_client: a client lets the server end TCP first (RFC 6455 §7.1.1).
        limits: what the peer may cost us.
        keepalive: when to ask whether it is there.
        close_timeout: seconds that closing may take.

    Attributes:
        reader_ran: something came since the last call that passed the scheduler: the next one need not.
        stalled: ``receive_buffer`` is full.
        cause: what broke the transport, or a bug of this library.
        ended: nothing comes or goes any more, and every task knows.
        assembler: where tasks wait that want a message in pieces.

    Raises:
        RuntimeError: the reactor's nursery is closed.
    """

    __slots__ = (
        "__weakref__",
        "_askers",
        "_control_frames",
        "_dropping",
        "_enders",
        "_inbox",
        "_input_error",
        "_input_over",
        "_linger_deadline",
        "_local",
        "_low_mark",
        "_more",
        "_multiplexed",
        "_now",
        "_observer",
        "_paused",
        "_reactor",
        "_rescheduled",
        "_scopes",
        "_socket_reactor",
        "_timer",
        "assembler",
        "cause",
        "close_deadline",
        "close_linger",
        "close_timeout",
        "counters",
        "ended",
        "is_client",
        "keepalive",
        "outbox",
        "pings",
        "protocol",
        "reader_ran",
        "stalled",
        "transport",
    )

    def __init__(
        self,
        transport: Transport,
        protocol: WebSocketProtocol,
        reactor: Reactor,
        *,
        is_client: bool,
        limits: Limits,
        keepalive: Keepalive | None,
        close_timeout: float,
    ) -> None:
        self.transport: Transport = transport
        self.protocol: WebSocketProtocol = protocol
        self.is_client: bool = is_client
        self.outbox: Outbox = Outbox(transport, limits.send_buffer)
        self.pings: Pings = Pings()
        self.assembler: MessageAssembler = MessageAssembler()
        self._now = trio.lowlevel.current_clock().current_time  # trio.current_time() looks for it each time
        self.keepalive: KeepaliveClock = KeepaliveClock(keepalive, self._now())
        self.counters: Statistics = Statistics(bytes_received=protocol.pending)
        self.cause: BaseException | None = None
        self.ended: bool = False
        self.close_timeout: float = close_timeout
        self.close_deadline: float = math.inf
        self.close_linger: float = limits.close_linger
        self.reader_ran: bool = False
        self.stalled: bool = False
        self._reactor = reactor
        self._timer: Timer | None = None
        self._observer: Callable[[str, object], None] | None = None
        self._control_frames = TokenBucket(limits.control_burst, limits.control_rate)
        self._inbox = Inbox(limits.receive_buffer)
        self._low_mark: float = NEVER  # when no more than this waits, reading goes on, or a multiplexed peer may
        self._multiplexed = transport.multiplexed
        self._more = protocol.pending > 0  # bytes wait that are not understood; some may come with the handshake
        self._rescheduled = False  # the reactor's next step goes on with them
        self._paused = False  # reading is
        self._input_over = False  # the transport has told of its end
        self._input_error: Exception | None = None
        self._linger_deadline = math.inf  # set: we have ended our direction, or wait for the peer to end it first
        self._askers = Waiters()  # tasks that wait for a message to begin in pieces
        self._enders = Waiters()
        self._scopes: set[trio.CancelScope] | None = None  # to be cancelled when it closes; made for the first
        self._local = False  # this side has closed
        self._dropping = False  # ... and wants no more messages
        reactor.add(self)
        transport.start(self, reactor)
        self._socket_reactor = transport.socket_reactor
        self._pace()
        self._set_timer(self.keepalive.look(self._now())[1])

    # ---- how it stands ----

    def is_open(self) -> bool:
        """Whether messages can be sent, and come."""
        protocol = self.protocol
        return protocol.state is OPEN and protocol.failure is None

    def can_receive(self) -> bool:
        """Whether messages still come: it is open, or this side has only closed its own direction."""
        protocol = self.protocol
        return protocol.failure is None and (
            protocol.state is OPEN or (protocol.state is State.CLOSE_SENT and not self._dropping)
        )

    @property
    def received(self) -> int:
        """Bytes of messages that wait for the application, as ``weigh`` counts them."""
        return self._inbox.size

    def watch(self, observer: Callable[[str, object], None]) -> None:
        """Have ``observer(what, detail)`` called, ``what`` being the name of the Instrument's method."""
        self._observer = observer

    def _notify(self, what: str, detail: object) -> None:
        if self._observer is not None:
            self._observer(what, detail)

    def closed_error(self) -> ConnectionClosed:
        """Make the exception for a caller who uses a connection that is closed or closing."""
        received, sent = self.protocol.close_received, self.protocol.close_sent
        if self._local:
            return ConnectionClosedLocally(received, sent)
        if received is not None and received.code in _QUIET_CODES:
            return ConnectionClosedOK(received, sent)
        error = ConnectionClosedError(received, sent)
        error.__cause__ = self.protocol.failure or self.cause
        return error

    async def raise_closed(self) -> NoReturn:
        """Tell a task that has waited in vain; if it was cancelled together with the connection, that is why."""
        await trio.lowlevel.checkpoint_if_cancelled()
        raise self.closed_error()

    # ---- sending ----

    async def wait_to_send(self) -> None:
        """Wait in line until it is this sender's turn: :meth:`send` must follow at once.

        While ``outbox.calm`` nobody need wait.
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

    async def send_in_steps(self, message: Message, compress: bool | None) -> None:
        """Do as :meth:`send` with a large message, with turns for other tasks while it is being compressed.

        Cancelled, nothing of the message was sent.
        """
        outbox = self.outbox
        if not isinstance(message, str):
            message = bytes(message)
        compression = self.protocol.compress_in_steps(message, compress) if self.is_open() else None
        if compression is None:
            self.send(message, compress)
            return
        outbox.hold(in_pieces=False)
        try:
            while compression.advance():
                await trio.lowlevel.checkpoint()
                if not self.is_open():
                    raise self.closed_error()
            outbox.write_large(self.protocol.encode_in_steps(message, compression))
            self.counters.messages_sent += 1
            self.notice_loss()
        finally:
            compression.close()
            outbox.let_go()

    def send_prepared(self, prepared: PreparedMessage, compress: bool | None) -> None:
        """Send a message now, room or not; the connection is open, and sends no message in pieces."""
        self.outbox.write(self.protocol.encode_prepared(prepared, compress))
        self.counters.messages_sent += 1
        self.notice_loss()

    def send_ping(self, payload: bytes | None) -> SentPing:
        """Send a Ping now, room or not; the connection is open. Without a payload it gets one of its own."""
        ping = self.pings.note(payload, self._now())
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
        round_trip = await self.pings.wait(self.send_ping(payload))
        if round_trip is None:
            await self.raise_closed()
        return round_trip

    def resume_writing(self) -> None:
        """Send what waits: the transport has sent some of what it held."""
        self.outbox.resume_writing()
        if self.outbox.buffered:
            # A peer that takes what we send lives, and cannot answer a ping that is still behind a long message.
            self.keepalive.hear(self._now())
        else:
            self.notice_loss()
            self._advance()

    def notice_loss(self) -> None:
        """End a connection that broke while reading is paused, so that no read would tell."""
        if self.stalled and self.transport.error is not None:
            self.lose(self.transport.error)

    # ---- receiving, as the application does it ----

    async def receive(self) -> str | bytes:
        """Take the next message; cancelled, it stays for the next call."""
        inbox = self._inbox
        if inbox.has_next:
            if self.reader_ran:
                self.reader_ran = False
                await trio.lowlevel.checkpoint_if_cancelled()
            else:
                await trio.lowlevel.checkpoint()
        while not inbox.has_next:
            if self.protocol.state is not OPEN and not self.can_receive():
                if not inbox.messages:
                    await self.raise_closed()
                await trio.lowlevel.checkpoint()  # they are for a task that is about to run; nobody is woken later
                continue
            if self.assembler.unclaimed is not None and not self.assembler.asking:
                self._stream_no_more()
                continue
            reactor = self._socket_reactor
            if (
                reactor is not None
                and (sock := reactor.lone_socket) is not None
                and not self.transport.has_siblings
                and inbox.is_unattended
                and not (sock.reading_paused or sock.unsent)
            ):
                message = await inbox.wait_alone(reactor, sock)
            else:
                message = await inbox.wait()
            if message is not None:
                if inbox.size <= self._low_mark:
                    self._taken_enough()
                return message
        return self.take()

    def receive_nowait(self) -> str | bytes:
        """Take the next message if one is here, else raise trio.WouldBlock."""
        if not self._inbox.messages:
            if not self.can_receive():
                raise self.closed_error()
            if self.assembler.unclaimed is not None and not self.assembler.asking:
                self._stream_no_more()
            self.read_now()
            if not self._inbox.messages:
                raise trio.WouldBlock
        return self.take()

    async def wait_for_message(self) -> None:
        """Wait until a message is here or has begun, in pieces, or until nothing comes any more.

        Nothing is taken: the caller claims it before any other task can run.
        """
        assembler = self.assembler
        assembler.asking += 1
        try:
            await self.read_until(lambda: self.has_message or assembler.unclaimed is not None, self._askers)
        except BaseException:  # cancelled: what it was woken for is for the next task
            self._ask_less()
            if assembler.asking and (self.has_message or assembler.unclaimed is not None):
                self._askers.unpark()
            elif not assembler.asking:
                self._inbox.hand_over()
                if assembler.unclaimed is not None:
                    self._inbox.wake()  # a task that waits for a whole message takes that one
            raise
        self._ask_less()

    def _ask_less(self) -> None:
        self.assembler.asking -= 1
        self.protocol.stream_at_most(self.assembler.asking)

    def begin_in_pieces(self, start: Start) -> None:
        """Give the message that has begun in pieces, and understand what is held of it; the caller claims it."""
        self.assembler.begin(start)
        self.assembler.asking += 1  # no task that waits for a whole message gets it
        self.understand()
        self.assembler.asking -= 1

    def _stream_no_more(self) -> None:
        """Give the unclaimed message back to the reader: no limit on its size must hold only for pieces."""
        incoming = self.assembler.take_unclaimed()
        self.let_go(incoming.size)
        try:
            self.protocol.stream_no_more(incoming.join())
        except RemoteProtocolError as failure:
            self.fail(failure)

    async def read_until(self, ready: Callable[[], bool], waiting: Waiters) -> None:
        """Park in ``waiting`` until ``ready()``, or until nothing comes any more."""
        while not ready() and self.can_receive():
            await waiting.park()
        if not ready():
            await trio.lowlevel.checkpoint_if_cancelled()  # as in raise_closed()

    @property
    def has_message(self) -> bool:
        """Whether a whole message waits for the application."""
        return bool(self._inbox.messages)

    def take(self) -> str | bytes:
        """Take the next message, which is here."""
        message = self._inbox.take()
        if self._inbox.size <= self._low_mark:
            self._taken_enough()
        return message

    def let_go(self, size: int) -> None:
        """Note that so many bytes of pieces do not wait any more."""
        self._inbox.size -= size
        if self._inbox.size <= self._low_mark:
            self._taken_enough()

    def drop_received(self) -> None:
        """Drop the messages that wait for the application."""
        self._inbox.drop()
        self.assembler.drop()

    def _taken_enough(self) -> None:
        """Go on reading, if the inbox was full, and let a multiplexed peer go on sending."""
        self._low_mark = NEVER
        if self.stalled:
            self.stalled = False
            self.keepalive.hear(self._now())
            self._set_timer(self._now())
            if self._input_over:  # the transport does not tell of its end again
                self._go_on_soon()
        self._pace()

    def _give_back(self) -> None:
        self._low_mark = self.transport.give_back(self._inbox.size if self.can_receive() else 0)

    # ---- receiving, as the transport pushes it ----

    def read_now(self) -> None:
        """Understand what is here, without waiting for the reactor."""
        if not self._more:
            self.transport.poll()
        elif not self.stalled:
            self.understand()

    def data_received(self, data: bytes) -> None:
        """Understand bytes that came."""
        self.reader_ran = True
        self.keepalive.heard_at = self._now()
        self.counters.bytes_received += len(data)
        if not self._more and (message := self.protocol.take_whole(data)) is not None:
            self.counters.messages_received += 1
            self._inbox.put(message)
            if not (self._inbox.messages or (self._multiplexed and self.transport.wants_give_back)):
                return  # a message that came alone and was waited for: that is all of it, mostly
            self._pace()
        else:
            self.understand(data)

    def understand(self, data: bytes = b"") -> None:
        """Understand bytes, these and those that waited, as many as a step may."""
        protocol, inbox = self.protocol, self._inbox
        events: list[Event] = []
        room = min(max(inbox.limit - inbox.size, 1), MOST_AT_ONCE)
        self._more = protocol.read_events(events, FRAMES_AT_ONCE, room, data)
        try:
            for event in events:
                kind = type(event)
                if kind is bytes or kind is str:
                    if not self._dropping:
                        inbox.put(event)  # type: ignore[arg-type]  # narrowed by its exact type: faster
                        self.counters.messages_received += 1
                else:
                    self._on_control(event)  # nothing counts after a breach (RFC 6455 §7.1.7), which is raised
        except RemoteProtocolError as failure:
            protocol.failure = failure
        if protocol.failure is not None:
            self.fail(protocol.failure)
        self._pace()

    def _pace(self) -> None:
        """Read on, or pause: while the inbox is full, and while bytes wait that are not understood."""
        if self._inbox.is_full and not self.stalled and self.can_receive():
            self.stalled = True
            self._low_mark = self._inbox.limit / 2
            self.keepalive.pause(self._now())
        elif self._multiplexed and not self._more and not self.stalled:
            self._give_back()
        if self._more and not self.stalled:
            self._go_on_soon()
        pause = self._more or self.stalled
        if pause is not self._paused:
            self._paused = pause
            if pause:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _go_on_soon(self) -> None:
        if not self._rescheduled:
            self._rescheduled = True
            self._reactor.call_soon(self, self._go_on)

    def _go_on(self) -> None:
        """Understand what waits, in a step of its own."""
        self._rescheduled = False
        if self.stalled or self.ended:
            return
        self.reader_ran = True
        if self._more:
            self.understand()
        if self._input_over and not self._more and not self.stalled:
            self._end_input()

    def _on_control(self, event: Event) -> None:
        if isinstance(event, Ping):
            self.counters.pings_received += 1
            self._limit_control_frames()
            if self.is_open():
                self._answer_ping(event.payload)
                self._notify("websocket_ping", event.payload)
        elif isinstance(event, Start | Piece):
            self._deliver_piece(event)
        elif isinstance(event, Pong):
            self.counters.pongs_received += 1
            self._limit_control_frames()
            self.pings.answer(event.payload, trio.current_time())
            self._notify("websocket_pong", event.payload)
        else:
            if self.protocol.state is State.CLOSE_RECEIVED:
                self.outbox.write_close(self.protocol.encode_close_answer())
            self._begin_closing()

    def _deliver_piece(self, event: Start | Piece) -> None:
        assembler = self.assembler
        if isinstance(event, Start):
            assembler.begin(event)
            self._askers.unpark()
        elif not self._dropping:
            self._inbox.size += assembler.deliver(event)
            self.counters.messages_received += event.final
            if event.final and assembler.unclaimed is not None:
                incoming = assembler.take_unclaimed()
                self._inbox.size -= incoming.size
                self._inbox.keep(incoming.join())
                if not assembler.asking:
                    self._inbox.hand_over()

    def _limit_control_frames(self) -> None:
        if not self._control_frames.take(trio.current_time()):
            limits, came = self._control_frames, self.counters.pings_received + self.counters.pongs_received
            text = f"too many control frames (control_burst is {limits.burst}, control_rate {limits.rate:g} a second): "
            raise RemoteProtocolError(f"{text}{came}", POLICY_VIOLATION)

    def _answer_ping(self, payload: bytes) -> None:
        if not self.outbox.write_pong(self.protocol.encode_pong(payload)):
            self.counters.pongs_sent += 1

    # ---- the end of input ----

    def peer_ended(self) -> None:
        """Tell what needs no more input: the peer has ended while reading is paused.

        What came before that is still the application's to receive, unless the transport broke.
        """
        self.notice_loss()
        if not self._local:
            self._cancel_scopes()

    def eof_received(self) -> None:
        """Understand that the peer sends nothing more."""
        self._input_over = True
        if self._more or self.stalled:
            self.peer_ended()
        else:
            self._end_input()

    def connection_lost(self, error: Exception) -> None:
        """Understand that the transport broke."""
        self._input_error = error
        self.eof_received()

    def _end_input(self) -> None:
        if self.can_receive() or self._expects_close():
            self.lose(self._input_error)
        elif self._input_error is not None:
            self.end()
        else:
            self._advance()

    # ---- the end ----

    async def aclose(self, code: int | None, reason: str) -> None:
        """Close, and return when the connection has ended; cancelled, it has ended too."""
        self.start_close(code, reason)
        self.drop_received()
        try:
            await self.wait_ended()
        finally:
            self.abandon()

    async def wait_ended(self) -> None:
        """Wait until the connection has ended."""
        if self.ended:
            await trio.lowlevel.checkpoint()
        while not self.ended:
            await self._enders.park()

    def cancel_when_closed(self, scope: trio.CancelScope) -> None:
        """Have the scope cancelled when the peer closes, or when the connection ends otherwise.

        A closing that this side has begun cancels the scope at its end only: ``aclose()`` may run in that scope.
        """
        if self._scopes is None:
            self._scopes = set()
        self._scopes.add(scope)
        if self.ended or (self.close_deadline != math.inf and not self._local):
            scope.cancel()

    def forget_scope(self, scope: trio.CancelScope) -> None:
        """Undo :meth:`cancel_when_closed`."""
        assert self._scopes is not None
        self._scopes.discard(scope)

    def _cancel_scopes(self) -> None:
        for scope in self._scopes or ():
            scope.cancel()

    def start_close(self, code: int | None, reason: str) -> None:
        """Begin the closing handshake, if it has not begun; messages that come from now on are dropped."""
        if not self.can_receive():
            return
        if self.is_open():
            self.outbox.write_close(self.protocol.encode_close(code, reason))
        self._local = self._dropping = True
        self.transport.give_back()
        self._begin_closing()

    def start_half_close(self) -> None:
        """Send a Close without a code, if the connection is open; what comes until the peer's is still given."""
        if self.is_open():
            self.outbox.write_close(self.protocol.encode_close(None))
            self._local = True
            self.keepalive.hear(self._now())  # the peer's silence counts from now
            self._wake_senders()
            self._set_timer(self._now() + self.close_timeout)

    def abandon(self, code: int = GOING_AWAY, reason: str = "") -> None:
        """End now: send a Close if it can be written without waiting, and drop the transport."""
        goodbye = b""
        if self.is_open():
            self._local = True
            if not self.transport.congested:
                goodbye = self.protocol.encode_close(code, reason)
        self.outbox.flush_now(goodbye)
        self.end()

    def fail(self, failure: RemoteProtocolError) -> None:
        """Tell the peer what it did wrong, and close without listening to it any more (RFC 6455 §7.1.7)."""
        self.protocol.failure = failure
        if self.protocol.state in (State.OPEN, State.CLOSE_RECEIVED):
            self.outbox.write_close(self.protocol.encode_failure(failure))
            self._notify("socket_error", failure)
        self._begin_closing()

    def lose(self, error: Exception | None) -> None:
        """Note that the transport is gone."""
        self.cause = error
        self.protocol.lose()
        if self.protocol.state is State.LOST:
            self._notify("socket_error", self.closed_error())
        self._begin_closing()

    def crash(self, error: Exception) -> None:
        """End because of a bug, of this library or of a transport: it ends this connection, and nothing else."""
        logger.error("internal error on a connection to %.256r", self.transport.remote_address, exc_info=error)
        self.lose(error)
        self.end()

    def end(self) -> None:
        """Drop the transport and tell every task; harmless when repeated."""
        if self.ended:
            return
        self.ended = True
        self.protocol.lose()
        self.transport.abort()
        self._reactor.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        self._begin_closing()
        self._enders.unpark_all()
        self._cancel_scopes()
        self._notify("websocket_close", self.protocol.close_info)

    def _begin_closing(self) -> None:
        self.close_deadline = min(self.close_deadline, self._now() + self.close_timeout)
        self._inbox.wake()
        self._askers.unpark_all()
        self.assembler.wake()
        self._wake_senders()
        if not self._local:
            self._cancel_scopes()
        if self.stalled:
            self.stalled = False
            self._low_mark = NEVER
        if not self.ended:
            self._pace()
            self._advance()

    def _wake_senders(self) -> None:
        self.outbox.release()
        self.pings.release()

    def _expects_close(self) -> bool:
        return self.protocol.state is State.CLOSE_SENT and self.protocol.failure is None

    def _advance(self) -> None:
        """Take the next step to the end, if it is time for one."""
        if self.ended or self.can_receive():
            return
        if self.protocol.state is State.LOST:
            self.end()
        elif self.outbox.buffered or self._expects_close():
            self._set_timer(self.close_deadline)
        else:
            if self._linger_deadline == math.inf:
                self._linger()
            if self._input_over:
                if self._multiplexed:
                    self.transport.write_eof()
                self.end()

    def _linger(self) -> None:
        # RFC 6455 §7.1.1: the server ends TCP first, so that TIME_WAIT stays with it. A socket closed before the
        # peer's end came would send RST, which can destroy the Close on its way: hence the wait. A stream of HTTP/2
        # has no such state, but there are servers that have forgotten it once they have read a Close: they never end
        # it, and take our END_STREAM (RFC 8441 §5) ill. So that answers theirs; without it the stream is reset. There
        # are clients that never end a stream either, and each stream that waits for them takes one of their places.
        linger = self.close_linger
        if self._multiplexed:
            linger = min(linger, CLIENT_STREAM_LINGER if self.is_client else SERVER_STREAM_LINGER)
        if not self.is_client or (self.protocol.failure is not None and not self._multiplexed):
            self.transport.write_eof()
        self._linger_deadline = min(self.close_deadline, self._now() + linger)
        self._set_timer(self._linger_deadline)

    # ---- time ----

    def _set_timer(self, deadline: float) -> None:
        """Have :meth:`_look_at_clock` called at this time, or before."""
        if deadline == math.inf or self.ended or (self._timer is not None and self._timer.deadline <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._reactor.call_at(deadline, self, self._look_at_clock)

    def _look_at_clock(self) -> None:
        self._timer = None
        deadline = self._next_deadline()
        if deadline > self._now():
            self._set_timer(deadline)
        else:
            # The process may have stood still, and the peer said meanwhile what is waited for.
            self._reactor.call_after(INPUT_PASSES, self, self._end_if_overdue)

    def _next_deadline(self) -> float:
        """Tell when to look again; when that has passed, the peer may be given up."""
        if self.is_open():
            return self._check_keepalive()[1]
        if self.can_receive():
            return self._silence_deadline()
        return min(self.close_deadline, self._linger_deadline)

    def _end_if_overdue(self) -> None:
        if self.ended:
            return
        verdict = self._check_keepalive()[0] if self.is_open() else Verdict.WAIT
        deadline = self._next_deadline()
        if verdict in _FAILURES:
            text = f"{_FAILURES[verdict]} ({self.keepalive.limits})"
            self.fail(RemoteProtocolError(text, INTERNAL_ERROR))
            self.end()  # it will not answer a Close either
        elif deadline > self._now():
            self._set_timer(deadline)
        elif self.can_receive():
            self.lose(trio.TooSlowError(f"the peer did not close within {self.close_timeout:g} s (close_timeout)"))
        else:
            self.end()

    def _check_keepalive(self) -> tuple[Verdict, float]:
        """Ping a peer that is silent; return whether it is to be given up, and when to look again."""
        transport = self.transport
        stuck_since = self._stuck_since()
        self.keepalive.overhear(transport.heard_at)
        listening = self._multiplexed or not self.stalled
        verdict, again_at = self.keepalive.look(self._now(), listening=listening, stuck_since=stuck_since)
        if verdict is Verdict.ASK and listening and not transport.ask():
            self.send_ping(None)
        return verdict, again_at

    def _stuck_since(self) -> float | None:
        """Tell since when neither side has taken a byte, if reading is paused and bytes wait for the peer."""
        outbox = self.outbox
        if not outbox.buffered:
            return None
        if outbox.look_at_progress():
            self.keepalive.hear(self._now())
        return max(outbox.waiting_since, self.keepalive.paused_at) if self.stalled else None

    def _silence_deadline(self) -> float:
        """Tell until when a half-closed connection waits for its peer's messages and its Close (rule 5)."""
        alive_at = self._stuck_since() if self.stalled else self.keepalive.heard_at
        return math.inf if alive_at is None else alive_at + self.close_timeout
