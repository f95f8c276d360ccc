"""What a line of the input of ``trio-ws connect`` asks for."""

from __future__ import annotations

from dataclasses import dataclass

from .._close import NORMAL, check_close
from .._websocket.base import check_payload


class InputError(Exception):
    """A line that cannot be obeyed; the message says why."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message."""

    value: str | bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """Send a ping; None: with a payload of the library's choice."""

    payload: bytes | None


@dataclass(frozen=True, slots=True)
class Bye:
    """Close the connection."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Help:
    """Tell the commands."""


Command = Send | Ping | Bye | Help


def decode_line(line: bytes) -> str:
    """Decode a line as UTF-8.

    Raises:
        InputError: it is something else.
    """
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise InputError("the line is not UTF-8") from None


def parse_line(line: bytes) -> Command:
    """Parse a line: a command if it begins with one slash, else a text message.

    Raises:
        InputError: it is not UTF-8, no command, or a command with wrong arguments.
    """
    text = decode_line(line)
    if not text.startswith("/"):
        return Send(text)
    if text.startswith("//"):
        return Send(text[1:])
    name, _, rest = text.partition(" ")
    try:
        match name:
            case "/ping":
                return Ping(check_payload(rest.encode()) if rest else None)
            case "/binary":
                return Send(bytes.fromhex(rest))
            case "/close":
                return _parse_close(rest)
            case "/help":
                return Help()
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
    raise InputError(f"there is no command {name}; /help tells those that are, and //TEXT sends /TEXT")


def _parse_close(rest: str) -> Bye:
    digits, _, reason = rest.strip().partition(" ")
    if digits and not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{digits!r} is not a close code")
    code = int(digits) if digits else NORMAL
    check_close(code, reason)
    return Bye(code, reason)
