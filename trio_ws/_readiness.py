"""Which sockets have input or room: three ways to ask the system, of which a reactor takes the best that there is.

=================== ======================= ============================================
:class:`EpollSet`   Linux                   the set tells of input and room as they begin
:class:`KqueueSet`  macOS, BSD              of input as it comes, of room when asked
:class:`SmallTasks` elsewhere (Windows)     a task waits for each socket
=================== ======================= ============================================

A set has every socket from the beginning to the end, and trio waits for the descriptor of the set. So no message costs
a system call for waiting.
"""

from __future__ import annotations

import contextlib
import functools
import select
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

READ = 0x1
WRITE = 0x4
ERROR = 0x8
PEER_ENDED = 0x2000  # EPOLLRDHUP
HANGUP = ERROR | 0x10 | PEER_ENDED  # 0x10: EPOLLHUP
EDGE_TRIGGERED = 1 << 31  # EPOLLET
INPUT = READ | PEER_ENDED | EDGE_TRIGGERED

EVENTS_AT_ONCE = 128  # of a step

# None where there is no epoll. By name: type checkers do not know it for those systems.
_open_epoll: Callable[[], Any] | None = getattr(select, "epoll", None)


class Guarded(Protocol):
    """An object whose bugs must end that object alone."""

    def crash(self, error: Exception) -> None:
        """End because a callback of this object raised ``error``, which is a bug of this library."""


class ReadySocket(Guarded, Protocol):
    """A socket that a reactor watches."""

    @property
    def fd(self) -> int: ...
    @property
    def reading_paused(self) -> bool: ...
    @property
    def unsent(self) -> int: ...
    def handle_events(self, events: int) -> int:
        """Read, flush; return how many bytes came. ``events`` are of :data:`READ`, :data:`WRITE`, :data:`HANGUP`."""


class Readiness(Protocol):
    """What a reactor asks which of its sockets are ready."""

    @property
    def only_socket(self) -> ReadySocket | None:
        """The socket, if there is exactly one, and a task may wait for its input instead."""

    def add(self, sock: ReadySocket) -> None:
        """Watch a socket."""

    def remove(self, sock: ReadySocket) -> None:
        """Watch a socket no more, which is about to be closed; harmless when repeated."""

    def ignore_input(self, sock: ReadySocket) -> None:
        """Give nothing of this socket's input: a task waits for that."""

    def watch_input(self, sock: ReadySocket) -> None:
        """Give this socket's input again, also what came meanwhile, if the socket is still there."""

    def resume(self, sock: ReadySocket) -> None:
        """Read on after a pause, or what a read has left."""

    def wait_writable(self, sock: ReadySocket) -> None:
        """Give :data:`WRITE` when there is room."""

    def wait(self) -> Awaitable[None]:
        """Wait until :meth:`fetch` may give something.

        Raises:
            trio.ClosedResourceError: :meth:`wake` was called, or so it may.
        """

    def wake(self) -> None:
        """End :meth:`wait`."""

    def fetch(self, ready: dict[ReadySocket, int]) -> None:
        """Append the sockets that are ready, and how."""

    def close(self) -> None:
        """Give back what the system has given; it may be used anew."""


def best_readiness(nursery: trio.Nursery) -> Readiness:
    """Give the best that this system has.

    Args:
        nursery: where tasks run, if there must be any.
    """
    if _open_epoll is not None:
        return EpollSet()
    if hasattr(select, "kqueue") and can_wait_for_kqueue(select):
        return KqueueSet(select)
    return SmallTasks(nursery)


class _SocketSet:
    """What the sets have in common: they are made with their first socket, and waited for by their descriptor."""

    __slots__ = ("_fd", "_parked", "_set", "_sockets")

    def __init__(self) -> None:
        self._set: Any = None
        self._fd = -1
        self._parked = trio.lowlevel.ParkingLot()  # where to wait while there is no set
        self._sockets: dict[int, ReadySocket] = {}

    @property
    def only_socket(self) -> ReadySocket | None:
        return next(iter(self._sockets.values())) if len(self._sockets) == 1 else None

    def resume(self, sock: ReadySocket) -> None:
        """Nothing to do: the set has this socket for as long as it lives."""

    def wait(self) -> Awaitable[None]:
        # Not async: one coroutine less for each wait.
        return self._parked.park() if self._fd < 0 else trio.lowlevel.wait_readable(self._fd)  # noqa: ASYNC105

    def wake(self) -> None:
        self._parked.unpark_all()
        if self._fd >= 0:
            trio.lowlevel.notify_closing(self._fd)

    def close(self) -> None:
        if self._set is not None:
            trio.lowlevel.notify_closing(self._fd)
            self._set.close()
            self._set, self._fd = None, -1
            self._sockets.clear()


