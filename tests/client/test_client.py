"""The client: what it sends, what it checks before any I/O, how it fails, and that nothing is left open."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import tempfile
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import assert_checkpoints, memory_stream_pair, wait_all_tasks_blocked

import trio_ws
from trio_ws import (
    Agent,
    Compression,
    ConnectionClosedError,
    HandshakeRejected,
    HandshakeTimeout,
    Instrument,
    InvalidHandshake,
    InvalidURL,
    Keepalive,
    Limits,
    WebSocket,
    connect_websocket,
    open_websocket,
    serve_websocket,
    wrap_client_stream,
)

from ..raw import (
    CLOSE,
    answer,
    client_context,
    field,
    fields,
    frame,
    frames,
    head,
    open_files,
    raw_server,
    read_all,
    read_frame,
    read_head,
    server_context,
)
from ..serving import echo, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Listener:
    """A server that notes the request of each connection, accepts it, and answers a Close and leaves."""

    def __init__(self, *lines: str) -> None:
        self.lines = lines
        self.requests: list[bytes] = []

    async def talk(self, stream: trio.abc.Stream) -> None:
        asked = await read_head(stream)
        self.requests.append(asked)
        if asked:
            await stream.send_all(answer(asked, *self.lines))
            heard = await read_frame(stream)
            while heard[0] != CLOSE:
                heard = await read_frame(stream)
            await stream.send_all(frame(CLOSE, heard[1]))
            await stream.aclose()


async def asked_for(url: str, *lines: str, **options: object) -> bytes:
    """Open a WebSocket and give the request; ``{port}`` in the URL is the port to go to."""
    listener = Listener(*lines)
    async with (
        raw_server(listener.talk) as port,
        open_websocket(url.replace("PORT", str(port)), **options),  # type: ignore[arg-type]
    ):
        pass
    return listener.requests[0]


# What is sent.


async def test_a_websocket_is_open_for_as_long_as_the_block_lasts() -> None:
    async with serving(partial(serve_websocket, echo, "127.0.0.1", 0)) as server:
        async with open_websocket(f"ws://127.0.0.1:{server.port}/chat?a=b") as websocket:
            assert websocket.ready_state.name == "OPEN"
            assert websocket.url == f"ws://127.0.0.1:{server.port}/chat?a=b"
            assert websocket.remote_address == ("127.0.0.1", server.port)
            await websocket.send("hello")
            assert await websocket.receive() == "hello"
        assert websocket.ready_state.name == "CLOSED"
        assert websocket.close_info is not None
        assert (websocket.close_info.code, websocket.close_info.was_clean) == (1000, True)


async def test_a_websocket_over_tls() -> None:
    async with (
        serving(partial(serve_websocket, echo, "127.0.0.1", 0, server_context())) as server,
        open_websocket(f"wss://127.0.0.1:{server.port}/", ssl_context=client_context()) as websocket,
    ):
        await websocket.send(b"hello")
        assert await websocket.receive() == b"hello"


async def test_the_request_is_that_of_rfc_6455() -> None:
    asked = await asked_for("ws://127.0.0.1:PORT/chat?a=b", compression=None)
    assert asked.startswith(b"GET /chat?a=b HTTP/1.1\r\n")
    names = [name for name, _ in fields(asked)]
    assert names == ["Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "User-Agent"]
    assert field(asked, "User-Agent") == f"trio_ws/{trio_ws.__version__}"
    assert field(asked, "Sec-WebSocket-Version") == "13"
    assert len(base64.b64decode(field(asked, "Sec-WebSocket-Key"))) == 16


async def test_the_user_agent_can_be_set_and_left_out() -> None:
    url = "ws://127.0.0.1:PORT/"
    assert field(await asked_for(url, user_agent_header="Chat/2 (x)"), "User-Agent") == "Chat/2 (x)"
    assert b"user-agent" not in (await asked_for(url, user_agent_header=None)).lower()
    asked = await asked_for(url, headers={"user-agent": "mine"})
    assert [value for name, value in fields(asked) if name.lower() == "user-agent"] == ["mine"]


@pytest.mark.parametrize(
    ("value", "error", "rule"),
    [
        (5, TypeError, "user_agent_header must be a str or None, not int"),
        ("", ValueError, "user_agent_header must not be empty"),
        ("a\r\nb", ValueError, "the value of header 'User-Agent' must not contain"),
    ],
)
async def test_a_wrong_user_agent_is_told_before_any_io(value: object, error: type[Exception], rule: str) -> None:
    with pytest.raises(error, match=rule):
        async with open_websocket("ws://nowhere.invalid/", user_agent_header=value):  # type: ignore[arg-type]
            pytest.fail("it is open")


async def test_each_request_has_a_key_of_its_own() -> None:
    keys = {field(await asked_for("ws://127.0.0.1:PORT/"), "Sec-WebSocket-Key") for _ in range(3)}
    assert len(keys) == 3


@pytest.mark.parametrize(("scheme", "secure"), [("http", False), ("HTTP", False), ("WS", False), ("https", True)])
async def test_http_and_https_are_taken_for_ws_and_wss(scheme: str, secure: bool) -> None:
    tls = server_context() if secure else None
    async with serving(partial(serve_websocket, echo, "127.0.0.1", 0, tls)) as server:
        url = f"{scheme}://127.0.0.1:{server.port}/"
        async with open_websocket(url, ssl_context=client_context()) as websocket:
            assert websocket.url == f"{'wss' if secure else 'ws'}://127.0.0.1:{server.port}/"


async def test_the_host_header_brackets_ipv6() -> None:
    listener = Listener()
    async with raw_server(listener.talk, "::1") as port, open_websocket(f"ws://[::1]:{port}/") as websocket:
        assert websocket.url == f"ws://[::1]:{port}/"
    assert field(listener.requests[0], "Host") == f"[::1]:{port}"


@asynccontextmanager
async def unix_listener(listener: Listener) -> AsyncIterator[Agent]:
    """Serve on a Unix socket; gives an agent that goes there, whatever host it is asked for."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "socket")
        sock = trio.socket.socket(socket.AF_UNIX)
        await sock.bind(path)
        sock.listen()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, listener.talk, [trio.SocketListener(sock)])
            yield Agent(socket_path=path)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("ws://Bücher.example/", "xn--bcher-kva.example"),
        ("ws://example.com:80/", "example.com"),
        ("ws://example.com:443/", "example.com:443"),
        ("ws://EXAMPLE.com/", "example.com"),
        ("ws://[2001:DB8::1]/", "[2001:db8::1]"),
    ],
)
async def test_the_host_header_is_the_urls_in_ascii(url: str, host: str) -> None:
    listener = Listener()
    async with unix_listener(listener) as agent, open_websocket(url, dispatcher=agent):
        pass
    assert field(listener.requests[0], "Host") == host


