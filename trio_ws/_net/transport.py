"""The two transports at the bottom: a non-blocking socket, and any ``trio.abc.Stream``."""

from __future__ import annotations

import contextlib
import functools
import socket
import struct
import sys
from functools import partial
from typing import TYPE_CHECKING

import trio

from .._transport import Transport

try:
    import fcntl
    import termios
except ImportError:  # Windows
    _ASK_HELD = None
else:
    _ASK_HELD = getattr(termios, "TIOCOUTQ", None)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# Bytes that a read asks for: more when all that came, less when less would have done, as room that stays empty costs.
LEAST_READ = 2**12
READ_SIZE = 2**16
MOST_READ = 2**18
SHORT_READS = 8  # in a row, until so little is asked for: the end of something large comes alone, too
DRAIN_LIMIT = 16  # reads
LAST_WORDS_PASSES = 5  # of the scheduler

# Bytes that the system holds and has not sent, at most. What has been begun nothing can overtake, so the system may as
# well have much of a large frame at once: each time that it has to be waited for costs more than copying 64 KiB.
UNSENT = 2**14
UNSENT_OF_LARGE = 2**20
LARGE_WRITE = 2**16
SMALL_WRITES = 4  # in a row, until it is to hold little again: a large frame begins and ends with small ones, too
_TCP_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)

_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # struct linger: on, for 0 s

_NOTHING = memoryview(b"")
_AGAIN = (BlockingIOError, InterruptedError)


def detach_socket(stream: trio.SocketStream) -> socket.socket:
    """Take the socket out of a trio stream, which is of no use afterwards."""
    return socket.socket(fileno=stream.socket.detach())


def prepare_socket(sock: socket.socket) -> socket.socket:
    """Set what trio's streams set: small writes go at once, and little waits in the system that is not yet sent."""
    with contextlib.suppress(OSError):  # a Unix socket has no such options
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        limit_unsent(sock, UNSENT)
    return sock


def limit_unsent(sock: socket.socket, size: int) -> None:
    """Set how many bytes the system takes beyond what it can send, where it can be told.

    Raises:
        OSError: the socket has no such option.
    """
    if _TCP_NOTSENT_LOWAT is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, size)


def _held_by_system(sock: socket.socket) -> int:
    """Tell how many bytes the system has taken and the peer's has not acknowledged; 0 where it does not say."""
    if _ASK_HELD is not None:
        with contextlib.suppress(OSError):  # the peer may be gone already
            held = fcntl.ioctl(sock, _ASK_HELD, bytes(4))  # type: ignore[attr-defined, unused-ignore]  # on Windows
            return int(struct.unpack("i", held)[0])
    return 0


def _plain_address(address: object) -> object:
    """Cut a socket's address down to what names the peer: IPv6 ones carry flow and scope."""
    return address[:2] if isinstance(address, tuple) else address


@functools.lru_cache(maxsize=64)
def _one_of(address: object) -> object:
    """Give the same object for the same address: most connections of a server have one local address."""
    return address


