"""ALPN on contexts that are the application's: what is agreed on, and that every context is left as it was."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import sys
import threading
from collections.abc import Callable, Iterable
from functools import partial

import pytest
import trio

from trio_ws import Agent, HTTPRequest, HTTPResponse, InvalidHandshake, open_websocket, serve_websocket
from trio_ws._net.alpn import REGISTERED, _read_offered, note_selected, offered, selected
from trio_ws._net.dial import default_ssl_context
from trio_ws._net.tls import TLSTransport

from ..raw import ScriptedTransport, authority, client_context, server_context
from ..serving import LOCALHOST, echo, serving

HTTP1, HTTP2 = ["http/1.1"], ["h2", "http/1.1"]
OWN = [None, HTTP1, HTTP2, ["acme-tls/1"], ["http/1.1", "h2"]]


def with_alpn(context: ssl.SSLContext, protocols: list[str] | None) -> ssl.SSLContext:
    if protocols is not None:
        context.set_alpn_protocols(protocols)
    return context


def either_side() -> ssl.SSLContext:
    """A context of the old kind, that clients and servers may share."""
    with pytest.warns(DeprecationWarning, match="PROTOCOL_TLS"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS)
    authority().issue_cert("localhost").configure_cert(context)
    authority().configure_trust(context)
    return context


def agree(client: ssl.SSLContext, server: ssl.SSLContext) -> str | None:
    """Shake hands by the standard library alone; give the protocol that was agreed on."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(3):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    assert ends[0].selected_alpn_protocol() == ends[1].selected_alpn_protocol()
    return ends[0].selected_alpn_protocol()


def offers(client: ssl.SSLContext, among: Iterable[str] = REGISTERED) -> set[str]:
    """Find out which protocols a client's context offers, by a server that knows one at a time."""
    server = server_context()
    return {name for name in among if agree(client, with_alpn(server, [name])) is not None}


def selects(server: ssl.SSLContext) -> list[str]:
    """Find out which protocols a server's context selects, by clients that offer fewer and fewer."""
    left, found = list(REGISTERED), []
    while (name := agree(with_alpn(client_context(), left), server)) is not None:
        left.remove(name)
        found.append(name)
    return found


async def shake_hands(client: TLSTransport, server: TLSTransport) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.handshake)
        await server.handshake()


# ---- clients ----


@pytest.mark.parametrize("own", OWN, ids=str)
@pytest.mark.parametrize(("allow_h2", "version"), [(True, "2"), (False, "1.1")])
async def test_a_clients_context_is_left_as_it_was(own: list[str] | None, allow_h2: bool, version: str) -> None:
    context = with_alpn(client_context(), own)
    async with serving(partial(serve_websocket, echo, LOCALHOST, 0, server_context())) as server:
        url = f"wss://{LOCALHOST}:{server.port}/"
        async with open_websocket(url, dispatcher=Agent(allow_h2=allow_h2), ssl_context=context) as websocket:
            assert websocket.http_version == version
            assert offers(context, {*REGISTERED[:9], "acme-tls/1"}) == set(own or ())
    assert offers(context, {*REGISTERED[:9], "acme-tls/1"}) == set(own or ())


async def test_http_client_gets_http1_over_a_context_that_spoke_http2() -> None:
    async def page(request: HTTPRequest) -> HTTPResponse:
        return HTTPResponse(200, body=request.http_version.encode())

    def fetch(port: int) -> bytes:
        connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            return connection.getresponse().read()

    context = client_context()
    async with serving(partial(serve_websocket, echo, LOCALHOST, 0, server_context(), http_handler=page)) as server:
        url = f"wss://{LOCALHOST}:{server.port}/"
        async with open_websocket(url, dispatcher=Agent(), ssl_context=context) as websocket:
            assert websocket.http_version == "2"
        assert await trio.to_thread.run_sync(fetch, server.port) == b"1.1"


@pytest.mark.parametrize("server", [server_context("other.example"), None], ids=["not verified", "no TLS"])
async def test_a_clients_context_is_left_as_it_was_when_tls_fails(server: ssl.SSLContext | None) -> None:
    context = with_alpn(client_context(), ["dot"])
    async with serving(partial(serve_websocket, echo, LOCALHOST, 0, server)) as listening:
        with pytest.raises(ssl.SSLError):
            async with open_websocket(f"wss://{LOCALHOST}:{listening.port}/", ssl_context=context):
                pytest.fail("it is open")
    assert offers(context) == {"dot"}


