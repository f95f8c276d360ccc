"""trio-websocket's ways to open a client's connection."""

from __future__ import annotations

import math
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

from ..._client import connect as ours
from ..._util.nursery import BackgroundNursery
from ..._wire.hiding import hide_secrets_of_url
from ._connection import (
    CONN_TIMEOUT,
    MAX_MESSAGE_SIZE,
    MESSAGE_QUEUE_SIZE,
    RECEIVE_BYTES,
    WebSocketConnection,
    added_headers,
    limits_for,
)
from ._endpoint import endpoint, stream_endpoints
from ._errors import DisconnectionTimeout, HandshakeError, handshake_as_theirs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable
    from contextlib import AbstractAsyncContextManager

    from ..._options import Limits

    ExtraHeaders = Iterable[tuple[bytes | str, bytes | str]]


@asynccontextmanager
async def open_websocket(
    host: str,
    port: int,
    resource: str,
    *,
    use_ssl: bool | ssl.SSLContext,
    subprotocols: Iterable[str] | None = None,
    extra_headers: ExtraHeaders | None = None,
    message_queue_size: int = MESSAGE_QUEUE_SIZE,
    max_message_size: int = MAX_MESSAGE_SIZE,
    receive_buffer_size: int | None = RECEIVE_BYTES,
    connect_timeout: float = CONN_TIMEOUT,
    disconnect_timeout: float = CONN_TIMEOUT,
) -> AsyncGenerator[WebSocketConnection, None]:
    """Open a connection for as long as the block lasts, which is closed with 1000 unless it is cancelled.

    Args:
        host: a name or an address.
        port: the TCP port.
        resource: the path and the query.
        use_ssl: True: TLS that verifies against the system's authorities; False: none; or a context.
        subprotocols: what to offer, the preferred first.
        extra_headers: what to add to the request; those of the protocol itself are left out.
        message_queue_size: how many messages of the largest size may wait for ``get_message``.
        max_message_size: bytes of one message; over it the connection fails with 1009.
        receive_buffer_size: not used: trio_ws reads as much as there is.
        connect_timeout: seconds for connecting.
        disconnect_timeout: seconds for closing.

    Raises:
        HandshakeError: connecting failed; its subclasses, and ``__cause__``, say why.
        DisconnectionTimeout: the server did not close in time.
    """
    async with BackgroundNursery() as nursery:
        try:
            connection = await _connect(
                nursery,
                host,
                port,
                resource,
                use_ssl,
                subprotocols,
                extra_headers,
                limits_for(message_queue_size, max_message_size),
                connect_timeout,
                math.inf,  # leaving the block is bounded below
            )
        except OSError as error:
            raise HandshakeError(str(error)) from error
        try:
            yield connection
        except Exception:
            with trio.move_on_after(disconnect_timeout):
                await connection.aclose()
            raise
        with trio.move_on_after(disconnect_timeout) as closing:
            await connection.aclose()
    if closing.cancelled_caught:
        raise DisconnectionTimeout(f"the server did not close within disconnect_timeout={disconnect_timeout:g} s")


async def connect_websocket(
    nursery: trio.Nursery,
    host: str,
    port: int,
    resource: str,
    *,
    use_ssl: bool | ssl.SSLContext,
    subprotocols: Iterable[str] | None = None,
    extra_headers: ExtraHeaders | None = None,
    message_queue_size: int = MESSAGE_QUEUE_SIZE,
    max_message_size: int = MAX_MESSAGE_SIZE,
    receive_buffer_size: int | None = RECEIVE_BYTES,
) -> WebSocketConnection:
    """Open a connection whose tasks live in a nursery of yours; closing it is yours too.

    The arguments are those of ``open_websocket``. Connecting takes 60 seconds at most, and so does closing.

    Raises:
        OSError: DNS, TCP or TLS failed.
        HandshakeError: the handshake failed.
    """
    limits = limits_for(message_queue_size, max_message_size)
    return await _connect(
        nursery, host, port, resource, use_ssl, subprotocols, extra_headers, limits, CONN_TIMEOUT, CONN_TIMEOUT
    )


async def _connect(
    nursery: trio.Nursery,
    host: str,
    port: int,
    resource: str,
    use_ssl: bool | ssl.SSLContext,
    subprotocols: Iterable[str] | None,
    extra_headers: ExtraHeaders | None,
    limits: Limits,
    connect_timeout: float,
    close_timeout: float,
) -> WebSocketConnection:
    if not isinstance(use_ssl, bool | ssl.SSLContext):
        raise TypeError(f"use_ssl must be a bool or an ssl.SSLContext, not {use_ssl!r}")
    is_ssl = use_ssl is not False
    with handshake_as_theirs():
        websocket = await ours.connect_websocket(
            nursery,
            f"{'wss' if is_ssl else 'ws'}://{_bracketed(host)}:{port}{_path(resource)}",
            tuple(subprotocols or ()),
            ssl_context=use_ssl if isinstance(use_ssl, ssl.SSLContext) else None,
            headers=added_headers(extra_headers),
            limits=limits,
            connect_timeout=connect_timeout,
            close_timeout=close_timeout,
        )
    local, remote = (endpoint(one, is_ssl=is_ssl) for one in (websocket.local_address, websocket.remote_address))
    return WebSocketConnection(websocket, is_client=True, path=resource, local=local, remote=remote)


