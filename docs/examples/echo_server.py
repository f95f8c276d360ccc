"""Send every message back, until Ctrl-C: ``python echo_server.py 8765``."""

from __future__ import annotations

import sys

import trio

import trio_ws


async def echo(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept() as ws:
        async for message in ws:
            await ws.send(message)


async def main(port: int) -> None:
    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(trio_ws.serve_websocket, echo, "127.0.0.1", port)
        print(f"ws://127.0.0.1:{server.port}/", flush=True)


if __name__ == "__main__":
    try:
        trio.run(main, int(sys.argv[1]))
    except* KeyboardInterrupt:
        pass
