"""What waits for the network on one connection: frames, one pong, one Close, and the senders that wait for room.

Rules:

1. A frame goes to the transport at once when nothing waits before it. What does not go at once waits here, whole,
   until the transport has sent what it holds and calls :meth:`Outbox.resume_writing`.
2. One pong waits, the newest (RFC 6455 §5.5.3); it goes before the frames that wait. The Close goes after them, and
   nothing goes after it.
3. Senders wait in line: one that goes on lets the next one look. One whose message goes in pieces *holds* the line
   until it is finished, and waits for space beside it, as pings do, which may go between the pieces.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import trio

from .._util.waiters import Waiters
from .._wire.frames import LargeFrame, masked_pieces

if TYPE_CHECKING:
    from .._transport import Transport

BATCH_SIZE = 2**16  # bytes of frames that go in one write

_NO_FRAMES: deque[bytes | LargeFrame] = deque(maxlen=0)  # shared: a deque takes 760 bytes even when it is empty


class Outbox:
    """The way out of one connection.

    Args:
        transport: takes the bytes.
        limit: bytes that may wait before senders have to; None: no limit.

    Attributes:
        waiting_since: when what waits began to, or some of it last went.
    """

    __slots__ = (
        "_close",
        "_flushing",
        "_frames",
        "_let_in",
        "_limit",
        "_pong",
        "_released",
        "_senders",
        "_size",
        "_space",
        "_transport",
        "_unacknowledged",
        "bytes_sent",
        "calm",
        "held",
        "waiting_since",
    )

    def __init__(self, transport: Transport, limit: int | None) -> None:
        self._transport = transport
        self._limit = math.inf if limit is None else limit
        self._frames = _NO_FRAMES  # it has its own while something waits
        self._size = 0
        self._pong = b""
        self._close = b""
        self._flushing = False  # something waits, here or in the transport
        self._senders = Waiters()
        self._let_in = False  # one has left the line and not run yet, or holds it: nobody may go before it
        self._space = Waiters()
        self._released = False  # nobody is woken any more
        self.held: bool = False  # a message is going in pieces
        self.calm: bool = True  # nothing waits here, and nobody: a sender need not look further
        self._unacknowledged: float = -math.inf  # when that was last looked at
        self.waiting_since: float = -math.inf
        self.bytes_sent: int = 0

    @property
    def buffered(self) -> int:
        """Bytes that wait for the network."""
        return self._size + len(self._pong) + len(self._close) + self._transport.unsent

    @property
    def has_room(self) -> bool:
        """Whether a sender may write now: there is room, and nobody waits for it."""
        return not self._senders and not self._let_in and (not self._flushing or self.buffered < self._limit)

    async def wait_for_room(self) -> None:
        """Wait in line until it is this sender's turn, or the connection is not open any more."""
        if not self._released:
            self.calm = False
            await self._senders.park()
            self._let_in = False

    def let_next_in(self) -> None:
        """Let the sender that has waited longest go if there is room: one at a time, or two would take the same."""
        if not self._senders:
            self.calm = not self._flushing and not self._let_in
        elif not self._let_in and self.buffered < self._limit:
            self._let_in = True
            self._senders.unpark()

    def hold(self, *, in_pieces: bool = True) -> None:
        """Keep everyone in line. Only who may write now may call this.

        Args:
            in_pieces: a message begins that goes in pieces; False: one is being made that will go in one.
        """
        self.held, self._let_in = in_pieces, True
        self.calm = False

    def let_go(self) -> None:
        """Let the line go on."""
        self.held = self._let_in = False
        self.let_next_in()

    @property
    def has_space(self) -> bool:
        """Whether what is not in line may be written now."""
        return not self._flushing or self.buffered < self._limit

    async def wait_for_space(self) -> None:
        """Wait, beside the line, until there may be space, or the connection is not open any more."""
        if not self._released:
            await self._space.park()

    def release(self) -> None:
        """Let everyone go who waits, and who comes later: the connection is not open any more."""
        self._released = True
        self._senders.unpark_all()
        self._space.unpark_all()

    def look_at_progress(self) -> bool:
        """Tell whether the peer's system has acknowledged some of what waits since the last call.

        The system tells that there is room only when there is much, which can take a slow peer long.
        """
        before, self._unacknowledged = self._unacknowledged, self._transport.unacknowledged
        if self._unacknowledged >= before:
            return False
        self.waiting_since = trio.current_time()
        return True

    def write(self, frame: bytes) -> None:
        """Send a frame."""
        if self._flushing:
            self._frames.append(frame)
            self._size += len(frame)
        else:
            # As _send(), which it does not call: this is the hot path.
            self.bytes_sent += len(frame)
            self._transport.write(frame)
            if self._transport.unsent:
                self._wait_for_transport()

    def write_large(self, frame: bytes | LargeFrame) -> None:
        """Send a frame, also one that is not to be copied."""
        if self._flushing:
            self._frames.append(frame)
            self._size += len(frame)
        else:
            self._send(frame)

    def write_pong(self, frame: bytes) -> bool:
        """Send a Pong; tell whether it took the place of one that still waited."""
        replaces = bool(self._pong)
        if self.buffered:
            self._pong = frame
            self._wait_for_transport()
        else:
            self._send(frame)
        return replaces

    def write_close(self, frame: bytes) -> None:
        """Send the Close, after all else."""
        if self.buffered:
            self._close = frame
            self._wait_for_transport()
        else:
            self._send(frame)

    def flush_now(self, frame: bytes) -> None:
        """Hand over what waits, and one last frame, if the transport has a use for them: the transport ends now."""
        while not self._transport.congested and (data := self._next()):
            self._send(data)
        if frame:
            self.bytes_sent += len(frame)
            self._transport.write_last(frame)

    def _send(self, data: bytes | LargeFrame) -> None:
        self.bytes_sent += len(data)
        if not isinstance(data, LargeFrame):
            self._transport.write(data)
        elif data.mask is None:
            self._transport.write_large(data.head, data.payload)
        else:
            for piece in masked_pieces(data.head, data.payload, data.mask):
                self._transport.write(piece)
        if self._transport.unsent:
            self._wait_for_transport()

    def _wait_for_transport(self) -> None:
        if not self._flushing:
            self._flushing = True
            self.waiting_since = trio.current_time()
            self._unacknowledged = -math.inf
            self._frames = deque()
            self.calm = False

    def resume_writing(self) -> None:
        """Send what waits, as far as it goes: the transport has sent some of what it held."""
        if not self._flushing:
            return
        self.waiting_since = trio.current_time()
        self._unacknowledged = -math.inf  # or the next look would take this for progress made since
        while not self._transport.unsent and (data := self._next()):
            self._send(data)
        if not self._transport.unsent:
            self._flushing = False
            self._frames = _NO_FRAMES
        self.let_next_in()
        if self.has_space:
            self._space.unpark_all()

    def _next(self) -> bytes | LargeFrame:
        """Take what goes next: the pong, then frames, many small ones as one, then the Close."""
        data: bytes | LargeFrame
        if self._pong:
            data, self._pong = self._pong, b""
        elif self._frames:
            data = self._frames.popleft()
            if self._frames and not isinstance(data, LargeFrame) and len(data) < BATCH_SIZE:
                data = self._join(data)
            self._size -= len(data)
        else:
            data, self._close = self._close, b""
        return data

    def _join(self, first: bytes) -> bytes:
        frames, size = [first], len(first)
        while self._frames and not isinstance(frame := self._frames[0], LargeFrame) and size + len(frame) <= BATCH_SIZE:
            frames.append(frame)
            size += len(frame)
            self._frames.popleft()
        return b"".join(frames)
