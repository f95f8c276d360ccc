"""CPU time of an echo server per message, beside its peers, all in one run: ``python -m tests.benchmarks``.

Each server is a process pinned to one core; the load comes from this process on another. Rounds are interleaved, so
that a machine that slows down slows all of them down; the figure is each server's best round, and the ratio is to
trio_ws.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.benchmarks.servers import ASYNCIO, TRIO

TICKS = os.sysconf("SC_CLK_TCK")
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def frame(size: int) -> bytes:
    """Write one masked binary message; a mask of zeros costs the server what any other does."""
    if size < 126:
        head = bytes((0x82, 0x80 | size))
    elif size < 2**16:
        head = bytes((0x82, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x82, 0xFF)) + size.to_bytes(8, "big")
    return head + b"\x01\x02\x03\x04" + bytes(size)


def answer_size(size: int) -> int:
    """Tell how many bytes the unmasked echo of a message has."""
    return size + (2 if size < 126 else 4 if size < 2**16 else 10)


def cpu_seconds(pid: int) -> float:
    """Read the CPU time that a process has used, to the microsecond where the kernel tells it."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e9


@contextmanager
def running(name: str) -> Iterator[tuple[int, socket.socket]]:
    """Run a server; give its process id and a connection that has been upgraded, if it speaks WebSocket."""
    command = [sys.executable, "-m", "tests.benchmarks.servers", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if not name.startswith("raw"):
                    upgrade(sock, port)
                yield process.pid, sock
        finally:
            process.kill()


def upgrade(sock: socket.socket, port: int) -> None:
    """Do the opening handshake."""
    sock.sendall(
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    if not head.startswith(b"HTTP/1.1 101"):
        raise RuntimeError(f"no upgrade: {head!r}")


def echoes(pid: int, sock: socket.socket, size: int, messages: int, *, raw: bool) -> float:
    """Echo messages one by one; return the server's CPU seconds per message."""
    data = bytes(answer_size(size)) if raw else frame(size)
    expected = answer_size(size)
    before = cpu_seconds(pid)
    for _ in range(messages):
        sock.sendall(data)
        missing = expected
        while missing:
            received = sock.recv(missing)
            if not received:
                raise RuntimeError("the server closed the connection")
            missing -= len(received)
    return (cpu_seconds(pid) - before) / messages


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, action="append", help="bytes of a message; may be given several times")
    parser.add_argument("--only", action="append", help="measure this server; may be given several times")
    options = parser.parse_args()
    names = options.only or [*TRIO, *ASYNCIO]
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for size in options.size or [64, 16384]:
        messages = 3000 if size < 2**18 else 200
        with ExitStack() as stack:
            servers = {name: stack.enter_context(running(name)) for name in names}
            best = dict.fromkeys(names, float("inf"))
            for _ in range(options.rounds):
                for name, (pid, sock) in servers.items():
                    raw = name.startswith("raw")
                    best[name] = min(best[name], echoes(pid, sock, size, messages, raw=raw))
        print(f"echo of {size} bytes, plain, no compression: CPU of the server per message")
        ours = best.get("trio_ws", min(best.values()))
        for name in names:
            print(f"  {name:20} {best[name] * 1e6:8.1f} us   {best[name] / ours:5.2f} x trio_ws")


if __name__ == "__main__":
    main()
