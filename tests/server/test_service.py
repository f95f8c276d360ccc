"""One connection of a server: which status each bad request gets, and what comes of what a handler does."""

from __future__ import annotations

import logging
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

import trio_ws
from trio_ws import (
    SAME_ORIGIN,
    ConnectionClosed,
    ConnectionClosedError,
    HTTPRequest,
    HTTPResponse,
    Limits,
    WebSocketError,
    WebSocketRequest,
    wrap_client_stream,
)
from trio_ws._net.stream_transport import StreamTransport
from trio_ws._server.server import _check_options
from trio_ws._server.service import Service
from trio_ws._transport import Transport
from trio_ws._util.nursery import BackgroundNursery

from ..raw import (
    CLOSE,
    ScriptedTransport,
    body,
    client_context,
    close_frame,
    field,
    fields,
    frame,
    frames,
    head,
    read_all,
    read_head,
    request,
    server_context,
    status,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from trio_ws._options import Origins
    from trio_ws._server.server import ServerKeywords

    Handler = Callable[[WebSocketRequest], Awaitable[object]]


async def accept(asked: WebSocketRequest) -> None:
    """Accept, and wait until the client closes."""
    async with asked.accept() as websocket:
        await websocket.wait_closed()


async def never(asked: WebSocketRequest) -> None:
    raise AssertionError("no request should have come so far")


async def serve(transport: Transport, handler: Handler) -> None:
    """Serve one connection in a nursery of its own."""
    service = Service(_check_options())
    async with BackgroundNursery() as service.nursery:
        await service.serve(transport, handler)


@asynccontextmanager
async def served(
    handler: Handler = accept, **options: object
) -> AsyncIterator[tuple[trio.abc.HalfCloseableStream, Service]]:
    """Serve one connection; gives the client's end."""
    keywords: ServerKeywords = options  # type: ignore[assignment]
    ours, theirs = memory_stream_pair()
    service = Service(_check_options(**keywords))
    async with trio.open_nursery() as nursery:
        service.nursery = nursery
        nursery.start_soon(service.serve, StreamTransport(theirs, nursery), handler)
        yield ours, service


async def answer_to(data: bytes, handler: Handler = never, **options: object) -> bytes:
    """Send some bytes and the end, and give all that comes back."""
    async with served(handler, **options) as (stream, _):
        await stream.send_all(data)
        await stream.send_eof()
        return await read_all(stream)


# Requests that are refused.

KEY = "Sec-WebSocket-Key: "
EXTENSIONS = "Sec-WebSocket-Extensions: "
PROTOCOL = "Sec-WebSocket-Protocol: "


@pytest.mark.parametrize(
    ("data", "refused"),
    [
        # No WebSocket is asked for.
        (request(without=["Upgrade"]), 426),
        (request("Upgrade: h2c"), 426),
        (request("Upgrade: websocketx"), 426),
        (request("Upgrade: web socket"), 426),
        (head("GET / HTTP/1.1", "Host: a"), 426),
        (head("GET / HTTP/1.0"), 426),
        (head("HEAD / HTTP/1.1", "Host: a"), 426),
        (head("POST / HTTP/1.1", "Host: a", "Content-Length: 4") + b"body", 405),
        (head("OPTIONS * HTTP/1.1", "Host: a"), 405),
        (head("CONNECT a:80 HTTP/1.1", "Host: a:80"), 405),
        # Method and version.
        (request(first="POST / HTTP/1.1"), 405),
        (request(first="HEAD / HTTP/1.1"), 405),
        (request(first="get / HTTP/1.1"), 405),
        (request(first="GET / HTTP/1.0"), 505),
        (request(first="GET / HTTP/2.0"), 505),
        (request(first="GET / HTTP/9.9"), 505),
        (request(first="GET / HTTP/1"), 400),
        (request(first="GET /"), 400),
        # Target.
        (request(first="GET * HTTP/1.1"), 400),
        (request(first="GET chat HTTP/1.1"), 400),
        (request(first="GET /#a HTTP/1.1"), 400),
        (request(first="GET http://other.example/ HTTP/1.1"), 400),
        (request(first="GET ftp://example.com/ HTTP/1.1"), 400),
        (request(first="GET /a b HTTP/1.1"), 400),
        # Host.
        (request(without=["Host"]), 400),
        (request("Host: a", "Host: a"), 400),
        (request("Host: "), 400),
        (request("Host: a b"), 400),
        (request("Host: a/b"), 400),
        (request("Host: user@a"), 400),
        (request("Host: a:99999"), 400),
        (request("Host: [::1"), 400),
        # Connection.
        (request(without=["Connection"]), 400),
        (request("Connection: keep-alive"), 400),
        (request("Connection: upgraded"), 400),
        # Version of WebSocket.
        (request(without=["Sec-WebSocket-Version"]), 400),
        (request("Sec-WebSocket-Version: 12"), 426),
        (request("Sec-WebSocket-Version: 8"), 426),
        (request("Sec-WebSocket-Version: 013"), 426),
        (request("Sec-WebSocket-Version: 13, 8"), 426),
        (request("Sec-WebSocket-Version: thirteen"), 426),
        (request("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"), 400),
        # Key.
        (request(without=["Sec-WebSocket-Key"]), 400),
        (request(KEY), 400),
        (request(KEY + "short"), 400),
        (request(KEY + "dGhlIHNhbXBsZSBub25jZQ="), 400),
        (request(KEY + "dGhlIHNhbXBsZSBub25jZQ==="), 400),
        (request(KEY + "dGhlIHNhbXBsZSBub25jZSE9"), 400),
        (request(KEY + "dGhl!HNhbXBsZSBub25jZQ=="), 400),
        (request(KEY + "dGhlIHNhbXBsZSBub25jZQ==", KEY + "dGhlIHNhbXBsZSBub25jZQ=="), 400),
        # Body.
        (request("Content-Length: 1"), 400),
        (request("Transfer-Encoding: chunked"), 400),
        (request("Transfer-Encoding: gzip"), 501),
        # Origin.
        (request("Origin: https://other.example"), 403),
        (request("Origin: https://example.com", "Origin: https://example.com"), 400),
        # Subprotocols and extensions.
        (request(PROTOCOL + "a, a"), 400),
        (request(PROTOCOL + "a b"), 400),
        (request(PROTOCOL + "\xe9"), 400),
        (request(PROTOCOL + ",".join(f"p{n}" for n in range(33))), 400),
        (request(EXTENSIONS + "permessage-deflate; ="), 400),
        (request(EXTENSIONS + 'permessage-deflate; a="b'), 400),
        (request(EXTENSIONS + "\xe9"), 400),
        (request(EXTENSIONS + ",".join(["permessage-deflate"] * 17)), 400),
        # Size.
        (request(first=f"GET /{'x' * 8192} HTTP/1.1"), 414),
        (request("X: " + "x" * 8192), 431),
        (request(*["X: y"] * 100), 431),
        (request(*["X: " + "y" * 5000] * 4), 431),
    ],
)
async def test_each_bad_request_gets_its_status(data: bytes, refused: int) -> None:
    heard = await answer_to(data)
    assert status(heard) == refused
    assert "close" in field(heard, "Connection")
    assert len(body(heard)) == (0 if data.startswith(b"HEAD") else int(field(heard, "Content-Length")))
    if body(heard):
        assert field(heard, "Content-Type") == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    "data",
    [
        request(),
        request("Upgrade: h2c, WebSocket"),
        request("Connection: keep-alive, UPGRADE"),
        request("Connection: keep-alive", "Connection: Upgrade"),
        request("Content-Length: 0"),
        request("Host: [::1]:80"),
        request("Host: under_score.example"),
        request("X:"),
        request("Expect: 100-continue"),
        request(first="GET http://example.com/chat HTTP/1.1"),
        request(first="GET //a HTTP/1.1"),
        request(PROTOCOL + "a,,b, "),
        request(EXTENSIONS + "permessage-deflate; server_max_window_bits=7"),
        request(EXTENSIONS + "unknown; a; b=c"),
        request(*["X: y"] * 90),
    ],
)
async def test_a_good_request_in_unusual_words_is_accepted(data: bytes) -> None:
    assert status(await answer_to(data, accept)) == 101


