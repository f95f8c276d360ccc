"""Dispatchers: how a URL becomes a connection."""

from __future__ import annotations

import abc
import os
import ssl
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ._net.dial import default_ssl_context, dial_tcp, dial_unix, start_tls
from ._net.http1 import upgrade
from ._opening import Opened

if TYPE_CHECKING:
    from types import TracebackType

    import trio

    from ._instrument import Instrument
    from ._options import Limits
    from ._transport import Transport
    from ._wire.handshake import ClientHandshake
    from ._wire.url import WebSocketURL


def check_ssl_context(ssl_context: object) -> None:
    """Check what a caller passed as ``ssl_context``.

    Raises:
        TypeError: it is neither an SSLContext nor None.
    """
    if not isinstance(ssl_context, ssl.SSLContext | None):
        raise TypeError(f"ssl_context must be an ssl.SSLContext or None, not {ssl_context!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectRequest:
    """What a dispatcher is asked for: one WebSocket.

    Attributes:
        url: where to.
        handshake: makes the request and checks the answer.
        limits: what the server may cost us.
        ssl_context: for this connection, in place of the dispatcher's own; None: use that.
        instruments: hooks of the call's, to be told beside the dispatcher's own.
        nursery: where the tasks of a connection run that serves this call alone.
    """

    url: WebSocketURL
    handshake: ClientHandshake
    limits: Limits
    ssl_context: ssl.SSLContext | None
    instruments: tuple[Instrument, ...]
    nursery: trio.Nursery


class Dispatcher(AbstractAsyncContextManager["Dispatcher"]):
    """How a URL becomes a connection; pass one as ``dispatcher``.

    An async context manager that owns the connections it shares. Passed without having been entered, it shares none:
    what it opens is that one call's.
    """

    @abc.abstractmethod
    async def open(self, request: ConnectRequest) -> Opened:
        """Connect and do the opening handshake. Cancelled, nothing is left open."""


class Agent(Dispatcher):
    """Connects straight to the server: TCP to whichever of its addresses answers first, TLS for ``wss``.

    Args:
        ssl_context: for ``wss`` URLs; the default verifies the server against the system's authorities.
        socket_path: connect to this Unix socket, whatever host the URL names; the URL's host is what the server is
            asked for, and whom a TLS certificate must name.

    Raises:
        TypeError: ssl_context is no SSLContext, or socket_path no path.

    Source: undici's ``Agent`` and its ``connect`` options.
    """

    def __init__(
        self, *, ssl_context: ssl.SSLContext | None = None, socket_path: str | os.PathLike[str] | None = None
    ) -> None:
        check_ssl_context(ssl_context)
        self._ssl_context = ssl_context
        if not isinstance(socket_path, str | os.PathLike | None):
            raise TypeError(f"socket_path must be a path or None, not {socket_path!r}")
        self._socket_path = None if socket_path is None else os.fspath(socket_path)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to do: over HTTP/1.1 a connection belongs to the one WebSocket that it carries."""

    async def open(self, request: ConnectRequest) -> Opened:
        url = request.url
        transport = await self._connect(request)
        try:
            if url.secure:
                context = request.ssl_context or self._ssl_context or default_ssl_context()
                transport = await start_tls(transport, context, url.host)
            return await open_http1(transport, request.handshake, request.limits)
        except BaseException:  # cancelled or failed: nothing is left open
            transport.abort()
            raise

    async def _connect(self, request: ConnectRequest) -> Transport:
        """Connect to the URL's host and port, before TLS. Cancelled, nothing is left open."""
        if self._socket_path is None:
            return await dial_tcp(request.url.host, request.url.port)
        return await dial_unix(self._socket_path)


async def open_http1(transport: Transport, handshake: ClientHandshake, limits: Limits) -> Opened:
    """Do the opening handshake of HTTP/1.1 on a transport, which stays the caller's to abort if this raises."""
    headers, rest = await upgrade(transport, handshake, limits)
    return Opened(
        transport=transport,
        agreement=handshake.check_http1_answer(headers),
        http_version="1.1",
        request_headers=handshake.request_headers,
        response_headers=headers,
        rest=rest,
    )
