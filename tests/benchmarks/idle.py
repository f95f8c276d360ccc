"""Memory of a server for each idle WebSocket: on thousands of connections, and as streams of a few over HTTP/2."""

from __future__ import annotations

import resource
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.benchmarks.groups import OURS, able
from tests.benchmarks.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.benchmarks.link import Link

FEW = 1000  # connections: of more, only those libraries that open them soon enough
QUICK = (OURS, "websockets.asyncio", "aiohttp")
CARRIERS, STREAMS = 10, 100  # connections over HTTP/2, and WebSockets on each
SPARE = 100  # descriptors for all else


@dataclass(frozen=True, slots=True)
class Idle:
    """Memory of a server with many idle WebSockets.

    Attributes:
        websockets: how many.
        variant: "plain", "deflate" or "http2".
        each: bytes for each WebSocket, by contender; of nobody where the system does not allow so many open files.
    """

    websockets: int
    variant: str
    each: dict[str, float]

    @property
    def title(self) -> str:
        """What stands above the column."""
        if not self.each:
            return f"{self.websockets:,} {self.variant}: more files than may be open"
        where = f", {STREAMS} on each connection" if self.variant == "http2" else ""
        return f"{self.websockets:,} {self.variant}{where}"


def measure_all(counts: Sequence[int], certificate: Path) -> Iterator[Idle]:
    """Measure so many connections of each kind, and streams."""
    for variant in ("plain", "deflate"):
        for count in counts:
            names = able("server", variant)
            if count > FEW:
                names = [name for name in names if name in QUICK]
            able_to = names if allow_files(count + SPARE) else []
            yield Idle(count, variant, {name: measure(name, variant, count, certificate) for name in able_to})
    streams = {name: measure(name, "http2", CARRIERS * STREAMS, certificate) for name in able("server", "http2")}
    yield Idle(CARRIERS * STREAMS, "http2", streams)


def allow_files(count: int) -> bool:
    """Raise our limit of open files, which the processes inherit that are started from here on; False: not so far."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if count > soft:
        if hard != resource.RLIM_INFINITY and count > hard:
            return False
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    return True


def measure(name: str, variant: str, count: int, certificate: Path) -> float:
    """Open WebSockets to a fresh server, have one message echoed on each, and tell how many bytes each takes."""
    with ExitStack() as stack:
        process = Process(name, "server", variant, certificate, stack)
        links = [process.meet() for _ in range(10)]
        before = process.memory()
        for link in open_streams(process) if variant == "http2" else (process.meet() for _ in range(count)):
            link.echo(64, 1)
            links.append(link)
        taken = process.memory() - before
        for link in links:
            link.sock.close()
    return taken / count


def open_streams(process: Process) -> Iterator[Link]:
    """Open WebSockets that share a few connections."""
    for _ in range(CARRIERS):
        connection = process.dial_http2()
        for _ in range(STREAMS):
            yield connection.open()
