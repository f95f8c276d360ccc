"""The names of websockets that picows gives, which can compress, under test on uvloop."""

from __future__ import annotations

from functools import partial

from picows.websockets.asyncio.client import connect
from picows.websockets.asyncio.connection import ServerConnection
from picows.websockets.asyncio.server import serve
from picows.websockets.exceptions import ConnectionClosed

from tests.benchmarks.orders import Hands, Socket, obey
from tests.benchmarks.subjects import BIG, HOST, Task, say


async def main(task: Task) -> None:
    """Serve or connect, and obey."""
    hands = Hands()
    compression = "deflate" if task.deflate else None

    async def handle(websocket: ServerConnection) -> None:
        await obey(Socket(websocket.recv, websocket.send), hands, ConnectionClosed)

    if task.role == "server":
        async with serve(
            handle, HOST, 0, ssl=task.ssl_context, compression=compression, max_size=BIG, ping_interval=None
        ) as server:
            say(server.sockets[0].getsockname()[1])
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
        await obey(Socket(websocket.recv, websocket.send), hands, ConnectionClosed)
