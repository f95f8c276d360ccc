"""Tell everyone the same, and leave who cannot keep up: ``python ticker.py 8765``."""

from __future__ import annotations

import sys
from itertools import count

import trio

import trio_ws

listeners = trio_ws.Group(slow="close")


async def listen(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept() as ws, listeners.join(ws):
        await ws.wait_closed()


async def tick() -> None:
    for number in count():
        result = listeners.broadcast(f"tick {number}")
        for ws in result.closed:
            print(f"{ws.remote_address} was too slow", file=sys.stderr)
        await trio.sleep(0.1)


async def main(port: int) -> None:
    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(trio_ws.serve_websocket, listen, "127.0.0.1", port)
        print(f"ws://127.0.0.1:{server.port}/", flush=True)
        await tick()


if __name__ == "__main__":
    try:
        trio.run(main, int(sys.argv[1]))
    except* KeyboardInterrupt:
        pass
