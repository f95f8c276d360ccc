"""The simulated link: what takes how long, to the byte, and what becomes of what is lost."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock, check_half_closeable_stream, wait_all_tasks_blocked

import trio_ws
from trio_ws import Keepalive
from trio_ws.testing import Link, MemoryStream, link_stream_pair, memory_websocket_pair, open_test_server

from ..serving import until


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
        ({"breaks_after_frames": 0}, "breaks_after_frames=0: it must be a number of frames from 1 on"),
        ({"buffer": 0}, "buffer=0: it must be at least 1"),
    ],
)
def test_its_numbers_are_checked(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Link(**options)  # type: ignore[arg-type]


# ---- frames ----


@pytest.mark.parametrize("size", [0, 5, 125, 126, 70_000])
@pytest.mark.parametrize("count", [1, 2, 3])
async def test_it_breaks_behind_a_frame(size: int, count: int, autojump_clock: MockClock) -> None:
    got: list[str | bytes] = []
    link = Link(latency=1, breaks_after_frames=count)
    async with memory_websocket_pair(link=link, compression=None, keepalive=None) as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_into, server, got)
            with pytest.raises(trio_ws.ConnectionClosedError):
                for number in range(4):
                    await client.send(bytes([number]) * size)
                    await trio.sleep(10)
        assert got == [bytes([number]) * size for number in range(count)]


async def receive_into(websocket: trio_ws.WebSocket, got: list[str | bytes]) -> None:
    with suppress(trio_ws.ConnectionClosedError):
        while True:
            got.append(await websocket.receive())


async def test_frames_of_both_directions_count_and_bytes_before_them_break_it_too(autojump_clock: MockClock) -> None:
    for link, echoes in ((Link(breaks_after_frames=3), 1), (Link(breaks_after_frames=3, breaks_after=600), 0)):
        got: list[str | bytes] = []
        with pytest.raises(trio_ws.ConnectionClosedError):
            async with memory_websocket_pair(link=link, compression=None) as (client, server):
                for _ in range(2):
                    await client.send(bytes(1000))
                    await server.send(await server.receive())
                    got.append(await client.receive())
        assert len(got) == echoes


async def test_frames_that_cannot_be_seen_are_not_counted() -> None:
    link = Link(breaks_after_frames=1)
    with pytest.raises(ValueError, match=r"breaks_after_frames=1: only over HTTP/1\.1 without TLS"):
        async with memory_websocket_pair(http_version="2", link=link):
            raise AssertionError("it opened")
    with pytest.raises(ValueError, match=r"breaks_after_frames=1: only over HTTP/1\.1 without TLS"):
        async with open_test_server(echo, link=link):
            raise AssertionError("it serves")


# ---- a server behind a link ----


async def echo(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept() as websocket:
        async for message in websocket:
            await websocket.send(message)


@pytest.mark.parametrize("http2", [False, True])
async def test_a_server_behind_a_slow_link(http2: bool, autojump_clock: MockClock) -> None:
    async with (
        open_test_server(echo, link=Link(latency=3)) as server,
        trio_ws.Agent(ssl_context=server.ssl_context, allow_h2=http2) as agent,
        trio_ws.open_websocket(server.url, dispatcher=agent, connect_timeout=60) as websocket,
    ):
        began = trio.current_time()
        await websocket.send("hello")
        assert await websocket.receive() == "hello"
        assert trio.current_time() - began == pytest.approx(6)


async def test_a_server_behind_a_link_that_breaks(autojump_clock: MockClock) -> None:
    ended: list[trio_ws.CloseInfo | None] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            with websocket.move_on_when_closed():
                await trio.sleep_forever()
            ended.append(await websocket.wait_closed())

    async with open_test_server(
        handler, tls=False, link=Link(latency=1, breaks_after=2000), compression=None
    ) as server:
        for _ in range(2):  # each connection has a link of its own
            with pytest.raises(trio_ws.ConnectionClosedError):
                async with trio_ws.open_websocket(server.url) as websocket:
                    await websocket.send(bytes(5000))
                    await websocket.receive()
        await until(lambda: len(ended) == 2)
    assert [info and info.code for info in ended] == [1006, 1006]


async def test_a_server_behind_a_link_that_loses_everything(autojump_clock: MockClock) -> None:
    keepalive = trio_ws.Keepalive(interval=20, timeout=20)
    async with open_test_server(
        echo, tls=False, link=Link(loses_after=1000), keepalive=keepalive, compression=None
    ) as server:
        async with trio_ws.open_websocket(server.url, keepalive=keepalive) as websocket:
            began = trio.current_time()
            await websocket.send(bytes(5000))
            with pytest.raises(trio_ws.ConnectionClosedError):
                await websocket.receive()
            assert 20 < trio.current_time() - began <= 41
        await until(lambda: not server.server.connections)


async def test_the_end_of_a_lost_connection_is_lost_too(autojump_clock: MockClock) -> None:
    one, other = link_stream_pair(Link(latency=1, loses_after=2))
    await one.send_all(b"abc")
    await one.aclose()
    assert await other.receive_some() == b"ab"
    with trio.move_on_after(1000) as scope:
        await other.receive_some()
    assert scope.cancelled_caught
    await other.send_all(b"into the void")


async def test_the_end_takes_as_long_as_a_byte(autojump_clock: MockClock) -> None:
    one, other = link_stream_pair(Link(latency=3))
    await one.send_eof()
    await one.aclose()
    assert await other.receive_some() == b""
    assert trio.current_time() == 3
