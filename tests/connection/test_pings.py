"""Pings on their way, and how many control frames may come."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_ws._connection.pings import MOST_WITHOUT_A_TASK, Pings, SentPing
from trio_ws._util.token_bucket import TokenBucket


def test_a_ping_without_a_payload_gets_one_of_its_own() -> None:
    pings = Pings()
    payloads = {pings.note(None, 0).payload for _ in range(300)}
    assert len(payloads) == 300
    assert pings.note(b"mine", 0).payload == b"mine"


def test_a_pong_answers_its_ping_and_those_before() -> None:
    pings = Pings()
    sent = [pings.note(payload, at) for at, payload in enumerate([b"a", b"b", b"a", b"c"])]
    pings.answer(b"?", 5)
    assert pings.latency is None
    pings.answer(b"a", 10)  # the newest with that payload
    assert [ping.round_trip for ping in sent] == [10, 9, 8, None]
    assert pings.latency == 8
    pings.answer(b"b", 11)  # late: it was answered already
    assert [ping.round_trip for ping in sent] == [10, 9, 8, None]
    assert pings.latency == 8


def test_the_newest_pings_are_noted_and_all_that_a_task_waits_for() -> None:
    pings = Pings()
    waited_for = [pings.note(b"task %d" % number, 0) for number in range(5)]
    for ping in waited_for:
        ping.waited_for = True
    sent = [pings.note(b"%d" % number, 1) for number in range(MOST_WITHOUT_A_TASK + 4)]
    pings.answer(b"3", 2)  # no longer noted
    assert (waited_for[0].round_trip, sent[3].round_trip, pings.latency) == (None, None, None)
    pings.answer(b"4", 2)
    assert [ping.round_trip for ping in waited_for] == [2] * 5
    assert (sent[4].round_trip, sent[5].round_trip) == (1, None)


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
    first, second = pings.note(b"1", 0), pings.note(b"2", 1)
    woken: list[tuple[bytes, float | None]] = []

    async def wait(ping: SentPing) -> None:
        woken.append((ping.payload, await pings.wait(ping)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, first)
        nursery.start_soon(wait, second)
        await wait_all_tasks_blocked()
        assert first.waited_for
        pings.answer(b"1", 5)
        await wait_all_tasks_blocked()
        assert woken == [(b"1", 5)]
        pings.release()
    assert woken == [(b"1", 5), (b"2", None)]
    assert pings.latency == 5
    assert not first.waited_for
    assert not second.waited_for


async def test_a_ping_that_is_sent_after_the_end_has_no_answer(autojump_clock: MockClock) -> None:
    pings = Pings()
    pings.release()
    with trio.fail_after(1):
        assert await pings.wait(pings.note(None, 1.0)) is None


async def test_a_cancelled_ping_still_answers_others() -> None:
    pings = Pings()
    first, cancelled = pings.note(b"1", 0), pings.note(b"2", 1)
    with trio.move_on_after(0):
        await pings.wait(cancelled)
    pings.answer(b"2", 5)
    assert (first.round_trip, pings.latency) == (5, 4)


async def test_a_cancelled_ping_is_one_of_those_that_no_task_waits_for() -> None:
    pings = Pings()
    cancelled = pings.note(b"cancelled", 0)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pings.wait, cancelled)
            await wait_all_tasks_blocked()
            later = [pings.note(b"%d" % number, 1) for number in range(MOST_WITHOUT_A_TASK)]
            scope.cancel()
    pings.answer(b"cancelled", 5)  # no longer noted
    assert (cancelled.round_trip, pings.latency) == (None, None)
    pings.answer(b"0", 5)
    assert [ping.round_trip for ping in later[:2]] == [4, None]


def test_a_pong_is_looked_for_among_the_newest_first() -> None:
    pings = Pings()
    same = [pings.note(b"", at) for at in range(3)]
    pings.answer(b"", 10)
    assert [ping.round_trip for ping in same] == [10, 9, 8]
    late = pings.note(b"", 10)
    pings.answer(b"", 11)
    assert (late.round_trip, same[0].round_trip, pings.latency) == (1, 10, 1)


@given(st.integers(1, 20), st.floats(0, 50), st.lists(st.floats(0, 3), max_size=100))
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(burst: int, rate: float, waits: list[float]) -> None:
    bucket, now, taken = TokenBucket(burst, rate), 1000.0, 0
    for wait in waits:
        now += wait
        taken += bucket.take(now)
        assert taken <= burst + (now - 1000.0) * rate + 1e-6
    assert taken >= min(len(waits), burst)