async def test_a_refusal_says_how_to_do_better() -> None:
    upgrade = await answer_to(head("GET / HTTP/1.1", "Host: a"))
    assert (field(upgrade, "Upgrade"), field(upgrade, "Connection")) == ("websocket", "Upgrade, close")
    version = await answer_to(request("Sec-WebSocket-Version: 12"))
    assert field(version, "Sec-WebSocket-Version") == "13"
    assert (field(version, "Upgrade"), field(version, "Connection")) == ("websocket", "Upgrade, close")
    method = await answer_to(head("PUT / HTTP/1.1", "Host: a"))
    assert field(method, "Allow") == "GET"


async def test_a_refusal_of_head_has_no_body() -> None:
    heard = await answer_to(head("HEAD / HTTP/1.1", "Host: a"))
    assert (status(heard), body(heard)) == (426, b"")
    assert int(field(heard, "Content-Length")) > 0


@pytest.mark.parametrize("data", [b"", b"G", request()[:-1]])
async def test_a_peer_that_leaves_before_its_request_is_whole_gets_nothing(data: bytes) -> None:
    assert await answer_to(data) == b""


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00", b"\x00" * 1000, b"SSH-2.0-x\r\n"])
async def test_what_is_no_http_is_400(data: bytes) -> None:
    async with served(never) as (stream, _):
        await stream.send_all(data + b"\r\n\r\n")
        assert status(await read_head(stream)) == 400
        await stream.send_eof()


