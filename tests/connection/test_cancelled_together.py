"""A task that is cancelled in the step in which its connection ends: the cancellation is what it hears of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.sides import end_of, one_side
from trio_ws import ConnectionClosed, WebSocket


async def stream_out(websocket: WebSocket) -> None:
    async with websocket.send_message_stream() as parts:
        while True:
            await parts.send(bytes(2**16))


async def stream_in(websocket: WebSocket) -> None:
    async with websocket.receive_message_stream() as parts:
        async for _ in parts:
            raise AssertionError("nothing was sent")


async def send_on(websocket: WebSocket) -> None:
    while True:
        await websocket.send(bytes(2**16))


@pytest.mark.parametrize("wait", [WebSocket.receive, send_on, WebSocket.ping, stream_out, stream_in])
@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_task_that_is_cancelled_with_its_connection_is_cancelled(
    wait: Callable[[WebSocket], Awaitable[object]], cancelled: bool, autojump_clock: MockClock
) -> None:
    heard: list[str] = []

    async def try_to(websocket: WebSocket) -> None:
        try:
            await wait(websocket)
        except trio.Cancelled:
            heard.append("cancelled")
            raise
        except ConnectionClosed:
            heard.append("closed")

    async with one_side() as (websocket, peer):
        end_of(peer).room = 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(try_to, websocket)
            await wait_all_tasks_blocked()
            websocket._connection.abandon()
            if cancelled:
                nursery.cancel_scope.cancel()
    assert heard == ["cancelled" if cancelled else "closed"]
