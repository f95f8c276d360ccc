"""Bytes of a peer to events: every rule with its close code, however the bytes are cut."""

from __future__ import annotations

import random
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_ws import CloseInfo, Limits, MessageTooBig, RemoteProtocolError
from trio_ws._wire.deflate import Deflater, Inflater
from trio_ws._wire.frames import Opcode, frame_bytes
from trio_ws._wire.reader import Close, Event, MessageReader, Ping, Pong

MASK = b"\x11\x22\x33\x44"


def text(payload: bytes, *, fin: bool = True, opcode: int = Opcode.TEXT, rsv1: bool = False) -> bytes:
    return frame_bytes(opcode, payload, masked=False, fin=fin, rsv1=rsv1)


def more(payload: bytes, *, fin: bool = False) -> bytes:
    return frame_bytes(Opcode.CONTINUATION, payload, masked=False, fin=fin)


def read(
    data: bytes, *, cut: int = 0, masked: bool = False, limits: Limits | None = None, deflate: bool = False
) -> tuple[list[Event], int | None]:
    """Read data in pieces of ``cut`` bytes, 0 for whole; give the events, and the close code of a failure."""
    reader = MessageReader(
        masked=masked,
        limits=limits or Limits(),
        inflater=Inflater(15, no_context_takeover=False) if deflate else None,
    )
    events: list[Event] = []
    size = cut or max(len(data), 1)
    try:
        for start in range(0, len(data), size):
            reader.feed(data[start : start + size])
            while reader.read_into(events, 256):
                pass
            if events and isinstance(events[-1], Close):
                break  # as the protocol does: nothing counts after it
    except RemoteProtocolError as error:
        return events, error.close_code
    return events, None


def read_any_way(data: bytes, **how: object) -> tuple[list[Event], int | None]:
    """Read data whole and byte by byte, which must be the same."""
    whole = read(data, **how)  # type: ignore[arg-type]  # the keywords of read()
    assert read(data, cut=1, **how) == whole  # type: ignore[arg-type]
    assert read(data, cut=3, **how) == whole  # type: ignore[arg-type]
    return whole


GOOD = [
    ("8100", [""]),
    ("810548656c6c6f", ["Hello"]),
    ("820548656c6c6f", [b"Hello"]),
    ("0103486566 8003 6c6c6f".replace(" ", ""), ["Hefllo"]),
    ("0103486566 8900 8003 6c6c6f".replace(" ", ""), [Ping(b""), "Hefllo"]),
    ("0200 0000 8001ff".replace(" ", ""), [b"\xff"]),
    ("0100 8000".replace(" ", ""), [""]),
    ("0102c3a9 8000".replace(" ", ""), ["\u00e9"]),
    ("0101c3 8001a9".replace(" ", ""), ["\u00e9"]),
    ("890548656c6c6f", [Ping(b"Hello")]),
    ("8a0548656c6c6f", [Pong(b"Hello")]),
    ("8800", [Close(CloseInfo(1005))]),
    ("880203e8", [Close(CloseInfo(1000))]),
    ("880403e86f6b", [Close(CloseInfo(1000, "ok"))]),
    ("8800810141", [Close(CloseInfo(1005))]),
]

