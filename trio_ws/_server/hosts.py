"""Which hosts a request may be for: the defence against DNS rebinding.

A page of ``evil.example`` can have its name resolve to 127.0.0.1 after it was loaded. From then on its requests come to
whatever listens on the user's own machine, and its Origin and its Host agree: the check of origins takes it for the
same origin. What tells is the name in Host, which is none of this server's.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable
from typing import Literal

from .._wire.url import DEFAULT_PORTS, host_to_ascii, split_authority

HostsOption = Literal["auto"] | Iterable[str] | None
Hosts = Literal["auto"] | tuple[tuple[str, int | None], ...] | None
"""What was checked: names in lower-case ASCII, with ``*.`` for all below; and the port, None: any."""

_WEB_PORTS = (DEFAULT_PORTS["http"], DEFAULT_PORTS["https"])


def check_hosts(hosts: HostsOption) -> Hosts:
    """Check the ``hosts`` that a caller passes.

    Raises:
        TypeError: it is neither "auto", None nor an iterable of str.
        ValueError: an entry is no host.
    """
    if hosts is None or hosts == "auto":
        return hosts
    if isinstance(hosts, str | bytes) or not isinstance(hosts, Iterable):
        raise TypeError(f'hosts must be "auto", None or an iterable of host names, not {hosts!r}')
    return tuple(map(_check_host, hosts))


def _check_host(entry: object) -> tuple[str, int | None]:
    if not isinstance(entry, str):
        raise TypeError(f"hosts: {entry!r} must be a str, not {type(entry).__name__}")
    below, name = entry[:2] == "*.", entry.removeprefix("*.")
    try:
        host, port = split_authority(name if name.isascii() else host_to_ascii(name))
    except ValueError:
        host, port = "", None
    if not host or "*" in host or (below and _address(host) is not None):
        raise ValueError(f"hosts: {entry!r} must be host, host:port or *.host, without a scheme")
    return ("*." if below else "") + host.removesuffix("."), port


def is_loopback(host: str) -> bool:
    """Tell whether a host, in lower case, can only be this machine: "localhost", a name below it, 127.0.0.0/8 or ::1.

    Source: RFC 6761 §6.3, RFC 5735 §4.
    """
    name = host.removesuffix(".")
    address = _address(name)
    return name == "localhost" or name.endswith(".localhost") if address is None else address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        return getattr(address, "ipv4_mapped", None) or address
    return None


class HostCheck:
    """Checks the host of each request.

    Args:
        hosts: as ``check_hosts`` returned it. "auto": any, but where the server listens on loopback addresses only, no
            name that is not loopback's with the server's own port: a rebinding page must use that port, while a
            reverse proxy passes on a Host with its own port, or with none.
        loopback_ports: the ports that the server listens on, if all its addresses are loopback; else none.
        secure: the server speaks TLS, which tells the port that a Host leaves out.
    """

    def __init__(self, hosts: Hosts, loopback_ports: frozenset[int], *, secure: bool) -> None:
        self._hosts = hosts
        self._loopback_ports = loopback_ports
        self._default_port = DEFAULT_PORTS["https" if secure else "http"]

    def takes(self, host: str, port: int | None) -> bool:
        """Tell whether a request may be for this host, "" if it names none, and this port, None if it leaves that out.

        Args:
            host: as ``split_authority`` gives it.
            port: likewise.
        """
        if self._hosts is None or is_loopback(host):
            return True
        if self._hosts == "auto":
            return not host or (port or self._default_port) not in self._loopback_ports
        host = host.removesuffix(".")
        # Behind a proxy nobody knows which scheme's port was left out.
        ports = (None, port) if port is not None else (None, *_WEB_PORTS)
        return any(wanted in ports and _matches(host, name) for name, wanted in self._hosts)


def _matches(host: str, name: str) -> bool:
    return host.endswith(name[1:]) if name.startswith("*.") else host == name
