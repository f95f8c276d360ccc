"""Long compressed messages: sent and received with turns for others, and safe to cancel."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from hashlib import sha256

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.websocket.test_broadcast import transport_of
from tests.websocket.test_message_streams import compressed_sides
from trio_ws import CloseInfo, ConnectionClosedLocally, Limits, ReadyState, WebSocket, WebSocketStream, broadcast
from trio_ws._wire.deflater import STEP
from trio_ws._wire.frames import LARGE

LINES = "".join(f"line {number} of very many, and {number * number} is its square\n" for number in range(40_000))
NOISE = os.urandom(200_000)
BARELY = b"".join(digest.hexdigest().encode() for digest in map(sha256, map(bytes, range(4)))) + NOISE  # not smaller
NO_LIMIT = Limits(max_message_size=None, receive_buffer=None, send_buffer=None)


class Turns:
    """Counts how often others get a turn."""

    def __init__(self) -> None:
        self.count = 0
        self.scope = trio.CancelScope()

    async def run(self) -> None:
        """Take every turn there is."""
        with self.scope:
            while True:
                await trio.lowlevel.checkpoint()
                self.count += 1


async def cancel_after(scope: trio.CancelScope, turns: int) -> None:
    """Cancel after so many turns."""
    for _ in range(turns):
        await trio.lowlevel.checkpoint()
    scope.cancel()


@pytest.mark.parametrize("kind", [str, bytes, bytearray, memoryview])
async def test_others_get_their_turns_while_a_long_message_is_compressed(
    kind: Callable[..., str | bytes | bytearray | memoryview], autojump_clock: MockClock
) -> None:
    message = LINES if kind is str else kind(LINES.encode())
    turns = Turns()
    async with compressed_sides(limits=NO_LIMIT) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await trio.lowlevel.checkpoint()
        before = turns.count
        await server.send(message)
        assert turns.count - before >= len(LINES) // (STEP if kind is str else 2 * STEP) - 2
        turns.scope.cancel()
        assert server.statistics().bytes_sent < len(LINES) / 3
        assert server.statistics().messages_sent == 1
        assert await client.receive() == (LINES if kind is str else LINES.encode())


async def test_without_waiting_it_is_compressed_in_one_step(autojump_clock: MockClock) -> None:
    async with compressed_sides(limits=NO_LIMIT) as (client, server):
        server.send_nowait(LINES)
        assert server.statistics().bytes_sent < len(LINES) / 3
        assert await client.receive() == LINES


@pytest.mark.parametrize("as_view", [False, True])
@pytest.mark.parametrize("content", [LINES.encode(), NOISE, BARELY], ids=["smaller", "noise", "barely"])
async def test_a_message_may_be_changed_once_it_was_sent(
    as_view: bool, content: bytes, autojump_clock: MockClock
) -> None:
    async with compressed_sides(limits=NO_LIMIT) as (client, server):
        transport_of(server).room = 0
        await server.send("before")
        buffer = bytearray(content)
        await server.send(memoryview(buffer) if as_view else buffer)
        buffer[:] = bytes(len(content))
        transport_of(server).make_room(math.inf)
        assert [await client.receive() for _ in range(2)] == ["before", content]


async def test_a_channel_of_a_stream_sends_so_too(autojump_clock: MockClock) -> None:
    async with compressed_sides(limits=NO_LIMIT) as (client, server):
        stream = WebSocketStream(server)
        turns = Turns()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turns.run)
            await stream.writable.send(LINES)
            turns.scope.cancel()
        assert turns.count >= len(LINES) // STEP - 2
        await stream.writable.send("short")
        assert [await client.receive() for _ in range(2)] == [LINES, "short"]


async def test_a_long_message_that_is_cancelled_was_not_sent(autojump_clock: MockClock) -> None:
    async with compressed_sides(limits=NO_LIMIT) as (client, server):
        for count in range(1, 8):
            await server.send(LINES[:3000])
            sent = server.statistics()

            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as scope:
                    nursery.start_soon(cancel_after, scope, count)
                    await server.send(LINES)
            assert scope.cancelled_caught
            now = server.statistics()
            assert (now.bytes_sent, now.messages_sent) == (sent.bytes_sent, sent.messages_sent)
            await server.send(LINES[:4000])
            assert [await client.receive() for _ in range(2)] == [LINES[:3000], LINES[:4000]]


async def test_a_broadcast_after_a_long_message_that_was_cancelled_is_compressed(autojump_clock: MockClock) -> None:
    async with compressed_sides(limits=NO_LIMIT) as (client, server):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_after, scope, 3)
                await server.send(LINES)
        assert scope.cancelled_caught
        assert broadcast([server], LINES[:3000]).sent == [server]
        assert server.statistics().bytes_sent < 1500
        assert await client.receive() == LINES[:3000]


async def test_others_wait_in_line_and_pings_do_not(autojump_clock: MockClock) -> None:
    async with compressed_sides(limits=NO_LIMIT) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(server.send, LINES)
        while server._connection.outbox.calm:
            await trio.lowlevel.checkpoint()
        nursery.start_soon(server.send, "second")
        with pytest.raises(trio.WouldBlock):
            server.send_nowait("now")
        assert await server.ping() >= 0
        assert server.statistics().messages_sent == 0
        assert [await client.receive() for _ in range(2)] == [LINES, "second"]


async def test_a_broadcast_goes_before_a_message_that_is_still_being_compressed(autojump_clock: MockClock) -> None:
    async with compressed_sides(limits=NO_LIMIT) as (client, server), trio.open_nursery() as nursery:
        await server.send(LINES[:2000])
        nursery.start_soon(server.send, LINES)
        while server._connection.outbox.calm:
            await trio.lowlevel.checkpoint()
        assert broadcast([server], LINES[:3000]).sent == [server]
        got = [await client.receive() for _ in range(3)]
        assert got == [LINES[:2000], LINES[:3000], LINES]
        await server.send(LINES[:5000])
        assert await client.receive() == LINES[:5000]


async def test_closing_ends_what_is_being_compressed(autojump_clock: MockClock) -> None:
    async with compressed_sides(limits=NO_LIMIT) as (client, server), trio.open_nursery() as nursery:

        async def send() -> None:
            with pytest.raises(ConnectionClosedLocally):
                await server.send(LINES)

        nursery.start_soon(send)
        while server._connection.outbox.calm:
            await trio.lowlevel.checkpoint()
        nursery.start_soon(server.aclose)
        with pytest.raises(trio.EndOfChannel):
            await client.receive()


@pytest.mark.parametrize("message", [LINES, bytes(LARGE)], ids=["many steps", "one step"])
async def test_nothing_is_sent_on_a_closed_connection(message: str | bytes, autojump_clock: MockClock) -> None:
    async with compressed_sides(limits=NO_LIMIT) as (_, server):
        server._connection.abandon()
        await wait_all_tasks_blocked()
        before = server.statistics()
        with pytest.raises(ConnectionClosedLocally):
            await server.send(message)
        assert server.statistics() == before


async def test_a_loss_is_noticed_by_sending_while_a_full_buffer_pauses_reading(autojump_clock: MockClock) -> None:
    async with compressed_sides(limits=Limits(receive_buffer=300, send_buffer=None)) as (client, server):
        await client.send(bytes(300))
        await wait_all_tasks_blocked()
        assert server.statistics().backpressured
        transport_of(server).error = ConnectionResetError("gone")
        await server.send(LINES)
        assert server.ready_state is ReadyState.CLOSED
        assert await server.wait_closed() == CloseInfo(1006)


@pytest.mark.parametrize("send", [WebSocket.send_nowait, WebSocket.send])
async def test_what_does_not_become_smaller_is_not_copied(
    send: Callable[[WebSocket, bytes], object], autojump_clock: MockClock
) -> None:
    async with compressed_sides(limits=NO_LIMIT) as (client, server):
        if send is WebSocket.send:
            await server.send(NOISE)
        else:
            server.send_nowait(NOISE)
        assert server.statistics().bytes_sent == len(NOISE) + 10
        assert await client.receive() == NOISE


async def test_a_lone_surrogate_far_behind_is_told_and_nothing_is_sent(autojump_clock: MockClock) -> None:
    async with compressed_sides(limits=NO_LIMIT) as (client, server):
        with pytest.raises(UnicodeEncodeError):
            await server.send(LINES + "\ud800")
        assert server.statistics().bytes_sent == 0
        await server.send("and on")
        assert await client.receive() == "and on"


@pytest.mark.parametrize("message", [LINES * 3, LINES.encode() * 3, "\u20ac and \U0001f600 " * 600_000, bytes(2**23)])
async def test_others_get_their_turns_while_a_long_message_is_inflated(
    message: str | bytes, autojump_clock: MockClock
) -> None:
    turns = Turns()
    async with compressed_sides(limits=NO_LIMIT) as (client, server), trio.open_nursery() as nursery:
        await server.send(message)
        nursery.start_soon(turns.run)
        assert await client.receive() == message
        turns.scope.cancel()
        size = len(message.encode()) if isinstance(message, str) else len(message)
        assert turns.count >= size // 2**20 - 2


async def test_a_receiver_that_is_cancelled_while_a_long_message_is_inflated_loses_nothing(
    autojump_clock: MockClock,
) -> None:
    async with compressed_sides(limits=NO_LIMIT) as (client, server):
        await server.send(bytes(2**23))
        await server.send("next")
        got: list[str | bytes] = []
        cancelled = 0
        while not got:
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as scope:
                    nursery.start_soon(cancel_after, scope, 3)
                    got.append(await client.receive())
            cancelled += scope.cancelled_caught
        assert got == [bytes(2**23)]
        assert cancelled > 1
        assert await client.receive() == "next"


async def test_pieces_may_be_asked_for_in_the_middle_of_a_long_text(autojump_clock: MockClock) -> None:
    text = "\u20ac and \U0001f600 " * 600_000
    async with compressed_sides(limits=NO_LIMIT) as (client, server):
        transport_of(server).room = 10
        await server.send(text)
        transport_of(server).make_room(3 * 10**4)
        await wait_all_tasks_blocked()
        async with client.receive_message_stream() as parts:
            transport_of(server).make_room(10**9)
            assert "".join([str(part) async for part in parts]) == text


async def test_statistics_tell_who_compresses(autojump_clock: MockClock) -> None:
    async with compressed_sides() as (client, _):
        counted = client.statistics()
        assert counted.compressed_by == counted.inflated_by
        assert counted.compressed_by in ("isal", "zlib")
