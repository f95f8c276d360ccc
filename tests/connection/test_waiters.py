"""Waiters: as a parking lot, and there only while somebody waits."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from trio_ws._util.waiters import Waiters


async def test_they_go_in_the_order_in_which_they_came() -> None:
    waiters = Waiters()
    gone: list[int] = []

    async def wait(number: int) -> None:
        await waiters.park()
        gone.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(wait, number)
            await wait_all_tasks_blocked()
        assert waiters
        waiters.unpark()
        await wait_all_tasks_blocked()
        assert gone == [0]
        waiters.unpark()
        await wait_all_tasks_blocked()
        assert gone == [0, 1]
        waiters.unpark()
        assert not waiters


async def test_who_is_cancelled_does_not_wait_any_more() -> None:
    waiters = Waiters()
    with trio.move_on_after(0):
        await waiters.park()
    assert not waiters
    waiters.unpark()
    assert not waiters


async def test_all_are_let_go_at_once_and_nobody_is_no_harm() -> None:
    waiters = Waiters()
    waiters.unpark()
    waiters.unpark_all()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(waiters.park)
        await wait_all_tasks_blocked()
        waiters.unpark_all()
        assert not waiters
