"""What is known of an open connection: the part that WebSocket and WebSocketStream share."""

from __future__ import annotations

import enum
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import trio

from .._wire.frames import MAX_CONTROL
from .._wire.hiding import hide_secrets_of_url

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from .._close import CloseInfo
    from .._connection.connection import Connection
    from .._connection.statistics import Statistics
    from .._wire.handshake import Agreement
    from .._wire.headers import Headers


class ReadyState(enum.IntEnum):
    """The states of WHATWG's ``WebSocket.readyState``. No object of this library is ever seen CONNECTING."""

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


# What people write who know another library.
OTHER_NAMES = {
    "recv": "receive()",
    "get_message": "receive()",
    "receive_str": "receive()",
    "receive_bytes": "receive()",
    "recv_streaming": "receive_message_stream()",
    "receive_json": "json.loads(await ws.receive())",
    "send_str": "send()",
    "send_bytes": "send()",
    "send_text": "send()",
    "send_message": "send()",
    "send_json": "send(json.dumps(value))",
    "close": "aclose()",
    "closed": "close_info, None until the connection has ended",
    "close_code": "close_info",
    "close_reason": "close_info",
    "state": "ready_state",
    "readyState": "ready_state",
    "subprotocol": "protocol",
    "path": "url",
    "buffered": "buffered_amount",
    "bufferedAmount": "buffered_amount",
    "remote": "remote_address",
    "local": "local_address",
    "on_message": "async for message in ws",
    "onmessage": "async for message in ws",
}