async def test_user_and_password_become_basic_authorization_and_are_told_nobody() -> None:
    listener = Listener()
    async with (
        raw_server(listener.talk) as port,
        open_websocket(f"ws://us%65r:p%40ss@127.0.0.1:{port}/?token=abc") as websocket,
    ):
        assert websocket.url == f"ws://127.0.0.1:{port}/?token=abc"
        assert "p@ss" not in repr(websocket)
        assert "?token=<hidden> HTTP/1.1" in repr(websocket)
        assert "Basic" not in repr(websocket.request_headers)
    asked = listener.requests[0]
    assert base64.b64decode(field(asked, "Authorization").removeprefix("Basic ")) == b"user:p@ss"
    assert field(asked, "Host") == f"127.0.0.1:{port}"


async def test_headers_origin_and_protocols_are_sent() -> None:
    asked = await asked_for(
        "ws://127.0.0.1:PORT/",
        "Sec-WebSocket-Protocol: b",
        protocols=("a", "b"),
        headers=[("X", "1"), ("X", "2"), ("Cookie", "c=d")],
        origin="https://example.com",
    )
    assert field(asked, "Sec-WebSocket-Protocol") == "a, b"
    assert field(asked, "Origin") == "https://example.com"
    assert [pair for pair in fields(asked) if pair[0] in ("X", "Cookie")] == [("X", "1"), ("X", "2"), ("Cookie", "c=d")]


