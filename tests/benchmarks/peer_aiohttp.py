"""aiohttp, with its C extension, under test."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from tests.benchmarks.orders import Hands, Message, Socket, obey
from tests.benchmarks.subjects import BIG, HOST, Task, say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def bind(websocket: web.WebSocketResponse | aiohttp.ClientWebSocketResponse) -> Socket:
    """Give the methods their common form."""
    take, send_bytes, send_str = websocket.receive, websocket.send_bytes, websocket.send_str

    async def receive() -> Message:
        message = await take()
        data: Message | int | None = message.data
        if isinstance(data, str | bytes):
            return data
        raise ConnectionError(message)

    def send(message: Message) -> Awaitable[None]:
        return send_str(message) if isinstance(message, str) else send_bytes(message)

    return Socket(receive, send)


async def serve(task: Task, handle: Callable[[Socket], Awaitable[None]]) -> None:
    """Serve."""

    async def upgrade(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(compress=task.deflate, max_msg_size=BIG)
        await websocket.prepare(request)
        await handle(bind(websocket))
        return websocket

    app = web.Application()
    app.router.add_get("/", upgrade)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0, ssl_context=task.ssl_context)
    await site.start()
    say(runner.addresses[0][1])
    await asyncio.Event().wait()


async def main(task: Task) -> None:
    """Serve or connect, and obey."""
    hands = Hands()

    async def handle(socket: Socket) -> None:
        await obey(socket, hands, ConnectionError)

    if task.role == "server":
        await serve(task, handle)
    async with aiohttp.ClientSession() as session:
        connect = partial(
            session.ws_connect,
            task.url,
            ssl=task.ssl_context or True,
            compress=15 if task.deflate else 0,
            max_msg_size=BIG,
        )

        async def open_one() -> None:
            async with connect():
                pass

        hands.open_one = open_one
        async with connect() as websocket:
            await handle(bind(websocket))
