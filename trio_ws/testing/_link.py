"""A link between two ends in memory: slow, narrow, or lost, by trio's clock."""

from __future__ import annotations

import math
import socket
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from .._net.socket_transport import NO_LINGER
from .._wire.observed import FrameScanner
from ._memory import MemoryStream, Pipe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SEGMENT = 1460  # bytes: what arrives at a time, as in Ethernet's frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A simulated link, for ``memory_websocket_pair``, ``open_test_server`` and :func:`link_stream_pair`.

    Nothing of it is random, and all of it goes by trio's clock: with pytest-trio's ``autojump_clock`` an hour of a slow
    link takes no time, and each run is the same.

    Attributes:
        latency: seconds that a byte is on its way, in either direction.
        bandwidth: bytes a second, in each direction; None: no limit.
        breaks_after: bytes that arrive, of both directions together; then the connection breaks at both ends. None: it
            does not.
        breaks_after_frames: WebSocket frames that arrive, of both directions together; then it breaks, too. Only over
            HTTP/1.1 without TLS, where frames can be seen.
        loses_after: bytes that arrive, of both directions together; then all bytes are lost, and neither end is told,
            as when a cable is pulled. None: none are.
        buffer: bytes on their way or waiting in each direction, at most; a sender waits for room.

    Raises:
        ValueError: a number is below its least value or no number, or frames are to be counted where they cannot be
            seen.
    """

    latency: float = 0.0
    bandwidth: float | None = None
    breaks_after: int | None = None
    breaks_after_frames: int | None = None
    loses_after: int | None = None
    buffer: int = 2**18

    def __post_init__(self) -> None:
        if not 0 <= self.latency < math.inf:
            raise ValueError(f"latency={self.latency!r}: it must be a number of seconds from 0 on")
        if self.bandwidth is not None and not self.bandwidth > 0:
            raise ValueError(f"bandwidth={self.bandwidth!r}: it must be above 0 bytes a second, or None")
        for name, what, least in (
            ("breaks_after", "bytes", 0),
            ("breaks_after_frames", "frames", 1),
            ("loses_after", "bytes", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}={value!r}: it must be a number of {what} from {least} on, or None")
        if self.buffer < 1:
            raise ValueError(f"buffer={self.buffer!r}: it must be at least 1 byte")

    def check_frames_seen(self, seen: bool) -> None:
        """Check that frames can be counted if they are to be."""
        if self.breaks_after_frames is not None and not seen:
            text = "only over HTTP/1.1 without TLS can a link count frames"
            raise ValueError(f"breaks_after_frames={self.breaks_after_frames}: {text}")


class _FrameEnds:
    """Finds where frames end in the bytes of one direction, behind the head of the opening handshake."""

    def __init__(self) -> None:
        self._head = b""  # its last bytes
        self._in_head = True
        self._scanner = FrameScanner()
        self._rest = 0  # bytes of a frame whose start was seen

    def find(self, data: memoryview) -> Iterator[int]:
        """Give each offset in these bytes behind which the next frame would begin."""
        at = 0
        while at < len(data):
            if self._rest:
                step = min(self._rest, len(data) - at)
                self._rest -= step
                at += step
            else:
                byte = bytes(data[at : at + 1])
                at += 1
                if not self._starts_frame(byte):
                    continue
            if not self._rest:
                yield at

    def _starts_frame(self, byte: bytes) -> bool:
        """Take the next byte of the head, or of a frame's start; tell whether that start is whole now."""
        if self._in_head:
            self._head = (self._head + byte)[-4:]
            self._in_head = self._head != b"\r\n\r\n"
            return False
        for frame in self._scanner.scan(byte):
            self._rest = frame.length - len(frame.first_bytes)
            self._scanner = FrameScanner()
            return True
        return False


class _LinkState:
    """What both directions share: how much may still pass."""

    def __init__(self, link: Link) -> None:
        self.until_broken = math.inf if link.breaks_after is None else link.breaks_after
        self.until_lost = math.inf if link.loses_after is None else link.loses_after
        self.frames_left = link.breaks_after_frames
        self.pipes: tuple[_LinkPipe, ...] = ()

    @property
    def broken(self) -> bool:
        return self.until_broken <= 0

    @property
    def lost(self) -> bool:
        return self.until_lost <= 0

    def pass_through(self, data: memoryview, frames: _FrameEnds) -> int:
        """Take note of bytes that are sent; return how many of them arrive."""
        size = len(data)
        if self.frames_left is not None:
            for end in frames.find(data):
                self.frames_left -= 1
                if self.frames_left == 0:
                    self.until_broken = min(self.until_broken, end)
        arrives = int(min(size, self.until_broken, self.until_lost))
        self.until_broken -= min(size, self.until_broken)
        self.until_lost -= min(size, self.until_lost)
        return arrives


