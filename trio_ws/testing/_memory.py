"""Streams in memory with a buffer that fills up, as a socket's does."""

from __future__ import annotations

import operator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator


class Pipe:
    """One direction: bytes in order, of which so many may wait."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._data = bytearray()
        self.writer_gone: bool = False
        self._reader_gone = False
        self.changed: trio.lowlevel.ParkingLot = trio.lowlevel.ParkingLot()

    @property
    def room(self) -> int:
        """How many bytes can be taken."""
        return self._size - len(self._data)

    @property
    def readable(self) -> bool:
        """Whether there is something to read, or the end."""
        return bool(self._data) or self.writer_gone

    @property
    def reader_gone(self) -> bool:
        """Whether a writer knows that nobody reads."""
        return self._reader_gone

    def end(self) -> None:
        """Take note that nothing more is written."""
        self.writer_gone = True
        self.changed.unpark_all()

    def leave(self) -> None:
        """Take note that nobody reads any more."""
        self._reader_gone = True
        self.changed.unpark_all()

    def put(self, data: memoryview) -> int:
        """Take what there is room for, and tell how much that was."""
        taken = data[: self.room]
        self._data += taken
        self.changed.unpark_all()
        return len(taken)

    def check(self) -> None:
        """Raise what is wrong with this direction: nothing, here."""

    async def wait(self) -> None:
        """Wait until something may have changed."""
        await self.changed.park()

    def take(self, most: int | None) -> bytes:
        """Give what is here, ``b""`` if nothing is."""
        data = bytes(self._data[:most])
        del self._data[: len(data)]
        self.changed.unpark_all()
        return data


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of what :func:`memory_stream_pair` makes; it keeps every rule of trio's streams.

    Cancelled, ``send_all`` may have sent a part, as on a socket; ``receive_some`` loses nothing.
    """

    def __init__(self, incoming: Pipe, outgoing: Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._closed = False
        self._busy: set[str] = set()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, as fast as the other end takes it."""
        with self._alone("sends"):
            await trio.lowlevel.checkpoint()
            self._check_sending()
            rest = memoryview(data)
            while rest := rest[self._outgoing.put(rest) :]:
                await self._outgoing.wait()
                self._check_sending()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for some byte."""
        with self._alone("sends"):
            await trio.lowlevel.checkpoint()
            self._check_open()
            while self._outgoing.room <= 0 and not self._outgoing.reader_gone:
                await self._outgoing.wait()
                self._check_open()

    async def send_eof(self) -> None:
        """Tell the other end that nothing more will come."""
        with self._alone("sends"):
            await trio.lowlevel.checkpoint()
            self._check_open()
            self._outgoing.end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what is there, at least one byte; ``b""`` at the end."""
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError(f"max_bytes={max_bytes}: it must be at least 1, or None")
        with self._alone("receives"):
            await trio.lowlevel.checkpoint()
            self._check_open()
            self._incoming.check()
            while not self._incoming.readable:
                await self._incoming.wait()
                self._check_open()
                self._incoming.check()
            return self._incoming.take(max_bytes)

    async def aclose(self) -> None:
        """Close both directions; what was sent still arrives."""
        if not self._closed:
            self._closed = True
            self._outgoing.end()
            self._incoming.leave()
        await trio.lowlevel.checkpoint()

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this end of the stream is closed")

    def _check_sending(self) -> None:
        self._check_open()
        if self._outgoing.writer_gone:
            raise trio.ClosedResourceError("send_eof() was called")
        if self._outgoing.reader_gone:
            raise trio.BrokenResourceError("the other end of the stream is closed")
        self._outgoing.check()

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        if what in self._busy:
            raise trio.BusyResourceError(f"another task {what}")
        self._busy.add(what)
        try:
            yield
        finally:
            self._busy.discard(what)


def memory_stream_pair(buffer: int = 2**16) -> tuple[MemoryStream, MemoryStream]:
    """Make the two ends of a connection in memory.

    Unlike those of ``trio.testing.memory_stream_pair``, they make a sender wait when the other end does not receive.

    Args:
        buffer: bytes on their way in one direction, at most; at least 1.

    Raises:
        ValueError: buffer is below 1.
    """
    if buffer < 1:
        raise ValueError(f"buffer={buffer}: it must be at least 1 byte")
    one_way, other_way = Pipe(buffer), Pipe(buffer)
    return MemoryStream(one_way, other_way), MemoryStream(other_way, one_way)
