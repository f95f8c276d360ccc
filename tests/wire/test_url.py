"""URLs: the rules of the WHATWG parser, and the host and port of HTTP."""

from __future__ import annotations

import dataclasses
import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_ws._exceptions import InvalidURL
from trio_ws._wire.url import WebSocketURL, join_url, parse_proxy_url, parse_url, same_authority, split_authority


def url_with(
    *,
    secure: bool = False,
    host: str = "h",
    port: int = 80,
    target: str = "/",
    username: str = "",
    password: str = "",
) -> WebSocketURL:
    return WebSocketURL(secure=secure, host=host, port=port, target=target, username=username, password=password)


@pytest.mark.parametrize(
    ("text", "secure", "port"),
    [
        ("ws://h", False, 80),
        ("wss://h", True, 443),
        ("http://h", False, 80),
        ("https://h", True, 443),
        ("WS://h", False, 80),
        ("HttpS://h", True, 443),
        ("ws://h:443", False, 443),
        ("wss://h:80", True, 80),
        ("ws://h:", False, 80),
        ("ws://h:00080", False, 80),
        ("ws://h:1", False, 1),
        ("ws://h:65535", False, 65535),
        ("wss://h:" + "0" * 5000 + "8443/", True, 8443),
    ],
)
def test_scheme_and_port_are_read(text: str, secure: bool, port: int) -> None:
    assert parse_url(text) == url_with(secure=secure, port=port)


@pytest.mark.parametrize(
    "text",
    ["ws:h", "ws:/h", "ws:///h", "ws:\\\\h", "ws:/\\/h", " ws://h ", "\x00\x1f ws://h\n", "w\ts:/\n/\rh", "ws://h\\"],
)
def test_slashes_and_blanks_are_forgiven_as_browsers_do(text: str) -> None:
    assert parse_url(text) == url_with()


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("", "/"),
        ("/", "/"),
        ("?", "/?"),
        ("?a=b", "/?a=b"),
        ("?a/../b?c", "/?a/../b?c"),
        ("/a/b", "/a/b"),
        ("/a//b/", "/a//b/"),
        ("//a", "//a"),
        ("\\a\\b?c\\d", "/a/b?c\\d"),
        ("/a/./b/.", "/a/b/"),
        ("/a/../b", "/b"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/../../a", "/a"),
        ("/%2e/a/%2E%2e/b/.%2e/c", "/c"),
        ("/.../a..", "/.../a.."),
        ("/é?é", "/%C3%A9?%C3%A9"),
        ("/😀", "/%F0%9F%98%80"),
        ('/ "<>^`{}?', "/%20%22%3C%3E%5E%60%7B%7D?"),
        ("?^`{} \"<>'", "/?^`{}%20%22%3C%3E%27"),
        ("/'", "/'"),
        ("/%41%zz%?%41%zz%", "/%41%zz%?%41%zz%"),
        ("/\x01\x7f?\x01\x7f", "/%01%7F?%01%7F"),
        ("/a\nb\t?c\rd", "/ab?cd"),
        ("/!$&()*+,;=:@-._~|[]?!$&()*+,;=:@-._~|[]/?", "/!$&()*+,;=:@-._~|[]?!$&()*+,;=:@-._~|[]/?"),
    ],
)
def test_path_and_query_become_the_target(text: str, target: str) -> None:
    assert parse_url("ws://h" + text) == url_with(target=target)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("EXAMPLE.com", "example.com"),
        ("example.com.", "example.com."),
        ("my_service", "my_service"),
        ("a-.-b--c", "a-.-b--c"),
        ("ex%41mple%2Ecom", "example.com"),
        ("bücher.de", "xn--bcher-kva.de"),
        ("BÜCHER.my_net.de", "xn--bcher-kva.my_net.de"),
        ("b%C3%BCcher.de", "xn--bcher-kva.de"),
        ("faß.de", "xn--fa-hia.de"),
        ("XN--BCHER-KVA.de", "xn--bcher-kva.de"),
        ("xn--53h.example", "xn--53h.example"),
        ("a\u3002b", "a.b"),
        ("\uff45\uff58\u00ad\uff0ecom", "ex.com"),
        ("a" * 63 + "." + "b" * 63, "a" * 63 + "." + "b" * 63),
        (".".join(["a" * 49] * 5) + ".abc.", ".".join(["a" * 49] * 5) + ".abc."),
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0X7F.0x1", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x", "0.0.0.0"),
        ("0", "0.0.0.0"),
        ("1.2.3", "1.2.0.3"),
        ("1.65535", "1.0.255.255"),
        ("4294967295", "255.255.255.255"),
        ("0x" + "0" * 9000 + "ff", "0.0.0.255"),
        ("\uff11\uff12\uff17.1", "127.0.0.1"),
        ("127.%31", "127.0.0.1"),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("0xg", "0xg"),
        ("[::1]", "::1"),
        ("[0:0:0:0:0:0:0:0]", "::"),
        ("[2001:DB8::0:1]", "2001:db8::1"),
        ("[1:0:0:2:0:0:0:3]", "1:0:0:2::3"),
        ("[1:2:3:4:5:6:7::]", "1:2:3:4:5:6:7:0"),
        ("[::1.2.3.4]", "::102:304"),
        ("[::ffff:1.2.3.4]", "::ffff:102:304"),
        ("[::ffff:0:0]", "::ffff:0:0"),
        ("!$&'()*+,;=~{}`\"", "!$&'()*+,;=~{}`\""),
    ],
)
def test_a_host_becomes_lower_case_ascii(text: str, host: str) -> None:
    parsed = parse_url(f"ws://{text}:8080/")
    assert parsed == url_with(host=host, port=8080)
    assert parse_url(str(parsed)) == parsed


