"""How much of something is allowed at once, and on and on."""

from __future__ import annotations

import math


class TokenBucket:
    """Allows ``burst`` things at once and ``rate`` a second on and on; ``burst=None`` allows everything."""

    __slots__ = ("_filled_at", "_tokens", "burst", "rate")

    def __init__(self, burst: int | None, rate: float) -> None:
        self.burst = math.inf if burst is None else burst
        self.rate = rate
        self._tokens: float = self.burst
        self._filled_at = -math.inf

    def take(self, now: float) -> bool:
        """Take one; False when there is none."""
        if self._filled_at != -math.inf:
            self._tokens = min(self.burst, self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
