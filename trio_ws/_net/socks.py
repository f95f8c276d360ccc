"""SOCKS 5 (RFC 1928 and 1929) by python-socks, the only module that knows it; the extra ``socks`` installs it.

python-socks negotiates; the socket is dialled as all others are, which it allows for by its ``forward``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import python_socks
from python_socks.async_.trio import Proxy

from .._exceptions import ProxyError
from .dial import open_tcp
from .socket_transport import SocketTransport, detach_socket

if TYPE_CHECKING:
    import trio

    from .._wire.url import ProxyURL

_SOCKS5 = python_socks.ProxyType.SOCKS5
# RFC 1928 §6: general failure, network or host unreachable, connection refused, TTL expired.
_OUT_OF_REACH = (1, 3, 4, 5, 6)


class _Socket:
    """What python-socks uses of the socket, and whether the other end has left."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._sock = sock
        self.send, self.close = sock.send, sock.close
        self.ended = False

    async def recv(self, size: int) -> bytes:
        data = await self._sock.recv(size)
        self.ended = not data
        return data


class _Connected(Proxy):
    """What is connected already, in the place of a proxy before the proxy."""

    def __init__(self, sock: _Socket) -> None:
        super().__init__(_SOCKS5, "", 0)
        self._sock = sock

    async def connect(
        self,
        dest_host: str,
        dest_port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # python-socks calls it so
        **_: object,
    ) -> trio.socket.SocketType:
        return self._sock  # type: ignore[return-value]  # all that is used of one


async def dial_socks5(
    proxy: ProxyURL, host: str, port: int, source_address: tuple[str, int] | None = None
) -> SocketTransport:
    """Connect to a host and a port through a SOCKS 5 proxy, which resolves the host. Cancelled, nothing is left open.

    Raises:
        OSError: the proxy could not be reached.
        ProxyError: it refused, broke a rule, or left.
    """
    stream = await open_tcp(proxy.host, proxy.port, source_address)
    try:
        await _negotiate(stream.socket, proxy, host, port)
    except BaseException:  # cancelled or failed: nothing is left open
        stream.socket.close()
        raise
    return SocketTransport(detach_socket(stream))


async def _negotiate(sock: trio.socket.SocketType, proxy: ProxyURL, host: str, port: int) -> None:
    watched = _Socket(sock)
    negotiation = Proxy(
        _SOCKS5,
        proxy.host,
        proxy.port,
        proxy.username or None,
        proxy.password or None,
        rdns=True,
        forward=_Connected(watched),
    )
    cause = None
    no_answer = False
    try:
        await negotiation.connect(host, port, timeout=math.inf)
    except python_socks.ProxyError as error:
        message = f"the SOCKS proxy did not connect to {host}: {error!s:.256}"
        no_answer = watched.ended or error.error_code in _OUT_OF_REACH
    except ValueError:  # it parses the address that the proxy is bound to, and does not expect nonsense
        message = "the SOCKS proxy's answer is malformed"
    except OSError as error:
        message, cause = "the connection to the SOCKS proxy broke before it answered", error.with_traceback(None)
        no_answer = True
    else:
        return
    # Here, where the other is handled: its frames hold the password, and some reports of errors show variables.
    raise ProxyError(message, no_answer=no_answer) from cause
