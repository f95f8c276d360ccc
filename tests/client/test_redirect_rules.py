"""Redirects: which are followed, where to, and what goes along."""

from __future__ import annotations

import pytest

from trio_ws import HandshakeRejected, Headers
from trio_ws._client.redirects import MAX_REDIRECTS, RedirectState, check_follow_redirects
from trio_ws._wire.url import parse_url

SECRETS = {"Authorization": "Bearer secret", "X-API-Key": "secret", "Cookie": "a=secret", "Host": "virtual.example"}


def redirect(*locations: str, status: int = 302) -> HandshakeRejected:
    return HandshakeRejected(status, Headers([("Location", location) for location in locations]))


def journey(
    url: str = "ws://user:pass@a.example/x/y?z", most: int = 5, origin: str | None = "http://page"
) -> RedirectState:
    return RedirectState(parse_url(url), SECRETS, origin, most)


@pytest.mark.parametrize("value", [-1, 6, True, False, 1.0, "1", None])
def test_the_number_is_checked(value: object) -> None:
    with pytest.raises(ValueError, match=r"follow_redirects=.*0 to 5"):
        check_follow_redirects(value)  # type: ignore[arg-type]


def test_the_numbers_that_are_good() -> None:
    for value in range(MAX_REDIRECTS + 1):
        check_follow_redirects(value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_an_origin_takes_everything_along(status: int) -> None:
    going = journey()
    assert going.goes_on(redirect("/new?q", status=status))
    assert str(going.url) == "ws://a.example/new?q"
    assert (going.url.username, going.url.password) == ("user", "pass")
    assert going.headers == SECRETS
    assert going.origin == "http://page"


@pytest.mark.parametrize(
    "location",
    [
        "//b.example/",
        "ws://b.example/",
        "http://b.example/",
        "ws://a.example:81/",
        "wss://a.example/",
        "https://a.example:80/",
        "ws://sub.a.example/",
    ],
)
def test_a_redirect_across_origins_leaves_the_callers_secrets_behind(location: str) -> None:
    going = journey()
    assert going.goes_on(redirect(location))
    assert going.url.authorization is None
    assert going.headers == {}
    assert going.origin == "null"
    # Back home they are gone: the other origin could have chosen where at home.
    assert going.goes_on(redirect("wss://a.example/"))
    assert going.url.authorization is None
    assert going.headers == {}
    assert going.origin == "null"


def test_an_origin_among_the_headers_becomes_null_too_and_none_stays_none() -> None:
    going = RedirectState(parse_url("ws://a.example"), [("origin", "http://page")], None, 1)
    assert going.goes_on(redirect("ws://b.example"))
    assert going.origin == "null"
    going = journey(origin=None)
    assert going.goes_on(redirect("ws://b.example"))
    assert going.origin is None


@pytest.mark.parametrize(
    ("going", "rejected", "why"),
    [
        (journey(most=0), redirect("/new"), "follow_redirects is 0"),
        (journey("wss://a.example"), redirect("ws://a.example/"), "wss to ws"),
        (journey("wss://a.example"), redirect("http://b.example:443/"), "wss to ws"),
        (journey(), redirect(), "it has 0 Location"),
        (journey(), redirect("/a", "/b"), "it has 2 Location"),
        (journey(), redirect("ftp://a.example/"), "not a WebSocket URL"),
        (journey(), redirect("javascript:alert(1)"), "not a WebSocket URL"),
        (journey(), redirect("http://"), "not a WebSocket URL"),
        (journey(), redirect("http://a.example:99999/"), "not a WebSocket URL"),
        (journey(), redirect("http://admin:guess@a.example/"), "userinfo"),
        (journey(), redirect("//admin@a.example/"), "userinfo"),
    ],
)
def test_a_redirect_that_is_refused_has_a_note(going: RedirectState, rejected: HandshakeRejected, why: str) -> None:
    before = (going.url, going.headers, going.origin)
    assert not going.goes_on(rejected)
    (note,) = rejected.__notes__
    assert note.startswith("the redirect was not followed: ")
    assert why in note
    assert "guess" not in note
    assert (going.url, going.headers, going.origin) == before


@pytest.mark.parametrize("status", [200, 300, 304, 305, 306, 401, 404, 503])
def test_another_status_is_no_redirect(status: int) -> None:
    rejected = redirect("/new", status=status)
    assert not journey().goes_on(rejected)
    assert not hasattr(rejected, "__notes__")


def test_a_loop_comes_to_an_end() -> None:
    going = journey(most=3)
    for _ in range(3):
        assert going.goes_on(redirect("/x/y"))
    assert not going.goes_on(redirect("/x/y"))


def test_headers_that_can_be_read_once_are_kept() -> None:
    going = RedirectState(parse_url("ws://a.example"), iter([("X-A", "1")]), None, 2)
    for _ in range(2):
        assert going.headers == {"X-A": "1"}
        assert going.goes_on(redirect("/"))
