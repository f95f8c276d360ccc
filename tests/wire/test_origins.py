"""Origins: who may open a WebSocket from a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trio_ws._options import SAME_ORIGIN, Origins
from trio_ws._wire.headers import Headers
from trio_ws._wire.opening import OpeningRequest, Refusal
from trio_ws._wire.origins import check_origin, check_origins

if TYPE_CHECKING:
    from collections.abc import Iterable


def request(*, origin: str | None, host: str = "good.com", secure: bool = False) -> OpeningRequest:
    return OpeningRequest(
        target="/",
        headers=Headers(),
        http_version="1.1",
        secure=secure,
        host=host,
        origin=origin,
        protocols=(),
        key=None,
    )


def is_taken(origin: str | None, origins: Origins, *, host: str = "good.com", secure: bool = False) -> bool:
    try:
        check_origin(request(origin=origin, host=host, secure=secure), origins)
    except Refusal:
        return False
    return True


def test_a_refused_origin_gets_403() -> None:
    with pytest.raises(Refusal) as caught:
        check_origin(request(origin="https://evil.com"), SAME_ORIGIN)
    assert caught.value.status == 403
    assert caught.value.reason_text == "This origin may not open a WebSocket here."
    assert caught.value.headers == ()


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize(
    ("origin", "host", "taken"),
    [
        (None, "good.com", True),
        ("http://good.com", "good.com", True),
        ("https://good.com", "good.com", True),
        ("HTTPS://GOOD.com", "good.COM", True),
        ("https://good.com:443", "good.com", True),
        ("https://good.com", "good.com:443", True),
        ("http://good.com", "good.com:80", True),
        ("https://good.com:8443", "good.com:8443", True),
        ("ws://good.com", "good.com", True),
        ("wss://good.com:8443", "good.com:8443", True),
        ("http://[::1]:81", "[0::1]:81", True),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("https://evil.com", "good.com", False),
        ("https://good.com.evil.com", "good.com", False),
        ("https://evilgood.com", "good.com", False),
        ("https://sub.good.com", "good.com", False),
        ("https://good.com", "sub.good.com", False),
        ("https://good.com:8443", "good.com", False),
        ("https://good.com", "good.com:8443", False),
        ("http://good.com", "good.com:443", False),
        ("https://good.com", "good.com:80", False),
        ("https://good.com:80", "good.com", False),
        ("http://good.com:443", "good.com", False),
        ("https://good.com.", "good.com", False),
        ("null", "good.com", False),
        ("null", "null", False),
        ("", "good.com", False),
        ("good.com", "good.com", False),
        ("//good.com", "good.com", False),
        ("://good.com", "good.com", False),
        ("https:good.com", "good.com", False),
        ("https://good.com/", "good.com", False),
        ("https://evil.com@good.com", "good.com", False),
        ("https://good.com@evil.com", "good.com", False),
        ("https://good.com, https://evil.com", "good.com", False),
        ("https://good.com https://evil.com", "good.com", False),
        ("https://good.com\\.evil.com", "good.com", False),
        ("https://good.com:x", "good.com", False),
        ("https://", "good.com", False),
        ("chrome-extension://good.com", "good.com", False),
        ("file://", "good.com", False),
        ("a b://good.com", "good.com", False),
    ],
)
def test_the_same_origin_is_the_same_host_and_port(origin: str | None, host: str, secure: bool, taken: bool) -> None:
    assert is_taken(origin, SAME_ORIGIN, host=host, secure=secure) is taken


LISTED = ("https://good.com", "http://other.com:8080", "chrome-extension://abc", "file://")


@pytest.mark.parametrize(
    ("origin", "taken"),
    [
        ("https://good.com", True),
        ("HTTPS://Good.Com", True),
        ("https://good.com:443", True),
        ("http://other.com:8080", True),
        ("chrome-extension://abc", True),
        ("file://", True),
        ("http://good.com", False),
        ("https://good.com:8443", False),
        ("https://good.com/", False),
        ("https://good.com.evil.com", False),
        ("https://sub.good.com", False),
        ("http://other.com", False),
        ("chrome-extension://abcd", False),
        ("null", False),
        ("", False),
        ("garbage", False),
        (None, False),
    ],
)
def test_listed_origins_are_compared_exactly(origin: str | None, taken: bool) -> None:
    assert is_taken(origin, LISTED) is taken
    assert is_taken(origin, (*LISTED, None)) is (taken or origin is None)
    assert is_taken(origin, (*LISTED, "null")) is (taken or origin == "null")


def test_a_list_does_not_take_the_same_origin_by_itself() -> None:
    assert not is_taken("https://good.com", ("https://other.com",), host="good.com")
    assert not is_taken(None, ())


def test_a_list_is_compared_in_any_case_and_with_or_without_default_port() -> None:
    assert is_taken("https://good.com", ("HTTPS://GOOD.com:443",))


@pytest.mark.parametrize("origin", [None, "https://evil.com", "null", "garbage"])
def test_no_list_takes_anything(origin: str | None) -> None:
    assert is_taken(origin, None)


@pytest.mark.parametrize(
    ("origins", "checked"),
    [
        (SAME_ORIGIN, SAME_ORIGIN),
        (None, None),
        ((), ()),
        (["https://a.b", None], ("https://a.b", None)),
        ((*LISTED, "null", None, "http://[::1]:1"), (*LISTED, "null", None, "http://[::1]:1")),
        (iter(["ws://a"]), ("ws://a",)),
    ],
)
def test_good_origins_become_a_tuple(origins: Origins | Iterable[str | None], checked: Origins) -> None:
    assert check_origins(origins) == checked


@pytest.mark.parametrize(
    "origin",
    [
        *["*", "", "a.b", "//a.b", "://a.b", "ht tp://a", "Null", "https://", "https://a.b/", "https://a.b/path"],
        *["https://a.b?q", "https://u@a.b", "https://*.a.b", "https://a b", "https://a:x", "https://é"],
    ],
)
def test_an_entry_that_is_no_origin_is_a_value_error(origin: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        check_origins(["https://good.com", None, origin])
    assert str(caught.value) == f"origins: {origin!r} must be scheme://host or scheme://host:port"


@pytest.mark.parametrize(
    ("origins", "message"),
    [
        ("https://a.b", "origins must be SAME_ORIGIN, None or an iterable of origins, not 'https://a.b'"),
        (b"https://a.b", "origins must be SAME_ORIGIN, None or an iterable of origins, not b'https://a.b'"),
        (True, "origins must be SAME_ORIGIN, None or an iterable of origins, not True"),
        ([b"https://a.b"], "origins: b'https://a.b' must be a str or None, not bytes"),
    ],
)
def test_origins_of_another_type_are_a_type_error(origins: Origins, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        check_origins(origins)
    assert str(caught.value) == message
