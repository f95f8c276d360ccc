"""The server's side: listeners, a task for each connection, and a graceful end."""

from __future__ import annotations

import contextlib
import logging
import math
import socket
from functools import partial
from typing import TYPE_CHECKING, overload

import trio

from .._close import GOING_AWAY, check_close
from .._exceptions import InvalidHandshake
from .._net.dial import check_ssl_context
from .._net.listen import BROKEN_LISTENER, SocketFile, accept_nowait, check_listen_address, listen, loopback_ports
from .._net.socket_transport import SocketTransport, prepare_socket
from .._net.stream_transport import StreamTransport
from .._options import SAME_ORIGIN, Compression, Keepalive, Limits, check_names, defaults_of
from .._util.nursery import BackgroundNursery
from .._util.scopes import check_runs_on_trio, no_scope
from .._version import PRODUCT
from .._websocket.start import SharedKeywords, check_shared_keywords
from .._wire.handshake import check_origins, check_product, check_protocols
from .forwarded import TrustedProxies
from .hosts import check_hosts
from .service import Service, ServiceOptions

if TYPE_CHECKING:
    import os
    import socket
    import ssl
    from collections.abc import Iterable
    from typing import Literal, Unpack

    from .._net.listen import ListenAddress
    from .._options import Origins
    from .._websocket.instrument import Instrument
    from .._websocket.websocket import WebSocket
    from .request import WebSocketRequest
    from .service import Handler, HTTPHandler
    from .statistics import ServerStatistics

logger = logging.getLogger("trio_ws.server")

_TASK = "trio_ws._server.service.Service.serve"  # given, or each task would have a text of its own
_ACCEPT_PAUSE = 0.1  # seconds, while the system has no descriptors, say
_LOG_INTERVAL = 1.0  # seconds between two lines about that
_MOST_WAITING = 4096  # connections that a system's queue holds; without a bound, who keeps calling would keep us there


class ServerKeywords(SharedKeywords, total=False):
    """The keyword arguments of everything that serves, as :func:`serve_websocket` describes them."""

    ssl_context: ssl.SSLContext | None
    protocols: str | Iterable[str]
    origins: Origins | Iterable[str | None]
    hosts: Literal["auto"] | Iterable[str] | None
    trusted_proxies: Iterable[str]
    allow_h2: bool
    cancel_on_close: bool
    http_handler: HTTPHandler | None
    server_header: str | None


def _check_options(**options: Unpack[ServerKeywords]) -> ServiceOptions:
    """Check all options; those that are missing have the defaults of :func:`serve_websocket`."""
    check_names(options, _DEFAULTS)
    given = _DEFAULTS | options
    check_ssl_context(given["ssl_context"], server_side=True)
    connection = check_shared_keywords(given)
    http_handler = given["http_handler"]
    if http_handler is not None and not callable(http_handler):
        raise TypeError(f"http_handler must be an async function or None, not {http_handler!r}")
    return ServiceOptions(
        connection=connection,
        ssl_context=given["ssl_context"],
        protocols=check_protocols(given["protocols"]),
        origins=check_origins(given["origins"]),
        hosts=check_hosts(given["hosts"]),
        trusted_proxies=TrustedProxies(given["trusted_proxies"]),
        allow_h2=given["allow_h2"],
        cancel_on_close=given["cancel_on_close"],
        http_handler=http_handler,
        connect_timeout=given["connect_timeout"],
        server_header=check_product("server_header", "Server", given["server_header"]),
    )