# The Server header.


async def plainly(asked: HTTPRequest) -> HTTPResponse:
    return HTTPResponse(200, {"server": "mine"} if asked.path == "/mine" else {})


async def mine(asked: WebSocketRequest) -> None:
    headers = {"SERVER": "mine"} if asked.path == "/mine" else {}
    if asked.query == "no":
        await asked.reject(headers=headers)
        return
    async with asked.accept(headers=headers) as websocket:
        await websocket.wait_closed()


@pytest.mark.parametrize(
    "data",
    [
        request(),
        request(first="GET /?no HTTP/1.1"),
        request("Origin: https://other.example"),
        b"GET\r\n\r\n",
        head("GET / HTTP/1.1", "Host: a"),
    ],
)
async def test_every_answer_names_the_server_unless_it_is_not_to(data: bytes) -> None:
    def servers(heard: bytes) -> list[str]:
        return [value for name, value in fields(heard) if name.lower() == "server"]

    assert servers(await answer_to(data, mine, http_handler=plainly)) == [f"trio_ws/{trio_ws.__version__}"]
    assert servers(await answer_to(data, mine, http_handler=plainly, server_header="Chat/1")) == ["Chat/1"]
    assert servers(await answer_to(data, mine, http_handler=plainly, server_header=None)) == []
    own = data.replace(b"GET /", b"GET /mine", 1)
    if own != data and b"Origin" not in data:
        assert servers(await answer_to(own, mine, http_handler=plainly)) == ["mine"]


def test_a_wrong_server_header_is_told() -> None:
    for value, error in ((b"x", TypeError), ("", ValueError), ("a\nb", ValueError)):
        with pytest.raises(error, match=r"server_header must|the value of header 'Server'"):
            _check_options(server_header=value)  # type: ignore[arg-type]


# Origins.

