"""Fifty WebSockets on one connection, over HTTP/2: ``python many_sockets.py``."""

from __future__ import annotations

import ssl
from functools import partial

import trio
import trustme

import trio_ws


async def square(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept() as ws:
        async for message in ws:
            await ws.send(str(int(message) ** 2))


async def ask(agent: trio_ws.Agent, url: str, number: int, answers: dict[int, str]) -> None:
    async with trio_ws.open_websocket(url, dispatcher=agent) as ws:
        await ws.send(str(number))
        answers[number] = str(await ws.receive())


async def main() -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)

    answers: dict[int, str] = {}
    async with trio.open_nursery() as nursery:
        serve = partial(trio_ws.serve_websocket, square, "localhost", 0, server_context)
        server: trio_ws.WebSocketServer = await nursery.start(serve)
        url = f"wss://localhost:{server.port}/"
        async with trio_ws.Agent(ssl_context=client_context) as agent:
            async with trio.open_nursery() as clients:
                for number in range(50):
                    clients.start_soon(ask, agent, url, number, answers)
            counts = agent.statistics()
        print(f"{counts.streams_opened} WebSockets on {counts.connections_opened} connection")
        print(f"7 squared is {answers[7]}")
        await server.aclose()


if __name__ == "__main__":
    trio.run(main)
