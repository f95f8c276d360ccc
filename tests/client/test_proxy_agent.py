"""Agents that go through proxies: what they ask, what they believe, what they keep to themselves, how they choose."""

from __future__ import annotations

import base64
import datetime
import inspect
import logging
import ssl
import sys
import traceback
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

import trio_ws
from trio_ws import Agent, EnvHttpProxyAgent, HandshakeTimeout, InvalidURL, ProxyAgent, ProxyError, ProxyTimeout
from trio_ws._client.proxy_agent import AgentKeywords

from ..raw import (
    authority,
    client_context,
    field,
    fields,
    head,
    open_files,
    raw_server,
    read_all,
    read_head,
    server_context,
)
from ..serving import echo, serving, until
from ..small_proxies import ESTABLISHED, SOCKS_CONNECTED, SmallProxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

SCHEMES = ["http", "https", "socks5"]
SECRET = "Pa55-word"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class Recording(trio_ws.Instrument):
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def proxy_connected(self, proxy: str, target: str, headers: Mapping[str, str]) -> None:
        self.told.append(("proxy", proxy, target, dict(headers)))

    def websocket_open(self, websocket: trio_ws.WebSocket) -> None:
        self.told.append(("open", websocket.url))


async def open_and_close(url: str, agent: trio_ws.Dispatcher, *, connect_timeout: float = 10.0) -> None:
    """Open a WebSocket through an agent, and use it."""
    async with trio_ws.open_websocket(
        url, dispatcher=agent, ssl_context=client_context(), connect_timeout=connect_timeout
    ) as websocket:
        await websocket.send("hello")
        assert await websocket.receive() == "hello"


