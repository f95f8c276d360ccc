"""What ``trio-ws connect --verbose`` tells: each head of a handshake and each frame, in the words of the frame log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .. import HandshakeRejected, Instrument
from .._websocket.frame_log import describe_frame, describe_head
from .._wire.hiding import hide_secrets_of_headers
from .terminal import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .. import CloseInfo, FrameInfo, HandshakeInfo, WebSocket

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
        for line in describe_transport(websocket):
            self._tell(line)

    def handshake_sent(self, handshake: HandshakeInfo) -> None:
        self._tell_head(">", handshake)

    def handshake_received(self, handshake: HandshakeInfo) -> None:
        self._tell_head("<", handshake)

    def frame_sent(self, websocket: WebSocket, frame: FrameInfo) -> None:
        self._tell(f"> {describe_frame(frame)}")

    def frame_received(self, websocket: WebSocket, frame: FrameInfo) -> None:
        self._tell(f"< {describe_frame(frame)}")

    def socket_error(self, websocket: WebSocket, error: BaseException) -> None:
        self._tell(f"* {type(error).__name__}: {escape(str(error))}")

    def websocket_close(self, websocket: WebSocket, info: CloseInfo) -> None:
        self._tell(f"* ended with {info}, {'cleanly' if info.was_clean else 'not cleanly'}")

    def _tell_head(self, mark: str, handshake: HandshakeInfo) -> None:
        self._tell(f"{mark} {describe_head(handshake)}")
        for name, value in hide_secrets_of_headers(handshake.headers):
            self._tell(f"{mark} {escape(name)}: {escape(value)}")

    def _tell(self, line: str) -> None:
        self._arrived.set()
        if len(self._lines) < _MOST_QUEUED:
            self._lines.append(line)
        else:
            self._left_out += 1


def describe_transport(websocket: WebSocket) -> Iterator[str]:
    """Give the lines that tell what carries a WebSocket."""
    address = websocket.remote_address
    if isinstance(address, tuple):
        yield f"* connected to {address[0]} port {address[1]}"
    if (tls := websocket.ssl_object) is not None:
        cipher, application = tls.cipher(), tls.selected_alpn_protocol()
        yield f"* {tls.version()}, {cipher[0] if cipher else 'no cipher'}, ALPN {application or 'not used'}"


def describe_body(rejection: HandshakeRejected) -> Iterator[str]:
    """Give the lines that tell what the server had to say under the head of its answer."""
    yield from (f"< {escape(line)}" for line in rejection.body.decode(errors="replace").splitlines())
