"""Serving: what is answered, what a handler may do, how a server ends."""

from __future__ import annotations

import errno
import logging
import re
import socket
import ssl
from collections.abc import Callable
from functools import partial

import pytest
import trio
import trustme
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

import trio_ws
from tests.endtoend.plain import ACCEPT, REQUEST, ask, echo, head, read_all, serving
from trio_ws import CloseInfo, HTTPRequest, HTTPResponse, Limits
from trio_ws._net.listen import accept_nowait


def without(name: str) -> list[str]:
    return [line for line in REQUEST if not line.startswith(name)]


def instead(name: str, *lines: str) -> list[str]:
    return [*without(name), *lines]


GET, *FIELDS = REQUEST

ANSWERS: list[tuple[list[str], int]] = [
    ([*REQUEST], 101),
    (["POST /path HTTP/1.1", *FIELDS], 405),
    (["GET /path HTTP/1.0", *FIELDS], 505),
    (["GET /path HTTP/2.0", *FIELDS], 505),
    (["GET path HTTP/1.1", *FIELDS], 400),
    (["GET /path", *FIELDS], 400),
    (["GET /" + "x" * 9000 + " HTTP/1.1", *FIELDS], 414),
    (without("Host"), 400),
    ([*REQUEST, "Host: other"], 400),
    (without("Connection"), 400),
    (without("Sec-WebSocket-Key"), 400),
    (instead("Sec-WebSocket-Key", "Sec-WebSocket-Key: short"), 400),
    (without("Sec-WebSocket-Version"), 400),
    (instead("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), 426),
    ([*REQUEST, "Transfer-Encoding: chunked"], 400),
    ([*REQUEST, "Content-Length: 5"], 400),
    ([*REQUEST, "X-Bad : space"], 400),
    ([*REQUEST, "X-Folded: a", " b"], 400),
    ([*REQUEST, "X-Nul: \0"], 400),
    ([*REQUEST, "X-Escape: \x1b[2J"], 400),
    ([*REQUEST, "X-Long: " + "x" * 9000], 431),
    ([*REQUEST, *["X-Many: x"] * 100], 431),
    ([*REQUEST, *["X-Big: " + "x" * 4000] * 5], 431),
    ([*REQUEST, "Origin: http://127.0.0.1"], 101),
    ([*REQUEST, "Origin: http://evil.example"], 403),
    ([*REQUEST, "Origin: null"], 403),
    (["GET / HTTP/1.1", "Host: x"], 426),
    (["HEAD / HTTP/1.1", "Host: x"], 426),
    (["DELETE / HTTP/1.1", "Host: x"], 405),
    (["\x16\x03\x01"], 400),
]


@pytest.mark.parametrize(("lines", "status"), ANSWERS)
async def test_each_request_gets_its_status(lines: list[str], status: int) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept():
            pass

    async with serving(handler, limits=Limits(close_linger=0.1), close_timeout=0.1) as server:
        # The second request must never be answered: it would be a smuggled one.
        answer = await ask(server, head(*lines) + (b"" if status == 101 else head("GET /admin HTTP/1.1", "Host: x")))
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert len(re.findall(rb"HTTP/1.1 \d", answer)) == 1
        if status == 101:
            assert f"Sec-WebSocket-Accept: {ACCEPT}".encode() in answer
        else:
            assert b"Connection: close" in answer or b"Connection: Upgrade, close" in answer


async def test_a_head_has_no_body() -> None:
    async with serving(limits=Limits(close_linger=0.1)) as server:
        assert (await ask(server, head("HEAD / HTTP/1.1", "Host: x"))).endswith(b"\r\n\r\n")


async def test_a_request_that_breaks_off_is_forgotten() -> None:
    async with serving() as server:
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            await stream.send_all(b"GET / HT")
            await stream.send_eof()
            assert await read_all(stream) == b""
        assert server.connections == frozenset()


async def test_a_slow_request_times_out(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await trio_ws.wrap_server_stream(nursery, theirs, echo, connect_timeout=10)
        before = trio.current_time()
        for byte in b"GET / HTTP/1.1\r\n":
            await ours.send_all(bytes((byte,)))
            await trio.sleep(0.5)
        answer = await read_all(ours)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert trio.current_time() - before == 10


async def test_tls_that_never_comes_times_out(autojump_clock: MockClock) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("x").configure_cert(context)
    for data, seconds in [(b"\x16\x03\x01", 10), (b"GET / HTTP/1.1\r\n\r\n", 0)]:
        ours, theirs = memory_stream_pair()
        async with trio.open_nursery() as nursery:
            before = trio.current_time()
            await trio_ws.wrap_server_stream(nursery, theirs, echo, ssl_context=context)
            await ours.send_all(data)
            answer = await read_all(ours)
            assert b"HTTP" not in answer
            assert trio.current_time() - before == seconds


async def test_plain_requests_are_the_http_handlers() -> None:
    asked: list[HTTPRequest] = []

    async def http_handler(request: HTTPRequest) -> HTTPResponse:
        asked.append(request)
        if request.target == "/crash":
            raise ZeroDivisionError
        if request.target == "/empty":
            return HTTPResponse(204)
        return HTTPResponse(200, iter([("Content-Type", "text/plain")]), b"hello")

    async with serving(http_handler=http_handler, server_header=None, limits=Limits(close_linger=0.1)) as server:
        answer = await ask(server, head("POST /page HTTP/1.1", "Host: x", "Content-Length: 2") + b"ab")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n")
        assert answer.endswith(b"\r\n\r\nhello")
        answer = await ask(server, head("HEAD /page HTTP/1.1", "Host: x"))
        assert b"Content-Length: 5" in answer
        assert answer.endswith(b"\r\n\r\n")
        assert b"Content-Length" not in await ask(server, head("GET /empty HTTP/1.1", "Host: x"))
        assert (await ask(server, head("GET /crash HTTP/1.1", "Host: x"))).startswith(b"HTTP/1.1 500 ")
    assert (asked[0].method, asked[0].target, asked[0].http_version) == ("POST", "/page", "1.1")
    assert isinstance(asked[0].remote_address, tuple)


@pytest.mark.parametrize(
    ("status", "headers", "body", "error"),
    [
        (101, (), b"", ValueError),
        (600, (), b"", ValueError),
        ("200", (), b"", TypeError),
        (True, (), b"", TypeError),
        (200, {"X": "\n"}, b"", ValueError),
        (200, (), "text", TypeError),
        (204, (), b"body", ValueError),
    ],
)
async def test_an_answer_is_checked(status: object, headers: object, body: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        HTTPResponse(status, headers, body)  # type: ignore[arg-type]


async def open_status(server: trio_ws.WebSocketServer, path: str = "/") -> int:
    try:
        async with trio_ws.open_websocket(f"ws://127.0.0.1:{server.port}{path}") as ws:
            await ws.wait_closed()
    except trio_ws.HandshakeRejected as error:
        return error.status
    assert ws.close_info is not None
    return ws.close_info.code


async def test_what_a_handler_may_do(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "trio_ws")

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        match request.path:
            case "/reject":
                await request.reject(401, {"WWW-Authenticate": "Basic"}, b"who are you?")
                with pytest.raises(RuntimeError, match="answered before"):
                    await request.reject()
            case "/early":
                raise ZeroDivisionError("early")
            case "/late":
                async with request.accept():
                    raise ZeroDivisionError("late")
            case "/twice":
                async with request.accept() as ws:
                    with pytest.raises(RuntimeError, match="answered before"):
                        async with request.accept():
                            pass
                    await ws.aclose(4000)
            case "/protocol":
                async with request.accept("never offered"):
                    pass
            case "/closed":
                async with request.accept() as ws:
                    await ws.aclose(4001)
                    await ws.send("too late")
            case "/group":
                async with request.accept() as ws, trio.open_nursery() as nursery:
                    await ws.aclose(4002)
                    nursery.start_soon(ws.send, "too late")
            case "/bad":
                await request.reject(200000)

    async with serving(handler, limits=Limits(close_linger=0.5)) as server:
        statuses = {
            path: await open_status(server, path)
            for path in ("/reject", "/early", "/late", "/twice", "/protocol", "/closed", "/group", "/bad", "/nothing")
        }
    assert statuses == {
        "/reject": 401,
        "/early": 500,
        "/late": 1011,
        "/twice": 4000,
        "/protocol": 500,
        "/closed": 4001,
        "/group": 4002,
        "/bad": 500,
        "/nothing": 500,
    }
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert [message.split(" http")[0].split(" <")[0] for message in errors] == [
        "handler failed on",
        "handler failed on",
        "handler failed on",
        "handler failed on",
        "handler returned without an answer to",
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), BaseExceptionGroup("", [KeyboardInterrupt()])])
async def test_ctrl_c_in_a_handler_comes_out_bare(error: BaseException) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        raise error

    async def visit(server: trio_ws.WebSocketServer) -> None:
        with pytest.raises(trio_ws.WebSocketError):
            async with trio_ws.open_websocket(f"ws://127.0.0.1:{server.port}/"):
                pass

    with pytest.raises(BaseExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            serve = partial(trio_ws.serve_websocket, handler, "127.0.0.1", 0)
            server = await nursery.start(serve)
            await visit(server)
            await trio.sleep_forever()
    assert [type(error) for error in caught.value.exceptions] == [KeyboardInterrupt]


async def test_a_request_of_a_wrapped_stream_may_be_answered_here() -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, head(*REQUEST))
        request = await trio_ws.wrap_server_stream(nursery, theirs)
        async with request.accept() as ws:
            await ws.send("hello")
            answer = b""
            while not answer.endswith(b"hello"):
                answer += await ours.receive_some()
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert answer.endswith(b"\r\n\r\n\x81\x05hello")
            with pytest.raises(RuntimeError, match="answered before"):
                await request.reject()
            assert request.local_address is None
            assert request.http_version == "1.1"
            await ours.aclose()
            with pytest.raises(trio_ws.ConnectionClosedError):
                await ws.receive()


async def test_a_request_that_is_never_answered_holds_nothing() -> None:
    ours, theirs = memory_stream_pair()
    with trio.move_on_after(0.1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send_all, head(*REQUEST))
            await trio_ws.wrap_server_stream(nursery, theirs)
            await trio.sleep_forever()
    assert await read_all(ours) == b""


async def test_a_stream_that_brings_no_request() -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await ours.send_eof()
        with pytest.raises(trio_ws.InvalidHandshake, match="brought no request"):
            await trio_ws.wrap_server_stream(nursery, theirs)
        assert await read_all(ours) == b""
        with pytest.raises(TypeError, match="handler must be"):
            await trio_ws.wrap_server_stream(nursery, theirs, 5)  # type: ignore[call-overload]


async def test_who_is_accepted_while_a_server_closes_gets_its_goodbye_at_once() -> None:
    asked, may_accept = trio.Event(), trio.Event()
    seen: list[object] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        asked.set()
        await may_accept.wait()
        async with request.accept() as websocket:
            with pytest.raises(trio_ws.ConnectionClosedLocally):
                await websocket.receive()

    async def client(url: str) -> None:
        async with trio_ws.open_websocket(url) as websocket:
            seen.append(await websocket.wait_closed())

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(trio_ws.serve_websocket, handler, "127.0.0.1", 0))
        nursery.start_soon(client, f"ws://127.0.0.1:{server.port}/")
        await asked.wait()
        with trio.fail_after(5):
            async with trio.open_nursery() as closing:
                closing.start_soon(server.aclose, 1012, "restart")
                await wait_all_tasks_blocked()
                may_accept.set()
    assert seen == [CloseInfo(1012, "restart", was_clean=True)]


async def test_aclose_says_goodbye_and_waits_for_the_handlers() -> None:
    done: list[CloseInfo] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as ws:
            done.append(await ws.wait_closed())

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_ws.serve_websocket, handler, "127.0.0.1", 0)
        assert repr(server) == "<WebSocketServer open, 0 WebSockets>"
        url = f"ws://127.0.0.1:{server.port}/"
        async with trio_ws.open_websocket(url) as one, trio_ws.open_websocket(url) as two:
            late = await trio.open_tcp_stream("127.0.0.1", server.port)
            await late.send_all(b"GET / HTTP/1.1\r\n")
            with trio.fail_after(10):
                while len(server.connections) < 2:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            await trio.sleep(0.05)
            nursery.start_soon(server.aclose, 1012, "restart")
            for ws in (one, two):
                with pytest.raises(trio_ws.ConnectionClosedError) as caught:
                    await ws.receive()
                assert (caught.value.code, caught.value.reason) == (1012, "restart")
            assert (await read_all(late)).startswith(b"HTTP/1.1 503 ")
            await late.aclose()
    assert repr(server) == "<WebSocketServer closed, 0 WebSockets>"
    assert done == [CloseInfo(1012, "restart", was_clean=True)] * 2
    await server.aclose()
    with pytest.raises(ValueError, match="code 1006"):
        await server.aclose(1006)