ORIGINS: list[tuple[Origins | list[str | None], str | None, str, int]] = [
    (SAME_ORIGIN, None, "example.com", 101),
    (SAME_ORIGIN, "https://example.com", "example.com", 101),
    (SAME_ORIGIN, "http://example.com", "example.com", 101),
    (SAME_ORIGIN, "https://EXAMPLE.com", "example.com", 101),
    (SAME_ORIGIN, "http://example.com:80", "example.com", 101),
    (SAME_ORIGIN, "http://example.com:8080", "example.com:8080", 101),
    (SAME_ORIGIN, "http://[::1]:8080", "[::1]:8080", 101),
    (SAME_ORIGIN, "http://example.com:8080", "example.com", 403),
    (SAME_ORIGIN, "http://example.com", "example.com:8080", 403),
    (SAME_ORIGIN, "https://example.com.evil.example", "example.com", 403),
    (SAME_ORIGIN, "https://evil.example", "example.com", 403),
    (SAME_ORIGIN, "https://sub.example.com", "example.com", 403),
    (SAME_ORIGIN, "null", "example.com", 403),
    (SAME_ORIGIN, "", "example.com", 403),
    (SAME_ORIGIN, "example.com", "example.com", 403),
    (SAME_ORIGIN, "https://example.com/", "example.com", 403),
    (SAME_ORIGIN, "https://a@example.com", "example.com", 403),
    (None, "https://evil.example", "example.com", 101),
    (None, "null", "example.com", 101),
    (["https://good.example"], "https://good.example", "example.com", 101),
    (["https://good.example"], "https://good.example:443", "example.com", 101),
    (["https://good.example"], "http://good.example", "example.com", 403),
    (["https://good.example"], "https://good.example.evil", "example.com", 403),
    (["https://good.example"], "https://example.com", "example.com", 403),
    (["https://good.example"], None, "example.com", 403),
    (["https://good.example", None], None, "example.com", 101),
    (["null"], "null", "example.com", 101),
    ([], "https://example.com", "example.com", 403),
]


@pytest.mark.parametrize(("origins", "origin", "host", "answered"), ORIGINS)
async def test_only_the_origins_that_are_wanted_are_taken(
    origins: Origins | Iterable[str | None], origin: str | None, host: str, answered: int
) -> None:
    lines = [f"Host: {host}"] + ([] if origin is None else [f"Origin: {origin}"])
    assert status(await answer_to(request(*lines), accept, origins=origins)) == answered


# Time.


async def test_a_request_that_does_not_come_is_408(autojump_clock: trio.testing.MockClock) -> None:
    async with served(never, connect_timeout=7) as (stream, _):
        begin = trio.current_time()
        await stream.send_all(b"GET / HTTP/1.1\r\n")
        assert status(await read_head(stream)) == 408
        assert trio.current_time() - begin == 7
        await stream.send_eof()


async def test_a_request_that_comes_a_byte_a_second_is_408(autojump_clock: trio.testing.MockClock) -> None:
    async with served(never) as (stream, _):
        begin = trio.current_time()

        async def dribble() -> None:
            for number in range(12):
                await stream.send_all(request()[number : number + 1])
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dribble)
            assert status(await read_head(stream)) == 408
            assert trio.current_time() - begin == 10
        await stream.send_eof()


