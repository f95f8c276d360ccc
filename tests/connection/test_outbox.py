"""The way out: what goes at once, what waits, and in which order."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, assert_no_checkpoints, wait_all_tasks_blocked

from tests.connection.memory import MemoryTransport, transport_pair
from trio_ws._connection.outbox import BATCH_SIZE, Outbox
from trio_ws._wire.frames import PIECE, LargeFrame, frame_bytes


class Sink(MemoryTransport):
    """A transport that also notes what each write was given."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.resume_writing: Callable[[], None] = lambda: None

    def _tell_of_room(self) -> None:
        self.resume_writing()

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        super().write(data)


class Way:
    """An outbox and what lies around it."""

    def __init__(self, limit: int | None) -> None:
        self.sink, self.other = Sink(), MemoryTransport()
        self.sink.peer, self.other.peer = self.other, self.sink
        self.outbox = Outbox(self.sink, limit)
        self.sink.resume_writing = self.outbox.resume_writing

    def block(self, frame: bytes = b"held") -> None:
        """Let no byte go any more; the frame is the first that waits, in the transport itself."""
        self.sink.room = 0
        self.outbox.write(frame)

    async def clear(self) -> bytes:
        """Let everything go; give all that has gone."""
        await wait_all_tasks_blocked()
        self.sink.make_room(math.inf)
        await wait_all_tasks_blocked()
        return bytes(self.sink.written)


@asynccontextmanager
async def way_out(limit: int | None = 100) -> AsyncGenerator[Way, None]:
    yield Way(limit)


async def test_a_frame_goes_at_once_and_needs_no_task() -> None:
    async with way_out() as way:
        with assert_no_checkpoints():
            way.outbox.write(b"one")
            way.outbox.write_pong(b"pong")
            way.outbox.write_close(b"close")
        assert way.sink.writes == [b"one", b"pong", b"close"]
        assert (way.outbox.buffered, way.outbox.bytes_sent, way.outbox.has_room) == (0, 12, True)


async def test_what_waits_is_counted_wherever_it_waits(autojump_clock: MockClock) -> None:
    async with way_out() as way:
        way.sink.room = 3
        way.outbox.write(b"12345")
        assert way.outbox.buffered == 2
        way.outbox.write(b"frame")
        way.outbox.write_pong(b"pong")
        assert way.outbox.buffered == 2 + 5 + 4
        way.outbox.write_close(b"close")
        assert way.outbox.buffered == 2 + 5 + 4 + 5
        assert way.outbox.bytes_sent == 5
        assert await way.clear() == b"12345pongframeclose"  # RFC 6455 §5.5.2: a Ping before the Close is answered
        assert (way.outbox.buffered, way.outbox.bytes_sent) == (0, 19)


async def test_what_waits_keeps_its_order(autojump_clock: MockClock) -> None:
    async with way_out(limit=None) as way:
        for byte in range(50):
            way.outbox.write(bytes((byte,)))
            if byte == 5:
                way.sink.room = 0
        for _ in range(20):
            way.sink.make_room(1)
            await wait_all_tasks_blocked()
        assert bytes(way.sink.written) == bytes(range(26))
        assert await way.clear() == bytes(range(50))
        way.block()
        assert await way.clear() == bytes(range(50)) + b"held"
        assert way.outbox.calm


async def test_small_frames_go_together_and_large_ones_alone(autojump_clock: MockClock) -> None:
    async with way_out(limit=None) as way:
        way.block()
        sizes = [1000] * 65 + [536] + [1] + [BATCH_SIZE - 2] + [1, 1] + [BATCH_SIZE, 5, BATCH_SIZE + 1, 6, 7]
        frames = [bytes((index,)) * size for index, size in enumerate(sizes)]
        for frame in frames:
            way.outbox.write(frame)
        assert await way.clear() == b"held" + b"".join(frames)
        batches = [65536, BATCH_SIZE, 1, BATCH_SIZE, 5, BATCH_SIZE + 1, 13]
        assert [len(data) for data in way.sink.writes[1:]] == batches


async def test_a_large_frame_goes_alone_and_nothing_goes_into_it(autojump_clock: MockClock) -> None:
    large = LargeFrame(0x82, bytes(BATCH_SIZE))
    whole = large.head + large.payload
    assert (len(large), whole) == (len(whole), frame_bytes(0x2, bytes(BATCH_SIZE), masked=False))
    async with way_out(limit=None) as way:
        way.outbox.write_large(large)
        assert (bytes(way.sink.written), way.outbox.bytes_sent) == (whole, len(whole))
        way.block()
        way.outbox.write(b"-one")
        way.outbox.write_large(large)
        way.outbox.write(b"-two")
        way.outbox.write(b"-three")
        assert way.outbox.buffered == len(b"held-one-two-three") + len(whole)
        way.outbox.write_pong(b"-pong")
        assert await way.clear() == whole + b"held-pong-one" + whole + b"-two-three"
        assert way.outbox.buffered == 0
        assert way.outbox.bytes_sent == len(way.sink.written)


