"""Opening a WebSocket: what is asked, what is accepted, what is refused."""

from __future__ import annotations

import ssl
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

import pytest
import trio
import trustme
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

import trio_ws
from tests.endtoend.plain import answering, echo, head, serving
from trio_ws import CloseInfo, ReadyState

GOOD = head(
    "HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: ACCEPT"
)


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def test_text_and_binary_come_back() -> None:
    async with serving() as server, trio_ws.open_websocket(f"ws://127.0.0.1:{server.port}/") as ws:
        for message in ("text", b"binary", "", b"", "x" * 100000, bytes(200000)):
            await ws.send(message)
            assert await ws.receive() == message
        assert ws.extensions.startswith("permessage-deflate")
    assert ws.close_info == CloseInfo(1000, "", was_clean=True)


async def test_over_tls() -> None:
    server_context, client_context = contexts()
    async with serving(ssl_context=server_context) as server:
        url = f"wss://localhost:{server.port}/"
        async with trio_ws.open_websocket(url, ssl_context=client_context) as ws:
            await ws.send("secret")
            assert await ws.receive() == "secret"
        async with trio_ws.open_websocket(url, dispatcher=trio_ws.Agent(ssl_context=client_context)) as ws:
            await ws.send(bytes(10**6))
            assert await ws.receive() == bytes(10**6)
        with pytest.raises(ssl.SSLCertVerificationError):
            async with trio_ws.open_websocket(url):
                pytest.fail("an unknown authority was trusted")


async def test_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with serving(host=path, port=None) as server:
        async with trio_ws.Agent(socket_path=path) as agent, trio_ws.open_websocket("ws://x/", dispatcher=agent) as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"
            assert ws.remote_address == str(path)
        with pytest.raises(RuntimeError, match="has no port"):
            server.port  # noqa: B018
        await server.aclose()
        assert not path.exists()


async def test_in_a_nursery_of_the_callers() -> None:
    async with serving() as server, trio.open_nursery() as nursery:
        ws = await trio_ws.connect_websocket(nursery, f"ws://127.0.0.1:{server.port}/", compression=None)
        await ws.send("hello")
        assert await ws.receive() == "hello"
        await ws.aclose()


async def test_a_closed_nursery_leaves_nothing_open() -> None:
    ended = trio.Event()

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as ws:
            await ws.wait_closed()
        ended.set()

    async with serving(handler) as server:
        async with trio.open_nursery() as nursery:
            pass
        with pytest.raises(RuntimeError, match="closed"):
            await trio_ws.connect_websocket(nursery, f"ws://127.0.0.1:{server.port}/")
        await ended.wait()


async def test_over_streams_of_the_callers() -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await trio_ws.wrap_server_stream(nursery, theirs, echo)
        async with await trio_ws.wrap_client_stream(nursery, ours, "ws://example.com/") as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"
            assert ws.remote_address is None
        await wait_all_tasks_blocked()
        with pytest.raises(trio.ClosedResourceError):
            await ours.send_all(b"x")
        with pytest.raises(TypeError, match="nothing to dispatch"):
            await trio_ws.wrap_client_stream(nursery, ours, "ws://x/", dispatcher=trio_ws.Agent())


async def test_tls_over_streams_of_the_callers() -> None:
    server_context, client_context = contexts()
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await trio_ws.wrap_server_stream(nursery, theirs, echo, ssl_context=server_context)
        url = "wss://localhost/"
        async with await trio_ws.wrap_client_stream(nursery, ours, url, ssl_context=client_context) as ws:
            await ws.send(bytes(100000))
            assert await ws.receive() == bytes(100000)


async def test_a_stream_that_fails_is_closed() -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await theirs.aclose()
        with pytest.raises((trio_ws.InvalidHandshake, trio.BrokenResourceError)):
            await trio_ws.wrap_client_stream(nursery, ours, "ws://x/")
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")


async def test_frames_may_come_with_the_answer() -> None:
    async with answering(GOOD + b"\x81\x05hello\x88\x02\x03\xe8") as url, trio_ws.open_websocket(url) as ws:
        assert [message async for message in ws] == ["hello"]


