"""Properties of reading: any frames, cut in any way, understood in calls of any size; and any bytes at all."""

from __future__ import annotations

import random
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trio_ws import CloseInfo, Limits
from trio_ws._wire.deflate import PerMessageDeflate
from trio_ws._wire.events import Close, Event, Ping, Pong
from trio_ws._wire.frames import Opcode, frame_bytes
from trio_ws._wire.protocol import WebSocketProtocol
from trio_ws._wire.reader import MessageReader

from .sequences import (
    BYTEWISE,
    STINGY,
    WHOLE,
    Outcome,
    Reader,
    Reading,
    Sent,
    closes,
    controls,
    expected,
    make_deflate,
    payloads,
    pieces,
    read,
    readings,
    sequences,
    to_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("deflate_backend")

SMALL = Limits(max_message_size=60, max_fragments=4, max_empty_fragments=1)

FIRST_BYTES = st.sampled_from([opcode | flags for opcode in (0, 1, 2, 8, 9, 10) for flags in (0x80, 0x00, 0xC0)])
LENGTHS = st.sampled_from(["00", "01", "05", "7e007e", "7e0005", "7f0000000000010000", "7f8000000000000000", "ff"])


def nearly_frames(*, masked: bool) -> st.SearchStrategy[bytes]:
    """Give bytes that often get past the first check: frames with something wrong, and whole ones between."""
    bit = 0x80 if masked else 0
    headers = st.builds(
        lambda first, length: bytes((first, int(length[:2], 16) ^ bit)) + bytes.fromhex(length[2:]),
        FIRST_BYTES,
        LENGTHS,
    )
    good = st.builds(
        lambda opcode, payload, fin, rsv1: frame_bytes(opcode, payload, masked=masked, fin=fin, rsv1=rsv1),
        st.sampled_from(Opcode),
        st.binary(max_size=20) | st.sampled_from([b"\x03\xe8", b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"\xc3", b"\xff\xff"]),
        st.booleans(),
        st.booleans(),
    )
    return st.lists(good | headers | st.binary(max_size=6), max_size=8).map(b"".join)


def read_all_ways(
    data: bytes,
    reading: Reading,
    *,
    masked: bool = False,
    limits: Limits,
    new_deflate: Callable[[], PerMessageDeflate | None],
    strict: bool = True,
) -> Outcome:
    """Read data whole, byte by byte, with the smallest bounds, and as the reading says: that must be the same.

    A compressed text may break two rules at once: what it inflates to is no UTF-8, and too much. If not strict, either
    code will do.
    """
    events, code = read(data, masked=masked, limits=limits, deflate=new_deflate())
    for other in (BYTEWISE, STINGY, reading):
        same_events, same_code = read(data, other, masked=masked, limits=limits, deflate=new_deflate())
        assert same_events == events
        assert same_code == code or (not strict and {code, same_code} <= {1007, 1008, 1009})
    return events, code


@settings(deadline=None)
@given(
    items=sequences,
    close=st.none() | closes,
    reading=readings,
    masked=st.booleans(),
    deflate=st.sampled_from([0, 9, 15]),
)
def test_events_do_not_depend_on_how_the_bytes_are_cut(
    items: list[Sent | Ping | Pong], close: Close | None, reading: Reading, masked: bool, deflate: int
) -> None:
    def new_deflate() -> PerMessageDeflate | None:
        return make_deflate(is_client=not masked, window_bits=deflate) if deflate else None

    everything: list[Sent | Ping | Pong | Close] = [*items] if close is None else [*items, close]
    deflater = make_deflate(is_client=masked, window_bits=deflate).deflater if deflate else None
    data = to_bytes(everything, masked=masked, deflater=deflater)
    outcome = read_all_ways(data, reading, masked=masked, limits=Limits(), new_deflate=new_deflate)
    assert outcome == (expected(everything), None)


def a_bomb(window_bits: int) -> bytes:
    stream = zlib.compressobj(9, wbits=-window_bits)
    return frame_bytes(
        Opcode.BINARY, stream.compress(bytes(5000)) + stream.flush(zlib.Z_SYNC_FLUSH), masked=False, rsv1=True
    )


@settings(deadline=None, max_examples=300)
@given(
    data=st.one_of(st.binary(max_size=60), nearly_frames(masked=False), nearly_frames(masked=True)),
    reading=readings,
    masked=st.booleans(),
    deflate=st.booleans(),
    limits=st.sampled_from([Limits(), SMALL]),
)
@example(data=a_bomb(15), reading=BYTEWISE, masked=False, deflate=True, limits=SMALL)
@example(data=a_bomb(15) + b"\xff", reading=BYTEWISE, masked=False, deflate=True, limits=Limits())
def test_any_bytes_give_the_same_events_and_the_same_failure(
    data: bytes, reading: Reading, masked: bool, deflate: bool, limits: Limits
) -> None:
    _, code = read_all_ways(
        data,
        reading,
        masked=masked,
        limits=limits,
        new_deflate=lambda: make_deflate(is_client=True) if deflate else None,
        strict=not deflate,
    )
    assert code in (None, 1002, 1007, 1008, 1009)


@settings(deadline=None, max_examples=300)
@given(payload=st.binary(max_size=60), start=st.binary(max_size=8), reading=readings, text=st.booleans())
def test_any_compressed_bytes_give_a_message_or_a_failure(
    payload: bytes, start: bytes, reading: Reading, text: bool
) -> None:
    stream = zlib.compressobj(wbits=-15)
    payload = stream.compress(start) + stream.flush(zlib.Z_SYNC_FLUSH) + payload  # it gets past the first byte
    data = frame_bytes(Opcode.TEXT if text else Opcode.BINARY, payload, masked=False, rsv1=True)
    events, code = read_all_ways(
        data, reading, limits=SMALL, new_deflate=lambda: make_deflate(is_client=True), strict=not text
    )
    assert (len(events), code) in {(1, None), (0, 1007), (0, 1008), (0, 1009)}


@pytest.mark.parametrize("seed", range(20))
def test_one_wrong_byte_anywhere_is_found_out_at_the_same_place_however_cut(seed: int) -> None:
    chance = random.Random(seed)
    items: list[Sent | Ping | Pong] = [
        Sent(message="\u20ac" * 50, cuts=(5, 70), compressed=bool(seed % 2), between=(Ping(b"1"),)),
        Pong(b"2"),
        Sent(message=b"spam" * 40),
    ]
    good = to_bytes(items, deflater=make_deflate(is_client=False).deflater)
    for _ in range(20):
        index = chance.randrange(len(good))
        data = good[:index] + bytes((good[index] ^ (1 << chance.randrange(8)),)) + good[index + 1 :]
        whole = read(data, deflate=make_deflate(is_client=True))
        for reading in (BYTEWISE, Reading(sizes=(chance.randrange(2, 20),), budgets=(2,))):
            assert read(data, reading, deflate=make_deflate(is_client=True)) == whole


@settings(deadline=None)
@given(items=sequences, reading=readings)
def test_what_was_understood_stays_when_the_rest_comes_later(items: list[Sent | Ping | Pong], reading: Reading) -> None:
    reader = Reader(MessageReader(masked=False, limits=Limits()), reading)
    for count, item in enumerate(items):
        assert reader.read(to_bytes([item])) == (expected(items[: count + 1]), None)
        assert (reader.reader.pending, reader.reader.unfinished) == (0, 0)


messages = st.tuples(payloads, st.sampled_from([None, True, False]))


@settings(deadline=None)
@given(
    outgoing=st.lists(messages | controls, max_size=8),
    is_client=st.booleans(),
    terms=st.none() | st.tuples(st.integers(9, 15), st.booleans()),
    reading=readings,
)
def test_any_messages_make_the_trip_through_two_protocols(
    outgoing: list[tuple[str | bytes, bool | None] | Ping | Pong],
    is_client: bool,
    terms: tuple[int, bool] | None,
    reading: Reading,
) -> None:
    def side(*, client: bool) -> WebSocketProtocol:
        deflate = None
        if terms is not None:
            deflate = make_deflate(is_client=client, window_bits=terms[0], no_context_takeover=terms[1])
        return WebSocketProtocol(is_client=client, limits=Limits(), deflate=deflate)

    sender, receiver = side(client=is_client), side(client=not is_client)
    wire = b""
    said: list[Event] = []
    for item in outgoing:
        match item:
            case Ping(payload):
                wire += sender.encode_ping(payload)
                said.append(item)
            case Pong(payload):
                wire += sender.encode_pong(payload)
                said.append(item)
            case (message, compress):
                wire += sender.encode_message(message, compress)
                said.append(message)
    wire += sender.encode_close(4000, "done")
    heard: list[Event] = []
    for piece in pieces(wire, reading.sizes):
        receiver.receive_data(piece)
        while receiver.read_events(heard, reading.budgets[0], reading.rooms[0]):
            pass
    assert heard == [*said, Close(CloseInfo(4000, "done"))]
    assert receiver.failure is None


@pytest.mark.parametrize("reading", [WHOLE, BYTEWISE])
def test_reaching_beyond_the_window_is_taken_or_1007_and_nothing_else(reading: Reading) -> None:
    # zlib looks into its own output first, and only then into its window: whether it notices depends on the cut.
    payload = random.Random(3).randbytes(600) * 2
    stream = zlib.compressobj(9, wbits=-15)
    body = (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]
    data = frame_bytes(Opcode.BINARY, body, masked=False, rsv1=True)
    outcome = read(data, reading, deflate=make_deflate(is_client=True, window_bits=9))
    assert outcome in (([payload], None), ([], 1007))
