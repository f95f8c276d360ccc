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
    assert clock.look(125) == (Verdict.SILENT, 125)


def test_of_a_peer_that_neither_answers_nor_takes_anything_the_silence_is_told() -> None:
    clock = KeepaliveClock(Keepalive(interval=20, timeout=5), 100)
    clock.look(120, stuck_since=100)
    assert clock.look(125, stuck_since=100) == (Verdict.SILENT, 125)


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


def test_silence_tells_nothing_while_nobody_listens() -> None:
    clock = KeepaliveClock(Keepalive(interval=20, timeout=5), 100)
    clock.look(120)
    assert clock.look(1000, listening=False) == (Verdict.WAIT, 1020)
    clock.hear(1000)
    assert clock.look(1001) == (Verdict.WAIT, 1020)


def test_a_peer_that_takes_nothing_while_nobody_listens_is_given_up() -> None:
    clock = KeepaliveClock(Keepalive(interval=20, timeout=5), 100)
    assert clock.look(110, listening=False, stuck_since=105) == (Verdict.WAIT, 130)
    assert clock.look(129.9, listening=False, stuck_since=105) == (Verdict.WAIT, 130)
    assert clock.look(130, listening=False, stuck_since=106) == (Verdict.WAIT, 131)  # it has taken something
    assert clock.look(131, listening=False, stuck_since=106) == (Verdict.STUCK, 131)


def test_a_peer_that_answers_and_takes_nothing_is_given_up_too() -> None:
    clock = KeepaliveClock(Keepalive(interval=20, timeout=5), 100)
    assert clock.look(110, stuck_since=105) == (Verdict.WAIT, 120)
    assert clock.look(120, stuck_since=105) == (Verdict.ASK, 125)
    clock.hear(121)
    assert clock.look(125, stuck_since=105) == (Verdict.WAIT, 130)
    assert clock.look(130, stuck_since=105) == (Verdict.STUCK, 130)


def test_without_a_timeout_a_peer_may_take_nothing_for_ever() -> None:
    clock = KeepaliveClock(Keepalive(interval=20, timeout=None), 100)
    assert clock.look(10_000, listening=False, stuck_since=105) == (Verdict.WAIT, 10_020)


def test_a_late_clock_asks_once_more() -> None:
    clock = KeepaliveClock(Keepalive(interval=20, timeout=5), 100)
    clock.look(120)
    assert clock.look(125.05) == (Verdict.SILENT, 125)  # no clock is exact
    assert clock.look(150) == (Verdict.ASK, 155)  # the process stood still
    assert clock.look(151) == (Verdict.WAIT, 155)
    assert clock.look(155) == (Verdict.SILENT, 155)
    assert clock.look(1000) == (Verdict.SILENT, 155)  # once: a process that is always late must find a dead peer, too
    clock.hear(1001)
    assert clock.look(1001) == (Verdict.WAIT, 1021)
    clock.look(1021)
    assert clock.look(1030) == (Verdict.ASK, 1035)


def test_a_clock_that_is_a_second_late_is_late() -> None:
    clock = KeepaliveClock(Keepalive(interval=20, timeout=5), 100)
    clock.look(120)
    assert clock.look(126) == (Verdict.ASK, 131)
    clock.hear(130)
    assert clock.look(131) == (Verdict.WAIT, 150)


def test_something_overheard_counts_when_it_is_the_newest() -> None:
    clock = KeepaliveClock(Keepalive(interval=20, timeout=5), 100)
    clock.overhear(90)
    assert clock.look(101) == (Verdict.WAIT, 120)
    clock.overhear(110)
    assert clock.look(111) == (Verdict.WAIT, 130)


def test_a_late_clock_gives_a_peer_that_takes_nothing_its_time_once_more() -> None:
    clock = KeepaliveClock(Keepalive(interval=20, timeout=5), 100)
    assert clock.look(500, listening=False, stuck_since=105) == (Verdict.ASK, 505)
    assert clock.look(501, listening=False, stuck_since=105) == (Verdict.WAIT, 505)
    assert clock.look(600, listening=False, stuck_since=105) == (Verdict.STUCK, 505)


def test_without_keepalive_nobody_is_asked() -> None:
    clock = KeepaliveClock(None, 0)
    assert clock.look(10**9) == (Verdict.WAIT, math.inf)
    assert clock.limits == "interval is inf s, timeout inf s"


def test_the_limits_are_told_in_words() -> None:
    assert KeepaliveClock(Keepalive(interval=20, timeout=5), 0).limits == "interval is 20 s, timeout 5 s"
