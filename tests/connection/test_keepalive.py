"""The keepalive clock, second by second."""

from __future__ import annotations

import math

from trio_ws import Keepalive
from trio_ws._connection.keepalive import KeepaliveClock, Verdict


def test_a_silent_peer_is_asked_then_given_up() -> None:
    clock = KeepaliveClock(Keepalive(interval=20, timeout=5), 100)
    assert clock.look(100) == (Verdict.WAIT, 120)
    assert clock.look(119.9) == (Verdict.WAIT, 120)
    assert clock.look(120) == (Verdict.ASK, 125)
    assert clock.look(124.9) == (Verdict.WAIT, 125)
    assert clock.look(125) == (Verdict.GIVE_UP, 125)


def test_any_byte_after_the_question_is_an_answer() -> None:
    clock = KeepaliveClock(Keepalive(interval=20, timeout=5), 100)
    clock.look(120)
    clock.hear(120)
    assert clock.look(121) == (Verdict.WAIT, 140)
    clock.hear(130)
    assert clock.look(140) == (Verdict.WAIT, 150)


def test_without_a_timeout_nobody_is_given_up() -> None:
    clock = KeepaliveClock(Keepalive(interval=20, timeout=None), 100)
    assert clock.look(120) == (Verdict.ASK, 140)
    assert clock.look(139) == (Verdict.WAIT, 140)
    assert clock.look(140) == (Verdict.ASK, 160)


def test_a_clock_can_stand_still() -> None:
    clock = KeepaliveClock(Keepalive(interval=20, timeout=5), 100)
    clock.look(120)
    clock.stop()
    assert clock.look(1000) == (Verdict.WAIT, math.inf)
    clock.restart(1000)
    assert clock.look(1001) == (Verdict.WAIT, 1020)


def test_without_keepalive_nobody_is_asked() -> None:
    assert KeepaliveClock(None, 0).look(10**9) == (Verdict.WAIT, math.inf)
