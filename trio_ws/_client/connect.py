"""The client's side: from a URL to an open WebSocket."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from .._exceptions import HandshakeError, HandshakeRejected, HandshakeTimeout, ProxyTimeout
from .._net.dial import check_address, check_server_hostname, check_ssl_context, start_tls
from .._net.stream_transport import StreamTransport
from .._options import Compression, Keepalive, Limits, check_names, defaults_of
from .._reactor import Reactor
from .._util.nursery import BackgroundNursery
from .._util.scopes import scope
from .._version import PRODUCT
from .._websocket.frame_log import handshake_listener, next_connection_id
from .._websocket.start import SharedKeywords, check_shared_keywords, start_websocket
from .._websocket.websocket_stream import WebSocketStream
from .._wire.handshake import ClientHandshake, check_product, check_protocols
from .._wire.hiding import hide_secrets_of_url
from .._wire.url import parse_url
from .agent import Agent, ConnectRequest, Dispatcher, Progress, open_http1
from .redirects import RedirectState, check_follow_redirects

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
    from typing import Unpack

    from .._transport import Transport
    from .._websocket.instrument import Instrument
    from .._websocket.start import Opened
    from .._websocket.websocket import WebSocket
    from .._wire.headers import HeadersLike
    from .._wire.url import WebSocketURL


class ClientKeywords(SharedKeywords, total=False):
    """The keyword arguments of everything that opens a WebSocket, as :func:`open_websocket` describes them."""

    dispatcher: Dispatcher | None
    headers: HeadersLike
    origin: str | None
    ssl_context: ssl.SSLContext | None
    follow_redirects: int
    connect_to: tuple[str, int] | None
    server_hostname: str | None
    source_address: tuple[str, int] | None
    user_agent_header: str | None


_STRAIGHT = Agent(allow_h2=False)  # never entered, it keeps nothing of a call


class _Call:
    """One call to open a WebSocket, checked before any I/O; what is missing has the defaults of open_websocket.

    Attributes:
        url: what the caller has asked for.
        handshake: the newest, of those that redirects have led to.
    """

    url: WebSocketURL
    handshake: ClientHandshake

    def __init__(self, **options: Unpack[ClientKeywords]) -> None:
        check_names(options, _DEFAULTS)
        given = _DEFAULTS | options
        self.connection = check_shared_keywords(given)
        self.connect_timeout = given["connect_timeout"]
        self.ssl_context = given["ssl_context"]
        self.dispatcher = given["dispatcher"]
        self.headers = given["headers"]
        self.origin = given["origin"]
        self.follow_redirects = given["follow_redirects"]
        self.connect_to = check_address("connect_to", given["connect_to"])
        self.server_hostname = check_server_hostname(given["server_hostname"])
        self.source_address = check_address("source_address", given["source_address"], least_port=0)
        check_ssl_context(self.ssl_context)
        self.user_agent = check_product("user_agent_header", "User-Agent", given["user_agent_header"])
        check_follow_redirects(self.follow_redirects)
        if not isinstance(self.dispatcher, Dispatcher | None):
            raise TypeError(f"dispatcher must be a Dispatcher or None, not {self.dispatcher!r}")

    async def open(
        self,
        nursery: trio.Nursery,
        url: str,
        protocols: str | Iterable[str],
        connect: Callable[[_Call, ClientHandshake], Awaitable[Opened]] | None = None,
        *,
        shield: bool,
    ) -> WebSocket:
        """Connect, shake hands, and start the WebSocket in the nursery; ``connect`` takes the dispatcher's place."""
        self.url = parse_url(url)
        self.connection_id = next_connection_id()
        redirects = RedirectState(self.url, self.headers, self.origin, self.follow_redirects)
        if self.server_hostname is not None and not self.url.secure and connect is None:
            raise ValueError(
                f"server_hostname={self.server_hostname!r} is for wss: {hide_secrets_of_url(str(self.url))} has no TLS"
            )
        offered = check_protocols(protocols)
        reactor = Reactor(nursery, shield=shield)
        request = ConnectRequest(
            url=redirects.url,
            handshake=self._next_handshake(redirects, offered),
            limits=self.connection.limits,
            ssl_context=self.ssl_context,
            instruments=self.connection.instruments,
            nursery=nursery,
            reactor=reactor,
            connect_to=self.connect_to,
            server_hostname=self.server_hostname,
            source_address=self.source_address,
        )
        with trio.move_on_after(self.connect_timeout):
            if connect is not None:
                opened = await connect(self, request.handshake)
            else:
                opened = await self._dispatch(request, redirects, offered)
            try:
                url = str(redirects.url)
                return start_websocket(
                    opened, self.connection, reactor, url=url, is_client=True, connection_id=self.connection_id
                )
            except RuntimeError:  # the nursery is closed
                opened.transport.abort()
                raise
        raise self._timed_out(redirects, request.progress)

    def _next_handshake(self, redirects: RedirectState, protocols: tuple[str, ...]) -> ClientHandshake:
        self.handshake = ClientHandshake(
            redirects.url,
            protocols,
            headers=redirects.headers,
            origin=redirects.origin,
            compression=self.connection.compression,
            user_agent=self.user_agent,
        )
        self.handshake.connection_id = self.connection_id
        listener = handshake_listener(self.connection.instruments)
        if listener is not None:
            self.handshake.listeners.append(listener)
        return self.handshake

    async def _dispatch(self, request: ConnectRequest, redirects: RedirectState, protocols: tuple[str, ...]) -> Opened:
        """Ask the dispatcher, and again wherever the server redirects to and the caller lets it."""
        dispatcher = self.dispatcher or _STRAIGHT
        while True:
            try:
                return await dispatcher.open(request)
            except HandshakeRejected as rejected:
                if not redirects.goes_on(rejected):
                    raise
            request = replace(request, url=redirects.url, handshake=self._next_handshake(redirects, protocols))
            if redirects.url.origin != self.url.origin:  # they were meant for the caller's
                request = replace(request, connect_to=None, server_hostname=None)

    def _timed_out(self, redirects: RedirectState, progress: Progress) -> HandshakeError:
        """Make the error for a call whose time is over."""
        if self.handshake.rejection is not None:  # there is an answer, only its body was still coming
            return self.handshake.rejection
        url = hide_secrets_of_url(str(redirects.url))
        message = f"no WebSocket to {url} within connect_timeout={self.connect_timeout:g} s"
        if progress.proxy is None:
            return HandshakeTimeout(message)
        return ProxyTimeout(f"{message}: the proxy {progress.proxy} had not connected us")


