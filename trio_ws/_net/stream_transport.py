"""The transport on top of any ``trio.abc.Stream``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from .._transport import Transport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._reactor import Reactor
    from .._transport import Receiver

READ_SIZE = 2**16  # bytes of a read, and of a write
LAST_WORDS_PASSES = 5  # of the scheduler


class StreamTransport(Transport):
    """Any ``trio.abc.Stream``: two tasks move the bytes between the stream and what is synchronous here.

    The tasks are shielded and end by :meth:`abort` only, so that the owner of the transport can still write a last
    frame when it is cancelled itself. ``send_all`` always waits, so that frame gets a few passes of the scheduler,
    which is enough for a stream that has room, and never a time-out.

    Args:
        stream: the stream; the transport owns it from here on.
        nursery: where the two tasks live.
    """

    __slots__ = (
        "_arrived",
        "_closed",
        "_end",
        "_ended",
        "_eof",
        "_moved",
        "_paused",
        "_reactor",
        "_readable",
        "_receiver",
        "_stream",
        "_taken",
        "_told",
        "_unsent",
        "_work",
    )

    def __init__(self, stream: trio.abc.Stream, nursery: trio.Nursery) -> None:
        self._stream = stream
        self.error = None
        self._arrived = b""
        self._ended = False  # nothing more arrives
        self._told = False  # ... and the receiver knows
        self._unsent = bytearray()
        self._closed = False
        self._eof = False
        self._paused = False
        self._receiver: Receiver | None = None
        self._reactor: Reactor | None = None
        self._readable = trio.lowlevel.ParkingLot()  # a handshake waits for input
        self._moved = trio.lowlevel.ParkingLot()  # a handshake waits for room
        self._taken = trio.lowlevel.ParkingLot()  # the receiving task waits until its chunk was read or pushed
        self._work = trio.lowlevel.ParkingLot()  # the sending task: there is something to send
        self._end = trio.lowlevel.ParkingLot()  # the task of the two
        nursery.start_soon(self._run)

    @property
    def unsent(self) -> int:
        return 0 if self._closed else len(self._unsent)

    @property
    def congested(self) -> bool:
        return len(self._unsent) > READ_SIZE  # less than that can still go in the passes that abort() gives

    @property
    def local_address(self) -> object:
        return None

    @property
    def remote_address(self) -> object:
        return None

    def write(self, data: bytes) -> None:
        if self.error is None and not self._closed:
            self._unsent += data
            self._work.unpark_all()

    def write_eof(self) -> None:
        self._eof = True
        self._work.unpark_all()

    def abort(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._receiver = None
        for lot in (self._readable, self._moved, self._work, self._end):
            lot.unpark_all()

    # ---- pushing ----

    def start(self, receiver: Receiver, reactor: Reactor) -> None:
        self._receiver, self._reactor = receiver, reactor
        reactor.call_soon(receiver, self._push)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            if self._receiver is not None and self._reactor is not None:
                self._reactor.call_soon(self._receiver, self._push)

    def _push(self) -> None:
        """Push what has arrived, and the end behind it."""
        receiver = self._receiver
        if receiver is None:
            return
        if self._arrived and not self._paused:
            data, self._arrived = self._arrived, b""
            self._taken.unpark_all()
            receiver.data_received(data)
        if not self._ended:
            return
        if self._arrived:
            receiver.peer_ended()
        elif self.error is not None:  # after the end, too: what waited to be sent is lost
            receiver.connection_lost(self.error)
        elif not self._told:
            self._told = True
            receiver.eof_received()

    def _push_from_task(self) -> None:
        receiver = self._receiver
        self._readable.unpark_all()
        if receiver is not None:
            try:
                self._push()
            except Exception as error:  # a bug ends this connection, and nothing else
                receiver.crash(error)

    # ---- for handshakes ----

    async def drain(self) -> None:
        if self._unsent and not self._closed:
            await self._moved.park()
        else:
            await trio.lowlevel.checkpoint()

    async def wait_readable(self) -> None:
        if not (self._arrived or self._ended or self._closed):
            await self._readable.park()
        else:
            await trio.lowlevel.checkpoint()

    def read(self) -> bytes | None:
        if self._arrived and not self._closed:
            data, self._arrived = self._arrived, b""
            self._taken.unpark_all()
            return data
        return b"" if self._ended or self._closed else None

    # ---- the tasks ----

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._guard, self._receive_all)
                nursery.start_soon(self._guard, self._send_all)
                while not self._closed:
                    await self._end.park()
                for _ in range(LAST_WORDS_PASSES):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            self._unsent.clear()
            await self._guard(partial(trio.aclose_forcefully, self._stream))

    async def _guard(self, pump: Callable[[], Awaitable[None]]) -> None:
        try:
            await pump()
        # A stream may be anybody's: whatever it raises, it is the end of this transport and of nothing else.
        except Exception as error:
            self.error = error
            self._unsent.clear()
            self._moved.unpark_all()
            self._finish()

    def _finish(self) -> None:
        """Take note that nothing more arrives."""
        self._ended = True
        self._push_from_task()

    async def _receive_all(self) -> None:
        while not self._ended:
            data = bytes(await self._stream.receive_some(READ_SIZE))
            if self._ended:  # sending has failed meanwhile
                return
            if not data:
                self._finish()
                return
            self._arrived = data
            self._push_from_task()
            while self._arrived and not self._closed:
                await self._taken.park()

    async def _send_all(self) -> None:
        while self._unsent or not (self._eof or self._closed):
            if not self._unsent:
                await self._work.park()
                continue
            data = bytes(self._unsent[:READ_SIZE])
            await self._stream.send_all(data)
            del self._unsent[: len(data)]
            self._moved.unpark_all()
            if self._receiver is not None and self._reactor is not None:
                self._reactor.call_soon(self._receiver, self._receiver.resume_writing)
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        elif not self._ended:
            # Only closing tells the peer, so this reads as ended, and the owner closes it.
            self._finish()
