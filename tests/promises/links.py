"""Two WebSockets of ours, the ends of one connection, over one of several carriers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio
import trio.testing

import trio_ws
from trio_ws import Agent, ConnectRequest
from trio_ws._net.stream_transport import StreamTransport

from ..serving import LOCALHOST, serving, tls_contexts, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from trio_ws._transport import Transport

    StreamPair = Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]

STREAMS: dict[str, StreamPair] = {
    "memory": trio.testing.memory_stream_pair,
    "lockstep": trio.testing.lockstep_stream_pair,
}
CARRIERS = ["tcp", "tls", "h2", *STREAMS, *(f"h2-{name}" for name in STREAMS)]
URL = "ws://test.example/"


@asynccontextmanager
async def linked(
    carrier: str, nursery: trio.Nursery | None = None, **options: object
) -> AsyncGenerator[tuple[trio_ws.WebSocket, trio_ws.WebSocket], None]:
    """Open a connection; give the client's end and the server's.

    Args:
        carrier: "tcp", "tls", "h2" (over TLS, by an agent that shares its connections), "h2c" (the same over TCP) or a
            name in STREAMS, with "h2-" before it for HTTP/2 over that.
        nursery: where the client's end lives; None: in one of its own.
        options: for both sides.
    """
    async with trio.open_nursery() as own:
        if (streams := STREAMS.get(carrier.removeprefix("h2-"))) is not None:
            clients, servers = streams()
            http2 = carrier.startswith("h2-")
            yield await link(nursery or own, own, clients, servers, http2=http2, **options)
        elif carrier in ("h2", "h2c"):
            secure = carrier == "h2"
            agent_options = {"ssl_context": tls_contexts()[1]} if secure else {"h2_prior_knowledge": True}
            async with Agent(**agent_options) as agent:
                options["dispatcher"] = agent
                async with _over_sockets(nursery or own, secure=secure, options=options) as ends:
                    assert ends[0].http_version == ends[1].http_version == "2"
                    yield ends
        else:
            async with _over_sockets(nursery or own, secure=carrier == "tls", options=options) as ends:
                yield ends
        own.cancel_scope.cancel()


@asynccontextmanager
async def _over_sockets(
    nursery: trio.Nursery, *, secure: bool, options: dict[str, object]
) -> AsyncGenerator[tuple[trio_ws.WebSocket, trio_ws.WebSocket], None]:
    server_context, client_context = tls_contexts() if secure else (None, None)
    dispatcher = options.pop("dispatcher", None)
    given: list[trio_ws.WebSocket] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            given.append(websocket)
            await trio.sleep_forever()

    serve = partial(trio_ws.serve_websocket, handler, LOCALHOST, 0, server_context, **options)  # type: ignore[arg-type]
    async with serving(serve) as server:
        url = f"{'wss' if secure else 'ws'}://{LOCALHOST}:{server.port}/"
        options = {**options, "ssl_context": client_context, "dispatcher": dispatcher}
        yield await trio_ws.connect_websocket(nursery, url, **options), given[0]  # type: ignore[arg-type]


async def link(
    nursery: trio.Nursery,
    server_nursery: trio.Nursery,
    clients: trio.abc.Stream,
    servers: trio.abc.Stream,
    *,
    http2: bool = False,
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
    if http2:
        client = await trio_ws.connect_websocket(nursery, URL, dispatcher=StreamAgent(clients), **options)  # type: ignore[arg-type]
        await until(lambda: bool(given))
    else:
        client = await trio_ws.wrap_client_stream(nursery, clients, URL, **options)  # type: ignore[arg-type]
    return client, given[0]


class StreamAgent(Agent):
    """Speaks HTTP/2 over a stream that is there."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        super().__init__(h2_prior_knowledge=True)
        self._stream = stream

    async def _connect(self, request: ConnectRequest) -> Transport:
        await trio.lowlevel.checkpoint()
        return StreamTransport(self._stream, request.nursery)
