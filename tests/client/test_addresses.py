"""Other places than the URL's: connect_to, server_hostname and source_address, of a call and of an agent."""

from __future__ import annotations

import socket
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import memory_stream_pair

import trio_ws
from trio_ws import Agent, EnvHttpProxyAgent, ProxyAgent, open_websocket, serve_websocket
from trio_ws._net.dial import dial_tcp

from ..net.test_dial import Names
from ..raw import answer, client_context, head, open_files, raw_server, read_head, server_context
from ..serving import LOCALHOST, echo, serving
from ..small_proxies import SmallProxy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

NOWHERE = "nowhere.invalid"  # RFC 6761 §6.4: it cannot be resolved


class Listening:
    """A server of ours that keeps what it was asked.

    Attributes:
        requests: those that came.
        port: where.
    """

    def __init__(self) -> None:
        self.requests: list[trio_ws.WebSocketRequest] = []
        self.port = 0

    async def handle(self, request: trio_ws.WebSocketRequest) -> None:
        self.requests.append(request)
        await echo(request)

    @asynccontextmanager
    async def running(self, context: ssl.SSLContext | None = None) -> AsyncGenerator[int, None]:
        async with serving(partial(serve_websocket, self.handle, LOCALHOST, 0, context, origins=None)) as server:
            yield server.port


def comes_from(websocket: trio_ws.WebSocket) -> object:
    """The address of the machine that a WebSocket is opened from."""
    assert isinstance(websocket.local_address, tuple)
    return websocket.local_address[0]


@pytest.mark.parametrize("of_the_agent", [False, True])
@pytest.mark.parametrize("secure", [False, True])
async def test_connect_to_leads_elsewhere_and_asks_for_the_same(secure: bool, of_the_agent: bool) -> None:
    listening = Listening()
    async with listening.running(server_context(NOWHERE) if secure else None) as port:
        url = f"{'wss' if secure else 'ws'}://{NOWHERE}/path"
        place: dict[str, Any] = {"connect_to": (LOCALHOST, port)}
        async with open_websocket(
            url,
            dispatcher=Agent(**place) if of_the_agent else None,
            ssl_context=client_context(),
            **({} if of_the_agent else place),
        ) as websocket:
            assert websocket.url == url
            assert websocket.remote_address == (LOCALHOST, port)
    assert [(request.host, request.target) for request in listening.requests] == [(NOWHERE, "/path")]


async def test_connect_to_does_not_change_whom_tls_expects() -> None:
    async with Listening().running(server_context()) as port:
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            async with open_websocket(f"wss://{NOWHERE}/", connect_to=(LOCALHOST, port), ssl_context=client_context()):
                pytest.fail("it is open")


@pytest.mark.parametrize("of_the_agent", [False, True])
async def test_server_hostname_is_whom_tls_expects(of_the_agent: bool) -> None:
    name: dict[str, Any] = {"server_hostname": "inside.example"}
    listening = Listening()
    async with listening.running(server_context("inside.example")) as port:
        async with open_websocket(
            f"wss://{LOCALHOST}:{port}/",
            dispatcher=Agent(**name) if of_the_agent else None,
            ssl_context=client_context(),
            **({} if of_the_agent else name),
        ):
            pass
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            async with open_websocket(
                f"wss://{LOCALHOST}:{port}/",
                dispatcher=Agent(**name),
                server_hostname="localhost",
                ssl_context=client_context(),
            ):
                pytest.fail("the call's goes before the agent's")
    assert listening.requests[0].host == f"{LOCALHOST}:{port}"


@pytest.mark.parametrize("of_the_agent", [False, True])
async def test_source_address_is_where_the_connection_comes_from(of_the_agent: bool) -> None:
    source: dict[str, Any] = {"source_address": ("127.0.0.2", 0)}
    async with (
        Listening().running() as port,
        open_websocket(
            f"ws://{LOCALHOST}:{port}/",
            dispatcher=Agent(**source) if of_the_agent else None,
            **({} if of_the_agent else source),
        ) as websocket,
    ):
        assert comes_from(websocket) == "127.0.0.2"


# ---- from a port of the caller's ----


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.3", 0))
        return int(sock.getsockname()[1])


async def hold(stream: trio.SocketStream) -> None:
    await stream.receive_some()