SCHEME = "its scheme must be ws, wss, http or https"
FRAGMENT = "it must not have a fragment, not even an empty one"
PORT = "its port must be a number from 1 to 65535"
EMPTY = "it must have a host"
FORBIDDEN = "its host contains a forbidden character"
IDNA = "its host is not a valid internationalised domain name"
DNS = "its host must have labels of 1 to 63 characters and 253 characters in all"
IPV4 = "its host ends in a number and is not an IPv4 address"
IPV6 = "a host in brackets must be an IPv6 address"
USERINFO = "its userinfo must fit Basic authorization: no controls, no colon in the username"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", SCHEME),
        ("h", SCHEME),
        ("//h/", SCHEME),
        ("/path", SCHEME),
        ("ftp://h", SCHEME),
        ("file:///h", SCHEME),
        ("wsss://h", SCHEME),
        ("ws ://h", SCHEME),
        ("://h", SCHEME),
        ("\u017fws://h", SCHEME),
        ("ws://h/#", FRAGMENT),
        ("ws://h#a", FRAGMENT),
        ("ws://h/?a#b", FRAGMENT),
        ("ws:#", FRAGMENT),
        ("ws://h/\n#", FRAGMENT),
        ("ws:", EMPTY),
        ("ws://", EMPTY),
        ("ws:///", EMPTY),
        ("ws://?a", EMPTY),
        ("ws://:80", EMPTY),
        ("ws://@/", EMPTY),
        ("ws://u@:80", EMPTY),
        ("ws://\u00ad/", EMPTY),
        ("ws://h:0", PORT),
        ("ws://h:000", PORT),
        ("ws://h:65536", PORT),
        ("ws://h:" + "9" * 5000, PORT),
        ("ws://h:-1", PORT),
        ("ws://h:+1", PORT),
        ("ws://h:8_0", PORT),
        ("ws://h:80 ?", PORT),
        ("ws://h:\uff18\uff10", PORT),
        ("ws://h:²", PORT),
        ("ws://h:80:80", PORT),
        ("ws://[::1]:x", PORT),
        ("ws://a b", FORBIDDEN),
        ("ws://a%00b", FORBIDDEN),
        ("ws://a%zz", FORBIDDEN),
        ("ws://a%25b", FORBIDDEN),
        ("ws://a%2Fb", FORBIDDEN),
        ("ws://a%0D%0Ab", FORBIDDEN),
        ("ws://a\x7fb", FORBIDDEN),
        ("ws://a<b", FORBIDDEN),
        ("ws://a|b", FORBIDDEN),
        ("ws://a^b", FORBIDDEN),
        ("ws://a]b", FORBIDDEN),
        ("ws://a[b", FORBIDDEN),
        ("ws://a\uff0541", FORBIDDEN),
        ("ws://a%40b", FORBIDDEN),
        ("ws://a%3A80", FORBIDDEN),
        ("ws://a%ff", IDNA),
        ("ws://☕.example", IDNA),
        ("ws://a\u200db", IDNA),
        ("ws://\ufffd", IDNA),
        ("ws://\u0301a", IDNA),
        ("ws://" + "ü" * 64, IDNA),
        ("ws://xn--", IDNA),
        ("ws://xn--a", IDNA),
        ("ws://xn--abc-", IDNA),
        ("ws://xn--bcher-KVA-.de", IDNA),
        ("ws://xn--ur-2gc", IDNA),
        ("ws://a..b", DNS),
        ("ws://.a", DNS),
        ("ws://a..", DNS),
        ("ws://.", DNS),
        ("ws://" + "a" * 64, DNS),
        ("ws://" + ".".join(["a" * 49] * 5) + ".abcd", DNS),
        ("ws://1.2.3.4.5", IPV4),
        ("ws://0.0.0.0.0", IPV4),
        ("ws://256.1.1.1", IPV4),
        ("ws://1.2.3.256", IPV4),
        ("ws://1.16777216", IPV4),
        ("ws://4294967296", IPV4),
        ("ws://" + "9" * 5000, IPV4),
        ("ws://0x100000000", IPV4),
        ("ws://08", IPV4),
        ("ws://a.1", IPV4),
        ("ws://1..1", IPV4),
        ("ws://a.0x1", IPV4),
        ("ws://a.09.", IPV4),
        ("ws://[::1", "a host in brackets must be a whole IPv6 address"),
        ("ws://[::1]a", "a host in brackets must be a whole IPv6 address"),
        ("ws://[]", IPV6),
        ("ws://[::1::]", IPV6),
        ("ws://[1:2:3]", IPV6),
        ("ws://[::12345]", IPV6),
        ("ws://[::1.2.3]", IPV6),
        ("ws://[v1.a]", IPV6),
        ("ws://[127.0.0.1]", IPV6),
        ("ws://[fe80::1%25eth0]", "an IPv6 address must not have a zone"),
        ("ws://[fe80::1%eth0]", "an IPv6 address must not have a zone"),
        ("ws://a%3Ab@h", USERINFO),
        ("ws://a\x7f@h", USERINFO),
        ("ws://a:%00@h", USERINFO),
        ("ws://a:b%0d%0a@h", USERINFO),
        ("ws://%ff@h", "its userinfo must be UTF-8"),
        ("ws://u:%ff@h", "its userinfo must be UTF-8"),
        ("ws://h/\ud800", "it must not contain surrogates"),
        ("\udfff", "it must not contain surrogates"),
    ],
)
def test_a_url_that_breaks_a_rule_is_refused_with_that_rule(text: str, rule: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        parse_url(text)
    message = str(caught.value)
    assert message.startswith("url '")
    assert message.endswith(f" is not a WebSocket URL: {rule}")
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("value", [b"ws://h", None, 1, url_with()])
def test_what_is_no_str_is_a_type_error(value: str) -> None:
    with pytest.raises(TypeError, match=rf"^url must be a str, not {type(value).__name__}$"):
        parse_url(value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ws://user:s3cret@h:0/", "ws://***@h:0/"),
        ("ws://user:s3cret@h#", "ws://***@h#"),
        ("ws://user%3As3cret@h", "ws://***@h"),
        ("ws://user:s3cret@more@h:x", "ws://***@h:x"),
        ("ws://user:s3c/ret@h", "ws://***@h"),
        ("ws://user:s3\ncret@h:x", "ws://***@h:x"),
        ("ws:user:s3cret@h:x", "***@h:x"),
        ("ws:\\\\user:s3cret@h:x", "ws://***@h:x"),
        ("ftp://user:s3cret@h", "ftp://***@h"),
        ("user:s3cret@h", "***@h"),
        ("s3cret@h", "***@h"),
        ("ftp://h/path", "ftp://h/path"),
        ("ftp://h/?room=1&token=s3cret", "ftp://h/?room=1&token=<hidden>"),
        ("ws://h/?token=s3cret word#x", "ws://h/?token=<hidden>"),
        ("ws://u:p?@h:x?api_key=s3 cret&b=2", "ws://***@h:x?api_key=<hidden>&b=2"),
    ],
)
def test_an_error_names_the_url_and_never_a_secret(text: str, shown: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        parse_url(text)
    assert str(caught.value).startswith(f"url {shown!r} is not a WebSocket URL: ")
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("userinfo", "username", "password", "authorization"),
    [
        ("", "", "", None),
        ("@", "", "", None),
        (":@", "", "", None),
        ("Aladdin:open%20sesame@", "Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ("test:123%C2%A3@", "test", "123£", "Basic dGVzdDoxMjPCow=="),
        ("test:123£@", "test", "123£", "Basic dGVzdDoxMjPCow=="),
        ("u@", "u", "", "Basic dTo="),
        (":p@", "", "p", "Basic OnA="),
        ("u:a:b@", "u", "a:b", "Basic dTphOmI="),
        ("u:a@b@", "u", "a@b", "Basic dTphQGI="),
        ("u%40:%3a%25@", "u@", ":%", "Basic dUA6OiU="),
        ("u:%zz@", "u", "%zz", "Basic dToleno="),
    ],
)
def test_userinfo_becomes_basic_authorization(
    userinfo: str, username: str, password: str, authorization: str | None
) -> None:
    parsed = parse_url(f"ws://{userinfo}h/@a:b")
    assert parsed == url_with(target="/@a:b", username=username, password=password)
    assert parsed.authorization == authorization
    assert str(parsed) == "ws://h/@a:b"


def test_a_password_is_not_shown() -> None:
    parsed = parse_url("ws://user:s3cret@h/")
    assert repr(parsed) == "WebSocketURL(secure=False, host='h', port=80, target='/', username='user')"
    assert "s3cret" not in str(parsed)


@pytest.mark.parametrize(
    ("text", "host_header", "origin", "serialised"),
    [
        ("ws://H", "h", "http://h", "ws://h/"),
        ("ws://h:80/a?b", "h", "http://h", "ws://h/a?b"),
        ("wss://h:443", "h", "https://h", "wss://h/"),
        ("ws://h:443", "h:443", "http://h:443", "ws://h:443/"),
        ("wss://h:80", "h:80", "https://h:80", "wss://h:80/"),
        ("https://u:p@[::1]:9/", "[::1]:9", "https://[::1]:9", "wss://[::1]:9/"),
        ("http://[::1]", "[::1]", "http://[::1]", "ws://[::1]/"),
    ],
)
def test_a_url_is_serialised_without_userinfo_and_default_port(
    text: str, host_header: str, origin: str, serialised: str
) -> None:
    parsed = parse_url(text)
    assert parsed.host_header == host_header
    assert parsed.origin == origin
    assert str(parsed) == serialised
    assert parsed.scheme == serialised.partition(":")[0]


URL_PIECES = [
    *["ws:", "wss:", "HTTP:", "//", "/", "\\", "@", ":", "?", ".", "..", "%2e", "%", "%41", "[", "]", "[::1]"],
    *[
        "a",
        "b.com",
        "127.1",
        "0x",
        "09",
        "80",
        "65536",
        " ",
        "\t",
        "é",
        "ü.de",
        "\u3002",
        "\uff05",
        "xn--",
        "xn--bcher-kva",
    ],
    *["^", "|", "`", "'", '"', "\x00", "\x7f", "\xad", "\u200d", "\u05d0", "😀", "\ud800"],
]


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(URL_PIECES), max_size=9).map(lambda it: "ws://" + "".join(it))))
def test_any_text_is_a_url_that_serialises_to_itself_or_an_invalid_url(text: str) -> None:
    try:
        parsed = parse_url(text)
    except InvalidURL:
        return
    again = parse_url(str(parsed))
    assert str(again) == str(parsed)
    assert again == dataclasses.replace(parsed, username="", password="")
    assert parsed.target.startswith("/")
    assert str(parsed).isascii()
    assert str(parsed).isprintable()
    assert " " not in str(parsed)


