"""Tell each client what comes from elsewhere, for as long as the client is there: ``python feed.py 8765``."""

from __future__ import annotations

import sys
from itertools import count

import trio

import trio_ws


async def handler(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept() as ws:
        with ws.move_on_when_closed():
            for number in count():
                await ws.send(f"price {number}")
                await trio.sleep(60)  # in place of a queue or a database that is silent for long
        print("the client has gone", flush=True)


async def main(port: int) -> None:
    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(trio_ws.serve_websocket, handler, "127.0.0.1", port)
        print(f"ws://127.0.0.1:{server.port}/", flush=True)


if __name__ == "__main__":
    try:
        trio.run(main, int(sys.argv[1]))
    except* KeyboardInterrupt:
        pass
