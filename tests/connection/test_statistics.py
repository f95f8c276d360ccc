"""Counts: each of them, to the byte."""

from __future__ import annotations

import math

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from tests.connection.sides import end_of, one_side
from trio_ws import Limits, Statistics
from trio_ws._wire.frames import Opcode, frame_bytes


def test_everything_begins_at_nothing() -> None:
    counts = Statistics()
    assert {name: getattr(counts, name) for name in Statistics.__slots__} == {
        "messages_sent": 0,
        "messages_received": 0,
        "bytes_sent": 0,
        "bytes_received": 0,
        "pings_sent": 0,
        "pongs_received": 0,
        "pings_received": 0,
        "pongs_sent": 0,
        "broadcasts_missed": 0,
        "receive_buffer": 0,
        "send_buffer": 0,
        "backpressured": False,
        "compressed_by": "",
        "inflated_by": "",
    }
    assert Statistics(pings_sent=1) != counts


def test_they_are_named_not_counted_off() -> None:
    with pytest.raises(TypeError):
        Statistics(1)  # type: ignore[call-arg]


async def test_a_conversation_is_counted_exactly(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False) as (websocket, peer):
        assert websocket.statistics() == Statistics()
        await websocket.send("four")
        websocket.send_nowait(b"")
        peer.send("received")  # 6 bytes of head, 8
        peer.send(b"waits")
        peer.send(b"?", Opcode.PING)
        peer.send(b"!!", Opcode.PONG)
        trio_ws.ping(websocket, b"ping")
        await websocket.pong(b"beat")
        await wait_all_tasks_blocked()
        before = websocket.statistics()
        assert before == Statistics(
            messages_sent=2,
            messages_received=2,
            bytes_sent=6 + 2 + 6 + 6 + 3,
            bytes_received=14 + 11 + 7 + 8,
            pings_sent=1,
            pongs_received=1,
            pings_received=1,
            pongs_sent=2,
            receive_buffer=8 + 64 + 5 + 64,
        )
        assert await websocket.receive() == "received"
        assert websocket.statistics().receive_buffer == 5 + 64
        assert before.receive_buffer == 8 + 64 + 5 + 64  # what was given does not change


async def test_bytes_that_came_with_the_handshake_count(autojump_clock: MockClock) -> None:
    early = frame_bytes(Opcode.TEXT, b"early", masked=False)
    async with one_side(rest=early) as (websocket, peer):
        peer.send("late")
        assert [await websocket.receive(), await websocket.receive()] == ["early", "late"]
        assert websocket.statistics() == Statistics(messages_received=2, bytes_received=7 + 6)


async def test_full_buffers_are_told(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False, limits=Limits(receive_buffer=200)) as (websocket, peer):
        end_of(peer).room = 1
        await websocket.send(b"12345")
        await websocket.send(b"123")
        peer.send(bytes(200))
        await wait_all_tasks_blocked()
        assert websocket.statistics() == Statistics(
            messages_sent=2,
            messages_received=1,
            bytes_sent=7,  # the second message has not been handed over
            bytes_received=208,
            send_buffer=6 + 5,
            receive_buffer=264,
            backpressured=True,
        )
        await websocket.receive()
        end_of(peer).make_room(math.inf)
        await wait_all_tasks_blocked()
        assert websocket.statistics() == Statistics(
            messages_sent=2, messages_received=1, bytes_sent=12, bytes_received=208
        )


async def test_pongs_that_never_went_do_not_count(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False) as (websocket, peer):
        end_of(peer).room = 0
        await websocket.send(b"held")
        for number in range(5):
            peer.send(b"%d" % number, Opcode.PING)
        await wait_all_tasks_blocked()
        end_of(peer).make_room(math.inf)
        await wait_all_tasks_blocked()
        assert (websocket.statistics().pings_received, websocket.statistics().pongs_sent) == (5, 1)


async def test_a_message_that_is_refused_does_not_count(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with pytest.raises(TypeError):
            await websocket.send(7)  # type: ignore[arg-type]
        peer.close()
        await wait_all_tasks_blocked()
        with pytest.raises(trio_ws.ConnectionClosedOK):
            await websocket.send("late")
        with pytest.raises(trio_ws.ConnectionClosedOK):
            websocket.send_nowait("late")
        trio_ws.ping(websocket)
        with pytest.raises(trio_ws.ConnectionClosedOK):
            await websocket.pong()
        counts = websocket.statistics()
        assert (counts.messages_sent, counts.pings_sent, counts.pongs_sent) == (0, 0, 0)
        assert counts.bytes_sent == 8  # our Close
