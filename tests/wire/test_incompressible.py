"""What is not compressed because it would not become smaller, and that this leaves the windows right."""

from __future__ import annotations

import base64
import random
import struct

import pytest

from trio_ws import Compression, Limits
from trio_ws._wire.deflate import DeflateParameters, PerMessageDeflate
from trio_ws._wire.deflater import STEP, Deflater, looks_random
from trio_ws._wire.events import Event
from trio_ws._wire.inflater import Inflater
from trio_ws._wire.prepared import PreparedMessage
from trio_ws._wire.protocol import Message, WebSocketProtocol

pytestmark = pytest.mark.usefixtures("deflate_backend")

DICE = random.Random(11)
RANDOM = DICE.randbytes(70_000)
# Half of what is looked at has values that were there before, so it is not tried; and no byte can be saved.
AWKWARD = bytes(range(64)) + bytes(DICE.sample([*range(64), *range(32), *range(160, 256)], k=192)) + RANDOM
TEXT = "It is a truth universally acknowledged, that a message in want of bytes must be compressed. " * 800
RECORDS = b"".join(struct.pack("<IHd", number, number % 7, number * 0.25) for number in range(5000))


def sides(**options: object) -> tuple[WebSocketProtocol, WebSocketProtocol]:
    """Make a client and a server."""
    parameters = DeflateParameters(server_max_window_bits=12, client_max_window_bits=12)
    compression = Compression(**options)  # type: ignore[arg-type]
    made = [
        WebSocketProtocol(
            is_client=is_client,
            limits=Limits(max_message_size=None),
            deflate=PerMessageDeflate(parameters, compression, is_client=is_client),
        )
        for is_client in (True, False)
    ]
    return made[0], made[1]


def received(side: WebSocketProtocol, data: bytes) -> list[Event]:
    """Have a side read."""
    events: list[Event] = []
    while side.read_events(events, 256, data=data):
        data = b""
    assert side.failure is None
    return events


def is_compressed(frame: bytes) -> bool:
    return bool(frame[0] & 0x40)


@pytest.mark.parametrize(
    ("message", "compressed"),
    [
        (RANDOM[:1024], False),
        (RANDOM[:16384], False),
        (RANDOM, False),
        (bytearray(RANDOM[:5000]), False),
        (memoryview(RANDOM)[:5000], False),
        (AWKWARD[:20_000], False),  # found out by compressing all of it
        (bytes(2000), True),
        (RECORDS, True),
        (TEXT, True),
        (TEXT.encode(), True),
        (base64.b64encode(RANDOM), True),
        (base64.b64encode(RANDOM).decode(), True),
        ("".join(map(chr, DICE.choices(range(0x10000, 0x20000), k=2000))), True),
    ],
)
def test_what_does_not_become_smaller_goes_as_it_is(message: Message, compressed: bool) -> None:
    client, server = sides()
    for sender, receiver in ((client, server), (server, client)):
        for _ in range(2):
            frame = sender.encode_message(message)
            assert is_compressed(frame) is compressed
            size = len(message.encode()) if isinstance(message, str) else len(message)
            assert len(frame) <= size + 14
            assert received(receiver, frame) == [message if isinstance(message, str) else bytes(message)]


@pytest.mark.parametrize("takeover", [True, False])
def test_the_windows_stay_right_around_what_was_not_compressed(takeover: bool) -> None:
    client, server = sides(server_no_context_takeover=not takeover)
    texts = [TEXT[start : start + 3000] for start in range(0, 30_000, 3000)]
    for index, text in enumerate(texts):
        assert received(client, server.encode_message(text)) == [text]
        piece = AWKWARD[:20_000] if index % 2 else RANDOM[index * 2000 :][:2000]
        assert received(client, server.encode_message(piece)) == [piece]
        assert received(client, server.encode_message(text)) == [text]


def test_a_message_that_was_not_sent_compressed_is_not_referred_to() -> None:
    _, server = sides()
    server.encode_message(TEXT[:2000])
    first = server.encode_message(TEXT[:2000])
    assert len(first) < 60
    assert not is_compressed(server.encode_message(AWKWARD[:20_000]))
    assert len(server.encode_message(TEXT[:2000])) <= len(first) + 40  # what went before still is


