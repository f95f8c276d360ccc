"""What both sides of an opening handshake share: keys, subprotocols, headers of the caller's, and what was agreed."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .headers import Headers, HeadersLike, check_header, is_token

if TYPE_CHECKING:
    from .deflate import DeflateParameters

VERSION = "13"  # RFC 6455 §4.1
MAX_PROTOCOLS = 32
MAX_EXTENSIONS = 16

# RFC 9113 §8.2.2: these speak of one HTTP/1.1 connection, and HTTP/2 forbids them. TE is a case of its own.
CONNECTION_HEADERS = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"})
_OWNED_HEADERS = CONNECTION_HEADERS | {"content-length", "proxy-authorization", "te"}

_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeInfo:
    """The head of an opening handshake's request or answer; as text it hides the headers that are secrets.

    Attributes:
        id: the number of the connection, ``WebSocket.id`` once it is open. A request that is made again, because of a
            redirect say, keeps it.
        url: what the request is for, without userinfo.
        http_version: "1.1" or "2".
        sent: whether this side has written it, or received it.
        status: of the answer; None for a request.
        headers: all of them.
    """

    id: int
    url: str
    http_version: str
    sent: bool
    status: int | None
    headers: Headers


class Agreement(NamedTuple):
    """What an opening handshake agreed on.

    Attributes:
        protocol: the subprotocol, None if none.
        deflate: how messages are compressed, None if they are not.
        extensions: the server's Sec-WebSocket-Extensions, "" if it sent none.
    """

    protocol: str | None
    deflate: DeflateParameters | None
    extensions: str


def new_key() -> str:
    """Make a Sec-WebSocket-Key: 16 random bytes in base64 (RFC 6455 §4.1)."""
    return base64.b64encode(secrets.token_bytes(16)).decode()


def is_key(text: str) -> bool:
    """Tell whether text is the base64 of 16 bytes."""
    try:
        return len(text) == 24 and len(base64.b64decode(text, validate=True)) == 16
    except ValueError:
        return False


def accept_value(key: str) -> str:
    """Work out the Sec-WebSocket-Accept that answers a key (RFC 6455 §4.2.2)."""
    digest = hashlib.sha1(key.encode() + _KEY_SUFFIX, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def check_protocols(protocols: str | Iterable[str]) -> tuple[str, ...]:
    """Check the subprotocols that a caller passes.

    Args:
        protocols: tokens, at most 32; a str is a list of one.

    Raises:
        TypeError: it is no str or iterable of them.
        ValueError: one is not a token, one comes twice (in any case), or there are too many.

    Source: https://websockets.spec.whatwg.org/#dom-websocket-websocket, RFC 6455 §4.1.
    """
    if isinstance(protocols, bytes) or not isinstance(protocols, Iterable):
        raise TypeError(f"protocols must be a str or an iterable of them, not {type(protocols).__name__}")
    checked = (protocols,) if isinstance(protocols, str) else tuple(protocols)
    if len(checked) > MAX_PROTOCOLS:
        raise ValueError(f"protocols: {len(checked)} are too many, at most {MAX_PROTOCOLS} are allowed")
    seen: set[str] = set()
    for protocol in checked:
        if not isinstance(protocol, str):
            raise TypeError(f"protocols: {protocol!r} must be a str, not {type(protocol).__name__}")
        if not is_token(protocol):
            raise ValueError(f"protocols: {protocol!r} is not a token (RFC 9110 §5.6.2)")
        if protocol.lower() in seen:
            raise ValueError(f"protocols: {protocol!r} comes twice")
        seen.add(protocol.lower())
    return checked


def check_product(option: str, name: str, value: object) -> str | None:
    """Check the value of a User-Agent or Server header that a caller passes; None leaves the header out.

    Args:
        option: the caller's argument.
        name: the header.

    Raises:
        TypeError: it is neither str nor None.
        ValueError: it breaks the rules of a header's value.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{option} must be a str or None, not {type(value).__name__}")
    if not value:
        raise ValueError(f"{option} must not be empty: None leaves the header out")
    check_header(name, value)
    return value


def check_headers(headers: HeadersLike) -> Headers:
    """Check the headers that a caller adds to a handshake.

    Args:
        headers: any but those that the handshake itself sets or that speak of the HTTP connection.

    Raises:
        TypeError: it is neither a mapping nor pairs of str.
        ValueError: a name or a value breaks its rule, or the header is one of the handshake's own; names the header.
    """
    checked = Headers(headers)
    for name, value in checked.raw:
        check_header(name, value)
        if name.lower() in _OWNED_HEADERS or name.lower().startswith("sec-websocket-"):
            raise ValueError(f"headers must not have {name!r}: the handshake sets it or forbids it")
    return checked
