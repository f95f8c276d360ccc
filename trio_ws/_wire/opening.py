"""The server's half of the opening handshake, over HTTP/1.1 (RFC 6455 §4.2) and HTTP/2 (RFC 8441) alike.

A request is read in one go: either it becomes an ``OpeningRequest``, which has passed every check that needs no policy,
or a ``Refusal`` says which HTTP answer it gets. What the application decides, the origin apart, goes into the answer.

Nothing that a peer sends is quoted in a refusal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .deflate import accept_offer
from .headers import Headers, HeadersLike, has_token, headers_of, is_token, parse_extensions, parse_list
from .negotiation import (
    CONNECTION_HEADERS,
    MAX_EXTENSIONS,
    MAX_PROTOCOLS,
    VERSION,
    Agreement,
    accept_value,
    check_headers,
    is_key,
)
from .url import DEFAULT_PORTS, same_authority, split_authority

if TYPE_CHECKING:
    from .._options import Compression

_PSEUDO_HEADERS = frozenset({":method", ":protocol", ":scheme", ":authority", ":path"})
_FORBIDDEN_IN_VALUE = frozenset("\0\r\n")
_VISIBLE = frozenset(map(chr, range(0x21, 0x7F)))
# RFC 9110 §15.5.22: a 426 must say which protocol to upgrade to; §7.8: and an Upgrade needs its Connection.
_UPGRADE = (("Upgrade", "websocket"), ("Connection", "Upgrade"))
_SUPPORTED = ("Sec-WebSocket-Version", VERSION)


class Refusal(Exception):
    """A request to open a WebSocket gets another answer than the one that accepts it.

    Attributes:
        status: the HTTP status.
        reason_text: one sentence for the body, as text/plain.
        headers: what the answer must carry besides.
    """

    def __init__(self, status: int, reason_text: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"{status} {reason_text}")
        self.status = status
        self.reason_text = reason_text
        self.headers = headers


class MalformedRequest(Refusal):
    """A request over HTTP/2 that breaks a rule of its messages: its stream fails (RFC 9113 §8.1.1)."""

    def __init__(self, reason_text: str) -> None:
        super().__init__(400, reason_text)


class OpeningRequest(NamedTuple):
    """A well-formed request to open a WebSocket.

    Attributes:
        target: the path and the query as they were sent, without scheme and host.
        headers: the header fields; of the pseudo headers of HTTP/2 only :authority, as Host.
        http_version: "1.1" or "2".
        secure: the connection that it came on is TLS.
        host: Host or :authority as it was sent.
        origin: the Origin header, None if there is none.
        protocols: the subprotocols that the client offers, in its order.
        key: the Sec-WebSocket-Key; None on HTTP/2, unless the client sent one all the same.
    """

    target: str
    headers: Headers
    http_version: str
    secure: bool
    host: str
    origin: str | None
    protocols: tuple[str, ...]
    key: str | None

    @property
    def path(self) -> str:
        """The path, percent-encoded as it was sent."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What follows the question mark, "" if nothing does."""
        return self.target.partition("?")[2]


def wants_websocket(headers: Headers) -> bool:
    """Tell whether an HTTP/1.1 request asks to be upgraded to WebSocket."""
    return has_token(headers.get("Upgrade", ""), "websocket")


def read_http1_request(
    method: str, http_version: str, target: str, headers: Headers, *, secure: bool
) -> OpeningRequest:
    """Read an HTTP/1.1 request that asks for a WebSocket.

    Args:
        method: in upper case.
        http_version: "1.1" is the one that will do.
        target: as it was sent, in origin-form or absolute-form.
        headers: decoded as latin-1, free of control characters: what an HTTP parser lets through.
        secure: the request came over TLS.

    Raises:
        Refusal: 505 for another HTTP version, 405 for another method than GET, 426 without an Upgrade to WebSocket or
            for another WebSocket version than 13, 400 for anything else that is wrong.

    Source: RFC 6455 §4.2.1.
    """
    if http_version != "1.1":
        raise Refusal(505, "A WebSocket is opened with HTTP/1.1 or HTTP/2.")
    if method != "GET":
        raise Refusal(405, "A WebSocket is opened with GET.", (("Allow", "GET"),))
    if not wants_websocket(headers):
        raise Refusal(426, "This is a WebSocket server: Upgrade must be websocket.", (*_UPGRADE, _SUPPORTED))
    if not has_token(headers.get("Connection", ""), "upgrade"):
        raise Refusal(400, "Connection must contain Upgrade.")
    # RFC 9112 §3.2.
    hosts = headers.get_all("Host")
    if len(hosts) != 1 or not _is_authority(hosts[0]):
        raise Refusal(400, "Host must be there once and be valid.")
    _check_version(headers, 426, (*_UPGRADE, _SUPPORTED))
    keys = headers.get_all("Sec-WebSocket-Key")
    if len(keys) != 1 or not is_key(keys[0]):
        raise Refusal(400, "Sec-WebSocket-Key must be there once and be 16 bytes in base64.")
    return _read_request(
        target=_read_target(target, hosts[0]),
        headers=headers,
        http_version="1.1",
        secure=secure,
        host=hosts[0],
        key=keys[0],
    )


