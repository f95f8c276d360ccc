"""What our module of trio-websocket's names does where the original does otherwise, or not at all."""

from __future__ import annotations

import logging
import math
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

import trio_ws
from trio_ws import compat
from trio_ws.compat import trio_websocket
from trio_ws.compat.trio_websocket._connection import added_headers, limits_for
from trio_ws.testing import BreakAfter, memory_stream_pair, open_test_server

from ..raw import client_context, reset, server_context

HOST = "127.0.0.1"


async def closing(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept() as websocket:
        await websocket.aclose(4004, "gone")


async def ignore(request: trio_websocket.WebSocketRequest) -> None:
    await trio.lowlevel.checkpoint()


def test_it_is_documented() -> None:
    assert compat.__doc__
    for name, value in vars(trio_websocket).items():
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("trio_ws"):
            assert value.__doc__, name


@pytest.mark.parametrize(
    ("queue", "most", "receive_buffer"),
    [(1, 2**20, 2**20), (0, 100, 100), (5, 2**24, 5 * 2**24), (math.inf, 10, None), (2**40, 2**40, 2**61), (3, 0, 3)],
)
def test_queues_are_counted_in_bytes(queue: float, most: int, receive_buffer: int | None) -> None:
    limits = limits_for(queue, most)
    assert (limits.max_message_size, limits.receive_buffer) == (most, receive_buffer)


def test_headers_of_the_protocol_are_left_out() -> None:
    given: list[tuple[bytes | str, bytes | str]] = [
        (b"X-A", b"\xe9"),
        ("X-B", "b"),
        (b"Sec-WebSocket-Key", b"x"),
        (b"Content-Length", b"5"),
    ]
    assert added_headers(given) == [("X-A", "é"), ("X-B", "b")]


async def test_the_cause_is_what_trio_ws_says() -> None:
    async with (
        open_test_server(closing, tls=False) as server,
        trio_websocket.open_websocket_url(server.url) as connection,
    ):
        with pytest.raises(trio_websocket.ConnectionClosed) as caught:
            await connection.get_message()
        assert isinstance(caught.value.__cause__, trio_ws.ConnectionClosedError)
        assert repr(caught.value.reason) == "CloseReason<code=4004, name=PRIVATE_RESERVED, reason=gone>"
        assert connection.websocket.http_version == "1.1"


async def test_a_code_that_may_not_be_sent() -> None:
    async with trio.open_nursery() as nursery:
        client, server = await link(nursery)
        with pytest.raises(ValueError, match="code 1006"):
            await client.aclose(1006)
        await client.aclose(1011, "é" * 100)  # cut at what fits
        with pytest.raises(trio_websocket.ConnectionClosed) as caught:
            await server.get_message()
        assert caught.value.reason is not None
        assert caught.value.reason.reason == "é" * 61
        assert str(server).startswith("server-")
        assert (b"host", b"example.com:81") in server.handshake_headers


async def link(
    nursery: trio.Nursery,
) -> tuple[trio_websocket.WebSocketConnection, trio_websocket.WebSocketConnection]:
    one, other = memory_stream_pair()
    async with trio.open_nursery() as opening:
        answered: list[trio_websocket.WebSocketConnection] = []

        async def accept() -> None:
            request = await trio_websocket.wrap_server_stream(nursery, other)
            assert request.url == "ws://example.com:81/x%23y"
            answered.append(await request.accept())

        opening.start_soon(accept)
        client = await trio_websocket.wrap_client_stream(nursery, one, "example.com:81", "x#y")
    return client, answered[0]


async def test_a_server_that_breaks_off_the_handshake() -> None:
    one, other = memory_stream_pair()
    await other.aclose()
    async with trio.open_nursery() as nursery:
        with pytest.raises(trio_websocket.HandshakeError) as caught:
            await trio_websocket.wrap_client_stream(nursery, one, "::1", "/")
    assert isinstance(caught.value.__cause__, trio.BrokenResourceError)


async def test_what_is_no_request_is_refused() -> None:
    one, other = memory_stream_pair()
    await one.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    async with trio.open_nursery() as nursery:
        with pytest.raises(trio_websocket.HandshakeError):
            await trio_websocket.wrap_server_stream(nursery, other)
        assert (await one.receive_some()).startswith(b"HTTP/1.1 426 ")


async def test_connecting_takes_a_minute_at_most(autojump_clock: trio.testing.MockClock) -> None:
    one, _ = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        with pytest.raises(trio_websocket.ConnectionTimeout):
            await trio_websocket.wrap_client_stream(nursery, one, "x", "/")
    assert trio.current_time() == 60


class Boom(Exception):
    pass


@pytest.mark.parametrize("in_a_group", [False, True])
async def test_a_handler_that_fails_ends_its_connection_only(
    caplog: pytest.LogCaptureFixture, in_a_group: bool
) -> None:
    async def handler(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        error: Exception = Boom() if await connection.get_message() == "fail" else trio_websocket.ConnectionClosed(None)
        raise ExceptionGroup("two", [error, trio_websocket.ConnectionClosed(None)]) if in_a_group else error

    async with trio.open_nursery() as nursery:
        serve = partial(trio_websocket.serve_websocket, handler, HOST, 0, None)
        server: trio_websocket.WebSocketServer = await nursery.start(serve)
        for message, logged in (("end", 0), ("fail", 1)):
            caplog.clear()
            with caplog.at_level(logging.ERROR, "trio_ws"):
                async with trio_websocket.open_websocket_url(f"ws://{HOST}:{server.port}") as connection:
                    await connection.send_message(message)
                    with pytest.raises(trio_websocket.ConnectionClosed) as caught:
                        await connection.get_message()
                    assert caught.value.reason is not None
                    assert caught.value.reason.code == 1011
                await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(caplog.records) == logged
        nursery.cancel_scope.cancel()


async def test_a_request_that_is_not_answered_is_rejected(caplog: pytest.LogCaptureFixture) -> None:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=HOST)
        server = trio_websocket.WebSocketServer(ignore, listeners)
        await nursery.start(server.run)
        with caplog.at_level(logging.CRITICAL, "trio_ws"), pytest.raises(trio_websocket.ConnectionRejected) as caught:
            async with trio_websocket.open_websocket_url(f"ws://{HOST}:{server.port}"):
                pytest.fail("it is rejected")
        assert caught.value.status_code == 500
        nursery.cancel_scope.cancel()


async def test_a_client_that_is_gone_before_it_is_served_hurts_nobody() -> None:
    class Late(trio.abc.Listener[trio.SocketStream]):
        """Hands out the first connection when its client has reset it."""

        def __init__(self, below: trio.SocketListener) -> None:
            self.below = below
            self.gone = trio.Event()

        async def accept(self) -> trio.SocketStream:
            stream = await self.below.accept()
            if not self.gone.is_set():
                await self.gone.wait()
                with pytest.raises(OSError, match="not connected"):
                    stream.socket.getpeername()
            return stream

        async def aclose(self) -> None:
            await self.below.aclose()

    async def handler(request: trio_websocket.WebSocketRequest) -> None:
        await (await request.accept()).send_message("hello")

    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        late = Late(listener)
        await nursery.start(trio_websocket.WebSocketServer(handler, [late]).run)
        reset(socket.create_connection((HOST, port)))
        late.gone.set()
        async with trio_websocket.open_websocket_url(f"ws://{HOST}:{port}") as connection:
            assert await connection.get_message() == "hello"
        nursery.cancel_scope.cancel()


async def test_where_streams_are() -> None:
    async def handler(request: trio_websocket.WebSocketRequest) -> None:
        connection = await request.accept()
        await connection.send_message(str(connection.local))

    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    port = listener.socket.getsockname()[1]
    server = trio_websocket.WebSocketServer(
        handler, [trio.SSLListener(listener, server_context(), https_compatible=True)]
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        tcp = await trio.open_tcp_stream(HOST, port)
        tls = trio.SSLStream(tcp, client_context(), server_hostname="localhost", https_compatible=True)
        connection = await trio_websocket.wrap_client_stream(nursery, tls, "localhost", "/")
        expected = f'Endpoint(address="{HOST}", port={port}, is_ssl=True)'
        assert await connection.get_message() == repr(connection.remote) == expected
        await connection.aclose()
        nursery.cancel_scope.cancel()


async def test_a_unix_socket_is_told_by_its_path(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    sock = trio.socket.socket(socket.AF_UNIX)
    await sock.bind(path)
    sock.listen()

    async def handler(request: trio_websocket.WebSocketRequest) -> None:
        await (await request.accept()).send_message(str(request.local))

    async with trio.open_nursery() as nursery:
        server = trio_websocket.WebSocketServer(handler, [trio.SocketListener(sock)])
        assert server.listeners == [path]
        await nursery.start(server.run)
        stream = await trio.open_unix_socket(path)
        async with await trio_websocket.wrap_client_stream(nursery, stream, "localhost", "/") as connection:
            assert await connection.get_message() == connection.remote == path
        nursery.cancel_scope.cancel()


async def test_a_stream_that_breaks_is_told_as_its_own_error() -> None:
    one, _ = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        with pytest.raises(OSError, match="cut"):
            await trio_websocket.wrap_client_stream(
                nursery, BreakAfter(one, sent=5, error=lambda: OSError("cut")), "x", "/"
            )


def test_install_gives_the_name_to_this_module(tmp_path: Path) -> None:
    program = (
        "from trio_ws.compat import trio_websocket as ours; ours.install(); ours.install()\n"
        "import trio_websocket\n"
        "from trio_websocket import ConnectionClosed\n"
        "assert trio_websocket is ours and ConnectionClosed is ours.ConnectionClosed"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, cwd=tmp_path)


def test_install_comes_too_late_after_the_original(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio_websocket", sys)
    with pytest.raises(RuntimeError, match=r"install\(\) must come first"):
        trio_websocket.install()
    monkeypatch.delitem(sys.modules, "trio_websocket")
    trio_websocket.install()
    assert sys.modules["trio_websocket"] is trio_websocket


async def test_a_wrong_url_is_named_without_its_secrets() -> None:
    with pytest.raises(ValueError, match="the scheme must be") as caught:
        async with trio_websocket.open_websocket_url("ftp://user:s3cret@x/?token=s3cret"):
            raise NotImplementedError
    assert "'ftp://x/?token=<hidden>'" in str(caught.value)
