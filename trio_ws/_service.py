"""What a server does with one connection: TLS, the request, the answer, the handler."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import trio

from ._exceptions import ConnectionClosed
from ._net.http1 import Http1Exchange, RequestHead, answer_bytes, read_request, send_answer
from ._net.tls import TLSTransport
from ._request import HTTPRequest, HTTPResponse, WebSocketRequest, check_answer
from ._wire.handshake import Refusal, check_origin, read_http1_request, wants_websocket

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from ._opening import ConnectionOptions
    from ._options import Limits, Origins
    from ._transport import Transport
    from ._websocket import WebSocket

logger = logging.getLogger("trio_ws.server")

Handler = Callable[[WebSocketRequest], Awaitable[object]]
HTTPHandler = Callable[[HTTPRequest], Awaitable[HTTPResponse]]

_PLAIN_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_UPGRADE = ("Upgrade", "websocket")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """The options of a server that concern each of its connections, checked."""

    connection: ConnectionOptions
    ssl_context: ssl.SSLContext | None
    protocols: tuple[str, ...]
    origins: Origins
    http_handler: HTTPHandler | None
    connect_timeout: float


class Service:
    """Serves connections, each in a task of its caller's.

    A peer can raise nothing into that task; a handler can, but only what is no ``Exception``.

    Attributes:
        websockets: those that are open.
        closing: whether new requests are refused with 503.
    """

    def __init__(self, options: ServiceOptions) -> None:
        self._options = options
        self._opening: set[trio.CancelScope] = set()
        self.websockets: set[WebSocket] = set()
        self.closing = False

    def refuse_new(self) -> None:
        """Refuse requests that come, or are coming, with 503."""
        self.closing = True
        for scope in self._opening:
            scope.cancel()

    async def serve(self, transport: Transport, handler: Handler) -> None:
        """Serve one connection to its end."""
        try:
            request = await self.read_request(transport)
            if request is not None:
                await self._handle(request, handler)
        finally:
            transport.abort()

    async def read_request(self, transport: Transport) -> WebSocketRequest | None:
        """Read the request that a connection brings, within ``connect_timeout``.

        Returns:
            The request for a WebSocket; None if there was none, and whatever came has been answered.
        """
        deadline = trio.current_time() + self._options.connect_timeout
        secured = await self._secure(transport, deadline)
        if secured is None:
            return None
        to_head = False
        try:
            read = await self._read_head(secured, deadline)
            if read is None:
                return None
            to_head = read[0].method == "HEAD"
            return await self._take(secured, *read)
        except Refusal as refusal:
            logger.debug("refused %r with %.256r", transport.remote_address, str(refusal))
            body = refusal.reason_text.encode()
            answer = answer_bytes(refusal.status, [*refusal.headers, _PLAIN_TEXT], body, to_head=to_head)
            await send_answer(secured, answer, self._limits)
            return None

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
        tls = TLSTransport(transport, self._options.ssl_context, server_side=True)
        with self._while_opening(deadline) as scope:
            try:
                await tls.handshake()
            # ssl.SSLError, or what broke the transport: a stream may be anybody's and raise anything.
            except Exception as error:
                logger.debug("no TLS with %r: %.256r", transport.remote_address, error)
                return None
        return None if scope.cancelled_caught else tls

    async def _read_head(self, transport: Transport, deadline: float) -> tuple[RequestHead, bytes] | None:
        read: tuple[RequestHead, bytes] | None = None
        with self._while_opening(deadline) as scope:
            read = await read_request(transport, self._limits)
        if scope.cancelled_caught:
            if self.closing:
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "The server is closing.")
            raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "The request took too long.")
        return read

    async def _take(self, transport: Transport, head: RequestHead, rest: bytes) -> WebSocketRequest | None:
        """Take a request whose head has come: answer it if it asks for no WebSocket."""
        if not wants_websocket(head.headers):
            await self._answer_plain(transport, head)
            return None
        secure = self._options.ssl_context is not None
        request = read_http1_request(head.method, head.http_version, head.target, head.headers, secure=secure)
        check_origin(request, self._options.origins)
        exchange = Http1Exchange(transport, request, rest, self._limits)
        return WebSocketRequest(exchange, self._options.connection, self._options.protocols, self.websockets)

    async def _answer_plain(self, transport: Transport, head: RequestHead) -> None:
        """Answer a request that asks for no WebSocket."""
        http_handler = self._options.http_handler
        if http_handler is None:
            if head.method not in ("GET", "HEAD"):
                raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "A WebSocket is opened with GET.", (("Allow", "GET"),))
            raise Refusal(HTTPStatus.UPGRADE_REQUIRED, "This is a WebSocket server.", (_UPGRADE,))
        request = HTTPRequest(
            method=head.method,
            target=head.target,
            headers=head.headers,
            http_version=head.http_version,
            remote_address=transport.remote_address,
        )
        try:
            response = await http_handler(request)
            fields = check_answer(response.status, response.headers, response.body)
        # It is the user's code: what it raises ends this request, not the server.
        except Exception:
            logger.exception("http_handler failed on %.256r", head.target)
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error.") from None
        answer = answer_bytes(response.status, fields, response.body, to_head=head.method == "HEAD")
        await send_answer(transport, answer, self._limits)

    async def _handle(self, request: WebSocketRequest, handler: Handler) -> None:
        try:
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
            if not request.answered:
                logger.error("handler returned without an answer to %.256r", request)
        if not request.answered:
            await request.reject(HTTPStatus.INTERNAL_SERVER_ERROR, [_PLAIN_TEXT], b"Internal server error.")


def _log(request: WebSocketRequest, error: Exception) -> None:
    if is_only_closed(error):
        logger.debug("%.256r: %s", request, error)
    else:
        logger.error("handler failed on %.256r", request, exc_info=error)


def is_only_closed(error: Exception) -> bool:
    """Whether nothing worse happened than that a connection ended while it was used."""
    if isinstance(error, ExceptionGroup):
        return error.split(ConnectionClosed)[1] is None
    return isinstance(error, ConnectionClosed)
