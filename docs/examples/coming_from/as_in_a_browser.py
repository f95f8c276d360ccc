"""The client of a browser, by the events of trio_ws: ``python as_in_a_browser.py ws://127.0.0.1:8765/``."""

from __future__ import annotations

import sys

import trio

import trio_ws


async def main(url: str) -> None:
    async with trio_ws.open_websocket(url, ["chat"]) as ws:
        async for event in ws.events():
            match event:
                case trio_ws.OpenEvent():
                    print(ws.protocol)
                    await ws.send("hello")
                case trio_ws.MessageEvent(data):
                    print(data)
                    await ws.send("bye")
                case trio_ws.CloseEvent(code, reason, _):
                    print(code, reason)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
