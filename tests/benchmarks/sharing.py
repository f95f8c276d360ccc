"""One server process beside two on the same port: ``python -m tests.benchmarks.sharing``.

Both ways are measured, a port of which each process has its own listener (``reuse_port``) and one socket that all share
(``sockets``), in interleaved rounds. The load comes from one more process, which sends bursts of frames and only counts
bytes, so that it costs a small part of what the servers do. Where there are not more cores than server processes, the
load takes its part from them: the CPU time per message tells what was lost to sharing, the messages a second what was
won. "possible" is what the CPU time per message allows if each process had a core to itself.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import trio

import trio_ws

HOST = "127.0.0.1"
CONNECTIONS = 64
BURST = 32  # messages
SIZE = 64  # bytes of a message
REQUEST = (
    f"GET / HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()
# Masked binary messages; a mask costs the server the same whatever it is.
FRAMES = (bytes((0x82, 0x80 | SIZE)) + b"\x01\x02\x03\x04" + bytes(SIZE)) * BURST
ECHOES = (SIZE + 2) * BURST  # bytes
KINDS = {  # processes, and whether they share one socket
    "1 process": (1, False),
    "2, reuse_port": (2, False),
    "2, one socket": (2, True),
}


async def serve(descriptor: int, port: int) -> None:
    """Serve on a socket that was handed over, or on a port of which others have a part."""

    async def echo(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as ws:
            async for message in ws:
                await ws.send(message)

    run = partial(trio_ws.serve_websocket, echo, compression=None, keepalive=None)
    async with trio.open_nursery() as nursery:
        if descriptor >= 0:
            await nursery.start(partial(run, host=None, port=None, sockets=[socket.socket(fileno=descriptor)]))
        else:
            await nursery.start(partial(run, host=HOST, port=port, reuse_port=True))
        print("ready", flush=True)


@contextmanager
def servers(count: int, *, shared: bool) -> Iterator[tuple[int, list[int]]]:
    """Run so many server processes; give their port and their process ids."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        if not shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((HOST, 0))  # keeps the port for the others, and gets no connection: it does not listen
        if shared:
            sock.listen(1024)
        port = sock.getsockname()[1]
        descriptor = sock.fileno() if shared else -1
        command = [sys.executable, "-m", "tests.benchmarks.sharing", "--serve", str(descriptor), str(port)]
        started = []
        for _ in range(count):
            pipe = subprocess.PIPE
            process = stack.enter_context(subprocess.Popen(command, stdout=pipe, pass_fds=(sock.fileno(),), text=True))
            stack.callback(process.kill)
            started.append(process)
        for process in started:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("a server did not start")
        yield port, [process.pid for process in started]


def cpu_seconds(pid: int) -> float:
    """Read the CPU time that a process has used."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


def connect(port: int) -> socket.socket:
    """Open a WebSocket, and do no more than that."""
    sock = socket.create_connection((HOST, port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(REQUEST)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    if not head.startswith(b"HTTP/1.1 101"):
        raise RuntimeError(f"no upgrade: {head!r}")
    return sock


def load(port: int, seconds: float) -> int:
    """Send a burst on each connection whenever the last one has come back; return how many messages did."""
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        missing: dict[socket.socket, int] = {}
        for _ in range(CONNECTIONS):
            sock = stack.enter_context(connect(port))
            selector.register(sock, selectors.EVENT_READ)
            missing[sock] = ECHOES
        for sock in missing:
            sock.sendall(FRAMES)
        messages = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for key, _ in selector.select(1.0):
                called = key.fileobj
                assert isinstance(called, socket.socket)
                received = len(called.recv(2**16))
                if not received:
                    raise RuntimeError("the server closed a connection")
                missing[called] -= received
                if not missing[called]:
                    messages += BURST
                    missing[called] = ECHOES
                    called.sendall(FRAMES)
        return messages


def measure(count: int, seconds: float, *, shared: bool) -> tuple[float, float, list[float]]:
    """Return messages a second, CPU seconds per message, and the share of the work that each process had."""
    with servers(count, shared=shared) as (port, pids):
        before = [cpu_seconds(pid) for pid in pids]
        messages = load(port, seconds)
        used = [cpu_seconds(pid) - start for pid, start in zip(pids, before, strict=True)]
        return messages / seconds, sum(used) / messages, [part / sum(used) for part in used]


def table_of(rounds: int, seconds: float) -> tuple[str, list[str], list[list[str]]]:
    """Measure one process and two, in interleaved rounds."""
    results: dict[str, list[tuple[float, float, list[float]]]] = {name: [] for name in KINDS}
    for _ in range(rounds):
        for name, (count, shared) in KINDS.items():
            results[name].append(measure(count, seconds, shared=shared))
    base = statistics.median(rate for rate, _, _ in results["1 process"])
    rows = []
    for name, measured in results.items():
        rate = statistics.median(rate for rate, _, _ in measured)
        cpu = statistics.median(cpu for _, cpu, _ in measured)
        least = min(min(parts) for _, _, parts in measured)
        possible = KINDS[name][0] / cpu
        rows.append(
            [name, f"{rate:,.0f}", f"{rate / base:.2f}", f"{cpu * 1e6:.2f}", f"{possible:,.0f}", f"{least * 100:.0f} %"]
        )
    title = (
        f"processes on one port: echo of {SIZE} bytes on {CONNECTIONS} connections in bursts of {BURST}, "
        f"{len(os.sched_getaffinity(0))} cores"
    )
    return title, ["", "messages/s", "times", "CPU µs", "possible/s", "least busy process"], rows


def main() -> None:
    """Measure and print the table, or be one of the servers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs=2, type=int, metavar=("DESCRIPTOR", "PORT"), help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    if options.serve:
        trio.run(serve, *options.serve)
        return
    title, head, rows = table_of(options.rounds, options.seconds)
    print(title)
    for row in (head, *rows):
        print("  " + "".join(cell.ljust(18) if index == 0 else cell.rjust(22) for index, cell in enumerate(row)))


if __name__ == "__main__":
    main()
