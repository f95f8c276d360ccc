"""Talk to one server of several behind a name: ``python connect_to.py wss://example.com/ 192.0.2.7 8443``."""

from __future__ import annotations

import sys

import trio

import trio_ws


async def ask(url: str, host: str, port: int) -> None:
    async with trio_ws.open_websocket(url, connect_to=(host, port)) as ws:
        print(ws.request_headers["Host"], "at", ws.remote_address)
        await ws.send("hello")
        print(await ws.receive())


if __name__ == "__main__":
    trio.run(ask, sys.argv[1], sys.argv[2], int(sys.argv[3]))
