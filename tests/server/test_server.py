"""The server: where it listens, whom it lets in, how it ends, and that no peer and no handler can end it."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import socket
import ssl
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from hyperframe.frame import GoAwayFrame, SettingsFrame, WindowUpdateFrame
from trio.testing import assert_checkpoints, memory_stream_pair, wait_all_tasks_blocked

from trio_ws import (
    Agent,
    ConnectionClosedError,
    ConnectionClosedOK,
    HandshakeRejected,
    Instrument,
    InvalidHandshake,
    Limits,
    WebSocket,
    WebSocketRequest,
    WebSocketServer,
    connect_websocket,
    open_websocket,
    serve_websocket,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws._net.listen import BROKEN_LISTENER, accept_nowait
from trio_ws._server import server as _server

from ..net.http2.raw_http2 import RawHttp2
from ..raw import (
    CLOSE,
    body,
    client_context,
    exchange,
    frame,
    frames,
    head,
    open_files,
    read_all,
    read_frame,
    read_head,
    request,
    reset,
    server_context,
    status,
)
from ..serving import echo, live_tasks, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio_ws._server.service import Handler

LOCAL = "127.0.0.1"
GOING_AWAY = (1001).to_bytes(2, "big")


async def wait_closed(asked: WebSocketRequest) -> None:
    """Accept, and wait until either side closes."""
    async with asked.accept() as websocket:
        await websocket.wait_closed()


@pytest.fixture
async def folder() -> AsyncIterator[Path]:
    """A folder with a short name: a Unix socket's path has about 100 bytes."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


async def dial(server: WebSocketServer) -> trio.SocketStream:
    return await trio.open_tcp_stream(LOCAL, server.port)


async def until(condition: Callable[[], bool]) -> None:
    """Let what goes on go on until the condition holds; time stands still in many of these tests."""
    while not condition():
        await wait_all_tasks_blocked()


# Where it listens.


async def test_a_server_serves_until_it_is_cancelled() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, echo, LOCAL, 0)
        assert isinstance(server, WebSocketServer)
        assert len(server.listeners) == 1
        assert server.port == server.listeners[0].socket.getsockname()[1] > 0
        assert repr(server) == "<WebSocketServer open, 0 WebSockets>"
        async with open_websocket(f"ws://{LOCAL}:{server.port}/") as websocket:
            await websocket.send("hello")
            assert await websocket.receive() == "hello"
            assert repr(server) == "<WebSocketServer open, 1 WebSockets>"
            assert len(server.connections) == 1
            (ours,) = server.connections
            assert ours.remote_address == websocket.local_address
            assert ours.local_address == websocket.remote_address == (LOCAL, server.port)
        nursery.cancel_scope.cancel()
    assert repr(server) == "<WebSocketServer closed, 0 WebSockets>"
    assert server.connections == frozenset()
    with pytest.raises(OSError, match="all attempts to connect"):
        await dial(server)


async def test_a_server_over_tls() -> None:
    async with serving(partial(serve_websocket, echo, LOCAL, 0, server_context())) as server:
        url = f"wss://{LOCAL}:{server.port}/"
        async with open_websocket(url, ssl_context=client_context()) as websocket:
            await websocket.send("hello")
            assert await websocket.receive() == "hello"


async def test_a_server_on_ipv6() -> None:
    async with (
        serving(partial(serve_websocket, echo, "::1", 0)) as server,
        open_websocket(f"ws://[::1]:{server.port}/") as websocket,
    ):
        assert websocket.remote_address == ("::1", server.port)


async def test_no_host_is_every_address() -> None:
    async with serving(partial(serve_websocket, echo, None, 0)) as server:
        ports = {listener.socket.family: listener.socket.getsockname()[1] for listener in server.listeners}
        assert set(ports) == {socket.AF_INET, socket.AF_INET6}
        assert server.port == server.listeners[0].socket.getsockname()[1]
        for host, family in ((LOCAL, socket.AF_INET), ("[::1]", socket.AF_INET6)):
            async with open_websocket(f"ws://{host}:{ports[family]}/") as websocket:
                await websocket.send("hello")
                assert await websocket.receive() == "hello"


