"""Through a proxy: a transport to the proxy becomes one to the server, by CONNECT or by SOCKS 5.

1. The proxy is hostile until it has connected us. Its answer is bounded in bytes here, and in time by the caller.
2. What it says before the server can have said anything is an error, not the server's first bytes.
3. Credentials go into CONNECT or the SOCKS negotiation, and nowhere else: no error and no repr has them.
4. The server's name goes to the proxy unresolved: nobody here is asked for its address.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .._wire.headers import Headers
from .._wire.url import join_authority
from .dial import default_ssl_context, dial_tcp, start_tls
from .http1 import open_tunnel

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    from .._options import Limits
    from .._transport import Transport
    from .._wire.url import ProxyURL


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy, and what it is told beside the server's name.

    Attributes:
        url: where it is, and the userinfo for SOCKS.
        headers: what CONNECT carries, credentials among them.
        ssl_context: how to verify an https proxy; None: against the system's authorities.
    """

    url: ProxyURL
    headers: Headers = field(repr=False)
    ssl_context: ssl.SSLContext | None = None


async def dial_through(
    proxy: Proxy,
    host: str,
    port: int,
    limits: Limits,
    *,
    source_address: tuple[str, int] | None = None,
    user_agent: str | None = None,
) -> tuple[Transport, Headers]:
    """Connect to a host and a port through a proxy. Cancelled, nothing is left open.

    Args:
        proxy: which one.
        host: the server's, which the proxy resolves.
        port: the server's.
        limits: what the proxy may cost us.
        source_address: where to connect to the proxy from, None: the system chooses.
        user_agent: the User-Agent of CONNECT, unless the proxy's headers have one; None: none.

    Returns:
        The transport, and the headers of the proxy's answer; a SOCKS proxy has none.

    Raises:
        OSError: the proxy could not be reached.
        ssl.SSLError: TLS with the proxy failed, or it could not be verified.
        ProxyError: the proxy refused, or broke a rule.
    """
    with _noting(proxy):
        if proxy.url.scheme == "socks5":
            from .socks import dial_socks5  # python-socks is an extra

            return await dial_socks5(proxy.url, host, port, source_address), Headers()
        transport: Transport = await dial_tcp(proxy.url.host, proxy.url.port, source_address)
    try:
        if proxy.url.scheme == "https":
            with _noting(proxy):
                transport = await start_tls(transport, proxy.ssl_context or default_ssl_context(), proxy.url.host)
        headers = proxy.headers
        if user_agent is not None and "User-Agent" not in headers:
            headers = Headers([*headers.raw, ("User-Agent", user_agent)])
        return transport, await open_tunnel(transport, join_authority(host, port), headers, limits)
    except BaseException:  # cancelled or failed: nothing is left open
        transport.abort()
        raise


def check_socks_extra() -> None:
    """Check that SOCKS can be spoken.

    Raises:
        ImportError: python-socks is not installed.
    """
    if find_spec("python_socks") is None:
        raise ImportError(
            "a socks5 proxy needs python-socks, the extra trio-ws[socks]: pip install python-socks", name="python_socks"
        )


@contextmanager
def _noting(proxy: Proxy) -> Iterator[None]:
    """Note on what the system or TLS raises that it is about the proxy, which it does not say."""
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        error.add_note(f"while connecting to the proxy {proxy.url}")
        raise
