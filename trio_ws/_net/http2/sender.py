"""The way out of an HTTP/2 connection: what may go now, and in whose turn.

Rules:

1. What a stream may send is the least of its window, the connection's, and a frame (RFC 9113 §5.2, §6.9). Windows are
   the peer's to give, can be negative, and are kept here.
2. Streams that have something to send take turns of one frame, and only while the transport below holds less than a
   batch: so what a sibling writes waits behind one batch and one frame of each, however much a stream has to send.
3. Control frames go before DATA, and what a step of reading made goes in one write. They wait for the batch below as
   DATA does, and how many may wait is limited: a peer that does not read can still ask for more.
4. While it is ``holding``, what would go at once is kept for the next flush, up to a record of TLS.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from .frame_reader import DATA, MAX_FRAME_SIZE, ErrorCode, Http2ConnectionError, allowed, pack_header
from .receive_window import MAX_WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._options import Limits
    from ..._transport import Transport
    from .frame_reader import FrameReader
    from .stream import Http2Stream

BATCH_SIZE = 2**16
DEFAULT_WINDOW = 2**16 - 1

_UPDATES_PER_FRAME = 20.0  # WINDOW_UPDATE frames that a DATA frame of ours may bring


class Sender:
    """What a connection sends.

    Args:
        below: takes the bytes.
        frame_reader: is told what our DATA allows the peer to send.
        limits: what a peer may cost us.
        clock: tells the time.

    Attributes:
        window: bytes that we may send on the connection.
        holding: whether what is written waits for the next :meth:`flush`, to go with more.
        congested: whether the transport below may not have taken all.
    """

    __slots__ = (
        "_below",
        "_blocked_since",
        "_clock",
        "_control",
        "_flushing",
        "_frame_reader",
        "_held",
        "_held_size",
        "_limits",
        "_stalled",
        "_turns",
        "congested",
        "holding",
        "window",
    )

    def __init__(
        self,
        below: Transport,
        frame_reader: FrameReader,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self._below = below
        self._frame_reader = frame_reader
        self._limits = limits
        self._clock = clock
        self._control: list[bytes] = []
        self._flushing = False
        self._turns: deque[Http2Stream] = deque()
        self._held: list[bytes] = []  # DATA
        self._held_size = 0
        self.holding = False
        self.congested = False
        self.window = DEFAULT_WINDOW
        self._stalled: dict[Http2Stream, float] = {}  # streams whose own window is empty, and since when
        self._blocked_since = math.inf  # streams wait for the connection's window

    @property
    def blocked(self) -> bool:
        """Whether what a stream writes now would wait."""
        return self.window <= 0 or self._below.unsent >= BATCH_SIZE

    def control(self, frame: bytes) -> None:
        """Send a control frame with the next :meth:`flush`."""
        if frame:
            self._control.append(frame)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to flush."""
        return not (self._control or self._turns or self._held)

    def send_now(self, stream: Http2Stream, data: bytes, flags: int = 0) -> bool:
        """Send the whole of a write at once, if nothing is before it and the windows allow it; tell whether it went.

        Args:
            stream: whose it is.
            data: at most a batch.
            flags: of the last frame: END_STREAM.
        """
        size = len(data)
        if self._turns or self._control or size > stream.send_window or size > self.window or size > BATCH_SIZE:
            return False
        if self.congested and self._below.unsent >= BATCH_SIZE:
            return False
        if size <= MAX_FRAME_SIZE:
            wire = self._frame(stream, data, flags)
        else:
            view = memoryview(data)
            last = (size - 1) // MAX_FRAME_SIZE * MAX_FRAME_SIZE
            frames = [self._frame(stream, view[at : at + MAX_FRAME_SIZE]) for at in range(0, last, MAX_FRAME_SIZE)]
            wire = b"".join([*frames, self._frame(stream, view[last:], flags)])
        if self.holding:
            self._hold(wire)
            return True
        self._below.write(wire)  # as _write(): this is the hot path
        if self._below.unsent:
            self.congested = True
        return True

    def _hold(self, wire: bytes) -> None:
        self._held.append(wire)
        self._held_size += len(wire)
        if self._held_size >= MAX_FRAME_SIZE:  # as much as a record of TLS takes
            self._flush_held()

    def _write(self, data: bytes) -> None:
        self._below.write(data)
        if self._below.unsent:
            self.congested = True

    def queue(self, stream: Http2Stream) -> None:
        """Give a stream its turn, if it has none and can send."""
        if stream.waits_for_turn or not stream.outgoing:
            return
        if stream.send_window <= 0:
            self._stalled.setdefault(stream, self._clock())
            return
        self._stalled.pop(stream, None)
        stream.waits_for_turn = True
        self._turns.append(stream)

    def forget(self, stream: Http2Stream) -> None:
        """Forget a stream that has ended."""
        self._stalled.pop(stream, None)
        if stream.waits_for_turn:
            stream.waits_for_turn = False
            self._turns.remove(stream)
            if not self._turns:
                self._blocked_since = math.inf

    def open_window(self, increment: int) -> None:
        """Take a WINDOW_UPDATE for the connection."""
        self.window += increment
        if self.window > MAX_WINDOW:  # RFC 9113 §6.9.1
            raise Http2ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")
        self._blocked_since = math.inf

    @property
    def stalled_since(self) -> float:
        """Since when a stream that has something to send, or all of them, has had no window; infinity: none does."""
        return min(next(iter(self._stalled.values()), math.inf), self._blocked_since)

    def longest_stalled(self) -> Http2Stream:
        """Give the stream that has had no window for longest; there is one."""
        since = next(iter(self._stalled.values()), math.inf)
        return next(iter(self._stalled)) if since <= self._blocked_since else self._turns[0]

    def flush(self) -> None:
        """Send what may go now.

        Raises:
            Http2ConnectionError: too many control frames wait for a peer that does not read.
        """
        if self._flushing:  # a stream that has sent all ends itself, and that waits for its DATA
            return
        self._flushing = True
        try:
            if self._held:
                self._flush_held()
            self._flush_control()
            while self._turns and self._below.unsent < BATCH_SIZE:
                frames = self._take_turns(BATCH_SIZE - self._below.unsent)
                if not frames:
                    break
                self._write(b"".join(frames))
                self._flush_control()
        finally:
            self._flushing = False

    def _flush_held(self) -> None:
        frames, self._held, self._held_size = self._held, [], 0
        self._write(b"".join(frames))

    def _flush_control(self) -> None:
        if self._control and self._below.unsent < BATCH_SIZE:
            frames, self._control = self._control, []
            self._write(frames[0] if len(frames) == 1 else b"".join(frames))
        elif len(self._control) > allowed(self._limits.h2_queued_control):
            text = "too many control frames wait for a peer that does not read"
            raise Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, text, "h2_queued_control")

    def _take_turns(self, room: int) -> list[bytes]:
        frames: list[bytes] = []
        while room > 0 and self._turns:
            if self.window <= 0:
                self._blocked_since = min(self._blocked_since, self._clock())
                break
            stream = self._turns.popleft()
            stream.waits_for_turn = False
            size = min(len(stream.outgoing), stream.send_window, self.window, MAX_FRAME_SIZE)
            if size > 0:
                frames.append(self._frame(stream, stream.take(size)))
                room -= size
            self.queue(stream)
        return frames

    def _frame(self, stream: Http2Stream, data: bytes | memoryview, flags: int = 0) -> bytes:
        size = len(data)
        stream.send_window -= size
        self.window -= size
        frame_reader = self._frame_reader
        frame_reader.counts.data_frames_sent += 1
        frame_reader.window_updates += _UPDATES_PER_FRAME
        return pack_header(0, size, DATA, flags, stream.id) + data
