"""Send and receive at the same time, with a limit on the whole: ``python two_tasks.py ws://127.0.0.1:8765/``."""

from __future__ import annotations

import sys

import trio

import trio_ws


async def count(ws: trio_ws.WebSocket) -> None:
    for number in range(5):
        await ws.send(str(number))
        await trio.sleep(0.01)
    await ws.send("stop")


async def main(url: str) -> None:
    with trio.move_on_after(60):
        async with trio_ws.open_websocket(url) as ws, trio.open_nursery() as nursery:
            nursery.start_soon(count, ws)
            async for message in ws:
                print(message)
                if message == "stop":
                    break


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
