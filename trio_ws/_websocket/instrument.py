"""Hooks that tell what happens on connections: undici's diagnostics channels, in the shape of trio's instruments."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .._close import CloseInfo
    from .._wire.handshake import HandshakeInfo
    from .._wire.observed import FrameInfo
    from .websocket import WebSocket

logger = logging.getLogger("trio_ws.instrument")


class Instrument:
    """Override what you want to hear of, and pass an instance in ``instruments=``.

    The methods are called synchronously where the thing happens; they must not block. One that raises is logged and
    that instrument is not called again on that connection.

    Those for frames and messages are called while a frame is on its way through, and must not send or receive on their
    WebSocket. Whether an instrument overrides them is looked at when a connection opens: where none does, they cost
    nothing.
    """

    def websocket_open(self, websocket: WebSocket) -> None:
        """A connection is open (undici:websocket:open); address, protocol, extensions and headers are on it."""

    def websocket_close(self, websocket: WebSocket, info: CloseInfo) -> None:
        """A connection has ended (undici:websocket:close)."""

    def socket_error(self, websocket: WebSocket, error: BaseException) -> None:
        """A connection broke or was failed (undici:websocket:socket_error); websocket_close follows."""

    def websocket_ping(self, websocket: WebSocket, payload: bytes) -> None:
        """The peer sent a ping (undici:websocket:ping); it is answered without your help."""

    def websocket_pong(self, websocket: WebSocket, payload: bytes) -> None:
        """The peer sent a pong (undici:websocket:pong)."""

    def proxy_connected(self, proxy: str, target: str, headers: Mapping[str, str]) -> None:
        """A proxy has connected us to a server (undici:proxy:connected); the WebSocket is still to be opened.

        Args:
            proxy: the proxy's URL, without its userinfo.
            target: the server's ``host:port``.
            headers: those of the proxy's answer; none from a SOCKS proxy.
        """

    def message_sent(self, websocket: WebSocket, message: str | bytes) -> None:
        """A message was written for the peer; one that goes in pieces is told as frames only."""

    def message_received(self, websocket: WebSocket, message: str | bytes) -> None:
        """A message has come whole, and waits for ``receive()``; one that is given in pieces is told as frames only."""

    def frame_sent(self, websocket: WebSocket, frame: FrameInfo) -> None:
        """A frame was written for the peer. A Pong that still waits when the next one comes does not go."""

    def frame_received(self, websocket: WebSocket, frame: FrameInfo) -> None:
        """The head and the first bytes of a frame have come; it is not understood yet, and may break a rule."""

    def handshake_sent(self, handshake: HandshakeInfo) -> None:
        """The request of a client, or the answer of a server's handler, was sent."""

    def handshake_received(self, handshake: HandshakeInfo) -> None:
        """The request of a client that may be accepted, or the answer of a server, has come."""


class Instruments:
    """The instruments of one connection, and the care that none of them can hurt it."""

    __slots__ = ("_instruments",)

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._instruments = list(instruments)

    def __bool__(self) -> bool:
        return bool(self._instruments)

    def put_first(self, instrument: Instrument) -> None:
        """Have this one called before the others."""
        self._instruments.insert(0, instrument)

    def hear(self, *names: str) -> bool:
        """Tell whether one of them overrides one of these methods, in its class or by itself."""
        return any(
            getattr(getattr(instrument, name), "__func__", None) is not getattr(Instrument, name)
            for instrument in self._instruments
            for name in names
        )

    def tell(self, call: Callable[[Instrument], None]) -> None:
        """Call each instrument."""
        for instrument in tuple(self._instruments):
            try:
                call(instrument)
            # It is the user's code in our hot path: whatever it raises must not end the connection.
            except Exception:
                logger.exception("%.256r raised and is not called again", instrument)
                self._instruments = [other for other in self._instruments if other is not instrument]


def check_instruments(instruments: Iterable[Instrument]) -> tuple[Instrument, ...]:
    """Check what a caller passed as ``instruments``.

    Raises:
        TypeError: one of them is no Instrument.
    """
    checked = tuple(instruments)
    for instrument in checked:
        if not isinstance(instrument, Instrument):
            raise TypeError(f"instruments: {instrument!r} is no Instrument")
    return checked