async def test_what_was_agreed_is_on_the_websocket() -> None:
    listener = Listener("Sec-WebSocket-Protocol: b", "X: y")
    async with (
        raw_server(listener.talk) as port,
        open_websocket(f"ws://127.0.0.1:{port}/", "b", headers={"A": "z"}) as websocket,
    ):
        assert websocket.protocol == "b"
        assert websocket.response_headers["x"] == "y"
        assert websocket.request_headers["a"] == "z"
        assert websocket.extensions == ""
        assert websocket.http_version == "1.1"


async def test_compression_is_offered_as_it_was_asked_for() -> None:
    asked = await asked_for("ws://127.0.0.1:PORT/", compression=Compression(server_no_context_takeover=True))
    assert "server_no_context_takeover" in field(asked, "Sec-WebSocket-Extensions")
    assert field(await asked_for("ws://127.0.0.1:PORT/", compression=None), "Sec-WebSocket-Extensions") == ""


async def test_frames_that_come_with_the_answer_are_received() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(answer(await read_head(stream)) + frame(1, b"first") + frame(2, b"second"))
        assert (await read_frame(stream))[0] == CLOSE

    async with raw_server(talk) as port, open_websocket(f"ws://127.0.0.1:{port}/") as websocket:
        assert await websocket.receive() == "first"
        assert await websocket.receive() == b"second"


async def test_instruments_hear_of_the_websocket() -> None:
    heard: list[object] = []

    class Recording(Instrument):
        def websocket_open(self, websocket: WebSocket) -> None:
            heard.append(websocket)

    async with (
        serving(partial(serve_websocket, echo, "127.0.0.1", 0)) as server,
        open_websocket(f"ws://127.0.0.1:{server.port}/", instruments=[Recording()]) as websocket,
    ):
        assert heard == [websocket]


# What is checked before any I/O.

WRONG: list[tuple[type[Exception], str, dict[str, object]]] = [
    (InvalidURL, "scheme", {"url": "ftp://127.0.0.1:PORT/"}),
    (InvalidURL, "scheme", {"url": "127.0.0.1:PORT"}),
    (InvalidURL, "fragment", {"url": "ws://127.0.0.1:PORT/#"}),
    (InvalidURL, "host", {"url": "ws:///"}),
    (InvalidURL, "port", {"url": "ws://127.0.0.1:99999/"}),
    (InvalidURL, "surrogates", {"url": "ws://127.0.0.1:PORT/ \ud800"}),
    (TypeError, "url", {"url": b"ws://127.0.0.1:PORT/"}),
    (ValueError, "protocols", {"protocols": "a b"}),
    (ValueError, "protocols", {"protocols": ["a", "a"]}),
    (ValueError, "protocols", {"protocols": ["a\r\nX: y"]}),
    (TypeError, "protocols", {"protocols": [1]}),
    (TypeError, "protocols", {"protocols": 1}),
    (ValueError, "'X'", {"headers": {"X": "a\r\nY: b"}}),
    (ValueError, "'X'", {"headers": {"X": "a\nY: b"}}),
    (ValueError, "'X'", {"headers": {"X": "a\0"}}),
    (ValueError, "'X'", {"headers": {"X": "\x85"}}),
    (ValueError, "'X'", {"headers": {"X": "€"}}),
    (ValueError, "'X'", {"headers": {"X": " a"}}),
    (ValueError, "token", {"headers": {"X Y": "a"}}),
    (ValueError, "token", {"headers": {"": "a"}}),
    (ValueError, "token", {"headers": {"X\r\nY": "a"}}),
    (ValueError, "Upgrade", {"headers": {"Upgrade": "h2c"}}),
    (ValueError, "Sec-WebSocket-Key", {"headers": {"Sec-WebSocket-Key": "a"}}),
    (ValueError, "Content-Length", {"headers": {"Content-Length": "1"}}),
    (ValueError, "Host", {"headers": {"Host": "a b"}}),
    (TypeError, "headers", {"headers": "X: y"}),
    (TypeError, "headers", {"headers": 5}),
    (TypeError, "'X'", {"headers": {"X": 5}}),
    (ValueError, "Origin", {"origin": "https://a\r\nX: y"}),
    (ValueError, "Origin", {"origin": "a", "headers": {"Origin": "b"}}),
    (TypeError, "origin", {"origin": 5}),
    (TypeError, "dispatcher", {"dispatcher": "agent"}),
    (TypeError, "ssl_context", {"ssl_context": True}),
    (TypeError, "compression", {"compression": True}),
    (TypeError, "limits", {"limits": None}),
    (TypeError, "keepalive", {"keepalive": 20}),
    (ValueError, "connect_timeout", {"connect_timeout": -1}),
    (ValueError, "connect_timeout", {"connect_timeout": float("nan")}),
    (ValueError, "connect_timeout", {"connect_timeout": None}),
    (ValueError, "close_timeout", {"close_timeout": "10"}),
    (TypeError, "instruments", {"instruments": [Instrument]}),
]


