"""The streams in memory are streams as trio's are, with a buffer that fills up."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_ws.testing import MemoryStream, memory_stream_pair


async def make() -> tuple[MemoryStream, MemoryStream]:
    await trio.lowlevel.checkpoint()
    return memory_stream_pair()


async def make_clogged() -> tuple[MemoryStream, MemoryStream]:
    one, other = memory_stream_pair(4)
    await one.send_all(b"full")
    await other.send_all(b"full")
    return one, other


async def test_trios_own_check_finds_nothing() -> None:
    await trio.testing.check_half_closeable_stream(make, make_clogged)


async def test_a_sender_waits_for_room_and_everything_arrives() -> None:
    one, other = memory_stream_pair(10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.send_all, b"x" * 25)
        await trio.testing.wait_all_tasks_blocked()
        assert await other.receive_some() == b"x" * 10
        assert await other.receive_some(4) == b"x" * 4
        with trio.CancelScope() as scope:
            scope.cancel()
            await other.receive_some()
        assert scope.cancelled_caught
        received = bytearray()
        while len(received) < 11:
            received += await other.receive_some()
    assert received == b"x" * 11


async def test_who_waits_for_room_is_woken_by_the_end_of_the_reader() -> None:
    one, other = memory_stream_pair(1)
    await one.send_all(b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.wait_send_all_might_not_block)
        await trio.testing.wait_all_tasks_blocked()
        await other.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await one.send_all(b"y")


def test_a_buffer_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="buffer=0: it must be at least 1 byte"):
        memory_stream_pair(0)
