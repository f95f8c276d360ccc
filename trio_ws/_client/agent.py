"""Dispatchers: how a URL becomes a connection."""

from __future__ import annotations

import abc
import os
import socket
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Self

import trio

from .._exceptions import InvalidHandshake
from .._net.dial import (
    check_address,
    check_server_hostname,
    check_ssl_context,
    default_ssl_context,
    dial_tcp,
    dial_unix,
    start_tls,
)
from .._net.http1 import upgrade
from .._net.http2.connection import PATIENCE, Http2Connection
from .._net.http2.exchange import request_websocket, unanswered
from .._net.http2.frame_reader import Http2Statistics
from .._net.http2.stream import StreamReset
from .._net.tls import TLSTransport
from .._util.nursery import BackgroundNursery
from .._util.scopes import check_runs_on_trio
from .._websocket.frame_log import handshake_listener
from .._websocket.instrument import check_instruments
from .._websocket.start import Opened
from .pool import Pool

if TYPE_CHECKING:
    import ssl
    from collections.abc import Hashable, Iterable, Sequence
    from types import TracebackType

    from .._options import Limits
    from .._reactor import Reactor
    from .._transport import Transport
    from .._websocket.instrument import Instrument
    from .._wire.handshake import ClientHandshake
    from .._wire.url import WebSocketURL


HTTP1_ALPN = ("http/1.1",)
HTTP2_ALPN = ("h2", "http/1.1")
MAX_TRIES = 3  # connections that may refuse a stream


