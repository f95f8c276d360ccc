"""``trio-ws demo``: a server and a client in one process, and what they say to each other over TLS on loopback.

Everything that is shown was checked: :func:`check` ends the demo with status 1 as soon as something is not as it should
be.
"""

from __future__ import annotations

import hashlib
import logging
import random
import ssl
import statistics
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import trio

from .. import (
    CloseInfo,
    ConnectionClosed,
    HandshakeRejected,
    __version__,
    open_websocket,
    serve_websocket,
)
from .._nursery import BackgroundNursery
from .arguments import add_command
from .certificates import make_authority, throwaway_context
from .running import FINE, Failure, run_interruptible
from .terminal import Progress, Screen, Style, escape, megabytes_per_second

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager

    from .. import Statistics, WebSocket, WebSocketRequest, WebSocketServer
    from .._net.tls import TLSTransport
    from .arguments import Commands
    from .running import Interrupts

_DESCRIPTION = """\
Serve on loopback with a throw-away certificate, open a wss:// WebSocket to it, and show what happens: the handshake,
the negotiated compression, text, binary and a file of 16 MiB sent and echoed back, pings, a rejection, close codes.

Exit status: 0 if everything that is shown was checked and true, 1 if not.
"""

_HOST = "127.0.0.1"
_PROTOCOLS = ("demo.v2", "demo.v1")
_CHOSEN_PROTOCOL = "demo.v1"
_TEXT = "Déjà vu: €5 for a " + "\N{SNOWMAN}"
_BINARY = bytes(range(256))
_CHUNK = 2**18
_CHUNKS = 64
_PINGS = 20
_REJECTION = b"Nobody is let in here."
_TIME_LIMIT = 60.0  # seconds; on an idle machine it takes about one
_SHOWN_HEADERS = ("Host", "Upgrade", "Connection")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """The arguments of ``trio-ws demo``: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What the server knew of a connection when it had ended."""

    info: CloseInfo
    statistics: Statistics


def add_parser(commands: Commands) -> None:
    """Add the command to the program's."""
    add_command(commands, "demo", run, DemoOptions, summary="see what the library does", description=_DESCRIPTION)


def run(options: DemoOptions) -> int:
    """Run the command and return its exit status."""
    return trio.run(run_interruptible, _limited_demo)


async def _limited_demo(interrupts: Interrupts) -> int:
    with trio.move_on_after(_TIME_LIMIT):
        await _Demo(Screen(sys.stdout)).run()
        return FINE
    raise Failure(f"the demo took more than {_TIME_LIMIT:g} s")


def make_file() -> bytes:
    """Make the file that is sent: chunks of text and chunks of random bytes in turn, the same each time."""
    source = random.Random(0)
    chunks = []
    for index in range(0, _CHUNKS, 2):
        lines = (b"chunk %d, line %d: to the server and back again\n" % (index, line) for line in range(_CHUNK // 40))
        chunks += [b"".join(lines)[:_CHUNK], source.randbytes(_CHUNK)]
    return b"".join(chunks)
