"""trio-websocket's server over ours."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from ..._close import INTERNAL_ERROR, NORMAL
from ..._exceptions import closes_with
from ..._server import server as ours
from ..._util.nursery import BackgroundNursery
from ._connection import (
    CONN_TIMEOUT,
    MAX_MESSAGE_SIZE,
    MESSAGE_QUEUE_SIZE,
    RECEIVE_BYTES,
    WebSocketConnection,
    added_headers,
    limits_for,
)
from ._endpoint import Endpoint, endpoint, stream_endpoints
from ._errors import ConnectionClosed, as_pairs, handshake_as_theirs

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from typing import NoReturn

    from ..._server.request import WebSocketRequest as OurRequest
    from ..._websocket.websocket import WebSocket

    ExtraHeaders = Iterable[tuple[bytes | str, bytes | str]]
    Handler = Callable[["WebSocketRequest"], Awaitable[object]]

# What trio-websocket keeps for itself of a request.
_OF_THE_REQUEST = frozenset(("host", "sec-websocket-extensions", "sec-websocket-protocol"))


class WebSocketRequest:
    """A request for a WebSocket, to accept or to reject."""

    def __init__(
        self, request: OurRequest, nursery: trio.Nursery, local: Endpoint | str, remote: Endpoint | str
    ) -> None:
        self._request = request
        self._nursery = nursery
        self._local = local
        self._remote = remote
        self._accepted: WebSocket | None = None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers, names in lower case, without Host and what was negotiated."""
        return list(as_pairs(self._request.headers, without=_OF_THE_REQUEST))

    @property
    def path(self) -> str:
        """The path and the query."""
        return self._request.target

    @property
    def url(self) -> str:
        """The URL as the client must have written it."""
        return self._request.url

    @property
    def proposed_subprotocols(self) -> tuple[str, ...]:
        """The subprotocols that the client offers, in its order."""
        return self._request.protocols

    @property
    def local(self) -> Endpoint | str:
        """Where this end is; a str for what is no TCP connection."""
        return self._local

    @property
    def remote(self) -> Endpoint | str:
        """Where the client is, in the same form."""
        return self._remote

    async def accept(
        self, *, subprotocol: str | None = None, extra_headers: ExtraHeaders | None = None
    ) -> WebSocketConnection:
        """Accept, and return the connection, which is closed when the handler returns.

        Args:
            subprotocol: one that the client offers, or None.
            extra_headers: what to add to the answer; those of the protocol itself are left out.

        Raises:
            ValueError: the client does not offer subprotocol, or a header breaks a rule.
            RuntimeError: the request was answered before.
        """
        websocket: WebSocket = await self._nursery.start(self._hold, subprotocol, added_headers(extra_headers))
        self._accepted = websocket
        return WebSocketConnection(websocket, is_client=False, path=self.path, local=self._local, remote=self._remote)

    async def _hold(
        self, protocol: str | None, headers: list[tuple[str, str]], *, task_status: trio.TaskStatus[WebSocket]
    ) -> None:
        """Keep the scope of the WebSocket open for as long as it lives."""
        async with self._request.accept(protocol, headers) as websocket:
            task_status.started(websocket)
            await websocket.wait_closed()

    async def reject(
        self, status_code: int, *, extra_headers: ExtraHeaders | None = None, body: bytes | None = None
    ) -> None:
        """Reject with an HTTP answer.

        Args:
            status_code: 200 to 599.
            extra_headers: what to add to it.
            body: None: none.

        Raises:
            ValueError: the status is out of range, or a header breaks a rule.
            RuntimeError: the request was answered before.
        """
        await self._request.reject(status_code, added_headers(extra_headers), body or b"")

    async def _close(self, code: int, reason: str) -> None:
        """Close what was accepted."""
        if self._accepted is not None:
            await self._accepted._connection.aclose(code, reason)


