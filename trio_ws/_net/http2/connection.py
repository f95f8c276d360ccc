"""One HTTP/2 connection: many streams on one transport.

Theory of operation:

1. All is synchronous. What comes from below goes through the :class:`FrameReader`, which counts, to the
   :class:`Receiver`, which understands; what a stream writes goes down at once as far as windows and the transport
   allow, and else in its turn (:class:`Sender`). A reactor drives the transport below and keeps the time; the
   connection has no task.
2. What a step of reading makes goes down in one write, at its end: ``_stepping`` holds it back until then.
3. What breaks the connection ends it, with a GOAWAY, and every stream on it: they read as ended, and their ``error``
   says why. :meth:`_end` runs once, and is the only way out.
4. When a step brings something to several streams, their applications answer together: what streams write is held back
   for two passes of the scheduler, in which all of them run, and goes in one write, or in several if it is much.
5. A stream of the peer's takes a place until both directions have ended (RFC 9113 §5.1.2). Its handler may run longer:
   :class:`Handlers` bounds those.
"""

from __future__ import annotations

import contextlib
import logging
import math
from typing import TYPE_CHECKING

import trio

from ..._reactor import INPUT_PASSES
from ..._wire.handshake import content_length
from .frame_reader import DATA, END_STREAM, ErrorCode, FrameReader, Http2ConnectionError, allowed
from .h2_adapter import LAST_STREAM, H2Adapter
from .handlers import Handlers
from .receiver import Receiver, goaway, window_update
from .round_trip import RoundTrip
from .sender import Sender
from .stream import Http2Stream, StreamReset

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from ..._options import Limits
    from ..._reactor import Reactor, Timer
    from ..._transport import Transport
    from .frame_reader import Http2Statistics
    from .h2_adapter import Fields

logger = logging.getLogger("trio_ws.http2")

FRAMES_AT_ONCE = 256  # no step understands more without letting others run
PASSES = 2  # of the scheduler, which runs the tasks of one pass in any order: after two all have run that were woken
SILENCE = 5.0  # seconds after which a peer that gets a request is asked whether it is there
PATIENCE = 1.0  # seconds for the answer; on a long path so many round trips
_ROUND_TRIPS = 4


