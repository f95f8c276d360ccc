"""Dispatchers: an Agent goes straight to the server by TCP, TLS or a Unix socket, and leaves nothing open behind it."""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import trio_ws
import trio_ws.testing
from trio_ws import (
    Agent,
    ConnectRequest,
    Dispatcher,
    HandshakeRejected,
    InvalidHandshake,
    Limits,
    open_websocket,
    serve_websocket,
)
from trio_ws._client.agent import open_http1
from trio_ws._net.dial import check_ssl_context
from trio_ws._reactor import Reactor
from trio_ws._util.nursery import BackgroundNursery
from trio_ws._wire.handshake import ClientHandshake
from trio_ws._wire.url import parse_url

from ..raw import (
    ScriptedTransport,
    accept_value,
    answer,
    client_context,
    frame,
    head,
    open_files,
    raw_server,
    read_all,
    read_head,
    server_context,
)
from ..serving import echo, serving

if TYPE_CHECKING:
    from trio_ws._websocket.start import Opened

LIMITS = Limits()


def handshake_for(url: str, *protocols: str) -> ClientHandshake:
    return ClientHandshake(parse_url(url), protocols, headers=(), origin=None, compression=None)


async def open_by(agent: Dispatcher, url: str, ssl_context: ssl.SSLContext | None = None) -> Opened:
    """Open, and close at once: what is open over HTTP/2 lives in the nursery."""
    async with BackgroundNursery() as nursery:
        opened = await agent.open(
            ConnectRequest(
                url=parse_url(url),
                handshake=handshake_for(url),
                limits=LIMITS,
                ssl_context=ssl_context,
                instruments=(),
                nursery=nursery,
                reactor=Reactor(nursery, shield=True),
            )
        )
        opened.transport.abort()
        return opened
    raise AssertionError("a background nursery swallows nothing")


@pytest.mark.parametrize("wrong", [True, "context", ssl.SSLContext])
def test_an_ssl_context_is_checked(wrong: object) -> None:
    with pytest.raises(TypeError, match="ssl_context must be"):
        check_ssl_context(wrong)
    with pytest.raises(TypeError, match="ssl_context must be"):
        Agent(ssl_context=wrong)  # type: ignore[arg-type]


def test_no_ssl_context_and_a_real_one_are_good() -> None:
    check_ssl_context(None)
    check_ssl_context(None, server_side=True)
    check_ssl_context(ssl.create_default_context())
    check_ssl_context(server_context(), server_side=True)


async def test_an_ssl_context_for_the_other_side_is_refused_before_any_io() -> None:
    with pytest.raises(ValueError, match="ssl_context is a server's"):
        Agent(ssl_context=server_context())
    with pytest.raises(ValueError, match="ssl_context is a server's"):
        async with open_websocket("wss://127.0.0.1:1/", ssl_context=server_context()):
            pytest.fail("it is open")
    with pytest.raises(ValueError, match="ssl_context is a client's"):
        await serve_websocket(echo, "127.0.0.1", 0, client_context())


def test_a_socket_path_is_checked() -> None:
    with pytest.raises(TypeError, match="socket_path"):
        Agent(socket_path=5)  # type: ignore[arg-type]


def test_a_dispatcher_without_open_is_none() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Dispatcher()  # type: ignore[abstract]


async def test_an_agent_is_its_own_context() -> None:
    agent = Agent()
    async with agent as entered:
        assert entered is agent


async def test_an_agent_connects_by_tcp() -> None:
    async with serving(partial(serve_websocket, echo, "127.0.0.1", 0)) as server:
        with assert_checkpoints():
            opened = await open_by(Agent(), f"ws://127.0.0.1:{server.port}/")
        assert opened.transport.remote_address == ("127.0.0.1", server.port)
        assert opened.http_version == "1.1"
        assert opened.rest == b""
        assert opened.request_headers["Host"] == f"127.0.0.1:{server.port}"
        assert opened.response_headers["Upgrade"] == "websocket"
        opened.transport.abort()


