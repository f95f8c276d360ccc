"""Two WebSockets of ours, the ends of one connection, over one of several carriers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio
import trio.testing

import trio_ws

from ..serving import LOCALHOST, serving, tls_contexts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    StreamPair = Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]

STREAMS: dict[str, StreamPair] = {
    "memory": trio.testing.memory_stream_pair,
    "lockstep": trio.testing.lockstep_stream_pair,
}
URL = "ws://test.example/"


@asynccontextmanager
async def linked(
    carrier: str, nursery: trio.Nursery | None = None, **options: object
) -> AsyncGenerator[tuple[trio_ws.WebSocket, trio_ws.WebSocket], None]:
    """Open a connection; give the client's end and the server's.

    Args:
        carrier: "tcp", "tls" or a name in STREAMS.
        nursery: where the client's end lives; None: in one of its own.
        options: for both sides.
    """
    async with trio.open_nursery() as own:
        if carrier in STREAMS:
            clients, servers = STREAMS[carrier]()
            yield await link(nursery or own, own, clients, servers, **options)
        else:
            async with _over_sockets(nursery or own, secure=carrier == "tls", options=options) as ends:
                yield ends
        own.cancel_scope.cancel()


@asynccontextmanager
async def _over_sockets(
    nursery: trio.Nursery, *, secure: bool, options: dict[str, object]
) -> AsyncGenerator[tuple[trio_ws.WebSocket, trio_ws.WebSocket], None]:
    server_context, client_context = tls_contexts() if secure else (None, None)
    given: list[trio_ws.WebSocket] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            given.append(websocket)
            await trio.sleep_forever()

    serve = partial(trio_ws.serve_websocket, handler, LOCALHOST, 0, server_context, **options)  # type: ignore[arg-type]
    async with serving(serve) as server:
        url = f"{'wss' if secure else 'ws'}://{LOCALHOST}:{server.port}/"
        connect = trio_ws.connect_websocket(nursery, url, ssl_context=client_context, **options)  # type: ignore[arg-type]
        yield await connect, given[0]


async def link(
    nursery: trio.Nursery,
    server_nursery: trio.Nursery,
    clients: trio.abc.Stream,
    servers: trio.abc.Stream,
    **options: object,
) -> tuple[trio_ws.WebSocket, trio_ws.WebSocket]:
    """Open a connection over two streams that are connected; its ends live in the nurseries."""
    given: list[trio_ws.WebSocket] = []

    async def serve() -> None:
        request = await trio_ws.wrap_server_stream(server_nursery, servers, **options)  # type: ignore[call-overload]
        async with request.accept() as websocket:
            given.append(websocket)
            await trio.sleep_forever()

    server_nursery.start_soon(serve)
    client = await trio_ws.wrap_client_stream(nursery, clients, URL, **options)  # type: ignore[arg-type]
    return client, given[0]
