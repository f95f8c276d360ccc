"""HTTP/1.1 heads over a transport: one request, one answer. The only module that knows h11.

h11 parses and writes; what it would let pass and RFC 9112 or a limit of ours forbids is refused here before it sees it:
bare CR and LF, folded lines in requests, heads that are too large. In answers folded lines are unfolded, and the fields
that would frame a body are left out where there is none. Every byte is looked at once.
"""

from __future__ import annotations

import re
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

import h11
import trio

from .._exceptions import InvalidHandshake, ProxyError
from .._wire.handshake import Refusal, http1_answer
from .._wire.headers import Headers, headers_of
from .exchange import BODILESS, dated, read_rejection_body, with_server

if TYPE_CHECKING:
    from .._options import Compression, Limits
    from .._transport import Transport
    from .._wire.handshake import Agreement, ClientHandshake, OpeningRequest
    from .._wire.headers import HeadersLike

MAX_INFORMATIONAL = 8  # answers of 1xx before the one that counts
EVENTS_AT_ONCE = 64  # pieces of a body that are understood without letting others run

_CONTROLS = bytes({*range(0x20), 0x7F} - {0x09})
HTTP2_HEAD = b"PRI * HTTP/2.0\r\n\r\n"  # RFC 9113 §3.4: the preface up to a blank line

_BLANK_LINE = b"\r\n\r\n"
_FOLD = re.compile(rb"\r\n[ \t]+")
_FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding):([^\r]*)", re.IGNORECASE)
_WITHOUT_BODY = re.compile(rb"HTTP/1\.. (1..|204|304)\b")
_OURS = ("connection", "content-length", "transfer-encoding")
_KNOWN_STATUS = frozenset(status.value for status in HTTPStatus)


class RequestHead(NamedTuple):
    """The head of a request."""

    method: str
    target: str
    http_version: str
    headers: Headers


class Http2Preface(Exception):
    """HTTP/2 begins where a request was expected (RFC 9113 §3.3); ``data`` is what was read."""

    def __init__(self, data: bytes) -> None:
        super().__init__("HTTP/2 begins")
        self.data = data


