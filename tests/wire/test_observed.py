"""Frames that are found in bytes without being understood, and the protocol that tells of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ws import Compression, Limits
from trio_ws._wire.deflate import DeflateParameters, PerMessageDeflate
from trio_ws._wire.frames import LARGE, Opcode, frame_bytes
from trio_ws._wire.observed import FIRST_BYTES, FrameInfo, FrameScanner, ObservedProtocol
from trio_ws._wire.prepared import PreparedMessage


class Listener:
    def __init__(self) -> None:
        self.frames: list[tuple[bool, FrameInfo]] = []
        self.messages: list[tuple[bool, str | bytes]] = []

    def frame(self, frame: FrameInfo, *, sent: bool) -> None:
        self.frames.append((sent, frame))

    def message(self, message: str | bytes, *, sent: bool) -> None:
        self.messages.append((sent, message))


def info(opcode: int, payload: bytes, *, masked: bool, fin: bool = True, rsv1: bool = False) -> FrameInfo:
    return FrameInfo(
        opcode=opcode,
        fin=fin,
        rsv1=rsv1,
        reserved=0,
        masked=masked,
        length=len(payload),
        first_bytes=payload[:FIRST_BYTES],
    )


FRAMES = st.lists(
    st.tuples(
        st.sampled_from(Opcode),
        st.sampled_from([0, 1, 31, 32, 33, 125, 126, 200, 65535, 65536]).map(lambda size: bytes(range(256)) * 257)
        | st.binary(max_size=300),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    max_size=5,
)


@given(FRAMES, st.lists(st.integers(1, 70000), max_size=6), st.booleans())
def test_frames_are_found_however_the_bytes_are_cut(
    frames: list[tuple[Opcode, bytes, bool, bool, bool]], cuts: list[int], bytewise: bool
) -> None:
    data = b"".join(
        frame_bytes(opcode, payload, masked=masked, fin=fin, rsv1=rsv1) for opcode, payload, masked, fin, rsv1 in frames
    )
    scanner = FrameScanner()
    found = []
    sizes = iter(cuts)
    while data:
        size = 1 if bytewise and len(data) < 2000 else next(sizes, len(data))
        found += scanner.scan(data[:size])
        data = data[size:]
    assert found == [
        info(opcode, payload, masked=masked, fin=fin, rsv1=rsv1) for opcode, payload, masked, fin, rsv1 in frames
    ]


def test_a_frame_is_told_when_its_first_bytes_have_come() -> None:
    scanner = FrameScanner()
    frame = frame_bytes(Opcode.BINARY, bytes(1000), masked=True)
    assert scanner.scan(frame[:39]) == []
    assert scanner.scan(frame[39:40]) == [info(Opcode.BINARY, bytes(1000), masked=True)]
    assert scanner.scan(frame[40:] + frame_bytes(Opcode.PING, b"?", masked=False)) == [
        info(Opcode.PING, b"?", masked=False)
    ]


@pytest.mark.parametrize("size", [125, 126, 65536])
def test_a_head_that_comes_byte_by_byte(size: int) -> None:
    frame = frame_bytes(Opcode.BINARY, bytes(size), masked=True)
    scanner = FrameScanner()
    found = [told for start in range(len(frame)) for told in scanner.scan(frame[start : start + 1])]
    assert found == [info(Opcode.BINARY, bytes(size), masked=True)]


def test_what_no_extension_means_is_told_too() -> None:
    (frame,) = FrameScanner().scan(b"\xb3\x00")
    assert (frame.opcode, frame.reserved, frame.name) == (3, 3, "0x3")
    assert info(1, b"", masked=False).name == "TEXT"


@pytest.mark.parametrize("is_client", [True, False])
def test_each_way_to_send_is_told(is_client: bool) -> None:
    listener = Listener()
    protocol = ObservedProtocol(listener, is_client=is_client, limits=Limits())
    protocol.encode_message("text")
    protocol.encode_message(memoryview(b"view"))
    assert protocol.encode_large(b"x" * LARGE, None) is not None
    protocol.encode_prepared(PreparedMessage("to all"))
    protocol.encode_prepared(PreparedMessage(b"to all"))
    protocol.encode_fragment(Opcode.TEXT, b"one", compress=False, final=False)
    protocol.encode_fragment(Opcode.CONTINUATION, b"two", compress=False, final=True)
    protocol.encode_ping(b"ping")
    protocol.encode_pong(b"pong")
    protocol.encode_close(1000, "bye")
    expected = [
        (Opcode.TEXT, b"text", True),
        (Opcode.BINARY, b"view", True),
        (Opcode.BINARY, b"x" * LARGE, True),
        (Opcode.TEXT, b"to all", True),
        (Opcode.BINARY, b"to all", True),
        (Opcode.TEXT, b"one", False),
        (Opcode.CONTINUATION, b"two", True),
        (Opcode.PING, b"ping", True),
        (Opcode.PONG, b"pong", True),
        (Opcode.CLOSE, b"\x03\xe8bye", True),
    ]
    assert listener.frames == [
        (True, info(opcode, payload, masked=is_client, fin=fin)) for opcode, payload, fin in expected
    ]
    assert listener.messages == [(True, message) for message in ("text", b"view", b"x" * LARGE, "to all", b"to all")]


def test_a_large_message_that_is_left_to_be_compressed_is_told_once() -> None:
    listener = Listener()
    deflate = PerMessageDeflate(DeflateParameters(), Compression(), is_client=True)
    protocol = ObservedProtocol(listener, is_client=True, limits=Limits(), deflate=deflate)
    assert protocol.encode_large(b"x" * LARGE, None) is None
    frame = protocol.encode_message(b"x" * LARGE)
    assert listener.messages == [(True, b"x" * LARGE)]
    ((_, told),) = listener.frames
    assert told.rsv1
    assert told.length < len(frame) < 500


def test_each_way_to_receive_is_told_once() -> None:
    listener = Listener()
    protocol = ObservedProtocol(listener, is_client=True, limits=Limits())
    whole = frame_bytes(Opcode.TEXT, b"whole", masked=False)
    assert protocol.take_whole(whole) == "whole"
    two = whole + frame_bytes(Opcode.PING, b"?", masked=False)
    assert protocol.take_whole(two) is None
    assert listener.frames == [(False, info(Opcode.TEXT, b"whole", masked=False))]
    protocol.read_events([], 256, data=two)
    assert [frame.name for _, frame in listener.frames] == ["TEXT", "TEXT", "PING"]
    assert listener.messages == [(False, "whole")] * 2


def test_the_frame_that_breaks_a_rule_is_told_and_none_after_it() -> None:
    listener = Listener()
    protocol = ObservedProtocol(listener, is_client=True, limits=Limits())
    protocol.read_events([], 256, data=b"\x83\x00")
    assert protocol.failure is not None
    protocol.read_events([], 256, data=b"\x81\x00")
    assert [frame.name for _, frame in listener.frames] == ["0x3"]
