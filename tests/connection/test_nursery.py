"""The hidden nursery: what a block raised comes out as it is."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import pytest
import trio

from trio_ws._util.nursery import BackgroundNursery


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


# ---- more shapes ----


async def crash(error: BaseException) -> None:
    raise error


async def test_a_block_may_be_left_by_return_break_and_continue() -> None:
    async def leave() -> str:
        for number in range(3):
            async with BackgroundNursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                if number == 0:
                    continue
                if number == 1:
                    break
        async with BackgroundNursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            return f"left at {number}"

    assert await leave() == "left at 1"


async def test_a_deadline_around_is_its_own_error_bare(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(1):
            async with BackgroundNursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await trio.sleep_forever()


async def test_a_scope_inside_the_block_is_the_blocks_business(autojump_clock: trio.testing.MockClock) -> None:
    async with BackgroundNursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        with trio.move_on_after(1) as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught
        await trio.lowlevel.checkpoint()


async def test_an_error_raised_while_a_cancellation_passes_is_the_one_that_comes_out() -> None:
    problem = Problem()
    with trio.CancelScope() as scope, pytest.raises(Problem) as caught:
        async with BackgroundNursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            scope.cancel()
            try:
                await trio.sleep_forever()
            finally:
                raise problem
    assert caught.value is problem
    assert isinstance(problem.__context__, trio.Cancelled)


async def test_an_error_of_the_block_wins_over_a_cancellation_from_around() -> None:
    problem = Problem()
    with trio.CancelScope() as scope, pytest.raises(Problem) as caught:
        async with BackgroundNursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            scope.cancel()
            raise problem
    assert caught.value is problem
    assert problem.__context__ is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_ctrl_c_in_a_task_comes_out_bare(error: type[BaseException]) -> None:
    interrupt = error()
    with pytest.raises(error) as caught:
        async with BackgroundNursery() as nursery:
            nursery.start_soon(crash, interrupt)
            await trio.sleep_forever()
    assert caught.value is interrupt


async def test_a_task_that_crashes_while_it_is_cancelled_comes_out_bare() -> None:
    async def fail_to_clean_up() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Problem("in the clean-up")

    with pytest.raises(Problem, match="in the clean-up"):
        async with BackgroundNursery() as nursery:
            nursery.start_soon(fail_to_clean_up)
            await trio.testing.wait_all_tasks_blocked()


async def test_a_shielded_clean_up_of_a_task_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    done: list[float] = []

    async def clean_up() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(3)
            done.append(trio.current_time())

    before = trio.current_time()
    async with BackgroundNursery() as nursery:
        nursery.start_soon(clean_up)
    assert done == [before + 3]


@pytest.mark.parametrize("waits", [True, False])
async def test_what_a_task_raised_keeps_its_cause_and_has_no_group_for_context(waits: bool) -> None:
    error, cause, context = Problem(), ValueError(), KeyError()
    error.__context__ = context
    error.__cause__ = cause
    with pytest.raises(Problem) as caught:
        async with BackgroundNursery() as nursery:
            nursery.start_soon(crash, error)
            if waits:
                await trio.sleep_forever()
    assert caught.value is error
    assert error.__cause__ is cause
    assert error.__context__ is context or isinstance(error.__context__, trio.Cancelled)


async def test_a_task_that_crashes_takes_the_place_of_a_cancellation() -> None:
    with trio.CancelScope() as scope, pytest.raises(Problem):
        async with BackgroundNursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(crash, Problem())
            scope.cancel()
            await trio.sleep_forever()


async def test_an_error_of_the_block_and_a_crash_are_both_seen() -> None:
    async def fail_to_clean_up() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ZeroDivisionError("a bug of ours")

    problem = Problem()
    with pytest.raises((Problem, ZeroDivisionError)) as caught:
        async with BackgroundNursery() as nursery:
            nursery.start_soon(fail_to_clean_up)
            await trio.testing.wait_all_tasks_blocked()
            raise problem
    seen: list[BaseException] = []
    error: BaseException | None = caught.value
    while error is not None:
        seen.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert {type(error) for error in seen} >= {Problem, ZeroDivisionError}


async def test_nested_blocks_pass_a_cancellation_on_bare() -> None:
    seen: list[BaseException] = []
    with trio.CancelScope() as scope:
        try:
            async with BackgroundNursery() as outer:
                outer.start_soon(trio.sleep_forever)
                async with BackgroundNursery() as inner:
                    inner.start_soon(trio.sleep_forever)
                    scope.cancel()
        except BaseException as error:
            seen.append(error)
            raise
    assert [type(error) for error in seen] == [trio.Cancelled]


async def test_an_ordinary_nursery_inside_keeps_its_groups() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with BackgroundNursery() as nursery, trio.open_nursery() as theirs:
            nursery.start_soon(trio.sleep_forever)
            theirs.start_soon(crash, Problem())
    assert [type(error) for error in caught.value.exceptions] == [Problem]


async def test_a_generator_that_is_closed_inside_its_block_is_closed() -> None:
    @contextlib.asynccontextmanager
    async def managed() -> AsyncGenerator[trio.Nursery, None]:
        async with BackgroundNursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            yield nursery

    async with managed() as nursery:
        assert len(nursery.child_tasks) == 1
    assert not nursery.child_tasks
    with pytest.raises(Problem):
        async with managed():
            raise Problem


async def test_groups_in_groups_are_unwrapped_to_the_one_that_matters() -> None:
    async def nested() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crash, Problem())

    with pytest.raises(Problem):
        async with BackgroundNursery() as nursery:
            nursery.start_soon(nested)
            await trio.sleep_forever()
