"""From a host and a port, or a path, to a connected transport: DNS, happy eyeballs, TCP, Unix sockets, TLS."""

from __future__ import annotations

import functools
import os
import ssl
from typing import TYPE_CHECKING

import trio

from .._exceptions import InvalidHandshake
from .alpn import note_ours
from .tls import TLSTransport
from .transport import SocketTransport, detach_socket

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


async def dial_tcp(host: str, port: int) -> SocketTransport:
    """Connect by TCP to whichever address of the host answers first (RFC 8305).

    Raises:
        OSError: no address could be found or reached.
    """
    return SocketTransport(detach_socket(await trio.open_tcp_stream(host, port)))


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
        raise InvalidHandshake(f"the server chose {tls.alpn!r:.256} by ALPN; {', '.join(alpn)} were offered")
    return tls


@functools.cache
def default_ssl_context() -> ssl.SSLContext:
    """The context of a client that was given none: the system's authorities, host names checked, TLS 1.2 at least."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    note_ours(context)
    return context
