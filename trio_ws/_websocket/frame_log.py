"""The logger ``trio_ws.frames`` and the hooks for frames, messages and handshakes, where somebody listens."""

from __future__ import annotations

import itertools
import logging
import re
from typing import TYPE_CHECKING, Final

from .instrument import Instrument, Instruments

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._wire.handshake import HandshakeInfo
    from .._wire.headers import Headers
    from .._wire.observed import FrameInfo
    from .websocket import WebSocket

logger = logging.getLogger("trio_ws.frames")

MAX_LINE: Final = 2048  # characters that a line says of the headers of a handshake
_HIDDEN: Final = "<hidden>"
_MAX_PROTOCOL: Final = 40  # characters of a subprotocol: longer ones are tokens that had no other place

_ids = itertools.count(1)

# RFC 3986's userinfo, and what applications call their secrets, in headers and in queries.
_USERINFO = re.compile(r"(?<=//)[^/?#\s]*@")
_SECRET_NAME = re.compile(
    r"auth|cookie|token|secret|passw|pwd|api.?key|access.?key|signature|^sig$|^key$|credential|session|jwt|ticket|^code$",
    re.IGNORECASE,
)
_QUERY = re.compile(r"\?([^#\s]*)")
_PROTOCOLS = re.compile(rf"[^,\s]{{{_MAX_PROTOCOL + 1},}}")


def next_connection_id() -> int:
    """Give the number of a new connection: 1 is the first of the process."""
    return next(_ids)


def hide_secrets_of_url(url: str) -> str:
    """Hide the userinfo of a URL, and the values in its query that have a secret's name or none."""
    return _QUERY.sub(lambda query: "?" + "&".join(map(_hide_parameter, query[1].split("&"))), _USERINFO.sub("", url))


def _hide_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    if not equals:
        return parameter if len(parameter) <= _MAX_PROTOCOL else _HIDDEN
    return f"{name}={_HIDDEN}" if _SECRET_NAME.search(name) else parameter


def hide_secrets_of_headers(headers: Headers) -> list[tuple[str, str]]:
    """Hide the values of the headers that have a secret's name, and the secrets in URLs and subprotocols."""
    shown = []
    for name, value in headers.raw:
        if _SECRET_NAME.search(name):
            shown.append((name, _HIDDEN))
        elif name.lower() == "sec-websocket-protocol":
            shown.append((name, _PROTOCOLS.sub(_HIDDEN, value)))
        else:
            shown.append((name, hide_secrets_of_url(value)))
    return shown


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
