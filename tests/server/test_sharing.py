"""Several servers on one port or one socket, and what a server does with sockets that others have opened."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from trio.testing import wait_all_tasks_blocked

from trio_ws import Agent, WebSocketRequest, WebSocketServer, open_websocket, serve_websocket
from trio_ws._net.listen import accept_nowait
from trio_ws._server import server as _server

from ..raw import read_all, read_head, request, status
from ..serving import echo, serving, until

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL = "127.0.0.1"
MANY = 64  # connections: that chance gives them all to one of two servers takes longer than anybody waits
TIMEOUT = 30.0  # seconds


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server((LOCAL, 0)) as sock:
        yield sock


def url_of(sock: socket.socket) -> str:
    return f"ws://{LOCAL}:{sock.getsockname()[1]}/"


async def call(address: tuple[str, int]) -> trio.SocketStream:
    """Connect without letting any task run: the connection waits in the system's queue."""
    sock = socket.create_connection(address)
    sock.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


async def echoes(url: str) -> bool:
    async with open_websocket(url, connect_timeout=5) as websocket:
        await websocket.send("hello")
        return await websocket.receive() == "hello"


# Sockets that are handed in.


async def test_a_server_on_a_socket_that_listens(listening: socket.socket) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, echo, None, None, sockets=[listening]))
        assert server.port == listening.getsockname()[1]
        assert await echoes(url_of(listening))
        await server.aclose()
    assert listening.fileno() == -1


async def test_the_file_of_a_unix_socket_is_left_to_whoever_made_it() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "socket"
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        sock.listen()
        async with (
            serving(partial(serve_websocket, echo, None, None, sockets=[sock])),
            open_websocket("ws://h/", dispatcher=Agent(socket_path=path)) as websocket,
        ):
            await websocket.send("hello")
            assert await websocket.receive() == "hello"
        assert path.is_socket()


async def test_a_closed_server_leaves_a_shared_socket_to_the_others(listening: socket.socket) -> None:
    url = url_of(listening)
    async with trio.open_nursery() as nursery:
        first, second = [
            await nursery.start(partial(serve_websocket, echo, None, None, sockets=[sock]))
            for sock in (listening.dup(), listening)
        ]
        await first.aclose()
        for _ in range(3):
            assert await echoes(url)
        await second.aclose()


async def test_servers_that_are_full_leave_a_shared_socket_to_the_others(listening: socket.socket) -> None:
    url = url_of(listening)
    async with trio.open_nursery() as nursery:
        servers: list[WebSocketServer] = [
            await nursery.start(partial(serve_websocket, echo, None, None, sockets=[sock], max_connections=1))
            for sock in (listening.dup(), listening)
        ]
        async with open_websocket(url) as one, open_websocket(url) as two:
            for websocket in (one, two):
                await websocket.send("hello")
                assert await websocket.receive() == "hello"
            assert [len(server.connections) for server in servers] == [1, 1]
        for server in servers:
            await server.aclose()


async def test_no_place_is_held_when_another_process_was_faster(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    stolen: list[socket.socket] = []

    def be_too_late(sock: socket.socket) -> tuple[socket.socket, object] | None:
        accepted = accept_nowait(sock)
        if accepted is None or stolen:
            return accepted
        stolen.append(accepted[0])
        return None

    monkeypatch.setattr(_server, "accept_nowait", be_too_late)
    other = socket.create_server((LOCAL, 0))
    url = url_of(other)
    serve = partial(serve_websocket, echo, None, None, sockets=[listening, other], max_connections=1)
    async with serving(serve), await call(listening.getsockname()):
        await until(lambda: bool(stolen))
        assert await echoes(url)
    stolen[0].close()


async def test_a_shortage_pauses_every_listener_is_logged_once_and_hurts_nobody_who_is_there(
    listening: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    mock_clock: trio.testing.MockClock,
) -> None:
    failed: Counter[int] = Counter()
    short = True

    def fail(sock: socket.socket) -> tuple[socket.socket, object] | None:
        if short:
            failed[sock.getsockname()[1]] += 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept_nowait(sock)

    other = socket.create_server((LOCAL, 0))
    ports = {sock.getsockname()[1] for sock in (listening, other)}
    serve = partial(serve_websocket, echo, None, None, sockets=[listening, other], max_connections=3)
    async with serving(serve), open_websocket(url_of(other)) as there:
        monkeypatch.setattr(_server, "accept_nowait", fail)
        async with await call(listening.getsockname()) as one, await call(other.getsockname()) as two:
            for number in range(1, 15):
                while set(failed.values()) != {number} or set(failed) != ports:
                    await wait_all_tasks_blocked()
                await there.send("hello")
                assert await there.receive() == "hello"
                mock_clock.jump(0.1)
            short = False
            mock_clock.jump(0.1)
            for stream in (one, two):
                await stream.send_all(request())
                assert status(await read_head(stream)) == 101
    assert len(caplog.records) == 2  # in 1.3 seconds


# Servers on one port.


async def test_servers_share_a_port() -> None:
    async with trio.open_nursery() as nursery:
        first = await nursery.start(partial(serve_websocket, echo, LOCAL, 0, reuse_port=True))
        second = await nursery.start(partial(serve_websocket, echo, LOCAL, first.port, reuse_port=True))
        streams = [await call((LOCAL, first.port)) for _ in range(MANY)]
        for stream in streams:
            await stream.send_all(request())
        with trio.fail_after(TIMEOUT):
            await until(lambda: len(first.connections) + len(second.connections) == MANY)
        assert min(len(first.connections), len(second.connections)) > 0
        for stream in streams:
            await stream.aclose()
        await first.aclose()
        assert await echoes(f"ws://{LOCAL}:{second.port}/")
        await second.aclose()


# Handing over to a successor.


async def linger(asked: WebSocketRequest) -> None:
    async with asked.accept() as websocket:
        await websocket.wait_closed()


async def test_a_server_that_stops_listening_goes_on_with_what_is_there() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, echo, LOCAL, 0)
        half_way = await call((LOCAL, server.port))
        await half_way.send_all(request()[:30])
        async with open_websocket(f"ws://{LOCAL}:{server.port}/") as websocket:
            server.stop_listening()
            server.stop_listening()
            await wait_all_tasks_blocked()
            with pytest.raises(ConnectionRefusedError):
                await call((LOCAL, server.port))
            await half_way.send_all(request()[30:])
            assert status(await read_head(half_way)) == 101
            await websocket.send("hello")
            assert await websocket.receive() == "hello"
        await half_way.aclose()
        await server.aclose()


