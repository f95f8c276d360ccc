"""Pings on their way, and how many control frames may come."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from trio_ws._connection.pings import Pings, PingWaiter
from trio_ws._util.token_bucket import TokenBucket


def test_a_ping_without_a_payload_gets_one_of_its_own() -> None:
    pings = Pings()
    payloads = {pings.expect(None, 0).payload for _ in range(300)}
    assert len(payloads) == 300
    assert pings.expect(b"mine", 0).payload == b"mine"


def test_a_pong_answers_its_ping_and_those_before() -> None:
    pings = Pings()
    waiters = [pings.expect(payload, at) for at, payload in enumerate([b"a", b"b", b"a", b"c"])]
    pings.answer(b"?", 5)
    assert pings.latency is None
    pings.answer(b"a", 10)  # the newest with that payload
    assert [waiter.round_trip for waiter in waiters] == [10, 9, 8, None]
    assert pings.latency == 8
    pings.forget(waiters[0])
    pings.forget(waiters[3])
    pings.answer(b"c", 11)
    assert waiters[3].round_trip is None


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(3, 2.0)
    assert [bucket.take(100) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(100.5), bucket.take(100.5)] == [True, False]
    assert [bucket.take(1000) for _ in range(4)] == [True, True, True, False]


def test_a_bucket_without_a_burst_gives_everything() -> None:
    bucket = TokenBucket(None, 0)
    assert all(bucket.take(0) for _ in range(10000))


async def test_a_pong_and_the_end_wake_who_waits() -> None:
    pings = Pings()
    first, second = pings.expect(b"1", 0), pings.expect(b"2", 1)
    woken: list[bytes] = []

    async def wait(waiter: PingWaiter) -> None:
        await waiter.parking_lot.park()
        woken.append(waiter.payload)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, first)
        nursery.start_soon(wait, second)
        await wait_all_tasks_blocked()
        pings.answer(b"1", 5)
        await wait_all_tasks_blocked()
        assert woken == [b"1"]
        pings.release()
    assert woken == [b"1", b"2"]
    assert (first.round_trip, second.round_trip, pings.latency) == (5, None, 5)


def test_a_pong_is_looked_for_among_the_newest_first() -> None:
    pings = Pings()
    same = [pings.expect(b"", at) for at in range(3)]
    pings.answer(b"", 10)
    assert [waiter.round_trip for waiter in same] == [10, 9, 8]
    late = pings.expect(b"", 10)
    pings.answer(b"", 11)
    assert (late.round_trip, same[0].round_trip, pings.latency) == (1, 10, 1)


def test_what_was_forgotten_may_be_forgotten_again() -> None:
    pings = Pings()
    waiter = pings.expect(b"", 0)
    pings.forget(waiter)
    pings.forget(waiter)
    pings.answer(b"", 1)
    assert (waiter.round_trip, pings.latency) == (None, None)


@given(st.integers(1, 20), st.floats(0, 50), st.lists(st.floats(0, 3), max_size=100))
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(burst: int, rate: float, waits: list[float]) -> None:
    bucket, now, taken = TokenBucket(burst, rate), 1000.0, 0
    for wait in waits:
        now += wait
        taken += bucket.take(now)
        assert taken <= burst + (now - 1000.0) * rate + 1e-6
    assert taken >= min(len(waits), burst)
