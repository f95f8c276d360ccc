"""Redis as what carries messages between the processes of the chat."""

from __future__ import annotations

import logging
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import coredis
import trio
from coredis.retry import NoRetryPolicy

from .brokers import BrokerAway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

CHANNEL = "chat"
RECONNECT = 1.0  # seconds at most between two attempts
PUBLISH_TIMEOUT = 5.0  # seconds

logger = logging.getLogger("chat")


class ThroughRedis:
    """Carries text through Redis. What is published while Redis is away is lost, and its sender is told."""

    def __init__(self, redis: coredis.Redis[str]) -> None:
        self._redis = redis

    async def publish(self, text: str) -> None:
        """Send text to every process.

        Raises:
            BrokerAway: Redis cannot be reached.
        """
        try:
            with trio.fail_after(PUBLISH_TIMEOUT):
                await self._redis.publish(CHANNEL, text)
        except (OSError, trio.TooSlowError, coredis.exceptions.ConnectionError) as error:
            raise BrokerAway("Redis is away") from error

    async def relay(
        self, hear: Callable[[str], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Call a function with all that is published."""
        started = False
        while True:
            try:
                async with self._redis.pubsub(channels=[CHANNEL], retry_policy=NoRetryPolicy()) as published:
                    if not started:
                        task_status.started()
                        started = True
                    async for message in published:
                        if message["type"] == "message":
                            hear(str(message["data"]))
            except* (OSError, coredis.exceptions.ConnectionError):
                logger.warning("Redis is away; again in at most %g s", RECONNECT)
            await trio.sleep(random.uniform(0, RECONNECT))


@asynccontextmanager
async def open_redis(url: str) -> AsyncIterator[ThroughRedis]:
    """Connect to Redis as long as the block."""
    async with coredis.Redis.from_url(url, decode_responses=True) as redis:
        yield ThroughRedis(redis)