BAD = [
    ("830100", 1002, "a reserved data opcode"),
    ("870100", 1002, "the last reserved data opcode"),
    ("8b00", 1002, "a reserved control opcode"),
    ("8f00", 1002, "the last reserved control opcode"),
    ("c10100", 1002, "RSV1 without deflate"),
    ("a10100", 1002, "RSV2"),
    ("910100", 1002, "RSV3"),
    ("c900", 1002, "RSV1 on a ping"),
    ("810568656c6c6f"[:2] + "8561626364" + "68656c6c6f", 1002, "a mask from a server"),
    ("0900", 1002, "a fragmented ping"),
    ("0800", 1002, "a fragmented close"),
    ("897e007e", 1002, "a ping of 126 bytes"),
    ("887f", 1002, "a close of 64-bit length"),
    ("8000", 1002, "a continuation of nothing"),
    ("0000", 1002, "an open continuation of nothing"),
    ("01008100", 1002, "a message inside a message"),
    ("01000200", 1002, "a binary fragment inside a text"),
    ("827e0005", 1002, "16 bits for 5"),
    ("827e007d", 1002, "16 bits for 125"),
    ("827f0000000000000005", 1002, "64 bits for 5"),
    ("827f000000000000ffff", 1002, "64 bits for 65535"),
    ("82ff", 1002, "a masked length of 64 bits"),
    ("827fffffffffffffffff", 1002, "the highest bit of a length"),
    ("827f7fffffffffffffff", 1009, "a length of 2**63-1"),
    ("827f0000000000100001", 1009, "one byte over 1 MiB"),
    ("8101ff", 1007, "text that is not UTF-8"),
    ("8102c328", 1007, "a bad continuation byte"),
    ("8101c3", 1007, "half a character"),
    ("0101c38000", 1007, "half a character in fragments"),
    ("8103eda080", 1007, "a surrogate"),
    ("8104f4908080", 1007, "beyond Unicode"),
    ("8102c080", 1007, "an overlong NUL"),
    ("880103", 1002, "a close of one byte"),
    ("880203e7", 1002, "close code 999"),
    ("880203ec", 1002, "close code 1004"),
    ("880203ed", 1002, "close code 1005"),
    ("880203ee", 1002, "close code 1006"),
    ("880203f7", 1002, "close code 1015"),
    ("88020bb7", 1002, "close code 2999"),
    ("88021388", 1002, "close code 5000"),
    ("88020000", 1002, "close code 0"),
    ("880403e8c328", 1007, "a reason that is not UTF-8"),
]


@pytest.mark.parametrize(("data", "events"), GOOD)
def test_frames_become_events(data: str, events: list[Event]) -> None:
    assert read_any_way(bytes.fromhex(data)) == (events, None)


@pytest.mark.parametrize(("data", "code", "what"), BAD, ids=[what for _, _, what in BAD])
def test_a_breach_fails_with_its_code(data: str, code: int, what: str) -> None:
    assert read_any_way(bytes.fromhex(data)) == ([], code)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125, 126, 200, 70000])
def test_masks_are_taken_off(size: int) -> None:
    payload = bytes(number % 251 for number in range(size))
    data = frame_bytes(Opcode.BINARY, payload, masked=True)
    data += frame_bytes(Opcode.PING, b"ping", masked=True)
    assert read(data, masked=True) == ([payload, Ping(b"ping")], None)
    assert read(data, masked=True, cut=1) == ([payload, Ping(b"ping")], None)
    assert read(data, masked=True, cut=7) == ([payload, Ping(b"ping")], None)


@pytest.mark.parametrize("frame", ["810568656c6c6f", "8900", "827e1000"])
def test_a_client_must_mask(frame: str) -> None:
    assert read_any_way(bytes.fromhex(frame), masked=True) == ([], 1002)


def test_bad_text_fails_before_its_frame_has_ended() -> None:
    assert read(bytes.fromhex("817e0400") + b"a" * 10 + b"\xff") == ([], 1007)