async def test_a_port_that_is_taken_is_an_os_error() -> None:
    async with serving(partial(serve_websocket, echo, LOCAL, 0)) as server:
        before = open_files()
        with pytest.raises(OSError, match="in use"):
            await serve_websocket(echo, LOCAL, server.port)
        assert open_files() == before


@pytest.mark.parametrize("as_path", [False, True])
async def test_a_server_on_a_unix_socket(folder: Path, as_path: bool) -> None:
    path = folder / "socket"
    async with serving(partial(serve_websocket, echo, path if as_path else str(path), None)) as server:
        async with open_websocket("ws://example.com/", dispatcher=Agent(socket_path=path)) as websocket:
            await websocket.send("hello")
            assert await websocket.receive() == "hello"
            assert websocket.remote_address == str(path)
        with pytest.raises(RuntimeError, match="a server on a Unix socket has no port"):
            server.port  # noqa: B018
    assert not path.exists()


async def test_a_relative_path_is_a_unix_socket(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    async with serving(partial(serve_websocket, echo, Path("socket"), None)):
        assert (folder / "socket").is_socket()
    assert not (folder / "socket").exists()


async def test_a_path_that_is_taken_is_an_os_error_and_is_left_alone(folder: Path) -> None:
    path = folder / "socket"
    path.touch()
    before = open_files()
    with pytest.raises(OSError, match="in use"):
        await serve_websocket(echo, path, None)
    assert open_files() == before
    assert path.exists()


async def test_a_socket_that_is_gone_already_is_no_error(folder: Path) -> None:
    path = folder / "socket"
    async with serving(partial(serve_websocket, echo, path, None)):
        path.unlink()


async def test_a_server_that_ends_leaves_the_socket_of_its_successor(folder: Path) -> None:
    path = folder / "socket"
    finish = trio.Event()

    async def linger(asked: WebSocketRequest) -> None:
        await wait_closed(asked)
        await finish.wait()

    async with trio.open_nursery() as nursery:
        first = await nursery.start(serve_websocket, linger, path, None)
        async with open_websocket("ws://example.com/", dispatcher=Agent(socket_path=path)):
            nursery.start_soon(first.aclose)
            await until(lambda: not path.exists())
        second = await nursery.start(serve_websocket, echo, path, None)
        finish.set()
        await until(lambda: "closed" in repr(first))
        assert path.exists()
        await second.aclose()
        assert not path.exists()


async def test_a_server_that_cannot_remove_its_socket_ends_in_peace(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(path)

    async with serving(partial(serve_websocket, echo, folder / "socket", None)):
        monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.undo()


# What is checked.


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (TypeError, "handler must be an async function", {"handler": None}),
        (TypeError, "ssl_context", {"ssl_context": True}),
        (ValueError, "port=None", {"port": None}),
        (ValueError, "port=80", {"host": "/tmp/socket", "port": 80}),
        (ValueError, "port=80", {"host": Path("socket"), "port": 80}),
        (TypeError, "host", {"host": 5}),
        (ValueError, "protocols", {"protocols": ["a b"]}),
        (ValueError, "protocols", {"protocols": ["a", "a"]}),
        (TypeError, "protocols", {"protocols": 5}),
        (TypeError, "origins", {"origins": "https://example.com"}),
        (TypeError, "origins", {"origins": [5]}),
        (ValueError, "origins", {"origins": ["example.com"]}),
        (ValueError, "origins", {"origins": ["*"]}),
        (TypeError, "http_handler", {"http_handler": "index.html"}),
        (TypeError, "compression", {"compression": True}),
        (TypeError, "limits", {"limits": None}),
        (TypeError, "keepalive", {"keepalive": 20}),
        (ValueError, "connect_timeout", {"connect_timeout": -1}),
        (ValueError, "close_timeout", {"close_timeout": math.nan}),
        (ValueError, "max_connections=0", {"max_connections": 0}),
        (TypeError, "max_connections", {"max_connections": "5"}),
        (TypeError, "max_connections", {"max_connections": 1.5}),
        (TypeError, "max_connections", {"max_connections": True}),
        (TypeError, "instruments", {"instruments": [Instrument]}),
    ],
)
async def test_arguments_are_checked_before_any_socket(
    error: type[Exception], match: str, arguments: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a socket was made")

    monkeypatch.setattr(trio, "open_tcp_listeners", fail)
    monkeypatch.setattr(trio.socket, "socket", fail)
    keywords: dict[str, object] = {"handler": echo, "host": LOCAL, "port": 0, **arguments}
    with pytest.raises(error, match=match):
        await serve_websocket(**keywords)  # type: ignore[arg-type]


async def test_serving_is_a_checkpoint_and_cancelled_it_opens_nothing(folder: Path) -> None:
    before = open_files()
    for host, port in ((LOCAL, 0), (str(folder / "socket"), None)):
        with trio.CancelScope() as scope:
            scope.cancel()
            await serve_websocket(echo, host, port)
        assert scope.cancelled_caught
    assert open_files() == before
    assert not (folder / "socket").exists()


# Whom it lets in.


async def test_a_handler_gets_what_the_options_say() -> None:
    seen: list[str] = []

    class Recording(Instrument):
        def websocket_open(self, websocket: WebSocket) -> None:
            seen.append(websocket.url)

    async with (
        serving(
            partial(
                serve_websocket,
                wait_closed,
                LOCAL,
                0,
                protocols=("x", "b", "a"),
                origins=["https://example.com"],
                compression=None,
                limits=Limits(max_message_size=3),
                instruments=[Recording()],
            )
        ) as server,
        open_websocket(f"ws://{LOCAL}:{server.port}/", ("a", "b"), origin="https://example.com") as websocket,
    ):
        assert websocket.protocol == "b"
        assert websocket.extensions == ""
        assert seen == [f"ws://{LOCAL}:{server.port}/"]
        await websocket.send("long")
        with pytest.raises(ConnectionClosedError) as caught:
            await websocket.receive()
        assert caught.value.code == 1009


async def test_another_origin_is_403() -> None:
    async with serving(partial(serve_websocket, echo, LOCAL, 0)) as server:
        url = f"ws://{LOCAL}:{server.port}/"
        with pytest.raises(HandshakeRejected) as caught:
            async with open_websocket(url, origin="https://evil.example"):
                raise AssertionError("it was rejected")
        assert caught.value.status == 403
        async with open_websocket(url, origin=f"http://{LOCAL}:{server.port}") as websocket:
            assert websocket.protocol is None


async def test_more_connections_than_allowed_wait_for_their_turn() -> None:
    async with serving(partial(serve_websocket, echo, LOCAL, 0, max_connections=2)) as server:
        first, second, third = [await dial(server) for _ in range(3)]
        for stream in (first, second, third):
            await stream.send_all(request())
        assert status(await read_head(first)) == status(await read_head(second)) == 101
        for _ in range(10):
            await wait_all_tasks_blocked()
        assert len(server.connections) == 2
        await first.aclose()
        assert status(await read_head(third)) == 101
        for stream in (second, third):
            await stream.aclose()


async def test_no_listener_holds_a_place_while_it_waits(folder: Path) -> None:
    async with serving(partial(serve_websocket, echo, None, 0, max_connections=1)) as server:
        for _ in range(2):
            for listener in server.listeners:
                host = "[::1]" if listener.socket.family == socket.AF_INET6 else LOCAL
                url = f"ws://{host}:{listener.socket.getsockname()[1]}/"
                async with open_websocket(url, connect_timeout=5) as websocket:
                    await websocket.send("hello")
                    assert await websocket.receive() == "hello"


async def test_a_shortage_of_descriptors_is_logged_once_a_second_and_waited_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mock_clock: trio.testing.MockClock
) -> None:
    failed = 0

    def fail_at_first(listening: socket.socket) -> tuple[socket.socket, object] | None:
        nonlocal failed
        if failed < 25:
            failed += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return accept_nowait(listening)

    monkeypatch.setattr(_server, "accept_nowait", fail_at_first)
    async with serving(partial(serve_websocket, echo, LOCAL, 0, max_connections=1)) as server:
        stream = await dial(server)
        for number in range(1, 26):
            await until(lambda number=number: failed == number)  # type: ignore[misc]
            await wait_all_tasks_blocked()
            mock_clock.jump(0.1)
        await stream.send_all(request())
        assert status(await read_head(stream)) == 101
        await stream.aclose()
    assert [record.getMessage() for record in caplog.records] == [
        "cannot accept connections for now: OSError(24, 'Too many open files')"
    ] * 3


