"""The reactor: its life, its timers, how fair its steps are, and what a bug or a cancellation does."""

from __future__ import annotations

import select
import socket
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.reactors import FakeSocket, Member
from trio_ws import _reactor as reactor_module
from trio_ws import _readiness as readiness_module
from trio_ws._reactor import (
    BYTES_AT_ONCE,
    CANCELLED_TIMERS,
    STEP_TIME,
    TIMERS_AT_ONCE,
    Reactor,
)
from trio_ws._readiness import EVENTS_AT_ONCE
from trio_ws._util.nursery import BackgroundNursery

# ---- its life ----


async def test_it_runs_while_it_has_members() -> None:
    async with BackgroundNursery() as nursery:
        reactor, one, two = Reactor(nursery, shield=False), Member(), Member()
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks
        for _ in range(2):  # it begins anew
            reactor.add(one)
            reactor.add(two)
            await wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 1
            reactor.remove(one)
            reactor.remove(one)
            await wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 1
            reactor.remove(two)
            await wait_all_tasks_blocked()
            assert not nursery.child_tasks
        assert one.log == two.log == []


async def test_cancelled_it_abandons_its_members_the_newest_first() -> None:
    log: list[object] = []
    members = [Member(log) for _ in range(3)]
    async with trio.open_nursery() as nursery:
        reactor = Reactor(nursery, shield=False)
        for member in members:
            reactor.add(member)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert log == [("abandon", member) for member in reversed(members)]


async def test_a_task_that_was_woken_before_runs_before_members_are_abandoned() -> None:
    for _ in range(20):  # trio shuffles the tasks of a step
        log: list[object] = []
        member = Member(log)
        async with trio.open_nursery() as nursery:
            reactor = Reactor(nursery, shield=False)
            reactor.add(member)
            done = trio.Event()

            async def wait_until_done(done: trio.Event = done, log: list[object] = log) -> None:
                await done.wait()
                log.append("woken")

            nursery.start_soon(wait_until_done)
            await wait_all_tasks_blocked()
            done.set()
            nursery.cancel_scope.cancel()
        assert log == ["woken", ("abandon", member)]


async def test_with_a_shield_it_stays_until_the_last_member_goes() -> None:
    member = Member()
    async with trio.open_nursery() as nursery:
        reactor = Reactor(nursery, shield=True)
        reactor.add(member)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            called: list[float] = []
            reactor.call_soon(member, lambda: called.append(1))
            await wait_all_tasks_blocked()
            assert called == [1]
        reactor.remove(member)
    assert member.log == []


async def test_a_member_that_is_removed_twice_takes_no_others_shield() -> None:
    member, other = Member(), Member()
    async with trio.open_nursery() as nursery:
        reactor = Reactor(nursery, shield=True)
        reactor.add(member)
        reactor.add(other)
        for _ in range(2):
            reactor.remove(other)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
        reactor.remove(member)
    assert member.log == []


async def test_a_member_that_only_waits_a_while_keeps_no_shield() -> None:
    log: list[object] = []
    one, two = Member(log), Member(log)
    async with trio.open_nursery() as nursery:
        reactor = Reactor(nursery, shield=True)
        reactor.add(one)
        reactor.add(two)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            reactor.unshield(one)
            reactor.unshield(one)
            await wait_all_tasks_blocked()
            assert log == []
            reactor.remove(two)
            reactor.unshield(two)
            await wait_all_tasks_blocked()
    assert log == [("abandon", one)]


async def test_a_closed_nursery_is_told_and_changes_nothing() -> None:
    async with trio.open_nursery() as nursery:
        pass
    reactor = Reactor(nursery, shield=True)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            reactor.add(Member())


# ---- calls ----