@pytest.mark.parametrize("message", [RANDOM[:5000], RANDOM[:10], b"", "\u20ac"])
def test_a_caller_can_have_it_compressed_all_the_same(message: Message) -> None:
    client, server = sides()
    frame = server.encode_message(message, compress=True)
    assert is_compressed(frame)
    assert received(client, frame) == [message]


def test_short_messages_are_what_later_ones_refer_to() -> None:
    client, server = sides(threshold=0)
    sizes = []
    for number in range(40):
        text = f'{{"side": "buy", "price": {number * 37 % 1000}}}'
        frame = server.encode_message(text)
        assert is_compressed(frame)
        assert received(client, frame) == [text]
        sizes.append(len(frame))
    assert sizes[-1] < sizes[0] / 2


@pytest.mark.parametrize("size", [100, 300, 1000])
def test_short_random_messages_go_as_they_are(size: int) -> None:
    client, server = sides(threshold=0)
    for start in range(0, 10 * size, size):
        frame = server.encode_message(RANDOM[start : start + size])
        assert not is_compressed(frame)
        assert received(client, frame) == [RANDOM[start : start + size]]


@pytest.mark.parametrize(
    ("size", "compress", "wanted"),
    [
        (99, None, False),
        (100, None, True),
        (99, True, True),
        (100, True, True),
        (99, False, False),
        (100, False, False),
    ],
)
def test_messages_from_the_threshold_on_are_compressed_unless_somebody_says(
    size: int, compress: bool | None, wanted: bool
) -> None:
    deflate = PerMessageDeflate(DeflateParameters(), Compression(threshold=100), is_client=False)
    assert deflate.is_wanted(bytes(size), compress) is wanted
    assert deflate.is_worth_while(bytes(size), compress, False) is wanted


def test_a_broadcast_of_what_does_not_become_smaller_goes_as_it_is() -> None:
    client, server = sides()
    for _ in range(2):
        assert received(client, server.encode_message(TEXT[:3000])) == [TEXT[:3000]]
        prepared = PreparedMessage(RANDOM[:3000])
        frame = server.encode_prepared(prepared)
        assert not is_compressed(frame)
        assert received(client, frame) == [RANDOM[:3000]]
        forced = server.encode_prepared(prepared, compress=True)
        assert is_compressed(forced)
        assert received(client, forced) == [RANDOM[:3000]]
        assert is_compressed(server.encode_prepared(PreparedMessage(TEXT)))


@pytest.mark.parametrize(
    ("data", "random_like"),
    [
        (b"", False),
        (b"a", False),
        (AWKWARD, False),
        (RANDOM[:30], False),
        (RANDOM[:100], True),
        (RANDOM, True),
        (TEXT.encode(), False),
        (base64.b64encode(RANDOM), False),
        (bytes(range(256)), True),  # then it is tried
        (bytes(1000), False),
    ],
)
def test_a_look_tells_what_is_worth_a_trial(data: bytes, random_like: bool) -> None:
    assert looks_random(data) is random_like
    assert looks_random(memoryview(data)) is random_like


# ---- in steps ----


