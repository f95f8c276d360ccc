"""Who the client is behind trusted proxies: what is believed, in which order, and what is a lie."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_ws import SAME_ORIGIN, Headers, HTTPRequest, HTTPResponse, WebSocketRequest, serve_websocket
from trio_ws._server.forwarded import Client, Contradiction, TrustedProxies
from trio_ws._wire.handshake import Refusal, check_origin, read_http1_request

from ..net.http2.raw_http2 import CONNECT, GET, RawHttp2
from ..raw import FIELDS, client_context, head, read_head, request, server_context, status
from ..serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterable

LOCAL = "127.0.0.1"
PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8::/32"])
PEER = ("10.0.0.1", 5000)


def client(*fields: tuple[str, str], peer: object = PEER, proxies: TrustedProxies = PROXIES) -> Client:
    return proxies.client_of(peer, Headers(fields))


def x_for(text: str) -> tuple[str, str]:
    return "X-Forwarded-For", text


def x_proto(text: str) -> tuple[str, str]:
    return "X-Forwarded-Proto", text


def forwarded(text: str) -> tuple[str, str]:
    return "Forwarded", text


ALICE = ("192.0.2.1", 0)
MALLORY = ("198.51.100.7", 0)


@pytest.mark.parametrize(
    ("fields", "address", "secure"),
    [
        ([], None, None),
        # One proxy; whatever stands left of what it wrote, the client has sent.
        ([x_for("192.0.2.1")], ALICE, None),
        ([x_for("192.0.2.1"), x_proto("https")], ALICE, True),
        ([x_for("192.0.2.1"), x_proto("http")], ALICE, False),
        ([x_for("192.0.2.1"), x_proto("WSS")], ALICE, True),
        ([x_for("192.0.2.1"), x_proto("ws")], ALICE, False),
        ([x_for("192.0.2.1"), x_proto("gopher")], ALICE, None),
        ([x_for("192.0.2.1, 198.51.100.7")], MALLORY, None),
        ([x_for("192.0.2.1"), x_for("198.51.100.7")], MALLORY, None),
        ([x_for("10.9.9.9, 192.0.2.1, 198.51.100.7")], MALLORY, None),
        ([x_for("10.0.0.9,nonsense,198.51.100.7")], MALLORY, None),
        # Several proxies that are trusted.
        ([x_for("192.0.2.1, 10.0.0.2,10.0.0.3")], ALICE, None),
        ([x_for("198.51.100.7, 192.0.2.1, 10.0.0.2")], ALICE, None),
        ([x_for("192.0.2.1, 2001:db8::5")], ALICE, None),
        ([x_for("10.0.0.7, 10.0.0.2")], ("10.0.0.7", 0), None),
        ([x_for("192.0.2.1, 10.0.0.2"), x_proto("https, http")], ALICE, True),
        ([x_for("198.51.100.7, 192.0.2.1, 10.0.0.2"), x_proto("http, https, http")], ALICE, True),
        ([x_for("192.0.2.1, 10.0.0.2"), x_proto("https")], ALICE, True),
        ([x_for("192.0.2.1"), x_proto("http, https")], ALICE, True),
        # What names nobody: nothing left of it is known.
        ([x_for("192.0.2.1, unknown")], None, None),
        ([x_for("192.0.2.1, unknown, 10.0.0.2")], ("10.0.0.2", 0), None),
        ([x_for("192.0.2.1, ")], None, None),
        ([x_for("")], None, None),
        ([x_for("192.0.2.1.5")], None, None),
        ([x_for("192.0.2.256")], None, None),
        ([x_for("example.com")], None, None),
        ([x_for("unknown"), x_proto("https")], None, True),
        ([x_proto("https")], None, True),
        ([x_proto("https, http")], None, False),
        # How it is written.
        ([x_for("192.0.2.1:4711")], ("192.0.2.1", 4711), None),
        ([x_for("192.0.2.1:99999")], ALICE, None),
        ([x_for("192.0.2.1:_x")], ALICE, None),
        ([x_for("192.0.2.1:\u0661")], ALICE, None),
        ([x_for("2001:DB9::1")], ("2001:db9::1", 0), None),
        ([x_for("[2001:db9::1]")], ("2001:db9::1", 0), None),
        ([x_for("[2001:db9::1]:80")], ("2001:db9::1", 80), None),
        ([x_for("[2001:db9::1")], None, None),
        ([x_for("[2001:db9::1]80")], None, None),
        ([x_for("::ffff:192.0.2.1")], ALICE, None),
        ([x_for("192.0.2.1, ::ffff:10.0.0.2")], ALICE, None),
        # Forwarded.
        ([forwarded("for=192.0.2.1")], ALICE, None),
        ([forwarded("For=192.0.2.1;Proto=HTTPS;by=10.0.0.1")], ALICE, True),
        ([forwarded('for="192.0.2.1:4711";proto=http')], ("192.0.2.1", 4711), False),
        ([forwarded('proto=https ; for="[2001:db9::1]:80"')], ("2001:db9::1", 80), True),
        ([forwarded("for=192.0.2.1, for=198.51.100.7;proto=https")], MALLORY, True),
        ([forwarded("for=192.0.2.1;proto=https, for=10.0.0.2;proto=http")], ALICE, True),
        ([forwarded("for=192.0.2.1;proto=https, for=10.0.0.2"), forwarded("for=10.0.0.3")], ALICE, True),
        ([forwarded("for=192.0.2.1, for=10.0.0.2;proto=https")], ALICE, None),
        ([forwarded("for=192.0.2.1, for=_hidden;proto=https")], None, True),
        ([forwarded("for=unknown")], None, None),
        ([forwarded("by=10.0.0.1;proto=https")], None, True),
        ([forwarded('host="a, for=192.0.2.1";for=198.51.100.7')], MALLORY, None),
        ([forwarded(r'host="a\", for=192.0.2.1";for=198.51.100.7')], MALLORY, None),
        # A client cannot swallow what the proxy appends, nor have it taken for less.
        ([forwarded('for=192.0.2.1;x="'), forwarded("for=198.51.100.7")], MALLORY, None),
        ([forwarded('for=192.0.2.1;x=", for=198.51.100.7')], None, None),
        ([forwarded('for=192.0.2.1;x=", for="[2001:db9::1]"')], None, None),
        ([forwarded("for=192.0.2.1;x=\\, for=198.51.100.7")], MALLORY, None),
        ([forwarded('for=192.0.2.1;"x')], None, None),
        ([forwarded('for=192.0.2.1;x=1"2"')], None, None),
        ([forwarded('"x", for=198.51.100.7')], MALLORY, None),
        ([forwarded(r'for="\192.0\.2.1"')], ALICE, None),
        ([forwarded("for=192.0.2.1;for=198.51.100.7")], None, None),
        ([forwarded('for=19"2.0.2.1"')], None, None),
        ([forwarded('for="192.0.2.1')], None, None),
        ([forwarded("for")], None, None),
        ([forwarded("")], None, None),
        # Both, and they agree.
        ([forwarded("for=192.0.2.1;proto=https"), x_for("192.0.2.1")], ALICE, True),
        ([forwarded('for="192.0.2.1:4711"'), x_for("192.0.2.1"), x_proto("https")], ("192.0.2.1", 4711), True),
    ],
)
def test_what_trusted_proxies_say(
    fields: Iterable[tuple[str, str]], address: tuple[str, int] | None, secure: bool | None
) -> None:
    assert client(*fields) == Client(address, secure)


@pytest.mark.parametrize(
    "peer", [("192.0.2.9", 5), ("11.0.0.1", 5), ("proxy", 5), ("::1", 5), None, "", b"\0x", "/run/socket"]
)
def test_who_is_not_trusted_is_not_believed(peer: object) -> None:
    said = [x_for("192.0.2.1"), x_proto("https"), forwarded("for=192.0.2.1")]
    assert client(*said, peer=peer) == Client()
    assert client(*said, peer=peer, proxies=TrustedProxies([])) == Client()


def test_who_is_trusted() -> None:
    one = TrustedProxies(iter(["192.0.2.9", "fe80::/10", "unix:"]))
    for peer in (("192.0.2.9", 5), ("::ffff:192.0.2.9", 5), ("fe80::1%eth0", 5), "", "/run/socket", b"\0x"):
        assert client(x_for("192.0.2.1"), peer=peer, proxies=one) == Client(ALICE)
    assert client(x_for("192.0.2.1"), peer=None, proxies=one) == Client()


@pytest.mark.parametrize(
    "fields",
    [
        [forwarded("for=192.0.2.1"), x_for("198.51.100.7")],
        [forwarded("for=unknown"), x_for("198.51.100.7")],
        [forwarded("nonsense"), x_for("198.51.100.7")],
        [forwarded("for=192.0.2.1"), x_for("unknown")],
        [forwarded("for=192.0.2.1;proto=https"), x_for("192.0.2.1"), x_proto("http")],
    ],
)
def test_headers_that_contradict_each_other_are_believed_neither(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(Contradiction):
        client(*fields)


@pytest.mark.parametrize(
    ("proxies", "error", "message"),
    [
        ("10.0.0.1", TypeError, "^trusted_proxies must be an iterable of addresses and networks, not '10.0.0.1'$"),
        (5, TypeError, "^trusted_proxies must be an iterable"),
        ([5], TypeError, "^trusted_proxies: 5 must be a str, not int$"),
        (["10.0.0.1/8"], ValueError, r"^trusted_proxies: 10.0.0.1/8 has host bits set$"),
        (["proxy.example"], ValueError, "^trusted_proxies: 'proxy.example' does not"),
        (["*"], ValueError, r"^trusted_proxies: '\*' does not"),
    ],
)
def test_a_wrong_option_is_told(proxies: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TrustedProxies(proxies)  # type: ignore[arg-type]


PIECES = st.sampled_from(
    ["for=", "proto=https", '"', "\\", ",", ";", " ", "192.0.2.1", "10.0.0.2", "[", "]", ":", "unknown", "=", "x"]
)
TEXTS = st.one_of(st.text(st.characters(max_codepoint=255)), st.lists(PIECES, max_size=12).map("".join))


@settings(deadline=None)
@given(TEXTS, st.booleans())
def test_whatever_a_client_sends_the_line_of_the_proxy_counts(lie: str, modern: bool) -> None:
    if modern:
        assert client(forwarded(lie), forwarded("for=198.51.100.7")) == Client(MALLORY)
        # Appended to the client's own line it counts too, or nothing does.
        assert client(forwarded(f"{lie}, for=198.51.100.7")).address in (MALLORY, None)
    else:
        assert client(x_for(f"{lie}, 198.51.100.7")) == Client(MALLORY)


def test_the_work_grows_with_the_size_only() -> None:
    long = ", ".join(["for=10.0.0.2"] * 100_000)
    assert client(forwarded(long)) == Client(("10.0.0.2", 0))
    assert client(forwarded('"' * 100_001)) == Client()
    assert client(x_for(", ".join(["10.0.0.2"] * 100_000))) == Client(("10.0.0.2", 0))


# Origins.


@pytest.mark.parametrize(
    ("origin", "https_only", "taken"),
    [
        ("https://example.com", True, True),
        ("http://example.com", True, False),
        ("http://example.com", False, True),
        ("https://example.com:443", True, True),
        ("https://example.com:8443", True, False),
        ("https://other.example", True, False),
    ],
)
def test_a_page_without_tls_is_of_another_origin_where_tls_is_known(origin: str, https_only: bool, taken: bool) -> None:
    asked = read_http1_request("GET", "1.1", "/", Headers([*FIELDS.items(), ("Origin", origin)]), secure=https_only)
    if taken:
        check_origin(asked, SAME_ORIGIN, https_only=https_only)
    else:
        with pytest.raises(Refusal, match="403"):
            check_origin(asked, SAME_ORIGIN, https_only=https_only)


# A whole server.


class Seen:
    """A server's application that notes whom it takes for the client, at each place where that is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, object, str]] = []

    async def handle(self, asked: WebSocketRequest) -> None:
        async with asked.accept() as websocket:
            assert repr(asked) == f"<WebSocketRequest {asked.url} from {asked.remote_address!r}>"
            self.told.append((asked.remote_address, websocket.remote_address, websocket.url))
            assert websocket.url == asked.url

    async def greet(self, asked: HTTPRequest) -> HTTPResponse:
        self.told.append((asked.remote_address, asked.remote_address, asked.url))
        return HTTPResponse(200, (), b"hello")