class Http2Connection:
    """HTTP/2 over a transport, which it owns.

    Args:
        below: carries the bytes.
        limits: what the peer may cost us.
        counts: where it is counted.
        reactor: drives the transport and keeps the time.
        settle_by: when the peer's SETTINGS must have come.
        serve: what a server does with each stream that is opened, and with its headers, None if they are larger than
            allowed; None: this is a client.
        max_streams: streams that a client opens at a time.

    Attributes:
        counts: where it is counted.
        ended: whether nothing more can be sent or received.
        error: what ended it, if it was no orderly end.
        draining: whether no more streams are opened; the connection ends with its last one.
        heard_at: when the last byte came.
        streams: those that neither side has done with, by number.
        woken: streams that the step of now has brought something.
        send_now: sends what a stream writes, if that can go at once; tells whether it could.
        charge: notes that small DATA frames wait.
        refund: notes that such were read.
    """

    def __init__(
        self,
        below: Transport,
        limits: Limits,
        counts: Http2Statistics,
        reactor: Reactor,
        *,
        settle_by: float = math.inf,
        serve: Callable[[Http2Stream, Fields | None], Awaitable[None]] | None = None,
        max_streams: int = 100,
    ) -> None:
        is_client = serve is None
        self._below = below
        self._limits = limits
        self._reactor = reactor
        self._timer: Timer | None = None
        self._settle_by = settle_by
        self._max_streams = max_streams
        self._frame_reader = FrameReader(limits, counts, is_client=is_client)
        self._h2 = H2Adapter(limits, is_client=is_client)
        self._sender = Sender(below, self._frame_reader, limits, trio.current_time)
        self._sender.control(self._h2.take())  # the preface
        self._receiver = Receiver(limits, self._frame_reader, self._h2, self._sender, self, is_client=is_client)
        self.streams = self._receiver.streams
        self._clock = trio.lowlevel.current_clock().current_time  # trio.current_time() looks for it each time
        self._more = False  # more whole frames wait than a step may understand
        self._input_over = False
        self.woken: set[Http2Stream] = set()
        self._settled = trio.Event()
        self._done = trio.Event()
        self._opened = 0
        self._stepping = False
        self._goaway: StreamReset | None = None  # the peer's, if it says that something is wrong
        self._round_trip = RoundTrip()
        self._heard_by = math.inf  # when something must have come, or requests are not answered here
        self._idle_since = trio.current_time()
        self._handlers = Handlers(serve, limits, counts, self._handler_ended) if serve is not None else None
        self.counts = counts
        self.send_now = self._sender.send_now
        self.charge = self._frame_reader.charge_small_data
        self.refund = self._frame_reader.refund_small_data
        self.ended = False
        self.error: Exception | None = None
        self.draining = False
        self.heard_at = -math.inf

    # ---- its life ----

    def start(self, *, data: bytes = b"", handlers: trio.Nursery | None = None) -> None:
        """Begin; call it once.

        Args:
            data: what was read from the transport already.
            handlers: where ``serve`` runs, on a server.
        """
        self._reactor.add(self)
        if self._handlers is not None and handlers is not None:
            self._handlers.nursery = handlers
        self.counts.connections_opened += 1
        self.counts.connections_open += 1
        self._round_trip.ask(trio.current_time())  # by SETTINGS, which go now
        self._below.start(self, self._reactor)
        self._flush()
        self._hurry()
        if data:
            self.data_received(data)

    def crash(self, error: Exception) -> None:
        """End because of a bug, of this library or of another: it ends this connection, and nothing else."""
        logger.error("internal error on a connection to %.256r", self.remote_address, exc_info=error)
        self._end(ErrorCode.INTERNAL_ERROR, error)

    def close(self) -> None:
        """End at once: GOAWAY if that can go without waiting, then the transport; harmless when repeated."""
        self._end(ErrorCode.NO_ERROR, None)
        self._drop_transport()

    abandon = close

    def _drop_transport(self) -> None:
        self._below.abort()
        self._reactor.remove(self)
        if self._timer is not None:
            self._timer.cancel()

    def drain(self) -> None:
        """Let no more streams be opened, tell the peer, and end with the last one."""
        if not self.draining and not self.ended:
            # RFC 9113 §6.8: this number says that more may be on their way.
            self._sender.control(goaway(ErrorCode.NO_ERROR, LAST_STREAM, ""))
            self._flush()
            self.end_with_its_streams()

    def end_with_its_streams(self) -> None:
        """Open no more streams, and end with the last one."""
        self.draining = True
        if self._is_idle:
            self._end(ErrorCode.NO_ERROR, None)

    async def wait_done(self) -> None:
        """Wait until the connection has ended, and each handler of its streams."""
        await self._done.wait()

    def _end(self, code: int, error: Exception | None) -> None:
        """Take no more part: say why, and fail the streams."""
        if self.ended:
            return
        self.ended = True
        self.error = error or self._goaway
        self.counts.connections_open -= 1
        self._sender.control(goaway(code, self._h2.newest_of_peer, str(error or "")))
        with contextlib.suppress(Exception):  # it is ending already, and a bug in here may be why
            self._sender.flush()
        reason = self._below.error or self.error or StreamReset(code, "the connection has ended")
        for stream in tuple(self.streams.values()):  # they go as they fail
            stream.fail(reason)
        if self._handlers is not None:
            self._handlers.drop_waiting()
        self._settled.set()
        self._see_whether_done()
        if self._below.unsent:
            self._set_timer(self._clock() + self._limits.close_linger)
            self._reactor.unshield(self)
        else:
            self._drop_transport()

    def _see_whether_done(self) -> None:
        if self.ended and not self._running:
            self._done.set()

    def _fail(self, breach: Http2ConnectionError) -> None:
        if breach.limit:
            self.counts.pass_limit(breach.limit)
            breach.name_limit(self._limits)
        logger.debug("HTTP/2 with %.256r failed: %.256r", self.remote_address, str(breach))
        self._end(breach.code, breach)

    # ---- time ----

    def _next_deadline(self) -> float:
        deadline = min(self._settle_by, self._frame_reader.block_deadline, self._heard_by)
        if self._is_idle:
            deadline = min(deadline, self._idle_since + self._limits.h2_idle_timeout)
        return min(deadline, self._sender.stalled_since + self._limits.h2_stall_timeout)

    def _look_at_clock(self) -> None:
        self._timer = None
        if self.ended:
            self._drop_transport()
        elif self._next_deadline() > self._clock():
            self._hurry()
        else:
            # The process may have stood still, and the peer said meanwhile what is waited for.
            self._reactor.call_after(INPUT_PASSES, self, self._end_if_overdue)

    def _end_if_overdue(self) -> None:
        if not self.ended and self._next_deadline() <= self._clock():
            self._pass_deadline(self._clock())
        self._hurry()

    def _pass_deadline(self, now: float) -> None:
        if now >= self._settle_by:
            self._fail(Http2ConnectionError(ErrorCode.SETTINGS_TIMEOUT, "no SETTINGS came in time"))
        elif now >= self._heard_by:
            self._look_whether_heard()
        elif now >= self._frame_reader.block_deadline:
            self._fail(
                Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "a header block took too long", "h2_header_timeout")
            )
        elif now >= self._sender.stalled_since + self._limits.h2_stall_timeout:
            self.counts.pass_limit("h2_stall_timeout")
            stream = self._sender.longest_stalled()
            self._receiver.reset(stream, ErrorCode.CANCEL, "the peer gave no window for too long")
            self._flush()
        else:
            self.counts.pass_limit("h2_idle_timeout")
            self._end(ErrorCode.NO_ERROR, None)

    def _hurry(self) -> None:
        """Have the clock looked at in time: something has begun that is limited."""
        if not self.ended:
            self._set_timer(self._next_deadline())

    def _set_timer(self, deadline: float) -> None:
        if deadline == math.inf or (self._timer is not None and self._timer.deadline <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._reactor.call_at(deadline, self, self._look_at_clock)

    @property
    def _running(self) -> int:
        """How many handlers run."""
        return 0 if self._handlers is None else self._handlers.running

    @property
    def _is_idle(self) -> bool:
        return not self.streams and not self._running

    def _note_idle(self) -> None:
        if self._is_idle:
            self._idle_since = trio.current_time()
            if self.draining:
                self._end(ErrorCode.NO_ERROR, None)
            self._hurry()

    # ---- reading ----

    def data_received(self, data: bytes) -> None:
        """Understand bytes that came."""
        if self.ended:
            return
        self.woken.clear()
        self._take(data)
        if len(self.woken) > 1 and not self._sender.holding:
            self._sender.holding = True
            self._reactor.call_after(PASSES, self, self._release)
        if self._more:
            self._below.pause_reading()
            self._reactor.call_soon(self, self._go_on)

    def _release(self) -> None:
        """Send what was held back."""
        self._sender.holding = False
        self._flush()

    def _go_on(self) -> None:
        """Understand what one step could not."""
        self.data_received(b"")
        if not self._more:
            self._below.resume_reading()
            if self._input_over:
                self._end(ErrorCode.NO_ERROR, self._below.error)

    def eof_received(self) -> None:
        """Understand that the peer sends nothing more."""
        self._input_over = True
        if not self._more:
            self._end(ErrorCode.NO_ERROR, self._below.error)

    def connection_lost(self, error: Exception) -> None:
        """Understand that the transport broke."""
        self.eof_received()

    def peer_ended(self) -> None:
        """Nothing to do: reading is paused for one step only."""

    def resume_writing(self) -> None:
        """Send on: the transport below has sent some of what it held."""
        if not self.ended:
            self._flush()
            self._sender.congested = self._below.unsent > 0
        elif not self._below.unsent:
            self._drop_transport()

    def _take(self, data: bytes) -> None:
        self._stepping = True
        next_frame, take_data = self._frame_reader.next_frame, self._receiver.take_data
        try:
            if data:
                self.heard_at = self._clock()
                self._frame_reader.feed(data, self.heard_at)
            self._more = False
            try:
                for _ in range(FRAMES_AT_ONCE):
                    frame = next_frame()
                    if frame is None or self.ended:
                        break
                    if frame.kind == DATA:
                        take_data(frame)
                    else:
                        self._receiver.understand(frame)
                else:
                    self._more = True
            finally:
                self._receiver.push_held()  # before a breach ends the streams
        except Http2ConnectionError as breach:
            self._fail(breach)
        finally:
            self._stepping = False
        if not self._sender.idle:
            self._flush()
        if self._frame_reader.block_since != math.inf:
            self._hurry()

    def settled(self) -> None:
        """Take note of the peer's SETTINGS."""
        self._settle_by = math.inf
        self._settled.set()

    def acknowledged(self) -> None:
        """Take note that the peer has answered our SETTINGS, or a PING."""
        self._round_trip.answer(self.heard_at)
        self._receiver.windows.round_trip = self._round_trip.seconds

    def went_away(self, last: int, code: int) -> None:
        """Take note of the peer's GOAWAY."""
        logger.debug("GOAWAY of %.256r after stream %d: %d", self.remote_address, last, code)
        if code != ErrorCode.NO_ERROR:
            self._goaway = StreamReset(code, "the peer goes away")
        self.end_with_its_streams()

    # ---- what a server does ----

    def opened(self, stream_id: int, fields: Fields | None, *, ended: bool) -> None:
        """Take a new stream of the peer's, or refuse it."""
        assert self._handlers is not None
        stream = self._add(stream_id)
        stream.content_left = None if fields is None else content_length(fields)
        if ended and stream.content_left:
            self._receiver.reset(stream, ErrorCode.PROTOCOL_ERROR, "no DATA for its Content-Length", by_peer=True)
            self.drop(stream)
            return
        if ended:
            stream.finish()
        total = allowed(self._limits.h2_max_streams_total)
        if self._opened >= total and not self.draining:
            self.counts.pass_limit("h2_max_streams_total")
            self.drain()
        # RFC 9113 §6.8: what was on its way when the peer read GOAWAY is served, and a peer has one set of streams a
        # round trip on its way at most.
        if not self._has_place:
            self.counts.pass_limit("h2_max_streams")
            self._refuse(stream)
        elif self._opened > total + self._limits.h2_max_streams:
            self._refuse(stream)
        else:
            self._handlers.add(stream, fields)

    @property
    def _has_place(self) -> bool:
        """Whether no more streams are open, the newest included, than the peer was told (RFC 9113 §5.1.2)."""
        most = self._limits.h2_max_streams
        return len(self.streams) <= most or sum(not stream.both_ended for stream in self.streams.values()) <= most

    def _refuse(self, stream: Http2Stream) -> None:
        self._receiver.reset(stream, ErrorCode.REFUSED_STREAM, "too many streams")
        self.drop(stream)
        self._frame_reader.count_refusal()

    def _handler_ended(self) -> None:
        self._note_idle()
        self._see_whether_done()

    def send_headers(self, stream: Http2Stream, fields: Fields) -> None:
        """Send the headers of an answer."""
        stream.answered = True
        if not stream.local_ended:
            self._sender.control(self._h2.send_headers(stream.id, fields))
            self._flush()

    def fail_stream(self, stream: Http2Stream, code: int, text: str) -> None:
        """Reset a stream, if it has not ended."""
        if not stream.both_ended:
            self._receiver.reset(stream, code, text)
            self._flush()

    def _add(self, stream_id: int) -> Http2Stream:
        window = self._receiver.windows.add_stream()
        stream = Http2Stream(self, stream_id, send_window=self._receiver.peer_window, receive_window=window)
        stream.opened_at = self._frame_reader.now
        self.streams[stream_id] = stream
        self._opened += 1
        self._frame_reader.window_updates += 2
        self.counts.streams_opened += 1
        self.counts.streams_open += 1
        return stream

    # ---- what a client does ----

    @property
    def has_room(self) -> bool:
        """Whether one more stream can be opened."""
        most = min(self._max_streams, self._h2.max_streams)
        return not (self.ended or self.draining) and len(self.streams) < most

    @property
    def extended_connect(self) -> bool:
        """Whether the server takes extended CONNECT, as it said in its SETTINGS."""
        return self._h2.extended_connect

    async def wait_settled(self) -> None:
        """Wait for the server's SETTINGS, or for the end."""
        await self._settled.wait()

    def open_stream(self, fields: Fields) -> Http2Stream:
        """Send a request; there must be room."""
        stream_id = self._h2.next_stream
        assert stream_id is not None, "there was room"
        stream = self._add(stream_id)
        stream.awaits_answer = True
        self._ask_if_silent()
        self._sender.control(self._h2.send_headers(stream.id, fields))
        if self._h2.next_stream is None or self._opened >= allowed(self._limits.h2_max_streams_total):
            self.draining = True
        self._flush()
        return stream

    def _ask_if_silent(self) -> None:
        """Have the answer to a request begin with that to a PING: a path can die without a word."""
        now = trio.current_time()
        if now < self.heard_at + SILENCE:
            return
        if self._round_trip.asked_at <= self.heard_at:
            self._send_ping(now)
        patience = max(PATIENCE, _ROUND_TRIPS * self._round_trip.seconds)
        self._heard_by = min(self._heard_by, now + patience)
        self._hurry()

    def _look_whether_heard(self) -> None:
        """Have requests sent elsewhere if nothing came in time."""
        self._heard_by = math.inf
        if self.heard_at < self._round_trip.asked_at:
            for stream in list(self.streams.values()):
                if stream.awaits_answer:
                    self._receiver.reset(stream, ErrorCode.CANCEL, "no answer to a PING", retryable=True)
            self._flush()
            self.end_with_its_streams()

    def reset(self, stream: Http2Stream, code: int, text: str) -> None:
        """End a stream for what the peer did wrong on it."""
        try:
            self._receiver.reset(stream, code, text, by_peer=True)
        except Http2ConnectionError as breach:  # it was not the first time
            self._fail(breach)
        self._flush()

    def distrust(self, since: float) -> None:
        """Open no more streams if nothing has come since then: the peer may be gone."""
        if self.heard_at < since:
            self.end_with_its_streams()

    # ---- what a stream needs ----

    @property
    def local_address(self) -> object:
        """The address of this end."""
        return self._below.local_address

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS below."""
        return self._below.ssl_object

    @property
    def remote_address(self) -> object:
        """The address of the other end."""
        return self._below.remote_address

    @property
    def socket_reactor(self) -> Reactor | None:
        """What reads the socket below."""
        return self._below.socket_reactor

    @property
    def blocked(self) -> bool:
        """Whether what a stream writes now would wait."""
        return self.ended or self._sender.blocked

    def send_last(self, stream: Http2Stream, data: bytes) -> None:
        """Send the whole of a short write with END_STREAM, if nothing is before it."""
        self._flush()
        if self._sender.send_now(stream, data, END_STREAM):
            stream.local_ended = True
            self._h2.send_end(stream.id)  # the flag has gone: only the library must know
        self._flush()  # what is held back, too

    def queue(self, stream: Http2Stream) -> None:
        """Send what a stream has to send as its turn comes."""
        self._sender.queue(stream)
        self._flush()

    def end(self, stream: Http2Stream) -> None:
        """Send END_STREAM: all before it has gone."""
        stream.local_ended = True
        self._sender.control(self._h2.send_end(stream.id))
        self._flush()

    def give_back(self, stream: Http2Stream, unread: int) -> None:
        """Let the peer send more on a stream, of whose bytes so many wait for the application."""
        now = self._clock()
        increment = self._receiver.windows.update_stream(stream.receive_window, unread, now)
        self._sender.control(window_update(stream.id, increment))
        if stream.receive_window.can_grow and self._round_trip.is_stale(now):
            self._send_ping(now)
        self._flush()

    def ask(self) -> bool:
        """Send a PING unless one is on its way."""
        if self._round_trip.asked_at <= self.heard_at and not self.ended:
            self._send_ping(trio.current_time())
            self._flush()
        return True

    def _send_ping(self, now: float) -> None:
        self._round_trip.ask(now)
        self.counts.pings_sent += 1
        self._sender.control(self._h2.send_ping())

    def drop(self, stream: Http2Stream) -> None:
        """Forget a stream; the peer is told if it does not know that this was the end."""
        self._receiver.forget(stream)
        self.woken.discard(stream)
        self.counts.streams_open -= 1
        if not (stream.local_ended and stream.remote_ended):
            # RFC 9113 §8.1: a server that has answered in full asks for no more.
            done = stream.local_ended and self._handlers is not None
            code = ErrorCode.NO_ERROR if done else ErrorCode.CANCEL
            self._receiver.send_reset(stream, code)
            self._flush()
        self._note_idle()

    # ---- sending ----

    def _flush(self) -> None:
        if self._stepping or self.ended:
            return
        try:
            self._sender.flush()
        except Http2ConnectionError as breach:
            self._fail(breach)
        if self._sender.stalled_since < math.inf:
            self._hurry()
