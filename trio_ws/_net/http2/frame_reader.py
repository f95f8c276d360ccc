"""What stands before the HTTP/2 library: it takes bytes apart into whole frames, and counts what they cost.

The library is a parser: it would take any number of any frame, and look at a length only when all of the frame is here
(measured with h2 4.4.1). So every limit on frames is kept here, before it sees them:

1. A frame that is too long fails at its ninth byte (RFC 9113 §4.2).
2. Frames that nothing comes of (PING, SETTINGS, PRIORITY, unknown ones, WINDOW_UPDATE beyond need) have an allowance,
   and so have resets of streams, whichever side sends them.
3. A header block is given on whole. Its frames, its bytes and its time are limited.
4. Unknown frames end here, and so do settings that nobody knows: the library would keep each for ever.
   A peer's HEADER_TABLE_SIZE is an offer: it would keep, and search, as many of our headers as the peer likes.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from ..._util.token_bucket import TokenBucket

if TYPE_CHECKING:
    from ..._options import Limits

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 §3.4
MAX_FRAME_SIZE = 2**14  # RFC 9113 §4.2: the default, and we ask for no other
HEADER_SIZE = 9
SMALL_DATA = 256  # bytes; a DATA frame with fewer costs more than it brings

_HEADER = struct.Struct(">BHBBL")
pack_header = _HEADER.pack
_unpack_header = _HEADER.unpack_from
_SETTING = struct.Struct(">HL")
_HEADER_TABLE_SIZE = 1
_TABLE_SIZE = 4096  # bytes; RFC 9113 §6.5.2: the default, and an encoder may use less than it is offered
_KNOWN_SETTINGS = frozenset({1, 2, 3, 4, 5, 6, 8})  # RFC 9113 §6.5.2, RFC 8441 §3


class Kind(IntEnum):
    """Frame types (RFC 9113 §6)."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


DATA = int(Kind.DATA)  # a member of an enumeration takes longer to compare


class ErrorCode(IntEnum):
    """Error codes (RFC 9113 §7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8


def error_name(code: int) -> str:
    """Name an error code as people know it."""
    try:
        return f"{ErrorCode(code).name} (0x{code:x})"
    except ValueError:
        return f"0x{code:x}"


class Http2ConnectionError(Exception):
    """The peer broke a rule or passed a limit, and the whole connection ends.

    Attributes:
        code: of the GOAWAY.
        limit: the field of Limits that was passed, "" if it is a rule of the protocol's.
    """

    def __init__(self, code: int, message: str, limit: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.limit = limit

    def name_limit(self, limits: Limits) -> None:
        """Add to the message the limit that was passed, and its value; to a burst also its rate."""
        values = f"{self.limit} is {getattr(limits, self.limit)}"
        if self.limit.endswith("_burst"):
            rate = self.limit.replace("_burst", "_rate")
            values = f"{values}, {rate} {getattr(limits, rate):g} a second"
        self.args = (f"{self} ({values})",)


@dataclass(slots=True, kw_only=True)
class Http2Statistics:
    """What HTTP/2 connections have counted, all of a server's or an agent's together.

    Attributes:
        connections_opened: connections that HTTP/2 was begun on.
        connections_open: those that have not ended.
        streams_opened: streams that either side opened, refused ones too.
        streams_open: those that have not ended.
        streams_refused: streams that were refused with REFUSED_STREAM, by either side.
        resets: streams that the peer reset before they had ended, or made us reset by a breach of a rule.
        data_frames_sent: DATA frames of ours.
        data_frames_received: DATA frames that came.
        small_data_frames: those of them that had fewer than 256 bytes.
        empty_data_frames: those of them that had none and ended nothing.
        control_frames: frames of the peer's that nothing came of: PING, SETTINGS, PRIORITY, unknown ones, and
            WINDOW_UPDATE beyond need.
        settings_dropped: settings that nobody knows.
        continuations: CONTINUATION frames that came.
        pings_sent: PING frames of ours.
        limits_passed: how often each limit was passed, by the name of its field in Limits.
    """

    connections_opened: int = 0
    connections_open: int = 0
    streams_opened: int = 0
    streams_open: int = 0
    streams_refused: int = 0
    resets: int = 0
    data_frames_sent: int = 0
    data_frames_received: int = 0
    small_data_frames: int = 0
    empty_data_frames: int = 0
    control_frames: int = 0
    settings_dropped: int = 0
    continuations: int = 0
    pings_sent: int = 0
    limits_passed: dict[str, int] = field(default_factory=dict)

    def pass_limit(self, name: str) -> None:
        """Count that a limit was passed."""
        self.limits_passed[name] = self.limits_passed.get(name, 0) + 1


class Frame(NamedTuple):
    """A whole frame. The payload of HEADERS and PUSH_PROMISE is all frames of the block as they came."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def wire(self) -> bytes:
        """The frame as it came, or the block."""
        if self.kind in (Kind.HEADERS, Kind.PUSH_PROMISE):
            return self.payload
        return frame_header(len(self.payload), self.kind, self.flags, self.stream_id) + self.payload

    def unpadded(self) -> bytes:
        """The payload of padded DATA without its padding."""
        if not self.payload:  # RFC 9113 §4.2
            raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "a frame lacks the length of its padding")
        if self.payload[0] >= len(self.payload):  # §6.1
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a frame is shorter than its padding")
        return self.payload[1 : len(self.payload) - self.payload[0]]


