"""permessage-deflate: the RFC's own vectors, hostile headers and data, and two other implementations as oracles."""

from __future__ import annotations

import itertools
import random
import re
import tracemalloc
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.exceptions import NegotiationError
from websockets.extensions import permessage_deflate as websockets_deflate
from websockets.frames import Frame, Opcode
from wsproto.extensions import PerMessageDeflate as WsprotoDeflate
from wsproto.frame_protocol import CloseReason, FrameProtocol, RsvBits
from wsproto.frame_protocol import Opcode as WsprotoOpcode

from trio_ws._exceptions import MessageTooBig, RemoteProtocolError
from trio_ws._options import Compression
from trio_ws._wire.deflate import (
    DeflateParameters,
    ExtensionList,
    PerMessageDeflate,
    accept_offer,
    check_answer,
    offer,
)
from trio_ws._wire.deflate_backends import BACKENDS, ZLIB, Compressor, Decompressor
from trio_ws._wire.deflater import Deflater
from trio_ws._wire.inflater import Inflater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

pytestmark = pytest.mark.usefixtures("deflate_backend")

NAME = "permessage-deflate"
PLAIN = f"{NAME}; client_max_window_bits"
LARGEST = Compression(server_max_window_bits=15, client_max_window_bits=15)
HELLO = bytes.fromhex("f248cdc9c90700")
FINAL_HELLO = bytes.fromhex("f348cdc9c90700")  # RFC 7692 §7.2.3.4, without the block that should follow
EMPTY_FINAL_BLOCK = b"\x03\x00"
FLUSH_END = b"\x00\x00\xff\xff"

compressions = st.builds(
    Compression,
    level=st.integers(1, 9),
    memory_level=st.integers(1, 9),
    server_max_window_bits=st.integers(9, 15),
    client_max_window_bits=st.integers(9, 15),
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
)
# Words that come again make the window matter; random bytes make blocks that are stored.
words = st.sampled_from([b"", b"Hello", b"spam" * 300, b"\x00" * 70_000, random.Random(7).randbytes(5_000)])
messages = st.lists(st.lists(words | st.binary(max_size=40), min_size=1, max_size=4), min_size=1, max_size=4)


def parse(value: str) -> ExtensionList:
    """Read a Sec-WebSocket-Extensions value that has no quoted strings."""
    extensions: ExtensionList = []
    for extension in value.split(","):
        name, *parameters = extension.split(";")
        pairs = [parameter.strip().partition("=") for parameter in parameters]
        extensions.append((name.strip(), [(key, text if equals else None) for key, equals, text in pairs]))
    return extensions


def deflater(window_bits: int = 15, *, no_context_takeover: bool = False) -> Deflater:
    return Deflater(window_bits, no_context_takeover=no_context_takeover, level=6, memory_level=8)


def inflater(window_bits: int = 15, *, no_context_takeover: bool = False) -> Inflater:
    return Inflater(window_bits, no_context_takeover=no_context_takeover)


def whole(stream: Inflater, data: bytes) -> bytes:
    return stream.inflate(data, final=True, max_size=None)


def cut(data: bytes, size: int) -> Iterator[tuple[bytes, bool]]:
    """Cut a message into pieces of a size; with each, whether it is the last."""
    for start in range(0, max(len(data), 1), size):
        yield data[start : start + size], start + size >= len(data)


class FinishingPeer:
    """A sender without sync flush, as RFC 7692 §7.2.3.4 has it, that refers to earlier messages all the same."""

    def __init__(self, window_bits: int) -> None:
        self.window_bits = window_bits
        self.sent = b""

    def message(self, parts: Sequence[bytes]) -> bytes:
        blocks = b""
        for part in parts:
            stream = zlib.compressobj(9, wbits=-self.window_bits, zdict=self.sent[-(1 << self.window_bits) :])
            blocks += stream.compress(part) + stream.flush()
            self.sent += part
        return blocks + b"\x00"


# ---- the client's offer ----


@pytest.mark.parametrize(
    ("compression", "value"),
    [
        (LARGEST, PLAIN),
        (Compression(), f"{NAME}; server_max_window_bits=13; client_max_window_bits=13, {PLAIN}"),
        (
            Compression(server_max_window_bits=15, client_max_window_bits=9),
            f"{NAME}; client_max_window_bits=9, {PLAIN}",
        ),
        (
            Compression(
                server_max_window_bits=15,
                client_max_window_bits=15,
                server_no_context_takeover=True,
                client_no_context_takeover=True,
            ),
            f"{NAME}; client_max_window_bits; server_no_context_takeover; client_no_context_takeover, {PLAIN}",
        ),
    ],
)
def test_a_client_offers_what_it_wants_and_then_what_browsers_offer(compression: Compression, value: str) -> None:
    assert offer(compression) == value


# ---- the server's choice ----