@pytest.mark.parametrize("data", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"])
async def test_a_tls_handshake_that_does_not_come_ends_the_connection(
    data: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with served(never, ssl_context=server_context()) as (stream, _):
        begin = trio.current_time()
        await stream.send_all(data)
        assert await read_all(stream) == b""
        assert trio.current_time() - begin == 10


async def test_the_time_for_tls_and_the_request_is_one(autojump_clock: trio.testing.MockClock) -> None:
    async with served(never, ssl_context=server_context()) as (stream, _):
        begin = trio.current_time()
        await trio.sleep(6)
        tls = trio.SSLStream(stream, client_context(), server_hostname="localhost", https_compatible=True)
        await tls.send_all(b"GET")
        assert status(await read_head(tls)) == 408
        assert trio.current_time() - begin == 10
        await tls.aclose()


async def test_a_handler_has_all_the_time_it_wants(autojump_clock: trio.testing.MockClock) -> None:
    async def slow(asked: WebSocketRequest) -> None:
        await trio.sleep(100)
        await accept(asked)

    assert status(await answer_to(request(), slow)) == 101


# TLS.


async def test_a_websocket_over_tls_is_served() -> None:
    async with served(ssl_context=server_context()) as (stream, _), trio.open_nursery() as nursery:
        websocket = await wrap_client_stream(nursery, stream, "wss://localhost/", ssl_context=client_context())
        await websocket.aclose()


@pytest.mark.parametrize("data", [request(), b"\0" * 100, b"\x16\x03\x01\x00\x05hello", b"\x80\x2e\x01\x00\x02"])
async def test_what_is_no_tls_gets_no_http(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "trio_ws")
    heard = await answer_to(data, ssl_context=server_context())
    assert b"HTTP" not in heard
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert "no TLS with None" in caplog.text


async def test_a_stream_that_breaks_during_the_tls_handshake_raises_nothing() -> None:
    async with served(never, ssl_context=server_context()) as (stream, _):
        hello = ssl.MemoryBIO()
        tls = client_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        await stream.send_all(hello.read())
        await stream.aclose()  # so that sending the server's answer raises BrokenResourceError


async def test_a_client_that_does_not_trust_us_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with served(never, ssl_context=server_context()) as (stream, _), trio.open_nursery() as nursery:
        with pytest.raises(ssl.SSLCertVerificationError):
            await wrap_client_stream(
                nursery, stream, "wss://localhost/", ssl_context=ssl.create_default_context(), connect_timeout=1
            )
    assert caplog.records == []


# Plain HTTP.


async def describe(asked: HTTPRequest) -> HTTPResponse:
    text = f"{asked.method} {asked.target} {asked.http_version} {asked.headers.get('X')} {asked.remote_address}"
    return HTTPResponse(201, {"X": "y"}, text.encode())


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (head("GET /a?b HTTP/1.1", "Host: a", "X: z"), b"GET /a?b 1.1 z None"),
        (head("POST / HTTP/1.1", "Host: a", "Content-Length: 4") + b"body", b"POST / 1.1 None None"),
        (head("HEAD / HTTP/1.1", "Host: a"), b""),
        (head("GET / HTTP/1.0"), b"GET / 1.0 None None"),
    ],
)
async def test_an_http_handler_answers_what_asks_for_no_websocket(data: bytes, content: bytes) -> None:
    heard = await answer_to(data, http_handler=describe)
    assert (status(heard), field(heard, "X"), body(heard)) == (201, "y", content)
    assert field(heard, "Connection") == "close"
    assert int(field(heard, "Content-Length")) >= len(content)


async def test_an_http_handler_has_no_say_about_websockets() -> None:
    assert status(await answer_to(request(), accept, http_handler=describe)) == 101
    assert status(await answer_to(request(KEY + "bad"), http_handler=describe)) == 400


async def fail(asked: HTTPRequest) -> HTTPResponse:
    raise ValueError("mine")


async def give_nothing(asked: HTTPRequest) -> None:
    return None


async def give_text(asked: HTTPRequest) -> str:
    return "text"


def give_at_once(asked: HTTPRequest) -> HTTPResponse:
    return HTTPResponse()


@pytest.mark.parametrize("http_handler", [fail, give_nothing, give_text, give_at_once])
async def test_an_http_handler_that_fails_is_500_and_logged(
    http_handler: object, caplog: pytest.LogCaptureFixture
) -> None:
    heard = await answer_to(head("GET /secret HTTP/1.1", "Host: a"), http_handler=http_handler)
    assert (status(heard), body(heard)) == (500, b"Internal server error.")
    assert [(record.name, record.levelname) for record in caplog.records] == [("trio_ws.server", "ERROR")]
    assert "http_handler failed on '/secret'" in caplog.text


async def test_a_peer_that_does_not_take_its_plain_answer_is_left(autojump_clock: trio.testing.MockClock) -> None:
    async def serve_much(asked: HTTPRequest) -> HTTPResponse:
        return HTTPResponse(200, (), b"x" * 10**7)

    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        service = Service(_check_options(http_handler=serve_much, limits=Limits(close_linger=3)))
        service.nursery = nursery
        begin = trio.current_time()
        nursery.start_soon(service.serve, StreamTransport(theirs, nursery), never)
        await ours.send_all(head("GET / HTTP/1.1", "Host: a"))
    assert trio.current_time() - begin == 3