@settings(deadline=None)
@given(st.ip_addresses(v=6))
def test_any_ipv6_address_is_compressed_as_browsers_do(address: ipaddress.IPv6Address) -> None:
    host = parse_url(f"ws://[{address.exploded}]").host
    assert ipaddress.IPv6Address(host) == address
    assert "." not in host
    assert len(host) <= len(address.compressed)


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_any_ipv4_address_is_kept_and_read_from_a_number(address: ipaddress.IPv4Address) -> None:
    assert parse_url(f"ws://{address}").host == str(address)
    assert parse_url(f"ws://{int(address)}").host == str(address)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("h", "h", None),
        ("Example.COM:8080", "example.com", 8080),
        ("my_host:", "my_host", None),
        ("%41-._~!$&'()*+,;=", "%41-._~!$&'()*+,;=", None),
        ("h,h", "h,h", None),
        ("127.1:1", "127.1", 1),
        ("[::1]", "::1", None),
        ("[0::0:1]:65535", "::1", 65535),
    ],
)
def test_an_authority_is_split(text: str, host: str, port: int | None) -> None:
    assert split_authority(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        *["", ":80", "h:0", "h:65536", "h:x", "h:80:80", "u@h", "h/", "h?", "h#", "h h", " h", "hé", "h\\", "h\0"],
        *['"h"', "[::1", "[]", "[h]", "[::1]x", "[fe80::1%25a]", "::1", "h[::1]"],
    ],
)
def test_what_is_no_authority_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not host or host:port") as caught:
        split_authority(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("h", "H:80", True),
        ("h:", "h:080", True),
        ("h:81", "h:81", True),
        ("[::1]:80", "[0::1]", True),
        ("h", "h:443", False),
        ("h", "g", False),
        ("h:81", "h", False),
    ],
)
def test_two_authorities_are_the_same_by_host_and_port(one: str, other: str, same: bool) -> None:
    assert same_authority(one, other, default_port=80) is same
    assert same_authority(other, one, default_port=80) is same