@pytest.mark.parametrize(
    ("offers", "compression", "agreed", "value"),
    [
        # What Firefox and Chrome offer.
        (NAME, LARGEST, DeflateParameters(), NAME),
        (PLAIN, LARGEST, DeflateParameters(), NAME),
        (NAME, Compression(), DeflateParameters(server_max_window_bits=13), f"{NAME}; server_max_window_bits=13"),
        (
            PLAIN,
            Compression(),
            DeflateParameters(server_max_window_bits=13, client_max_window_bits=13),
            f"{NAME}; server_max_window_bits=13; client_max_window_bits=13",
        ),
        # The smaller window wins, whoever names it.
        (
            f"{NAME}; server_max_window_bits=10; client_max_window_bits=11",
            Compression(),
            DeflateParameters(server_max_window_bits=10, client_max_window_bits=11),
            f"{NAME}; server_max_window_bits=10; client_max_window_bits=11",
        ),
        # zlib inflates a window of 8 bits.
        (
            f"{NAME}; client_max_window_bits=8",
            LARGEST,
            DeflateParameters(client_max_window_bits=8),
            f"{NAME}; client_max_window_bits=8",
        ),
        # The server's window is answered because it was asked for.
        (
            f"{NAME}; server_max_window_bits=15",
            LARGEST,
            DeflateParameters(server_max_window_bits=15),
            f"{NAME}; server_max_window_bits=15",
        ),
        (
            f"{NAME}; server_no_context_takeover; client_no_context_takeover",
            LARGEST,
            DeflateParameters(server_no_context_takeover=True, client_no_context_takeover=True),
            f"{NAME}; server_no_context_takeover; client_no_context_takeover",
        ),
        (
            NAME,
            Compression(server_max_window_bits=15, server_no_context_takeover=True, client_no_context_takeover=True),
            DeflateParameters(server_no_context_takeover=True, client_no_context_takeover=True),
            f"{NAME}; server_no_context_takeover; client_no_context_takeover",
        ),
        # The first that can be taken.
        (f"x-webkit-deflate-frame, {NAME}; what, {NAME}", LARGEST, DeflateParameters(), NAME),
        (
            f"{NAME}; server_max_window_bits=8, {NAME}; server_max_window_bits=9",
            LARGEST,
            DeflateParameters(server_max_window_bits=9),
            f"{NAME}; server_max_window_bits=9",
        ),
        # zlib cannot keep to so small a window, but the client may still compress.
        (
            f"{NAME}; server_max_window_bits=8; client_max_window_bits, {NAME}; server_max_window_bits=8",
            LARGEST,
            DeflateParameters(server_max_window_bits=8),
            f"{NAME}; server_max_window_bits=8",
        ),
        (
            f"{NAME}; server_max_window_bits=8; client_max_window_bits=10, {NAME}; server_max_window_bits=8",
            LARGEST,
            DeflateParameters(server_max_window_bits=8, client_max_window_bits=10),
            f"{NAME}; server_max_window_bits=8; client_max_window_bits=10",
        ),
    ],
)
def test_a_server_takes_the_first_offer_that_it_can(
    offers: str, compression: Compression, agreed: DeflateParameters, value: str
) -> None:
    assert accept_offer(parse(offers), compression) == (agreed, value)


BAD_IN_ANY_HEADER = [
    "server_no_context_takeover; server_no_context_takeover",
    "client_no_context_takeover; client_no_context_takeover",
    "server_max_window_bits=10; server_max_window_bits=10",
    "client_max_window_bits=10; client_max_window_bits=11",
    "server_no_context_takeover=1",
    "client_no_context_takeover=",
    "client_no_context_takeover=true",
    "server_max_window_bits",
    "server_max_window_bits=",
    "server_max_window_bits=7",
    "server_max_window_bits=16",
    "server_max_window_bits=010",
    "server_max_window_bits=+10",
    "server_max_window_bits=-10",
    "server_max_window_bits=1e1",
    "server_max_window_bits=1_0",
    "server_max_window_bits= 10",
    "server_max_window_bits=\u0661\u0662",
    "server_max_window_bits=" + "9" * 5000,
    "client_max_window_bits=",
    "client_max_window_bits=0",
    "client_max_window_bits=16",
    "client_max_window_bits=08",
    "client_max_window_bits=ten",
    "Server_max_window_bits=10",
    "mode=client",
    "",
]


@pytest.mark.parametrize("parameters", [*BAD_IN_ANY_HEADER, "client_max_window_bits; client_max_window_bits"])
def test_a_server_declines_an_offer_that_breaks_a_rule(parameters: str) -> None:
    assert accept_offer(parse(f"{NAME}; {parameters}"), LARGEST) is None


@pytest.mark.parametrize("offers", ["x-webkit-deflate-frame", "Permessage-Deflate", "permessage-bzip2; foo=1"])
def test_a_server_declines_what_it_does_not_know(offers: str) -> None:
    assert accept_offer(parse(offers), LARGEST) is None


def test_a_server_has_nothing_to_choose_without_offers() -> None:
    assert accept_offer([], LARGEST) is None


# ---- the client's check of the answer ----


