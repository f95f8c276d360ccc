"""Standard input and output of ``trio-ws connect``: a person at a terminal, or pipes.

Rules:

1. Reading and writing happen in threads that can be abandoned: neither a person who does not type, nor a pipe that
   nobody empties, stops the connection. They use file descriptors and not ``sys.stdin`` or ``sys.stdout``, whose locks
   an abandoned thread would still hold when Python exits.
2. With a person at a terminal, ``input()`` gives the line editing of readline. What arrives meanwhile is written into
   rows that are inserted above the line being typed, which stays as it is.
3. Nothing is written while the prompt is being drawn: it takes several writes, in another thread.
4. An abandoned ``input()`` leaves the terminal in the mode of the line editor, so :meth:`Console.session` undoes that,
   and not before the thread has got there.
5. Messages go to standard output, everything else to standard error.
"""

from __future__ import annotations

import enum
import os
import shutil
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import trio

from .running import Failure
from .terminal import can_move_cursor, count_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN, STDOUT, STDERR = 0, 1, 2

_PROMPT = "> "
_READ_SIZE = 2**16
_DRAWING_POLL = 0.002  # seconds
_DRAWING_POLLS = 100  # then it is taken for drawn: some line editors do not tell


class _Prompt(enum.Enum):
    """How the prompt stands: the thread in ``input()`` changes it, rules 3 and 4 depend on it."""

    ABSENT = enum.auto()
    COMING = enum.auto()
    SHOWN = enum.auto()


class Console:
    """Lines in, messages and notices out.

    Attributes:
        typed: whether the lines come from a terminal.
        interactive: whether what arrives is seen there, too.
    """

    def __init__(self) -> None:
        self.typed = os.isatty(STDIN)
        self.interactive = self.typed and os.isatty(STDOUT) and can_move_cursor(os.environ)
        self._prompt = _Prompt.ABSENT
        self._writing = trio.Lock()
        self._rest: list[bytes] = []  # of a line whose end has not been read

    # ---- in ----

    async def read_lines(self) -> list[bytes]:
        """Read some lines, without their ends; none at the end of the input. Cancelled, lines may be lost.

        One thread hop gives as many lines as are there: a hop for each would cost more than all else.

        Raises:
            Failure: the input cannot be read.
        """
        if self.interactive:
            line = await self._read_typed()
            return [] if line is None else [line.encode(errors="surrogateescape")]
        while data := await _read_block():
            *lines, rest = data.split(b"\n")
            if lines:
                lines[0] = b"".join([*self._rest, lines[0]])
                self._rest = [rest]
                return [line.removesuffix(b"\r") for line in lines]
            self._rest.append(rest)
        last, self._rest = b"".join(self._rest), []
        return [last] if last else []

    async def _read_typed(self) -> str | None:
        async with self._writing:
            self._prompt = _Prompt.COMING
        return await trio.to_thread.run_sync(self._ask, abandon_on_cancel=True)

    def _ask(self) -> str | None:
        try:
            import readline  # gives input() its editing and history

            readline.set_pre_input_hook(self._prompt_is_shown)  # type: ignore[attr-defined, unused-ignore]  # on Windows
        except (ImportError, AttributeError):  # not every Python has it, nor every line editor the hook
            self._prompt_is_shown()
        try:
            line = input(_PROMPT)
        except EOFError:
            return None
        finally:
            self._prompt = _Prompt.ABSENT
        return line

    def _prompt_is_shown(self) -> None:
        self._prompt = _Prompt.SHOWN

    @contextmanager
    def session(self) -> Iterator[None]:
        """Leave the terminal as it was, even when ``input()`` was abandoned in the midst of a line."""
        if not self.interactive or sys.platform == "win32":
            yield
            return
        import termios

        attributes = termios.tcgetattr(STDIN)
        try:
            yield
        finally:
            for _ in range(_DRAWING_POLLS):
                if self._prompt is not _Prompt.COMING:
                    break
                time.sleep(_DRAWING_POLL)
            self._prompt = _Prompt.ABSENT
            _write(STDOUT, b"\n")
            termios.tcsetattr(STDIN, termios.TCSADRAIN, attributes)

    # ---- out ----

    async def show(self, data: bytes) -> None:
        """Write bytes to standard output as they are.

        Raises:
            BrokenPipeError: nobody reads it any more.
            Failure: it cannot be written.
        """
        async with self._writing:
            await _write_in_thread(STDOUT, data)

    async def show_lines(self, lines: list[str]) -> None:
        """Write lines to standard output, all at once; they are printable.

        Raises:
            BrokenPipeError: nobody reads it any more.
            Failure: it cannot be written.
        """
        await self._write_lines(STDOUT, lines)

    async def tell(self, text: str) -> None:  # noqa: ASYNC910  # writing is a checkpoint, also when it fails
        """Write one line to standard error; ``text`` is printable. Whether anybody reads it does not matter."""
        with suppress(BrokenPipeError, Failure):
            await self._write_lines(STDERR, [text])

    async def _write_lines(self, descriptor: int, lines: list[str]) -> None:
        async with self._writing:
            for _ in range(_DRAWING_POLLS):
                if self._prompt is not _Prompt.COMING:
                    break
                await trio.sleep(_DRAWING_POLL)
            prompting = self._prompt is not _Prompt.ABSENT
            ended = _insertion if prompting and os.isatty(descriptor) else "{}\n".format
            text = "".join(map(ended, lines))
            await _write_in_thread(descriptor, text.encode(errors="backslashreplace"))


async def _read_block() -> bytes:
    try:
        return await trio.to_thread.run_sync(os.read, STDIN, _READ_SIZE, abandon_on_cancel=True)
    except OSError as error:
        raise Failure(f"cannot read standard input: {error.strerror}") from None


async def _write_in_thread(descriptor: int, data: bytes) -> None:
    try:
        await trio.to_thread.run_sync(_write, descriptor, data, abandon_on_cancel=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failure(f"cannot write: {error.strerror}") from None


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _insertion(text: str) -> str:
    """Write text above the row of the cursor, and bring the cursor back to where it was in its row."""
    columns, rows = shutil.get_terminal_size()
    height = count_rows(text, columns)
    if height >= rows:
        return f"\r\x1b[J{text}\n{_PROMPT}"
    # Save the cursor; make sure of free rows below; insert rows; restore the cursor, whose row has moved down.
    return "\x1b7" + "\n" * height + f"\x1b[{height}A\r\x1b[{height}L{text}\x1b8\x1b[{height}B"