async def test_an_agent_verifies_by_its_context_unless_the_call_has_one() -> None:
    ours = client_context()
    async with serving(partial(serve_websocket, echo, "127.0.0.1", 0, server_context())) as server:
        before = open_files()  # now: the server's ends of what is opened below may go at any time
        url = f"wss://127.0.0.1:{server.port}/"
        (await open_by(Agent(ssl_context=ours), url)).transport.abort()
        (await open_by(Agent(), url, ours)).transport.abort()
        (await open_by(Agent(ssl_context=ssl.create_default_context()), url, ours)).transport.abort()
        for agent, context in ((Agent(), None), (Agent(ssl_context=ours), ssl.create_default_context())):
            with pytest.raises(ssl.SSLCertVerificationError):
                await open_by(agent, url, context)
        while open_files() != before:  # the server's ends go too
            await wait_all_tasks_blocked()


@pytest.mark.parametrize("as_path", [False, True])
@pytest.mark.parametrize("secure", [False, True])
async def test_an_agent_connects_to_a_unix_socket_whatever_the_host(secure: bool, as_path: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:  # shorter than tmp_path: a socket's path has about 100 bytes
        path = Path(folder) / "socket"
        server_side = server_context("inside.example") if secure else None
        async with serving(partial(serve_websocket, echo, str(path), None, server_side)):
            agent = Agent(socket_path=path if as_path else str(path), ssl_context=client_context())
            opened = await open_by(agent, f"{'wss' if secure else 'ws'}://inside.example/")
            assert opened.request_headers["Host"] == "inside.example"
            assert opened.transport.remote_address == str(path)
            opened.transport.abort()
            if secure:
                with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                    await open_by(agent, "wss://outside.example/")


async def test_a_server_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    before = open_files()
    with pytest.raises(FileNotFoundError):
        await open_by(Agent(socket_path=tmp_path / "socket"), "ws://a/")
    with pytest.raises(OSError, match="all attempts to connect"):
        await open_by(Agent(), "ws://127.0.0.1:1/")
    assert open_files() == before


async def test_an_agent_that_fails_closes_its_socket() -> None:
    ended: list[bytes] = []

    async def reject(stream: trio.SocketStream) -> None:
        await read_head(stream)
        await stream.send_all(head("HTTP/1.1 403 Forbidden", "Content-Length: 0"))
        ended.append(await read_all(stream))

    async def lie(stream: trio.SocketStream) -> None:
        await read_head(stream)
        await stream.send_all(head("HTTP/1.1 101 Switching Protocols"))
        ended.append(await read_all(stream))

    async with raw_server(reject) as port:
        with pytest.raises(HandshakeRejected):
            await open_by(Agent(), f"ws://127.0.0.1:{port}/")
        while not ended:
            await wait_all_tasks_blocked()
    async with raw_server(lie) as port:
        with pytest.raises(InvalidHandshake):
            await open_by(Agent(), f"ws://127.0.0.1:{port}/")
        while len(ended) < 2:
            await wait_all_tasks_blocked()
    assert ended == [b"", b""]


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_an_agent_that_is_cancelled_closes_its_socket(scheme: str, nursery: trio.Nursery) -> None:
    asked, ended = trio.Event(), trio.Event()

    async def never_answer(stream: trio.SocketStream) -> None:
        assert await stream.receive_some()
        asked.set()
        await read_all(stream)
        ended.set()

    async with raw_server(never_answer) as port:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_after, asked, scope)
            await open_by(Agent(ssl_context=client_context()), f"{scheme}://127.0.0.1:{port}/")
        assert scope.cancelled_caught
        await ended.wait()


