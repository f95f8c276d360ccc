"""Bytes of a peer to events: every rule with its close code, however the bytes are cut."""

from __future__ import annotations

import math
import random
import zlib

import pytest

from trio_ws import CloseInfo, Limits, MessageTooBig, RemoteProtocolError
from trio_ws._wire.deflater import Deflater
from trio_ws._wire.events import Close, Event, Ping, Pong
from trio_ws._wire.frames import Opcode, frame_bytes
from trio_ws._wire.inflater import Inflater
from trio_ws._wire.pure import MESSAGE_OVERHEAD
from trio_ws._wire.reader import MessageReader

pytestmark = pytest.mark.usefixtures("deflate_backend")

EMPTY_BLOCK = b"\x00\x00\x00\xff\xff"


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


def into(payload: bytes, count: int) -> list[bytes]:
    """Cut a payload into so many pieces of one size, the last perhaps larger."""
    size = len(payload) // count
    return [payload[index * size : (index + 1) * size if index < count - 1 else None] for index in range(count)]


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
    ("880403e8e282", 1007, "half a character at the end of a reason"),
    ("f10100", 1002, "all reserved bits"),
    ("b900", 1002, "reserved bits on a ping"),
    ("c800", 1002, "RSV1 on a close"),
    ("0a00", 1002, "a fragmented pong"),
    ("8a7f", 1002, "a pong of 64-bit length"),
    ("01008900 0200", 1002, "a message inside a message, after a ping"),
    ("81008000", 1002, "a continuation after a whole message"),
    ("820080 00", 1002, "a continuation after a whole message of bytes"),
    ("0101ff", 1007, "a bad byte in a first fragment"),
    ("010100 0001ff", 1007, "a bad byte in a later fragment"),
    ("0102e282 00017f", 1007, "a character that its next fragment breaks"),
    ("8101 80", 1007, "a continuation byte alone"),
    ("8104f8888080", 1007, "a byte that begins no character"),
]


@pytest.mark.parametrize(("data", "events"), GOOD)
def test_frames_become_events(data: str, events: list[Event]) -> None:
    assert read_any_way(bytes.fromhex(data)) == (events, None)


@pytest.mark.parametrize(("data", "code", "what"), BAD, ids=[what for _, _, what in BAD])
def test_a_breach_fails_with_its_code(data: str, code: int, what: str) -> None:
    events, failed = read_any_way(bytes.fromhex(data))
    assert failed == code
    assert all(event in (Ping(b""), "", b"") for event in events)  # what was right before it


# How many of the bytes are enough: the rest need not come.
EARLY = [
    ("830100", 2, 1002),
    ("8985", 2, 1002),
    ("0900", 2, 1002),
    ("897e0080", 2, 1002),
    ("887f0000000000000001", 2, 1002),
    ("8000", 2, 1002),
    ("827e00057878787878", 4, 1002),
    ("827f000000000000000578", 10, 1002),
    ("827fffffffffffffffff", 10, 1002),
    ("827f7fffffffffffffff", 10, 1009),
    ("827f000000000010000178", 10, 1009),
    ("0101780000" + "0000" * 64 + "80", 133, 1008),
    ("8105ff78787878", 3, 1007),
    ("8104eda08080", 5, 1007),  # Python waits for the third byte of a surrogate
    ("8104f4908080", 4, 1007),
    ("8104e0808080", 4, 1007),
    ("8104f0808080", 4, 1007),
    ("0101c3 0105", 5, 1002),
    ("0101e2 8001c3 8100", 6, 1007),
    ("880203e7", 4, 1002),
    ("880103", 3, 1002),
]


@pytest.mark.parametrize(("data", "enough", "code"), EARLY)
def test_a_breach_fails_at_the_first_byte_that_tells(data: str, enough: int, code: int) -> None:
    raw = bytes.fromhex(data)
    assert read(raw[: enough - 1])[1] is None
    assert read(raw[:enough]) == ([], code)
    assert read(raw[:enough], cut=1) == ([], code)


