"""What a reactor drives in tests, and the ways in which it can learn which sockets are ready."""

from __future__ import annotations

import contextlib
import select
from typing import TYPE_CHECKING, Any

from trio_ws._readiness import EpollSet, KqueueSet, SmallTasks

from . import kqueue

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    import trio

    from trio_ws._readiness import Readiness

KQUEUE: Any = select if hasattr(select, "kqueue") else kqueue  # the system's, or the emulation

SETS: dict[str, Callable[[trio.Nursery], Readiness]] = {}
if hasattr(select, "epoll"):
    SETS["epoll"] = lambda _: EpollSet()
SETS["kqueue"] = lambda _: KqueueSet(KQUEUE)

READINESS: dict[str, Callable[[trio.Nursery], Readiness]] = {**SETS, "tasks": SmallTasks}


class Member:
    """Notes what it is told."""

    def __init__(self, log: list[object] | None = None) -> None:
        self.log: list[object] = [] if log is None else log

    def abandon(self) -> None:
        self.log.append(("abandon", self))

    def crash(self, error: Exception) -> None:
        self.log.append(error)


class FakeSocket(Member):
    """A socket whose reads are what a test says."""

    def __init__(self, sock: socket.socket, reads: int = 1) -> None:
        super().__init__()
        self._sock = sock
        sock.setblocking(False)
        self.fd = sock.fileno()
        self.reading_paused = False
        self.unsent = 0
        self.events: list[int] = []
        self.on_events: Callable[[], None] = lambda: None
        self.reads = reads

    def handle_events(self, events: int) -> int:
        self.events.append(events)
        self.on_events()
        with contextlib.suppress(OSError):
            self._sock.recv(100)
        return self.reads
