"""The transport at the bottom of nearly every connection: a non-blocking socket."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING

import trio

from .._readiness import HANGUP, WRITE
from .._transport import Transport

try:
    import fcntl
    import termios
except ImportError:  # Windows
    _ASK_HELD = None
else:
    _ASK_HELD = getattr(termios, "TIOCOUTQ", None)

if TYPE_CHECKING:
    from .._reactor import Reactor
    from .._transport import Receiver

# Bytes that a read asks for: more when all that came, less when less would have done, as room that stays empty costs.
LEAST_READ = 2**12
READ_SIZE = 2**16
MOST_READ = 2**18
SHORT_READS = 8  # in a row, until so little is asked for: the end of something large comes alone, too
DRAIN_LIMIT = 16  # reads

# Bytes that the system holds and has not sent, at most. What has been begun nothing can overtake, so the system may as
# well have much of a large frame at once: each time that it has to be waited for costs more than copying 64 KiB.
UNSENT = 2**14
UNSENT_OF_LARGE = 2**20
LARGE_WRITE = 2**16
SMALL_WRITES = 4  # in a row, until it is to hold little again: a large frame begins and ends with small ones, too
_TCP_NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)

NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)  # struct linger: on, for 0 s

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
        "_closed",
        "_ending",
        "_later",
        "_local",
        "_now",
        "_over",
        "_reactor",
        "_read_size",
        "_receiver",
        "_remote",
        "_short_reads",
        "_sock",
        "_wide",
        "fd",
        "reading_paused",
        "unsent",
    )

    unsent: int

    def __init__(self, sock: socket.socket, remote: object = None) -> None:
        sock.setblocking(False)
        self._sock = sock
        self.fd = sock.fileno()
        self._receiver: Receiver | None = None
        self._reactor: Reactor | None = None
        self.reading_paused = False
        self._now = _NOTHING  # what a write could not send, not copied
        self._later = bytearray()  # what was written after that
        self.unsent = 0
        self._wide = 0  # small writes for which the system still takes much: UNSENT_OF_LARGE
        self._read_size = LEAST_READ
        self._short_reads = 0
        self._ending = False  # the system has told of the end, behind what is unread
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

    @property
    def socket_reactor(self) -> Reactor | None:
        return self._reactor

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
            if self._reactor is not None:
                self._reactor.flush_when_writable(self)

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
        if self.unsent and self._reactor is not None:
            self._reactor.flush_when_writable(self)

    def _suit(self, size: int) -> None:
        """Have the system take as much as suits a write of this size."""
        before, self._wide = self._wide, SMALL_WRITES if size >= LARGE_WRITE else max(0, self._wide - 1)
        if not before or not self._wide:
            with contextlib.suppress(OSError):
                limit_unsent(self._sock, UNSENT_OF_LARGE if self._wide else UNSENT)

    def _flush(self) -> None:
        """Send what waits, as much as goes at once."""
        now, later, self.unsent = self._now, self._later, 0
        self._now, self._later = _NOTHING, bytearray()
        self.write(now)
        if later:
            self.write(later)

    # ---- pushing ----

    def start(self, receiver: Receiver, reactor: Reactor) -> None:
        self._receiver, self._reactor = receiver, reactor
        if self._closed:
            return
        reactor.add_socket(self)
        if self.unsent:
            reactor.flush_when_writable(self)

    def pause_reading(self) -> None:
        self.reading_paused = True

    def resume_reading(self) -> None:
        if self.reading_paused and not self._over:
            self.reading_paused = False
            if not self._closed and self._reactor is not None:
                self._reactor.again(self)  # what came in the pause was told then, and is not told again

    def poll(self) -> None:
        if not self.reading_paused and not self._closed:
            self._push()

    def handle_events(self, events: int) -> int:
        """Flush, and read what came; return how many bytes that was."""
        if self.unsent and events & (WRITE | HANGUP):
            waiting = self.unsent
            self._flush()
            if self.unsent < waiting and self._receiver is not None:
                self._receiver.resume_writing()
        if not events & ~WRITE or self._closed or self._over:
            return 0
        if events & HANGUP:
            self._ending = True
        if not self.reading_paused:
            return self._push()
        if self._ending and self._receiver is not None:
            if code := self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.error = OSError(code, os.strerror(code))
            self._receiver.peer_ended()
        return 0

    def _push(self) -> int:
        """Read once, and push what came."""
        receiver, reactor, size = self._receiver, self._reactor, self._read_size
        if receiver is None or reactor is None:
            return 0
        data = self.read()
        if data:
            receiver.data_received(data)
            # A read that could have been longer has emptied the socket: what comes then is told anew.
            if (len(data) == size or self._ending) and not self._closed and not self.reading_paused:
                reactor.again(self)
            return len(data)
        if data is not None:
            self._over = self.reading_paused = True
            if self.error is not None:
                receiver.connection_lost(self.error)
            else:
                receiver.eof_received()
        return 0

    def crash(self, error: Exception) -> None:
        """End because of a bug."""
        if self._receiver is not None:
            self._receiver.crash(error)

    # ---- for handshakes ----

    async def drain(self) -> None:
        if self._closed or not self.unsent:
            await trio.lowlevel.checkpoint()
            return
        with contextlib.suppress(trio.ClosedResourceError):  # from abort()
            await trio.lowlevel.wait_writable(self._sock)
        if not self._closed:
            self._flush()

    async def wait_readable(self) -> None:
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        with contextlib.suppress(trio.ClosedResourceError):  # from abort()
            await trio.lowlevel.wait_readable(self._sock)

    def read(self) -> bytes | None:
        if self._closed:
            return b""
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

    def write_eof(self) -> None:
        if not self._closed:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        if self._closed:
            return
        if self._reactor is not None:
            self._reactor.remove_socket(self)
        trio.lowlevel.notify_closing(self._sock)
        if self.unsent:
            # The peer does not read, and no Close can arrive behind what waits. Without this the system would keep its
            # own buffer, megabytes of it, for as long as the peer likes.
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        if not self._over:
            # A socket closed with unread input sends RST, which can overtake the Close frame before it.
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
                for _ in range(DRAIN_LIMIT):
                    if not self._sock.recv(READ_SIZE):
                        break
        self._closed = True
        self._receiver = None
        self._now, self._later, self.unsent = _NOTHING, bytearray(), 0
        self._sock.close()
