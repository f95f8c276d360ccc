"""What a handler gets: a request that is answered once, by a WebSocket or by an HTTP answer; and plain HTTP."""

from __future__ import annotations

import dataclasses
import socket
import weakref
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import assert_checkpoints, memory_stream_pair, wait_all_tasks_blocked

from trio_ws import (
    Headers,
    HTTPRequest,
    HTTPResponse,
    Limits,
    WebSocket,
    WebSocketError,
    WebSocketRequest,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws._net.socket_transport import SocketTransport
from trio_ws._server.request import check_answer
from trio_ws._server.server import _check_options
from trio_ws._server.service import Service

from ..raw import (
    CLOSE,
    TEXT,
    as_stream,
    body,
    client_context,
    close_frame,
    field,
    fields,
    frame,
    frames,
    head,
    read_all,
    read_frame,
    read_head,
    request,
    server_context,
    status,
    tcp_pair,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trio_ws._server.server import ServerKeywords

OFFERS = request("Sec-WebSocket-Protocol: a, b")


@asynccontextmanager
async def asking(
    data: bytes = OFFERS, **options: object
) -> AsyncIterator[tuple[trio.abc.HalfCloseableStream, WebSocketRequest]]:
    """Ask a server over a stream; gives the client's end, and the request."""
    keywords: ServerKeywords = options  # type: ignore[assignment]
    ours, theirs = memory_stream_pair()
    await ours.send_all(data)
    async with trio.open_nursery() as nursery:
        yield ours, await wrap_server_stream(nursery, theirs, **keywords)
        nursery.cancel_scope.cancel()


# What is known of a request.


async def test_a_request_tells_what_was_asked() -> None:
    data = request(
        "Host: Example.com:8080",
        "Origin: https://example.com:8080",
        "Sec-WebSocket-Protocol: b",
        "Sec-WebSocket-Protocol: a , c",
        first="GET /a%20b?c=d?e HTTP/1.1",
    )
    async with asking(data) as (_, asked):
        assert asked.url == "ws://Example.com:8080/a%20b?c=d?e"
        assert (asked.target, asked.path, asked.query) == ("/a%20b?c=d?e", "/a%20b", "c=d?e")
        assert (asked.host, asked.origin) == ("Example.com:8080", "https://example.com:8080")
        assert asked.protocols == ("b", "a", "c")
        assert asked.http_version == "1.1"
        assert asked.headers["sec-websocket-version"] == "13"
        assert (asked.remote_address, asked.local_address) == (None, None)
        assert not asked.answered
        assert repr(asked) == "<WebSocketRequest ws://Example.com:8080/a%20b?c=d?e from None>"


async def test_a_request_without_the_optional_parts() -> None:
    async with asking(request()) as (_, asked):
        assert (asked.origin, asked.protocols, asked.query) == (None, (), "")


async def serve_over_tcp(handler: Callable[[WebSocketRequest], Awaitable[object]]) -> tuple[object, object]:
    """Serve one request of a client that ends its side of TCP with it; give the client's and the server's address."""
    ours, theirs = tcp_pair()
    addresses = ours.getsockname(), theirs.getsockname()
    ours.sendall(OFFERS)
    ours.shutdown(socket.SHUT_WR)
    async with trio.open_nursery() as nursery:
        service = Service(_check_options())
        service.nursery = nursery
        nursery.start_soon(service.serve, SocketTransport(theirs), handler)
        await read_all(as_stream(ours))
    ours.close()
    return addresses


async def test_a_request_over_tcp_has_addresses() -> None:
    seen: list[tuple[object, object]] = []

    async def handler(asked: WebSocketRequest) -> None:
        seen.append((asked.remote_address, asked.local_address))
        assert asked.ssl_object is None
        await asked.reject()

    assert [await serve_over_tcp(handler)] == seen


async def test_a_request_over_tls_is_for_wss() -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:

        async def accept() -> None:
            asked = await wrap_server_stream(nursery, theirs, ssl_context=server_context())
            assert asked.url == "wss://localhost/"
            assert asked.ssl_object is not None
            async with asked.accept() as websocket:
                await websocket.wait_closed()

        nursery.start_soon(accept)
        websocket = await wrap_client_stream(nursery, ours, "wss://localhost/", ssl_context=client_context())
        await websocket.aclose()


# Accepting.


async def test_a_request_is_accepted_for_as_long_as_the_block_lasts() -> None:
    async with asking() as (ours, asked):
        async with asked.accept() as websocket:
            assert asked.answered
            assert status(await read_head(ours)) == 101
            await ours.send_all(frame(TEXT, b"hello", masked=True))
            assert await websocket.receive() == "hello"
            assert websocket.url == asked.url
            assert websocket.request_headers is asked.headers
            await ours.send_all(close_frame(1000, masked=True))
            await ours.send_eof()
        assert frames(await read_all(ours)) == [(CLOSE, (1000).to_bytes(2, "big"))]
        assert websocket.close_info is not None
        assert (websocket.close_info.code, websocket.close_info.was_clean) == (1000, True)


async def test_frames_that_came_with_the_request_are_received() -> None:
    data = OFFERS + frame(TEXT, b"first", masked=True) + frame(TEXT, b"second", masked=True)
    async with asking(data) as (_, asked), asked.accept() as websocket:
        assert await websocket.receive() == "first"
        assert await websocket.receive() == "second"
        end_at_once(websocket)


def end_at_once(websocket: WebSocket) -> None:
    """End a connection without a peer that answers the Close."""
    websocket._connection.abandon()


@pytest.mark.parametrize(
    ("protocol", "served", "chosen"),
    [
        (None, (), ""),
        (None, ("b", "a"), "b"),
        (None, ("x", "a"), "a"),
        (None, ("x",), ""),
        (None, "a", "a"),
        ("b", (), "b"),
        ("b", ("a",), "b"),
    ],
)
async def test_the_protocol_is_the_one_given_or_the_first_served_that_is_offered(
    protocol: str | None, served: str | tuple[str, ...], chosen: str
) -> None:
    async with asking(protocols=served) as (ours, asked), asked.accept(protocol) as websocket:
        answered = await read_head(ours)
        assert field(answered, "Sec-WebSocket-Protocol") == chosen
        assert websocket.protocol == (chosen or None)
        end_at_once(websocket)


async def test_headers_are_added_to_the_answer() -> None:
    pairs = [("Set-Cookie", "a"), ("Set-Cookie", "b")]
    async with asking() as (ours, asked), asked.accept(headers=iter(pairs)) as websocket:
        assert [pair for pair in fields(await read_head(ours)) if pair[0] == "Set-Cookie"] == pairs
        assert websocket.response_headers.get_all("set-cookie") == ["a", "b"]
        end_at_once(websocket)


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (ValueError, "protocol 'c'", {"protocol": "c"}),
        (ValueError, "protocol 'A'", {"protocol": "A"}),
        (ValueError, "protocol 5", {"protocol": 5}),
        (ValueError, "'X'", {"headers": {"X": "a\r\nY: b"}}),
        (ValueError, "Upgrade", {"headers": {"Upgrade": "a"}}),
        (ValueError, "Sec-WebSocket-Accept", {"headers": {"Sec-WebSocket-Accept": "a"}}),
        (TypeError, "headers", {"headers": 5}),
    ],
)
async def test_what_cannot_be_accepted_so_is_not_answered(
    error: type[Exception], match: str, arguments: dict[str, object]
) -> None:
    async with asking() as (ours, asked):
        with pytest.raises(error, match=match):
            async with asked.accept(**arguments):  # type: ignore[arg-type]
                raise AssertionError("it was not accepted")
        assert not asked.answered
        async with asked.accept() as websocket:
            assert status(await read_head(ours)) == 101
            end_at_once(websocket)


