"""``wss`` on a throw-away certificate, and a client that trusts it: ``python secure_server.py``."""

from __future__ import annotations

import ssl
from functools import partial

import trio
import trustme

import trio_ws


async def greet(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept() as ws:
        await ws.send(f"hello, {await ws.receive()!s}")


async def main() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)

    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(
            partial(trio_ws.serve_websocket, greet, "localhost", 0, ssl_context=server_context)
        )
        url = f"wss://localhost:{server.port}/"
        async with trio_ws.open_websocket(url, ssl_context=client_context) as ws:
            await ws.send("trio")
            print(await ws.receive())
        await server.aclose()


if __name__ == "__main__":
    trio.run(main)
