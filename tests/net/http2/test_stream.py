"""A stream as a transport, over a connection that does what a test says."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from trio_ws._net.http2.frame_reader import Http2ConnectionError, error_name
from trio_ws._net.http2.receive_window import ReceiveWindow
from trio_ws._net.http2.stream import MAX_INFORMATIONAL, Http2Stream, StreamReset
from trio_ws._reactor import Reactor


class Recorder:
    """A connection that notes what a stream asks for.

    Attributes:
        log: that.
        takes: whether short writes go at once.
    """

    local_address = ("127.0.0.1", 1)
    remote_address = ("127.0.0.1", 2)
    heard_at = 5.0
    ssl_object = None
    socket_reactor = None
    blocked = False

    def __init__(self) -> None:
        self.log: list[object] = []
        self.takes = True
        self.woken: set[Http2Stream] = set()
        self.streams: dict[int, Http2Stream] = {}

    def send_now(self, stream: Http2Stream, data: bytes) -> bool:
        if self.takes:
            self.log.append(data)
        return self.takes

    def send_last(self, stream: Http2Stream, data: bytes) -> None:
        self.log.append((data, "last"))

    def queue(self, stream: Http2Stream) -> None:
        self.log.append("queue")

    def end(self, stream: Http2Stream) -> None:
        stream.local_ended = True
        self.log.append("end")

    def drop(self, stream: Http2Stream) -> None:
        self.log.append("drop")

    def give_back(self, stream: Http2Stream, unread: int) -> None:
        self.log.append(stream.receive_window.update(unread, now=0.0, round_trip=0.0, spare=0))

    def charge(self, cost: int) -> None:
        if cost:
            self.log.append(("charge", cost))

    def refund(self, cost: int) -> None:
        if cost:
            self.log.append(("refund", cost))

    def ask(self) -> bool:
        return True


class Told:
    """Whoever receives from a stream, and the reactor: notes what it is told, and takes its steps when a test says."""

    def __init__(self) -> None:
        self.log: list[object] = []
        self.steps: list[Callable[[], None]] = []

    def call_soon(self, receiver: object, step: Callable[[], None]) -> None:
        self.steps.append(step)

    def take_steps(self) -> None:
        steps, self.steps = self.steps, []
        for step in steps:
            step()

    def data_received(self, data: bytes) -> None:
        self.log.append(data)

    def eof_received(self) -> None:
        self.log.append("end")

    def peer_ended(self) -> None:
        self.log.append("end to come")

    def connection_lost(self, error: Exception) -> None:
        self.log.append(error)

    def resume_writing(self) -> None:
        self.log.append("room")

    def crash(self, error: Exception) -> None:
        raise error


def make() -> tuple[Http2Stream, Recorder]:
    recorder = Recorder()
    return Http2Stream(recorder, 1, send_window=100, receive_window=ReceiveWindow(100, 100)), recorder


async def test_every_wait_is_a_checkpoint() -> None:
    stream, recorder = make()
    with assert_checkpoints():
        await stream.drain()
    stream.arrive(b"x", 1, 255)
    with assert_checkpoints():
        await stream.wait_readable()
    assert stream.read() == b"x"
    assert recorder.log == [("charge", 255), ("refund", 255)]
    assert stream.read() is None


async def test_an_abort_wakes_whoever_waits(nursery: trio.Nursery) -> None:
    stream, recorder = make()
    recorder.takes = False
    stream.write(b"x")
    for wait in (stream.wait_readable, stream.drain):
        nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert len(nursery.child_tasks) == 2
    stream.abort()
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks
    assert stream.unsent == 0


async def test_who_waits_for_the_end_of_a_stream_waits_though_it_is_cancelled(nursery: trio.Nursery) -> None:
    stream, _ = make()
    ended = trio.Event()

    async def wait() -> None:
        await stream.wait_closed()
        ended.set()

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await wait_all_tasks_blocked()
        assert not ended.is_set()
        stream.abort()
        await ended.wait()


async def test_a_handshake_goes_on_when_some_of_what_waits_has_gone(nursery: trio.Nursery) -> None:
    stream, recorder = make()
    recorder.takes = False
    stream.write(b"four")
    gone = trio.Event()

    async def drain() -> None:
        await stream.drain()
        gone.set()

    nursery.start_soon(drain)
    await wait_all_tasks_blocked()
    assert not gone.is_set()
    stream.take(1)
    await wait_all_tasks_blocked()
    assert gone.is_set()


async def test_the_end_goes_behind_what_waits() -> None:
    stream, recorder = make()
    recorder.takes = False
    stream.write(b"abc")
    stream.write(b"def")
    stream.write_eof()
    stream.write_eof()
    stream.write(b"too late")
    assert (stream.unsent, stream.congested) == (6, True)
    assert stream.take(4) == b"abcd"
    assert recorder.log == ["queue", "queue"]
    assert stream.take(4) == b"ef"
    assert recorder.log == ["queue", "queue", "end"]


async def test_the_last_bytes_take_the_end_with_them_unless_others_wait() -> None:
    stream, recorder = make()
    stream.write_last(b"bye")
    stream.write_last(b"again")
    assert recorder.log == [(b"bye", "last")]
    stream, recorder = make()
    recorder.takes = False
    stream.write(b"x")
    stream.write_last(b"bye")
    assert recorder.log == ["queue"]
    assert stream.unsent == 1


def test_each_time_that_bytes_have_gone_room_is_told_of_once() -> None:
    stream, recorder = make()
    told = Told()
    stream.start(told, cast("Reactor", told))
    recorder.takes = False
    stream.write(b"four")
    for _ in range(2):
        stream.take(1)
        stream.take(1)
        assert told.log == []  # not at once
        told.take_steps()
        assert told.log == ["room"]
        told.log.clear()


def test_what_is_held_stays_while_reading_is_paused_again() -> None:
    stream, _ = make()
    told = Told()
    stream.start(told, cast("Reactor", told))
    stream.pause_reading()
    stream.arrive(b"held", 4, 0, ended=True)
    stream.resume_reading()
    stream.pause_reading()
    told.take_steps()
    assert told.log == ["end to come"]
    stream.resume_reading()
    told.take_steps()
    assert told.log == ["end to come", b"held", "end"]


def test_what_is_held_is_told_when_reading_goes_on_and_no_end_with_it() -> None:
    stream, _ = make()
    told = Told()
    stream.start(told, cast("Reactor", told))
    stream.pause_reading()
    stream.arrive(b"held", 4, 0)
    stream.resume_reading()
    told.take_steps()
    assert told.log == [b"held"]
    stream.arrive(b"more", 4, 0)
    stream.finish()
    assert told.log == [b"held", b"more", "end"]


def test_what_came_before_the_start_is_told_after_it() -> None:
    for ended in (False, True):
        stream, _ = make()
        stream.arrive(b"early", 5, 0, ended=ended)
        told = Told()
        stream.start(told, cast("Reactor", told))
        assert told.log == []
        told.take_steps()
        assert told.log == [b"early", "end"][: 1 + ended]


def test_nobody_is_told_of_anything_after_an_abort() -> None:
    stream, _ = make()
    told = Told()
    stream.start(told, cast("Reactor", told))
    stream.pause_reading()
    stream.arrive(b"held", 4, 0, ended=True)
    assert told.log == ["end to come"]
    stream.resume_reading()
    stream.abort()
    stream.resume_reading()
    assert len(told.steps) == 1
    told.take_steps()
    stream.arrive(b"late", 4, 0)
    stream.fail(StreamReset(8, "late"))
    assert (told.log, told.steps) == (["end to come"], [])


@pytest.mark.parametrize(
    ("window", "takes", "blocked", "congested"),
    [
        (2, True, False, False),
        (1, True, False, False),
        (0, True, False, True),
        (-1, True, False, True),
        (1, False, False, True),
        (1, True, True, True),
    ],
)
def test_a_stream_is_congested_if_what_it_writes_would_wait(
    window: int, takes: bool, blocked: bool, congested: bool
) -> None:
    stream, recorder = make()
    recorder.takes, recorder.blocked = takes, blocked
    stream.write(b"x")
    stream.send_window = window
    assert stream.congested is congested


def test_what_is_written_does_not_overtake_what_waits() -> None:
    stream, recorder = make()
    recorder.takes = False
    stream.write(b"first, ")
    recorder.takes = True
    stream.write(b"second")
    assert recorder.log == ["queue", "queue"]
    assert stream.take(100) == b"first, second"
    stream.write(b"third")
    assert recorder.log == ["queue", "queue", b"third"]


async def test_the_window_is_given_back_by_halves() -> None:
    stream, recorder = make()
    stream.give_back()
    stream.arrive(bytes(40), 49, 0)  # 9 of padding, which nobody has to take
    assert stream.read() == bytes(40)
    stream.give_back()
    assert recorder.log == []
    stream.arrive(bytes(1), 1, 0)
    stream.arrive(bytes(2), 2, 0)
    assert stream.read() == bytes(3)
    stream.give_back()
    stream.give_back()
    assert recorder.log == [52]
    assert stream.receive_window.available == 100


@pytest.mark.parametrize("end", ["finish", "abort"])
def test_the_window_of_what_has_ended_is_not_given_back(end: str) -> None:
    stream, recorder = make()
    stream.arrive(bytes(80), 80, 0)
    assert stream.read() == bytes(80)
    getattr(stream, end)()
    recorder.log.clear()
    stream.give_back()
    assert recorder.log == []


async def test_what_waits_for_the_application_is_not_given_back() -> None:
    stream, recorder = make()
    stream.arrive(bytes(80), 80, 0)
    assert stream.read() == bytes(80)
    stream.arrive(bytes(10), 10, 0)
    assert stream.give_back(60) == 30  # a half is worth an update: 10 are unread, and no more than 30 may wait
    assert recorder.log == []
    assert stream.give_back(30) < 0
    assert recorder.log == [50]
    assert stream.receive_window.available == 60


def test_what_small_frames_cost_is_refunded_once() -> None:
    stream, recorder = make()
    for size in (1, 2):
        stream.arrive(bytes(size), size, 256 - size)
        assert stream.read() == bytes(size)
    stream.arrive(bytes(3), 3, 253)
    stream.abort()
    assert recorder.log == [
        *(("charge", 255), ("refund", 255), ("charge", 254), ("refund", 254)),
        *(("charge", 253), "drop", ("refund", 253)),
    ]
    stream, recorder = make()
    told = Told()
    stream.start(told, cast("Reactor", told))
    stream.arrive(b"x", 1, 255)  # it goes up at once
    assert recorder.log == []


async def test_small_frames_that_wait_are_one_object() -> None:
    stream, _ = make()
    for size in (20, 1, 2, 3):
        stream.arrive(bytes(size), size, 256 - size)
    assert len(stream._arrived) == 1
    data = stream.read()
    assert (data, type(data)) == (bytes(26), bytes)


async def test_what_has_come_is_read_after_a_reset_and_its_reason_is_told() -> None:
    stream, recorder = make()
    stream.arrive(b"last words", 10, 0)
    stream.was_reset(0x1234)
    assert stream.read() == b"last words"
    assert stream.read() == b""
    assert str(stream.error) == "the peer reset the stream: 0x1234"
    stream.write(b"dropped")
    stream.write_last(b"dropped")
    stream.write_eof()
    assert (stream.unsent, recorder.log) == (0, [])


@pytest.mark.parametrize("code", [7, 8])
@pytest.mark.parametrize("ended", ["neither", "ours", "the peer's"])
def test_a_reset_before_both_ends_is_an_error_and_the_end(ended: str, code: int) -> None:
    stream, _ = make()
    told = Told()
    stream.start(told, cast("Reactor", told))
    if ended == "ours":
        stream.write_eof()
    elif ended == "the peer's":
        stream.finish()
        told.log.clear()
    stream.was_reset(code)
    assert isinstance(stream.error, StreamReset)
    assert stream.error.retryable is (code == 7)  # REFUSED_STREAM
    assert told.log == [stream.error]
    assert stream.both_ended


async def test_who_waits_for_room_or_input_is_woken_by_a_reset(nursery: trio.Nursery) -> None:
    stream, recorder = make()
    recorder.takes = False
    stream.write(b"x")
    for wait in (stream.wait_readable, stream.drain):
        nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    assert len(nursery.child_tasks) == 2
    stream.was_reset(8)
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks
    assert stream.unsent == 0


@pytest.mark.parametrize(
    ("status", "ended", "awaits"),
    [("103", False, True), ("103", True, False), ("200", False, False), ("", False, False)],
)
def test_an_answer_is_awaited_until_one_counts_or_ends(status: str, ended: bool, awaits: bool) -> None:
    stream, _ = make()
    stream.awaits_answer = True
    stream.take_headers([(":status", status)] if status else None, ended=ended)
    assert (stream.awaits_answer, stream.remote_ended, len(stream.answers)) == (awaits, ended, 1)


def test_only_so_many_interim_answers_are_kept_before_somebody_looks() -> None:
    stream, _ = make()
    stream.awaits_answer = True
    for _ in range(MAX_INFORMATIONAL):
        stream.take_headers([(":status", "103")], ended=False)
    assert stream.awaits_answer
    stream.take_headers([(":status", "103")], ended=False)
    assert not stream.awaits_answer


async def test_nobody_waits_for_input_after_the_end() -> None:
    stream, _ = make()
    stream.arrive(b"", 0, 0)
    assert stream.read() is None  # an empty frame is no end
    stream.finish()
    with assert_checkpoints(), trio.fail_after(5):
        await stream.wait_readable()
    assert stream.read() == b""


async def test_a_reset_after_both_ends_is_no_error() -> None:
    stream, _ = make()
    stream.write_eof()
    stream.finish()
    stream.was_reset(8)
    assert stream.error is None


async def test_an_abort_is_harmless_when_repeated() -> None:
    stream, recorder = make()
    stream.arrive(b"x", 1, 255)
    stream.abort()
    stream.abort()
    await stream.wait_closed()
    assert recorder.log == [("charge", 255), "drop", ("refund", 255)]
    assert stream.read() == b""
    with assert_checkpoints():
        await stream.wait_readable()
    stream.write(b"dropped")
    stream.write_last(b"dropped")
    stream.write_eof()
    stream.give_back()
    assert recorder.log == [("charge", 255), "drop", ("refund", 255)]


@pytest.mark.parametrize(("code", "name"), [(0xB, "ENHANCE_YOUR_CALM (0xb)"), (0x99, "0x99")])
def test_error_codes_have_names(code: int, name: str) -> None:
    assert error_name(code) == name
    assert str(StreamReset(code, "why")) == f"why: {name}"
    assert Http2ConnectionError(code, "why").limit == ""