async def test_accepting_is_a_checkpoint_and_cancelled_it_answers_nothing() -> None:
    async with asking() as (ours, asked):
        with trio.CancelScope() as scope:
            scope.cancel()
            async with asked.accept():
                raise AssertionError("it was cancelled")
        assert scope.cancelled_caught
        assert not asked.answered
        manager = asked.accept()
        with assert_checkpoints():
            websocket = await manager.__aenter__()
        assert status(await read_head(ours)) == 101
        end_at_once(websocket)
        await manager.__aexit__(None, None, None)


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        (ValueError("mine"), (1011).to_bytes(2, "big")),
        (WebSocketError(4001, "bad move"), (4001).to_bytes(2, "big") + b"bad move"),
    ],
)
async def test_what_a_block_raises_comes_out_and_decides_the_close_code(error: Exception, sent: bytes) -> None:
    async with asking() as (ours, asked):

        async def talk() -> None:
            heard.append(await read_frame(ours))
            await ours.send_all(frame(CLOSE, sent, masked=True))
            await ours.send_eof()

        heard: list[tuple[int, bytes]] = []
        async with trio.open_nursery() as nursery:
            with pytest.raises(type(error)) as caught:
                async with asked.accept():
                    await read_head(ours)
                    nursery.start_soon(talk)
                    raise error
        assert caught.value is error
        assert heard == [(CLOSE, sent)]


async def test_a_cancelled_block_says_goodbye_without_waiting() -> None:
    async with asking() as (ours, asked):
        with trio.CancelScope() as scope:
            async with asked.accept() as websocket:
                await read_head(ours)
                scope.cancel()
                await websocket.receive()
        assert scope.cancelled_caught
        assert frames(await read_all(ours)) == [(CLOSE, (1001).to_bytes(2, "big"))]


