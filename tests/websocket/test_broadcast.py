"""One message to many: who gets it, who does not, and that nobody's deflate window suffers."""

from __future__ import annotations

import itertools
import math
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, assert_no_checkpoints, wait_all_tasks_blocked

import trio_ws
from tests.connection.memory import MemoryTransport
from tests.connection.sides import one_side, two_sides
from tests.websocket.test_message_streams import compressed_sides
from trio_ws import BroadcastResult, CloseInfo, Limits, WebSocket, WebSocketStream, broadcast
from trio_ws._wire.deflate_backends import ZLIB, Compressor
from trio_ws._wire.events import Close
from trio_ws._wire.prepared import PreparedMessage

SETTINGS = (ZLIB, 12, 6, 4)


def transport_of(websocket: WebSocket) -> MemoryTransport:
    transport = websocket._connection.transport
    assert isinstance(transport, MemoryTransport)
    return transport


@pytest.mark.parametrize("message", ["text", "", b"binary", bytearray(b"array"), memoryview(b"view")])
async def test_everyone_gets_it(message: str | bytes | bytearray | memoryview, autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server), two_sides() as (client_2, server_2):
        with assert_no_checkpoints():
            assert broadcast([server, WebSocketStream(server_2), client], message).skipped == []
        expected = message if isinstance(message, str) else bytes(message)
        assert [await client.receive(), await client_2.receive(), await server.receive()] == [expected] * 3
        assert server.statistics().messages_sent == 1


async def test_nobody_is_nobody(autojump_clock: MockClock) -> None:
    assert broadcast([], "hello") == BroadcastResult()


async def test_clients_mask_each_frame_afresh(autojump_clock: MockClock) -> None:
    async with one_side() as (one, peer), one_side() as (two, peer_2):
        broadcast([one, two], bytes(32))
        first, second = bytes(peer.transport.arrived), bytes(peer_2.transport.arrived)
        assert len(first) == len(second)
        assert first != second
        assert peer.heard() == peer_2.heard() == [bytes(32)]


async def test_servers_share_one_frame(autojump_clock: MockClock) -> None:
    prepared = PreparedMessage("x" * 100)
    frame = prepared.frame(SETTINGS, masked=False)
    assert prepared.frame(SETTINGS, masked=False) is frame
    assert prepared.frame(None, masked=False) is not frame
    assert len(frame) < 20
    assert prepared.frame(SETTINGS, masked=True)[:2] != frame[:2]


def test_clients_share_what_is_compressed() -> None:
    opened: list[int] = []

    def open_compressor(window_bits: int, level: int, memory_level: int, window: bytes) -> Compressor:
        opened.append(window_bits)
        return ZLIB.open_compressor(window_bits, level, memory_level, window)

    prepared = PreparedMessage("x" * 100)
    backend = replace(ZLIB, open_compressor=open_compressor)
    for window_bits in (12, 12, 9):
        settings = (backend, window_bits, 6, 4)
        assert prepared.becomes_smaller(settings)
        for _ in range(2):
            assert len(prepared.frame(settings, masked=True)) < 20
    assert opened == [12, 9]


@pytest.mark.parametrize("no_takeover", [False, True])
async def test_the_windows_of_all_stay_right(no_takeover: bool, autojump_clock: MockClock) -> None:
    texts = [f"{number} of many words that repeat, " * 100 for number in range(6)]
    async with (
        compressed_sides(no_takeover=no_takeover) as (client, server),
        compressed_sides(no_takeover=no_takeover) as (client_2, server_2),
        two_sides() as (client_3, server_3),
    ):
        receivers = {id(server): client, id(server_2): client_2, id(server_3): client_3, id(client): server}
        for text, (alone, together) in itertools.product(texts, [(server, [server_2, server_3]), (client, [server])]):
            await alone.send("before: " + text)
            result = broadcast([alone, *together], text)
            assert result.sent == [alone, *together]
            await alone.send("after: " + text)
            got = [await receivers[id(alone)].receive() for _ in range(3)]
            assert got == ["before: " + text, text, "after: " + text]
            assert [await receivers[id(other)].receive() for other in together] == [text] * len(together)
        assert server.statistics().bytes_sent < 24 * len(texts[0]) / 4


async def test_compression_is_a_choice(autojump_clock: MockClock) -> None:
    async with compressed_sides() as (client, server):
        broadcast([server], "x" * 2000, compress=False)
        assert server.statistics().bytes_sent == 2004
        broadcast([server], "x" * 100)  # below the threshold
        assert server.statistics().bytes_sent == 2004 + 102
        broadcast([server], "x" * 100, compress=True)
        assert server.statistics().bytes_sent < 2004 + 102 + 20
        assert [len(await client.receive()) for _ in range(3)] == [2000, 100, 100]