def test_same_authority_takes_authorities_only() -> None:
    with pytest.raises(ValueError, match="'a b' is not host"):
        same_authority("a", "a b", default_port=80)


# Proxies.


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://proxy.example", "http://proxy.example:80"),
        ("HTTP://Proxy.Example:3128/", "http://proxy.example:3128"),
        ("https://proxy.example", "https://proxy.example:443"),
        ("socks5://proxy.example", "socks5://proxy.example:1080"),
        ("Socks5h://[::1]:9050", "socks5://[::1]:9050"),
        ("socks://127.0.0.1:1081/", "socks5://127.0.0.1:1081"),
        ("SOCKS://user:pass@proxy.example", "socks5://proxy.example:1080"),
        ("proxy.example", "http://proxy.example:80"),
        ("proxy.example:8080", "http://proxy.example:8080"),
        ("user:pass@proxy.example:8080", "http://proxy.example:8080"),
        ("http://bücher.example", "http://xn--bcher-kva.example:80"),
        (" http://0x7f.1\n", "http://127.0.0.1:80"),
    ],
)
def test_a_proxys_url_is_read(text: str, shown: str) -> None:
    assert str(parse_proxy_url(text)) == shown


def test_the_userinfo_of_a_proxy_is_decoded_and_hidden() -> None:
    url = parse_proxy_url("http://us%65r:p%40ss%2F@proxy.example")
    assert (url.username, url.password) == ("user", "p@ss/")
    assert url.authorization == "Basic dXNlcjpwQHNzLw=="
    assert "user" not in f"{url!r} {url}"
    assert "p@ss" not in f"{url!r} {url}"
    assert parse_proxy_url("http://proxy.example").authorization is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "must have a host"),
        ("http://", "must have a host"),
        ("ws://proxy.example", "scheme must be http, https, socks5, socks5h or socks"),
        ("socks5hh://proxy.example", "scheme must be"),
        ("socks6://proxy.example", "scheme must be"),
        ("socks4://proxy.example", "scheme must be"),
        ("://proxy.example", "scheme must be"),
        ("http://proxy.example/path", "no path, query or fragment"),
        ("http://proxy.example?query", "no path, query or fragment"),
        ("http://proxy.example#fragment", "no path, query or fragment"),
        ("http://proxy.example\\path", "no path, query or fragment"),
        ("http://proxy.example:0", "port must be"),
        ("http://proxy.example:http", "port must be"),
        ("http://proxy..example", "labels"),
        (f"http://{'a' * 256}", "labels"),
        ("http://[::1", "brackets"),
        ("http://a:%0d%0a@proxy.example", "controls"),
        ("http://a%3ab:c@proxy.example", "no colon in the username"),
        ("http://%ff@proxy.example", "UTF-8"),
        ("http://\ud800", "surrogates"),
    ],
)
def test_a_proxys_url_that_breaks_a_rule_is_refused_with_that_rule(text: str, rule: str) -> None:
    with pytest.raises(InvalidURL, match=rule):
        parse_proxy_url(text)


