"""Connections over links that die without a word, or lose, delay and reorder packets (in namespaces; see lossy.py)."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

from trio_ws import (
    Agent,
    ConnectionClosedError,
    Keepalive,
    WebSocket,
    WebSocketRequest,
    open_websocket,
    serve_websocket,
)
from trio_ws._net.socket_transport import SocketTransport, prepare_socket

from ..serving import serving, until
from .lossy import SERVER, BadLink, Badness, Namespace

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from trio_ws._client.agent import ConnectRequest
    from trio_ws._transport import Transport

pytestmark = pytest.mark.network

QUICK = Keepalive(interval=1.0, timeout=1.0)
PATIENCE = 0.5  # seconds that a busy machine may take more than the two of QUICK
CONNECTIONS = 20
MESSAGES = 200

each_http = pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])


class NamespaceAgent(Agent):
    """An agent inside a namespace."""

    def __init__(self, namespace: Namespace, *, http2: bool, ssl_context: ssl.SSLContext | None = None) -> None:
        super().__init__(allow_h2=http2, h2_prior_knowledge=http2, ssl_context=ssl_context)
        self._namespace = namespace

    async def _connect(self, request: ConnectRequest) -> Transport:
        sock = self._namespace.connect((request.url.host, request.url.port))
        await trio.lowlevel.wait_writable(sock)
        return SocketTransport(prepare_socket(sock))


@asynccontextmanager
async def serving_echo(link: BadLink, keepalive: Keepalive) -> AsyncGenerator[tuple[str, list[float]], None]:
    """Serve echoes at one end; give the URL, and a list of the times when connections ended for the server."""
    ended: list[float] = []

    async def handler(request: WebSocketRequest) -> None:
        try:
            async with request.accept() as websocket:
                async for message in websocket:
                    await websocket.send(message)
        finally:
            ended.append(trio.current_time())

    serve = partial(
        serve_websocket,
        handler,
        None,
        None,
        sockets=[link.server.listen()],
        keepalive=keepalive,
        connect_timeout=30.0,
        close_timeout=1.0,
    )
    async with serving(serve) as server:
        yield f"ws://{SERVER}:{server.port}/", ended


@asynccontextmanager
async def linked(
    link: BadLink, *, http2: bool, keepalive: Keepalive
) -> AsyncGenerator[tuple[WebSocket, list[float]], None]:
    """Open one WebSocket over a link; give the client's, and when it ended for the server."""
    async with (
        serving_echo(link, keepalive) as (url, ended),
        NamespaceAgent(link.client, http2=http2) as agent,
        open_websocket(url, dispatcher=agent, keepalive=keepalive, close_timeout=1.0) as websocket,
    ):
        yield websocket, ended


async def echo(websocket: WebSocket) -> None:
    """Send and receive once."""
    await websocket.send("hello")
    assert await websocket.receive() == "hello"


@each_http
@pytest.mark.parametrize("way", ["cut", "down"])
async def test_both_ends_of_a_dead_link_learn_of_it_within_the_bound_of_keepalive(http2: bool, way: str) -> None:
    with trio.fail_after(10), BadLink() as link:
        async with linked(link, http2=http2, keepalive=QUICK) as (websocket, ended):
            await echo(websocket)
            if way == "cut":
                link.cut = True
            else:
                link.client.set_link("down")
            died = trio.current_time()
            with pytest.raises(ConnectionClosedError):
                await websocket.receive()
            assert 1.0 < trio.current_time() - died < 2.0 + PATIENCE
            await until(lambda: bool(ended))
            assert 1.0 < ended[0] - died < 2.0 + PATIENCE
            info = await websocket.wait_closed()
            assert trio.current_time() - died < 2.0 + 2 * PATIENCE
            assert not info.was_clean


@each_http
async def test_a_sender_over_a_dead_link_is_told_within_the_bound_too(http2: bool) -> None:
    with trio.fail_after(15), BadLink() as link:
        async with linked(link, http2=http2, keepalive=QUICK) as (websocket, _):
            await echo(websocket)
            link.cut = True
            died = trio.current_time()
            with pytest.raises(ConnectionClosedError):
                while True:
                    await websocket.send(bytes(10_000))
            assert trio.current_time() - died < 3.0 + PATIENCE  # until the system's buffers are full, and the bound