@pytest.mark.parametrize(
    ("answer", "compression", "agreed"),
    [
        (NAME, LARGEST, DeflateParameters()),
        (
            f"{NAME}; server_max_window_bits=8; client_max_window_bits=9",
            LARGEST,
            DeflateParameters(server_max_window_bits=8, client_max_window_bits=9),
        ),
        (f"{NAME}; client_max_window_bits=8", Compression(), DeflateParameters(client_max_window_bits=8)),
        # What gorilla answers, whatever it was asked.
        (
            f"{NAME}; server_no_context_takeover; client_no_context_takeover",
            Compression(),
            DeflateParameters(
                server_no_context_takeover=True, client_no_context_takeover=True, client_max_window_bits=13
            ),
        ),
        # Our own window is the smaller of what we and the server want.
        (f"{NAME}; client_max_window_bits=15", Compression(), DeflateParameters(client_max_window_bits=13)),
        (f"{NAME}; client_max_window_bits=10", Compression(), DeflateParameters(client_max_window_bits=10)),
        # Answers to the fallback: what we wish of the server is not in them.
        (NAME, Compression(server_no_context_takeover=True), DeflateParameters(client_max_window_bits=13)),
        (
            f"{NAME}; server_max_window_bits=14",
            Compression(),
            DeflateParameters(server_max_window_bits=14, client_max_window_bits=13),
        ),
        # What we promised of ourselves holds without the server's word.
        (
            NAME,
            Compression(client_max_window_bits=15, client_no_context_takeover=True),
            DeflateParameters(client_no_context_takeover=True),
        ),
    ],
)
def test_a_client_takes_what_the_server_chose(answer: str, compression: Compression, agreed: DeflateParameters) -> None:
    assert check_answer(parse(answer), compression) == agreed


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        *((parameters, "twice|is not one of RFC 7692") for parameters in BAD_IN_ANY_HEADER),
        ("client_max_window_bits", "'client_max_window_bits' with value None is not one of RFC 7692"),
    ],
)
def test_a_client_refuses_an_answer_that_breaks_a_rule(parameters: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        check_answer(parse(f"{NAME}; {parameters}"), Compression())
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("answer", [f"{NAME}, {NAME}", f"{NAME}, x-other", "x-other", "Permessage-Deflate"])
def test_a_client_refuses_any_other_extension(answer: str) -> None:
    with pytest.raises(
        ValueError, match=r"^the server must answer with permessage-deflate once and no other extension$"
    ):
        check_answer(parse(answer), Compression())


def test_a_client_refuses_an_empty_answer() -> None:
    with pytest.raises(ValueError, match=r"once and no other extension$"):
        check_answer([], Compression())


@given(client=compressions, server=compressions)
def test_both_sides_agree_on_the_same(client: Compression, server: Compression) -> None:
    accepted = accept_offer(parse(offer(client)), server)
    assert accepted is not None
    agreed, value = accepted
    assert check_answer(parse(value), client) == agreed
    assert agreed == DeflateParameters(
        server_no_context_takeover=client.server_no_context_takeover or server.server_no_context_takeover,
        client_no_context_takeover=client.client_no_context_takeover or server.client_no_context_takeover,
        server_max_window_bits=min(client.server_max_window_bits, server.server_max_window_bits),
        client_max_window_bits=min(client.client_max_window_bits, server.client_max_window_bits),
    )


# ---- the vectors of RFC 7692 §7.2.3 ----


def test_one_block_is_made_and_read_as_in_the_rfc() -> None:  # §7.2.3.1
    assert deflater().compress(b"Hello") == HELLO
    assert whole(inflater(), HELLO) == b"Hello"


def test_a_message_in_two_frames_is_read_as_in_the_rfc() -> None:  # §7.2.3.1
    stream = inflater()
    start = stream.inflate(HELLO[:3], final=False, max_size=5)
    assert start + stream.inflate(HELLO[3:], final=True, max_size=5 - len(start)) == b"Hello"


def test_the_window_is_shared_as_in_the_rfc(deflate_backend: str) -> None:  # §7.2.3.2
    sender, receiver = deflater(), inflater()
    if deflate_backend == "zlib":  # isal writes five bytes as they are
        assert [sender.compress(b"Hello") for _ in range(2)] == [HELLO, bytes.fromhex("f200110000")]
    assert [whole(receiver, HELLO), whole(receiver, bytes.fromhex("f200110000"))] == [b"Hello", b"Hello"]


def test_the_window_is_not_shared_without_context_takeover() -> None:  # §7.2.3.2
    sender, receiver = deflater(no_context_takeover=True), inflater(no_context_takeover=True)
    assert [sender.compress(b"Hello") for _ in range(2)] == [HELLO, HELLO]
    assert whole(receiver, HELLO) == b"Hello"
    with pytest.raises(RemoteProtocolError) as caught:
        whole(receiver, bytes.fromhex("f200110000"))
    assert caught.value.close_code == 1007


def test_a_stored_block_is_read_as_in_the_rfc() -> None:  # §7.2.3.3
    assert whole(inflater(), bytes.fromhex("000500faff48656c6c6f00")) == b"Hello"


@pytest.mark.parametrize("no_context_takeover", [True, False])
def test_a_final_block_is_read_as_in_the_rfc(no_context_takeover: bool) -> None:  # §7.2.3.4
    stream = inflater(no_context_takeover=no_context_takeover)
    assert whole(stream, bytes.fromhex("f348cdc9c9070000")) == b"Hello"
    assert whole(stream, bytes.fromhex("f348cdc9c9070000")) == b"Hello"
    assert whole(stream, HELLO) == b"Hello"


def test_two_blocks_in_a_message_are_read_as_in_the_rfc() -> None:  # §7.2.3.5
    assert whole(inflater(), bytes.fromhex("f248050000 00ffffcac9c90700")) == b"Hello"


def test_an_empty_fragment_is_made_and_read_as_in_the_rfc() -> None:  # §7.2.3.6
    sender, receiver = deflater(), inflater()
    assert sender.compress(b"") == b"\x00"
    assert [whole(receiver, b"\x00"), whole(receiver, b"\x02\x00"), whole(receiver, HELLO)] == [b"", b"", b"Hello"]


# ---- the sender's stream ----


def test_every_fragment_can_be_read_when_it_comes() -> None:
    sender, receiver = deflater(), inflater()
    payloads = [sender.compress(part, final=False) for part in (b"one ", b"", b"two ")]
    payloads.append(sender.compress(b"", final=True))
    ends = [False, False, False, True]
    assert payloads[1] == b""
    assert payloads[3] == b"\x00"
    read = [receiver.inflate(payload, final=last, max_size=None) for payload, last in zip(payloads, ends, strict=True)]
    assert read == [b"one ", b"", b"two ", b""]
    assert whole(receiver, sender.compress(b"two ")) == b"two "


def test_a_message_in_fragments_may_end_with_data() -> None:
    sender, receiver = deflater(no_context_takeover=True), inflater(no_context_takeover=True)
    for _ in range(2):
        payload = sender.compress(b"one ", final=False) + sender.compress(b"two")
        assert whole(receiver, payload) == b"one two"


def test_an_empty_last_fragment_ends_the_context() -> None:
    sender = deflater(no_context_takeover=True)
    sender.compress(b"Hello", final=False)
    sender.compress(b"")
    assert sender.compress(b"Hello") == HELLO


def test_no_stream_is_opened_before_it_is_needed(monkeypatch: pytest.MonkeyPatch, deflate_backend: str) -> None:
    backend = BACKENDS[deflate_backend]
    opened: list[int] = []

    def compressing(window_bits: int, level: int, memory_level: int, window: bytes) -> Compressor:
        opened.append(window_bits)
        return backend.open_compressor(window_bits, level, memory_level, window)

    def inflating(window_bits: int, window: bytes) -> Decompressor:
        opened.append(-window_bits)
        return backend.open_decompressor(window_bits, window)

    watched = replace(backend, open_compressor=compressing, open_decompressor=inflating)
    monkeypatch.setitem(BACKENDS, deflate_backend, watched)
    pair = PerMessageDeflate(DeflateParameters(client_max_window_bits=9), Compression(), is_client=True)
    pair.deflater.compress(b"")
    assert opened == []
    for _ in range(2):
        pair.deflater.compress(b"Hello")
        whole(pair.inflater, HELLO)
    assert opened == [9, -15]


@pytest.mark.parametrize("make", [deflater, inflater])
def test_nothing_is_kept_without_context_takeover(make: Callable[..., Deflater | Inflater]) -> None:
    stream = make(no_context_takeover=True)
    if isinstance(stream, Deflater):
        stream.compress(b"Hello")
    else:
        stream.inflate(HELLO, final=True, max_size=None)
        assert stream._history == b""
    assert stream._stream is None


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_anything_bytes_like_is_taken(kind: type[bytes] | type[bytearray] | type[memoryview]) -> None:
    assert deflater().compress(kind(b"Hello")) == HELLO
    stream = inflater()
    assert stream.inflate(kind(HELLO[:2]), final=False, max_size=None) == b"H"
    assert stream.inflate(kind(HELLO[2:]), final=True, max_size=None) == b"ello"


@pytest.mark.parametrize(
    ("is_client", "ours", "theirs"), [(True, b"client" * 2000, b"server"), (False, b"server", b"client" * 2000)]
)
def test_each_side_gets_its_half_of_the_parameters(is_client: bool, ours: bytes, theirs: bytes) -> None:
    parameters = DeflateParameters(
        server_no_context_takeover=True, server_max_window_bits=10, client_max_window_bits=11
    )
    pair = PerMessageDeflate(parameters, Compression(threshold=77), is_client=is_client)
    assert pair.threshold == 77
    client: Deflater | Inflater = pair.deflater if is_client else pair.inflater
    server: Deflater | Inflater = pair.inflater if is_client else pair.deflater
    assert (client._window_bits, client._no_context_takeover) == (11, False)
    assert (server._window_bits, server._no_context_takeover) == (10, True)
    other = PerMessageDeflate(parameters, Compression(), is_client=not is_client)
    for _ in range(2):
        assert whole(other.inflater, pair.deflater.compress(ours)) == ours
        assert whole(pair.inflater, other.deflater.compress(theirs)) == theirs


@pytest.mark.parametrize(("level", "memory_level"), [(1, 1), (1, 9), (9, 1), (9, 9)])
def test_the_levels_are_zlibs(level: int, memory_level: int) -> None:
    text = b"".join(b"%d and %d; " % (number, number * number) for number in range(3000))
    stream = zlib.compressobj(level, zlib.DEFLATED, -9, memory_level)
    payload = stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH)
    compression = Compression(level=level, memory_level=memory_level, backend="zlib")
    pair = PerMessageDeflate(DeflateParameters(server_max_window_bits=9), compression, is_client=False)
    assert pair.deflater.compress(text) == payload[:-4]


