"""Our server behind a proxy that carries the WebSockets of many clients on few HTTP/2 connections: none loses any."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

import trio_ws
from trio_ws import Limits

from . import envoy
from .peers import HOST, TIMEOUT, require
from .proxies import ProxyKind, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

pytestmark = pytest.mark.interop

HELD, CHURNERS, ROUNDS = 80, 60, 4
LINGER = 0.3  # seconds that a handler takes after its WebSocket has ended


def nghttpx(server_port: int) -> Callable[[Path, int], list[str]]:
    """The proxy of nghttp2, which does not end its side of a stream once the server has."""

    def command(folder: Path, port: int) -> list[str]:
        backend = f"--backend={HOST},{server_port};;proto=h2"
        arguments = (f"--frontend={HOST},{port};no-tls", backend, "--workers=1", "--no-ocsp", "--log-level=FATAL")
        return [require("nghttpx"), f"--conf={write(folder, 'nghttpx.conf')}", *arguments]

    return command


PROXIES = {"Envoy": envoy.back, "nghttpx": nghttpx}


@pytest.fixture(params=PROXIES)
def proxy(request: pytest.FixtureRequest) -> Callable[[int], ProxyKind]:
    """What runs a proxy in front of the server on a port."""
    return lambda port: ProxyKind(scheme="ws", command=PROXIES[request.param](port))


async def linger(request: trio_ws.WebSocketRequest) -> None:
    """Echo, and take a while afterwards."""
    async with request.accept() as websocket:
        async for message in websocket:
            await websocket.send(message)
    await trio.sleep(LINGER)


@asynccontextmanager
async def in_front(
    proxy: Callable[[int], ProxyKind], folder: Path, limits: Limits
) -> AsyncIterator[tuple[str, trio_ws.WebSocketServer]]:
    """Run the server and the proxy as long as the block; gives the proxy's URL and the server."""
    async with trio.open_nursery() as nursery:
        serve = partial(trio_ws.serve_websocket, linger, HOST, 0, keepalive=None, limits=limits)
        server: trio_ws.WebSocketServer = await nursery.start(serve)
        kind = proxy(server.port)
        async with kind.running(folder) as place:
            yield kind.url(place), server
        nursery.cancel_scope.cancel()


async def echoes(websocket: trio_ws.WebSocket) -> bool:
    await websocket.send("hello")
    return await websocket.receive() == "hello"


async def come_and_go(url: str) -> None:
    """Open, echo and close, again and again."""
    for _ in range(ROUNDS):
        async with trio_ws.open_websocket(url) as websocket:
            assert await echoes(websocket)


async def come_and_vanish(url: str) -> None:
    """Open, echo and drop TCP without a Close, again and again."""
    host, _, port = url.partition("://")[2].partition(":")
    for _ in range(ROUNDS):
        stream = await trio.open_tcp_stream(host, int(port))
        async with trio.open_nursery() as nursery:
            websocket = await trio_ws.wrap_client_stream(nursery, stream, url)
            assert await echoes(websocket)
            await stream.aclose()
            nursery.cancel_scope.cancel()


async def hold_while(url: str, churn: Callable[[str], Awaitable[None]]) -> Counter[str]:
    """Hold some WebSockets while others come and go; gives what became of those that were held."""
    fates: Counter[str] = Counter()
    done = trio.Event()
    all_open = trio.Semaphore(0)

    async def hold() -> None:
        async with trio_ws.open_websocket(url) as websocket:
            all_open.release()
            while not done.is_set():
                assert await echoes(websocket)
                with trio.move_on_after(0.2):
                    await done.wait()
            assert await echoes(websocket)
            fates["echoed to the end"] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(HELD):
            nursery.start_soon(hold)
        for _ in range(HELD):
            await all_open.acquire()
        async with trio.open_nursery() as churners:
            for _ in range(CHURNERS):
                churners.start_soon(churn, url)
        done.set()
    return fates


@pytest.mark.parametrize("churn", [come_and_go, come_and_vanish])
async def test_who_stays_keeps_a_websocket_while_others_come_and_go(
    churn: Callable[[str], Awaitable[None]], proxy: Callable[[int], ProxyKind], tmp_path: Path
) -> None:
    with trio.fail_after(2 * TIMEOUT):
        async with in_front(proxy, tmp_path, Limits()) as (url, server):
            assert await hold_while(url, churn) == {"echoed to the end": HELD}
            counts = server.statistics().http2
            assert counts.streams_opened == HELD + CHURNERS * ROUNDS
            assert counts.connections_opened < 10  # so they did share
            assert (counts.streams_refused, counts.limits_passed) == (0, {})


async def test_no_client_notices_that_a_connection_has_carried_enough(
    proxy: Callable[[int], ProxyKind], tmp_path: Path
) -> None:
    with trio.fail_after(2 * TIMEOUT):
        async with in_front(proxy, tmp_path, Limits(h2_max_streams_total=HELD)) as (url, server):
            assert await hold_while(url, come_and_go) == {"echoed to the end": HELD}
            counts = server.statistics().http2
            assert counts.streams_refused == 0
            assert counts.limits_passed.keys() == {"h2_max_streams_total"}


async def test_handlers_that_linger_hold_up_newcomers_and_lose_nobody(
    proxy: Callable[[int], ProxyKind], tmp_path: Path
) -> None:
    limits = Limits(h2_max_handlers=HELD + 10)
    with trio.fail_after(2 * TIMEOUT):
        async with in_front(proxy, tmp_path, limits) as (url, server):
            assert await hold_while(url, come_and_go) == {"echoed to the end": HELD}
            counts = server.statistics().http2
            assert counts.streams_refused == 0
            assert counts.limits_passed.keys() == {"h2_max_handlers"}
