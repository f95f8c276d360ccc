"""Serve a feed that loses a message now and then: ``python market_feed.py 8765``; market_data.py follows it."""

from __future__ import annotations

import json
import sys
from functools import partial

import trio

import trio_ws

EVERY = 0.2  # seconds between two prices
LOST = 5  # of so many messages one is lost


class Feed:
    """The newest price, by its number."""

    def __init__(self) -> None:
        self.sequence = 0
        self._changed = trio.Event()

    async def run(self) -> None:
        """Make prices, for ever."""
        while True:
            await trio.sleep(EVERY)
            self.sequence += 1
            self._changed.set()
            self._changed = trio.Event()

    async def serve(self, request: trio_ws.WebSocketRequest) -> None:
        """Send the newest price to who subscribes, and each that follows."""
        async with request.accept() as ws:
            await ws.receive()  # the subscription
            snapshot = True
            while True:
                if snapshot or self.sequence % LOST:
                    await ws.send(json.dumps({"sequence": self.sequence, "price": 100 + self.sequence % 10}))
                snapshot = False
                await self._changed.wait()


async def main(port: int) -> None:
    feed = Feed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.run)
        serve = partial(trio_ws.serve_websocket, feed.serve, "127.0.0.1", port, cancel_on_close=True)
        server: trio_ws.WebSocketServer = await nursery.start(serve)
        print(f"ws://127.0.0.1:{server.port}/", flush=True)


if __name__ == "__main__":
    try:
        trio.run(main, int(sys.argv[1]))
    except* KeyboardInterrupt:
        pass