@pytest.mark.parametrize(("data", "enough", "code"), [("82fe0005", 4, 1002), ("82ff7fffffffffffffff", 10, 1009)])
def test_a_length_is_judged_before_the_mask_comes(data: str, enough: int, code: int) -> None:
    raw = bytes.fromhex(data)
    assert read(raw[: enough - 1], masked=True) == ([], None)
    assert read(raw, masked=True) == ([], code)


def test_which_close_codes_are_taken() -> None:
    taken = {code for code in range(5001) if read(b"\x88\x02" + code.to_bytes(2)) == ([Close(CloseInfo(code))], None)}
    refused = {code for code in range(5001) if read(b"\x88\x02" + code.to_bytes(2)) == ([], 1002)}
    assert taken == {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}
    assert refused == set(range(5001)) - taken


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125, 126, 200, 70000])
def test_masks_are_taken_off(size: int) -> None:
    payload = bytes(number % 251 for number in range(size))
    data = frame_bytes(Opcode.BINARY, payload, masked=True)
    data += frame_bytes(Opcode.PING, b"ping", masked=True)
    assert read(data, masked=True) == ([payload, Ping(b"ping")], None)
    assert read(data, masked=True, cut=1) == ([payload, Ping(b"ping")], None)
    assert read(data, masked=True, cut=7) == ([payload, Ping(b"ping")], None)


@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG])
def test_a_control_frame_may_have_125_bytes(opcode: Opcode) -> None:
    event = (Ping if opcode == Opcode.PING else Pong)(b"x" * 125)
    assert read_any_way(frame_bytes(opcode, b"x" * 125, masked=False)) == ([event], None)
    assert read_any_way(frame_bytes(opcode, b"x" * 126, masked=False)) == ([], 1002)


@pytest.mark.parametrize("frame", ["810568656c6c6f", "8900", "827e1000"])
def test_a_client_must_mask(frame: str) -> None:
    assert read_any_way(bytes.fromhex(frame), masked=True) == ([], 1002)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("place", [0, 1, 2, 999, 65_535, 65_536, 300_000, 2**20 - 2])
def test_bad_text_fails_before_its_frame_has_ended(place: int, masked: bool) -> None:
    payload = bytearray(b"\xc3\xa9" * 2**19)
    payload[place] = 0xFF
    frame = frame_bytes(Opcode.TEXT, payload, masked=masked)
    until = 10 + 4 * masked + place
    assert read(frame[:until], masked=masked, cut=65_536) == ([], None)
    assert read(frame[: until + 1], masked=masked, cut=65_536) == ([], 1007)


@pytest.mark.parametrize("flushed", [None, False, True])
@pytest.mark.parametrize("fragments", [1, 2, 1000])
@pytest.mark.parametrize("over", [0, 1])
def test_a_message_may_have_max_message_size_bytes(fragments: int, over: int, flushed: bool | None) -> None:
    """Flushed: None is not compressed, False cut after compressing, True compressed piece by piece."""
    size = 2**20 + over
    payload = random.Random(0).randbytes(size)
    deflater = Deflater(15, no_context_takeover=False, level=1, memory_level=8)
    if flushed:
        cut = into(payload, fragments)
        pieces = [deflater.compress(piece, final=index == fragments - 1) for index, piece in enumerate(cut)]
    else:
        pieces = into(payload if flushed is None else deflater.compress(payload), fragments)
    compressed = flushed is not None
    data = b"".join(
        frame_bytes(
            Opcode.CONTINUATION if index else Opcode.BINARY,
            piece,
            masked=False,
            fin=index == fragments - 1,
            rsv1=compressed and not index,
        )
        for index, piece in enumerate(pieces)
    )
    outcome = ([], 1009) if over else ([payload], None)
    assert read(data, deflate=compressed) == outcome
    assert read(data, deflate=compressed, cut=4001) == outcome


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


