"""What a reader makes of a peer's bytes: messages as they are, control frames, pieces of messages."""

from __future__ import annotations

from dataclasses import dataclass

from .._close import INVALID_DATA, NO_STATUS, CloseInfo, is_sendable
from .._exceptions import RemoteProtocolError
from .frames import Opcode


@dataclass(frozen=True, slots=True)
class Ping:
    """A Ping frame came."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A Pong frame came."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """A Close frame came; nothing after it counts (RFC 6455 §5.5.1)."""

    info: CloseInfo


@dataclass(frozen=True, slots=True)
class Start:
    """A message begins that is given in pieces."""

    is_text: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """What has come of the message that is given in pieces; text is cut between characters."""

    data: str | bytes
    final: bool


Event = str | bytes | Ping | Pong | Close | Start | Piece


def decode_text(payload: bytes | bytearray) -> str:
    """Decode a whole text (RFC 6455 §8.1)."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError("text is not UTF-8", INVALID_DATA) from None


def control_event(opcode: int, payload: bytes) -> Event:
    """Give the event of a control frame.

    Raises:
        RemoteProtocolError: a Close that breaks a rule.
    """
    if opcode == Opcode.PING:
        return Ping(payload)
    if opcode == Opcode.PONG:
        return Pong(payload)
    if not payload:
        return Close(CloseInfo(NO_STATUS))
    if len(payload) == 1:
        raise RemoteProtocolError("a Close frame with one byte")  # RFC 6455 §5.5.1
    code = int.from_bytes(payload[:2], "big")
    if not is_sendable(code):
        raise RemoteProtocolError(f"close code {code} must not be sent")  # RFC 6455 §7.4
    return Close(CloseInfo(code, decode_text(payload[2:])))
