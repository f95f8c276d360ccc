"""The WebSocket: a channel of messages, and what is known of its connection."""

from __future__ import annotations

import enum
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from ._close import INTERNAL_ERROR, NORMAL, check_close, is_receivable, truncate_reason
from ._exceptions import WebSocketError
from ._wire.frames import MAX_CONTROL

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ._close import CloseInfo
    from ._connection import Connection
    from ._instrument import Instruments
    from ._statistics import Statistics
    from ._wire.handshake import Agreement
    from ._wire.headers import Headers
    from ._wire.protocol import Message


class ReadyState(enum.IntEnum):
    """The states of WHATWG's ``WebSocket.readyState``. No object of this library is ever seen CONNECTING."""

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


class WebSocket(trio.abc.Channel[str | bytes]):
    """One WebSocket connection, on either side: a channel of messages, ``str`` for text and ``bytes`` for binary.

    You get one from ``open_websocket``, ``connect_websocket``, ``wrap_client_stream`` or ``WebSocketRequest.accept``.
    Any number of tasks may send and receive; each message goes to one receiver. ``async for message in ws`` ends when
    the peer closes with 1000, 1001 or no code, and raises :exc:`ConnectionClosedError` when the connection ends
    otherwise.

    As a context manager it closes when its block is left: normally with 1000; by a :exc:`WebSocketError` with a code
    that may be sent, with that code and reason; by another exception with 1011; by cancellation, or any other exception
    that is no ``Exception``, it is gone at once, and the peer gets Close 1001 if that could be written without waiting.

    Source: WHATWG WebSockets, undici's ``WebSocket``; messages and closing are RFC 6455 §5 to §7.
    """

    __slots__ = ("__weakref__", "_agreement", "_connection", "_http_version", "_request", "_response", "_url")

    def __init__(
        self,
        connection: Connection,
        agreement: Agreement,
        *,
        url: str,
        http_version: str,
        request_headers: Headers,
        response_headers: Headers,
        instruments: Instruments,
    ) -> None:
        self._connection = connection
        self._agreement = agreement
        self._url = url
        self._http_version = http_version
        self._request = request_headers
        self._response = response_headers
        if instruments:
            connection.watch(self._reporter(instruments))
            instruments.tell(lambda instrument: instrument.websocket_open(self))

    # ---- messages ----

    async def send(self, value: Message, *, compress: bool | None = None) -> None:
        """Send one message, when there is room for it.

        Returns when the message is on its way or in the send buffer; waits while ``Limits.send_buffer`` is full.
        Cancelled, nothing of the message was sent, and the connection goes on.

        Args:
            value: ``str`` is sent as text; ``bytes``, ``bytearray`` or ``memoryview`` as binary. It may be changed
                afterwards.
            compress: True or False compresses this message or not, whatever ``Compression.threshold`` says. Without
                an agreed permessage-deflate nothing is compressed.

        Raises:
            TypeError: value is of another type.
            UnicodeEncodeError: value holds a lone surrogate.
            ConnectionClosed: the connection is closed or closing.
        """
        await self._connection.send(value, compress)

    def send_nowait(self, value: Message, *, compress: bool | None = None) -> None:
        """Send one message if there is room for it: :meth:`send` without waiting.

        Raises:
            trio.WouldBlock: there is no room, or others wait for it. Nothing was sent.
            TypeError: value is of another type.
            UnicodeEncodeError: value holds a lone surrogate.
            ConnectionClosed: the connection is closed or closing.
        """
        self._connection.send_nowait(value, compress)

    async def receive(self) -> str | bytes:
        """Receive the next message, waiting for it.

        Messages that came before the peer closed are still given. Cancelled, nothing is lost: the next call gets the
        message.

        Raises:
            ConnectionClosedOK: the peer closed with 1000, 1001 or no code.
            ConnectionClosedError: the connection ended otherwise.
            ConnectionClosedLocally: this side closed it.
        """
        return await self._connection.receive()

    def receive_nowait(self) -> str | bytes:
        """Receive the next message if it is here: :meth:`receive` without waiting.

        A loop that only calls this never lets other tasks run.

        Raises:
            trio.WouldBlock: no message is here.
            ConnectionClosed: as :meth:`receive`.
        """
        return self._connection.receive_nowait()

    # ---- pings ----

    async def ping(self, payload: bytes | bytearray | memoryview | None = None) -> float:
        """Send a Ping and wait for its Pong (RFC 6455 §5.5.2).

        Cancelled, the ping may have been sent; its pong is ignored.

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

    # ---- closing ----

    async def aclose(self, code: int | None = NORMAL, reason: str = "") -> None:
        """Close the connection: the closing handshake, then the transport, within ``close_timeout`` seconds.

        Whoever waits in ``send``, ``receive`` or ``ping`` gets ConnectionClosed at once; messages that were not
        received are dropped. Does nothing more when the connection is closed. Cancelled, the transport is closed at
        once.

        Args:
            code: 1000 or 3000 to 4999, or None for a Close frame without a code.
            reason: at most 123 bytes of UTF-8.

        Raises:
            TypeError: code is no int, or reason no str.
            ValueError: either breaks its rule. Nothing was sent.
        """
        check_close(code, reason)
        await self._connection.aclose(code, reason)

    async def wait_closed(self) -> CloseInfo:
        """Wait until the connection has ended, by whomever, and return how. Cancelled, nothing happens to it.

        While the receive buffer is full, nothing is read, and the peer's end is not seen until somebody receives.
        """
        await self._connection.wait_ended()
        return self._connection.protocol.close_info

    async def __aenter__(self) -> WebSocket:
        return self

    async def __aexit__(  # noqa: ASYNC910  # a cancelled block must not wait again
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None or isinstance(exc, Exception):
            # Bounded by close_timeout; cancelled, it ends at once: nothing is shielded.
            await self._connection.aclose(*_closing_words(exc))  # noqa: ASYNC102
        else:
            self._connection.abandon()

    # ---- what is known ----

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
        """The round trip of the last ping that was answered, keepalive's or yours, in seconds; None before that."""
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
        )

    def __repr__(self) -> str:
        side = "client" if self._connection.is_client else "server"
        return f"<WebSocket {side} {self._url} HTTP/{self._http_version} {self.ready_state.name}>"

    def _reporter(self, instruments: Instruments) -> Callable[[str, object], None]:
        def tell(what: str, detail: object) -> None:
            instruments.tell(lambda instrument: getattr(instrument, f"websocket_{what}")(self, detail))

        return tell


def ping(websocket: WebSocket, payload: bytes | bytearray | memoryview = b"") -> None:
    """Send a Ping and wait for nothing; does nothing unless the connection is open.

    An Instrument sees the pong; ``await websocket.ping()`` waits for it.

    Args:
        payload: at most 125 bytes.

    Raises:
        TypeError: payload is not bytes-like.
        ValueError: payload is too long.

    Source: undici's ``ping(ws, payload)``.
    """
    websocket._connection.send_ping(check_payload(payload))


def check_payload(payload: bytes | bytearray | memoryview) -> bytes:
    """Check the payload of a control frame."""
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise TypeError(f"payload must be bytes-like, not {type(payload).__name__}")
    data = bytes(payload)
    if len(data) > MAX_CONTROL:
        raise ValueError(f"payload has {len(data)} bytes: at most {MAX_CONTROL} fit into a control frame")
    return data


def _closing_words(exc: Exception | None) -> tuple[int, str]:
    """What to close with when a block was left by ``exc``."""
    if exc is None:
        return NORMAL, ""
    if isinstance(exc, WebSocketError) and exc.close_code is not None and is_receivable(exc.close_code):
        return exc.close_code, truncate_reason(exc.reason)
    return INTERNAL_ERROR, ""
