"""What carries messages between the processes of the chat; for one process: nothing."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class BrokerAway(Exception):
    """A message could not be published; nobody has heard it."""


class Broker(Protocol):
    """Carries text to every process, this one included, in the same order."""

    async def publish(self, text: str) -> None:
        """Send text to every process.

        Raises:
            BrokerAway: the broker cannot be reached.
        """

    async def relay(
        self, hear: Callable[[str], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Call a function with all that is published; ``nursery.start`` returns when it has begun."""


class OneProcess:
    """Carries text inside this process."""

    def __init__(self) -> None:
        self._hear: Callable[[str], None] | None = None

    async def publish(self, text: str) -> None:
        """Send text to this process."""
        await trio.lowlevel.checkpoint()
        if self._hear is not None:
            self._hear(text)

    async def relay(
        self, hear: Callable[[str], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Call a function with all that is published."""
        self._hear = hear
        task_status.started()
        await trio.sleep_forever()


@asynccontextmanager
async def open_broker(url: str | None) -> AsyncIterator[Broker]:
    """Give what carries messages: Redis where there is a URL of one."""
    if url is None:
        yield OneProcess()
    else:
        # Here, so that one process alone needs no client for Redis.
        from .redis import open_redis

        async with open_redis(url) as broker:
            yield broker