class SocketTransport(Transport):
    """A TCP or Unix socket, used directly: a write is one system call, and so is a read.

    Args:
        sock: a connected socket; the transport owns it from here on.
        remote: the address of the other end, if that is known; else the socket is asked.
    """

    __slots__ = (
        "_ahead",
        "_closed",
        "_fd",
        "_later",
        "_local",
        "_misses",
        "_now",
        "_over",
        "_read_size",
        "_remote",
        "_short_reads",
        "_skip",
        "_sock",
        "_wide",
        "unsent",
    )

    unsent: int

    handover = True

    def __init__(self, sock: socket.socket, remote: object = None) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._fd = sock.fileno()  # what trio waits for; it would ask the socket each time
        self._now = _NOTHING  # what a write could not send, not copied
        self._later = bytearray()  # what was written after that
        self.unsent = 0
        self._wide = 0  # small writes for which the system still takes much: UNSENT_OF_LARGE
        self._ahead: bytes | None = None  # read before read() was called
        self._misses = 0  # reads in a row that were tried too early
        self._skip = 0  # waits before one is tried again; then nothing was read ahead
        self._read_size = LEAST_READ
        self._short_reads = 0
        self._over = False  # the end has been read
        self._closed = False
        self.error = None
        self._local: object = None
        self._remote = _plain_address(remote)
        with contextlib.suppress(OSError):  # the peer may be gone already
            self._local = _one_of(_plain_address(sock.getsockname()))
            if remote is None:
                self._remote = _plain_address(sock.getpeername())

    @property
    def local_address(self) -> object:
        return self._local

    @property
    def remote_address(self) -> object:
        return self._remote

    @property
    def unacknowledged(self) -> int:
        return self.unsent if self._closed else self.unsent + _held_by_system(self._sock)

    def set_remote_address(self, address: object) -> None:
        self._remote = address

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.error is not None or self._closed:
            return
        if self.unsent:
            self._later += data
            self.unsent += len(data)
            return
        size = len(data)
        if size >= LARGE_WRITE or self._wide:
            self._suit(size)
        try:
            sent = self._sock.send(data)
        except _AGAIN:
            sent = 0
        except OSError as error:
            self.error = error
            return
        if sent < size:
            self._now = memoryview(data)[sent:]
            self.unsent = size - sent

    def write_large(self, head: bytes, payload: bytes) -> None:
        if self.unsent or self.error is not None or self._closed:
            self.write(head + payload)
            return
        sock = self._sock
        if not hasattr(sock, "sendmsg"):  # Windows
            self.write(head + payload)
            return
        self._suit(len(payload))
        try:
            sent = sock.sendmsg([head, payload])
        except _AGAIN:
            sent = 0
        except OSError as error:
            self.error = error
            return
        self.unsent = len(head) + len(payload) - sent
        if sent < len(head):
            self._now = memoryview(head + payload)[sent:]
        elif self.unsent:
            self._now = memoryview(payload)[sent - len(head) :]

    def _suit(self, size: int) -> None:
        """Have the system take as much as suits a write of this size."""
        before, self._wide = self._wide, SMALL_WRITES if size >= LARGE_WRITE else max(0, self._wide - 1)
        if not before or not self._wide:
            with contextlib.suppress(OSError):
                limit_unsent(self._sock, UNSENT_OF_LARGE if self._wide else UNSENT)

    async def drain(self) -> None:
        if self._closed or not self.unsent:
            await trio.lowlevel.checkpoint()
            return
        with contextlib.suppress(trio.ClosedResourceError):  # from wake() or abort()
            await trio.lowlevel.wait_writable(self._sock)
        if not self._closed:
            now, later, self.unsent = self._now, self._later, 0
            self._now, self._later = _NOTHING, bytearray()
            self.write(now)
            if later:
                self.write(later)

    async def wait_readable(self) -> None:
        with contextlib.suppress(trio.ClosedResourceError):  # from wake() or abort()
            await self.readable()

    def readable(self) -> Awaitable[None]:
        if self._skip and not self._closed:
            self._skip -= 1
        elif self._closed or self._has_more():
            return trio.lowlevel.checkpoint()  # noqa: ASYNC105  # handed on
        return trio.lowlevel.wait_readable(self._fd)  # noqa: ASYNC105

    def _has_more(self) -> bool:
        """Read ahead where that is likely to give something, since a wait costs more than three reads.

        One read in vain doubles the waits before the next try, up to 64; one that gives something is tried again.
        """
        if self._ahead is None:
            self._ahead = self.read()
            if self._ahead is None:
                self._misses = min(self._misses + 1, 6)
                self._skip = 2**self._misses
                return False
            self._misses = 0
        return True

    def read(self) -> bytes | None:
        if self._closed:
            return b""
        if self._ahead is not None:
            data, self._ahead = self._ahead, None
            return data
        size = self._read_size
        try:
            data = self._sock.recv(size)
        except _AGAIN:
            return None
        except OSError as error:
            self.error = error
            return b""
        if len(data) == size:
            self._read_size = READ_SIZE if size < READ_SIZE else MOST_READ
        elif not data:
            self._over = True
        elif size > LEAST_READ:
            self._shrink(len(data))
        return data

    def _shrink(self, size: int) -> None:
        """Ask for less from now on if this size, which was less than what was asked for, is why."""
        if size > LEAST_READ:
            self._short_reads = 0
            if size <= READ_SIZE:
                self._read_size = READ_SIZE
            return
        self._short_reads += 1
        if self._short_reads == SHORT_READS:
            self._short_reads = 0
            self._read_size = LEAST_READ

    def wake(self) -> None:
        if not self._closed:
            trio.lowlevel.notify_closing(self._sock)

    def write_eof(self) -> None:
        if not self._closed:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        if self._closed:
            return
        trio.lowlevel.notify_closing(self._sock)
        if self.unsent:
            # The peer does not read, and no Close can arrive behind what waits. Without this the system would keep its
            # own buffer, megabytes of it, for as long as the peer likes.
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        if not self._over:
            # A socket closed with unread input sends RST, which can overtake the Close frame before it.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
                for _ in range(DRAIN_LIMIT):
                    if not self._sock.recv(READ_SIZE):
                        break
        self._closed = True
        self._now, self._later, self.unsent = _NOTHING, bytearray(), 0
        self._sock.close()


class StreamTransport(Transport):
    """Any ``trio.abc.Stream``: two tasks move the bytes between the stream and what is synchronous here.

    The tasks are shielded and end by :meth:`abort` only, so that whoever owns the transport can still write a last
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
        "_eof",
        "_moved",
        "_stream",
        "_taken",
        "_unsent",
        "_wake",
        "_work",
    )

    def __init__(self, stream: trio.abc.Stream, nursery: trio.Nursery) -> None:
        self._stream = stream
        self.error = None
        self._arrived: bytes | None = None
        self._unsent = bytearray()
        self._closed = False
        self._eof = False
        self._wake = trio.lowlevel.ParkingLot()  # who waits for input
        self._moved = trio.lowlevel.ParkingLot()  # who waits for room
        self._taken = trio.lowlevel.ParkingLot()  # the receiving task: its chunk was read
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

    async def drain(self) -> None:
        if self._unsent and not self._closed:
            await self._moved.park()
        else:
            await trio.lowlevel.checkpoint()

    async def wait_readable(self) -> None:
        if self._arrived is None and not self._closed:
            await self._wake.park()
        else:
            await trio.lowlevel.checkpoint()

    def read(self) -> bytes | None:
        if self._closed:
            return b""
        data = self._arrived
        if data:
            self._arrived = None if self.error is None else b""
            self._taken.unpark_all()
        return data

    def wake(self) -> None:
        self._wake.unpark_all()
        self._moved.unpark_all()

    def write_eof(self) -> None:
        self._eof = True
        self._work.unpark_all()

    def abort(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.wake()
        self._work.unpark_all()
        self._end.unpark_all()

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
            if self._arrived is None:
                self._arrived = b""
            self.wake()

    async def _receive_all(self) -> None:
        while True:
            data = bytes(await self._stream.receive_some(READ_SIZE))
            if self.error is not None:
                return
            self._arrived = data
            self._wake.unpark_all()
            if not data:
                return
            while self._arrived is not None:
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
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        elif self._arrived is None:
            # Only closing tells the peer, so this reads as ended, and the owner closes it.
            self._arrived = b""
            self._wake.unpark_all()
