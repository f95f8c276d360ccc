"""What is left out of logs and messages: secrets in URLs and headers."""

from __future__ import annotations

import pytest

from trio_ws._wire.headers import Headers
from trio_ws._wire.hiding import hide_secrets_of_headers, hide_secrets_of_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("wss://example.com/a?b=c", "wss://example.com/a?b=c"),
        ("https://user:pass@example.com/#f", "https://example.com/#f"),
        ("wss://x/?token=abc&room=1", "wss://x/?token=<hidden>&room=1"),
        ("wss://x/?access_token=a=b&API-Key=c", "wss://x/?access_token=<hidden>&API-Key=<hidden>"),
        ("wss://x/?X-Amz-Signature=ab&sig=c&code=d", "wss://x/?X-Amz-Signature=<hidden>&sig=<hidden>&code=<hidden>"),
        ("wss://x/?flag", "wss://x/?flag"),
        (f"wss://x/?{'e' * 41}", "wss://x/?<hidden>"),
        ("/elsewhere?ticket=1", "/elsewhere?ticket=<hidden>"),
        ("wss://x/a@b", "wss://x/a@b"),
    ],
)
def test_secrets_in_urls_are_hidden(url: str, shown: str) -> None:
    assert hide_secrets_of_url(url) == shown


@pytest.mark.parametrize(
    "name", ["Authorization", "Proxy-Authorization", "cookie", "Set-Cookie", "X-Api-Key", "X-Auth-Token", "X-Session"]
)
def test_secrets_in_headers_are_hidden(name: str) -> None:
    assert hide_secrets_of_headers(Headers([(name, "abc")])) == [(name, "<hidden>")]


def test_other_headers_are_shown_and_their_urls_and_tokens_hidden() -> None:
    fields = [
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Protocol", f"chat, base64url.bearer.{'a' * 30}, v2"),
        ("Location", "https://u:p@example.com/?token=t"),
        ("Referer", "https://example.com/?code=t"),
    ]
    assert hide_secrets_of_headers(Headers(fields)) == [
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Protocol", "chat, <hidden>, v2"),
        ("Location", "https://example.com/?token=<hidden>"),
        ("Referer", "https://example.com/?code=<hidden>"),
    ]
