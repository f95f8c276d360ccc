"""What came and waits for the application: whole messages, and the tasks that wait for one.

Rules:

1. A message that comes while tasks wait is handed to one directly, the one that has waited longest. The next message is
   handed on when that task has run: trio runs woken tasks in any order, and messages must not overtake each other.
2. ``size`` counts what the application has not taken, the pieces of a message in pieces too. At ``limit`` the inbox is
   full, and reading pauses until half of that is left.
"""

from __future__ import annotations

import math
from collections import deque

import trio
from outcome import Value

from .._wire.speedups import weigh

_EMPTY: deque[str | bytes] = deque(maxlen=0)  # shared: a deque takes 760 bytes even when it is empty


class Inbox:
    """The messages of one connection that wait for the application.

    Args:
        limit: bytes that may wait, as :func:`weigh` counts them, None: any number.

    Attributes:
        messages: those that wait, the oldest first.
        size: bytes of them, and of pieces.
    """

    __slots__ = ("_handing", "_receivers", "limit", "messages", "size")

    def __init__(self, limit: int | None) -> None:
        self.limit: float = math.inf if limit is None else limit
        self.messages = _EMPTY
        self.size = 0
        self._receivers: list[trio.lowlevel.Task] = []
        self._handing = False  # a message was handed to a task that has not run yet

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
        else:
            self.keep(message)

    def keep(self, message: str | bytes) -> None:
        """Keep a message for the next task that takes one."""
        if self.messages is _EMPTY:
            self.messages = deque()
        self.messages.append(message)
        self.size += weigh(message)

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

    def drop(self) -> None:
        """Drop the messages that wait."""
        self.messages = _EMPTY
        self.size = 0
