"""Which streams of zlib's or isal's stay open between messages: some of each thread's.

An open stream takes 11 to 165 KiB, and all that the next message needs of it is its window: bytes that its owner keeps
anyway. To open one from these costs 2 to 6 µs. So what has sent or received lately keeps its stream, and thousands of
idle connections have none.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol
from weakref import ref

if TYPE_CHECKING:
    from weakref import ReferenceType


class StreamOwner(Protocol):
    """What has an open stream."""

    def close_stream(self) -> None:
        """Do without it, at the latest from the end of a message on."""


class OpenStreams:
    """The streams of one direction, in one thread, that are open between messages; those opened first close first."""

    __slots__ = ("_owners",)

    def __init__(self) -> None:
        self._owners: deque[ReferenceType[StreamOwner]] = deque()

    def admit(self, owner: StreamOwner, most: int) -> None:
        """Let one stay open, and close others where there are ``most`` already."""
        while len(self._owners) >= most:
            oldest = self._owners.popleft()()
            if oldest is not None:
                oldest.close_stream()
        self._owners.append(ref(owner))


class _ThreadStreams(threading.local):
    """Those of a thread: connections of two must not close each other's in the middle of a message."""

    def __init__(self) -> None:
        self.compressing = OpenStreams()
        self.inflating = OpenStreams()


THREAD: Final = _ThreadStreams()


def extend_window(window: bytearray, data: bytes | bytearray | memoryview, size: int) -> None:
    """Add to the end of a window; what is kept is at least its last ``size`` bytes, and at most a quarter more."""
    if len(data) >= size:
        window[:] = data[-size:]
    else:
        window += data
        if len(window) > size + size // 4:  # now and then: each time would cost more than to inflate
            del window[:-size]
