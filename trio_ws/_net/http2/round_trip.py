"""How long the peer of a connection takes to answer."""

from __future__ import annotations

import math

_STALE_AFTER = 1.0  # seconds; the load of a path changes, and what was measured with it


class RoundTrip:
    """Measures by what must be acknowledged at once: SETTINGS and PING (RFC 9113 §6.5.3, §6.7).

    Attributes:
        seconds: what was measured last; 0.0 before.
        asked_at: when the last question was sent.
    """

    __slots__ = ("asked_at", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.asked_at = -math.inf

    def is_stale(self, now: float) -> bool:
        """Whether it was measured long ago, and no question is on its way that is younger."""
        return now - self.asked_at >= _STALE_AFTER

    def ask(self, now: float) -> None:
        """Note that a question was sent."""
        self.asked_at = now

    def answer(self, now: float) -> None:
        """Note that an answer came."""
        self.seconds = now - self.asked_at
