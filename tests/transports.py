"""A transport in memory, for the tests of what stands on one: two ends, joined back to back, that a test can hurt.

It keeps the rules of :class:`trio_ws._transport.Transport` as a socket does: what the other end has not read fills a
buffer of ``capacity`` bytes, and what does not fit is unsent until :meth:`MemoryTransport.drain` finds room. Two tasks
that wait in one place are refused, as a socket refuses them.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from trio_ws import Keepalive, Limits
from trio_ws._connection import Connection
from trio_ws._transport import Transport
from trio_ws._wire.deflate import PerMessageDeflate
from trio_ws._wire.frames import Opcode, frame_bytes
from trio_ws._wire.protocol import WebSocketProtocol

Frame = tuple[Opcode, bytes]

TEXT, BINARY, CLOSE, PING, PONG = Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE, Opcode.PING, Opcode.PONG


class MemoryTransport(Transport):
    """One end of a pair.

    Attributes:
        capacity: bytes on their way to the other end that it may leave unread; set it with :meth:`widen`.
        read_size: bytes that one :meth:`read` gives at most.
        writes: what each ``write`` was given.
        sent: what has gone to the other end, in order.
        reads: number of calls of ``read``.
        wakes: number of calls of ``wake``.
        eof_sent: whether ``write_eof`` was called.
        aborted: whether ``abort`` was called.
        address: what both addresses are made of.
    """

    def __init__(self, address: str = "near") -> None:
        self.error = None
        self.handover_delay = 0.0
        self.capacity: float = math.inf
        self.read_size = 2**16
        self.writes: list[bytes] = []
        self.sent = b""
        self.reads = 0
        self.wakes = 0
        self.eof_sent = False
        self.aborted = False
        self.address = address
        self.other = self
        self._arrived = b""
        self._unsent = b""
        self._ended = False  # nothing more comes
        self._readable = trio.lowlevel.ParkingLot()
        self._writable = trio.lowlevel.ParkingLot()

    @property
    def unsent(self) -> int:
        return len(self._unsent)

    @property
    def local_address(self) -> object:
        return (self.address, 1)

    @property
    def remote_address(self) -> object:
        return (self.other.address, 1)

    @property
    def _dead(self) -> bool:
        return self.aborted or self.error is not None

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        if not self._dead:
            self._unsent += data
            self.push()

    def push(self) -> None:
        """Have what fits go to the other end, also when nobody waits in :meth:`drain`."""
        room = self.capacity - len(self.other._arrived)
        if room > 0:
            size = int(min(room, len(self._unsent)))
            data, self._unsent = self._unsent[:size], self._unsent[size:]
            self.sent += data
            self.other.arrive(data)

    async def drain(self) -> None:
        if self._dead or not self._unsent or len(self.other._arrived) < self.capacity:
            await trio.lowlevel.checkpoint()
        else:
            await _park_alone(self._writable)
        if not self._dead:
            self.push()

    async def wait_readable(self) -> None:
        if self._arrived or self._ended or self._dead:
            await trio.lowlevel.checkpoint()
        else:
            await _park_alone(self._readable)

    def read(self) -> bytes | None:
        self.reads += 1
        if self._dead:
            return b""
        data, self._arrived = self._arrived[: self.read_size], self._arrived[self.read_size :]
        if data:
            self.other._writable.unpark_all()
            return data
        return b"" if self._ended else None

    def wake(self) -> None:
        self.wakes += 1
        self._readable.unpark_all()
        self._writable.unpark_all()

    def write_eof(self) -> None:
        assert not self._unsent, "what is unsent must have gone before"
        self.eof_sent = True
        self.other.end()

    def abort(self) -> None:
        self.aborted = True
        self._unsent = b""
        self.other.end()
        self._readable.unpark_all()
        self._writable.unpark_all()

    # ---- what a test does to it ----

    def widen(self, capacity: float) -> None:
        """Set the capacity; whoever waits for room looks again."""
        self.capacity = capacity
        self._writable.unpark_all()

    def arrive(self, data: bytes) -> None:
        """Have bytes arrive here."""
        if data and not self._ended:
            self._arrived += data
            self._readable.unpark_all()

    def end(self) -> None:
        """Have the input end here, after what has arrived."""
        self._ended = True
        self._readable.unpark_all()

    def fail(self, error: Exception) -> None:
        """Break this end."""
        self.error = error
        self._unsent = b""
        self._readable.unpark_all()
        self._writable.unpark_all()


async def _park_alone(lot: trio.lowlevel.ParkingLot) -> None:
    if lot:
        raise trio.BusyResourceError("another task waits here")
    await lot.park()


def transport_pair() -> tuple[MemoryTransport, MemoryTransport]:
    """Make the two ends."""
    near, far = MemoryTransport("near"), MemoryTransport("far")
    near.other, far.other = far, near
    return near, far


def read_frames(data: bytes) -> list[Frame]:
    """Read what one side wrote, masked or not, whole frames only: opcode and payload of each."""
    found = []
    while data:
        length, start = data[1] & 0x7F, 2
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(data[2:start])
        mask = bytes(4)
        if data[1] & 0x80:
            mask, start = data[start : start + 4], start + 4
        payload = data[start : start + length]
        assert len(payload) == length, "the last frame is torn"
        assert data[0] & 0x80, "a fragment"
        found.append((Opcode(data[0] & 0xF), bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))))
        data = data[start + length :]
    return found


def close_payload(code: int, reason: str = "") -> bytes:
    """Write the body of a Close frame."""
    return code.to_bytes(2, "big") + reason.encode()


@dataclass(kw_only=True)
class Link:
    """A connection under test, and the far end of its transport, which the test is.

    Attributes:
        connection: the connection.
        near: its transport.
        far: the transport of its peer.
        nursery: where the tasks of the connection run.
        told: what the connection told its watcher.
    """

    connection: Connection
    near: MemoryTransport
    far: MemoryTransport
    nursery: trio.Nursery
    told: list[tuple[str, object]]

    def frame(self, opcode: Opcode, payload: bytes | str = b"") -> bytes:
        """Write a frame as the peer does."""
        data = payload.encode() if isinstance(payload, str) else payload
        return frame_bytes(opcode, data, masked=not self.connection.is_client)

    def say(self, opcode: Opcode, payload: bytes | str = b"") -> None:
        """Send a frame as the peer does."""
        self.far.write(self.frame(opcode, payload))

    def say_close(self, code: int, reason: str = "") -> None:
        """Send a Close with a code, as the peer does."""
        self.say(CLOSE, close_payload(code, reason))

    def heard(self) -> list[Frame]:
        """Take what the connection has sent since the last call."""
        data = b""
        while piece := self.far.read():
            data += piece
        return read_frames(data)


@asynccontextmanager
async def linked(
    *,
    is_client: bool = False,
    rest: bytes = b"",
    deflate: PerMessageDeflate | None = None,
    limits: Mapping[str, int | float | None] | None = None,
    keepalive: Keepalive | None = None,
    close_timeout: float = 10.0,
    handover_delay: float = 0.0,
    shield: bool = False,
    attended: bool = True,
) -> AsyncIterator[Link]:
    """Run a connection on a transport in memory for as long as the block lasts.

    Args:
        limits: the values of :class:`Limits` that are not the default.
        attended: start its attendant; the test does otherwise.
    """
    near, far = transport_pair()
    near.handover_delay = handover_delay
    options = Limits(**limits or {})  # type: ignore[arg-type]  # of many types, each checked by Limits
    protocol = WebSocketProtocol(is_client=is_client, limits=options, deflate=deflate)
    protocol.receive_data(rest)
    told: list[tuple[str, object]] = []
    async with trio.open_nursery() as nursery:
        connection = Connection(
            near,
            protocol,
            is_client=is_client,
            limits=options,
            keepalive=keepalive,
            close_timeout=close_timeout,
            nursery=nursery,
        )
        connection.watch(lambda what, detail: told.append((what, detail)))
        if attended:

            async def attend() -> None:
                await connection.attend(shield=shield)

            nursery.start_soon(attend)
        try:
            yield Link(connection=connection, near=near, far=far, nursery=nursery, told=told)
        finally:
            connection.abandon()
            nursery.cancel_scope.cancel()
