"""A deadline that passed while the process stood still: what came meanwhile lies in the stream, and counts."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock
from wsproto.events import CloseConnection, TextMessage

import trio_ws
from trio_ws import CloseInfo, ConnectionClosedError, ConnectionClosedOK, wrap_client_stream

from ..net.http2.raw_http2 import echo, raw_client
from ..raw_peer import RawPeer
from ..serving import until
from .links import URL

STANDSTILLS = [0.0, 0.001, 5.0, 1000.0]  # seconds that the clock is behind the deadline


async def test_a_close_that_came_in_time_is_clean(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0
    for late in STANDSTILLS * 5:  # tasks run in any order
        ours, theirs = trio.testing.memory_stream_pair()
        peer = RawPeer(theirs, is_client=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.accept)
            websocket = await wrap_client_stream(nursery, ours, URL, close_timeout=10, keepalive=None)
            await until(lambda peer=peer: peer.open)  # type: ignore[misc]
            nursery.start_soon(websocket.aclose, 4000, "bye")
            await trio.sleep(9)
            await peer.send(CloseConnection(4000, "bye"))
            mock_clock.jump(1 + late)
            assert await websocket.wait_closed() == CloseInfo(4000, "bye", was_clean=True)
            nursery.cancel_scope.cancel()


async def test_a_close_that_does_not_come_is_waited_for_no_longer(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0
    ours, theirs = trio.testing.memory_stream_pair()
    peer = RawPeer(theirs, is_client=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.accept)
        websocket = await wrap_client_stream(nursery, ours, URL, close_timeout=10, keepalive=None)
        await until(lambda: peer.open)
        nursery.start_soon(websocket.aclose)
        await trio.sleep(9)
        mock_clock.jump(1000)
        before = trio.current_time()
        assert await websocket.wait_closed() == CloseInfo(1006)
        assert trio.current_time() == before
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("closed", [True, False])
async def test_a_half_closed_stream_gives_what_came_in_time(closed: bool, mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0
    for late in STANDSTILLS * 5:
        ours, theirs = trio.testing.memory_stream_pair()
        peer = RawPeer(theirs, is_client=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.accept)
            websocket = await wrap_client_stream(nursery, ours, URL, close_timeout=10, keepalive=None)
            stream = trio_ws.WebSocketStream(websocket)
            await until(lambda peer=peer: peer.open)  # type: ignore[misc]
            await stream.writable.aclose()
            await trio.sleep(9)
            await peer.send(TextMessage("in time"))
            if closed:
                await peer.send(CloseConnection(1000))
            mock_clock.jump(1 + late)
            assert await stream.readable.receive() == "in time"
            with pytest.raises(ConnectionClosedOK if closed else ConnectionClosedError):
                await stream.readable.receive()
            nursery.cancel_scope.cancel()


async def test_a_window_that_was_given_in_time_lets_a_stream_go_on(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await websocket.send(bytes(100))
            await websocket.wait_closed()

    for late in STANDSTILLS * 3:
        async with raw_client(handler, settings={4: 0}) as peer:
            await peer.open(1)
            await trio.sleep(59)
            await peer.grant(1, 1000)
            mock_clock.jump(1 + late)
            await trio.sleep(1)
            assert peer.counts.limits_passed == {}


async def test_a_request_that_came_in_time_keeps_an_idle_connection(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0
    for late in STANDSTILLS * 3:
        async with raw_client(echo) as peer:
            await trio.sleep(59)
            await peer.connect(1)
            mock_clock.jump(1 + late)
            assert await peer.status(1) == "200"
            assert peer.counts.limits_passed == {}
