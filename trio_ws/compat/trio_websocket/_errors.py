"""The exceptions of trio-websocket, and how ours become them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from ... import _exceptions as ours

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..._wire.headers import Headers

_NAMES = {
    1000: "NORMAL_CLOSURE",
    1001: "GOING_AWAY",
    1002: "PROTOCOL_ERROR",
    1003: "UNSUPPORTED_DATA",
    1005: "NO_STATUS_RCVD",
    1006: "ABNORMAL_CLOSURE",
    1007: "INVALID_FRAME_PAYLOAD_DATA",
    1008: "POLICY_VIOLATION",
    1009: "MESSAGE_TOO_BIG",
    1010: "MANDATORY_EXT",
    1011: "INTERNAL_ERROR",
    1012: "SERVICE_RESTART",
    1013: "TRY_AGAIN_LATER",
    1015: "TLS_HANDSHAKE_FAILED",
}


class CloseReason:
    """Why a WebSocket was closed."""

    def __init__(self, code: int, reason: str | None) -> None:
        self._code = code
        self._reason = reason

    @property
    def code(self) -> int:
        """The close code."""
        return self._code

    @property
    def name(self) -> str:
        """What the code is called."""
        if self._code in _NAMES:
            return _NAMES[self._code]
        ranges = {1: "RFC_RESERVED", 2: "RFC_RESERVED", 3: "IANA_RESERVED", 4: "PRIVATE_RESERVED"}
        return ranges.get(self._code // 1000, "INVALID_CODE")

    @property
    def reason(self) -> str | None:
        """The text that came with the code; None if none did."""
        return self._reason

    def __repr__(self) -> str:
        return f"{type(self).__name__}<code={self.code}, name={self.name}, reason={self.reason}>"


class HandshakeError(Exception):
    """Connecting or disconnecting failed."""


class ConnectionTimeout(HandshakeError):
    """Connecting took too long."""


class DisconnectionTimeout(HandshakeError):
    """The peer did not close in time."""


class ConnectionRejected(HandshakeError):
    """The server said no.

    Attributes:
        status_code: the HTTP status.
        headers: names in lower case, and values.
        body: what came with it, cut at ``Limits.max_body_size``.
    """

    def __init__(self, status_code: int, headers: tuple[tuple[bytes, bytes], ...], body: bytes | None) -> None:
        super().__init__(status_code, headers, body)
        self.status_code = status_code
        self.headers = headers
        self.body = body

    def __str__(self) -> str:
        return f"the server rejected the WebSocket handshake with HTTP status {self.status_code}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}<status_code={self.status_code}>"


class ConnectionClosed(Exception):
    """The connection is closed or closing; ``__cause__`` is what trio_ws says of it.

    Attributes:
        reason: the code and the text; None if they are not known.
    """

    def __init__(self, reason: CloseReason | None) -> None:
        super().__init__(reason)
        self.reason = reason

    def __repr__(self) -> str:
        return f"{type(self).__name__}<{self.reason}>"


def as_pairs(headers: Headers, *, without: frozenset[str] = frozenset()) -> tuple[tuple[bytes, bytes], ...]:
    """Give headers as trio-websocket does: bytes, names in lower case."""
    pairs = ((name.lower(), value) for name, value in headers.raw)
    return tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs if name not in without)


def close_reason(error: ours.ConnectionClosed) -> CloseReason:
    """Tell why a connection closed: what was said by the side that closed, or else that it was lost."""
    first, second = error.received, error.sent
    if isinstance(error, ours.ConnectionClosedLocally):
        first, second = second, first
    info = first or second
    return CloseReason(1006, None) if info is None else CloseReason(info.code, info.reason or None)


@contextmanager
def closed_as_theirs() -> Iterator[None]:
    """Raise the ConnectionClosed of this module in place of ours."""
    try:
        yield
    except ours.ConnectionClosed as error:
        raise ConnectionClosed(close_reason(error)) from error


@contextmanager
def handshake_as_theirs() -> Iterator[None]:
    """Raise the HandshakeError of this module in place of ours."""
    try:
        yield
    except ours.HandshakeRejected as error:
        headers = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in error.headers.items())
        raise ConnectionRejected(error.status, headers, error.body) from error
    except ours.HandshakeTimeout as error:
        raise ConnectionTimeout(str(error)) from error
    except ours.HandshakeError as error:
        raise HandshakeError(str(error)) from error
    except trio.BrokenResourceError as error:  # by a stream of the caller's
        raise HandshakeError("the connection broke in the opening handshake") from error