class _LinkPipe(Pipe):
    """One direction of a link."""

    def __init__(self, link: Link, state: _LinkState) -> None:
        super().__init__(link.buffer)
        self._link = link
        self._state = state
        self._frames = _FrameEnds()
        self._on_way: deque[tuple[float, bytes]] = deque()  # each with when it arrives
        self._held = 0  # bytes of these
        self._free_at = -math.inf  # when the next byte can be sent
        self._ends_at = math.inf  # when the end arrives

    @property
    def room(self) -> int:
        return super().room - self._held

    @property
    def readable(self) -> bool:
        self._arrive()
        return bool(self._data) or trio.current_time() >= self._ends_at

    @property
    def reader_gone(self) -> bool:
        return super().reader_gone and not self._state.lost

    def end(self) -> None:
        if not (self.writer_gone or self._state.lost):
            self._ends_at = max(self._free_at, trio.current_time()) + self._link.latency
        super().end()

    def put(self, data: memoryview) -> int:
        taken = data[: max(0, self.room)]
        arrives = self._state.pass_through(taken, self._frames)
        self._held += len(taken) - arrives  # what is lost is never acknowledged, so its room is not free again
        for segment in _segments(taken[:arrives]):
            begins_at = max(self._free_at, trio.current_time())
            self._free_at = begins_at + (len(segment) / self._link.bandwidth if self._link.bandwidth else 0.0)
            self._on_way.append((self._free_at + self._link.latency, segment))
            self._held += len(segment)
        for pipe in self._state.pipes:  # both may have to learn that the link is broken
            pipe.changed.unpark_all()
        return len(taken)

    def take(self, most: int | None) -> bytes:
        self._arrive()
        return super().take(most)

    def check(self) -> None:
        self._arrive()
        if self._state.broken and not self._data and not self._on_way:
            raise trio.BrokenResourceError("the simulated link broke")

    async def wait(self) -> None:
        self._arrive()
        with trio.move_on_at(self._on_way[0][0] if self._on_way else self._ends_at):
            await super().wait()

    def _arrive(self) -> None:
        now = trio.current_time()
        while self._on_way and self._on_way[0][0] <= now:
            segment = self._on_way.popleft()[1]
            self._held -= len(segment)
            self._data += segment


def _segments(data: memoryview) -> Iterable[bytes]:
    return (bytes(data[start : start + SEGMENT]) for start in range(0, len(data), SEGMENT))


def link_stream_pair(link: Link) -> tuple[MemoryStream, MemoryStream]:
    """Make the two ends of a connection in memory over a simulated link.

    A sender waits while ``link.buffer`` bytes are on their way or wait for the other end.
    """
    state = _LinkState(link)
    one_way, other_way = state.pipes = _LinkPipe(link, state), _LinkPipe(link, state)
    return MemoryStream(one_way, other_way), MemoryStream(other_way, one_way)


async def serve_over_link(
    link: Link, host: str, port: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Take connections on a port, and carry each to another port of this host over a link of its own.

    Started, it tells its port.
    """
    listeners = await trio.open_tcp_listeners(0, host=host)
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, partial(_carry, link, host, port), listeners)
        task_status.started(listeners[0].socket.getsockname()[1])


async def _carry(link: Link, host: str, port: int, client: trio.SocketStream) -> None:
    server = await trio.open_tcp_stream(host, port)
    near, far = link_stream_pair(link)
    async with client, server:
        try:
            async with trio.open_nursery() as nursery:
                for source, sink in ((client, near), (near, client), (server, far), (far, server)):
                    nursery.start_soon(_pump, source, sink)
        except* (trio.BrokenResourceError, trio.ClosedResourceError):  # an end, or the link: then both ends learn
            for stream in (client, server):
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)


async def _pump(source: trio.abc.ReceiveStream, sink: trio.abc.HalfCloseableStream) -> None:
    while data := await source.receive_some(SEGMENT):
        await sink.send_all(data)
    await sink.send_eof()
