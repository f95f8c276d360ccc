"""A server and a client by trio_ws: ``python trio_ws_program.py``."""

from __future__ import annotations

from functools import partial

import trio

import trio_ws


async def handler(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept() as ws:
        async for message in ws:
            if message == "bye":
                await ws.aclose(4000, "as you wish")
            else:
                await ws.send(message)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(
            partial(trio_ws.serve_websocket, handler, "127.0.0.1", 0, protocols=["chat"])
        )
        async with trio_ws.open_websocket(f"ws://127.0.0.1:{server.port}/", ["chat"]) as ws:
            print(ws.protocol)
            await ws.send("hello")
            with trio.fail_after(5):
                print(await ws.receive())
            await ws.send("bye")
            try:
                await ws.receive()
            except trio_ws.ConnectionClosed as closed:
                print(closed.code, closed.reason)
        await server.aclose()


if __name__ == "__main__":
    trio.run(main)
