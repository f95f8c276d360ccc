"""The line that a person at a terminal is typing, edited by prompt_toolkit, and what is written above it.

prompt_toolkit is written for asyncio. Its event loop runs in a thread of its own, which changes nothing here but by
``run_sync_soon``, and is asked for nothing but by ``call_soon_threadsafe``.
"""

from __future__ import annotations

import asyncio
import math
import signal
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import trio
from prompt_toolkit import PromptSession
from prompt_toolkit.application import in_terminal
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from .._util.nursery import BackgroundNursery
from .history import prepare_history

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

_PROMPT = "> "


class _History(FileHistory):
    def store_string(self, string: str) -> None:
        with suppress(OSError):  # a full disk is no reason to end
            super().store_string(string)


class _Interrupted(Exception):
    """Ctrl-C was typed."""


class _Ended(Exception):
    """Ctrl-D was typed."""


class Prompt:
    """A prompt at the terminal of the process.

    Args:
        history: the file that keeps what is typed; None: nothing is kept.
    """

    def __init__(self, history: Path | None) -> None:
        self._history: History = InMemoryHistory()
        if history is not None and prepare_history(history):
            self._history = _History(history)
        self._typed, self._lines = trio.open_memory_channel[str](math.inf)
        self._started = trio.Event()
        self._ended = trio.Event()

    @asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Show the prompt for as long as the block lasts; afterwards the terminal is as it was."""
        self._trio = trio.lowlevel.current_trio_token()
        async with BackgroundNursery() as nursery:
            nursery.start_soon(self._run_thread)
            with trio.CancelScope(shield=True):
                await self._started.wait()
            try:
                yield
            finally:
                self._cancel()

    async def end(self) -> None:
        """Take the prompt away before the block ends; nothing can be typed or written any more."""
        self._cancel()
        await self._ended.wait()

    def _cancel(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: the thread has ended already
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _run_thread(self) -> None:
        # Not abandoned, for the terminal's sake. The thread waits for nobody once its task is cancelled.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(lambda: asyncio.run(self._edit_lines()))
        self._ended.set()

    async def read_line(self) -> str | None:
        """Wait until a line was typed; None at the end of the input, which is Ctrl-D."""
        try:
            return await self._lines.receive()
        except trio.EndOfChannel:
            return None

    async def write(self, write: Callable[[], None]) -> None:
        """Call a function, in the thread, that writes whole lines; they stand above the prompt."""
        written = trio.Event()
        self._loop.call_soon_threadsafe(lambda: self._writes.add(self._loop.create_task(self._write(write, written))))
        await written.wait()

    # ---- in the thread ----

    async def _edit_lines(self) -> None:
        self._loop, self._writes = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._trio.run_sync_soon(self._started.set)
        session: PromptSession[str] = PromptSession(
            _PROMPT, history=self._history, interrupt_exception=_Interrupted, eof_exception=_Ended
        )
        with suppress(asyncio.CancelledError):
            try:
                while True:
                    line = await session.prompt_async(handle_sigint=False)
                    self._trio.run_sync_soon(self._typed.send_nowait, line)
            except _Ended:
                self._trio.run_sync_soon(self._typed.close)
            except _Interrupted:
                signal.raise_signal(signal.SIGINT)  # Ctrl-C was read as a key
            await asyncio.Event().wait()  # what arrives is still written by this thread

    async def _write(self, write: Callable[[], None], written: trio.Event) -> None:
        try:
            async with in_terminal():
                write()
        finally:
            self._trio.run_sync_soon(written.set)
