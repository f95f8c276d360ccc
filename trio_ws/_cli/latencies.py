"""How long things took: percentiles of any number of durations, in little memory."""

from __future__ import annotations

import math
from collections import Counter

# So that a percentile is at most one percent above the duration that it stands for.
_PRECISION = math.log(1.01)
_SHORTEST = 1e-7  # seconds


class Latencies:
    """Counts durations in buckets, each one percent wider than the one before.

    Attributes:
        count: how many there are.
        longest: seconds, to the last digit.
    """

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.longest = 0.0

    def add(self, duration: float) -> None:
        """Count a duration of so many seconds."""
        self._buckets[math.floor(math.log(max(duration, _SHORTEST)) / _PRECISION)] += 1
        self.count += 1
        self.longest = max(self.longest, duration)

    def percentile(self, percent: float) -> float:
        """Give the seconds within which so many percent of the durations lie, nan if there are none."""
        wanted = math.ceil(self.count * percent / 100)
        seen = 0
        for bucket, count in sorted(self._buckets.items()):
            seen += count
            if seen >= wanted:
                return min(math.exp((bucket + 1) * _PRECISION), self.longest)
        return math.nan

    def histogram(self, rows: int) -> list[tuple[float, int]]:
        """Give at most so many ranges, each as wide as the others on a logarithmic scale.

        Returns:
            The seconds at which each range ends, and how many durations lie in it; nothing if there are none.
        """
        if not self._buckets:
            return []
        first, last = min(self._buckets), max(self._buckets)
        width = math.ceil((last - first + 1) / rows)
        counts = [0] * (1 + (last - first) // width)
        for bucket, count in self._buckets.items():
            counts[(bucket - first) // width] += count
        return [(math.exp((first + (row + 1) * width) * _PRECISION), count) for row, count in enumerate(counts)]
