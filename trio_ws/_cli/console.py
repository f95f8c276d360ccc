"""Standard input and output of ``trio-ws connect``: a person at a terminal, or pipes.

Rules:

1. Reading and writing of pipes happen in threads that can be abandoned: a pipe that nobody fills or empties does not
   stop the connection. They use file descriptors and not ``sys.stdin`` or ``sys.stdout``, whose locks an abandoned
   thread would still hold when Python exits.
2. A hop to a thread and back costs more than a message. So what is there is read and written at once.
3. With a person at a terminal, and prompt_toolkit, lines are edited, and what arrives is written above the line that is
   being typed, which stays as it is.
4. Messages go to standard output, everything else to standard error.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from .running import Failure
from .terminal import can_move_cursor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from .prompt import Prompt

STDIN, STDOUT, STDERR = 0, 1, 2

_READ_SIZE = 2**16


class Console:
    """Lines in, messages and notices out.

    Args:
        reads: whether anything is read from standard input.
        history: the file that keeps what is typed; None: nothing is kept.

    Attributes:
        typed: whether the lines come from a terminal.
        interactive: whether they are edited there, below what arrives.
        advice: what would make them so; None: nothing, or they are.
    """

    def __init__(self, *, reads: bool = True, history: Path | None = None) -> None:
        self.typed = reads and os.isatty(STDIN)
        self.advice: str | None = None
        self._prompt: Prompt | None = None
        self._prompting = False
        self._writing = trio.Lock()
        self._rest: list[bytes] = []  # of a line whose end has not been read
        if self.typed and os.isatty(STDOUT) and can_move_cursor(os.environ):
            try:
                from .prompt import Prompt
            except ImportError:
                self.advice = "lines are edited and kept between runs with prompt_toolkit: pip install prompt_toolkit"
            else:
                self._prompt = Prompt(history)
        self.interactive = self._prompt is not None

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """Let lines be typed for as long as the block lasts; afterwards the terminal is as it was."""
        if self._prompt is None:
            yield
            return
        async with self._prompt.shown():
            self._prompting = True
            try:
                yield
            finally:
                self._prompting = False

    async def end_prompt(self) -> None:
        """Take the prompt away before the session ends, so that nothing is told above it any more."""
        if self._prompting and self._prompt is not None:
            self._prompting = False
            await self._prompt.end()

    # ---- in ----

    async def read_lines(self) -> list[bytes]:
        """Read some lines, without their ends; none at the end of the input. Cancelled, lines may be lost.

        Raises:
            Failure: the input cannot be read.
        """
        if self._prompt is not None:
            line = await self._prompt.read_line()
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

    async def read_blocks(self) -> list[bytes]:
        """Read some bytes, as they come; none at the end of the input. Cancelled, bytes may be lost.

        Raises:
            Failure: the input cannot be read.
        """
        data = await _read_block()
        return [data] if data else []

    # ---- out ----

    async def show(self, data: bytes) -> None:
        """Write bytes to standard output as they are.

        Raises:
            BrokenPipeError: nobody reads it any more.
            Failure: it cannot be written.
        """
        await self._write(STDOUT, data)

    async def show_lines(self, lines: list[str]) -> None:
        """Write lines to standard output, all at once; they are harmless to a terminal.

        Raises:
            BrokenPipeError: nobody reads it any more.
            Failure: it cannot be written.
        """
        await self._write(STDOUT, _join(lines))

    async def tell(self, *lines: str) -> None:  # noqa: ASYNC910  # writing is a checkpoint, also when it fails
        """Write lines to standard error; they are harmless to a terminal. If nobody reads them, so be it."""
        with suppress(BrokenPipeError, Failure):
            await self._write(STDERR, _join(lines))

    async def _write(self, descriptor: int, data: bytes) -> None:
        async with self._writing:
            try:
                if self._prompting and self._prompt is not None and os.isatty(descriptor):
                    await self._prompt.write(partial(_write, descriptor, data))
                else:
                    await trio.to_thread.run_sync(_write, descriptor, data, abandon_on_cancel=True)
            except BrokenPipeError:
                raise
            except OSError as error:
                raise Failure(f"cannot write: {error.strerror}") from None


async def _read_block() -> bytes:
    try:
        return await trio.to_thread.run_sync(os.read, STDIN, _READ_SIZE, abandon_on_cancel=True)
    except OSError as error:
        raise Failure(f"cannot read standard input: {error.strerror}") from None


def _join(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