def test_a_clients_own_protocols_are_kept_whatever_they_are() -> None:
    own = ["x", "y" * 255, "not registered"]
    context = with_alpn(client_context(), own)
    with offered(context, HTTP2, "localhost"):
        assert offers(context, {*own, *HTTP2}) == set(HTTP2)
    assert offers(context, {*own, *HTTP2}) == set(own)


def test_the_default_context_is_ours_and_has_no_protocols_when_nobody_needs_them() -> None:
    context = default_ssl_context()
    with offered(context, HTTP2, "localhost"):
        outgoing = ssl.MemoryBIO()
        tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    assert b"\x02h2\x08http/1.1" in outgoing.read()
    assert _read_offered(context, "localhost") == []


def test_a_client_that_cannot_begin_is_told_by_the_handshake() -> None:
    context = client_context(ssl.TLSVersion.TLSv1_2)
    with pytest.warns(DeprecationWarning, match="OP_NO_TLS"):
        context.options |= ssl.OP_NO_TLSv1_2
    transport = TLSTransport(ScriptedTransport(), context, server_side=False, server_hostname="a", alpn=HTTP1)
    with pytest.raises(ssl.SSLError, match="NO_PROTOCOLS_AVAILABLE"):
        trio.run(transport.handshake)


class Stubborn(ssl.SSLContext):
    """A context whose protocols somebody else sets back before they are read."""

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        super().set_alpn_protocols(["h2"])


