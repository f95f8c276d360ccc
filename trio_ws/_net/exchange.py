"""A request for a WebSocket that waits for its answer, whichever HTTP brought it."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._exceptions import HandshakeRejected
    from .._options import Compression, Limits
    from .._transport import Transport
    from .._wire.handshake import Agreement, OpeningRequest
    from .._wire.headers import Headers, HeadersLike

BODILESS = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
REJECTION_BODY_TIMEOUT = 1.0  # seconds


def dated(fields: list[tuple[str, str]], name: str = "Date") -> list[tuple[str, str]]:
    """Add the Date that a final answer must have, unless the application gave one (RFC 9110 §6.6.1)."""
    if any(known.lower() == "date" for known, _ in fields):
        return fields
    return [*fields, (name, formatdate(usegmt=True))]


async def read_rejection_body(
    rejection: HandshakeRejected, read: Callable[[bytearray], Awaitable[None]], limits: Limits
) -> None:
    """Read the body of a refusal: ``limits.max_body_size`` bytes at most, for ``REJECTION_BODY_TIMEOUT`` at most.

    It may be slow, or never end, and the status says enough. That of a redirect is not waited for.

    Args:
        rejection: gets what has come, also when this is cancelled.
        read: adds to its argument until the body has ended, or has as many bytes as are wanted.
    """
    redirects = HTTPStatus.MULTIPLE_CHOICES <= rejection.status < HTTPStatus.BAD_REQUEST
    body = bytearray()
    try:
        with trio.move_on_after(0 if redirects else REJECTION_BODY_TIMEOUT):
            await read(body)
    finally:
        rejection.body = bytes(body[: limits.max_body_size])


def with_server(fields: list[tuple[str, str]], server: str | None, name: str = "Server") -> list[tuple[str, str]]:
    """Add the Server header, unless there is one, or ``server`` is None (RFC 9110 §10.2.4)."""
    if server is None or any(known.lower() == "server" for known, _ in fields):
        return fields
    return [*fields, (name, server)]


class Exchange(Protocol):
    """A request and the way to answer it, once.

    Attributes:
        transport: where it came from, and what carries the WebSocket.
        request: what it asks for.
        rest: bytes that came after it.
    """

    @property
    def transport(self) -> Transport: ...
    @property
    def request(self) -> OpeningRequest: ...
    @property
    def rest(self) -> bytes: ...
    def accept(
        self, *, protocol: str | None, compression: Compression | None, headers: HeadersLike
    ) -> tuple[Headers, Agreement]:
        """Accept; the transport is the WebSocket's from here on. Returns what was answered, and agreed."""

    async def refuse(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Answer with another status."""