def test_the_compressed_size_is_that_of_all_fragments() -> None:
    limits = Limits(max_message_size=0)  # 64 KiB may come compressed
    data = frame_bytes(Opcode.BINARY, EMPTY_BLOCK * 6400, masked=False, fin=False, rsv1=True)
    rest = EMPTY_BLOCK * 6707 + b"\x00"
    assert len(EMPTY_BLOCK * 6400 + rest) == 2**16
    assert read(data + more(rest, fin=True), limits=limits, deflate=True) == ([b""], None)
    assert read(data + more(rest + b"\x00", fin=True), limits=limits, deflate=True) == ([], 1009)


def test_each_message_has_the_limits_for_itself() -> None:
    limits = Limits(max_message_size=100, max_fragments=4, max_empty_fragments=2)
    plain = text(b"", fin=False) + more(b"") + more(b"x" * 100) + more(b"", fin=True)
    deflated = frame_bytes(Opcode.BINARY, EMPTY_BLOCK * 8000 + b"\x00", masked=False, rsv1=True)
    expected = ["x" * 100, b"", "x" * 100, b"", b""]
    data = plain + deflated + plain + deflated + deflated
    assert read(data, limits=limits, deflate=True) == (expected, None)
    assert read(data, limits=limits, deflate=True, cut=1001) == (expected, None)
    assert read(data + bytes.fromhex("8265"), limits=limits, deflate=True) == (expected, 1009)
    assert read(data + bytes.fromhex("8265"), limits=limits, deflate=True, cut=1001) == (expected, 1009)


@pytest.mark.parametrize("memory_level", [1, 9])
def test_what_does_not_shrink_may_still_have_max_message_size_bytes(memory_level: int) -> None:
    payload = random.Random(5).randbytes(2**20)
    deflated = Deflater(12, no_context_takeover=True, level=6, memory_level=memory_level).compress(payload)
    assert len(deflated) > 2**20
    data = frame_bytes(Opcode.BINARY, deflated, masked=False, rsv1=True)
    assert read(data, deflate=True) == ([payload], None)


def test_the_error_on_size_names_both_numbers() -> None:
    reader = MessageReader(masked=False, limits=Limits(max_message_size=200))
    reader.feed(bytes.fromhex("0203616263 007e012c"))
    with pytest.raises(
        MessageTooBig, match=r"^message of 303 bytes or more, at most 200 are taken \(max_message_size\)$"
    ):
        reader.read_into([], 2)


@pytest.mark.parametrize(
    ("data", "events"),
    [
        ("c107f248cdc9c90700", ["Hello"]),  # §7.2.3.1
        ("4103f248cd 8004c9c90700", ["Hello"]),
        ("4103f248cd 8900 0000 8004c9c90700", [Ping(b""), "Hello"]),
        ("c107f248cdc9c90700 c105f200110000", ["Hello", "Hello"]),  # §7.2.3.2
        ("c10b000500faff48656c6c6f00", ["Hello"]),  # §7.2.3.3
        ("c108f348cdc9c9070000", ["Hello"]),  # §7.2.3.4
        ("c108f348cdc9c9070000 c108f348cdc9c9070000 c107f248cdc9c90700", ["Hello", "Hello", "Hello"]),
        ("c108f348cdc9c9070000 c105f200110000", ["Hello", "Hello"]),
        ("c10df248050000 00ffffcac9c90700", ["Hello"]),  # §7.2.3.5
        ("c10100 c10100", ["", ""]),  # §7.2.3.6
        ("c107f248cdc9c90700 810548656c6c6f c105f200110000", ["Hello", "Hello", "Hello"]),
    ],
)
def test_the_messages_of_rfc_7692_are_read(data: str, events: list[Event]) -> None:
    assert read_any_way(bytes.fromhex(data), deflate=True) == (events, None)


