"""Any text is a URL that names the same place when it is written out again, or an InvalidURL without secrets."""

from __future__ import annotations

from trio_ws import InvalidURL
from trio_ws._wire.url import WebSocketURL, parse_url, same_authority, split_authority

from .choices import Choices, seed

URLS = [
    "ws://example.com/",
    "wss://example.com:8443/path?query=%20",
    "HTTP://EXAMPLE.com:80/a/../b/./c",
    "https://user:pass%40word@[2001:db8::1]:443/?#",
    "ws://\N{LATIN SMALL LETTER U WITH DIAERESIS}ber.example/\N{SNOWMAN}?\N{SNOWMAN}",
    "ws://0x7f.1/",
    "ws://1.2.3.04:65535",
    "ws:\\\\example.com\\path",
    "ws://xn--nxasmq6b/",
    "ws://a%2eb.example",
    " ws://example.com/\t\n",
    "ws://user@name:secret@host/",
    "ws://[::ffff:1.2.3.4]/",
    "ws://example.com./",
]
SEEDS = [seed(0, url.encode()) for url in URLS] + [seed(1, b"example.com:80 example.com"), seed(1, b"[::1] [::1]:80")]

VISIBLE = frozenset(map(chr, range(0x21, 0x7F)))


def TestOneInput(data: bytes) -> None:
    """Read data: a byte that says whether it is a URL or two authorities, and the text."""
    choices = Choices(data)
    authorities = choices.byte() % 2
    text = choices.rest().decode("utf-8", "surrogateescape")
    if authorities:
        check_authorities(*text.partition(" ")[::2])
        return
    try:
        url = parse_url(text)
    except InvalidURL as error:
        check_secrets(text, str(error))
        return
    check_url(url)
    again = parse_url(str(url))
    assert again.origin == url.origin
    assert (again.target, again.secure, again.port) == (url.target, url.secure, url.port)


def check_url(url: WebSocketURL) -> None:
    """Check that a URL can be asked for, and cannot be taken for another one by whoever reads the request."""
    assert 1 <= url.port <= 65535
    assert url.host == url.host.lower()
    assert url.host
    assert VISIBLE.issuperset(url.host)
    assert not frozenset("/\\@?# %<>^|") & frozenset(url.host)
    assert url.target.startswith("/")
    assert VISIBLE.issuperset(url.target)
    assert "#" not in url.target
    if not frozenset('"`{}') & frozenset(url.host):  # WHATWG's parser lets them through, and no other RFC does
        host, port = split_authority(url.host_header)
        assert host.strip("[]") == url.host
        assert (port or {"ws": 80, "wss": 443}[url.scheme]) == url.port
    assert url.authorization is None or VISIBLE.issuperset(url.authorization.replace(" ", "", 1))
    if len(url.password) > 3 and url.password not in f"{url.host}{url.target}{url.username}{url.port}":
        assert url.password not in repr(url) + str(url)


def check_secrets(text: str, message: str) -> None:
    """Check that an error does not show a password."""
    location = text.partition("//")[2].replace("\\", "/").partition("/")[0].partition("?")[0].partition("#")[0]
    password = location.rpartition("@")[0].partition(":")[2]
    elsewhere = text.replace(password, "", 1)
    if len(password) > 6 and password not in elsewhere and password.isalnum() and password not in message.lower():
        assert password not in message


def check_authorities(one: str, other: str) -> None:
    """Check that two authorities are the same both ways round, and each is the same as itself."""
    try:
        same = same_authority(one, other, default_port=80)
    except ValueError:
        return
    assert same == same_authority(other, one, default_port=80)
    assert same_authority(one, one, default_port=80)
    assert same_authority(one, one.upper(), default_port=80)
