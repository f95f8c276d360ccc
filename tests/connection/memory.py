"""A transport in memory whose every condition a test can set: room, ends, errors."""

from __future__ import annotations

import trio

from trio_ws._reactor import Reactor
from trio_ws._transport import Receiver, Transport


class MemoryTransport(Transport):
    """One end of a pair; what it writes is at once in the other end's hands, as far as there is room."""

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
        self.receiver: Receiver | None = None
        self.reactor: Reactor | None = None
        self.paused = False
        self._told = False
        self._kept = bytearray()

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
        self._come()

    def end(self) -> None:
        """Have the peer's end come."""
        self.ended = True
        self._come()

    def make_room(self, size: float) -> None:
        """Take up to so many bytes more."""
        self.room += size
        waiting = len(self._kept)
        self._push()
        if len(self._kept) < waiting:
            self._tell_of_room()

    def break_down(self, error: Exception) -> None:
        """Lose the connection."""
        self.error = error
        self._kept.clear()
        self.end()
        self._tell_of_room()

    # ---- pushing ----

    def start(self, receiver: Receiver, reactor: Reactor) -> None:
        self.receiver, self.reactor = receiver, reactor
        if self.arrived or self.ended:
            self._come()

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        self._come()

    def poll(self) -> None:
        if self.arrived:
            self._deliver()

    def _come(self) -> None:
        if self.receiver is not None and self.reactor is not None:
            self.reactor.call_soon(self.receiver, self._deliver)

    def _deliver(self) -> None:
        """Push one read's worth, and the end behind the last."""
        if self.receiver is None or self._told:
            return
        if self.paused:
            if self.ended:
                self.receiver.peer_ended()
        elif self.arrived:
            data = self.read()
            assert data
            self._come()
            self.receiver.data_received(data)
        elif self.ended:
            self._told = True
            if self.error is not None:
                self.receiver.connection_lost(self.error)
            else:
                self.receiver.eof_received()

    def _tell_of_room(self) -> None:
        if self.receiver is not None and self.reactor is not None:
            self.reactor.call_soon(self.receiver, self.receiver.resume_writing)

    # ---- for handshakes ----

    async def drain(self) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_readable(self) -> None:
        await trio.lowlevel.checkpoint()

    def read(self) -> bytes | None:
        if self.closed:
            return b""
        if self.arrived:
            data = bytes(self.arrived[: self.read_size])
            del self.arrived[: self.read_size]
            return data
        return b"" if self.ended else None

    def write_eof(self) -> None:
        assert not self._kept, "what is unsent must have gone before"
        self.eof_written = True
        self.peer.end()

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            self._kept.clear()
            self.receiver = None
            self.peer.end()


def transport_pair() -> tuple[MemoryTransport, MemoryTransport]:
    """Make both ends."""
    one, two = MemoryTransport(), MemoryTransport()
    one.peer, two.peer = two, one
    return one, two