@pytest.mark.parametrize(("error", "match", "arguments"), WRONG)
async def test_arguments_are_checked_before_any_io(
    error: type[Exception], match: str, arguments: dict[str, object], nursery: trio.Nursery
) -> None:
    listener = Listener()
    stream, theirs = memory_stream_pair()
    async with raw_server(listener.talk) as port:
        options = {"url": "ws://127.0.0.1:PORT/", **arguments}
        url = options.pop("url")
        url = url.replace("PORT", str(port)) if isinstance(url, str) else url
        with pytest.raises(error, match=match):
            async with open_websocket(url, **options):  # type: ignore[arg-type]
                pass
        with pytest.raises(error, match=match):
            await connect_websocket(nursery, url, **options)  # type: ignore[arg-type]
        with pytest.raises(error, match=match):
            await wrap_client_stream(nursery, stream, url, **options)  # type: ignore[arg-type]
        await wait_all_tasks_blocked()
        assert listener.requests == []
        assert not nursery.child_tasks
    await stream.aclose()
    assert await read_all(theirs) == b""


async def test_an_unknown_option_is_a_type_error(nursery: trio.Nursery) -> None:
    with pytest.raises(TypeError, match="max_size"):
        open_websocket("ws://127.0.0.1:1/", max_size=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="max_size"):
        await connect_websocket(nursery, "ws://127.0.0.1:1/", max_size=5)  # type: ignore[call-arg]


# How opening fails.


async def test_a_rejection_comes_bare_with_all_that_was_answered() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await read_head(stream)
        await stream.send_all(head("HTTP/1.1 401 No", "WWW-Authenticate: Basic", "Content-Length: 4") + b"body")

    async with raw_server(talk) as port:
        with pytest.raises(HandshakeRejected, match="401") as caught:
            async with open_websocket(f"ws://127.0.0.1:{port}/"):
                raise AssertionError("it was rejected")
    assert (caught.value.status, caught.value.headers["www-authenticate"], caught.value.body) == (401, "Basic", b"body")


async def test_a_redirect_is_not_followed() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await read_head(stream)
        await stream.send_all(head("HTTP/1.1 302 Found", f"Location: ws://127.0.0.1:{port}/", "Content-Length: 0"))

    async with raw_server(talk) as port:
        with pytest.raises(HandshakeRejected) as caught:
            async with open_websocket(f"ws://127.0.0.1:{port}/"):
                raise AssertionError("it was rejected")
    assert caught.value.status == 302


async def test_a_server_that_leaves_is_an_invalid_handshake() -> None:
    async with raw_server(read_head) as port:
        with pytest.raises(InvalidHandshake, match="closed the connection before it answered"):
            async with open_websocket(f"ws://127.0.0.1:{port}/"):
                raise AssertionError("it was not answered")


async def test_a_server_that_is_not_there_is_a_bare_os_error() -> None:
    with pytest.raises(OSError, match="all attempts to connect"):
        async with open_websocket("ws://127.0.0.1:1/"):
            raise AssertionError("nobody listens there")


async def test_a_server_that_cannot_be_verified_is_a_bare_ssl_error() -> None:
    async with serving(partial(serve_websocket, echo, "127.0.0.1", 0, server_context())) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            async with open_websocket(f"wss://127.0.0.1:{server.port}/"):
                raise AssertionError("its authority is unknown")


