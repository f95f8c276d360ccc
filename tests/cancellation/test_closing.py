"""Pings, pongs and closing, cancelled at every step: a close ends the connection all the same, a ping does not."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from wsproto.events import CloseConnection, TextMessage

import trio_ws
from trio_ws import ReadyState

from .harness import cancel_everywhere
from .scenes import SCENES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .harness import Act
    from .scenes import Scene

pytestmark = pytest.mark.parametrize("scene", SCENES, ids=str)


def test_a_ping_leaves_no_task_and_no_ping_that_was_answered(scene: Scene) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        async with scene.connected() as (websocket, peer), trio.open_nursery() as nursery:

            async def act() -> None:
                for payload in (b"one", None, b"two"):
                    assert await websocket.ping(payload) >= 0

            nursery.start_soon(peer.read_until, "after")
            yield act
            assert not any(ping.waited_for for ping in websocket._connection.pings._sent)
            assert await websocket.ping() >= 0
            assert websocket._connection.pings._sent == ()  # one that was cancelled was before it
            await websocket.send("after")
        assert peer.whole_frames()

    cancel_everywhere(scenario, at_least=6, clock=scene.clock)


def test_a_pong_is_sent_whole_or_not_at_all(scene: Scene) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        sent: list[bytes] = []
        async with scene.connected() as (websocket, peer):

            async def act() -> None:
                for number in range(8):
                    payload = bytes([number]) * 125
                    await websocket.pong(payload)
                    sent.append(payload)

            yield act
            await websocket.send("after")
            await peer.read_until("after")
            # A pong that waits is replaced by a newer one (RFC 6455 §5.5.3).
            assert peer.pongs == [payload for payload in sent if payload in peer.pongs]
            assert peer.pongs[-1:] == sent[-1:]
            assert peer.whole_frames()

    cancel_everywhere(scenario, at_least=5, clock=scene.clock)


def test_aclose_ends_the_connection_cancelled_or_not(scene: Scene) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        async with scene.connected() as (websocket, peer), trio.open_nursery() as nursery:

            async def act() -> None:
                await websocket.aclose(4000, "enough")

            nursery.start_soon(peer.finish)
            yield act
            assert websocket.ready_state is ReadyState.CLOSED
            with pytest.raises(trio_ws.ConnectionClosedLocally):
                await websocket.send("more")
        assert peer.closed_with == (4000, "enough")
        assert peer.whole_frames()

    cancel_everywhere(scenario, at_least=3, clock=scene.clock)


def test_the_peers_close_is_heard_by_the_next_call(scene: Scene) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        received: list[str | bytes] = []
        async with scene.connected() as (websocket, peer), trio.open_nursery() as nursery:

            async def act() -> None:
                with pytest.raises(trio_ws.ConnectionClosedError):
                    while True:
                        received.append(await websocket.receive())
                await websocket.wait_closed()

            async def close() -> None:
                await peer.send(TextMessage("last words"))
                await peer.send(CloseConnection(4001, "bye"))
                await peer.finish()

            nursery.start_soon(close)
            yield act
            await act()
            info = await websocket.wait_closed()
        assert received == ["last words"]
        assert (info.code, info.reason, info.was_clean) == (4001, "bye", True)
        assert peer.closed_with == (4001, "bye")
        assert peer.whole_frames()

    cancel_everywhere(scenario, at_least=4, clock=scene.clock)


def test_a_scope_that_is_left_by_cancellation_says_goodbye(scene: Scene) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        async with scene.connected() as (websocket, peer), trio.open_nursery() as nursery:
            left = False

            async def act() -> None:
                nonlocal left
                async with websocket:
                    await websocket.send("hello")
                    await websocket.ping()
                    await websocket.send("bye")
                    left = True

            nursery.start_soon(peer.finish)
            yield act
            assert websocket.ready_state is ReadyState.CLOSED
        assert peer.closed_with == ((1000, "") if left else (1001, ""))
        assert peer.messages == ["hello", "bye"][: len(peer.messages)]
        assert peer.whole_frames()

    cancel_everywhere(scenario, at_least=8, clock=scene.clock)