@no_scope(
    "serve_websocket(...) is no scope: write `server = await nursery.start(serve_websocket, handler, host, port)`"
)
async def serve_websocket(  # noqa: ASYNC128  # the server's _run() calls task_status.started()
    handler: Handler,
    host: str | os.PathLike[str] | None,
    port: int | None,
    ssl_context: ssl.SSLContext | None = None,
    *,
    protocols: str | Iterable[str] = (),
    origins: Origins | Iterable[str | None] = SAME_ORIGIN,
    hosts: Literal["auto"] | Iterable[str] | None = "auto",
    trusted_proxies: Iterable[str] = (),
    allow_h2: bool = True,
    cancel_on_close: bool = False,
    http_handler: HTTPHandler | None = None,
    compression: Compression | None = Compression(),
    limits: Limits = Limits(),
    keepalive: Keepalive | None = Keepalive(),
    connect_timeout: float = 10.0,
    close_timeout: float = 10.0,
    max_connections: int | None = None,
    instruments: Iterable[Instrument] = (),
    sockets: Iterable[socket.socket] | None = None,
    reuse_port: bool = False,
    socket_mode: int | None = None,
    server_header: str | None = PRODUCT,
    task_status: trio.TaskStatus[WebSocketServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve WebSockets until cancelled, or until :meth:`WebSocketServer.aclose`.

    ``server = await nursery.start(serve_websocket, handler, host, port)`` gives the :class:`WebSocketServer` once it
    listens. Cancelled, it drops every connection at once; each peer gets Close 1001 if that could be written without
    waiting.

    A peer can never end the server. What a handler raises is logged to ``trio_ws.server`` and ends its connection only:
    with HTTP status 500 before it has answered, with Close 1011 after. ConnectionClosed is no error, and neither is a
    WebSocketError with a code: raised after the request was accepted it closes with that code. A request that asks for
    no WebSocket is answered with 426 (405 unless it is GET or HEAD, and over HTTP/2), or by ``http_handler``.

    Args:
        handler: ``async def handler(request: WebSocketRequest)``, run in a task of its own for each request.
        host: a name or an address to listen on; None: every address; a path, with a slash or as a ``Path``: a Unix
            socket, with ``port=None``. A socket's file that is there already is replaced if nobody listens on it.
        port: 0 lets the system choose.
        ssl_context: for ``wss``; None: plain ``ws``. Other servers may share it, with other options too. Its own ALPN
            protocols do not count, and are there afterwards. An ``sni_callback`` may put another context in its place,
            whose ALPN protocols do count.
        protocols: the subprotocols that are spoken, the preferred first.
        origins: which Origin headers are taken: SAME_ORIGIN, those that name the host the request is for; an iterable
            of exact origins, with None among them for no Origin; or None: any. Others get 403.
        hosts: names of this server's, besides those of loopback: a request for another host gets 421, which keeps pages
            out whose name was made to point here (DNS rebinding). ``example.com`` with any port, or with that of
            ``example.com:8443``; ``*.example.com`` is every name below it. None: any host. "auto": any, but where the
            server listens on loopback addresses only, none that names its own port, as such a page must; a reverse
            proxy passes on a host with the port of its own, or without.
        trusted_proxies: addresses and networks of reverse proxies, ``10.0.0.0/8`` say, and ``unix:`` for all who
            connect to a Unix socket. Of these, and of nobody else, Forwarded, or X-Forwarded-For and X-Forwarded-Proto,
            are believed; then ``remote_address`` and the scheme of ``url`` are the client's, and SAME_ORIGIN refuses
            pages without TLS where the client came by TLS.
        allow_h2: speak HTTP/2 (RFC 8441) too: where TLS agrees on it by ALPN, and without TLS where a client begins
            with it.
        cancel_on_close: cancel a handler when its WebSocket ends, by whomever, as
            :meth:`WebSocket.move_on_when_closed` does; the handler then counts as done.
        http_handler: ``async def http_handler(request: HTTPRequest) -> HTTPResponse`` for what asks for no WebSocket.
        compression: how to accept and use permessage-deflate; None: do not.
        limits: what a client may cost us.
        keepalive: when to ask whether a client is there; None: never.
        connect_timeout: seconds for TLS and the request together; then 408, or nothing if no byte of it has come.
        close_timeout: seconds for closing a connection.
        max_connections: connections of this server at a time; more wait in the system's backlog. None: no limit.
        instruments: hooks that hear what happens on each connection.
        sockets: sockets that are bound and listen already, in place of host and port, which are None then:
            :func:`systemd_sockets` gives such, or a process that hands its own over. The server closes them when it
            ends; other processes may have them too. A Unix socket's file is left to whoever has made it.
        reuse_port: let other processes, of this user, listen on the same port with ``reuse_port``; Linux gives each an
            even share of the connections. Not for Unix sockets, and not on Windows.
        socket_mode: the permissions of the Unix socket's file, ``0o660`` say; it has them before anybody can connect.
            None: as the process's umask leaves them.
        server_header: the value of Server in every answer, ``trio_ws/VERSION`` by default; None: none. One that a
            handler passes with its answer takes its place.
        task_status: trio's, for ``nursery.start``.

    Raises:
        TypeError: an argument has the wrong type. This and ValueError come before any I/O.
        ValueError: an argument breaks its rule; the message names it.
        OSError: it cannot listen there.

    Source: RFC 6455 §4.2.
    """
    check_runs_on_trio("serve_websocket(...)")
    options = _check_options(
        ssl_context=ssl_context,
        protocols=protocols,
        origins=origins,
        hosts=hosts,
        trusted_proxies=trusted_proxies,
        allow_h2=allow_h2,
        cancel_on_close=cancel_on_close,
        http_handler=http_handler,
        compression=compression,
        limits=limits,
        keepalive=keepalive,
        connect_timeout=connect_timeout,
        close_timeout=close_timeout,
        instruments=instruments,
        server_header=server_header,
    )
    _check_handler(handler)
    if max_connections is not None:
        if isinstance(max_connections, bool) or not isinstance(max_connections, int):
            raise TypeError(f"max_connections must be an int or None, not {max_connections!r}")
        if max_connections < 1:
            raise ValueError(f"max_connections={max_connections}: it must be at least 1, or None")
    place = check_listen_address(host, port, sockets=sockets, reuse_port=reuse_port, socket_mode=socket_mode)
    listening = await listen(place)
    await WebSocketServer(handler, options, place, listening, max_connections)._run(task_status)


_DEFAULTS = defaults_of(serve_websocket, ServerKeywords)


def _check_handler(handler: object) -> None:
    if not callable(handler):
        raise TypeError(f"handler must be an async function, not {handler!r}")


class WebSocketServer:
    """A server that listens; ``nursery.start(serve_websocket, ...)`` gives it.

    Attributes:
        listeners: what it listens on.
    """

    def __init__(
        self,
        handler: Handler,
        options: ServiceOptions,
        place: ListenAddress,
        listening: list[socket.socket],
        max_connections: int | None,
    ) -> None:
        self._handler = handler
        self._service = Service(options, loopback_ports(listening))
        self._close_timeout = options.connection.close_timeout
        self._free = None if max_connections is None else trio.Semaphore(max_connections)
        self._connections = 0
        self._scope = trio.CancelScope()
        self._accepting = trio.CancelScope()
        self._idle = trio.lowlevel.ParkingLot()
        self._stopped = trio.Event()
        self._logged_at = -math.inf
        self._listening = listening
        self._file = None if place.path is None else SocketFile(place.path)
        self._shares_port = place.reuse_port
        self._address: object = listening[0].getsockname()
        self.listeners: list[trio.SocketListener] = [
            trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in listening
        ]

    @property
    def port(self) -> int:
        """The TCP port that it listens on.

        Raises:
            RuntimeError: it listens on a Unix socket.
        """
        if not isinstance(self._address, tuple):
            raise RuntimeError("a server on a Unix socket has no port")
        return int(self._address[1])

    @property
    def connections(self) -> frozenset[WebSocket]:
        """The WebSockets that are open."""
        return frozenset(self._service.websockets)

    def stop_listening(self) -> None:
        """Accept no more connections; those that are there go on, until :meth:`aclose`.

        For a server that has a successor on the same port or socket: what is half-way through its handshake is still
        served here, and the next one goes there. An HTTP/2 connection that is there also takes new WebSockets. On a
        Unix socket that this server has opened, its file is removed.
        """
        if not self._accepting.cancel_called:
            self._accepting.cancel()
            if self._shares_port:
                self._accept_rest()
            self._close_listeners()

    @property
    def is_accepting(self) -> bool:
        """Whether new connections are accepted; True until :meth:`stop_listening`, :meth:`aclose` or a cancellation.

        A load balancer that asks for ``/readyz`` should hear of the end before it begins; see the how-to on deployment.
        """
        return not self._accepting.cancel_called and not self._scope.cancel_called and not self._stopped.is_set()

    def statistics(self) -> ServerStatistics:
        """Sum up what has been counted so far. Takes some 1 µs for each WebSocket that is open."""
        service = self._service
        return service.counters.statistics(self._connections, service.websockets, service.http2)

    async def aclose(self, code: int = GOING_AWAY, reason: str = "") -> None:
        """Stop accepting, close every WebSocket, wait for the handlers; then ``serve_websocket`` returns.

        Requests that are still coming get 503, and connections that have brought nothing are closed; over HTTP/2 each
        connection gets GOAWAY. A handler that has not ended
        after ``close_timeout`` seconds is cancelled. Cancelled itself, it drops everything at once.

        Args:
            code: what to close with: 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455 §7.4). 1001 says that the
                server goes away, 1012 that it restarts.
            reason: at most 123 bytes of UTF-8.

        Raises:
            TypeError: code is no int, or reason no str.
            ValueError: either breaks its rule. Nothing was done.
        """
        check_close(code, reason)
        self.stop_listening()
        self._service.refuse_new()
        self._service.websockets.goodbye = code, reason
        for websocket in self.connections:
            websocket._connection.start_close(code, reason)
        try:
            with trio.move_on_after(self._close_timeout):
                while self._connections:
                    await self._idle.park()
        finally:
            self._scope.cancel()
        await self._stopped.wait()

    async def _run(self, task_status: trio.TaskStatus[WebSocketServer]) -> None:
        try:
            with self._scope:
                async with BackgroundNursery() as self._nursery:
                    self._service.nursery = self._nursery
                    with self._accepting:
                        async with BackgroundNursery() as acceptors:
                            for listening in self._listening:
                                acceptors.start_soon(self._accept, listening)
                            task_status.started(self)
                            await trio.sleep_forever()
                    await trio.sleep_forever()
        finally:
            self._close_listeners()
            self._stopped.set()

    def _close_listeners(self) -> None:
        for listener in self.listeners:
            listener.socket.close()
        if self._file is not None:
            self._file.remove()

    async def _accept(self, listening: socket.socket) -> None:
        while not self._accepting.cancel_called:  # or it is closed already: nobody can wait for it
            # No place is taken before somebody calls: another listener may need it.
            await trio.lowlevel.wait_readable(listening)
            if self._free is not None:
                await self._free.acquire()
            if self._accepting.cancel_called:  # closed since somebody called
                return
            try:
                self._take(listening)
            except OSError as error:
                if error.errno in BROKEN_LISTENER:
                    raise
                self._log_shortage(error)
                await trio.sleep(_ACCEPT_PAUSE)

    def _accept_rest(self) -> None:
        """Take who waits already: the system would reset them when this listener closes, while others listen on."""
        for listening in self._listening:
            with contextlib.suppress(OSError, trio.WouldBlock):  # no descriptors, no place
                for _ in range(_MOST_WAITING):
                    if self._free is not None:
                        self._free.acquire_nowait()
                    if not self._take(listening):
                        break

    def _take(self, listening: socket.socket) -> bool:
        """Serve the connection that waits, in the place that was taken for it; False if there is none any more.

        Never waits: if another process was faster, the place is free again at once.
        """
        accepted = None
        try:
            accepted = accept_nowait(listening)
        finally:
            if accepted is None and self._free is not None:
                self._free.release()
        if accepted is None:
            return False
        self._connections += 1
        sock, remote = accepted
        transport = SocketTransport(prepare_socket(sock), remote)
        self._nursery.start_soon(self._service.serve, transport, self._handler, self._forget, name=_TASK)
        return True

    def _log_shortage(self, error: OSError) -> None:
        now = trio.current_time()
        if now - self._logged_at >= _LOG_INTERVAL:
            self._logged_at = now
            logger.error("cannot accept connections for now: %.256r", error)

    def _forget(self) -> None:
        """Note that a connection has ended."""
        self._connections -= 1
        if self._free is not None:
            self._free.release()
        if not self._connections:
            self._idle.unpark_all()

    def __repr__(self) -> str:
        state = "closed" if self._stopped.is_set() else "open"
        return f"<WebSocketServer {state}, {len(self._service.websockets)} WebSockets>"


@overload
async def wrap_server_stream(
    nursery: trio.Nursery, stream: trio.abc.Stream, handler: None = None, **options: Unpack[ServerKeywords]
) -> WebSocketRequest: ...
@overload
async def wrap_server_stream(
    nursery: trio.Nursery, stream: trio.abc.Stream, handler: Handler, **options: Unpack[ServerKeywords]
) -> None: ...
async def wrap_server_stream(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    handler: Handler | None = None,
    **options: Unpack[ServerKeywords],
) -> WebSocketRequest | None:
    """Serve one connection over a stream that a client is connected to.

    The stream is owned from here on: it is closed when the connection ends.

    Args:
        nursery: where the connection's tasks run.
        stream: any stream.
        handler: served in the nursery, as :func:`serve_websocket` does it, while this returns at once. None: wait for
            the request and return it, to accept or reject here; over HTTP/2 the first, and the connection carries no
            other.
        options: the keyword arguments of :func:`serve_websocket` from ``ssl_context`` on, but ``max_connections``.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument breaks its rule; or ``cancel_on_close`` is given, and no handler.
        InvalidHandshake: without a handler: what came was no request for a WebSocket that may be accepted. It has been
            answered.
    """
    if handler is not None:
        _check_handler(handler)
    elif options.get("cancel_on_close"):
        raise ValueError("cancel_on_close=True: there must be a handler to cancel")
    service = Service(_check_options(**options))
    service.nursery = nursery
    transport = StreamTransport(stream, nursery)
    try:
        if handler is not None:
            await trio.lowlevel.checkpoint()
            nursery.start_soon(service.serve, transport, handler)
            return None
        request = await service.read_request(transport, partial(service.take_http2, nursery))
        if request is None:
            raise InvalidHandshake("the stream brought no request for a WebSocket that may be accepted")
        nursery.start_soon(request._drop_if_unanswered)
        return request
    except BaseException:  # cancelled or failed: nothing is left open
        transport.abort()
        raise