async def cancel_after(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


async def test_an_agent_in_a_cancelled_scope_opens_nothing() -> None:
    before = open_files()
    with trio.CancelScope() as scope:
        scope.cancel()
        await open_by(Agent(), "ws://127.0.0.1:1/")
    assert scope.cancelled_caught
    assert open_files() == before


async def test_tls_to_a_plain_server_is_an_ssl_error_and_sends_no_http() -> None:
    heard: list[bytes] = []

    async def answer_plainly(stream: trio.SocketStream) -> None:
        heard.append(bytes(await stream.receive_some()))
        await stream.send_all(head("HTTP/1.1 400 Bad Request"))
        heard.append(await read_all(stream))

    async with raw_server(answer_plainly) as port:
        with pytest.raises(ssl.SSLError):
            await open_by(Agent(ssl_context=client_context()), f"wss://127.0.0.1:{port}/")
        while len(heard) < 2:
            await wait_all_tasks_blocked()
    assert b"GET" not in heard[0] + heard[1]


async def test_plain_http_to_a_tls_server_is_a_handshake_error() -> None:
    async with serving(partial(serve_websocket, echo, "127.0.0.1", 0, server_context())) as server:
        with pytest.raises((InvalidHandshake, ConnectionResetError)):
            await open_by(Agent(), f"ws://127.0.0.1:{server.port}/")


async def test_a_dispatcher_of_the_callers_connects() -> None:
    class Recording(Agent):
        opened: Opened | None = None

        async def open(self, request: ConnectRequest) -> Opened:
            assert str(request.url) == "ws://nowhere.example/"
            address = parse_url(f"ws://127.0.0.1:{server.port}/")
            self.opened = await super().open(replace(request, url=address))
            return self.opened

    async with (
        serving(partial(serve_websocket, echo, "127.0.0.1", 0)) as server,
        Recording() as dispatcher,
        open_websocket("ws://nowhere.example/", dispatcher=dispatcher) as websocket,
    ):
        assert dispatcher.opened is not None
        assert websocket.request_headers["Host"] == "nowhere.example"
        await websocket.send("hello")
        assert await websocket.receive() == "hello"


async def test_what_an_opening_handshake_led_to_is_told() -> None:
    handshake = handshake_for("ws://example.com/", "a", "b")

    class Answering(ScriptedTransport):
        def write(self, data: bytes) -> None:
            self.feed(answer(data, "Sec-WebSocket-Protocol: b") + frame(1, b"hello"))

    transport = Answering()
    opened = await open_http1(transport, handshake, LIMITS)
    assert opened.transport is transport
    assert opened.agreement.protocol == "b"
    assert opened.response_headers["Sec-WebSocket-Accept"] == accept_value(
        f"\r\nSec-WebSocket-Key: {opened.request_headers['Sec-WebSocket-Key']}".encode()
    )
    assert opened.rest == frame(1, b"hello")


async def test_a_failed_opening_handshake_leaves_the_transport_to_the_caller() -> None:
    transport = ScriptedTransport([head("HTTP/1.1 101 Switching Protocols")])
    with pytest.raises(InvalidHandshake):
        await open_http1(transport, handshake_for("ws://example.com/"), LIMITS)
    assert not transport.aborted


@pytest.mark.parametrize(
    ("options", "named"), [({}, f"trio_ws/{trio_ws.__version__}"), ({"user_agent_header": None}, None)]
)
async def test_the_user_agent_goes_over_http_2_too(options: dict[str, None], named: str | None) -> None:
    seen: list[str | None] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        seen.append(request.headers.get("User-Agent"))
        async with request.accept() as websocket:
            assert websocket.response_headers["Server"] == f"trio_ws/{trio_ws.__version__}"
            await websocket.wait_closed()

    async with (
        trio_ws.testing.open_test_server(handler) as server,
        Agent(ssl_context=server.ssl_context) as agent,
        trio_ws.open_websocket(server.url, dispatcher=agent, **options) as websocket,  # type: ignore[arg-type]
    ):
        assert websocket.http_version == "2"
        assert websocket.request_headers.get("User-Agent") == named
        assert websocket.response_headers["server"] == f"trio_ws/{trio_ws.__version__}"
    assert seen == [named]