async def test_no_error_of_accept_but_that_of_a_broken_listener_ends_the_server(
    monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    numbers = [number for number in errno.errorcode if number not in BROKEN_LISTENER]
    accept = socket.socket.accept

    def fail_at_first(listening: socket.socket) -> tuple[socket.socket, object]:
        if numbers:
            number = numbers.pop()
            raise OSError(number, os.strerror(number))
        return accept(listening)

    async with serving(partial(serve_websocket, echo, LOCAL, 0)) as server:
        monkeypatch.setattr(socket.socket, "accept", fail_at_first)
        stream = await dial(server)
        while numbers:
            await wait_all_tasks_blocked()
            mock_clock.jump(0.1)
        await wait_all_tasks_blocked()
        mock_clock.jump(0.1)  # the last one was waited out, perhaps
        async with await dial(server) as other:
            await other.send_all(request())
            assert status(await read_head(other)) == 101
        await stream.aclose()


async def test_a_socket_that_a_killed_process_left_is_replaced(folder: Path) -> None:
    path = folder / "socket"
    code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()"
    await trio.run_process([sys.executable, "-c", code, str(path)])
    assert path.is_socket()
    async with serving(partial(serve_websocket, echo, path, None, socket_mode=0o660)):
        assert path.stat().st_mode & 0o777 == 0o660
        with pytest.raises(OSError, match="in use"):
            await serve_websocket(echo, path, None)
        async with open_websocket("ws://example.com/", dispatcher=Agent(socket_path=path)) as websocket:
            await websocket.send("hello")
            assert await websocket.receive() == "hello"
    assert not path.exists()


async def test_a_listener_that_breaks_ends_the_server_with_its_bare_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(listening: socket.socket) -> tuple[socket.socket, object] | None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(_server, "accept_nowait", fail)

    async def call(server: WebSocketServer) -> None:
        async with await dial(server) as stream:
            await stream.receive_some()

    with pytest.raises(OSError, match="Invalid argument"):
        await run_server(echo, call)


async def run_server(handler: Handler, call: Callable[[WebSocketServer], Awaitable[object]]) -> None:
    """Serve in this task, so that what comes out is seen as it is, and run ``call`` beside it."""

    class Started(trio.TaskStatus[WebSocketServer]):
        def started(self, value: WebSocketServer | None = None) -> None:
            assert value is not None
            nursery.start_soon(call, value)

    caught: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            await serve_websocket(handler, LOCAL, 0, task_status=Started())
        except BaseException as error:
            caught = error
        nursery.cancel_scope.cancel()
    assert caught is not None
    raise caught


DESCRIPTORS = """
import logging, os, resource, sys
import trio
from trio_ws import serve_websocket

async def echo(request):
    async with request.accept() as websocket:
        async for message in websocket:
            await websocket.send(message)

async def main():
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, echo, "127.0.0.1", 0)
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, used + 20))
        print(server.port, flush=True)

logging.basicConfig(format="%(message)s", stream=sys.stdout)
trio.run(main)
"""


async def read_line(stream: trio.abc.ReceiveStream) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = bytes(await stream.receive_some(1))
        assert byte, f"the program ended after {line!r}"
        line += byte
    return line


async def say_hello(websocket: WebSocket) -> None:
    await websocket.send("hello")
    assert await websocket.receive() == "hello"


async def test_a_server_without_descriptors_serves_on_and_recovers() -> None:
    run = partial(trio.run_process, [sys.executable, "-c", DESCRIPTORS], stdout=subprocess.PIPE, check=False)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            process = await nursery.start(run)
            output = process.stdout
            port = int(await read_line(output))
            begin = trio.current_time()
            async with open_websocket(f"ws://{LOCAL}:{port}/") as websocket:
                async with contextlib.AsyncExitStack() as crowd:
                    for _ in range(100):
                        await crowd.enter_async_context(await trio.open_tcp_stream(LOCAL, port))
                    logged = await read_line(output)
                    await say_hello(websocket)
                async with open_websocket(f"ws://{LOCAL}:{port}/") as another:
                    await say_hello(another)
            process.terminate()
            logged += await read_all(output)
    lines = logged.splitlines()
    assert set(lines) == {b"cannot accept connections for now: OSError(24, 'Too many open files')"}
    assert len(lines) <= 1 + (trio.current_time() - begin)


# What peers and handlers can do to it.


async def fail(asked: WebSocketRequest) -> None:
    raise ValueError("mine")


@pytest.mark.parametrize("tls", [False, True])
async def test_a_server_survives_its_peers_and_its_handlers(tls: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    context = server_context() if tls else None

    async def handler(asked: WebSocketRequest) -> None:
        await (fail if asked.path == "/fail" else echo)(asked)

    async def reset_at_once(server: WebSocketServer) -> None:
        reset(await detached(server))

    async def reset_in_the_middle(server: WebSocketServer) -> None:
        sock = await detached(server)
        sock.send(request()[:50])
        reset(sock)

    async def reset_after_the_request(server: WebSocketServer) -> None:
        sock = await detached(server)
        sock.send(request())
        reset(sock)

    async def scan(server: WebSocketServer) -> None:
        (await detached(server)).close()

    async def babble(server: WebSocketServer) -> None:
        async with await dial(server) as stream:
            with contextlib.suppress(trio.BrokenResourceError):
                await exchange(stream, bytes(range(256)))

    async def make_the_handler_fail(server: WebSocketServer) -> None:
        url = f"{'wss' if tls else 'ws'}://{LOCAL}:{server.port}/fail"
        with pytest.raises(HandshakeRejected, match="500"):
            async with open_websocket(url, ssl_context=client_context()):
                raise AssertionError("it was rejected")

    async def distrust(server: WebSocketServer) -> None:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            async with open_websocket(f"wss://{LOCAL}:{server.port}/"):
                raise AssertionError("it is not to be trusted")

    async with serving(partial(serve_websocket, handler, LOCAL, 0, context, limits=Limits(close_linger=0))) as server:
        await wait_all_tasks_blocked()
        before = open_files(), live_tasks()
        for misbehave in (
            reset_at_once,
            reset_in_the_middle,
            reset_after_the_request,
            scan,
            babble,
            make_the_handler_fail,
            distrust,
        ):
            for _ in range(5):
                await misbehave(server)
        await until(lambda: (open_files(), live_tasks()) == before)
        url = f"{'wss' if tls else 'ws'}://{LOCAL}:{server.port}/"
        async with open_websocket(url, ssl_context=client_context()) as websocket:
            await websocket.send("hello")
            assert await websocket.receive() == "hello"


async def detached(server: WebSocketServer) -> socket.socket:
    stream = await dial(server)
    return socket.socket(fileno=stream.socket.detach())


async def test_two_requests_on_one_connection_are_not_both_served() -> None:
    async with serving(partial(serve_websocket, echo, LOCAL, 0)) as server:
        async with await dial(server) as stream:
            heard = await exchange(stream, request() + request(first="GET /admin HTTP/1.1"))
            assert heard.count(b"HTTP/1.1") == 1
            assert frames(body(heard))[0][1][:2] == (1002).to_bytes(2, "big")
        async with await dial(server) as stream:
            plain = head("GET / HTTP/1.1", "Host: a")
            heard = await exchange(stream, plain + plain)
            assert (status(heard), heard.count(b"HTTP/1.1 ")) == (426, 1)


async def test_tls_to_a_plain_server_is_refused() -> None:
    async with serving(partial(serve_websocket, echo, LOCAL, 0)) as server:
        with pytest.raises(ssl.SSLError):
            async with open_websocket(f"wss://{LOCAL}:{server.port}/", ssl_context=client_context()):
                raise AssertionError("it speaks no TLS")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_ctrl_c_in_a_handler_comes_out_bare(error: type[BaseException]) -> None:
    async def handler(asked: WebSocketRequest) -> None:
        async with asked.accept(), trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise error

    async def call(server: WebSocketServer) -> None:
        async with await dial(server) as stream:
            await stream.send_all(request())
            await read_all(stream)

    with pytest.raises(error) as caught:
        await run_server(handler, call)
    assert type(caught.value) is error


async def test_what_a_handler_raises_while_the_server_is_cancelled_does_not_come_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def stumble() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while it was cancelled")

    async def handler(asked: WebSocketRequest) -> None:
        async with asked.accept(), trio.open_nursery() as nursery:
            nursery.start_soon(stumble)
            await trio.sleep_forever()

    async with serving(partial(serve_websocket, handler, LOCAL, 0)) as server, await dial(server) as stream:
        await stream.send_all(request())
        assert status(await read_head(stream)) == 101
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await server.aclose()
    assert "while it was cancelled" in caplog.text


async def test_a_server_that_is_cancelled_says_goodbye() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, wait_closed, LOCAL, 0)
        stream = await dial(server)
        await stream.send_all(request())
        await read_head(stream)
        nursery.cancel_scope.cancel()
    assert frames(await read_all(stream)) == [(CLOSE, GOING_AWAY)]
    await stream.aclose()


# How it is closed.


@pytest.mark.parametrize(
    ("arguments", "payload"),
    [((), GOING_AWAY), ((1012, "back soon"), (1012).to_bytes(2, "big") + b"back soon"), ((4000,), b"\x0f\xa0")],
)
async def test_closing_a_server_tells_every_websocket_and_waits_for_its_handler(
    arguments: tuple[int, str], payload: bytes
) -> None:
    outcomes: list[object] = []

    async def handler(asked: WebSocketRequest) -> None:
        async with asked.accept() as websocket:
            closed = await websocket.wait_closed()
            await trio.lowlevel.checkpoint()
            outcomes.append(closed.code)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, handler, LOCAL, 0)
        streams = [await dial(server) for _ in range(3)]
        for stream in streams:
            await stream.send_all(request())
            await read_head(stream)

        async def answer(stream: trio.SocketStream) -> None:
            told = await read_frame(stream)
            assert told == (CLOSE, payload)
            await exchange(stream, frame(CLOSE, payload, masked=True))
            await stream.aclose()

        for stream in streams:
            nursery.start_soon(answer, stream)
        with assert_checkpoints():
            await server.aclose(*arguments)
        assert outcomes == [int.from_bytes(payload[:2], "big")] * 3
        assert repr(server) == "<WebSocketServer closed, 0 WebSockets>"


