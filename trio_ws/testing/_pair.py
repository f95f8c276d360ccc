"""A client's and a server's WebSocket, joined in memory."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from .._client.agent import Agent
from .._client.connect import connect_websocket
from .._exceptions import InvalidHandshake
from .._net.stream_transport import StreamTransport
from .._server.server import wrap_server_stream
from .._util.nursery import BackgroundNursery
from ._link import link_stream_pair
from ._memory import memory_stream_pair

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
    from typing import Unpack

    from .._client.agent import ConnectRequest
    from .._transport import Transport
    from .._websocket.start import SharedKeywords
    from .._websocket.websocket import WebSocket
    from .._wire.headers import HeadersLike
    from ._link import Link


class _StreamAgent(Agent):
    """Connects over one stream that is there already, without TLS whatever the URL says."""

    def __init__(self, stream: trio.abc.Stream, *, http2: bool) -> None:
        super().__init__(allow_h2=http2, h2_prior_knowledge=http2)
        self._stream = stream

    async def _secure(self, request: ConnectRequest, alpn: Sequence[str]) -> Transport:
        await trio.lowlevel.checkpoint()
        return StreamTransport(self._stream, request.nursery)


def _unchanged(stream: trio.abc.Stream) -> trio.abc.Stream:
    return stream


@asynccontextmanager
async def memory_websocket_pair(
    *,
    http_version: str = "1.1",
    url: str = "ws://localhost/",
    protocols: str | Iterable[str] = (),
    headers: HeadersLike = (),
    client_stream: Callable[[trio.abc.Stream], trio.abc.Stream] = _unchanged,
    server_stream: Callable[[trio.abc.Stream], trio.abc.Stream] = _unchanged,
    link: Link | None = None,
    **options: Unpack[SharedKeywords],
) -> AsyncGenerator[tuple[WebSocket, WebSocket], None]:
    """Open a WebSocket in memory: ``async with memory_websocket_pair() as (client, server):``.

    Both ends are real, with the whole opening handshake between them; nothing touches the network or the real clock.
    Left normally, both close with 1000, within ``close_timeout``. Left by an exception or by cancellation, both are
    gone at once, and the exception comes out as it is.

    Args:
        http_version: which version of HTTP carries it, "1.1" or "2".
        url: what the client asks for.
        protocols: the subprotocols that the client offers and the server speaks, the preferred first.
        headers: what the client adds to its request.
        client_stream: wraps the client's end of the stream between them, in a fault of this module say.
        server_stream: the same for the server's end.
        link: what is between the ends: latency, bandwidth, a loss; None: nothing that takes time.
        options: compression, limits, keepalive, connect_timeout, close_timeout and instruments, of both ends.

    Raises:
        ValueError: http_version is another one, or an argument breaks its rule.
        TypeError: an argument has the wrong type.
        Exception: what ``open_websocket`` raises if a fault spoils the opening handshake.
    """
    if http_version not in ("1.1", "2"):
        raise ValueError(f'http_version={http_version!r}: it must be "1.1" or "2"')
    if link is not None:
        link.check_frames_seen(http_version == "1.1")
    one, other = memory_stream_pair() if link is None else link_stream_pair(link)
    agent = _StreamAgent(client_stream(one), http2=http_version == "2")
    async with BackgroundNursery() as nursery:
        opened = trio.Event()
        clients: list[WebSocket] = []

        async def connect() -> None:
            clients.append(
                await connect_websocket(nursery, url, protocols, dispatcher=agent, headers=headers, **options)
            )
            opened.set()

        nursery.start_soon(connect)
        try:
            request = await wrap_server_stream(
                nursery, server_stream(other), protocols=protocols, origins=None, **options
            )
        except InvalidHandshake:
            await trio.sleep_forever()  # the error of the client says more, and ends this
        async with request.accept() as server:
            await opened.wait()
            client = clients[0]
            try:
                yield client, server
            except BaseException:  # whoever fails does not wait for a farewell
                client._connection.abandon()
                server._connection.abandon()
                raise
            async with trio.open_nursery() as closing:
                closing.start_soon(client.aclose)
                closing.start_soon(server.aclose)
