"""The way out of a connection by itself: what goes at once, what waits, in what order, and since when."""

from __future__ import annotations

import math

import pytest

from tests.connection.memory import MemoryTransport
from trio_ws import Http2Statistics, Limits
from trio_ws._net.http2.frame_reader import FrameReader, Http2ConnectionError
from trio_ws._net.http2.receive_window import ReceiveWindow
from trio_ws._net.http2.sender import Sender
from trio_ws._net.http2.stream import Http2Stream

from .raw_http2 import raw_frame
from .test_stream import Recorder

BATCH = 2**16
FRAME = 2**14
PING = raw_frame(6, bytes(8))
END_STREAM = 1


class Carrier(Recorder):
    """The connection of a stream: it sends the stream's end when all before it has gone."""

    def __init__(self, sender: Sender) -> None:
        super().__init__()
        self._sender = sender

    def end(self, stream: Http2Stream) -> None:
        stream.local_ended = True
        self._sender.control(raw_frame(1, flags=END_STREAM, stream_id=stream.id))


class Outlet:
    """A sender over a transport that takes as much as a test says, whose peer has given a large window.

    Attributes:
        now: the time.
    """

    def __init__(self, *, queued_control: int | None = None) -> None:
        self.now = 0.0
        self.below = MemoryTransport()
        self.below.peer = MemoryTransport()
        limits = Limits(h2_queued_control=queued_control)
        self.frame_reader = FrameReader(limits, Http2Statistics(), is_client=False)
        self.sender = Sender(self.below, self.frame_reader, limits, lambda: self.now)
        self.sender.window = 2**20

    def stream(self, number: int, *, waiting: int = 0, window: int = 2**20) -> Http2Stream:
        """Make a stream with so many bytes that wait."""
        stream = Http2Stream(Carrier(self.sender), number, send_window=window, receive_window=ReceiveWindow(1, 1))
        stream.outgoing += bytes(waiting)
        return stream

    def sent(self) -> list[tuple[int, int, int]]:
        """Give the frames that have gone since this was asked last: kind or stream of DATA, length, flags."""
        frames, wire = [], bytes(self.below.written)
        self.below.written.clear()
        while wire:
            length, kind, flags = int.from_bytes(wire[:3], "big"), wire[3], wire[4]
            frames.append((-kind if kind else int.from_bytes(wire[5:9], "big"), length, flags))
            wire = wire[9 + length :]
        return frames


# ---- at once ----


@pytest.mark.parametrize(
    ("size", "lengths"),
    [
        (0, [0]),
        (1, [1]),
        (FRAME, [FRAME]),
        (FRAME + 1, [FRAME, 1]),
        (2 * FRAME, [FRAME, FRAME]),
        (BATCH, [FRAME] * 4),
    ],
)
def test_a_write_goes_in_as_few_frames_as_it_can_and_the_last_has_the_flags(size: int, lengths: list[int]) -> None:
    outlet = Outlet()
    stream = outlet.stream(1)
    assert outlet.sender.send_now(stream, bytes(size), END_STREAM)
    assert outlet.sent() == [(1, length, 0) for length in lengths[:-1]] + [(1, lengths[-1], END_STREAM)]
    assert (stream.send_window, outlet.sender.window) == (2**20 - size, 2**20 - size)
    assert outlet.frame_reader.counts.data_frames_sent == len(lengths)
    assert outlet.frame_reader.window_updates == 5 + 20 * len(lengths)  # that the peer may answer with


@pytest.mark.parametrize("size", [1, 100, 2 * FRAME])
def test_a_write_may_use_the_windows_to_their_last_byte(size: int) -> None:
    outlet = Outlet()
    stream = outlet.stream(1, window=size)
    outlet.sender.window = size
    assert not outlet.sender.blocked
    assert outlet.sender.send_now(stream, bytes(size))
    assert (stream.send_window, outlet.sender.window, outlet.sender.blocked) == (0, 0, True)
    assert not outlet.sender.send_now(stream, b"x")


@pytest.mark.parametrize("before", ["a stream", "control", "stream's window", "window", "size"])
def test_a_write_waits_for_what_is_before_it_and_for_the_windows(before: str) -> None:
    outlet = Outlet()
    stream = outlet.stream(1)
    size = 100
    match before:
        case "a stream":
            outlet.sender.queue(outlet.stream(3, waiting=1))
        case "control":
            outlet.sender.control(PING)
        case "stream's window":
            stream.send_window = 99
        case "window":
            outlet.sender.window = 99
        case _:
            size = BATCH + 1
    assert not outlet.sender.send_now(stream, bytes(size))
    assert outlet.sent() == []


