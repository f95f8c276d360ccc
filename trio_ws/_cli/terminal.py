"""What a terminal shows: text that is harmless to it, colours where they are wanted, a progress bar."""

from __future__ import annotations

import enum
import os
import shutil
import unicodedata
from typing import TYPE_CHECKING, TextIO

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NAME_WIDTH = 16
_REDRAW_INTERVAL = 0.05  # seconds
_PLAIN_STEPS = 4  # lines that a progress bar becomes where nothing can be redrawn
_MAX_BAR = 40


class Style(enum.StrEnum):
    """How text is painted, as the parameter of ECMA-48's SGR."""

    HEADING = "1"
    GOOD = "32"
    SENT = "36"
    RECEIVED = "33"
    FAINT = "2"
    WARNING = "31"


def escape(text: str) -> str:
    """Make text harmless to a terminal: a backslash sequence for each character that is not printable.

    That is every control and format character, so nothing moves the cursor, breaks the line or turns the direction of
    writing.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def count_rows(text: str, columns: int) -> int:
    """Count the rows of a terminal that printable text fills."""
    rows, column = 1, 0
    for character in text:
        width = 2 if unicodedata.east_asian_width(character) in "WF" else not unicodedata.combining(character)
        if column + width > columns:
            rows += 1
            column = 0
        column += width
    return rows


def can_move_cursor(environment: Mapping[str, str]) -> bool:
    """Tell whether a terminal understands more than plain lines."""
    return environment.get("TERM") != "dumb"


class Screen:
    """Where a command writes for people to read.

    Args:
        stream: where to.
        environment: ``NO_COLOR`` (https://no-color.org), if it is not empty, switches colours off.
    """

    def __init__(self, stream: TextIO, environment: Mapping[str, str] = os.environ) -> None:
        self._stream = stream
        self.redraws = stream.isatty() and can_move_cursor(environment)
        self._colours = self.redraws and not environment.get("NO_COLOR")

    def paint(self, text: str, style: Style) -> str:
        """Colour text where colours are wanted."""
        return f"\x1b[{style}m{text}\x1b[0m" if self._colours else text

    def line(self, text: str = "") -> None:
        """Write one line."""
        print(text, file=self._stream, flush=True)

    def heading(self, text: str) -> None:
        """Write a heading."""
        self.line()
        self.line(self.paint(text, Style.HEADING))

    def fact(self, name: str, value: str) -> None:
        """Write a name and what it stands for."""
        self.line(f"  {name:<{_NAME_WIDTH}}{value}")

    def redraw(self, text: str) -> None:
        """Write the line that the cursor is on anew, and leave it there."""
        print(f"\r{text}\x1b[K", end="", file=self._stream, flush=True)


class Progress:
    """How far something has come: one line that is redrawn, or a few lines where nothing can be redrawn.

    Args:
        screen: where to.
        total: how much there is to do.
        describe: says, of how much is done, what follows the percentage; None: so many bytes, and how fast.
    """

    def __init__(self, screen: Screen, total: int, describe: Callable[[int], str] | None = None) -> None:
        self._screen = screen
        self._total = total
        self._describe = describe or self._describe_bytes
        self._started_at = trio.current_time()
        self._next_at = self._started_at
        self._next_done = 0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return trio.current_time() - self._started_at

    def update(self, done: int) -> None:
        """Show that so much is done."""
        now = trio.current_time()
        if self._screen.redraws:
            if now >= self._next_at or done == self._total:
                self._next_at = now + _REDRAW_INTERVAL
                self._screen.redraw(self._text(done))
            if done == self._total:
                self._screen.line()
        elif done >= self._next_done:
            step = self._total // _PLAIN_STEPS
            self._next_done = (done // step + 1) * step
            self._screen.line(self._text(done))

    def _describe_bytes(self, done: int) -> str:
        return f"{done / 2**20:5.1f} of {self._total / 2**20:.1f} MiB  {megabytes_per_second(done, self.elapsed)}"

    def _text(self, done: int) -> str:
        figures = f"{done * 100 // self._total:3} %  {self._describe(done)}"
        if not self._screen.redraws:
            return f"  {figures}"
        # One column stays free: some terminals begin a new line when the last one is written.
        width = min(_MAX_BAR, shutil.get_terminal_size().columns - len(figures) - 7)
        if width < 1:
            return figures
        filled = width * done // self._total
        return f"  [{self._screen.paint('#' * filled, Style.GOOD)}{'.' * (width - filled)}]  {figures}"


def megabytes_per_second(size: int, elapsed: float) -> str:
    """Say how fast so many bytes went, in megabytes of 10**6 bytes."""
    return f"{size / 1e6 / max(elapsed, 1e-9):.1f} MB/s"
