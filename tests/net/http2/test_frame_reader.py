"""Bytes to whole frames: padding, preface, and what limits and errors are called; no connection."""

from __future__ import annotations

import math
import struct
from dataclasses import replace

import pytest

from trio_ws import Limits
from trio_ws._net.http2.frame_reader import (
    ACK,
    END_HEADERS,
    END_STREAM,
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


def reader(limits: Limits | None = None, *, is_client: bool = True) -> FrameReader:
    return FrameReader(limits or Limits(), Http2Statistics(), is_client=is_client)


def read(one: FrameReader, wire: bytes) -> list[Frame]:
    """Give the frames that bytes are."""
    one.feed(wire, 0.0)
    return list(iter(one.next_frame, None))


def failure(one: FrameReader, wire: bytes) -> tuple[int, str]:
    """Give the code and the limit of the error that bytes are, after frames that are none."""
    with pytest.raises(Http2ConnectionError) as caught:
        read(one, wire)
    return caught.value.code, caught.value.limit


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream_id: int = 0) -> bytes:
    return frame_header(len(payload), kind, flags, stream_id) + payload


PING = frame(Kind.PING, bytes(8))
PROTOCOL_ERROR = (ErrorCode.PROTOCOL_ERROR, "")


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


@pytest.mark.parametrize("size", [MAX_FRAME_SIZE + 1, 2**16, 2**16 + 5, 2**24 - 1])
def test_a_frame_that_is_too_long_fails_at_its_ninth_byte(size: int) -> None:
    one = reader()
    header = frame_header(size, Kind.DATA, 0, 1)
    one.feed(SETTINGS + header[:8], 0.0)
    assert one.next_frame() == Frame(Kind.SETTINGS, 0, 0, b"")
    assert one.next_frame() is None
    one.feed(header[8:], 0.0)
    with pytest.raises(Http2ConnectionError, match=f"a frame of {size} bytes") as caught:
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


# ---- what may come, and when ----


@pytest.mark.parametrize(
    ("first", "taken_by_server", "taken_by_client"),
    [
        (SETTINGS, True, True),
        (frame(Kind.GOAWAY, bytes(8)), False, True),  # from a server that is about to end
        (frame(Kind.SETTINGS, flags=ACK), False, False),
        (PING, False, False),
        (frame(Kind.DATA, b"x", stream_id=1), False, False),
        (frame(Kind.HEADERS, flags=END_HEADERS, stream_id=1), False, False),
        (frame(0x77), False, False),
    ],
)
def test_the_first_frame_is_settings(first: bytes, taken_by_server: bool, taken_by_client: bool) -> None:
    for preface, taken, is_client in ((PREFACE, taken_by_server, False), (b"", taken_by_client, True)):
        one = reader(is_client=is_client)
        if taken:
            assert len(read(one, preface + first)) == 1
            assert len(read(one, PING)) == 1
        else:
            assert failure(one, preface + first) == PROTOCOL_ERROR


@pytest.mark.parametrize(
    "between",
    [
        frame(Kind.DATA, b"x", stream_id=1),
        frame(Kind.HEADERS, flags=END_HEADERS, stream_id=1),
        frame(Kind.CONTINUATION, stream_id=3),
        PING,
        frame(0x77, stream_id=1),
    ],
)
def test_nothing_comes_between_the_frames_of_a_header_block(between: bytes) -> None:
    one = reader()
    assert read(one, SETTINGS + frame(Kind.HEADERS, b"a", stream_id=1))[1:] == []
    assert failure(one, between) == PROTOCOL_ERROR


def test_a_continuation_of_nothing_fails() -> None:
    one = reader()
    block = frame(Kind.HEADERS, b"a", stream_id=1) + frame(Kind.CONTINUATION, b"b", flags=END_HEADERS, stream_id=1)
    assert read(one, SETTINGS + block)[1:] == [Frame(Kind.HEADERS, 0, 1, block)]
    assert one.counts.continuations == 1
    assert failure(one, frame(Kind.CONTINUATION, flags=END_HEADERS, stream_id=1)) == PROTOCOL_ERROR


def test_an_answer_to_settings_has_none() -> None:
    one = reader()
    assert len(read(one, SETTINGS + frame(Kind.SETTINGS, flags=ACK) + frame(Kind.SETTINGS, bytes(6)))) == 3
    assert failure(one, frame(Kind.SETTINGS, bytes(6), flags=ACK)) == (ErrorCode.FRAME_SIZE_ERROR, "")


def test_unknown_settings_are_taken_out_and_the_others_stay_in_order() -> None:
    one = reader()
    values = [(number, number + 100) for number in (9, 8, 7, 0x10, 6, 5, 4, 3, 2, 1, 0)]
    wire = b"".join(struct.pack(">HL", *value) for value in values)
    known = b"".join(struct.pack(">HL", *value) for value in values if value[0] in (1, 2, 3, 4, 5, 6, 8))
    assert read(one, frame(Kind.SETTINGS, wire)) == [Frame(Kind.SETTINGS, 0, 0, known)]
    assert one.counts.settings_dropped == 4
    assert read(one, frame(Kind.SETTINGS, wire + b"x")) == [Frame(Kind.SETTINGS, 0, 0, wire + b"x")]


def test_a_header_block_must_be_whole_in_time() -> None:
    one = reader(Limits(h2_header_timeout=5))
    assert one.block_deadline == math.inf
    one.feed(SETTINGS + frame(Kind.HEADERS, b"a", flags=END_HEADERS, stream_id=1), 1.0)
    while one.next_frame() is not None:
        assert one.block_deadline == math.inf
    one.feed(frame(Kind.HEADERS, b"a", stream_id=3), 2.0)
    assert one.next_frame() is None
    one.feed(frame(Kind.CONTINUATION, b"b", stream_id=3), 3.0)
    assert one.next_frame() is None
    assert one.block_deadline == 7.0
    one.feed(frame(Kind.CONTINUATION, b"c", flags=END_HEADERS, stream_id=3), 4.0)
    assert one.next_frame() is not None
    assert one.block_deadline == math.inf