# What a handler does.


async def return_at_once(asked: WebSocketRequest) -> None:
    pass


async def accept_without_a_block(asked: WebSocketRequest) -> None:
    asked.accept()


async def raise_at_once(asked: WebSocketRequest) -> None:
    raise ValueError("mine")


async def use_a_closed_connection(asked: WebSocketRequest) -> None:
    raise ConnectionClosedError(None, None)


async def use_many_closed_connections(asked: WebSocketRequest) -> None:
    raise ExceptionGroup(
        "many", [ConnectionClosedError(None, None), ExceptionGroup("", [ConnectionClosed(None, None)])]
    )


def return_nothing(asked: WebSocketRequest) -> None:
    pass


@pytest.mark.parametrize(
    ("handler", "logged"),
    [
        (return_at_once, "handler returned without an answer to <WebSocketRequest ws://example.com/ from None>"),
        (
            accept_without_a_block,
            "handler called accept() without `async with request.accept() as ws:` "
            "on <WebSocketRequest ws://example.com/ from None>",
        ),
        (raise_at_once, "handler failed on <WebSocketRequest ws://example.com/ from None>"),
        (return_nothing, "handler failed on <WebSocketRequest ws://example.com/ from None>"),
    ],
)
async def test_a_handler_that_gives_no_answer_is_500_and_logged(
    handler: Handler, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard = await answer_to(request(), handler)
    assert (status(heard), body(heard)) == (500, b"Internal server error.")
    assert field(heard, "Content-Type") == "text/plain; charset=utf-8"
    assert [(record.name, record.levelname, record.message) for record in caplog.records] == [
        ("trio_ws.server", "ERROR", logged)
    ]


@pytest.mark.parametrize("handler", [use_a_closed_connection, use_many_closed_connections])
async def test_a_handler_that_used_a_closed_connection_is_500(handler: Handler) -> None:
    assert status(await answer_to(request(), handler)) == 500


@pytest.mark.parametrize(
    "error",
    [
        ValueError("mine"),
        ExceptionGroup("", [ValueError("mine"), ConnectionClosedError(None, None)]),
        ExceptionGroup("", [ValueError("mine"), WebSocketError(4001)]),
    ],
    ids=["one", "group", "group with a code"],
)
async def test_a_handler_that_raises_after_it_accepted_closes_with_1011_and_is_logged(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(asked: WebSocketRequest) -> None:
        async with asked.accept():
            raise error

    heard = await answer_to(request() + close_frame(1011, masked=True), handler)
    assert status(heard) == 101
    assert frames(body(heard)) == [(CLOSE, (1011).to_bytes(2, "big"))]
    assert [(record.name, record.levelname) for record in caplog.records] == [("trio_ws.server", "ERROR")]
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[1] is error


async def raise_a_code(asked: WebSocketRequest) -> None:
    async with asked.accept():
        raise WebSocketError(4001, "bye")


async def raise_a_code_around(asked: WebSocketRequest) -> None:
    async with trio.open_nursery():
        await raise_a_code(asked)


@pytest.mark.parametrize("handler", [raise_a_code, raise_a_code_around])
async def test_a_handler_that_closes_with_a_code_is_no_failure(
    handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "trio_ws")
    heard = await answer_to(request() + close_frame(4001, masked=True), handler)
    assert frames(body(heard)) == [(CLOSE, (4001).to_bytes(2, "big") + b"bye")]
    of_server = [record for record in caplog.records if record.name == "trio_ws.server"]
    assert [(record.levelname, record.exc_info) for record in of_server] == [("DEBUG", None)]


async def test_a_code_that_is_raised_before_there_is_something_to_close_is_500_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(asked: WebSocketRequest) -> None:
        raise WebSocketError(4001, "bye")

    assert status(await answer_to(request(), handler)) == 500
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def receive(asked: WebSocketRequest) -> None:
    async with asked.accept() as websocket:
        while True:
            await websocket.receive()


async def receive_in_a_nursery(asked: WebSocketRequest) -> None:
    async with asked.accept() as websocket, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(websocket.receive)


@pytest.mark.parametrize("handler", [receive, receive_in_a_nursery])
@pytest.mark.parametrize("goodbye", [b"", close_frame(1000, masked=True), close_frame(4000, masked=True)])
async def test_a_connection_that_ended_is_no_error_of_the_handlers(
    handler: Handler, goodbye: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "trio_ws")
    assert status(await answer_to(request() + goodbye, handler)) == 101
    assert {record.levelname for record in caplog.records} == {"DEBUG"}


async def test_a_handler_that_returns_within_its_block_closes_with_1000(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(asked: WebSocketRequest) -> None:
        async with asked.accept():
            pass

    heard = await answer_to(request() + close_frame(1000, masked=True), handler)
    assert frames(body(heard)) == [(CLOSE, (1000).to_bytes(2, "big"))]
    assert caplog.records == []


async def test_a_handler_that_raises_after_its_block_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(asked: WebSocketRequest) -> None:
        await accept(asked)
        raise ValueError("afterwards")

    heard = await answer_to(request() + close_frame(1000, masked=True), handler)
    assert frames(body(heard)) == [(CLOSE, (1000).to_bytes(2, "big"))]
    assert "afterwards" in caplog.text


async def test_a_handler_that_rejects_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(asked: WebSocketRequest) -> None:
        await asked.reject(404)

    assert status(await answer_to(request(), handler)) == 404
    assert caplog.records == []


async def test_a_handler_that_fails_on_bad_arguments_has_not_answered(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(asked: WebSocketRequest) -> None:
        async with asked.accept("unknown"):
            raise AssertionError("it was not offered")

    assert status(await answer_to(request(), handler)) == 500
    assert "protocol 'unknown'" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_what_is_no_exception_comes_through_and_closes_the_connection(error: type[BaseException]) -> None:
    async def handler(asked: WebSocketRequest) -> None:
        raise error

    transport = ScriptedTransport([request()])
    with pytest.raises(error):
        await serve(transport, handler)
    assert transport.aborted
    assert transport.written == b""


async def test_ctrl_c_beside_an_error_comes_through_and_the_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def press_ctrl_c(asked: WebSocketRequest) -> None:
        raise BaseExceptionGroup("", [KeyboardInterrupt()])

    async def press_ctrl_c_and_fail(asked: WebSocketRequest) -> None:
        raise BaseExceptionGroup("", [KeyboardInterrupt(), ValueError("mine")])

    for handler in (press_ctrl_c, press_ctrl_c_and_fail):
        with pytest.RaisesGroup(KeyboardInterrupt):
            await serve(ScriptedTransport([request()]), handler)
    assert [record.message for record in caplog.records] == [
        "handler failed on <WebSocketRequest ws://example.com/ from ('127.0.0.1', 4711)>"
    ]


async def test_an_error_beside_a_cancellation_is_logged_and_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    async def raise_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while it was cancelled")

    async def handler(asked: WebSocketRequest) -> None:
        async with asked.accept(), trio.open_nursery() as nursery:
            nursery.start_soon(raise_when_cancelled)
            await trio.sleep_forever()

    transport = ScriptedTransport([request()], endless=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, transport, handler)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert transport.aborted
    assert "while it was cancelled" in caplog.text


async def test_a_served_connection_that_is_cancelled_is_closed() -> None:
    for data in (b"GET /", request()):
        transport = ScriptedTransport([data], endless=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, transport, accept)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert transport.aborted


async def test_the_open_websockets_are_known() -> None:
    async with served() as (stream, service):
        await stream.send_all(request())
        await read_head(stream)
        assert len(service.websockets) == 1
        await stream.send_all(close_frame(1000, masked=True))
        await stream.send_eof()
        await read_all(stream)
        await wait_all_tasks_blocked()
        assert len(service.websockets) == 0


@pytest.mark.parametrize("data", [b"", b"GET / HT", b"no HTTP\r\n\r\n", request() + close_frame(1000, masked=True)])
async def test_nothing_is_kept_of_a_connection_that_has_ended(data: bytes) -> None:
    async with served() as (stream, service):
        await stream.send_all(data)
        await stream.send_eof()
        await read_all(stream)
    assert not service._opening
    assert not service.websockets


# Closing.


async def test_a_request_that_is_coming_when_the_server_closes_is_503() -> None:
    async with served(never) as (stream, service):
        await stream.send_all(b"GET / HT")
        await wait_all_tasks_blocked()
        service.refuse_new()
        heard = await read_head(stream)
        await stream.send_eof()
    assert status(heard) == 503
    assert field(heard, "Connection") == "close"


async def test_a_connection_that_has_brought_nothing_is_closed_without_a_word(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with served(never) as (stream, service):
        await wait_all_tasks_blocked()
        service.refuse_new()
        assert await read_all(stream) == b""
    async with served(never) as (stream, _):
        await wait_all_tasks_blocked()
        mock_clock.jump(10)
        assert await read_all(stream) == b""
    async with served(never, ssl_context=server_context()) as (stream, service):
        tls = trio.SSLStream(stream, client_context(), server_hostname="localhost")
        await tls.do_handshake()
        await wait_all_tasks_blocked()
        service.refuse_new()
        assert await tls.receive_some() == b"", "TLS ends as it should, and nothing else is said"


async def test_a_request_that_comes_after_the_server_closed_is_503() -> None:
    async with served(never) as (stream, service):
        service.refuse_new()
        await stream.send_all(request())
        await stream.send_eof()
        assert status(await read_all(stream)) == 503


async def test_a_request_that_comes_as_the_server_closes_is_503() -> None:
    async with served(never) as (stream, service):
        await wait_all_tasks_blocked()
        await stream.send_all(request())
        service.refuse_new()
        await stream.send_eof()
        assert status(await read_all(stream)) == 503


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01"])
async def test_a_tls_handshake_ends_when_the_server_closes(sent: bytes) -> None:
    async with served(never, ssl_context=server_context()) as (stream, service):
        await stream.send_all(sent)
        await wait_all_tasks_blocked()
        service.refuse_new()
        assert await read_all(stream) == b""


# Logs.


async def test_a_refusal_is_logged_for_those_who_look_and_shortly(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "trio_ws")
    await answer_to(request(first="GET /a\x1b[2J\r\nX HTTP/1.1"))
    await answer_to(request("X" * 8000))
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG"]
    for record in caplog.records:
        assert record.message.startswith("refused None with '400 ")
        assert record.message.isprintable()
        assert len(record.message) < 350


async def test_what_a_peer_sent_is_cut_in_logs(caplog: pytest.LogCaptureFixture) -> None:
    await answer_to(request(first=f"GET /{'x' * 8000} HTTP/1.1"), return_at_once)
    await answer_to(request(first=f"GET /{'x' * 8000} HTTP/1.1"), raise_at_once)
    await answer_to(head(f"GET /{'x' * 8000} HTTP/1.1", "Host: a"), http_handler=fail)
    assert len(caplog.records) == 3
    for record in caplog.records:
        assert len(record.message) < 350


async def test_frames_in_the_segment_of_the_request_reach_the_handler() -> None:
    received: list[str | bytes] = []

    async def handler(asked: WebSocketRequest) -> None:
        async with asked.accept() as websocket:
            received.append(await websocket.receive())
            await websocket.wait_closed()

    data = request() + frame(1, b"hello", masked=True) + close_frame(1000, masked=True)
    assert frames(body(await answer_to(data, handler))) == [(CLOSE, (1000).to_bytes(2, "big"))]
    assert received == ["hello"]
