"""One request and its answer on a stream of HTTP/2, for both sides (RFC 8441 §5)."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import trio

from ..._exceptions import InvalidHandshake
from ..._wire.handshake import http2_answer, read_http2_answer
from ..._wire.headers import Headers
from ..exchange import BODILESS, dated, read_rejection_body, with_server
from .frame_reader import ErrorCode
from .stream import MAX_INFORMATIONAL, StreamReset

if TYPE_CHECKING:
    from ..._options import Compression, Limits
    from ..._wire.handshake import Agreement, ClientHandshake, OpeningRequest
    from ..._wire.headers import HeadersLike
    from .connection import Http2Connection
    from .stream import Http2Stream

# RFC 9113 §8.2.2: they speak of one HTTP/1.1 connection. Our own length takes the place of the caller's.
_DROPPED = ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "content-length")


class Http2Exchange:
    """A request for a WebSocket on a stream, that waits for its answer.

    Args:
        connection: carries the stream.
        stream: where it came from.
        request: what it asks for.
        limits: how long to wait for the peer to take a refusal.
        server: the Server header of the answer, unless the application gives one; None: none.
    """

    def __init__(
        self,
        connection: Http2Connection,
        stream: Http2Stream,
        request: OpeningRequest,
        limits: Limits,
        server: str | None = None,
    ) -> None:
        self.transport = stream
        self.request = request
        self.rest = b""
        self._connection = connection
        self._limits = limits
        self._server = server

    def accept(
        self, *, protocol: str | None, compression: Compression | None, headers: HeadersLike
    ) -> tuple[Headers, Agreement]:
        """Answer 200; the stream is the WebSocket's from here on. Returns what was answered, and agreed."""
        fields, agreement = http2_answer(self.request, protocol=protocol, compression=compression, headers=headers)
        fields = with_server(dated(fields, "date"), self._server, "server")
        self._connection.send_headers(self.transport, [(":status", "200"), *fields])
        return Headers(fields), agreement

    async def refuse(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer with another status."""
        fields = with_server(headers, self._server)
        await respond(self._connection, self.transport, status, fields, body, self._limits)


async def respond(
    connection: Http2Connection,
    stream: Http2Stream,
    status: int,
    headers: list[tuple[str, str]],
    body: bytes,
    limits: Limits,
    *,
    to_head: bool = False,
    malformed: bool = False,
) -> None:
    """Send a whole answer, and end the stream; the peer has ``limits.close_linger`` seconds to take it.

    Args:
        to_head: the request was HEAD: tell the length of the body and leave it out.
        malformed: the request broke a rule of HTTP/2's: its stream is reset behind the answer (RFC 9113 §8.1.1).
    """
    fields = [(name.lower(), value) for name, value in headers if name.lower() not in _DROPPED]
    if status not in BODILESS:  # RFC 9110 §8.6
        fields.append(("content-length", str(len(body))))
    connection.send_headers(stream, [(":status", str(int(status))), *dated(fields, "date")])
    if body and not to_head:
        stream.write(body)
    if not malformed:
        stream.write_eof()
    try:
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(limits.close_linger):
            while stream.unsent:
                await stream.drain()
    finally:
        if malformed:
            connection.fail_stream(stream, ErrorCode.PROTOCOL_ERROR, "a malformed request")
        stream.abort()


async def request_websocket(
    connection: Http2Connection, handshake: ClientHandshake, limits: Limits
) -> tuple[Http2Stream, Headers]:
    """Ask for a WebSocket on a stream of its own, as a client; the connection must have room.

    Returns:
        The stream, and the headers of the 2xx. Cancelled or failed, the stream is gone.

    Raises:
        HandshakeRejected: the answer is another status.
        InvalidHandshake: the answer is malformed, or there is none.
        StreamReset: the request was not looked at, and may be sent on another connection; over HTTP/1.1 if the server
            wants that.
        OSError: the connection broke.
    """
    stream = connection.open_stream(handshake.http2_request())
    try:
        status, headers, ended = await _read_answer(connection, stream)
        handshake.note_answer(status, headers)
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:  # RFC 8441 §4: any 2xx
            rejection = handshake.reject(status, headers)
            await read_rejection_body(rejection, partial(_read_body, stream, limits), limits)
            raise rejection
        if ended:
            raise InvalidHandshake(f"the server's answer {status} ends the stream: no WebSocket can follow")
        return stream, headers
    except BaseException:  # cancelled or failed: nothing is left open
        stream.abort()
        raise


async def _read_answer(connection: Http2Connection, stream: Http2Stream) -> tuple[int, Headers, bool]:
    """Read on to the answer that counts: its status, its headers, and whether it ends the stream."""
    for _ in range(MAX_INFORMATIONAL + 1):
        while not stream.answers and not stream.remote_ended:
            await stream.wait_readable()
        if not stream.answers:
            raise _why_none(stream)
        fields, ended = stream.answers.pop(0)
        if fields is None:
            raise InvalidHandshake("the headers of the server's answer are larger than max_head_size or max_headers")
        try:
            status, headers = read_http2_answer(fields)
            if status >= HTTPStatus.OK:
                return status, headers, ended
            if ended:  # RFC 9113 §8.1
                raise InvalidHandshake(f"the server's answer is malformed: an interim {status} ends the stream")
        except InvalidHandshake as error:
            connection.reset(stream, ErrorCode.PROTOCOL_ERROR, str(error))  # RFC 9113 §8.1.1
            raise
    raise InvalidHandshake(f"the server sent {MAX_INFORMATIONAL} interim answers and no other")


def _why_none(stream: Http2Stream) -> Exception:
    error = stream.error
    if isinstance(error, OSError) or (isinstance(error, StreamReset) and (error.retryable or error.wants_http1)):
        return error
    return unanswered(f"the server did not answer: {error or 'it ended the stream'!s:.256}", error)


def unanswered(message: str, error: Exception | None) -> InvalidHandshake:
    """Make the error for a request that got no answer.

    Args:
        message: what happened.
        error: what ended the stream or the connection, None if the server just left.
    """
    no_answer = error is None or (isinstance(error, StreamReset) and not error.objects)
    return InvalidHandshake(message, no_answer=no_answer)


async def _read_body(stream: Http2Stream, limits: Limits, body: bytearray) -> None:
    """Read the body of a rejection, as much of it as is wanted."""
    while len(body) < limits.max_body_size and (data := stream.read()) != b"":
        if data is None:
            await stream.wait_readable()
        else:
            body += data
            stream.give_back()