async def test_an_answer_may_come_in_pieces_and_after_others() -> None:
    early = head("HTTP/1.1 103 Early Hints", "Link: x")
    async with (
        answering(early + early + GOOD, b"\x81\x02ok", end=False, cut=True) as url,
        trio_ws.open_websocket(url, close_timeout=0.1) as ws,
    ):
        assert await ws.receive() == "ok"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "closed the connection before it answered"),
        (b"HTTP/1.1 101", "closed the connection before it answered"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "malformed"),
        (b"\x00\x01", "this is no HTTP"),
        (GOOD.replace(b"\r\n", b"\n"), "bare LF"),
        (GOOD.replace(b"websocket", b"web\rsocket"), "control character"),
        (GOOD.replace(b"websocket", b"websocket\r\n folded"), "Upgrade"),
        (GOOD.replace(b"websocket", b"other"), "Upgrade"),
        (GOOD.replace(b"ACCEPT", b"wrong"), "Sec-WebSocket-Accept"),
        (GOOD[:-2] + b"Sec-WebSocket-Extensions: unknown\r\n\r\n", "unknown"),
        (GOOD[:-2] + b"X: " + b"x" * 9000 + b"\r\n\r\n", "header line has over"),
        (GOOD[:-2] + b"X: y\r\n" * 200 + b"\r\n", "more than 100 header lines"),
        (b"H" * 9000, "first line has over"),
        (GOOD[:-2] + b"X: " + b"x" * 20000, "head has over"),
        (head("HTTP/1.1 100 Continue") * 20, "8 interim answers"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "malformed"),
    ],
)
async def test_a_hostile_answer_is_refused(answer: bytes, message: str) -> None:
    async with answering(answer) as url:
        with pytest.raises(trio_ws.InvalidHandshake, match=message):
            async with trio_ws.open_websocket(url):
                pytest.fail("it was taken")


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (head("HTTP/1.1 403 Forbidden", "Content-Length: 4", "X-Why: because") + b"nope", b"nope"),
        (head("HTTP/1.1 403 Forbidden", "X-Why: because") + b"to the end", b"to the end"),
        (head("HTTP/1.1 403 No", "X-Why: because", "Transfer-Encoding: chunked") + b"2\r\nab\r\n0\r\n\r\n", b"ab"),
        (head("HTTP/1.1 403 No", "X-Why: because", "Content-Length: 100") + b"short", b"short"),
        (head("HTTP/1.1 403 No", "X-Why: because") + b"x" * 100000, b"x" * 65536),
        (head("HTTP/1.1 403 No", "X-Why: because"), b""),
    ],
)
async def test_a_rejection_carries_status_headers_and_body(answer: bytes, body: bytes) -> None:
    async with answering(answer) as url:
        with pytest.raises(trio_ws.HandshakeRejected) as caught:
            async with trio_ws.open_websocket(url):
                pytest.fail("it was taken")
    assert (caught.value.status, caught.value.headers["x-why"], caught.value.body) == (403, "because", body)


async def test_a_rejection_is_read_as_it_comes() -> None:
    async with answering(head("HTTP/1.1 404 Not Found", "Content-Length: 4"), b"no", b"pe") as url:
        with pytest.raises(trio_ws.HandshakeRejected) as caught:
            async with trio_ws.open_websocket(url):
                pytest.fail("it was taken")
    assert caught.value.body == b"nope"


async def test_a_server_that_says_nothing_is_given_up(autojump_clock: MockClock) -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        before = trio.current_time()
        with pytest.raises(trio_ws.HandshakeTimeout, match="connect_timeout=3 s"):
            await trio_ws.wrap_client_stream(nursery, ours, "ws://x/", connect_timeout=3)
        assert trio.current_time() - before == 3
    assert b"GET / HTTP/1.1" in await theirs.receive_some()
    assert await theirs.receive_some() == b""


async def test_what_is_asked() -> None:
    asked: list[trio_ws.WebSocketRequest] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        asked.append(request)
        async with request.accept(headers=[("X-Served", "yes")]) as ws:
            assert ws.protocol == "chat"

    async with serving(handler, protocols=["chat"], origins=["https://example.com"]) as server:
        url = f"http://user:p%40ss@127.0.0.1:{server.port}/a/../b?q=1&token=2"
        async with trio_ws.open_websocket(
            url, ["other", "chat"], headers={"X-Asked": "yes"}, origin="https://example.com"
        ) as ws:
            assert (ws.url, ws.protocol) == (f"ws://127.0.0.1:{server.port}/b?q=1&token=2", "chat")
            assert ws.response_headers["x-served"] == "yes"
            assert ws.request_headers["X-Asked"] == "yes"
    (request,) = asked
    assert (request.path, request.query, request.target) == ("/b", "q=1&token=2", "/b?q=1&token=2")
    assert (request.protocols, request.origin) == (("other", "chat"), "https://example.com")
    assert request.headers["authorization"] == "Basic dXNlcjpwQHNz"
    assert request.host == f"127.0.0.1:{server.port}"
    assert request.url == f"ws://127.0.0.1:{server.port}/b?q=1&token=2"
    assert isinstance(request.remote_address, tuple)
    assert request.local_address == ("127.0.0.1", server.port)
    assert repr(request).startswith(f"<WebSocketRequest ws://127.0.0.1:{server.port}/b?q=1&token=<hidden> from")


