"""Send one message of so many MiB each way at once, in pieces; print what memory that took, in KiB.

``python -m tests.promises.large_message 2048`` sends 2 GiB each way.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import trio

import trio_ws

PIECE = bytes(range(256)) * 256


def peak() -> int:
    # Not getrusage(): its maximum is that of the process which started this one, if that was larger.
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1])


async def give(websocket: trio_ws.WebSocket, mebibytes: int) -> None:
    async with websocket.send_message_stream() as part:
        for _ in range(mebibytes * 2**20 // len(PIECE)):
            await part.send(PIECE)


async def take(websocket: trio_ws.WebSocket, mebibytes: int) -> None:
    async with websocket.receive_message_stream() as parts:
        size = sum([len(part) async for part in parts])
    assert size == mebibytes * 2**20, size


async def both(websocket: trio_ws.WebSocket, mebibytes: int) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, websocket, mebibytes)
        await give(websocket, mebibytes)


async def main(mebibytes: int) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await both(websocket, mebibytes)
            await websocket.wait_closed()

    serve = partial(trio_ws.serve_websocket, handler, "127.0.0.1", 0)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve)
        async with trio_ws.open_websocket(f"ws://127.0.0.1:{server.port}/") as websocket:
            await websocket.ping()
            before = peak()
            await both(websocket, mebibytes)
        print(peak() - before, peak())
        await server.aclose()


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]))
