"""What a peer can make a reader hold: never more than the message that it lets in."""

from __future__ import annotations

import tracemalloc
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from trio_ws import Limits, MessageTooBig
from trio_ws._wire import speedups
from trio_ws._wire.events import Event
from trio_ws._wire.frames import Opcode, frame_bytes
from trio_ws._wire.inflater import Inflater
from trio_ws._wire.reader import MessageReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("deflate_backend")

MIB = 2**20


@contextmanager
def traced() -> Iterator[Callable[[], tuple[int, int]]]:
    """Give a function that tells the bytes held more than at first, now and at most."""
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]

        def held() -> tuple[int, int]:
            current, peak = tracemalloc.get_traced_memory()
            return current - start, peak - start

        yield held
    finally:
        tracemalloc.stop()


def read_all(reader: MessageReader, data: bytes, events: list[Event]) -> None:
    reader.feed(data)
    while reader.read_into(events, 256):
        pass


@pytest.mark.parametrize("masked", [False, True])
def test_a_frame_that_comes_byte_by_byte_costs_what_it_holds(masked: bool) -> None:
    payload = b"dribble!" * (MIB // 8)
    frame = frame_bytes(Opcode.BINARY, payload, masked=masked)
    reader = MessageReader(masked=masked, limits=Limits())
    events: list[Event] = []
    start = len(frame) - MIB // 8  # byte by byte to the end, where all of it is held
    for piece in (frame[: MIB // 2], frame[MIB // 2 : start]):
        read_all(reader, piece, events)
    with traced() as held:
        for index in range(start, len(frame)):
            reader.feed(frame[index : index + 1])
            reader.read_into(events, 1)
        _, peak = held()
    assert events == [payload]
    assert peak < 3 * MIB  # the message, and the bytes it becomes


@pytest.mark.parametrize("masked", [False, True])
def test_a_header_sets_nothing_aside_for_what_has_not_come(masked: bool) -> None:
    frame = frame_bytes(Opcode.BINARY, bytes(64 * MIB), masked=masked)
    reader = MessageReader(masked=masked, limits=Limits(max_message_size=None))
    with traced() as held:
        for start in range(0, MIB, MIB // 4):
            read_all(reader, frame[start : start + MIB // 4], [])
        _, peak = held()
        assert peak < 3 * MIB
        assert reader.unfinished > MIB - 20
        read_all(reader, frame[MIB : 3 * MIB], [])  # from now on its place is made
        current, peak = held()
    assert 64 * MIB < current < 65 * MIB
    assert peak < 72 * MIB  # the read, and in Python its copy without the mask
    assert reader.unfinished > 3 * MIB - 20


def test_a_large_message_takes_the_place_of_itself_and_no_more() -> None:
    frame = frame_bytes(Opcode.BINARY, bytes(MIB), masked=True)
    pieces = [frame[start : start + 2**16] for start in range(0, len(frame), 2**16)]
    reader = MessageReader(masked=True, limits=Limits())
    events: list[Event] = []
    with traced() as held:
        for piece in pieces:
            read_all(reader, piece, events)
        _, peak = held()
    assert events == [bytes(MIB)]
    assert peak < (1.3 if speedups.COMPILED else 2.3) * MIB


@pytest.mark.parametrize("masked", [False, True])
def test_empty_fragments_without_end_are_held_as_nothing(masked: bool) -> None:
    limits = Limits(max_fragments=None, max_empty_fragments=None)
    reader = MessageReader(masked=masked, limits=limits)
    first = frame_bytes(Opcode.TEXT, b"", masked=masked, fin=False)
    many = frame_bytes(Opcode.CONTINUATION, b"", masked=masked, fin=False) * 10_000
    events: list[Event] = []
    read_all(reader, first, events)
    read_all(reader, many, events)
    with traced() as held:
        for _ in range(10):  # a byte held for each would be 100,000
            read_all(reader, many, events)
        current, peak = held()
    assert (current < 5000, peak < 2 * len(many) + 5000, reader.unfinished) == (True, True, 0)
    read_all(reader, frame_bytes(Opcode.CONTINUATION, b"end", masked=masked), events)
    assert events == ["end"]


def test_many_fragments_of_a_byte_are_held_as_one_message() -> None:
    reader = MessageReader(masked=False, limits=Limits(max_fragments=None))
    many = frame_bytes(Opcode.CONTINUATION, b"x", masked=False, fin=False) * 10_000
    events: list[Event] = []
    read_all(reader, frame_bytes(Opcode.BINARY, b"", masked=False, fin=False), events)
    with traced() as held:
        for _ in range(5):
            read_all(reader, many, events)
        current, peak = held()
    assert (current < 60_000, peak < 200_000, reader.unfinished) == (True, True, 50_000)
    read_all(reader, frame_bytes(Opcode.CONTINUATION, b"", masked=False), events)
    assert events == [b"x" * 50_000]


def a_gibibyte_of_zeros() -> bytes:
    stream = zlib.compressobj(9, wbits=-15)
    first = stream.compress(bytes(MIB)) + stream.flush(zlib.Z_SYNC_FLUSH)
    again = stream.compress(bytes(MIB)) + stream.flush(zlib.Z_SYNC_FLUSH)
    return first + again * 1023


def test_a_bomb_is_defused_within_the_limit() -> None:
    bomb = frame_bytes(Opcode.BINARY, a_gibibyte_of_zeros(), masked=False, rsv1=True)
    assert len(bomb) < 1.1 * MIB
    reader = MessageReader(masked=False, limits=Limits(), inflater=Inflater(15, no_context_takeover=False))
    with traced() as held:
        reader.feed(bomb)
        with pytest.raises(MessageTooBig):
            reader.read_into([], 256)
        _, peak = held()
    assert peak < 6 * MIB


def test_a_bomb_in_every_message_fills_no_more_than_the_room() -> None:
    stream = zlib.compressobj(9, wbits=-15)
    body = (stream.compress(bytes(MIB)) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]
    frame = frame_bytes(Opcode.BINARY, body, masked=False, rsv1=True)
    reader = MessageReader(masked=False, limits=Limits(), inflater=Inflater(15, no_context_takeover=True))
    reader.feed(frame * 60)
    for _ in range(60):
        events: list[Event] = []
        reader.read_into(events, 256, MIB)
        assert events == [bytes(MIB)]
    assert reader.pending == 0


@pytest.mark.parametrize(
    ("left", "what"),
    [
        (b"", "nothing"),
        (b"\x82", "half a header"),
        (b"\x82\x7e\x10\x00abc", "the begin of a message"),
        (b"\x89\x05ab", "half a ping"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_was_understood_is_not_kept_alive(left: bytes, what: str) -> None:
    reader = MessageReader(masked=False, limits=Limits())
    with traced() as held:
        events: list[Event] = []
        read_all(reader, frame_bytes(Opcode.BINARY, bytes(1000), masked=False) * 1000 + left, events)
        assert len(events) == 1000
        events.clear()
        current, peak = held()
    assert peak > MIB > 5000 > current


def test_a_message_that_was_given_out_is_not_kept_alive() -> None:
    reader = MessageReader(masked=False, limits=Limits())
    with traced() as held:
        for fin in (False, True):
            opcode = Opcode.CONTINUATION if fin else Opcode.TEXT
            read_all(reader, frame_bytes(opcode, b"x" * (MIB // 2), masked=False, fin=fin), [])
        current, peak = held()
    assert peak > MIB > 5000 > current
