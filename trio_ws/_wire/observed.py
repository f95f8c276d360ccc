"""A protocol that tells an observer of each frame and message, for connections that somebody watches."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from .frames import FIN, LENGTH, LENGTH_16, LENGTH_64, MASKED, OPCODE, RSV1, RSV2_RSV3, LargeFrame, Opcode
from .masking import apply_mask
from .protocol import WebSocketProtocol

if TYPE_CHECKING:
    from .._options import Limits
    from .deflate import PerMessageDeflate
    from .events import Event
    from .prepared import PreparedMessage
    from .protocol import Message

FIRST_BYTES: Final = 32  # of a payload that are kept
_MAX_HEAD = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameInfo:
    """One frame, as it is on the wire (RFC 6455 §5.2).

    Attributes:
        opcode: 0 continuation, 1 text, 2 binary, 8 Close, 9 Ping, 10 Pong; any other is a breach of the peer's.
        fin: whether the frame is its message's last.
        rsv1: with permessage-deflate: the message that begins here is compressed (RFC 7692 §6).
        reserved: the bits RSV2 and RSV3, 0 to 3: no extension gives them a meaning.
        masked: whether the payload is masked, as a client's must be.
        length: the bytes of the payload.
        first_bytes: the payload's first 32 bytes, unmasked, and still compressed if it is.
    """

    opcode: int
    fin: bool
    rsv1: bool
    reserved: int
    masked: bool
    length: int
    first_bytes: bytes

    @property
    def name(self) -> str:
        """The opcode's name, ``TEXT`` say; ``0x3`` for one that has none."""
        try:
            return Opcode(self.opcode).name
        except ValueError:
            return f"{self.opcode:#x}"


class FrameScanner:
    """Finds the frames in the bytes of one direction, without checking them. Of a payload it keeps the first bytes."""

    __slots__ = ("_skip", "_start")

    def __init__(self) -> None:
        self._start = bytearray()  # of a frame that is not told yet: its head and first bytes at most
        self._skip = 0  # bytes that follow of a payload whose frame was told

    def scan(self, data: bytes | bytearray | memoryview) -> list[FrameInfo]:
        """Take bytes, and give the frames whose head and first bytes are known now."""
        found: list[FrameInfo] = []
        view = memoryview(data)
        while view:
            if self._skip:
                skipped = min(self._skip, len(view))
                self._skip -= skipped
                view = view[skipped:]
                continue
            before = len(self._start)
            self._start += view[: _MAX_HEAD + FIRST_BYTES - before]
            frame, size = _read_start(self._start)
            if frame is None:
                break  # all of it was kept: a frame whose start fits in is told
            found.append(frame)
            view = view[size - before :]
            self._skip = frame.length - len(frame.first_bytes)
            self._start.clear()
        return found


def _read_start(start: bytearray) -> tuple[FrameInfo | None, int]:
    """Read a frame's start; tell how many bytes it took, if all of them are here."""
    if len(start) < 2:
        return None, 0
    first, second = start[0], start[1]
    length, size = second & LENGTH, 2
    if length >= LENGTH_16:
        form, size = ("!Q", 10) if length == LENGTH_64 else ("!H", 4)
        if len(start) < size:
            return None, 0
        (length,) = struct.unpack_from(form, start, 2)
    masked = bool(second & MASKED)
    mask = bytes(start[size : size + 4])
    size += 4 * masked
    end = size + min(length, FIRST_BYTES)
    if len(start) < end:
        return None, 0
    payload = bytes(start[size:end])
    return FrameInfo(
        opcode=first & OPCODE,
        fin=bool(first & FIN),
        rsv1=bool(first & RSV1),
        reserved=(first & RSV2_RSV3) >> 4,
        masked=masked,
        length=length,
        first_bytes=bytes(apply_mask(payload, mask)) if masked and payload else payload,
    ), end


class Observer(Protocol):
    """What is told of a connection's frames and messages; it must not raise."""

    def frame(self, frame: FrameInfo, *, sent: bool) -> None:
        """Hear of a frame that was written, or has come."""

    def message(self, message: str | bytes, *, sent: bool) -> None:
        """Hear of a message that was written or has come, whole."""


class ObservedProtocol(WebSocketProtocol):
    """Does as :class:`WebSocketProtocol`, and tells an observer.

    A frame that comes is told before it is understood, so one that breaks a rule is told too.

    Args:
        observer: what is told.
    """

    __slots__ = ("_observer", "_scanner")

    def __init__(
        self, observer: Observer, *, is_client: bool, limits: Limits, deflate: PerMessageDeflate | None = None
    ) -> None:
        super().__init__(is_client=is_client, limits=limits, deflate=deflate)
        self._observer = observer
        self._scanner = FrameScanner()

    # ---- bytes in ----

    def observe_received(self, data: bytes) -> None:
        """Tell of the frames in bytes that have come; those of ``receive_data`` are left to the caller."""
        for frame in self._scanner.scan(data):
            self._observer.frame(frame, sent=False)

    def read_events(self, events: list[Event], budget: int, room: float = math.inf, data: bytes = b"") -> bool:
        if self.reads:
            self.observe_received(data)
        known = len(events)
        more = super().read_events(events, budget, room, data)
        for event in events[known:]:
            if isinstance(event, str | bytes):
                self._observer.message(event, sent=False)
        return more

    def take_whole(self, data: bytes) -> str | bytes | None:
        message = super().take_whole(data)
        if message is not None:
            self.observe_received(data)
            self._observer.message(message, sent=False)
        return message

    # ---- bytes out ----

    def _observe_sent(self, frame: bytes) -> bytes:
        for info in FrameScanner().scan(frame):
            self._observer.frame(info, sent=True)
        return frame

    def encode_message(self, message: Message, compress: bool | None = None) -> bytes:
        frame = super().encode_message(message, compress)
        self._observer.message(message if isinstance(message, str) else bytes(message), sent=True)
        return self._observe_sent(frame)

    def encode_large(self, message: str | bytes, compress: bool | None) -> LargeFrame | None:
        frame = super().encode_large(message, compress)
        if frame is not None:
            self._observer.message(message, sent=True)
            payload = frame.payload[:FIRST_BYTES]
            self._observe_sent(frame.head + (apply_mask(payload, frame.mask) if frame.mask else payload))
        return frame

    def encode_prepared(self, prepared: PreparedMessage, compress: bool | None = None) -> bytes:
        frame = super().encode_prepared(prepared, compress)
        text = prepared.opcode is Opcode.TEXT
        self._observer.message(prepared.payload.decode() if text else prepared.payload, sent=True)
        return self._observe_sent(frame)

    def encode_fragment(self, opcode: Opcode, payload: bytes | bytearray, *, compress: bool, final: bool) -> bytes:
        return self._observe_sent(super().encode_fragment(opcode, payload, compress=compress, final=final))

    def encode_ping(self, payload: bytes) -> bytes:
        return self._observe_sent(super().encode_ping(payload))

    def encode_pong(self, payload: bytes) -> bytes:
        return self._observe_sent(super().encode_pong(payload))

    def encode_close(self, code: int | None, reason: str = "") -> bytes:
        return self._observe_sent(super().encode_close(code, reason))
