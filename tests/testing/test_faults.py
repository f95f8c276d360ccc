"""Each fault hurts a stream as it says, and nothing else."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_ws.testing import (
    BreakAfter,
    ChaosStream,
    ChunkedStream,
    DelayedStream,
    MemoryStream,
    NoHalfClose,
    PartialWriteStream,
    RecordingStream,
    StallAfter,
    WrappedStream,
    memory_stream_pair,
)


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    while more := bytes(await stream.receive_some()):
        data += more
    return data


async def make_wrapped() -> tuple[WrappedStream, WrappedStream]:
    await trio.lowlevel.checkpoint()
    one, other = memory_stream_pair()
    return WrappedStream(one), WrappedStream(other)


async def make_without_half_close() -> tuple[NoHalfClose, NoHalfClose]:
    await trio.lowlevel.checkpoint()
    one, other = memory_stream_pair()
    return NoHalfClose(one), NoHalfClose(other)


async def test_a_wrapped_stream_is_a_stream() -> None:
    await trio.testing.check_half_closeable_stream(make_wrapped, None)


async def test_a_stream_without_half_close_is_a_stream() -> None:
    await trio.testing.check_two_way_stream(make_without_half_close, None)
    assert not issubclass(NoHalfClose, trio.abc.HalfCloseableStream)


async def test_a_stream_that_cannot_end_one_direction_is_closed_in_its_place() -> None:
    one, other = memory_stream_pair()
    await WrappedStream(NoHalfClose(one)).send_eof()
    assert await other.receive_some() == b""
    with pytest.raises(trio.ClosedResourceError):
        await one.receive_some()


async def test_chunks() -> None:
    one, other = memory_stream_pair()
    await one.send_all(b"abcde")
    chunked = ChunkedStream(other, 2)
    assert [await chunked.receive_some(), await chunked.receive_some(1), await chunked.receive_some(9)] == [
        b"ab",
        b"c",
        b"de",
    ]


async def test_partial_writes_can_be_torn(autojump_clock: trio.testing.MockClock) -> None:
    one, other = memory_stream_pair()
    with trio.move_on_after(1.5):
        await PartialWriteStream(one, 2, delay=1.0).send_all(b"abcdef")
    assert trio.current_time() == 1.5
    assert await other.receive_some() == b"abcd"
    await PartialWriteStream(one, 2).send_all(b"efg")
    assert await other.receive_some() == b"efg"


async def test_delays(autojump_clock: trio.testing.MockClock) -> None:
    one, other = memory_stream_pair()
    await DelayedStream(one, 3).send_all(b"x")
    assert trio.current_time() == 3
    slow = DelayedStream(other, 2)
    with trio.move_on_after(1):
        await slow.receive_some()
    assert (await slow.receive_some(), trio.current_time()) == (b"x", 6)


async def test_breaking_after_what_was_sent() -> None:
    one, other = memory_stream_pair()
    broken = BreakAfter(one, sent=3, error=lambda: OSError("cut"))
    with pytest.raises(OSError, match="cut"):
        await broken.send_all(b"abcdef")
    assert await other.receive_some() == b"abc"
    with pytest.raises(OSError, match="cut"):
        await broken.receive_some()


async def test_breaking_after_what_was_received() -> None:
    one, other = memory_stream_pair()
    broken = BreakAfter(one, received=3)
    await broken.send_all(b"still")
    await other.send_all(b"abcdef")
    assert [await broken.receive_some(2), await broken.receive_some(2)] == [b"ab", b"c"]
    with pytest.raises(trio.BrokenResourceError):
        await broken.send_all(b"no more")
    unlimited = BreakAfter(other)
    assert (await unlimited.receive_some(2), await unlimited.receive_some()) == (b"st", b"ill")


async def test_stalling(autojump_clock: trio.testing.MockClock) -> None:
    one, other = memory_stream_pair()
    stalled = StallAfter(one, 3, received=2)
    for data in (b"ab", b"cd", b"e"):
        with trio.move_on_after(1):
            await stalled.send_all(data)
    await other.send_all(b"abc")
    assert await stalled.receive_some() == b"ab"
    with trio.move_on_after(1):
        await stalled.receive_some()
    assert (trio.current_time(), await other.receive_some()) == (3, b"abc")
    await StallAfter(other).send_all(b"on")
    assert await one.receive_some() == b"con"


async def test_recording() -> None:
    one, other = memory_stream_pair()
    recorded = RecordingStream(one)
    await recorded.send_all(b"abc")
    await other.send_all(b"xy")
    await recorded.receive_some()
    assert bytes(recorded.sent) == b"abc"
    assert bytes(recorded.received) == b"xy"


async def chaos(seed: int, data: bytes, break_chance: float = 0.0) -> tuple[bytes, list[int], float]:
    """Send through chaos at both ends; tell what came, in which pieces, and how long it took."""
    one, other = memory_stream_pair(2**20)
    began = trio.current_time()
    sender = ChaosStream(RecordingStream(one), seed, break_chance=break_chance)
    try:
        await sender.send_all(data)
    except trio.BrokenResourceError:
        with pytest.raises(trio.BrokenResourceError):
            await sender.receive_some()
    await sender.send_eof()
    pieces = []
    receiver = ChaosStream(other, seed)
    while piece := bytes(await receiver.receive_some(100)):
        pieces.append(piece)
    await receiver.aclose()
    return b"".join(pieces), [len(piece) for piece in pieces], trio.current_time() - began


async def test_chaos_is_the_same_for_the_same_seed(autojump_clock: trio.testing.MockClock) -> None:
    data = bytes(range(256)) * 40
    received, pieces, seconds = await chaos(1, data)
    assert received == data
    assert len(set(pieces)) > 20
    assert seconds > 0
    again = await chaos(1, data)
    assert again[:2] == (received, pieces)
    assert again[2] == pytest.approx(seconds)
    assert (await chaos(2, data))[1] != pieces


async def test_chaos_may_break(autojump_clock: trio.testing.MockClock) -> None:
    data = bytes(range(256)) * 40
    received, _, _ = await chaos(1, data, break_chance=0.5)
    assert len(received) < len(data)
    assert data.startswith(received)


async def test_faults_combine(autojump_clock: trio.testing.MockClock) -> None:
    one, other = memory_stream_pair()
    hurt = ChunkedStream(DelayedStream(RecordingStream(one), 1), 1)
    await other.send_all(b"abc")
    await other.send_eof()
    assert await read_all(hurt) == b"abc"
    assert trio.current_time() == 4
    assert isinstance(hurt.below, DelayedStream)
    below = hurt.below.below
    assert isinstance(below, RecordingStream)
    assert isinstance(below.below, MemoryStream)