async def test_slow_ones_are_skipped(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server), two_sides() as (client_2, server_2):
        transport_of(server).room = 0
        sent = 0
        while server in (result := broadcast([server, server_2], bytes(1000), max_buffered=5000)).sent:
            sent += 1
        assert sent == 5
        assert (result.sent, result.skipped) == ([server_2], [server])
        transport_of(server).make_room(math.inf)
        await wait_all_tasks_blocked()
        assert broadcast([server], b"back again").sent == [server]
        assert [len(await client.receive()) for _ in range(6)] == [1000] * 5 + [10]
        assert [len(await client_2.receive()) for _ in range(6)] == [1000] * 6


async def test_slow_ones_are_closed(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False) as (slow, peer), two_sides() as (_, server):
        transport_of(slow).room = 0
        await slow.send(bytes(1000))
        result = broadcast([slow, server], "on", slow="close", max_buffered=500)
        assert (result.sent, result.closed) == ([server], [slow])
        transport_of(slow).make_room(math.inf)
        await wait_all_tasks_blocked()
        reason = "too slow: 1004 bytes wait, at most 500 may (max_buffered)"
        assert peer.heard() == [bytes(1000), Close(CloseInfo(1008, reason))]
        assert broadcast([slow, server], "on").gone == [slow]
        with pytest.raises(trio_ws.ConnectionClosedLocally):
            await slow.send("late")


async def test_a_loss_is_noticed_while_a_full_buffer_pauses_reading(autojump_clock: MockClock) -> None:
    async with two_sides(limits=Limits(receive_buffer=300)) as (client, server):
        await client.send(bytes(300))
        await wait_all_tasks_blocked()
        assert server.statistics().backpressured
        transport_of(server).error = ConnectionResetError("gone")
        assert broadcast([server], "into the void").sent == [server]
        assert broadcast([server], "nor this").gone == [server]
        assert await server.wait_closed() == CloseInfo(1006)


async def test_it_does_not_wait_behind_those_who_wait(autojump_clock: MockClock) -> None:
    async with two_sides(limits=Limits(send_buffer=10)) as (client, server), trio.open_nursery() as nursery:
        transport_of(server).room = 0
        await server.send(bytes(100))
        nursery.start_soon(server.send, "waits")
        await wait_all_tasks_blocked()
        assert broadcast([server], "first").sent == [server]
        transport_of(server).make_room(math.inf)
        assert [await client.receive() for _ in range(3)] == [bytes(100), "first", "waits"]


async def test_who_sends_a_message_in_pieces_is_skipped(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server):
        async with server.send_message_stream() as part:
            await part.send(b"begun")
            assert broadcast([server], "between").skipped == [server]
        assert broadcast([server], "after").sent == [server]
        assert [await client.receive(), await client.receive()] == [b"begun", "after"]


async def test_everything_is_checked_before_anything_is_sent(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with pytest.raises(TypeError, match="is no WebSocket"):
            broadcast([websocket, "no"], "x")  # type: ignore[list-item]
        with pytest.raises(TypeError, match="message must be str or bytes-like, not int"):
            broadcast([websocket], 5)  # type: ignore[arg-type]
        with pytest.raises(UnicodeEncodeError):
            broadcast([websocket], "\ud800")
        with pytest.raises(ValueError, match="slow='wait'"):
            broadcast([websocket], "x", slow="wait")  # type: ignore[arg-type]
        for bad in (-1, 0.5, True):
            with pytest.raises(ValueError, match="max_buffered="):
                broadcast([websocket], "x", max_buffered=bad)  # type: ignore[arg-type]
        assert peer.heard() == []


async def test_a_thousand_listeners_and_ten_that_never_read(autojump_clock: MockClock) -> None:
    async with AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(two_sides()) for _ in range(1000)]
        servers = [server for _, server in pairs]
        for server in servers[:10]:
            transport_of(server).room = 0
        for number in range(20):
            result = broadcast(servers, str(number) * 1000, slow="close", max_buffered=10_000)
            await wait_all_tasks_blocked()
        assert result.gone == servers[:10]
        assert result.sent == servers[10:]
        for client, _ in pairs[10:]:
            assert [client.receive_nowait() for _ in range(20)] == [str(number) * 1000 for number in range(20)]