async def test_closing_a_server_ends_serve_websocket_and_frees_the_port() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, echo, LOCAL, 0)
        port = server.port
        await server.aclose()
    assert server.port == port
    with socket.socket() as free:
        free.bind((LOCAL, port))


async def test_a_client_sees_the_server_close() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, echo, LOCAL, 0)
        websocket = await connect_websocket(nursery, f"ws://{LOCAL}:{server.port}/")
        nursery.start_soon(server.aclose)
        with pytest.raises(ConnectionClosedOK) as caught:
            await websocket.receive()
        assert (caught.value.code, caught.value.was_clean) == (1001, True)


async def test_a_closing_server_accepts_nobody(mock_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, wait_closed, LOCAL, 0)
        stream = await dial(server)
        await stream.send_all(request())
        await read_head(stream)
        nursery.start_soon(server.aclose)
        await read_frame(stream)
        with pytest.raises(OSError, match="all attempts to connect"):
            await dial(server)
        await stream.aclose()


async def test_a_request_that_is_half_there_when_the_server_closes_is_503() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, echo, LOCAL, 0)
        stream = await dial(server)
        await stream.send_all(request()[:30])
        await until(lambda: bool(server._service._opening))
        nursery.start_soon(server.aclose)
        assert status(await read_all(stream)) == 503
        await stream.aclose()


