"""Pings on their way, and how many control frames may come."""

from __future__ import annotations

from trio_ws._pings import Pings, TokenBucket


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
