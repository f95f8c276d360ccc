"""DNS rebinding: for which hosts a request is taken, and which are refused with 421."""

from __future__ import annotations

import logging
import socket
import tempfile
from functools import partial
from typing import TYPE_CHECKING, Literal

import pytest
import trio

from trio_ws import Agent, HandshakeRejected, HTTPRequest, HTTPResponse, open_websocket, serve_websocket
from trio_ws._net.listen import loopback_ports
from trio_ws._server.hosts import HostCheck, check_hosts, is_loopback
from trio_ws._wire.url import split_authority

from ..net.http2.raw_http2 import GET, RawHttp2
from ..raw import client_context, head, read_head, request, server_context, status
from ..serving import echo, serving

if TYPE_CHECKING:
    from collections.abc import Iterable

LOCAL = "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(
            (name, True)
            for name in ("localhost", "localhost.", "a.localhost", "a.b.localhost.", "127.0.0.1", "127.9.9.9")
        ),
        *((name, True) for name in ("::1", "::ffff:127.0.0.1", "127.0.0.1.")),
        *((name, False) for name in ("", "evil.example", "localhost.evil.example", "notlocalhost", "127.evil.example")),
        *((name, False) for name in ("127.0.0.1.evil.example", "128.0.0.1", "0.0.0.0", "::", "::2", "192.168.0.1")),
        *((name, False) for name in ("localhost..", ".", "127.0.0.1.nip.io")),
    ],
)
def test_what_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def taken(hosts: Literal["auto"] | Iterable[str] | None, authority: str, *ports: int, secure: bool = False) -> bool:
    host, port = split_authority(authority) if authority else ("", None)
    return HostCheck(check_hosts(hosts), frozenset(ports), secure=secure).takes(host, port)


@pytest.mark.parametrize(
    ("authority", "ports", "secure", "expected"),
    [
        # A page whose name was made to point here cannot but name the port.
        ("evil.example:8765", (8765,), False, False),
        ("evil.example:8766", (8765, 8766), False, False),
        ("EVIL.example.:8765", (8765,), False, False),
        ("192.168.0.1:8765", (8765,), False, False),
        ("localhost.evil.example:8765", (8765,), False, False),
        # The port of its scheme it need not name.
        ("evil.example", (80,), False, False),
        ("evil.example:80", (80,), False, False),
        ("evil.example", (443,), True, False),
        ("evil.example", (443,), False, True),
        ("evil.example", (80,), True, True),
        # This machine's own names.
        ("localhost:8765", (8765,), False, True),
        ("app.localhost:8765", (8765,), False, True),
        ("127.0.0.1:8765", (8765,), False, True),
        ("[::1]:8765", (8765,), False, True),
        # A reverse proxy passes the public name on, with its own port or with none.
        ("public.example", (8765,), False, True),
        ("public.example:443", (8765,), False, True),
        ("public.example:8443", (8765,), False, True),
        ("", (8765,), False, True),
        ("", (80,), False, True),
        # What others can reach anyway.
        ("evil.example:8765", (), False, True),
    ],
)
def test_by_default_only_a_server_on_loopback_refuses_and_only_its_own_port(
    authority: str, ports: tuple[int, ...], secure: bool, expected: bool
) -> None:
    assert taken("auto", authority, *ports, secure=secure) is expected
    assert taken(None, authority, *ports, secure=secure)


@pytest.mark.parametrize(
    ("hosts", "authority", "expected"),
    [
        (["example.com"], "example.com", True),
        (["example.com"], "EXAMPLE.com.:8765", True),
        (["Example.COM."], "example.com:1", True),
        (["example.com"], "www.example.com", False),
        (["example.com"], "example.com.evil.example", False),
        (["example.com"], "", False),
        (["example.com"], "localhost:5", True),
        ([], "a.localhost", True),
        ([], "example.com", False),
        (["*.example.com"], "a.b.example.com", True),
        (["*.example.com"], "example.com", False),
        (["*.example.com"], "notexample.com", False),
        (["example.com:8443"], "example.com:8443", True),
        (["example.com:8443"], "example.com:8444", False),
        (["example.com:8443"], "example.com", False),
        (["example.com:443"], "example.com", True),
        (["example.com:80"], "example.com", True),
        (["example.com:443"], "example.com:80", False),
        (["*.example.com:8443"], "a.example.com:8443", True),
        (["192.0.2.1", "[2001:db8::1]:5"], "192.0.2.1:7", True),
        (["192.0.2.1", "[2001:db8::1]:5"], "[2001:DB8:0::1]:5", True),
        (["192.0.2.1", "[2001:db8::1]:5"], "[2001:db8::1]:6", False),
        (["bücher.example", "bücher.example:1"], "xn--bcher-kva.example", True),
        (["a.example", "b.example"], "b.example", True),
        ((name for name in ["a.example"]), "a.example", True),
    ],
)
def test_only_hosts_that_are_named_are_taken(hosts: Iterable[str], authority: str, expected: bool) -> None:
    assert taken(hosts, authority, 8765) is expected


