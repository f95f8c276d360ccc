"""Messages given in pieces: together they are the message, however the bytes are cut."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_ws import Limits, MessageTooBig, RemoteProtocolError
from trio_ws._wire.deflater import Deflater
from trio_ws._wire.events import Close, Event, Piece, Ping, Start
from trio_ws._wire.frames import Opcode, frame_bytes
from trio_ws._wire.inflater import Inflater
from trio_ws._wire.reader import MessageReader

pytestmark = pytest.mark.usefixtures("deflate_backend")

NO_LIMITS = Limits(max_message_size=4)


def frames(parts: list[bytes], *, text: bool, compressed: bool, masked: bool) -> bytes:
    """Write a message in as many frames as there are parts."""
    deflater = Deflater(12, no_context_takeover=False, level=6, memory_level=4)
    out = b""
    for index, part in enumerate(parts):
        final = index == len(parts) - 1
        payload = deflater.compress(part, final=final) if compressed else part
        opcode = Opcode.CONTINUATION if index else Opcode.TEXT if text else Opcode.BINARY
        out += frame_bytes(opcode, payload, masked=masked, fin=final, rsv1=compressed and not index)
    return out


def read(data: bytes, *, cuts: list[int], masked: bool, room: float = math.inf) -> list[Event]:
    """Read a message in pieces, and what follows as usual, the bytes cut anywhere."""
    inflater = Inflater(12, no_context_takeover=False)
    reader = MessageReader(masked=masked, limits=NO_LIMITS, inflater=inflater)
    assert reader.stream_next() is None
    events: list[Event] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, stop in itertools.pairwise(edges):
        reader.feed(data[start:stop])
        while reader.read_into(events, 256, room):
            pass
    return events


def join(events: list[Event]) -> str | bytes:
    """Put pieces together again, which must begin with a Start and end with the one final piece."""
    start, *pieces = events
    assert isinstance(start, Start)
    assert all(isinstance(piece, Piece) for piece in pieces)
    assert [piece.final for piece in pieces if isinstance(piece, Piece)] == [False] * (len(pieces) - 1) + [True]
    data = [piece.data for piece in pieces if isinstance(piece, Piece)]
    if start.is_text:
        return "".join(part for part in data if isinstance(part, str))
    return b"".join(part for part in data if isinstance(part, bytes))


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(max_size=300),
    is_text=st.booleans(),
    edges=st.lists(st.integers(0, 1000), max_size=4),
    cuts=st.lists(st.integers(0, 10**6), max_size=5),
    compressed=st.booleans(),
    masked=st.booleans(),
    room=st.sampled_from([1, 50, math.inf]),
)
def test_pieces_are_the_message(
    text: str, is_text: bool, edges: list[int], cuts: list[int], compressed: bool, masked: bool, room: float
) -> None:
    payload = text.encode()
    places = [0, *sorted(edge % (len(payload) + 1) for edge in edges), len(payload)]
    parts = [payload[start:stop] for start, stop in itertools.pairwise(places)]
    data = frames(parts, text=is_text, compressed=compressed, masked=masked)
    following = frame_bytes(Opcode.BINARY, b"next", masked=masked)
    *events, last = read(data + following, cuts=cuts, masked=masked, room=room)
    assert last == b"next"
    assert join(events) == (text if is_text else payload)


def test_a_control_frame_stands_where_it_came() -> None:
    parts = frames([b"one", b"two", b"three"], text=False, compressed=False, masked=False)
    ping = frame_bytes(Opcode.PING, b"?", masked=False)
    close = frame_bytes(Opcode.CLOSE, b"", masked=False)
    events = read(parts[:5] + ping + parts[5:10] + close, cuts=[], masked=False)
    assert events[:4] == [Start(False), Piece(b"one", False), Ping(b"?"), Piece(b"two", False)]
    assert isinstance(events[4], Close)


def test_a_message_in_the_making_is_given_from_its_begin() -> None:
    reader = MessageReader(masked=False, limits=Limits())
    data = frame_bytes(Opcode.TEXT, "aé€".encode(), masked=False)
    events: list[Event] = []
    reader.feed(data[:-1])
    reader.read_into(events, 256)
    assert (events, reader.unfinished) == ([], 5)
    assert reader.stream_next() == Start(True)
    reader.read_into(events, 256)
    assert (events, reader.unfinished) == ([Piece("aé", False)], 0)
    reader.feed(data[-1:])
    reader.read_into(events, 256)
    assert events[1:] == [Piece("€", True)]


@pytest.mark.parametrize("masked", [False, True])
def test_a_large_message_in_the_making_is_given_from_its_begin(masked: bool) -> None:
    text = "aé€😀" * 10_000
    data = frame_bytes(Opcode.TEXT, text.encode(), masked=masked)
    reader = MessageReader(masked=masked, limits=Limits())
    events: list[Event] = []
    reader.feed(data[:50_000])
    reader.read_into(events, 256)
    held = reader.unfinished
    assert (events, 49_900 < held < 50_000) == ([], True)
    assert reader.stream_next() == Start(is_text=True)
    assert reader.unfinished == held
    reader.feed(data[50_000:])
    reader.read_into(events, 256)
    assert join([Start(is_text=True), *events]) == text


@pytest.mark.parametrize("masked", [False, True])
def test_a_message_in_fragments_is_given_from_its_begin(masked: bool) -> None:
    first, last = (
        frame_bytes(opcode, part, masked=masked, fin=not opcode)
        for opcode, part in ((Opcode.TEXT, "é".encode()[:1]), (Opcode.CONTINUATION, "é".encode()[1:]))
    )
    reader = MessageReader(masked=masked, limits=Limits())
    events: list[Event] = []
    reader.read_into(events, 256, math.inf, first)
    assert reader.stream_next() == Start(is_text=True)
    reader.read_into(events, 256, math.inf, last)
    assert join([Start(is_text=True), *events]) == "é"


def test_what_was_asked_for_can_be_taken_back() -> None:
    reader = MessageReader(masked=False, limits=Limits())
    reader.stream_next()
    reader.stream_next()
    reader.stream_at_most(1)
    reader.stream_at_most(2)  # no more than were asked for
    events: list[Event] = []
    reader.feed(frame_bytes(Opcode.TEXT, b"one", masked=False) * 2)
    reader.read_into(events, 256)
    assert events == [Start(True), Piece("one", True), "one"]


def test_when_all_that_was_asked_for_is_taken_back_messages_are_taken_whole_again() -> None:
    reader = MessageReader(masked=False, limits=Limits())
    message = frame_bytes(Opcode.TEXT, b"one", masked=False)
    reader.stream_next()
    assert reader.take_whole(message) is None
    reader.stream_at_most(0)
    assert reader.take_whole(message) == "one"


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(max_size=300),
    is_text=st.booleans(),
    edges=st.lists(st.integers(0, 1000), max_size=4),
    cuts=st.lists(st.integers(0, 10**6), min_size=1, max_size=5),
    compressed=st.booleans(),
    masked=st.booleans(),
    calls=st.integers(1, 6),
    again=st.booleans(),
)
def test_a_message_whose_pieces_nobody_wants_any_more_is_given_whole(
    text: str,
    is_text: bool,
    edges: list[int],
    cuts: list[int],
    compressed: bool,
    masked: bool,
    calls: int,
    again: bool,
) -> None:
    payload = text.encode()
    places = [0, *sorted(edge % (len(payload) + 1) for edge in edges), len(payload)]
    parts = [payload[start:stop] for start, stop in itertools.pairwise(places)]
    data = frames(parts, text=is_text, compressed=compressed, masked=masked)
    data += frame_bytes(Opcode.BINARY, b"next", masked=masked)
    reads = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    reader = MessageReader(masked=masked, limits=Limits(), inflater=Inflater(12, no_context_takeover=False))
    reader.stream_next()
    events: list[Event] = []
    for start, stop in itertools.pairwise(reads):
        reader.feed(data[start:stop])
        while reader.read_into(events, 256):
            pass
        calls -= 1
        if not calls and events and not any(isinstance(event, Piece) and event.final for event in events):
            given = [event.data for event in events if isinstance(event, Piece)]
            reader.stream_no_more("".join(map(str, given)) if is_text else b"".join(map(bytes, given)))  # type: ignore[arg-type]
            events.clear()
            if again and (first := reader.stream_next()):
                events.append(first)
    *events, last = events
    assert last == b"next"
    assert (events[0] if len(events) == 1 else join(events)) == (text if is_text else payload)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("size", [1000, 1001])
def test_a_message_that_is_given_whole_after_all_has_the_limits_of_one(size: int, compressed: bool) -> None:
    """Before and after the rest of it has come: what was given already counts, and what a header announces."""
    for first in (10, size):
        inflater = Inflater(12, no_context_takeover=False)
        reader = MessageReader(masked=False, limits=Limits(max_message_size=1000), inflater=inflater)
        reader.stream_next()
        data = frames([bytes(10), bytes(size - 10), b""], text=False, compressed=compressed, masked=False)
        events: list[Event] = []
        while sum(len(event.data) for event in events if isinstance(event, Piece)) < first:
            reader.feed(data[:1])
            data = data[1:]
            reader.read_into(events, 256)
        pieces = [event.data for event in events if isinstance(event, Piece)]
        events.clear()
        message = b"".join(map(bytes, pieces))  # type: ignore[arg-type]
        if size > 1000:
            with pytest.raises(MessageTooBig):
                reader.stream_no_more(message)
                reader.read_into(events, 256, math.inf, data)
            assert events == []
        else:
            reader.stream_no_more(message)
            reader.read_into(events, 256, math.inf, data)
            assert events == [bytes(size)]


def test_what_was_given_of_a_compressed_message_counts_when_its_rest_has_not_come() -> None:
    reader = MessageReader(
        masked=False, limits=Limits(max_message_size=1000), inflater=Inflater(12, no_context_takeover=False)
    )
    reader.stream_next()
    events: list[Event] = []
    reader.feed(frames([bytes(1001), b""], text=False, compressed=True, masked=False)[:-3])
    reader.read_into(events, 256)
    given = b"".join(event.data for event in events if isinstance(event, Piece) and isinstance(event.data, bytes))
    assert len(given) == 1001
    with pytest.raises(MessageTooBig, match="message of 1001 bytes"):
        reader.stream_no_more(given)


def test_a_message_that_is_given_whole_keeps_its_limits_when_the_next_is_asked_for() -> None:
    limits = Limits(max_message_size=1000, max_fragments=3)
    for rest, code in ((bytes(991), 1009), (bytes(990), 1000)):
        reader = MessageReader(masked=False, limits=limits)
        reader.stream_next()
        reader.feed(frame_bytes(Opcode.BINARY, bytes(10), masked=False, fin=False))
        reader.read_into([], 256)
        reader.stream_next()
        reader.stream_no_more(bytes(10))
        reader.feed(frame_bytes(Opcode.CONTINUATION, rest, masked=False))
        events: list[Event] = []
        if code == 1009:
            with pytest.raises(MessageTooBig):
                reader.read_into(events, 256)
        else:
            reader.read_into(events, 256)
            assert events == [bytes(1000)]


def test_a_message_in_pieces_may_have_one_more_fragment_for_each_256_bytes() -> None:
    for size, count, fails in ((1, 3, False), (1, 4, True), (256, 100, False), (100, 100, True)):
        reader = MessageReader(masked=False, limits=Limits(max_fragments=3))
        reader.stream_next()
        for index in range(count):
            opcode = Opcode.CONTINUATION if index else Opcode.BINARY
            reader.feed(frame_bytes(opcode, bytes(size), masked=False, fin=False))
        if fails:
            with pytest.raises(RemoteProtocolError, match="max_fragments"):
                reader.read_into([], 256)
        else:
            assert not reader.read_into([], 256)


def test_what_a_frame_has_announced_counts_when_its_message_is_given_whole() -> None:
    reader = MessageReader(masked=False, limits=Limits(max_message_size=1000))
    reader.stream_next()
    events: list[Event] = []
    reader.feed(frame_bytes(Opcode.BINARY, bytes(1001), masked=False)[:100])
    reader.read_into(events, 256)
    with pytest.raises(MessageTooBig, match="message of 1001 bytes"):
        reader.stream_no_more(bytes(96))


def test_a_second_message_asked_for_while_one_is_given_is_the_next() -> None:
    reader = MessageReader(masked=False, limits=Limits())
    events: list[Event] = []
    assert reader.stream_next() is None
    reader.feed(frame_bytes(Opcode.TEXT, b"one", masked=False, fin=False))
    reader.read_into(events, 256)
    assert reader.stream_next() is None
    reader.feed(frame_bytes(Opcode.CONTINUATION, b"", masked=False) + frame_bytes(Opcode.BINARY, b"two", masked=False))
    reader.read_into(events, 256)
    assert events == [Start(True), Piece("one", False), Piece("", True), Start(False), Piece(b"two", True)]


@pytest.mark.parametrize("ending", [b"\xff", b"\xc3"])
def test_text_is_checked(ending: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="UTF-8") as caught:
        read(frames([b"good", ending], text=True, compressed=False, masked=False), cuts=[], masked=False)
    assert caught.value.close_code == 1007


def test_room_bounds_the_pieces_of_one_call() -> None:
    reader = MessageReader(masked=False, limits=Limits())
    reader.feed(frame_bytes(Opcode.BINARY, bytes(300), masked=False) * 3)
    for _ in range(3):
        reader.stream_next()
    events: list[Event] = []
    for count in (1, 2, 3):
        assert reader.read_into(events, 256, 300) == (count < 3)
        assert events == [Start(False), Piece(bytes(300), True)] * count


def test_room_bounds_what_one_call_inflates() -> None:
    data = frames([bytes(10**7)], text=False, compressed=True, masked=False)
    reader = MessageReader(masked=False, limits=Limits(), inflater=Inflater(12, no_context_takeover=False))
    reader.stream_next()
    reader.feed(data)
    sizes = []
    more = True
    while more:
        events: list[Event] = []
        more = reader.read_into(events, 256, 10**5)
        sizes.append(sum(len(event.data) for event in events if isinstance(event, Piece)))
    assert sum(sizes) == 10**7
    assert max(sizes) < 10**5 + 270_000


# ---- long compressed messages that come in several calls ----

LONG = "\u20ac and \U0001f600, " * 250_000  # inflates in several steps, and its text is decoded in several


def compressed_frame(message: str | bytes) -> bytes:
    """Write it as a peer does."""
    data = message.encode() if isinstance(message, str) else message
    payload = Deflater(15, no_context_takeover=False, level=1, memory_level=8).compress(data)
    opcode = Opcode.TEXT if isinstance(message, str) else Opcode.BINARY
    return frame_bytes(opcode, payload, masked=False, rsv1=True)


def endless_reader() -> MessageReader:
    return MessageReader(
        masked=False, limits=Limits(max_message_size=None), inflater=Inflater(15, no_context_takeover=False)
    )


def test_nothing_of_a_long_text_stays_for_the_messages_after_it() -> None:
    reader = endless_reader()
    messages: list[Event] = [LONG, b"binary", LONG[1:], "text"]
    events: list[Event] = []
    for message in messages:
        data = compressed_frame(message) if isinstance(message, str) else b"\x02\x03bin\x80\x03ary"
        while reader.read_into(events, 256, data=data):
            data = b""
    assert events == messages


@pytest.mark.parametrize("message", [LONG, LONG.encode(), "x" * 3_000_000, bytes(3_000_000)])
@pytest.mark.parametrize("size", [1000, 60_000, 10**6])
def test_a_long_message_is_inflated_in_several_calls(message: str | bytes, size: int) -> None:
    reader, frame = endless_reader(), compressed_frame(message)
    events: list[Event] = []
    calls = 0
    for start in range(0, len(frame), size):
        data = frame[start : start + size]
        while reader.read_into(events, 256, data=data):
            data = b""
            calls += 1
    assert events == [message]
    assert calls >= 3 or size == 1000
    assert reader.unfinished == 0
    reader.read_into(events, 256, data=compressed_frame("and on"))
    assert events[1:] == ["and on"]


def test_a_long_text_may_be_asked_for_in_pieces_when_much_of_it_has_come() -> None:
    reader, frame = endless_reader(), compressed_frame(LONG)
    events: list[Event] = []
    more = reader.read_into(events, 256, data=frame)
    for _ in range(4):
        assert more
        more = reader.read_into(events, 256)
    held = reader.unfinished
    assert held > 2**20
    assert reader.stream_next() == Start(is_text=True)
    assert reader.unfinished == held
    while reader.read_into(events, 256):
        pass
    assert "".join(str(event.data) for event in events if isinstance(event, Piece)) == LONG


@pytest.mark.parametrize("end", [b"\xe2\x82", b"\xff"])
def test_a_long_text_that_ends_badly_is_refused(end: bytes) -> None:
    payload = Deflater(15, no_context_takeover=False, level=1, memory_level=8).compress(LONG.encode() + end)
    reader = endless_reader()
    reader.feed(frame_bytes(Opcode.TEXT, payload, masked=False, rsv1=True))
    with pytest.raises(RemoteProtocolError, match="text is not UTF-8"):
        while reader.read_into([], 256):
            pass