def read_http2_request(headers: list[tuple[str, str]], *, secure: bool) -> OpeningRequest:
    """Read an HTTP/2 request, an extended CONNECT for a WebSocket.

    Args:
        headers: the whole header block, pseudo headers included, decoded as latin-1; nothing was checked before.
        secure: the request came over TLS.

    Raises:
        MalformedRequest: it breaks a rule of HTTP/2's.
        Refusal: 501 without ``:protocol`` or for another one than websocket, 400 for anything else that is wrong.

    Source: RFC 8441 §4 and §5, RFC 9113 §8.2 and §8.3.
    """
    pseudo, fields = split_pseudo_headers(headers, _PSEUDO_HEADERS)
    if pseudo.get(":method") != "CONNECT":
        raise MalformedRequest("An extended CONNECT needs the method CONNECT.")
    if ":protocol" not in pseudo:
        if pseudo.keys() != {":method", ":authority"}:  # RFC 9113 §8.5
            raise MalformedRequest("A CONNECT has :method and :authority only.")
        raise Refusal(501, "CONNECT is for the protocol websocket only.")
    path = _check_scheme_and_path(pseudo)
    ordinary, host = _read_authority(pseudo, fields)
    if pseudo[":protocol"].lower() != "websocket":
        raise Refusal(501, "CONNECT is for the protocol websocket only.")
    # RFC 8441 §5: HTTP/2 has no Upgrade, so no 426 either.
    _check_version(ordinary, 400, (_SUPPORTED,))
    # RFC 8441 §5 does without the key, but there are clients that send one and want it answered.
    keys = ordinary.get_all("sec-websocket-key")
    return _read_request(
        target=path,
        headers=ordinary,
        http_version="2",
        secure=secure,
        host=host,
        key=keys[0] if len(keys) == 1 and is_key(keys[0]) else None,
    )


def read_http2_plain(headers: list[tuple[str, str]]) -> tuple[str, str, Headers]:
    """Read an HTTP/2 request that is no CONNECT: its method, its target and its headers.

    Raises:
        MalformedRequest: it breaks a rule.

    Source: RFC 9113 §8.2 and §8.3.1.
    """
    pseudo, fields = split_pseudo_headers(headers, _PSEUDO_HEADERS - {":protocol"})
    if not is_token(pseudo.get(":method", "")):
        raise MalformedRequest("A request needs :method.")
    path = _check_scheme_and_path(pseudo)
    if ":authority" in pseudo or any(name == "host" for name, _ in fields):
        ordinary, _ = _read_authority(pseudo, fields)
    else:  # RFC 9113 §8.3.1 asks for one of them, but the health checks of HAProxy have neither
        ordinary = headers_of(_join_cookies(fields))
    if "content-length" in ordinary and content_length(headers) is None:
        raise MalformedRequest("Content-Length must be one number.")
    return pseudo[":method"], path, ordinary


def content_length(headers: list[tuple[str, str]]) -> int | None:
    """Tell how many bytes of DATA a request over HTTP/2 announces.

    Returns:
        None if it announces none, is a CONNECT, which has no content (RFC 9110 §9.3.6), or does not say one number.
    """
    lengths = [value for name, value in headers if name == "content-length"]
    if len(lengths) != 1 or (":method", "CONNECT") in headers:
        return None
    [length] = lengths
    # Nobody sends as much as 18 digits stand for, and int() takes no more than some thousand.
    return int(length) if length.isascii() and length.isdecimal() and len(length) <= 18 else None


def choose_protocol(request: OpeningRequest, protocols: tuple[str, ...]) -> str | None:
    """Choose the first of the server's subprotocols that the client offers too, None if there is none."""
    return next((protocol for protocol in protocols if protocol in request.protocols), None)


