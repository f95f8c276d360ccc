"""What a server's handler gets: a request for a WebSocket, to accept or to reject; and plain HTTP requests."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn

import trio

from .._net.exchange import BODILESS
from .._util.waiters import Waiters
from .._websocket.base import OTHER_NAMES
from .._websocket.frame_log import handshake_listener, next_connection_id
from .._websocket.start import Opened, start_websocket
from .._websocket.websocket import WebSocket
from .._websocket.websocket_stream import WebSocketStream
from .._wire.handshake import HandshakeInfo, check_headers, choose_protocol, split_target
from .._wire.headers import Headers
from .._wire.hiding import hide_secrets_of_url
from .statistics import ServerCounters

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Iterator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from .._net.exchange import Exchange
    from .._reactor import Reactor
    from .._websocket.start import ConnectionOptions
    from .._wire.headers import HeadersLike


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class HTTPRequest:
    """A plain HTTP request, one that asks for no WebSocket.

    Attributes:
        method: "GET", say.
        target: path and query as they were sent; a whole URL if the client took us for a proxy.
        headers: the headers; the body, if there is one, is not read.
        http_version: "1.0", "1.1" or "2".
        remote_address: where it came from.
        scheme: "https" if it came by TLS, else "http".
        ssl_object: the TLS that it came by, to ask for the client's certificate, say; None without TLS.
    """

    method: str
    target: str
    headers: Headers
    http_version: str
    remote_address: object
    scheme: str = "http"
    ssl_object: ssl.SSLObject | None = None

    @property
    def path(self) -> str:
        """The path, percent-encoded as it was sent; "*" for the server as a whole (RFC 9112 §3.2.4)."""
        return split_target(self.target)[1].partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the question mark, "" if nothing does."""
        return split_target(self.target)[1].partition("?")[2]

    @property
    def host(self) -> str:
        """The host, and the port if it was sent, that the request is for; "" if it names none, as HTTP/1.0 may."""
        return split_target(self.target)[0] or self.headers.get("Host", "")  # RFC 9112 §3.2.2

    @property
    def url(self) -> str:
        """The URL as the client must have written it."""
        target = split_target(self.target)[1]
        return f"{self.scheme}://{self.host}{target if target.startswith('/') else ''}"


@dataclass(frozen=True, slots=True)
class HTTPResponse:
    """The answer to a plain HTTP request, which ends its connection.

    Attributes:
        status: 200 to 599.
        headers: a mapping or pairs; Content-Length and Connection are added.
        body: the whole body.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the status is out of range, or a header breaks a rule.
    """

    status: int = HTTPStatus.OK
    headers: HeadersLike = field(default=())
    body: bytes = b""

    def __post_init__(self) -> None:
        # Kept as they were checked: an iterator gives them only once.
        object.__setattr__(self, "headers", tuple(check_answer(self.status, self.headers, self.body)))


def check_answer(status: int, headers: HeadersLike, body: bytes) -> list[tuple[str, str]]:
    """Check an HTTP answer that a user makes; return its headers as pairs."""
    if isinstance(status, bool) or not isinstance(status, int):
        raise TypeError(f"status must be an int, not {status!r}")
    if not HTTPStatus.OK <= status <= 599:
        raise ValueError(f"status {status} is not allowed: it must be from 200 to 599")
    if not isinstance(body, bytes):
        raise TypeError(f"body must be bytes, not {type(body).__name__}")
    if body and status in BODILESS:
        raise ValueError(f"body must be empty: an answer of status {status} has none (RFC 9110 §6.4.1)")
    return list(check_headers(headers).raw)


class Accepted(set["WebSocket"]):
    """The open WebSockets of a server.

    Attributes:
        goodbye: code and reason to close with those that a handler accepts from now on; None: none yet.
        counters: counts them, and the requests that were refused.
    """

    goodbye: tuple[int, str] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.counters: ServerCounters = ServerCounters()

    def enter(self, websocket: WebSocket) -> None:
        """Add one that is open now."""
        self.add(websocket)
        self.counters.begin(websocket)

    def leave(self, websocket: WebSocket) -> None:
        """Remove one that has ended."""
        self.discard(websocket)
        self.counters.end(websocket)


ACCEPT_HINT = "request.accept() is a scope: write `async with request.accept() as ws:`"
_REQUEST_HINT = "the WebSocket comes from `async with request.accept() as ws:`"


def _no_attribute(instance: object, name: str, hint: str) -> AttributeError:
    """Make the error for a name that an object has not; a name of the WebSocket's gets the hint."""
    message = f"{type(instance).__name__!r} object has no attribute {name!r}"
    if not name.startswith("_") and (hasattr(WebSocket, name) or name in OTHER_NAMES):
        message += f": {hint}"
    return AttributeError(message, name=name, obj=instance)