class EpollSet(_SocketSet):
    """Sockets in one edge-triggered epoll set."""

    __slots__ = ("_input_only",)

    def __init__(self) -> None:
        super().__init__()
        self._input_only: ReadySocket | None = None  # of which the set tells nothing, or input only

    def add(self, sock: ReadySocket) -> None:
        if self._set is None:
            assert _open_epoll is not None
            self._set = _open_epoll()
            self._fd = self._set.fileno()
        self._sockets[sock.fd] = sock
        self._set.register(sock.fd, INPUT | WRITE)

    def remove(self, sock: ReadySocket) -> None:
        if self._sockets.pop(sock.fd, None) is not None and self._set is not None:
            self._set.unregister(sock.fd)

    def ignore_input(self, sock: ReadySocket) -> None:
        # What is left is the loss of the connection.
        self._input_only = sock
        self._set.modify(sock.fd, EDGE_TRIGGERED)

    def watch_input(self, sock: ReadySocket) -> None:
        if self._sockets.get(sock.fd) is sock:
            # A change tells what is there already, and nearly all sockets can be written to.
            self._input_only = None if sock.unsent else sock
            self._set.modify(sock.fd, INPUT | WRITE if sock.unsent else INPUT)

    def wait_writable(self, sock: ReadySocket) -> None:
        if sock is self._input_only:
            self._input_only = None
            self._set.modify(sock.fd, INPUT | WRITE)

    def fetch(self, ready: dict[ReadySocket, int]) -> None:
        if self._set is not None and len(ready) < EVENTS_AT_ONCE:
            sockets = self._sockets
            for fd, events in self._set.poll(0, EVENTS_AT_ONCE):
                ready[sockets[fd]] = ready.get(sockets[fd], 0) | events

    def close(self) -> None:
        super().close()
        self._input_only = None


class KqueueSet(_SocketSet):
    """Sockets in one kqueue.

    A filter that is added tells what is there already. The one for input then tells each time that some has come
    (EV_CLEAR); the one for room once (EV_ONESHOT), when it is asked, as it would tell of each acknowledgement.

    Args:
        system: the module with ``kqueue`` and its constants, :mod:`select` or an emulation.
    """

    __slots__ = ("_ended", "_room", "_system")

    def __init__(self, system: Any) -> None:  # noqa: ANN401  # type checkers know kqueue on macOS only
        super().__init__()
        self._system = system
        self._room = system.KQ_FILTER_WRITE
        self._ended = system.KQ_EV_EOF

    def add(self, sock: ReadySocket) -> None:
        if self._set is None:
            self._set = self._system.kqueue()
            self._fd = self._set.fileno()
        self._sockets[sock.fd] = sock
        self._add_input_filter(sock)

    def _add_input_filter(self, sock: ReadySocket) -> None:
        self._change(sock, self._system.KQ_FILTER_READ, self._system.KQ_EV_ADD | self._system.KQ_EV_CLEAR)

    def _change(self, sock: ReadySocket, filter_: int, flags: int) -> None:
        self._set.control([self._system.kevent(sock.fd, filter_, flags)], 0)

    def remove(self, sock: ReadySocket) -> None:
        if self._sockets.pop(sock.fd, None) is not None and self._set is not None:
            for filter_ in (self._system.KQ_FILTER_READ, self._room):
                with contextlib.suppress(FileNotFoundError):  # it is there for some of the time
                    self._change(sock, filter_, self._system.KQ_EV_DELETE)

    def ignore_input(self, sock: ReadySocket) -> None:
        self._change(sock, self._system.KQ_FILTER_READ, self._system.KQ_EV_DELETE)

    def watch_input(self, sock: ReadySocket) -> None:
        if self._sockets.get(sock.fd) is sock:
            self._add_input_filter(sock)

    def wait_writable(self, sock: ReadySocket) -> None:
        self._change(sock, self._room, self._system.KQ_EV_ADD | self._system.KQ_EV_ONESHOT)

    def fetch(self, ready: dict[ReadySocket, int]) -> None:
        if self._set is not None and len(ready) < EVENTS_AT_ONCE:
            for event in self._set.control(None, EVENTS_AT_ONCE, 0):
                sock = self._sockets[event.ident]
                ready[sock] = ready.get(sock, 0) | self._meaning(event)

    def _meaning(self, event: Any) -> int:  # noqa: ANN401  # as above
        if event.filter == self._room:
            return WRITE  # its EV_EOF can come of our own shutdown(), and a write tells of an error
        if event.flags & self._ended:
            return READ | PEER_ENDED | (ERROR if event.fflags else 0)
        return READ


