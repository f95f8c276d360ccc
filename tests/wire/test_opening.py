"""The server's half of the opening handshake: what it takes, what it refuses and how, and what it answers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_ws._options import Compression
from trio_ws._wire.deflate import DeflateParameters
from trio_ws._wire.headers import Headers, HeadersLike
from trio_ws._wire.opening import (
    OpeningRequest,
    Refusal,
    choose_protocol,
    http1_answer,
    http2_answer,
    read_http1_request,
    read_http2_request,
    wants_websocket,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 §1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
VERSION = ("Sec-WebSocket-Version", "13")
UPGRADE = (("Upgrade", "websocket"), ("Connection", "Upgrade"), VERSION)

HTTP1 = [
    ("Host", "example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", KEY),
    VERSION,
]
HTTP2 = [
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "https"),
    (":authority", "example.com"),
    (":path", "/chat?a=b"),
    ("sec-websocket-version", "13"),
]
Fields = list[tuple[str, str]]


def replaced(fields: Fields, changes: list[tuple[str, str | None]]) -> Fields:
    """Take away each named field, and put in the new values at the end; None only takes away."""
    names = {name.lower() for name, _ in changes}
    kept = [field for field in fields if field[0].lower() not in names]
    return kept + [(name, value) for name, value in changes if value is not None]


def read_http1(
    changes: list[tuple[str, str | None]], *, method: str = "GET", version: str = "1.1", target: str = "/chat"
) -> OpeningRequest:
    return read_http1_request(method, version, target, Headers(replaced(HTTP1, changes)), secure=False)


def refusal_of_http2(fields: Fields) -> tuple[int, tuple[tuple[str, str], ...]]:
    with pytest.raises(Refusal) as caught:
        read_http2_request(fields, secure=True)
    return caught.value.status, caught.value.headers


def test_a_refusal_says_status_text_and_headers() -> None:
    refusal = Refusal(405, "No.", (("Allow", "GET"),))
    assert (refusal.status, refusal.reason_text, refusal.headers) == (405, "No.", (("Allow", "GET"),))
    assert str(refusal) == "405 No."
    assert Refusal(400, "No.").headers == ()


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ([("Upgrade", "websocket")], True),
        ([("upgrade", "WebSocket")], True),
        ([("Upgrade", "h2c, websocket")], True),
        ([("Upgrade", "h2c"), ("Upgrade", "websocket")], True),
        ([("Upgrade", "h2c")], False),
        ([("Upgrade", "websocket2")], False),
        ([("Connection", "Upgrade")], False),
        ([], False),
    ],
)
def test_an_upgrade_that_names_websocket_wants_one(fields: Fields, wanted: bool) -> None:
    assert wants_websocket(Headers(fields)) is wanted


def test_the_request_of_the_rfc_is_read() -> None:
    headers = Headers(
        [
            ("Host", "server.example.com"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", KEY),
            ("Origin", "http://example.com"),
            ("Sec-WebSocket-Protocol", "chat, superchat"),
            VERSION,
        ]
    )
    assert read_http1_request("GET", "1.1", "/chat?a=b?c", headers, secure=True) == OpeningRequest(
        target="/chat?a=b?c",
        headers=headers,
        http_version="1.1",
        secure=True,
        host="server.example.com",
        origin="http://example.com",
        protocols=("chat", "superchat"),
        key=KEY,
    )


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [("/", "/", ""), ("/a%20b", "/a%20b", ""), ("/a?", "/a", ""), ("/a?b?c", "/a", "b?c"), ("//a/?b", "//a/", "b")],
)
def test_a_target_has_a_path_and_a_query(target: str, path: str, query: str) -> None:
    request = read_http1([], target=target)
    assert (request.target, request.path, request.query) == (target, path, query)


@pytest.mark.parametrize(
    ("target", "origin_form"),
    [
        ("http://example.com/chat?a", "/chat?a"),
        ("HTTP://Example.com:80/chat", "/chat"),
        ("https://example.com:443", "/"),
        ("ws://example.com?a/b", "/?a/b"),
        ("wss://example.com//", "//"),
    ],
)
def test_a_target_in_absolute_form_is_taken_if_it_names_this_host(target: str, origin_form: str) -> None:
    assert read_http1([], target=target).target == origin_form


ACCEPTED_MUTATIONS: list[list[tuple[str, str | None]]] = [
    [("Connection", "keep-alive, upgrade")],
    [("Connection", "keep-alive"), ("Connection", "UPGRADE")],
    [("Upgrade", "WebSocket")],
    [("Upgrade", "foo, websocket")],
    [("Host", "[::1]:8080")],
    [("Host", "my_host:")],
    [("Content-Length", "0")],
    [("Origin", "anything at all")],
    [("Sec-WebSocket-Protocol", "")],
    [("Sec-WebSocket-Protocol", ", ,")],
    [("Sec-WebSocket-Extensions", "")],
    [("Sec-WebSocket-Extensions", "foo; bar=1, baz")],
    [("Sec-WebSocket-Extensions", ",".join(["foo"] * 16))],
    [("X-Odd", "\xe9\x80")],
]


@pytest.mark.parametrize("changes", ACCEPTED_MUTATIONS)
def test_odd_but_good_requests_are_read(changes: list[tuple[str, str | None]]) -> None:
    assert read_http1(changes).protocols == ()


def test_several_protocol_headers_are_one_list() -> None:
    request = read_http1([("Sec-WebSocket-Protocol", "a,b ,"), ("Sec-WebSocket-Protocol", "A")])
    assert request.protocols == ("a", "b", "A")
    most = [f"p{number}" for number in range(32)]
    assert read_http1([("Sec-WebSocket-Protocol", ",".join(most))]).protocols == tuple(most)


HTTP1_MUTATIONS: list[tuple[int, list[tuple[str, str | None]]]] = [
    (426, [("Upgrade", None)]),
    (426, [("Upgrade", "h2c")]),
    (426, [("Upgrade", "websockets")]),
    (426, [("Upgrade", "web socket")]),
    (400, [("Connection", None)]),
    (400, [("Connection", "keep-alive")]),
    (400, [("Connection", "close")]),
    (400, [("Connection", "keep-alive upgrade")]),
    (400, [("Host", None)]),
    (400, [("Host", "example.com"), ("Host", "example.com")]),
    (400, [("Host", "example.com"), ("Host", "evil.com")]),
    (400, [("Host", "")]),
    (400, [("Host", "a b")]),
    (400, [("Host", "user@example.com")]),
    (400, [("Host", "http://example.com")]),
    (400, [("Host", "example.com/")]),
    (400, [("Host", "example.com:0")]),
    (400, [("Host", "example.com:99999")]),
    (400, [("Host", "example.com:x")]),
    (400, [("Host", "[::1")]),
    (400, [("Host", "ex\xe4mple.com")]),
    (400, [("Host", "a, b")]),
    (400, [("Sec-WebSocket-Key", None)]),
    (400, [("Sec-WebSocket-Key", "")]),
    (400, [("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Key", KEY)]),
    (400, [("Sec-WebSocket-Key", f"{KEY}, {KEY}")]),
    (400, [("Sec-WebSocket-Key", "AAAA")]),
    (400, [("Sec-WebSocket-Key", KEY[:-1])]),
    (400, [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZSEh")]),
    (400, [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZ!==")]),
    (400, [("Sec-WebSocket-Key", "\xe9" * 24)]),
    (400, [("Sec-WebSocket-Version", None)]),
    (400, [VERSION, VERSION]),
    (426, [("Sec-WebSocket-Version", "8")]),
    (426, [("Sec-WebSocket-Version", "14")]),
    (426, [("Sec-WebSocket-Version", "")]),
    (426, [("Sec-WebSocket-Version", "013")]),
    (426, [("Sec-WebSocket-Version", "13, 8")]),
    (426, [("Sec-WebSocket-Version", "thirteen")]),
    (400, [("Transfer-Encoding", "chunked")]),
    (400, [("Transfer-Encoding", "identity")]),
    (400, [("Content-Length", "1")]),
    (400, [("Content-Length", "0"), ("Content-Length", "5")]),
    (400, [("Content-Length", "")]),
    (400, [("Content-Length", "-0")]),
    (400, [("Origin", "https://example.com"), ("Origin", "https://example.com")]),
    (400, [("Origin", "https://example.com"), ("Origin", "https://evil.com")]),
    (400, [("Sec-WebSocket-Protocol", "a b")]),
    (400, [("Sec-WebSocket-Protocol", "\xe9")]),
    (400, [("Sec-WebSocket-Protocol", "a;b")]),
    (400, [("Sec-WebSocket-Protocol", "a, b, a")]),
    (400, [("Sec-WebSocket-Protocol", "a"), ("Sec-WebSocket-Protocol", "a")]),
    (400, [("Sec-WebSocket-Protocol", ",".join(f"p{number}" for number in range(33)))]),
    (400, [("Sec-WebSocket-Protocol", "b" + " " * 8000 + "x")]),
    (400, [("Sec-WebSocket-Extensions", "a b")]),
    (400, [("Sec-WebSocket-Extensions", ";")]),
    (400, [("Sec-WebSocket-Extensions", "permessage-deflate;")]),
    (400, [("Sec-WebSocket-Extensions", 'permessage-deflate; a="')]),
    (400, [("Sec-WebSocket-Extensions", ",".join(["foo"] * 17))]),
    (400, [("Sec-WebSocket-Extensions", "foo")] * 17),
    (400, [("Sec-WebSocket-Extensions", "b" + " " * 8000 + "x")]),
]


NO_BODY = "A request to open a WebSocket has no body."
REASONS = {
    "upgrade": "This is a WebSocket server: Upgrade must be websocket.",
    "connection": "Connection must contain Upgrade.",
    "host": "Host must be there once and be valid.",
    "sec-websocket-key": "Sec-WebSocket-Key must be there once and be 16 bytes in base64.",
    "transfer-encoding": NO_BODY,
    "content-length": NO_BODY,
    "origin": "Origin must be there once at most.",
    "sec-websocket-protocol": "Sec-WebSocket-Protocol must have 32 tokens at most, each once.",
}


def reason_of(changes: list[tuple[str, str | None]]) -> str:
    """Look up what a refusal says about the header that was changed."""
    name, value = changes[0][0].lower(), changes[0][1]
    if name == "sec-websocket-version":
        amount = "there once" if value is None or len(changes) > 1 else "13"
        return f"Sec-WebSocket-Version must be {amount}."
    if name == "sec-websocket-extensions":
        too_many = len(changes) > 1 or (value or "").count(",") > 15
        must = "have 16 offers at most" if too_many else "follow RFC 6455, section 9.1"
        return f"Sec-WebSocket-Extensions must {must}."
    return REASONS[name]


@pytest.mark.parametrize(("status", "changes"), HTTP1_MUTATIONS)
def test_a_broken_request_is_refused(status: int, changes: list[tuple[str, str | None]]) -> None:
    with pytest.raises(Refusal) as caught:
        read_http1(changes)
    assert caught.value.status == status
    assert caught.value.headers == (UPGRADE if status == 426 else ())
    assert caught.value.reason_text == reason_of(changes)


@pytest.mark.parametrize(
    ("method", "version", "status", "headers"),
    [
        ("POST", "1.1", 405, (("Allow", "GET"),)),
        ("CONNECT", "1.1", 405, (("Allow", "GET"),)),
        ("get", "1.1", 405, (("Allow", "GET"),)),
        ("GET", "1.0", 505, ()),
        ("GET", "0.9", 505, ()),
        ("POST", "2", 505, ()),
    ],
)
def test_another_method_or_http_version_is_refused(
    method: str, version: str, status: int, headers: tuple[tuple[str, str], ...]
) -> None:
    with pytest.raises(Refusal) as caught:
        read_http1([], method=method, version=version)
    assert (caught.value.status, caught.value.headers) == (status, headers)


@pytest.mark.parametrize(
    "target",
    [
        *["", "chat", "*", "?a", "example.com:80", "/a#b", "/#", "/a b", "/\xe9", "/\x7f", "/\0", "/\r\nEvil: 1"],
        *["http://evil.com/", "http://example.com:81/", "http://user@example.com/", "ftp://example.com/"],
        *["http://", "http:///", "http://example.com\\/", "://example.com/", "http:/example.com"],
    ],
)
def test_a_bad_target_is_refused(target: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_http1([], target=target)
    assert caught.value.status == 400


def test_two_thousand_headers_are_no_trouble() -> None:
    many = [("X-Many", str(number)) for number in range(2000)]
    request = read_http1_request("GET", "1.1", "/", Headers([*many, *HTTP1]), secure=False)
    assert request.key == KEY


def test_an_extended_connect_is_read() -> None:
    fields = [
        ("sec-websocket-version", "13"),
        ("origin", "https://example.com"),
        ("sec-websocket-protocol", "chat"),
        ("x-a", ""),
    ]
    request = read_http2_request(HTTP2[:5] + fields, secure=True)
    assert request == OpeningRequest(
        target="/chat?a=b",
        headers=Headers([("host", "example.com"), *fields]),
        http_version="2",
        secure=True,
        host="example.com",
        origin="https://example.com",
        protocols=("chat",),
        key=None,
    )
    assert request.headers.raw == (("host", "example.com"), *fields)
    assert (request.path, request.query) == ("/chat", "a=b")


def test_cookie_crumbs_are_put_together() -> None:
    request = read_http2_request([*HTTP2, ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")], secure=True)
    assert request.headers.get_all("cookie") == ["a=1; b=2"]
    assert request.headers.raw[1:] == (("sec-websocket-version", "13"), ("x", "y"), ("cookie", "a=1; b=2"))


@pytest.mark.parametrize(
    ("keys", "key"), [([], None), ([KEY], KEY), ([KEY, KEY], None), (["AAAA"], None), (["\xe9" * 24], None)]
)
def test_a_key_is_kept_on_http2_if_it_is_a_good_one(keys: list[str], key: str | None) -> None:
    fields = [*HTTP2, *(("sec-websocket-key", value) for value in keys)]
    assert read_http2_request(fields, secure=True).key == key


@pytest.mark.parametrize(
    "changes",
    [
        [(":protocol", "WebSocket")],
        [(":scheme", "http")],
        [(":authority", "[::1]:8080")],
        [(":authority", None), ("host", "example.com")],
        [("host", "Example.com:443")],
        [("te", "trailers")],
        [("te", "Trailers")],
        [("content-length", "0")],
    ],
)
def test_odd_but_good_extended_connects_are_read(changes: list[tuple[str, str | None]]) -> None:
    fields = replaced(HTTP2, changes)
    fields.sort(key=lambda field: not field[0].startswith(":"))
    assert read_http2_request(fields, secure=True).target == "/chat?a=b"


HTTP2_PSEUDO_MUTATIONS: list[tuple[int, list[tuple[str, str | None]]]] = [
    (400, [(":protocol", None)]),
    (501, [(":protocol", "")]),
    (501, [(":protocol", "connect-udp")]),
    (501, [(":protocol", "websocket2")]),
    (501, [(":protocol", None), (":scheme", None), (":path", None)]),
    (400, [(":method", "GET"), (":protocol", None)]),
    (400, [(":method", None)]),
    (400, [(":method", "GET")]),
    (400, [(":method", "connect")]),
    (400, [(":scheme", None)]),
    (400, [(":scheme", "wss")]),
    (400, [(":scheme", "")]),
    (400, [(":authority", None)]),
    (400, [(":authority", "")]),
    (400, [(":authority", "user@example.com")]),
    (400, [(":authority", "example.com:0")]),
    (400, [(":path", None)]),
    (400, [(":path", "")]),
    (400, [(":path", "*")]),
    (400, [(":path", "/a#b")]),
    (400, [(":path", "/a b")]),
    (400, [(":path", "/\xe9")]),
    (400, [(":path", "https://example.com/")]),
    (400, [(":method", "CONNECT"), (":method", "CONNECT")]),
    (400, [(":path", "/"), (":path", "/b")]),
    (400, [(":status", "200")]),
    (400, [(":unknown", "1")]),
    (400, [(":", "1")]),
    (400, [(":Path", "/")]),
]
HTTP2_FIELD_MUTATIONS: list[tuple[int, list[tuple[str, str | None]]]] = [
    (400, [("X-Upper", "1")]),
    (400, [("", "1")]),
    (400, [("x y", "1")]),
    (400, [("x\xe9", "1")]),
    (400, [("x:", "1")]),
    (400, [("x", "a\r\nb")]),
    (400, [("x", "a\nb")]),
    (400, [("x", "a\rb")]),
    (400, [("x", "a\0b")]),
    (400, [("x", " a")]),
    (400, [("x", "a\t")]),
    (400, [("connection", "upgrade")]),
    (400, [("upgrade", "websocket")]),
    (400, [("keep-alive", "1")]),
    (400, [("proxy-connection", "1")]),
    (400, [("transfer-encoding", "chunked")]),
    (400, [("te", "gzip")]),
    (400, [("te", "trailers, gzip")]),
    (400, [("content-length", "1")]),
    (400, [("host", "evil.com")]),
    (400, [("host", "example.com:80")]),
    (400, [("host", "")]),
    (400, [("host", "example.com"), ("host", "example.com")]),
    (400, [("sec-websocket-version", None)]),
    (400, [("sec-websocket-version", "13"), ("sec-websocket-version", "13")]),
    (400, [("origin", "https://a"), ("origin", "https://b")]),
    (400, [("sec-websocket-protocol", "\xe9")]),
    (400, [("sec-websocket-extensions", "a b")]),
    (400, [(":path", None), ("x", "1"), (":path", "/")]),
]


@pytest.mark.parametrize(("status", "changes"), HTTP2_PSEUDO_MUTATIONS)
def test_a_broken_pseudo_header_is_refused(status: int, changes: list[tuple[str, str | None]]) -> None:
    fields = replaced(HTTP2, changes)
    fields.sort(key=lambda field: not field[0].startswith(":"))
    assert refusal_of_http2(fields) == (status, ())


@pytest.mark.parametrize(("status", "changes"), HTTP2_FIELD_MUTATIONS)
def test_a_broken_header_is_refused_on_http2(status: int, changes: list[tuple[str, str | None]]) -> None:
    assert refusal_of_http2(replaced(HTTP2, changes)) == (status, ())


LATIN1 = st.text(st.characters(max_codepoint=255), max_size=12)
NAMES = st.sampled_from([name for name, _ in (*HTTP1, *HTTP2)] + ["origin", "content-length", "cookie", "te"])
HINTS = ["", "13", "websocket", "upgrade", "/", "a,b", "a;b=c", 'a;b="', "http://a", "[::1]:80", "[", KEY, "CONNECT"]
FIELDS = st.lists(st.tuples(NAMES | LATIN1, st.sampled_from(HINTS) | LATIN1), max_size=8)


@settings(deadline=None)
@given(FIELDS, st.sampled_from(["/", "http://example.com", "http://["]) | LATIN1)
def test_any_headers_and_target_are_a_request_or_a_refusal(fields: Fields, target: str) -> None:
    headers = Headers([*replaced(HTTP1, [(name, None) for name, _ in fields]), *fields])
    try:
        request = read_http1_request("GET", "1.1", target, headers, secure=False)
    except Refusal:
        return
    assert request.target.startswith("/")


@settings(deadline=None)
@given(FIELDS)
def test_any_header_block_is_a_request_or_a_refusal(fields: Fields) -> None:
    block = [*replaced(HTTP2, [(name, None) for name, _ in fields]), *fields]
    block.sort(key=lambda field: not field[0].startswith(":"))
    try:
        request = read_http2_request(block, secure=True)
    except Refusal:
        return
    assert request.target.startswith("/")


def test_another_version_is_told_the_right_one_on_http2_too() -> None:
    assert refusal_of_http2(replaced(HTTP2, [("sec-websocket-version", "8")])) == (400, (VERSION,))


def test_an_empty_header_block_is_refused() -> None:
    assert refusal_of_http2([]) == (400, ())


@pytest.mark.parametrize(
    ("offered", "own", "chosen"),
    [
        ("a, b", ("b", "a"), "b"),
        ("a, b", ("c", "a"), "a"),
        ("a, b", ("c",), None),
        ("a, b", (), None),
        ("A", ("a",), None),
        ("", ("a",), None),
    ],
)
def test_the_server_chooses_in_its_own_order(offered: str, own: tuple[str, ...], chosen: str | None) -> None:
    assert choose_protocol(read_http1([("Sec-WebSocket-Protocol", offered)]), own) == chosen


def test_an_answer_without_anything_agreed() -> None:
    fields, agreement = http1_answer(read_http1([]), protocol=None, compression=None, headers=())
    assert fields == [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", ACCEPT)]
    assert (agreement.protocol, agreement.deflate, agreement.extensions) == (None, None, "")


EVERYTHING: list[tuple[str, str | None]] = [
    ("sec-websocket-protocol", "a, b"),
    ("sec-websocket-extensions", "foo, permessage-deflate; client_max_window_bits"),
]
DEFLATE = DeflateParameters(
    server_no_context_takeover=False,
    client_no_context_takeover=False,
    server_max_window_bits=13,
    client_max_window_bits=13,
)
EXTENSIONS = "permessage-deflate; server_max_window_bits=13; client_max_window_bits=13"
COOKIES = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]


def test_an_answer_with_everything_agreed() -> None:
    request = read_http1(EVERYTHING)
    fields, agreement = http1_answer(request, protocol="b", compression=Compression(), headers=COOKIES)
    assert fields == [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", ACCEPT),
        ("Sec-WebSocket-Protocol", "b"),
        ("Sec-WebSocket-Extensions", EXTENSIONS),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    ]
    assert (agreement.protocol, agreement.deflate, agreement.extensions) == ("b", DEFLATE, EXTENSIONS)


@pytest.mark.parametrize("key", [None, KEY])
def test_an_http2_answer_is_in_lower_case_and_answers_a_key_only_if_there_is_one(key: str | None) -> None:
    request = read_http2_request(replaced(HTTP2, [*EVERYTHING, ("sec-websocket-key", key)]), secure=True)
    fields, agreement = http2_answer(request, protocol="a", compression=Compression(), headers=COOKIES)
    accept = [("sec-websocket-accept", ACCEPT)] if key else []
    assert fields == [
        *accept,
        ("sec-websocket-protocol", "a"),
        ("sec-websocket-extensions", EXTENSIONS),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    ]
    assert (agreement.protocol, agreement.deflate, agreement.extensions) == ("a", DEFLATE, EXTENSIONS)


@pytest.mark.parametrize(
    "offers", ["foo", "permessage-deflate; nonsense", "permessage-deflate; server_max_window_bits=7"]
)
def test_offers_that_cannot_be_taken_are_declined(offers: str) -> None:
    request = read_http1([("Sec-WebSocket-Extensions", offers)])
    fields, agreement = http1_answer(request, protocol=None, compression=Compression(), headers=())
    assert "Sec-WebSocket-Extensions" not in Headers(fields)
    assert (agreement.deflate, agreement.extensions) == (None, "")


def test_without_compression_every_offer_is_declined() -> None:
    fields, agreement = http1_answer(read_http1(EVERYTHING), protocol=None, compression=None, headers=())
    assert "Sec-WebSocket-Extensions" not in Headers(fields)
    assert (agreement.deflate, agreement.extensions) == (None, "")


@pytest.mark.parametrize(
    ("protocol", "headers", "message"),
    [
        ("c", (), "protocol 'c' must be one that the client offered, of ('a', 'b')"),
        ("A", (), "protocol 'A' must be one that the client offered, of ('a', 'b')"),
        ("", (), "protocol '' must be one that the client offered, of ('a', 'b')"),
        (None, {"Connection": "close"}, "headers must not have 'Connection': the handshake sets it or forbids it"),
        (
            None,
            {"sec-websocket-protocol": "a"},
            "headers must not have 'sec-websocket-protocol': the handshake sets it or forbids it",
        ),
        (None, {":status": "200"}, "the header name ':status' is not a token (RFC 9110 §5.6.2)"),
        (None, {"X": "a\nb"}, "the value of header 'X' must not contain '\\n' (RFC 9110 §5.5)"),
    ],
)
def test_an_answer_that_breaks_a_rule_is_not_made(protocol: str | None, headers: HeadersLike, message: str) -> None:
    request = read_http1(EVERYTHING)
    for answer in (http1_answer, http2_answer):
        with pytest.raises(ValueError, match=r".") as caught:
            answer(request, protocol=protocol, compression=None, headers=headers)
        assert str(caught.value) == message