async def test_calls_are_made_in_order_after_others_have_run(autojump_clock: MockClock) -> None:
    async with BackgroundNursery() as nursery:
        reactor, member = Reactor(nursery, shield=True), Member()
        reactor.add(member)
        for number in range(3):
            reactor.call_soon(member, lambda number=number: member.log.append(number))  # type: ignore[misc]
        assert member.log == []
        await wait_all_tasks_blocked()
        assert member.log == [0, 1, 2]
        reactor.remove(member)


async def test_a_call_can_be_some_steps_later(autojump_clock: MockClock) -> None:
    async with BackgroundNursery() as nursery:
        reactor, member = Reactor(nursery, shield=True), Member()
        reactor.add(member)
        reactor.call_after(3, member, lambda: member.log.append("after"))

        def count(left: int) -> None:
            member.log.append(left)
            if left:
                reactor.call_soon(member, lambda: count(left - 1))

        reactor.call_soon(member, lambda: count(5))
        await wait_all_tasks_blocked()
        assert member.log == [5, 4, "after", 3, 2, 1, 0]
        reactor.remove(member)


async def test_a_bug_in_a_call_ends_its_owner_and_nothing_else(autojump_clock: MockClock) -> None:
    bug = ZeroDivisionError()

    def fail() -> None:
        raise bug

    async with BackgroundNursery() as nursery:
        reactor, member, other = Reactor(nursery, shield=True), Member(), Member()
        reactor.add(member)
        reactor.call_soon(member, fail)
        reactor.call_soon(other, lambda: other.log.append("fine"))
        reactor.call_at(trio.current_time() + 1, member, fail)
        await trio.sleep(2)
        assert member.log == [bug, bug]
        assert other.log == ["fine"]
        reactor.remove(member)


# ---- timers ----


async def test_timers_are_called_in_their_order_and_on_time(autojump_clock: MockClock) -> None:
    async with BackgroundNursery() as nursery:
        reactor, member = Reactor(nursery, shield=True), Member()
        reactor.add(member)
        await wait_all_tasks_blocked()
        begin = trio.current_time()
        for delay in (3, 1, 2, 1):
            reactor.call_at(
                begin + delay,
                member,
                lambda delay=delay: member.log.append((delay, trio.current_time() - begin)),  # type: ignore[misc]
            )
        await trio.sleep(5)
        assert member.log == [(1, 1), (1, 1), (2, 2), (3, 3)]
        reactor.remove(member)


async def test_a_cancelled_timer_is_not_called_and_keeps_nothing(autojump_clock: MockClock) -> None:
    async with BackgroundNursery() as nursery:
        reactor, member = Reactor(nursery, shield=True), Member()
        reactor.add(member)
        timer = reactor.call_at(trio.current_time() + 1, member, lambda: member.log.append("called"))
        timer.cancel()
        timer.cancel()
        assert timer.call is None
        await trio.sleep(2)
        assert member.log == []
        done = reactor.call_at(trio.current_time(), member, lambda: member.log.append("called"))
        await trio.sleep(1)
        done.cancel()
        assert member.log == ["called"]
        reactor.remove(member)


async def test_many_cancelled_timers_are_thrown_out(autojump_clock: MockClock) -> None:
    async with BackgroundNursery() as nursery:
        reactor, member = Reactor(nursery, shield=True), Member()
        reactor.add(member)
        reactor.call_at(50, member, lambda: member.log.append("kept"))
        for number in range(10 * CANCELLED_TIMERS):
            reactor.call_at(100 + number, member, lambda: member.log.append("never")).cancel()
            assert len(reactor._timers) <= CANCELLED_TIMERS + 2
        await trio.sleep(10_000)
        assert member.log == ["kept"]
        reactor.remove(member)


