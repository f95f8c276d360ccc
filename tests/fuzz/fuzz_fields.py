"""Any date, number, host, origin, key or redirect in a header is read or refused, and raises nothing else."""

from __future__ import annotations

import math

from trio_ws import SAME_ORIGIN, Backoff, HandshakeRejected, Headers, InvalidHandshake, ProxyError, is_transient
from trio_ws._client.reconnecting import _retry_after
from trio_ws._client.redirects import RedirectState
from trio_ws._wire.handshake import (
    Refusal,
    check_origin,
    read_http1_request,
    read_http2_answer,
    read_http2_plain,
    read_http2_request,
)
from trio_ws._wire.url import parse_url

from ..raw import FIELDS
from .choices import Choices, seed, sized

CONNECT = {
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":scheme": "https",
    ":authority": "example.com",
    ":path": "/",
    "host": "example.com",
    "origin": "https://example.com",
    "sec-websocket-version": "13",
    "sec-websocket-key": FIELDS["Sec-WebSocket-Key"],
    "content-length": "0",
}
REQUEST = {**FIELDS, "Origin": "http://example.com", "Content-Length": "0"}
ORIGINS = (SAME_ORIGIN, ("https://example.com", "http://[::1]:8080", "null"))
BASES = [parse_url("ws://example.com/a/b?c"), parse_url("wss://user:secret@[::1]:8443/")]

_VALUES = [
    *("120", "0", "9" * 5000, "-1", "+1", "1e9", "1_000", "0x10", "\N{SUPERSCRIPT TWO}", " 1 ", ""),
    *("Wed, 25 Nov 2026 12:00:00 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"),
    *("Mon, 01 Jan 2020 00:00:00 +99999999999999", "Mon, 01 Jan 0000 00:00:00 GMT", "Mon, 99 Jan 9999 99:99:99 GMT"),
    *("Mon, 01 Jan 2020 :::::::: GMT", "Mon, 01 Zzz 2020 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 -0000"),
    *("example.com:8080", "[::1]:80", "[::ffff:1.2.3.4]", "[fe80::1%25eth0]", "[::1", "a" * 300, "1.2.3.4:99999"),
    *("https://example.com:443", "null", "file://", "chrome-extension://abc", "http://[::1%1]:80"),
    *("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=", "====", "\N{LATIN SMALL LETTER E WITH ACUTE}" * 24),
    *("13", "013", "13, 8", "200", "1xx", "999", "\N{SUPERSCRIPT ONE}00"),
    *("/elsewhere", "//other.example/", "ws://xn--nxasmq6b/", "ws://0x7f.1/", "http://\xfcber.example/", "?q", "#f"),
    *("ws://xn--a" + "a" * 60 + "/", "wss://[::1%25a]/", "ws://%ff/", "ws://a:99999999999999999999/", "ws:\\\\a"),
]
WHICH = 6
SEEDS = [seed(which, name, value.encode("latin-1")) for which in range(WHICH) for name in range(3) for value in _VALUES]
SEEDS += [seed(5, 0, sized(_VALUES[11].encode()), value.encode("latin-1")) for value in _VALUES[11:19]]


def TestOneInput(data: bytes) -> None:
    """Read data: a byte that says who reads it, one that says which field it is, and the value."""
    choices = Choices(data)
    who, which = choices.byte() % WHICH, choices.byte()
    match who:
        case 0:
            ask_over_http1(*replaced(REQUEST, which, choices))
        case 1:
            ask_over_http2(*replaced(CONNECT, which, choices))
        case 2:
            answer_over_http2(text(choices.rest()))
        case 3:
            redirect(BASES[which % 2], text(choices.rest()))
        case 4:
            refuse(Headers([("Retry-After", text(choices.rest()))]), which)
        case _:
            fields = [("Retry-After", text(choices.some())), ("Date", text(choices.rest()))]
            refuse(Headers(fields), which)


def text(data: bytes) -> str:
    """Decode a value as every reader of heads does, without what no reader lets through."""
    return data.translate(None, b"\r\n\0").decode("latin-1").strip(" \t")


def replaced(fields: dict[str, str], which: int, choices: Choices) -> tuple[dict[str, str], int]:
    """Put a value in the place of one of the fields."""
    name = list(fields)[which % len(fields)]
    return {**fields, name: text(choices.rest())}, which


def ask_over_http1(fields: dict[str, str], which: int) -> None:
    """Let a server read a request; it takes it or refuses."""
    try:
        request = read_http1_request("GET", "1.1", "/", Headers(fields), secure=bool(which & 0x80))
        check_origin(request, ORIGINS[which >> 6 & 1])
    except Refusal as refusal:
        assert refusal.status in (400, 403, 426)
    else:
        assert request.host == fields["Host"]


def ask_over_http2(fields: dict[str, str], which: int) -> None:
    """Let a server read a request over HTTP/2, for a WebSocket and for anything else."""
    plain = {**fields, ":method": "GET"}
    del plain[":protocol"]
    for read in (
        lambda: check_origin(read_http2_request([*fields.items()], secure=True), ORIGINS[which >> 6 & 1]),
        lambda: read_http2_plain([*plain.items()]),
    ):
        try:
            read()
        except Refusal as refusal:
            assert refusal.status in (400, 403, 501)


def answer_over_http2(status: str) -> None:
    """Let a client read an answer over HTTP/2."""
    try:
        number, headers = read_http2_answer([(":status", status), ("x", status)])
    except InvalidHandshake:
        return
    assert 100 <= number < 600
    assert number != 101
    assert str(number) == status == headers["x"]


def redirect(base: object, location: str) -> None:
    """Let a client be redirected; it follows to a WebSocket URL, or says why not."""
    assert base in BASES
    state = RedirectState(next(url for url in BASES if url == base), {"Cookie": "secret"}, "https://example.com", 1)
    rejected = HandshakeRejected(302, Headers([("Location", location)]))
    if state.goes_on(rejected):
        assert state.url.secure or not BASES[BASES.index(base)].secure
        assert parse_url(str(state.url)).origin == state.url.origin
        assert state.url.origin == BASES[BASES.index(base)].origin or not state.headers
        state.url.host.encode("ascii").decode("idna")  # what Python's sockets and TLS do with it
    else:
        assert len(rejected.__notes__) == 1


def refuse(headers: Headers, status: int) -> None:
    """Let a client be refused by a server and by a proxy; what it is asked for is a pause."""
    from_proxy = ProxyError("no")
    from_proxy.status, from_proxy.headers = 400 + status, headers
    for error in (HandshakeRejected(400 + status, headers), from_proxy):
        assert is_transient(error) is (status >= 100 or status in (8, 25, 29))
        seconds = _retry_after(ExceptionGroup("", [OSError(), error]))
        assert seconds is None or seconds >= 0
        assert 0 <= Backoff(cap=60).pause(3, 0.5, seconds) <= 60
        assert not math.isnan(Backoff(cap=math.inf).pause(3, 0.5, seconds))
