"""``no_proxy``: which hosts are reached without a proxy. Source: undici's ``EnvHttpProxyAgent``, and curl for CIDR."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._wire.url import host_to_ascii

if TYPE_CHECKING:
    from .._wire.url import WebSocketURL

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST_AND_PORT = re.compile(r"(?P<host>[^:]+|\[.+\]):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry: a domain with all below it, or the addresses of a network; at one port, or any if that is 0."""

    where: str | Network
    port: int

    def matches(self, host: str | Address, port: int) -> bool:
        if self.port not in (0, port):
            return False
        if isinstance(host, str):
            return isinstance(self.where, str) and f".{host}".endswith(f".{self.where}")
        return not isinstance(self.where, str) and host in self.where


class NoProxy:
    """The hosts that need no proxy.

    Args:
        text: entries between commas or white space. "*" is every host. "example.com", ".example.com" and
            "*.example.com" are the same: that domain, in any alphabet, and all below it. An IP address, or a network
            as in "10.0.0.0/8", stands for itself; host names are not looked up. ":port" at the end restricts an entry
            to a port; an IPv6 address needs brackets then. An entry that is nothing of this matches nothing.
    """

    def __init__(self, text: str) -> None:
        words = re.split(r"[,\s]+", text.lower())
        self._everything = "*" in words
        self._entries = [_parse(word) for word in words if word]

    def covers(self, url: WebSocketURL) -> bool:
        """Tell whether a URL's host and port need no proxy."""
        host: str | Address = url.host.removesuffix(".")
        with contextlib.suppress(ValueError):
            host = ipaddress.ip_address(host)
        return self._everything or any(entry.matches(host, url.port) for entry in self._entries)


def _parse(word: str) -> _Entry:
    match = _HOST_AND_PORT.fullmatch(word)
    host, port = (match["host"], int(match["port"])) if match else (word, 0)
    host = host.removeprefix("[").removesuffix("]")
    with contextlib.suppress(ValueError):
        return _Entry(ipaddress.ip_network(host, strict=False), port)
    domain = host.removeprefix("*").removeprefix(".").removesuffix(".")
    with contextlib.suppress(ValueError):  # else it is no domain, and no URL's host is like it
        domain = host_to_ascii(domain)
    return _Entry(domain, port)