@pytest.mark.parametrize("tls", [False, True])
async def test_a_closing_server_does_not_wait_for_a_peer_that_holds_a_connection_and_says_nothing(
    tls: bool, mock_clock: trio.testing.MockClock
) -> None:
    # Time stands still: if the server waited for the peer, it would wait for ever.
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, echo, LOCAL, 0, server_context() if tls else None)
        spare = await dial(server)
        stream: trio.abc.Stream = spare
        if tls:
            stream = trio.SSLStream(spare, client_context(), server_hostname="localhost")
            await stream.do_handshake()
        await until(lambda: bool(server._service._opening))
        await server.aclose()
        assert await read_all(stream) == b""
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("tls", [False, True])
async def test_a_closing_server_says_goaway_and_nothing_else_over_idle_http_2(
    tls: bool, mock_clock: trio.testing.MockClock
) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, echo, LOCAL, 0, server_context() if tls else None)
        spare = await dial(server)
        stream: trio.abc.Stream = spare
        if tls:
            context = client_context()
            context.set_alpn_protocols(["h2"])
            stream = trio.SSLStream(spare, context, server_hostname="localhost")
        peer = RawHttp2(stream)
        await peer.begin()
        await peer.expect(SettingsFrame)
        nursery.start_soon(server.aclose)
        assert await peer.goaway_code() == 0
        assert {type(frame) for frame in peer.heard} == {SettingsFrame, WindowUpdateFrame, GoAwayFrame}
        await trio.aclose_forcefully(stream)


