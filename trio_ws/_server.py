"""The server's side: listeners, a task for each connection, and a graceful end."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import socket
from typing import TYPE_CHECKING, overload

import trio

from ._agent import check_ssl_context
from ._close import GOING_AWAY, check_close
from ._exceptions import InvalidHandshake
from ._net.transport import SocketTransport, StreamTransport, detach_socket
from ._nursery import BackgroundNursery
from ._opening import SharedKeywords, check_shared_keywords
from ._options import SAME_ORIGIN, Compression, Keepalive, Limits, check_names, defaults_of
from ._service import Service, ServiceOptions
from ._wire.handshake import check_origins, check_protocols

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable
    from typing import Unpack

    from ._instrument import Instrument
    from ._options import Origins
    from ._request import WebSocketRequest
    from ._service import Handler, HTTPHandler
    from ._websocket import WebSocket

logger = logging.getLogger("trio_ws.server")

_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
_ACCEPT_PAUSE = 0.1  # seconds, while the system has no descriptors
_LOG_INTERVAL = 1.0  # seconds between two lines about that


class ServerKeywords(SharedKeywords, total=False):
    """The keyword arguments of everything that serves, as :func:`serve_websocket` describes them."""

    ssl_context: ssl.SSLContext | None
    protocols: str | Iterable[str]
    origins: Origins | Iterable[str | None]
    http_handler: HTTPHandler | None


def _check_options(**options: Unpack[ServerKeywords]) -> ServiceOptions:
    """Check all options; those that are missing have the defaults of :func:`serve_websocket`."""
    check_names(options, _DEFAULTS)
    given = _DEFAULTS | options
    check_ssl_context(given["ssl_context"])
    connection = check_shared_keywords(given)
    http_handler = given["http_handler"]
    if http_handler is not None and not callable(http_handler):
        raise TypeError(f"http_handler must be an async function or None, not {http_handler!r}")
    return ServiceOptions(
        connection=connection,
        ssl_context=given["ssl_context"],
        protocols=check_protocols(given["protocols"]),
        origins=check_origins(given["origins"]),
        http_handler=http_handler,
        connect_timeout=given["connect_timeout"],
    )


async def serve_websocket(  # noqa: ASYNC128  # the server's _run() calls task_status.started()
    handler: Handler,
    host: str | os.PathLike[str] | None,
    port: int | None,
    ssl_context: ssl.SSLContext | None = None,
    *,
    protocols: str | Iterable[str] = (),
    origins: Origins | Iterable[str | None] = SAME_ORIGIN,
    http_handler: HTTPHandler | None = None,
    compression: Compression | None = Compression(),
    limits: Limits = Limits(),
    keepalive: Keepalive | None = Keepalive(),
    connect_timeout: float = 10.0,
    close_timeout: float = 10.0,
    max_connections: int | None = None,
    instruments: Iterable[Instrument] = (),
    task_status: trio.TaskStatus[WebSocketServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve WebSockets until cancelled, or until :meth:`WebSocketServer.aclose`.

    ``server = await nursery.start(serve_websocket, handler, host, port)`` gives the :class:`WebSocketServer` once it
    listens. Cancelled, it drops every connection at once; each peer gets Close 1001 if that could be written without
    waiting.

    A peer can never end the server. What a handler raises is logged to ``trio_ws.server`` and ends its connection only:
    with HTTP status 500 before it has answered, with Close 1011 after; ConnectionClosed is no error. A request that
    asks for no WebSocket is answered with 426 (405 unless it is GET or HEAD), or by ``http_handler``.

    Args:
        handler: ``async def handler(request: WebSocketRequest)``, run in a task of its own for each request.
        host: a name or an address to listen on; None: every address; a path, with a slash or as a ``Path``: a Unix
            socket, with ``port=None``.
        port: 0 lets the system choose.
        ssl_context: for ``wss``; None: plain ``ws``.
        protocols: the subprotocols that are spoken, the preferred first.
        origins: which Origin headers are taken: SAME_ORIGIN, those that name the host the request is for; an iterable
            of exact origins, with None among them for no Origin; or None: any. Others get 403.
        http_handler: ``async def http_handler(request: HTTPRequest) -> HTTPResponse`` for what asks for no WebSocket.
        compression: how to accept and use permessage-deflate; None: do not.
        limits: what a client may cost us.
        keepalive: when to ask whether a client is there; None: never.
        connect_timeout: seconds for TLS and the request together; then 408.
        close_timeout: seconds for closing a connection.
        max_connections: TCP connections at a time; more wait in the system's backlog. None: no limit.
        instruments: hooks that hear what happens on each connection.
        task_status: trio's, for ``nursery.start``.

    Raises:
        TypeError: an argument has the wrong type. This and ValueError come before any I/O.
        ValueError: an argument breaks its rule; the message names it.
        OSError: it cannot listen there.

    Source: RFC 6455 §4.2.
    """
    options = _check_options(
        ssl_context=ssl_context,
        protocols=protocols,
        origins=origins,
        http_handler=http_handler,
        compression=compression,
        limits=limits,
        keepalive=keepalive,
        connect_timeout=connect_timeout,
        close_timeout=close_timeout,
        instruments=instruments,
    )
    _check_handler(handler)
    if max_connections is not None:
        if isinstance(max_connections, bool) or not isinstance(max_connections, int):
            raise TypeError(f"max_connections must be an int or None, not {max_connections!r}")
        if max_connections < 1:
            raise ValueError(f"max_connections={max_connections}: it must be at least 1, or None")
    listeners = await _listen(host, port)
    await WebSocketServer(handler, options, listeners, max_connections)._run(task_status)


