"""The way in of an HTTP/2 connection: what each frame means for the streams, and for the connection.

Rules:

1. What concerns one stream ends that stream. What breaks the connection is raised as
   :class:`Http2ConnectionError`, and ends it.
2. The connection's window is given back as bytes come, a stream's as the application takes: so one stream that nobody
   reads stops no other (RFC 9113 §5.2).
3. What comes for a stream that we have ended was on its way: it is dropped, up to the window that the stream still had.
   A client that sends more on a stream which it has ended itself is told, once, with RST_STREAM (RFC 9113 §5.1).
4. DATA in a frame of the largest size is held back until the frame behind it: mostly it is the same stream's, and goes
   up together with it. So a message of 16 KiB, which does not fit into one frame, is understood at once. Nothing is
   held beyond the step, nor when anything else happens.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Protocol

from ..._wire.handshake import MalformedRequest, split_pseudo_headers
from .frame_reader import (
    ACK,
    END_STREAM,
    MAX_FRAME_SIZE,
    PADDED,
    SMALL_DATA,
    ErrorCode,
    Http2ConnectionError,
    Kind,
    frame_header,
)
from .receive_window import CONNECTION_WINDOW, MAX_WINDOW, ReceiveWindows
from .sender import DEFAULT_WINDOW
from .stream import StreamReset

if TYPE_CHECKING:
    from ..._options import Limits
    from .frame_reader import Frame, FrameReader
    from .h2_adapter import Fields, H2Adapter, NewSettings
    from .sender import Sender
    from .stream import Http2Stream

_REMEMBERED_ENDS = 1000
_REMEMBERED_GAPS = 100

_LONG = struct.Struct(">L")
_PRIORITY_SIZE = 5
_PATIENCE = 1.0  # seconds that a client should wait for an answer


class Listener(Protocol):
    """Whom an inlet tells what concerns the connection."""

    def settled(self) -> None:
        """The peer's SETTINGS came."""

    def opened(self, stream_id: int, fields: Fields | None, *, ended: bool) -> None:
        """The peer opened a stream; fields is None if its headers were larger than allowed."""

    def acknowledged(self) -> None:
        """The peer's answer to our SETTINGS or to a PING of ours came."""

    def went_away(self, last: int, code: int) -> None:
        """GOAWAY came; streams of ours after ``last`` were not looked at."""


