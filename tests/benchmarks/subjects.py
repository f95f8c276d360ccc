"""The sides under test, each a process: ``python -m tests.benchmarks.subjects NAME ROLE VARIANT [PORT]``.

A server prints its port and serves; a client connects to PORT. Either obeys the orders of :mod:`.orders` on every
connection. VARIANT is "plain", "tls", "deflate", or "http2", which is over TLS; and of this library, over plain
connections, "hooks", where an instrument hears of each message, and "frame log", where each frame is formatted.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping

HOST = "127.0.0.1"
BIG = 2**24  # bytes, the largest message that any of them must take
CPU = 0  # where the side under test runs


@dataclass(frozen=True, slots=True)
class Task:
    """What one process is to do.

    Attributes:
        role: "server" or "client".
        variant: "plain", "tls", "deflate", "http2", or of this library "hooks" and "frame log".
        port: where a client connects to.
        ssl_context: for this role, if the variant has TLS.
        certificate: with its key, for those who make their own context.
    """

    role: str
    variant: str
    port: int
    ssl_context: ssl.SSLContext | None
    certificate: Path

    @property
    def deflate(self) -> bool:
        """Whether permessage-deflate is to be used."""
        return self.variant == "deflate"

    @property
    def url(self) -> str:
        """Where a client connects to."""
        return f"{'ws' if self.ssl_context is None else 'wss'}://localhost:{self.port}/"


@dataclass(frozen=True, slots=True)
class Subject:
    """One library on one event loop.

    Attributes:
        module: beside this one; its function of the same name runs the task.
        loop: "trio", "asyncio" or "uvloop".
        roles: which of them it has.
        variants: which of them it has.
        nowait: whether it can receive without awaiting.
        raw: whether it knows no WebSocket, and just echoes bytes.
        ends_streams: whether it ends a stream of HTTP/2 after the Close on it.
        environment: what its process has more in its environment.
    """

    module: str
    loop: str
    roles: tuple[str, ...] = ("server", "client")
    variants: tuple[str, ...] = ("plain", "tls", "deflate")
    nowait: bool = False
    raw: bool = False
    ends_streams: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


SUBJECTS = {
    "trio_ws": Subject(
        "peer_trio_ws", "trio", variants=("plain", "tls", "deflate", "http2", "hooks", "frame log"), nowait=True
    ),
    "trio_ws, zlib": Subject("peer_trio_ws", "trio", variants=("deflate",), environment={"TRIO_WS_DEFLATE": "zlib"}),
    "hypercorn": Subject("peer_hypercorn", "asyncio", roles=("server",), variants=("http2",), ends_streams=False),
    "aethonan": Subject("peer_aethonan", "asyncio", roles=("server",), variants=("http2",)),
    "bare trio socket": Subject("peer_bare", "trio", variants=("plain", "tls"), raw=True),
    "raw trio stream": Subject("peer_raw", "trio", variants=("plain", "tls"), raw=True),
    "websockets.trio": Subject("peer_websockets_trio", "trio"),
    "trio-websocket": Subject("peer_trio_websocket", "trio", variants=("plain", "tls")),
    "websockets.asyncio": Subject("peer_websockets_asyncio", "asyncio"),
    "aiohttp": Subject("peer_aiohttp", "asyncio"),
    "picows on uvloop": Subject("peer_picows", "uvloop", variants=("plain", "tls")),
    "picows.websockets on uvloop": Subject("peer_picows_websockets", "uvloop", variants=("deflate",)),
}


def say(port: int) -> None:
    """Tell the parent where we listen."""
    print(port, flush=True)


def run(subject: Subject, task: Task) -> None:
    """Run a task on the event loop of its library."""
    main: Callable[[Task], Awaitable[None]] = importlib.import_module(f"tests.benchmarks.{subject.module}").main

    async def wait() -> None:
        await main(task)

    if subject.loop == "trio":
        trio.run(wait)
    elif subject.loop == "uvloop":
        import uvloop

        uvloop.run(wait())
    else:
        asyncio.run(wait())


def read_arguments() -> tuple[Subject, Task]:
    """Read the command line."""
    from tests.benchmarks.certificates import context_for

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SUBJECTS)
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("variant", choices=["plain", "tls", "deflate", "http2", "hooks", "frame log"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate", type=Path)
    options = parser.parse_args()
    context = context_for(options.role, options.certificate) if options.variant in ("tls", "http2") else None
    return SUBJECTS[options.name], Task(options.role, options.variant, options.port, context, options.certificate)


if __name__ == "__main__":
    os.sched_setaffinity(0, {CPU})
    run(*read_arguments())
