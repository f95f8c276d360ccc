"""One task that reads and writes for all sockets of an owner, and keeps time for all of its connections.

Theory of operation:

1. The owner is a server, an agent, or the scope of one WebSocket. The task lives while there are *members*, the
   connections, and ends with the last one: the nursery may be a caller's, who leaves it.
2. A *step* is synchronous and bounded: sockets that are ready, each once, then callbacks that were asked for before.
   What these ask for comes in the next step, and other tasks run between. So a connection understands no more in a step
   than it wants to, and no connection can hold up another for longer. After :data:`STEP_TIME` nothing more is begun:
   what a few bytes mean can be much, and many connections can send them. What is left comes in the next step, before
   anything else.
3. Which sockets are ready tells :mod:`trio_ws._readiness`, once each time that something comes. A socket that was not
   read until it was empty gives no second event, so it says :meth:`Reactor.again`.
4. Timers are a heap. One cancel scope around the waits has the earliest deadline, so a wait costs no scope.
5. A WebSocket that is alone on the only socket can do with one task less: the task that waits for its message waits for
   the *lone socket* itself, and reads. The reactor ignores the input of that socket for so long, and only for so long:
   whenever no task waits for the socket, the reactor does.
6. Cancelled, the reactor has its members end at once, the newest first: a WebSocket before the connection that
   carries it. A task that was woken before, in the same nursery, runs first: it is to meet the cancellation, and not
   the error that its connection has gone. With ``shield`` the reactor stays until its members have ended by themselves:
   their blocks can still say goodbye.
"""

from __future__ import annotations

import heapq
import itertools
import math
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import trio

from ._readiness import READ, Guarded, best_readiness, call_guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._readiness import Readiness, ReadySocket

BYTES_AT_ONCE = 2**20  # that a step reads
STEP_TIME = 0.002  # seconds, of the process's own clock: trio's may stand still in tests
TIMERS_AT_ONCE = 128

# Steps in which all that lies in a socket comes up through any pile of streams. What ends a connection because of the
# clock waits so long: the process may have stood still, and what it waits for came meanwhile.
INPUT_PASSES = 16

CANCELLED_TIMERS = 64  # that the heap may keep, or as many as there are others


class Member(Guarded, Protocol):
    """A connection that keeps its reactor running."""

    def abandon(self) -> None:
        """End at once: the reactor was cancelled."""


class Timer:
    """A call that was asked for at a time."""

    __slots__ = ("_reactor", "call", "deadline")

    def __init__(self, reactor: Reactor, deadline: float, owner: Guarded, callback: Callable[[], None]) -> None:
        self._reactor = reactor
        self.deadline: float = deadline
        self.call: tuple[Guarded, Callable[[], None]] | None = (owner, callback)

    def cancel(self) -> None:
        """Do not make the call; harmless when repeated, or when the call was made."""
        if self.call is not None:
            self.call = None  # the heap has this until the deadline, and must not keep the connection
            self._reactor.forget_timer()


