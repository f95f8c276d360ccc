"""The fuzz targets on bytes that are interesting, on those with a few changes, and on any that hypothesis thinks of."""

from __future__ import annotations

import importlib
import random
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trio_ws import CloseInfo, Limits
from trio_ws._wire.events import Close, Event, Ping

from .__main__ import TARGETS
from .choices import mutate
from .fuzz_frames import check_events

SLOW = {"http2_client": 10, "http2_server": 10, "chaos": 5}  # examples; each is a whole connection

each_target = pytest.mark.parametrize("name", TARGETS)


def load(name: str) -> ModuleType:
    """Import a target."""
    return importlib.import_module(f".fuzz_{name}", __package__)


@each_target
def test_the_seeds_keep_the_invariant(name: str) -> None:
    target = load(name)
    for data in target.SEEDS:
        target.TestOneInput(data)


@each_target
def test_what_is_almost_a_seed_keeps_the_invariant(name: str) -> None:
    target = load(name)

    @settings(max_examples=SLOW.get(name, 60), deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(target.SEEDS), st.sampled_from(target.SEEDS), st.integers(0, 2**32))
    def check(data: bytes, other: bytes, chance: int) -> None:
        target.TestOneInput(mutate(data, other, random.Random(chance)))

    check()


@each_target
def test_any_bytes_keep_the_invariant(name: str) -> None:
    target = load(name)

    @settings(max_examples=SLOW.get(name, 60), deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=200))
    def check(data: bytes) -> None:
        target.TestOneInput(data)

    check()


@pytest.mark.parametrize(
    "bad",
    [["\u20ac" * 2**19], [b"x" * (2**20 + 1)], [Ping(b"x" * 126)], [Close(CloseInfo()), "late"]],
    ids=["text", "bytes", "ping", "after a close"],
)
def test_the_target_looks_at_what_comes_out(bad: list[Event]) -> None:
    check_events([Ping(b"x" * 125), "x" * 2**20, Close(CloseInfo(1000, "x" * 123))], Limits())
    with pytest.raises(AssertionError):
        check_events(bad, Limits())
