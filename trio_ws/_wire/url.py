"""WebSocket URLs, parsed as browsers parse them, and the ``host[:port]`` of HTTP.

``parse_url`` is the URL parser of the WHATWG standard, cut down to what can come out of it for a WebSocket: one of the
four schemes http, https, ws and wss, no base URL, no fragment. It differs in four points, where the standard lets
through what cannot be connected to: port 0, empty labels, names longer than DNS allows, and userinfo that Basic
authorization cannot carry. Names with non-ASCII letters follow IDNA 2008 after the mapping of UTS 46, so an emoji
name must be given in its xn-- form.

``parse_proxy_url`` reads a proxy's URL by the same rules for host, port and userinfo.

Errors never show a secret: rules speak of parts of a URL without quoting them, and the URL itself is redacted.

Source: https://url.spec.whatwg.org/ and https://websockets.spec.whatwg.org/ (the WebSocket constructor).
"""

from __future__ import annotations

import base64
import ipaddress
import re
import string
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

import idna

from .._exceptions import InvalidURL
from .hiding import hide_secrets_of_query

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

_PROXY_PORTS = {"http": 80, "https": 443, "socks5": 1080}
_SOCKS_5 = ("socks", "socks5h")
_IS_SECURE = {"http": False, "https": True, "ws": False, "wss": True}
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*")
_SLASHES = ("/", "\\")
_C0_OR_SPACE = "".join(map(chr, range(0x21)))
_REMOVED = str.maketrans("", "", "\t\n\r")
_CONTROLS = frozenset(map(chr, [*range(0x20), 0x7F]))
_FORBIDDEN_IN_USERNAME = _CONTROLS | {":"}
_FORBIDDEN_IN_DOMAIN = _CONTROLS | frozenset(" #%/:<>?@[\\]^|")
# What `quote` must leave alone: all visible ASCII but the path and the special-query percent-encode set. "%" is left
# too: what is encoded already stays as it is.
_VISIBLE = frozenset(map(chr, range(0x21, 0x7F)))
_SAFE_IN_PATH = "".join(_VISIBLE - frozenset('"#<>?^`{}'))
_SAFE_IN_QUERY = "".join(_VISIBLE - frozenset("\"#<>'"))
# RFC 3986 §3.2.2: unreserved, sub-delims and the percent sign of an encoded octet.
_REGISTERED_NAME = frozenset(string.ascii_letters + string.digits + "-._~!$&'()*+,;=%")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketURL:
    """A URL that was parsed and can be connected to.

    Attributes:
        secure: True for wss.
        host: a domain name in lower-case ASCII, an IPv4 address, or an IPv6 address without brackets.
        port: 1 to 65535.
        target: the path and, if there is one, "?" and the query, percent-encoded; what an HTTP request asks for.
        username: percent-decoded, "" if none.
        password: percent-decoded, "" if none; not in the repr.
    """

    secure: bool
    host: str
    port: int
    target: str
    username: str
    password: str = field(repr=False)

    @property
    def scheme(self) -> str:
        """Either "ws" or "wss"."""
        return "wss" if self.secure else "ws"

    @property
    def host_header(self) -> str:
        """The host, and the port unless it is the default of the scheme, as ``Host`` and ``:authority`` say."""
        return self.authority.removesuffix(f":{DEFAULT_PORTS[self.scheme]}")

    @property
    def authority(self) -> str:
        """The host and the port, also the default one, as CONNECT asks a proxy for (RFC 9110 §9.3.6)."""
        return join_authority(self.host, self.port)

    @property
    def origin(self) -> str:
        """The origin of the http or https site at this host and port."""
        return f"{'https' if self.secure else 'http'}://{self.host_header}"

    @property
    def authorization(self) -> str | None:
        """The value of an Authorization header that carries the userinfo, None if there is none (RFC 7617)."""
        return _basic_authorization(self.username, self.password)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host_header}{self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyURL:
    """The URL of a proxy; as text it has no userinfo.

    Attributes:
        scheme: "http", "https" or "socks5".
        host: as in ``WebSocketURL``.
        port: 1 to 65535.
        username: percent-decoded, "" if none; not in the repr, since some proxies take a token in its place.
        password: percent-decoded, "" if none; not in the repr.
    """

    scheme: str
    host: str
    port: int
    username: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def authorization(self) -> str | None:
        """The value of a Proxy-Authorization header that carries the userinfo, None if there is none (RFC 7617)."""
        return _basic_authorization(self.username, self.password)

    def __str__(self) -> str:
        return f"{self.scheme}://{join_authority(self.host, self.port)}"


def join_authority(host: str, port: int) -> str:
    """Write ``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _basic_authorization(username: str, password: str) -> str | None:
    if not username and not password:
        return None
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def parse_url(url: str) -> WebSocketURL:
    """Parse a WebSocket URL.

    Args:
        url: its scheme is ws, wss, http (taken as ws) or https (as wss).

    Raises:
        TypeError: url is no str.
        InvalidURL: it breaks a rule; the message names the URL, without its secrets, and the rule.

    Source: https://websockets.spec.whatwg.org/#dom-websocket-websocket.
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    text = url.strip(_C0_OR_SPACE).translate(_REMOVED)
    try:
        return _parse(text)
    except _BrokenRule as broken:
        raise InvalidURL(f"url {_redact(text)!r} is not a WebSocket URL: {broken}") from None


def parse_proxy_url(url: str) -> ProxyURL:
    """Parse the URL of a proxy.

    Args:
        url: its scheme is http (port 80 if it names none), https (443), or one of socks, socks5 and socks5h (all 1080,
            and the same); without a scheme it is taken as http.

    Raises:
        TypeError: url is no str.
        InvalidURL: it breaks a rule; the message names the URL, without its secrets, and the rule.

    Source: undici's ``ProxyAgent``, curl's ``--proxy``; ``socks`` is what GNOME writes for SOCKS 5.
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    text = url.strip(_C0_OR_SPACE).translate(_REMOVED)
    try:
        return _parse_proxy(text)
    except _BrokenRule as broken:
        raise InvalidURL(f"url {_redact(text)!r} is not a proxy's URL: {broken}") from None


def host_to_ascii(name: str) -> str:
    """Write a domain name as a URL's host has it: in lower-case ASCII, xn-- labels where they are needed.

    Raises:
        ValueError: it is not a valid internationalised domain name.
    """
    try:
        return _to_ascii(name)
    except _BrokenRule as broken:
        raise ValueError(f"{name!r}: {broken}") from None


def join_url(base: WebSocketURL, reference: str) -> WebSocketURL:
    """Parse a URL that may be relative to another, as a redirect's Location is; its fragment is dropped.

    Userinfo is the reference's own: that of the base is not taken over.

    Raises:
        InvalidURL: the result breaks a rule of ``parse_url``.

    Source: https://url.spec.whatwg.org/#relative-state and the states after it.
    """
    text = reference.strip(_C0_OR_SPACE).translate(_REMOVED).partition("#")[0]
    scheme, colon, rest = text.partition(":")
    if colon and _SCHEME.fullmatch(scheme):
        if _IS_SECURE.get(scheme.lower()) != base.secure or rest.startswith("//"):
            return parse_url(text)
        text = rest  # "special relative or authority state": the base's own scheme and no slashes mean nothing
    path, question_mark, query = base.target.partition("?")
    if text[:1] in _SLASHES and text[1:2] in _SLASHES:
        return parse_url(f"{base.scheme}:{text}")
    if not text:
        text = path + question_mark + query
    elif text.startswith("?"):
        text = path + text
    elif text[0] not in _SLASHES:
        text = path[: path.rindex("/") + 1] + text
    return parse_url(f"{base.scheme}://{base.host_header}{text}")


def parse_host(host: str) -> str:
    """Parse a host that stands alone.

    Args:
        host: a domain name or an address, an IPv6 address with or without brackets.

    Returns:
        The host as in :class:`WebSocketURL`.

    Raises:
        ValueError: it is none.
    """
    try:
        _check_surrogates(host)
        return _parse_ipv6(host) if ":" in host and not host.startswith("[") else _parse_host(host)
    except _BrokenRule as broken:
        raise ValueError(f"{host!r} is no host: {broken}") from None


class _BrokenRule(Exception):
    """A rule that a URL breaks, in words that quote no part of the URL."""


def _parse(text: str) -> WebSocketURL:
    _check_surrogates(text)
    scheme, colon, rest = text.partition(":")
    if not colon or scheme.lower() not in _IS_SECURE:
        raise _BrokenRule("its scheme must be ws, wss, http or https")
    if "#" in rest:
        raise _BrokenRule("it must not have a fragment, not even an empty one")
    authority, target = _split_target(rest.lstrip("/\\"))
    userinfo, _, location = authority.rpartition("@")
    username, _, password = userinfo.partition(":")
    host, port = _split_port(location)
    secure = _IS_SECURE[scheme.lower()]
    return WebSocketURL(
        secure=secure,
        host=_parse_host(host),
        port=DEFAULT_PORTS["wss" if secure else "ws"] if port is None else port,
        target=target,
        username=_decode_userinfo(username, forbidden=_FORBIDDEN_IN_USERNAME),
        password=_decode_userinfo(password, forbidden=_CONTROLS),
    )


def _parse_proxy(text: str) -> ProxyURL:
    _check_surrogates(text)
    name, separator, rest = text.partition("://")
    scheme = name.lower() if separator else "http"
    scheme = "socks5" if scheme in _SOCKS_5 else scheme
    if scheme not in _PROXY_PORTS:
        raise _BrokenRule("its scheme must be http, https, socks5, socks5h or socks")
    authority, _, beyond = (rest if separator else text).partition("/")
    if beyond or not {"?", "#", "\\"}.isdisjoint(authority):
        raise _BrokenRule("it must have no path, query or fragment")
    userinfo, _, location = authority.rpartition("@")
    username, _, password = userinfo.partition(":")
    host, port = _split_port(location)
    return ProxyURL(
        scheme=scheme,
        host=_parse_host(host),
        port=_PROXY_PORTS[scheme] if port is None else port,
        username=_decode_userinfo(username, forbidden=_FORBIDDEN_IN_USERNAME),
        password=_decode_userinfo(password, forbidden=_CONTROLS),
    )


def _check_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _BrokenRule("it must not contain surrogates") from None


def _redact(text: str) -> str:
    """Hide secrets of the query, and all that may be userinfo, however wrong the URL is: to the last at sign."""
    userinfo, at_sign, rest = text.rpartition("@")
    before, question_mark, query = rest.partition("?")
    shown = before + question_mark + hide_secrets_of_query(query)
    if not at_sign:
        return shown
    scheme, _, after = userinfo.partition(":")
    return f"{scheme}://***@{shown}" if after[:1] in ("/", "\\") else f"***@{shown}"


def _split_target(text: str) -> tuple[str, str]:
    """Split what follows "scheme://" into the authority and the normalised, percent-encoded target."""
    before, question_mark, query = text.partition("?")
    authority, _, path = before.replace("\\", "/").partition("/")
    return authority, _normalise_path(path) + question_mark + quote(query, safe=_SAFE_IN_QUERY)


def _normalise_path(path: str) -> str:
    """Remove the dot segments of a path that comes without its first slash, and percent-encode it."""
    segments: list[str] = []
    names = path.split("/")
    for position, name in enumerate(names, start=1):
        plain = name.lower().replace("%2e", ".")
        if plain == "..":
            del segments[-1:]
        if plain not in (".", ".."):
            segments.append(quote(name, safe=_SAFE_IN_PATH))
        elif position == len(names):
            segments.append("")
    return "/" + "/".join(segments)


def _split_port(location: str) -> tuple[str, int | None]:
    bracket = location.rfind("]")
    if bracket < 0 and location.startswith("["):
        return location, None
    host, _, digits = location[bracket + 1 :].partition(":")
    return location[: bracket + 1] + host, _parse_port(digits)


def _parse_port(digits: str) -> int | None:
    if not digits:
        return None
    significant = digits.lstrip("0")
    # Five digits at most before int: its time is not linear.
    if not (digits.isascii() and digits.isdigit()) or len(significant) > 5 or not 0 < int(significant or "0") < 65536:
        raise _BrokenRule("its port must be a number from 1 to 65535")
    return int(significant)


def _decode_userinfo(text: str, *, forbidden: frozenset[str]) -> str:
    if not text:
        return ""
    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise _BrokenRule("its userinfo must be UTF-8") from None
    # RFC 7617 §2: no control characters, and no colon in the username.
    if not forbidden.isdisjoint(decoded):
        raise _BrokenRule("its userinfo must fit Basic authorization: no controls, no colon in the username")
    return decoded


def _parse_host(text: str) -> str:
    if text.startswith("["):
        if not text.endswith("]"):
            raise _BrokenRule("a host in brackets must be a whole IPv6 address")
        return _parse_ipv6(text[1:-1])
    domain = _to_ascii(text)
    if not domain:
        raise _BrokenRule("it must have a host")
    if not _FORBIDDEN_IN_DOMAIN.isdisjoint(domain):
        raise _BrokenRule("its host contains a forbidden character")
    labels = domain.removesuffix(".").split(".")
    # WHATWG, "ends in a number": whoever reads it may take it for an address, so it must be a good one.
    if labels[-1].isdigit() or _parse_ipv4_number(labels[-1]) is not None:
        return _parse_ipv4(labels)
    # RFC 1035 §2.3.4.
    if len(domain.removesuffix(".")) > 253 or not all(0 < len(label) < 64 for label in labels):
        raise _BrokenRule("its host must have labels of 1 to 63 characters and 253 characters in all")
    return domain


def _parse_ipv6(text: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise _BrokenRule("a host in brackets must be an IPv6 address") from None
    if address.scope_id is not None:
        raise _BrokenRule("an IPv6 address must not have a zone")
    if address.ipv4_mapped is not None:
        # Newer Pythons write these with dots; the WHATWG serialiser never does.
        low = int(address.ipv4_mapped)
        return f"::ffff:{low >> 16:x}:{low & 0xFFFF:x}"
    return str(address)


def _to_ascii(host: str) -> str:
    """Percent-decode a host and turn it into lower-case ASCII, label by label (UTS 46, IDNA 2008)."""
    try:
        decoded = unquote_to_bytes(host).decode()
        # ASCII is not put through IDNA 2008, which forbids the underscores of many a real name.
        mapped = decoded.lower() if decoded.isascii() else idna.uts46_remap(decoded, std3_rules=False)
        return ".".join(_label_to_ascii(label) for label in mapped.split("."))
    except UnicodeError:
        raise _BrokenRule("its host is not a valid internationalised domain name") from None


def _label_to_ascii(label: str) -> str:
    if not label.isascii():
        return idna.alabel(label).decode()
    if label.startswith("xn--"):
        # The codec's time is not linear, and DNS takes no more anyway.
        decoded = label[4:64].encode().decode("punycode")
        if decoded.isascii() or idna.uts46_remap(decoded, std3_rules=False) != decoded:
            raise UnicodeError("an xn-- label must stand for a name that needs it")
    return label


def _parse_ipv4(labels: list[str]) -> str:
    """Read one to four decimal, octal or hexadecimal numbers, of which the last fills the bytes that are left."""
    numbers = [_parse_ipv4_number(label) for label in labels]
    *leading, last = (2**32 if number is None else number for number in numbers)
    size_of_last = 5 - len(labels)
    if size_of_last < 1 or max(leading, default=0) > 255 or last >= 256**size_of_last:
        raise _BrokenRule("its host ends in a number and is not an IPv4 address")
    return ".".join(map(str, [*leading, *last.to_bytes(size_of_last, "big")]))


def _parse_ipv4_number(label: str) -> int | None:
    base, digits = 10, label
    if label.startswith("0x"):
        base, digits = 16, label[2:]
    elif label.startswith("0") and label != "0":
        base, digits = 8, label[1:]
    if not label or not frozenset(string.hexdigits[:base]).issuperset(digits):
        return None
    # More digits than 2**32 has in any base are too many, whatever they say.
    return int(digits.lstrip("0")[:12] or "0", base)


def split_authority(text: str) -> tuple[str, int | None]:
    """Split the ``host[:port]`` of a Host header or an :authority.

    Returns:
        The host in lower case, an IPv6 address compressed and without brackets; and the port, None if it is left out.

    Raises:
        ValueError: it is something else, or has userinfo.

    Source: RFC 9110 §7.2, RFC 3986 §3.2.
    """
    try:
        host, port = _split_port(text)
        if host.startswith("["):
            return _parse_host(host), port
    except _BrokenRule:
        raise ValueError(f"{text!r} is not host or host:port") from None
    if not host or not _REGISTERED_NAME.issuperset(host):
        raise ValueError(f"{text!r} is not host or host:port")
    return host.lower(), port


def same_authority(one: str, other: str, *, default_port: int) -> bool:
    """Tell whether two ``host[:port]`` name the same host and port, where default_port is the one left out.

    Raises:
        ValueError: either is not ``host[:port]``.
    """
    (host, port), (other_host, other_port) = split_authority(one), split_authority(other)
    return host == other_host and (port or default_port) == (other_port or default_port)