def http1_answer(
    request: OpeningRequest, *, protocol: str | None, compression: Compression | None, headers: HeadersLike
) -> tuple[list[tuple[str, str]], Agreement]:
    """Make the headers of the 101 that accepts a request, and tell what they agree on.

    Args:
        request: as it was read.
        protocol: one that the client offered, or None.
        compression: how to answer the client's offers of permessage-deflate; None declines them.
        headers: what the application adds.

    Raises:
        TypeError: headers are no headers.
        ValueError: the client did not offer protocol, or a header breaks a rule or is the handshake's own.

    Source: RFC 6455 §4.2.2.
    """
    fields, agreement = _answer(request, protocol, compression, headers)
    return [*_UPGRADE, *fields], agreement


def http2_answer(
    request: OpeningRequest, *, protocol: str | None, compression: Compression | None, headers: HeadersLike
) -> tuple[list[tuple[str, str]], Agreement]:
    """Make the headers of the 200 that accepts a request, without ``:status``; else as ``http1_answer``.

    Source: RFC 8441 §5.
    """
    fields, agreement = _answer(request, protocol, compression, headers)
    return [(name.lower(), value) for name, value in fields], agreement


def _answer(
    request: OpeningRequest, protocol: str | None, compression: Compression | None, headers: HeadersLike
) -> tuple[list[tuple[str, str]], Agreement]:
    added = check_headers(headers)
    if protocol is not None and protocol not in request.protocols:
        raise ValueError(f"protocol {protocol!r} must be one that the client offered, of {request.protocols!r}")
    offers = parse_extensions(request.headers.get("Sec-WebSocket-Extensions", ""))
    accepted = None if compression is None else accept_offer(offers, compression)
    deflate, extensions = accepted or (None, "")
    candidates = [
        ("Sec-WebSocket-Accept", request.key and accept_value(request.key)),
        ("Sec-WebSocket-Protocol", protocol),
        ("Sec-WebSocket-Extensions", extensions),
    ]
    fields = [(name, value) for name, value in candidates if value]
    return [*fields, *added.raw], Agreement(protocol=protocol, deflate=deflate, extensions=extensions)


def _read_request(
    *, target: str, headers: Headers, http_version: str, secure: bool, host: str, key: str | None
) -> OpeningRequest:
    """Do what is the same for both HTTP versions."""
    # What would be a body would be taken for frames, or the frames for a body.
    if "Transfer-Encoding" in headers or any(length != "0" for length in headers.get_all("Content-Length")):
        raise Refusal(400, "A request to open a WebSocket has no body.")
    origins = headers.get_all("Origin")
    if len(origins) > 1:
        raise Refusal(400, "Origin must be there once at most.")
    _check_extensions(headers)
    return OpeningRequest(
        target=target,
        headers=headers,
        http_version=http_version,
        secure=secure,
        host=host,
        origin=origins[0] if origins else None,
        protocols=_read_protocols(headers),
        key=key,
    )


def _check_scheme_and_path(pseudo: dict[str, str]) -> str:
    """Check two of the pseudo headers that each request has but a plain CONNECT; return the path."""
    # RFC 9113 §8.3.1.
    if pseudo.get(":scheme") not in ("http", "https"):
        raise MalformedRequest("A request needs :scheme, which must be http or https.")
    path = pseudo.get(":path", "")
    if not _VISIBLE.issuperset(path) or "#" in path:
        raise MalformedRequest(":path must be visible ASCII without a fragment.")
    if not path.startswith("/") and (path, pseudo[":method"]) != ("*", "OPTIONS"):
        raise MalformedRequest(":path must begin with a slash.")
    return path


def _read_authority(pseudo: dict[str, str], fields: list[tuple[str, str]]) -> tuple[Headers, str]:
    """Put the headers of a request together with its authority, as Host; return that too.

    Source: RFC 9113 §8.3.1: one of :authority and Host must be there, and both must say the same.
    """
    hosts = [value for name, value in fields if name == "host"]
    authority = pseudo.get(":authority", hosts[0] if hosts else "")
    if not _is_authority(authority):
        raise MalformedRequest(":authority, or Host in its place, must be there and be valid.")
    if len(hosts) > 1 or not all(_is_same_authority(host, authority, pseudo[":scheme"]) for host in hosts):
        raise MalformedRequest("Host must be there once at most, and be the same as :authority.")
    others = [field for field in fields if field[0] != "host"]
    return headers_of([("host", authority), *_join_cookies(others)]), authority


