"""One WebSocket of several on an HTTP/2 connection, cancelled at every step: its siblings notice nothing."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

import trio_ws
from trio_ws import Agent

from ..serving import LOCALHOST, echo, serving, tls_contexts, until
from .harness import cancel_everywhere

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from trio_ws._server.service import Handler

    from .harness import Act

LARGE = b"x" * 300_000


@asynccontextmanager
async def sibling(
    handler: Handler = echo,
) -> AsyncGenerator[tuple[Agent, str, trio_ws.WebSocket]]:
    """Have an agent whose connection carries a WebSocket already; see that it still does afterwards."""
    server_side, client_side = tls_contexts()
    serve = partial(trio_ws.serve_websocket, handler, LOCALHOST, 0, server_side, compression=None)
    async with serving(serve) as server, Agent(ssl_context=client_side) as agent:
        url = f"wss://{LOCALHOST}:{server.port}/"
        async with trio_ws.open_websocket(url, dispatcher=agent) as websocket:
            yield agent, url, websocket
            await websocket.send("still here")
            assert await websocket.receive() == "still here"
            await until(lambda: agent.statistics().streams_open == server.statistics().http2.streams_open == 1)
        for counts in (agent.statistics(), server.statistics().http2):
            assert (counts.connections_opened, counts.limits_passed) == (1, {})


def test_a_websocket_that_is_opened_used_and_left() -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        async with sibling() as (agent, url, _):

            async def act() -> None:
                async with trio_ws.open_websocket(url, dispatcher=agent) as websocket:
                    assert websocket.http_version == "2"
                    await websocket.send("hello")
                    assert await websocket.receive() == "hello"
                    await websocket.ping()

            yield act

    cancel_everywhere(scenario, at_least=15)


@pytest.mark.parametrize("limits", [trio_ws.Limits(), trio_ws.Limits(send_buffer=1)])
def test_a_message_larger_than_the_window_is_sent_whole_or_not_at_all(limits: trio_ws.Limits) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        received: list[str | bytes] = []
        sent: list[bytes] = []

        async def collect(request: trio_ws.WebSocketRequest) -> None:
            if request.path != "/collect":
                await echo(request)
                return
            async with request.accept() as websocket:
                async for message in websocket:
                    received.append(message)  # noqa: PERF401  # it is looked at while it grows

        async with sibling(collect) as (agent, url, _):
            async with trio_ws.open_websocket(f"{url}collect", dispatcher=agent, limits=limits) as websocket:

                async def act() -> None:
                    for number in range(3):
                        message = bytes([number]) + LARGE
                        await websocket.send(message)
                        sent.append(message)

                yield act
                await websocket.send("after")
            await until(lambda: bool(received) and received[-1] == "after")
        assert received == [*sent, "after"]

    cancel_everywhere(scenario, at_least=5)


def test_messages_are_received_once() -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        received: list[str | bytes] = []

        async def count(request: trio_ws.WebSocketRequest) -> None:
            if request.path != "/count":
                await echo(request)
                return
            async with request.accept() as websocket:
                for number in range(20):
                    await websocket.send(str(number))
                await websocket.wait_closed()

        async with (
            sibling(count) as (agent, url, _),
            trio_ws.open_websocket(f"{url}count", dispatcher=agent) as websocket,
        ):

            async def act() -> None:
                while len(received) < 20:
                    received.append(await websocket.receive())

            yield act
            await act()
        assert received == [str(number) for number in range(20)]

    cancel_everywhere(scenario, at_least=5)