async def test_timers_keep_their_order_when_others_are_thrown_out(autojump_clock: MockClock) -> None:
    async with BackgroundNursery() as nursery:
        reactor, member = Reactor(nursery, shield=True), Member()
        reactor.add(member)
        delays = [number * 37 % 101 for number in range(1, 101)]
        for delay in delays:
            reactor.call_at(delay, member, lambda delay=delay: member.log.append(delay))  # type: ignore[misc]
        doomed = [reactor.call_at(number * 53 % 211, member, lambda: None) for number in range(211)]
        for timer in doomed:
            timer.cancel()
        assert len(reactor._timers) < len(delays) + len(doomed)
        await trio.sleep(300)
        assert member.log == sorted(delays)
        reactor.remove(member)


async def test_others_run_while_many_timers_are_due(autojump_clock: MockClock) -> None:
    async with BackgroundNursery() as nursery:
        reactor, member = Reactor(nursery, shield=True), Member()
        reactor.add(member)
        for _ in range(4 * TIMERS_AT_ONCE):
            reactor.call_at(1, member, lambda: member.log.append("due"))
        seen = [0]
        await trio.sleep(1)
        with trio.move_on_after(1):
            while seen[-1] < 4 * TIMERS_AT_ONCE:
                seen.append(len(member.log))
                await trio.lowlevel.checkpoint()
        reactor.remove(member)
    assert seen[-1] == 4 * TIMERS_AT_ONCE
    # Tasks run in any order in each pass: two steps of the reactor may follow each other, and no three.
    assert max(after - before for before, after in pairwise(seen)) <= 2 * TIMERS_AT_ONCE


# ---- sockets ----


