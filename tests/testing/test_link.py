"""The simulated link: what takes how long, to the byte, and what becomes of what is lost."""

from __future__ import annotations

import math

import pytest
import trio
from trio.testing import MockClock, check_half_closeable_stream, wait_all_tasks_blocked

import trio_ws
from trio_ws import Keepalive
from trio_ws.testing import Link, MemoryStream, link_stream_pair, memory_websocket_pair


async def read_all(stream: MemoryStream) -> bytes:
    received = bytearray()
    while piece := await stream.receive_some():
        received += piece
    return bytes(received)


async def test_it_keeps_the_rules_of_streams() -> None:
    async def make() -> tuple[MemoryStream, MemoryStream]:
        await trio.lowlevel.checkpoint()
        return link_stream_pair(Link())

    async def make_clogged() -> tuple[MemoryStream, MemoryStream]:
        one, other = link_stream_pair(Link(buffer=1000))
        await one.send_all(bytes(1000))
        await other.send_all(bytes(1000))
        return one, other

    await check_half_closeable_stream(make, make_clogged)


async def test_a_byte_takes_the_latency(autojump_clock: MockClock) -> None:
    one, other = link_stream_pair(Link(latency=3))
    started = trio.current_time()
    await one.send_all(b"there")
    assert trio.current_time() == started
    assert await other.receive_some() == b"there"
    assert trio.current_time() == pytest.approx(started + 3)
    await other.send_all(b"and back")
    assert await one.receive_some() == b"and back"
    assert trio.current_time() == pytest.approx(started + 6)


async def test_what_follows_is_on_its_way_at_the_same_time(autojump_clock: MockClock) -> None:
    one, other = link_stream_pair(Link(latency=3))
    started = trio.current_time()
    for _ in range(10):
        await one.send_all(b"x")
    await one.send_eof()
    assert await read_all(other) == b"x" * 10
    assert trio.current_time() == pytest.approx(started + 3)


async def test_many_bytes_take_what_the_bandwidth_says(autojump_clock: MockClock) -> None:
    one, other = link_stream_pair(Link(latency=1, bandwidth=10_000, buffer=100_000))
    started = trio.current_time()
    data = bytes(range(250)) * 200
    await one.send_all(data)
    await one.send_eof()
    assert await read_all(other) == data
    assert trio.current_time() == pytest.approx(started + 1 + 5)


async def test_a_sender_waits_for_room(autojump_clock: MockClock) -> None:
    one, other = link_stream_pair(Link(buffer=1000))
    with trio.move_on_after(100) as scope:
        await one.send_all(bytes(1001))
    assert scope.cancelled_caught
    with trio.move_on_after(100) as scope:
        await one.wait_send_all_might_not_block()
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.wait_send_all_might_not_block)
        assert len(await other.receive_some()) == 1000


@pytest.mark.parametrize("count", [0, 5])
async def test_it_breaks_after_so_many_bytes_for_both_ends(count: int, autojump_clock: MockClock) -> None:
    one, other = link_stream_pair(Link(latency=1, breaks_after=count))
    received = b""
    if count:
        await one.send_all(b"12345")
    with pytest.raises(trio.BrokenResourceError, match="the simulated link broke"):
        while True:
            received += await other.receive_some()
    assert received == b"12345"[:count]
    for end in (one, other):
        with pytest.raises(trio.BrokenResourceError):
            await end.send_all(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await one.receive_some()


async def test_an_end_that_waits_learns_that_the_link_broke(autojump_clock: MockClock) -> None:
    one, other = link_stream_pair(Link(breaks_after=3))

    async def wait() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await one.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        await one.send_all(b"123")
        assert await other.receive_some() == b"123"


async def test_what_is_lost_is_told_to_nobody(autojump_clock: MockClock) -> None:
    one, other = link_stream_pair(Link(loses_after=3, buffer=10))
    await one.send_all(b"12345")
    assert await other.receive_some() == b"123"
    with trio.move_on_after(1000) as scope:
        await other.receive_some()
    assert scope.cancelled_caught
    with trio.move_on_after(1000) as scope:
        await one.send_all(bytes(100))  # as much as the buffer holds goes, and vanishes
    assert scope.cancelled_caught


@pytest.mark.parametrize("http_version", ["1.1", "2"])
async def test_websockets_talk_over_it(http_version: str, autojump_clock: MockClock) -> None:
    async with memory_websocket_pair(http_version=http_version, link=Link(latency=2), keepalive=None) as ends:
        client, server = ends
        started = trio.current_time()
        await client.send("hello")
        assert await server.receive() == "hello"
        assert trio.current_time() == pytest.approx(started + 2)
        assert await client.ping() == pytest.approx(4)


async def test_a_half_open_connection_is_found_by_keepalive(autojump_clock: MockClock) -> None:
    link = Link(loses_after=2000)
    keepalive = Keepalive(interval=5, timeout=5)
    async with memory_websocket_pair(link=link, keepalive=keepalive, close_timeout=1) as (client, server):
        await server.send(bytes(4000), compress=False)
        started = trio.current_time()
        with pytest.raises(trio_ws.ConnectionClosedError):
            await client.receive()
        assert trio.current_time() - started <= 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latency": -1.0}, "latency=-1.0: it must be"),
        ({"latency": math.inf}, "latency=inf: it must be"),
        ({"bandwidth": 0}, "bandwidth=0: it must be above 0"),
        ({"breaks_after": -1}, "breaks_after=-1: it must be"),
        ({"loses_after": -1}, "loses_after=-1: it must be"),
        ({"buffer": 0}, "buffer=0: it must be at least 1"),
    ],
)
def test_its_numbers_are_checked(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Link(**options)  # type: ignore[arg-type]
