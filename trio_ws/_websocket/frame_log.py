"""The logger ``trio_ws.frames`` and the hooks for frames, messages and handshakes, where somebody listens."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Final

from .._wire.hiding import hide_secrets_of_headers, hide_secrets_of_url
from .instrument import Instrument, Instruments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._wire.handshake import HandshakeInfo
    from .._wire.observed import FrameInfo
    from .websocket import WebSocket

logger = logging.getLogger("trio_ws.frames")

MAX_LINE: Final = 2048  # characters that a line says of the headers of a handshake

_ids = itertools.count(1)


def next_connection_id() -> int:
    """Give the number of a new connection: 1 is the first of the process."""
    return next(_ids)


def handshake_listener(
    instruments: Sequence[Instrument], *, logs: bool = True
) -> Callable[[HandshakeInfo], None] | None:
    """Make what tells the log, and these instruments, of the heads of a handshake; None: nobody listens.

    Args:
        instruments: are told, if one of them overrides the hooks.
        logs: whether this one writes the lines of the log, if that is on.
    """
    told = Instruments(instruments)
    logs = logs and logger.isEnabledFor(logging.DEBUG)
    if not logs and not told.hear("handshake_sent", "handshake_received"):
        return None

    def tell(info: HandshakeInfo) -> None:
        if logs:
            _log_handshake(info)
        if info.sent:
            told.tell(lambda instrument: instrument.handshake_sent(info))
        else:
            told.tell(lambda instrument: instrument.handshake_received(info))

    return tell


def _log_handshake(info: HandshakeInfo) -> None:
    # What the peer has written is escaped.
    shown = ascii(hide_secrets_of_headers(info.headers))
    direction = ">" if info.sent else "<"
    logger.debug("#%d %s %.*s %.*s", info.id, direction, MAX_LINE, describe_head(info), MAX_LINE, shown)


def describe_head(info: HandshakeInfo) -> str:
    """Say what the head of a handshake begins with: ``HTTP/1.1 GET ws://127.0.0.1/`` or ``HTTP/1.1 101``."""
    what = info.status or f"{'GET' if info.http_version == '1.1' else 'CONNECT'} {hide_secrets_of_url(info.url)}"
    return f"HTTP/{info.http_version} {what}"


class FrameObserver(Instrument):
    """Tells the log and the instruments of one connection's frames and messages.

    Args:
        connection_id: what the lines of this connection begin with.
        instruments: those of the connection.
    """

    def __init__(self, connection_id: int, instruments: Instruments) -> None:
        self._id = connection_id
        self._instruments = instruments
        self._logs = logger.isEnabledFor(logging.DEBUG)
        self._hears_frames = instruments.hear("frame_sent", "frame_received")
        self._hears_messages = instruments.hear("message_sent", "message_received")
        self._websocket: WebSocket

    def __bool__(self) -> bool:
        return self._logs or self._hears_frames or self._hears_messages

    def websocket_open(self, websocket: WebSocket) -> None:
        """Learn whose frames these are, before an instrument hears of the opening and sends."""
        self._websocket = websocket

    def frame(self, frame: FrameInfo, *, sent: bool) -> None:
        """Tell of a frame."""
        if self._logs:
            logger.debug("#%d %s %s", self._id, ">" if sent else "<", describe_frame(frame))
        if self._hears_frames:
            what = "frame_sent" if sent else "frame_received"
            self._instruments.tell(lambda instrument: getattr(instrument, what)(self._websocket, frame))

    def message(self, message: str | bytes, *, sent: bool) -> None:
        """Tell of a message."""
        if self._hears_messages:
            what = "message_sent" if sent else "message_received"
            self._instruments.tell(lambda instrument: getattr(instrument, what)(self._websocket, message))


def describe_frame(frame: FrameInfo) -> str:
    """Say what a frame is, in a line: ``TEXT fin masked 5 bytes b'hello'``."""
    flags = [
        *(["fin"] if frame.fin else []),
        *(["rsv1"] if frame.rsv1 else []),
        *(["reserved bits"] if frame.reserved else []),
        *(["masked"] if frame.masked else []),
    ]
    more = "..." if frame.length > len(frame.first_bytes) else ""
    return " ".join([frame.name, *flags, f"{frame.length} bytes {frame.first_bytes!r}{more}"])
