"""What HTTP/2 adds to the contract: many WebSockets on one connection, none of which disturbs another."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

import trio_ws

from .contract import MIB, be_noticed
from .peers import CHOSEN_PROTOCOL, HOST, PROTOCOLS, TIMEOUT
from .relay import relaying, to_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .peers import Output, Peer
    from .relay import Relay

MANY = 50


@asynccontextmanager
async def reached(peer: Peer) -> AsyncIterator[tuple[trio_ws.Agent, str, Relay, Output]]:
    """Start the peer as a server; gives our agent, a URL through a relay, that relay, and what the peer writes."""
    async with (
        peer.serving() as (output, url),
        relaying(to_port(int(url.rpartition(":")[2]))) as relay,
        peer.agent() as agent,
    ):
        yield agent, peer.url_of(relay.port), relay, output


async def echoes(websocket: trio_ws.WebSocket, message: str | bytes) -> bool:
    """Tell whether the peer sends a message back."""
    await websocket.send(message)
    return await websocket.receive() == message


async def open_many(stack: AsyncExitStack, agent: trio_ws.Agent, url: str, number: int) -> list[trio_ws.WebSocket]:
    """Open several WebSockets one after the other, to be closed with the stack."""
    return [await stack.enter_async_context(trio_ws.open_websocket(url, dispatcher=agent)) for _ in range(number)]


class OurClientShares:
    """Our client with several WebSockets to one peer."""

    heard_of_cancelled = (1001,)
    """What the peer may write about a WebSocket whose scope we cancelled."""

    async def test_many_websockets_share_one_connection(self, peer: Peer) -> None:
        told: list[dict[str, int]] = []
        all_open = trio.Event()

        async def converse(agent: trio_ws.Agent, url: str) -> None:
            async with trio_ws.open_websocket(f"{url}/where", dispatcher=agent) as websocket:
                assert websocket.http_version == "2"
                told.append(json.loads(await websocket.receive()))
                if len(told) == MANY:
                    all_open.set()
                await all_open.wait()
                assert await echoes(websocket, "x" * 1000)

        with trio.fail_after(TIMEOUT):
            async with reached(peer) as (agent, url, relay, _), trio.open_nursery() as nursery:
                for _ in range(MANY):
                    nursery.start_soon(converse, agent, url)
        assert relay.connections == 1
        # As the peer counts them, if it does: HAProxy's does neither, hypercorn only connections.
        assert len({facts.get("connection") for facts in told}) == 1
        assert max((facts["streams"] for facts in told if "streams" in facts), default=MANY) == MANY

    async def test_a_cancelled_scope_leaves_the_others_alone(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with reached(peer) as (agent, url, relay, output), AsyncExitStack() as stack:
                others = await open_many(stack, agent, f"{url}/echo", 2)
                with trio.CancelScope() as scope:
                    async with trio_ws.open_websocket(f"{url}/echo", dispatcher=agent) as websocket:
                        await be_noticed(websocket)
                        scope.cancel()
                        await trio.sleep_forever()
                assert (await output.line())["code"] in self.heard_of_cancelled
                for other in others:
                    assert await echoes(other, "x" * MIB)
                assert relay.connections == 1

    async def test_an_unread_websocket_holds_up_no_other(self, peer: Peer) -> None:
        sent = [bytes([number]) * MIB for number in range(8)]
        with trio.fail_after(TIMEOUT):
            async with (
                reached(peer) as (agent, url, relay, _),
                trio_ws.open_websocket(f"{url}/echo", dispatcher=agent, compression=None) as unread,
                trio_ws.open_websocket(f"{url}/echo", dispatcher=agent) as other,
                trio.open_nursery() as nursery,
            ):

                async def send_all() -> None:
                    for message in sent:
                        await unread.send(message)

                nursery.start_soon(send_all)
                for _ in range(20):
                    assert await echoes(other, "x" * 1000)
                    assert await other.ping() < TIMEOUT
                assert await echoes(other, "é" * (MIB // 2))
                assert [await unread.receive() for _ in sent] == sent
        assert relay.connections == 1

    async def test_the_end_of_the_connection_ends_each_websocket(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with reached(peer) as (agent, url, relay, _):
                async with AsyncExitStack() as stack:
                    websockets = await open_many(stack, agent, f"{url}/echo", 3)
                    relay.cut()
                    for websocket in websockets:
                        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
                            await websocket.receive()
                        assert (caught.value.code, caught.value.was_clean) == (1006, False)
                async with trio_ws.open_websocket(f"{url}/echo", dispatcher=agent) as websocket:
                    assert await echoes(websocket, "again")
                assert relay.connections == 2


class Clients:
    """The WebSockets that a peer has opened to a server of ours.

    Attributes:
        arrived: the open ones, in the order in which they came.
        connections: the TCP connections that they came by.
    """

    def __init__(self) -> None:
        self._sender, self._receiver = trio.open_memory_channel[trio_ws.WebSocket](MANY)
        self.arrived: list[trio_ws.WebSocket] = []
        self.connections: set[object] = set()
        self.finished = trio.Event()

    async def handle(self, request: trio_ws.WebSocketRequest) -> None:
        """Take one, and keep it until the test has ended."""
        protocol = CHOSEN_PROTOCOL if CHOSEN_PROTOCOL in request.protocols else None
        async with request.accept(protocol) as websocket:
            self.connections.add(str(websocket.remote_address))
            self._sender.send_nowait(websocket)
            await self.finished.wait()

    async def come(self, number: int) -> None:
        """Wait for several."""
        while len(self.arrived) < number:
            self.arrived.append(await self._receiver.receive())


@asynccontextmanager
async def visited(peer: Peer, scenario: str, number: int) -> AsyncIterator[tuple[Clients, Output]]:
    """Start our server and the peer as its client with several WebSockets; gives them and what the peer writes."""
    clients = Clients()
    async with trio.open_nursery() as nursery:
        serve = partial(trio_ws.serve_websocket, protocols=PROTOCOLS)
        server = await nursery.start(serve, clients.handle, HOST, 0, peer.server_context)
        async with peer.connecting(f"{peer.url_of(server.port)}/{scenario}", f"--sockets={number}") as output:
            await clients.come(number)
            yield clients, output
            nursery.start_soon(server.aclose)
            clients.finished.set()
        nursery.cancel_scope.cancel()


class OurServerShares:
    """Our server with several WebSockets of one peer."""

    async def test_many_websockets_share_one_connection(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with visited(peer, "echo", MANY) as (clients, _):
                assert len(clients.connections) == 1
                async with trio.open_nursery() as nursery:
                    for websocket in clients.arrived:
                        assert websocket.http_version == "2"
                        nursery.start_soon(self.converse, websocket)

    @staticmethod
    async def converse(websocket: trio_ws.WebSocket) -> None:
        """Exchange a few messages."""
        for length in (0, 1000, 100_000):
            assert await echoes(websocket, b"\x01" * length)
            assert await websocket.ping() < TIMEOUT

    async def test_the_end_of_the_server_is_told_to_each(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            clients = Clients()
            async with trio.open_nursery() as nursery:
                server = await nursery.start(trio_ws.serve_websocket, clients.handle, HOST, 0, peer.server_context)
                url = f"{peer.url_of(server.port)}/echo"
                async with peer.connecting(url, "--sockets=5") as output:
                    await clients.come(5)
                    nursery.start_soon(partial(server.aclose, reason="restarting"))
                    for websocket in clients.arrived:
                        assert (await websocket.wait_closed()).was_clean
                    clients.finished.set()
                    told = [await output.line() for _ in range(5)]
            assert told == [{"code": 1001, "reason": "restarting"}] * 5

    async def test_a_closed_websocket_leaves_the_others_alone(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with visited(peer, "echo", 3) as (clients, output):
                await clients.arrived[1].aclose(4002, "you only")
                assert await output.line() == {"code": 4002, "reason": "you only"}
                for websocket in (clients.arrived[0], clients.arrived[2]):
                    assert await echoes(websocket, "x" * MIB)
                assert len(clients.connections) == 1

    async def test_an_unread_websocket_holds_up_no_other(self, peer: Peer) -> None:
        sent = [bytes([number]) * MIB for number in range(8)]
        with trio.fail_after(TIMEOUT):
            async with visited(peer, "echo", 2) as (clients, _), trio.open_nursery() as nursery:
                unread, other = clients.arrived

                async def send_all() -> None:
                    for message in sent:
                        await unread.send(message)

                nursery.start_soon(send_all)
                for _ in range(20):
                    assert await echoes(other, "x" * 1000)
                    assert await other.ping() < TIMEOUT
                assert await echoes(other, "é" * (MIB // 2))
                assert [await unread.receive() for _ in sent] == sent

    async def test_the_end_of_the_peer_ends_each_websocket(self, peer: Peer) -> None:
        clients = Clients()
        with trio.fail_after(TIMEOUT):
            async with trio.open_nursery() as nursery:
                server = await nursery.start(trio_ws.serve_websocket, clients.handle, HOST, 0, peer.server_context)
                async with peer.connecting(f"{peer.url_of(server.port)}/echo", "--sockets=3"):
                    await clients.come(3)
                for websocket in clients.arrived:
                    closed = await websocket.wait_closed()
                    assert (closed.code, closed.was_clean) == (1006, False)
                clients.finished.set()
                nursery.cancel_scope.cancel()
