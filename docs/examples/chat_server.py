"""A room where everyone hears everyone; who is too slow to listen misses messages: ``python chat_server.py 8765``."""

from __future__ import annotations

import signal
import sys

import trio

import trio_ws

room = trio_ws.Group()


async def chat(request: trio_ws.WebSocketRequest) -> None:
    if request.path != "/room":
        await request.reject(404)
        return
    async with request.accept() as ws, room.join(ws):
        async for message in ws:
            room.broadcast(message)


async def main(port: int) -> None:
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            server: trio_ws.WebSocketServer = await nursery.start(trio_ws.serve_websocket, chat, "127.0.0.1", port)
            print(f"ws://127.0.0.1:{server.port}/room", flush=True)
            async for _ in signals:
                # Everyone gets Close 1001, and time to answer it.
                await server.aclose()
                break


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
