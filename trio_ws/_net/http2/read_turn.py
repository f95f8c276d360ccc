"""Who reads from an HTTP/2 connection: one task at a time, its own or one that waits for a stream.

Theory of operation:

1. Whoever reads understands all that comes, for whichever stream it is, in one synchronous step.
2. A task that waits for input of one stream reads for itself when nobody does, as over HTTP/1.1: a message that it
   waits for costs no task switch.
3. When it leaves, and anybody else waits for what only reading brings, the connection's own task goes on at once: no
   stream ever waits for another's application. When nobody waits, it does so after ``HANDOVER_DELAY``, unless somebody
   has come back to read by then.
4. It leaves the reading to others again when what it read was waited for, and nobody waits any more.
5. When a step brings something to several who wait, they answer together: so what streams write is held back for two
   passes of the scheduler, in which all of them run, and goes in one write, or in several if it is much.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import trio

from ..._transport import HANDOVER_DELAY, INPUT_PASSES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..._transport import Transport

_PASSES = 2  # of the scheduler, which runs those of one pass in any order: after two all have run that were woken


class Holder(Protocol):
    """What can keep what is written, to send it with more."""

    holding: bool


class Reading:
    """Gives tasks the turn to read.

    Args:
        below: where to wait for input.
        sender: holds back what is written meanwhile.
        understand: reads what is here and understands it; never raises.
        release: sends what was held back.
        hurry: has the connection's own task look at the clock by then.

    Attributes:
        due: when the connection's own task reads on, unless somebody else does.
        more: whether more whole frames wait than one step may understand.
        waiting: tasks that wait for input or room, except who reads.
        woken: tasks that the last step of reading brought something.
    """

    __slots__ = (
        "_below",
        "_called",
        "_hurry",
        "_own",
        "_reader",
        "_release",
        "_sender",
        "_understand",
        "clock",
        "due",
        "more",
        "waiting",
        "woken",
    )

    def __init__(
        self,
        below: Transport,
        sender: Holder,
        understand: Callable[[], None],
        release: Callable[[], None],
        hurry: Callable[[float], None],
    ) -> None:
        self._below = below
        self._sender = sender
        self._understand = understand
        self._release = release
        self._hurry = hurry
        self._called = trio.lowlevel.ParkingLot()  # the connection's own task
        self._own = True  # it has the turn
        self._reader: trio.lowlevel.ParkingLot | None = None  # where the task that has the turn would wait instead
        self.clock = trio.lowlevel.current_clock().current_time  # trio.current_time() looks for it each time
        self.due = math.inf
        self.more = False
        self.waiting = 0
        self.woken = 0

    # ---- tasks that wait for a stream ----

    def wait_for_input(self, lot: trio.lowlevel.ParkingLot) -> Awaitable[None]:
        """Wait until ``lot`` is roused, or read; one task at a time for each lot."""
        return self._park(lot) if self._own or self._reader is not None else self._read_for(lot)

    async def wait_for_room(self, lot: trio.lowlevel.ParkingLot) -> None:
        """Wait until ``lot`` is roused, while somebody reads: what makes room is told by the peer."""
        if self._reader is None:
            self._call()
        await self._park(lot)

    async def _park(self, lot: trio.lowlevel.ParkingLot) -> None:
        self.waiting += 1
        try:
            await lot.park()
        except BaseException:  # it was cancelled, and not roused
            self.waiting -= 1
            raise

    @trio.lowlevel.enable_ki_protection
    async def _read_for(self, lot: trio.lowlevel.ParkingLot) -> None:
        self._reader = lot
        try:
            await self._below.readable()
            self._step()
        except trio.ClosedResourceError:  # from wake()
            pass
        finally:
            self._reader = None
            if self.waiting or self.more or self._sender.holding:
                self._call()
            elif self.due == math.inf:
                self._arm()

    def rouse(self, lot: trio.lowlevel.ParkingLot) -> bool:
        """Let who waits for input look again, some has come; tell whether there was anybody."""
        if lot is not self._reader:
            if not lot:
                return False
            self.let_go(lot)
        self.woken += 1
        return True

    def let_go(self, lot: trio.lowlevel.ParkingLot) -> None:
        """Let who waits here look again."""
        if lot:
            self.waiting -= len(lot)
            lot.unpark_all()

    def wake(self, lot: trio.lowlevel.ParkingLot) -> None:
        """Let who waits for input look again, even if it reads meanwhile."""
        self.let_go(lot)
        if lot is self._reader:
            self._below.wake()

    # ---- the connection's own task ----

    def look_at_clock(self) -> float:
        """Take the turn if it is time for that; return when to look again."""
        if self._own or self._reader is not None:
            self.due = math.inf
        elif self.clock() >= self.due:
            self._own = True
            self.due = math.inf
        return self.due

    async def attend(self) -> None:
        """Read once, or wait until that is called for; the connection's own task does nothing else."""
        if self._sender.holding:
            for _ in range(_PASSES):
                await trio.lowlevel.checkpoint()
            self._release()
        elif not self._own:
            await self._called.park()
        else:
            if self.more:
                await trio.lowlevel.checkpoint()
            else:
                await self._below.wait_readable()
            self._step()
            if self.woken and not self.waiting and not self.more:
                self._own = False
                self._arm()

    async def look_at_input(self) -> None:
        """Understand what has come, or have the task do so that has the turn: the clock may be the first to notice."""
        for _ in range(INPUT_PASSES):
            if self._reader is None:
                self._step()
            await trio.lowlevel.checkpoint()

    def _call(self) -> None:
        self._own = True
        self._called.unpark()

    def _arm(self) -> None:
        self.due = self.clock() + HANDOVER_DELAY
        self._hurry(self.due)

    def _step(self) -> None:
        self.woken = 0
        self._understand()
        if self.woken > 1:
            self._sender.holding = True
