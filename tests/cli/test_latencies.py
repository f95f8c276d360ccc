"""Percentiles of durations, beside those of all durations sorted."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ws._cli.latencies import Latencies


def collect(*durations: float) -> Latencies:
    latencies = Latencies()
    for duration in durations:
        latencies.add(duration)
    return latencies


def test_of_nothing_there_are_no_percentiles() -> None:
    latencies = Latencies()
    assert math.isnan(latencies.percentile(50))
    assert (latencies.count, latencies.longest) == (0, 0.0)


def test_one_in_a_thousand_is_seen_by_the_last_percentile_only() -> None:
    latencies = collect(*[0.001] * 999, 5.0)
    assert latencies.percentile(99.9) == pytest.approx(0.001, rel=0.01)
    assert latencies.percentile(99.95) == latencies.percentile(100) == latencies.longest == 5.0
    assert latencies.count == 1000


@given(
    st.lists(st.floats(0, 1000, allow_nan=False), min_size=1, max_size=200),
    st.floats(0.1, 100),
)
def test_a_percentile_is_at_most_one_percent_above_the_true_one(durations: list[float], percent: float) -> None:
    exact = sorted(durations)[math.ceil(len(durations) * percent / 100) - 1]
    found = collect(*durations).percentile(percent)
    assert min(exact, 1e-7) <= found
    assert exact * 0.999999 <= found <= max(exact * 1.010001, 1.1e-7)


def test_memory_does_not_grow_with_their_number() -> None:
    latencies = collect(*(number * 1e-6 for number in range(100_000)))
    assert len(latencies._buckets) < 2000


def test_the_histogram_counts_each_duration_once() -> None:
    latencies = collect(0.001, 0.001, 0.002, 0.1)
    rows = latencies.histogram(4)
    assert [count for _, count in rows] == [3, 0, 0, 1]
    assert [end for end, _ in rows] == sorted(end for end, _ in rows)
    assert rows[-1][0] >= 0.1
    ((end, count),) = collect(0.5).histogram(12)
    assert end == pytest.approx(0.5, rel=0.011)
    assert count == 1
    assert collect().histogram(12) == []