def test_a_window_of_eight_bits_is_read() -> None:
    text = random.Random(8).randbytes(240) * 3
    # zlib keeps 262 bytes of its window to itself: with 9 bits it refers back 250 bytes at most.
    payload = deflater(9).compress(text)
    assert len(payload) < 300
    stream = inflater(8)
    assert [whole(stream, payload) for _ in range(2)] == [text, text]


# ---- round trips ----


@settings(deadline=None)
@given(compression=compressions, texts=messages, is_client=st.booleans(), size=st.integers(1, 3000))
def test_what_one_side_compresses_the_other_reads(
    compression: Compression, texts: list[list[bytes]], is_client: bool, size: int
) -> None:
    accepted = accept_offer(parse(offer(compression)), compression)
    assert accepted is not None
    sender = PerMessageDeflate(accepted[0], compression, is_client=is_client).deflater
    receiver = PerMessageDeflate(accepted[0], compression, is_client=not is_client).inflater
    for parts in texts:
        last = len(parts) - 1
        payload = b"".join(sender.compress(part, final=index == last) for index, part in enumerate(parts))
        text = b"".join(receiver.inflate(piece, final=final, max_size=None) for piece, final in cut(payload, size))
        assert text == b"".join(parts)


@settings(deadline=None)
@given(window_bits=st.integers(9, 15), texts=messages, size=st.integers(1, 3000), ordinary=st.booleans())
def test_final_blocks_keep_the_window(window_bits: int, texts: list[list[bytes]], size: int, ordinary: bool) -> None:
    # What came before the first final block counts too.
    peer, receiver = FinishingPeer(window_bits), inflater(window_bits)
    if ordinary:
        peer.sent = b"spam" * 2000
        assert whole(receiver, deflater(window_bits).compress(peer.sent)) == peer.sent
    for parts in texts:
        payload = peer.message(parts)
        text = b"".join(receiver.inflate(piece, final=final, max_size=None) for piece, final in cut(payload, size))
        assert text == b"".join(parts)


