"""A server and a client by websockets: ``python websockets_program.py``."""

from __future__ import annotations

import asyncio

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


async def handler(websocket: ServerConnection) -> None:
    async for message in websocket:
        if message == "bye":
            await websocket.close(4000, "as you wish")
            return  # the loop would raise, and the error would be logged
        else:
            await websocket.send(message)


async def main() -> None:
    async with serve(handler, "127.0.0.1", 0, subprotocols=["chat"]) as server:  # type: ignore[list-item]
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/", subprotocols=["chat"]) as websocket:  # type: ignore[list-item]
            print(websocket.subprotocol)
            await websocket.send("hello")
            async with asyncio.timeout(5):
                print(await websocket.recv())
            await websocket.send("bye")
            try:
                await websocket.recv()
            except ConnectionClosed as closed:
                print(closed.rcvd and closed.rcvd.code, closed.rcvd and closed.rcvd.reason)


if __name__ == "__main__":
    asyncio.run(main())