class WebSocketServer:
    """A server on any listeners.

    Args:
        handler: ``async def handler(request: WebSocketRequest)``. What it raises ends its connection with Close 1011,
            and is logged to ``trio_ws.server``; a :exc:`trio_ws.WebSocketError` with a code closes with that code.
        listeners: what to serve.
        handler_nursery: where the tasks of connections live; None: in one of the server's own.
        message_queue_size: as in ``open_websocket``.
        max_message_size: see there.
        receive_buffer_size: see there.
        connect_timeout: seconds for a client's handshake.
        disconnect_timeout: seconds for closing a connection.

    Raises:
        ValueError: there is no listener.
    """

    def __init__(
        self,
        handler: Handler,
        listeners: Sequence[trio.abc.Listener[trio.abc.Stream]],
        *,
        handler_nursery: trio.Nursery | None = None,
        message_queue_size: int = MESSAGE_QUEUE_SIZE,
        max_message_size: int = MAX_MESSAGE_SIZE,
        receive_buffer_size: int | None = RECEIVE_BYTES,
        connect_timeout: float = CONN_TIMEOUT,
        disconnect_timeout: float = CONN_TIMEOUT,
    ) -> None:
        if not listeners:
            raise ValueError("listeners must hold at least one")
        self._handler = handler
        self._listeners = listeners
        self._handler_nursery = handler_nursery
        self._limits = limits_for(message_queue_size, max_message_size)
        self._connect_timeout = connect_timeout
        self._disconnect_timeout = disconnect_timeout
        self._ssl_context: ssl.SSLContext | None = None

    @property
    def port(self) -> int:
        """The port of its one listener.

        Raises:
            RuntimeError: there are several listeners, or it has no port.
        """
        if len(self._listeners) > 1:
            raise RuntimeError("the server has more than one listener, and so more than one port")
        (listener,) = self.listeners
        if not isinstance(listener, Endpoint):
            raise RuntimeError(f"the listener has no port: {listener}")
        return listener.port

    @property
    def listeners(self) -> list[Endpoint | str]:
        """Where each listener is; a ``repr`` for what is no TCP socket."""
        found: list[Endpoint | str] = []
        for listener in self._listeners:
            below: object = listener
            is_ssl = self._ssl_context is not None
            while isinstance(below, trio.SSLListener):
                below, is_ssl = below.transport_listener, True
            if isinstance(below, trio.SocketListener):
                found.append(endpoint(below.socket.getsockname(), is_ssl=is_ssl))
            else:
                found.append(repr(listener))
        return found

    async def run(self, *, task_status: trio.TaskStatus[WebSocketServer] = trio.TASK_STATUS_IGNORED) -> NoReturn:
        """Serve until cancelled; ``nursery.start`` gives the server once it accepts connections."""
        async with trio.open_nursery() as nursery:
            serve = partial(
                trio.serve_listeners, self._serve, list(self._listeners), handler_nursery=self._handler_nursery
            )
            await nursery.start(serve)
            task_status.started(self)
            await trio.sleep_forever()

    async def _serve(self, stream: trio.abc.Stream) -> None:
        try:
            ends = stream_endpoints(stream, is_ssl=self._ssl_context is not None)
        except OSError:  # the client is gone already
            await trio.aclose_forcefully(stream)
            return
        async with trio.open_nursery() as nursery:
            await ours.wrap_server_stream(
                nursery,
                stream,
                partial(self._handle, ends),
                ssl_context=self._ssl_context,
                origins=None,  # trio-websocket leaves that to the handler
                limits=self._limits,
                connect_timeout=self._connect_timeout,
                close_timeout=self._disconnect_timeout,
            )

    async def _handle(self, ends: tuple[Endpoint | str, Endpoint | str], request: OurRequest) -> None:
        async with BackgroundNursery() as nursery:
            theirs = WebSocketRequest(request, nursery, *ends)
            try:
                await self._handler(theirs)
            except Exception as error:
                code, reason = closes_with(error) or (INTERNAL_ERROR, "")
                await theirs._close(code, reason)  # noqa: ASYNC120  # cancelled, nobody asks why it closed
                if not _is_only_closed(error):
                    raise
            await theirs._close(NORMAL, "")


def _is_only_closed(error: Exception) -> bool:
    """Whether nothing worse happened than that the connection ended: that is no failure of a handler."""
    if isinstance(error, ExceptionGroup):
        return error.split(ConnectionClosed)[1] is None
    return isinstance(error, ConnectionClosed)


async def wrap_server_stream(
    nursery: trio.Nursery,
    stream: trio.abc.Stream,
    message_queue_size: int = MESSAGE_QUEUE_SIZE,
    max_message_size: int = MAX_MESSAGE_SIZE,
    receive_buffer_size: int | None = RECEIVE_BYTES,
) -> WebSocketRequest:
    """Wait for a request on a stream, which is owned from here on; accept or reject it yourself.

    Raises:
        HandshakeError: what came was no request that may be accepted. It has been answered.
    """
    local, remote = stream_endpoints(stream, is_ssl=False)
    with handshake_as_theirs():
        request = await ours.wrap_server_stream(
            nursery,
            stream,
            origins=None,
            limits=limits_for(message_queue_size, max_message_size),
            connect_timeout=CONN_TIMEOUT,
            close_timeout=CONN_TIMEOUT,
        )
    return WebSocketRequest(request, nursery, local, remote)


async def serve_websocket(  # noqa: ASYNC128  # the server's run() calls task_status.started()
    handler: Handler,
    host: str | bytes | None,
    port: int,
    ssl_context: ssl.SSLContext | None,
    *,
    handler_nursery: trio.Nursery | None = None,
    message_queue_size: int = MESSAGE_QUEUE_SIZE,
    max_message_size: int = MAX_MESSAGE_SIZE,
    receive_buffer_size: int | None = RECEIVE_BYTES,
    connect_timeout: float = CONN_TIMEOUT,
    disconnect_timeout: float = CONN_TIMEOUT,
    task_status: trio.TaskStatus[WebSocketServer] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Serve WebSockets over TCP until cancelled; ``nursery.start`` gives the server once it listens.

    Args:
        handler: as in ``WebSocketServer``, and so are all that are not described here.
        host: a name or an address to listen on; None: every address.
        port: 0 lets the system choose.
        ssl_context: for ``wss``; None: plain ``ws``.
        handler_nursery: see there.
        message_queue_size: see there.
        max_message_size: see there.
        receive_buffer_size: see there.
        connect_timeout: see there.
        disconnect_timeout: see there.
        task_status: trio's, for ``nursery.start``.

    Raises:
        OSError: it cannot listen there.
    """
    server = WebSocketServer(
        handler,
        await trio.open_tcp_listeners(port, host=host),
        handler_nursery=handler_nursery,
        message_queue_size=message_queue_size,
        max_message_size=max_message_size,
        receive_buffer_size=receive_buffer_size,
        connect_timeout=connect_timeout,
        disconnect_timeout=disconnect_timeout,
    )
    server._ssl_context = ssl_context
    await server.run(task_status=task_status)
