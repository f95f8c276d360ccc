"""Send a file of any size as one message, and hash it while it comes: ``python send_file.py FILE``."""

from __future__ import annotations

import hashlib
import sys

import trio

import trio_ws


async def hash_one(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept() as ws:
        digest = hashlib.sha256()
        async with ws.receive_message_stream() as parts:
            async for part in parts:
                assert isinstance(part, bytes)
                digest.update(part)
        await ws.send(digest.hexdigest())
        await ws.wait_closed()


async def main(path: str) -> None:
    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(trio_ws.serve_websocket, hash_one, "127.0.0.1", 0)
        url = f"ws://127.0.0.1:{server.port}/"
        async with trio_ws.open_websocket(url) as ws, await trio.open_file(path, "rb") as file:
            async with ws.send_message_stream() as part:
                while data := await file.read(2**16):
                    await part.send(data)
            print(await ws.receive(), flush=True)
        await server.aclose()


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
