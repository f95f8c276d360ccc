"""Where an echo server spends its time, by layer: ``python -m tests.benchmarks.layers [SIZE [COUNT]]``.

cProfile makes every call of Python's dearer, and what C does cheaper: the shares tell the order, and are no measure.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
from functools import partial
from pathlib import Path

import trio

import trio_ws
from tests.benchmarks.link import connect
from tests.benchmarks.orders import Hands, obey
from tests.benchmarks.peer_trio_ws import bind
from tests.benchmarks.subjects import HOST

# A function is of the first layer whose words are all in "file function".
LAYERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "system calls": (("_socket.socket",), ("select.epoll",)),
    "frames": (("trio_ws", "_wire"), ("_speedups",)),
    "transport": (("trio_ws", "_net"),),
    "connection": (("trio_ws",),),
    "trio": (("trio",), ("outcome",), ("contextvars",), ("Context",)),
    "the benchmark": (("benchmarks",),),
}
REST = "all else, most of it built into Python"


def layer_of(name: str) -> str:
    """Name the layer that a function is of."""
    for layer, choices in LAYERS.items():
        if any(all(word in name for word in words) for words in choices):
            return layer
    return REST


async def serve(size: int, count: int) -> None:
    """Serve one client, a process of its own, to its end."""

    async def handle(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await obey(bind(websocket), Hands(), trio_ws.ConnectionClosed)

    async with trio.open_nursery() as nursery:
        run = partial(trio_ws.serve_websocket, handle, HOST, 0, compression=None, keepalive=None)
        server = await nursery.start(run)
        command = [sys.executable, "-m", "tests.benchmarks.layers", "--load", str(server.port), str(size), str(count)]
        await trio.run_process(command)
        nursery.cancel_scope.cancel()


def load(port: int, size: int, count: int) -> None:
    """Be the client."""
    connect(port, None, deflate=False, raw=False).echo(size, count)


def shares(profile: cProfile.Profile) -> dict[str, float]:
    """Sum up by layer; what the server waits for is nobody's."""
    seconds = dict.fromkeys([*LAYERS, REST], 0.0)
    # typeshed does not know the attribute, which the documentation of pstats names.
    statistics: dict[tuple[str, int, str], tuple[int, int, float, float, object]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for (file, _, function), (_, _, own, _, _) in statistics.items():
        if "select.epoll" not in function:
            place = "/".join(Path(file).parts[-4:])
            seconds[layer_of(f"{place} {function}")] += own
    total = sum(seconds.values())
    return {layer: part / total for layer, part in seconds.items()}


def main() -> None:
    """Measure and print the shares, or be the client."""
    if sys.argv[1:2] == ["--load"]:
        load(*map(int, sys.argv[2:]))
        return
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    profile = cProfile.Profile()
    profile.runcall(trio.run, serve, size, count)
    print(f"echo of {size} bytes, {count} times")
    for layer, share in sorted(shares(profile).items(), key=lambda item: -item[1]):
        print(f"  {layer:40}{share * 100:5.1f} %")


if __name__ == "__main__":
    main()