class HeadError(Exception):
    """A head that must not be parsed further; ``status`` is what a server answers."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def read_some(transport: Transport) -> bytes:
    """Wait until something comes and read it; ``b""`` at the end."""
    while True:
        await transport.wait_readable()
        data = transport.read()
        if data is not None:
            return data


async def read_request(transport: Transport, limits: Limits, data: bytes = b"") -> tuple[RequestHead, bytes] | None:
    """Read the head of a request, as a server; one empty line before it is ignored (RFC 9112 §2.2).

    Args:
        data: what was read already.

    Returns:
        The head, and the bytes after it that came in the same read; None when the peer went before it was whole.

    Raises:
        Refusal: the head is malformed, too large or of another version: 400, 414, 431, 501 or 505.
        Http2Preface: it is no head: HTTP/2 begins.
    """
    try:
        data = data or await read_some(transport)
        if data == b"\r":
            data += await read_some(transport)
        read = await _read_head(transport, data.removeprefix(b"\r\n"), limits)
        if read is None:
            return None
        head, rest = read
        _check_head(head, limits)
        if head == HTTP2_HEAD and data[:1] != b"\r":
            raise Http2Preface(head + rest)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.max_head_size)
        connection.receive_data(head)
        request = connection.next_event()
    except HeadError as error:
        raise Refusal(error.status, str(error)) from None
    except h11.RemoteProtocolError as error:
        # h11's own message quotes the line: nothing that a peer sends is quoted in a refusal.
        raise Refusal(error.error_status_hint, "The request is malformed.") from None
    assert isinstance(request, h11.Request)  # a whole head is one, or raises
    if request.http_version not in (b"1.0", b"1.1"):
        raise Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "This server speaks HTTP/1.1.")
    return (
        RequestHead(
            method=request.method.decode("ascii"),
            target=request.target.decode("ascii"),
            http_version=request.http_version.decode("ascii"),
            headers=_decode_headers(request.headers),
        ),
        rest,
    )


def answer_bytes(
    status: int,
    headers: list[tuple[str, str]],
    body: bytes = b"",
    *,
    to_head: bool = False,
    server: str | None = None,
) -> bytes:
    """Write a whole answer, 101 or any other; the connection is of no more use to HTTP after it.

    Args:
        to_head: the request was HEAD: tell the length of the body and leave it out.
        server: the Server header, unless headers have one; None: none.
    """
    reason = HTTPStatus(status).phrase if status in _KNOWN_STATUS else ""
    fields = headers
    if status >= HTTPStatus.OK:
        # RFC 9110 §7.8: an Upgrade header needs its connection option, beside the close.
        option = "Upgrade, close" if any(name.lower() == "upgrade" for name, _ in headers) else "close"
        fields = [(name, value) for name, value in headers if name.lower() not in _OURS]
        if status not in BODILESS:  # RFC 9110 §8.6
            fields.append(("Content-Length", str(len(body))))
        fields = dated([*fields, ("Connection", option)])
    fields = with_server(fields, server)
    head = [f"HTTP/1.1 {status} {reason}", *[f"{name}: {value}" for name, value in fields]]
    return "\r\n".join(head).encode("latin-1") + _BLANK_LINE + (b"" if to_head else body)


async def send_answer(transport: Transport, answer: bytes, limits: Limits) -> None:
    """Send a last answer and end the transport so that it arrives: an early close could destroy it (RFC 9112 §9.6).

    All within ``limits.close_linger`` seconds; cancelled, the transport has ended too.
    """
    transport.write(answer)
    try:
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(limits.close_linger):
            while transport.unsent:
                await transport.drain()
            transport.write_eof()
            while transport.read() != b"":
                await transport.wait_readable()
    finally:
        transport.abort()


class Http1Exchange:
    """A request for a WebSocket that waits for its answer.

    Args:
        transport: where it came from.
        request: what it asks for.
        rest: bytes that came after its head.
        limits: how long to wait for the peer to take a refusal.
        server: the Server header of the answer, unless the application gives one; None: none.
    """

    __slots__ = ("_limits", "_server", "request", "rest", "transport")

    def __init__(
        self, transport: Transport, request: OpeningRequest, rest: bytes, limits: Limits, server: str | None = None
    ) -> None:
        self.transport = transport
        self.request = request
        self.rest = rest
        self._limits = limits
        self._server = server

    def accept(
        self, *, protocol: str | None, compression: Compression | None, headers: HeadersLike
    ) -> tuple[Headers, Agreement]:
        """Answer 101; the transport is the WebSocket's from here on. Returns what was answered, and agreed."""
        fields, agreement = http1_answer(self.request, protocol=protocol, compression=compression, headers=headers)
        fields = with_server(fields, self._server)
        self.transport.write(answer_bytes(HTTPStatus.SWITCHING_PROTOCOLS, fields))
        return headers_of(fields), agreement

    async def refuse(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer with another status."""
        await send_answer(self.transport, answer_bytes(status, headers, body, server=self._server), self._limits)


async def upgrade(transport: Transport, handshake: ClientHandshake, limits: Limits) -> tuple[Headers, bytes]:
    """Ask for the upgrade, as a client.

    Returns:
        The headers of the 101, and the bytes after it that came in the same read.

    Raises:
        HandshakeRejected: the answer is another status.
        InvalidHandshake: the answer is no HTTP, or there is none.
        OSError: the transport broke.
    """
    connection = await _ask(transport, *handshake.http1_request(), limits)
    try:
        answer = await _read_answer(transport, connection, limits, to_connect=False)
    except (HeadError, h11.RemoteProtocolError) as error:
        raise InvalidHandshake(f"the server's answer is malformed: {error!s:.256}") from None
    if answer is None:
        raise transport.error or InvalidHandshake("the server closed the connection before it answered", no_answer=True)
    response, rest = answer
    headers = _decode_headers(response.headers)
    handshake.note_answer(response.status_code, headers)
    if isinstance(response, h11.Response):
        rejection = handshake.reject(response.status_code, headers)
        await read_rejection_body(rejection, partial(_read_body, transport, connection, rest, limits), limits)
        raise rejection
    return headers, rest


async def open_tunnel(transport: Transport, authority: str, headers: Headers, limits: Limits) -> Headers:
    """Ask an HTTP proxy for a tunnel, which the transport is from then on.

    Args:
        authority: where to, ``host:port``.
        headers: what to add to the request, credentials say.

    Returns:
        The headers of the answer.

    Raises:
        ProxyError: the proxy says no, or something that is no answer, or nothing and leaves.

    Source: RFC 9110 §9.3.6.
    """
    connection = await _ask(transport, "CONNECT", authority, [("Host", authority), *headers.raw], limits)
    try:
        answer = await _read_answer(transport, connection, limits, to_connect=True)
    except (HeadError, h11.RemoteProtocolError) as error:
        raise ProxyError(f"the proxy's answer is malformed: {error!s:.256}") from None
    if answer is None:
        raise ProxyError("the proxy closed the connection before it answered", no_answer=True) from transport.error
    response, rest = answer
    answered = _decode_headers(response.headers)
    if not HTTPStatus.OK <= response.status_code < HTTPStatus.MULTIPLE_CHOICES:
        # The body is left unread: it can be endless or never come, and the status says enough.
        refusal = ProxyError(f"the proxy refused the tunnel to {authority} with HTTP status {response.status_code}")
        refusal.status, refusal.headers = response.status_code, answered
        raise refusal
    if rest:
        # The server was not asked for anything yet: this would pass for its first words.
        raise ProxyError(f"the proxy sent {len(rest)} bytes after its answer, before anything was asked of the server")
    return answered


async def _ask(
    transport: Transport, method: str, target: str, headers: list[tuple[str, str]], limits: Limits
) -> h11.Connection:
    """Send a request that has no body."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.max_head_size)
    request = h11.Request(method=method, target=target, headers=_encode_headers(headers))
    transport.write(connection.send(request) or b"")
    connection.send(h11.EndOfMessage())
    while transport.unsent:
        await transport.drain()
    return connection


async def _read_answer(
    transport: Transport, connection: h11.Connection, limits: Limits, *, to_connect: bool
) -> tuple[h11.Response | h11.InformationalResponse, bytes] | None:
    """Read the answer that counts, a 101 or a final one, and what came after its head; None if there is none."""
    rest = b""
    for _ in range(MAX_INFORMATIONAL):
        read = await _read_head(transport, rest, limits)
        if read is None:
            return None
        head, rest = read
        head = _unfold(head)
        _check_head(head, limits)
        # RFC 9112 §6.3, RFC 9110 §9.3.6: these have no body, whatever they say; that of a refused CONNECT is not read.
        if to_connect or _WITHOUT_BODY.match(head) or _has_unknown_coding(head):
            head = _FRAMING.sub(b"", head)
        connection.receive_data(head)
        response = connection.next_event()
        assert isinstance(response, h11.Response | h11.InformationalResponse)  # a whole head is one, or raises
        if response.http_version not in (b"1.0", b"1.1"):  # h11 takes any digits
            raise HeadError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "it is of another version than HTTP/1.0 and 1.1")
        if isinstance(response, h11.Response) or response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            return response, rest
    raise HeadError(HTTPStatus.BAD_GATEWAY, f"{MAX_INFORMATIONAL} interim answers and no other")


