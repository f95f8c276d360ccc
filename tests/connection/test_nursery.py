"""The hidden nursery: what a block raised comes out as it is."""

from __future__ import annotations

import pytest
import trio

from trio_ws._nursery import BackgroundNursery


class Problem(Exception):
    pass


async def sleep_on(cleanups: list[str]) -> None:
    try:
        await trio.sleep_forever()
    finally:
        cleanups.append("cleaned")


async def test_leaving_the_block_cancels_the_tasks() -> None:
    cleanups: list[str] = []
    async with BackgroundNursery() as nursery:
        nursery.start_soon(sleep_on, cleanups)
        await trio.testing.wait_all_tasks_blocked()
    assert cleanups == ["cleaned"]


async def test_an_exception_of_the_block_is_the_same_object_with_its_context() -> None:
    problem, context = Problem(), ValueError()
    problem.__context__ = context
    with pytest.raises(Problem) as caught:
        async with BackgroundNursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise problem
    assert caught.value is problem
    assert problem.__context__ is context
    assert problem.__cause__ is None


async def test_a_group_of_the_blocks_own_is_unchanged() -> None:
    group = ExceptionGroup("mine", [Problem(), ValueError()])
    with pytest.raises(ExceptionGroup) as caught:
        async with BackgroundNursery():
            raise group
    assert caught.value is group


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, StopAsyncIteration])
async def test_anything_else_of_the_block_comes_out_too(error: type[BaseException]) -> None:
    with pytest.raises(error):
        async with BackgroundNursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise error


async def test_cancellation_from_around_stays_cancellation() -> None:
    seen: list[BaseException] = []
    with trio.CancelScope() as scope:
        try:
            async with BackgroundNursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                await trio.sleep_forever()
        except BaseException as error:
            seen.append(error)
            raise
    assert scope.cancelled_caught
    assert [type(error) for error in seen] == [trio.Cancelled]


async def test_cancellation_while_the_tasks_end_is_one_bare_cancelled() -> None:
    seen: list[BaseException] = []

    async def linger(scope: trio.CancelScope) -> None:
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
        await trio.lowlevel.checkpoint()

    with trio.CancelScope() as scope:
        try:
            async with BackgroundNursery() as nursery:
                nursery.start_soon(linger, scope)
                await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
        except BaseException as error:
            seen.append(error)
            raise
    assert [type(error) for error in seen] == [trio.Cancelled]


async def test_what_a_task_raised_comes_out_bare_if_it_is_alone() -> None:
    async def crash() -> None:
        raise Problem

    with pytest.raises(Problem):
        async with BackgroundNursery() as nursery:
            nursery.start_soon(crash)
            await trio.sleep_forever()


async def test_what_two_tasks_raised_comes_out_as_a_group() -> None:
    async def crash(error: Exception) -> None:
        raise error

    with pytest.raises(ExceptionGroup) as caught:
        async with BackgroundNursery() as nursery:
            nursery.start_soon(crash, Problem())
            nursery.start_soon(crash, ValueError())
            await trio.sleep_forever()
    assert sorted(type(error).__name__ for error in caught.value.exceptions) == ["Problem", "ValueError"]


async def test_blocks_may_be_nested() -> None:
    with pytest.raises(Problem):
        async with BackgroundNursery() as outer, BackgroundNursery() as inner:
            outer.start_soon(trio.sleep_forever)
            inner.start_soon(trio.sleep_forever)
            raise Problem


def test_loose_exception_groups_make_no_difference() -> None:
    async def main() -> None:
        with trio.move_on_after(0.001):
            async with BackgroundNursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await trio.sleep_forever()
        with pytest.raises(Problem):
            async with BackgroundNursery():
                raise Problem

    with pytest.warns(trio.TrioDeprecationWarning):
        trio.run(main, strict_exception_groups=False)
