"""One HTTP/2 connection: many streams on one transport. The only module that knows h2, hpack and hyperframe.

Theory of operation:

1. All is synchronous: bytes from below -> :class:`Gate` -> the library, or the streams; what a stream writes goes down
   at once as far as windows and the transport allow, and else in its turn (:class:`Outlet`). Only :meth:`_run` waits,
   for input, and one task for room below while there is none.
2. The library keeps what is hard: header compression, settings, the states of streams. DATA and WINDOW_UPDATE are
   ours: they are most of all frames, their windows are a policy, and what the library does about those that come late
   or break a rule (it resets streams as the peer likes) is an attack of its own (CVE-2025-8671).
3. GOAWAY is ours too, in both directions. The library's state machine takes no frame at all after one, though RFC 9113
   §6.8 lets the streams that are open go on (python-hyper/h2 issue 1181); so it never hears of a GOAWAY.
4. A stream's window is given back as the application takes; the connection's as bytes come, so that one stream that
   nobody reads stops no other.
5. What concerns one stream ends that stream. What breaks the connection (:class:`Breach`) ends it with a GOAWAY, and
   every stream on it: they read as ended, and their ``error`` says why.
6. A stream of the peer's takes a place until its handler has ended, whoever reset it meanwhile (CVE-2023-44487).
"""

from __future__ import annotations

import contextlib
import logging
import math
import struct
from typing import TYPE_CHECKING

import hpack
import hyperframe.frame
import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RemoteSettingsChanged
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from .http2_flow import DEFAULT_WINDOW, MAX_WINDOW, Outlet
from .http2_gate import (
    END_STREAM,
    PREFACE,
    SMALL_DATA,
    Breach,
    ErrorCode,
    Gate,
    Kind,
    allowed,
    frame_header,
)
from .http2_stream import Http2Stream, StreamReset

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from h2.events import Event

    from .._options import Limits
    from .._transport import Transport
    from .http2_gate import Frame, Http2Statistics

logger = logging.getLogger("trio_ws.http2")

FRAMES_AT_ONCE = 256  # no step understands more without letting others run
CONNECTION_WINDOW = 2**20  # bytes; given back as they come

Fields = list[tuple[str, str]]

_LONG = struct.Struct(">L")
_LAST_STREAM = 2**31 - 1
_NEVER = math.inf


