"""How long a task of ours runs before others may, and how long others wait for it.

One process floods a server on ten connections while another has small messages echoed on one more, the *victim*. The
longest step of any task is what an instrument of trio's sees in the server, in CPU time of its thread: what else wants
its core does not count, Python's garbage collection does. It is the best round's, as all times are: what a flood makes
long is long in each round. The victim's round trips are of all rounds, in time of the clock: also what the flooders
take of the core that it shares with them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import trio_ws
from tests.benchmarks.certificates import context_for
from tests.benchmarks.link import BINARY, COMPRESSED, TEXT, connect, deflated, frame
from tests.benchmarks.link_http2 import Http2Client
from tests.benchmarks.orders import Hands, obey
from tests.benchmarks.peer_trio_ws import bind
from tests.benchmarks.subjects import CPU, HOST

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Sequence

    from tests.benchmarks.link import Link

FLOODERS = 10
VICTIM_SIZE = 64  # bytes
PAUSE = 0.003  # seconds between two round trips of the victim
ROUNDS = 3
MOST_ECHOES = 70  # of one round
MOST_SECONDS = 0.4  # for them
BLOCK = 2**18  # bytes that a flooder hands to the kernel at once, or one message
CARRIERS = ("plain", "tls", "http2")
LARGEST = 2**20  # bytes, the default of Limits.max_message_size


# ---- floods ----


def fragmented(pieces: int, size: int) -> bytes:
    """Write one message in so many frames."""
    first = frame(BINARY & 0x0F, bytes(size), masked=True)
    middle = frame(0x00, bytes(size), masked=True)
    return first + middle * (pieces - 2) + frame(0x80, bytes(size), masked=True)


FLOODS: dict[str, Callable[[], bytes]] = {
    "empty messages": lambda: frame(BINARY, b"", masked=True),
    "messages of 64 B": lambda: frame(BINARY, bytes(64), masked=True),
    "messages of 16 KiB": lambda: frame(BINARY, bytes(2**14), masked=True),
    "messages of 1 MiB": lambda: frame(BINARY, bytes(LARGEST), masked=True),
    "text of 1 MiB, not ASCII": lambda: frame(TEXT, "ü€𝄞".encode() * (LARGEST // 9), masked=True),
    "messages in 500 frames of 16 B": lambda: fragmented(500, 16),
    "deflated messages of 64 B": lambda: frame(BINARY | COMPRESSED, deflated(os.urandom(64)), masked=True),
    "deflated messages of 1 MiB": lambda: frame(BINARY | COMPRESSED, deflated(os.urandom(2**12) * 2**8), masked=True),
    "1 MiB of zeros, deflated": lambda: frame(BINARY | COMPRESSED, deflated(bytes(LARGEST)), masked=True),
}


def meet(port: int, context: ssl.SSLContext | None, carrier: str, *, deflate: bool) -> Link:
    """Open a WebSocket on a connection of its own."""
    if carrier == "http2":
        assert context is not None
        return Http2Client(port, context).open(deflate=deflate)
    return connect(port, context, deflate=deflate, raw=False)


def flood(port: int, certificate: Path, carrier: str, kind: str) -> None:
    """Flood on every connection until somebody ends this process."""
    context = None if carrier == "plain" else context_for("client", certificate)
    message = FLOODS[kind]()
    block = message * max(1, BLOCK // len(message))

    def send() -> None:
        link = meet(port, context, carrier, deflate="deflated" in kind)
        link.order("sink 1000000000")
        ready.wait()
        while True:
            link.sock.sendall(block)

    ready = threading.Barrier(FLOODERS + 1)
    for _ in range(FLOODERS):
        threading.Thread(target=send, daemon=True).start()
    ready.wait()
    print("flooding", flush=True)
    sys.stdin.read()


# ---- the server ----


class Longest(trio.abc.Instrument):
    """Sees how long the longest step of any task takes, in seconds of CPU time."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.seconds = max(self.seconds, time.thread_time() - self._began)