_DEFAULTS = defaults_of(serve_websocket, ServerKeywords)


def _check_handler(handler: object) -> None:
    if not callable(handler):
        raise TypeError(f"handler must be an async function, not {handler!r}")


async def _listen(host: str | os.PathLike[str] | None, port: int | None) -> list[trio.SocketListener]:
    path = _socket_path(host)
    if path is None:
        if port is None:
            raise ValueError("port=None is for a Unix socket: give a port, or 0 to let the system choose")
        return await trio.open_tcp_listeners(port, host=None if host is None else str(host))
    if port is not None:
        raise ValueError(f"port={port!r}: a Unix socket has none, it must be None")
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await sock.bind(path)
        sock.listen(socket.SOMAXCONN)
    except BaseException:  # cancelled or failed: nothing is left open
        sock.close()
        raise
    return [trio.SocketListener(sock)]


def _socket_path(host: str | os.PathLike[str] | None) -> str | None:
    """Tell a Unix socket's path from a host name: no host has a slash."""
    if host is None or (isinstance(host, str) and "/" not in host):
        return None
    if not isinstance(host, str | os.PathLike):
        raise TypeError(f"host must be a str, a path or None, not {host!r}")
    return os.fspath(host)


class WebSocketServer:
    """A server that listens; ``nursery.start(serve_websocket, ...)`` gives it.

    Attributes:
        listeners: what it listens on.
    """

    def __init__(
        self,
        handler: Handler,
        options: ServiceOptions,
        listeners: list[trio.SocketListener],
        max_connections: int | None,
    ) -> None:
        self._handler = handler
        self._service = Service(options)
        self._close_timeout = options.connection.close_timeout
        self._free = None if max_connections is None else trio.Semaphore(max_connections)
        self._connections = 0
        self._scope = trio.CancelScope()
        self._accepting = trio.CancelScope()
        self._idle = trio.lowlevel.ParkingLot()
        self._stopped = trio.Event()
        self._logged_at = -math.inf
        self._socket_paths = [
            name
            for listener in listeners
            if listener.socket.family == socket.AF_UNIX and isinstance(name := listener.socket.getsockname(), str)
        ]
        self._address: object = listeners[0].socket.getsockname()
        self.listeners = listeners

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

    async def aclose(self, code: int = GOING_AWAY, reason: str = "") -> None:
        """Stop accepting, close every WebSocket, wait for the handlers; then ``serve_websocket`` returns.

        Requests that are still coming get 503. A handler that has not ended after ``close_timeout`` seconds is
        cancelled. Cancelled itself, it drops everything at once.

        Args:
            code: what to close with: 1001 by default; 1012 says that the service restarts.
            reason: at most 123 bytes of UTF-8.

        Raises:
            TypeError: code is no int, or reason no str.
            ValueError: either breaks its rule. Nothing was done.
        """
        check_close(code, reason, registered=True)
        self._accepting.cancel()
        self._service.refuse_new()
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
                async with BackgroundNursery() as nursery:
                    with self._accepting:
                        async with BackgroundNursery() as acceptors:
                            for listener in self.listeners:
                                acceptors.start_soon(self._accept, listener, nursery)
                            task_status.started(self)
                            await trio.sleep_forever()
                    self._close_listeners()
                    await trio.sleep_forever()
        finally:
            self._close_listeners()
            self._stopped.set()

    def _close_listeners(self) -> None:
        for listener in self.listeners:
            listener.socket.close()
        while self._socket_paths:  # once: the path may be another server's soon
            with contextlib.suppress(OSError):
                os.unlink(self._socket_paths.pop())

    async def _accept(self, listener: trio.SocketListener, nursery: trio.Nursery) -> None:
        while True:
            # No place is taken before somebody calls: another listener may need it.
            await trio.lowlevel.wait_readable(listener.socket)
            if self._free is not None:
                await self._free.acquire()
            try:
                stream = await listener.accept()
            except OSError as error:
                if self._free is not None:
                    self._free.release()
                if error.errno not in _OUT_OF_RESOURCES:
                    raise
                self._log_shortage(error)
                await trio.sleep(_ACCEPT_PAUSE)
            else:
                self._connections += 1
                nursery.start_soon(self._serve, SocketTransport(detach_socket(stream)))

    def _log_shortage(self, error: OSError) -> None:
        now = trio.current_time()
        if now - self._logged_at >= _LOG_INTERVAL:
            self._logged_at = now
            logger.error("cannot accept connections for now: %s", error)

    async def _serve(self, transport: SocketTransport) -> None:
        try:
            await self._service.serve(transport, self._handler)
        finally:
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
            the request and return it, to accept or reject here.
        options: the keyword arguments of :func:`serve_websocket` from ``ssl_context`` on, but ``max_connections``.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument breaks its rule.
        InvalidHandshake: without a handler: what came was no request for a WebSocket that may be accepted. It has been
            answered.
    """
    if handler is not None:
        _check_handler(handler)
    service = Service(_check_options(**options))
    transport = StreamTransport(stream, nursery)
    try:
        if handler is not None:
            await trio.lowlevel.checkpoint()
            nursery.start_soon(service.serve, transport, handler)
            return None
        request = await service.read_request(transport)
        if request is None:
            raise InvalidHandshake("the stream brought no request for a WebSocket that may be accepted")
        nursery.start_soon(request._drop_if_unanswered)
        return request
    except BaseException:  # cancelled or failed: nothing is left open
        transport.abort()
        raise