async def test_a_large_masked_frame_goes_in_pieces_and_nothing_goes_between(autojump_clock: MockClock) -> None:
    large = LargeFrame(0x82, bytes(2 * PIECE + 1), b"mask")
    whole = large.head + b"mask" * (PIECE // 2) + b"m"
    async with way_out(limit=None) as way:
        way.outbox.write_large(large)
        assert [len(data) for data in way.sink.writes] == [len(large.head) + PIECE, PIECE, 1]
        way.block()
        way.outbox.write_large(large)
        way.outbox.write(b"-one")
        way.outbox.write_pong(b"-pong")
        assert await way.clear() == whole + b"held-pong" + whole + b"-one"
        assert (way.outbox.buffered, way.outbox.bytes_sent) == (0, len(way.sink.written))


async def test_the_newest_pong_waits_and_goes_before_the_frames(autojump_clock: MockClock) -> None:
    async with way_out() as way:
        way.block()
        way.outbox.write(b"-frame")
        for number in range(9):
            way.outbox.write_pong(b"-pong%d" % number)
        assert await way.clear() == b"held-pong8-frame"


async def test_the_close_goes_after_everything(autojump_clock: MockClock) -> None:
    async with way_out(limit=None) as way:
        way.block()
        way.outbox.write(b"-one")
        way.outbox.write_close(b"-close")
        way.outbox.write(b"-two")  # nobody does this, and it would still go before
        assert await way.clear() == b"held-one-two-close"


@pytest.mark.parametrize("write", [Outbox.write_pong, Outbox.write_close])
async def test_nothing_waits_behind_what_has_gone(
    write: Callable[[Outbox, bytes], None], autojump_clock: MockClock
) -> None:
    async with way_out() as way:
        way.block()
        way.sink.make_room(math.inf)
        write(way.outbox, b"-now")
        assert bytes(way.sink.written) == b"held-now"
        assert await way.clear() == b"held-now"


@pytest.mark.parametrize("write", [Outbox.write_pong, Outbox.write_close])
async def test_what_the_transport_holds_of_its_own_is_waited_for(
    write: Callable[[Outbox, bytes], object], autojump_clock: MockClock
) -> None:
    async with way_out() as way:
        way.sink.room = 0
        way.sink.write(b"records")  # as TLS does, which the outbox is not told
        write(way.outbox, b"-frame")
        assert way.outbox.buffered == 13
        assert await way.clear() == b"records-frame"


async def test_a_pong_tells_whether_it_took_the_place_of_one(autojump_clock: MockClock) -> None:
    async with way_out() as way:
        assert not way.outbox.write_pong(b"gone")
        way.block()
        assert [way.outbox.write_pong(b"1"), way.outbox.write_pong(b"2")] == [False, True]


async def test_in_a_hurry_everything_is_handed_over_that_the_transport_has_a_use_for(autojump_clock: MockClock) -> None:
    async with way_out() as way:
        way.block()
        way.outbox.write(b"-frame")
        way.outbox.write_pong(b"-pong")
        way.outbox.flush_now(b"")
        assert (bytes(way.sink.written), way.outbox.buffered) == (b"", 4 + 6 + 5)  # it is congested
        way.sink.make_room(4 + 5 + 2)
        way.outbox.flush_now(b"-goodbye")
        assert bytes(way.sink.written) == b"held-pong-f"
        assert way.sink.writes == [b"held", b"-pong", b"-frame", b"-goodbye"]
        assert await way.clear() == b"held-pong-frame-goodbye"


async def test_in_a_hurry_what_waits_goes_before_the_outbox_was_told_of_room(autojump_clock: MockClock) -> None:
    async with way_out() as way:
        way.block()
        way.outbox.write(b"-frame")
        way.sink.resume_writing = lambda: None  # a stream of HTTP/2 tells it a step later
        way.sink.make_room(math.inf)
        way.outbox.flush_now(b"-goodbye")
        assert bytes(way.sink.written) == b"held-frame-goodbye"
        assert way.outbox.bytes_sent == len(b"held-frame-goodbye")


async def test_what_waits_has_waited_since_it_began_to(autojump_clock: MockClock) -> None:
    async with way_out() as way:
        await trio.sleep(5)
        way.block()
        began = trio.current_time()
        assert way.outbox.waiting_since == began
        await trio.sleep(5)
        way.outbox.write(b"-frame")
        assert way.outbox.waiting_since == began


# ---- the line ----


async def stand_in_line(way: Way, name: bytes) -> None:
    if not way.outbox.has_room:
        await way.outbox.wait_for_room()
    way.outbox.write(name * 60)
    way.outbox.let_next_in()


async def test_there_is_room_below_the_limit(autojump_clock: MockClock) -> None:
    async with way_out(limit=100) as way:
        way.block(b"x" * 99)
        assert way.outbox.has_room
        assert way.outbox.has_space
        way.outbox.write(b"y")
        assert not way.outbox.has_room
        assert not way.outbox.has_space
        way.sink.make_room(1)
        assert way.outbox.has_room
        assert way.outbox.has_space


async def test_with_a_limit_of_0_there_is_room_while_nothing_waits(autojump_clock: MockClock) -> None:
    async with way_out(limit=0) as way:
        assert way.outbox.has_room
        assert way.outbox.has_space
        way.block(b"x")
        assert not way.outbox.has_room
        assert not way.outbox.has_space


async def test_without_a_limit_there_is_always_room(autojump_clock: MockClock) -> None:
    async with way_out(limit=None) as way:
        way.block(b"x" * 10**6)
        assert way.outbox.has_room


async def test_nobody_overtakes_in_the_line(autojump_clock: MockClock) -> None:
    async with way_out(limit=50) as way:
        way.block()
        way.outbox.write(b"-" * 60)
        async with trio.open_nursery() as nursery:
            for name in (b"a", b"b", b"c", b"d"):
                nursery.start_soon(stand_in_line, way, name)
                await wait_all_tasks_blocked()
            assert not way.outbox.has_room
            for _ in range(320):
                way.sink.make_room(1)
                await trio.lowlevel.checkpoint()
                assert way.outbox.buffered <= 49 + 60
            assert await way.clear() == b"held" + b"".join(byte * 60 for byte in (b"-", b"a", b"b", b"c", b"d"))


@pytest.mark.parametrize("_", range(8))  # trio shuffles the tasks of one pass
async def test_two_are_never_let_in_for_the_room_of_one(_: int, autojump_clock: MockClock) -> None:
    async with way_out(limit=50) as way:
        way.block()
        way.outbox.write(b"-" * 60)
        async with trio.open_nursery() as nursery:
            for name in (b"a", b"b", b"c"):
                nursery.start_soon(stand_in_line, way, name)
                await wait_all_tasks_blocked()
            way.sink.room = 64
            way.sink.make_room(0)
            await trio.lowlevel.checkpoint()
            for _ in range(3):
                way.outbox.let_next_in()  # as when room is found twice before the first one has run
            assert not way.outbox.has_room
            await way.clear()
            assert way.outbox.calm
        assert await way.clear() == b"held" + b"".join(byte * 60 for byte in (b"-", b"a", b"b", b"c"))


async def test_the_way_is_not_calm_until_one_that_was_let_in_has_run(autojump_clock: MockClock) -> None:
    async with way_out(limit=50) as way:
        way.block(b"x" * 60)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stand_in_line, way, b"a")
            await wait_all_tasks_blocked()
            way.sink.make_room(math.inf)
            way.outbox.let_next_in()
            assert not way.outbox.calm  # or the next sender would go before it, and take its room
            assert not way.outbox.has_room
        assert way.outbox.calm


