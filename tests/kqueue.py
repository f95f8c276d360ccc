"""kqueue where there is none: as much of the module ``select`` of macOS as the package uses, on epoll.

Each filter has an epoll of its own, in one that has them all. So the two filters of a descriptor are independent, and
the whole can be waited for, as with kqueue. An emulation stands in for the module: ``KqueueSet(tests.kqueue)``.
"""

from __future__ import annotations

import errno
import os
import select
from dataclasses import dataclass

KQ_FILTER_READ, KQ_FILTER_WRITE = -1, -2
KQ_EV_ADD, KQ_EV_DELETE, KQ_EV_ONESHOT, KQ_EV_CLEAR, KQ_EV_EOF = 0x1, 0x2, 0x10, 0x20, 0x8000


@dataclass(frozen=True, slots=True)
class kevent:  # the name in select
    """A change, or an event."""

    ident: int
    filter: int
    flags: int
    fflags: int = 0


class kqueue:  # the name in select
    """A queue."""

    def __init__(self) -> None:
        self._all = select.epoll()
        self._filters: dict[tuple[int, int], tuple[select.epoll, int]] = {}
        self._keys: dict[int, tuple[int, int]] = {}  # of these, by the descriptor of the epoll

    def fileno(self) -> int:
        return self._all.fileno()

    def close(self) -> None:
        for single, _ in self._filters.values():
            single.close()
        self._filters.clear()
        self._keys.clear()
        self._all.close()

    def control(self, changes: list[kevent] | None, max_events: int, timeout: float | None = None) -> list[kevent]:
        for change in changes or ():
            self._change(change)
        assert timeout == 0 or not max_events, "the package never waits here"
        events: list[kevent] = []
        for fd, _ in self._all.poll(0, max_events) if max_events else ():
            ident, filter_ = self._keys[fd]
            single, flags = self._filters[ident, filter_]
            events += [self._event(ident, filter_, found) for _, found in single.poll(0)]
            if flags & KQ_EV_ONESHOT:
                self._remove(ident, filter_)
        return events

    def _change(self, change: kevent) -> None:
        known = (change.ident, change.filter) in self._filters
        if change.flags & KQ_EV_DELETE:
            if not known:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            self._remove(change.ident, change.filter)
            return
        assert change.flags & KQ_EV_ADD
        if known:
            self._remove(change.ident, change.filter)
        single = select.epoll()
        mask = select.EPOLLIN | select.EPOLLRDHUP if change.filter == KQ_FILTER_READ else select.EPOLLOUT
        single.register(change.ident, mask | (select.EPOLLET if change.flags & KQ_EV_CLEAR else 0))
        self._all.register(single, select.EPOLLIN)
        self._filters[change.ident, change.filter] = single, change.flags
        self._keys[single.fileno()] = change.ident, change.filter

    def _remove(self, ident: int, filter_: int) -> None:
        single, _ = self._filters.pop((ident, filter_))
        del self._keys[single.fileno()]
        single.close()

    def _event(self, ident: int, filter_: int, found: int) -> kevent:
        if filter_ == KQ_FILTER_WRITE:
            # macOS sets EV_EOF also when our own side was shut down.
            return kevent(ident, filter_, KQ_EV_EOF if found & select.EPOLLHUP else 0)
        ended = found & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR)
        error = errno.ECONNRESET if found & select.EPOLLERR else 0
        return kevent(ident, filter_, KQ_EV_EOF if ended else 0, error)