@functools.cache
def can_wait_for_kqueue(system: Any) -> bool:  # noqa: ANN401  # as above
    """Tell whether one kqueue can wait for another, as trio's does for that of a reactor: not each system's can.

    Args:
        system: the module with ``kqueue``.

    Raises:
        OSError: there are no descriptors to try it with.
    """
    one, other = socket.socketpair()
    with one, other, contextlib.closing(system.kqueue()) as inner, contextlib.closing(system.kqueue()) as outer:
        try:
            inner.control([system.kevent(one.fileno(), system.KQ_FILTER_READ, system.KQ_EV_ADD)], 0)
            outer.control([system.kevent(inner.fileno(), system.KQ_FILTER_READ, system.KQ_EV_ADD)], 0)
            before = outer.control(None, 1, 0)
            other.send(b"x")
            return not before and bool(outer.control(None, 1, 0))
        except OSError:
            return False


class SmallTasks:
    """Sockets that small tasks wait for: one reads a socket, one more flushes while that has something to send.

    The tasks are shielded: they end with their socket, which the connection aborts when the reactor is cancelled.
    """

    __slots__ = ("_calls", "_flushing", "_nursery", "_sockets")

    only_socket = None  # a task waits for it already

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._calls = trio.lowlevel.ParkingLot()  # where the reactor waits
        self._sockets: dict[ReadySocket, trio.lowlevel.ParkingLot] = {}  # each with where its reader waits in a pause
        self._flushing: set[ReadySocket] = set()

    def add(self, sock: ReadySocket) -> None:
        self._sockets[sock] = trio.lowlevel.ParkingLot()
        self._nursery.start_soon(self._read, sock)

    def remove(self, sock: ReadySocket) -> None:
        if (lot := self._sockets.pop(sock, None)) is not None:
            lot.unpark_all()
            trio.lowlevel.notify_closing(sock.fd)

    def ignore_input(self, sock: ReadySocket) -> None:
        """Not called: no socket is lone here."""

    def watch_input(self, sock: ReadySocket) -> None:
        """Not called, as above."""

    def resume(self, sock: ReadySocket) -> None:
        self._sockets[sock].unpark_all()

    def wait_writable(self, sock: ReadySocket) -> None:
        if sock not in self._flushing:
            self._flushing.add(sock)
            self._nursery.start_soon(self._flush, sock)

    def wait(self) -> Awaitable[None]:
        return self._calls.park()  # noqa: ASYNC105

    def wake(self) -> None:
        self._calls.unpark_all()

    def fetch(self, ready: dict[ReadySocket, int]) -> None:
        """Nothing to do: the tasks handle the events themselves."""

    def close(self) -> None:
        """Nothing to do: each task ends with its socket."""

    @trio.lowlevel.enable_ki_protection
    async def _read(self, sock: ReadySocket) -> None:
        with trio.CancelScope(shield=True), contextlib.suppress(trio.ClosedResourceError):  # from remove()
            while sock in self._sockets:
                if sock.reading_paused:
                    await self._sockets[sock].park()
                else:
                    await trio.lowlevel.wait_readable(sock.fd)
                    call_guarded(sock, partial(sock.handle_events, READ))

    @trio.lowlevel.enable_ki_protection
    async def _flush(self, sock: ReadySocket) -> None:
        with trio.CancelScope(shield=True), contextlib.suppress(trio.ClosedResourceError):
            while sock in self._sockets and sock.unsent:
                await trio.lowlevel.wait_writable(sock.fd)
                call_guarded(sock, partial(sock.handle_events, WRITE))
        self._flushing.discard(sock)


def call_guarded(owner: Guarded, callback: Callable[[], object]) -> None:
    """Make a call whose bugs end their owner, and nothing else."""
    try:
        callback()
    except Exception as error:  # a bug, of whatever kind
        owner.crash(error)