async def test_one_that_is_cancelled_leaves_the_line(autojump_clock: MockClock) -> None:
    async with way_out(limit=50) as way:
        way.block()
        way.outbox.write(b"-" * 60)
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as inner:
                    inner.start_soon(stand_in_line, way, b"a")
                    await wait_all_tasks_blocked()
                    nursery.start_soon(stand_in_line, way, b"b")
                    await wait_all_tasks_blocked()
                    scope.cancel()
            await way.clear()
        assert bytes(way.sink.written) == b"held" + b"-" * 60 + b"b" * 60
        assert way.outbox.has_room


async def test_release_lets_everybody_go(autojump_clock: MockClock) -> None:
    async with way_out(limit=1) as way:
        way.block()
        gone: list[str] = []

        async def wait(name: str) -> None:
            await way.outbox.wait_for_room()
            gone.append(name)

        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(wait, name)
            await wait_all_tasks_blocked()
            way.outbox.release()
        assert sorted(gone) == ["a", "b", "c"]
        await way.clear()
        assert way.outbox.has_room


def test_the_pair_of_transports_is_joined() -> None:
    one, two = transport_pair()
    one.write(b"x")
    assert two.read() == b"x"


async def test_nobody_waits_who_comes_after_the_line_was_let_go(autojump_clock: MockClock) -> None:
    async with way_out() as way:
        way.block(bytes(100))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(way.outbox.wait_for_room)
            await wait_all_tasks_blocked()
            way.outbox.release()
            way.outbox.let_next_in()
            for wait in (way.outbox.wait_for_room, way.outbox.wait_for_space):
                with trio.fail_after(1):
                    await wait()