class _HeaderDecoder(hpack.Decoder):
    """Decompresses headers, and shows the library only what it needs: it would end the connection for the rest.

    Attributes:
        fields: the headers decoded last; None if they were larger than allowed.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__(max_header_list_size=2 * limits.max_head_size)
        self._limits = limits
        self.fields: Fields | None = None

    def decode(self, data: bytes, raw: bool = False) -> Iterable[hpack.HeaderTuple]:
        headers = list(super().decode(data, raw=True))
        size = sum(len(name) + len(value) + 32 for name, value in headers)  # RFC 9113 §6.5.2
        self.fields = None
        if size <= self._limits.max_head_size and len(headers) <= self._limits.max_headers:
            self.fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        # It tells interim answers by their status. A wrong content-length would be an error of the connection's.
        return [field for field in headers if field[0] == b":status"]


class Http2Connection:
    """HTTP/2 over a transport, which it owns.

    Args:
        below: carries the bytes.
        limits: what the peer may cost us.
        counts: where it is counted.
        nursery: where the connection's tasks run.
        settle_by: when the peer's SETTINGS must have come.
        serve: what a server does with each stream that is opened, and with its headers, None if they are larger than
            allowed; None: this is a client.
        max_streams: streams that a client opens at a time.

    Attributes:
        streams: those that neither side has done with, by number.
        ended: whether nothing more can be sent or received.
        error: what ended it, if it was no orderly end.
        draining: whether no more streams are opened; the connection ends with its last one.
        heard_at: when the last byte came.
    """

    def __init__(
        self,
        below: Transport,
        limits: Limits,
        counts: Http2Statistics,
        nursery: trio.Nursery,
        *,
        settle_by: float = _NEVER,
        serve: Callable[[Http2Stream, Fields | None], Awaitable[None]] | None = None,
        max_streams: int = 100,
    ) -> None:
        self._below = below
        self._limits = limits
        self._nursery = nursery
        self._settle_by = settle_by
        self._serve = serve
        self._handlers = nursery
        self._max_streams = max_streams
        self._gate = Gate(limits, counts, is_client=serve is None)
        self._outlet = Outlet(below, self._gate, limits, trio.current_time)
        self._decoder = _HeaderDecoder(limits)
        self._h2 = _make_h2(self._decoder, limits, is_client=serve is None)
        self._window = CONNECTION_WINDOW  # what the peer may still send
        self._peer_window = DEFAULT_WINDOW  # what a new stream may send
        self._late = 0.0  # bytes that may still come for streams that have ended
        self._scope = trio.CancelScope()
        self._settled = trio.Event()
        self._done = trio.Event()
        self._live = 0  # streams of the peer's whose handlers have not ended
        self._opened = 0
        self._refused = 0
        self._stepping = False
        self._sending = False
        self._sent = trio.lowlevel.ParkingLot()
        self._more = False
        self._asked_at = -math.inf
        self._idle_since = trio.current_time()
        self.counts = counts
        self.streams: dict[int, Http2Stream] = {}
        self.ended = False
        self.error: Exception | None = None
        self.draining = False
        self.heard_at = -math.inf

    # ---- its life ----

    def start(self, *, shield: bool, data: bytes = b"", handlers: trio.Nursery | None = None) -> None:
        """Begin; call it once.

        Args:
            shield: live on when the nursery is cancelled, until :meth:`close` or the last stream.
            data: what was read from the transport already.
            handlers: where ``serve`` runs; None: in the connection's nursery.
        """
        self._handlers = handlers or self._nursery
        self._nursery.start_soon(self._run, shield)
        self.counts.connections_opened += 1
        self.counts.connections_open += 1
        self._h2.initiate_connection()
        # The limit that is told is kept here, by refusing one stream; the library would end the connection.
        self._h2.local_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = _LAST_STREAM
        self._h2.local_settings.acknowledge()
        self._outlet.control(self._h2.data_to_send())
        self._outlet.control(_window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW))
        if self._serve is not None:
            self._h2.receive_data(PREFACE)
        self._flush()
        if data:
            self._take(data)

    @trio.lowlevel.enable_ki_protection
    async def _run(self, shield: bool) -> None:
        try:
            with trio.CancelScope(shield=shield):
                while not self.ended:
                    with trio.CancelScope(deadline=self._next_deadline()) as self._scope:
                        if self._more:
                            await trio.lowlevel.checkpoint()
                        else:
                            await self._below.wait_readable()
                    self.read()
                    self._look_at_clock()
            with trio.move_on_after(self._limits.close_linger):
                while self._sending:
                    await self._sent.park()
        # A bug of ours or of a library's ends this connection, and nothing else.
        except Exception as error:
            logger.exception("internal error on a connection to %r", self.remote_address)
            self._end(ErrorCode.INTERNAL_ERROR, error)
        finally:
            self.close()

    def close(self) -> None:
        """End at once: GOAWAY if that can go without waiting, then the transport; harmless when repeated."""
        self._end(ErrorCode.NO_ERROR, None)
        self._below.abort()
        self._scope.cancel()

    def drain(self) -> None:
        """Let no more streams be opened, tell the peer, and end with the last one."""
        if not self.draining:
            self.draining = True
            # RFC 9113 §6.8: this number says that more may be on their way.
            self._goaway(ErrorCode.NO_ERROR, _LAST_STREAM)
            self._flush()
            self._end_if_done()

    def _end_if_done(self) -> None:
        if self.draining and not self.streams and not self._live:
            self._end(ErrorCode.NO_ERROR, None)

    def _end(self, code: int, error: Exception | None) -> None:
        """Take no more part: say why, and fail the streams."""
        if self.ended:
            return
        self.ended = True
        self.error = error
        self.counts.connections_open -= 1
        self._goaway(code, self._h2.highest_inbound_stream_id, str(error or ""))
        with contextlib.suppress(Breach):  # it is ending already
            self._outlet.flush()
        reason = self._below.error or error or StreamReset(code, "the connection has ended", retryable=False)
        for stream in self.streams.values():
            stream.fail(reason)
        self._settled.set()
        if not self._live:
            self._done.set()
        self._scope.cancel()

    async def wait_done(self) -> None:
        """Wait until the connection has ended, and each handler of its streams."""
        await self._done.wait()

    def _goaway(self, code: int, last: int, text: str = "") -> None:
        payload = _LONG.pack(last) + _LONG.pack(code) + text.encode()[:256]
        self._outlet.control(frame_header(len(payload), Kind.GOAWAY, 0, 0) + payload)

    def _next_deadline(self) -> float:
        deadline = min(self._settle_by, self._gate.block_deadline)
        if not self.streams and not self._live:
            deadline = min(deadline, self._idle_since + self._limits.h2_idle_timeout)
        if self._outlet.stalled:
            deadline = min(deadline, next(iter(self._outlet.stalled.values())) + self._limits.h2_stall_timeout)
        return deadline

    def _look_at_clock(self) -> None:
        now = trio.current_time()
        if now < self._next_deadline() or self.ended:
            return
        if now >= self._settle_by:
            self._fail(Breach(ErrorCode.SETTINGS_TIMEOUT, "no SETTINGS came in time"))
        elif now >= self._gate.block_deadline:
            self._fail(Breach(ErrorCode.ENHANCE_YOUR_CALM, "a header block took too long", "h2_header_timeout"))
        elif self.streams or self._live:
            stream = next(iter(self._outlet.stalled))
            self.counts.pass_limit("h2_stall_timeout")
            self._reset(stream, ErrorCode.CANCEL, "the peer gave no window for too long")
            self._flush()
        else:
            self.counts.pass_limit("h2_idle_timeout")
            self._end(ErrorCode.NO_ERROR, None)

    def _fail(self, breach: Breach) -> None:
        if breach.limit:
            self.counts.pass_limit(breach.limit)
        logger.debug("HTTP/2 with %r failed: %s", self.remote_address, breach)
        self._end(breach.code, breach)

    # ---- reading ----

    def read(self) -> None:
        """Understand what is here."""
        if self.ended:
            return
        if self._more:
            self._take(b"")
            return
        data = self._below.read()
        if data:
            self._take(data)
        elif data is not None:
            self._end(ErrorCode.NO_ERROR, self._below.error)

    def _take(self, data: bytes) -> None:
        self._stepping = True  # so that what is written meanwhile goes with it
        try:
            if data:
                self.heard_at = trio.current_time()
                self._gate.feed(data, self.heard_at)
            self._more = False
            for _ in range(FRAMES_AT_ONCE):
                frame = self._gate.next_frame()
                if frame is None or self.ended:
                    break
                self._understand(frame)
            else:
                self._more = True
        except Breach as breach:
            self._fail(breach)
        finally:
            self._stepping = False
        self._flush()

    def _understand(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.DATA:
                self._on_data(frame)
            case Kind.WINDOW_UPDATE:
                self._on_window_update(frame)
            case Kind.HEADERS:
                self._on_headers(frame)
            case Kind.RST_STREAM:
                self._on_reset(frame)
            case Kind.GOAWAY:
                self._on_goaway(frame)
            case _:
                for event in self._tell_library(frame.wire):
                    if isinstance(event, RemoteSettingsChanged):
                        self._on_settings(event)

    def _tell_library(self, wire: bytes) -> list[Event]:
        try:
            events = self._h2.receive_data(wire)
        except ProtocolError as error:
            self._h2.clear_outbound_data_buffer()  # its GOAWAY; ours follows
            raise Breach(int(error.error_code), f"{type(error).__name__}: {error}"[:256]) from None
        answer = self._h2.data_to_send()
        if answer:
            self._outlet.control(answer)
        return events

    def _on_data(self, frame: Frame) -> None:
        size = len(frame.payload)
        self._window -= size
        if self._window < 0:
            raise Breach(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the connection's window allows")
        if self._window <= CONNECTION_WINDOW // 2:
            self._outlet.control(_window_update(0, CONNECTION_WINDOW - self._window))
            self._window = CONNECTION_WINDOW
        data = frame.unpadded()
        stream = self.streams.get(frame.stream_id)
        if stream is None:
            self._check_late(frame.stream_id, size)
        elif stream.remote_ended:
            if not stream.local_ended:  # else it was reset, and this was on its way
                self._reset(stream, ErrorCode.STREAM_CLOSED, "DATA after its end", by_peer=True)
        elif stream.awaits_answer:
            self._reset(stream, ErrorCode.PROTOCOL_ERROR, "DATA before the answer", by_peer=True)
        elif size > stream.receive_window:
            self._reset(stream, ErrorCode.FLOW_CONTROL_ERROR, "more DATA than its window allows", by_peer=True)
        else:
            cost = max(0, SMALL_DATA - size)
            if cost:
                self._gate.charge_small_data(cost)
            stream.arrive(data, size, cost)
            if frame.flags & END_STREAM:
                self._end_remotely(stream)

    def _end_remotely(self, stream: Http2Stream) -> None:
        # The library hears of the end, and not of the bytes before it.
        self._tell_library(frame_header(0, Kind.DATA, END_STREAM, stream.id))
        stream.finish()

    def _check_late(self, stream_id: int, size: int) -> None:
        """Check a frame for a stream that is not there: one that has ended may have been given more window."""
        self._check_not_idle(stream_id)
        self._late -= size
        if self._late < 0:
            raise Breach(ErrorCode.STREAM_CLOSED, "DATA for a stream that has ended")

    def _check_not_idle(self, stream_id: int) -> None:
        if stream_id > max(self._h2.highest_inbound_stream_id, self._h2.highest_outbound_stream_id) or not stream_id:
            raise Breach(ErrorCode.PROTOCOL_ERROR, "a frame for a stream that was never opened")  # RFC 9113 §5.1

    def _on_window_update(self, frame: Frame) -> None:
        if len(frame.payload) != _LONG.size:
            raise Breach(ErrorCode.FRAME_SIZE_ERROR, "a WINDOW_UPDATE of a wrong size")
        increment = _LONG.unpack(frame.payload)[0] & MAX_WINDOW
        if not frame.stream_id:
            if not increment:
                raise Breach(ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE of 0")
            self._outlet.open_window(increment)
            return
        stream = self.streams.get(frame.stream_id)
        if stream is None:
            self._check_not_idle(frame.stream_id)
        elif stream.send_window + increment > MAX_WINDOW:  # RFC 9113 §6.9.1
            self._reset(stream, ErrorCode.FLOW_CONTROL_ERROR, "its window is too large", by_peer=True)
        elif not increment:  # §6.9
            self._reset(stream, ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE of 0", by_peer=True)
        else:
            stream.send_window += increment
            self._outlet.queue(stream)

    def _on_settings(self, event: RemoteSettingsChanged) -> None:
        self._settle_by = _NEVER
        self._settled.set()
        change = event.changed_settings.get(SettingCodes.INITIAL_WINDOW_SIZE)
        if change is not None:
            difference = change.new_value - self._peer_window
            self._peer_window = change.new_value
            for stream in self.streams.values():
                stream.send_window += difference  # it may go below zero: RFC 9113 §6.9.2
                if stream.send_window > MAX_WINDOW:
                    raise Breach(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window is too large")
                self._outlet.queue(stream)
        change = event.changed_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL)
        if change is not None and change.original_value and not change.new_value:
            raise Breach(ErrorCode.PROTOCOL_ERROR, "extended CONNECT was taken back")  # RFC 8441 §3

    def _on_reset(self, frame: Frame) -> None:
        stream = self.streams.get(frame.stream_id)
        if stream is None:
            self._check_not_idle(frame.stream_id)
            self._gate.count_control()
            return
        self._tell_library(frame.wire)
        code = _LONG.unpack(frame.payload)[0]
        if not stream.local_ended:
            self._gate.count_reset()
        if code == ErrorCode.REFUSED_STREAM:
            self.counts.streams_refused += 1
        self._outlet.forget(stream)
        stream.was_reset(code)

    def _on_goaway(self, frame: Frame) -> None:
        if len(frame.payload) < 2 * _LONG.size:
            raise Breach(ErrorCode.FRAME_SIZE_ERROR, "a GOAWAY of a wrong size")
        if frame.stream_id:
            raise Breach(ErrorCode.PROTOCOL_ERROR, "a GOAWAY for a stream")
        last, code = (_LONG.unpack_from(frame.payload, offset)[0] for offset in (0, _LONG.size))
        self.draining = True
        if self._serve is None:
            for stream in self.streams.values():
                if stream.id > last & MAX_WINDOW:  # RFC 9113 §6.8: it was not looked at
                    self._outlet.forget(stream)
                    stream.fail(StreamReset(code, "the server goes away", retryable=True))
        self._end_if_done()

    # ---- headers ----

    def _on_headers(self, frame: Frame) -> None:
        stream = self.streams.get(frame.stream_id)
        is_new = frame.stream_id > self._h2.highest_inbound_stream_id
        if (is_new if self._serve is not None else stream is not None and stream.awaits_answer) or not frame.stream_id:
            self._tell_library(frame.wire)
        else:
            self._decode(frame.wire)  # the compression has a memory: nothing may be skipped
            self._on_trailers(stream, frame)
            return
        if self._serve is not None:
            self._open(frame)
        elif stream is not None:
            stream.take_headers(self._decoder.fields, ended=bool(frame.flags & END_STREAM))

    def _decode(self, wire: bytes) -> None:
        block, rest = bytearray(), memoryview(wire)
        try:
            while rest:
                part, length = hyperframe.frame.Frame.parse_frame_header(rest[:9])
                part.parse_body(rest[9 : 9 + length])
                block += part.data  # type: ignore[attr-defined]  # HEADERS and CONTINUATION have it
                rest = rest[9 + length :]
            self._decoder.decode(bytes(block))
        except (hpack.HPACKError, hyperframe.exceptions.HyperframeError) as error:
            raise Breach(ErrorCode.COMPRESSION_ERROR, f"{type(error).__name__}: {error}"[:256]) from None

    def _on_trailers(self, stream: Http2Stream | None, frame: Frame) -> None:
        """Take headers that follow what a WebSocket ever looks at."""
        if stream is None:
            self._check_not_idle(frame.stream_id)
            self._gate.count_control()
        elif stream.remote_ended:
            if not stream.local_ended:
                self._reset(stream, ErrorCode.STREAM_CLOSED, "HEADERS after its end", by_peer=True)
        elif frame.flags & END_STREAM:
            self._end_remotely(stream)
        else:  # RFC 9113 §8.1
            self._reset(stream, ErrorCode.PROTOCOL_ERROR, "trailers that do not end the stream", by_peer=True)

    def _open(self, frame: Frame) -> None:
        """Take a new stream of the peer's, or refuse it."""
        stream = self._add(frame.stream_id)
        if frame.flags & END_STREAM:
            stream.finish()
        total = allowed(self._limits.h2_max_streams_total)
        if self._opened >= total and not self.draining:
            self.counts.pass_limit("h2_max_streams_total")
            self.drain()
        if self._live >= self._limits.h2_max_streams:
            self.counts.pass_limit("h2_max_streams")
            self._refuse(stream)
        elif self._opened > total:
            self._refuse(stream)
        else:
            self._live += 1
            self._handlers.start_soon(self._look_after, stream, self._decoder.fields)

    def _refuse(self, stream: Http2Stream) -> None:
        self._refused += 1
        self.counts.streams_refused += 1
        self._reset(stream, ErrorCode.REFUSED_STREAM, "too many streams")
        self.drop(stream)
        if self._refused > allowed(self._limits.h2_max_refused):
            raise Breach(ErrorCode.ENHANCE_YOUR_CALM, "too many streams were refused", "h2_max_refused")

    async def _look_after(self, stream: Http2Stream, fields: Fields | None) -> None:
        assert self._serve is not None
        try:
            await self._serve(stream, fields)
        finally:
            self._live -= 1
            stream.abort()
            self._note_idle()
            if self.ended and not self._live:
                self._done.set()

    def _add(self, stream_id: int) -> Http2Stream:
        window = self._limits.h2_stream_window
        stream = Http2Stream(self, stream_id, send_window=self._peer_window, receive_window=window)
        self.streams[stream_id] = stream
        self._opened += 1
        self._gate.allow_window_updates(2)
        self.counts.streams_opened += 1
        self.counts.streams_open += 1
        return stream

    def send_headers(self, stream: Http2Stream, fields: Fields) -> None:
        """Send the headers of an answer."""
        if not stream.local_ended and not self.ended:
            self._h2.send_headers(stream.id, fields)
            self._send_library()

    # ---- what a client does ----

    def distrust(self, since: float) -> None:
        """Open no more streams if nothing has come since then: the peer may be gone."""
        if self.heard_at < since:
            self.draining = True

    def end_with_its_streams(self) -> None:
        """Open no more streams, without telling the peer."""
        self.draining = True
        self._end_if_done()

    @property
    def has_room(self) -> bool:
        """Whether one more stream can be opened."""
        most = min(self._max_streams, self._h2.remote_settings.max_concurrent_streams)
        return not (self.ended or self.draining) and len(self.streams) < most

    @property
    def extended_connect(self) -> bool:
        """Whether the server takes extended CONNECT, as it said in its SETTINGS."""
        return bool(self._h2.remote_settings.enable_connect_protocol)

    async def wait_settled(self) -> None:
        """Wait for the server's SETTINGS, or for the end."""
        await self._settled.wait()

    def open_stream(self, fields: Fields) -> Http2Stream:
        """Send a request; there must be room."""
        stream = self._add(self._h2.get_next_available_stream_id())
        if stream.id + 2 > _LAST_STREAM or self._opened >= allowed(self._limits.h2_max_streams_total):
            self.draining = True
        stream.awaits_answer = True
        self._h2.send_headers(stream.id, fields)
        self._send_library()
        return stream

    # ---- what a stream needs ----

    @property
    def local_address(self) -> object:
        """The address of this end."""
        return self._below.local_address

    @property
    def remote_address(self) -> object:
        """The address of the other end."""
        return self._below.remote_address

    @property
    def blocked(self) -> bool:
        """Whether what a stream writes now would wait."""
        return self.ended or self._outlet.blocked

    def send_now(self, stream: Http2Stream, data: bytes) -> bool:
        """Send the whole of a short write if nothing is before it; tell whether it went."""
        if not self._outlet.send_now(stream, data):
            return False
        if self._below.unsent and not self._sending:
            self._see_to_sending()
        return True

    def queue(self, stream: Http2Stream) -> None:
        """Send what a stream has to send as its turn comes."""
        self._outlet.queue(stream)
        self._hurry(stream)
        self._flush()

    def _hurry(self, stream: Http2Stream) -> None:
        if stream in self._outlet.stalled:
            self._scope.deadline = min(self._scope.deadline, self._next_deadline())

    def end(self, stream: Http2Stream) -> None:
        """Send END_STREAM: all before it has gone."""
        stream.local_ended = True
        if not self.ended:
            self._h2.end_stream(stream.id)
            self._send_library()

    def give_back(self, stream: Http2Stream, size: int) -> None:
        """Let the peer send so much more on a stream."""
        self._outlet.control(_window_update(stream.id, size))
        self._flush()

    def refund(self, cost: int) -> None:
        """Note that small DATA frames were read."""
        self._gate.refund_small_data(cost)

    def ask(self) -> bool:
        """Send a PING unless one is on its way."""
        if self._asked_at <= self.heard_at and not self.ended:
            self._asked_at = trio.current_time()
            self.counts.pings_sent += 1
            self._h2.ping(b"trio_ws?")
            self._send_library()
        return True

    def drop(self, stream: Http2Stream) -> None:
        """Forget a stream; the peer is told if it does not know that this was the end."""
        if self.streams.pop(stream.id, None) is None:
            return
        self._outlet.forget(stream)
        self._late += max(0, stream.receive_window)
        self.counts.streams_open -= 1
        if not self.ended and not (stream.local_ended and stream.remote_ended):
            # RFC 9113 §8.1: a server that has answered in full asks for no more.
            done = stream.local_ended and self._serve is not None
            self._h2.reset_stream(stream.id, ErrorCode.NO_ERROR if done else ErrorCode.CANCEL)
            self._send_library()
        self._note_idle()

    def _note_idle(self) -> None:
        if not self.streams and not self._live:
            self._idle_since = trio.current_time()
            self._scope.deadline = min(self._scope.deadline, self._idle_since + self._limits.h2_idle_timeout)
            self._end_if_done()

    def _reset(self, stream: Http2Stream, code: int, text: str, *, by_peer: bool = False) -> None:
        """End a stream for a reason of its own."""
        if by_peer:
            self._gate.count_reset()
        self._h2.reset_stream(stream.id, code)
        self._outlet.control(self._h2.data_to_send())
        self._outlet.forget(stream)
        stream.fail(StreamReset(code, text))

    # ---- sending ----

    def _send_library(self) -> None:
        self._outlet.control(self._h2.data_to_send())
        self._flush()

    def _flush(self) -> None:
        if self._stepping or self.ended:
            return
        try:
            self._outlet.flush()
        except Breach as breach:
            self._fail(breach)
        if self._below.unsent and not self._sending:
            self._see_to_sending()

    def _see_to_sending(self) -> None:
        self._sending = True
        self._nursery.start_soon(self._keep_sending)

    @trio.lowlevel.enable_ki_protection
    async def _keep_sending(self) -> None:
        # Shielded: it ends with the transport, which _run() aborts.
        with trio.CancelScope(shield=True):
            while self._below.unsent:
                await self._below.drain()
                self._flush()
        self._sending = False
        self._sent.unpark_all()


def _make_h2(decoder: _HeaderDecoder, limits: Limits, *, is_client: bool) -> H2Connection:
    """Make the library's connection with the settings that we tell."""
    # Each block is checked where it is answered: a wrong one is its stream's own affair.
    config = H2Configuration(client_side=is_client, validate_inbound_headers=False, normalize_inbound_headers=False)
    connection = H2Connection(config)
    values = {
        SettingCodes.INITIAL_WINDOW_SIZE: limits.h2_stream_window,
        SettingCodes.MAX_HEADER_LIST_SIZE: limits.max_head_size,
    }
    if is_client:
        values[SettingCodes.ENABLE_PUSH] = 0
    else:
        values[SettingCodes.MAX_CONCURRENT_STREAMS] = limits.h2_max_streams
        values[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1  # RFC 8441 §3
    connection.local_settings = Settings(client=is_client, initial_values=values)
    connection.decoder = decoder
    return connection


def _window_update(stream_id: int, increment: int) -> bytes:
    return frame_header(4, Kind.WINDOW_UPDATE, 0, stream_id) + _LONG.pack(increment)
