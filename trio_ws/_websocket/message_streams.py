"""One message in pieces: sent while it is being made, received while it is still coming.

Rules:

1. A message that is being sent so holds the line of senders: nobody else's message may go between its frames
   (RFC 6455 §5.4). Control frames may.
2. A message that was begun is finished, or the connection is failed with 1011: a peer never takes half of one for all.
3. A message that is received so belongs to its block from its first byte. What the block leaves of it is dropped as it
   comes, by whoever reads, and nobody waits for that.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

import trio

from .._close import INTERNAL_ERROR
from .._exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK
from .._wire.frames import Opcode
from .._wire.speedups import weigh

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from .._connection.assembler import Incoming
    from .._connection.connection import Connection

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class OutgoingMessage:
    """A message that is sent in pieces, by ``async with ws.send_message_stream() as part``."""

    __slots__ = ("_begun", "_binary", "_compress", "_connection", "_left", "_utf8")

    def __init__(self, connection: Connection, *, binary: bool, compress: bool | None) -> None:
        self._connection = connection
        self._binary = binary
        self._compress = compress is not False and connection.protocol.compresses
        self._utf8 = _Utf8Decoder()
        self._begun = False  # and not finished
        self._left = True

    async def __aenter__(self) -> Self:
        connection, outbox = self._connection, self._connection.outbox
        await trio.lowlevel.checkpoint_if_cancelled()
        if not outbox.has_room:
            await outbox.wait_for_room()
        if not connection.is_open():
            outbox.let_next_in()
            raise connection.closed_error()
        outbox.hold()
        self._left = False
        await trio.lowlevel.cancel_shielded_checkpoint()
        return self

    async def send(self, piece: str | bytes | bytearray | memoryview) -> None:
        """Send the next piece, as one frame, when there is room for it.

        Cancelled, nothing of the piece was sent, and the message can go on. Pieces of 16 to 64 KiB cost the least.

        Args:
            piece: bytes-like in a binary message. In a text message ``str``, or bytes-like UTF-8 that may be cut
                anywhere, also inside a character. An empty piece sends nothing.

        Raises:
            TypeError: piece is of another type.
            UnicodeError: piece cannot go on the text; nothing of it was sent.
            trio.ClosedResourceError: the block has been left.
            ConnectionClosed: the connection is closed or closing.
        """
        if isinstance(piece, str):
            if self._binary:
                raise TypeError("piece must be bytes-like: text is sent by send_message_stream(binary=False)")
        elif not isinstance(piece, bytes | bytearray | memoryview):
            raise TypeError(f"piece must be str or bytes-like, not {type(piece).__name__}")
        connection, outbox = self._connection, self._connection.outbox
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._left and connection.is_open() and not outbox.has_space:
            await outbox.wait_for_space()
        if self._left:
            raise trio.ClosedResourceError("the block of this message has been left")
        if not connection.is_open():
            await connection.raise_closed()
        payload = self._check_text(piece) if not self._binary else bytes(piece)  # type: ignore[arg-type]  # no str
        if payload:
            self._write(payload, final=False)
            connection.notice_loss()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _check_text(self, piece: str | bytes | bytearray | memoryview) -> bytes:
        payload = piece.encode() if isinstance(piece, str) else bytes(piece)
        before = self._utf8.getstate()
        if before[0] or not isinstance(piece, str):
            try:
                self._utf8.decode(payload)
            except UnicodeDecodeError:
                self._utf8.setstate(before)
                raise
        return payload

    def _write(self, payload: bytes, *, final: bool) -> None:
        protocol = self._connection.protocol
        opcode = Opcode.CONTINUATION if self._begun else Opcode.BINARY if self._binary else Opcode.TEXT
        frame = protocol.encode_fragment(opcode, payload, compress=self._compress, final=final)
        self._begun = not final
        self._connection.outbox.write(frame)

    async def __aexit__(  # noqa: ASYNC910  # a cancelled block must not wait again
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._left = True
        try:
            if exc is None:
                self._finish()
        finally:
            if self._begun:
                self._connection.start_close(INTERNAL_ERROR, "")
            self._connection.outbox.let_go()
        if exc is None:
            await trio.lowlevel.checkpoint()  # noqa: ASYNC102  # it may be cancelled: nothing is left to do

    def _finish(self) -> None:
        """Send the end of the message: an empty frame, for which room is not asked."""
        connection = self._connection
        if not connection.is_open():
            raise connection.closed_error()
        self._utf8.decode(b"", final=True)
        self._write(b"", final=True)
        connection.counters.messages_sent += 1
        connection.notice_loss()


class IncomingMessage:
    """A message that is received in pieces, by ``async with ws.receive_message_stream() as parts``.

    ``async for part in parts`` gives ``str`` or ``bytes`` as they come, none of them empty, until the message ends.
    """

    __slots__ = ("_connection", "_incoming")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._incoming: Incoming | None = None

    @property
    def binary(self) -> bool:
        """Whether the message is binary, or else text; to be asked inside the block."""
        return not self._claimed().is_text

    def _claimed(self) -> Incoming:
        if self._incoming is None:
            raise trio.ClosedResourceError("the block of this message has not been entered")
        return self._incoming

    async def __aenter__(self) -> Self:
        connection, assembler = self._connection, self._connection.assembler
        await trio.lowlevel.checkpoint()
        if not connection.has_message and assembler.unclaimed is None and connection.can_receive():
            if start := connection.protocol.stream_next():
                connection.begin_in_pieces(start)
            else:
                await connection.wait_for_message()
        # No checkpoint from here on: what was there could have been taken by another task.
        if connection.has_message:
            self._incoming = assembler.claim_whole(connection.take())
            connection.let_go(-self._incoming.size)  # it waits again
        elif assembler.unclaimed is not None:
            self._incoming = assembler.claim()
        else:
            raise connection.closed_error()
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str | bytes:
        """Give the next piece, waiting for it; cancelled, nothing is lost: the next call gets it.

        Raises:
            ConnectionClosedError: the connection ended inside the message, in whatever way.
            ConnectionClosedLocally: this side closed it.
            trio.ClosedResourceError: the block has been left.
        """
        connection, incoming = self._connection, self._claimed()
        if incoming.is_ready():
            await trio.lowlevel.checkpoint()
        else:
            await connection.read_until(incoming.is_ready, incoming.waiting)
        if incoming.given_up:
            raise trio.ClosedResourceError("the block of this message has been left")
        if incoming.pieces:
            piece = incoming.pieces.popleft()
            connection.let_go(weigh(piece))
            return piece
        if incoming.finished:
            raise StopAsyncIteration
        raise self._cut()

    def _cut(self) -> ConnectionClosed:
        """Make the exception for a message whose end will not come; one that ends an ``async for`` would hide that."""
        error = self._connection.closed_error()
        if isinstance(error, ConnectionClosedOK):
            return ConnectionClosedError(error.received, error.sent)
        return error

    async def __aexit__(  # noqa: ASYNC910  # a cancelled block must not wait again
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.let_go(self._connection.assembler.leave(self._claimed()))
        if exc is None:
            await trio.lowlevel.checkpoint()  # noqa: ASYNC102  # it may be cancelled: nothing is left to do
