"""One side of a connection: its state table, what it writes, how it fails."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from trio_ws import CloseInfo, Compression, Limits, LocalProtocolError, RemoteProtocolError
from trio_ws._wire.deflate import DeflateParameters, PerMessageDeflate
from trio_ws._wire.events import Close, Event, Ping, Pong
from trio_ws._wire.frames import LARGE, PIECE, masked_pieces
from trio_ws._wire.prepared import PreparedMessage
from trio_ws._wire.protocol import TRANSITIONS, Message, State, Transition, WebSocketProtocol
from trio_ws._wire.speedups import write_frame

# Every state with every move: where it leads, None where it is forbidden.
MOVES: dict[tuple[State, Transition], State | None] = {
    (State.OPEN, Transition.SEND_CLOSE): State.CLOSE_SENT,
    (State.OPEN, Transition.RECEIVE_CLOSE): State.CLOSE_RECEIVED,
    (State.OPEN, Transition.LOSE): State.LOST,
    (State.CLOSE_SENT, Transition.SEND_CLOSE): None,
    (State.CLOSE_SENT, Transition.RECEIVE_CLOSE): State.CLOSED,
    (State.CLOSE_SENT, Transition.LOSE): State.LOST,
    (State.CLOSE_RECEIVED, Transition.SEND_CLOSE): State.CLOSED,
    (State.CLOSE_RECEIVED, Transition.RECEIVE_CLOSE): None,
    (State.CLOSE_RECEIVED, Transition.LOSE): State.LOST,
    (State.CLOSED, Transition.SEND_CLOSE): None,
    (State.CLOSED, Transition.RECEIVE_CLOSE): None,
    (State.CLOSED, Transition.LOSE): State.CLOSED,
    (State.LOST, Transition.SEND_CLOSE): None,
    (State.LOST, Transition.RECEIVE_CLOSE): None,
    (State.LOST, Transition.LOSE): State.LOST,
}


def protocol(*, is_client: bool = False, deflate: bool = False, threshold: int = 0) -> WebSocketProtocol:
    codec = PerMessageDeflate(DeflateParameters(), Compression(threshold=threshold), is_client=is_client)
    return WebSocketProtocol(is_client=is_client, limits=Limits(), deflate=codec if deflate else None)


def read(side: WebSocketProtocol, data: bytes) -> list[Event]:
    side.receive_data(data)
    events: list[Event] = []
    while side.read_events(events, 256):
        pass
    return events


def in_state(state: State) -> WebSocketProtocol:
    """Make a protocol that has got into a state by the way that leads there."""
    side = protocol()
    peer = protocol(is_client=True)
    if state in (State.CLOSE_SENT, State.CLOSED):
        side.encode_close(1000)
    if state in (State.CLOSE_RECEIVED, State.CLOSED):
        read(side, peer.encode_close(1000))
    if state is State.LOST:
        side.lose()
    assert side.state is state
    return side


def test_the_table_has_every_move_and_no_other() -> None:
    assert set(MOVES) == {(state, move) for state in State for move in Transition}
    assert {(state, move): to for state, moves in TRANSITIONS.items() for move, to in moves.items()} == {
        key: to for key, to in MOVES.items() if to is not None
    }


@pytest.mark.parametrize(("state", "move"), MOVES)
def test_a_side_moves_by_the_table(state: State, move: Transition) -> None:
    side = in_state(state)
    to = MOVES[state, move]
    if move is Transition.LOSE:
        side.lose()
    elif move is Transition.RECEIVE_CLOSE:
        events = read(side, protocol(is_client=True).encode_close(1000))
        assert events == ([] if to is None else [Close(CloseInfo(1000))])
    elif to is None:
        with pytest.raises(LocalProtocolError, match=rf"^cannot send Close in state '{state.value}'$"):
            side.encode_close(1000)
    else:
        assert side.encode_close(1000) == b"\x88\x02\x03\xe8"
    assert side.state is (to or state)


@pytest.mark.parametrize("state", State)
def test_a_side_reads_until_it_has_a_close_or_no_transport(state: State) -> None:
    side = in_state(state)
    reads = state in (State.OPEN, State.CLOSE_SENT)
    assert side.reads is reads
    assert read(side, protocol(is_client=True).encode_message("m")) == (["m"] if reads else [])


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("is_client", [False, True])
@pytest.mark.parametrize(
    ("message", "arrives"),
    [
        ("h\u00e9llo", "h\u00e9llo"),
        (b"bytes", b"bytes"),
        (bytearray(b"array"), b"array"),
        (memoryview(b"0view1")[1:5], b"view"),
        (memoryview(b"abcdef")[::2], b"ace"),
        ("", ""),
        (b"x" * 100000, b"x" * 100000),
    ],
)
def test_a_message_arrives_as_it_was_sent(
    message: Message, arrives: str | bytes, is_client: bool, deflate: bool
) -> None:
    side = protocol(is_client=is_client, deflate=deflate)
    peer = protocol(is_client=not is_client, deflate=deflate)
    data = side.encode_message(message) + side.encode_ping(b"1") + side.encode_pong(b"2")
    assert read(peer, data) == [arrives, Ping(b"1"), Pong(b"2")]


@pytest.mark.parametrize("message", [None, 5, ["a"], object()])
def test_a_message_must_be_text_or_bytes(message: object) -> None:
    side = protocol()
    with pytest.raises(TypeError, match="message must be str or bytes-like"):
        side.encode_message(message)  # type: ignore[arg-type]


def test_a_lone_surrogate_is_no_text() -> None:
    with pytest.raises(UnicodeEncodeError):
        protocol().encode_message("\ud800")


@pytest.mark.parametrize(
    ("size", "compress", "compressed"),
    [(9, None, False), (10, None, True), (9, True, True), (10, False, False), (0, True, True)],
)
def test_the_threshold_decides_unless_the_caller_does(size: int, compress: bool | None, compressed: bool) -> None:
    side = protocol(deflate=True, threshold=10)
    assert bool(side.encode_message(b"x" * size, compress)[0] & 0x40) is compressed


def test_a_large_message_of_a_server_is_not_copied() -> None:
    message = bytes(LARGE)
    large = protocol().encode_large(message, None)
    assert large is not None
    assert large.payload is message
    assert large.mask is None
    assert large.head + large.payload == protocol().encode_message(message)


@pytest.mark.parametrize("message", [b"0123456" * LARGE, "\xe4\xf6\xfc" * LARGE, bytes(2 * PIECE)])
def test_a_large_message_of_a_client_is_masked_piece_by_piece(message: str | bytes) -> None:
    large = protocol(is_client=True).encode_large(message, None)
    assert large is not None
    assert large.mask is not None
    pieces = list(masked_pieces(large.head, large.payload, large.mask))
    assert [len(piece) for piece in pieces[1:-1]] == [PIECE] * (len(pieces) - 2)
    first, payload = (0x81, message.encode()) if isinstance(message, str) else (0x82, message)
    assert b"".join(pieces) == write_frame(first, payload, large.mask)
    assert len(large) == len(b"".join(pieces))


@pytest.mark.parametrize(("compress", "compressed"), [(None, True), (True, True), (False, False)])
def test_a_large_message_that_is_compressed_is_no_exception(compress: bool | None, compressed: bool) -> None:
    for message in (bytes(LARGE), "\0" * LARGE):
        assert (protocol(deflate=True).encode_large(message, compress) is None) is compressed


def test_nothing_is_compressed_that_was_not_agreed() -> None:
    assert protocol().encode_message(b"x" * 5000, True)[0] == 0x82


@pytest.mark.parametrize("is_client", [True, False])
def test_with_a_window_that_zlib_cannot_keep_to_messages_go_as_they_are_and_are_inflated(is_client: bool) -> None:
    small, other = ("client", "server") if is_client else ("server", "client")
    agreed = DeflateParameters(**{f"{small}_max_window_bits": 8})  # type: ignore[arg-type]
    options = Compression(threshold=0)
    ours, theirs = (
        WebSocketProtocol(is_client=side, limits=Limits(), deflate=PerMessageDeflate(agreed, options, is_client=side))
        for side in (is_client, not is_client)
    )
    assert not ours.compresses
    assert theirs.compresses, f"the {other} has the window that it wants"
    prepared = PreparedMessage("a" * 3000)
    for compress in (None, True):
        for data in (ours.encode_message("a" * 3000, compress), ours.encode_prepared(prepared, compress)):
            assert data[0] == 0x81, "final text, without RSV1"
            assert read(theirs, data) == ["a" * 3000]
        assert ours.encode_large("a" * LARGE, compress) is not None
        packed = theirs.encode_message("a" * 3000, compress)
        assert packed[0] == 0xC1
        assert read(ours, packed) == ["a" * 3000]


@pytest.mark.parametrize("state", [State.CLOSE_SENT, State.CLOSE_RECEIVED, State.CLOSED, State.LOST])
def test_no_message_is_sent_when_closing_has_begun(state: State) -> None:
    with pytest.raises(LocalProtocolError, match="closing handshake has begun"):
        in_state(state).encode_message("late")


@pytest.mark.parametrize(
    ("code", "reason", "answer"),
    [
        (1000, "", b"\x88\x02\x03\xe8"),
        (1000, "why", b"\x88\x05\x03\xe8why"),
        (4001, "\u20ac", b"\x88\x05\x0f\xa1\xe2\x82\xac"),
        (1011, "x" * 123, b"\x88\x7d\x03\xf3" + b"x" * 123),
        (None, "", b"\x88\x00"),
    ],
)
def test_a_close_is_answered_with_its_code_and_reason(code: int | None, reason: str, answer: bytes) -> None:
    side = protocol()
    said = CloseInfo(1005 if code is None else code, reason)
    assert read(side, protocol(is_client=True).encode_close(code, reason)) == [Close(said)]
    assert side.encode_close_answer() == answer
    assert (side.state, side.close_sent) == (State.CLOSED, said)
    assert side.close_info == CloseInfo(said.code, reason, was_clean=True)


def test_a_connection_that_is_lost_was_not_clean() -> None:
    side = protocol()
    assert side.close_info == CloseInfo(1006)
    read(side, protocol(is_client=True).encode_close(1000, "bye"))
    side.lose()
    assert side.close_info == CloseInfo(1000, "bye", was_clean=False)


def test_nothing_counts_after_a_close() -> None:
    side, peer = protocol(), protocol(is_client=True)
    late = peer.encode_ping(b"late")
    assert len(read(side, peer.encode_close(1000) + late)) == 1
    assert read(side, late) == []


def test_a_close_counts_that_comes_right_behind_a_message() -> None:
    side, peer = protocol(), protocol(is_client=True)
    assert read(side, peer.encode_message("last") + peer.encode_close(1001, "bye")) == [
        "last",
        Close(CloseInfo(1001, "bye")),
    ]
    assert side.state is State.CLOSE_RECEIVED
    assert side.close_received == CloseInfo(1001, "bye")


def test_a_breach_is_kept_and_told_and_the_rest_is_thrown_away() -> None:
    side, peer = protocol(), protocol(is_client=True)
    good = peer.encode_message("good")
    assert read(side, good + b"\x83\x80" + good) == ["good"]
    assert isinstance(side.failure, RemoteProtocolError)
    assert side.encode_failure(side.failure) == b"\x88\x28\x03\xeaprotocol error: opcode 0x3 is reserved"
    assert (side.state, side.reads, side.close_sent) == (
        State.CLOSE_SENT,
        False,
        CloseInfo(1002, "protocol error: opcode 0x3 is reserved"),
    )
    assert read(side, good) == []
    side.lose()
    assert side.close_info == CloseInfo(1002, "protocol error: opcode 0x3 is reserved", was_clean=False)


def test_a_breach_in_the_answer_to_our_close_tells_how_it_ended() -> None:
    side = protocol()
    side.encode_close(4000, "ours")
    assert read(side, b"\x83\x80") == []
    assert (side.close_sent, side.close_info) == (
        CloseInfo(4000, "ours"),
        CloseInfo(1002, "protocol error: opcode 0x3 is reserved"),
    )


def test_a_close_that_came_counts_more_than_a_breach_after_it() -> None:
    side = in_state(State.CLOSE_RECEIVED)
    side.encode_failure(RemoteProtocolError("late", 1008))
    assert side.close_info == CloseInfo(1000, "", was_clean=True)


def test_a_long_reason_of_ours_is_cut() -> None:
    side = protocol()
    frame = side.encode_failure(RemoteProtocolError("\u00e9" * 200, 1008))
    reason = "policy violation: " + "\u00e9" * 52  # 122 bytes: half a character is left out
    assert frame == b"\x88\x7c\x03\xf0" + reason.encode()
    assert side.close_sent == CloseInfo(1008, reason)


def test_a_breach_is_answered_also_after_a_close_came() -> None:
    side = in_state(State.CLOSE_RECEIVED)
    failure = RemoteProtocolError("late", 1008)
    assert side.encode_failure(failure) == b"\x88\x18\x03\xf0policy violation: late"
    assert (side.state, side.failure) == (State.CLOSED, failure)


@pytest.mark.parametrize("state", [State.CLOSE_SENT, State.CLOSED, State.LOST])
def test_a_breach_cannot_be_answered_where_a_close_cannot_be_sent(state: State) -> None:
    side = in_state(state)
    with pytest.raises(LocalProtocolError, match="cannot send Close"):
        side.encode_failure(RemoteProtocolError("late"))
    assert (side.state, side.reads) == (state, False)


def test_what_came_before_a_breach_in_a_call_counts() -> None:
    side, peer = protocol(), protocol(is_client=True)
    side.receive_data(peer.encode_message("one") + peer.encode_ping(b"two") + b"\x83\x80")
    events: list[Event] = []
    assert not side.read_events(events, 256)
    assert events == ["one", Ping(b"two")]
    assert (str(side.failure), side.state) == ("opcode 0x3 is reserved", State.OPEN)


def test_every_frame_of_a_client_has_a_mask_of_its_own() -> None:
    side = protocol(is_client=True)
    writes = [
        lambda: side.encode_message("x"),
        lambda: side.encode_message(b"x"),
        lambda: side.encode_ping(b"x"),
        lambda: side.encode_pong(b"x"),
    ]
    masks = [writes[number % 4]()[2:6] for number in range(10_000)]
    assert len(set(masks)) > 9_997  # two equal pairs by chance: one in ten thousand runs; three: one in millions


@pytest.mark.parametrize("is_client", [False, True])
def test_only_a_client_masks(is_client: bool) -> None:
    side = protocol(is_client=is_client)
    frames = [side.encode_message("x"), side.encode_ping(b"x"), side.encode_pong(b"x"), side.encode_close(1000)]
    assert [bool(frame[1] & 0x80) for frame in frames] == [is_client] * 4


@pytest.mark.parametrize("message", ["text", b"binary", ""])
def test_a_message_that_comes_alone_is_taken_whole(message: str | bytes) -> None:
    side, peer = protocol(), protocol(is_client=True)
    frame = peer.encode_message(message)
    assert side.take_whole(frame) == message
    assert side.take_whole(frame + frame) is None
    assert side.take_whole(frame[:-1]) is None
    assert (side.pending, read(side, frame)) == (0, [message])  # nothing was taken in vain


@pytest.mark.parametrize("state", [state for state in State if state is not State.OPEN])
def test_only_an_open_side_takes_a_message_whole(state: State) -> None:
    assert in_state(state).take_whole(protocol(is_client=True).encode_message("x")) is None


def test_no_message_is_taken_whole_after_a_breach() -> None:
    side = protocol()
    read(side, b"\x83\x00")
    assert side.take_whole(protocol(is_client=True).encode_message("x")) is None


@pytest.mark.parametrize(
    "before", ["0281" + "00" * 5, "8285" + "00" * 5, "82"], ids=["a fragment", "half a frame", "half a head"]
)
def test_no_message_is_taken_whole_behind_something(before: str) -> None:
    side = protocol()
    read(side, bytes.fromhex(before))
    assert side.take_whole(protocol(is_client=True).encode_message("x")) is None


def test_no_message_is_taken_whole_that_is_wanted_in_pieces() -> None:
    side = protocol()
    side.stream_next()
    assert side.take_whole(protocol(is_client=True).encode_message("x")) is None


def test_what_is_held_is_told() -> None:
    side, peer = protocol(), protocol(is_client=True)
    side.receive_data(peer.encode_message(b"x" * 1000)[:-1])
    assert (side.pending, side.unfinished) == (1007, 0)
    side.read_events([], 1)
    assert (side.pending, side.unfinished) == (0, 999)


sides = st.sampled_from([0, 1])


class TwoSides(RuleBasedStateMachine):
    """Two protocols and a wire: whatever they do, each hears what the other said, and moves by the table."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = [protocol(is_client=True, deflate=True, threshold=20), protocol(deflate=True, threshold=20)]
        self.states = [State.OPEN, State.OPEN]
        self.wires = [b"", b""]  # towards each side
        self.sent: list[list[Event]] = [[], []]  # by each side
        self.received: list[list[Event]] = [[], []]
        self.breached = [False, False]  # by each side

    def write(self, index: int, frame: bytes, event: Event) -> None:
        self.wires[1 - index] += frame
        if not self.breached[index]:
            self.sent[index].append(event)

    def move(self, index: int, move: Transition) -> bool:
        to = MOVES[self.states[index], move]
        self.states[index] = to or self.states[index]
        return to is not None

    @rule(
        index=st.integers(0, 1),
        message=st.text(max_size=60) | st.binary(max_size=60),
        compress=st.none() | st.booleans(),
    )
    def send(self, index: int, message: str | bytes, compress: bool | None) -> None:
        side = self.sides[index]
        if self.states[index] is State.OPEN:
            self.write(index, side.encode_message(message, compress), message)
        else:
            with pytest.raises(LocalProtocolError):
                side.encode_message(message, compress)

    @precondition(lambda self: State.OPEN in self.states)
    @rule(
        index=st.integers(0, 1), event=st.builds(Ping, st.binary(max_size=9)) | st.builds(Pong, st.binary(max_size=9))
    )
    def send_control(self, index: int, event: Ping | Pong) -> None:
        if self.states[index] is State.OPEN:
            side = self.sides[index]
            encode = side.encode_ping if isinstance(event, Ping) else side.encode_pong
            self.write(index, encode(event.payload), event)

    @rule(index=sides, said=st.sampled_from([(None, ""), (1000, ""), (4000, "why")]))
    def close(self, index: int, said: tuple[int | None, str]) -> None:
        code, reason = said
        if self.move(index, Transition.SEND_CLOSE):
            self.write(index, self.sides[index].encode_close(code, reason), Close(CloseInfo(code or 1005, reason)))
        else:
            with pytest.raises(LocalProtocolError):
                self.sides[index].encode_close(code)

    @rule(index=sides, frame=st.sampled_from([b"\x83", b"\x09", b"\xc9", b"\x80"]))
    def breach(self, index: int, frame: bytes) -> None:
        if self.states[index] is State.OPEN:
            self.wires[1 - index] += frame + (b"\x80" if index == 0 else b"\x00")
            self.breached[index] = True

    @rule(index=sides)
    def lose(self, index: int) -> None:
        self.sides[index].lose()
        self.move(index, Transition.LOSE)

    @rule(index=sides, size=st.integers(1, 100), budget=st.integers(1, 3))
    def deliver(self, index: int, size: int, budget: int) -> None:
        side = self.sides[index]
        data, self.wires[index] = self.wires[index][:size], self.wires[index][size:]
        events: list[Event] = []
        side.receive_data(data)
        while side.read_events(events, budget):
            pass
        self.received[index] += events
        if any(isinstance(event, Close) for event in events):
            self.move(index, Transition.RECEIVE_CLOSE)
        if self.states[index] is State.CLOSE_RECEIVED:
            self.move(index, Transition.SEND_CLOSE)
            said = self.received[index][-1]
            self.write(index, side.encode_close_answer(), said)
        if side.failure is not None and self.states[index] is State.OPEN:
            self.move(index, Transition.SEND_CLOSE)
            frame = side.encode_failure(side.failure)
            assert side.close_sent is not None
            self.write(index, frame, Close(side.close_sent))

    @invariant()
    def each_hears_what_the_other_said(self) -> None:
        for index, side in enumerate(self.sides):
            said, heard = self.sent[1 - index], self.received[index]
            assert heard == said[: len(heard)]
            assert side.state is self.states[index]
            assert side.failure is None or self.breached[1 - index]
            assert side.close_info.was_clean is (side.close_received is not None and side.close_sent is not None)
            if side.reads and not self.wires[index]:
                assert heard == said
                assert (side.pending, side.unfinished) == (0, 0)


TwoSides.TestCase.settings = settings(deadline=None, max_examples=100)
TestTwoSides = TwoSides.TestCase
