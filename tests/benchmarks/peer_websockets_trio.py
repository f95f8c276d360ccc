"""The trio side of websockets under test."""

from __future__ import annotations

from functools import partial

import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import connect
from websockets.trio.server import ServerConnection, broadcast, serve

from tests.benchmarks.orders import Hands, Socket, obey
from tests.benchmarks.subjects import BIG, HOST, Task, say


async def main(task: Task) -> None:
    """Serve or connect, and obey."""
    hands = Hands(broadcast=broadcast)
    compression = "deflate" if task.deflate else None

    async def handle(websocket: ServerConnection) -> None:
        await obey(Socket(websocket.recv, websocket.send, connection=websocket), hands, ConnectionClosed)

    if task.role == "server":
        serving = partial(
            serve, handle, 0, host=HOST, ssl=task.ssl_context, compression=compression, max_size=BIG, ping_interval=None
        )
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serving)
            say(server.listeners[0].socket.getsockname()[1] if task.ssl_context is None else _tls_port(server))
        return
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


def _tls_port(server: object) -> int:
    listener = server.listeners[0]  # type: ignore[attr-defined]  # of either kind
    listener = getattr(listener, "transport_listener", listener)
    port: int = listener.socket.getsockname()[1]
    return port
