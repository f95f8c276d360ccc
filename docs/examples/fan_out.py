"""A room that spans processes and machines, by Redis: ``python fan_out.py 8765 redis://127.0.0.1:6379``."""

from __future__ import annotations

import random
import signal
import sys
from functools import partial

import coredis
import trio
from coredis.retry import NoRetryPolicy

import trio_ws

CHANNEL = "room"
RECONNECT = 1.0  # seconds at most between two attempts


class Room:
    """The members of a room that are connected to this process; what is said goes through Redis to all processes."""

    def __init__(self, redis: coredis.Redis[str]) -> None:
        self._redis = redis
        self._here = trio_ws.Group()

    async def handle(self, request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as ws, self._here.join(ws):
            async for message in ws:
                if isinstance(message, str):
                    await self._redis.publish(CHANNEL, message)

    async def relay(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell everyone here what is said anywhere; what is said while Redis is away is lost."""
        started = False
        while True:
            try:
                async with self._redis.pubsub(channels=[CHANNEL], retry_policy=NoRetryPolicy()) as said:
                    if not started:
                        task_status.started()
                        started = True
                    async for message in said:
                        if message["type"] == "message":
                            # Who is too slow to listen misses it; nobody waits for them.
                            self._here.broadcast(str(message["data"]))
            except* (OSError, coredis.exceptions.ConnectionError):
                print(f"Redis is away; again in at most {RECONNECT:g} s", file=sys.stderr, flush=True)
            await trio.sleep(random.uniform(0, RECONNECT))


async def main(port: int, url: str) -> None:
    async with coredis.Redis.from_url(url, decode_responses=True) as redis, trio.open_nursery() as nursery:
        room = Room(redis)
        await nursery.start(room.relay)
        serve = partial(trio_ws.serve_websocket, room.handle, "127.0.0.1", port)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            server: trio_ws.WebSocketServer = await nursery.start(serve)
            print(f"ws://127.0.0.1:{server.port}/", flush=True)
            async for _ in signals:
                await server.aclose()
                break
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), sys.argv[2])
