"""The WebSocket: a channel of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

import trio

from .._close import GOING_AWAY, INTERNAL_ERROR, NORMAL, check_close
from .._exceptions import closes_with
from .._wire.frames import LARGE, SIZED
from .base import WebSocketBase, check_payload
from .events import Events
from .message_streams import IncomingMessage, OutgoingMessage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from .._connection.connection import Connection
    from .._wire.handshake import Agreement
    from .._wire.headers import Headers
    from .._wire.protocol import Message
    from .events import CloseEvent, ErrorEvent, MessageEvent, OpenEvent
    from .instrument import Instruments


class WebSocket(WebSocketBase, trio.abc.Channel[str | bytes]):
    """One WebSocket connection, on either side: a channel of messages, ``str`` for text and ``bytes`` for binary.

    You get one from ``open_websocket``, ``connect_websocket``, ``wrap_client_stream`` or ``WebSocketRequest.accept``.
    Any number of tasks may send and receive; each message goes to one receiver. ``async for message in ws`` ends when
    the peer closes with 1000, 1001 or no code, and raises :exc:`ConnectionClosedError` when the connection ends
    otherwise.

    As a context manager it closes when its block is left: normally with 1000; by a :exc:`WebSocketError` with a code
    that may be sent, with that code and reason, also when it comes out of a nursery in the block, alone in its
    exception groups; by another exception with 1011. By cancellation, or any other exception that is no ``Exception``,
    it is gone at once, and the peer gets Close 1001 if that could be written without waiting; a WebSocketError in a
    group with a Cancelled gives its own code and reason instead.

    Source: WHATWG WebSockets, undici's ``WebSocket``; messages and closing are RFC 6455 §5 to §7.
    """

    __slots__ = ()

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
        connection_id: int,
    ) -> None:
        super().__init__(
            connection,
            agreement,
            url=url,
            http_version=http_version,
            request_headers=request_headers,
            response_headers=response_headers,
            connection_id=connection_id,
        )
        if instruments:
            connection.watch(self._reporter(instruments))
            instruments.tell(lambda instrument: instrument.websocket_open(self))

    # ---- messages ----

    async def send(self, value: Message, *, compress: bool | None = None, text: bool | None = None) -> None:
        """Send one message, when there is room for it.

        Returns when the message is on its way or in the send buffer; waits while ``Limits.send_buffer`` is full.
        Cancelled, nothing of the message was sent, and the connection goes on.

        Args:
            value: ``str`` is sent as text; ``bytes``, ``bytearray`` or ``memoryview`` as binary. It may be changed
                afterwards.
            compress: True or False compresses this message or not, whatever ``Compression.threshold`` says. Without
                an agreed permessage-deflate nothing is compressed.
            text: True sends bytes, which must be UTF-8, as text; False sends a ``str`` as binary, in UTF-8.

        Raises:
            TypeError: value is of another type.
            UnicodeEncodeError: value holds a lone surrogate.
            UnicodeDecodeError: value is to be sent as text, and is no UTF-8.
            ConnectionClosed: the connection is closed or closing.
        """
        connection = self._connection
        await trio.lowlevel.checkpoint_if_cancelled()
        if text is not None:
            value = in_kind(value, text=text)
        if not connection.outbox.calm:
            await connection.wait_to_send()
        if type(value) in SIZED and len(value) >= LARGE and connection.protocol.compresses:
            await connection.send_in_steps(value, compress)
        else:
            connection.send(value, compress)
        del value  # or each of many tasks would hold a message while the others run, in memory that leaves the caches
        if connection.reader_ran:  # others have run since the last call that passed the scheduler
            connection.reader_ran = False
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def send_nowait(self, value: Message, *, compress: bool | None = None, text: bool | None = None) -> None:
        """Send one message if there is room for it: :meth:`send` without waiting.

        Raises:
            trio.WouldBlock: there is no room, or others wait for it. Nothing was sent.
            TypeError: value is of another type.
            UnicodeEncodeError: value holds a lone surrogate.
            UnicodeDecodeError: value is to be sent as text, and is no UTF-8.
            ConnectionClosed: the connection is closed or closing.
        """
        if text is not None:
            value = in_kind(value, text=text)
        self._connection.send_nowait(value, compress)

    @overload
    async def receive(self, *, decode: None = None) -> str | bytes: ...
    @overload
    async def receive(self, *, decode: Literal[True]) -> str: ...
    @overload
    async def receive(self, *, decode: Literal[False]) -> bytes: ...
    @overload
    async def receive(self, *, decode: bool | None = None) -> str | bytes: ...

    async def receive(self, *, decode: bool | None = None) -> str | bytes:
        """Receive the next message, waiting for it.

        Messages that came before the peer closed are still given. Cancelled, nothing is lost: the next call gets the
        message.

        Args:
            decode: True gives a binary message as ``str`` too, from UTF-8; False gives a text as ``bytes``, in UTF-8.
                By default a text is ``str`` and a binary message ``bytes``.

        Raises:
            UnicodeDecodeError: with ``decode=True``: the message is no UTF-8; ``object`` of the error is the message.
            ConnectionClosedOK: the peer closed with 1000, 1001 or no code.
            ConnectionClosedError: the connection ended otherwise.
            ConnectionClosedLocally: this side closed it.
        """
        message = await self._connection.receive()
        return message if decode is None else in_kind(message, text=decode)

    async def __anext__(self) -> str | bytes:
        # As trio.abc.ReceiveChannel has it, with one coroutine less.
        try:
            return await self._connection.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    @overload
    def receive_nowait(self, *, decode: None = None) -> str | bytes: ...
    @overload
    def receive_nowait(self, *, decode: Literal[True]) -> str: ...
    @overload
    def receive_nowait(self, *, decode: Literal[False]) -> bytes: ...
    @overload
    def receive_nowait(self, *, decode: bool | None = None) -> str | bytes: ...

    def receive_nowait(self, *, decode: bool | None = None) -> str | bytes:
        """Receive the next message if it is here: :meth:`receive` without waiting.

        A loop that only calls this never lets other tasks run.

        Raises:
            trio.WouldBlock: no message is here.
            UnicodeDecodeError: as :meth:`receive`.
            ConnectionClosed: as :meth:`receive`.
        """
        message = self._connection.receive_nowait()
        return message if decode is None else in_kind(message, text=decode)

    def events(self) -> AsyncIterator[OpenEvent | MessageEvent | ErrorEvent | CloseEvent]:
        """Tell the connection as events: ``async for event in ws.events()``.

        First an :class:`OpenEvent`; a :class:`MessageEvent` for each message; an :class:`ErrorEvent` if the connection
        ended without a Close frame of the peer's; last a :class:`CloseEvent`. Nothing is raised for the end of the
        connection. Cancelled, nothing is lost, and leaving the loop does nothing to the connection.

        Source: WHATWG WebSockets, undici's ``open``, ``message``, ``error`` and ``close`` events.
        """
        return Events(self._connection)

    # ---- one message in pieces ----

    def send_message_stream(self, binary: bool = True, *, compress: bool | None = None) -> OutgoingMessage:
        """Send one message in pieces, of any size, holding no more of it than the send buffer does.

        ``async with ws.send_message_stream() as part: await part.send(data)``, as often as you like. The message ends
        with the block. Until then all other ``send`` wait, in order, so do not call them from the block, and
        ``send_nowait`` raises :exc:`trio.WouldBlock`; pings, pongs and closing go between the pieces.

        A block that is left by an exception or by cancellation has begun what cannot be finished: the connection is
        closed with 1011, and the peer never takes half a message for a whole one. If no piece was sent yet, nothing
        happens.

        Args:
            binary: True for a binary message, False for text.
            compress: False sends the message as it is; otherwise it is compressed, piece by piece, if
                permessage-deflate was agreed.

        Raises:
            TypeError: an argument has the wrong type.
            ConnectionClosed: on entering, sending and leaving: the connection is closed or closing.
        """
        for name, value in (("binary", binary), ("compress", compress)):
            if not isinstance(value, bool) and not (name == "compress" and value is None):
                raise TypeError(f"{name} must be a bool, not {value!r}")
        return OutgoingMessage(self._connection, binary=binary, compress=compress)

    def receive_message_stream(self) -> IncomingMessage:
        """Receive one message in pieces, of any size, holding no more of it than ``Limits.receive_buffer``.

        ``async with ws.receive_message_stream() as parts: async for part in parts: ...``. Entering the block waits for
        the next message to begin, as :meth:`receive` waits for it to end, and raises what that raises. Each piece of
        a text is text by itself. A message that is here already comes as one piece.

        ``Limits.max_message_size`` is no limit for such a message; one fragment more than ``Limits.max_fragments``
        is allowed for each 256 bytes of it. The peer is slowed down while you do not take the pieces. What you leave
        of a message when you leave the block is dropped as it comes; close the connection to be spared it.
        """
        return IncomingMessage(self._connection)

    # ---- closing ----

    async def aclose(self, code: int | None = NORMAL, reason: str = "") -> None:
        """Close the connection: the closing handshake, then the transport, within ``close_timeout`` seconds.

        Whoever waits in ``send``, ``receive`` or ``ping`` gets ConnectionClosed at once; messages that were not
        received are dropped. Does nothing more when the connection is closed. Cancelled, the transport is closed at
        once.

        Args:
            code: 1000 to 1003, 1007 to 1014 or 3000 to 4999 (RFC 6455 §7.4), or None for a Close frame without a
                code.
            reason: at most 123 bytes of UTF-8.

        Raises:
            TypeError: code is no int, or reason no str.
            ValueError: either breaks its rule. Nothing was sent.
        """
        check_close(code, reason)
        await self._connection.aclose(code, reason)

    async def __aenter__(self) -> WebSocket:
        return self

    async def __aexit__(  # noqa: ASYNC910  # a cancelled block must not wait again
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        said = (NORMAL, "") if exc is None else closes_with(exc)
        if exc is None or isinstance(exc, Exception):
            # Bounded by close_timeout; cancelled, it ends at once: nothing is shielded.
            await self._connection.aclose(*said or (INTERNAL_ERROR, ""))  # noqa: ASYNC102
        else:
            self._connection.abandon(*said or (GOING_AWAY, ""))

    def _reporter(self, instruments: Instruments) -> Callable[[str, object], None]:
        def tell(what: str, detail: object) -> None:
            instruments.tell(lambda instrument: getattr(instrument, what)(self, detail))

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
    data, connection = check_payload(payload), websocket._connection
    if connection.is_open():
        connection.send_ping(data)


@overload
def in_kind(message: Message, *, text: Literal[True]) -> str: ...
@overload
def in_kind(message: Message, *, text: Literal[False]) -> bytes: ...
@overload
def in_kind(message: Message, *, text: bool) -> str | bytes: ...


def in_kind(message: Message, *, text: bool) -> str | bytes:
    """Convert a message to text or to binary, between which UTF-8 stands."""
    if isinstance(message, str):
        return message if text else message.encode()
    if not isinstance(message, bytes | bytearray | memoryview):
        raise TypeError(f"message must be str or bytes-like, not {type(message).__name__}")
    payload = bytes(message)
    return payload.decode() if text else payload
