"""no_proxy: which hosts are reached without a proxy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ws._client.no_proxy import NoProxy
from trio_ws._wire.url import parse_url


@pytest.mark.parametrize(
    ("text", "url", "covered"),
    [
        ("", "ws://example.com", False),
        (" , ,", "ws://example.com", False),
        ("*", "ws://example.com", True),
        ("*", "ws://[::1]:8080", True),
        ("other.com, *", "ws://example.com", True),
        ("example.com", "ws://example.com", True),
        ("example.com", "wss://example.com:8443", True),
        ("EXAMPLE.com", "ws://example.COM", True),
        ("example.com", "ws://example.com.", True),
        ("example.com.", "ws://example.com", True),
        ("example.com", "ws://a.b.example.com", True),
        ("example.com", "ws://notexample.com", False),
        ("example.com", "ws://example.com.evil.org", False),
        ("a.example.com", "ws://example.com", False),
        (".example.com", "ws://example.com", True),
        (".example.com", "ws://sub.example.com", True),
        (".example.com", "ws://notexample.com", False),
        ("*.example.com", "ws://sub.example.com", True),
        ("*.example.com", "ws://example.com", True),
        ("one.com,two.com\tthree.com  four.com", "ws://three.com", True),
        ("example.com:8080", "ws://example.com:8080", True),
        ("example.com:8080", "ws://sub.example.com:8080", True),
        ("example.com:8080", "ws://example.com", False),
        ("example.com:80", "ws://example.com", True),
        ("example.com:443", "wss://example.com", True),
        ("example.com:443", "ws://example.com", False),
        ("localhost", "ws://127.0.0.1", False),
        ("127.0.0.1", "ws://127.0.0.1:5000", True),
        ("127.0.0.1:5000", "ws://127.0.0.1:5000", True),
        ("127.0.0.1:5000", "ws://127.0.0.1:5001", False),
        ("127.0.0.1", "ws://127.0.0.2", False),
        ("0.0.1", "ws://127.0.0.1", False),
        ("10.0.0.0/8", "ws://10.1.2.3", True),
        ("10.1.2.3/8", "ws://10.9.9.9", True),
        ("10.0.0.0/8", "ws://11.1.2.3", False),
        ("10.0.0.0/8:81", "ws://10.1.2.3:81", True),
        ("10.0.0.0/8:81", "ws://10.1.2.3", False),
        ("10.0.0.0/8", "ws://10.example.com", False),
        ("10.0.0.0/8", "ws://[::1]", False),
        ("::1", "ws://[::1]", True),
        ("[::1]", "ws://[::1]:8080", True),
        ("[::1]:8080", "ws://[0:0::1]:8080", True),
        ("[::1]:8080", "ws://[::1]", False),
        ("fe80::/10", "ws://[fe80::5]", True),
        ("fe80::/10", "ws://[2001:db8::5]", False),
        (":::", "ws://[::1]", False),
        (".", "ws://example.com", False),
        ("*.", "ws://example.com", False),
        ("bücher.example", "ws://bücher.example", True),
        ("bücher.example", "ws://xn--bcher-kva.example", True),
        ("xn--bcher-kva.example", "ws://bücher.example", True),
        ("BÜCHER.example", "ws://www.bücher.example", True),
        ("b\u0075\u0308cher.example", "ws://bücher.example", True),
        (".bücher.example", "ws://www.bücher.example", True),
        ("*.bücher.example:8080", "ws://bücher.example:8080", True),
        ("bücher.example:8080", "ws://bücher.example", False),
        ("bücher。example", "ws://bücher.example", True),
        ("例え.テスト", "wss://例え.テスト", True),
        ("例え.テスト", "wss://たとえ.テスト", False),
        ("straße.example", "ws://strasse.example", False),
        ("\u200d.example", "ws://example.com", False),
        ("example.com:99999", "ws://example.com", False),
    ],
)
def test_what_no_proxy_covers(text: str, url: str, covered: bool) -> None:
    assert NoProxy(text).covers(parse_url(url)) == covered


@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    assert NoProxy(text).covers(parse_url("ws://example.com")) in (True, False)
    assert NoProxy(f"{text},example.com").covers(parse_url("ws://example.com"))