@pytest.mark.parametrize("fragments", [1, 2, 1000])
@pytest.mark.parametrize("over", [0, 1])
def test_a_message_may_have_max_message_size_bytes(fragments: int, over: int) -> None:
    limits = Limits(max_message_size=5000)
    size = 5000 + over
    pieces = [b"x" * (size // fragments)] * (fragments - 1)
    pieces.append(b"x" * (size - sum(map(len, pieces))))
    data = b"".join(
        frame_bytes(0 if index else Opcode.BINARY, piece, masked=False, fin=index == fragments - 1)
        for index, piece in enumerate(pieces)
    )
    assert read(data, limits=limits) == (([], 1009) if over else ([b"x" * 5000], None))


def test_a_short_message_may_have_max_message_size_bytes() -> None:
    limits = Limits(max_message_size=5)
    assert read_any_way(text(b"hello"), limits=limits) == (["hello"], None)
    assert read_any_way(text(b"hello!"), limits=limits) == ([], 1009)
    assert read_any_way(text(b""), limits=Limits(max_message_size=0)) == ([""], None)
    assert read(text(b"x" * 100), limits=Limits(max_message_size=None)) == (["x" * 100], None)


def test_an_inflated_message_may_have_max_message_size_bytes() -> None:
    limits = Limits(max_message_size=5000)
    for size, expected in [(5000, ([b"\0" * 5000], None)), (5001, ([], 1009))]:
        deflated = Deflater(15, no_context_takeover=True, level=6, memory_level=8).compress(bytes(size))
        data = frame_bytes(Opcode.BINARY, deflated, masked=False, rsv1=True)
        assert read_any_way(data, limits=limits, deflate=True) == expected
    assert read(data, limits=Limits(max_message_size=None), deflate=True) == ([bytes(5001)], None)


def test_a_compressed_message_is_too_big_on_the_wire_by_its_header() -> None:
    limits = Limits(max_message_size=6400)
    most = 8 * 6400 + 2**16
    assert read(bytes.fromhex("c27f") + (most + 1).to_bytes(8, "big"), limits=limits, deflate=True) == ([], 1009)
    assert read(bytes.fromhex("c27f") + most.to_bytes(8, "big"), limits=limits, deflate=True) == ([], None)


@pytest.mark.parametrize("memory_level", [1, 9])
def test_what_does_not_shrink_may_still_have_max_message_size_bytes(memory_level: int) -> None:
    payload = random.Random(5).randbytes(2**20)
    deflated = Deflater(12, no_context_takeover=True, level=6, memory_level=memory_level).compress(payload)
    assert len(deflated) > 2**20
    data = frame_bytes(Opcode.BINARY, deflated, masked=False, rsv1=True)
    assert read(data, deflate=True) == ([payload], None)


def test_the_error_on_size_names_both_numbers() -> None:
    reader = MessageReader(masked=False, limits=Limits(max_message_size=200))
    reader.feed(bytes.fromhex("827e012c"))
    with pytest.raises(MessageTooBig, match="300 bytes or more, at most 200"):
        reader.read_into([], 1)


def test_compressed_text_is_checked() -> None:
    deflater = Deflater(15, no_context_takeover=False, level=6, memory_level=8)
    good = frame_bytes(Opcode.TEXT, deflater.compress("\u00e9\u00e8".encode()), masked=False, rsv1=True)
    bad = frame_bytes(Opcode.TEXT, deflater.compress(b"ok\xff"), masked=False, rsv1=True)
    assert read_any_way(good + bad, deflate=True) == (["\u00e9\u00e8"], 1007)


def test_a_compressed_message_in_fragments_with_a_ping_between() -> None:
    deflated = Deflater(15, no_context_takeover=True, level=6, memory_level=8).compress(b"hello" * 100)
    data = frame_bytes(Opcode.TEXT, deflated[:4], masked=False, fin=False, rsv1=True)
    data += text(b"p", opcode=Opcode.PING) + more(deflated[4:], fin=True) + text(b"plain")
    assert read_any_way(data, deflate=True) == ([Ping(b"p"), "hello" * 100, "plain"], None)
    assert read(data[:6] + more(b"x")[:0] + b"\x40\x01x", deflate=True)[1] == 1002  # RSV1 on a continuation


def test_garbage_is_no_deflate_stream() -> None:
    assert read_any_way(frame_bytes(Opcode.BINARY, b"\xff\xff\xff", masked=False, rsv1=True), deflate=True) == (
        [],
        1007,
    )


def test_final_blocks_do_not_end_the_stream() -> None:
    compressor = zlib.compressobj(wbits=-15)
    final = compressor.compress(b"Hello") + compressor.flush(zlib.Z_FINISH) + b"\0"
    frame = frame_bytes(Opcode.TEXT, final, masked=False, rsv1=True)
    assert read_any_way(frame * 3, deflate=True) == (["Hello"] * 3, None)


def test_a_message_may_have_max_fragments_frames() -> None:
    limits = Limits(max_fragments=4)
    three = text(b"a", fin=False) + more(b"b") + more(b"c")
    assert read_any_way(three + more(b"d", fin=True) + text(b"e"), limits=limits) == (["abcd", "e"], None)
    assert read_any_way(three + more(b"d") + more(b"e"), limits=limits) == ([], 1008)
    assert read(three + more(b"d") * 9000 + more(b"", fin=True), limits=Limits(max_fragments=None))[1] is None


def test_by_default_a_message_may_have_4096_frames() -> None:
    assert read(text(b"a", fin=False) + more(b"a") * 4094 + more(b"a", fin=True)) == (["a" * 4096], None)
    assert read(text(b"a", fin=False) + more(b"a") * 4096) == ([], 1008)


def test_empty_fragments_may_come_64_in_a_row() -> None:
    start = text(b"", fin=False)
    assert read_any_way(start + more(b"") * 63 + more(b"x") + more(b"") * 64 + more(b"", fin=True)) == (["x"], None)
    assert read_any_way(start + more(b"") * 64) == ([], 1008)
    assert read(start + more(b"") * 999, limits=Limits(max_empty_fragments=None)) == ([], None)


def test_a_budget_bounds_the_frames_of_one_call() -> None:
    reader = MessageReader(masked=False, limits=Limits())
    reader.feed(text(b"a") * 10)
    events: list[Event] = []
    assert reader.read_into(events, 4)
    assert (events, reader.pending) == (["a"] * 4, 18)
    reader.feed(text(b"b"))
    assert reader.read_into(events, 6)
    assert not reader.read_into(events, 2)
    assert (events, reader.pending) == (["a"] * 10 + ["b"], 0)
    assert not reader.read_into(events, 1)


def test_what_is_held_of_a_message_is_told() -> None:
    reader = MessageReader(masked=False, limits=Limits())
    reader.feed(bytes.fromhex("827e1000") + b"x" * 100)
    reader.read_into([], 1)
    assert (reader.unfinished, reader.pending) == (100, 0)


def test_a_dribbled_message_costs_no_more_than_its_size() -> None:
    size = 2**18
    head = bytes.fromhex("827f") + size.to_bytes(8, "big")
    reader = MessageReader(masked=False, limits=Limits())
    reader.feed(head)
    events: list[Event] = []
    reader.read_into(events, 1)
    tracemalloc.start()
    try:
        for _ in range(size):
            reader.feed(b"x")
            reader.read_into(events, 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert events == [b"x" * size]
    assert peak < 4 * size


FRAGMENTS = st.lists(st.text(max_size=40), min_size=1, max_size=4)
CONTROL = st.sampled_from(
    [b"", frame_bytes(Opcode.PING, b"p", masked=False), frame_bytes(Opcode.PONG, b"", masked=False)]
)


@given(messages=st.lists(st.tuples(FRAGMENTS, CONTROL), max_size=6), cuts=st.lists(st.integers(1, 30), min_size=1))
@settings(deadline=None)
def test_events_do_not_depend_on_how_the_bytes_are_cut(
    messages: list[tuple[list[str], bytes]], cuts: list[int]
) -> None:
    data = b""
    for fragments, control in messages:
        for index, fragment in enumerate(fragments):
            opcode = Opcode.CONTINUATION if index else Opcode.TEXT
            data += frame_bytes(opcode, fragment.encode(), masked=False, fin=index == len(fragments) - 1) + control
    expected = read(data)
    assert [event for event in expected[0] if isinstance(event, str)] == ["".join(parts) for parts, _ in messages]
    reader = MessageReader(masked=False, limits=Limits())
    events: list[Event] = []
    position = 0
    for number in range(len(data) + 1):
        size = cuts[number % len(cuts)]
        reader.feed(data[position : position + size])
        position += size
        while reader.read_into(events, 1 + number % 3):
            pass
    assert (events, None) == expected


@given(data=st.binary(max_size=200), masked=st.booleans(), deflate=st.booleans())
@settings(deadline=None)
def test_any_bytes_give_events_or_a_protocol_error(data: bytes, masked: bool, deflate: bool) -> None:
    read_any_way(data, masked=masked, deflate=deflate)
