"""Print what happens on a connection, by events and by hooks: ``python watching.py ws://127.0.0.1:8765/``."""

from __future__ import annotations

import sys

import trio

import trio_ws


class Printer(trio_ws.Instrument):
    def websocket_open(self, websocket: trio_ws.WebSocket) -> None:
        print("hook: open")

    def websocket_pong(self, websocket: trio_ws.WebSocket, payload: bytes) -> None:
        print("hook: pong", payload)

    def socket_error(self, websocket: trio_ws.WebSocket, error: BaseException) -> None:
        print("hook: error", error)

    def websocket_close(self, websocket: trio_ws.WebSocket, info: trio_ws.CloseInfo) -> None:
        print("hook: close", info)


async def main(url: str) -> None:
    async with trio_ws.open_websocket(url, instruments=[Printer()]) as ws:
        await ws.send("hello")
        await ws.ping(b"still there?")
        async for event in ws.events():
            match event:
                case trio_ws.OpenEvent():
                    print("event: open")
                case trio_ws.MessageEvent(data):
                    print("event: message", data)
                    await ws.aclose()
                case trio_ws.ErrorEvent(error):
                    print("event: error", error)
                case trio_ws.CloseEvent(code, reason, was_clean):
                    print("event: close", code, reason, was_clean)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
