"""From a host and a port, or a path, to a transport; and what a client trusts by default."""

from __future__ import annotations

import socket
import ssl
import warnings
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from trio_ws._net.dial import default_ssl_context, dial_tcp, dial_unix, start_tls

from ..raw import ScriptedTransport, client_context, open_files, raw_server, server_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from trio_ws._transport import Transport

HELLO = b"hello"


async def say_hello(stream: trio.SocketStream) -> None:
    await stream.send_all(HELLO)


async def read(transport: Transport) -> bytes:
    await transport.wait_readable()
    data = transport.read()
    assert data is not None
    return data


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_is_dialled(host: str) -> None:
    async with raw_server(say_hello, host) as port:
        with assert_checkpoints():
            transport = await dial_tcp(host, port)
        assert transport.remote_address == (host, port)
        assert await read(transport) == HELLO
        transport.abort()


class Names(trio.abc.HostnameResolver):
    """A resolver that gives these addresses for every name."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def getaddrinfo(  # type: ignore[override]
        self,
        host: bytes | None,
        port: int | None,
        family: int = 0,
        type: int = 0,  # noqa: A002
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[object, ...]]]:
        await trio.lowlevel.checkpoint()
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in self.addresses
        ]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@pytest.mark.parametrize("listening", ["127.0.0.1", "::1"])
async def test_whichever_address_of_a_name_answers_is_taken(listening: str) -> None:
    async with raw_server(say_hello, listening) as port:
        trio.socket.set_custom_hostname_resolver(Names("::1", "127.0.0.1"))
        transport = await dial_tcp("two.example", port)
        assert transport.remote_address == (listening, port)
        assert await read(transport) == HELLO
        transport.abort()


async def test_tcp_sends_small_writes_at_once() -> None:
    async with raw_server(say_hello) as port:
        transport = await dial_tcp("127.0.0.1", port)
        assert transport._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        transport.abort()


async def test_a_port_where_nobody_listens_is_an_os_error() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        before = open_files()
        with pytest.raises(OSError, match="all attempts to connect"):
            await dial_tcp("127.0.0.1", reserved.getsockname()[1])
        assert open_files() == before


async def test_dialling_is_cancelled_at_once_and_leaves_nothing_open() -> None:
    before = open_files()
    with trio.CancelScope() as scope:
        scope.cancel()
        await dial_tcp("127.0.0.1", 1)
    assert scope.cancelled_caught
    assert open_files() == before


@pytest.mark.parametrize("as_path", [False, True])
async def test_a_unix_socket_is_dialled(tmp_path: Path, as_path: bool) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with assert_checkpoints():
            transport = await dial_unix(path if as_path else str(path))
        accepted, _ = listener.accept()
        transport.write(HELLO)
        assert accepted.recv(100) == HELLO
        assert transport.remote_address == str(path)
        transport.abort()
        accepted.close()


async def test_a_path_where_nobody_listens_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await dial_unix(tmp_path / "socket")


def test_the_default_context_verifies_and_is_made_once() -> None:
    context = default_ssl_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert default_ssl_context() is context


@asynccontextmanager
async def tls_server(context: ssl.SSLContext, heard: list[bytes]) -> AsyncIterator[int]:
    """Serve TLS; note the plain bytes that come."""

    async def listen(stream: trio.SocketStream) -> None:
        tls = trio.SSLStream(stream, context, server_side=True)
        try:
            heard.append(bytes(await tls.receive_some()))
        except trio.BrokenResourceError:
            heard.append(b"no TLS")

    async with raw_server(listen) as port:
        yield port


async def test_tls_begins_with_a_server_that_is_verified() -> None:
    heard: list[bytes] = []
    async with tls_server(server_context(), heard) as port:
        below = await dial_tcp("127.0.0.1", port)
        transport = await start_tls(below, client_context(), "127.0.0.1")
        transport.write(HELLO)
        while not heard:
            await wait_all_tasks_blocked()
        transport.abort()
    assert heard == [HELLO]


def old_context() -> ssl.SSLContext:
    """A server that speaks TLS 1.1 at most."""
    context = server_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


@pytest.mark.parametrize(
    ("make_context", "error"),
    [
        pytest.param(server_context, ssl.SSLCertVerificationError, id="an authority the system does not know"),
        pytest.param(old_context, ssl.SSLError, id="TLS 1.1"),
    ],
)
async def test_the_default_context_refuses_before_a_byte_is_sent(
    make_context: Callable[[], ssl.SSLContext], error: type[ssl.SSLError]
) -> None:
    heard: list[bytes] = []
    async with tls_server(make_context(), heard) as port:
        below = await dial_tcp("127.0.0.1", port)
        with pytest.raises(error):
            await start_tls(below, default_ssl_context(), "127.0.0.1")
        below.abort()
        while not heard:
            await wait_all_tasks_blocked()
    assert heard == [b"no TLS"]


async def test_a_transport_that_breaks_during_the_tls_handshake_stays_the_callers() -> None:
    below = ScriptedTransport()
    below.error = ConnectionResetError("reset")
    with pytest.raises(ConnectionResetError):
        await start_tls(below, client_context(), "localhost")
    assert not below.aborted


async def test_the_name_that_is_verified_is_the_one_that_is_passed() -> None:
    heard: list[bytes] = []
    async with tls_server(server_context("example.org"), heard) as port:
        below = await dial_tcp("127.0.0.1", port)
        (await start_tls(below, client_context(), "example.org")).abort()
        below = await dial_tcp("127.0.0.1", port)
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await start_tls(below, client_context(), "example.com")
        below.abort()
