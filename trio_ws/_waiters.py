"""Tasks that wait to be told, where most of the time nobody does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable


class Waiters:
    """A ``trio.lowlevel.ParkingLot`` that is there only while somebody is in it: an idle one takes 200 bytes."""

    __slots__ = ("_lot",)

    def __init__(self) -> None:
        self._lot: trio.lowlevel.ParkingLot | None = None

    def __bool__(self) -> bool:
        return self._lot is not None and bool(self._lot)

    def park(self) -> Awaitable[None]:
        """Wait to be told."""
        # Not async: one coroutine less for each task that waits.
        if self._lot is None:
            self._lot = trio.lowlevel.ParkingLot()
        return self._lot.park()

    def unpark(self) -> None:
        """Let the one that has waited longest go."""
        if self._lot is not None:
            self._lot.unpark()
            if not self._lot:
                self._lot = None

    def unpark_all(self) -> None:
        """Let everyone go."""
        if self._lot is not None:
            self._lot.unpark_all()
            self._lot = None
