"""What both sides of a handshake share: keys, subprotocols, and the headers that a caller adds."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from trio_ws._wire.headers import Headers, HeadersLike
from trio_ws._wire.negotiation import accept_value, check_headers, check_protocols, is_key, new_key

if TYPE_CHECKING:
    from collections.abc import Iterable


def test_a_new_key_is_16_fresh_bytes_in_base64() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(base64.b64decode(key)) for key in keys} == {16}
    assert all(is_key(key) for key in keys)


def test_the_accept_value_is_that_of_the_rfc() -> None:
    # RFC 6455 §1.3.
    assert accept_value("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZQ===",
        "dGhlIHNhbXBsZSBub25jZSE=",
        "dGhlIHNhbXBsZSBub25jZSEh",
        "dGhlIHNhbXBsZSBub25j ZQ=",
        "dGhlIHNhbXBsZSBub25jZ-==",
        "dGhlIHNhbXBsZSBub25jZé==",
        "dGhlIHNh==bXBsZSBub25jZQ",
        "dGhlIHNhbX==BsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZ=Q=",
        "========================",
        "A" * 8192,
    ],
)
def test_what_is_not_16_bytes_in_base64_is_no_key(text: str) -> None:
    assert not is_key(text)


@pytest.mark.parametrize(
    ("protocols", "checked"),
    [
        ((), ()),
        ("chat", ("chat",)),
        (["chat", "superchat.v2"], ("chat", "superchat.v2")),
        (iter(("a", "b")), ("a", "b")),
        ([f"p{number}" for number in range(32)], tuple(f"p{number}" for number in range(32))),
    ],
)
def test_good_subprotocols_become_a_tuple(protocols: str | Iterable[str], checked: tuple[str, ...]) -> None:
    assert check_protocols(protocols) == checked


@pytest.mark.parametrize(
    ("protocols", "message"),
    [
        ("", "protocols: '' is not a token (RFC 9110 §5.6.2)"),
        ("a b", "protocols: 'a b' is not a token (RFC 9110 §5.6.2)"),
        ("a,b", "protocols: 'a,b' is not a token (RFC 9110 §5.6.2)"),
        (["a", "b\r\nEvil: 1"], "protocols: 'b\\r\\nEvil: 1' is not a token (RFC 9110 §5.6.2)"),
        (["é"], "protocols: 'é' is not a token (RFC 9110 §5.6.2)"),
        (["a", "b", "a"], "protocols: 'a' comes twice"),
        (["chat", "CHAT"], "protocols: 'CHAT' comes twice"),
        ([f"p{number}" for number in range(33)], "protocols: 33 are too many, at most 32 are allowed"),
    ],
)
def test_subprotocols_that_break_a_rule_are_refused(protocols: str | Iterable[str], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        check_protocols(protocols)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("protocols", "message"),
    [
        (None, "protocols must be a str or an iterable of them, not NoneType"),
        (b"chat", "protocols must be a str or an iterable of them, not bytes"),
        (7, "protocols must be a str or an iterable of them, not int"),
        (["a", b"b"], "protocols: b'b' must be a str, not bytes"),
        ([None], "protocols: None must be a str, not NoneType"),
    ],
)
def test_subprotocols_that_are_no_str_are_a_type_error(protocols: str | Iterable[str], message: str) -> None:
    with pytest.raises(TypeError) as caught:
        check_protocols(protocols)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "headers",
    [
        (),
        {"User-Agent": "a"},
        [("X", "1"), ("x", "2")],
        Headers([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]),
        [("Authorization", "Bearer a"), ("Cookie", "a=b"), ("Origin", "null"), ("Host", "h"), ("Sec-Fetch-Mode", "x")],
    ],
)
def test_a_caller_may_add_any_other_header(headers: HeadersLike) -> None:
    assert check_headers(headers) == Headers(headers)
    assert check_headers(headers).raw == Headers(headers).raw


@pytest.mark.parametrize(
    "name",
    [
        "Upgrade",
        "CONNECTION",
        "Sec-WebSocket-Key",
        "sec-websocket-accept",
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "Sec-WebSocket-Anything",
        "Transfer-Encoding",
        "Content-Length",
        "Proxy-Authorization",
        "Keep-Alive",
        "Proxy-Connection",
        "TE",
    ],
)
def test_a_caller_cannot_set_what_the_handshake_owns(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^headers must not have '{name}': the handshake sets it or forbids it$"):
        check_headers([("X", "1"), (name, "1")])


@pytest.mark.parametrize("name", [":authority", ":path", ":status"])
def test_a_caller_cannot_set_pseudo_headers(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^the header name '{name}' is not a token"):
        check_headers({name: "1"})


def test_a_caller_cannot_inject_headers() -> None:
    with pytest.raises(ValueError, match=r"^the value of header 'X' must not contain '\\r'"):
        check_headers({"X": "1\r\nSec-WebSocket-Key: 2"})


def test_a_caller_must_pass_headers() -> None:
    with pytest.raises(TypeError, match=r"^headers must be a mapping or an iterable of pairs, not str$"):
        check_headers("X: 1")  # type: ignore[arg-type]
