"""Tests of chat_server.py: ``pytest --override-ini=trio_mode=true test_chat_server.py``."""

from __future__ import annotations

from collections.abc import AsyncIterator

import chat_server
import pytest
import trio
import trio.testing

import trio_ws
from trio_ws.testing import ChunkedStream, DelayedStream, LocalServer, memory_websocket_pair, open_test_server


@pytest.fixture
async def server() -> AsyncIterator[LocalServer]:
    async with open_test_server(chat_server.chat) as server:
        yield server


async def test_everyone_hears_everyone(server: LocalServer) -> None:
    url = server.url + "room"
    async with (
        trio_ws.open_websocket(url, ssl_context=server.ssl_context) as one,
        trio_ws.open_websocket(url, ssl_context=server.ssl_context) as two,
    ):
        await two.ping()  # both are in the room
        await one.send("hello")
        assert [await one.receive(), await two.receive()] == ["hello", "hello"]


async def test_there_is_one_room_only(server: LocalServer) -> None:
    with pytest.raises(trio_ws.HandshakeRejected) as caught:
        async with trio_ws.open_websocket(server.url + "kitchen", ssl_context=server.ssl_context):
            pass
    assert caught.value.status == 404


async def test_a_slow_line_only_takes_longer(autojump_clock: trio.testing.MockClock) -> None:
    def slow(stream: trio.abc.Stream) -> trio.abc.Stream:
        return DelayedStream(ChunkedStream(stream, 10), 1.0)

    async with memory_websocket_pair(client_stream=slow, connect_timeout=60) as (client, member):
        async with chat_server.room.join(member):
            chat_server.room.broadcast("x" * 100)
        assert await client.receive() == "x" * 100
    assert trio.current_time() > 10