async def test_a_step_handles_so_many_bytes_and_the_rest_comes_next() -> None:
    pairs = [socket.socketpair() for _ in range(6)]
    steps: list[int] = []
    async with BackgroundNursery() as nursery:
        reactor, member = Reactor(nursery, shield=True), Member()
        reactor.add(member)
        socks = [FakeSocket(ours, BYTES_AT_ONCE // 2) for ours, _ in pairs]
        for sock in socks:
            reactor.add_socket(sock)
        socks[0].on_events = lambda: reactor.again(socks[0])  # it comes after those that wait
        while not all(sock.events for sock in socks):
            await trio.lowlevel.checkpoint()
            steps.append(sum(bool(sock.events) for sock in socks))
        for sock in socks:
            reactor.remove_socket(sock)
        reactor.remove(member)
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
    assert max(after - before for before, after in zip([0, *steps], steps, strict=False)) <= 4  # two steps in a pass
    assert len({*steps}) >= 2


async def test_a_bug_in_a_socket_is_its_own() -> None:
    bug = ZeroDivisionError()

    class Broken(FakeSocket):
        def handle_events(self, events: int) -> int:
            raise bug

    ours, theirs = socket.socketpair()
    async with BackgroundNursery() as nursery:
        reactor, member = Reactor(nursery, shield=True), Member()
        reactor.add(member)
        broken = Broken(ours)
        reactor.add_socket(broken)
        await wait_all_tasks_blocked(0.001)
        assert broken.log == [bug]
        reactor.remove_socket(broken)
        reactor.remove_socket(broken)
        reactor.remove(member)
    ours.close()
    theirs.close()


async def test_an_event_for_a_socket_that_was_removed_in_the_same_step_is_dropped() -> None:
    one, other = socket.socketpair()
    async with BackgroundNursery() as nursery:
        reactor, member = Reactor(nursery, shield=True), Member()
        reactor.add(member)

        class Pair(FakeSocket):
            partner: FakeSocket

            def handle_events(self, events: int) -> int:
                reactor.remove_socket(self.partner)
                return super().handle_events(events)

        first, second = Pair(one), Pair(other)
        first.partner, second.partner = second, first
        reactor.add_socket(first)
        reactor.add_socket(second)
        await wait_all_tasks_blocked(0.001)
        assert len(first.events) + len(second.events) >= 1
        reactor.remove_socket(first)
        reactor.remove_socket(second)
        reactor.remove(member)
    one.close()
    other.close()


async def test_no_more_is_fetched_while_enough_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness_module, "EVENTS_AT_ONCE", 2)
    assert EVENTS_AT_ONCE > 2
    pairs = [socket.socketpair() for _ in range(5)]
    async with BackgroundNursery() as nursery:
        reactor, member = Reactor(nursery, shield=True), Member()
        reactor.add(member)
        socks = [FakeSocket(ours, BYTES_AT_ONCE) for ours, _ in pairs]
        for sock in socks:
            reactor.add_socket(sock)
        await wait_all_tasks_blocked(0.001)
        assert all(sock.events for sock in socks)
        for sock in socks:
            reactor.remove_socket(sock)
        reactor.remove(member)
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


class SlowClock:
    """The process's clock, which goes on when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(reactor_module, "perf_counter", lambda: self.now)

    def work(self) -> None:
        """Take more than a third of a step."""
        self.now += STEP_TIME * 0.4


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="there is no epoll")
async def test_a_step_that_has_taken_long_leaves_other_sockets_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SlowClock(monkeypatch)
    pairs = [socket.socketpair() for _ in range(7)]
    handled: list[list[int]] = []
    handle_ready = Reactor._handle_ready

    def begin_step(self: Reactor, until: float) -> None:
        handled.append([])
        handle_ready(self, until)

    monkeypatch.setattr(Reactor, "_handle_ready", begin_step)
    async with BackgroundNursery() as nursery:
        reactor, member = Reactor(nursery, shield=False), Member()
        reactor.add(member)
        socks = [FakeSocket(ours) for ours, _ in pairs]
        for number, sock in enumerate(socks):

            def handle(number: int = number) -> None:
                clock.work()
                handled[-1].append(number)

            sock.on_events = handle
            reactor.add_socket(sock)
        while sum(map(len, handled)) < len(socks):
            await trio.lowlevel.checkpoint()
        assert [len(step) for step in handled] == [3, 3, 1]
        assert sorted(number for step in handled for number in step) == list(range(7))
        for sock in socks:
            reactor.remove_socket(sock)
        reactor.remove(member)
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


async def test_calls_for_which_a_step_has_no_time_come_before_those_that_were_asked_for_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SlowClock(monkeypatch)
    steps: list[list[str]] = []
    call_until = reactor_module._call_until

    def begin_step(until: float, calls: list[Any]) -> list[Any]:
        steps.append([])
        return call_until(until, calls)

    monkeypatch.setattr(reactor_module, "_call_until", begin_step)
    async with BackgroundNursery() as nursery:
        reactor, member = Reactor(nursery, shield=False), Member()
        reactor.add(member)

        def call(name: str) -> None:
            clock.work()
            steps[-1].append(name)
            if name.isdigit():
                reactor.call_soon(member, partial(call, f"after {name}"))

        for number in range(4):
            reactor.call_soon(member, partial(call, str(number)))
        while sum(map(len, steps)) < 8:
            await trio.lowlevel.checkpoint()
        assert steps == [["0", "1", "2"], ["3"], ["after 0", "after 1", "after 2"], ["after 3"]]
        reactor.remove(member)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="there is no epoll")
async def test_sockets_have_their_turn_between_calls_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SlowClock(monkeypatch)
    ours, theirs = socket.socketpair()
    called = 0
    async with BackgroundNursery() as nursery:
        reactor, member, sock = Reactor(nursery, shield=False), Member(), FakeSocket(ours)
        reactor.add(member)
        reactor.add_socket(sock)
        await wait_all_tasks_blocked(0.001)
        sock.events.clear()

        def call_again() -> None:
            nonlocal called
            called += 1
            clock.work()
            reactor.call_soon(member, call_again)

        for _ in range(5):
            reactor.call_soon(member, call_again)
        await trio.lowlevel.checkpoint()
        theirs.send(b"x")
        while not sock.events:
            await trio.lowlevel.checkpoint()
        assert called <= 10
        reactor.remove_socket(sock)
        reactor.remove(member)
    ours.close()
    theirs.close()