async def test_a_stubborn_handler_is_cancelled_after_close_timeout(mock_clock: trio.testing.MockClock) -> None:
    ended: list[float] = []

    async def stubborn(asked: WebSocketRequest) -> None:
        async with asked.accept() as websocket:
            await websocket.wait_closed()
            try:
                await trio.sleep_forever()
            finally:
                ended.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, stubborn, LOCAL, 0, close_timeout=7))
        stream = await dial(server)
        await stream.send_all(request())
        await read_head(stream)
        begin = trio.current_time()
        nursery.start_soon(server.aclose)
        await read_frame(stream)
        await exchange(stream, frame(CLOSE, GOING_AWAY, masked=True))
        mock_clock.jump(6.9)
        for _ in range(5):
            await wait_all_tasks_blocked()
        assert ended == []
        mock_clock.jump(0.2)
        await stream.aclose()
    assert ended == [pytest.approx(begin + 7.1)]


async def test_a_client_that_does_not_answer_is_left_after_close_timeout(mock_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, wait_closed, LOCAL, 0, close_timeout=7))
        stream = await dial(server)
        await stream.send_all(request())
        await read_head(stream)
        nursery.start_soon(server.aclose)
        assert await read_frame(stream) == (CLOSE, GOING_AWAY)
        await wait_all_tasks_blocked()
        mock_clock.jump(7)
        assert await read_all(stream) == b""
        await stream.aclose()


