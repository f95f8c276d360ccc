"""One side of a connection: its state table, what it writes, how it fails."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trio_ws import CloseInfo, Compression, Limits, LocalProtocolError, RemoteProtocolError
from trio_ws._wire.deflate import DeflateParameters, PerMessageDeflate
from trio_ws._wire.protocol import TRANSITIONS, Message, Move, State, WebSocketProtocol
from trio_ws._wire.reader import Close, Event, Ping, Pong


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


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("move", Move)
def test_the_table_is_the_whole_truth_about_moves(state: State, move: Move) -> None:
    side = in_state(state)
    expected = TRANSITIONS[state].get(move, state)
    if move is Move.LOSE:
        side.lose()
    elif move is Move.SEND_CLOSE:
        if move in TRANSITIONS[state]:
            side.encode_close(1000)
        else:
            with pytest.raises(LocalProtocolError, match="cannot send Close in state"):
                side.encode_close(1000)
    else:
        assert bool(read(side, protocol(is_client=True).encode_close(1000))) is (move in TRANSITIONS[state])
    assert side.state is expected


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


def test_nothing_is_compressed_that_was_not_agreed() -> None:
    assert protocol().encode_message(b"x" * 5000, True)[0] == 0x82


@pytest.mark.parametrize("state", [State.CLOSE_SENT, State.CLOSE_RECEIVED, State.CLOSED, State.LOST])
def test_no_message_is_sent_when_closing_has_begun(state: State) -> None:
    with pytest.raises(LocalProtocolError, match="closing handshake has begun"):
        in_state(state).encode_message("late")


@pytest.mark.parametrize(("code", "answer"), [(1000, "88020 3e8"), (4001, "88020fa1"), (None, "8800")])
def test_a_close_is_answered_with_its_code(code: int | None, answer: str) -> None:
    side = protocol()
    assert read(side, protocol(is_client=True).encode_close(code, "why" if code else "")) == [
        Close(CloseInfo(1005 if code is None else code, "why" if code else ""))
    ]
    assert side.encode_close_answer() == bytes.fromhex(answer.replace(" ", ""))
    assert side.state is State.CLOSED
    assert side.close_info == CloseInfo(1005 if code is None else code, "why" if code else "", was_clean=True)


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


def test_a_long_reason_of_ours_is_cut() -> None:
    side = protocol()
    frame = side.encode_failure(RemoteProtocolError("\u00e9" * 200, 1008))
    assert len(frame) <= 127
    frame[4:].decode()


def test_what_is_held_is_told() -> None:
    side, peer = protocol(), protocol(is_client=True)
    side.receive_data(peer.encode_message(b"x" * 1000)[:-1])
    assert (side.pending, side.unfinished) == (1007, 0)
    side.read_events([], 1)
    assert (side.pending, side.unfinished) == (0, 999)


class TwoSides(RuleBasedStateMachine):
    """Two protocols and a wire: whatever they do, they agree on what was said, and end by the table."""

    def __init__(self) -> None:
        super().__init__()
        self.sides = [protocol(is_client=True, deflate=True), protocol(deflate=True)]
        self.wires = [b"", b""]  # towards each side
        self.sent: list[list[Event]] = [[], []]  # by each side
        self.received: list[list[Event]] = [[], []]

    @rule(index=st.integers(0, 1), message=st.one_of(st.text(max_size=200), st.binary(max_size=200)))
    def send(self, index: int, message: str | bytes) -> None:
        if self.sides[index].state is State.OPEN:
            self.wires[1 - index] += self.sides[index].encode_message(message)
            self.sent[index].append(message)

    @rule(index=st.integers(0, 1), code=st.sampled_from([None, 1000, 4000]))
    def close(self, index: int, code: int | None) -> None:
        if self.sides[index].state is State.OPEN:
            self.wires[1 - index] += self.sides[index].encode_close(code)

    @rule(index=st.integers(0, 1), size=st.integers(1, 300))
    def deliver(self, index: int, size: int) -> None:
        side = self.sides[index]
        data, self.wires[index] = self.wires[index][:size], self.wires[index][size:]
        self.received[index] += [event for event in read(side, data) if isinstance(event, str | bytes)]
        if side.state is State.CLOSE_RECEIVED:
            self.wires[1 - index] += side.encode_close_answer()

    @invariant()
    def each_hears_what_the_other_said(self) -> None:
        for index, side in enumerate(self.sides):
            assert side.failure is None
            assert self.received[index] == self.sent[1 - index][: len(self.received[index])]
            if side.state is State.CLOSED:
                assert self.received[index] == self.sent[1 - index]


TwoSides.TestCase.settings = settings(deadline=None, max_examples=50)
TestTwoSides = TwoSides.TestCase
