"""How a command runs and ends: the exit statuses, the one line of an error, and what Ctrl-C does."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from .._util.nursery import BackgroundNursery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

FINE = 0
FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130  # what shells report for a program that Ctrl-C ended


class Failure(Exception):
    """A command cannot go on; its message is the one line that the user gets.

    Attributes:
        status: the exit status.
    """

    def __init__(self, line: str, status: int = FAILED) -> None:
        super().__init__(line)
        self.status = status


class Interrupts:
    """What Ctrl-C and SIGTERM do to a command: end it gently the first time if it can, at once the next time."""

    def __init__(self) -> None:
        self._end_gently: Callable[[], None] | None = None

    @contextmanager
    def ending_gently(self, end: Callable[[], None]) -> Iterator[None]:
        """While the block lasts, the first interrupt calls ``end``."""
        self._end_gently = end
        try:
            yield
        finally:
            self._end_gently = None

    async def watch(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        """Obey signals."""
        async for _ in signals:
            end, self._end_gently = self._end_gently, None
            if end is None:
                scope.cancel()
            else:
                end()


async def run_interruptible(command: Callable[[Interrupts], Awaitable[int]]) -> int:
    """Run a command and return its exit status, INTERRUPTED if it was cut off; what it raises comes out bare."""
    with (
        trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals,
        trio.CancelScope() as scope,
    ):
        async with BackgroundNursery() as nursery:
            interrupts = Interrupts()
            nursery.start_soon(interrupts.watch, signals, scope)
            return await command(interrupts)
    return INTERRUPTED