SAID = ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "Host: chat.example")


@pytest.mark.parametrize("tls", [False, True])
async def test_a_server_tells_the_client_and_its_scheme(tls: bool) -> None:
    seen = Seen()
    serve = partial(
        serve_websocket,
        seen.handle,
        LOCAL,
        0,
        server_context() if tls else None,
        http_handler=seen.greet,
        trusted_proxies=["127.0.0.0/8"],
    )
    async with serving(serve) as server:
        for data in (request(*SAID), head("GET /page HTTP/1.1", *SAID)):
            stream: trio.abc.Stream = await trio.open_tcp_stream(LOCAL, server.port)
            if tls:
                stream = trio.SSLStream(stream, client_context(), server_hostname="localhost", https_compatible=True)
            await stream.send_all(data)
            assert status(await read_head(stream)) in (101, 200)
            await trio.aclose_forcefully(stream)
    assert seen.told == [(ALICE, ALICE, "wss://chat.example/"), (ALICE, ALICE, "https://chat.example/page")]


async def test_each_stream_of_http_2_has_a_client_of_its_own() -> None:
    seen = Seen()
    serve = partial(serve_websocket, seen.handle, LOCAL, 0, http_handler=seen.greet, trusted_proxies=[LOCAL])
    async with serving(serve) as server, await trio.open_tcp_stream(LOCAL, server.port) as stream:
        peer = RawHttp2(stream)
        await peer.begin()
        await peer.send(peer.headers(1, {**CONNECT, "forwarded": "for=192.0.2.1;proto=https"}))
        assert await peer.status(1) == "200"
        await peer.send(peer.headers(3, {**CONNECT, "forwarded": "for=198.51.100.7;proto=http"}))
        assert await peer.status(3) == "200"
        await peer.send(peer.headers(5, {**GET, "forwarded": "for=192.0.2.1;proto=https"}, "END_STREAM"))
        assert await peer.status(5) == "200"
        await peer.connect(7)
        assert await peer.status(7) == "200"
    assert [told[0] for told in seen.told[:3]] == [ALICE, MALLORY, ALICE]
    assert [told[1] for told in seen.told[:3]] == [ALICE, MALLORY, ALICE]
    assert [told[2].partition(":")[0] for told in seen.told] == ["wss", "ws", "https", "ws"]
    nobody_elses = seen.told[3][0]
    assert isinstance(nobody_elses, tuple)
    assert nobody_elses[0] == LOCAL


