"""Give a question two seconds, and go on with the same connection: ``python time_limits.py ws://127.0.0.1:8765/``."""

from __future__ import annotations

import sys

import trio

import trio_ws


async def main(url: str) -> None:
    async with trio_ws.open_websocket(url) as ws:
        with trio.move_on_after(0.1):
            print(await ws.receive())  # nobody has said anything yet
        await ws.send("anything new?")
        with trio.fail_after(2):
            print(await ws.receive())


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
