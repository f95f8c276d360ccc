"""Every error of the library, under one root; each also *is* the trio or built-in error that it means.

::

    WebSocketError
        InvalidURL                 (ValueError)
        HandshakeError
            HandshakeRejected      a well-formed "no": status, headers, body
            InvalidHandshake       an answer that breaks the rules
            ProxyError             the proxy said no, or nonsense
            HandshakeTimeout       (trio.TooSlowError)
                ProxyTimeout       (ProxyError) ... the proxy let the time pass
        ConnectionClosed           received, sent
            ConnectionClosedOK     (trio.EndOfChannel)          the peer said 1000, 1001 or no code
            ConnectionClosedError  (trio.BrokenResourceError)   anything else; __cause__ says why
            ConnectionClosedLocally (trio.ClosedResourceError)  this side closed it
        ProtocolError
            LocalProtocolError     this side asked for what the protocol forbids; nothing was sent
            RemoteProtocolError    the peer broke a rule
                MessageTooBig      ... the one on size

``OSError`` from DNS and TCP, and ``ssl.SSLError``, pass unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, overload

import trio

from ._close import (
    ABNORMAL,
    MESSAGE_TOO_BIG,
    NORMAL,
    PROTOCOL_ERROR,
    CloseInfo,
    check_close,
    is_sendable,
    truncate_reason,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

E = TypeVar("E", bound=BaseException)


class WebSocketError(Exception):
    """The root of all errors of this library; raised inside a connection's scope, it closes with its code.

    It does so too when it comes out of a nursery inside the scope, alone in its exception groups. A server takes it for
    no failure of its handler.

    It takes ``WebSocketError(close_code, reason)``, or a message first as any exception does:
    ``WebSocketError("bad move", close_code=4001, reason="cheating")``. A reason without a code means code 1000.

    Raises:
        TypeError: close_code is no int, or reason is no str.
        ValueError: close_code is none that may be sent (1000 to 1003, 1007 to 1014, 3000 to 4999), or reason is over
            123 bytes of UTF-8.

    Source: WHATWG WebSockets, ``WebSocketError(message, {closeCode, reason})``; undici's class of that name. Other
    than theirs it takes every code that RFC 6455 §7.4 gives to endpoints.
    """

    close_code: int | None = None
    reason: str = ""

    @overload
    def __init__(self, close_code: int, reason: str = "", /) -> None: ...
    @overload
    def __init__(self, message: str = "", /, *, close_code: int | None = None, reason: str = "") -> None: ...
    def __init__(
        self, first: int | str = "", second: str = "", /, *, close_code: int | None = None, reason: str = ""
    ) -> None:
        message = ""
        if isinstance(first, str):
            if second:
                raise TypeError("a reason after a message is given by name: reason=...")
            message = first
        else:
            close_code, reason = first, second
        if close_code is None and reason:
            close_code = NORMAL
        check_close(close_code, reason, name="close_code")
        self.close_code = close_code
        self.reason = reason
        super().__init__(message or (f"{close_code} {reason}".rstrip() if close_code is not None else ""))


class InvalidURL(WebSocketError, ValueError):
    """A URL that is no WebSocket URL; raised before any I/O."""


class HandshakeError(WebSocketError):
    """The opening handshake failed; no connection came about.

    Attributes:
        no_answer: True when nothing came that answers the request: the other end was gone, busy or out of reach.
            Another attempt may go better.
    """

    no_answer: bool = False

    def __init__(self, message: str = "", /, *, no_answer: bool = False) -> None:
        super().__init__(message)
        if no_answer:
            self.no_answer = True


class HandshakeRejected(HandshakeError):
    """The server answered the opening handshake with another status than the one that accepts it.

    Attributes:
        status: the HTTP status, 403 say.
        headers: the headers of the answer, a case-insensitive mapping.
        body: the body of the answer, as much of it as came within a second, cut at ``Limits.max_body_size``. That of a
            redirect is not waited for.
    """

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        super().__init__(f"the server rejected the WebSocket handshake with HTTP status {status}")
        self.status = status
        self.headers = headers
        self.body = body

    def __reduce__(self) -> tuple[type[Self], tuple[int, Mapping[str, str], bytes], dict[str, object]]:
        return type(self), (self.status, self.headers, self.body), vars(self)


class InvalidHandshake(HandshakeError):
    """The peer's part of the opening handshake is missing, or breaks a rule of RFC 6455, 7692 or 8441."""


class ProxyError(HandshakeError):
    """The proxy refused the tunnel, answered with something that is no answer, or with nothing: ``no_answer``.

    Attributes:
        status: the HTTP status of a refusal, 407 say; None if there is none.
        headers: the headers of the refusal, a case-insensitive mapping; None if there are none.
    """

    status: int | None = None
    headers: Mapping[str, str] | None = None


