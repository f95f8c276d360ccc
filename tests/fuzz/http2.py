"""A peer that speaks HTTP/2 as it is told, frame by frame, and checks that what it hears is HTTP/2."""

from __future__ import annotations

import struct
from collections import defaultdict
from typing import TYPE_CHECKING

import hpack
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .choices import Choices

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STREAM_CLOSED, CALM = 0x5, 0xB  # CALM is ENHANCE_YOUR_CALM
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
INITIAL_WINDOW, ENABLE_CONNECT = 4, 8
REQUEST = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "example.com"),
    (":path", "/"),
    ("sec-websocket-version", "13"),
]


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """Write a frame, right or wrong."""
    size = len(payload)
    return struct.pack(">BHBBL", size >> 16, size & 0xFFFF, kind, flags, stream_id) + payload


def data(stream_id: int, payload: bytes, *, end: bool = False) -> bytes:
    """Write a DATA frame."""
    return frame(DATA, END_STREAM if end else 0, stream_id, payload)


def settings(values: Iterable[tuple[int, int]] = ()) -> bytes:
    """Write a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HL", *setting) for setting in values))


def window_update(stream_id: int, increment: int) -> bytes:
    """Write a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream_id, struct.pack(">L", increment))


class Encoder:
    """Writes header blocks; those of one connection must go in the order in which they were written."""

    def __init__(self) -> None:
        self._hpack = hpack.Encoder()

    def headers(self, stream_id: int, fields: Iterable[tuple[str, str]], *, end: bool = False, cut: int = 0) -> bytes:
        """Write HEADERS, and CONTINUATION if it is to be cut."""
        block = self._hpack.encode([(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields])
        flags = END_STREAM if end else 0
        if not cut:
            return frame(HEADERS, flags | END_HEADERS, stream_id, block)
        return frame(HEADERS, flags, stream_id, block[:cut]) + frame(CONTINUATION, END_HEADERS, stream_id, block[cut:])


class Listener:
    """Takes what the side under test has written apart, and checks it.

    Args:
        is_client: the side under test is the client.

    Attributes:
        headers: the header blocks of each stream.
        data: the bytes of each stream.
        resets: the error code of each stream that was reset.
        goaways: the error codes of GOAWAY.
        pings: the payloads of PING that have not been answered.
    """

    def __init__(self, *, is_client: bool) -> None:
        self._preface = PREFACE if is_client else b""
        self._is_client = is_client
        self._buffer = bytearray()
        self._decoder = hpack.Decoder()
        self._first = True
        self._ended: set[int] = set()
        self.headers: dict[int, list[list[tuple[str, str]]]] = defaultdict(list)
        self.data: dict[int, bytearray] = defaultdict(bytearray)
        self.resets: dict[int, int] = {}
        self.goaways: list[int] = []
        self.pings: list[bytes] = []

    def hear(self, wire: bytes) -> None:
        """Take bytes."""
        self._buffer += wire
        if self._preface:
            size = len(self._preface)
            if len(self._buffer) < size:
                return
            assert self._buffer[:size] == self._preface
            del self._buffer[:size]
            self._preface = b""
        while len(self._buffer) >= 9:
            heard, length = Frame.parse_frame_header(memoryview(bytes(self._buffer[:9])))
            assert length <= 2**14
            if len(self._buffer) < 9 + length:
                return
            heard.parse_body(memoryview(bytes(self._buffer[9 : 9 + length])))
            del self._buffer[: 9 + length]
            self._take(heard)

    def _take(self, heard: Frame) -> None:
        assert not self._first or isinstance(heard, SettingsFrame)
        self._first = False
        stream_id = heard.stream_id
        assert not self.goaways or self.goaways == [0], "nothing follows the GOAWAY of an error"
        assert stream_id not in self.resets, "nothing follows RST_STREAM"
        match heard:
            case HeadersFrame():
                assert stream_id not in self._ended
                assert "END_HEADERS" in heard.flags
                fields = self._decoder.decode(heard.data)
                assert all(name == name.lower() for name, _ in fields)
                self.headers[stream_id].append([(str(name), str(value)) for name, value in fields])
            case DataFrame():
                assert stream_id not in self._ended
                assert self.headers[stream_id], "DATA before HEADERS"
                self.data[stream_id] += heard.data
            case RstStreamFrame():
                self.resets[stream_id] = heard.error_code
            case GoAwayFrame():
                self.goaways.append(heard.error_code)
            case WindowUpdateFrame():
                assert heard.window_increment > 0
            case PingFrame():
                if "ACK" not in heard.flags:
                    self.pings.append(heard.opaque_data)
            case SettingsFrame():
                pass
            case _:
                raise AssertionError(f"{heard!r} was not to be expected")
        if "END_STREAM" in heard.flags:
            self._ended.add(stream_id)

    def answers(self) -> bytes:
        """Answer the PING frames that came."""
        pings, self.pings = self.pings, []
        return b"".join(frame(PING, ACK, 0, ping) for ping in pings)

    def ended(self, stream_id: int) -> bool:
        """Tell whether nothing more can come on a stream."""
        return stream_id in self._ended or stream_id in self.resets


# What a peer may do to other streams than the first: each costs the stream that it is done to, at most.
_BAD_FIELDS = [
    ("x", "a\r\nb: c"),
    ("X-Upper", "a"),
    ("", "empty"),
    (":path", "/again"),
    (":unknown", "a"),
    ("connection", "upgrade"),
    ("te", "gzip"),
    ("content-length", "5"),
    ("content-length", "-1"),
    ("transfer-encoding", "chunked"),
    ("sec-websocket-extensions", "permessage-deflate; server_max_window_bits=99"),
    ("sec-websocket-protocol", "a, a"),
    ("origin", "http://other.example"),
    ("host", "other.example"),
    ("cookie", "a=b"),
    ("x-long", "x" * 17_000),
    ("sec-websocket-version", "8"),
]


def spoilt(good: list[tuple[str, str]], choices: Choices) -> list[tuple[str, str]]:
    """Make a header block with a few things wrong, or none."""
    fields = list(good)
    for _ in range(choices.byte() % 4):
        at = choices.byte() % (len(fields) + 1)
        match choices.byte() % 4:
            case 0:
                fields.insert(at, choices.pick(_BAD_FIELDS))
            case 1 if at < len(fields):
                del fields[at]
            case 2 if at < len(fields):
                fields[at] = (fields[at][0], choices.some().decode("latin-1"))
            case _:
                fields.append((choices.some().decode("latin-1"), choices.some().decode("latin-1")))
    return fields


def stream_fault(choices: Choices, encoder: Encoder, stream_id: int) -> bytes:
    """Write what is wrong for one stream that the peer has opened, or right, and never for the connection."""
    match choices.byte() % 10:
        case 0:
            return data(stream_id, choices.some())
        case 1:
            return data(stream_id, choices.some(), end=True)
        case 2:
            return frame(RST_STREAM, 0, stream_id, struct.pack(">L", choices.byte()))
        case 3:  # also by 0, which is wrong
            return window_update(stream_id, choices.byte())
        case 4:
            return window_update(stream_id, 2**31 - 1)
        case 5:
            return encoder.headers(stream_id, [("trailer", "a")], end=bool(choices.byte() % 2))
        case 6:
            padding = choices.byte()
            return frame(DATA, PADDED, stream_id, bytes([padding]) + choices.some() + bytes(padding))
        case 7:
            return frame(PRIORITY, 0, stream_id, struct.pack(">LB", stream_id, 16))
        case 8:
            return frame(PING, 0, 0, choices.take(8).ljust(8))
        case _:
            return frame(0x7F, choices.byte(), stream_id, choices.some())


def connection_fault(choices: Choices, encoder: Encoder, stream_id: int) -> bytes:
    """Write any frame at all, most of them wrong."""
    match choices.byte() % 9:
        case 0:
            return settings([(choices.byte() % 10, choices.long()) for _ in range(choices.byte() % 40)])
        case 1:
            return window_update(0, choices.long())
        case 2:
            return frame(GOAWAY, 0, 0, struct.pack(">LL", choices.byte(), choices.byte()) + choices.some())
        case 3:
            return frame(CONTINUATION, choices.pick([0, END_HEADERS]), stream_id, choices.some())
        case 4:
            return frame(HEADERS, choices.pick([END_HEADERS, 0]), stream_id, choices.some())
        case 5:
            return frame(PUSH_PROMISE, END_HEADERS, stream_id, choices.some())
        case 6:  # longer or shorter than it says
            return frame(choices.byte(), choices.byte(), stream_id, choices.some())[: choices.byte() or None]
        case 7:
            return choices.some()
        case _:
            whole = bytearray(stream_fault(choices, encoder, stream_id))
            whole[choices.byte() % len(whole)] ^= 1 << choices.byte() % 8
            return bytes(whole)
