"""Cancel a piece of code at every step that it takes, one run for each, and look at what is left.

A *scenario* is an async context manager. It sets the scene, gives an *act*, and after its ``yield`` checks what must
hold whether the act was cancelled or not. The act is what is cancelled: before the first step that any task takes while
it runs, then before the second, and so on, until it ends before it would be cancelled.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from ..raw import open_files
from ..serving import live_tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

Act = Callable[[], Awaitable[object]]
Scenario = Callable[[], AbstractAsyncContextManager[Act]]

RUN_LIMIT = 20.0  # seconds for one run: none needs a tenth


class CancelAtStep(trio.abc.Instrument):
    """Counts the steps of all tasks, and cancels a scope before one of them."""

    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self.steps = 0
        self._scope = scope
        self._step = step

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        if self.steps == self._step:
            self._scope.cancel()


@dataclass(slots=True)
class Sweep:
    """What a sweep did.

    Attributes:
        runs: how often the scenario was run.
        cancelled: how many of the runs ended by the cancellation.
        completed: how many ended by themselves, the last one before it would have been cancelled.
    """

    runs: int = 0
    cancelled: int = 0
    completed: int = 0


def cancel_everywhere(scenario: Scenario, *, at_least: int, clock: Callable[[], trio.abc.Clock] | None = None) -> Sweep:
    """Run a scenario again and again, cancelled at another step each time.

    After each run no task, no file descriptor and no warning may be left, and what the scenario checks must hold.

    Args:
        scenario: what to run.
        at_least: how many runs must have ended by the cancellation, so that the sweep is known to have swept.
        clock: makes the clock of a run; None: real time.
    """
    sweep = Sweep()
    gc.collect()  # what a test before this one left open is not ours
    with no_warnings():
        step = 1
        while not _run_once(scenario, step, clock, sweep):
            step += 1
    assert sweep.cancelled >= at_least, sweep
    assert sweep.completed >= 1, sweep
    return sweep


def _run_once(scenario: Scenario, step: int, clock: Callable[[], trio.abc.Clock] | None, sweep: Sweep) -> bool:
    """Run it once; True when the act ended before it was cancelled."""

    async def run() -> trio.CancelScope:
        tasks = live_tasks()
        with trio.fail_after(RUN_LIMIT):
            async with scenario() as act:
                with trio.CancelScope() as scope, _watching(CancelAtStep(scope, step)):
                    await act()
        assert live_tasks() == tasks
        return scope

    files = open_files()
    try:
        scope = trio.run(run, clock=None if clock is None else clock())
    except BaseException as error:
        error.add_note(f"the act was cancelled at step {step}")
        raise
    assert open_files() == files, f"descriptors are left: the act was cancelled at step {step}"
    sweep.runs += 1
    if scope.cancelled_caught:
        sweep.cancelled += 1
    else:
        sweep.completed += 1
    return not scope.cancel_called


@contextmanager
def _watching(instrument: trio.abc.Instrument) -> Iterator[None]:
    trio.lowlevel.add_instrument(instrument)
    try:
        yield
    finally:
        trio.lowlevel.remove_instrument(instrument)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Fail if anything is warned of, or raised where nobody can catch it, up to the garbage collector."""
    found: list[object] = []
    before = sys.unraisablehook
    sys.unraisablehook = lambda what: found.append((what.err_msg, what.object, what.exc_value))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
            gc.collect()
    finally:
        sys.unraisablehook = before
    assert not found
