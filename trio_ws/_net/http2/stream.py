"""One stream of an HTTP/2 connection as a transport: the WebSocket over it does not know what carries it.

What a stream needs of its connection is :class:`Carrier`. Everything here is synchronous but the waiting of handshakes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import trio

from ..._transport import Transport
from ..._wire.handshake import is_interim
from .frame_reader import SMALL_DATA, ErrorCode, error_name

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from ..._reactor import Reactor
    from ..._transport import Receiver
    from .receive_window import ReceiveWindow

    Fields = list[tuple[str, str]]

PUSHED_AT_ONCE = 2**18  # bytes of what a pause has held, or one piece of that
MAX_INFORMATIONAL = 8  # answers of 1xx before the one that counts

# RFC 9113 §7: with these the peer objects to what it was sent, and would again.
_OBJECTIONS = frozenset(
    {
        ErrorCode.PROTOCOL_ERROR,
        ErrorCode.FLOW_CONTROL_ERROR,
        ErrorCode.STREAM_CLOSED,
        ErrorCode.FRAME_SIZE_ERROR,
        ErrorCode.COMPRESSION_ERROR,
        ErrorCode.INADEQUATE_SECURITY,
        ErrorCode.HTTP_1_1_REQUIRED,
    }
)


class StreamReset(Exception):
    """A stream that ended before its time.

    Attributes:
        code: why, an error code of RFC 9113 §7.
        retryable: the request was not looked at, and may be sent again (RFC 9113 §8.7).
    """

    def __init__(self, code: int, message: str, *, retryable: bool = False) -> None:
        super().__init__(f"{message}: {error_name(code)}")
        self.code = code
        self.retryable = retryable

    @property
    def wants_http1(self) -> bool:
        """Whether the server takes this request over HTTP/1.1 only (RFC 9113 §7)."""
        return self.code == ErrorCode.HTTP_1_1_REQUIRED

    @property
    def objects(self) -> bool:
        """Whether the code objects to what was sent, rather than to tell of trouble elsewhere."""
        return self.code in _OBJECTIONS


class Carrier(Protocol):
    """What a stream needs of its connection."""

    woken: set[Http2Stream]

    @property
    def local_address(self) -> object: ...
    @property
    def remote_address(self) -> object: ...
    @property
    def ssl_object(self) -> ssl.SSLObject | None: ...
    @property
    def socket_reactor(self) -> Reactor | None: ...
    @property
    def streams(self) -> Mapping[int, Http2Stream]: ...
    @property
    def heard_at(self) -> float: ...
    @property
    def blocked(self) -> bool: ...
    @property
    def send_now(self) -> Callable[[Http2Stream, bytes], bool]: ...
    def send_last(self, stream: Http2Stream, data: bytes) -> None: ...
    def queue(self, stream: Http2Stream) -> None: ...
    def end(self, stream: Http2Stream) -> None: ...
    def drop(self, stream: Http2Stream) -> None: ...
    def give_back(self, stream: Http2Stream, unread: int) -> None: ...
    @property
    def charge(self) -> Callable[[int], None]: ...
    @property
    def refund(self) -> Callable[[int], None]: ...
    def ask(self) -> bool: ...


class Http2Stream(Transport):
    """A stream, from the moment that its headers went or came.

    Args:
        connection: what carries it.
        number: the stream's identifier, an attribute named ``id``.
        send_window: bytes that we may send.
        receive_window: what the peer may send.

    Attributes:
        outgoing: what waits for its turn or for the window.
        waits_for_turn: whether it has a place in the line.
        awaits_answer: whether this is a request of ours that has no answer yet.
        answers: the header blocks that answer it and were not looked at, the last one final; each with whether it ends
            the stream, and None in its place if it was larger than allowed.
        answered: whether a server has answered.
        content_left: bytes that are still to come by the Content-Length of a request, None if it has none.
        opened_at: when the bytes came that opened it, if the peer did.
        local_ended: whether our END_STREAM has gone.
        remote_ended: whether the peer's has come, or the stream was reset.
    """

    __slots__ = (
        "_arrived",
        "_client",
        "_closed",
        "_closers",
        "_connection",
        "_eof",
        "_moved",
        "_notified",
        "_paused",
        "_reactor",
        "_readable",
        "_receiver",
        "_small_data",
        "_told",
        "_unread",
        "answered",
        "answers",
        "awaits_answer",
        "content_left",
        "id",
        "local_ended",
        "opened_at",
        "outgoing",
        "receive_window",
        "remote_ended",
        "send_window",
        "waits_for_turn",
    )

    multiplexed = True

    def __init__(self, connection: Carrier, number: int, *, send_window: int, receive_window: ReceiveWindow) -> None:
        self._connection = connection
        self._client: object = None
        self.error = None
        self.id = number
        self.send_window = send_window
        self.receive_window = receive_window
        self.outgoing = bytearray()
        self.waits_for_turn = False
        self.awaits_answer = False
        self.answers: list[tuple[Fields | None, bool]] = []
        self.answered = False
        self.opened_at = 0.0
        self.content_left: int | None = None
        self.local_ended = False
        self.remote_ended = False
        self._arrived: list[bytes | bytearray] = []  # in a handshake, or while reading is paused
        self._unread = 0  # bytes of these
        self._small_data = 0  # what small frames cost that nobody has read
        self._eof = False
        self._closed = False
        self._receiver: Receiver | None = None
        self._reactor: Reactor | None = None
        self._paused = False
        self._told = False  # the receiver knows of the end
        self._notified = False  # the receiver will be told that there is room
        self._closers = trio.lowlevel.ParkingLot()
        self._readable = trio.lowlevel.ParkingLot()  # a handshake waits for input
        self._moved = trio.lowlevel.ParkingLot()  # a handshake waits for room

    # ---- what the WebSocket does ----

    @property
    def unsent(self) -> int:
        return len(self.outgoing)

    @property
    def congested(self) -> bool:
        return bool(self.outgoing) or self.send_window <= 0 or self._connection.blocked

    @property
    def local_address(self) -> object:
        return self._connection.local_address

    @property
    def remote_address(self) -> object:
        return self._connection.remote_address if self._client is None else self._client

    def set_remote_address(self, address: object) -> None:
        self._client = address  # of this stream: a proxy brings many clients' on one connection

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        return self._connection.ssl_object

    @property
    def socket_reactor(self) -> Reactor | None:
        return self._connection.socket_reactor

    @property
    def has_siblings(self) -> bool:
        return len(self._connection.streams) > 1

    @property
    def heard_at(self) -> float:
        return self._connection.heard_at

    def ask(self) -> bool:
        return self._connection.ask()

    def write(self, data: bytes) -> None:
        if self._closed or self._eof or self.error is not None:
            return
        if not self.outgoing and self._connection.send_now(self, data):
            return
        self.outgoing += data
        self._connection.queue(self)

    def write_last(self, data: bytes) -> None:
        # The end goes in the frame of the last bytes. Without it the reset that follows could overtake them; and there
        # are servers that have forgotten the stream once they have read a Close, and take another DATA frame ill.
        if self._closed or self._eof or self.error is not None or self.outgoing:
            return
        self._eof = True
        self._connection.send_last(self, data)

    def start(self, receiver: Receiver, reactor: Reactor) -> None:
        self._receiver, self._reactor = receiver, reactor
        if self._arrived or self.remote_ended:
            reactor.call_soon(receiver, self._push_held)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        if (self._arrived or self.remote_ended) and self._receiver is not None and self._reactor is not None:
            self._reactor.call_soon(self._receiver, self._push_held)

    def _push_held(self) -> None:
        if self._receiver is not None and not self._paused:
            if data := self._take_arrived(PUSHED_AT_ONCE):
                self._receiver.data_received(data)
            if self._arrived and not self._paused and self._receiver is not None and self._reactor is not None:
                self._reactor.call_soon(self._receiver, self._push_held)
            self._push_end()

    def _push_end(self) -> None:
        """Tell the receiver of the end, if that has come and all before it was pushed."""
        receiver = self._receiver
        if receiver is None or not self.remote_ended:
            return
        if self._arrived:
            receiver.peer_ended()
        elif self.error is not None:  # after END_STREAM too: what waits to be sent is lost
            receiver.connection_lost(self.error)
        elif not self._told:
            self._told = True
            receiver.eof_received()

    def _take_arrived(self, most: float = math.inf) -> bytes:
        count = size = 0
        for piece in self._arrived:
            if count and size + len(piece) > most:
                break
            size += len(piece)
            count += 1
        data = b"".join(self._arrived[:count])
        del self._arrived[:count]
        self._unread -= size
        if not self._arrived:  # what stays still costs
            self._refund()
        return data

    def _refund(self) -> None:
        """Let small frames cost nothing any more: their bytes were read."""
        if self._small_data:
            self._connection.refund(self._small_data)
            self._small_data = 0

    # ---- for handshakes ----

    async def drain(self) -> None:
        if self.outgoing and not self._closed:
            await self._moved.park()
        else:
            await trio.lowlevel.checkpoint()

    async def wait_readable(self) -> None:
        if self._arrived or self.remote_ended or self._closed:
            await trio.lowlevel.checkpoint()
        else:
            await self._readable.park()

    def read(self) -> bytes | None:
        if self._arrived:
            return self._take_arrived()
        return b"" if self.remote_ended or self._closed else None

    # ---- what only a multiplexed transport has ----

    @property
    def wants_give_back(self) -> bool:
        return self.receive_window.available <= self.receive_window.update_at

    def give_back(self, waiting: int = 0) -> int:
        window, unread = self.receive_window, self._unread
        room = window.update_at - window.available - unread
        if waiting <= room and not self.remote_ended and not self._closed:
            self._connection.give_back(self, unread + waiting)
            room = window.update_at - window.available - unread
        return room

    def write_eof(self) -> None:
        if self._eof or self._closed or self.error is not None:
            return
        self._eof = True
        self._end_if_sent()

    def abort(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._receiver = None
        self.outgoing.clear()
        self._connection.drop(self)
        self._arrived.clear()
        self._connection.refund(self._small_data)
        for lot in (self._readable, self._moved, self._closers):
            lot.unpark_all()

    async def wait_closed(self) -> None:
        """Wait, whatever is cancelled, until :meth:`abort`: whoever has the stream always comes to that."""
        with trio.CancelScope(shield=True):
            while not self._closed:
                await self._closers.park()

    # ---- what the connection does ----

    @property
    def both_ended(self) -> bool:
        """Whether neither side can send any more: the stream is "closed" (RFC 9113 §5.1)."""
        return self.local_ended and self.remote_ended

    def take(self, size: int) -> bytes:
        """Give the next bytes to send, which go now."""
        data = bytes(self.outgoing[:size])
        del self.outgoing[:size]
        self._moved.unpark_all()
        if self._receiver is not None and self._reactor is not None and not self._notified:
            # Not now: what the receiver writes must not overtake this.
            self._notified = True
            self._reactor.call_soon(self._receiver, self._notify_of_room)
        self._end_if_sent()
        return data

    def _notify_of_room(self) -> None:
        self._notified = False
        if self._receiver is not None:
            self._receiver.resume_writing()

    def _end_if_sent(self) -> None:
        if self._eof and not self.outgoing and not self.local_ended:
            self._connection.end(self)

    def arrive(self, data: bytes, size: int, small_data: int, *, ended: bool = False) -> None:
        """Take bytes that came.

        Args:
            data: without the padding.
            size: with it.
            small_data: what a small frame costs while it waits.
            ended: whether END_STREAM came with them.

        Raises:
            Http2ConnectionError: small frames that wait cost too much.
        """
        self.remote_ended = ended
        self.receive_window.available -= size
        receiver = self._receiver
        if data and (receiver is None or self._paused or self._arrived):  # held bytes are pushed soon, and go first
            self._hold(data, small_data)
        elif data and receiver is not None:
            try:
                receiver.data_received(data)
            except Exception as error:  # a bug ends this stream, and no other
                receiver.crash(error)
        self._tell()

    def _hold(self, data: bytes, small_data: int) -> None:
        self._small_data += small_data
        self._connection.charge(small_data)
        self._unread += len(data)
        if len(data) < SMALL_DATA and self._arrived:
            self._join_last(data)
        else:
            self._arrived.append(data)

    def _join_last(self, data: bytes) -> None:
        # An object for each byte would make of a window fifty times as much memory.
        last = self._arrived[-1]
        if not isinstance(last, bytearray):
            last = self._arrived[-1] = bytearray(last)
        last += data

    def take_headers(self, fields: Fields | None, *, ended: bool) -> None:
        """Take a header block that answers: an interim one has another after it."""
        self.answers.append((fields, ended))
        if ended or len(self.answers) > MAX_INFORMATIONAL or not is_interim(fields or []):
            self.awaits_answer = False
            self.remote_ended = ended
        self._tell()

    def _tell(self) -> None:
        """Tell a handshake that something has come, or the receiver of the end."""
        if self._receiver is None:  # else no handshake waits, and this would be four calls for each message
            self._readable.unpark_all()
        self._connection.woken.add(self)
        if self.remote_ended:
            self._push_end()

    def finish(self) -> None:
        """Take the peer's END_STREAM."""
        self.remote_ended = True
        self._tell()

    def fail(self, error: Exception) -> None:
        """End both directions: the stream was reset, or its connection is gone; what has come can still be read."""
        if not (self.local_ended and self.remote_ended):
            self.error = error
        self.local_ended = True
        self.remote_ended = True
        self.outgoing.clear()
        self._moved.unpark_all()
        self._tell()

    def was_reset(self, code: int) -> None:
        """Take the peer's RST_STREAM."""
        self.fail(StreamReset(code, "the peer reset the stream", retryable=code == ErrorCode.REFUSED_STREAM))