def test_a_reference_reaches_over_a_final_block_and_fragments() -> None:
    past = random.Random(1).randbytes(32768)
    peer, receiver = FinishingPeer(15), inflater()
    for start in range(0, len(past), 1000):
        assert whole(receiver, peer.message([past[start : start + 1000]])) == past[start : start + 1000]
    # zlib refers back no further than 262 bytes less than the window; random bytes do not shrink otherwise.
    payload = peer.message([past[300:]])
    assert len(payload) < 1000
    assert whole(receiver, payload) == past[300:]


def test_the_window_is_kept_and_not_much_more() -> None:
    sender, receiver = deflater(9), inflater(9)
    past = b""
    for size in (100, 511, 512, 100_000, *range(200)):
        text = random.Random(size).randbytes(size)
        assert whole(receiver, sender.compress(text)) == text
        past += text
        assert len(receiver._history) <= 640
        assert receiver._history[-512:] == past[-512:]


def test_a_message_on_its_own_has_a_window_over_its_fragments() -> None:
    receiver = inflater(no_context_takeover=True)
    mark = zlib.compressobj(9, wbits=-15)
    again = zlib.compressobj(9, wbits=-15, zdict=b"Hello!")
    parts = [
        HELLO + FLUSH_END,
        mark.compress(b"!") + mark.flush(),  # a final block
        again.compress(b"Hello!") + again.flush(zlib.Z_SYNC_FLUSH)[:-4],  # a reference to both
    ]
    read = [receiver.inflate(part, final=part is parts[2], max_size=None) for part in parts]
    assert read == [b"Hello", b"!", b"Hello!"]
    assert receiver._history == b""
    with pytest.raises(RemoteProtocolError):
        whole(receiver, parts[2])


# ---- hostile data ----