def allowed(limit: int | None) -> float:
    """A limit as a number: None is no limit."""
    return math.inf if limit is None else limit


def frame_header(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """Write the nine bytes that begin a frame (RFC 9113 §4.1)."""
    return _HEADER.pack(length >> 16, length & 0xFFFF, kind, flags, stream_id)


class FrameReader:
    """Takes the bytes of one connection apart.

    Args:
        limits: what a peer may cost us.
        counts: where it is counted.
        is_client: a server's first bytes are the preface.

    Attributes:
        block_since: when the header block began that is not whole yet; inf when none is.
        counts: where it is counted.
        window_updates: how many WINDOW_UPDATE frames may come and be of use: for a stream, or for DATA of ours.
    """

    __slots__ = (
        "_block",
        "_block_frames",
        "_block_start",
        "_buffer",
        "_control",
        "_empty_data",
        "_first",
        "_is_client",
        "_limits",
        "_most_small_data",
        "_now",
        "_position",
        "_preface",
        "_refusals",
        "_resets",
        "_small_data",
        "block_since",
        "counts",
        "window_updates",
    )

    def __init__(self, limits: Limits, counts: Http2Statistics, *, is_client: bool) -> None:
        self._limits = limits
        self.counts = counts
        self._is_client = is_client
        self._preface = b"" if is_client else PREFACE
        self._first = True
        self._buffer = b""
        self._position = 0
        self._now = 0.0
        self._block: bytearray | None = None
        self._block_start = Frame(Kind.HEADERS, 0, 0, b"")
        self._block_frames = 0
        self.block_since = math.inf
        self._control = TokenBucket(limits.h2_control_burst, limits.h2_control_rate)
        self._resets = TokenBucket(limits.h2_reset_burst, limits.h2_reset_rate)
        self._refusals = TokenBucket(limits.h2_refused_burst, limits.h2_refused_rate)
        self._empty_data = 0
        self._small_data = 0
        self._most_small_data = allowed(limits.h2_small_data)
        self.window_updates = 5.0

    @property
    def now(self) -> float:
        """When the bytes came that are taken apart."""
        return self._now

    # ---- bytes in, frames out ----

    def feed(self, data: bytes, now: float) -> None:
        """Take bytes that came."""
        self._now = now
        self._buffer = self._buffer[self._position :] + data if self._position < len(self._buffer) else data
        self._position = 0
        if self._preface:
            self._check_preface()

    def _check_preface(self) -> None:
        size = min(len(self._preface), len(self._buffer))
        if self._buffer[:size] != self._preface[:size]:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "this is no HTTP/2")
        self._preface = self._preface[size:]
        self._position = size

    def next_frame(self) -> Frame | None:
        """Give the next whole frame or header block; None when it has not come.

        Raises:
            Http2ConnectionError: a rule was broken, or a limit passed.
        """
        while True:
            buffer, body = self._buffer, self._position + HEADER_SIZE
            if body > len(buffer):
                return None
            high, low, kind, flags, stream_id = _unpack_header(buffer, self._position)
            size = high << 16 | low
            if size > MAX_FRAME_SIZE:
                text = f"a frame of {size} bytes: at most {MAX_FRAME_SIZE} are allowed"
                raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, text)
            if body + size > len(buffer):
                return None
            self._position = body + size
            frame = Frame(kind, flags, stream_id & 0x7FFFFFFF, buffer[body : body + size])
            if kind == DATA:  # the most frequent by far
                if self._first or self._block is not None:
                    self._check_order(frame)
                self._count_data(flags, frame.payload)
                return frame
            whole = self._examine(frame)
            if whole is not None:
                return whole

    def _check_order(self, frame: Frame) -> None:
        if self._first:
            # RFC 9113 §3.4. A server that is about to end may say just that.
            leaves = self._is_client and frame.kind == Kind.GOAWAY
            if not leaves and (frame.kind != Kind.SETTINGS or frame.flags & ACK):
                raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "the first frame must be SETTINGS")
            self._first = False
        if self._block is not None and (
            frame.kind != Kind.CONTINUATION or frame.stream_id != self._block_start.stream_id
        ):
            # RFC 9113 §6.10.
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")

    def _examine(self, frame: Frame) -> Frame | None:
        """Check and count a frame other than DATA; None: there is nothing to give on."""
        self._check_order(frame)
        match frame.kind:
            case Kind.HEADERS | Kind.PUSH_PROMISE:
                return self._begin_block(frame)
            case Kind.CONTINUATION:
                return self._continue_block(frame)
            case Kind.SETTINGS:
                self.count_control()
                if frame.flags & ACK and frame.payload:  # RFC 9113 §6.5
                    raise Http2ConnectionError(ErrorCode.FRAME_SIZE_ERROR, "an answer to SETTINGS that has settings")
                return self._strip_settings(frame)
            case Kind.PING | Kind.PRIORITY:
                self.count_control()
            case Kind.WINDOW_UPDATE:
                self.window_updates -= 1
                if self.window_updates < 0:
                    self.window_updates = 0
                    self.count_control()
            case Kind.RST_STREAM | Kind.GOAWAY:
                pass
            case _:  # RFC 9113 §4.1: unknown frames are to be ignored
                self.count_control()
                return None
        return frame

    # ---- header blocks ----

    @property
    def block_deadline(self) -> float:
        """When the header block that is coming must be whole; inf when none is."""
        return self.block_since + self._limits.h2_header_timeout

    def _begin_block(self, frame: Frame) -> Frame | None:
        wire = frame_header(len(frame.payload), frame.kind, frame.flags, frame.stream_id) + frame.payload
        if frame.flags & END_HEADERS:
            return frame._replace(payload=wire)
        self._block = bytearray(wire)
        self._block_start = frame
        self._block_frames = 0
        self.block_since = self._now
        return None

    def _continue_block(self, frame: Frame) -> Frame | None:
        if self._block is None:
            raise Http2ConnectionError(ErrorCode.PROTOCOL_ERROR, "a CONTINUATION of nothing")
        self._block_frames += 1
        self.counts.continuations += 1
        if self._block_frames > self._limits.h2_max_continuations:
            raise Http2ConnectionError(
                ErrorCode.ENHANCE_YOUR_CALM, "too many CONTINUATION frames", "h2_max_continuations"
            )
        self._block += frame.wire
        if len(self._block) > 2 * self._limits.max_head_size:
            raise Http2ConnectionError(
                ErrorCode.ENHANCE_YOUR_CALM,
                f"a header block of {len(self._block)} bytes or more: at most twice max_head_size",
                "max_head_size",
            )
        if not frame.flags & END_HEADERS:
            return None
        whole = self._block_start._replace(payload=bytes(self._block))
        self._block = None
        self.block_since = math.inf
        return whole

    # ---- what is counted ----

    def _count_data(self, flags: int, payload: bytes) -> None:
        counts, size = self.counts, len(payload)
        counts.data_frames_received += 1
        if size < SMALL_DATA:
            counts.small_data_frames += 1
        if (size > payload[0] + 1 if size and flags & PADDED else size) or flags & END_STREAM:
            self._empty_data = 0
            return
        # A DATA frame that brings nothing and ends nothing: CVE-2019-9518.
        self.counts.empty_data_frames += 1
        self._empty_data += 1
        if self._empty_data > allowed(self._limits.h2_max_empty_data):
            raise Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "too many empty DATA frames", "h2_max_empty_data")

    def charge_small_data(self, cost: int) -> None:
        """Note what a small DATA frame costs while nobody has read it: CVE-2019-9511."""
        self._small_data += cost
        if self._small_data > self._most_small_data:
            raise Http2ConnectionError(
                ErrorCode.ENHANCE_YOUR_CALM, "too many small DATA frames that wait", "h2_small_data"
            )

    def refund_small_data(self, cost: int) -> None:
        """Take that back: it was read, or thrown away."""
        self._small_data -= cost

    def count_control(self) -> None:
        """Count a frame that nothing comes of: CVE-2019-9512, CVE-2019-9515."""
        self.counts.control_frames += 1
        if not self._control.take(self._now):
            raise Http2ConnectionError(
                ErrorCode.ENHANCE_YOUR_CALM, "too many frames that nothing comes of", "h2_control_burst"
            )

    def count_reset(self, *, hasty: bool = True) -> None:
        """Count a stream that was reset before its end: CVE-2023-44487, CVE-2025-8671.

        Args:
            hasty: the peer is to do that in moderation.
        """
        self.counts.resets += 1
        if hasty and not self._resets.take(self._now):
            raise Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "too many streams were reset", "h2_reset_burst")

    def count_refusal(self) -> None:
        """Count a stream that we refused."""
        self.counts.streams_refused += 1
        if not self._refusals.take(self._now):
            raise Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "too many streams were refused", "h2_refused_burst")

    def _strip_settings(self, frame: Frame) -> Frame:
        entries, rest = divmod(len(frame.payload), _SETTING.size)
        if entries > self._limits.h2_max_settings:
            raise Http2ConnectionError(
                ErrorCode.ENHANCE_YOUR_CALM, f"too many settings in one frame: {entries}", "h2_max_settings"
            )
        if rest:
            return frame  # the library refuses it
        settings = list(_SETTING.iter_unpack(frame.payload))
        known = [
            (number, min(value, _TABLE_SIZE) if number == _HEADER_TABLE_SIZE else value)
            for number, value in settings
            if number in _KNOWN_SETTINGS
        ]
        self.counts.settings_dropped += len(settings) - len(known)
        return frame._replace(payload=b"".join(_SETTING.pack(*setting) for setting in known))
