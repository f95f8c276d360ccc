"""What is taken from the HTTP/2 library, and what is kept from it; no connection."""

from __future__ import annotations

import hpack
import pytest
from hyperframe.frame import ContinuationFrame, HeadersFrame, SettingsFrame

from trio_ws import Limits
from trio_ws._net.http2.frame_reader import ErrorCode, Http2ConnectionError
from trio_ws._net.http2.h2_adapter import H2Adapter, HeaderDecoder, NewSettings

from .raw_http2 import CONNECT, Fields, raw_frame

END_STREAM, END_HEADERS = 0x1, 0x4


def block(fields: Fields) -> bytes:
    return bytes(hpack.Encoder().encode(fields))


# ---- headers ----


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ([("a", "b")], True),
        ([("a", "x" * 67)], True),  # RFC 9113 §6.5.2: each counts with 32 bytes more
        ([("a", "x" * 68)], False),
        ([("a", "bb"), ("cc", "x" * 31)], True),
        ([("a", "bb"), ("cc", "x" * 32)], False),
        ([("", "")] * 3, True),
        ([("", "")] * 4, False),
    ],
)
def test_headers_may_be_as_large_as_the_limits_say(fields: Fields, taken: bool) -> None:
    decoder = HeaderDecoder(Limits(max_head_size=100, max_headers=3))
    decoder.decode(block([("first", "one")]))
    assert decoder.fields == [("first", "one")]
    decoder.decode(block(fields))
    assert decoder.fields == (fields if taken else None)


def test_headers_have_their_number_limited_too() -> None:
    decoder = HeaderDecoder(Limits(max_headers=2))
    for count, taken in ((2, True), (3, False), (1, True)):
        fields = [("a", "b")] * count
        decoder.decode(block(fields))
        assert decoder.fields == (fields if taken else None)


def test_headers_that_mean_nothing_are_decompressed_for_the_next() -> None:
    encoder = hpack.Encoder()
    data = bytes(encoder.encode([("x-long", "kept by the table"), ("other", "one")]))
    adapter = H2Adapter(Limits(), is_client=False)
    frames = HeadersFrame(1, data[:5]).serialize() + ContinuationFrame(1, data[5:], flags=["END_HEADERS"]).serialize()
    adapter.decode(frames)
    assert adapter.fields == [("x-long", "kept by the table"), ("other", "one")]
    again = bytes(encoder.encode([("x-long", "kept by the table")]))
    assert len(again) == 1
    adapter.decode(HeadersFrame(1, again, flags=["END_HEADERS"]).serialize())
    assert adapter.fields == [("x-long", "kept by the table")]


# ---- settings ----


@pytest.mark.parametrize(
    ("before", "settings", "expected"),
    [
        ({}, {4: 5}, NewSettings(window=5, takes_back_connect=False)),
        ({}, {}, NewSettings(window=None, takes_back_connect=False)),
        ({}, {8: 0}, NewSettings(window=None, takes_back_connect=False)),
        ({}, {8: 1}, NewSettings(window=None, takes_back_connect=False)),
        ({8: 1}, {8: 1, 4: 7}, NewSettings(window=7, takes_back_connect=False)),
        ({8: 1}, {4: 7}, NewSettings(window=7, takes_back_connect=False)),
        ({8: 1}, {8: 0}, NewSettings(window=None, takes_back_connect=True)),
    ],
)
def test_what_settings_change(before: dict[int, int], settings: dict[int, int], expected: NewSettings) -> None:
    adapter = H2Adapter(Limits(), is_client=True)
    adapter.receive(SettingsFrame(0, settings=before).serialize())
    assert adapter.receive(SettingsFrame(0, settings=settings).serialize()) == expected
    assert adapter.extended_connect is bool({**before, **settings}.get(8))


def test_an_answer_to_settings_changes_nothing() -> None:
    assert H2Adapter(Limits(), is_client=True).receive(raw_frame(4, flags=1)) is None


# ---- streams ----


def test_a_stream_that_both_have_ended_is_forgotten() -> None:
    adapter = H2Adapter(Limits(), is_client=False)
    adapter.receive(raw_frame(1, block(list(CONNECT.items())), flags=END_HEADERS, stream_id=1))
    adapter.send_headers(1, [(":status", "200")])
    assert adapter._h2.open_inbound_streams == 1
    adapter.receive_end(1)
    assert adapter.send_end(1) == raw_frame(0, flags=END_STREAM, stream_id=1)
    assert adapter._h2.open_inbound_streams == 0
    assert adapter.newest_of_peer == 1


@pytest.mark.parametrize("is_client", [False, True])
def test_a_stream_was_opened_if_its_number_is_no_higher_than_the_newest_of_its_side(is_client: bool) -> None:
    adapter = H2Adapter(Limits(), is_client=is_client)
    if is_client:
        adapter.send_headers(5, list(CONNECT.items()))
        assert adapter.next_stream == 7
    else:
        adapter.receive(raw_frame(1, block(list(CONNECT.items())), flags=END_HEADERS, stream_id=5))
    assert [number for number in range(9) if adapter.was_opened(number)] == [1, 3, 5]


def test_there_is_an_end_of_stream_numbers() -> None:
    adapter = H2Adapter(Limits(), is_client=True)
    adapter.send_headers(2**31 - 3, list(CONNECT.items()))
    assert adapter.next_stream == 2**31 - 1
    adapter.send_headers(2**31 - 1, list(CONNECT.items()))
    assert adapter.next_stream is None


def test_of_an_error_the_library_says_nothing_itself() -> None:
    adapter = H2Adapter(Limits(), is_client=True)
    adapter.take()
    with pytest.raises(Http2ConnectionError) as caught:
        adapter.receive(raw_frame(6, bytes(7)))
    assert caught.value.code == ErrorCode.FRAME_SIZE_ERROR
    assert adapter.take() == b""
