"""Opening and serving, cancelled at every step: nothing is left open, on either side."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

import trio_ws
from trio_ws import Agent, ProxyAgent

from ..raw_peer import RawPeer
from ..serving import LOCALHOST, live_tasks, serving, tls_contexts, until
from ..small_proxies import SmallProxy
from .harness import cancel_everywhere

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from trio_ws._client.connect import ClientKeywords

    from .harness import Act
    from .scenes import StreamPair

URL = "ws://test.example/"
CARRIERS = ["tcp", "tls", "unix", "h2"]
virtual_clock = partial(trio.testing.MockClock, autojump_threshold=0.0)
over_streams = pytest.mark.parametrize(
    "pair", [trio.testing.memory_stream_pair, trio.testing.lockstep_stream_pair], ids=["memory", "lockstep"]
)


class Place:
    """Where a server of ours listens, and how a client of ours gets there."""

    def __init__(self, carrier: str, folder: Path) -> None:
        server_context, client_context = tls_contexts() if carrier in ("tls", "h2") else (None, None)
        self.path = str(folder / "socket") if carrier == "unix" else None
        self.closed: list[int] = []  # the codes that handlers saw
        self.redirects: dict[str, str] = {}
        host, port = (LOCALHOST, 0) if self.path is None else (self.path, None)
        self.serve = partial(trio_ws.serve_websocket, self.handle, host, port, server_context)
        self.options: ClientKeywords = {"ssl_context": client_context}
        if self.path is not None:
            self.options["dispatcher"] = Agent(socket_path=self.path)
        elif carrier == "h2":
            self.options["dispatcher"] = Agent()

    async def handle(self, request: trio_ws.WebSocketRequest) -> None:
        """Echo, and note how it ended; redirect where that is wanted."""
        if request.target in self.redirects:
            await request.reject(302, headers={"Location": self.redirects[request.target]})
            return
        async with request.accept() as websocket:
            try:
                async for message in websocket:
                    await websocket.send(message)
            except trio_ws.ConnectionClosedError:
                pass
            self.closed.append((await websocket.wait_closed()).code)

    def url(self, server: trio_ws.WebSocketServer) -> str:
        """Give the URL for a client."""
        if self.path is not None:
            return URL
        return f"{'ws' if self.options['ssl_context'] is None else 'wss'}://{LOCALHOST}:{server.port}/"


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_scope_that_is_opened_used_and_left(carrier: str, tmp_path: Path) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        place = Place(carrier, tmp_path)
        entered = left = False
        async with serving(place.serve) as server:
            tasks = live_tasks()

            async def act() -> None:
                nonlocal entered, left
                async with trio_ws.open_websocket(place.url(server), **place.options) as websocket:
                    entered = True
                    await websocket.send("hello")
                    assert await websocket.receive() == "hello"
                    left = True

            yield act
            await until(lambda: live_tasks() == tasks)
        if entered:
            assert place.closed == [1000 if left else 1001]

    cancel_everywhere(scenario, at_least=10)


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
def test_a_scope_that_is_opened_through_a_proxy(scheme: str, secure: bool, tmp_path: Path) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        place = Place("tls" if secure else "tcp", tmp_path)
        proxy = SmallProxy(scheme)
        entered = left = False
        async with serving(place.serve) as server, proxy.running() as where:
            await trio.testing.wait_all_tasks_blocked()  # the proxy has all its tasks
            tasks = live_tasks()
            agent = ProxyAgent(f"{scheme}://user:pass@{where}", proxy_ssl_context=tls_contexts()[1])
            place.options["dispatcher"] = agent

            async def act() -> None:
                nonlocal entered, left
                async with trio_ws.open_websocket(place.url(server), **place.options) as websocket:
                    entered = True
                    await websocket.send("hello")
                    assert await websocket.receive() == "hello"
                    left = True

            yield act
            await until(lambda: live_tasks() == tasks)
        if entered:
            assert place.closed == [1000 if left else 1001]

    cancel_everywhere(scenario, at_least=20)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_scope_that_is_opened_by_a_redirect(carrier: str, tmp_path: Path) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        place = Place(carrier, tmp_path)
        place.redirects = {"/": "/new"}
        place.options["follow_redirects"] = 1
        entered = left = False
        async with serving(place.serve) as server:
            tasks = live_tasks()

            async def act() -> None:
                nonlocal entered, left
                async with trio_ws.open_websocket(place.url(server), **place.options) as websocket:
                    entered = True
                    assert websocket.url.endswith("/new")
                    left = True

            yield act
            await until(lambda: live_tasks() == tasks)
        if entered:
            assert place.closed == [1000 if left else 1001]

    cancel_everywhere(scenario, at_least=12)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_websocket_in_a_nursery_of_the_callers(carrier: str, tmp_path: Path) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        place = Place(carrier, tmp_path)
        opened: list[trio_ws.WebSocket] = []
        async with serving(place.serve) as server, trio.open_nursery() as nursery:
            tasks = live_tasks()

            async def act() -> None:
                opened.append(await trio_ws.connect_websocket(nursery, place.url(server), **place.options))

            yield act
            for websocket in opened:
                await websocket.send("hello")
                assert await websocket.receive() == "hello"
                await websocket.aclose()
            await until(lambda: live_tasks() == tasks)
            assert not nursery.child_tasks
        assert place.closed in ([[1000]] if opened else [[], [1006]])

    cancel_everywhere(scenario, at_least=4)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_nursery_of_the_callers_that_is_cancelled_says_goodbye(carrier: str, tmp_path: Path) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        place = Place(carrier, tmp_path)
        opened = False
        async with serving(place.serve) as server:
            tasks = live_tasks()

            async def act() -> None:
                nonlocal opened
                async with trio.open_nursery() as nursery:
                    websocket = await trio_ws.connect_websocket(nursery, place.url(server), **place.options)
                    opened = True
                    await websocket.send("hello")
                    assert await websocket.receive() == "hello"
                    nursery.cancel_scope.cancel()

            yield act
            await until(lambda: live_tasks() == tasks)
        if opened:
            assert place.closed == [1001]

    cancel_everywhere(scenario, at_least=6)


@over_streams
def test_a_client_over_a_stream(pair: StreamPair) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        ours, theirs = pair()
        opened: list[trio_ws.WebSocket] = []
        async with trio.open_nursery() as nursery, trio.open_nursery() as others:
            others.start_soon(answer_and_finish, RawPeer(theirs, is_client=False))

            async def act() -> None:
                opened.append(await trio_ws.wrap_client_stream(nursery, ours, URL))

            yield act
            for websocket in opened:
                await websocket.aclose()
            await until(lambda: not nursery.child_tasks)
            with pytest.raises(trio.ClosedResourceError):
                await ours.send_all(b"x")

    cancel_everywhere(scenario, at_least=8, clock=virtual_clock)


async def answer_and_finish(peer: RawPeer) -> None:
    """Accept if the other side stays for it, and close."""
    try:
        await peer.accept()
    except (trio.BrokenResourceError, EOFError):
        await trio.aclose_forcefully(peer.stream)
    else:
        await peer.finish()


@over_streams
@pytest.mark.parametrize("answer", ["accept", "reject"])
def test_a_server_over_a_stream(pair: StreamPair, answer: str) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        ours, theirs = pair()
        peer = RawPeer(theirs, is_client=True)
        answered: list[trio_ws.WebSocketRequest] = []
        async with trio.open_nursery() as nursery, trio.open_nursery() as others:
            others.start_soon(ask_and_finish, peer)

            async def act() -> None:
                request = await trio_ws.wrap_server_stream(nursery, ours)
                answered.append(request)
                if answer == "reject":
                    await request.reject(403, body=b"no" * 1000)
                    return
                async with request.accept() as websocket:
                    await websocket.send("hello")
                    await websocket.aclose()

            yield act
            for request in answered:
                if not request.answered:
                    await request.reject(503)
            await until(lambda: not nursery.child_tasks)
            with pytest.raises(trio.ClosedResourceError):
                await ours.send_all(b"x")
        assert peer.open <= (answer == "accept")
        assert peer.whole_frames()

    cancel_everywhere(scenario, at_least=10, clock=virtual_clock)


async def ask_and_finish(peer: RawPeer) -> None:
    """Ask for a WebSocket, whatever becomes of it, and close."""
    try:
        await peer.connect()
    except (trio.BrokenResourceError, EOFError):
        await trio.aclose_forcefully(peer.stream)
    else:
        await peer.finish()


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_server_that_serves_and_is_closed(carrier: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        place = Place(carrier, tmp_path)
        servers: list[trio_ws.WebSocketServer] = []
        codes: list[int] = []

        async def stay(server: trio_ws.WebSocketServer) -> None:
            try:
                async with trio_ws.open_websocket(place.url(server), **place.options) as websocket:
                    codes.append((await websocket.wait_closed()).code)
            except (OSError, trio_ws.HandshakeError):
                codes.append(0)  # the server went before it had answered

        async def act() -> None:
            async with trio.open_nursery() as nursery:
                server = await nursery.start(place.serve)
                servers.append(server)
                clients.start_soon(stay, server)
                await until(lambda: len(server.connections) == 1)
                await server.aclose()

        async with trio.open_nursery() as clients:
            yield act
        assert codes in ([], [0], [1001])
        for server in servers:
            assert all(listener.socket.fileno() == -1 for listener in server.listeners)

    cancel_everywhere(scenario, at_least=10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("answer", ["accept", "reject"])
def test_an_answer_over_tcp(answer: str) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        requests: list[trio_ws.WebSocketRequest] = []
        done = trio.Event()

        async def handler(request: trio_ws.WebSocketRequest) -> None:
            requests.append(request)
            await done.wait()

        async with serving(partial(trio_ws.serve_websocket, handler, LOCALHOST, 0)) as server:
            tasks = live_tasks()
            peer = RawPeer(await trio.open_tcp_stream(LOCALHOST, server.port), is_client=True)
            async with trio.open_nursery() as others:
                others.start_soon(ask_and_finish, peer)
                await until(lambda: len(requests) == 1)

                async def act() -> None:
                    if answer == "reject":
                        await requests[0].reject(403, body=b"no")
                        return
                    async with requests[0].accept() as websocket:
                        await websocket.send("hello")
                        await websocket.aclose()

                yield act
                answered = requests[0].answered
                done.set()
            await until(lambda: live_tasks() == tasks)
        if not answered:
            assert peer.rejected_with == 500
        elif answer == "reject":
            assert peer.rejected_with == 403
        else:
            assert (peer.messages, peer.closed_with) in [
                (["hello"], (1000, "")),
                (["hello"], (1001, "")),
                ([], (1001, "")),
            ]
        assert peer.whole_frames()

    cancel_everywhere(scenario, at_least=2)
