"""The clock that tells attendants when an application has not come back to read; one for many connections.

A clock of its own for each connection would make it pay a time-out, which costs as much as receiving a message, for
nearly every message that comes alone.

Rules:

1. Who is expected at the clock is called once, after :data:`HANDOVER_DELAY` seconds or up to twice that.
2. The clock's task lives while somebody is expected. When it is cancelled everyone is called at once, and from then on
   nobody waits.
"""

from __future__ import annotations

from typing import Protocol

import trio

# Long enough that an application that answers messages as they come is never interrupted, short enough that a ping to
# one that is busy is answered soon.
HANDOVER_DELAY = 0.01  # seconds
CALLS_AT_ONCE = 256  # before others may run

_TASK = "trio_ws._handover.Handover"


class Expected(Protocol):
    """Who is called."""

    def take_over_now(self) -> None:
        """Read, whoever else may."""

    def take_over_if_free(self) -> None:
        """Read if nobody does."""


class Handover:
    """Calls attendants some time after they were expected.

    Args:
        nursery: where its task runs.
    """

    __slots__ = ("_cancelled", "_expected", "_nursery", "_running")

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._expected: list[Expected] = []
        self._running = False
        self._cancelled = False

    def expect(self, attendant: Expected) -> None:
        """Call this attendant in a while."""
        if self._cancelled:
            attendant.take_over_now()
            return
        self._expected.append(attendant)
        if not self._running:
            self._running = True
            self._nursery.start_soon(self._run, name=_TASK)

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        called: list[Expected] = []
        try:
            while self._expected:
                called, self._expected = self._expected, []
                await trio.sleep(HANDOVER_DELAY)
                while called:
                    for attendant in called[-CALLS_AT_ONCE:]:
                        attendant.take_over_if_free()
                    del called[-CALLS_AT_ONCE:]
                    if called:
                        await trio.lowlevel.checkpoint()
            self._running = False
        except trio.Cancelled:
            self._cancelled = True
            for attendant in (*called, *self._expected):
                attendant.take_over_now()
            self._expected.clear()
            raise