class WebSocketBase:
    """One connection, by whatever object it is used; and the pings, which belong to no message."""

    __slots__ = ("__weakref__", "_agreement", "_connection", "_http_version", "_id", "_request", "_response", "_url")

    def __init__(
        self,
        connection: Connection,
        agreement: Agreement,
        *,
        url: str,
        http_version: str,
        request_headers: Headers,
        response_headers: Headers,
        connection_id: int,
    ) -> None:
        self._connection = connection
        self._agreement = agreement
        self._url = url
        self._http_version = http_version
        self._request = request_headers
        self._response = response_headers
        self._id = connection_id

    if not TYPE_CHECKING:  # a type checker knows which names there are

        def __getattr__(self, name: str) -> NoReturn:
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            if (ours := OTHER_NAMES.get(name)) is not None:
                message += f": here it is {ours}"
            raise AttributeError(message, name=name, obj=self)

    # ---- pings ----

    async def ping(self, payload: bytes | bytearray | memoryview | None = None) -> float:
        """Send a Ping and wait for its Pong (RFC 6455 §5.5.2).

        A peer may answer only the newest of several pings (§5.5.3), so the pong for a later ping of this connection,
        whoever sent that, answers this one too. While the receive buffer is full, nothing is read, and no pong is seen
        until somebody receives. Cancelled, the ping may have been sent.

        Args:
            payload: at most 125 bytes; None sends one that no other ping of this connection has.

        Returns:
            The round trip in seconds.

        Raises:
            TypeError: payload is not bytes-like.
            ValueError: payload is too long.
            ConnectionClosed: the connection is closed, or was before the pong came.
        """
        return await self._connection.ping(None if payload is None else check_payload(payload))

    async def pong(self, payload: bytes | bytearray | memoryview = b"") -> None:
        """Send a Pong that answers nothing: a one-way heartbeat (RFC 6455 §5.5.3). Pings are answered without this.

        Raises:
            TypeError: payload is not bytes-like.
            ValueError: payload has over 125 bytes.
            ConnectionClosed: the connection is closed or closing.
        """
        await self._connection.send_pong(check_payload(payload))

    # ---- the end ----

    async def wait_closed(self) -> CloseInfo:
        """Wait until the connection has ended, by whomever, and return how. Cancelled, nothing happens to it.

        While the receive buffer is full, nothing is read. A connection that breaks then ends at once, where the system
        tells; the end of a peer that closed in order is seen when somebody has received what came before.
        """
        await self._connection.wait_ended()
        return self._connection.protocol.close_info

    @contextmanager
    def move_on_when_closed(self) -> Iterator[trio.CancelScope]:
        """Cancel the block when the connection ends, by whomever, and go on behind the block.

        ``with ws.move_on_when_closed() as scope:`` is ``trio.move_on_after`` with the connection's end for a deadline:
        for a block that waits for a queue, a database or a timer, and does not receive. ``scope.cancelled_caught``
        tells whether the block was cut short. Messages that came before the end are still there afterwards, for
        ``receive()`` outside of the block.

        The block is cancelled when the peer's Close comes, and when the connection breaks or is failed. A closing that
        this side has begun cancels the block when it is done, so the block may call ``aclose()``. On a connection that
        has ended already the block is cancelled at its first checkpoint.

        Returns:
            A context manager that gives the block's ``trio.CancelScope``.
        """
        connection = self._connection
        with trio.CancelScope() as scope:
            connection.cancel_when_closed(scope)
            try:
                yield scope
            finally:
                connection.forget_scope(scope)

    # ---- what is known ----

    @property
    def id(self) -> int:
        """The number of the connection in this process, which its lines in the logger ``trio_ws.frames`` begin with."""
        return self._id

    @property
    def url(self) -> str:
        """The URL, with ``ws`` or ``wss`` and without credentials; on a server as the client must have written it."""
        return self._url

    @property
    def protocol(self) -> str | None:
        """The subprotocol that was agreed, None if none."""
        return self._agreement.protocol

    @property
    def extensions(self) -> str:
        """The extensions that were agreed, as in the server's answer; "" if none."""
        return self._agreement.extensions

    @property
    def http_version(self) -> str:
        """The version of HTTP that carried the opening handshake, "1.1" or "2"."""
        return self._http_version

    @property
    def request_headers(self) -> Headers:
        """The headers of the client's opening handshake."""
        return self._request

    @property
    def response_headers(self) -> Headers:
        """The headers of the server's answer."""
        return self._response

    @property
    def ready_state(self) -> ReadyState:
        """WHATWG's ``readyState``."""
        if self._connection.ended:
            return ReadyState.CLOSED
        return ReadyState.OPEN if self._connection.is_open() else ReadyState.CLOSING

    @property
    def buffered_amount(self) -> int:
        """Bytes of frames that wait for the network."""
        return self._connection.outbox.buffered

    @property
    def latency(self) -> float | None:
        """The round trip of the last ping that was answered, keepalive's or yours, in seconds; None before that.

        Over HTTP/2 the keepalive asks the connection instead, and only your pings count.
        """
        return self._connection.pings.latency

    @property
    def remote_address(self) -> object:
        """The peer's address, ``(host, port)``, a path for a Unix socket, or None over a stream that has none."""
        return self._connection.transport.remote_address

    @property
    def local_address(self) -> object:
        """Our address, in the same form."""
        return self._connection.transport.local_address

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS of the connection, to ask it for ciphers and certificates; None without TLS or where it is hidden."""
        return self._connection.transport.ssl_object

    @property
    def close_info(self) -> CloseInfo | None:
        """How the connection ended; None while it has not."""
        return self._connection.protocol.close_info if self._connection.ended else None

    def statistics(self) -> Statistics:
        """Count what has been sent and received so far."""
        connection = self._connection
        return replace(
            connection.counters,
            bytes_sent=connection.outbox.bytes_sent,
            receive_buffer=connection.received,
            send_buffer=connection.outbox.buffered,
            backpressured=connection.stalled,
            compressed_by=connection.protocol.compressed_by,
            inflated_by=connection.protocol.inflated_by,
        )

    def __repr__(self) -> str:
        side = "client" if self._connection.is_client else "server"
        url = hide_secrets_of_url(self._url)  # a repr gets into logs
        return f"<{type(self).__name__} {side} {url} HTTP/{self._http_version} {self.ready_state.name} #{self._id}>"


def check_payload(payload: bytes | bytearray | memoryview) -> bytes:
    """Check the payload of a control frame."""
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise TypeError(f"payload must be bytes-like, not {type(payload).__name__}")
    data = bytes(payload)
    if len(data) > MAX_CONTROL:
        raise ValueError(f"payload has {len(data)} bytes: at most {MAX_CONTROL} fit into a control frame")
    return data