def test_no_more_is_written_while_a_batch_waits_below() -> None:
    outlet = Outlet()
    outlet.below.room = 0
    stream = outlet.stream(1)
    assert outlet.sender.send_now(stream, bytes(BATCH - 9 - 4 * 9))
    assert (outlet.below.unsent, outlet.sender.blocked) == (BATCH - 9, False)
    assert outlet.sender.send_now(stream, b"")
    assert (outlet.below.unsent, outlet.sender.blocked) == (BATCH, True)
    assert not outlet.sender.send_now(stream, b"x")
    stream.outgoing += b"x"
    outlet.sender.queue(stream)
    outlet.sender.control(PING)
    outlet.sender.flush()
    assert outlet.below.unsent == BATCH
    outlet.below.make_room(1)
    outlet.sender.flush()
    assert outlet.below.unsent == BATCH - 1 + len(PING)  # a whole batch again: DATA waits on
    outlet.below.make_room(math.inf)
    outlet.sender.flush()
    assert outlet.sent()[-2:] == [(-6, 8, 0), (1, 1, 0)]


def test_a_write_waits_for_room_below_whatever_took_it() -> None:
    outlet = Outlet()
    outlet.below.room = 0
    outlet.sender.queue(outlet.stream(1, waiting=BATCH))
    outlet.sender.flush()
    assert not outlet.sender.send_now(outlet.stream(3), b"x")
    outlet.below.make_room(100)
    assert outlet.sender.send_now(outlet.stream(3), b"x")


def test_what_is_held_back_goes_with_the_next_flush_before_all_else() -> None:
    outlet = Outlet()
    outlet.sender.holding = True
    assert outlet.sender.idle
    assert outlet.sender.send_now(outlet.stream(1), b"1")
    assert not outlet.sender.idle
    assert outlet.sent() == []
    outlet.sender.control(PING)
    outlet.sender.queue(outlet.stream(3, waiting=3))
    outlet.sender.flush()
    assert outlet.sent() == [(1, 1, 0), (-6, 8, 0), (3, 3, 0)]
    assert outlet.sender.idle


@pytest.mark.parametrize(("size", "goes"), [(FRAME - 9 - 1, False), (FRAME - 9, True)])
def test_no_more_is_held_back_than_a_record(size: int, goes: bool) -> None:
    outlet = Outlet()
    outlet.sender.holding = True
    assert outlet.sender.send_now(outlet.stream(1), bytes(size))
    assert bool(outlet.sent()) is goes
    assert outlet.sender.send_now(outlet.stream(1), bytes(100))
    assert bool(outlet.sent()) is not goes  # what went is not counted again


# ---- in turns ----


def test_streams_take_turns_of_a_frame_and_a_batch_goes_at_a_time() -> None:
    outlet = Outlet()
    outlet.below.room = 0
    for number in (1, 3):
        outlet.sender.queue(outlet.stream(number, waiting=4 * FRAME))
    outlet.sender.queue(outlet.stream(5, waiting=10))
    outlet.sender.flush()
    outlet.below.make_room(math.inf)
    assert outlet.sent() == [(1, FRAME, 0), (3, FRAME, 0), (5, 10, 0), (1, FRAME, 0), (3, FRAME, 0)]
    outlet.sender.flush()
    assert outlet.sent() == [(1, FRAME, 0), (3, FRAME, 0), (1, FRAME, 0), (3, FRAME, 0)]
    assert outlet.sender.idle


@pytest.mark.parametrize(("unsent", "frames"), [(0, 4), (1, 4), (FRAME, 3), (BATCH - 1, 1), (BATCH, 0)])
def test_what_waits_below_is_a_part_of_the_batch(unsent: int, frames: int) -> None:
    outlet = Outlet()
    outlet.below.room = 0
    outlet.below.write(bytes(unsent))
    outlet.sender.queue(outlet.stream(1, waiting=5 * FRAME))
    outlet.sender.flush()
    assert outlet.below.unsent == unsent + frames * (FRAME + 9)


def test_the_end_of_a_stream_goes_right_behind_its_last_bytes() -> None:
    outlet = Outlet()
    stream, other = outlet.stream(1, waiting=1), outlet.stream(3, waiting=1)
    for one in (stream, other):
        outlet.sender.queue(one)
    stream.write_eof()
    outlet.sender.flush()
    assert outlet.sent() == [(1, 1, 0), (3, 1, 0), (-1, 0, END_STREAM)]
    assert outlet.sender.idle


@pytest.mark.parametrize("window", [0, -5])
def test_a_stream_whose_window_is_taken_back_in_the_line_stalls(window: int) -> None:
    outlet = Outlet()
    stream = outlet.stream(1, waiting=10)
    outlet.sender.queue(stream)
    stream.send_window = window
    outlet.sender.flush()
    assert outlet.sent() == []
    assert (outlet.sender.stalled_since, outlet.sender.longest_stalled()) == (0.0, stream)