@scope
async def open_websocket(
    url: str,
    protocols: str | Iterable[str] = (),
    *,
    dispatcher: Dispatcher | None = None,
    headers: HeadersLike = (),
    origin: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    compression: Compression | None = Compression(),
    limits: Limits = Limits(),
    keepalive: Keepalive | None = Keepalive(),
    connect_timeout: float = 10.0,
    close_timeout: float = 10.0,
    instruments: Iterable[Instrument] = (),
    follow_redirects: int = 0,
    connect_to: tuple[str, int] | None = None,
    server_hostname: str | None = None,
    source_address: tuple[str, int] | None = None,
    user_agent_header: str | None = PRODUCT,
) -> AsyncGenerator[WebSocket, None]:
    """Open a WebSocket for as long as the block lasts: ``async with open_websocket(url) as ws:``.

    The block's own exception comes out as it is. Leaving the block closes, as :class:`WebSocket` tells. Cancelled
    while opening, nothing is left open.

    Args:
        url: ``ws:`` or ``wss:``; ``http:`` and ``https:`` are taken for these. User name and password become Basic
            authorization. No fragment.
        protocols: the subprotocols to offer, the preferred first. If any are, the server must choose one.
        dispatcher: how to connect; None: straight, over HTTP/1.1. An :class:`Agent` speaks HTTP/2 too, and carries
            many WebSockets on one connection.
        headers: what to add to the request: a mapping, or pairs of names and values.
        origin: the Origin to send, as a browser would; None: none.
        ssl_context: for ``wss``, in place of the dispatcher's; None: that, or verification against the system's
            authorities.
        compression: how to offer and use permessage-deflate; None: do not.
        limits: what the server may cost us.
        keepalive: when to ask whether the server is there; None: never.
        connect_timeout: seconds for DNS, TCP, TLS and the opening handshake together.
        close_timeout: seconds for closing.
        instruments: hooks that hear what happens.
        follow_redirects: how many redirects to follow, 0 to 5, all within connect_timeout. Never from ``wss`` to
            ``ws``; to another origin only without ``headers`` and userinfo, and with "null" for ``origin``. The
            rejection that an unfollowed redirect is raised as has a note that tells why.
        connect_to: connect to this host and port, whatever the URL names. The server is still asked for the URL's host,
            and a TLS certificate must still name that. Through a proxy it is what the proxy is asked for. A redirect to
            another origin goes there.
        server_hostname: the name that TLS asks for (SNI) and that the certificate must have, in place of the URL's
            host; for ``wss``, and not for another origin.
        source_address: connect from this address of the machine and this port; port 0 lets the system choose.
        user_agent_header: the value of User-Agent, ``trio_ws/VERSION`` by default, for an HTTP proxy's CONNECT too;
            None: none. One in ``headers`` takes its place, and goes to the server only.

    Raises:
        InvalidURL: url breaks a rule. This, TypeError and ValueError come before any I/O.
        TypeError: an argument has the wrong type.
        ValueError: an argument breaks its rule; the message names it.
        OSError: DNS or TCP failed.
        ssl.SSLError: TLS failed, or the server could not be verified.
        HandshakeRejected: the server said no.
        InvalidHandshake: the server's answer breaks the rules.
        ProxyError: the dispatcher's proxy said no, or broke the rules.
        HandshakeTimeout: connect_timeout has passed; as :class:`ProxyTimeout` if the proxy let it.

    Source: WHATWG WebSockets, undici's ``new WebSocket(url, {protocols, dispatcher, headers})``; RFC 6455 §4.1.
    """
    call = _Call(
        dispatcher=dispatcher,
        headers=headers,
        origin=origin,
        ssl_context=ssl_context,
        compression=compression,
        limits=limits,
        keepalive=keepalive,
        connect_timeout=connect_timeout,
        close_timeout=close_timeout,
        instruments=instruments,
        follow_redirects=follow_redirects,
        connect_to=connect_to,
        server_hostname=server_hostname,
        source_address=source_address,
        user_agent_header=user_agent_header,
    )
    async with BackgroundNursery() as nursery, await call.open(nursery, url, protocols, shield=True) as websocket:
        yield websocket


