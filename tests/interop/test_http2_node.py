"""Our client and our server over HTTP/2 with the ``http2`` module of Node.js, the frames by ``ws``."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

import trio_ws

from ..serving import echo, serving
from .contract import Fragments, OurClient, OurServer, Pings, Plain
from .contract_http2 import OurClientShares, OurServerShares, echoes, open_many, reached, visited
from .peers import HERE, HOST, TIMEOUT, TLS, Peer, Program, require

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.interop


@pytest.fixture
def peer(node_modules: Path, tls: TLS) -> Peer:
    """The peer."""
    return Program(
        command=(require("node"), str(HERE / "node" / "http2_peer.js")),
        environment={"NODE_PATH": str(node_modules)},
        tls=tls,
        http_version="2",
    )


async def first_to_close(websockets: Sequence[trio_ws.WebSocket]) -> trio_ws.WebSocket:
    """Wait for one of several to be closed; gives it."""
    closed: list[trio_ws.WebSocket] = []

    async def wait(websocket: trio_ws.WebSocket, scope: trio.CancelScope) -> None:
        await websocket.wait_closed()
        closed.append(websocket)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        for websocket in websockets:
            nursery.start_soon(wait, websocket, nursery.cancel_scope)
    [first] = closed
    return first


class TestOurClient(OurClient, Fragments, Pings, Plain, OurClientShares):
    """Against a server of ``http2``."""

    @pytest.mark.parametrize("scenario", ["reset", "half"])
    async def test_a_stream_that_ends_without_a_close_ends_no_other(self, peer: Peer, scenario: str) -> None:
        with trio.fail_after(TIMEOUT):
            async with reached(peer) as (agent, url, relay, _), AsyncExitStack() as stack:
                others = await open_many(stack, agent, f"{url}/echo", 2)
                async with trio_ws.open_websocket(f"{url}/{scenario}", dispatcher=agent) as websocket:
                    with pytest.raises(trio_ws.ConnectionClosedError) as caught:
                        await websocket.receive()
                    assert (caught.value.code, caught.value.was_clean) == (1006, False)
                for other in others:
                    assert await echoes(other, "still there")
                assert relay.connections == 1

    async def test_a_connection_that_vanishes_ends_each_websocket(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with reached(peer) as (agent, url, _, _), AsyncExitStack() as stack:
                websockets = await open_many(stack, agent, f"{url}/echo", 2)
                websockets += await open_many(stack, agent, f"{url}/vanish", 1)
                for websocket in websockets:
                    with pytest.raises(trio_ws.ConnectionClosedError) as caught:
                        await websocket.receive()
                    assert caught.value.code == 1006

    async def test_after_goaway_streams_go_on_and_new_ones_get_another_connection(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with reached(peer) as (agent, url, relay, _), AsyncExitStack() as stack:
                old = await open_many(stack, agent, f"{url}/echo", 2)
                old += await open_many(stack, agent, f"{url}/goaway", 1)
                assert await old[2].receive() == "going away"
                [new] = await open_many(stack, agent, f"{url}/echo", 1)
                for websocket in (*old, new):
                    assert await echoes(websocket, "x" * 100_000)
                assert relay.connections == 2

    async def test_a_shutdown_ends_each_websocket_cleanly(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with reached(peer) as (agent, url, _, _), AsyncExitStack() as stack:
                websockets = await open_many(stack, agent, f"{url}/echo", 2)
                websockets += await open_many(stack, agent, f"{url}/shutdown", 1)
                for websocket in websockets:
                    assert [message async for message in websocket] == []
                    assert await websocket.wait_closed() == trio_ws.CloseInfo(1001, "restarting", was_clean=True)

    async def test_a_refused_stream_is_tried_on_another_connection(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with reached(peer) as (agent, url, relay, _), AsyncExitStack() as stack:
                [first] = await open_many(stack, agent, f"{url}/echo", 1)
                [refused] = await open_many(stack, agent, f"{url}/refuse", 1)
                assert await echoes(refused, "there after all")
                assert await echoes(first, "still there")
                assert relay.connections == 2


class TestOurServer(OurServer, Fragments, Pings, Plain, OurServerShares):
    """Against a client of ``http2``."""

    @pytest.mark.parametrize("scenario", ["reset", "half"])
    async def test_a_stream_that_ends_without_a_close_ends_no_other(self, peer: Peer, scenario: str) -> None:
        with trio.fail_after(TIMEOUT):
            async with visited(peer, scenario, 3) as (clients, _):
                ended = await first_to_close(clients.arrived)
                assert ended.close_info == trio_ws.CloseInfo(1006, "", was_clean=False)
                for other in clients.arrived:
                    assert other is ended or await echoes(other, "still there")

    async def test_a_connection_that_vanishes_ends_each_websocket(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with visited(peer, "vanish", 3) as (clients, _):
                for websocket in clients.arrived:
                    assert (await websocket.wait_closed()).code == 1006


async def test_a_client_that_does_not_end_its_side_is_not_waited_for(node_modules: Path, tls: TLS) -> None:
    """Its stream is reset without an error, and it has the Close by then."""
    peer = Program(
        command=(require("node"), str(HERE / "node" / "half_open.js")),
        environment={"NODE_PATH": str(node_modules)},
        tls=tls,
        http_version="2",
    )
    limits = trio_ws.Limits(close_linger=10 * TIMEOUT)
    serve = partial(trio_ws.serve_websocket, echo, HOST, 0, tls.server_context, limits=limits)
    with trio.fail_after(TIMEOUT):
        async with serving(serve) as server, peer.connecting(f"{peer.url_of(server.port)}/") as output:
            assert await output.line() == {"answer": "880203e8", "reset": 0}
