"""The asyncio side of websockets, with its C extension, under test."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.asyncio.server import broadcast as broadcast_nowait
from websockets.exceptions import ConnectionClosed

from tests.benchmarks.orders import Hands, Socket, obey
from tests.benchmarks.subjects import BIG, HOST, Task, say


async def broadcast(connections: list[Any], payload: bytes) -> None:
    """Send to all, and let others run."""
    broadcast_nowait(connections, payload)
    await asyncio.sleep(0)


async def main(task: Task) -> None:
    """Serve or connect, and obey."""
    hands = Hands(broadcast=broadcast)
    compression = "deflate" if task.deflate else None

    async def handle(websocket: ServerConnection) -> None:
        await obey(Socket(websocket.recv, websocket.send, connection=websocket), hands, ConnectionClosed)

    if task.role == "server":
        async with serve(
            handle, HOST, 0, ssl=task.ssl_context, compression=compression, max_size=BIG, ping_interval=None
        ) as server:
            say(next(iter(server.sockets)).getsockname()[1])
            await server.serve_forever()
    connecting = partial(
        connect,
        task.url,
        ssl=task.ssl_context,
        compression=compression,
        max_size=BIG,
        ping_interval=None,
        proxy=None,
    )

    async def open_one() -> None:
        async with connecting():
            pass

    hands.open_one = open_one
    async with connecting() as websocket:
        await obey(Socket(websocket.recv, websocket.send, connection=websocket), hands, ConnectionClosed)