_DEFAULTS = defaults_of(open_websocket, ClientKeywords)


@scope
async def open_websocket_stream(
    url: str, protocols: str | Iterable[str] = (), **options: Unpack[ClientKeywords]
) -> AsyncGenerator[WebSocketStream, None]:
    """Open a WebSocket as a pair of channels, and close it when the block is left, as :func:`open_websocket` does.

    ``async with open_websocket_stream(url) as stream:`` gives a :class:`WebSocketStream`, by any dispatcher.

    Args:
        url: as in :func:`open_websocket`.
        protocols: as in :func:`open_websocket`.
        options: the keyword arguments of :func:`open_websocket`.

    Raises:
        Exception: what :func:`open_websocket` raises.

    Source: WHATWG WebSockets, undici's ``new WebSocketStream(url, {protocols, signal})``: to give up opening, cancel.
    """
    async with open_websocket(url, protocols, **options) as websocket:
        yield WebSocketStream(websocket)


async def connect_websocket(
    nursery: trio.Nursery, url: str, protocols: str | Iterable[str] = (), **options: Unpack[ClientKeywords]
) -> WebSocket:
    """Open a WebSocket whose tasks live in a nursery of yours; closing it is yours too.

    ``async with`` on it closes it as :func:`open_websocket` does. When the nursery is cancelled, the connection is
    gone at once, and the peer gets Close 1001 if that could be written without waiting.

    Args:
        nursery: where the connection's tasks run.
        url: as in :func:`open_websocket`.
        protocols: as in :func:`open_websocket`.
        options: the keyword arguments of :func:`open_websocket`.

    Raises:
        Exception: what :func:`open_websocket` raises.
    """
    return await _Call(**options).open(nursery, url, protocols, shield=False)


async def wrap_client_stream(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    url: str,
    protocols: str | Iterable[str] = (),
    **options: Unpack[ClientKeywords],
) -> WebSocket:
    """Open a WebSocket over a stream that is connected to the server already.

    The stream is owned from here on: it is closed with the WebSocket, or if opening it fails.

    Args:
        nursery: where the connection's tasks run.
        stream: any stream. It carries the WebSocket as it is, for ``wss`` URLs too: TLS is the caller's, unless
            ``ssl_context`` is passed, which begins TLS on it.
        url: what to ask the server for, as in :func:`open_websocket`.
        protocols: as in :func:`open_websocket`.
        options: the keyword arguments of :func:`open_websocket` but ``dispatcher``, ``follow_redirects``,
            ``connect_to`` and ``source_address``.

    Raises:
        Exception: what :func:`open_websocket` raises, and what the stream raises.
    """
    call = _Call(**options)
    if call.dispatcher is not None:
        raise TypeError("dispatcher: a stream is connected already, there is nothing to dispatch")
    if call.follow_redirects:
        raise TypeError("follow_redirects: a stream leads to one server")
    for name in ("connect_to", "source_address"):
        if getattr(call, name) is not None:
            raise TypeError(f"{name}: a stream is connected already")
    if call.server_hostname is not None and call.ssl_context is None:
        raise ValueError("server_hostname is for TLS: pass ssl_context with it, which begins TLS on the stream")
    host = call.server_hostname or parse_url(url).host

    async def connect(call: _Call, handshake: ClientHandshake) -> Opened:
        transport: Transport = StreamTransport(stream, nursery)
        try:
            if call.ssl_context is not None:
                transport = await start_tls(transport, call.ssl_context, host)
            return await open_http1(transport, handshake, call.connection.limits)
        except BaseException:  # cancelled or failed: nothing is left open
            transport.abort()
            raise

    return await call.open(nursery, url, protocols, connect, shield=False)