def test_a_stream_has_one_turn_however_often_it_is_queued() -> None:
    outlet = Outlet()
    stream, other = outlet.stream(1, waiting=2 * FRAME), outlet.stream(3, waiting=1)
    for one in (stream, stream, other, outlet.stream(5)):
        outlet.sender.queue(one)
    outlet.sender.flush()
    assert outlet.sent() == [(1, FRAME, 0), (3, 1, 0), (1, FRAME, 0)]


def test_a_turn_is_cut_at_each_window() -> None:
    outlet = Outlet()
    first, second = outlet.stream(1, waiting=100, window=30), outlet.stream(3, waiting=100)
    outlet.sender.window = 50
    outlet.sender.queue(first)
    outlet.sender.queue(second)
    outlet.sender.flush()
    assert outlet.sent() == [(1, 30, 0), (3, 20, 0)]
    assert (first.send_window, outlet.sender.window) == (0, 0)


# ---- who waits for a window ----


def test_a_stream_stalls_from_when_it_has_something_to_send_and_no_window() -> None:
    outlet = Outlet()
    first, second = outlet.stream(1, waiting=1, window=0), outlet.stream(3, waiting=1, window=-1)
    assert outlet.sender.stalled_since == math.inf
    for outlet.now, stream in ((1.0, first), (2.0, second), (3.0, first)):
        outlet.sender.queue(stream)
    assert (outlet.sender.stalled_since, outlet.sender.longest_stalled()) == (1.0, first)
    first.send_window = 1
    outlet.sender.queue(first)
    assert (outlet.sender.stalled_since, outlet.sender.longest_stalled()) == (2.0, second)
    outlet.sender.forget(second)
    assert outlet.sender.stalled_since == math.inf
    outlet.sender.flush()
    assert outlet.sent() == [(1, 1, 0)]


def test_the_connections_window_stalls_all_from_when_it_is_first_missed() -> None:
    outlet = Outlet()
    first, second = outlet.stream(1, waiting=2), outlet.stream(3, waiting=2)
    outlet.sender.window = 1
    outlet.now = 1.0
    for stream in (first, second):
        outlet.sender.queue(stream)
    outlet.sender.flush()
    assert outlet.sent() == [(1, 1, 0)]
    outlet.now = 2.0
    outlet.sender.flush()
    assert (outlet.sender.stalled_since, outlet.sender.longest_stalled()) == (1.0, second)
    outlet.sender.queue(outlet.stream(5, waiting=1, window=0))  # which waits for a shorter time
    assert outlet.sender.longest_stalled() is second
    outlet.sender.forget(second)
    assert (outlet.sender.stalled_since, outlet.sender.longest_stalled()) == (1.0, first)
    outlet.sender.open_window(1)
    assert outlet.sender.stalled_since == 2.0
    outlet.sender.flush()
    assert outlet.sent() == [(1, 1, 0)]


def test_a_stream_that_goes_gives_up_its_turn_and_with_the_last_nobody_waits() -> None:
    outlet = Outlet()
    outlet.sender.window = 0
    stream = outlet.stream(1, waiting=1)
    outlet.sender.queue(stream)
    outlet.sender.flush()
    assert outlet.sender.stalled_since == 0.0
    outlet.sender.forget(stream)
    assert outlet.sender.stalled_since == math.inf
    assert outlet.sender.idle
    outlet.sender.queue(stream)  # it has no turn any more
    assert not outlet.sender.idle


def test_the_connections_window_may_be_as_large_as_any() -> None:
    outlet = Outlet()
    outlet.sender.open_window(2**31 - 1 - 2**20)
    assert outlet.sender.window == 2**31 - 1
    with pytest.raises(Http2ConnectionError, match="the connection's window is too large"):
        outlet.sender.open_window(1)


# ---- control frames ----


def test_control_frames_go_together_and_before_data() -> None:
    outlet = Outlet()
    outlet.sender.control(b"")
    outlet.sender.control(PING)
    assert not outlet.sender.idle
    outlet.sender.queue(outlet.stream(1, waiting=1))
    outlet.sender.control(PING)
    outlet.sender.flush()
    assert outlet.sent() == [(-6, 8, 0), (-6, 8, 0), (1, 1, 0)]


def test_as_many_control_frames_may_wait_as_the_limit_says() -> None:
    outlet = Outlet(queued_control=3)
    outlet.below.room = 0
    assert outlet.sender.send_now(outlet.stream(1), bytes(BATCH))
    for _ in range(3):
        outlet.sender.control(PING)
    outlet.sender.flush()
    outlet.sender.control(PING)
    with pytest.raises(Http2ConnectionError) as caught:
        outlet.sender.flush()
    assert caught.value.limit == "h2_queued_control"
    outlet.below.make_room(math.inf)
    outlet.sender.flush()
    assert outlet.sent()[4:] == [(-6, 8, 0)] * 4
