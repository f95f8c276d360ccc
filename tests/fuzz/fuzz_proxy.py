"""Any bytes from a proxy connect a client or raise ProxyError, however they are cut, and no error shows a password."""

from __future__ import annotations

import socket

import trio

from trio_ws import Limits, ProxyError
from trio_ws._net.http1 import open_tunnel
from trio_ws._net.socks import _negotiate
from trio_ws._wire.headers import Headers
from trio_ws._wire.url import parse_proxy_url

from ..raw import ScriptedTransport, head
from .choices import Choices, finish, seed

SECRET = "opensesame"
_ANSWERS = [
    head("HTTP/1.1 200 Connection established"),
    head("HTTP/1.1 200 OK", "Content-Length: 5"),
    head("HTTP/1.1 200 OK") + b"hello",
    head("HTTP/1.1 100 Continue") + head("HTTP/1.0 200 OK"),
    head("HTTP/1.1 407 Proxy Authentication Required", "Proxy-Authenticate: Basic", "Content-Length: 4") + b"none",
    head("HTTP/1.1 502 Bad Gateway", "Transfer-Encoding: chunked") + b"3\r\nbad\r\n0\r\n\r\n",
    head("HTTP/1.1 101 Switching Protocols", "Upgrade: x"),
    b"HTTP/1.1 200 OK\n\n",
    head("HTTP/0.1 200 OK"),
    head("HTTP/1.1 200 OK", "X: " + "x" * 600),
]
_REPLIES = [
    b"\5\0" + b"\5\0\0\1\x7f\0\0\1\x1f\x90",
    b"\5\2\1\0" + b"\5\0\0\3\4host\1\xbb",
    b"\5\2\1\1",
    b"\5\xff",
    b"\4\0",
    b"\5\0" + b"\5\1\0\1\0\0\0\0\0\0",
    b"\5\0" + b"\5\0\0\4" + bytes(18),
    b"\5\0" + b"\5\0\0\3\3\xff\xfe\xfd\0\1",
    b"\5\0\5\0\0\1\x7f\0\0\1\x1f\x90too early",
]
CONNECT, SOCKS = 0, 1
SEEDS = [seed(CONNECT, cut, answer) for answer in _ANSWERS for cut in (0, 0x31)]
SEEDS += [seed(SOCKS, cut, reply) for reply in _REPLIES for cut in (0, 1)]

SMALL = Limits(max_request_line=64, max_header_line=128, max_headers=8, max_head_size=512, max_body_size=16)


def TestOneInput(data: bytes) -> None:
    """Read data: a byte that chooses the kind of proxy, one that says how to cut, and what it answered."""
    choices = Choices(data)
    kind, cut = choices.byte() % 2, choices.byte()
    sent = choices.rest()
    ask = ask_socks if kind else ask_connect
    whole, cut_up = ask(sent, 0), ask(sent, cut)
    # What comes behind the answer is refused if it comes with it; later nobody can tell it from the server's words.
    assert whole == cut_up or (whole, cut_up) == ("refused", "tunnel, and more")


def ask_connect(sent: bytes, cut: int) -> str:
    """Ask for a tunnel; tell what came of it."""
    transport = _Pieces(Choices(bytes([cut])).pieces(sent))
    asked = Headers([("Proxy-Authorization", f"Basic {SECRET}")])
    try:
        finish(open_tunnel(transport, "server.example:443", asked, SMALL))
    except ProxyError as error:
        assert SECRET not in str(error)
        return "refused"
    assert sent.startswith(b"HTTP/1.")
    return "tunnel, and more" if any(transport.arriving) else "tunnel"


def ask_socks(sent: bytes, cut: int) -> str:
    """Ask for a connection; tell what came of it."""
    return trio.run(_ask_socks, sent, cut)


async def _ask_socks(sent: bytes, cut: int) -> str:
    ours, theirs = socket.socketpair()
    proxy = parse_proxy_url(f"socks5://user:{SECRET}@proxy.example:1080")
    with theirs:
        theirs.setblocking(False)
        pieces = list(Choices(bytes([cut])).pieces(sent))
        for piece in (*pieces[:100], b"".join(pieces[100:])):  # each takes room in the system beside its bytes
            theirs.send(piece)
        theirs.shutdown(socket.SHUT_WR)
        sock = trio.socket.from_stdlib_socket(ours)
        with sock, trio.fail_after(30):
            try:
                await _negotiate(sock, proxy, "server.example", 443)
            except ProxyError as error:
                assert SECRET not in str(error)
                return "refused"
    assert sent.startswith((b"\5\0", b"\5\2"))
    return "tunnel"


class _Pieces(ScriptedTransport):
    """All it could wait for is there."""

    async def wait_readable(self) -> None:
        pass
