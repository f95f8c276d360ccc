"""Bytes from a peer to messages and control frames: framing rules, fragments, UTF-8, inflation, limits.

Theory of operation:

1. What was received and not yet understood is one ``bytes``, ``_data``. It never holds the payload of an
   unfinished data frame: that is taken out as it comes, so what stays behind is at most a frame header, a control
   frame, or what a call left over because its budget was spent.
2. A message in the making is one ``bytearray``, however many frames or reads it came in: a peer cannot make us hold
   an object for each of its bytes. When its last frame has begun and enough of it is here, it is one buffer of its
   final size instead, in which nothing is copied again: pages of memory that are new cost more than what is done in
   them.
3. Every limit is checked on a frame's header, before its payload is looked at, and again while inflating.
4. Text is checked as it arrives and fails at the first bad byte (RFC 6455 §8.1), also in the middle of a frame.
5. A long message is inflated in several calls, and its text is decoded as it comes: no call takes long, whatever is in
   it.
6. A message asked for in pieces (:meth:`MessageReader.stream_next`) goes the long way, and what has come of it is
   handed over at the end of each call. Then no limit on its size holds; what is held is what one call may take.
   Nobody may want the pieces after all: then the message goes on as one that is given whole.
7. A breach raises RemoteProtocolError with the close code to answer. The reader is of no more use after that.

The events do not depend on how the bytes were cut into calls of :meth:`MessageReader.feed`, with two exceptions, both
where a peer breaks rules in compressed messages: what refers back beyond the agreed window may be taken, as zlib cannot
always tell; and of two breaches in one text, too many bytes that are no UTF-8, either may be the one that is named.
"""

from __future__ import annotations

import codecs
import math
from typing import TYPE_CHECKING

from .._close import INVALID_DATA, POLICY_VIOLATION
from .._exceptions import MessageTooBig, RemoteProtocolError
from .events import Close, Event, Piece, Start, control_event, decode_text
from .frames import (
    FIN,
    LENGTH,
    LENGTH_16,
    MASKED,
    MAX_CONTROL,
    OPCODE,
    OPCODES,
    RSV1,
    RSV2_RSV3,
    Opcode,
)
from .masking import apply_mask, rotate_mask
from .pure import MESSAGE_OVERHEAD
from .speedups import fill, new_buffer, take_deflated, take_message, take_messages, weigh

if TYPE_CHECKING:
    from .._options import Limits
    from .inflater import Inflater