async def test_a_stubborn_handler_is_cancelled_after_close_timeout() -> None:
    cancelled = trio.Event()

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept():
            try:
                await trio.sleep_forever()
            finally:
                cancelled.set()

    async with serving(handler, close_timeout=0.1) as server:
        async with trio_ws.open_websocket(f"ws://127.0.0.1:{server.port}/"):
            await server.aclose()
        assert cancelled.is_set()


async def test_requests_that_come_while_closing_get_503() -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        raise AssertionError("not reached")

    from trio_ws._server.server import _check_options
    from trio_ws._server.service import Service

    service = Service(_check_options(limits=Limits(close_linger=0.1)))
    service.refuse_new()
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        from trio_ws._net.stream_transport import StreamTransport

        service.nursery = nursery
        nursery.start_soon(service.serve, StreamTransport(theirs, nursery), handler)
        await ours.send_all(head(*REQUEST))
        assert (await read_all(ours)).startswith(b"HTTP/1.1 503 ")


async def test_cancelling_says_1001() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_ws.serve_websocket, echo, "127.0.0.1", 0)
        async with trio_ws.open_websocket(f"ws://127.0.0.1:{server.port}/") as ws:
            await ws.ping()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                assert (await ws.wait_closed()).code == 1001


async def test_max_connections_holds_the_others_back() -> None:
    async with serving(max_connections=1) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        async with trio_ws.open_websocket(url) as first:
            with pytest.raises(trio_ws.HandshakeTimeout):
                async with trio_ws.open_websocket(url, connect_timeout=0.1):
                    pytest.fail("a second one was served")
            await first.send("served")
            assert await first.receive() == "served"
        async with trio_ws.open_websocket(url) as second:
            await second.send("next")
            assert await second.receive() == "next"


