"""A client that speaks bytes, and a server that answers with them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import trio

import trio_ws

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
REQUEST = (
    "GET /path?query HTTP/1.1",
    "Host: 127.0.0.1",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)


def head(*lines: str) -> bytes:
    """Write a head."""
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Read to the end."""
    data = b""
    async for chunk in stream:
        data += chunk
    return data


async def ask(server: trio_ws.WebSocketServer, data: bytes) -> bytes:
    """Send bytes to a server, end, and return all that it answers."""
    async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        await stream.send_all(data)
        return await read_all(stream)


async def echo(request: trio_ws.WebSocketRequest) -> None:
    """Send every message back."""
    async with request.accept() as ws:
        async for message in ws:
            await ws.send(message)


@asynccontextmanager
async def serving(
    handler: object = echo, host: object = "127.0.0.1", port: int | None = 0, **options: object
) -> AsyncGenerator[trio_ws.WebSocketServer, None]:
    """Serve for as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio_ws.serve_websocket, handler, host, port, **options)  # type: ignore[arg-type]
        server = await nursery.start(serve)
        yield server
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def answering(*pieces: bytes, end: bool = True, cut: bool = False) -> AsyncGenerator[str, None]:
    """Answer each connection with these pieces, cut into bytes or not, whatever it asks; gives the URL."""

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            data = b""
            while b"\r\n\r\n" not in data:
                data += await stream.receive_some()
            key = data.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0].decode()
            accept = trio_ws._wire.handshake.accept_value(key).encode()  # type: ignore[attr-defined]
            for piece in pieces:
                data = piece.replace(b"ACCEPT", accept)
                for part in [bytes((byte,)) for byte in data] if cut else [data]:
                    await stream.send_all(part)
                    await trio.lowlevel.checkpoint()
            if not end:
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        yield f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel()