class Reactor:
    """Drives the connections of one owner.

    Args:
        nursery: where the task runs.
        shield: live on when the nursery is cancelled, until the last member has ended.
        readiness: which sockets are ready; None: the best that the system has.

    Attributes:
        lone_socket: the only socket, which a task that waits for its input may read itself (rule 5).
    """

    def __init__(self, nursery: trio.Nursery, *, shield: bool, readiness: Readiness | None = None) -> None:
        self._nursery = nursery
        self._shield = shield
        self._readiness = best_readiness(nursery) if readiness is None else readiness
        self._members: dict[Member, bool] = {}  # in their order, and whether each may not be cancelled
        self._uncancellable = 0  # of them
        self._guard = trio.CancelScope()  # around everything
        self._ready: dict[ReadySocket, int] = {}  # with their events
        self._soon: list[tuple[Guarded, Callable[[], None]]] = []
        self._late: list[tuple[Guarded, Callable[[], None]]] = []  # for which the last step had no time
        self._timers: list[tuple[float, int, Timer]] = []
        self._number = itertools.count()
        self._cancelled = 0  # of the timers
        self._scope = trio.CancelScope()  # around the waits: its deadline is the first timer's
        self._running = False
        self._waiting = False
        self.lone_socket: ReadySocket | None = None

    # ---- what connections call ----

    def add(self, member: Member) -> None:
        """Run until this member is removed.

        Raises:
            RuntimeError: the nursery is closed.
        """
        if not self._running:
            self._nursery.start_soon(self._run)
            self._running = True
        self._members[member] = True
        self._count_uncancellable(1)

    def remove(self, member: Member) -> None:
        """Run for this member no more; harmless when repeated."""
        if self._members.pop(member, False):
            self._count_uncancellable(-1)
        if not self._members:
            self._wake()

    def unshield(self, member: Member) -> None:
        """Let this member be abandoned when the nursery is cancelled: it has ended, and only waits a while."""
        if self._members.get(member):
            self._members[member] = False
            self._count_uncancellable(-1)

    def _count_uncancellable(self, change: int) -> None:
        self._uncancellable += change
        self._guard.shield = self._shield and self._uncancellable > 0

    def call_soon(self, owner: Guarded, callback: Callable[[], None]) -> None:
        """Call in the next step, after other tasks have run."""
        self._soon.append((owner, callback))
        self._wake()

    def call_after(self, steps: int, owner: Guarded, callback: Callable[[], None]) -> None:
        """Call after so many steps, between which other tasks run."""
        if steps > 1:
            callback = partial(self.call_after, steps - 1, owner, callback)
        self.call_soon(owner, callback)

    def call_at(self, deadline: float, owner: Guarded, callback: Callable[[], None]) -> Timer:
        """Call when trio's clock has reached ``deadline``."""
        timer = Timer(self, deadline, owner, callback)
        heapq.heappush(self._timers, (deadline, next(self._number), timer))
        if deadline < self._scope.deadline:
            self._scope.deadline = deadline
        return timer

    def forget_timer(self) -> None:
        """Note that one timer was cancelled; many are thrown out together."""
        self._cancelled += 1
        if self._cancelled > CANCELLED_TIMERS and 2 * self._cancelled > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2].call is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    # ---- what sockets call ----

    def add_socket(self, sock: ReadySocket) -> None:
        """Have this socket's events handled until :meth:`remove_socket`."""
        self._readiness.add(sock)
        self.lone_socket = self._readiness.only_socket
        self._wake()  # it may be waiting for nothing but a call

    def remove_socket(self, sock: ReadySocket) -> None:
        """Watch this socket no more; it is about to be closed."""
        self._readiness.remove(sock)
        self.lone_socket = self._readiness.only_socket

    def again(self, sock: ReadySocket) -> None:
        """Have this socket read in the next step: it was not read until it was empty."""
        self._ready[sock] = self._ready.get(sock, 0) | READ
        self._readiness.resume(sock)
        self._wake()

    def flush_when_writable(self, sock: ReadySocket) -> None:
        """Have this socket's ``WRITE`` handled: it did not take all."""
        self._readiness.wait_writable(sock)

    # ---- what a task calls that waits for input ----

    def leave_to_task(self, sock: ReadySocket) -> None:
        """Let the calling task wait for this socket's input and then call :meth:`read`; :meth:`watch` must follow."""
        self._readiness.ignore_input(sock)

    def read(self, sock: ReadySocket) -> None:
        """Read a socket that has input."""
        try:
            sock.handle_events(READ)
        except Exception as error:  # as in _handle_ready()
            sock.crash(error)

    def watch(self, sock: ReadySocket) -> None:
        """Have this socket's input handled again, if it is still there."""
        self._readiness.watch_input(sock)

    # ---- the task ----

    def _wake(self) -> None:
        if self._waiting:
            self._waiting = False
            self._readiness.wake()

    @trio.lowlevel.enable_ki_protection
    async def _run(self) -> None:
        try:
            with self._guard:
                while self._members:
                    deadline = self._timers[0][0] if self._timers else math.inf
                    with trio.CancelScope(deadline=deadline) as self._scope:
                        await self._run_steps()
                    self._run_timers()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):  # rule 6: tasks that were woken before run first
                await trio.lowlevel.checkpoint()
            raise
        finally:
            self._running = self._waiting = False
            for member in reversed(tuple(self._members)):
                member.abandon()
            self._members.clear()
            self._ready.clear()
            self._soon.clear()
            self._late.clear()
            self._uncancellable = 0
            self._guard = trio.CancelScope()
            self._readiness.close()

    async def _run_steps(self) -> None:
        readiness = self._readiness
        while self._members:
            if self._ready or self._soon or self._late:
                await trio.lowlevel.checkpoint()
            else:
                self._waiting = True
                try:
                    await readiness.wait()
                except trio.ClosedResourceError:  # from _wake()
                    pass
                finally:
                    self._waiting = False
            until = perf_counter() + STEP_TIME
            if self._late:
                self._late = _call_until(until, self._late)
                continue
            calls, self._soon = self._soon, []
            readiness.fetch(self._ready)
            if self._ready:
                self._handle_ready(until)
            if calls:
                self._late = _call_until(until, calls) if perf_counter() < until else calls

    def _handle_ready(self, until: float) -> None:
        ready, self._ready = self._ready, {}
        room = BYTES_AT_ONCE
        waiting = iter(ready.items())
        for sock, events in waiting:
            try:
                room -= sock.handle_events(events)
            except Exception as error:  # a bug ends its connection, and nothing else
                sock.crash(error)
            if room <= 0 or perf_counter() >= until:
                break
        left = dict(waiting)  # they come first in the next step
        for sock, events in self._ready.items():
            left[sock] = left.get(sock, 0) | events
        self._ready = left

    def _run_timers(self) -> None:
        now = trio.current_time()
        for _ in range(TIMERS_AT_ONCE):
            if not self._timers or self._timers[0][0] > now:
                break
            timer = heapq.heappop(self._timers)[2]
            if timer.call is None:
                self._cancelled -= 1
            else:
                call, timer.call = timer.call, None
                call_guarded(*call)


def _call_until(
    until: float, calls: list[tuple[Guarded, Callable[[], None]]]
) -> list[tuple[Guarded, Callable[[], None]]]:
    """Make calls, one at least, until that time; return those that are left."""
    for number, (owner, callback) in enumerate(calls, start=1):
        call_guarded(owner, callback)
        if perf_counter() >= until:
            return calls[number:]
    return []