def _read_target(target: str, host: str) -> str:
    """Return a target in origin-form; host is the one that an absolute-form must name."""
    if not _VISIBLE.issuperset(target) or "#" in target:
        raise Refusal(400, "The request target must be visible ASCII without a fragment.")
    if target.startswith("/"):
        return target
    authority, remainder = split_target(target)
    scheme = target.partition(":")[0].lower()
    if not authority or not _is_same_authority(authority, host, scheme):
        raise Refusal(400, "The request target must begin with a slash, or be a URL of this host.")
    return remainder


def split_target(target: str) -> tuple[str, str]:
    """Split the target of a plain request into the authority, "" if it has none, and the path with the query.

    Source: RFC 9112 §3.2.
    """
    scheme, separator, rest = target.partition("://")
    if target.startswith("/") or not separator or scheme.lower() not in DEFAULT_PORTS:
        return "", target
    authority = rest.partition("?")[0].partition("/")[0]
    remainder = rest[len(authority) :]
    return authority, remainder if remainder.startswith("/") else f"/{remainder}"


def _is_authority(text: str) -> bool:
    try:
        split_authority(text)
    except ValueError:
        return False
    return True


def _is_same_authority(one: str, other: str, scheme: str) -> bool:
    try:
        return scheme in DEFAULT_PORTS and same_authority(one, other, default_port=DEFAULT_PORTS[scheme])
    except ValueError:
        return False


def _check_version(headers: Headers, status: int, hints: tuple[tuple[str, str], ...]) -> None:
    versions = headers.get_all("Sec-WebSocket-Version")
    if len(versions) != 1:
        raise Refusal(400, "Sec-WebSocket-Version must be there once.")
    if versions[0] != VERSION:
        # RFC 6455 §4.4.
        raise Refusal(status, f"Sec-WebSocket-Version must be {VERSION}.", hints)


def _read_protocols(headers: Headers) -> tuple[str, ...]:
    protocols = tuple(parse_list(headers.get("Sec-WebSocket-Protocol", "")))
    if len(protocols) > MAX_PROTOCOLS or not all(map(is_token, protocols)) or len(set(protocols)) < len(protocols):
        raise Refusal(400, f"Sec-WebSocket-Protocol must have {MAX_PROTOCOLS} tokens at most, each once.")
    return protocols


def _check_extensions(headers: Headers) -> None:
    try:
        offers = parse_extensions(headers.get("Sec-WebSocket-Extensions", ""))
    except ValueError:
        raise Refusal(400, "Sec-WebSocket-Extensions must follow RFC 6455, section 9.1.") from None
    if len(offers) > MAX_EXTENSIONS:
        raise Refusal(400, f"Sec-WebSocket-Extensions must have {MAX_EXTENSIONS} offers at most.")


def split_pseudo_headers(
    headers: list[tuple[str, str]], allowed: frozenset[str]
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Take a header block of HTTP/2 apart, and check all of it.

    Raises:
        MalformedRequest: a pseudo header is not allowed, or a name or a value breaks a rule.

    Source: RFC 9113 §8.2 and §8.3.
    """
    pseudo: dict[str, str] = {}
    fields: list[tuple[str, str]] = []
    for name, value in headers:
        _check_http2_field(name, value)
        if not name.startswith(":"):
            fields.append((name, value))
        elif fields or name in pseudo or name not in allowed:
            raise MalformedRequest("A pseudo header is unknown, comes twice, or follows a header.")
        else:
            pseudo[name] = value
    return pseudo, fields


def _check_http2_field(name: str, value: str) -> None:
    # RFC 9113 §8.2.1.
    if not is_token(name.removeprefix(":")) or name != name.lower():
        raise MalformedRequest("A header name is not a token in lower case.")
    if not _FORBIDDEN_IN_VALUE.isdisjoint(value) or value != value.strip(" \t"):
        raise MalformedRequest("A header value has a character where it must not be.")
    # RFC 9113 §8.2.2.
    if name in CONNECTION_HEADERS or (name == "te" and value.lower() != "trailers"):
        raise MalformedRequest("A header of the connection is not allowed in HTTP/2.")


def _join_cookies(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    # RFC 9113 §8.2.3: one Cookie may come in pieces, to be put together before anyone looks at it.
    pieces = [value for name, value in fields if name == "cookie"]
    others = [field for field in fields if field[0] != "cookie"]
    return [*others, ("cookie", "; ".join(pieces))] if pieces else others
