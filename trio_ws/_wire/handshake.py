"""The opening handshake over HTTP/1.1 (RFC 6455 §4) and HTTP/2 (RFC 8441): lists of headers in, an Agreement out.

The client's half is here. The server's is in ``opening``, its policy on origins in ``origins``, and what both share in
``negotiation``; this module has the names of all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._exceptions import HandshakeRejected, InvalidHandshake
from .deflate import DeflateParameters, check_answer, offer
from .headers import Headers, HeadersLike, check_header, has_token, headers_of, parse_extensions
from .negotiation import (
    VERSION,
    Agreement,
    HandshakeInfo,
    accept_value,
    check_headers,
    check_product,
    check_protocols,
    new_key,
)
from .opening import (
    MalformedRequest,
    OpeningRequest,
    Refusal,
    choose_protocol,
    content_length,
    http1_answer,
    http2_answer,
    read_http1_request,
    read_http2_plain,
    read_http2_request,
    split_pseudo_headers,
    split_target,
    wants_websocket,
)
from .origins import check_origin, check_origins
from .url import WebSocketURL, split_authority

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._options import Compression

__all__ = [
    "Agreement",
    "ClientHandshake",
    "HandshakeInfo",
    "MalformedRequest",
    "OpeningRequest",
    "Refusal",
    "accept_value",
    "check_headers",
    "check_origin",
    "check_origins",
    "check_product",
    "check_protocols",
    "choose_protocol",
    "content_length",
    "http1_answer",
    "http2_answer",
    "new_key",
    "read_http1_request",
    "read_http2_answer",
    "read_http2_plain",
    "read_http2_request",
    "split_pseudo_headers",
    "split_target",
    "wants_websocket",
]


_SWITCHING_PROTOCOLS = "101"


class ClientHandshake:
    """The client's opening handshake: makes the request, for either HTTP version, and checks the answer.

    Args:
        url: where to.
        protocols: the subprotocols to offer; as ``check_protocols`` takes them.
        headers: what the caller adds; as ``check_headers`` takes them. Host takes the place of the URL's, and
            Authorization that of its userinfo.
        origin: the value of Origin, None to send none.
        compression: what to offer of permessage-deflate, None to offer nothing.
        user_agent: the value of User-Agent unless headers have one, None to send none.

    Attributes:
        user_agent: as it was passed.

    Attributes:
        connection_id: the number of the connection that this is for.
        listeners: are told of each head, when the request is made and when the answer has come.
        rejection: the server's refusal, as soon as its head has come; None before, and if there is none.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: a protocol or a header breaks its rule; the message names it.

    Source: RFC 6455 §4.1, RFC 8441 §5.
    """

    def __init__(
        self,
        url: WebSocketURL,
        protocols: tuple[str, ...],
        *,
        headers: HeadersLike,
        origin: str | None,
        compression: Compression | None,
        user_agent: str | None = None,
    ) -> None:
        self.user_agent = user_agent
        self._url = url
        self._protocols = check_protocols(protocols)
        self._compression = compression
        self._key = ""
        self._request_headers = Headers()
        self.connection_id: int = 0
        self._http_version = "1.1"
        self.listeners: list[Callable[[HandshakeInfo], None]] = []
        self.rejection: HandshakeRejected | None = None
        added = check_headers(headers)
        self._host = _choose_host(url, added)
        candidates = [
            ("Sec-WebSocket-Version", VERSION),
            ("Sec-WebSocket-Protocol", ", ".join(self._protocols)),
            ("Sec-WebSocket-Extensions", "" if compression is None else offer(compression)),
            ("Origin", _check_origin_header(origin, added)),
            ("Authorization", "" if "Authorization" in added else url.authorization),
            ("User-Agent", "" if "User-Agent" in added else user_agent),
        ]
        self._fields = [(name, value) for name, value in candidates if value]
        self._fields += [(name, value) for name, value in added.raw if name.lower() != "host"]

    @property
    def request_headers(self) -> Headers:
        """The headers of the request that was made last, with :authority of HTTP/2 as Host; none before the first."""
        return self._request_headers

    def http1_request(self) -> tuple[str, str, list[tuple[str, str]]]:
        """Make the method, the target and the headers of an HTTP/1.1 request, with a key of its own each time."""
        self._key = new_key()
        fields = [
            ("Host", self._host),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", self._key),
            *self._fields,
        ]
        self._request_headers = headers_of(fields)
        self._http_version = "1.1"
        self._tell(None, self._request_headers)
        return "GET", self._url.target, fields

    def http2_request(self) -> list[tuple[str, str]]:
        """Make the header block of an extended CONNECT: no Host and no Upgrade (RFC 8441 §5).

        HTTP/2 has no use for a key, and no objection. But a proxy that speaks HTTP/1.1 to the server hands on what it
        gets, and without a key the server answers 400.
        """
        fields = [("sec-websocket-key", new_key()), *((name.lower(), value) for name, value in self._fields)]
        self._request_headers = headers_of([("host", self._host), *fields])
        self._http_version = "2"
        self._tell(None, self._request_headers)
        return [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https" if self._url.secure else "http"),
            (":authority", self._host),
            (":path", self._url.target),
            *fields,
        ]

    def note_answer(self, status: int, headers: Headers) -> None:
        """Tell of the head of the answer, before it is checked."""
        self._tell(status, headers)

    def _tell(self, status: int | None, headers: Headers) -> None:
        for listener in self.listeners:
            listener(
                HandshakeInfo(
                    id=self.connection_id,
                    url=str(self._url),
                    http_version=self._http_version,
                    sent=status is None,
                    status=status,
                    headers=headers,
                )
            )

    def reject(self, status: int, headers: Headers) -> HandshakeRejected:
        """Take the head of an answer that is a refusal; give the error to raise, which has no body yet."""
        self.rejection = HandshakeRejected(status, headers)
        return self.rejection

    def check_http1_answer(self, headers: Headers) -> Agreement:
        """Check the headers of a 101 that answers the last ``http1_request``.

        Raises:
            InvalidHandshake: they break a rule, or choose what was not offered.
        """
        if headers.get("Upgrade", "").lower() != "websocket":
            raise InvalidHandshake("the server's 101 must have the header Upgrade: websocket")
        if not has_token(headers.get("Connection", ""), "upgrade"):
            raise InvalidHandshake("the server's 101 must have the header Connection: Upgrade")
        if headers.get_all("Sec-WebSocket-Accept") != [accept_value(self._key)]:
            raise InvalidHandshake("the server's 101 must have the Sec-WebSocket-Accept that answers the key, once")
        return self._agree(headers)

    def check_http2_answer(self, headers: Headers) -> Agreement:
        """Check the headers of a 2xx that answers the last ``http2_request``; a Sec-WebSocket-Accept is ignored.

        Raises:
            InvalidHandshake: they choose what was not offered.
        """
        return self._agree(headers)

    def _agree(self, headers: Headers) -> Agreement:
        return Agreement(
            protocol=self._check_protocol(headers.get_all("Sec-WebSocket-Protocol")),
            deflate=self._check_extensions(headers.get("Sec-WebSocket-Extensions", "")),
            extensions=headers.get("Sec-WebSocket-Extensions", ""),
        )

    def _check_protocol(self, answers: list[str]) -> str | None:
        if len(answers) > 1:
            raise InvalidHandshake("the server chose more than one subprotocol")
        if answers and answers[0] not in self._protocols:
            raise InvalidHandshake(f"the server chose the subprotocol {answers[0]!r:.256}, which was not offered")
        # WHATWG WebSockets, "establish a WebSocket connection": stricter than RFC 6455.
        if self._protocols and not answers:
            raise InvalidHandshake(f"the server chose no subprotocol of those offered: {', '.join(self._protocols)}")
        return answers[0] if answers else None

    def _check_extensions(self, answer: str) -> DeflateParameters | None:
        try:
            extensions = parse_extensions(answer)
            if not extensions:
                return None
            if self._compression is None:
                raise ValueError("none was offered")
            return check_answer(extensions, self._compression)
        except ValueError as error:
            raise InvalidHandshake(f"the server's Sec-WebSocket-Extensions {answer!r:.256}: {error}") from error


def is_interim(fields: list[tuple[str, str]]) -> bool:
    """Tell whether another answer follows one over HTTP/2, as far as its status says (RFC 9113 §8.1)."""
    status = next((value for name, value in fields if name == ":status"), "")
    return len(status) == 3 and status.startswith("1") and status != _SWITCHING_PROTOCOLS


def read_http2_answer(fields: list[tuple[str, str]]) -> tuple[int, Headers]:
    """Read the header block of an answer over HTTP/2: its status and its headers.

    Raises:
        InvalidHandshake: it is malformed.

    Source: RFC 9113 §8.2 and §8.3.2.
    """
    try:
        pseudo, ordinary = split_pseudo_headers(fields, frozenset({":status"}))
    except Refusal as refusal:
        raise InvalidHandshake(f"the server's answer is malformed: {refusal.reason_text}") from None
    status = pseudo.get(":status", "")
    if status == _SWITCHING_PROTOCOLS:  # RFC 9113 §8.6
        raise InvalidHandshake("the server's answer is malformed: HTTP/2 has no status 101")
    if len(status) != 3 or not status.isascii() or not status.isdecimal() or not "100" <= status < "600":
        raise InvalidHandshake(f"the server's answer has no status: {status!r:.256}")
    return int(status), headers_of(ordinary)


def _choose_host(url: WebSocketURL, added: Headers) -> str:
    hosts = added.get_all("Host")
    if not hosts:
        return url.host_header
    if len(hosts) > 1:
        raise ValueError("headers must not have 'Host' twice")
    try:
        split_authority(hosts[0])
    except ValueError as error:
        raise ValueError(f"the value of header 'Host' is wrong: {error}") from None
    return hosts[0]


def _check_origin_header(origin: str | None, added: Headers) -> str | None:
    if len(added.get_all("Origin")) + (origin is not None) > 1:
        raise ValueError("headers must not have 'Origin' twice, nor at all if origin is passed")
    if origin is not None:
        if not isinstance(origin, str):
            raise TypeError(f"origin must be a str or None, not {type(origin).__name__}")
        check_header("Origin", origin)
    return origin