@pytest.mark.parametrize(
    ("data", "code", "what"),
    [
        ("0100 c00100", 1002, "RSV1 on a continuation"),
        ("4103f248cd c004c9c90700", 1002, "RSV1 on the continuation of a compressed message"),
        ("c900", 1002, "RSV1 on a ping"),
        ("ca00", 1002, "RSV1 on a pong"),
        ("c80203e8", 1002, "RSV1 on a close"),
        ("e10100", 1002, "RSV2 beside RSV1"),
        ("d10100", 1002, "RSV3 beside RSV1"),
        ("c105f200110000", 1007, "a distance into nothing"),
        ("c10106", 1007, "a block of the reserved type"),
        ("c104000500fa", 1007, "a stored block that ends early"),
        ("c10b000500feff48656c6c6f00", 1007, "a stored block whose lengths disagree"),
        ("c100 8100", None, "no block at all is an empty message"),
    ],
)
def test_a_breach_in_compression_fails_with_its_code(data: str, code: int | None, what: str) -> None:
    events, failed = read_any_way(bytes.fromhex(data), deflate=True)
    assert (events, failed) == (["", ""] if code is None else [], code)


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


def test_a_budget_bounds_the_compressed_messages_of_one_call() -> None:
    reader = MessageReader(masked=False, limits=Limits(), inflater=Inflater(15, no_context_takeover=True))
    reader.feed(text(b"\x02\x00", rsv1=True, opcode=Opcode.BINARY) * 5)  # each empty
    events: list[Event] = []
    assert reader.read_into(events, 2)
    assert events == [b""] * 2
    assert not reader.read_into(events, 4)
    assert events == [b""] * 5


def test_bytes_may_come_with_the_call_that_understands_them() -> None:
    frame = frame_bytes(Opcode.TEXT, b"one", masked=False)
    reader = MessageReader(masked=False, limits=Limits())
    events: list[Event] = []
    assert not reader.read_into(events, 256, math.inf, frame * 2)
    assert reader.read_into(events, 1, math.inf, frame * 2)
    assert (events, reader.pending) == (["one"] * 3, len(frame))
    assert not reader.read_into(events, 256, math.inf, frame[:2])
    assert (events, reader.pending) == (["one"] * 4, 0)  # the header was understood


def test_a_budget_counts_every_frame() -> None:
    reader = MessageReader(masked=False, limits=Limits())
    reader.feed(text(b"", opcode=Opcode.PING) * 3 + text(b"a", fin=False) + more(b"b") + more(b"c", fin=True))
    events: list[Event] = []
    assert reader.read_into(events, 2)
    assert events == [Ping(b"")] * 2
    assert reader.read_into(events, 3)
    assert (events, reader.unfinished) == ([Ping(b"")] * 3, 2)
    assert not reader.read_into(events, 1)
    assert events == [*[Ping(b"")] * 3, "abc"]


@pytest.mark.parametrize("size", [5, 300])
def test_room_bounds_the_messages_of_one_call(size: int) -> None:
    reader = MessageReader(masked=False, limits=Limits())
    reader.feed((text(b"a" * size) + text(b"p", opcode=Opcode.PING)) * 5)
    events: list[Event] = []
    one = size + MESSAGE_OVERHEAD
    assert reader.read_into(events, 256, one)
    assert events == ["a" * size]
    assert reader.read_into(events, 256, one + 1)
    assert events == ["a" * size, Ping(b"p"), "a" * size, Ping(b"p"), "a" * size]
    assert not reader.read_into(events, 256)
    assert len(events) == 10


def test_room_bounds_the_messages_in_fragments_of_one_call() -> None:
    reader = MessageReader(masked=False, limits=Limits())
    reader.feed((text(b"a" * 300, fin=False) + more(b"", fin=True)) * 3)
    events: list[Event] = []
    for count in (1, 2, 3):
        assert reader.read_into(events, 256, 300 + MESSAGE_OVERHEAD) == (count < 3)
        assert events == ["a" * 300] * count


def test_a_close_ends_a_call() -> None:
    reader = MessageReader(masked=False, limits=Limits())
    reader.feed(text(b"a") + bytes.fromhex("8800") + text(b"b"))
    events: list[Event] = []
    assert not reader.read_into(events, 256)
    assert events == ["a", Close(CloseInfo(1005))]


def test_what_is_held_of_a_message_is_told() -> None:
    reader = MessageReader(masked=False, limits=Limits())
    reader.feed(bytes.fromhex("827e1000") + b"x" * 100)
    reader.read_into([], 1)
    assert (reader.unfinished, reader.pending) == (100, 0)