async def test_closing_that_is_cancelled_drops_everything_at_once() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, wait_closed, LOCAL, 0)
        stream = await dial(server)
        await stream.send_all(request())
        await read_head(stream)
        with trio.CancelScope() as scope:
            scope.cancel()
            await server.aclose()
        assert scope.cancelled_caught
    assert frames(await read_all(stream)) == [(CLOSE, GOING_AWAY)]
    await stream.aclose()


async def test_a_server_may_be_closed_twice_and_by_many() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, echo, LOCAL, 0)
        websocket = await connect_websocket(nursery, f"ws://{LOCAL}:{server.port}/")
        async with trio.open_nursery() as closers:
            for _ in range(3):
                closers.start_soon(server.aclose)
        with assert_checkpoints():
            await server.aclose()
        closed = await websocket.wait_closed()
        assert closed.code == 1001


async def test_closing_a_server_that_was_cancelled_returns() -> None:
    async with serving(partial(serve_websocket, echo, LOCAL, 0)) as server:
        pass
    with assert_checkpoints():
        await server.aclose()


async def test_a_handler_may_close_its_server(mock_clock: trio.testing.MockClock) -> None:
    closing = trio.Event()

    async def handler(asked: WebSocketRequest) -> None:
        await asked.reject()
        closing.set()
        await server.aclose()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, handler, LOCAL, 0)
        async with await dial(server) as stream:
            await stream.send_all(request())
            await stream.send_eof()
            await read_all(stream)
        await closing.wait()
        await wait_all_tasks_blocked()
        mock_clock.jump(10)


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (ValueError, (1005,)),
        (ValueError, (1006,)),
        (ValueError, (999,)),
        (TypeError, ("1001",)),
        (TypeError, (1001, b"bye")),
        (ValueError, (1001, "x" * 124)),
    ],
)
async def test_closing_with_what_may_not_be_sent_does_nothing(
    error: type[Exception], arguments: tuple[int, str]
) -> None:
    async with serving(partial(serve_websocket, echo, LOCAL, 0)) as server:
        with pytest.raises(error):
            await server.aclose(*arguments)
        async with open_websocket(f"ws://{LOCAL}:{server.port}/") as websocket:
            await websocket.send("hello")
            assert await websocket.receive() == "hello"


