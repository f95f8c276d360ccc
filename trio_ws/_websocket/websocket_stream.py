"""The WebSocketStream: the two directions of one connection as two channels, each with backpressure of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .._close import NORMAL, check_close
from .._exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedLocally, ConnectionClosedOK
from .._wire.frames import LARGE, SIZED
from .base import WebSocketBase

if TYPE_CHECKING:
    from .._connection.connection import Connection
    from .._wire.protocol import Message
    from .websocket import WebSocket


class WebSocketStream(WebSocketBase):
    """One WebSocket connection as a pair of channels; ``open_websocket_stream`` and ``accept_stream`` give it.

    Both directions have backpressure, in bytes: while ``Limits.receive_buffer`` is full of what nobody has received,
    the peer is slowed down, and while ``Limits.send_buffer`` is full, sending waits.

    It closes when the block that gave it is left, as :class:`WebSocket` tells; so a :exc:`WebSocketError` with a code
    raised in the block closes with that code.

    *Clean* means that both sides have sent a Close frame, whatever its code (WHATWG ``CloseEvent.wasClean``);
    :meth:`wait_closed` tells code and reason.

    Source: WHATWG WebSockets, ``WebSocketStream``; undici's class of that name.
    """

    __slots__ = ("_readable", "_writable")

    def __init__(self, websocket: WebSocket) -> None:
        super().__init__(
            websocket._connection,
            websocket._agreement,
            url=websocket.url,
            http_version=websocket.http_version,
            request_headers=websocket.request_headers,
            response_headers=websocket.response_headers,
            connection_id=websocket.id,
        )
        self._readable = _Readable(self._connection)
        self._writable = _Writable(self._connection)

    @property
    def readable(self) -> trio.abc.ReceiveChannel[str | bytes]:
        """The peer's messages.

        Any number of tasks may receive; each message goes to one of them. ``receive`` raises
        :exc:`ConnectionClosedOK`, which ends an ``async for``, after a clean close by either side; it raises
        :exc:`ConnectionClosedError` after any other end, and :exc:`trio.ClosedResourceError` after its own ``aclose``,
        which drops what was not received and closes the connection without a code.
        """
        return self._readable

    @property
    def writable(self) -> trio.abc.SendChannel[str | bytes]:
        """The way to the peer.

        Any number of tasks may send. ``send`` raises :exc:`trio.ClosedResourceError` when this side has closed, and
        :exc:`ConnectionClosedError`, a :exc:`trio.BrokenResourceError`, when the peer has or the connection is lost.
        Its ``aclose`` begins the closing handshake, without a code, and does not wait for it: ``readable`` still gives
        what comes before the peer's Close, which it waits for until the peer has been silent for ``close_timeout``.
        """
        return self._writable

    def close(self, close_code: int | None = None, reason: str = "") -> None:
        """Begin the closing handshake, and wait for nothing; does nothing if it has begun.

        Messages that came before are still given by ``readable``, later ones are dropped. :meth:`wait_closed` tells
        how it went, within ``close_timeout`` seconds.

        Args:
            close_code: 1000 or 3000 to 4999, as WHATWG has it; None is 1000 if there is a reason, else a Close frame
                without a code. Every other code that RFC 6455 §7.4 gives to endpoints is sent by raising
                :exc:`WebSocketError` in the block.
            reason: at most 123 bytes of UTF-8.

        Raises:
            TypeError: close_code is no int, or reason no str.
            ValueError: either breaks its rule. Nothing was sent.
        """
        if close_code is None and reason:
            close_code = NORMAL
        check_close(close_code, reason, name="close_code", whatwg=True)
        self._connection.start_close(close_code, reason)


class _Readable(trio.abc.ReceiveChannel[str | bytes]):
    """The ``readable`` of a WebSocketStream, which describes it."""

    __slots__ = ("__weakref__", "_closed", "_connection")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._closed = False

    async def receive(self) -> str | bytes:
        connection = self._connection
        if not self._closed:
            try:
                return await connection.receive()
            except ConnectionClosed:
                pass  # how it ended depends on what is still to come
        protocol = connection.protocol
        if not self._closed and protocol.close_received is None:
            await connection.wait_ended()
        received, sent = protocol.close_received, protocol.close_sent
        if self._closed:
            raise ConnectionClosedLocally(received, sent)
        if received is not None and sent is not None:
            raise ConnectionClosedOK(received, sent)
        raise ConnectionClosedError(received, sent) from (protocol.failure or connection.cause)

    async def aclose(self) -> None:
        self._closed = True
        self._connection.start_close(None, "")
        self._connection.drop_received()
        await trio.lowlevel.checkpoint()


class _Writable(trio.abc.SendChannel[str | bytes]):
    """The ``writable`` of a WebSocketStream, which describes it."""

    __slots__ = ("__weakref__", "_closed", "_connection")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._closed = False

    async def send(self, value: Message) -> None:
        if self._closed:
            protocol = self._connection.protocol
            raise ConnectionClosedLocally(protocol.close_received, protocol.close_sent)
        try:
            # As WebSocket.send() does it.
            await trio.lowlevel.checkpoint_if_cancelled()
            connection = self._connection
            if not connection.outbox.calm:
                await connection.wait_to_send()
            if type(value) in SIZED and len(value) >= LARGE and connection.protocol.compresses:
                await connection.send_in_steps(value, None)
            else:
                connection.send(value, None)
        except ConnectionClosedOK as error:  # an end of what is received, but a sender is broken by it
            raise ConnectionClosedError(error.received, error.sent) from None
        del value
        if self._connection.reader_ran:  # as in WebSocket.send()
            self._connection.reader_ran = False
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def aclose(self) -> None:
        self._closed = True
        self._connection.start_half_close()
        await trio.lowlevel.checkpoint()
