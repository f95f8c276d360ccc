"""One side of a WebSocket connection, from the end of the opening handshake to the end of the closing one.

Theory of operation:

1. Bytes in, events out (:meth:`receive_data`, :meth:`read_events`); intentions in, bytes out (``encode_…``). Nothing
   is queued here: what an ``encode_…`` returns must be written, in this order, because the deflate window and the
   state have moved.
2. The state is one value. It moves in :meth:`_move` only, by the one table below; everything else is derived.
3. There is no state before the opening handshake is done: there is no protocol object then.
4. A breach of the peer's is a *failure*: :attr:`failure` keeps it, the input is thrown away from then on
   (RFC 6455 §7.1.7), and the caller sends the Close that :meth:`encode_failure` gives.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Final

from .._close import NO_STATUS, CloseInfo, close_body, code_name, truncate_reason
from .._exceptions import LocalProtocolError, RemoteProtocolError
from .events import Close
from .frames import FIN, LARGE, RSV1, LargeFrame, Opcode, frame_bytes
from .masking import new_mask
from .reader import MessageReader
from .speedups import write_frame, write_message

if TYPE_CHECKING:
    from .._options import Limits
    from .deflate import PerMessageDeflate
    from .deflater import CompressionInSteps
    from .events import Event, Start
    from .prepared import PreparedMessage


class State(enum.Enum):
    """Where the connection stands (RFC 6455 §7)."""

    OPEN = "open"
    CLOSE_SENT = "close sent"
    CLOSE_RECEIVED = "close received"
    CLOSED = "closed"
    LOST = "lost"


class Transition(enum.Enum):
    """What can change the state."""

    SEND_CLOSE = "send Close"
    RECEIVE_CLOSE = "receive Close"
    LOSE = "lose the transport"


TRANSITIONS: Final[dict[State, dict[Transition, State]]] = {
    State.OPEN: {
        Transition.SEND_CLOSE: State.CLOSE_SENT,
        Transition.RECEIVE_CLOSE: State.CLOSE_RECEIVED,
        Transition.LOSE: State.LOST,
    },
    State.CLOSE_SENT: {Transition.RECEIVE_CLOSE: State.CLOSED, Transition.LOSE: State.LOST},
    State.CLOSE_RECEIVED: {Transition.SEND_CLOSE: State.CLOSED, Transition.LOSE: State.LOST},
    State.CLOSED: {Transition.LOSE: State.CLOSED},
    State.LOST: {Transition.LOSE: State.LOST},
}
"""The whole life of a connection; a move that a state does not list is a bug, or LocalProtocolError to the caller."""

# To be looked at for each message: in Python 3.11 a member of an enumeration costs ten times a constant.
OPEN: Final = State.OPEN
_LOST: Final = State.LOST

_TEXT = FIN | Opcode.TEXT
_BINARY = FIN | Opcode.BINARY

Message = str | bytes | bytearray | memoryview


class WebSocketProtocol:
    """The protocol of one side of one connection.

    Args:
        is_client: a client masks its frames, a server must not (RFC 6455 §5.1).
        limits: what a message of the peer's may cost.
        deflate: permessage-deflate as agreed, None if it was not.
    """

    __slots__ = ("_deflate", "_is_client", "_reader", "close_received", "close_sent", "failure", "state")

    def __init__(self, *, is_client: bool, limits: Limits, deflate: PerMessageDeflate | None = None) -> None:
        self._is_client = is_client
        self._deflate = deflate if deflate is not None and deflate.can_compress else None
        self._reader = MessageReader(
            masked=not is_client, limits=limits, inflater=None if deflate is None else deflate.inflater
        )
        self.state: State = State.OPEN
        self.close_received: CloseInfo | None = None
        self.close_sent: CloseInfo | None = None
        self.failure: RemoteProtocolError | None = None

    def _move(self, move: Transition) -> None:
        try:
            self.state = TRANSITIONS[self.state][move]
        except KeyError:
            raise LocalProtocolError(f"cannot {move.value} in state {self.state.value!r}") from None

    @property
    def close_info(self) -> CloseInfo:
        """How the connection ended, if it ended now.

        Without a Close of the peer's the code is 1006 (RFC 6455 §7.1.5), which says nothing. So after a failure it is
        what :meth:`encode_failure` tells the peer.
        """
        received = self.close_received
        if received is not None:
            return CloseInfo(received.code, received.reason, was_clean=self.close_sent is not None)
        if self.failure is not None:
            return CloseInfo(self.failure.close_code, _failure_reason(self.failure))
        return CloseInfo()

    @property
    def reads(self) -> bool:
        """Whether bytes of the peer's still mean anything."""
        return self.failure is None and self.close_received is None and self.state is not _LOST

    @property
    def pending(self) -> int:
        """Bytes that were received and not yet understood."""
        return self._reader.pending

    @property
    def unfinished(self) -> int:
        """Bytes held of a message whose end has not come."""
        return self._reader.unfinished

    # ---- bytes in ----

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if self.reads:
            self._reader.feed(data)

    def read_events(self, events: list[Event], budget: int, room: float = math.inf, data: bytes = b"") -> bool:
        """Take bytes and append the events of at most ``budget`` frames; True when there may be more to understand.

        The first message that fills ``room`` bytes is the last of the call: what a few compressed bytes inflate to
        must not pile up.

        Messages are given as they are, ``str`` or ``bytes``. A Close is the last event ever. A breach of the peer's
        is no event: it sets :attr:`failure`.
        """
        if self.failure is not None or self.close_received is not None or self.state is _LOST:  # as reads tells
            return False
        try:
            more = self._reader.read_into(events, budget, room, data)
        except RemoteProtocolError as failure:
            self.failure = failure
            return False
        if events and type(last := events[-1]) is Close:
            self.close_received = last.info
            self._move(Transition.RECEIVE_CLOSE)
        return more

    def take_whole(self, data: bytes) -> str | bytes | None:
        """Take bytes if they are one message and nothing else, and need no second look; else give None.

        Then they have not been taken. What it does :meth:`read_events` would do as well, with more effort.
        """
        return self._reader.take_whole(data) if self.state is OPEN and self.failure is None else None

    def stream_next(self) -> Start | None:
        """Give the next message in pieces, a Start and then Pieces; returns the Start if it has begun."""
        return self._reader.stream_next()

    def stream_at_most(self, count: int) -> None:
        """Give no more than ``count`` of the messages that follow in pieces, whatever :meth:`stream_next` asked for."""
        self._reader.stream_at_most(count)

    def stream_no_more(self, given: str | bytes) -> None:
        """Give the message that is being given in pieces whole, as if nobody had asked for its pieces.

        Args:
            given: what its pieces held so far.

        Raises:
            MessageTooBig: it is larger than messages that are given whole may be.
        """
        self._reader.stream_no_more(given)

    def lose(self) -> None:
        """Note that the transport is gone."""
        self._move(Transition.LOSE)

    # ---- bytes out ----

    def encode_message(self, message: Message, compress: bool | None = None) -> bytes:
        """Write one message: ``str`` as text, anything bytes-like as binary.

        Args:
            compress: True or False overrides ``Compression.threshold`` and what the message would become; nothing is
                compressed where :attr:`compresses` is false.

        Raises:
            TypeError: message is of another type.
            UnicodeEncodeError: message holds a lone surrogate.
            LocalProtocolError: the closing handshake has begun.
        """
        deflate = self._deflate
        if deflate is None and self.state is OPEN and (type(message) is bytes or type(message) is str):
            return write_message(message, new_mask() if self._is_client else None)  # as below, in one step
        payload: bytes | bytearray | memoryview
        if isinstance(message, str):
            first, payload = _TEXT, message.encode()
        elif isinstance(message, (bytes, bytearray)):  # a union is made anew for each message
            first, payload = _BINARY, message
        elif isinstance(message, memoryview):
            first, payload = _BINARY, message.tobytes()
        else:
            raise TypeError(f"message must be str or bytes-like, not {type(message).__name__}")
        if self.state is not OPEN:
            raise LocalProtocolError("a message cannot be sent: the closing handshake has begun")
        if deflate is not None:
            compressed = deflate.compress(payload, compress, first is _TEXT)
            if compressed is not None:
                first, payload = first | RSV1, compressed
        return write_frame(first, payload, new_mask() if self._is_client else None)

    def encode_large(self, message: str | bytes, compress: bool | None) -> LargeFrame | None:
        """Write a message of :data:`.LARGE` or more, not put together, or leave it to :meth:`encode_message`.

        The connection is open; ``compress`` is as there, and so is what is raised.
        """
        first, payload = (_TEXT, message.encode()) if isinstance(message, str) else (_BINARY, message)
        deflate = self._deflate
        if deflate is not None and deflate.is_worth_while(payload, compress, first is _TEXT):
            return None
        return LargeFrame(first, payload, new_mask() if self._is_client else None)

    def compress_in_steps(self, message: str | bytes, compress: bool | None) -> CompressionInSteps | None:
        """Begin to compress a long message, in steps; None: it is not to be compressed. ``compress`` is as above."""
        deflate = self._deflate
        if deflate is None or not deflate.is_worth_while(message, compress, isinstance(message, str)):
            return None
        return deflate.deflater.compress_in_steps(message, always=compress is True)

    def encode_in_steps(self, message: str | bytes, compression: CompressionInSteps) -> bytes | LargeFrame:
        """Write a long message whose compression has come to its end."""
        payload = compression.finish()
        first, mask = _TEXT if isinstance(message, str) else _BINARY, new_mask() if self._is_client else None
        if payload is None:
            return LargeFrame(first, message.encode() if isinstance(message, str) else message, mask)
        first |= RSV1
        return LargeFrame(first, payload, mask) if len(payload) >= LARGE else write_frame(first, payload, mask)

    def encode_prepared(self, prepared: PreparedMessage, compress: bool | None = None) -> bytes:
        """Write a message that goes to several; it is compressed by itself, if at all. ``compress`` is as above."""
        settings = None
        deflate = self._deflate
        # The message that is being compressed refers to what the peer has got before this one.
        if deflate is not None and not deflate.deflater.in_steps and deflate.is_wanted(prepared.payload, compress):
            wanted = deflate.deflater.settings
            if compress or prepared.becomes_smaller(wanted):
                settings = wanted
                deflate.deflater.begin_anew()
        return prepared.frame(settings, masked=self._is_client)

    @property
    def compresses(self) -> bool:
        """Whether messages of ours can be compressed, as permessage-deflate was agreed."""
        return self._deflate is not None

    @property
    def compressed_by(self) -> str:
        """The library that compresses; "" where messages of ours cannot be compressed."""
        return "" if self._deflate is None else self._deflate.deflater.backend.name

    @property
    def inflated_by(self) -> str:
        """The library that inflates; "" where permessage-deflate was not agreed."""
        return self._reader.inflated_by

    def encode_fragment(self, opcode: Opcode, payload: bytes | bytearray, *, compress: bool, final: bool) -> bytes:
        """Write one frame of a message in several (RFC 6455 §5.4); those of one message agree in ``compress``.

        Args:
            opcode: TEXT or BINARY for the first frame, CONTINUATION for those that follow.
            compress: permessage-deflate was agreed, and the message is to be compressed (RFC 7692 §7.2.1).
        """
        if compress and self._deflate is not None:
            payload = self._deflate.deflater.compress(payload, final=final)
        rsv1 = compress and opcode is not Opcode.CONTINUATION
        return frame_bytes(opcode, payload, masked=self._is_client, fin=final, rsv1=rsv1)

    def encode_ping(self, payload: bytes) -> bytes:
        """Write a Ping; its payload was checked to have at most 125 bytes."""
        return frame_bytes(Opcode.PING, payload, masked=self._is_client)

    def encode_pong(self, payload: bytes) -> bytes:
        """Write a Pong; its payload was checked to have at most 125 bytes."""
        return frame_bytes(Opcode.PONG, payload, masked=self._is_client)

    def encode_close(self, code: int | None, reason: str = "") -> bytes:
        """Write our Close; code and reason were checked.

        Raises:
            LocalProtocolError: it was sent already, or the transport is gone.
        """
        self._move(Transition.SEND_CLOSE)
        self.close_sent = CloseInfo(NO_STATUS if code is None else code, reason, was_clean=False)
        return frame_bytes(Opcode.CLOSE, close_body(code, reason), masked=self._is_client)

    def encode_close_answer(self) -> bytes:
        """Write the Close that answers the one received, with the same code and reason.

        RFC 6455 §5.5.1 asks for the code. A browser's CloseEvent takes code and reason from this answer (WHATWG).
        """
        received = self.close_received
        if received is None or received.code == NO_STATUS:
            return self.encode_close(None)
        return self.encode_close(received.code, received.reason)

    def encode_failure(self, failure: RemoteProtocolError) -> bytes:
        """Write the Close that tells the peer what it did wrong, and stop listening (RFC 6455 §7.1.7)."""
        self.failure = failure
        return self.encode_close(failure.close_code, _failure_reason(failure))


def _failure_reason(failure: RemoteProtocolError) -> str:
    return truncate_reason(f"{code_name(failure.close_code)}: {failure}")
