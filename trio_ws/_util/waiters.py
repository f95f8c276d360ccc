"""Tasks that wait to be told, where most of the time nobody does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable


class Waiters:
    """A ``trio.lowlevel.ParkingLot`` that is there only while somebody is in it: an idle one takes 200 bytes.

    Attributes:
        lot: None, or it, perhaps empty; as true as this itself, and quicker to look at.
    """

    __slots__ = ("lot",)

    def __init__(self) -> None:
        self.lot: trio.lowlevel.ParkingLot | None = None

    def __bool__(self) -> bool:
        return self.lot is not None and bool(self.lot)

    def park(self) -> Awaitable[None]:
        """Wait to be told."""
        # Not async: one coroutine less for each task that waits.
        if self.lot is None:
            self.lot = trio.lowlevel.ParkingLot()
        return self.lot.park()

    def unpark(self) -> None:
        """Let the one that has waited longest go."""
        if self.lot is not None:
            self.lot.unpark()
            if not self.lot:
                self.lot = None

    def unpark_all(self) -> None:
        """Let everyone go."""
        if self.lot is not None:
            self.lot.unpark_all()
            self.lot = None
