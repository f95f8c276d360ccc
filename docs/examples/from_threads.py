"""Send and receive from threads that know nothing of trio: ``python from_threads.py ws://127.0.0.1:8765/``."""

from __future__ import annotations

import sys
from functools import partial

import trio

import trio_ws


def work(ws: trio_ws.WebSocket) -> list[str]:
    """A function that blocks, and runs in a thread: each call waits for trio's thread to do it."""
    trio.from_thread.run(ws.send, "from a thread")
    answer = trio.from_thread.run(ws.receive)
    trio.from_thread.run_sync(ws.send_nowait, "without waiting")
    return [str(answer), str(trio.from_thread.run(ws.receive))]


async def main(url: str) -> None:
    async with trio_ws.open_websocket(url) as ws:
        # Cancelled, it goes on until its next call of trio.from_thread, which raises Cancelled.
        print(*await trio.to_thread.run_sync(partial(work, ws)), sep="\n")


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
