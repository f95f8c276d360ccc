"""Who the client is behind proxies that are trusted: Forwarded (RFC 7239), or X-Forwarded-For and X-Forwarded-Proto.

Each proxy appends whom it was connected to, so what stands right was written last. It is read from the right as long as
the one who wrote it is trusted; what stands left of that is whatever the client pleased to send.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .._wire.headers import Headers

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNIX = "unix:"
"""The entry that stands for everybody who connects to a Unix socket."""

_QUOTED = re.compile(r'"([^"\\]|\\.)*"')  # RFC 9110 §5.6.4
_SECURE = {"https": True, "wss": True, "http": False, "ws": False}


class Client(NamedTuple):
    """What trusted proxies say of a client.

    Attributes:
        address: its address, and its port or 0; None if that is not known.
        secure: whether it connected by TLS, None if that is not known.
    """

    address: tuple[str, int] | None = None
    secure: bool | None = None

    @property
    def host(self) -> str | None:
        """The address without the port."""
        return None if self.address is None else self.address[0]


class Contradiction(Exception):
    """Forwarded and X-Forwarded-For name different clients: one of them was written by nobody who is trusted."""


class TrustedProxies:
    """The proxies whose word counts.

    Args:
        proxies: addresses and networks, "10.0.0.0/8" say, and "unix:".

    Raises:
        TypeError: it is no iterable of str; one str alone is none.
        ValueError: an entry is neither an address nor a network, or a network with bits of a host.
    """

    def __init__(self, proxies: Iterable[str]) -> None:
        if isinstance(proxies, str | bytes) or not isinstance(proxies, Iterable):
            raise TypeError(f"trusted_proxies must be an iterable of addresses and networks, not {proxies!r}")
        networks: list[Network] = []
        self._unix = False
        for entry in proxies:
            if not isinstance(entry, str):
                raise TypeError(f"trusted_proxies: {entry!r} must be a str, not {type(entry).__name__}")
            if entry == UNIX:
                self._unix = True
                continue
            try:
                networks.append(ipaddress.ip_network(entry))
            except ValueError as error:
                raise ValueError(f"trusted_proxies: {error}") from None
        self._networks = tuple(networks)

    def client_of(self, peer: object, headers: Headers) -> Client:
        """Find who is behind a peer.

        Args:
            peer: the address of who is connected to us, as a transport tells it.
            headers: those of the request.

        Returns:
            What is known; nothing if the peer is not trusted, or says nothing.

        Raises:
            Contradiction: two headers name different clients.
        """
        if not self._trusts_peer(peer):
            return Client()
        forwarded, x_forwarded = _read_forwarded(headers), _read_x_forwarded(headers)
        if forwarded is None or x_forwarded is None:
            return self._follow(forwarded or x_forwarded or ())
        one, other = self._follow(forwarded), self._follow(x_forwarded)
        if one.host != other.host or {one.secure, other.secure} == {True, False}:
            raise Contradiction
        # X-Forwarded-For has no ports, and Forwarded may leave the protocol out.
        return Client(one.address, other.secure if one.secure is None else one.secure)

    def _trusts_peer(self, peer: object) -> bool:
        if isinstance(peer, tuple) and self._networks:
            return self._trusts(_parse_address(str(peer[0])))
        return self._unix and isinstance(peer, str | bytes)

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)

    def _follow(self, hops: Iterable[Client]) -> Client:
        """Go from proxy to proxy, the nearest first, up to the one who is not trusted or who is not named."""
        address, secure = None, None
        for hop in hops:
            secure = hop.secure
            if hop.address is None:
                break
            address = hop.address
            if not self._trusts(_parse_address(address[0])):
                break
        return Client(address, secure)


def _read_x_forwarded(headers: Headers) -> Iterable[Client] | None:
    """Read X-Forwarded-For and X-Forwarded-Proto, the last hop first; None if there is neither."""
    nodes = _elements(headers, "X-Forwarded-For")
    schemes = [_SECURE.get(scheme.lower()) for scheme in _elements(headers, "X-Forwarded-Proto")]
    if not nodes and not schemes:
        return None
    if not nodes:
        return [Client(secure=schemes[0])]
    if len(schemes) != len(nodes):  # most proxies write one, for the client
        schemes = [schemes[0] if schemes else None] * len(nodes)
    return (Client(_parse_node(node), secure) for node, secure in zip(nodes, schemes, strict=True))


def _elements(headers: Headers, name: str) -> list[str]:
    """Split a comma-separated header, the last element first."""
    return [element.strip(" \t") for value in headers.get_all(name) for element in value.split(",")][::-1]


def _read_forwarded(headers: Headers) -> Iterator[Client] | None:
    """Read Forwarded, the last hop first; None if there is none."""
    lines = headers.get_all("Forwarded")
    return (hop for line in reversed(lines) for hop in _read_forwarded_line(line)) if lines else None


def _read_forwarded_line(line: str) -> Iterable[Client]:
    """Read one line; if it breaks the grammar it is one hop of which nothing is known, and so nothing left of it is."""
    try:
        return [_read_element(element) for element in _split_quoted(line, ",")][::-1]
    except ValueError:
        return [Client()]


def _read_element(element: str) -> Client:
    pairs: dict[str, str] = {}
    for pair in _split_quoted(element, ";"):
        name, _, value = pair.partition("=")
        name = name.strip(" \t").lower()
        if name in pairs:  # RFC 7239 §4
            raise ValueError("a parameter comes twice")
        pairs[name] = _unquote(value.strip(" \t"))
    return Client(_parse_node(pairs.get("for", "")), _SECURE.get(pairs.get("proto", "").lower()))


def _split_quoted(text: str, separator: str) -> list[str]:
    """Split at a separator that stands in no quoted string, in one pass."""
    parts, start, quoted, escaped = [], 0, False, False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            parts.append(text[start:position])
            start = position + 1
    if quoted:
        raise ValueError("a quoted string does not end")
    return [*parts, text[start:]]


def _unquote(value: str) -> str:
    if '"' not in value:
        return value
    if _QUOTED.fullmatch(value) is None:
        raise ValueError("a quote in the midst of a value")
    return re.sub(r"\\(.)", r"\1", value[1:-1])


def _parse_node(node: str) -> tuple[str, int] | None:
    """Read who was connected: an address, perhaps with a port; None if it is hidden, or nonsense (RFC 7239 §6)."""
    if node.startswith("["):
        host, bracket, port = node[1:].partition("]")
        if not bracket or port[:1] not in ("", ":"):
            return None
        port = port[1:]
    elif node.count(":") == 1:
        host, _, port = node.partition(":")
    else:
        host, port = node, ""  # X-Forwarded-For has IPv6 addresses without brackets
    address = _parse_address(host)
    if address is None:
        return None
    known = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 2**16  # it may be hidden, too
    return str(address), int(port) if known else 0


def _parse_address(text: str) -> Address | None:
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(text)
        return getattr(address, "ipv4_mapped", None) or address
    return None
