"""Show how a receiver that does not receive makes the sender wait: ``python slow_consumer.py``."""

from __future__ import annotations

import trio

import trio_ws
from trio_ws.testing import memory_websocket_pair


async def main() -> None:
    limits = trio_ws.Limits(receive_buffer=100_000, send_buffer=50_000)
    async with memory_websocket_pair(compression=None, limits=limits) as (client, server):
        sent, waiting = 0, False
        while not waiting:
            with trio.move_on_after(1) as scope:
                await client.send(bytes(1000))
                sent += 1
            waiting = scope.cancelled_caught
        print("the sender waits:", client.buffered_amount >= 50_000)
        print("the receiver keeps:", server.statistics().receive_buffer // 1064, "messages")
        for _ in range(sent):
            await server.receive()
        print("all came, and it goes on:", client.buffered_amount == 0)


if __name__ == "__main__":
    trio.run(main)
