"""Echo servers to measure, each a process: ``python -m tests.benchmarks.servers NAME`` prints its port and serves."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial

import trio

BIG = 2**24  # bytes, the largest message that any of them must take


def say(port: int) -> None:
    """Tell the parent where we listen."""
    print(port, flush=True)


async def raw_socket_stream() -> None:
    """No WebSocket at all: what trio's own stream costs."""

    async def echo(stream: trio.SocketStream) -> None:
        while data := await stream.receive_some(65536):
            await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
        say(listeners[0].socket.getsockname()[1])


async def trio_ws_server() -> None:
    """This library."""
    import trio_ws

    async def echo(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as ws:
            async for message in ws:
                await ws.send(message)

    limits = trio_ws.Limits(max_message_size=BIG)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(trio_ws.serve_websocket, echo, "127.0.0.1", 0, compression=None, limits=limits, keepalive=None)
        )
        say(server.port)


async def websockets_trio() -> None:
    """The trio side of websockets."""
    from websockets.trio.server import ServerConnection, serve

    async def echo(ws: ServerConnection) -> None:
        async for message in ws:
            await ws.send(message)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(serve, echo, 0, host="127.0.0.1", compression=None, max_size=BIG, ping_interval=None)
        )
        say(server.listeners[0].socket.getsockname()[1])


async def trio_websocket() -> None:
    """trio-websocket."""
    from trio_websocket import WebSocketRequest, serve_websocket

    async def echo(request: WebSocketRequest) -> None:
        ws = await request.accept()
        while True:
            await ws.send_message(await ws.get_message())

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, echo, "127.0.0.1", 0, None, max_message_size=BIG))
        say(server.port)


async def websockets_asyncio() -> None:
    """The asyncio side of websockets, with its C extension."""
    from websockets.asyncio.server import ServerConnection, serve

    async def echo(ws: ServerConnection) -> None:
        async for message in ws:
            await ws.send(message)

    async with serve(echo, "127.0.0.1", 0, compression=None, max_size=BIG, ping_interval=None) as server:
        say(next(iter(server.sockets)).getsockname()[1])
        await server.serve_forever()


async def aiohttp_server() -> None:
    """aiohttp, with its C extension."""
    from aiohttp import web

    async def echo(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False, max_msg_size=BIG)
        await ws.prepare(request)
        async for message in ws:
            await (ws.send_str(message.data) if isinstance(message.data, str) else ws.send_bytes(message.data))
        return ws

    app = web.Application()
    app.router.add_get("/", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    say(runner.addresses[0][1])
    await asyncio.Event().wait()


TRIO: dict[str, Callable[[], Awaitable[None]]] = {
    "raw SocketStream": raw_socket_stream,
    "trio_ws": trio_ws_server,
    "websockets.trio": websockets_trio,
    "trio-websocket": trio_websocket,
}
ASYNCIO: dict[str, Callable[[], Awaitable[None]]] = {
    "websockets.asyncio": websockets_asyncio,
    "aiohttp": aiohttp_server,
}


async def _wait(serve: Callable[[], Awaitable[None]]) -> None:
    await serve()


if __name__ == "__main__":
    name = sys.argv[1]
    os.sched_setaffinity(0, {0})
    if name in TRIO:
        trio.run(TRIO[name])
    else:
        asyncio.run(_wait(ASYNCIO[name]))