@pytest.mark.parametrize("takeover", [True, False])
@pytest.mark.parametrize(
    "message", [TEXT * 3, TEXT.encode() * 3, "\u20ac\U0001f600x" * 40_000, bytes(300_000), "a", b"a", "x" * STEP]
)
def test_a_message_in_steps_is_read_as_any_other(message: str | bytes, takeover: bool) -> None:
    client, server = sides(server_no_context_takeover=not takeover)
    for _ in range(2):
        assert received(client, server.encode_message(TEXT[:2000])) == [TEXT[:2000]]
        compression = server.compress_in_steps(message, True)
        assert compression is not None
        steps = 1
        while compression.advance():
            steps += 1
        assert steps == max(1, -(-len(message) // (STEP if isinstance(message, str) else 2 * STEP)))
        frame = server.encode_in_steps(message, compression)
        wire = frame if isinstance(frame, bytes) else frame.head + frame.payload
        assert is_compressed(wire)
        assert received(client, wire) == [message]


def test_a_long_message_that_does_not_become_smaller_goes_as_it_is() -> None:
    client, server = sides()
    awkward = AWKWARD + RANDOM[::-1]
    assert received(client, server.encode_message(TEXT[:2000])) == [TEXT[:2000]]
    compression = server.compress_in_steps(awkward, None)
    assert compression is not None
    while compression.advance():
        pass
    frame = server.encode_in_steps(awkward, compression)
    assert not isinstance(frame, bytes)
    assert not is_compressed(frame.head)
    assert received(client, frame.head + frame.payload) == [awkward]
    assert received(client, server.encode_message(TEXT[:2000])) == [TEXT[:2000]]


@pytest.mark.parametrize("compress", [None, False])
def test_what_is_not_to_be_compressed_is_not_compressed_in_steps(compress: bool | None) -> None:
    _, server = sides()
    assert server.compress_in_steps(RANDOM if compress is None else TEXT, compress) is None


def test_a_message_that_was_given_up_leaves_no_trace() -> None:
    client, server = sides()
    assert received(client, server.encode_message(TEXT[:2000])) == [TEXT[:2000]]
    compression = server.compress_in_steps("z" * 200_000, None)
    assert compression is not None
    assert compression.advance()
    between = server.encode_prepared(PreparedMessage(TEXT[:3000]))
    assert not is_compressed(between)  # it would be in the window that the message refers to
    assert received(client, between) == [TEXT[:3000]]
    compression.close()
    assert received(client, server.encode_message(TEXT[:2000])) == [TEXT[:2000]]
    assert is_compressed(server.encode_prepared(PreparedMessage(TEXT[:3000])))


def test_a_lone_surrogate_is_found_in_its_step() -> None:
    _, server = sides()
    compression = server.compress_in_steps("a" * STEP + "\ud800" * 2, None)
    assert compression is not None
    assert compression.advance()
    with pytest.raises(UnicodeEncodeError):
        compression.advance()


def test_steps_know_what_they_were_asked_for() -> None:
    deflater = Deflater(12, no_context_takeover=True, level=2, memory_level=5)
    compression = deflater.compress_in_steps(RANDOM, always=True)
    while compression.advance():
        pass
    assert compression.finish() is not None


# ---- what one message refers to of another ----


def in_steps(deflater: Deflater, data: bytes) -> bytes | None:
    compression = deflater.compress_in_steps(data, always=False)
    assert deflater.in_steps
    while compression.advance():
        pass
    payload = compression.finish()
    assert not deflater.in_steps
    return payload


WAYS = {"at once": Deflater.compress, "if smaller": Deflater.compress_if_smaller, "in steps": in_steps}
TOKENS = [base64.b64encode(DICE.randbytes(1200)) for _ in range(2)]  # 1600 bytes that become 1200


@pytest.mark.parametrize("stream_is_closed", [False, True])
@pytest.mark.parametrize("second", WAYS)
@pytest.mark.parametrize("first", WAYS)
def test_a_message_refers_to_those_before_it_however_they_were_compressed(
    first: str, second: str, stream_is_closed: bool
) -> None:
    sender = Deflater(12, no_context_takeover=False, level=2, memory_level=5)
    receiver = Inflater(12, no_context_takeover=False)
    for way, message, short in ((first, 0, False), (first, 1, False), (second, 0, True), (second, 1, True)):
        payload = WAYS[way](sender, TOKENS[message])
        assert payload is not None
        assert (len(payload) < 60) is short
        assert receiver.inflate(payload, final=True, max_size=None) == TOKENS[message]
        if stream_is_closed:
            sender.close_stream()


@pytest.mark.parametrize("second", WAYS)
@pytest.mark.parametrize("first", WAYS)
def test_without_context_takeover_a_message_refers_to_none_however_it_is_compressed(first: str, second: str) -> None:
    sender = Deflater(12, no_context_takeover=True, level=2, memory_level=5)
    for way in (first, second):
        payload = WAYS[way](sender, TOKENS[0])
        assert payload is not None
        alone = Inflater(12, no_context_takeover=True)
        assert alone.inflate(payload, final=True, max_size=None) == TOKENS[0]
    assert sender.window == b""