class Nowhere(trio_ws.Dispatcher):
    """A dispatcher that must not be used."""

    async def open(self, request: object) -> NoReturn:
        raise AssertionError("I/O was done")

    async def __aexit__(self, *exc: object) -> None:
        pass


@pytest.mark.parametrize(
    ("url", "options", "error", "message"),
    [
        ("ftp://x/", {}, trio_ws.InvalidURL, "ftp"),
        ("ws://x/#", {}, trio_ws.InvalidURL, "fragment"),
        ("ws://x/", {"protocols": ["a", "A"]}, ValueError, "A"),
        ("ws://x/", {"protocols": [5]}, TypeError, "5"),
        ("ws://x/", {"headers": {"X": "a\r\nb"}}, ValueError, "X"),
        ("ws://x/", {"headers": {"Upgrade": "h2c"}}, ValueError, "Upgrade"),
        ("ws://x/", {"origin": "a\nb"}, ValueError, "Origin"),
        ("ws://x/", {"ssl_context": True}, TypeError, "ssl_context must be"),
        ("ws://x/", {"dispatcher": "proxy"}, TypeError, "dispatcher must be"),
        ("ws://x/", {"limits": {}}, TypeError, "limits must be"),
        ("ws://x/", {"compression": True}, TypeError, "compression must be"),
        ("ws://x/", {"keepalive": 20}, TypeError, "keepalive must be"),
        ("ws://x/", {"connect_timeout": -1}, ValueError, "connect_timeout=-1"),
        ("ws://x/", {"close_timeout": "1"}, ValueError, "close_timeout='1'"),
        ("ws://x/", {"instruments": [5]}, TypeError, "instruments"),
    ],
)
async def test_arguments_are_checked_before_any_io(
    url: str, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        async with trio_ws.open_websocket(url, **{"dispatcher": Nowhere(), **options}):  # type: ignore[arg-type]
            pytest.fail("it was opened")


def test_an_agent_checks_its_options() -> None:
    with pytest.raises(TypeError, match="ssl_context"):
        trio_ws.Agent(ssl_context=True)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        trio_ws.Agent(socket_path=5)  # type: ignore[arg-type]


async def test_nobody_there() -> None:
    async with serving() as server:
        port = server.port
        await server.aclose()
    with pytest.raises(OSError, match="all attempts to connect"):
        async with trio_ws.open_websocket(f"ws://127.0.0.1:{port}/"):
            pytest.fail("it was opened")


@pytest.mark.skipif(sys.platform == "win32", reason="IPv6 is there on the machines of CI")
async def test_ipv6() -> None:
    async with serving(host="::1") as server, trio_ws.open_websocket(f"ws://[::1]:{server.port}/") as ws:
        await ws.send("six")
        assert await ws.receive() == "six"
        assert ws.request_headers["Host"] == f"[::1]:{server.port}"
        assert ws.remote_address == ("::1", server.port)


class Problem(Exception):
    pass


async def test_the_blocks_own_exception_comes_out_as_it_is() -> None:
    problem = Problem()
    codes: list[int] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as ws:
            codes.append((await ws.wait_closed()).code)

    async with serving(handler) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        with pytest.raises(Problem) as caught:
            async with trio_ws.open_websocket(url):
                raise problem
        assert caught.value is problem
        assert problem.__context__ is None
        with trio.CancelScope() as scope:
            async with trio_ws.open_websocket(url) as ws:
                scope.cancel()
                await ws.receive()
        assert scope.cancelled_caught
        assert ws.ready_state is ReadyState.CLOSED
        with trio.fail_after(10):
            while len(codes) < 2:  # noqa: ASYNC110
                await trio.sleep(0.01)
    assert codes == [1011, 1001]


async def test_a_cancelled_opening_leaves_nothing_open() -> None:
    @asynccontextmanager
    async def opening(url: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
        async with trio_ws.open_websocket(url) as ws:
            yield ws

    async with answering(end=False) as url:
        with trio.move_on_after(0.05) as scope:
            async with opening(url):
                pytest.fail("it was opened")
        assert scope.cancelled_caught