async def _read_head(transport: Transport, data: bytes, limits: Limits) -> tuple[bytes, bytes] | None:
    """Read until a blank line; return what is up to there, and what came after it."""
    buffer = bytearray(data)
    looked_at = 0
    while True:
        found = buffer.find(_BLANK_LINE, max(0, looked_at - len(_BLANK_LINE) + 1))
        _check_lines(buffer, looked_at, len(buffer) if found < 0 else found + len(_BLANK_LINE), limits)
        if found >= 0:
            end = found + len(_BLANK_LINE)
            return bytes(buffer[:end]), bytes(buffer[end:])
        looked_at = len(buffer)
        more = await read_some(transport)
        if not more:
            return None
        buffer += more


def _check_lines(buffer: bytearray, start: int, stop: int, limits: Limits) -> None:
    """Check what of a head is here, as early as it can be told."""
    if buffer and not (0x41 <= buffer[0] <= 0x5A or 0x61 <= buffer[0] <= 0x7A):
        raise HeadError(HTTPStatus.BAD_REQUEST, "this is no HTTP")
    if stop > limits.max_request_line and buffer.find(b"\r", 0, limits.max_request_line + 1) < 0:
        size = buffer.find(b"\r")
        many = f"{len(buffer)} or more" if size < 0 else size
        text = f"the first line has over {limits.max_request_line} bytes (max_request_line): {many}"
        raise HeadError(HTTPStatus.REQUEST_URI_TOO_LONG, text)
    if stop > limits.max_head_size:
        text = f"the head has over {limits.max_head_size} bytes (max_head_size): {stop} or more"
        raise HeadError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)
    # RFC 9112 §2.2: a bare LF may end a line, for the lenient; that two parsers differ on it is how smuggling works.
    if buffer.count(b"\n", start, stop) != buffer.count(b"\r\n", max(0, start - 1), stop):
        raise HeadError(HTTPStatus.BAD_REQUEST, "a line ends with a bare LF")