@pytest.mark.parametrize(
    "answered", [b"", b"HTTP/1.1 101 Swi", head("HTTP/1.1 100 Continue")], ids=lambda data: str(data[:25])
)
async def test_connect_timeout_covers_all_of_opening(
    answered: bytes, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(answered)
    begin = trio.current_time()
    with pytest.raises(HandshakeTimeout, match=r"to ws://example.com/\?token=<hidden> within connect_timeout=3 s"):
        await wrap_client_stream(nursery, ours, "ws://user:secret@example.com/?token=abc", connect_timeout=3)
    assert trio.current_time() - begin == 3
    assert b"GET" in await read_all(theirs)


CUT_SHORT = [
    head("HTTP/1.1 403 Forbidden", "X: y") + b"and so on",
    head("HTTP/1.1 403 Forbidden", "X: y", "Content-Length: 100") + b"and so on",
    head("HTTP/1.1 403 Forbidden", "X: y", "Transfer-Encoding: chunked") + b"9\r\nand so on\r\n",
]


@pytest.mark.parametrize(("connect_timeout", "waited"), [(10, 1), (0.5, 0.5)])
@pytest.mark.parametrize("answered", CUT_SHORT, ids=["until the end", "length", "chunked"])
async def test_a_refusal_whose_body_does_not_end_keeps_its_status(
    answered: bytes,
    connect_timeout: float,
    waited: float,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(answered)
    with pytest.raises(HandshakeRejected) as caught:
        await wrap_client_stream(nursery, ours, "ws://example.com/", connect_timeout=connect_timeout)
    assert (caught.value.status, caught.value.headers["X"], caught.value.body) == (403, "y", b"and so on")
    assert trio.current_time() == waited
    assert b"GET" in await read_all(theirs)


async def test_a_refusal_whose_body_trickles_gets_no_more_time(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = memory_stream_pair()

    async def trickle() -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await theirs.send_all(b"1\r\nx\r\n")
                await trio.sleep(0.0625)

    await theirs.send_all(head("HTTP/1.1 503 No", "Transfer-Encoding: chunked"))
    nursery.start_soon(trickle)
    with pytest.raises(HandshakeRejected) as caught:
        await wrap_client_stream(nursery, ours, "ws://example.com/")
    assert (caught.value.status, trio.current_time()) == (503, 1)
    assert 15 <= len(caught.value.body) <= 16


async def test_cancelling_while_the_body_of_a_refusal_comes_is_a_cancellation(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(CUT_SHORT[0])
    with trio.move_on_after(0.5) as scope:
        await wrap_client_stream(nursery, ours, "ws://example.com/")
    assert scope.cancelled_caught
    assert b"GET" in await read_all(theirs)


async def test_a_body_of_many_small_chunks_lets_others_run(nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(head("HTTP/1.1 503 No", "Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 6400 + b"0\r\n\r\n")
    passes = 0

    async def count() -> None:
        nonlocal passes
        while True:
            await trio.lowlevel.checkpoint()
            passes += 1

    nursery.start_soon(count)
    with pytest.raises(HandshakeRejected) as caught:
        await wrap_client_stream(nursery, ours, "ws://example.com/")
    nursery.cancel_scope.cancel()
    assert caught.value.body == b"x" * 6400
    assert passes >= 100


async def test_connect_timeout_closes_the_socket(mock_clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
    asked, ended = trio.Event(), trio.Event()

    async def talk(stream: trio.SocketStream) -> None:
        await read_head(stream)
        asked.set()
        await read_all(stream)
        ended.set()

    async def jump() -> None:
        await asked.wait()
        mock_clock.jump(10)

    async with raw_server(talk) as port:
        nursery.start_soon(jump)
        with pytest.raises(HandshakeTimeout) as caught:
            async with open_websocket(f"ws://127.0.0.1:{port}/"):
                raise AssertionError("it was not answered")
        assert isinstance(caught.value, trio.TooSlowError)
        await ended.wait()


async def test_no_time_at_all_is_a_timeout() -> None:
    before = open_files()
    with pytest.raises(HandshakeTimeout):
        async with open_websocket("ws://127.0.0.1:1/", connect_timeout=0):
            raise AssertionError("there was no time")
    assert open_files() == before


async def test_opening_is_a_checkpoint_and_cancelled_it_opens_nothing(nursery: trio.Nursery) -> None:
    async with serving(partial(serve_websocket, echo, "127.0.0.1", 0)) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        manager = open_websocket(url)
        with assert_checkpoints():
            await manager.__aenter__()
        with assert_checkpoints():
            await manager.__aexit__(None, None, None)
        with assert_checkpoints():
            websocket = await connect_websocket(nursery, url)
        await websocket.aclose()
        while server.connections:
            await wait_all_tasks_blocked()
        before = open_files()
        for _ in range(2):
            with trio.CancelScope() as scope:
                scope.cancel()
                async with open_websocket(url):
                    raise AssertionError("it was cancelled")
            assert scope.cancelled_caught
            with trio.CancelScope() as scope:
                scope.cancel()
                await connect_websocket(nursery, url)
            assert scope.cancelled_caught
        assert open_files() == before


# The block.


async def test_the_blocks_own_exception_comes_out_as_it_is() -> None:
    error = KeyError("mine")
    listener = Listener()
    async with raw_server(listener.talk) as port:
        with pytest.raises(KeyError) as caught:
            async with open_websocket(f"ws://127.0.0.1:{port}/") as websocket:
                raise error
    assert caught.value is error
    assert error.__context__ is None
    assert websocket.close_info is not None
    assert websocket.close_info.code == 1011


async def test_a_connection_that_was_lost_comes_out_bare() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(answer(await read_head(stream)))

    async with raw_server(talk) as port:
        with pytest.raises(ConnectionClosedError) as caught:
            async with open_websocket(f"ws://127.0.0.1:{port}/") as websocket:
                await websocket.receive()
    assert caught.value.code == 1006


async def test_a_cancelled_block_says_goodbye_without_waiting() -> None:
    heard: list[tuple[int, bytes]] = []

    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(answer(await read_head(stream)))
        heard.extend(frames(await read_all(stream)))

    async with raw_server(talk) as port:
        with trio.CancelScope() as scope:
            async with open_websocket(f"ws://127.0.0.1:{port}/") as websocket:
                scope.cancel()
                await websocket.receive()
        assert scope.cancelled_caught
        while not heard:
            await wait_all_tasks_blocked()
    assert heard == [(CLOSE, (1001).to_bytes(2, "big"))]


async def test_a_cancelled_block_may_still_use_the_websocket_in_a_shield() -> None:
    async with serving(partial(serve_websocket, echo, "127.0.0.1", 0)) as server:
        with trio.CancelScope() as scope:
            async with open_websocket(f"ws://127.0.0.1:{server.port}/") as websocket:
                scope.cancel()
                with trio.CancelScope(shield=True):
                    await websocket.send("hello")
                    assert await websocket.receive() == "hello"
                await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught


# connect_websocket.


async def test_a_connected_websocket_is_the_callers_to_close(nursery: trio.Nursery) -> None:
    async with serving(partial(serve_websocket, echo, "127.0.0.1", 0)) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        websocket = await connect_websocket(nursery, url, headers={"X": "y"})
        assert websocket.request_headers["X"] == "y"
        assert nursery.child_tasks
        await websocket.send("hello")
        assert await websocket.receive() == "hello"
        await websocket.aclose()
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks
        async with await connect_websocket(nursery, url) as websocket:
            assert websocket.ready_state.name == "OPEN"
        assert websocket.ready_state.name == "CLOSED"


async def test_a_cancelled_nursery_takes_its_websocket_with_it() -> None:
    heard: list[tuple[int, bytes]] = []

    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(answer(await read_head(stream)))
        heard.extend(frames(await read_all(stream)))

    async with raw_server(talk) as port:
        async with trio.open_nursery() as nursery:
            websocket = await connect_websocket(nursery, f"ws://127.0.0.1:{port}/")
            nursery.cancel_scope.cancel()
        assert websocket.ready_state.name == "CLOSED"
        while not heard:
            await wait_all_tasks_blocked()
    assert heard == [(CLOSE, (1001).to_bytes(2, "big"))]


async def test_a_nursery_that_is_closed_leaves_no_socket() -> None:
    async with trio.open_nursery() as nursery:
        pass
    async with serving(partial(serve_websocket, echo, "127.0.0.1", 0)) as server:
        before = open_files()
        with pytest.raises(RuntimeError, match="closed to new arrivals"):
            await connect_websocket(nursery, f"ws://127.0.0.1:{server.port}/")
        while open_files() != before:
            await wait_all_tasks_blocked()


# wrap_client_stream.


async def test_a_stream_carries_a_websocket(nursery: trio.Nursery) -> None:
    listener = Listener()
    ours, theirs = memory_stream_pair()
    nursery.start_soon(listener.talk, theirs)
    with assert_checkpoints():
        websocket = await wrap_client_stream(nursery, ours, "wss://example.com/chat")
    assert (websocket.url, websocket.remote_address) == ("wss://example.com/chat", None)
    await websocket.aclose()
    assert field(listener.requests[0], "Host") == "example.com"
    await wait_all_tasks_blocked()
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")


async def test_a_context_begins_tls_on_the_stream(nursery: trio.Nursery) -> None:
    listener = Listener()
    ours, theirs = memory_stream_pair()
    context = server_context("example.com")
    nursery.start_soon(listener.talk, trio.SSLStream(theirs, context, server_side=True, https_compatible=True))
    websocket = await wrap_client_stream(nursery, ours, "wss://example.com/", ssl_context=client_context())
    await websocket.aclose()
    assert field(listener.requests[0], "Host") == "example.com"


async def test_a_dot_at_the_end_of_a_host_is_no_part_of_the_name_to_verify(nursery: trio.Nursery) -> None:
    listener = Listener()
    ours, theirs = memory_stream_pair()
    context = server_context("example.com")
    nursery.start_soon(listener.talk, trio.SSLStream(theirs, context, server_side=True, https_compatible=True))
    websocket = await wrap_client_stream(nursery, ours, "wss://example.com./", ssl_context=client_context())
    await websocket.aclose()
    assert field(listener.requests[0], "Host") == "example.com."


async def test_a_stream_is_closed_when_tls_fails(nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(b"this is no TLS")
    with pytest.raises(ssl.SSLError):
        await wrap_client_stream(nursery, ours, "wss://example.com/", ssl_context=client_context())
    await read_all(theirs)
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks


async def test_a_stream_is_closed_when_the_server_rejects(nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.send_all(head("HTTP/1.1 403 Forbidden", "Content-Length: 0"))
    with pytest.raises(HandshakeRejected):
        await wrap_client_stream(nursery, ours, "ws://example.com/")
    await read_all(theirs)
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks


async def test_a_stream_is_closed_when_wrapping_is_cancelled(nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    with trio.CancelScope() as scope:
        scope.cancel()
        await wrap_client_stream(nursery, ours, "ws://example.com/")
    assert scope.cancelled_caught
    await read_all(theirs)
    await wait_all_tasks_blocked()
    assert not nursery.child_tasks


async def test_a_stream_that_breaks_raises_what_it_raised(nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    await theirs.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await wrap_client_stream(nursery, ours, "ws://example.com/")


async def test_a_dispatcher_is_of_no_use_to_a_stream(nursery: trio.Nursery) -> None:
    ours, _ = memory_stream_pair()
    with pytest.raises(TypeError, match="dispatcher: a stream is connected already"):
        await wrap_client_stream(nursery, ours, "ws://example.com/", dispatcher=Agent())
    assert not nursery.child_tasks


async def test_options_reach_the_connection(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_stream_pair()

    async def talk() -> None:
        await theirs.send_all(answer(await read_head(theirs)))
        await theirs.send_all(frame(1, b"too long"))

    nursery.start_soon(talk)
    websocket = await wrap_client_stream(
        nursery,
        ours,
        "ws://example.com/",
        limits=Limits(max_message_size=7),
        keepalive=Keepalive(interval=5),
        close_timeout=3,
    )
    with pytest.raises(ConnectionClosedError) as caught:
        await websocket.receive()
    assert caught.value.sent is not None
    assert caught.value.sent.code == 1009
    begin = trio.current_time()
    await websocket.wait_closed()
    assert trio.current_time() - begin <= 3
