"""A transport in memory whose every condition a test can set: room, ends, errors."""

from __future__ import annotations

import trio

from trio_ws._transport import Transport


class MemoryTransport(Transport):
    """One end of a pair; what it writes is at once in the other end's hands, as far as there is room."""

    handover = True

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.peer = self
        self.room: float = float("inf")  # bytes that still go without waiting
        self.arrived = bytearray()
        self.written = bytearray()  # all that has gone
        self.ended = False  # the peer wrote its end
        self.closed = False
        self.eof_written = False
        self.read_size = 65536
        self._kept = bytearray()
        self._readable = trio.lowlevel.ParkingLot()
        self._writable = trio.lowlevel.ParkingLot()

    @property
    def unsent(self) -> int:
        return len(self._kept)

    @property
    def local_address(self) -> object:
        return ("127.0.0.1", 1)

    @property
    def remote_address(self) -> object:
        return ("127.0.0.1", 2)

    def write(self, data: bytes) -> None:
        if not self.closed and self.error is None:
            self._kept += data
            self._push()

    def _push(self) -> None:
        size = int(min(len(self._kept), self.room))
        data = bytes(self._kept[:size])
        del self._kept[:size]
        self.room -= size
        self.written += data
        self.peer.arrive(data)

    def arrive(self, data: bytes) -> None:
        """Have bytes come from the peer."""
        self.arrived += data
        self._readable.unpark_all()

    def end(self) -> None:
        """Have the peer's end come."""
        self.ended = True
        self._readable.unpark_all()

    def make_room(self, size: float) -> None:
        """Take up to so many bytes more."""
        self.room += size
        self._push()
        self._writable.unpark_all()

    def break_down(self, error: Exception) -> None:
        """Lose the connection."""
        self.error = error
        self._kept.clear()
        self.end()
        self._writable.unpark_all()

    async def drain(self) -> None:
        if self._kept and not self.room and not self.closed:
            await _park_alone(self._writable)
        else:
            await trio.lowlevel.checkpoint()

    async def wait_readable(self) -> None:
        if self.arrived or self.ended or self.closed:
            await trio.lowlevel.checkpoint()
        else:
            await _park_alone(self._readable)

    def read(self) -> bytes | None:
        if self.closed:
            return b""
        if self.arrived:
            data = bytes(self.arrived[: self.read_size])
            del self.arrived[: self.read_size]
            return data
        return b"" if self.ended else None

    def wake(self) -> None:
        self._readable.unpark_all()
        self._writable.unpark_all()

    def write_eof(self) -> None:
        assert not self._kept, "what is unsent must have gone before"
        self.eof_written = True
        self.peer.end()

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self._kept.clear()
            self.wake()
            self.peer.end()


async def _park_alone(lot: trio.lowlevel.ParkingLot) -> None:
    if lot:
        raise trio.BusyResourceError("another task waits here")  # as a socket does
    await lot.park()


def transport_pair() -> tuple[MemoryTransport, MemoryTransport]:
    """Make both ends."""
    one, two = MemoryTransport(), MemoryTransport()
    one.peer, two.peer = two, one
    return one, two