async def test_a_protocol_that_was_not_offered_is_refused() -> None:
    context = Stubborn(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    async with serving(partial(serve_websocket, echo, LOCALHOST, 0, server_context())) as server:
        with pytest.raises(
            InvalidHandshake, match=r"the server chose 'h2' by ALPN, not one of those offered: http/1\.1"
        ):
            async with open_websocket(f"wss://{LOCALHOST}:{server.port}/", ssl_context=context):
                pytest.fail("it is open")


async def test_a_protocol_that_is_not_even_text_is_refused() -> None:
    class Object(ssl.SSLObject):
        def selected_alpn_protocol(self) -> str | None:
            return b"\xff".decode()  # as ssl does, where OpenSSL lets it come so far

    context = client_context()
    context.sslobject_class = Object
    async with serving(partial(serve_websocket, echo, LOCALHOST, 0, server_context())) as server:
        with pytest.raises(InvalidHandshake, match="the server chose '\N{REPLACEMENT CHARACTER}' by ALPN"):
            async with open_websocket(f"wss://{LOCALHOST}:{server.port}/", ssl_context=context):
                pytest.fail("it is open")


# ---- servers ----


@pytest.mark.parametrize("own", OWN, ids=str)
@pytest.mark.parametrize("allow_h2", [True, False])
async def test_a_servers_context_is_left_as_it_was(own: list[str] | None, allow_h2: bool) -> None:
    context = with_alpn(server_context(), own)
    before = selects(context)
    assert before == (own or [])
    async with serving(partial(serve_websocket, echo, LOCALHOST, 0, context, allow_h2=allow_h2)) as server:
        assert selects(context) == before
        for agent, version in [(Agent(), "2" if allow_h2 else "1.1"), (Agent(allow_h2=False), "1.1")]:
            url = f"wss://{LOCALHOST}:{server.port}/"
            async with open_websocket(url, dispatcher=agent, ssl_context=client_context()) as websocket:
                assert websocket.http_version == version
                assert selects(context) == before
    assert selects(context) == before


async def test_what_a_servers_context_has_by_itself_is_asked_again_by_the_next_server() -> None:
    context = server_context()
    for own in (["http/1.1"], ["h2"], []):
        context.set_alpn_protocols(own)
        async with serving(partial(serve_websocket, echo, LOCALHOST, 0, context)) as server:
            url = f"wss://{LOCALHOST}:{server.port}/"
            async with open_websocket(url, dispatcher=Agent(), ssl_context=client_context()) as websocket:
                assert websocket.http_version == "2"
        assert selects(context) == own


def test_an_sni_callback_is_not_called_when_a_context_is_asked() -> None:
    def callback(_tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        names.append(name)

    names: list[str | None] = []
    context = with_alpn(server_context(), HTTP1)
    context.sni_callback = callback
    note_selected(context)
    assert names == []
    assert context.sni_callback is callback
    assert agree(with_alpn(client_context(), HTTP2), context) == "http/1.1"
    assert names == ["localhost"]


def test_a_server_that_cannot_begin_has_no_protocols() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # without a certificate
    with selected(context, HTTP2):
        pass


@pytest.mark.parametrize("count", [1, 8])
async def test_servers_that_share_a_context_select_for_themselves(count: int) -> None:
    context = server_context()
    versions: list[tuple[bool, str]] = []

    async def connect(port: int, allow_h2: bool) -> None:
        url, agent = f"wss://{LOCALHOST}:{port}/", Agent()
        async with open_websocket(url, dispatcher=agent, ssl_context=client_context()) as websocket:
            versions.append((allow_h2, websocket.http_version))

    async with (
        serving(partial(serve_websocket, echo, LOCALHOST, 0, context, allow_h2=True)) as with_http2,
        serving(partial(serve_websocket, echo, LOCALHOST, 0, context, allow_h2=False)) as without,
        trio.open_nursery() as nursery,
    ):
        for _ in range(count):
            nursery.start_soon(connect, with_http2.port, True)
            nursery.start_soon(connect, without.port, False)
    assert sorted(versions) == [(False, "1.1")] * count + [(True, "2")] * count


async def test_a_context_that_an_sni_callback_puts_in_place_does_not_overrule_allow_h2() -> None:
    other, context = with_alpn(server_context(), HTTP2), server_context()
    context.sni_callback = lambda tls, _name, _context: setattr(tls, "context", other)
    async with serving(partial(serve_websocket, echo, LOCALHOST, 0, context, allow_h2=False)) as server:
        url = f"wss://localhost:{server.port}/"
        async with open_websocket(url, ssl_context=client_context()) as websocket:
            assert websocket.http_version == "1.1"
        with pytest.raises(InvalidHandshake, match="HTTP/2 ended before it began"):
            async with open_websocket(url, dispatcher=Agent(), ssl_context=client_context()):
                pytest.fail("it is open")


async def test_a_client_and_a_server_that_share_a_context() -> None:
    context = either_side()
    near, far = ScriptedTransport.pair()
    server = TLSTransport(far, context, server_side=True, alpn=HTTP2)
    client = TLSTransport(near, context, server_side=False, server_hostname="localhost", alpn=HTTP1)
    await shake_hands(client, server)
    assert client.alpn == server.alpn == "http/1.1"
    assert offers(context) == set()
    assert selects(context) == []


class Failing(ssl.SSLContext):
    """A context that takes some lists of protocols, and calls that a failure."""

    def __init__(self, _protocol: int) -> None:
        super().__init__()
        authority().configure_trust(self)
        self.failing: list[str] | None = None

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        super().set_alpn_protocols(alpn_protocols)
        if alpn_protocols == self.failing:
            raise MemoryError


def test_openssl_1_1_1_calls_it_a_failure_that_a_context_gets_no_protocols() -> None:
    context = Failing(ssl.PROTOCOL_TLS_CLIENT)
    context.failing = []
    with offered(context, HTTP2, "localhost"):
        assert offers(context, HTTP2) == set(HTTP2)
    assert offers(context, HTTP2) == set()


def test_another_failure_to_leave_a_context_as_it_was_is_told() -> None:
    context = Failing(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["dot"])
    context.failing = ["dot"]
    with pytest.raises(MemoryError), offered(context, HTTP2, "localhost"):
        pass


# ---- threads ----


def in_two_threads(*works: Callable[[], None]) -> None:
    """Run functions at the same time, switching between them all the time."""
    failures: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures, failures


async def handshakes(client: ssl.SSLContext, server: ssl.SSLContext, alpn: list[str], *, ours: str) -> None:
    """Shake hands again and again; one side's protocols are agreed on whatever another thread does."""
    for _ in range(100):
        near, far = ScriptedTransport.pair()
        one = TLSTransport(
            near,
            client,
            server_side=False,
            server_hostname="localhost",
            alpn=alpn if ours == "client" else HTTP2,
        )
        other = TLSTransport(far, server, server_side=True, alpn=alpn if ours == "server" else HTTP2)
        await shake_hands(one, other)
        assert one.alpn == other.alpn == alpn[0]


def test_two_threads_with_a_clients_context() -> None:
    context = client_context()
    in_two_threads(
        partial(trio.run, partial(handshakes, context, server_context(), HTTP1, ours="client")),
        partial(trio.run, partial(handshakes, context, server_context(), HTTP2, ours="client")),
    )
    assert offers(context) == set()


def test_two_threads_with_a_servers_context() -> None:
    context = server_context()
    in_two_threads(
        partial(trio.run, partial(handshakes, client_context(), context, HTTP1, ours="server")),
        partial(trio.run, partial(handshakes, client_context(), context, HTTP2, ours="server")),
    )
    assert selects(context) == []