async def serve(context: ssl.SSLContext | None) -> None:
    """Serve; tell the longest step since the last time whenever a line comes."""
    longest = Longest()

    async def handle(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await obey(bind(websocket), Hands(), trio_ws.ConnectionClosed)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(trio_ws.serve_websocket, handle, HOST, 0, context))
        print(server.port, flush=True)
        trio.lowlevel.add_instrument(longest)
        while await trio.to_thread.run_sync(sys.stdin.readline):
            print(longest.seconds, flush=True)
            longest.seconds = 0.0
        nursery.cancel_scope.cancel()


# ---- measuring ----


@contextmanager
def process(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run this module in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.fairness", *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def hear(child: subprocess.Popen[str], ask: str = "") -> str:
    """Read a line of a child's, after one of ours if there is one to send."""
    assert child.stdin is not None
    assert child.stdout is not None
    if ask:
        child.stdin.write(ask)
        child.stdin.flush()
    line = child.stdout.readline()
    if not line:
        raise RuntimeError("a process of the benchmark has ended")
    return line


def measure(certificate: Path, carrier: str, kind: str) -> tuple[float, list[float]]:
    """Return the longest step and the victim's round trips, in milliseconds."""
    with ExitStack() as stack:
        server = stack.enter_context(process("--serve", carrier, "--certificate", certificate))
        port = int(hear(server))
        context = None if carrier == "plain" else context_for("client", certificate)
        victim = meet(port, context, carrier, deflate=False)
        victim.order(f"echo {ROUNDS * MOST_ECHOES}")
        flooders = stack.enter_context(process("--flood", port, carrier, kind, "--certificate", certificate))
        hear(flooders)
        hear(server, "what the handshakes took\n")
        steps: list[float] = []
        round_trips: list[float] = []
        for _ in range(ROUNDS):
            round_trips += echo(victim)
            steps.append(float(hear(server, "what the flood took\n")) * 1000)
        return min(steps), round_trips


def echo(victim: Link) -> Iterator[float]:
    """Have messages echoed for a while; give the round trips in milliseconds."""
    message, answer = frame(BINARY, bytes(VICTIM_SIZE), masked=True), VICTIM_SIZE + 2
    end = time.monotonic() + MOST_SECONDS
    for number in range(MOST_ECHOES):
        if number and time.monotonic() > end:
            break
        began = time.perf_counter()
        victim.sock.sendall(message)
        victim.skip(answer)
        yield (time.perf_counter() - began) * 1000
        time.sleep(PAUSE)


def table_of(certificate: Path) -> tuple[tuple[str, Sequence[str], Sequence[Sequence[str]]], float]:
    """Measure every flood over every carrier; return the table, and the longest step of all in milliseconds."""
    rows = []
    longest = 0.0
    for kind in FLOODS:
        cells = []
        for carrier in CARRIERS:
            step, round_trips = measure(certificate, carrier, kind)
            longest = max(longest, step)
            p99 = statistics.quantiles(round_trips, n=100, method="inclusive")[98]
            cells += [f"{step:.1f}", f"{p99:.1f}", f"{max(round_trips):.1f}"]
        rows.append((kind, *cells))
    head = [f"{carrier}: {what}" for carrier in CARRIERS for what in ("step", "p99", "max")]
    title = f"fairness: longest step of any task, and round trips of a victim beside {FLOODERS} flooders, ms"
    return (title, ("", *head), rows), longest


def main() -> None:
    """Be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", metavar="CARRIER")
    parser.add_argument("--flood", nargs=3, metavar=("PORT", "CARRIER", "KIND"))
    parser.add_argument("--certificate", type=Path, required=True)
    options = parser.parse_args()
    if options.serve:
        os.sched_setaffinity(0, {CPU})
        trio.run(serve, None if options.serve == "plain" else context_for("server", options.certificate))
    else:
        port, carrier, kind = options.flood
        flood(int(port), options.certificate, carrier, kind)


if __name__ == "__main__":
    main()