def _check_head(head: bytes, limits: Limits) -> None:
    first, *lines = head[: -len(_BLANK_LINE)].split(b"\r\n")
    if len(lines) > limits.max_headers:
        message = f"more than {limits.max_headers} header lines (max_headers): {len(lines)}"
        raise HeadError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message)
    text = b"".join((first, *lines))
    if len(text.translate(None, _CONTROLS)) != len(text):
        raise HeadError(HTTPStatus.BAD_REQUEST, "a control character")  # a bare CR, NUL: RFC 9110 §5.5
    if b"\r\n " in head or b"\r\n\t" in head:
        raise HeadError(HTTPStatus.BAD_REQUEST, "a folded header line")  # RFC 9112 §5.2
    if (longest := max(map(len, lines), default=0)) > limits.max_header_line:
        message = f"a header line has over {limits.max_header_line} bytes (max_header_line): {longest}"
        raise HeadError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, message)


def _unfold(head: bytes) -> bytes:
    """Unfold the lines of an answer (RFC 9112 §5.2)."""
    first, end, lines = head.partition(b"\r\n")
    if lines[:1] in (b" ", b"\t"):  # §2.2
        raise HeadError(HTTPStatus.BAD_REQUEST, "white space before the first header line")
    return first + end + _FOLD.sub(b" ", lines)


def _has_unknown_coding(head: bytes) -> bool:
    """Tell whether a body has another transfer coding than chunked: it is read as it comes, to its end (§6.3)."""
    codings = [value.strip().lower() for name, value in _FRAMING.findall(head) if name.lower() == b"transfer-encoding"]
    return codings not in ([], [b"chunked"])


async def _read_body(
    transport: Transport, connection: h11.Connection, rest: bytes, limits: Limits, body: bytearray
) -> None:
    """Read the body of a rejection, as much of it as is wanted."""
    if rest:
        connection.receive_data(rest)
    events = 0
    while len(body) < limits.max_body_size:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            break  # cut short, or malformed: the status says enough
        if event is h11.NEED_DATA:
            await transport.wait_readable()
            data = transport.read()
            if data is not None:
                connection.receive_data(data)
        elif isinstance(event, h11.Data):
            body += event.data
            events += 1
            if events % EVENTS_AT_ONCE == 0:  # a read may bring thousands of chunks of one byte
                await trio.lowlevel.checkpoint()
        else:
            break


def _encode_headers(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]


def _decode_headers(headers: h11._headers.Headers) -> Headers:
    return headers_of([(name.decode("ascii"), value.decode("latin-1")) for name, value in headers.raw_items()])