def open_websocket_url(
    url: str,
    ssl_context: ssl.SSLContext | None = None,
    *,
    subprotocols: Iterable[str] | None = None,
    extra_headers: ExtraHeaders | None = None,
    message_queue_size: int = MESSAGE_QUEUE_SIZE,
    max_message_size: int = MAX_MESSAGE_SIZE,
    connect_timeout: float = CONN_TIMEOUT,
    disconnect_timeout: float = CONN_TIMEOUT,
    receive_buffer_size: int | None = RECEIVE_BYTES,
) -> AbstractAsyncContextManager[WebSocketConnection]:
    """Open a connection for as long as the block lasts: ``open_websocket`` with a URL.

    Args:
        url: ``ws:`` or ``wss:``.
        ssl_context: for ``wss:``; None: verify against the system's authorities.
        subprotocols: as in ``open_websocket``, and so are all that follow.
        extra_headers: see there.
        message_queue_size: see there.
        max_message_size: see there.
        connect_timeout: see there.
        disconnect_timeout: see there.
        receive_buffer_size: see there.

    Raises:
        ValueError: the scheme is another one, or a context is given for ``ws:``.
    """
    host, port, resource, use_ssl = _split(url, ssl_context)
    return open_websocket(
        host,
        port,
        resource,
        use_ssl=use_ssl,
        subprotocols=subprotocols,
        extra_headers=extra_headers,
        message_queue_size=message_queue_size,
        max_message_size=max_message_size,
        connect_timeout=connect_timeout,
        disconnect_timeout=disconnect_timeout,
        receive_buffer_size=receive_buffer_size,
    )


async def connect_websocket_url(
    nursery: trio.Nursery,
    url: str,
    ssl_context: ssl.SSLContext | None = None,
    *,
    subprotocols: Iterable[str] | None = None,
    extra_headers: ExtraHeaders | None = None,
    message_queue_size: int = MESSAGE_QUEUE_SIZE,
    max_message_size: int = MAX_MESSAGE_SIZE,
    receive_buffer_size: int | None = RECEIVE_BYTES,
) -> WebSocketConnection:
    """Open a connection in a nursery of yours: ``connect_websocket`` with a URL."""
    host, port, resource, use_ssl = _split(url, ssl_context)
    return await connect_websocket(
        nursery,
        host,
        port,
        resource,
        use_ssl=use_ssl,
        subprotocols=subprotocols,
        extra_headers=extra_headers,
        message_queue_size=message_queue_size,
        max_message_size=max_message_size,
        receive_buffer_size=receive_buffer_size,
    )


async def wrap_client_stream(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    host: str,
    resource: str,
    *,
    subprotocols: Iterable[str] | None = None,
    extra_headers: ExtraHeaders | None = None,
    message_queue_size: int = MESSAGE_QUEUE_SIZE,
    max_message_size: int = MAX_MESSAGE_SIZE,
    receive_buffer_size: int | None = RECEIVE_BYTES,
) -> WebSocketConnection:
    """Open a connection over a stream, which is owned from here on.

    The arguments are those of ``open_websocket``; host is what the server is asked for, with a port if need be.

    Raises:
        HandshakeError: the handshake failed.
    """
    local, remote = stream_endpoints(stream, is_ssl=False)
    with handshake_as_theirs():
        websocket = await ours.wrap_client_stream(
            nursery,
            stream,
            f"ws://{_bracketed(host)}{_path(resource)}",
            tuple(subprotocols or ()),
            headers=added_headers(extra_headers),
            limits=limits_for(message_queue_size, max_message_size),
            connect_timeout=CONN_TIMEOUT,
            close_timeout=CONN_TIMEOUT,
        )
    return WebSocketConnection(websocket, is_client=True, path=resource, local=local, remote=remote)


def _split(url: str, ssl_context: ssl.SSLContext | None) -> tuple[str, int, str, bool | ssl.SSLContext]:
    """Take a URL apart: host, port, resource, use_ssl."""
    parts = urlsplit(str(url))  # a yarl.URL was always taken too
    shown = hide_secrets_of_url(str(url))
    if parts.scheme not in ("ws", "wss"):
        raise ValueError(f"url {shown!r}: the scheme must be ws: or wss:")
    if parts.scheme == "ws" and ssl_context is not None:
        raise ValueError(f"url {shown!r}: ssl_context must be None for ws:")
    if parts.hostname is None:
        raise ValueError(f"url {shown!r}: it must have a host")
    secure = parts.scheme == "wss"
    port = parts.port if parts.port is not None else 443 if secure else 80
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return parts.hostname, port, resource, ssl_context or secure


def _bracketed(host: str) -> str:
    return f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host


def _path(resource: str) -> str:
    """Give a resource as the path of a URL: in it, a number sign would begin a fragment."""
    path = resource.replace("#", "%23")
    return path if path.startswith("/") else f"/{path}"
