"""Send one message and print the answer: ``python echo_client.py ws://127.0.0.1:8765/``."""

from __future__ import annotations

import sys

import trio

import trio_ws


async def main(url: str) -> None:
    async with trio_ws.open_websocket(url) as ws:
        await ws.send("hello")
        print(await ws.receive())


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
