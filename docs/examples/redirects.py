"""A server that has moved, and a client that follows: ``python redirects.py``."""

from __future__ import annotations

import trio

import trio_ws


async def handler(request: trio_ws.WebSocketRequest) -> None:
    if request.target == "/old":
        await request.reject(308, headers={"Location": "/new"})
        return
    async with request.accept() as ws:
        await ws.wait_closed()


async def main() -> None:
    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(trio_ws.serve_websocket, handler, "127.0.0.1", 0)
        url = f"ws://127.0.0.1:{server.port}/old"
        async with trio_ws.open_websocket(url, follow_redirects=1) as ws:
            print(ws.url.replace(f":{server.port}", ""))
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