_BINARY = FIN | Opcode.BINARY
_CONTROL = 0x8
_MASK_SIZE = 4
_INFLATE_STEP = 256  # compressed bytes of a message in pieces: they inflate to 264 KiB at most
_INFLATE_AT_ONCE = 2**19  # bytes of a message that may have more than a MiB: 1 to 2 ms
_DECODE_AT_ONCE = 2**20  # bytes of text: 1.5 ms
_BYTES_PER_FRAGMENT = 256  # of a message in pieces, that one more fragment is allowed for
_SPARSE = 32  # a buffer is made for a message of which at least one byte in so many has come
_HEADER_SIZE = {LENGTH_16: 4, LENGTH_16 + 1: 10}
_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class MessageReader:
    """Turns a peer's bytes into events.

    Args:
        masked: whether the peer must mask: True when it is a client.
        limits: how large and how fragmented a message may be.
        inflater: what inflates, when permessage-deflate was agreed.
    """

    __slots__ = (
        "_at_once",
        "_behind",
        "_compressed",
        "_data",
        "_decoded",
        "_decoder",
        "_empty_fragments",
        "_filled",
        "_fin",
        "_fragments",
        "_inflater",
        "_limits",
        "_mask",
        "_masked",
        "_max_fragments",
        "_max_size",
        "_message",
        "_opcode",
        "_remaining",
        "_short_limit",
        "_streaming",
        "_texts",
        "_utf8",
        "_wanted",
        "_whole",
        "_wire_size",
    )

    def __init__(self, *, masked: bool, limits: Limits, inflater: Inflater | None = None) -> None:
        self._masked = MASKED if masked else 0
        self._limits = limits
        self._inflater = inflater
        self._max_size = limits.max_message_size
        self._at_once = None if self._max_size is not None and self._max_size <= 2**20 else _INFLATE_AT_ONCE
        self._max_fragments = limits.fragments
        self._streaming = False  # the message in the making is given in pieces
        self._wanted = 0  # messages after it that are to be
        self._short_limit = self._longest_short()
        self._data = b""
        self._opcode = 0  # of the message in the making; 0: none
        self._compressed = False
        self._message = bytearray()
        self._texts: list[str] = []  # what came before that of a long text that is inflated, ...
        self._decoded = 0  # ... which had so many bytes, ...
        self._decoder: codecs.IncrementalDecoder | None = None  # ... and the end of which may be half a character
        self._behind = False  # the inflater has a rest
        self._whole: bytes | bytearray | None = None  # ... or in this, once its size is known
        self._filled = 0  # bytes of that which have come
        self._utf8: codecs.IncrementalDecoder | None = None  # of a text that comes in parts
        self._fragments = 0
        self._empty_fragments = 0
        self._wire_size = 0
        self._remaining = 0  # bytes still to come of the data frame in the making
        self._fin = True
        self._mask = b""

    def _longest_short(self) -> int:
        """What take_messages() may take without a look at the limits."""
        if self._wanted:
            return 0
        return 2**16 if self._max_size is None else min(2**16, self._max_size + 1)

    def stream_next(self) -> Start | None:
        """Give the next message in pieces.

        Returns:
            Its Start, if that is the message in the making; else it is an event when it comes.
        """
        if self._opcode and not self._streaming:
            self._streaming = True
            if self._whole is not None:
                self._message = bytearray(memoryview(self._whole)[: self._filled])
                self._whole = None
            elif self._decoder is not None:
                self._message[:0] = "".join(self._texts).encode() + self._decoder.getstate()[0]
                self._forget_texts()
            self._utf8 = None  # what is held was checked; it is decoded from its begin
            return Start(self._opcode == Opcode.TEXT)
        self._wanted += 1
        self._short_limit = self._longest_short()
        return None

    def stream_at_most(self, count: int) -> None:
        """Give no more than ``count`` of the messages that follow in pieces, whatever :meth:`stream_next` asked for."""
        self._wanted = min(self._wanted, count)
        self._short_limit = self._longest_short()

    def stream_no_more(self, given: str | bytes) -> None:
        """Give the message that is being given in pieces whole, as if nobody had asked for its pieces.

        Args:
            given: what its pieces held so far.

        Raises:
            MessageTooBig: it is larger than messages that are given whole may be.
        """
        assert self._streaming
        assert not self._message  # each call of read_into() has handed it over
        self._streaming = False
        if isinstance(given, str):
            # What the decoder keeps is the begin of a character, which no piece has held.
            self._message += given.encode() + (self._utf8.getstate()[0] if self._utf8 else b"")
        else:
            self._message += given
        held = len(self._message)
        self._check_size(held, compressed=False)
        self._check_size(self._wire_size if self._compressed else held + self._remaining, compressed=self._compressed)

    def feed(self, data: bytes) -> None:
        """Add bytes that were received."""
        self._data = self._data + data if self._data else data

    @property
    def pending(self) -> int:
        """Bytes that wait to be understood."""
        return len(self._data)

    @property
    def unfinished(self) -> int:
        """Bytes held of a message whose end has not come."""
        return self._decoded + len(self._message) if self._whole is None else self._filled

    @property
    def inflated_by(self) -> str:
        """The library that inflates, "" if there is none."""
        return "" if self._inflater is None else self._inflater.backend.name

    def take_whole(self, data: bytes) -> str | bytes | None:
        """Take bytes that are one message and nothing else, if nothing came before them; else give None."""
        if self._data or self._opcode:
            return None
        return take_message(data, self._masked, self._short_limit)

    def read_into(self, events: list[Event], budget: int, room: float = math.inf, data: bytes = b"") -> bool:
        """Take bytes and append the events of at most ``budget`` frames; True when a bound ended it, and not the bytes.

        Args:
            room: the call also ends with the message that makes it this many bytes, as :func:`weigh` counts them; text
                that takes the short way is counted as the bytes that it came in.

        Raises:
            RemoteProtocolError: the peer broke a rule; events that came before have been appended.
        """
        position = 0
        if self._data:
            data = self._data + data
        elif not self._opcode:
            # As below, which most calls are spared: whole messages, and nothing else.
            position, budget, room = take_messages(data, 0, self._masked, self._short_limit, budget, room, events)
            if self._inflater is not None and position < len(data):
                position, budget, room = self._take_deflated(data, position, budget, room, events)
            if position == len(data):
                return self._behind
        self._data = data
        try:
            while budget > 0 and room > 0:
                if not self._opcode:
                    position, budget, room = take_messages(
                        data, position, self._masked, self._short_limit, budget, room, events
                    )
                    if self._inflater is not None and position < len(data):
                        position, budget, room = self._take_deflated(data, position, budget, room, events)
                    if position == len(data) or budget == 0 or room <= 0 or self._behind:
                        break
                budget -= 1
                before = len(events)
                if self._behind:
                    self._take(b"", events)
                    step = position
                else:
                    step = self._payload(position, events) if self._remaining else self._frame(position, events)
                if step < 0:
                    if self._streaming:
                        self._hand_over(events)
                    return False
                position = step
                if len(events) > before:
                    event = events[-1]
                    if type(event) is Close:
                        return False
                    if isinstance(event, str | bytes):
                        room -= weigh(event)
                    elif type(event) is Piece:
                        room -= weigh(event.data)
                if self._behind or (self._streaming and len(self._message) >= room):
                    break
            if self._streaming:
                self._hand_over(events)
            return self._behind or position < len(data)
        finally:
            # Rule 1: what a finished call leaves behind is small, and does not keep the whole read alive.
            self._data = data[position:]

    def _take_deflated(
        self, data: bytes, position: int, budget: int, room: float, events: list[Event]
    ) -> tuple[int, int, float]:
        """Take compressed messages for as long as each is whole here; otherwise as :func:`take_messages`."""
        inflater = self._inflater
        if inflater is None or self._wanted:
            return position, budget, room
        while budget > 0 and room > 0 and (taken := take_deflated(data, position, self._masked)) is not None:
            first, payload, position = taken
            message = inflater.inflate(payload, final=True, max_size=self._max_size, at_once=self._at_once)
            budget -= 1
            room -= len(message) + MESSAGE_OVERHEAD
            if inflater.rest is not None:  # it is a long one: the rest goes the long way
                self._opcode, self._compressed, self._fin, self._remaining = first & OPCODE, True, True, 0
                self._behind = True
                self._message = bytearray(message)
                if self._opcode == Opcode.TEXT:
                    self._decode_part(message, final=False)
                break
            events.append(message if first == _BINARY else decode_text(message))
        return position, budget, room

    def _frame(self, position: int, events: list[Event]) -> int:
        """Take the frame that begins at position; return where the next begins, or -1 if it is not all here."""
        data = self._data
        available = len(data) - position
        if available < 2:
            return -1
        first, second = data[position], data[position + 1]
        self._check_first_bytes(first, second)
        length = second & LENGTH
        size = _HEADER_SIZE.get(length, 2)
        if size > 2:
            if available < size:
                return -1
            length = _long_length(data[position + 2 : position + size])
        if first & _CONTROL == 0:
            self._check_data_frame(first, length)
        header = size + (_MASK_SIZE if self._masked else 0)
        if available < header:
            return -1
        start = position + header
        mask = data[position + size : start]
        if first & _CONTROL:
            if available < header + length:
                return -1
            payload = data[start : start + length]
            if self._streaming:
                self._hand_over(events)  # it came before this
            events.append(control_event(first & OPCODE, apply_mask(payload, mask) if mask else payload))
            return start + length
        self._begin_data_frame(first, length, events)
        self._mask = mask
        if length == 0:
            self._take(b"", events)
            return start
        self._remaining = length
        return self._payload(start, events) if available > header else start

    def _check_first_bytes(self, first: int, second: int) -> None:
        opcode = first & OPCODE
        if opcode not in OPCODES:
            raise RemoteProtocolError(f"opcode {opcode:#x} is reserved")  # RFC 6455 §5.2
        control = opcode & _CONTROL
        if first & RSV2_RSV3 or (first & RSV1 and (control or not opcode or self._inflater is None)):
            # RFC 7692 §6: RSV1 is for the first frame of a message, and only if it was agreed on.
            raise RemoteProtocolError("reserved bits are set")
        if second & MASKED != self._masked:
            rule = "must be masked" if self._masked else "must not be masked"
            raise RemoteProtocolError(f"the peer's frames {rule}")  # RFC 6455 §5.1
        if control:
            if not first & FIN:
                raise RemoteProtocolError("a control frame must not be fragmented")  # RFC 6455 §5.5
            if second & LENGTH > MAX_CONTROL:
                raise RemoteProtocolError(f"a control frame has at most {MAX_CONTROL} bytes")
        elif opcode == Opcode.CONTINUATION:
            if not self._opcode:
                raise RemoteProtocolError("a continuation without a message")  # RFC 6455 §5.4
        elif self._opcode:
            raise RemoteProtocolError("a new message inside a fragmented one")

    def _check_data_frame(self, first: int, length: int) -> None:
        """Check the limits that a header tells, before a byte of its payload is taken."""
        in_pieces = self._streaming or (self._wanted and first & OPCODE)
        if not in_pieces:
            compressed = self._compressed or bool(first & RSV1)
            self._check_size((self._wire_size if compressed else len(self._message)) + length, compressed=compressed)
        fragments = self._max_fragments + (self._wire_size // _BYTES_PER_FRAGMENT if in_pieces else 0)
        if self._fragments + 1 > fragments:
            text = f"message in more than {fragments} fragments (max_fragments): {self._fragments + 1} or more"
            raise RemoteProtocolError(text, POLICY_VIOLATION)
        most_empty = self._limits.max_empty_fragments
        if length == 0 and not first & FIN and most_empty is not None and self._empty_fragments >= most_empty:
            text = f"more than {most_empty} empty fragments in a row (max_empty_fragments): {self._empty_fragments + 1}"
            raise RemoteProtocolError(text, POLICY_VIOLATION)

    def _check_size(self, size: int, *, compressed: bool) -> None:
        """Check how many bytes a message has at least: compressed, those that it came in."""
        most = self._max_size
        # Compressed input is not held, so its bound is only against absurd lengths: flushed after every byte
        # (RFC 7692 §7.2.1), a message grows sevenfold by deflating.
        if most is not None and size > (8 * most + 2**16 if compressed else most):
            what = f"{'compressed ' if compressed else ''}message of {size} bytes or more"
            raise MessageTooBig(f"{what}, at most {most} are taken (max_message_size)")

    def _begin_data_frame(self, first: int, length: int, events: list[Event]) -> None:
        opcode = first & OPCODE
        if opcode:
            self._opcode = opcode
            self._compressed = bool(first & RSV1)
            if self._wanted:
                self.stream_at_most(self._wanted - 1)
                self._streaming = True
                events.append(Start(opcode == Opcode.TEXT))
        self._fin = bool(first & FIN)
        self._fragments += 1
        self._empty_fragments = 0 if length else self._empty_fragments + 1
        self._wire_size += length

    def _payload(self, position: int, events: list[Event]) -> int:
        """Take what is here of a data frame's payload; return where it ends, or -1 if nothing is here."""
        data = self._data
        available = len(data) - position
        if not available:
            return -1
        size = min(available, self._remaining)
        if self._whole is not None or self._fits_whole(size):
            self._fill(position, position + size, events)
            return position + size
        if self._streaming and self._compressed:
            size = min(size, _INFLATE_STEP)
        piece = data[position : position + size]
        if self._mask:
            piece = apply_mask(piece, self._mask)
            self._mask = rotate_mask(self._mask, size)
        self._remaining -= size
        self._take(piece, events)
        return position + size

    def _fits_whole(self, size: int) -> bool:
        """Whether the message is to have a buffer of its own from now on, with ``size`` bytes more; make that."""
        if not self._fin or self._compressed or self._streaming:
            return False
        held = len(self._message)
        total = held + self._remaining
        # A header is quickly sent: it does not make us set aside what may never come.
        if total < 2 or (held + size) * _SPARSE < total:
            return False
        self._whole = new_buffer(total)
        self._filled = held
        if held:
            fill(self._whole, 0, bytes(self._message), 0, held, None)
            self._message = bytearray()
        return True

    def _fill(self, start: int, stop: int, events: list[Event]) -> None:
        """Copy a piece of payload, with its mask off, to where it stays; finish the message if that was its last."""
        whole, at = self._whole, self._filled
        assert whole is not None
        fill(whole, at, self._data, start, stop, self._mask or None)
        self._filled = at + stop - start
        self._remaining -= stop - start
        if self._remaining:
            if self._opcode == Opcode.TEXT:
                with memoryview(whole) as view:
                    self._decode_part(view[at : self._filled], final=False)
            if self._mask:
                self._mask = rotate_mask(self._mask, stop - start)
        else:
            self._whole = None
            self._finish(whole, events)

    def _take(self, piece: bytes, events: list[Event]) -> None:
        """Add a piece of payload, with its mask off, to the message; finish the message if that was its last."""
        final = self._fin and not self._remaining
        if self._compressed and self._inflater is not None:
            most = None if self._streaming else self._max_size
            if self._behind:
                piece = self._inflater.go_on(max_size=most, held=self.unfinished, at_once=_INFLATE_AT_ONCE)
            else:
                piece = self._inflater.inflate(
                    piece, final=final, max_size=most, held=self.unfinished, at_once=self._at_once
                )
            self._behind = self._inflater.rest is not None
            final = final and not self._behind
        if final and not self._message:
            self._finish(piece, events)  # it came in one piece: nothing to put together
            return
        is_text = self._opcode == Opcode.TEXT and not self._streaming
        if is_text and not final:
            self._decode_part(piece, final=False)
        self._message += piece
        if final:
            self._finish(self._message, events)
        elif is_text and self._compressed and len(self._message) >= _DECODE_AT_ONCE:
            self._decode_held()

    def _decode_held(self) -> None:
        """Decode what is held of a long text; that was checked as it came."""
        if self._decoder is None:
            self._decoder = _Utf8Decoder()
        self._texts.append(self._decoder.decode(self._message))
        self._decoded += len(self._message)
        self._message = bytearray()

    def _forget_texts(self) -> None:
        self._texts = []
        self._decoded = 0
        self._decoder = None

    def _finish(self, payload: bytes | bytearray, events: list[Event]) -> None:
        # A text's parts were decoded as they came, all but the last, only to see a breach early.
        if self._streaming:
            events.append(self._make_piece(payload, final=True))
            self._streaming = False
        elif self._decoder is not None:
            events.append(self._join_texts(self._decoder, payload))
        else:
            events.append(decode_text(payload) if self._opcode == Opcode.TEXT else bytes(payload))
        self._opcode = 0
        self._compressed = False
        self._utf8 = None
        if self._message:
            self._message = bytearray()
        self._fragments = self._empty_fragments = self._wire_size = 0

    def _join_texts(self, decoder: codecs.IncrementalDecoder, last: bytes | bytearray) -> str:
        try:
            text = "".join((*self._texts, decoder.decode(last, True)))
        except UnicodeDecodeError:
            raise RemoteProtocolError("text is not UTF-8", INVALID_DATA) from None
        self._forget_texts()
        return text

    def _hand_over(self, events: list[Event]) -> None:
        """Give what is held of a message that is given in pieces."""
        if self._message:
            events.append(self._make_piece(self._message, final=False))
            self._message = bytearray()

    def _make_piece(self, payload: bytes | bytearray, *, final: bool) -> Piece:
        if self._opcode == Opcode.TEXT:
            return Piece(self._decode_part(payload, final=final), final)
        return Piece(bytes(payload), final)

    def _decode_part(self, piece: bytes | bytearray | memoryview, *, final: bool) -> str:
        if self._utf8 is None:
            self._utf8 = _Utf8Decoder()
        try:
            return self._utf8.decode(piece, final)
        except UnicodeDecodeError:
            raise RemoteProtocolError("text is not UTF-8", INVALID_DATA) from None


def _long_length(raw: bytes) -> int:
    length = int.from_bytes(raw, "big")
    if len(raw) == 8 and length >> 63:
        raise RemoteProtocolError("the highest bit of a length is set")  # RFC 6455 §5.2
    if length < (LENGTH_16 if len(raw) == 2 else 2**16):
        raise RemoteProtocolError("a length is not in the fewest bytes")  # RFC 6455 §5.2
    return length
