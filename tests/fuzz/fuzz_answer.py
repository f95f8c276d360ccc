"""Any bytes that answer a client open the WebSocket it asked for or raise what is documented, however they are cut."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from trio_ws import Compression, HandshakeRejected, InvalidHandshake, Limits
from trio_ws._net.http1 import upgrade
from trio_ws._wire.handshake import Agreement, ClientHandshake, accept_value
from trio_ws._wire.url import parse_url

from ..raw import ScriptedTransport, field, head
from .choices import Choices, seed

MARK = b"@ACCEPT@"  # stands for the right Sec-WebSocket-Accept
_GOOD = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {MARK.decode()}")
_101 = "HTTP/1.1 101 Switching Protocols"
ANSWERS = [
    head(_101, *_GOOD),
    head(_101, *_GOOD) + b"\x81\x00",
    head(_101, *_GOOD, "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Extensions: permessage-deflate"),
    head(_101, *_GOOD, "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8"),
    head(_101, *_GOOD[:2], "Sec-WebSocket-Accept: wrong"),
    head("HTTP/1.1 100 Continue") + head("HTTP/1.1 103 Early Hints", "Link: </x>") + head(_101, *_GOOD),
    head("HTTP/1.1 403 Forbidden", "Content-Length: 4") + b"body",
    head("HTTP/1.1 403 Forbidden", "Transfer-Encoding: chunked") + b"4\r\nbody\r\n0\r\n\r\n",
    head("HTTP/1.0 200 OK") + b"until the end",
    head("HTTP/1.1 302 Found", "Location: ws://other.example/", "Set-Cookie: a=b", "Set-Cookie: c=d"),
    head("HTTP/1.1 204 No Content"),
    head("HTTP/1.1 200 OK", "Content-Length: 10, 10") + b"0123456789",
    b"HTTP/1.1 101 \r\nUpgrade: websocket\nConnection: Upgrade\n\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    head("HTTP/1.1 100 Continue") * 9,
]
SEEDS = [seed(small, cut, data) for data in ANSWERS for small, cut in ((0, 0), (1, 0x31))]

SMALL = Limits(max_request_line=64, max_header_line=128, max_headers=8, max_head_size=512, max_body_size=16)

Outcome = tuple[object, ...]


def TestOneInput(data: bytes) -> None:
    """Read data: a byte of switches, one that says how to cut, and what a server answered."""
    choices = Choices(data)
    switches, cut = choices.byte(), choices.byte()
    sent = choices.rest()
    assert open_with(sent, switches, 0) == open_with(sent, switches, cut)


def open_with(sent: bytes, switches: int, cut: int) -> Outcome:
    """Open a WebSocket; give what came of it."""
    limits = SMALL if switches & 1 else Limits()
    protocols = ("chat", "v2.chat") if switches & 2 else ()
    compression = None if switches & 4 else Compression()
    handshake = ClientHandshake(
        parse_url("ws://example.com/"), protocols, headers=(), origin=None, compression=compression
    )
    transport = _Answers(sent, cut)
    try:
        headers, rest = trio.run(upgrade, transport, handshake, limits, clock=MockClock())  # whose time stands still
        agreement = handshake.check_http1_answer(headers)
    except HandshakeRejected as error:
        assert 200 <= error.status <= 999
        assert len(error.body) <= limits.max_body_size
        # What they say depends on the key; and how much of a redirect's body is there, on how it comes.
        size = None if 300 <= error.status < 400 else len(error.body)
        return "rejected", error.status, list(error.headers), size
    except InvalidHandshake as error:
        assert len(str(error)) < 2000
        return ("invalid",)
    check_agreement(agreement, protocols, compression)
    assert transport.arrived.endswith(rest)
    return "open", rest + b"".join(filter(None, transport.arriving))


def check_agreement(agreement: Agreement, protocols: tuple[str, ...], compression: Compression | None) -> None:
    """Check that only what was offered was agreed."""
    assert agreement.protocol in (protocols or (None,))
    assert agreement.deflate is None or compression is not None


class _Answers(ScriptedTransport):
    """A server that has its answer ready, but for what depends on the key."""

    __slots__ = ("_cut", "_sent", "arrived")

    def __init__(self, sent: bytes, cut: int) -> None:
        super().__init__()
        self._sent = sent
        self._cut = cut
        self.arrived = b""

    def write(self, data: bytes) -> None:
        super().write(data)
        accept = accept_value(field(self.written, "Sec-WebSocket-Key")).encode()
        sent = self._sent.replace(MARK, accept)
        self.arriving.extend(Choices(bytes([self._cut])).pieces(sent))

    def read(self) -> bytes | None:
        data = super().read()
        self.arrived += data or b""
        return data

    async def wait_readable(self) -> None:
        pass