async def test_a_source_address_may_have_a_port() -> None:
    async with raw_server(hold) as port:
        source = ("127.0.0.3", free_port())
        trio.socket.set_custom_hostname_resolver(Names("::1", LOCALHOST))  # of which one does not go with it
        transport = await dial_tcp("two.example", port, source)
        assert transport.local_address == source
        assert transport.remote_address == (LOCALHOST, port)
        transport.abort()


async def test_no_attempt_from_a_port_succeeds() -> None:
    before = open_files()
    source = ("127.0.0.3", free_port())
    with pytest.raises(OSError, match=rf"connect to 127\.0\.0\.1:1 from 127\.0\.0\.3:{source[1]} failed") as caught:
        await dial_tcp(LOCALHOST, 1, source)
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    (refused,) = caught.value.__cause__.exceptions
    assert isinstance(refused, ConnectionRefusedError)
    assert open_files() == before


async def test_dialling_from_a_port_is_cancelled_and_leaves_nothing_open() -> None:
    before = open_files()
    with trio.CancelScope() as scope:
        trio.socket.set_custom_hostname_resolver(Cancelling(scope))
        await dial_tcp("one.example", 1, ("127.0.0.3", free_port()))
    assert scope.cancelled_caught
    assert open_files() == before


class Cancelling(Names):
    """A resolver that gives an address, and has the task cancelled when it is used."""

    def __init__(self, scope: trio.CancelScope) -> None:
        super().__init__(LOCALHOST)
        self._scope = scope

    async def getaddrinfo(  # type: ignore[override]
        self, host: bytes | None, port: int | None, *rest: int
    ) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[object, ...]]]:
        self._scope.cancel()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (LOCALHOST, port))]


# ---- proxies, redirects, shared connections, streams ----


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_is_asked_for_connect_to_and_called_from_source_address(scheme: str) -> None:
    proxy = SmallProxy(scheme)
    async with (
        Listening().running(server_context(NOWHERE)) as port,
        proxy.running() as place,
        open_websocket(
            f"wss://{NOWHERE}/",
            dispatcher=ProxyAgent(f"{scheme}://{place}", source_address=("127.0.0.2", 0)),
            connect_to=("elsewhere.example", port),
            ssl_context=client_context(),
        ) as websocket,
    ):
        assert comes_from(websocket) == "127.0.0.2"
    assert proxy.targets == [("elsewhere.example", port)]


async def test_an_agent_of_the_environment_passes_them_on() -> None:
    async with Listening().running() as port:
        agent = EnvHttpProxyAgent(http_proxy="", https_proxy="", all_proxy="", connect_to=(LOCALHOST, port))
        async with open_websocket(f"ws://{NOWHERE}/", dispatcher=agent) as websocket:
            assert websocket.remote_address == (LOCALHOST, port)


async def test_a_redirect_within_the_origin_goes_to_the_same_place() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        asked = await read_head(stream)
        redirect = head("HTTP/1.1 302 Found", "Location: /new")
        await stream.send_all(redirect if asked.startswith(b"GET / ") else answer(asked))
        await read_head(stream)

    async with (
        raw_server(talk) as port,
        open_websocket(
            f"ws://{NOWHERE}/", connect_to=(LOCALHOST, port), follow_redirects=1, close_timeout=0
        ) as websocket,
    ):
        assert websocket.url == f"ws://{NOWHERE}/new"


async def test_a_redirect_to_another_origin_goes_there() -> None:
    listening = Listening()
    async with listening.running(server_context()) as port:
        location = f"wss://{LOCALHOST}:{port}/there"

        async def talk(stream: trio.SocketStream) -> None:
            tls = trio.SSLStream(stream, server_context("inside.example"), server_side=True)
            await read_head(tls)
            await tls.send_all(head("HTTP/1.1 302 Found", f"Location: {location}"))

        async with (
            raw_server(talk) as other,
            open_websocket(
                f"wss://{NOWHERE}/",
                connect_to=(LOCALHOST, other),
                server_hostname="inside.example",
                source_address=("127.0.0.2", 0),
                ssl_context=client_context(),
                follow_redirects=1,
            ) as websocket,
        ):
            assert websocket.url == location
            assert comes_from(websocket) == "127.0.0.2"
    assert listening.requests[0].host == f"{LOCALHOST}:{port}"


