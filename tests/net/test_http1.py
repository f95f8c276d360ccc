"""HTTP/1.1 heads: what is taken, what is refused and how early, what is answered, and what a client believes."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import assert_checkpoints, memory_stream_pair, wait_all_tasks_blocked

from trio_ws import (
    Compression,
    HandshakeError,
    HandshakeRejected,
    Headers,
    HTTPRequest,
    HTTPResponse,
    InvalidHandshake,
    Limits,
    ProxyError,
    WebSocketRequest,
    wrap_client_stream,
    wrap_server_stream,
)
from trio_ws._net.http1 import (
    MAX_INFORMATIONAL,
    Http1Exchange,
    RequestHead,
    answer_bytes,
    open_tunnel,
    read_request,
    send_answer,
    upgrade,
)
from trio_ws._wire.handshake import ClientHandshake, Refusal, read_http1_request
from trio_ws._wire.url import parse_url

from ..raw import (
    ACCEPT,
    FIELDS,
    KEY,
    ScriptedTransport,
    accept_value,
    answer,
    body,
    close_frame,
    exchange,
    field,
    frame,
    frames,
    head,
    read_all,
    read_head,
    request,
    status,
)

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = Limits()


async def read_pieces(*pieces: bytes | None, limits: Limits = LIMITS) -> tuple[RequestHead, bytes] | None:
    return await read_request(ScriptedTransport(pieces), limits)


async def refusal_of(data: bytes, limits: Limits = LIMITS) -> Refusal:
    # Endless: it must be refused because of what is here, not because nothing more comes.
    transport = ScriptedTransport([data], endless=True)
    with pytest.raises(Refusal) as caught:
        await read_request(transport, limits)
    assert not transport.written
    return caught.value


# Requests.


async def test_a_request_is_read() -> None:
    read = await read_pieces(request("X-Latin: é", first="GET /chat?a=b HTTP/1.1"))
    assert read is not None
    got, rest = read
    assert (got.method, got.target, got.http_version, rest) == ("GET", "/chat?a=b", "1.1", b"")
    assert got.headers.raw == (*FIELDS.items(), ("X-Latin", "é"))


async def test_a_request_in_pieces_of_one_byte_is_the_same() -> None:
    data = request()
    assert await read_pieces(*(data[i : i + 1] for i in range(len(data)))) == await read_pieces(data)


async def test_an_empty_line_before_a_request_is_ignored() -> None:
    data = b"\r\n" + request()
    assert await read_pieces(data + b"rest") == await read_pieces(request() + b"rest")
    assert await read_pieces(*(data[i : i + 1] for i in range(len(data)))) == await read_pieces(request())
    for left in (b"", b"\r\n", b"\r\nGET"):
        assert await read_pieces(left) is None
    # RFC 9113 §3.4: an empty line is no part of the preface.
    assert (await refusal_of(b"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")).status == 505


@settings(deadline=None)
@given(st.lists(st.integers(0, len(request()))))
def test_a_request_in_any_pieces_is_the_same(cuts: list[int]) -> None:
    data = request()
    ends = [0, *sorted(cuts), len(data)]
    pieces = [data[start:end] or None for start, end in itertools.pairwise(ends)]
    assert trio.run(lambda: read_pieces(*pieces)) == trio.run(lambda: read_pieces(data))


async def test_what_comes_with_a_request_is_kept() -> None:
    read = await read_pieces(request() + b"\r\n\r\nfirst frames")
    assert read is not None
    assert read[1] == b"\r\n\r\nfirst frames"


async def test_a_peer_that_leaves_before_the_end_of_a_request_is_no_error() -> None:
    data = request()
    for end in range(len(data)):
        assert await read_pieces(data[:end]) is None


async def test_reading_a_request_is_cancelled_while_it_waits() -> None:
    transport = ScriptedTransport([b"GET /"], endless=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_request, transport, LIMITS)
        await wait_all_tasks_blocked()
        assert nursery.child_tasks
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(request().replace(b"\r\n", b"\n"), id="bare LF everywhere"),
        pytest.param(request("X: a\nY: b"), id="bare LF inside"),
        pytest.param(request("X: a\rY: b"), id="bare CR"),
        pytest.param(request("X: a\r\r\nY: b"), id="CR CR LF"),
        pytest.param(request("X: a\r\n folded"), id="folded by a space"),
        pytest.param(request("X: a\r\n\tfolded"), id="folded by a tab"),
        pytest.param(request(" X: a"), id="space before the name"),
        pytest.param(request("X : a"), id="space before the colon"),
        pytest.param(request("X"), id="no colon"),
        pytest.param(request(": a"), id="no name"),
        pytest.param(request("X\0: a"), id="NUL in a name"),
        pytest.param(request("X: a\0b"), id="NUL in a value"),
        pytest.param(request("X\x80: a"), id="not ASCII in a name"),
        pytest.param(request("Host: a", "Host: b"), id="two Hosts"),
        pytest.param(request(without=["Host"]), id="no Host"),
        pytest.param(request("Content-Length: 5", "Content-Length: 6"), id="two lengths"),
        pytest.param(request("Content-Length: 5, 6"), id="two lengths in one"),
        pytest.param(request("Content-Length: -1"), id="negative length"),
        pytest.param(request("Content-Length: +1"), id="length with a sign"),
        pytest.param(request("Content-Length: " + "9" * 25), id="endless length"),
        pytest.param(request(first="GET  / HTTP/1.1"), id="two spaces"),
        pytest.param(request(first="GET / HTTP/1.1 "), id="space at the end"),
        pytest.param(request(first="GET /"), id="HTTP/0.9"),
        pytest.param(request(first="GET / HTTP/1.10"), id="long version"),
        pytest.param(request(first="GET / http/1.1"), id="version in small letters"),
        pytest.param(request(first="GET /\x7f HTTP/1.1"), id="DEL in the target"),
        pytest.param(request(first="GET /é HTTP/1.1"), id="not ASCII in the target"),
        pytest.param(request(first="GE(T / HTTP/1.1"), id="a method that is no token"),
        pytest.param(b"\r\n\r\n" + request(), id="two empty lines first"),
        pytest.param(b"\r\r\n" + request(), id="CR first"),
        pytest.param(b"\n" + request(), id="bare LF first"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
        pytest.param(b" GET / HTTP/1.1\r\n", id="space first"),
        pytest.param(b"\n", id="LF first"),
    ],
)
async def test_a_malformed_request_is_400(data: bytes) -> None:
    assert (await refusal_of(data)).status == 400


@pytest.mark.parametrize("control", [*range(1, 9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F])
async def test_control_characters_are_refused(control: int) -> None:
    assert (await refusal_of(request(f"X: a{chr(control)}b"))).status == 400


async def test_a_tab_and_latin_letters_are_no_control_characters() -> None:
    read = await read_pieces(request("X: a\tb\xa0\xff"))
    assert read is not None
    assert read[0].headers["X"] == "a\tb\xa0\xff"


@pytest.mark.parametrize("coding", ["gzip", "chunked, gzip", "identity"])
async def test_an_unknown_transfer_coding_is_501(coding: str) -> None:
    assert (await refusal_of(request(f"Transfer-Encoding: {coding}"))).status == 501


@pytest.mark.parametrize("first", ["GET / HTTP/2.0", "GET / HTTP/3.0", "GET / HTTP/0.9", "PRI * HTTP/2.0"])
async def test_another_version_is_505(first: str) -> None:
    assert (await refusal_of(request(first=first))).status == 505


async def test_a_request_of_http_1_0_is_read() -> None:
    read = await read_pieces(b"GET / HTTP/1.0\r\n\r\n")
    assert read is not None
    assert (read[0].http_version, read[0].headers.raw) == ("1.0", ())


@pytest.mark.parametrize(
    ("limit", "size", "refused", "data"),
    [
        ("max_request_line", 40, 414, request(first=f"GET /{'x' * 26} HTTP/1.1")),
        ("max_header_line", 60, 431, request("X: " + "x" * 57)),
        ("max_headers", 8, 431, request("X: 1", "X: 2", "X: 3")),
        ("max_head_size", len(request()), 431, request()),
    ],
)
async def test_a_request_may_be_as_large_as_its_limit_and_no_larger(
    limit: str, size: int, refused: int, data: bytes
) -> None:
    pieces = [data[i : i + 1] for i in range(len(data))]
    assert await read_pieces(data, limits=replace(LIMITS, **{limit: size})) is not None
    assert await read_pieces(*pieces, limits=replace(LIMITS, **{limit: size})) is not None
    with pytest.raises(Refusal) as caught:
        await read_pieces(*pieces, limits=replace(LIMITS, **{limit: size - 1}))
    for refusal in (caught.value, await refusal_of(data, replace(LIMITS, **{limit: size - 1}))):
        assert refusal.status == refused
        assert re.search(rf" {size - 1} .*\({limit}\): {size}( or more)?$", refusal.reason_text)


@pytest.mark.parametrize(
    ("refused", "data"),
    [(414, b"GET /" + b"x" * 8188), (431, b"GET / HTTP/1.1\r\nX: " + b"x" * 16384), (400, b"GET / HTTP/1.1\n")],
)
async def test_a_request_is_refused_before_it_is_whole(refused: int, data: bytes) -> None:
    assert (await refusal_of(data)).status == refused


async def test_the_limits_are_those_of_the_documentation() -> None:
    assert await read_pieces(request(first=f"GET /{'x' * (8192 - 14)} HTTP/1.1")) is not None
    assert (await refusal_of(request(first=f"GET /{'x' * (8193 - 14)} HTTP/1.1"))).status == 414
    assert await read_pieces(request("X: " + "x" * 8189)) is not None
    assert (await refusal_of(request("X: " + "x" * 8190))).status == 431
    assert await read_pieces(request(*["X: x"] * 95)) is not None
    assert (await refusal_of(request(*["X: x"] * 96))).status == 431
    room = 16384 - len(request("X: ", "Y: "))
    assert await read_pieces(request("X: " + "x" * (room // 2), "Y: " + "y" * (room - room // 2))) is not None
    assert (await refusal_of(request("X: " + "x" * (room // 2), "Y: " + "y" * (room - room // 2 + 1)))).status == 431


async def test_a_refusal_quotes_nothing() -> None:
    for data in (request("X-Secret\0: secret"), request(first="GET /secret"), request("Host: secret", "Host: secret")):
        refusal = await refusal_of(data)
        assert "secret" not in refusal.reason_text.lower()
        assert len(refusal.reason_text) < 100


# Answers.


DATE = b"Date: Wed, 25 Nov 2026 19:00:00 GMT\r\n"


@pytest.fixture
def fixed_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_ws._net.exchange.formatdate", lambda *, usegmt: DATE[6:-2].decode())


def test_a_final_answer_has_the_date_and_only_one() -> None:
    sent = parsedate_to_datetime(field(answer_bytes(200, []), "Date"))
    assert abs((datetime.now(UTC) - sent).total_seconds()) < 60
    assert answer_bytes(200, [("date", "mine")]).lower().count(b"date:") == 1
    assert field(answer_bytes(101, []), "Date") == ""


@pytest.mark.usefixtures("fixed_date")
def test_an_answer_is_written_whole() -> None:
    assert answer_bytes(101, [("Upgrade", "websocket"), ("X", "é")]) == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX: \xe9\r\n\r\n"
    )
    assert answer_bytes(200, [("X", "y")], b"body") == (
        b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 4\r\nConnection: close\r\n" + DATE + b"\r\nbody"
    )
    assert answer_bytes(599, []) == b"HTTP/1.1 599 \r\nContent-Length: 0\r\nConnection: close\r\n" + DATE + b"\r\n"


@pytest.mark.usefixtures("fixed_date")
def test_the_answer_to_head_tells_the_length_and_has_no_body() -> None:
    assert answer_bytes(200, [], b"body", to_head=True) == (
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n" + DATE + b"\r\n"
    )


@pytest.mark.usefixtures("fixed_date")
def test_an_upgrade_header_has_its_connection_option() -> None:
    assert answer_bytes(426, [("upgrade", "websocket"), ("Connection", "Upgrade")]) == (
        b"HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\n"
        b"Content-Length: 0\r\nConnection: Upgrade, close\r\n" + DATE + b"\r\n"
    )


@pytest.mark.usefixtures("fixed_date")
@pytest.mark.parametrize("name", ["Content-Length", "content-length", "Connection", "Transfer-Encoding"])
def test_the_headers_of_the_framing_are_ours(name: str) -> None:
    assert answer_bytes(403, [(name, "chunked")], b"no") == (
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n" + DATE + b"\r\nno"
    )


@pytest.mark.parametrize("bodiless", [204, 304])
def test_a_status_that_has_no_body_has_no_length(bodiless: int) -> None:
    assert field(answer_bytes(bodiless, []), "Content-Length") == ""


async def test_an_answer_is_sent_and_its_transport_ended_when_the_peer_has_ended() -> None:
    transport = ScriptedTransport([b"what it sends is not read", None])
    with assert_checkpoints():
        await send_answer(transport, b"answer", LIMITS)
    assert (transport.written, transport.ended, transport.aborted) == (b"answer", True, True)


async def test_an_answer_waits_for_room() -> None:
    transport = ScriptedTransport([None])
    transport.room = False
    await send_answer(transport, b"answer", LIMITS)
    assert (transport.written, transport.ended, transport.aborted) == (b"answer", True, True)


async def test_a_peer_that_stays_is_left_after_close_linger(autojump_clock: trio.testing.MockClock) -> None:
    transport = ScriptedTransport([b"x"] * 3, endless=True)
    begin = trio.current_time()
    await send_answer(transport, b"answer", Limits(close_linger=3.0))
    assert trio.current_time() - begin == 3.0
    assert (transport.written, transport.ended, transport.aborted) == (b"answer", True, True)


class Full(ScriptedTransport):
    """A transport that never has room."""

    async def drain(self) -> None:
        await trio.sleep_forever()


async def test_an_answer_that_nobody_takes_is_given_up_after_close_linger(
    autojump_clock: trio.testing.MockClock,
) -> None:
    transport = Full(endless=True)
    transport.room = False
    begin = trio.current_time()
    await send_answer(transport, b"answer", Limits(close_linger=3.0))
    assert trio.current_time() - begin == 3.0
    assert (transport.ended, transport.aborted) == (False, True)


@pytest.mark.parametrize("room", [True, False])
async def test_an_answer_that_is_cancelled_ends_its_transport(room: bool) -> None:
    transport = ScriptedTransport(endless=True) if room else Full(endless=True)
    transport.room = room
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_answer, transport, b"answer", LIMITS)
        await wait_all_tasks_blocked()
        assert not transport.aborted
        nursery.cancel_scope.cancel()
    assert transport.aborted


def an_exchange(*lines: str) -> tuple[Http1Exchange, ScriptedTransport]:
    fields = [*FIELDS.items(), *((name, value) for name, _, value in (line.partition(": ") for line in lines))]
    asked = read_http1_request("GET", "1.1", "/", Headers(fields), secure=False)
    transport = ScriptedTransport()
    return Http1Exchange(transport, asked, b"rest", LIMITS), transport


async def test_an_exchange_accepts_with_a_101() -> None:
    exchange_, transport = an_exchange("Sec-WebSocket-Protocol: a, b", "Sec-WebSocket-Extensions: permessage-deflate")
    headers, agreement = exchange_.accept(protocol="b", compression=Compression(), headers={"X": "y"})
    assert (status(transport.written), field(transport.written, "Sec-WebSocket-Accept")) == (101, ACCEPT)
    assert field(transport.written, "Sec-WebSocket-Protocol") == "b"
    assert field(transport.written, "X") == headers["X"] == "y"
    assert field(transport.written, "Sec-WebSocket-Extensions") == agreement.extensions != ""
    assert agreement.protocol == "b"
    assert not transport.ended
    assert exchange_.rest == b"rest"


async def test_an_exchange_that_cannot_be_accepted_so_sends_nothing() -> None:
    exchange_, transport = an_exchange()
    with pytest.raises(ValueError, match="protocol 'b'"):
        exchange_.accept(protocol="b", compression=None, headers=())
    assert transport.written == b""


@pytest.mark.usefixtures("fixed_date")
async def test_an_exchange_refuses() -> None:
    exchange_, transport = an_exchange()
    await exchange_.refuse(403, [("X", "y")], b"no")
    assert transport.written == (
        b"HTTP/1.1 403 Forbidden\r\nX: y\r\nContent-Length: 2\r\nConnection: close\r\n" + DATE + b"\r\nno"
    )
    assert transport.aborted


# What a client believes.


class Answering(ScriptedTransport):
    """A server: each request that is written is answered with what ``make`` makes of it, and then the end."""

    __slots__ = ("_ends", "_make")

    def __init__(self, make: Callable[[bytes], bytes], *, piece: int = 2**16, endless: bool = False) -> None:
        super().__init__(endless=True)
        self.piece = piece
        self._make = make
        self._ends = not endless

    def write(self, data: bytes) -> None:
        super().write(data)
        self.feed(self._make(data))
        if self._ends:
            self.finish()


def a_handshake() -> ClientHandshake:
    url = parse_url("ws://example.com/chat?a=b")
    return ClientHandshake(url, ("x", "y"), headers={"X-Mine": "é"}, origin=None, compression=Compression())


async def asked_and_answered(make: Callable[[bytes], bytes], limits: Limits = LIMITS) -> tuple[Headers, bytes]:
    return await upgrade(Answering(make), a_handshake(), limits)


async def test_a_client_asks_for_the_upgrade() -> None:
    transport = Answering(answer)
    await upgrade(transport, a_handshake(), LIMITS)
    lines = transport.written.split(b"\r\n")
    assert lines[0] == b"GET /chat?a=b HTTP/1.1"
    assert transport.written.endswith(b"\r\n\r\n")
    assert field(transport.written, "Host") == "example.com"
    assert field(transport.written, "X-Mine") == "é"
    assert not transport.ended


async def test_a_clients_request_waits_for_room() -> None:
    transport = ScriptedTransport([None, head("HTTP/1.1 101 Switching Protocols", "X: y")])
    transport.room = False
    headers, rest = await upgrade(transport, a_handshake(), LIMITS)
    assert transport.written.startswith(b"GET /chat")
    assert (headers["X"], rest) == ("y", b"")


@pytest.mark.parametrize("piece", [1, 7, 2**16])
async def test_an_answer_in_any_pieces_is_the_same(piece: int) -> None:
    transport = Answering(lambda asked: answer(asked, "X: é"), piece=piece)
    headers, rest = await upgrade(transport, a_handshake(), LIMITS)
    assert headers["X"] == "é"
    assert rest == b""


async def test_what_comes_with_the_answer_is_kept() -> None:
    _, rest = await asked_and_answered(lambda asked: answer(asked) + frame(1, b"hello"))
    assert rest == frame(1, b"hello")


async def test_interim_answers_are_passed_over() -> None:
    interim = head("HTTP/1.1 100 Continue") + head("HTTP/1.1 103 Early Hints", "Link: a")
    headers, rest = await asked_and_answered(lambda asked: interim + answer(asked) + b"rest")
    assert headers["Upgrade"] == "websocket"
    assert "Link" not in headers
    assert rest == b"rest"


@pytest.mark.parametrize("fold", ["\r\n ", "\r\n\t", " \r\n  \t ", "\r\n \r\n "])
@pytest.mark.parametrize("piece", [1, 2**16])
async def test_folded_lines_of_an_answer_are_unfolded(fold: str, piece: int) -> None:
    transport = Answering(lambda asked: answer(asked, f"X:{fold}a{fold}b", f"Y: c{fold}") + b"rest", piece=piece)
    headers, rest = await upgrade(transport, a_handshake(), LIMITS)
    assert headers["X"].split() == ["a", "b"]
    assert headers["Y"] == "c"
    assert b"rest".startswith(rest)


async def test_a_folded_line_is_as_long_as_its_parts() -> None:
    with pytest.raises(InvalidHandshake, match="a header line has over 100 bytes"):
        await upgrade(
            Answering(lambda asked: answer(asked, "X: " + "\r\n ".join(["y" * 50] * 2))),
            a_handshake(),
            Limits(max_header_line=100),
        )


FRAMING = [
    ("Content-Length: 1000",),
    ("Content-Length: 1", "content-length: 2"),
    ("Content-Length: what",),
    ("Content-Length: -1",),
    ("Transfer-Encoding: chunked",),
    ("Transfer-Encoding: identity",),
    ("Transfer-Encoding: gzip, chunked",),
    ("TRANSFER-ENCODING: chunked", "Transfer-Encoding:gzip", "Content-Length:\r\n 5"),
]


@pytest.mark.parametrize("lines", FRAMING)
async def test_what_frames_a_body_is_ignored_where_there_is_none(lines: tuple[str, ...]) -> None:
    for interim in (b"", head("HTTP/1.1 103 Early Hints", *lines)):

        def accept(asked: bytes, interim: bytes = interim) -> bytes:
            return interim + answer(asked, *lines, "X: y") + b"rest"

        headers, rest = await asked_and_answered(accept)
        assert headers["X"] == "y"
        assert rest == b"rest"
    for code in (204, 304):
        rejected = await rejection(head(f"HTTP/1.1 {code}", *lines, "X: y"))
        assert (rejected.status, rejected.headers["X"], rejected.body) == (code, "y", b"")
    answered = await tunnel_through(head("HTTP/1.1 200 OK", *lines, "X: y"))
    assert answered == {"X": "y"}
    with pytest.raises(ProxyError, match="HTTP status 407"):
        await tunnel_through(head("HTTP/1.1 407 Who", *lines))


@pytest.mark.parametrize("coding", ["identity", "gzip", "gzip, chunked", "chunked, identity"])
async def test_a_rejection_in_a_coding_that_is_not_known_has_its_status_and_its_bytes(coding: str) -> None:
    rejected = await rejection(head("HTTP/1.1 403 No", "Content-Length: 2", f"Transfer-Encoding: {coding}") + b"body")
    assert (rejected.status, rejected.body) == (403, b"body")


async def test_interim_answers_come_to_an_end() -> None:
    interim = head("HTTP/1.1 102 Processing")
    await asked_and_answered(lambda asked: interim * (MAX_INFORMATIONAL - 1) + answer(asked))
    with pytest.raises(InvalidHandshake, match=f"{MAX_INFORMATIONAL} interim answers"):
        await asked_and_answered(lambda asked: interim * MAX_INFORMATIONAL + answer(asked))


async def rejection(data: bytes, limits: Limits = LIMITS, piece: int = 2**16) -> HandshakeRejected:
    with pytest.raises(HandshakeRejected) as caught:
        await upgrade(Answering(lambda asked: data, piece=piece), a_handshake(), limits)
    return caught.value


@pytest.mark.parametrize("piece", [1, 2**16])
@pytest.mark.parametrize(
    ("data", "content"),
    [
        pytest.param(head("HTTP/1.1 403 No", "X: y", "Content-Length: 4") + b"body", b"body", id="length"),
        pytest.param(head("HTTP/1.1 403 No", "X: y", "Content-Length: 4") + b"bodyand more", b"body", id="more"),
        pytest.param(
            head("HTTP/1.1 403 No", "X: y", "Transfer-Encoding: chunked") + b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
            b"body",
            id="chunked",
        ),
        pytest.param(head("HTTP/1.1 403 No", "X: y") + b"body", b"body", id="until the end"),
        pytest.param(head("HTTP/1.1 403 No", "X: y", "Content-Length: 0"), b"", id="empty"),
        pytest.param(head("HTTP/1.0 403 No", "X: y") + b"body", b"body", id="HTTP/1.0"),
        pytest.param(head("HTTP/1.1 403", "X: y") + b"body", b"body", id="no phrase"),
    ],
)
async def test_a_rejection_has_status_headers_and_body(data: bytes, content: bytes, piece: int) -> None:
    rejected = await rejection(data, piece=piece)
    assert (rejected.status, rejected.headers["x"], rejected.body) == (403, "y", content)


@pytest.mark.parametrize("code", [200, 204, 302, 401, 500, 599, 999])
async def test_every_other_status_is_a_rejection(code: int) -> None:
    assert (await rejection(head(f"HTTP/1.1 {code} Phrase", "Content-Length: 0"))).status == code


async def test_the_body_of_a_rejection_is_cut_at_its_limit() -> None:
    limits = Limits(max_body_size=3)
    assert (await rejection(head("HTTP/1.1 403 No", "Content-Length: 9") + b"123456789", limits)).body == b"123"
    endless = Answering(lambda asked: head("HTTP/1.1 403 No", "Content-Length: 9") + b"123", endless=True)
    with pytest.raises(HandshakeRejected) as caught:
        await upgrade(endless, a_handshake(), limits)
    assert caught.value.body == b"123"
    assert (await rejection(head("HTTP/1.1 403 No") + b"x" * 70_000)).body == b"x" * 65_536
    assert (await rejection(head("HTTP/1.1 403 No") + b"1", Limits(max_body_size=0))).body == b""


async def test_a_body_that_is_slow_to_come_is_waited_for() -> None:
    transport = Answering(lambda asked: head("HTTP/1.1 403 No", "Content-Length: 4"), endless=True)
    async with trio.open_nursery() as nursery:

        async def feed_slowly() -> None:
            await wait_all_tasks_blocked()
            transport.arriving.append(None)
            transport.feed(b"bo")
            await wait_all_tasks_blocked()
            transport.feed(b"dy")

        nursery.start_soon(feed_slowly)
        with pytest.raises(HandshakeRejected) as caught:
            await upgrade(transport, a_handshake(), LIMITS)
    assert caught.value.body == b"body"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(head("HTTP/1.1 403 No", "Content-Length: 9") + b"short", id="length"),
        pytest.param(head("HTTP/1.1 403 No", "Transfer-Encoding: chunked") + b"5\r\nshort\r\n", id="chunked"),
        pytest.param(head("HTTP/1.1 403 No", "Transfer-Encoding: chunked") + b"5\r\nshort\r\nZ\r\n", id="bad chunk"),
    ],
)
async def test_a_rejection_with_a_body_that_is_cut_short_is_a_rejection(data: bytes) -> None:
    rejected = await rejection(data)
    assert (rejected.status, rejected.body) == (403, b"short")


async def test_no_answer_is_an_error() -> None:
    for data in (b"", b"HTTP/1.1 101 Switching", head("HTTP/1.1 100 Continue")):
        with pytest.raises(InvalidHandshake, match="closed the connection before it answered"):
            await upgrade(ScriptedTransport([data] if data else []), a_handshake(), LIMITS)


async def test_what_broke_the_transport_is_raised() -> None:
    transport = ScriptedTransport([b"HTTP/1.1 1"])
    transport.error = ConnectionResetError("reset")
    with pytest.raises(ConnectionResetError) as caught:
        await upgrade(transport, a_handshake(), LIMITS)
    assert caught.value is transport.error


GOOD = head("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", id="another protocol"),
        pytest.param(b"\x15\x03\x03\x00\x02\x02\x28", id="a TLS alert"),
        pytest.param(b"\r\n" + GOOD, id="blank line first"),
        pytest.param(GOOD.replace(b"\r\n", b"\n"), id="bare LF"),
        pytest.param(GOOD.replace(b"Upgrade", b"Up\rgrade"), id="bare CR"),
        pytest.param(GOOD.replace(b"Upgrade", b"\tUpgrade"), id="folded before the first line"),
        pytest.param(GOOD.replace(b"websocket", b"web\0socket"), id="NUL"),
        pytest.param(GOOD.replace(b"Upgrade:", b"Upgrade :"), id="space before the colon"),
        pytest.param(GOOD.replace(b"Upgrade:", b"Upgr\xc3\xa4de:"), id="not ASCII in a name"),
        pytest.param(GOOD.replace(b"101", b"1o1"), id="no number"),
        pytest.param(GOOD.replace(b"101", b"99"), id="two digits"),
        pytest.param(GOOD.replace(b"101", b"099"), id="status 99"),
        pytest.param(GOOD.replace(b"HTTP/1.1", b"HTTP/11"), id="no version"),
        pytest.param(GOOD.replace(b"HTTP/1.1", b"ICY"), id="ICY"),
        *(
            pytest.param(GOOD.replace(b"HTTP/1.1", version), id=version.decode())
            for version in (b"HTTP/0.1", b"HTTP/2.0")
        ),
        pytest.param(b"HTTP/1.1 101 " + b"x" * 8192, id="long first line"),
        pytest.param(GOOD[:-2] + b"X: " + b"x" * 8190 + b"\r\n\r\n", id="long line"),
        pytest.param(GOOD[:-2] + b"X: y\r\n" * 101 + b"\r\n", id="many headers"),
        pytest.param(GOOD[:-2] + b"X: yyyyyyyyyyyyy\r\n" * 1000, id="large head"),
        pytest.param(head("HTTP/1.1 403 No", "Content-Length: 1", "Content-Length: 2"), id="two lengths"),
    ],
)
async def test_a_malformed_answer_is_an_error(data: bytes) -> None:
    transport = Answering(lambda asked: data, endless=True)
    with pytest.raises(InvalidHandshake, match="malformed"):
        await upgrade(transport, a_handshake(), LIMITS)


async def test_an_error_about_an_answer_is_short() -> None:
    with pytest.raises(InvalidHandshake) as caught:
        await asked_and_answered(lambda asked: head("HTTP/1.1 101 Switching Protocols", "X" * 8000))
    assert len(str(caught.value)) < 400


# A whole server: nothing that follows a bad request is ever served.


async def serve_plain(request: HTTPRequest) -> HTTPResponse:
    return HTTPResponse(200, (), request.target.encode())


async def never(request: WebSocketRequest) -> None:
    raise AssertionError("this was no good request")


SECOND = head("GET /admin HTTP/1.1", "Host: example.com")


@pytest.mark.parametrize(
    ("first", "answered"),
    [
        pytest.param(request("Transfer-Encoding: chunked", "Content-Length: 4"), 400, id="TE and CL"),
        pytest.param(request("Transfer-Encoding: chunked") + b"0\r\n\r\n", 400, id="TE"),
        pytest.param(request("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 501, id="two TE"),
        pytest.param(request("Transfer-Encoding: xchunked"), 501, id="TE of another name"),
        pytest.param(request("Content-Length: 10"), 400, id="CL"),
        pytest.param(request("Content-Length: 0", "Content-Length: 10"), 400, id="two CL"),
        pytest.param(request("X: a\nContent-Length: 10"), 400, id="bare LF"),
        pytest.param(request("X: a\rContent-Length: 10"), 400, id="bare CR"),
        pytest.param(request("X: a\r\n Content-Length: 10"), 400, id="folded"),
        pytest.param(request("Content-Length : 10"), 400, id="space before the colon"),
        pytest.param(request("X: a\0"), 400, id="NUL"),
        pytest.param(request("Host: a", "Host: b"), 400, id="two Hosts"),
        pytest.param(head("GET / HTTP/1.1", "Host: a"), 200, id="a good plain request"),
        pytest.param(head("POST / HTTP/1.1", "Host: a", "Content-Length: 4") + b"body", 200, id="a body"),
        pytest.param(request("Sec-WebSocket-Version: 12"), 426, id="another version"),
    ],
)
async def test_a_second_request_is_never_answered(first: bytes, answered: int, nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    await wrap_server_stream(nursery, theirs, never, http_handler=serve_plain)
    await ours.send_all(first + SECOND)
    await ours.send_eof()
    heard = await read_all(ours)
    assert status(heard) == answered
    assert heard.count(b"HTTP/1.1") == 1
    assert b"admin" not in heard
    assert field(heard, "Connection").endswith("close")
    # Exactly one answer: the body is as long as the head says, and then comes the end.
    assert len(body(heard)) == int(field(heard, "Content-Length"))


async def test_the_first_frames_may_come_with_the_request_and_the_answer_with_ours(nursery: trio.Nursery) -> None:
    async def echo(request: WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await websocket.send(await websocket.receive())

    ours, theirs = memory_stream_pair()
    await wrap_server_stream(nursery, theirs, echo)
    closing = close_frame(1000, masked=True)
    await ours.send_all(request() + frame(1, b"hello", masked=True))
    head_and_frame = await read_head(ours)
    heard = head_and_frame + await exchange(ours, closing)
    assert status(heard) == 101
    assert frames(body(heard)) == [(1, b"hello"), (8, (1000).to_bytes(2, "big"))]


# 101 answers that a client must not believe.


def hostile(*lines: str, without: str = "") -> Callable[[bytes], bytes]:
    def make(asked: bytes) -> bytes:
        good = answer(asked).decode("latin-1").split("\r\n")[1:-2]
        return head("HTTP/1.1 101 Switching Protocols", *(x for x in good if not without or without not in x), *lines)

    return make


DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda asked: answer(asked).replace(b" 101 ", b" 200 "), id="another status"),
        pytest.param(lambda asked: answer(asked).replace(b" 101 ", b" 102 "), id="another interim status"),
        pytest.param(hostile(without="Upgrade: "), id="no Upgrade"),
        pytest.param(hostile("Upgrade: h2c", without="Upgrade: "), id="another Upgrade"),
        pytest.param(hostile("Upgrade: h2c"), id="two Upgrades"),
        pytest.param(hostile(without="Connection"), id="no Connection"),
        pytest.param(hostile("Connection: close", without="Connection"), id="another Connection"),
        pytest.param(hostile(without="Accept"), id="no Accept"),
        pytest.param(hostile(f"Sec-WebSocket-Accept: {ACCEPT}", without="Accept"), id="another's Accept"),
        pytest.param(hostile(f"Sec-WebSocket-Accept: {KEY}", without="Accept"), id="a key for an Accept"),
        pytest.param(hostile("Sec-WebSocket-Accept: "), id="a second, empty Accept"),
        pytest.param(lambda asked: answer(asked, f"Sec-WebSocket-Accept: {accept_value(asked)}"), id="Accept twice"),
        pytest.param(hostile("Sec-WebSocket-Protocol: chat"), id="a protocol that was not offered"),
        pytest.param(hostile("Sec-WebSocket-Protocol: "), id="an empty protocol"),
        pytest.param(hostile("Sec-WebSocket-Extensions: x-webkit-deflate-frame"), id="an unknown extension"),
        pytest.param(hostile(DEFLATE, DEFLATE), id="an extension twice"),
        pytest.param(hostile(f"{DEFLATE}; server_max_window_bits=7"), id="a window that is too small"),
        pytest.param(hostile(f"{DEFLATE}; server_max_window_bits=16"), id="a window that is too large"),
        pytest.param(hostile(f"{DEFLATE}; server_max_window_bits=1234567890123"), id="a window beyond all bounds"),
        pytest.param(hostile(f"{DEFLATE}; client_max_window_bits"), id="a window without its size"),
        pytest.param(hostile(f"{DEFLATE}; unknown"), id="an unknown parameter"),
        pytest.param(hostile(f"{DEFLATE}; server_no_context_takeover; server_no_context_takeover"), id="twice"),
        pytest.param(hostile(f'{DEFLATE}; server_max_window_bits="'), id="an open quote"),
        pytest.param(hostile("Sec-WebSocket-Extensions: ;"), id="no extension"),
        pytest.param(hostile("Sec-WebSocket-Extensions: \xe9"), id="not ASCII in an extension"),
    ],
)
async def test_a_hostile_101_is_an_error_and_the_connection_is_closed(
    make: Callable[[bytes], bytes], nursery: trio.Nursery
) -> None:
    ours, theirs = memory_stream_pair()

    async def answer_badly() -> None:
        await theirs.send_all(make(await read_head(theirs)))
        await theirs.send_eof()

    nursery.start_soon(answer_badly)
    with pytest.raises(HandshakeError) as caught:
        await wrap_client_stream(nursery, ours, "ws://example.com/")
    assert type(caught.value) in (InvalidHandshake, HandshakeRejected)
    assert await read_all(theirs) == b""


async def test_a_good_101_in_unusual_words_is_believed(nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()

    async def answer_oddly() -> None:
        asked = await read_head(theirs)
        odd = head(
            "HTTP/1.1 101 Whatever",
            "UPGRADE:WebSocket",
            "connection:   keep-alive ,, uPGRADE  ",
            f"sec-websocket-accept:{accept_value(asked)}  ",
            "Sec-WebSocket-Extensions: ,",
            "Content-Length: 0",
            "Set-Cookie: a",
            "Set-Cookie: b",
        )
        await theirs.send_all(odd + frame(1, b"hello"))

    nursery.start_soon(answer_oddly)
    websocket = await wrap_client_stream(nursery, ours, "ws://example.com/")
    assert await websocket.receive() == "hello"
    assert websocket.extensions == ","
    with trio.CancelScope() as scope:
        scope.cancel()
        await websocket.aclose()


# Tunnels.


async def tunnel_through(*arriving: bytes | None, endless: bool = True, limits: Limits = LIMITS) -> Headers:
    transport = ScriptedTransport(arriving, endless=endless)
    return await open_tunnel(transport, "example.com:443", Headers(), limits)


ESTABLISHED = head("HTTP/1.1 200 Connection established", "Via: 1.1 proxy")


async def test_a_tunnel_is_asked_for() -> None:
    transport = ScriptedTransport([ESTABLISHED], endless=True)
    with assert_checkpoints():
        sent = Headers([("Proxy-Authorization", "Basic x"), ("X-A", "b")])
        headers = await open_tunnel(transport, "[::1]:443", sent, LIMITS)
    assert transport.written == head(
        "CONNECT [::1]:443 HTTP/1.1", "Host: [::1]:443", "Proxy-Authorization: Basic x", "X-A: b"
    )
    assert headers == {"Via": "1.1 proxy"}


@pytest.mark.parametrize(
    "answered",
    [
        ESTABLISHED,
        head("HTTP/1.0 200 Connection established"),
        head("HTTP/1.1 299 "),
        # RFC 9110 §9.3.6: an answer of 2xx has no body, whatever it says.
        head("HTTP/1.1 200 OK", "Content-Length: 1000"),
        head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked"),
        head("HTTP/1.1 100 Continue") + head("HTTP/1.1 200 OK"),
    ],
)
async def test_a_tunnel_is_opened_by_any_answer_of_2xx_in_any_pieces(answered: bytes) -> None:
    await tunnel_through(answered)
    await tunnel_through(*(answered[i : i + 1] for i in range(len(answered))))


@pytest.mark.parametrize("code", [301, 400, 403, 407, 502, 503, 599])
async def test_a_proxy_that_refuses_tells_its_status_and_its_body_is_not_waited_for(code: int) -> None:
    with pytest.raises(ProxyError, match=f"refused the tunnel to example.com:443 with HTTP status {code}") as caught:
        await tunnel_through(head(f"HTTP/1.1 {code} No", "Proxy-Authenticate: Basic", "Content-Length: 1000000000"))
    assert caught.value.status == code
    assert caught.value.headers is not None
    assert caught.value.headers["proxy-authenticate"] == "Basic"


@pytest.mark.parametrize(
    ("answered", "why"),
    [
        (ESTABLISHED + b"HELLO", "5 bytes after its answer"),
        (ESTABLISHED + ESTABLISHED, "bytes after its answer"),
        (b"\5\0", "malformed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\n\n", "malformed"),
        (head("HTTP/1.1 200 OK", "A : b"), "malformed"),
        (head("HTTP/1.1 200 OK", " folded"), "malformed"),
        (head("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: upgrade"), "malformed"),
        (head("HTTP/1.1 100 Continue") * 20, "interim answers"),
        (b"HTTP/1.1 200 " + b"x" * 10_000, "first line has over"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 3_000, "head has over"),
        (head("HTTP/1.1 200 OK", *["A: b"] * 101), "more than 100 header lines"),
    ],
)
async def test_an_answer_to_connect_that_is_none_is_an_error(answered: bytes, why: str) -> None:
    with pytest.raises(ProxyError, match=why) as caught:
        await tunnel_through(answered)
    assert caught.value.status is None
    assert caught.value.headers is None


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200", ESTABLISHED[:-1]])
async def test_a_proxy_that_leaves_is_an_error(begun: bytes) -> None:
    with pytest.raises(ProxyError, match="closed the connection before it answered") as caught:
        await tunnel_through(begun, endless=False)
    assert caught.value.__cause__ is None


async def test_what_broke_the_connection_to_the_proxy_is_the_cause() -> None:
    transport = ScriptedTransport()
    transport.error = ConnectionResetError("by the proxy")
    with pytest.raises(ProxyError) as caught:
        await open_tunnel(transport, "example.com:443", Headers(), LIMITS)
    assert caught.value.__cause__ is transport.error