@dataclass(slots=True)
class Progress:
    """How far a dispatcher has got, so that running out of time can be explained.

    Attributes:
        proxy: the proxy that is being waited for, None if none is.
    """

    proxy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectRequest:
    """What a dispatcher is asked for: one WebSocket.

    Attributes:
        url: where to.
        handshake: makes the request and checks the answer.
        limits: what the server may cost us.
        ssl_context: for this connection, in place of the dispatcher's own; None: use that.
        instruments: hooks of the call's, to be told beside the dispatcher's own.
        nursery: where tasks that the transport needs run.
        reactor: drives the connection.
        connect_to: the host and the port to connect to, in place of the dispatcher's own and of the URL's; None: those.
        server_hostname: whom TLS expects, in place of the dispatcher's own and of the URL's host; None: those.
        source_address: where to connect from, in place of the dispatcher's own; None: that.
        progress: where to note what is waited for.
    """

    url: WebSocketURL
    handshake: ClientHandshake
    limits: Limits
    ssl_context: ssl.SSLContext | None
    instruments: tuple[Instrument, ...]
    nursery: trio.Nursery
    reactor: Reactor
    connect_to: tuple[str, int] | None = None
    server_hostname: str | None = None
    source_address: tuple[str, int] | None = None
    progress: Progress = field(default_factory=Progress, compare=False)


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

    Entered, ``async with Agent() as agent:``, it speaks HTTP/2 to servers that take WebSockets over it (RFC 8441), and
    the WebSockets to one origin share a connection: one dial, one TLS handshake, one keepalive. When that is full,
    another is made. Leaving the block ends the connections and what they still carry. Limits for a shared connection
    are those of the call that made it.

    Not entered, it shares nothing: each WebSocket has a connection of its own, which ends with it.

    Args:
        allow_h2: offer HTTP/2 in TLS (ALPN); a server that has no WebSocket over HTTP/2 gets HTTP/1.1, on a connection
            of its own if need be, and an entered agent remembers that.
        h2_prior_knowledge: begin ``ws`` connections with HTTP/2, which the server must speak.
        ssl_context: for ``wss`` URLs; the default verifies the server against the system's authorities. It may be
            shared: by other agents, by threads, with other libraries.
        max_concurrent_streams: WebSockets on one connection; fewer if the server says so.
        socket_path: connect to this Unix socket, whatever host the URL names; the URL's host is what the server is
            asked for, and whom a TLS certificate must name.
        connect_to: connect to this host and port, whatever the URL names, which is still what the server is asked for,
            and whom a TLS certificate must name.
        server_hostname: the name that TLS asks for and that the certificate must have, in place of the URL's host.
        source_address: connect from this address of the machine and this port; port 0 lets the system choose.
        instruments: hooks that hear what happens to every WebSocket that it opens.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: max_concurrent_streams is below 1, a host or a port is wrong, socket_path is passed with
            connect_to or source_address, or this system has no Unix sockets.

    Source: undici's ``Agent`` with ``allowH2``, ``maxConcurrentStreams`` and ``connect``; RFC 8441.
    """

    def __init__(
        self,
        *,
        allow_h2: bool = True,
        h2_prior_knowledge: bool = False,
        ssl_context: ssl.SSLContext | None = None,
        max_concurrent_streams: int = 100,
        socket_path: str | os.PathLike[str] | None = None,
        connect_to: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        source_address: tuple[str, int] | None = None,
        instruments: Iterable[Instrument] = (),
    ) -> None:
        check_ssl_context(ssl_context)
        if not isinstance(socket_path, str | os.PathLike | None):
            raise TypeError(f"socket_path must be a path or None, not {socket_path!r}")
        if socket_path is not None and not hasattr(socket, "AF_UNIX"):
            raise ValueError(f"socket_path={socket_path!r}: this system has no Unix sockets")
        if isinstance(max_concurrent_streams, bool) or not isinstance(max_concurrent_streams, int):
            raise TypeError(f"max_concurrent_streams must be an int, not {max_concurrent_streams!r}")
        if max_concurrent_streams < 1:
            raise ValueError(f"max_concurrent_streams={max_concurrent_streams}: it must be at least 1")
        self._allow_h2 = allow_h2
        self._h2_prior_knowledge = h2_prior_knowledge
        self._ssl_context = ssl_context
        self._max_streams = max_concurrent_streams
        if socket_path is not None and (connect_to is not None or source_address is not None):
            raise ValueError("connect_to and source_address are for TCP: a Unix socket has no hosts and ports")
        self._socket_path = None if socket_path is None else os.fspath(socket_path)
        self._connect_to = check_address("connect_to", connect_to)
        self._server_hostname = check_server_hostname(server_hostname)
        self._source_address = check_address("source_address", source_address, least_port=0)
        self._instruments = check_instruments(instruments)
        self._counts = Http2Statistics()
        self._scope = BackgroundNursery()
        self._pool: Pool | None = None

    async def __aenter__(self) -> Self:
        check_runs_on_trio(type(self).__name__)
        if self._pool is not None:
            raise RuntimeError("the agent was entered before")
        self._pool = Pool(await self._scope.__aenter__())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the connections at once, with GOAWAY; WebSockets that are still open are lost with them."""
        assert self._pool is not None
        self._pool.close()
        self._pool = None
        await self._scope.__aexit__(exc_type, exc, traceback)  # noqa: ASYNC102  # its tasks are being cancelled

    def statistics(self) -> Http2Statistics:
        """What its HTTP/2 connections have counted so far; a copy."""
        return replace(self._counts, limits_passed=dict(self._counts.limits_passed))

    async def open(self, request: ConnectRequest) -> Opened:
        listener = handshake_listener(self._instruments, logs=False)
        if listener is not None:
            request.handshake.listeners.append(listener)
        if not (self._allow_h2 if request.url.secure else self._h2_prior_knowledge):
            opened = await self._open_http1(request)
        elif self._pool is None:
            opened = await self._open_alone(request)
        else:
            opened = await self._open_shared(self._pool, request)
        return opened._replace(instruments=self._instruments) if self._instruments else opened

    async def _open_http1(self, request: ConnectRequest, transport: Transport | None = None) -> Opened:
        """Open on a connection for HTTP/1.1: this one, or one of its own."""
        if transport is None:
            transport = await self._secure(request, HTTP1_ALPN)
        try:
            return await open_http1(transport, request.handshake, request.limits)
        except BaseException:  # cancelled or failed: nothing is left open
            transport.abort()
            raise

    async def _open_alone(self, request: ConnectRequest) -> Opened:
        made = await self._dial_http2(request)
        if not isinstance(made, Http2Connection):
            return await self._open_http1(request, made)
        try:
            return await self._ask(made, request)
        except StreamReset as error:
            if not error.wants_http1:
                raise unanswered(f"the server refused the stream: {error}", error) from None
        finally:
            made.end_with_its_streams()
        return await self._open_http1(request)

    async def _open_shared(self, pool: Pool, request: ConnectRequest) -> Opened:
        origin = pool.origin(self._pool_key(request))
        shared = replace(request, nursery=pool.nursery, reactor=pool.reactor)
        refused: list[Http2Connection] = []
        refusal: StreamReset | None = None
        while len(refused) < MAX_TRIES:
            if origin.http1:
                return await self._open_http1(request)
            connection = origin.pick(refused)
            if connection is None:
                transport = await origin.dial(partial(self._dial_http2, shared))
                if transport is not None:
                    return await self._open_http1(request, transport)
                continue
            started_at = trio.current_time()
            try:
                return await self._ask(connection, request)
            except StreamReset as error:
                if error.wants_http1:  # RFC 9113 §7
                    origin.http1 = True
                    continue
                refusal = error  # not looked at: RFC 9113 §8.7 has it sent again, elsewhere
                refused.append(connection)
            except trio.Cancelled:
                if trio.current_time() >= started_at + PATIENCE:  # or the next one would wait for a dead peer too
                    connection.distrust(started_at)
                raise
        raise unanswered(f"the server refused the stream on {MAX_TRIES} connections: {refusal}", refusal)

    async def _ask(self, connection: Http2Connection, request: ConnectRequest) -> Opened:
        stream, headers = await request_websocket(connection, request.handshake, request.limits)
        try:
            agreement = request.handshake.check_http2_answer(headers)
        except InvalidHandshake:
            stream.abort()
            raise
        return Opened(
            transport=stream,
            agreement=agreement,
            http_version="2",
            request_headers=request.handshake.request_headers,
            response_headers=headers,
            rest=b"",
        )

    async def _dial_http2(self, request: ConnectRequest) -> Http2Connection | Transport | None:
        """Connect and offer HTTP/2.

        Returns:
            The HTTP/2 connection, which takes WebSockets; or the transport, if the server chose HTTP/1.1; None if it
            chose HTTP/2 and takes no WebSockets over it, or wants HTTP/1.1 for them.
        """
        transport = await self._secure(request, HTTP2_ALPN)
        if isinstance(transport, TLSTransport) and transport.alpn != "h2":
            return transport
        connection = Http2Connection(
            transport, request.limits, self._counts, request.reactor, max_streams=self._max_streams
        )
        try:
            connection.start()
            await connection.wait_settled()
        except BaseException:  # cancelled, or the nursery is closed: nothing is left open
            connection.close()
            raise
        if connection.ended:
            error = connection.error
            if isinstance(error, OSError):
                raise error
            if isinstance(error, StreamReset) and error.wants_http1:
                return None
            why = error or "the server closed the connection"
            raise unanswered(f"HTTP/2 ended before it began: {why!s:.256}", error)
        if not connection.extended_connect:  # RFC 8441 §3
            connection.close()
            return None
        if not connection.has_room:  # RFC 9113 §5.1.2: for now, but for how long nobody knows
            connection.close()
            raise InvalidHandshake("the server takes HTTP/2, and has no room for a stream", no_answer=True)
        return connection

    async def _secure(self, request: ConnectRequest, alpn: Sequence[str]) -> Transport:
        """Connect, and do TLS if the URL asks for it."""
        transport = await self._connect(request)
        if not request.url.secure:
            return transport
        try:
            return await start_tls(transport, self._context(request), self._name(request), alpn)
        except BaseException:  # cancelled or failed: nothing is left open
            transport.abort()
            raise

    def _context(self, request: ConnectRequest) -> ssl.SSLContext:
        return request.ssl_context or self._ssl_context or default_ssl_context()

    def _name(self, request: ConnectRequest) -> str:
        """Whom TLS expects."""
        return request.server_hostname or self._server_hostname or request.url.host

    def _target(self, request: ConnectRequest) -> tuple[str, int]:
        """The host and the port to connect to."""
        return request.connect_to or self._connect_to or (request.url.host, request.url.port)

    def _source(self, request: ConnectRequest) -> tuple[str, int] | None:
        """Where to connect from, None if the system chooses."""
        return request.source_address or self._source_address

    def _pool_key(self, request: ConnectRequest) -> tuple[Hashable, ...]:
        """What two requests must have in common to share a connection; a subclass adds what it depends on."""
        url = request.url
        tls = (self._context(request), self._name(request)) if url.secure else None
        return (url.secure, url.host, url.port, tls, self._target(request), self._source(request))

    async def _connect(self, request: ConnectRequest) -> Transport:
        """Connect, before TLS. Cancelled, nothing is left open."""
        if self._socket_path is None:
            return await dial_tcp(*self._target(request), self._source(request))
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
