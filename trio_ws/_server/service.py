"""What a server does with one connection: TLS, the request, the answer, the handler."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import trio

from .._exceptions import closes_with, is_only_closed
from .._net.alpn import note_selected
from .._net.exchange import with_server
from .._net.http1 import Http1Exchange, Http2Preface, RequestHead, answer_bytes, read_request, read_some, send_answer
from .._net.http2.connection import Http2Connection
from .._net.http2.exchange import Http2Exchange, respond
from .._net.http2.frame_reader import Http2Statistics
from .._net.tls import TLSTransport
from .._reactor import Reactor
from .._util.nursery import BackgroundNursery
from .._wire.handshake import (
    MalformedRequest,
    Refusal,
    read_http1_request,
    read_http2_plain,
    read_http2_request,
    wants_websocket,
)
from .hosts import HostCheck
from .policy import RequestPolicy
from .request import Accepted, HTTPRequest, HTTPResponse, WebSocketRequest, check_answer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from .._net.exchange import Exchange
    from .._net.http2.h2_adapter import Fields
    from .._net.http2.stream import Http2Stream
    from .._options import Limits, Origins
    from .._transport import Transport
    from .._websocket.start import ConnectionOptions
    from .._wire.headers import Headers
    from .forwarded import TrustedProxies
    from .hosts import Hosts

    ServeStream = Callable[[Http2Stream, Fields | None], Awaitable[None]]
    BeginHttp2 = Callable[[Transport, bytes, float], Awaitable[WebSocketRequest | None]]

logger = logging.getLogger("trio_ws.server")

Handler = Callable[[WebSocketRequest], Awaitable[object]]
HTTPHandler = Callable[[HTTPRequest], Awaitable[HTTPResponse]]

_PLAIN_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_UPGRADE = ("Upgrade", "websocket")
_ARRIVAL_PASSES = 5  # of the scheduler


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """The options of a server that concern each of its connections, checked."""

    connection: ConnectionOptions
    ssl_context: ssl.SSLContext | None
    protocols: tuple[str, ...]
    origins: Origins
    hosts: Hosts
    trusted_proxies: TrustedProxies
    http_handler: HTTPHandler | None
    allow_h2: bool
    cancel_on_close: bool
    connect_timeout: float
    server_header: str | None


class Service:
    """Serves connections, each in a task of its caller's.

    A peer can raise nothing into that task; a handler can, but only what is no ``Exception``.

    Args:
        options: what each connection is served by.
        loopback_ports: the ports that connections come to, if none can come from another machine; else none.

    Attributes:
        websockets: those that are open.
        counters: counts them, and what came to nothing.
        closing: whether new requests are refused with 503.
        http2: what the connections over HTTP/2 have counted.
        nursery: where the reactor runs; to be set before the first connection comes.
    """

    nursery: trio.Nursery

    def __init__(self, options: ServiceOptions, loopback_ports: frozenset[int] = frozenset()) -> None:
        self._options = options
        secure = options.ssl_context is not None
        hosts = HostCheck(options.hosts, loopback_ports, secure=secure)
        self._policy = RequestPolicy(hosts, options.origins, options.trusted_proxies, secure=secure)
        self._opening: set[trio.CancelScope] = set()
        self._http2_connections: set[Http2Connection] = set()
        self._reactor: Reactor | None = None
        self.websockets = Accepted()
        self.counters = self.websockets.counters
        self.closing = False
        self.http2 = Http2Statistics()
        if options.ssl_context is not None:
            note_selected(options.ssl_context)

    @property
    def reactor(self) -> Reactor:
        """Drives all connections; made for the first."""
        if self._reactor is None:
            self._reactor = Reactor(self.nursery, shield=True)
        return self._reactor

    def refuse_new(self) -> None:
        """Refuse requests that come, or are coming, with 503; a connection that has brought nothing is closed."""
        self.closing = True
        for connection in tuple(self._http2_connections):
            connection.drain()
        for scope in self._opening:
            scope.cancel()

    async def serve(self, transport: Transport, handler: Handler, ended: Callable[[], None] | None = None) -> None:
        """Serve one connection to its end, and then call ``ended``."""
        try:
            request = await self.read_request(transport, partial(self._serve_http2, handler))
            if request is not None:
                await self._handle(request, handler)
        finally:
            transport.abort()
            if ended is not None:
                ended()

    async def read_request(self, transport: Transport, begin_http2: BeginHttp2) -> WebSocketRequest | None:
        """Read the request that a connection brings, within ``connect_timeout``.

        Args:
            begin_http2: what to do with a connection that turns out to be HTTP/2.

        Returns:
            The request for a WebSocket; None if there was none, and whatever came has been answered.
        """
        deadline = trio.current_time() + self._options.connect_timeout
        secured = await self._secure(transport, deadline)
        if secured is None:
            return None
        # An sni_callback may have put a context in place that selects it, whatever is wanted here.
        if self._options.allow_h2 and isinstance(secured, TLSTransport) and secured.alpn == "h2":
            return await begin_http2(secured, b"", deadline)
        to_head = False
        try:
            read = await self._read_head(secured, deadline)
            if read is None:
                self.counters.failed["no request"] += 1
                return None
            to_head = read[0].method == "HEAD"
            return await self._take(secured, *read)
        except Http2Preface as preface:
            # RFC 9113 §3.2: over TLS it must have been agreed on.
            if self._options.allow_h2 and secured is transport:
                return await begin_http2(secured, preface.data, deadline)
            await self._refuse(secured, Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "This server speaks HTTP/1.1."))
        except Refusal as refusal:
            await self._refuse(secured, refusal, to_head=to_head)
        return None

    async def _refuse(self, transport: Transport, refusal: Refusal, *, to_head: bool = False) -> None:
        logger.debug("refused %.256r with %.256r", transport.remote_address, str(refusal))
        self.counters.refused[refusal.status] += 1
        body = refusal.reason_text.encode()
        answer = answer_bytes(
            refusal.status,
            [*refusal.headers, _PLAIN_TEXT],
            body,
            to_head=to_head,
            server=self._options.server_header,
        )
        await send_answer(transport, answer, self._limits)

    @property
    def _limits(self) -> Limits:
        return self._options.connection.limits

    @contextmanager
    def _while_opening(self, deadline: float) -> Iterator[trio.CancelScope]:
        """A scope that ends by itself at the deadline, or when the server is closing."""
        with trio.CancelScope(deadline=deadline) as scope:
            self._opening.add(scope)
            if self.closing:
                scope.cancel()
            try:
                yield scope
            finally:
                self._opening.discard(scope)

    async def _secure(self, transport: Transport, deadline: float) -> Transport | None:
        if self._options.ssl_context is None:
            return transport
        alpn = ("h2", "http/1.1") if self._options.allow_h2 else ("http/1.1",)
        tls = TLSTransport(transport, self._options.ssl_context, server_side=True, alpn=alpn)
        with self._while_opening(deadline) as scope:
            try:
                await tls.handshake()
            # ssl.SSLError, or what broke the transport: a stream may be anybody's and raise anything.
            except Exception as error:
                logger.debug("no TLS with %.256r: %.256r", transport.remote_address, error)
                self.counters.failed["tls"] += 1
                return None
        if scope.cancelled_caught:
            self.counters.failed["tls timeout"] += 1
            return None
        return tls

    async def _read_head(self, transport: Transport, deadline: float) -> tuple[RequestHead, bytes] | None:
        data = b""
        read: tuple[RequestHead, bytes] | None = None
        with self._while_opening(deadline) as scope:
            data = await read_some(transport)
            read = await read_request(transport, self._limits, data)
        if scope.cancelled_caught:
            # Browsers keep connections ready: one that has asked for nothing is closed, and needs no answer.
            if not data and not await _arrives_now(transport):
                transport.abort()  # with TLS's goodbye
                return None
            if self.closing:
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The server is closing.")
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "The request took too long.")
        return read

    async def _take(self, transport: Transport, head: RequestHead, rest: bytes) -> WebSocketRequest | None:
        """Take a request whose head has come: answer it if it asks for no WebSocket."""
        if not wants_websocket(head.headers):
            await self._answer_plain(transport, head)
            return None
        request = read_http1_request(
            head.method, head.http_version, head.target, head.headers, secure=self._options.ssl_context is not None
        )
        request = self._policy.admit(transport, request)
        return self._make_request(Http1Exchange(transport, request, rest, self._limits, self._options.server_header))

    def _make_request(self, exchange: Exchange) -> WebSocketRequest:
        return WebSocketRequest(
            exchange, self._options.connection, self._options.protocols, self.websockets, self.reactor
        )

    async def _answer_plain(self, transport: Transport, head: RequestHead) -> None:
        """Answer a request that asks for no WebSocket."""
        request = self._make_plain_request(transport, head.method, head.target, head.headers, head.http_version)
        if self._options.http_handler is None:
            if head.method not in ("GET", "HEAD"):
                raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "A WebSocket is opened with GET.", (("Allow", "GET"),))
            raise Refusal(HTTPStatus.UPGRADE_REQUIRED, "This is a WebSocket server.", (_UPGRADE,))
        status, fields, body = await self._ask_http_handler(self._options.http_handler, request)
        answer = answer_bytes(status, fields, body, to_head=head.method == "HEAD", server=self._options.server_header)
        await send_answer(transport, answer, self._limits)

    def _make_plain_request(
        self, transport: Transport, method: str, target: str, headers: Headers, http_version: str
    ) -> HTTPRequest:
        scheme = self._policy.scheme(transport, headers)
        request = HTTPRequest(
            method=method,
            target=target,
            headers=headers,
            http_version=http_version,
            remote_address=transport.remote_address,
            scheme=scheme,
            ssl_object=transport.ssl_object,
        )
        self._policy.check_host(request.host)
        return request

    async def _ask_http_handler(
        self, http_handler: HTTPHandler, request: HTTPRequest
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        try:
            response = await http_handler(request)
            return response.status, check_answer(response.status, response.headers, response.body), response.body
        # It is the user's code: what it raises ends this request, not the server.
        except Exception:
            logger.exception("http_handler failed on %.256r", request.target)
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error.") from None

    # ---- HTTP/2 ----

    async def _serve_http2(self, handler: Handler, transport: Transport, data: bytes, deadline: float) -> None:
        """Serve every stream of a connection, each in a task of its own."""

        async def serve(stream: Http2Stream, fields: Fields | None) -> None:
            request = await self.read_stream(connection, stream, fields)
            if request is not None:
                await self._handle(request, handler)

        connection = self._make_http2(transport, deadline, serve)
        try:
            async with BackgroundNursery() as handlers:
                self._start_http2(connection, data, handlers)
                await connection.wait_done()
        finally:  # the handlers have ended, and said goodbye if they were cancelled
            self._http2_connections.discard(connection)
            connection.close()

    def _make_http2(self, transport: Transport, deadline: float, serve: ServeStream) -> Http2Connection:
        return Http2Connection(transport, self._limits, self.http2, self.reactor, settle_by=deadline, serve=serve)

    def _start_http2(self, connection: Http2Connection, data: bytes, handlers: trio.Nursery) -> None:
        self._http2_connections.add(connection)
        connection.start(data=data, handlers=handlers)
        if self.closing:
            connection.drain()

    async def take_http2(
        self, nursery: trio.Nursery, transport: Transport, data: bytes, deadline: float
    ) -> WebSocketRequest | None:
        """Begin HTTP/2 for the first WebSocket that is asked for, and return its request; the connection ends with it.

        Args:
            nursery: where the handlers of its streams run.
            transport: carries it.
            data: what was read of it already.
            deadline: when the request must have come; None is returned then.
        """
        taken: list[WebSocketRequest] = []
        something = trio.Event()

        async def serve(stream: Http2Stream, fields: Fields | None) -> None:
            request = await self.read_stream(connection, stream, fields)
            if request is not None and taken:
                await request.reject(HTTPStatus.SERVICE_UNAVAILABLE, [_PLAIN_TEXT], b"One WebSocket only.")
            elif request is not None:
                taken.append(request)
                something.set()
                connection.drain()
                await stream.wait_closed()

        async def see_the_end() -> None:
            await connection.wait_done()
            something.set()
            self._http2_connections.discard(connection)

        connection = self._make_http2(transport, deadline, serve)
        self._start_http2(connection, data, nursery)
        nursery.start_soon(see_the_end)
        try:
            with self._while_opening(deadline):
                await something.wait()
        finally:
            if not taken:  # also cancelled: nothing is left open
                connection.close()
        return taken[0] if taken else None

    async def read_stream(
        self, connection: Http2Connection, stream: Http2Stream, fields: Fields | None
    ) -> WebSocketRequest | None:
        """Read the request that a stream brings; None if it was for no WebSocket, and has been answered."""
        to_head = False
        try:
            if fields is None:
                raise Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large.")
            if self.closing:
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The server is closing.")
            if (":method", "CONNECT") not in fields:
                method, target, headers = read_http2_plain(fields)
                to_head = method == "HEAD"
                await self._answer_stream(connection, stream, method, target, headers)
                return None
            request = read_http2_request(fields, secure=self._options.ssl_context is not None)
            if stream.remote_ended:
                raise Refusal(HTTPStatus.BAD_REQUEST, "A stream that is to be a WebSocket must not end.")
            request = self._policy.admit(stream, request)
            exchange = Http2Exchange(connection, stream, request, self._limits, self._options.server_header)
            return self._make_request(exchange)
        except Refusal as refusal:
            logger.debug("refused %.256r with %.256r", stream.remote_address, str(refusal))
            self.counters.refused[refusal.status] += 1
            body = refusal.reason_text.encode()
            answer = with_server([*refusal.headers, _PLAIN_TEXT], self._options.server_header)
            malformed = isinstance(refusal, MalformedRequest)
            await respond(
                connection, stream, refusal.status, answer, body, self._limits, to_head=to_head, malformed=malformed
            )
            return None

    async def _answer_stream(
        self, connection: Http2Connection, stream: Http2Stream, method: str, target: str, headers: Headers
    ) -> None:
        """Answer a request over HTTP/2 that asks for no WebSocket."""
        request = self._make_plain_request(stream, method, target, headers, "2")
        if self._options.http_handler is None:
            # RFC 9113 §8.6: there is no 426 without Upgrade.
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "A WebSocket is opened with CONNECT.", (("Allow", "CONNECT"),))
        status, fields, body = await self._ask_http_handler(self._options.http_handler, request)
        fields = with_server(fields, self._options.server_header)
        await respond(connection, stream, status, fields, body, self._limits, to_head=method == "HEAD")

    # ---- handlers ----

    async def _handle(self, request: WebSocketRequest, handler: Handler) -> None:
        try:
            if self._options.cancel_on_close:
                with request.cancelling_on_close():
                    await handler(request)
            else:
                await handler(request)
        # It is the user's code: what it raises ends this connection, not the server.
        except Exception as error:
            _log(request, error)
        except BaseExceptionGroup as group:  # with a Cancelled, or Ctrl-C: that goes on, the rest ends here
            errors, others = group.split(Exception)
            if errors is not None:
                _log(request, errors)
            raise (others or group) from None
        else:
            if not request.answered and request.accept_called:
                logger.error("handler called accept() without `async with request.accept() as ws:` on %.256r", request)
            elif not request.answered:
                logger.error("handler returned without an answer to %.256r", request)
        if not request.answered:
            await request.reject(HTTPStatus.INTERNAL_SERVER_ERROR, [_PLAIN_TEXT], b"Internal server error.")


async def _arrives_now(transport: Transport) -> bool:
    """Look whether something has arrived that nobody has read: a stream of a task's takes some passes to bring it."""
    for _ in range(_ARRIVAL_PASSES):
        if transport.read():
            return True
        await trio.lowlevel.checkpoint()
    return False


def _log(request: WebSocketRequest, error: Exception) -> None:
    if is_failure(request, error):
        logger.error("handler failed on %.256r", request, exc_info=error)
    else:
        logger.debug("%.256r: %.256r", request, str(error))


def is_failure(request: WebSocketRequest, error: Exception) -> bool:
    """Tell whether a handler's error is more than the end of its connection.

    That is no failure if a connection ended while it was used, or if the handler asked for it, by a WebSocketError with
    a code. Before the request is answered there is nothing that such an error could close.
    """
    return not (is_only_closed(error) or (request.answered and closes_with(error) is not None))