def exhausted(error: int) -> Callable[[socket.socket], tuple[socket.socket, object] | None]:
    """Make what accepts on a system that has run out of descriptors, for a while."""
    failures = iter(range(20))

    def accept(listening: socket.socket) -> tuple[socket.socket, object] | None:
        if next(failures, None) is not None:
            raise OSError(error, "too many open files")
        return accept_nowait(listening)

    return accept


@pytest.mark.parametrize("max_connections", [None, 5])
async def test_a_lack_of_descriptors_passes(
    max_connections: int | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trio_ws._server.server._ACCEPT_PAUSE", 0.001)
    monkeypatch.setattr("trio_ws._server.server.accept_nowait", exhausted(errno.EMFILE))
    async with (
        serving(max_connections=max_connections) as server,
        trio_ws.open_websocket(f"ws://127.0.0.1:{server.port}/") as ws,
    ):
        await ws.send("at last")
        assert await ws.receive() == "at last"
    assert caplog.text.count("cannot accept connections for now") == 1


async def test_another_error_of_a_listener_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_ws._server.server.accept_nowait", exhausted(errno.EINVAL))
    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(trio_ws.serve_websocket, echo, None, 0)
            async with await trio.open_tcp_stream("127.0.0.1", server.port):
                await trio.sleep_forever()
    assert [error.errno for error in caught.value.exceptions if isinstance(error, OSError)] == [errno.EINVAL]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((5, "127.0.0.1", 0), {}, TypeError, "handler must be"),
        ((echo, "127.0.0.1", None), {}, ValueError, "port=None"),
        ((echo, "/tmp/x", 80), {}, ValueError, "port=80"),
        ((echo, "127.0.0.1", 0), {"max_connections": 0}, ValueError, "max_connections=0"),
        ((echo, "127.0.0.1", 0), {"max_connections": 1.5}, TypeError, "max_connections"),
        ((echo, "127.0.0.1", 0), {"origins": "https://x"}, TypeError, "origins"),
        ((echo, "127.0.0.1", 0), {"http_handler": 5}, TypeError, "http_handler"),
        ((echo, "127.0.0.1", 0), {"protocols": [""]}, ValueError, "protocol"),
        ((echo, "127.0.0.1", 0), {"ssl_context": True}, TypeError, "ssl_context"),
    ],
)
async def test_arguments_are_checked(
    arguments: tuple[object, ...], options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await trio_ws.serve_websocket(*arguments, **options)  # type: ignore[arg-type]


async def test_a_path_that_cannot_be_bound_raises(tmp_path: object) -> None:
    with pytest.raises(OSError, match=r"."):
        await trio_ws.serve_websocket(echo, f"{tmp_path}/missing/socket", None)


async def test_every_address_is_listened_on() -> None:
    async with serving(host=None) as server:
        assert {listener.socket.family for listener in server.listeners} >= {socket.AF_INET}
        async with trio_ws.open_websocket(f"ws://127.0.0.1:{server.port}/") as ws:
            await ws.send("any")
            assert await ws.receive() == "any"
            await wait_all_tasks_blocked()
            assert len(server.connections) == 1
