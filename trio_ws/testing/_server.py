"""A server on loopback for as long as a test needs it."""

from __future__ import annotations

import functools
import ssl
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from .._exceptions import is_only_closed
from .._server.server import serve_websocket
from .._server.service import is_failure
from .._util.nursery import BackgroundNursery
from .._websocket.start import SharedKeywords
from ._link import serve_over_link

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator
    from typing import Unpack

    import trustme

    from .._options import Origins
    from .._server.request import WebSocketRequest
    from .._server.server import WebSocketServer
    from .._server.service import Handler, HTTPHandler
    from ._link import Link

HOST = "127.0.0.1"  # an address: to resolve a name takes a thread, which no mock clock waits for
CLOSE_TIMEOUT = 2.0  # seconds


class ServeKeywords(SharedKeywords, total=False):
    """The options of ``serve_websocket``, as it describes them."""

    protocols: str | Iterable[str]
    cancel_on_close: bool
    origins: Origins | Iterable[str | None]
    http_handler: HTTPHandler | None
    max_connections: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalServer:
    """A server on loopback.

    Attributes:
        url: where it listens, ``wss://127.0.0.1:PORT/`` say.
        port: the port of this address.
        ssl_context: what a client needs to trust it; None without TLS.
        server: the server itself.
    """

    url: str
    port: int
    ssl_context: ssl.SSLContext | None
    server: WebSocketServer


@functools.cache
def _authority() -> trustme.CA:
    """Make the certificate authority of this process."""
    try:
        import trustme
    except ImportError as error:
        raise ImportError(
            "open_test_server() with TLS needs trustme, the extra trio-ws[testing]: pip install trustme"
        ) from error
    return trustme.CA()


@functools.cache
def _certificate() -> trustme.LeafCert:
    return _authority().issue_cert("localhost", HOST, "::1")


def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make a server's context and one of a client that trusts it; each test gets its own."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _certificate().configure_cert(server)
    _authority().configure_trust(client)
    return server, client


@asynccontextmanager
async def open_test_server(
    handler: Handler,
    *,
    tls: bool = True,
    allow_h2: bool = True,
    link: Link | None = None,
    **options: Unpack[ServeKeywords],
) -> AsyncGenerator[LocalServer, None]:
    """Serve WebSockets on loopback for as long as the block lasts: ``async with open_test_server(handler) as server:``.

    It is ``serve_websocket`` with one difference: what a handler raises fails the test. It cancels the block and comes
    out of it as the handler raised it; what the block was about to raise becomes its context. The first exception
    counts; all are logged, and answered with 500 or Close 1011, as by any server. ConnectionClosed is no error here
    either, nor is a WebSocketError with a code after the request was accepted.

    Left normally, the server closes as ``WebSocketServer.aclose`` does: it waits for the handlers, so that what
    they raise at their end is not lost, but for ``close_timeout`` seconds at most. Left by an exception or by
    cancellation, everything is dropped at once.

    Args:
        handler: ``async def handler(request: WebSocketRequest)``.
        tls: serve ``wss`` with a certificate for localhost and the loopback addresses, by an authority that is made
            once for each process; False: plain ``ws``.
        allow_h2: speak HTTP/2 too, as ``serve_websocket`` does.
        link: what is between each client that connects to ``url`` and the server: latency, bandwidth, a loss; None:
            nothing that takes time. The server sees the address of the link's end.
        options: the keyword arguments of ``serve_websocket``; close_timeout is 2 seconds unless given.

    Raises:
        ImportError: with TLS, trustme is not installed.
        TypeError: an argument has the wrong type.
        ValueError: an argument breaks its rule.
        Exception: what a handler raised.
    """
    if link is not None:
        link.check_frames_seen(not tls)
    server_context, client_context = _contexts() if tls else (None, None)
    options.setdefault("close_timeout", CLOSE_TIMEOUT)
    failures: list[Exception] = []
    scope = trio.CancelScope()

    async def handle(request: WebSocketRequest) -> None:
        try:
            await handler(request)
        except Exception as error:
            if is_failure(request, error):
                failures.append(error)
                scope.cancel()
            raise

    serve = partial(serve_websocket, handle, HOST, 0, server_context, allow_h2=allow_h2, **options)
    with _raising_first(failures):
        async with BackgroundNursery() as nursery:
            server = await nursery.start(serve)
            port = server.port
            if link is not None:
                port = await nursery.start(serve_over_link, link, HOST, port)
            url = f"{'wss' if tls else 'ws'}://{HOST}:{port}/"
            with scope:
                try:
                    yield LocalServer(url=url, port=port, ssl_context=client_context, server=server)
                except Exception as error:
                    if is_only_closed(error):  # by a handler that failed, perhaps, and is about to say so
                        await server.aclose()
                    raise
                await server.aclose()


@contextmanager
def _raising_first(failures: list[Exception]) -> Iterator[None]:
    """Leave by the first failure, if there is one, in place of the exception of the block."""
    try:
        yield
    except Exception:
        if failures:
            raise failures[0]  # noqa: B904  # the block's is its context, not its cause
        raise
    if failures:
        raise failures[0]
