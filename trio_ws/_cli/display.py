"""How ``trio-ws connect`` shows messages: for people at a terminal, for programs anywhere else."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from .json_layout import lay_out
from .terminal import Style, escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from .terminal import Screen

_SHOWN_BYTES = 32
_SHOWN_CHARACTERS = 2000


def raw(message: str | bytes) -> bytes:
    """Give a message as it is: text with a line end, bytes without."""
    return f"{message}\n".encode() if isinstance(message, str) else message


def unframed(message: str | bytes) -> bytes:
    """Give the bytes of a message, and nothing else."""
    return message.encode() if isinstance(message, str) else message


def plain(message: str | bytes) -> str:
    """Give a message as one line, whole if it is text."""
    return f"< {escape(message) if isinstance(message, str) else _describe_binary(message)}"


class TerminalDisplay:
    """Messages as people read them: with the time and colours, JSON laid out, long text cut short.

    Args:
        screen: knows whether there are colours.
        now: gives the time of day.
    """

    def __init__(self, screen: Screen, now: Callable[[], datetime] = datetime.now) -> None:
        self._screen = screen
        self._now = now

    def __call__(self, message: str | bytes) -> str:
        """Give a message as one or more lines, without the last line's end."""
        time = self._screen.paint(self._now().isoformat(" ", "milliseconds")[11:], Style.FAINT)
        mark = self._screen.paint("<", Style.RECEIVED)
        return f"{time} {mark} {_shorten(message) if isinstance(message, str) else _describe_binary(message)}"


def _shorten(text: str) -> str:
    # Each line is harmless by itself, so the line ends are our own.
    shown = "\n".join(map(escape, lay_out(text) or [text[: _SHOWN_CHARACTERS + 1]]))
    if len(shown) <= _SHOWN_CHARACTERS:
        return shown
    return f"{shown[:_SHOWN_CHARACTERS]} ... ({len(text):,} characters in all, --plain shows them)"


def _describe_binary(message: bytes) -> str:
    shown = message[:_SHOWN_BYTES].hex(" ")
    more = " ..." if len(message) > _SHOWN_BYTES else ""
    return f"[binary, {len(message)} bytes] {shown}{more}".rstrip()
