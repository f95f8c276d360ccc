"""The command as its users run it: the program, its standard streams, its lines."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from trio_ws._cli import build_parser
from trio_ws._cli.running import run_interruptible

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "trio_ws"]
HOST = "127.0.0.1"
TIMEOUT = 30.0  # seconds for anything that could hang: none needs a tenth of it


def run_program(*arguments: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        capture_output=True,
        cwd=ROOT,
        env=os.environ | environment,
        timeout=TIMEOUT,
    )


class Lines:
    """The lines of a stream."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._data = b""

    async def next(self) -> str:
        """Wait for the next line, "" at the end."""
        while b"\n" not in self._data:
            data = await self._stream.receive_some()
            if not data:
                return ""
            self._data += data
        line, _, self._data = self._data.partition(b"\n")
        return line.decode()

    async def rest(self) -> str:
        """Wait for the end, and return what came before it."""
        async for data in self._stream:
            self._data += data
        return self._data.decode()


@asynccontextmanager
async def running(*arguments: str) -> AsyncGenerator[tuple[trio.Process, Lines], None]:
    """Run the command for as long as the block lasts; its two outputs are one."""
    process = await trio.lowlevel.open_process(
        [*COMMAND, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with process.stdin, process.stdout:
        try:
            with trio.fail_after(TIMEOUT):
                yield process, Lines(process.stdout)
        finally:
            process.kill()
            await process.wait()


@contextmanager
def replaced(descriptor: int, other: int) -> Iterator[None]:
    """Have another file under a descriptor; it is closed afterwards."""
    saved = os.dup(descriptor)
    os.dup2(other, descriptor)
    os.close(other)
    try:
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)


@asynccontextmanager
async def standard_input(data: bytes, *, ends: bool = True) -> AsyncGenerator[None, None]:
    """Have data in standard input, less than a pipe holds; it ends after it, or stays silent."""
    reading, writing = os.pipe()
    os.write(writing, data)
    if ends:
        os.close(writing)
    with replaced(0, reading):
        try:
            yield
        finally:
            if not ends:
                os.close(writing)
            # A thread that was abandoned may not have begun to read: it must not take the next test's input.
            with trio.CancelScope(shield=True):
                while trio.to_thread.current_default_thread_limiter().borrowed_tokens:  # noqa: ASYNC110
                    await trio.sleep(0.001)


async def run_command(*arguments: str) -> int:
    """Run a command in this process and return its exit status; its failures come out."""
    values = vars(build_parser().parse_args(arguments))
    del values["name"]
    run, make_options = values.pop("run"), values.pop("options")
    with trio.fail_after(TIMEOUT):
        return await run_interruptible(partial(run, make_options(**values)))
