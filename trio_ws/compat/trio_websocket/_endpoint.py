"""Where a connection or a listener is, as trio-websocket tells it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import trio


class Endpoint:
    """One end of a TCP connection.

    Attributes:
        address: the IP address.
        port: the TCP port.
        is_ssl: whether TLS is spoken.
    """

    def __init__(self, address: str | int, port: int, is_ssl: bool) -> None:
        self.address: IPv4Address | IPv6Address = ip_address(address)
        self.port = port
        self.is_ssl = is_ssl

    @property
    def url(self) -> str:
        """The address as a URL, ``ws://127.0.0.1:8000`` say; a default port is left out."""
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        port = "" if self.port == (443 if self.is_ssl else 80) else f":{self.port}"
        return f"{'wss' if self.is_ssl else 'ws'}://{host}{port}"

    def __repr__(self) -> str:
        return f'Endpoint(address="{self.address}", port={self.port}, is_ssl={self.is_ssl})'


def endpoint(address: object, *, is_ssl: bool) -> Endpoint | str:
    """Make an endpoint of a socket's address; of another address a str, a Unix socket's path say."""
    match address:
        case (str() as host, int() as port, *_):
            return Endpoint(host, port, is_ssl)
        case _:
            return str(address)


def stream_endpoints(stream: trio.abc.Stream, *, is_ssl: bool) -> tuple[Endpoint | str, Endpoint | str]:
    """Tell where the local and the remote end of a stream are; both are its ``repr`` if it is no socket's."""
    below: object = stream
    while isinstance(below, trio.SSLStream):
        below, is_ssl = below.transport_stream, True
    if not isinstance(below, trio.SocketStream):
        return repr(stream), repr(stream)
    local, remote = below.socket.getsockname(), below.socket.getpeername()
    return endpoint(local, is_ssl=is_ssl), endpoint(remote, is_ssl=is_ssl)
