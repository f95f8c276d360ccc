"""From a host and a port, or a path, to a connected transport: DNS, happy eyeballs, TCP, Unix sockets, TLS."""

from __future__ import annotations

import functools
import os
import ssl
from typing import TYPE_CHECKING

import trio

from .._exceptions import InvalidHandshake
from .._wire.url import join_authority, parse_host
from .alpn import note_ours
from .socket_transport import SocketTransport, detach_socket
from .tls import TLSTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._transport import Transport


def check_ssl_context(ssl_context: object, *, server_side: bool = False) -> None:
    """Check what a caller passed as ``ssl_context``.

    Raises:
        TypeError: it is neither an SSLContext nor None.
        ValueError: it is for the other side of TLS.
    """
    if not isinstance(ssl_context, ssl.SSLContext | None):
        raise TypeError(f"ssl_context must be an ssl.SSLContext or None, not {ssl_context!r}")
    if ssl_context is None:
        return
    if server_side and ssl_context.protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise ValueError("ssl_context is a client's: a server's is made with ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)")
    if not server_side and ssl_context.protocol == ssl.PROTOCOL_TLS_SERVER:
        raise ValueError("ssl_context is a server's: a client's is made with ssl.create_default_context()")


def check_address(name: str, value: object, *, least_port: int = 1) -> tuple[str, int] | None:
    """Check what a caller passed for a host and a port, and give it as sockets take it.

    Args:
        name: the argument's.
        value: ``(host, port)``, or None.
        least_port: 0 where the system may choose.

    Raises:
        TypeError: it is no such pair.
        ValueError: the host is none, or the port is out of range.
    """
    if value is None:
        return None
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{name} must be a pair of host and port, or None, not {value!r}")
    host, port = value
    if not isinstance(host, str):
        raise TypeError(f"{name}={value!r}: its host must be a str")
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"{name}={value!r}: its port must be an int")
    if not least_port <= port <= 65535:
        raise ValueError(f"{name}={value!r}: its port must be from {least_port} to 65535")
    return _check_host(name, host), port


def check_server_hostname(value: object) -> str | None:
    """Check what a caller passed as ``server_hostname``.

    Raises:
        TypeError: it is neither a str nor None.
        ValueError: it is no host.
    """
    if not isinstance(value, str | None):
        raise TypeError(f"server_hostname must be a str or None, not {value!r}")
    return None if value is None else _check_host("server_hostname", value)


def _check_host(name: str, host: str) -> str:
    try:
        return parse_host(host)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


async def dial_tcp(host: str, port: int, source_address: tuple[str, int] | None = None) -> SocketTransport:
    """Connect by TCP to whichever address of the host answers first (RFC 8305).

    Args:
        host: a name or an address.
        port: from 1 on.
        source_address: where to connect from, None: the system chooses.

    Raises:
        OSError: no address could be found or reached.
    """
    return SocketTransport(detach_socket(await open_tcp(host, port, source_address)))


async def open_tcp(host: str, port: int, source_address: tuple[str, int] | None) -> trio.SocketStream:
    """Do as :func:`dial_tcp`, and give a trio stream."""
    if source_address is None:
        return await trio.open_tcp_stream(host, port)
    source, source_port = source_address
    if not source_port:
        return await trio.open_tcp_stream(host, port, local_address=source)
    # One address after the other: only one socket can have the port.
    errors: list[Exception] = []
    for family, kind, protocol, _, address in await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM):
        sock = trio.socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
            await sock.bind((source, source_port))
            await sock.connect(address)
        except OSError as error:
            sock.close()
            errors.append(error)
        except BaseException:  # cancelled: nothing is left open
            sock.close()
            raise
        else:
            return trio.SocketStream(sock)
    message = f"all attempts to connect to {join_authority(host, port)} from {join_authority(*source_address)} failed"
    raise OSError(message) from ExceptionGroup(message, errors)


async def dial_unix(path: str | os.PathLike[str]) -> SocketTransport:
    """Connect to a Unix socket.

    Raises:
        OSError: nobody listens there.
    """
    return SocketTransport(detach_socket(await trio.open_unix_socket(os.fspath(path))))


async def start_tls(
    below: Transport, context: ssl.SSLContext, server_hostname: str, alpn: Sequence[str] = ("http/1.1",)
) -> TLSTransport:
    """Begin TLS as a client on a transport, and verify the server as ``context`` says.

    Args:
        alpn: the protocols to offer, the preferred first.

    Raises:
        ssl.SSLError: the handshake or the verification failed; ``below`` is still the caller's to abort.
        InvalidHandshake: the server chose a protocol that was not offered.
        OSError: the transport broke.
    """
    # RFC 6066 §3: without the dot that may end a domain name.
    tls = TLSTransport(below, context, server_side=False, server_hostname=server_hostname.removesuffix("."), alpn=alpn)
    await tls.handshake()
    if tls.alpn not in (None, *alpn):  # RFC 7301 §3.2
        raise InvalidHandshake(
            f"the server chose {tls.alpn!r:.256} by ALPN, not one of those offered: {', '.join(alpn)}"
        )
    return tls


@functools.cache
def default_ssl_context() -> ssl.SSLContext:
    """The context of a client that was given none: the system's authorities, host names checked, TLS 1.2 at least."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    note_ours(context)
    return context