# What is passed.


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"url": "ws://proxy"}, InvalidURL, "scheme"),
        ({"url": b"http://proxy"}, TypeError, "url must be a str"),
        ({"url": "http://proxy", "token": 5}, TypeError, "token must be a str"),
        ({"url": "http://proxy", "token": "a\r\nb"}, ValueError, "Proxy-Authorization"),
        ({"url": f"http://u:{SECRET}@proxy", "token": "Bearer x"}, ValueError, "token must not be passed beside"),
        ({"url": "http://proxy", "headers": {"Proxy-Authorization": SECRET}}, ValueError, "pass its value as token"),
        ({"url": "http://proxy", "headers": {"proxy-authorization": SECRET}}, ValueError, "pass its value as token"),
        ({"url": "http://proxy", "headers": {"Host": "a"}}, ValueError, "'Host'"),
        ({"url": "http://proxy", "headers": {"Content-Length": "1"}}, ValueError, "'Content-Length'"),
        ({"url": "http://proxy", "headers": {"A": f"{SECRET}\n"}}, ValueError, "'A'"),
        ({"url": "http://proxy", "headers": "A: b"}, TypeError, "headers must be"),
        ({"url": "http://proxy", "proxy_ssl_context": True}, TypeError, "ssl_context must be"),
        ({"url": "http://proxy", "ssl_context": True}, TypeError, "ssl_context must be"),
        ({"url": "http://proxy", "instruments": [5]}, TypeError, "no Instrument"),
        ({"url": "http://proxy", "socket_path": "/x"}, TypeError, "socket_path"),
        ({"url": "http://proxy", "colour": "red"}, TypeError, "colour"),
        ({"url": "socks5://proxy", "token": SECRET}, ValueError, "SOCKS cannot carry"),
        ({"url": "socks5://proxy", "headers": {"A": SECRET}}, ValueError, "SOCKS cannot carry"),
        ({"url": f"socks5://{SECRET}@proxy"}, ValueError, "1 to 255 ASCII"),
        ({"url": f"socks5://:{SECRET}@proxy"}, ValueError, "1 to 255 ASCII"),
        ({"url": f"socks5://u:{SECRET}é@proxy"}, ValueError, "1 to 255 ASCII"),
        ({"url": f"socks5://u:{SECRET * 29}@proxy"}, ValueError, "1 to 255 ASCII"),
    ],
)
def test_arguments_are_checked_and_errors_tell_no_secret(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        ProxyAgent(**arguments)  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


def test_socks_without_python_socks_is_an_import_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    with pytest.raises(ImportError, match=r"trio-ws\[socks\]"):
        ProxyAgent("socks5://proxy")
    ProxyAgent("http://proxy")


def test_the_options_of_an_agent_are_those_of_a_proxy_agent() -> None:
    options = {name for name in inspect.signature(Agent).parameters if name != "socket_path"}
    assert set(AgentKeywords.__annotations__) == options


def test_a_proxy_agent_shows_where_and_no_secret() -> None:
    agent = ProxyAgent(f"https://user:{SECRET}@proxy.example/", headers={"X-Key": SECRET})
    assert repr(agent) == "<ProxyAgent https://proxy.example:443>"
    assert SECRET not in repr(vars(agent))
    assert "user" not in repr(vars(agent))


# Through honest proxies.


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_websocket_through_a_proxy(scheme: str, secure: bool) -> None:
    proxy = SmallProxy(scheme, "localhost")
    ours, theirs = Recording(), Recording()
    # The server's certificate is not for the proxy's name, nor the proxy's for the server's: each has its own.
    context = server_context("inside.example") if secure else None
    async with (
        proxy.running() as place,
        serving(partial(trio_ws.serve_websocket, echo, "127.0.0.1", 0, context, hosts=["inside.example"])) as server,
        ProxyAgent(
            f"{scheme}://{place}",
            ssl_context=client_context(),
            proxy_ssl_context=client_context(),
            instruments=[theirs],
        ) as agent,
    ):
        url = f"{'wss' if secure else 'ws'}://inside.example:{server.port}/"
        async with trio_ws.open_websocket(url, dispatcher=agent, instruments=[ours]) as websocket:
            await websocket.send("hello")
            assert await websocket.receive() == "hello"
    # The name went to the proxy: nobody here could have resolved it.
    assert proxy.targets == [("inside.example", server.port)]
    answered = {} if scheme == "socks5" else {"Via": "small"}
    expected = [("proxy", f"{scheme}://{place}", f"inside.example:{server.port}", answered), ("open", url)]
    assert ours.told == theirs.told == expected
    assert (b"GET / HTTP/1.1" in proxy.sent) == (not secure)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_an_agent_that_was_not_entered_connects_too(scheme: str) -> None:
    proxy = SmallProxy(scheme)
    async with (
        proxy.running() as place,
        serving(partial(trio_ws.serve_websocket, echo, "127.0.0.1", 0)) as server,
    ):
        agent = ProxyAgent(f"{scheme}://{place}", proxy_ssl_context=client_context())
        for _ in range(2):
            await open_and_close(f"ws://127.0.0.1:{server.port}/", agent)
    assert len(proxy.asked) == 2


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_websockets_over_http_2_share_one_tunnel(scheme: str) -> None:
    proxy = SmallProxy(scheme)
    recording = Recording()
    async with (
        proxy.running() as place,
        serving(partial(trio_ws.serve_websocket, echo, "127.0.0.1", 0, server_context())) as server,
        ProxyAgent(
            f"{scheme}://user:{SECRET}@{place}",
            ssl_context=client_context(),
            proxy_ssl_context=client_context(),
            instruments=[recording],
        ) as agent,
    ):
        url = f"wss://localhost:{server.port}/"
        async with (
            trio_ws.open_websocket(url, dispatcher=agent) as one,
            trio_ws.open_websocket_stream(url, dispatcher=agent) as two,
        ):
            assert one.http_version == "2"
            await one.send("hello")
            await two.writable.send("hello")
            assert await one.receive() == await two.readable.receive() == "hello"
    assert proxy.targets == [("localhost", server.port)]
    assert [told[0] for told in recording.told] == ["proxy", "open", "open"]


async def test_a_proxy_that_refused_is_asked_again() -> None:
    proxy = SmallProxy()
    refusals = 1

    async def refuse_once(stream: trio.SocketStream) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            await read_head(stream)
            await stream.send_all(head("HTTP/1.1 503 Service Unavailable"))
        else:
            await proxy.serve(stream)

    async with (
        raw_server(refuse_once) as port,
        serving(partial(trio_ws.serve_websocket, echo, "127.0.0.1", 0, server_context())) as server,
        ProxyAgent(f"http://127.0.0.1:{port}") as agent,
    ):
        with pytest.raises(ProxyError) as caught:
            await open_and_close(f"wss://localhost:{server.port}/", agent)
        assert caught.value.status == 503
        await open_and_close(f"wss://localhost:{server.port}/", agent)
    assert len(proxy.targets) == 1


async def test_connect_has_the_callers_headers_and_token_and_the_server_sees_neither() -> None:
    proxy = SmallProxy()
    async with (
        proxy.running() as place,
        serving(partial(trio_ws.serve_websocket, echo, "127.0.0.1", 0)) as server,
    ):
        agent = ProxyAgent(
            f"http://{place}", token=f"Bearer {SECRET}", headers=[("X-Key", SECRET), ("User-Agent", "me")]
        )
        await open_and_close(f"ws://localhost:{server.port}/", agent)
    (asked,) = proxy.asked
    assert asked.startswith(f"CONNECT localhost:{server.port} HTTP/1.1\r\n".encode())
    assert fields(asked) == [
        ("Host", f"localhost:{server.port}"),
        ("X-Key", SECRET),
        ("User-Agent", "me"),
        ("Proxy-Authorization", f"Bearer {SECRET}"),
    ]
    assert SECRET.encode() not in proxy.sent
    assert b"proxy" not in proxy.sent.lower()


async def test_a_proxy_is_told_the_user_agent_too_unless_it_is_left_out() -> None:
    proxy = SmallProxy()
    async with (
        proxy.running() as place,
        serving(partial(trio_ws.serve_websocket, echo, "127.0.0.1", 0)) as server,
    ):
        url, agent = f"ws://localhost:{server.port}/", ProxyAgent(f"http://{place}")
        await open_and_close(url, agent)
        for name in ("Chat/2", None):
            async with trio_ws.open_websocket(url, dispatcher=agent, user_agent_header=name):
                pass
        async with trio_ws.open_websocket(url, dispatcher=agent, headers={"User-Agent": SECRET}):
            pass
    ours = f"trio_ws/{trio_ws.__version__}"
    assert [dict(fields(asked)).get("User-Agent") for asked in proxy.asked] == [ours, "Chat/2", None, ours]


async def test_userinfo_is_basic_authorization() -> None:
    proxy = SmallProxy()
    async with proxy.running() as place, serving(partial(trio_ws.serve_websocket, echo, "127.0.0.1", 0)) as server:
        await open_and_close(f"ws://127.0.0.1:{server.port}/", ProxyAgent(f"http://Aladdin:open%20sesame@{place}"))
    assert field(proxy.asked[0], "Proxy-Authorization") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="  # RFC 7617 §2


async def test_userinfo_is_the_user_of_socks() -> None:
    proxy = SmallProxy("socks5")
    async with proxy.running() as place, serving(partial(trio_ws.serve_websocket, echo, "127.0.0.1", 0)) as server:
        await open_and_close(f"ws://127.0.0.1:{server.port}/", ProxyAgent(f"socks5h://me:{SECRET}@{place}"))
    assert b"\1\2me\x09" + SECRET.encode() in proxy.asked[0]  # RFC 1929 §2
    assert SECRET.encode() not in proxy.sent


async def test_a_request_must_not_carry_proxy_authorization() -> None:
    with pytest.raises(ValueError, match="Proxy-Authorization"):
        async with trio_ws.open_websocket(
            "ws://a/", dispatcher=ProxyAgent("http://127.0.0.1:1"), headers={"Proxy-Authorization": "Basic x"}
        ):
            pytest.fail("it was sent")


# Whom TLS verifies.


async def test_an_https_proxy_is_verified_by_its_own_name() -> None:
    proxy = SmallProxy("https", "localhost")
    before = open_files()
    async with proxy.running() as place:
        port = place.rpartition(":")[2]
        agent = ProxyAgent(f"https://127.0.0.1:{port}", proxy_ssl_context=client_context())
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch") as caught:
            await open_and_close("ws://localhost:1/", agent)
        assert caught.value.__notes__ == [f"while connecting to the proxy https://127.0.0.1:{port}"]
        # The server's context does not count for the proxy.
        with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|unable to get local issuer"):
            await open_and_close("wss://localhost:1/", ProxyAgent(f"https://{place}", ssl_context=client_context()))
    assert proxy.asked == []
    await until(lambda: open_files() == before)


def expired_context(name: str) -> ssl.SSLContext:
    """A server's context whose certificate ended yesterday."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    before = yesterday - datetime.timedelta(days=1)
    authority().issue_cert(name, not_before=before, not_after=yesterday).configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("make_context", "why"),
    [
        (lambda: server_context("127.0.0.1"), "mismatch"),  # the proxy's name
        (lambda: server_context("inside.example", issuer=trustme.CA()), "unable to get local issuer"),
        (lambda: expired_context("inside.example"), "expired"),
        (lambda: server_context("inside.example", version=ssl.TLSVersion.TLSv1_1), "(?i)alert|protocol|version"),
    ],
    ids=["wrong name", "unknown issuer", "expired", "TLS 1.1"],
)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_the_server_is_verified_and_sees_no_http_before(
    scheme: str, make_context: Callable[[], ssl.SSLContext], why: str
) -> None:
    proxy = SmallProxy(scheme)
    context = make_context()
    async with (
        proxy.running() as place,
        serving(partial(trio_ws.serve_websocket, echo, "127.0.0.1", 0, context)) as server,
    ):
        agent = ProxyAgent(f"{scheme}://{place}", proxy_ssl_context=client_context())
        with pytest.raises(ssl.SSLError, match=why):
            await open_and_close(f"wss://inside.example:{server.port}/", agent)
    assert b"GET" not in proxy.sent


# Dishonest proxies.


def assert_secret(text: str) -> None:
    """Check that a text has the credentials in no form."""
    assert SECRET not in text
    assert base64.b64encode(f"user:{SECRET}".encode()).decode() not in text


async def fails_through(
    talk: Callable[[trio.SocketStream], Awaitable[object]], scheme: str = "http", **options: float
) -> Exception:
    """Open a WebSocket through a proxy that talks so; return what it fails with."""
    ended = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        try:
            await talk(stream)
            await read_all(stream)
        except trio.BrokenResourceError:
            pass
        ended.set()

    async with raw_server(serve) as port:
        agent = ProxyAgent(f"{scheme}://user:{SECRET}@127.0.0.1:{port}")
        with pytest.raises((trio_ws.HandshakeError, OSError)) as caught:
            await open_and_close("ws://inside.example/", agent, **options)
        await ended.wait()  # our end is closed
    assert_secret("".join(traceback.format_exception(caught.value)))
    assert_secret(repr(vars(caught.value)))
    # As some reports of errors do: with the variables of every frame.
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert_secret("".join(report.format()))
    return caught.value


def answering(*pieces: bytes) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Talk as an HTTP proxy does: read the request, then send some pieces."""

    async def talk(stream: trio.SocketStream) -> None:
        await read_head(stream)
        for piece in pieces:
            await stream.send_all(piece)

    return talk


async def endless(stream: trio.SocketStream) -> None:
    """Answer with a head that never ends."""
    await read_head(stream)
    await stream.send_all(b"HTTP/1.1 200 OK\r\n")
    while True:
        await stream.send_all(b"A: b\r\n" * 1000)


async def big_refusal(stream: trio.SocketStream) -> None:
    """Refuse with a body of a gigabyte."""
    await read_head(stream)
    await stream.send_all(head("HTTP/1.1 403 Forbidden", "Content-Length: 1000000000"))
    for _ in range(1000):
        await stream.send_all(bytes(1_000_000))


@pytest.mark.parametrize(
    ("talk", "status"),
    [
        (endless, None),
        (big_refusal, 403),
        (answering(head("HTTP/1.1 407 Proxy Authentication Required", "Proxy-Authenticate: Basic")), 407),
        (answering(head("HTTP/1.1 502 Bad Gateway"), b"body"), 502),
        (answering(ESTABLISHED + b"HELLO"), None),
        (answering(b"\x16\x03\x03 garbage \0\xff"), None),
        (answering(*(bytes([byte]) for byte in head("HTTP/1.1 403 Forbidden"))), 403),
    ],
)
async def test_a_dishonest_http_proxy_is_a_proxy_error(
    talk: Callable[[trio.SocketStream], Awaitable[object]], status: int | None
) -> None:
    with trio.fail_after(5):
        error = await fails_through(talk)
    assert type(error) is ProxyError
    assert error.status == status


async def leave(stream: trio.SocketStream) -> None:
    await stream.aclose()


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_leaves_early_is_a_proxy_error(scheme: str) -> None:
    async def read_and_leave(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.aclose()

    for talk in (leave, read_and_leave):
        async with raw_server(talk) as port:
            with pytest.raises(ProxyError):
                await open_and_close("ws://inside.example/", ProxyAgent(f"{scheme}://127.0.0.1:{port}"))


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_a_proxy_that_is_not_there_is_an_os_error_with_a_note(scheme: str) -> None:
    with pytest.raises(OSError, match=r"127\.0\.0\.1:1") as caught:
        await open_and_close("ws://inside.example/", ProxyAgent(f"{scheme}://127.0.0.1:1"))
    assert caught.value.__notes__ == [f"while connecting to the proxy {scheme}://127.0.0.1:1"]


@pytest.mark.parametrize(
    ("scheme", "begun"), [("http", b""), ("http", b"HTTP/1.1 200 OK\r\n"), ("socks5", b""), ("socks5", b"\5")]
)
async def test_a_proxy_that_falls_silent_is_a_proxy_timeout(scheme: str, begun: bytes) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(begun)

    assert isinstance(await fails_through(talk, scheme, connect_timeout=0.1), ProxyTimeout)


async def test_a_proxy_timeout_is_each_error_that_it_means_and_tells_who_was_slow() -> None:
    error = await fails_through(trio.SocketStream.receive_some, connect_timeout=0.05)
    assert isinstance(error, ProxyTimeout)
    assert isinstance(error, ProxyError)
    assert isinstance(error, HandshakeTimeout)
    assert isinstance(error, trio.TooSlowError)
    assert "within connect_timeout=0.05 s: the proxy http://127.0.0.1:" in str(error)


async def test_a_server_that_is_silent_behind_a_proxy_is_no_proxy_timeout() -> None:
    proxy = SmallProxy()
    async with proxy.running() as place, raw_server(read_all) as port:
        with pytest.raises(HandshakeTimeout) as caught:
            await open_and_close(f"ws://127.0.0.1:{port}/", ProxyAgent(f"http://{place}"), connect_timeout=0.1)
    assert type(caught.value) is HandshakeTimeout


def socks_answering(*answers: bytes) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Talk as a SOCKS proxy does: read, send the first answer, and so on."""

    async def talk(stream: trio.SocketStream) -> None:
        for answered in answers:
            await stream.receive_some()
            await stream.send_all(answered)

    return talk


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ((b"\4\0",), "version"),
        ((b"\5\xff",), "authentication method"),
        ((b"\5\1",), "authentication method"),
        ((b"\5\7",), "authentication method"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "version"),
        ((b"\5\2", b"\1\1"), "authentication failure"),
        ((b"\5\2", b"\2\0"), "authentication"),
        ((b"\5\0", b"\5\1\0"), "General SOCKS server failure"),
        ((b"\5\0", b"\5\2\0"), "not allowed"),
        ((b"\5\0", b"\5\5\0"), "refused"),
        ((b"\5\0", b"\5\xee\0"), "reply code"),
        ((b"\5\0", b"\4\0\0\1"), "version"),
        ((b"\5\0", b"\5\0\1\1"), "reserved"),
        ((b"\5\0", b"\5\0\0\2" + bytes(6)), "address type"),
        ((b"\5\0", b"\5\0\0\3\2\xff\xff\0\0"), "malformed"),
    ],
)
async def test_a_dishonest_socks_proxy_is_a_proxy_error(answers: tuple[bytes, ...], why: str) -> None:
    with trio.fail_after(5):
        error = await fails_through(socks_answering(*answers), "socks5")
    assert type(error) is ProxyError
    assert why.lower() in str(error).lower()
    assert error.status is None


async def test_a_socks_proxy_that_resets_is_a_proxy_error_with_its_cause() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"\5\2")
        await stream.receive_some()  # the password
        stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.socket.close()

    async with raw_server(talk) as port:
        with pytest.raises(ProxyError, match="broke") as caught:
            await open_and_close("ws://inside.example/", ProxyAgent(f"socks5://user:{SECRET}@127.0.0.1:{port}"))
    assert isinstance(caught.value.__cause__, OSError)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert_secret("".join(report.format()))


@pytest.mark.parametrize(
    "answers", [(b"\5\0", SOCKS_CONNECTED), (b"\5\0", b"\5\0\0\3\5local\0\0"), (b"\5\0", b"\5\0\0\4" + bytes(18))]
)
async def test_a_socks_answer_may_come_in_pieces_of_one_byte_and_nothing_behind_it_is_lost(
    answers: tuple[bytes, ...],
) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        for answered in answers:
            await stream.receive_some()
            for byte in answered:
                await stream.send_all(bytes([byte]))
        await read_head(stream)
        await stream.send_all(head("HTTP/1.1 418 I'm a teapot", "Content-Length: 0"))

    error = await fails_through(talk, "socks5")
    assert isinstance(error, trio_ws.HandshakeRejected)
    assert error.status == 418


async def test_a_host_over_255_bytes_is_refused_before_any_io() -> None:
    with pytest.raises(InvalidURL, match="253 characters"):
        await open_and_close(f"ws://{'a.' * 128}example/", ProxyAgent("socks5://127.0.0.1:1"))


async def test_nothing_of_a_proxy_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    proxy = SmallProxy()
    async with proxy.running() as place, serving(partial(trio_ws.serve_websocket, echo, "127.0.0.1", 0)) as server:
        agent = ProxyAgent(f"http://user:{SECRET}@{place}")
        await open_and_close(f"ws://127.0.0.1:{server.port}/", agent)
    assert SECRET not in caplog.text


async def test_an_instrument_that_raises_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(trio_ws.Instrument):
        def proxy_connected(self, proxy: str, target: str, headers: Mapping[str, str]) -> None:
            raise ZeroDivisionError("in an instrument")

    async with (
        SmallProxy().running() as place,
        serving(partial(trio_ws.serve_websocket, echo, "127.0.0.1", 0)) as server,
    ):
        await open_and_close(
            f"ws://127.0.0.1:{server.port}/",
            ProxyAgent(f"http://{place}", instruments=[Faulty(), trio_ws.Instrument()]),
        )
    assert "is not called again" in caplog.text


# What the environment says.


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the variables of proxies, and no others of theirs."""

    def set_all(**variables: str) -> None:
        for name in (*PROXIES, *map(str.upper, PROXIES), "REQUEST_METHOD"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    set_all()
    return set_all


class Chosen(Exception):
    """Which agent was asked."""


async def choice(agent: EnvHttpProxyAgent, url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Tell which way an agent takes to a URL."""

    async def connect(self: Agent, request: trio_ws.ConnectRequest) -> trio_ws._transport.Transport:
        raise Chosen(repr(self) if isinstance(self, ProxyAgent) else "straight")

    monkeypatch.setattr(Agent, "_connect", connect)
    monkeypatch.setattr(ProxyAgent, "_connect", connect)
    with pytest.raises(Chosen) as caught:
        async with trio_ws.open_websocket(url, dispatcher=agent):
            pytest.fail("it is open")
    return str(caught.value).removeprefix("<ProxyAgent ").removesuffix(":80>")


ONE, TWO, THREE = "http://one", "http://two", "http://three"


@pytest.mark.parametrize(
    ("variables", "plain", "secure"),
    [
        ({}, "straight", "straight"),
        ({"http_proxy": ONE}, ONE, ONE),
        ({"HTTP_PROXY": ONE}, ONE, ONE),
        ({"https_proxy": TWO}, "straight", TWO),
        ({"http_proxy": ONE, "HTTPS_PROXY": TWO}, ONE, TWO),
        ({"all_proxy": THREE}, THREE, THREE),
        ({"ALL_PROXY": THREE, "http_proxy": ONE}, ONE, THREE),
        ({"ALL_PROXY": THREE, "https_proxy": TWO}, THREE, TWO),
        ({"http_proxy": ONE, "HTTP_PROXY": TWO}, ONE, ONE),
        ({"http_proxy": "", "HTTP_PROXY": TWO}, "straight", "straight"),
        ({"http_proxy": "", "all_proxy": THREE}, THREE, THREE),
        ({"HTTP_PROXY": ONE, "REQUEST_METHOD": "GET"}, "straight", "straight"),
        ({"http_proxy": ONE, "REQUEST_METHOD": "GET"}, ONE, ONE),
        ({"HTTPS_PROXY": TWO, "REQUEST_METHOD": "GET"}, "straight", TWO),
        ({"http_proxy": "one"}, ONE, ONE),
        ({"ALL_PROXY": "socks://one:80/"}, "socks5://one", "socks5://one"),
        ({"http_proxy": ONE, "no_proxy": "a.example"}, "straight", "straight"),
        ({"http_proxy": ONE, "NO_PROXY": "a.example:443"}, ONE, "straight"),
        ({"http_proxy": ONE, "no_proxy": "", "NO_PROXY": "*"}, ONE, ONE),
        ({"http_proxy": ONE, "no_proxy": "*"}, "straight", "straight"),
    ],
)
async def test_the_environment_chooses(
    variables: dict[str, str],
    plain: str,
    secure: str,
    environment: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment(**variables)
    agent = EnvHttpProxyAgent()
    assert await choice(agent, "ws://sub.a.example/", monkeypatch) == plain
    assert await choice(agent, "wss://sub.a.example/", monkeypatch) == secure


async def test_arguments_stand_in_for_the_environment(
    environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(http_proxy=ONE, https_proxy=TWO, all_proxy=THREE, no_proxy="*")
    agent = EnvHttpProxyAgent(no_proxy="")
    assert await choice(agent, "ws://a/", monkeypatch) == ONE
    agent = EnvHttpProxyAgent(http_proxy="http://four", https_proxy="", no_proxy="")
    assert await choice(agent, "ws://a/", monkeypatch) == "http://four"
    assert await choice(agent, "wss://a/", monkeypatch) == THREE
    agent = EnvHttpProxyAgent(http_proxy="", all_proxy="", no_proxy="b")
    assert await choice(agent, "ws://a/", monkeypatch) == "straight"
    assert await choice(agent, "wss://a/", monkeypatch) == TWO


async def test_the_environment_is_read_once(environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    environment(http_proxy=ONE)
    agent = EnvHttpProxyAgent()
    environment(http_proxy=TWO, no_proxy="*")
    assert await choice(agent, "ws://a/", monkeypatch) == ONE


async def refusal(agent: EnvHttpProxyAgent, url: str) -> Exception:
    """Open a WebSocket through a variable that is broken; what is said of it has no secret, and is new each time."""
    errors = []
    for _ in range(2):
        with pytest.raises((ValueError, ImportError)) as caught:
            async with trio_ws.open_websocket(url, dispatcher=agent):
                pytest.fail("it is open")
        errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert SECRET not in str(errors[0])
    return errors[0]


async def test_a_broken_variable_hurts_only_who_goes_through_it(
    environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(http_proxy=ONE, HTTPS_PROXY=f"ftp://user:{SECRET}@proxy", no_proxy="straight.example")
    async with EnvHttpProxyAgent() as agent:
        error = await refusal(agent, "wss://a/")
        assert isinstance(error, InvalidURL)
        assert str(error).startswith("https_proxy: url 'ftp://***@proxy' is not a proxy's URL")
        assert agent.statistics().connections_opened == 0
        with monkeypatch.context() as patched:
            assert await choice(agent, "ws://a/", patched) == ONE
            assert await choice(agent, "wss://straight.example/", patched) == "straight"
    for value in ("ftp://proxy", "http://proxy:99999", "\udcff", "socks5://me:@proxy"):
        for name in PROXIES[:3]:
            environment(**{name: value, "no_proxy": "*"})
            agent = EnvHttpProxyAgent()
            with monkeypatch.context() as patched:
                assert await choice(agent, "ws://a/", patched) == "straight"
                assert await choice(agent, "wss://a/", patched) == "straight"
            agent = EnvHttpProxyAgent(no_proxy="")
            error = await refusal(agent, "ws://a/" if name != "https_proxy" else "wss://a/")
            assert str(error).startswith(f"{name}: ")
    environment(http_proxy="socks://proxy", https_proxy=TWO)
    with monkeypatch.context() as patched:
        patched.setattr("trio_ws._net.proxy.find_spec", lambda name: None)
        agent = EnvHttpProxyAgent()
        assert isinstance(error := await refusal(agent, "ws://a/"), ImportError)
        assert str(error).startswith("http_proxy: a socks5 proxy needs python-socks")
        assert await choice(agent, "wss://a/", patched) == TWO


def test_a_wrong_argument_is_named_at_once_and_no_secret_with_it(environment: Callable[..., None]) -> None:
    for name in PROXIES[:3]:
        with pytest.raises(InvalidURL, match=f"^{name}: url") as caught:
            EnvHttpProxyAgent(**{name: f"ftp://user:{SECRET}@proxy"})  # type: ignore[arg-type]
        assert SECRET not in str(caught.value)
    for name in PROXIES:
        with pytest.raises(TypeError, match=f"{name} must be a str or None"):
            EnvHttpProxyAgent(**{name: 5})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="ssl_context"):
        EnvHttpProxyAgent(proxy_ssl_context=5)  # type: ignore[arg-type]


async def test_an_env_agent_owns_its_agents_and_passes_their_options_on(environment: Callable[..., None]) -> None:
    environment()
    plain, secure = SmallProxy(), SmallProxy("https")
    recording = Recording()
    context = server_context()
    async with (
        plain.running() as one,
        secure.running() as two,
        serving(partial(trio_ws.serve_websocket, echo, "127.0.0.1", 0)) as server,
        serving(partial(trio_ws.serve_websocket, echo, "127.0.0.1", 0, context)) as secure_server,
        EnvHttpProxyAgent(
            http_proxy=one,
            https_proxy=f"https://{two}",
            no_proxy=f"127.0.0.1:{server.port}",
            proxy_ssl_context=client_context(),
            instruments=[recording],
        ) as agent,
    ):
        await open_and_close(f"ws://127.0.0.1:{server.port}/", agent)
        assert plain.asked == secure.asked == []
        await open_and_close(f"ws://localhost:{server.port}/", agent)
        await open_and_close(f"wss://localhost:{secure_server.port}/", agent)
    assert plain.targets == [("localhost", server.port)]
    assert secure.targets == [("localhost", secure_server.port)]
    # However it was reached: one count. The last was over HTTP/2.
    assert agent.statistics().connections_opened == 1
    assert [told[0] for told in recording.told] == ["open", "proxy", "open", "proxy", "open"]
