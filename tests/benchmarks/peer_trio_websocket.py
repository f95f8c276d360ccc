"""trio-websocket under test."""

from __future__ import annotations

from functools import partial

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, open_websocket_url, serve_websocket

from tests.benchmarks.orders import Hands, Socket, obey
from tests.benchmarks.subjects import BIG, HOST, Task, say


async def main(task: Task) -> None:
    """Serve or connect, and obey."""
    hands = Hands()

    async def handle(request: WebSocketRequest) -> None:
        websocket = await request.accept()
        await obey(Socket(websocket.get_message, websocket.send_message), hands, ConnectionClosed)

    if task.role == "server":
        async with trio.open_nursery() as nursery:
            serve = partial(serve_websocket, handle, HOST, 0, task.ssl_context, max_message_size=BIG)
            server = await nursery.start(serve)
            say(server.port)
        return
    connect = partial(open_websocket_url, task.url, task.ssl_context, max_message_size=BIG)

    async def open_one() -> None:
        async with connect():
            pass

    hands.open_one = open_one
    async with connect() as websocket:
        await obey(Socket(websocket.get_message, websocket.send_message), hands, ConnectionClosed)