async def test_the_open_websockets_are_those_whose_block_lasts() -> None:
    async with asking() as (_, asked):
        accepted = asked._accepted
        async with asked.accept() as websocket:
            assert accepted == {websocket}
            end_at_once(websocket)
        assert accepted == set()


# Rejecting.


async def test_a_rejection_is_sent_and_ends_the_connection() -> None:
    async with asking() as (ours, asked):
        await ours.send_eof()
        with assert_checkpoints():
            await asked.reject(404, {"X": "y"}, b"nothing here")
        assert asked.answered
        heard = await read_all(ours)
    assert (status(heard), field(heard, "X"), body(heard)) == (404, "y", b"nothing here")
    assert field(heard, "Connection") == "close"
    assert field(heard, "Content-Length") == "12"


async def test_a_rejection_is_403_by_default() -> None:
    async with asking() as (ours, asked):
        await ours.send_eof()
        await asked.reject()
        heard = await read_all(ours)
    date, server = (f"{name}: {field(heard, name)}" for name in ("Date", "Server"))
    assert heard == head("HTTP/1.1 403 Forbidden", "Content-Length: 0", "Connection: close", date, server)


async def test_rejecting_a_client_that_has_left_is_a_checkpoint() -> None:
    async def handler(asked: WebSocketRequest) -> None:
        with assert_checkpoints():
            await asked.reject()
        rejected.append(asked)

    rejected: list[WebSocketRequest] = []
    await serve_over_tcp(handler)
    assert len(rejected) == 1


async def test_a_rejection_that_is_cancelled_ends_the_connection() -> None:
    async with asking() as (ours, asked):
        with trio.CancelScope() as scope:
            scope.cancel()
            await asked.reject()
        assert scope.cancelled_caught
        await read_all(ours)


async def test_a_client_that_stays_is_left_after_close_linger(autojump_clock: trio.testing.MockClock) -> None:
    async with asking(limits=Limits(close_linger=3)) as (ours, asked):
        begin = trio.current_time()
        await asked.reject()
        assert trio.current_time() - begin == 3
        assert status(await read_all(ours)) == 403


WRONG_ANSWERS: list[tuple[type[Exception], str, tuple[object, object, object]]] = [
    (TypeError, "status must be an int", ("403", (), b"")),
    (TypeError, "status must be an int", (True, (), b"")),
    (ValueError, "status 199", (199, (), b"")),
    (ValueError, "status 101", (101, (), b"")),
    (ValueError, "status 600", (600, (), b"")),
    (TypeError, "body must be bytes, not str", (403, (), "no")),
    (ValueError, "'X'", (403, {"X": "a\r\nY: b"}, b"")),
    (ValueError, "Content-Length", (403, {"Content-Length": "5"}, b"")),
    (TypeError, "headers", (403, 5, b"")),
    (ValueError, "body must be empty", (204, (), b"no")),
    (ValueError, "body must be empty", (304, (), b"no")),
]


@pytest.mark.parametrize(("error", "match", "arguments"), WRONG_ANSWERS)
async def test_a_rejection_is_checked_before_anything_is_sent(
    error: type[Exception], match: str, arguments: tuple[int, list[tuple[str, str]], bytes]
) -> None:
    async with asking() as (ours, asked):
        with pytest.raises(error, match=match):
            await asked.reject(*arguments)
        assert not asked.answered
        await ours.send_eof()
        await asked.reject(401)
        assert status(await read_all(ours)) == 401


async def test_a_request_is_answered_once() -> None:
    async with asking() as (ours, asked):
        await ours.send_eof()
        await asked.reject()
        with pytest.raises(RuntimeError, match="answered before"):
            await asked.reject()
        with pytest.raises(RuntimeError, match="answered before"):
            async with asked.accept():
                raise AssertionError("it was rejected")
        assert (await read_all(ours)).count(b"HTTP/1.1") == 1
    async with asking() as (ours, asked):
        async with asked.accept() as websocket:
            assert status(await read_head(ours)) == 101
            with pytest.raises(RuntimeError, match="answered before"):
                await asked.reject()
            with pytest.raises(RuntimeError, match="answered before"):
                async with asked.accept():
                    raise AssertionError("it was accepted")
            end_at_once(websocket)
        with pytest.raises(RuntimeError, match="answered before"):
            await asked.reject()
        assert b"HTTP/1.1" not in await read_all(ours)


