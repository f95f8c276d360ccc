"""A connection told as events, in WHATWG's order."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

import trio_ws
from tests.connection.sides import end_of, one_side
from trio_ws import CloseEvent, CloseInfo, ErrorEvent, MessageEvent, OpenEvent


async def test_a_clean_life_is_open_messages_close(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.send("one")
        peer.send(b"two")
        peer.close(4000, "done")
        peer.transport.write_eof()
        assert [event async for event in websocket.events()] == [
            OpenEvent(),
            MessageEvent("one"),
            MessageEvent(b"two"),
            CloseEvent(4000, "done", True),
        ]


async def test_a_close_without_a_code_is_1005(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.transport.write(b"\x88\x00")
        peer.transport.write_eof()
        assert [event async for event in websocket.events()] == [OpenEvent(), CloseEvent(1005, "", True)]


async def test_an_error_comes_before_the_close_when_no_close_frame_came(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.send("last")
        end_of(peer).break_down(ConnectionResetError("gone"))
        opened, message, error, close = [event async for event in websocket.events()]
        assert (opened, message, close) == (OpenEvent(), MessageEvent("last"), CloseEvent(1006, "", False))
        assert isinstance(error, ErrorEvent)
        assert isinstance(error.error, trio_ws.ConnectionClosedError)
        assert isinstance(error.error.__cause__, ConnectionResetError)


async def test_a_breach_is_an_error_with_its_cause(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.send(b"", 0x3)
        peer.transport.write_eof()
        _, error, close = [event async for event in websocket.events()]
        assert isinstance(error, ErrorEvent)
        assert isinstance(error.error.__cause__, trio_ws.RemoteProtocolError)
        assert str(error.error) == (
            "no Close frame received; sent 1002 (protocol error) 'protocol error: opcode 0x3 is reserved'"
        )
        assert close == CloseEvent(1006, "", False)  # as in a browser
        assert websocket.close_info == CloseInfo(1002, "protocol error: opcode 0x3 is reserved")


async def test_our_own_close_is_told_when_the_connection_has_ended(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer), trio.open_nursery() as nursery:
        events = websocket.events()
        assert await anext(events) == OpenEvent()
        nursery.start_soon(websocket.aclose, 4001)
        await wait_all_tasks_blocked()
        peer.send("too late")
        peer.close(4001)
        peer.transport.write_eof()
        assert [event async for event in events] == [CloseEvent(4001, "", True)]


async def test_a_close_that_nobody_answers_is_an_error(autojump_clock: MockClock) -> None:
    async with one_side(close_timeout=1) as (websocket, _), trio.open_nursery() as nursery:
        events = websocket.events()
        assert await anext(events) == OpenEvent()
        nursery.start_soon(websocket.aclose)
        error, close = [event async for event in events]
        assert isinstance(error, ErrorEvent)
        assert isinstance(error.error, trio_ws.ConnectionClosedLocally)
        assert close == CloseEvent(1006, "", False)


async def test_after_the_last_event_there_is_none(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.close()
        peer.transport.write_eof()
        events = websocket.events()
        for expected in (OpenEvent(), CloseEvent(1000, "", True)):
            with assert_checkpoints():
                assert await anext(events) == expected
        for _ in range(2):
            with pytest.raises(StopAsyncIteration), assert_checkpoints():
                await anext(events)


async def test_a_cancelled_step_loses_nothing(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        events = websocket.events()
        for wait in (0.0, 1.0):
            with trio.move_on_after(wait) as scope:
                if not wait:
                    scope.cancel()
                while True:
                    assert await anext(events) == OpenEvent()
            assert scope.cancelled_caught
        peer.send("kept")
        assert await anext(events) == MessageEvent("kept")
        peer.close()  # and does not end its side for close_linger seconds
        await wait_all_tasks_blocked()
        with trio.move_on_after(1) as scope:
            await anext(events)
        assert scope.cancelled_caught
        assert await anext(events) == CloseEvent(1000, "", True)
        with pytest.raises(StopAsyncIteration):
            await anext(events)