# ---- limits: each may be used to its last ----


def continuation(size: int = 0, *, flags: int = 0) -> bytes:
    return frame(Kind.CONTINUATION, bytes(size), flags=flags, stream_id=1)


def settings(size: int) -> bytes:
    return frame(Kind.SETTINGS, bytes(size))


def data(size: int = 0, *, flags: int = 0) -> bytes:
    return frame(Kind.DATA, bytes(size), flags=flags, stream_id=1)


HEADERS = frame(Kind.HEADERS, stream_id=1)
BLOCK = HEADERS + continuation() + continuation(flags=END_HEADERS)  # of two CONTINUATIONs, 27 bytes


@pytest.mark.parametrize(
    ("limit", "limits", "within", "beyond"),
    [
        ("h2_max_continuations", Limits(h2_max_continuations=2), BLOCK * 2, HEADERS + continuation() * 3),
        ("max_head_size", Limits(max_head_size=20), HEADERS + continuation(22), continuation()),
        ("h2_max_settings", Limits(h2_max_settings=2), settings(17), settings(18)),
        ("h2_max_empty_data", Limits(h2_max_empty_data=2), data() * 2 + data(1) + data() * 2, data()),
        ("h2_control_burst", Limits(h2_control_burst=4, h2_control_rate=0), PING + settings(0) + frame(0x77), PING),
    ],
)
def test_a_limit_may_be_used_to_its_last_and_no_further(
    limit: str, limits: Limits, within: bytes, beyond: bytes
) -> None:
    one = reader(limits)
    read(one, SETTINGS + within)
    assert failure(one, beyond) == (ErrorCode.ENHANCE_YOUR_CALM, limit)


@pytest.mark.parametrize(
    ("count", "limit", "counted"),
    [
        ("count_reset", "h2_reset_burst", "resets"),
        ("count_refusal", "h2_refused_burst", "streams_refused"),
        ("count_control", "h2_control_burst", "control_frames"),
    ],
)
def test_what_is_counted_has_a_burst_and_a_rate(count: str, limit: str, counted: str) -> None:
    bursts = Limits(h2_reset_burst=2, h2_refused_burst=2, h2_control_burst=2)
    one = reader(replace(bursts, h2_reset_rate=0.5, h2_refused_rate=0.5, h2_control_rate=0.5))
    for now, burst in ((0.0, 2), (2.0, 1), (100.0, 2)):
        one.feed(b"", now)
        for _ in range(burst):
            getattr(one, count)()
        with pytest.raises(Http2ConnectionError) as caught:
            getattr(one, count)()
        assert (caught.value.code, caught.value.limit) == (ErrorCode.ENHANCE_YOUR_CALM, limit)
    assert getattr(one.counts, counted) == 8


def test_a_reset_that_is_not_hasty_is_counted_and_free() -> None:
    one = reader(Limits(h2_reset_burst=1, h2_reset_rate=0))
    for _ in range(5):
        one.count_reset(hasty=False)
    one.count_reset()
    assert one.counts.resets == 6
    with pytest.raises(Http2ConnectionError):
        one.count_reset()


def test_small_data_costs_until_it_is_read() -> None:
    one = reader(Limits(h2_small_data=500))
    one.charge_small_data(300)
    one.charge_small_data(200)
    one.refund_small_data(300)
    one.charge_small_data(300)
    with pytest.raises(Http2ConnectionError) as caught:
        one.charge_small_data(1)
    assert caught.value.limit == "h2_small_data"


def test_window_updates_are_free_as_far_as_they_can_be_of_use() -> None:
    one = reader(Limits(h2_control_burst=3, h2_control_rate=0))
    read(one, SETTINGS + frame(Kind.WINDOW_UPDATE) * 7)
    assert (one.window_updates, one.counts.control_frames) == (0, 3)
    one.window_updates += 2  # for DATA of ours
    read(one, frame(Kind.WINDOW_UPDATE) * 2)
    assert failure(one, frame(Kind.WINDOW_UPDATE)) == (ErrorCode.ENHANCE_YOUR_CALM, "h2_control_burst")


@pytest.mark.parametrize(
    ("wire", "small", "empty"),
    [
        (data(), 1, 1),
        (data(flags=END_STREAM), 1, 0),
        (data(1), 1, 0),
        (data(255), 1, 0),
        (data(256), 0, 0),
        (frame(Kind.DATA, b"\0", flags=PADDED, stream_id=1), 1, 1),
        (frame(Kind.DATA, b"\2\0\0", flags=PADDED, stream_id=1), 1, 1),
        (frame(Kind.DATA, b"\2x\0\0", flags=PADDED, stream_id=1), 1, 0),
        (frame(Kind.DATA, b"\2\0\0", flags=PADDED | END_STREAM, stream_id=1), 1, 0),
        (frame(Kind.DATA, b"\2\0\0", stream_id=1), 1, 0),
        (frame(Kind.DATA, b"", flags=PADDED, stream_id=1), 1, 1),
    ],
)
def test_data_is_counted_as_small_or_empty_by_what_it_brings(wire: bytes, small: int, empty: int) -> None:
    one = reader()
    read(one, SETTINGS + wire)
    counts = one.counts
    assert (counts.data_frames_received, counts.small_data_frames, counts.empty_data_frames) == (1, small, empty)