@each_http
async def test_an_outage_shorter_than_the_bound_costs_nothing(http2: bool) -> None:
    with trio.fail_after(20), BadLink() as link:
        async with linked(link, http2=http2, keepalive=Keepalive(interval=1.0, timeout=8.0)) as (websocket, _):
            await echo(websocket)
            link.cut = True
            for number in range(10):
                await websocket.send(str(number))
            await trio.sleep(1.5)
            link.cut = False
            assert [await websocket.receive() for _ in range(10)] == list("0123456789")


@each_http
async def test_a_lossy_link_loses_and_reorders_no_message(http2: bool) -> None:
    badness = Badness(loss=0.05, delay=0.05, jitter=0.02, reorder=0.1)
    messages = [f"{number:04d}".encode() * (1 + number * 37 % 400) for number in range(MESSAGES)]

    async def talk(websocket: WebSocket) -> None:
        for message in messages:
            await websocket.send(message)
            await trio.sleep(0.005)  # so that they go in packets of their own

    async def one(url: str, agent: Agent) -> None:
        async with (
            open_websocket(url, dispatcher=agent, connect_timeout=30.0) as websocket,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(talk, websocket)
            for message in messages:
                assert await websocket.receive() == message

    with trio.fail_after(50), BadLink(badness, seed=5) as link:
        async with (
            serving_echo(link, Keepalive()) as (url, _),
            NamespaceAgent(link.client, http2=http2) as agent,
            trio.open_nursery() as nursery,
        ):
            for _ in range(CONNECTIONS):
                nursery.start_soon(one, url, agent)
    assert link.lost > 100
    print(f"{link.carried} packets carried, {link.lost} lost")


FAR = Badness(delay=0.025)  # so a round trip takes 50 ms
MUCH = 2**24
MESSAGE = bytes(2**16)


async def transfer(link: BadLink, contexts: tuple[ssl.SSLContext, ssl.SSLContext], *, http2: bool, up: bool) -> float:
    """Send much over TLS, to the server or from it; give the seconds that this took."""

    async def send(websocket: WebSocket) -> None:
        for _ in range(MUCH // len(MESSAGE)):
            await websocket.send(MESSAGE)
        assert await websocket.receive() == "all of it"

    async def receive(websocket: WebSocket) -> None:
        for _ in range(MUCH // len(MESSAGE)):
            assert len(await websocket.receive()) == len(MESSAGE)
        await websocket.send("all of it")

    async def handler(request: WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await (receive if up else send)(websocket)

    sockets = [link.server.listen()]
    serve = partial(serve_websocket, handler, None, None, contexts[0], sockets=sockets, compression=None)
    async with serving(serve) as server, NamespaceAgent(link.client, http2=http2, ssl_context=contexts[1]) as agent:
        url = f"wss://{SERVER}:{server.port}/"
        async with open_websocket(url, dispatcher=agent, compression=None) as websocket:
            assert websocket.http_version == ("2" if http2 else "1.1")
            began = trio.current_time()
            await (send if up else receive)(websocket)
            return trio.current_time() - began


@pytest.mark.parametrize("up", [True, False], ids=["to the server", "to the client"])
async def test_http2_carries_much_over_a_distance_in_a_time_like_that_of_http1(up: bool) -> None:
    """With a window of 64 KiB it took 256 round trips at least, 15 times as long and more.

    Both wait for the link, not for the processor, and for the same one: so a busy machine slows both. What is bound
    here tells a window that grows from one that does not, with room for a machine that is busy during one of the two.
    """
    authority = trustme.CA()
    server_side, client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert(SERVER).configure_cert(server_side)
    authority.configure_trust(client_side)
    with trio.fail_after(60), BadLink(FAR) as link:
        http1 = await transfer(link, (server_side, client_side), http2=False, up=up)
        http2 = await transfer(link, (server_side, client_side), http2=True, up=up)
    print(f"HTTP/1.1: {MUCH / http1 / 1e6:.1f} MB/s, HTTP/2: {MUCH / http2 / 1e6:.1f} MB/s")
    assert http2 < 4 * http1
