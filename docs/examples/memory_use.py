"""Measure what a connection costs a server, on Linux: ``python memory_use.py 1000``.

A server runs in a process of its own, for each choice of options. Each connection sends a message that is compressed,
gets it back, and waits. What is printed is the growth of the server's memory for each of them.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from functools import partial
from pathlib import Path

import trio

import trio_ws

CHOICES = {
    "default": trio_ws.Compression(),
    "no context takeover": trio_ws.Compression(server_no_context_takeover=True, client_no_context_takeover=True),
    "smallest windows": trio_ws.Compression(server_max_window_bits=9, client_max_window_bits=9, memory_level=1),
    "no compression": None,
}
# Each connection may hold this much of what is not read or not sent, in place of 1 MiB and 64 KiB.
LIMITS = trio_ws.Limits(max_message_size=2**16, receive_buffer=2**16, send_buffer=2**15)
MESSAGE = '{"price": 1234, "size": 10},' * 80  # 2,240 bytes


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def echo(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept() as ws:
        async for message in ws:
            await ws.send(str(resident()) if message == "memory" else message)


async def serve(choice: str) -> None:
    """Be the server, until the input ends."""
    start = partial(trio_ws.serve_websocket, echo, "127.0.0.1", 0, compression=CHOICES[choice], limits=LIMITS)
    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(start)
        print(server.port, flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


async def measure(url: str, count: int) -> float:
    """Open connections, and return what each costs the server."""
    async with trio.open_nursery() as nursery, trio_ws.open_websocket(url, compression=None) as asking:

        async def memory() -> int:
            await asking.send("memory")
            return int(await asking.receive())

        before = await memory()
        for _ in range(count):
            ws = await trio_ws.connect_websocket(nursery, url)
            await ws.send(MESSAGE)
            await ws.receive()
        after = await memory()
        nursery.cancel_scope.cancel()
    return (after - before) / count


def main(count: int) -> None:
    needed = 2 * count + 100  # descriptors: a client's connection has one beside its socket, to wait by
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(needed, hard)), hard))
    for choice in CHOICES:
        pipe = subprocess.PIPE
        with subprocess.Popen([sys.executable, __file__, choice], stdin=pipe, stdout=pipe, text=True) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            url = f"ws://127.0.0.1:{server.stdout.readline().strip()}/"
            each = trio.run(measure, url, count)
            print(f"{choice}: {each / 1024:.1f} KiB", flush=True)
            server.stdin.close()


if __name__ == "__main__":
    if sys.argv[1] in CHOICES:
        trio.run(serve, sys.argv[1])
    else:
        main(int(sys.argv[1]))