async def test_nobody_is_believed_unless_it_is_said() -> None:
    for option in ({}, {"trusted_proxies": ["10.0.0.0/8"]}):
        seen = Seen()
        serve = partial(serve_websocket, seen.handle, LOCAL, 0, **option)  # type: ignore[arg-type]
        async with serving(serve) as server, await trio.open_tcp_stream(LOCAL, server.port) as stream:
            await stream.send_all(request(*SAID))
            await read_head(stream)
            ours = stream.socket.getsockname()
        assert seen.told == [(ours, ours, "ws://chat.example/")]


async def test_a_contradiction_is_told_once_and_the_peer_is_the_client(caplog: pytest.LogCaptureFixture) -> None:
    seen = Seen()
    async with serving(partial(serve_websocket, seen.handle, LOCAL, 0, trusted_proxies=[LOCAL])) as server:
        ours = []
        for _ in range(2):
            async with await trio.open_tcp_stream(LOCAL, server.port) as stream:
                await stream.send_all(request(*SAID, "Forwarded: for=198.51.100.7"))
                await read_head(stream)
                ours.append(stream.socket.getsockname())
    assert seen.told == [(address, address, "ws://chat.example/") for address in ours]
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "Forwarded and X-Forwarded-For contradict each other" in record.getMessage()


async def test_a_page_without_tls_is_refused_where_the_proxy_tells_of_tls() -> None:
    seen = Seen()
    async with serving(partial(serve_websocket, seen.handle, LOCAL, 0, trusted_proxies=[LOCAL])) as server:
        for origin, expected in (("https://chat.example", 101), ("http://chat.example", 403)):
            async with await trio.open_tcp_stream(LOCAL, server.port) as stream:
                await stream.send_all(request(*SAID, f"Origin: {origin}"))
                assert status(await read_head(stream)) == expected