# wrap_server_stream.


async def test_a_stream_is_served_by_a_handler(nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    with assert_checkpoints():
        await wrap_server_stream(nursery, theirs, echo)
    websocket = await wrap_client_stream(nursery, ours, "ws://example.com/")
    await websocket.send("hello")
    assert await websocket.receive() == "hello"
    await websocket.aclose()
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks


async def test_a_request_over_a_stream_is_returned(nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    await ours.send_all(request())
    with assert_checkpoints():
        asked = await wrap_server_stream(nursery, theirs)
    await ours.send_eof()
    await asked.reject(404)
    assert status(await read_all(ours)) == 404
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks


async def test_tls_begins_on_a_stream(nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    await wrap_server_stream(nursery, theirs, echo, ssl_context=server_context())
    websocket = await wrap_client_stream(nursery, ours, "wss://localhost/", ssl_context=client_context())
    await websocket.send("hello")
    assert await websocket.receive() == "hello"
    await websocket.aclose()


@pytest.mark.parametrize(
    ("data", "answered"), [(head("GET / HTTP/1.1", "Host: a"), 426), (b"x\n\n", 400), (b"", 0), (b"GET", 0)]
)
async def test_a_stream_without_a_good_request_is_an_invalid_handshake(
    data: bytes, answered: int, nursery: trio.Nursery
) -> None:
    ours, theirs = memory_stream_pair()
    await ours.send_all(data)
    await ours.send_eof()
    with pytest.raises(InvalidHandshake, match="no request for a WebSocket"):
        await wrap_server_stream(nursery, theirs)
    assert status(await read_all(ours)) == answered
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks


async def test_wrapping_with_a_handler_is_a_checkpoint_and_cancelled_it_serves_nobody(nursery: trio.Nursery) -> None:
    for handler in (echo, None):
        ours, theirs = memory_stream_pair()
        await ours.send_all(request())
        with trio.CancelScope() as scope:
            scope.cancel()
            await wrap_server_stream(nursery, theirs, handler)
        assert scope.cancelled_caught
        assert await read_all(ours) == b""
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (TypeError, {"handler": "echo"}),
        (TypeError, {"max_connections": 5}),
        (TypeError, {"ssl_context": True}),
        (ValueError, {"protocols": ["a b"]}),
        (ValueError, {"connect_timeout": -1}),
    ],
)
async def test_arguments_are_checked_before_a_stream_is_touched(
    error: type[Exception], arguments: dict[str, object], nursery: trio.Nursery
) -> None:
    ours, theirs = memory_stream_pair()
    with pytest.raises(error):
        await wrap_server_stream(nursery, theirs, **arguments)  # type: ignore[call-overload]
    assert not nursery.child_tasks
    await theirs.send_all(b"still open")
    assert await ours.receive_some() == b"still open"


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_request_that_is_never_answered_does_not_hold_its_nursery(cancelled: bool) -> None:
    ours, theirs = memory_stream_pair()
    await ours.send_all(request())
    error = ValueError("mine")
    with pytest.RaisesGroup(ValueError) if not cancelled else trio.CancelScope():
        async with trio.open_nursery() as nursery:
            await wrap_server_stream(nursery, theirs)
            if not cancelled:
                raise error
            nursery.cancel_scope.cancel()
    assert await read_all(ours) == b""


async def test_a_handler_in_a_cancelled_nursery_says_goodbye() -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await wrap_server_stream(nursery, theirs, wait_closed)
        await ours.send_all(request())
        assert status(await read_head(ours)) == 101
        nursery.cancel_scope.cancel()
    assert frames(await read_all(ours)) == [(CLOSE, GOING_AWAY)]
