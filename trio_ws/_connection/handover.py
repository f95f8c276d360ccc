"""The clock that tells attendants when an application has not come back to read; one for many connections.

A clock of its own for each connection would make it pay a time-out, which costs as much as receiving a message, for
nearly every message that comes alone.

Rules:

1. Who is expected at the clock is called once, after :data:`HANDOVER_DELAY` seconds or up to twice that.
2. The clock's task lives while somebody is expected, and not longer: the nursery may be the caller's, who leaves it.
3. When it is cancelled everyone is called at once, and from then on nobody waits.
"""

from __future__ import annotations

from itertools import islice
from typing import Protocol

import trio

from .._transport import HANDOVER_DELAY

CALLS_AT_ONCE = 256  # before others may run

_TASK = "trio_ws._connection.handover.Handover"


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

    __slots__ = ("_called", "_cancelled", "_expected", "_nursery", "_running", "_sleep")

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._expected: dict[Expected, None] = {}  # sets, which keep their order
        self._called: dict[Expected, None] = {}  # those of them that are called next
        self._running = False
        self._sleep: trio.CancelScope | None = None
        self._cancelled = False

    def expect(self, reader: Expected) -> None:
        """Call this one in a while."""
        if self._cancelled:
            reader.take_over_now()
            return
        self._expected[reader] = None
        if not self._running:
            self._running = True
            self._nursery.start_soon(self._run, name=_TASK)

    def forget(self, reader: Expected) -> None:
        """Do not call this one."""
        self._expected.pop(reader, None)
        self._called.pop(reader, None)
        if self._sleep is not None and not self._expected and not self._called:
            self._sleep.cancel()

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        try:
            while self._expected:
                self._called, self._expected = self._expected, {}
                with trio.CancelScope() as self._sleep:
                    await trio.sleep(HANDOVER_DELAY)
                await self._call()
        except trio.Cancelled:
            self._cancelled = True
            for reader in (*self._called, *self._expected):
                reader.take_over_now()
            raise
        finally:
            self._running, self._sleep = False, None

    async def _call(self) -> None:
        while self._called:
            for reader in tuple(islice(self._called, CALLS_AT_ONCE)):
                del self._called[reader]
                reader.take_over_if_free()
            if self._called:
                await trio.lowlevel.checkpoint()
