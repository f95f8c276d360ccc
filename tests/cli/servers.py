"""Servers for ``trio-ws connect`` to connect to, and what it told of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import trio

from trio_ws import WebSocket, WebSocketRequest, serve_websocket
from trio_ws._wire.negotiation import accept_value

from .program import HOST

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    Talk = Callable[[WebSocket], Awaitable[object]]


async def start_server(nursery: trio.Nursery, talk: Talk, **options: object) -> str:
    """Serve in the nursery and return the URL."""

    async def handler(request: WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await talk(websocket)

    serve = cast("Callable[..., Awaitable[None]]", partial(serve_websocket, **options))  # type: ignore[arg-type]
    server = await nursery.start(serve, handler, HOST, 0)
    return f"ws://{HOST}:{server.port}/"


async def start_answering(nursery: trio.Nursery, answer: bytes) -> str:
    """Serve bytes in place of HTTP answers, and return the URL."""

    async def handler(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        await stream.aclose()

    (listener,) = await nursery.start(partial(trio.serve_tcp, handler, 0, host=HOST))
    return f"ws://{HOST}:{listener.socket.getsockname()[1]}/"


async def start_raw_server(nursery: trio.Nursery, talk: Callable[[trio.abc.Stream], Awaitable[None]]) -> str:
    """Accept every WebSocket, leave the rest to ``talk``, and return the URL."""

    async def handler(stream: trio.abc.Stream) -> None:
        head = bytes(await stream.receive_some()).decode()
        key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        answer = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept_value(key)}"
        await stream.send_all(f"HTTP/1.1 101 Switching Protocols\r\n{answer}\r\n\r\n".encode())
        async with stream:
            await talk(stream)

    (listener,) = await nursery.start(partial(trio.serve_tcp, handler, 0, host=HOST))
    return f"ws://{HOST}:{listener.socket.getsockname()[1]}/"


async def echo(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send(message)


async def listen(websocket: WebSocket) -> None:
    async for _ in websocket:
        pass


def echo_and_close(count: int, code: int = 1000, reason: str = "") -> Talk:
    async def talk(websocket: WebSocket) -> None:
        for _ in range(count):
            await websocket.send(await websocket.receive())
        await websocket.aclose(code, reason)

    return talk


def send_and_close(*messages: str | bytes) -> Talk:
    async def talk(websocket: WebSocket) -> None:
        for message in messages:
            await websocket.send(message)
        await websocket.aclose()

    return talk


def told(capfd: pytest.CaptureFixture[str]) -> tuple[str, list[str]]:
    """Return what was printed, and the notices but the first, which tells the connection."""
    output, errors = capfd.readouterr()
    return output, errors.splitlines()[1:]
