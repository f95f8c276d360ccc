"""What came and waits for the application: whole messages, and the tasks that wait for one.

Rules:

1. A message that comes while tasks wait is handed to one directly, the one that has waited longest. The next message is
   handed on when that task has run: trio runs woken tasks in any order, and messages must not overtake each other.
2. A task that is the only one to wait may wait for the socket itself, and read (rule 5 of the reactor). Who comes
   meanwhile waits behind it. It is woken also by a message that comes by another way.
3. ``size`` counts what the application has not taken, the pieces of a message in pieces too. At ``limit`` the inbox is
   full, and reading pauses until half of that is left.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import trio
from outcome import Value

from .._wire.speedups import weigh

if TYPE_CHECKING:
    from .._reactor import Reactor
    from .._readiness import ReadySocket

_EMPTY: deque[str | bytes] = deque(maxlen=0)  # shared: a deque takes 760 bytes even when it is empty

_NONE = -1


class Inbox:
    """The messages of one connection that wait for the application.

    Args:
        limit: bytes that may wait, as :func:`weigh` counts them, None: any number.

    Attributes:
        messages: those that wait, the oldest first.
        size: bytes of them, and of pieces.
    """

    __slots__ = ("_handing", "_reading", "_receivers", "_socket", "_taken", "limit", "messages", "size")

    def __init__(self, limit: int | None) -> None:
        self.limit: float = math.inf if limit is None else limit
        self.messages = _EMPTY
        self.size = 0
        self._receivers: list[trio.lowlevel.Task] = []
        self._handing = False  # the next message is for a task that has not run yet, or waits for the socket
        self._socket = _NONE  # for which a task waits
        self._reading = False  # that task reads it just now, and has found no message yet
        self._taken: str | bytes | None = None  # what it has found

    @property
    def has_next(self) -> bool:
        """Whether a task may take a message now, and need not wait behind others."""
        return bool(self.messages) and not self._handing

    @property
    def is_full(self) -> bool:
        """Whether as much waits as may."""
        return self.size >= self.limit

    def put(self, message: str | bytes) -> None:
        """Hand a message to the task that has waited longest, or keep it."""
        if self._receivers and not self._handing:
            self._handing = True
            trio.lowlevel.reschedule(self._receivers.pop(0), Value(message))
        elif self._reading and not self.messages:
            self._reading = False
            self._taken = message
        else:
            self.keep(message)

    def keep(self, message: str | bytes) -> None:
        """Keep a message for the next task that takes one."""
        if self.messages is _EMPTY:
            self.messages = deque()
        self.messages.append(message)
        self.size += weigh(message)
        if self._socket != _NONE:
            self._interrupt()

    def take(self) -> str | bytes:
        """Take the next message, which is here."""
        messages = self.messages
        message = messages.popleft()
        if not messages:
            self.messages = _EMPTY
        self.size -= weigh(message)
        return message

    async def wait(self) -> str | bytes | None:
        """Wait for the next message, or until :meth:`wake`, which gives None. Cancelled, no message is lost."""
        task = trio.lowlevel.current_task()
        receivers = self._receivers
        receivers.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            receivers.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        message: str | bytes | None = await trio.lowlevel.wait_task_rescheduled(abort)
        if message is not None:
            self._handing = False
            if self.messages:
                self.hand_over()
        return message

    @property
    def is_unattended(self) -> bool:
        """Whether no task waits."""
        return not self._receivers and not self._handing

    @trio.lowlevel.enable_ki_protection
    async def wait_alone(self, reactor: Reactor, sock: ReadySocket) -> str | bytes | None:
        """Do as :meth:`wait` while no other task waits, and wait for the socket, and read, in this task.

        None also comes when what was read is no message.
        """
        self._handing = True
        self._socket = sock.fd
        reactor.leave_to_task(sock)
        try:
            try:
                await trio.lowlevel.wait_readable(sock.fd)
            except trio.ClosedResourceError:  # from _interrupt(), or the socket is closed
                pass
            else:
                self._socket = _NONE
                self._reading = True
                reactor.read(sock)
            message, self._taken = self._taken, None
            return self.take() if message is None and self.messages else message
        finally:
            self._socket = _NONE
            self._handing = self._reading = False
            reactor.watch(sock)
            if self._receivers:
                self.hand_over()

    def _interrupt(self) -> None:
        trio.lowlevel.notify_closing(self._socket)
        self._socket = _NONE

    def hand_over(self) -> None:
        """Hand a message that waits to a task that waits, if there are both."""
        if self.messages and self._receivers and not self._handing:
            self._handing = True
            trio.lowlevel.reschedule(self._receivers.pop(0), Value(self.take()))

    def wake(self) -> None:
        """Let every task that waits look again: no message may come any more."""
        receivers = self._receivers[:]
        self._receivers.clear()
        for task in receivers:
            trio.lowlevel.reschedule(task, Value(None))
        if self._socket != _NONE:
            self._interrupt()

    def drop(self) -> None:
        """Drop the messages that wait."""
        self.messages = _EMPTY
        self.size = 0