async def test_an_http2_connection_that_is_there_takes_new_websockets() -> None:
    async with serving(partial(serve_websocket, echo, LOCAL, 0)) as server, Agent(h2_prior_knowledge=True) as agent:
        url = f"ws://{LOCAL}:{server.port}/"
        async with open_websocket(url, dispatcher=agent):
            server.stop_listening()
            async with open_websocket(url, dispatcher=agent) as websocket:
                await websocket.send("hello")
                assert await websocket.receive() == "hello"
        assert server.statistics().http2.connections_opened == 1


@pytest.mark.parametrize("limit", [None, 1])
async def test_a_listener_that_is_closed_as_somebody_calls_is_no_error(
    limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_readable = trio.lowlevel.wait_readable

    servers: list[WebSocketServer] = []

    async def wait_and_stop(sock: socket.socket) -> None:
        await wait_readable(sock)
        for server in servers:
            server.stop_listening()

    monkeypatch.setattr(trio.lowlevel, "wait_readable", wait_and_stop)
    async with serving(partial(serve_websocket, echo, LOCAL, 0, max_connections=limit)) as server:
        servers.append(server)
        await wait_all_tasks_blocked()
        async with await call((LOCAL, server.port)) as stream:
            await until(lambda: server.listeners[0].socket.fileno() < 0)
            monkeypatch.undo()
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        await wait_all_tasks_blocked()
        assert "open" in repr(server)


async def test_who_waits_when_a_shared_port_is_given_up_is_served() -> None:
    async with serving(partial(serve_websocket, echo, LOCAL, 0, reuse_port=True)) as server:
        streams = [await call((LOCAL, server.port)) for _ in range(3)]
        server.stop_listening()
        for stream in streams:
            await stream.send_all(request())
            assert status(await read_head(stream)) == 101
            await stream.aclose()


async def test_who_waits_when_a_server_on_a_shared_port_closes_is_told_503() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, echo, LOCAL, 0, reuse_port=True))
        stream = await call((LOCAL, server.port))
        nursery.start_soon(server.aclose)
        await stream.send_all(request())
        assert status(await read_all(stream)) == 503
        await stream.aclose()


async def test_nobody_is_taken_over_the_limit_when_a_shared_port_is_given_up() -> None:
    serve = partial(serve_websocket, linger, LOCAL, 0, reuse_port=True, max_connections=2)
    async with serving(serve) as server:
        first, second, third = [await call((LOCAL, server.port)) for _ in range(3)]
        server.stop_listening()
        for stream in (first, second):
            await stream.send_all(request())
            assert status(await read_head(stream)) == 101
        with pytest.raises(trio.BrokenResourceError):
            await third.receive_some()
        for stream in (first, second, third):
            await stream.aclose()


async def test_who_keeps_calling_does_not_keep_a_server_that_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "_MOST_WAITING", 2)
    async with serving(partial(serve_websocket, linger, LOCAL, 0, reuse_port=True)) as server:
        first, second, third = [await call((LOCAL, server.port)) for _ in range(3)]
        server.stop_listening()
        for stream in (first, second):
            await stream.send_all(request())
            assert status(await read_head(stream)) == 101
        with pytest.raises(trio.BrokenResourceError):
            await third.receive_some()
        for stream in (first, second, third):
            await stream.aclose()


async def test_one_place_that_is_left_is_enough() -> None:
    serve = partial(serve_websocket, linger, LOCAL, 0, reuse_port=True, max_connections=2)
    async with serving(serve) as server:
        first = await call((LOCAL, server.port))
        server.stop_listening()
        await first.send_all(request())
        assert status(await read_head(first)) == 101
        await first.aclose()


async def test_a_shortage_while_a_shared_port_is_given_up_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(sock: socket.socket) -> tuple[socket.socket, object] | None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with serving(partial(serve_websocket, echo, LOCAL, 0, reuse_port=True)) as server:
        stream = await call((LOCAL, server.port))
        monkeypatch.setattr(_server, "accept_nowait", fail)
        server.stop_listening()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()