class HandshakeTimeout(HandshakeError, trio.TooSlowError):
    """Connecting and the opening handshake took longer than ``connect_timeout``."""

    no_answer = True


class ProxyTimeout(ProxyError, HandshakeTimeout):
    """``connect_timeout`` has passed, and what was being waited for is the proxy."""


class ConnectionClosed(WebSocketError):
    """The connection is closed: nothing more can be sent or received.

    Attributes:
        received: what the peer's Close frame said, None if there was none.
        sent: what our Close frame said, None if none was sent.
        code: the close code as RFC 6455 §7.1.5 defines it: the one that was received, else 1006. In
            ConnectionClosedLocally, without a received one, the one that this side sent. What this side sent when it
            failed the connection is ``sent``, and ``__cause__`` says why.
        reason: the text that belongs to code.
        was_clean: True when both Close frames went.
    """

    def __init__(self, received: CloseInfo | None, sent: CloseInfo | None) -> None:
        self.received = received
        self.sent = sent
        super().__init__(_describe(received, sent))
        decisive = self._decisive()
        self.code: int = decisive.code
        self.close_code: int | None = decisive.code
        self.reason: str = decisive.reason
        self.was_clean: bool = received is not None and sent is not None

    def __reduce__(self) -> tuple[type[Self], tuple[CloseInfo | None, CloseInfo | None], dict[str, object]]:
        return type(self), (self.received, self.sent), vars(self)

    def _decisive(self) -> CloseInfo:
        return self.received or CloseInfo(ABNORMAL)


class ConnectionClosedOK(ConnectionClosed, trio.EndOfChannel):
    """The peer closed with 1000, 1001 or no code: the normal end, which ends an ``async for`` quietly."""


class ConnectionClosedError(ConnectionClosed, trio.BrokenResourceError):
    """The connection was lost, failed, or closed by the peer with an error code; ``__cause__`` says why if known."""


class ConnectionClosedLocally(ConnectionClosed, trio.ClosedResourceError):
    """This side closed the connection."""

    def _decisive(self) -> CloseInfo:
        return self.received or self.sent or CloseInfo(ABNORMAL)


class ProtocolError(WebSocketError):
    """A rule of the protocol was broken; raised as one of its two subclasses."""


class LocalProtocolError(ProtocolError):
    """This side asked for something that the protocol forbids; nothing was sent."""


class RemoteProtocolError(ProtocolError):
    """The peer broke a rule; the connection is failed with ``close_code``."""

    close_code: int

    def __init__(self, message: str, close_code: int = PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.close_code = close_code
        self.reason = message


class MessageTooBig(RemoteProtocolError):
    """A message is larger than ``Limits.max_message_size``: close code 1009."""

    def __init__(self, message: str) -> None:
        super().__init__(message, MESSAGE_TOO_BIG)


def closes_with(error: BaseException) -> tuple[int, str] | None:
    """Tell with which code and reason a connection closes when this error leaves its block.

    These are of a WebSocketError with a code that may be sent, also when it comes out of a nursery: alone in its
    exception groups, however deep. Cancelled beside it is the nursery's doing, and ConnectionClosed what the other
    tasks met, so neither counts.

    Returns:
        Code and reason; None if the error asks for none, or several errors ask for different ones.
    """
    raised = [leaf for leaf in leaves(error) if not isinstance(leaf, trio.Cancelled)]
    decided = [leaf for leaf in raised if not isinstance(leaf, ConnectionClosed)] or raised
    asked = {_asks_for(leaf) for leaf in decided}
    return asked.pop() if len(asked) == 1 else None


def _asks_for(error: BaseException) -> tuple[int, str] | None:
    if isinstance(error, WebSocketError) and error.close_code is not None and is_sendable(error.close_code):
        return error.close_code, truncate_reason(error.reason)
    return None


def is_only_closed(error: BaseException) -> bool:
    """Tell whether nothing else was met than that connections are closed."""
    return all(isinstance(leaf, ConnectionClosed) for leaf in leaves(error))


def leaves(error: E | None) -> Iterator[E]:
    """Give an error, or what is in its exception groups instead of these; nothing for None."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from leaves(one)
    elif error is not None:
        yield error


def _describe(received: CloseInfo | None, sent: CloseInfo | None) -> str:
    if received is None and sent is None:
        return "the connection was lost: no Close frame was received or sent"
    told = f"received {received}" if received else "no Close frame received"
    return f"{told}; sent {sent}" if sent else f"{told}; none sent"