async def test_only_those_that_go_the_same_way_share_a_connection() -> None:
    async with (
        Listening().running(server_context()) as port,
        Agent(ssl_context=client_context()) as agent,
        AsyncExitStack() as stack,
    ):
        ways: list[dict[str, Any]] = [
            {},
            {"server_hostname": "localhost"},
            {"source_address": ("127.0.0.2", 0)},
            {"connect_to": ("localhost", port)},
        ]
        for way in ways * 2:
            url = f"wss://{LOCALHOST}:{port}/"
            await stack.enter_async_context(open_websocket(url, dispatcher=agent, **way))
        assert agent.statistics().connections_open == 4
        assert agent.statistics().streams_open == 8


async def test_a_stream_that_is_connected_takes_a_server_hostname_only() -> None:
    async with Listening().running(server_context("inside.example")) as port, trio.open_nursery() as nursery:
        stream = await trio.open_tcp_stream(LOCALHOST, port)
        async with await trio_ws.wrap_client_stream(
            nursery, stream, "wss://a/", ssl_context=client_context(), server_hostname="inside.example"
        ):
            pass
        ours, _ = memory_stream_pair()
        wrap = partial(trio_ws.wrap_client_stream, nursery, ours, "ws://a/")
        with pytest.raises(TypeError, match="connect_to: a stream"):
            await wrap(connect_to=("a", 1))
        with pytest.raises(TypeError, match="source_address: a stream"):
            await wrap(source_address=("a", 0))
        with pytest.raises(ValueError, match="server_hostname is for TLS"):
            await wrap(server_hostname="a")


# ---- what is wrong is told before any I/O ----


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"connect_to": "host:80"}, TypeError, "connect_to must be a pair of host and port, or None, not 'host:80'"),
        ({"connect_to": ("a", 1, 2)}, TypeError, "connect_to must be a pair"),
        ({"connect_to": (b"a", 1)}, TypeError, "its host must be a str"),
        ({"connect_to": ("a", "1")}, TypeError, "its port must be an int"),
        ({"connect_to": ("a", True)}, TypeError, "its port must be an int"),
        ({"connect_to": ("a", 0)}, ValueError, "its port must be from 1 to 65535"),
        ({"connect_to": ("a", 65536)}, ValueError, "its port must be from 1 to 65535"),
        ({"connect_to": ("", 1)}, ValueError, "connect_to: '' is no host: it must have a host"),
        ({"connect_to": ("a b", 1)}, ValueError, "connect_to: 'a b' is no host: its host contains a forbidden"),
        ({"connect_to": ("::g", 1)}, ValueError, "connect_to: '::g' is no host"),
        ({"connect_to": ("\udc80", 1)}, ValueError, "surrogates"),
        ({"source_address": "127.0.0.1"}, TypeError, "source_address must be a pair"),
        ({"source_address": ("127.0.0.1", -1)}, ValueError, "its port must be from 0 to 65535"),
        ({"server_hostname": b"a"}, TypeError, "server_hostname must be a str or None"),
        ({"server_hostname": "a/b"}, ValueError, "server_hostname: 'a/b' is no host"),
    ],
    ids=str,
)
async def test_arguments_are_checked(options: dict[str, Any], error: type[Exception], message: str) -> None:
    for make in (Agent, partial(ProxyAgent, "http://a"), EnvHttpProxyAgent):
        with pytest.raises(error, match=message):
            make(**options)
    with pytest.raises(error, match=message):
        async with open_websocket(f"wss://{NOWHERE}/", **options):
            pytest.fail("it is open")


async def test_arguments_that_do_not_go_together() -> None:
    for place in ({"connect_to": ("a", 1)}, {"source_address": ("a", 1)}):
        with pytest.raises(ValueError, match="a Unix socket has no hosts and ports"):
            Agent(socket_path="/socket", **place)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"server_hostname='a' is for wss: ws://nowhere\.invalid/ has no TLS"):
        async with open_websocket(f"ws://{NOWHERE}/", server_hostname="a"):
            pytest.fail("it is open")


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_an_ipv6_address_may_stand_with_or_without_brackets(host: str) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(answer(await read_head(stream)))
        await read_head(stream)

    async with (
        raw_server(talk, "::1") as port,
        open_websocket(f"ws://{NOWHERE}/", connect_to=(host, port), close_timeout=0) as websocket,
    ):
        assert websocket.remote_address == ("::1", port)
