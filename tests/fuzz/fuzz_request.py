"""Any bytes are one request, HTTP/2, a refusal or an early end, however they are cut; a request hides no second one."""

from __future__ import annotations

import re
from http import HTTPStatus

from trio_ws import SAME_ORIGIN, Compression, Limits
from trio_ws._net.http1 import HTTP2_HEAD, Http2Preface, RequestHead, answer_bytes, read_request
from trio_ws._wire.handshake import Refusal, check_origin, http1_answer, read_http1_request, wants_websocket

from ..raw import ScriptedTransport, request
from .choices import Choices, finish, seed

HEADS = [
    request(),
    request() + b"\x81\x80\0\0\0\0",
    request() + request(first="GET /admin HTTP/1.1"),
    request("Sec-WebSocket-Protocol: chat, superchat", "Sec-WebSocket-Extensions: permessage-deflate"),
    request("Origin: http://example.com", "Cookie: a=b", "Cookie: c=d"),
    request("Content-Length: 5") + b"hello",
    request("Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n",
    request("X: a\r\n b"),
    request("X: a\nY: b"),
    request(first="GET http://example.com/path?query HTTP/1.1"),
    request(first="POST / HTTP/1.0"),
    request("Host: other.example", "Host: example.com"),
    b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
    b"GET / HTTP/2.0\r\n\r\n",
    HTTP2_HEAD + b"SM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    request("X: " + "x" * 300),
]
SEEDS = [seed(small, cut, data) for data in HEADS for small, cut in ((0, 0), (1, 0x31))]

SMALL = Limits(max_request_line=64, max_header_line=128, max_headers=12, max_head_size=512)
STATUSES = {400, 403, 405, 414, 426, 431, 501, 505}
_GRAMMAR = re.compile(
    rb"[!#-'*+.0-9A-Z^_`a-z|~-]+ [!-~]+ HTTP/1\.[01]\r\n([!#-'*+.0-9A-Z^_`a-z|~-]+:[^\0\r\n]*\r\n)*\r\n"
)

Outcome = tuple[str, object]


def TestOneInput(data: bytes) -> None:
    """Read data: a byte that chooses the limits, one that says how to cut, and what a client sent."""
    choices = Choices(data)
    limits = SMALL if choices.byte() % 2 else Limits()
    cut = choices.byte()
    sent = choices.rest()
    whole, rest = read(sent, limits, [sent] if sent else [])
    other, other_rest = read(sent, limits, list(Choices(bytes([cut])).pieces(sent)))
    assert whole == other
    if rest is not None:
        assert rest == other_rest
        assert sent.endswith(rest)
    if isinstance(whole[1], RequestHead):
        assert rest is not None
        head = sent[: len(sent) - len(rest)]
        assert len(head) <= limits.max_head_size
        assert _GRAMMAR.fullmatch(head), "one head, and nothing in it that another parser would end it at"
        take(whole[1])


def read(sent: bytes, limits: Limits, pieces: list[bytes]) -> tuple[Outcome, bytes | None]:
    """Read a request that comes in these pieces; give what came of it, and all that is behind it."""
    transport = _Pieces(pieces)
    try:
        result = finish(read_request(transport, limits))
    except Refusal as refusal:
        assert refusal.status in STATUSES
        check_answer(answer_bytes(refusal.status, [*refusal.headers], refusal.reason_text.encode()))
        return ("refusal", None), None
    except Http2Preface as preface:
        assert preface.data == sent[: len(preface.data)]
        return ("HTTP/2", None), preface.data[len(HTTP2_HEAD) :] + b"".join(filter(None, transport.arriving))
    if result is None:
        return ("end", None), None
    head, rest = result
    return ("request", head), rest + b"".join(filter(None, transport.arriving))


class _Pieces(ScriptedTransport):
    """All it could wait for is there."""

    async def wait_readable(self) -> None:
        pass


def take(head: RequestHead) -> None:
    """Do with a head what a server does."""
    try:
        if not wants_websocket(head.headers):
            return
        asked = read_http1_request(head.method, head.http_version, head.target, head.headers, secure=False)
        check_origin(asked, SAME_ORIGIN)
    except Refusal as refusal:
        assert refusal.status in STATUSES
        check_answer(answer_bytes(refusal.status, [*refusal.headers], refusal.reason_text.encode()))
        return
    assert len(head.headers.get_all("Host")) == 1
    assert "Transfer-Encoding" not in head.headers
    assert set(head.headers.get_all("Content-Length")) <= {"0"}
    protocol = asked.protocols[0] if asked.protocols else None
    fields, _ = http1_answer(asked, protocol=protocol, compression=Compression(), headers=())
    check_answer(answer_bytes(HTTPStatus.SWITCHING_PROTOCOLS, fields))


def check_answer(answer: bytes) -> None:
    """Check that an answer is one head, with nothing in it that a client put there."""
    head, _, _ = answer.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 ")
    for line in lines:
        assert not frozenset(b"\r\n\0") & frozenset(line)
