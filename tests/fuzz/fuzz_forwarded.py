"""Whatever a client writes into Forwarded and X-Forwarded-For: what a trusted proxy adds counts, and no lie of it."""

from __future__ import annotations

import ipaddress

from trio_ws import Headers
from trio_ws._server.forwarded import Client, Contradiction, TrustedProxies
from trio_ws._server.hosts import HostCheck, check_hosts, is_loopback
from trio_ws._wire.url import split_authority

from .choices import Choices, seed, sized

PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8::/32", "unix:"])
PEERS: list[object] = [("10.0.0.1", 5000), ("2001:db8::1", 1), "", ("192.0.2.9", 1), None]
CLIENT = Client(("198.51.100.7", 0))
HOSTS = [HostCheck(check_hosts(hosts), frozenset({8765}), secure=False) for hosts in ("auto", ["a.example"], None)]

_LIES = [
    b"192.0.2.1",
    b"for=192.0.2.1;proto=https",
    b'for="[2001:db8::1]:80", for=_x',
    b'for="192.0.2.1',
    rb'for="\"", for=10.0.0.1',
    b"[::ffff:10.0.0.2]:99999, unknown",
    b"fe80::1%25eth0, ::, 1.2.3.4.5",
    b"10.0.0.2, " * 25,
    b"for=10.0.0.2;for=10.0.0.3,;,=",
    b"evil.example:8765",
]
SEEDS = [
    seed(peer, sized(lie), sized(b"https, http"), other)
    for peer in range(len(PEERS))
    for lie, other in zip(_LIES, _LIES[1:] + _LIES[:1], strict=True)
]


def TestOneInput(data: bytes) -> None:
    """Read data: a byte that says who is connected, and what it sends in three headers."""
    choices = Choices(data)
    peer = PEERS[choices.byte() % len(PEERS)]
    nodes, schemes, forwarded = (text(part) for part in (choices.some(), choices.some(), choices.rest()))
    headers = [("X-Forwarded-For", nodes), ("X-Forwarded-Proto", schemes), ("Forwarded", forwarded)]
    check_client(peer, [*headers])
    check_client(peer, headers[:2])
    check_client(peer, headers[2:])
    if peer in PEERS[:3]:
        assert PROXIES.client_of(peer, Headers([headers[0], ("X-Forwarded-For", "198.51.100.7")])) == CLIENT
        assert PROXIES.client_of(peer, Headers([headers[2], ("Forwarded", "for=198.51.100.7")])) == CLIENT
    check_host(forwarded)


def text(data: bytes) -> str:
    """Decode a value as every reader of heads does, without what no reader lets through."""
    return data.translate(None, b"\r\n\0").decode("latin-1").strip(" \t")


def check_client(peer: object, fields: list[tuple[str, str]]) -> None:
    """Ask who the client is: an address, or nobody."""
    try:
        client = PROXIES.client_of(peer, Headers(fields))
    except Contradiction:
        assert len(fields) == 3
        return
    if client.address is not None:
        host, port = client.address
        assert str(ipaddress.ip_address(host)) == host
        assert 0 <= port < 2**16
    assert client.secure in (None, True, False)
    if peer not in PEERS[:3]:
        assert client == Client()


def check_host(authority: str) -> None:
    """Ask whether a host is taken; loopback always is."""
    try:
        host, port = split_authority(authority)
    except ValueError:
        return
    taken = [check.takes(host, port) for check in HOSTS]
    assert taken[2]
    if is_loopback(host):
        assert all(taken)
