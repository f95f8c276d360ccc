"""Any bytes give frames and a breach or none, the same however they are cut: each frame is what came, within limits."""

from __future__ import annotations

from trio_ws import Limits
from trio_ws._net.http2.frame_reader import ErrorCode, Frame, FrameReader, Http2ConnectionError, Http2Statistics, Kind

from .choices import Choices, seed
from .http2 import PREFACE, REQUEST, Encoder, data, settings, stream_fault

_OPENING = PREFACE + settings([(4, 100), (8, 1), (9, 9), (99, 1)])
_ENCODER = Encoder()
_FRAMES = [
    b"",
    _ENCODER.headers(1, REQUEST) + data(1, b"hello") + data(1, b"", end=True),
    _ENCODER.headers(1, REQUEST, cut=5),
    _ENCODER.headers(1, REQUEST, cut=5)[:-20] + data(1, b""),
    data(1, b"") * 12,
    settings() * 9,
    bytes.fromhex("ffffff 00 00 00000001"),
    b"".join(stream_fault(Choices(bytes([which, 9, 1, 2, 3])), _ENCODER, 3) for which in range(10)),
]
SEEDS = [seed(switches, cut, _OPENING + frames) for frames in _FRAMES for switches, cut in ((0, 0), (1, 0x21))]
SEEDS += [seed(2, 0, settings() + _FRAMES[1]), seed(2, 0, b"HTTP/1.1 400 Bad Request\r\n\r\n")]

SMALL = Limits(
    h2_control_burst=8,
    h2_control_rate=0,
    h2_max_settings=4,
    h2_max_continuations=2,
    max_head_size=256,
    h2_max_empty_data=2,
)
_COUNTED = ("control_frames", "continuations", "data_frames_received", "empty_data_frames", "settings_dropped")


def TestOneInput(data: bytes) -> None:
    """Read data: a byte of switches, one that says how to cut, and what a peer sent."""
    choices = Choices(data)
    switches, cut = choices.byte(), choices.byte()
    sent = choices.rest()
    whole = read(sent, switches, 0)
    assert read(sent, switches, cut) == whole
    assert read(sent, switches, 1) == whole


def read(sent: bytes, switches: int, cut: int) -> tuple[list[Frame], str | None, list[int]]:
    """Read bytes in pieces; give the frames, what was breached, and what was counted."""
    limits, counts = SMALL if switches & 1 else Limits(), Http2Statistics()
    gate = FrameReader(limits, counts, is_client=bool(switches & 2))
    frames: list[Frame] = []
    breach = None
    size = 0
    try:
        for piece in Choices(bytes([cut])).pieces(sent):
            gate.feed(piece, 0.0)
            while (frame := gate.next_frame()) is not None:
                check(frame, limits)
                frames.append(frame)
                size += len(frame.payload)
    except Http2ConnectionError as error:
        assert error.code in tuple(ErrorCode)
        assert not error.limit or hasattr(limits, error.limit)
        breach = str(error)
    assert size <= len(sent)
    return frames, breach, [getattr(counts, name) for name in _COUNTED]


def check(frame: Frame, limits: Limits) -> None:
    """Check that a frame is one that may come through."""
    assert frame.kind in set(Kind) - {Kind.CONTINUATION}
    assert 0 <= frame.stream_id < 2**31
    if frame.kind in (Kind.HEADERS, Kind.PUSH_PROMISE):
        assert len(frame.payload) <= max(2 * limits.max_head_size, 2**14 + 9)
    else:
        assert len(frame.payload) <= 2**14
    assert frame.kind != Kind.SETTINGS or len(frame.payload) <= 6 * limits.h2_max_settings + 5
    assert len(frame.wire) >= len(frame.payload)
