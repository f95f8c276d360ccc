"""How much a peer may send ahead of what is taken from it (RFC 9113 §5.2): the windows that we give, and their growth.

A window below the bandwidth-delay product of the path makes the peer wait for updates: with 64 KiB it sends 64 KiB in a
round trip, however fast the path is. So a window doubles when a quarter of it was taken within two round trips: then
the application keeps up, and the window may be what the peer waits for. It stops at eight times what is taken in a
round trip, or at its limit, and never shrinks: what a peer was allowed to send cannot be forbidden (RFC 9113 §6.9).

Two round trips, because one may take longer under load than when it was measured, and then a window that the peer waits
for would look like one that it does not need.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..._options import Limits

CONNECTION_WINDOW = 2**20  # bytes
MAX_CONNECTION_WINDOW = 2**24
MAX_WINDOW = 2**31 - 1  # RFC 9113 §6.9.1: of any, ours and the peer's
# Half of a window at a time, on short paths: an update for each message would cost more than the message. On long ones
# a peer would wait up to half of its time for the second half.
_UPDATES = 2
_UPDATES_OF_GROWN = 16


class ReceiveWindow:
    """The window of one stream, or of the connection.

    Args:
        size: bytes, at first.
        limit: bytes, at most.

    Attributes:
        size: bytes that may be on their way or wait here, together.
        available: those of them that the peer has not sent yet.
        update_at: an update is due when what is available and what waits are no more than this, together.
    """

    __slots__ = ("_first_size", "_limit", "_measured_from", "_taken", "available", "size", "update_at")

    def __init__(self, size: int, limit: int) -> None:
        self.size = self.available = self._first_size = size
        self._limit = max(size, limit)
        self._taken = 0
        self._measured_from = -math.inf
        self.update_at = size - max(1, size // _UPDATES)

    @property
    def grown(self) -> int:
        """Bytes by which it is larger than at first."""
        return self.size - self._first_size

    @property
    def can_grow(self) -> bool:
        """Whether it is below its limit."""
        return self.size < self._limit

    def update(self, unread: int, now: float, round_trip: float, spare: int) -> int:
        """Return by how much the peer's window is to be increased, now that an update is due.

        Args:
            unread: bytes that came and wait for the application.
            now: seconds, on any clock.
            round_trip: seconds from an update to the bytes that it allows; 0 if that is not known.
            spare: bytes that it may grow by.
        """
        if now - self._measured_from >= 2 * round_trip:
            self._measure_from(now)
        else:
            self._taken += self.size - self.available - unread
            if self._taken >= self.size // 4:
                self._grow_by(min(self.size, self._limit - self.size, spare))
                self._measure_from(now)
        increment = self.size - self.available - unread
        self.available += increment
        return increment

    def _measure_from(self, now: float) -> None:
        self._taken = 0
        self._measured_from = now

    def _grow_by(self, increment: int) -> None:
        self.size += increment
        least = max(1, self._first_size // _UPDATES)  # never more often than while it was small
        self.update_at = self.size - max(least, self.size // _UPDATES_OF_GROWN)


class ReceiveWindows:
    """The windows that one connection gives: that of the connection, and those of its streams.

    Together the streams' grow by no more than the connection's may be: more they could not use at the same time.

    Args:
        limits: how large a stream's may be.

    Attributes:
        connection: that of the connection.
        round_trip: seconds from an update to the bytes that it allows; 0.0 if that is not known.
    """

    __slots__ = ("_first_size", "_most", "_spare", "connection", "round_trip")

    def __init__(self, limits: Limits) -> None:
        self._first_size = limits.h2_stream_window
        # A window counts what is on its way as well as what waits: one receive_buffer for each.
        self._most = MAX_WINDOW if limits.receive_buffer is None else min(2 * limits.receive_buffer, MAX_WINDOW)
        self._spare = MAX_CONNECTION_WINDOW  # bytes that those of streams may still grow by
        self.connection = ReceiveWindow(CONNECTION_WINDOW, MAX_CONNECTION_WINDOW)
        self.round_trip = 0.0

    def add_stream(self) -> ReceiveWindow:
        """Make the window of a new stream."""
        return ReceiveWindow(self._first_size, self._most)

    def forget_stream(self, window: ReceiveWindow) -> None:
        """Let others grow in the place of a stream that has ended."""
        self._spare += window.grown

    def update_stream(self, window: ReceiveWindow, unread: int, now: float) -> int:
        """Return by how much a stream's window is to be increased."""
        before = window.size
        increment = window.update(unread, now, self.round_trip, self._spare)
        self._spare -= window.size - before
        return increment

    def update_connection(self, now: float) -> int:
        """Return by how much the connection's window is to be increased."""
        return self.connection.update(0, now, self.round_trip, MAX_CONNECTION_WINDOW)
