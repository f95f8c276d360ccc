"""Close codes and reasons: what they are called, who may send which, and how they travel.

RFC 6455 §7.4 and the IANA registry. This module is the bottom of the package: it imports nothing of it, because
both the errors and the wire need it.
"""

from __future__ import annotations

from dataclasses import dataclass

NORMAL = 1000
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
NO_STATUS = 1005
ABNORMAL = 1006
INVALID_DATA = 1007
POLICY_VIOLATION = 1008
MESSAGE_TOO_BIG = 1009
INTERNAL_ERROR = 1011

MAX_REASON_BYTES = 123  # RFC 6455 §5.5: 125 bytes in a control frame, two of them for the code

_NAMES = {
    NORMAL: "OK",
    GOING_AWAY: "going away",
    PROTOCOL_ERROR: "protocol error",
    1003: "unsupported data",
    NO_STATUS: "no code",
    ABNORMAL: "connection lost",
    INVALID_DATA: "invalid data",
    POLICY_VIOLATION: "policy violation",
    MESSAGE_TOO_BIG: "message too big",
    1010: "extension missing",
    INTERNAL_ERROR: "internal error",
    1012: "service restart",
    1013: "try again later",
    1014: "bad gateway",
}

# RFC 6455 §7.4.1 with the registry's later entries: 1004 is undefined, 1005, 1006 and 1015 never travel.
_DEFINED = frozenset(_NAMES) - {NO_STATUS, ABNORMAL}


@dataclass(frozen=True, slots=True)
class CloseInfo:
    """How a connection ended, or what one Close frame said.

    Attributes:
        code: the close code that the peer sent, 1005 when its Close frame carried none. If it sent no Close frame: the
            code with which this side failed the connection, when the peer broke a rule, passed a limit or did not
            answer (RFC 6455 §7.1.7); else 1006.
        reason: the text that belongs to the code, "" if none.
        was_clean: True when both sides sent a Close frame (WHATWG ``CloseEvent.wasClean``).
    """

    code: int = ABNORMAL
    reason: str = ""
    was_clean: bool = False

    def __str__(self) -> str:
        text = f"{self.code} ({code_name(self.code)})"
        return f"{text} {self.reason!r}" if self.reason else text


def code_name(code: int) -> str:
    """Name a close code in words."""
    if code in _NAMES:
        return _NAMES[code]
    if 3000 <= code <= 3999:
        return "registered"
    if 4000 <= code <= 4999:
        return "private use"
    return "unknown"


def is_sendable(code: int) -> bool:
    """Tell whether an endpoint may put this code into a Close frame (RFC 6455 §7.4)."""
    return code in _DEFINED or 3000 <= code <= 4999


def check_close(code: int | None, reason: str, *, name: str = "code", whatwg: bool = False) -> None:
    """Check what an application wants to close with, before anything is sent.

    Args:
        code: a code that may be sent: 1000 to 1003, 1007 to 1014 or 3000 to 4999; or None for no code.
        reason: at most 123 bytes of UTF-8, and only with a code.
        name: what the caller calls the argument ``code``.
        whatwg: allow 1000 and 3000 to 4999 only, as a browser's ``close()`` does.

    Raises:
        TypeError: code is no int, or reason is no str.
        ValueError: either breaks its rule, or there is a reason without a code.
    """
    if not isinstance(reason, str):
        raise TypeError(f"reason must be a str, not {type(reason).__name__}")
    if code is None:
        if reason:
            raise ValueError(f"reason {reason!r} needs a code: a Close frame has no reason without one")
        return
    if isinstance(code, bool) or not isinstance(code, int):
        raise TypeError(f"{name} must be an int, not {type(code).__name__}")
    if not is_sendable(code) or (whatwg and NORMAL < code < 3000):
        allowed = "1000 or 3000 to 4999" if whatwg else "1000 to 1003, 1007 to 1014 or 3000 to 4999"
        raise ValueError(f"{name} {code} is not allowed: it must be {allowed}")
    try:
        size = len(reason.encode())
    except UnicodeEncodeError:
        raise ValueError(f"reason {reason!r} cannot be encoded as UTF-8") from None
    if size > MAX_REASON_BYTES:
        raise ValueError(f"reason has {size} bytes of UTF-8: at most {MAX_REASON_BYTES} fit into a Close frame")


def truncate_reason(reason: str) -> str:
    """Cut a reason that nobody has checked to what fits into a Close frame, never inside a character."""
    return reason.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore")


def close_body(code: int | None, reason: str = "") -> bytes:
    """Serialise the body of a Close frame; both were checked before."""
    return b"" if code is None else code.to_bytes(2, "big") + reason.encode()
