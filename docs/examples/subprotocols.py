"""Two versions of a protocol on one server, agreed on in the handshake: ``python subprotocols.py``."""

from __future__ import annotations

import json
from functools import partial

import trio

import trio_ws

PROTOCOLS = ["weather.v2", "weather.v1"]  # the preferred first


async def weather(request: trio_ws.WebSocketRequest) -> None:
    if not set(PROTOCOLS) & set(request.protocols):
        # Without this the connection opens with no protocol at all, and each side may guess.
        await request.reject(400, body=f"offer one of {', '.join(PROTOCOLS)}".encode())
        return
    async with request.accept() as ws:
        if ws.protocol == "weather.v2":
            await ws.send(json.dumps({"celsius": 21}))
        else:
            await ws.send("21")


async def main() -> None:
    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(
            partial(trio_ws.serve_websocket, weather, "127.0.0.1", 0, protocols=PROTOCOLS)
        )
        url = f"ws://127.0.0.1:{server.port}/"
        for offered in (["weather.v1", "weather.v2"], ["weather.v1"], ["chat"]):
            try:
                async with trio_ws.open_websocket(url, offered) as ws:
                    print(ws.protocol, await ws.receive())
            except trio_ws.HandshakeRejected as rejected:
                print(rejected.status, rejected.body.decode())
        await server.aclose()


if __name__ == "__main__":
    trio.run(main)