@pytest.mark.parametrize(
    ("hosts", "error", "message"),
    [
        ("example.com", TypeError, r"^hosts must be \"auto\", None or an iterable of host names, not 'example.com'$"),
        (5, TypeError, "^hosts must be"),
        ([5], TypeError, "^hosts: 5 must be a str, not int$"),
        *(
            ([entry], ValueError, "^hosts: .* must be host, host:port or")
            for entry in (
                "",
                "http://a",
                "a/b",
                "a:b",
                "a:99999",
                "user@a",
                "*",
                "*.",
                "a.*",
                "*.*.a",
                "*.127.0.0.1",
                "\xad",
            )
        ),
    ],
)
def test_a_wrong_option_is_told(hosts: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_hosts(hosts)  # type: ignore[arg-type]


def listening(*addresses: tuple[str, int]) -> list[socket.socket]:
    return [
        socket.create_server(address, family=socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        for address in addresses
    ]


@pytest.mark.parametrize(
    ("names", "loopback"),
    [
        ([LOCAL], True),
        (["127.0.0.2", "::1"], True),
        (["0.0.0.0"], False),
        (["::"], False),
        ([LOCAL, "0.0.0.0"], False),
    ],
)
def test_which_servers_are_on_loopback(names: list[str], loopback: bool) -> None:
    sockets = listening(*((name, 0) for name in names))
    ports = {sock.getsockname()[1] for sock in sockets}
    assert loopback_ports(sockets) == (ports if loopback else frozenset())
    for sock in sockets:
        sock.close()


# A whole server.


async def greet(asked: HTTPRequest) -> HTTPResponse:
    return HTTPResponse(200, (), f"for {asked.host}".encode())


async def ask(port: int, *lines: str, plain: bool = False) -> int:
    """Ask for a WebSocket or for a page, and give the status."""
    data = head("GET / HTTP/1.1", *lines) if plain else request(*lines)
    async with await trio.open_tcp_stream(LOCAL, port) as stream:
        await stream.send_all(data)
        return status(await read_head(stream))


async def test_a_rebinding_page_is_refused_and_the_log_names_the_option_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(partial(serve_websocket, echo, LOCAL, 0, http_handler=greet)) as server:
        evil = f"evil.example:{server.port}"
        for plain in (False, True):
            assert await ask(server.port, f"Host: {evil}", f"Origin: http://{evil}", plain=plain) == 421
            assert await ask(server.port, f"Host: localhost:{server.port}", plain=plain) == (200 if plain else 101)
            # A reverse proxy's.
            assert await ask(server.port, "Host: public.example", plain=plain) == (200 if plain else 101)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.name == "trio_ws.server"
    assert f"refused a request for the host '{evil}'" in record.getMessage()
    assert "option hosts" in record.getMessage()


async def test_hosts_that_are_named_are_taken_and_no_others() -> None:
    serve = partial(serve_websocket, echo, LOCAL, 0, http_handler=greet, hosts=["public.example"])
    async with serving(serve) as server:
        for plain in (False, True):
            fine = 200 if plain else 101
            assert await ask(server.port, f"Host: public.example:{server.port}", plain=plain) == fine
            assert await ask(server.port, "Host: other.example", plain=plain) == 421
            assert await ask(server.port, "Host: 127.0.0.1", plain=plain) == fine
        async with await trio.open_tcp_stream(LOCAL, server.port) as stream:
            await stream.send_all(head("GET / HTTP/1.0"))
            assert status(await read_head(stream)) == 421
            assert await ask(server.port, "Host: a b", plain=True) == 400
    async with serving(partial(serve_websocket, echo, LOCAL, 0, hosts=None)) as server:
        assert await ask(server.port, f"Host: evil.example:{server.port}") == 101


async def test_the_host_of_a_whole_url_counts() -> None:
    async with serving(partial(serve_websocket, echo, LOCAL, 0, http_handler=greet)) as server:
        for url, expected in ((f"http://evil.example:{server.port}/", 421), ("http://public.example/", 200)):
            async with await trio.open_tcp_stream(LOCAL, server.port) as stream:
                await stream.send_all(head(f"GET {url} HTTP/1.1", "Host: localhost"))
                assert status(await read_head(stream)) == expected


async def test_over_http_2_the_authority_counts() -> None:
    async with (
        serving(partial(serve_websocket, echo, LOCAL, 0, http_handler=greet)) as server,
        await trio.open_tcp_stream(LOCAL, server.port) as stream,
    ):
        peer = RawHttp2(stream)
        await peer.begin()
        evil = f"evil.example:{server.port}"
        await peer.connect(1, authority=evil)
        await peer.send(peer.headers(3, {**GET, ":authority": evil}, "END_STREAM"))
        await peer.connect(5, authority=f"localhost:{server.port}")
        await peer.send(peer.headers(7, {":method": "GET", ":scheme": "http", ":path": "/", "host": evil}))
        await peer.send(peer.headers(9, {":method": "GET", ":scheme": "http", ":path": "/", "host": "a b"}))
        assert [await peer.status(stream_id) for stream_id in (1, 3, 5, 7, 9)] == ["421", "421", "200", "421", "400"]


async def test_tls_and_sockets_of_others_are_no_difference() -> None:
    sock = socket.create_server((LOCAL, 0))
    port = sock.getsockname()[1]
    serve = partial(serve_websocket, echo, None, None, server_context(), sockets=[sock])
    async with serving(serve), await trio.open_tcp_stream(LOCAL, port) as stream:
        tls = trio.SSLStream(stream, client_context(), server_hostname="localhost")
        await tls.send_all(request(f"Host: evil.example:{port}"))
        assert status(await read_head(tls)) == 421
        await trio.aclose_forcefully(tls)


async def test_a_unix_socket_takes_any_host() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        async with (
            serving(partial(serve_websocket, echo, path, None)),
            open_websocket("ws://anything.example:1/", dispatcher=Agent(socket_path=path)) as websocket,
        ):
            await websocket.send("hello")
            assert await websocket.receive() == "hello"
        async with serving(partial(serve_websocket, echo, path, None, hosts=[])):
            with pytest.raises(HandshakeRejected) as caught:
                async with open_websocket("ws://anything.example:1/", dispatcher=Agent(socket_path=path)):
                    pytest.fail("it is open")
            assert caught.value.status == 421
