"""The C extension and its twin in Python: each does what it says, and both do the same."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ws._wire import pure, speedups

COMPILED = importlib.util.find_spec("trio_ws._wire._speedups") is not None
needs_extension = pytest.mark.skipif(not COMPILED, reason="no compiler when the package was built")

MASK = bytes.fromhex("37fa213d")
EDGES = (0, 1, 7, 8, 31, 32, 33, 125, 126, 127, 1023, 1024, 1025, 16383, 16384, 16385, 65535, 65536, 70000)
INF = float("inf")


@pytest.fixture(params=["pure", pytest.param("_speedups", marks=needs_extension)])
def module(request: pytest.FixtureRequest) -> ModuleType:
    """Each of the two."""
    return importlib.import_module(f"trio_ws._wire.{request.param}")


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    """The extension, to compare it with its twin."""
    return importlib.import_module("trio_ws._wire._speedups")


def by_the_book(data: bytes, mask: bytes) -> bytes:
    # RFC 6455 §5.3: octet i of the result is octet i of the data XOR octet i MOD 4 of the key.
    return bytes(octet ^ mask[index % 4] for index, octet in enumerate(data))


def take(
    module: ModuleType,
    data: bytes,
    *,
    position: int = 0,
    masked: bool = False,
    limit: int = 2**16,
    budget: int = 256,
    room: float = INF,
) -> tuple[tuple[int, int, float], list[object]]:
    """Call take_messages; give what it returned and the messages."""
    messages: list[object] = []
    return module.take_messages(data, position, 0x80 if masked else 0, limit, budget, room, messages), messages


# ---- masks ----


@pytest.mark.parametrize("size", EDGES)
def test_every_size_is_masked_by_the_book(module: ModuleType, size: int) -> None:
    data = random.Random(size).randbytes(size)
    assert module.apply_mask(data, MASK) == by_the_book(data, MASK)


@pytest.mark.parametrize("size", [0, 5, 16387])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_anything_bytes_like_is_masked_and_left_as_it_was(
    module: ModuleType, kind: type[bytes] | type[bytearray] | type[memoryview], size: int
) -> None:
    data = random.Random(size).randbytes(size)
    given_data = kind(data)
    masked = module.apply_mask(given_data, MASK)
    assert type(masked) is bytes
    assert masked == by_the_book(data, MASK)
    assert bytes(given_data) == data


# ---- frames ----


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, "8200"),
        (125, "827d"),
        (126, "827e007e"),
        (65535, "827effff"),
        (65536, "827f0000000000010000"),
        (70000, "827f0000000000011170"),
    ],
)
def test_a_length_is_written_in_the_fewest_bytes(module: ModuleType, size: int, head: str) -> None:
    payload = random.Random(size).randbytes(size)
    assert module.write_frame(0x82, payload, None) == bytes.fromhex(head) + payload
    masked_head = bytearray.fromhex(head)
    masked_head[1] |= 0x80
    assert module.write_frame(0x82, payload, MASK) == masked_head + MASK + by_the_book(payload, MASK)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_payload_of_a_frame_is_anything_bytes_like(
    module: ModuleType, kind: type[bytes] | type[bytearray] | type[memoryview]
) -> None:
    assert module.write_frame(0x01, kind(b"ab"), None) == b"\x01\x02ab"
    assert type(module.write_frame(0x01, kind(b"ab"), None)) is bytes


# ---- messages ----


@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 1024, 1025, 65535])
def test_what_is_written_is_taken(module: ModuleType, masked: bool, size: int) -> None:
    mask = MASK if masked else None
    text, binary = "é" * (size // 2) + "x" * (size % 2), random.Random(size).randbytes(size)
    data = module.write_frame(0x81, text.encode(), mask) + module.write_frame(0x82, binary, mask)
    (position, budget, room), messages = take(module, data, masked=masked)
    assert messages == [text, binary]
    assert (position, budget, room) == (len(data), 254, INF)


def test_taking_begins_at_the_position(module: ModuleType) -> None:
    data = b"\xff\xff\xff" + b"\x81\x01a"
    assert take(module, data, position=3) == ((6, 255, INF), ["a"])
    assert take(module, data, position=6) == ((6, 256, INF), [])


def test_taking_ends_with_the_budget(module: ModuleType) -> None:
    assert take(module, b"\x81\x01a" * 3, budget=2) == ((6, 0, INF), ["a", "a"])
    assert take(module, b"\x81\x01a", budget=0) == ((0, 0, INF), [])


def test_the_message_that_fills_the_room_is_the_last(module: ModuleType) -> None:
    assert take(module, b"\x81\x01a" * 3, room=66) == ((6, 254, -64), ["a", "a"])
    assert take(module, b"\x81\x01a" * 3, room=65) == ((3, 255, 0), ["a"])


def test_a_payload_must_be_shorter_than_the_limit(module: ModuleType) -> None:
    assert take(module, b"\x81\x02ab", limit=2) == ((0, 256, INF), [])
    assert take(module, b"\x81\x02ab", limit=3) == ((4, 255, INF), ["ab"])


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "82",
        "820161"[:4],
        "827e",
        "827e00",
        "827e007e" + "00" * 125,
        "827e0001" + "00",  # not in the fewest bytes
        "827e007d" + "00" * 125,
        "827f0000000000000001" + "00",
        "827fffffffffffffffff" + "00",
        "8281" + "00" * 5,  # masked
        "82ff" + "ff" * 20,
        "0201" + "00",  # a fragment
        "0001" + "00",
        "c201" + "00",  # compressed, or a reserved bit
        "8801" + "00",  # control frames
        "8900",
        "8a00",
        "8301" + "00",  # reserved
        "8101" + "ff",  # no UTF-8
        "8103" + "eda080",
    ],
)
def test_what_is_not_plain_and_whole_is_left(module: ModuleType, frame: str) -> None:
    good = b"\x82\x01a"
    assert take(module, good + bytes.fromhex(frame)) == ((3, 255, INF), [b"a"])


@pytest.mark.parametrize("cut", range(1, 8 + 126))
def test_a_masked_frame_that_is_not_all_here_is_left(module: ModuleType, cut: int) -> None:
    frame = module.write_frame(0x82, bytes(126), MASK)
    assert len(frame) == 8 + 126
    assert take(module, frame[:-cut], masked=True) == ((0, 256, INF), [])


@pytest.mark.parametrize("size", [3, 2000])
def test_a_masked_text_that_is_no_utf8_is_left(module: ModuleType, size: int) -> None:
    frame = module.write_frame(0x81, b"\xff" * size, MASK)
    assert take(module, frame, masked=True) == ((0, 256, INF), [])


def test_an_unmasked_frame_is_left_where_a_mask_must_be(module: ModuleType) -> None:
    assert take(module, b"\x82\x0a" + bytes(10), masked=True) == ((0, 256, INF), [])


@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
@pytest.mark.parametrize("message", ["", "é", "x" * 2000, b"", b"\xff" * 125, bytes(126), bytes(65535)])
def test_a_message_is_written_in_one_frame_and_taken_alone(
    module: ModuleType, masked: bool, message: str | bytes
) -> None:
    frame = module.write_message(message, MASK if masked else None)
    first, payload = (0x81, message.encode()) if isinstance(message, str) else (0x82, message)
    assert frame == module.write_frame(first, payload, MASK if masked else None)
    taken = module.take_message(frame, 0x80 if masked else 0, 2**16)
    assert (type(taken), taken) == (type(message), message)


def test_a_lone_surrogate_is_not_written(module: ModuleType) -> None:
    with pytest.raises(UnicodeEncodeError):
        module.write_message("a\ud800", None)


@pytest.mark.parametrize("data", ["", "82", "820261", "82016182", "820161820162", "8101ff", "020161", "8900"])
def test_only_what_is_one_message_and_nothing_else_is_taken_alone(module: ModuleType, data: str) -> None:
    assert module.take_message(bytes.fromhex(data), 0, 2**16) is None


def test_a_message_alone_must_be_shorter_than_the_limit_too(module: ModuleType) -> None:
    assert module.take_message(b"\x82\x02ab", 0, 2) is None
    assert module.take_message(b"\x82\x00", 0, 0) is None
    assert module.take_message(b"\x82\x02ab", 0, 3) == b"ab"


@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
@pytest.mark.parametrize("first", [0x81, 0x82])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 5000, 65535])
def test_a_compressed_message_is_taken_as_it_is(module: ModuleType, masked: bool, first: int, size: int) -> None:
    payload = random.Random(size).randbytes(size)
    frame = module.write_frame(first | 0x40, payload, MASK if masked else None)
    data = b"..." + frame + b"\xc1"
    assert module.take_deflated(data, 3, 0x80 if masked else 0) == (first, payload, 3 + len(frame))
    assert module.take_deflated(data[:-2], 3, 0x80 if masked else 0) is None
    assert module.take_deflated(data, 3, 0 if masked else 0x80) is None


@pytest.mark.parametrize(
    "data", ["", "c1", "c27e", "c27e007d" + "00" * 125, "4100", "8100", "c000", "c900", "e100", "c27f" + "00" * 30]
)
def test_what_is_no_compressed_message_is_left(module: ModuleType, data: str) -> None:
    assert module.take_deflated(bytes.fromhex(data), 0, 0) is None
    assert module.take_deflated(b"x" + bytes.fromhex(data), 1, 0) is None


# ---- both do the same ----

bytes_like = st.sampled_from([bytes, bytearray, memoryview])
masks = st.binary(min_size=4, max_size=4)
texts = st.text(max_size=200).map(str.encode)
payloads = st.one_of(st.binary(max_size=200), texts, st.integers(0, 70000).map(bytes))


@needs_extension
@given(payload=payloads, mask=masks, kind=bytes_like)
def test_both_mask_alike(
    compiled: ModuleType, payload: bytes, mask: bytes, kind: type[bytes] | type[bytearray] | type[memoryview]
) -> None:
    assert compiled.apply_mask(kind(payload), mask) == pure.apply_mask(kind(payload), mask)


@needs_extension
@given(first=st.integers(0, 255), payload=payloads, mask=st.none() | masks, kind=bytes_like)
def test_both_write_alike(
    compiled: ModuleType,
    first: int,
    payload: bytes,
    mask: bytes | None,
    kind: type[bytes] | type[bytearray] | type[memoryview],
) -> None:
    assert compiled.write_frame(first, kind(payload), mask) == pure.write_frame(first, kind(payload), mask)


frames = st.builds(
    pure.write_frame,
    st.sampled_from([0x81, 0x82, 0x81, 0x82, 0x01, 0x00, 0x80, 0x88, 0x89, 0xC1, 0xC2, 0x83]),
    st.one_of(texts, st.binary(max_size=200), st.integers(0, 3000).map(bytes)),
    st.none() | masks,
)
garbled = st.tuples(st.lists(frames, max_size=6).map(b"".join), st.binary(max_size=20), st.integers(0, 400)).map(
    lambda parts: (parts[0] + parts[1])[: max(1, len(parts[0]) + 20 - parts[2])]
)


@needs_extension
@given(
    data=st.one_of(garbled, st.binary(max_size=100)),
    start=st.integers(0, 3),
    masked=st.booleans(),
    limit=st.sampled_from([1, 50, 126, 127, 2000, 2**16]),
    budget=st.integers(0, 5),
    room=st.sampled_from([0, 1, 64, 65, 500, 10**6, INF]),
)
def test_both_take_alike(
    compiled: ModuleType, data: bytes, start: int, masked: bool, limit: int, budget: int, room: float
) -> None:
    position = min(start, len(data))
    options = (data, position, 0x80 if masked else 0, limit, budget, room)
    theirs: list[str | bytes] = []
    ours: list[str | bytes] = []
    assert compiled.take_messages(*options, theirs) == pure.take_messages(*options, ours)
    assert theirs == ours
    assert list(map(type, theirs)) == list(map(type, ours))


@needs_extension
@given(
    data=st.one_of(frames, garbled, st.binary(max_size=100)),
    masked=st.booleans(),
    limit=st.sampled_from([0, 1, 50, 126, 127, 2000, 2**16]),
)
def test_both_take_one_alike(compiled: ModuleType, data: bytes, masked: bool, limit: int) -> None:
    theirs, ours = (module.take_message(data, 0x80 if masked else 0, limit) for module in (compiled, pure))
    assert (type(theirs), theirs) == (type(ours), ours)


@needs_extension
@given(data=st.one_of(frames, garbled, st.binary(max_size=100)), masked=st.booleans(), start=st.integers(0, 2))
def test_both_take_a_compressed_one_alike(compiled: ModuleType, data: bytes, masked: bool, start: int) -> None:
    position = min(start, len(data))
    theirs, ours = (module.take_deflated(data, position, 0x80 if masked else 0) for module in (compiled, pure))
    assert theirs == ours


# ---- what only C has to check ----


@needs_extension
@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("apply_mask", (b"",), TypeError),
        ("apply_mask", (b"", b"123"), ValueError),
        ("apply_mask", (b"", b"12345"), ValueError),
        ("apply_mask", (b"", "1234"), TypeError),
        ("apply_mask", ("", b"1234"), TypeError),
        ("apply_mask", (memoryview(b"abcd")[::2], b"1234"), BufferError),
        ("write_frame", (0x82, b""), TypeError),
        ("write_frame", ("", b"", None), TypeError),
        ("write_frame", (-1, b"", None), ValueError),
        ("write_frame", (256, b"", None), ValueError),
        ("write_frame", (2**70, b"", None), OverflowError),
        ("write_frame", (0x82, "", None), TypeError),
        ("write_frame", (0x82, b"", b""), ValueError),
        ("write_message", (b"",), TypeError),
        ("write_message", (bytearray(), None), TypeError),
        ("write_message", (1, None), TypeError),
        ("write_message", (b"", b"123"), ValueError),
        ("take_message", (b"", 0), TypeError),
        ("take_message", (bytearray(), 0, 1), TypeError),
        ("take_message", (b"", None, 1), TypeError),
        ("take_message", (b"", 0, 2**70), OverflowError),
        ("take_deflated", (b"", 0), TypeError),
        ("take_deflated", (bytearray(), 0, 0), TypeError),
        ("take_deflated", (b"", 1, 0), ValueError),
        ("take_deflated", (b"", -1, 0), ValueError),
        ("take_deflated", (b"", 0, 2**70), OverflowError),
        ("weigh", (), TypeError),
        ("weigh", (1,), TypeError),
        ("new_buffer", (), TypeError),
        ("new_buffer", ("1",), TypeError),
        ("new_buffer", (2**70,), OverflowError),
        ("fill", (b"", 0, b"", 0, 0), TypeError),
        ("fill", (bytearray(), 0, b"", 0, 0, None), TypeError),
        ("fill", (b"", 0, bytearray(), 0, 0, None), TypeError),
        ("fill", (b"", None, b"x", 0, 0, None), TypeError),
        ("fill", (b"", 0, b"x", 0, 0, b"123"), ValueError),
        ("take_messages", (b"", 0, 0, 1, 1, 1.0), TypeError),
        ("take_messages", (bytearray(), 0, 0, 1, 1, 1.0, []), TypeError),
        ("take_messages", (b"", -1, 0, 1, 1, 1.0, []), ValueError),
        ("take_messages", (b"", 1, 0, 1, 1, 1.0, []), ValueError),
        ("take_messages", (b"", 0, 0, None, 1, 1.0, []), TypeError),
        ("take_messages", (b"", 0, 0, 1, 2**70, 1.0, []), OverflowError),
        ("take_messages", (b"", 0, 0, 1, 1, "1", []), TypeError),
        ("take_messages", (b"\x82\x00", 0, 0, 1, 1, 1.0, ()), SystemError),
    ],
)
def test_a_wrong_call_is_an_exception(
    compiled: ModuleType, name: str, arguments: tuple[object, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        getattr(compiled, name)(*arguments)


# ---- what a message is counted with ----


@pytest.mark.parametrize(
    ("message", "size"),
    [(b"", 0), (b"\xff" * 300, 300), ("", 0), ("x" * 300, 300), ("\xe4", 4), ("x\u20ac", 8), ("\U0001f600" * 9, 36)],
)
def test_text_is_counted_with_the_most_that_it_can_take(module: ModuleType, message: str | bytes, size: int) -> None:
    assert module.weigh(message) == size + pure.MESSAGE_OVERHEAD


# ---- messages that come in several reads ----


@pytest.mark.parametrize("masked", [False, True])
def test_a_buffer_filled_piece_by_piece_is_the_message(module: ModuleType, masked: bool) -> None:
    payload = random.Random(1).randbytes(70_000)
    data = b"head" + (by_the_book(payload, MASK) if masked else payload) + b"tail"
    buffer = module.new_buffer(len(payload))
    for start in range(0, len(payload), 700):
        stop = start + 700
        assert module.fill(buffer, start, data, 4 + start, 4 + stop, MASK if masked else None) is None
    assert bytes(buffer) == payload


@pytest.mark.parametrize("size", [-1, 0, 1])
def test_a_buffer_is_never_an_object_that_others_have(module: ModuleType, size: int) -> None:
    with pytest.raises(ValueError, match="2 or more"):
        module.new_buffer(size)


@pytest.mark.parametrize(
    ("at", "start", "stop"), [(-1, 0, 1), (0, -1, 1), (0, 2, 1), (0, 0, 9), (5, 0, 1), (4, 0, 1), (2, 0, 3), (0, 0, 5)]
)
def test_nothing_is_copied_from_or_to_beyond(module: ModuleType, at: int, start: int, stop: int) -> None:
    buffer = module.new_buffer(4)
    module.fill(buffer, 0, b"abcdefgh", 0, 4, None)
    with pytest.raises(ValueError, match="inside data"):
        module.fill(buffer, at, b"ABCDEFGH", start, stop, None)
    assert bytes(buffer) == b"abcd"


# ---- which one is used ----

ASK = """
from trio_ws._wire import speedups
print(speedups.COMPILED, speedups.apply_mask(b"Hello", bytes.fromhex("37fa213d")).hex())
"""


def ask(setting: str | None) -> list[str]:
    """Have a new process tell whether it uses the extension, and mask the RFC's hello."""
    environment = {name: value for name, value in os.environ.items() if name != "TRIO_WS_PURE_PYTHON"}
    if setting is not None:
        environment["TRIO_WS_PURE_PYTHON"] = setting
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize("setting", [None, "", "0"])
def test_the_extension_is_used_where_it_was_built(setting: str | None) -> None:
    assert ask(setting) == [str(COMPILED), "7f9f4d5158"]


def test_the_environment_can_do_without_it() -> None:
    assert ask("1") == ["False", "7f9f4d5158"]


def test_this_process_uses_what_it_should() -> None:
    wanted = COMPILED and os.environ.get("TRIO_WS_PURE_PYTHON", "") in ("", "0")
    assert speedups.COMPILED is wanted
    assert (speedups.apply_mask is pure.apply_mask) is not wanted