@pytest.mark.parametrize(
    "text",
    ["http://user:secret@proxy.example:x", "user:secret@proxy.example:x", "ftp://secret@h", "http://a:secret@h/path"],
)
def test_an_error_about_a_proxys_url_has_no_userinfo(text: str) -> None:
    with pytest.raises(InvalidURL, match=r"\*\*\*@") as caught:
        parse_proxy_url(text)
    assert "secret" not in str(caught.value)


def test_a_proxys_url_must_be_a_str() -> None:
    with pytest.raises(TypeError, match="url must be a str, not bytes"):
        parse_proxy_url(b"http://proxy")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "authority"),
    [("ws://a", "a:80"), ("wss://a", "a:443"), ("ws://a:8080", "a:8080"), ("ws://[::1]:443", "[::1]:443")],
)
def test_an_authority_always_has_its_port(url: str, authority: str) -> None:
    assert parse_url(url).authority == authority


# Relative URLs: what the reference implementation of the URL standard makes of them.


@pytest.mark.parametrize(
    ("reference", "result"),
    [
        ("", "ws://a.example:81/b/c?d"),
        ("#fragment", "ws://a.example:81/b/c?d"),
        ("/", "ws://a.example:81/"),
        ("/x?y#z", "ws://a.example:81/x?y"),
        ("x", "ws://a.example:81/b/x"),
        ("./x/", "ws://a.example:81/b/x/"),
        ("../x", "ws://a.example:81/x"),
        ("../../../x", "ws://a.example:81/x"),
        ("%2e%2E/x", "ws://a.example:81/x"),
        ("?", "ws://a.example:81/b/c?"),
        ("?x", "ws://a.example:81/b/c?x"),
        ("\\x\\y", "ws://a.example:81/x/y"),
        ("  /x y\t\n ", "ws://a.example:81/x%20y"),
        ("/x\ty", "ws://a.example:81/xy"),
        ("//b.example", "ws://b.example/"),
        ("\\\\b.example", "ws://b.example/"),
        ("/\\b.example/x", "ws://b.example/x"),
        ("///b.example", "ws://b.example/"),
        ("ws://b.example", "ws://b.example/"),
        ("http://b.example/x", "ws://b.example/x"),
        ("wss://b.example", "wss://b.example/"),
        ("https:b.example", "wss://b.example/"),
        ("https:/b.example", "wss://b.example/"),
        ("http:x", "ws://a.example:81/b/x"),
        ("WS:/x", "ws://a.example:81/x"),
        ("ws:", "ws://a.example:81/b/c?d"),
        ("ws:?x", "ws://a.example:81/b/c?x"),
        ("ws:\\\\b.example", "ws://b.example/"),
        ("x/y:z", "ws://a.example:81/b/x/y:z"),
        ("1:2", "ws://a.example:81/b/1:2"),
        (":x", "ws://a.example:81/b/:x"),
        ("é?é", "ws://a.example:81/b/%C3%A9?%C3%A9"),
    ],
)
def test_a_reference_is_read_relative_to_its_base(reference: str, result: str) -> None:
    joined = join_url(parse_url("ws://user:pass@a.example:81/b/c?d"), reference)
    assert str(joined) == result
    assert joined.authorization is None


@pytest.mark.parametrize("reference", ["ftp:x", "mailto:a@b", "//", "ws://", "http://a b", "//a:b", "//[::1", "\ud800"])
def test_a_reference_that_leads_nowhere_is_refused(reference: str) -> None:
    with pytest.raises(InvalidURL):
        join_url(parse_url("ws://a.example"), reference)


@given(st.text())
def test_any_reference_gives_a_url_that_serialises_to_itself_or_an_invalid_url(reference: str) -> None:
    try:
        joined = join_url(parse_url("wss://a.example/b/c?d"), reference)
    except InvalidURL:
        return
    assert str(parse_url(str(joined))) == str(joined)
