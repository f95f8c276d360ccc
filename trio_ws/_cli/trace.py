"""What ``trio-ws connect --verbose`` tells: the handshake, and each frame."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

from .. import HandshakeRejected, Instrument
from .._websocket.frame_log import describe_frame
from .terminal import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .. import CloseInfo, FrameInfo, WebSocket

_SECRETS = ("authorization", "proxy-authorization", "cookie", "set-cookie")
_MOST_QUEUED = 1000  # lines; a peer may send pings faster than a terminal shows them


class Trace(Instrument):
    """Keeps a line for everything that happens, until it is taken; those that are too many are only counted."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._left_out = 0
        self._arrived = trio.Event()

    async def wait(self) -> None:
        """Wait until there are lines to take."""
        await self._arrived.wait()

    def take(self) -> list[str]:
        """Take the lines that are here."""
        lines = [*self._lines, f"* {self._left_out:,} more lines were left out"] if self._left_out else self._lines
        self._lines, self._left_out, self._arrived = [], 0, trio.Event()
        return lines

    def websocket_open(self, websocket: WebSocket) -> None:
        for line in describe_handshake(websocket):
            self._tell(line)

    def frame_sent(self, websocket: WebSocket, frame: FrameInfo) -> None:
        self._tell(f"> {describe_frame(frame)}")

    def frame_received(self, websocket: WebSocket, frame: FrameInfo) -> None:
        self._tell(f"< {describe_frame(frame)}")

    def socket_error(self, websocket: WebSocket, error: BaseException) -> None:
        self._tell(f"* {type(error).__name__}: {escape(str(error))}")

    def websocket_close(self, websocket: WebSocket, info: CloseInfo) -> None:
        self._tell(f"* ended with {info}, {'cleanly' if info.was_clean else 'not cleanly'}")

    def _tell(self, line: str) -> None:
        self._arrived.set()
        if len(self._lines) < _MOST_QUEUED:
            self._lines.append(line)
        else:
            self._left_out += 1


def describe_handshake(websocket: WebSocket) -> Iterator[str]:
    """Give the lines that tell an opening handshake, without its secrets."""
    address = websocket.remote_address
    if isinstance(address, tuple):
        yield f"* connected to {address[0]} port {address[1]}"
    if (tls := websocket.ssl_object) is not None:
        cipher, application = tls.cipher(), tls.selected_alpn_protocol()
        yield f"* {tls.version()}, {cipher[0] if cipher else 'no cipher'}, ALPN {application or 'not used'}"
    parts = urlsplit(websocket.url)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    http2 = websocket.http_version == "2"
    yield f"> {'CONNECT' if http2 else 'GET'} {target} HTTP/{websocket.http_version}"
    yield from _describe_headers(">", websocket.request_headers.raw)
    yield "< HTTP/2 200" if http2 else "< HTTP/1.1 101 Switching Protocols"
    yield from _describe_headers("<", websocket.response_headers.raw)


def describe_rejection(rejection: HandshakeRejected) -> Iterator[str]:
    """Give the lines that tell what the server answered."""
    try:
        phrase = HTTPStatus(rejection.status).phrase
    except ValueError:
        phrase = ""
    yield f"< HTTP {rejection.status} {phrase}".rstrip()
    yield from _describe_headers("<", rejection.headers.items())
    yield from (f"< {escape(line)}" for line in rejection.body.decode(errors="replace").splitlines())


def _describe_headers(mark: str, headers: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, value in headers:
        yield f"{mark} {escape(name)}: {'***' if name.lower() in _SECRETS else escape(value)}"