async def test_two_tasks_that_accept_at_once_do_it_once() -> None:
    outcomes: list[str] = []
    async with asking() as (ours, asked):

        async def accept() -> None:
            try:
                async with asked.accept() as websocket:
                    outcomes.append("accepted")
                    await wait_all_tasks_blocked()
                    end_at_once(websocket)
            except RuntimeError:
                outcomes.append("refused")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            nursery.start_soon(accept)
        assert sorted(outcomes) == ["accepted", "refused"]
        assert (await read_all(ours)).count(b"HTTP/1.1") == 1


async def test_a_request_that_is_dropped_closes_its_connection() -> None:
    ours, theirs = memory_stream_pair()
    await ours.send_all(OFFERS)
    async with trio.open_nursery() as nursery:
        await wrap_server_stream(nursery, theirs)
        nursery.cancel_scope.cancel()
    assert await read_all(ours) == b""


async def test_a_request_that_was_answered_is_not_dropped() -> None:
    ours, theirs = memory_stream_pair()
    await ours.send_all(OFFERS)
    async with trio.open_nursery() as nursery:
        asked = await wrap_server_stream(nursery, theirs)
        async with asked.accept() as websocket:
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                assert status(await read_head(ours)) == 101
                await ours.send_all(frame(TEXT, b"hello", masked=True))
                assert await websocket.receive() == "hello"


# Plain HTTP.


def test_a_plain_request_is_data() -> None:
    plain = HTTPRequest(method="GET", target="/", headers=Headers(), http_version="1.1", remote_address=None)
    assert plain == HTTPRequest(method="GET", target="/", headers=Headers(), http_version="1.1", remote_address=None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plain.method = "POST"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("target", "path", "query", "host", "url"),
    [
        ("/", "/", "", "a:1", "http://a:1/"),
        ("/p%20q/?x=/?y", "/p%20q/", "x=/?y", "a:1", "http://a:1/p%20q/?x=/?y"),
        ("//b/c?", "//b/c", "", "a:1", "http://a:1//b/c?"),
        ("/http://b/", "/http://b/", "", "a:1", "http://a:1/http://b/"),
        ("http://b:2/p?q", "/p", "q", "b:2", "http://b:2/p?q"),
        ("HTTPS://b?q/", "/", "q/", "b", "http://b/?q/"),
        ("http://b", "/", "", "b", "http://b/"),
        ("*", "*", "", "a:1", "http://a:1"),
    ],
)
def test_a_plain_request_tells_what_it_is_for(target: str, path: str, query: str, host: str, url: str) -> None:
    headers = Headers({"Host": "a:1"})
    plain = HTTPRequest(method="GET", target=target, headers=headers, http_version="1.1", remote_address=None)
    assert (plain.path, plain.query, plain.host, plain.url) == (path, query, host, url)
    assert plain.ssl_object is None
    old = HTTPRequest(
        method="GET", target="/a", headers=Headers(), http_version="1.0", remote_address=None, scheme="https"
    )
    assert (old.host, old.url) == ("", "https:///a")


async def test_a_request_can_be_referred_to_weakly() -> None:
    async with asking() as (_, asked):
        kept = weakref.WeakKeyDictionary({asked: "kept"})
        assert kept[asked] == "kept"
        async with asked.accept_stream() as stream:
            assert weakref.ref(stream.readable)() is stream.readable
            assert weakref.ref(stream.writable)() is stream.writable
    plain = HTTPRequest(method="GET", target="/", headers=Headers(), http_version="1.1", remote_address=None)
    assert weakref.ref(plain)() is plain


def test_a_response_has_defaults_and_cannot_be_changed() -> None:
    response = HTTPResponse()
    assert (response.status, list(response.headers), response.body) == (200, [], b"")
    with pytest.raises(dataclasses.FrozenInstanceError):
        response.status = 404  # type: ignore[misc]


@pytest.mark.parametrize(("error", "match", "arguments"), WRONG_ANSWERS)
def test_a_response_is_checked(
    error: type[Exception], match: str, arguments: tuple[int, list[tuple[str, str]], bytes]
) -> None:
    with pytest.raises(error, match=match):
        HTTPResponse(*arguments)


def test_a_response_keeps_headers_from_an_iterator() -> None:
    response = HTTPResponse(200, iter([("X", "y"), ("X", "z")]))
    for _ in range(2):
        assert check_answer(response.status, response.headers, response.body) == [("X", "y"), ("X", "z")]


@pytest.mark.parametrize("number", [200, 599, HTTPStatus.NOT_FOUND])
def test_an_answer_gives_its_headers_as_pairs(number: int) -> None:
    assert check_answer(number, {"X": "y"}, b"body") == [("X", "y")]


def test_a_status_without_a_body_may_have_headers() -> None:
    assert check_answer(304, {"ETag": "x"}, b"") == [("ETag", "x")]
