"""Bytes to whole frames: padding, preface, and what limits and errors are called; no connection."""

from __future__ import annotations

import pytest

from trio_ws import Limits
from trio_ws._net.http2.frame_reader import (
    MAX_FRAME_SIZE,
    PADDED,
    PREFACE,
    ErrorCode,
    Frame,
    FrameReader,
    Http2ConnectionError,
    Http2Statistics,
    Kind,
    error_name,
    frame_header,
)

SETTINGS = frame_header(0, Kind.SETTINGS, 0, 0)


def reader(*, is_client: bool = True) -> FrameReader:
    return FrameReader(Limits(), Http2Statistics(), is_client=is_client)


def test_a_header_has_a_length_of_24_bits() -> None:
    assert frame_header(0x012345, Kind.PING, 0x6, 0x789ABCDE) == bytes.fromhex("012345 06 06 789abcde")


@pytest.mark.parametrize(
    ("payload", "content"),
    [(b"\0", b""), (b"\0abc", b"abc"), (b"\2abc\0\0", b"abc"), (b"\3\0\0\0", b""), (b"\xff" + bytes(255), b"")],
)
def test_padding_is_taken_off(payload: bytes, content: bytes) -> None:
    assert Frame(Kind.DATA, PADDED, 1, payload).unpadded() == content


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"", ErrorCode.FRAME_SIZE_ERROR), (b"\1", ErrorCode.PROTOCOL_ERROR), (b"\4\0\0\0", ErrorCode.PROTOCOL_ERROR)],
)
def test_padding_that_does_not_fit_fails(payload: bytes, code: ErrorCode) -> None:
    with pytest.raises(Http2ConnectionError, match="padding") as caught:
        Frame(Kind.DATA, PADDED, 1, payload).unpadded()
    assert caught.value.code == code
    assert caught.value.limit == ""


def test_frames_are_the_same_however_the_bytes_are_cut() -> None:
    payload = bytes(MAX_FRAME_SIZE)
    wire = PREFACE + SETTINGS + frame_header(len(payload), Kind.DATA, 0, 1 << 31 | 5) + payload
    for size in (1, 7, 24, 33, len(wire)):
        one = reader(is_client=False)
        frames = []
        for start in range(0, len(wire), size):
            one.feed(wire[start : start + size], 0.0)
            while (frame := one.next_frame()) is not None:
                frames.append(frame)
        assert frames == [Frame(Kind.SETTINGS, 0, 0, b""), Frame(Kind.DATA, 0, 5, payload)]


def test_a_frame_that_is_too_long_fails_at_its_ninth_byte() -> None:
    one = reader()
    header = frame_header(MAX_FRAME_SIZE + 1, Kind.DATA, 0, 1)
    one.feed(SETTINGS + header[:8], 0.0)
    assert one.next_frame() == Frame(Kind.SETTINGS, 0, 0, b"")
    assert one.next_frame() is None
    one.feed(header[8:], 0.0)
    with pytest.raises(Http2ConnectionError, match="a frame of 16385 bytes") as caught:
        one.next_frame()
    assert caught.value.code == ErrorCode.FRAME_SIZE_ERROR


def test_a_byte_of_the_preface_that_is_wrong_fails_at_once() -> None:
    one = reader(is_client=False)
    one.feed(PREFACE[:10], 0.0)
    with pytest.raises(Http2ConnectionError, match="no HTTP/2") as caught:
        one.feed(b"!", 0.0)
    assert caught.value.code == ErrorCode.PROTOCOL_ERROR


def test_a_limit_that_was_passed_is_named_with_its_value_and_a_burst_with_its_rate() -> None:
    limits = Limits(h2_max_settings=7, h2_reset_burst=5, h2_reset_rate=2.5)
    one = Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "too many", "h2_max_settings")
    one.name_limit(limits)
    assert str(one) == "too many (h2_max_settings is 7)"
    other = Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "too many", "h2_reset_burst")
    other.name_limit(limits)
    assert str(other) == "too many (h2_reset_burst is 5, h2_reset_rate 2.5 a second)"


def test_limits_that_were_passed_are_counted_by_name() -> None:
    counts = Http2Statistics()
    for name in ("h2_reset_burst", "h2_small_data", "h2_reset_burst"):
        counts.pass_limit(name)
    assert counts.limits_passed == {"h2_reset_burst": 2, "h2_small_data": 1}


def test_what_an_error_code_is_called() -> None:
    assert error_name(0xB) == "ENHANCE_YOUR_CALM (0xb)"
    assert error_name(0xEE) == "0xee"