class _Acceptance:
    """The block of one WebSocket that a server accepts. No generator: it would take half a kilobyte more."""

    __slots__ = ("_headers", "_protocol", "_request", "_websocket")

    def __init__(self, request: WebSocketRequest, protocol: str | None, headers: HeadersLike) -> None:
        self._request = request
        self._protocol = protocol
        self._headers = headers
        request.accept_called = True

    if not TYPE_CHECKING:  # a type checker is right to refuse it

        def __await__(self) -> NoReturn:
            raise TypeError(ACCEPT_HINT)

        __aiter__ = __await__

        def __getattr__(self, name: str) -> NoReturn:
            raise _no_attribute(self, name, ACCEPT_HINT)

    async def __aenter__(self) -> WebSocket:
        self._websocket = await self._request._accept(self._protocol, self._headers)
        return self._websocket

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            # Bounded by close_timeout; cancelled, it ends at once: nothing is shielded.
            await self._websocket.__aexit__(exc_type, exc, traceback)  # noqa: ASYNC102
        finally:
            self._request._accepted.leave(self._websocket)


class WebSocketRequest:
    """A request for a WebSocket, well-formed and from an origin that is taken; answer it once.

    ``async with request.accept() as ws:`` accepts, ``await request.reject(403)`` rejects. A handler that returns
    without doing either rejects with 500.
    """

    __slots__ = (
        "__weakref__",
        "_accepted",
        "_answered",
        "_cancelled_on_close",
        "_exchange",
        "_id",
        "_listener",
        "_options",
        "_protocols",
        "_reactor",
        "_unanswered",
        "_url",
        "accept_called",
    )

    def __init__(
        self,
        exchange: Exchange,
        options: ConnectionOptions,
        protocols: tuple[str, ...],
        accepted: Accepted,
        reactor: Reactor,
    ) -> None:
        self._exchange = exchange
        self._options = options
        self._protocols = protocols
        self._accepted = accepted
        self._reactor = reactor
        self._answered = False
        self.accept_called: bool = False
        self._cancelled_on_close: trio.CancelScope | None = None
        self._unanswered = Waiters()  # for the answer
        request = exchange.request
        self._id = next_connection_id()
        self._url = f"{'wss' if request.secure else 'ws'}://{request.host}{request.target}"
        self._listener = handshake_listener(options.instruments)
        self._tell(None, request.headers)

    def _tell(self, status: int | None, headers: Headers) -> None:
        """Tell who listens of the request, or of the answer."""
        if self._listener is not None:
            self._listener(
                HandshakeInfo(
                    id=self._id,
                    url=self._url,
                    http_version=self.http_version,
                    sent=status is not None,
                    status=status,
                    headers=headers,
                )
            )

    def accept(
        self, protocol: str | None = None, headers: HeadersLike = ()
    ) -> AbstractAsyncContextManager[WebSocket, None]:
        """Accept, and have the WebSocket for as long as the block lasts: ``async with request.accept() as ws:``.

        Leaving the block closes, as :class:`WebSocket` tells. Cancelled before the block begins, the request is
        unanswered.

        Args:
            protocol: a subprotocol that the client offers; None: the first of the server's ``protocols`` that it
                offers, or none.
            headers: what to add to the answer: a mapping, or pairs of names and values.

        Raises:
            TypeError: headers are no headers. This and the others are raised where the block begins.
            ValueError: the client does not offer protocol, or a header breaks a rule.
            RuntimeError: the request was answered before.
        """
        return _Acceptance(self, protocol, headers)

    async def _accept(self, protocol: str | None, headers: HeadersLike) -> WebSocket:
        if protocol is None:
            protocol = choose_protocol(self._exchange.request, self._protocols)
        await trio.lowlevel.checkpoint()
        self._check_unanswered()
        answer, agreement = self._exchange.accept(
            protocol=protocol, compression=self._options.compression, headers=headers
        )
        self._note_answer()
        self._tell(101 if self.http_version == "1.1" else 200, answer)
        opened = Opened(
            transport=self._exchange.transport,
            agreement=agreement,
            http_version=self.http_version,
            request_headers=self.headers,
            response_headers=answer,
            rest=self._exchange.rest,
        )
        websocket = start_websocket(
            opened,
            self._options,
            self._reactor,
            url=self._url,
            is_client=False,
            connection_id=self._id,
        )
        self._accepted.enter(websocket)
        if self._cancelled_on_close is not None:
            websocket._connection.cancel_when_closed(self._cancelled_on_close)
        if self._accepted.goodbye is not None:
            websocket._connection.start_close(*self._accepted.goodbye)
        return websocket

    @asynccontextmanager
    async def accept_stream(
        self, protocol: str | None = None, headers: HeadersLike = ()
    ) -> AsyncGenerator[WebSocketStream, None]:
        """Accept, and have the WebSocket as a pair of channels for as long as the block lasts.

        All else is as in :meth:`accept`.

        Args:
            protocol: as in :meth:`accept`.
            headers: as in :meth:`accept`.

        Raises:
            Exception: what :meth:`accept` raises.
        """
        async with self.accept(protocol, headers) as websocket:
            yield WebSocketStream(websocket)

    async def reject(self, status: int = HTTPStatus.FORBIDDEN, headers: HeadersLike = (), body: bytes = b"") -> None:
        """Reject with an HTTP answer, and end the connection.

        Returns when the client has taken the answer, or ``Limits.close_linger`` seconds later. Cancelled, the answer
        may not arrive.

        Args:
            status: 200 to 599; 403 by default.
            headers: a mapping, or pairs of names and values; Content-Length and Connection are added.
            body: the whole body.

        Raises:
            TypeError: an argument has the wrong type.
            ValueError: the status is out of range, or a header breaks a rule.
            RuntimeError: the request was answered before.
        """
        fields = check_answer(status, headers, body)
        self._check_unanswered()
        self._note_answer()
        self._accepted.counters.refused[status] += 1
        self._tell(status, Headers(fields))
        await self._exchange.refuse(status, fields, body)

    @contextmanager
    def cancelling_on_close(self) -> Iterator[None]:
        """Cancel the block when the WebSocket that this request becomes has ended."""
        with trio.CancelScope() as scope:
            self._cancelled_on_close = scope
            yield

    async def _drop_if_unanswered(self) -> None:
        """Wait for the answer; cancelled before there is one, the connection is gone: nobody else would end it."""
        try:
            if self._answered:
                await trio.lowlevel.checkpoint()
            else:
                await self._unanswered.park()
        finally:
            if not self._answered:
                self._exchange.transport.abort()

    def _check_unanswered(self) -> None:
        if self._answered:
            raise RuntimeError("the request was answered before")

    def _note_answer(self) -> None:
        self._answered = True
        self._unanswered.unpark_all()

    @property
    def answered(self) -> bool:
        """Whether it was accepted or rejected."""
        return self._answered

    @property
    def id(self) -> int:
        """The number of the request in this process, and of the WebSocket that it becomes."""
        return self._id

    @property
    def url(self) -> str:
        """The URL as the client must have written it."""
        return self._url

    @property
    def target(self) -> str:
        """The path and the query as they were sent."""
        return self._exchange.request.target

    @property
    def path(self) -> str:
        """The path, percent-encoded as it was sent."""
        return self._exchange.request.path

    @property
    def query(self) -> str:
        """What follows the question mark, "" if nothing does."""
        return self._exchange.request.query

    @property
    def headers(self) -> Headers:
        """The headers of the request."""
        return self._exchange.request.headers

    @property
    def host(self) -> str:
        """The host, and the port if it was sent, that the request is for."""
        return self._exchange.request.host

    @property
    def origin(self) -> str | None:
        """The Origin header, which tells whose page asks if a browser does."""
        return self._exchange.request.origin

    @property
    def protocols(self) -> tuple[str, ...]:
        """The subprotocols that the client offers, in its order."""
        return self._exchange.request.protocols

    @property
    def http_version(self) -> str:
        """Which version of HTTP carries the request, "1.1" or "2"."""
        return self._exchange.request.http_version

    @property
    def remote_address(self) -> object:
        """The client's address, ``(host, port)``, a path for a Unix socket, or None over a stream that has none."""
        return self._exchange.transport.remote_address

    @property
    def local_address(self) -> object:
        """Our address, in the same form."""
        return self._exchange.transport.local_address

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS that it came by, to ask for the client's certificate before it is accepted, say; None without TLS."""
        return self._exchange.transport.ssl_object

    if not TYPE_CHECKING:  # a type checker knows which names there are

        def __getattr__(self, name: str) -> NoReturn:
            raise _no_attribute(self, name, _REQUEST_HINT)

        def __aiter__(self) -> NoReturn:
            raise TypeError(f"a request is no WebSocket: {_REQUEST_HINT}")

    def __repr__(self) -> str:
        return f"<WebSocketRequest {hide_secrets_of_url(self._url)} from {self.remote_address!r}>"