class Receiver:
    """Understands what a connection receives.

    Args:
        limits: what the peer may cost us.
        frame_reader: counts.
        h2: keeps the states.
        sender: takes the answers.
        listener: is told what concerns the connection.
        is_client: which side this is.

    Attributes:
        streams: those that neither side has done with, by number.
        peer_window: bytes that a new stream may send.
        windows: those that we give.
    """

    __slots__ = (
        "_ended_by_client",
        "_frame_reader",
        "_h2",
        "_held",
        "_held_data",
        "_is_client",
        "_late",
        "_listener",
        "_sender",
        "_skipped",
        "_window",
        "peer_window",
        "streams",
        "windows",
    )

    def __init__(
        self,
        limits: Limits,
        frame_reader: FrameReader,
        h2: H2Adapter,
        sender: Sender,
        listener: Listener,
        *,
        is_client: bool,
    ) -> None:
        self._frame_reader = frame_reader
        self._h2 = h2
        self._sender = sender
        self._listener = listener
        self._is_client = is_client
        self.windows = ReceiveWindows(limits)
        self._window = self.windows.connection
        self._late = 0  # bytes that may still come for streams that have ended
        self._ended_by_client: dict[int, None] = {}  # the newest streams, but those that we have reset
        self._skipped: deque[range] = deque(maxlen=_REMEMBERED_GAPS)  # of numbers that the client has left out
        self._held: Http2Stream | None = None  # whose DATA goes up with the next frame's (rule 4)
        self._held_data: list[bytes] = []
        self.peer_window = DEFAULT_WINDOW
        self.streams: dict[int, Http2Stream] = {}
        sender.control(window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW))

    def understand(self, frame: Frame) -> None:
        """Take a frame of any other kind than DATA.

        Raises:
            Http2ConnectionError: the connection must end.
        """
        self.push_held()
        match frame.kind:
            case Kind.WINDOW_UPDATE:
                self._on_window_update(frame)
            case Kind.HEADERS:
                self._on_headers(frame)
            case Kind.RST_STREAM:
                self._on_reset(frame)
            case Kind.GOAWAY:
                self._on_goaway(frame)
            case Kind.PRIORITY:
                self._on_priority(frame)
            case _:
                if frame.flags & ACK:  # none of PUSH_PROMISE, which the library refuses
                    self._listener.acknowledged()
                settings = self._h2.receive(frame.wire)
                self._sender.control(self._h2.take())
                if settings is not None:
                    self._on_settings(settings)

    def forget(self, stream: Http2Stream) -> None:
        """Take a stream out."""
        del self.streams[stream.id]
        self._sender.forget(stream)
        self.windows.forget_stream(stream.receive_window)
        self._late += stream.receive_window.available

    def reset(
        self, stream: Http2Stream, code: int, text: str, *, by_peer: bool = False, retryable: bool = False
    ) -> None:
        """End a stream for a reason of its own.

        Args:
            by_peer: the peer made us do it, which is counted.
            retryable: as :class:`StreamReset` has it.
        """
        if by_peer:
            self._frame_reader.count_reset()
        self.send_reset(stream, code)
        self._sender.forget(stream)
        stream.fail(StreamReset(code, text, retryable=retryable))

    def send_reset(self, stream: Http2Stream, code: int) -> None:
        """Send RST_STREAM for a stream that has not ended."""
        self._ended_by_client.pop(stream.id, None)
        self._sender.control(self._h2.send_reset(stream.id, code))

    # ---- DATA and its windows ----

    def take_data(self, frame: Frame) -> None:
        """Take DATA, the most frequent frame by far.

        Raises:
            Http2ConnectionError: the connection must end.
        """
        _, flags, stream_id, data = frame
        size = len(data)
        window = self._window
        window.available -= size  # it never gets to 0: an update is due while more than a frame is left
        if window.available <= window.update_at:
            self._sender.control(window_update(0, self.windows.update_connection(self._frame_reader.now)))
        if flags & PADDED:
            data = frame.unpadded()
        if self._held is not None and (self._held.id != stream_id or flags & END_STREAM):
            self.push_held()
        stream = self.streams.get(stream_id)
        if stream is None or stream.remote_ended or stream.awaits_answer or size > stream.receive_window.available:
            self._on_ill_data(stream, stream_id, size)
            return
        if stream.content_left is not None and not self._take_content(stream, len(data)):
            return
        if size == MAX_FRAME_SIZE and not flags & END_STREAM:
            stream.receive_window.available -= size
            self._held = stream
            self._held_data.append(data)
            return
        # A window that has grown is read: what waits in it is one more burst, and not an attack.
        cost = SMALL_DATA - size if size < SMALL_DATA and not stream.receive_window.grown else 0
        if self._held is not None:
            data = self._take_held(data)
        ended = bool(flags & END_STREAM)
        # The end is noted before what the stream does about it.
        if not ended or self._note_remote_end(stream):
            stream.arrive(data, size, cost, ended=ended)

    def _take_held(self, data: bytes) -> bytes:
        """Give what is held back, and this behind it; it was counted when it came."""
        data = b"".join((*self._held_data, data))
        self._held = None
        self._held_data.clear()
        return data

    def push_held(self) -> None:
        """Push what is held back, if anything is."""
        stream = self._held
        if stream is not None:
            stream.arrive(self._take_held(b""), 0, 0)

    def _on_ill_data(self, stream: Http2Stream | None, stream_id: int, size: int) -> None:
        """Take DATA that must not come, or that came too late."""
        self.push_held()
        if stream is None:
            self._check_not_idle(stream_id)
            self._late -= size
            if self._late < 0:
                raise Http2ConnectionError(ErrorCode.STREAM_CLOSED, "DATA for a stream that has ended")
            self._answer_if_ended(stream_id)
        elif stream.remote_ended:
            self._on_data_after_end(stream, size)
        elif stream.awaits_answer:
            self.reset(stream, ErrorCode.PROTOCOL_ERROR, "DATA before the answer", by_peer=True)
        else:
            self.reset(stream, ErrorCode.FLOW_CONTROL_ERROR, "more DATA than its window allows", by_peer=True)

    def _on_data_after_end(self, stream: Http2Stream, size: int) -> None:
        stream.receive_window.available -= size
        if not stream.local_ended:
            self.reset(stream, ErrorCode.STREAM_CLOSED, "DATA after its end", by_peer=True)
        elif stream.receive_window.available < 0:  # else the stream was reset, and this was on its way
            raise Http2ConnectionError(ErrorCode.STREAM_CLOSED, "DATA for a stream that was reset")
        else:
            self._answer_if_ended(stream.id)

    def _take_content(self, stream: Http2Stream, size: int) -> bool:
        """Count DATA of a request that has told its length; False: it was too much (RFC 9113 §8.1.1)."""
        assert stream.content_left is not None
        stream.content_left -= size
        if stream.content_left < 0:
            self.push_held()
            self.reset(stream, ErrorCode.PROTOCOL_ERROR, "more DATA than its Content-Length", by_peer=True)
        return stream.content_left >= 0

    def _check_not_idle(self, stream_id: int) -> None:
        # RFC 9113 §5.1; §5.1.1: a number that was left out cannot be used any more.
        if not self._h2.was_opened(stream_id) or any(stream_id in skipped for skipped in self._skipped):
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a frame for a stream that was never opened")

    def _answer_if_ended(self, stream_id: int) -> None:
        """Answer DATA or HEADERS for a stream that the client has ended itself; else they were on their way."""
        if stream_id in self._ended_by_client:
            del self._ended_by_client[stream_id]  # RFC 9113 §5.4.2: once
            self._sender.control(rst_stream(stream_id, ErrorCode.STREAM_CLOSED))

    def _note_end(self, stream_id: int) -> None:
        if not self._is_client:
            self._ended_by_client[stream_id] = None
            if len(self._ended_by_client) > _REMEMBERED_ENDS:
                del self._ended_by_client[next(iter(self._ended_by_client))]

    def _end_remotely(self, stream: Http2Stream) -> None:
        if self._note_remote_end(stream):
            stream.finish()

    def _note_remote_end(self, stream: Http2Stream) -> bool:
        """Note that the peer ends its direction; False: it must not yet, and the stream was reset."""
        if stream.content_left:
            self.reset(stream, ErrorCode.PROTOCOL_ERROR, "less DATA than its Content-Length", by_peer=True)
            return False
        self._note_end(stream.id)
        self._h2.receive_end(stream.id)
        return True

    def _on_window_update(self, frame: Frame) -> None:
        if len(frame.payload) != _LONG.size:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a WINDOW_UPDATE of a wrong size")
        increment = _LONG.unpack(frame.payload)[0] & MAX_WINDOW
        if not frame.stream_id:
            if not increment:
                raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE of 0")
            self._sender.open_window(increment)
            return
        stream = self.streams.get(frame.stream_id)
        if stream is None:
            self._check_not_idle(frame.stream_id)
        elif stream.local_ended:
            pass  # nothing more will be sent
        elif stream.send_window + increment > MAX_WINDOW:  # RFC 9113 §6.9.1
            self.reset(stream, ErrorCode.FLOW_CONTROL_ERROR, "its window is too large", by_peer=True)
        elif not increment:  # §6.9
            self.reset(stream, ErrorCode.PROTOCOL_ERROR, "a WINDOW_UPDATE of 0", by_peer=True)
        else:
            stream.send_window += increment
            self._sender.queue(stream)

    def _on_settings(self, settings: NewSettings) -> None:
        if settings.takes_back_connect:  # RFC 8441 §3
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "extended CONNECT was taken back")
        if settings.window is not None:
            difference = settings.window - self.peer_window
            self.peer_window = settings.window
            for stream in self.streams.values():
                stream.send_window += difference  # it may go below zero: RFC 9113 §6.9.2
                if stream.send_window > MAX_WINDOW:
                    raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window is too large")
                self._sender.queue(stream)
        self._listener.settled()

    # ---- streams that begin and end ----

    def _on_headers(self, frame: Frame) -> None:
        stream = self.streams.get(frame.stream_id)
        ended = bool(frame.flags & END_STREAM)
        if self._is_client and stream is not None and stream.awaits_answer:
            self._h2.receive(frame.wire)
            stream.take_headers(self._h2.fields, ended=ended)
        elif not self._is_client and (frame.stream_id > self._h2.newest_of_peer or not frame.stream_id):
            self._open(frame, ended=ended)
        else:
            self._h2.decode(frame.wire)
            self._on_trailers(stream, frame.stream_id, ended=ended)

    def _open(self, frame: Frame, *, ended: bool) -> None:
        newest = self._h2.newest_of_peer
        first = newest + 2 if newest else 1
        self._h2.receive(frame.wire)
        if frame.stream_id > first:
            self._skipped.append(range(first, frame.stream_id, 2))
        if ended:
            self._note_end(frame.stream_id)
        self._listener.opened(frame.stream_id, self._h2.fields, ended=ended)

    def _on_trailers(self, stream: Http2Stream | None, stream_id: int, *, ended: bool) -> None:
        """Take headers that follow all that a WebSocket looks at."""
        if stream is None:
            self._check_not_idle(stream_id)
        if stream is None or stream.both_ended:
            self._answer_if_ended(stream_id)
            self._frame_reader.count_control()
        elif stream.remote_ended:
            self.reset(stream, ErrorCode.STREAM_CLOSED, "HEADERS after its end", by_peer=True)
        elif not ended:  # RFC 9113 §8.1
            self.reset(stream, ErrorCode.PROTOCOL_ERROR, "trailers that do not end the stream", by_peer=True)
        elif not _are_trailers(self._h2.fields or []):
            self.reset(stream, ErrorCode.PROTOCOL_ERROR, "malformed trailers", by_peer=True)
        else:
            self._end_remotely(stream)

    def _on_reset(self, frame: Frame) -> None:
        if len(frame.payload) != _LONG.size:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a RST_STREAM of a wrong size")
        stream = self.streams.get(frame.stream_id)
        if stream is None or (stream.local_ended and stream.remote_ended):
            self._check_not_idle(frame.stream_id)
            self._frame_reader.count_control()
            return
        self._note_end(frame.stream_id)
        self._h2.receive(frame.wire)
        # HAProxy resets every stream that it has ended, which is no reason for a client to distrust it.
        if not stream.local_ended and not (self._is_client and stream.remote_ended):
            self._frame_reader.count_reset(hasty=self._is_client or self._is_hasty(stream))
        code = _LONG.unpack(frame.payload)[0]
        if code == ErrorCode.REFUSED_STREAM:
            self._frame_reader.counts.streams_refused += 1
        self._sender.forget(stream)
        stream.was_reset(code)

    def _is_hasty(self, stream: Http2Stream) -> bool:
        """Tell whether a client that resets a stream makes us work for nothing (CVE-2023-44487).

        A stream that had its answer, or waited for it, has cost the client a place for so long; and a proxy resets one
        for each of its clients that is gone or gives up.
        """
        return not stream.answered and self._frame_reader.now - stream.opened_at < _PATIENCE

    def _on_priority(self, frame: Frame) -> None:
        # RFC 9113 §6.3; what it says is deprecated (§5.3.2).
        if not frame.stream_id:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a PRIORITY for no stream")
        if len(frame.payload) == _PRIORITY_SIZE:
            return
        text = "a PRIORITY of a wrong size"
        stream = self.streams.get(frame.stream_id)
        if stream is None or stream.both_ended:  # a stream that is not open cannot be reset
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, text)
        self.reset(stream, ErrorCode.FRAME_SIZE_ERROR, text, by_peer=True)

    def _on_goaway(self, frame: Frame) -> None:
        if len(frame.payload) < 2 * _LONG.size:
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a GOAWAY of a wrong size")
        if frame.stream_id:  # RFC 9113 §6.8
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a GOAWAY for a stream")
        last, code = _LONG.unpack_from(frame.payload)[0] & MAX_WINDOW, _LONG.unpack_from(frame.payload, 4)[0]
        self._frame_reader.count_control()
        if self._is_client:
            for stream in tuple(self.streams.values()):  # they go as they fail
                # A peer that ends a connection for an error answers no more (RFC 9113 §5.4.1).
                if stream.id > last or (code == ErrorCode.HTTP_1_1_REQUIRED and stream.awaits_answer):
                    self._sender.forget(stream)
                    stream.fail(StreamReset(code, "the server goes away", retryable=True))
        self._listener.went_away(last, code)


def _are_trailers(fields: Fields) -> bool:
    """Tell whether a header block may be trailers: no pseudo headers, and the rules of all fields (RFC 9113 §8.1)."""
    try:
        split_pseudo_headers(fields, frozenset())
    except MalformedRequest:
        return False
    return True


def rst_stream(stream_id: int, code: int) -> bytes:
    """Write a RST_STREAM frame (RFC 9113 §6.4)."""
    return frame_header(_LONG.size, Kind.RST_STREAM, 0, stream_id) + _LONG.pack(code)


def window_update(stream_id: int, increment: int) -> bytes:
    """Write a WINDOW_UPDATE frame (RFC 9113 §6.9)."""
    return frame_header(_LONG.size, Kind.WINDOW_UPDATE, 0, stream_id) + _LONG.pack(increment)


def goaway(code: int, last: int, text: str) -> bytes:
    """Write a GOAWAY frame (RFC 9113 §6.8)."""
    payload = _LONG.pack(last) + _LONG.pack(code) + text.encode()[:256]
    return frame_header(len(payload), Kind.GOAWAY, 0, 0) + payload
