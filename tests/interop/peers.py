"""Programs of other libraries as peers of ours: how they are started, spoken to and ended.

A peer is a script that is started as ``SCRIPT server [--plain]`` or ``SCRIPT client URL [--plain]``; ``--plain``
switches its compression off. What it does on a connection is said by the last part of the URL's path:

* echo: send every message back;
* hello: send ``{"protocol": ..., "header": ...}`` first, the subprotocol and our X-Test header as the peer sees them;
* fragments: send FRAGMENTED first, each in the fragments that the peer likes;
* ping: send a ping with PING_PAYLOAD, wait for its pong, send "pong: " and what it held as text;
* big: send BIG first, close: close with PEER_CLOSE, bye: close with 1000, each in place of the echo;
* reject: a server refuses with REJECTION.

Then it goes on as with echo. It writes lines of JSON to its standard output: a server its port, then both how each
connection ended for it: ``{"code": ..., "reason": ...}``, or ``{"status", "header", "body"}`` when it was rejected.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

HERE = Path(__file__).parent
HOST = "127.0.0.1"
TIMEOUT = 30.0  # seconds for any one test: none needs a tenth of it

PROTOCOLS = ("chat.v2", "chat.v1")
CHOSEN_PROTOCOL = "chat.v1"
OUR_HEADER = ("X-Test", "from us")
PEER_HEADER = ("X-Test", "from the peer")

TEXT = "déjà vu €5 \N{GRINNING FACE}"
FRAGMENTED = (TEXT, bytes(range(256)))
BIG = "x" * 2000
PING_PAYLOAD = "are you there"
PEER_CLOSE = (4001, "the peer says goodbye")
REJECTION = (403, "no way")


def require(*programs: str) -> str:
    """Find the first of several programs on the path.

    Where there is none, CI fails and a developer's run skips the test.
    """
    for program in programs:
        found = shutil.which(program)
        if found is not None:
            return found
    reason = f"{' or '.join(programs)} is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class Output:
    """What a peer writes, line by line."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._data = bytearray()

    async def line(self) -> dict[str, object]:
        """Return the next line.

        Raises:
            EOFError: the peer ended.
        """
        while b"\n" not in self._data:
            chunk = await self._stream.receive_some()
            if not chunk:
                raise EOFError(f"the peer ended after {bytes(self._data)!r}")
            self._data += chunk
        end = self._data.index(b"\n")
        line = bytes(self._data[:end])
        del self._data[: end + 1]
        parsed = json.loads(line)
        assert isinstance(parsed, dict)
        return parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A peer that can be started.

    Attributes:
        command: the program and what follows it in front of the role.
        environment: variables to add to ours.
    """

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def started(self, *arguments: str) -> AsyncIterator[Output]:
        """Run the peer as long as the block."""
        process = await trio.lowlevel.open_process(
            [*self.command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, **self.environment},
        )
        assert process.stdout is not None
        async with process.stdout:
            try:
                yield Output(process.stdout)
            finally:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()


def python_peer(script: str, *arguments: str) -> Peer:
    """A peer that is a script of the folder ``python``."""
    return Peer(command=(sys.executable, str(HERE / "python" / script), *arguments))