def bomb(size: int) -> bytes:
    stream = zlib.compressobj(9, wbits=-15)
    pieces = [stream.compress(bytes(2**20)) for _ in range(size // 2**20)]
    return b"".join(pieces) + stream.flush(zlib.Z_SYNC_FLUSH)[:-4]


@pytest.mark.parametrize("prefix", [b"", FINAL_HELLO])
@pytest.mark.parametrize("final", [True, False])
def test_a_bomb_is_stopped_at_the_limit(final: bool, prefix: bytes) -> None:
    data = prefix + bomb(64 * 2**20)
    assert len(data) < 70_000
    stream = inflater()
    tracemalloc.start()
    try:
        text = "compressed message inflates to 1048577 bytes or more, at most 1048576 are taken (max_message_size)"
        with pytest.raises(MessageTooBig, match=f"^{re.escape(text)}$") as caught:
            stream.inflate(data, final=final, max_size=2**20)
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**20
    finally:
        tracemalloc.stop()
    assert caught.value.close_code == 1009


@pytest.mark.parametrize("final_blocks", [True, False])
@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_the_limit_is_exact(size: int, final_blocks: bool) -> None:
    parts = [b"Hello"] * 40
    text = b"".join(parts)
    payload = FinishingPeer(15).message(parts) if final_blocks else deflater().compress(text)

    def read(max_size: int) -> bytes:
        stream, read = inflater(), b""
        for piece, final in cut(payload, size):
            read += stream.inflate(piece, final=final, max_size=max_size - len(read))
        return read

    assert read(len(text)) == text
    with pytest.raises(MessageTooBig):
        read(len(text) - 1)


def test_nothing_is_allowed_but_nothing() -> None:
    assert inflater().inflate(b"\x00", final=True, max_size=0) == b""
    with pytest.raises(MessageTooBig):
        inflater().inflate(HELLO, final=True, max_size=0)


@pytest.mark.parametrize(
    "data",
    [
        "ff",  # a block of the reserved type
        "fe00",
        "0005000000",  # a stored block whose length and its complement differ
        "f200110000",  # refers to what never was
        "f348cdc9c90700ff",  # after a final block
        "01",  # a final block that only the four bytes we add complete
    ],
)
def test_corrupt_data_is_refused(data: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        whole(inflater(), bytes.fromhex(data))
    assert caught.value.close_code == 1007


@settings(deadline=None)
@given(pieces=st.lists(st.binary(max_size=60), max_size=8), takeover=st.booleans(), limit=st.integers(0, 100))
@example(pieces=[EMPTY_FINAL_BLOCK, b"", EMPTY_FINAL_BLOCK * 2], takeover=True, limit=0)
def test_any_data_gives_text_or_a_documented_error(pieces: list[bytes], takeover: bool, limit: int) -> None:
    stream = inflater(no_context_takeover=not takeover)
    try:
        for piece in pieces:
            assert len(stream.inflate(piece, final=bool(len(piece) % 3), max_size=limit)) <= limit
    except RemoteProtocolError as error:
        assert error.close_code in (1007, 1008, 1009)  # noqa: PT017 - there may be no error


@settings(deadline=None)
@given(place=st.integers(0, 400), octet=st.integers(0, 255), final_blocks=st.booleans(), data=st.data())
def test_cuts_do_not_matter_for_damaged_data(place: int, octet: int, final_blocks: bool, data: st.DataObject) -> None:
    parts = [b"Hello", bytes(range(100)), b"Hello" * 20]
    payload = bytearray(FinishingPeer(15).message(parts) if final_blocks else deflater().compress(b"".join(parts)))
    payload[place % len(payload)] = octet

    def read(size: int) -> bytes | int:
        stream, text = inflater(), b""
        try:
            for _ in range(2):
                for piece, final in cut(bytes(payload), size):
                    text += stream.inflate(piece, final=final, max_size=None)
        except RemoteProtocolError as error:
            return error.close_code or 0
        return text

    assert read(data.draw(st.integers(1, len(payload)))) == read(len(payload))


@pytest.mark.parametrize("pieces", [[FINAL_HELLO], [FINAL_HELLO, b""], [FINAL_HELLO[:4], FINAL_HELLO[4:]]])
def test_a_final_block_with_nothing_after_it_is_forgiven(pieces: list[bytes]) -> None:
    stream = inflater()
    read = [stream.inflate(piece, final=False, max_size=None) for piece in pieces[:-1]]
    read.append(stream.inflate(pieces[-1], final=True, max_size=None))
    assert b"".join(read) == b"Hello"
    assert whole(stream, bytes.fromhex("f200110000")) == b"Hello"


def test_a_compressed_message_without_a_byte_is_an_empty_one() -> None:
    stream = inflater()
    assert [whole(stream, data) for data in (b"", HELLO, b"", HELLO)] == [b"", b"Hello", b"", b"Hello"]


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_final_blocks_are_counted_the_same_however_they_are_cut(size: int) -> None:
    def read(blocks: int) -> bytes:
        payload = EMPTY_FINAL_BLOCK * blocks + tail
        return b"".join(stream.inflate(piece, final=final, max_size=999) for piece, final in cut(payload, size))

    stream = inflater()
    text = random.Random(2).randbytes(500)
    tail = deflater().compress(text)
    assert read(66) == text  # 64 are free, and two in 132 bytes
    assert read(66) == text  # each message counts on its own
    with pytest.raises(RemoteProtocolError, match=r"^message with too many final deflate blocks: over 66$") as caught:
        read(67)
    assert caught.value.close_code == 1008


class CountingStream:
    """A zlib stream that counts what it is fed: so much it may have to copy when its stream ends."""

    fed = 0

    def __init__(self, stream: zlib._Decompress) -> None:
        self._stream = stream

    def decompress(self, data: bytes, max_length: int) -> bytes:
        CountingStream.fed += len(data)
        return self._stream.decompress(data, max_length)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data


def test_many_final_blocks_take_linear_work(monkeypatch: pytest.MonkeyPatch) -> None:
    decompressobj = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", lambda *args: CountingStream(decompressobj(*args)))
    monkeypatch.setattr(CountingStream, "fed", 0)
    parts = [random.Random(number).randbytes(70) for number in range(4000)]
    payload = FinishingPeer(15).message(parts)
    assert whole(inflater(), payload) == b"".join(parts)
    assert CountingStream.fed < len(payload) + len(parts) * 4100


class NotingStream(CountingStream):
    """Notes how much is asked of it at a time, 0 for all."""

    def __init__(self, stream: zlib._Decompress, asked: list[int]) -> None:
        super().__init__(stream)
        self._asked = asked

    @property
    def unconsumed_tail(self) -> bytes:
        return self._stream.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        self._asked.append(max_length)
        return super().decompress(data, max_length)


@pytest.mark.parametrize(
    ("max_size", "held", "at_once", "asked"),
    [
        (None, 0, None, [0]),
        (None, 50, 7, [7]),
        (100, 90, None, [11]),
        (100, 100, None, [1]),
        (100, 90, 5, [5]),
        (100, 90, 9, [9]),
        (100, 90, 10, [11]),
        (100, 90, 11, [11]),
    ],
)
def test_no_more_is_inflated_than_is_asked_for_or_one_byte_over_the_limit(
    max_size: int | None, held: int, at_once: int | None, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int] = []
    decompressobj = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", lambda *args: NotingStream(decompressobj(*args), limits))
    stream = Inflater(15, no_context_takeover=False, backend=ZLIB)
    assert stream.inflate(b"", final=False, max_size=max_size, held=held, at_once=at_once) == b""
    assert limits == asked
    limits.clear()
    if at_once is None:  # from one final block to the next the limit shrinks
        stream.inflate(EMPTY_FINAL_BLOCK + b"\x4a", final=False, max_size=max_size, held=held)
        assert limits == asked * 2


def in_parts(stream: Inflater, payload: bytes, at_once: int) -> list[bytes]:
    """Inflate a message, no more at a time than is asked for."""
    parts = [stream.inflate(payload, final=True, max_size=None, at_once=at_once)]
    while stream.rest is not None:
        parts.append(stream.go_on(max_size=None, held=sum(map(len, parts)), at_once=at_once))
    return parts


@pytest.mark.parametrize("no_context_takeover", [True, False])
def test_a_message_is_over_when_its_last_part_was_inflated(no_context_takeover: bool) -> None:
    sender = deflater(no_context_takeover=no_context_takeover)
    receiver = inflater(no_context_takeover=no_context_takeover)
    for seed in (1, 2, 1):
        data = random.Random(seed).randbytes(50) * 20
        assert b"".join(in_parts(receiver, sender.compress(data), 30)) == data


def test_final_blocks_are_left_for_later_too() -> None:
    payload = FinishingPeer(15).message([b"Hello"] * 7)
    assert in_parts(inflater(), payload, 10)[:3] == [b"HelloHello"] * 3
    assert in_parts(inflater(), payload, 11)[:2] == [b"HelloHelloHello"] * 2
    assert b"".join(in_parts(inflater(), payload, 3)) == b"Hello" * 7


@pytest.mark.parametrize("blocks", [1, 2])
def test_what_was_inflated_before_counts(blocks: int) -> None:
    size = 5 * blocks
    payload = FINAL_HELLO * blocks
    assert inflater().inflate(payload, final=False, max_size=100, held=100 - size) == b"Hello" * blocks
    with pytest.raises(MessageTooBig, match="inflates to 101 bytes or more"):
        inflater().inflate(payload, final=False, max_size=100, held=101 - size)


# ---- other implementations ----


def websockets_stream(window_bits: int, *, no_context_takeover: bool) -> websockets_deflate.PerMessageDeflate:
    return websockets_deflate.PerMessageDeflate(
        remote_no_context_takeover=no_context_takeover,
        local_no_context_takeover=no_context_takeover,
        remote_max_window_bits=window_bits,
        local_max_window_bits=window_bits,
    )


def wsproto_stream(window_bits: int, *, no_context_takeover: bool) -> WsprotoDeflate:
    stream = WsprotoDeflate()
    flag = "; server_no_context_takeover; client_no_context_takeover" if no_context_takeover else ""
    stream.finalize(f"{NAME}; server_max_window_bits={window_bits}; client_max_window_bits={window_bits}{flag}")
    return stream


def wsproto_read(stream: WsprotoDeflate, payload: bytes) -> bytes:
    frames = FrameProtocol(client=False, extensions=[])
    stream.frame_inbound_header(frames, WsprotoOpcode.BINARY, RsvBits(True, False, False), len(payload))
    read = stream.frame_inbound_payload_data(frames, payload)
    end = stream.frame_inbound_complete(frames, True)
    assert not isinstance(read, CloseReason)
    assert isinstance(end, bytes)
    return read + end


BITS_AND_TAKEOVER = list(itertools.product(range(9, 16), [True, False]))


@pytest.mark.parametrize(("window_bits", "no_context_takeover"), BITS_AND_TAKEOVER)
def test_others_read_what_we_compress(window_bits: int, no_context_takeover: bool) -> None:
    for read in (websockets_read, wsproto_read_all):
        sender = deflater(window_bits, no_context_takeover=no_context_takeover)
        texts = [b"Hello", b"", b"Hello" * 10_000, random.Random(3).randbytes(70_000), b"Hello"]
        payloads = [sender.compress(text) for text in texts]
        assert read(payloads, window_bits, no_context_takeover) == texts


def websockets_read(payloads: list[bytes], window_bits: int, no_context_takeover: bool) -> list[bytes]:
    stream = websockets_stream(window_bits, no_context_takeover=no_context_takeover)
    return [bytes(stream.decode(Frame(Opcode.BINARY, payload, rsv1=True)).data) for payload in payloads]


def wsproto_read_all(payloads: list[bytes], window_bits: int, no_context_takeover: bool) -> list[bytes]:
    stream = wsproto_stream(window_bits, no_context_takeover=no_context_takeover)
    return [wsproto_read(stream, payload) for payload in payloads]


@pytest.mark.parametrize(("window_bits", "no_context_takeover"), BITS_AND_TAKEOVER)
def test_we_read_what_others_compress(window_bits: int, no_context_takeover: bool) -> None:
    texts = [b"Hello", b"", b"Hello" * 10_000, random.Random(3).randbytes(70_000), b"Hello"]
    websockets_sender = websockets_stream(window_bits, no_context_takeover=no_context_takeover)
    receiver = inflater(window_bits, no_context_takeover=no_context_takeover)
    for text in texts:
        frame = websockets_sender.encode(Frame(Opcode.BINARY, text))
        assert whole(receiver, bytes(frame.data)) == text
    wsproto_sender = wsproto_stream(window_bits, no_context_takeover=no_context_takeover)
    receiver = inflater(window_bits, no_context_takeover=no_context_takeover)
    frames = FrameProtocol(client=True, extensions=[])
    for text in texts:
        _, payload = wsproto_sender.frame_outbound(
            frames, WsprotoOpcode.BINARY, RsvBits(False, False, False), text, True
        )
        assert whole(receiver, payload) == text


def websockets_answer(value: str, server: websockets_deflate.ServerPerMessageDeflateFactory) -> ExtensionList:
    """Answer as websockets' server does: the first offer that it does not refuse."""
    for name, parameters in parse(value):
        assert name == NAME
        try:
            answer, _ = server.process_request_params(list(parameters), [])
        except NegotiationError:
            continue
        return [(NAME, list(answer))]
    raise AssertionError("every offer was refused")


@settings(deadline=None)
@given(
    compression=compressions,
    server_bits=st.none() | st.integers(9, 15),
    client_bits=st.none() | st.integers(9, 15),
    server_flag=st.booleans(),
    client_flag=st.booleans(),
)
def test_websockets_and_we_agree(
    compression: Compression, server_bits: int | None, client_bits: int | None, server_flag: bool, client_flag: bool
) -> None:
    server = websockets_deflate.ServerPerMessageDeflateFactory(server_flag, client_flag, server_bits, client_bits)
    agreed = check_answer(websockets_answer(offer(compression), server), compression)
    assert agreed.server_max_window_bits == min(compression.server_max_window_bits, server_bits or 15)
    assert agreed.client_max_window_bits == min(compression.client_max_window_bits, client_bits or 15)
    assert agreed.server_no_context_takeover == (compression.server_no_context_takeover or server_flag)
    assert agreed.client_no_context_takeover == (compression.client_no_context_takeover or client_flag)

    client = websockets_deflate.ClientPerMessageDeflateFactory(
        server_flag, client_flag, server_bits, True if client_bits is None else client_bits
    )
    accepted = accept_offer([(NAME, list(client.get_request_params()))], compression)
    assert accepted is not None
    theirs = client.process_response_params(parse(accepted[1])[0][1], [])
    assert accepted[0] == DeflateParameters(
        server_no_context_takeover=theirs.remote_no_context_takeover,
        client_no_context_takeover=theirs.local_no_context_takeover,
        server_max_window_bits=theirs.remote_max_window_bits,
        client_max_window_bits=theirs.local_max_window_bits,
    )


@given(compression=compressions, server_bits=st.integers(9, 15), client_bits=st.integers(9, 15), flag=st.booleans())
def test_wsproto_and_we_agree(compression: Compression, server_bits: int, client_bits: int, flag: bool) -> None:
    wsproto_client = WsprotoDeflate(flag, client_bits, flag, server_bits)
    accepted = accept_offer(parse(f"{NAME}; {wsproto_client.offer()}"), compression)
    assert accepted is not None
    wsproto_client.finalize(accepted[1])
    assert wsproto_client.server_max_window_bits == accepted[0].server_max_window_bits
    assert wsproto_client.client_max_window_bits == accepted[0].client_max_window_bits
    assert wsproto_client.server_no_context_takeover == accepted[0].server_no_context_takeover

    # wsproto's server takes every offer in turn, and its answer is to the last.
    wsproto_server = WsprotoDeflate()
    answers = [wsproto_server.accept(extension.strip()) for extension in offer(compression).split(",")]
    agreed = check_answer(parse(f"{NAME}; {answers[-1]}"), compression)
    assert agreed.server_max_window_bits >= wsproto_server.server_max_window_bits
    assert agreed.client_max_window_bits <= wsproto_server.client_max_window_bits
