"""The ``aiohttp`` library as a peer; ``tests/interop/peers.py`` says what a peer does."""

from __future__ import annotations

import argparse
import asyncio
import json

import aiohttp
from aiohttp import web

PROTOCOLS = ("chat.v2", "chat.v1")
HEADERS = {"X-Test": "from the peer"}

Connection = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


def say(**facts: object) -> None:
    """Write one line for the test."""
    print(json.dumps(facts), flush=True)


async def begin(websocket: Connection, scenario: str, hello: dict[str, str | None]) -> None:
    """Do what the scenario asks for before the echo."""
    if scenario == "hello":
        await websocket.send_str(json.dumps(hello))
    elif scenario == "ping":
        await websocket.ping(b"are you there")
    elif scenario == "big":
        await websocket.send_str("x" * 2000)
    elif scenario == "close":
        await websocket.close(code=4001, message=b"the peer says goodbye")
    elif scenario == "bye":
        await websocket.close(code=1000)


async def behave(websocket: Connection, scenario: str, hello: dict[str, str | None]) -> None:
    """Play one scenario to its end."""
    await begin(websocket, scenario, hello)
    reason = ""
    while not websocket.closed:
        message = await websocket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            await websocket.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
        elif message.type is aiohttp.WSMsgType.PING:
            await websocket.pong(message.data)
        elif message.type is aiohttp.WSMsgType.PONG and scenario == "ping":
            await websocket.send_str("pong: " + bytes(message.data).decode())
        elif message.type is aiohttp.WSMsgType.CLOSE:
            reason = message.extra or ""
    say(code=websocket.close_code, reason=reason)


async def answer(request: web.Request, *, compress: bool) -> web.StreamResponse:
    """Play the scenario that the path names."""
    scenario = request.path.strip("/")
    if scenario == "reject":
        return web.Response(status=403, headers=HEADERS, text="no way")
    websocket = web.WebSocketResponse(protocols=PROTOCOLS[1:], compress=compress, autoping=False)
    websocket.headers.update(HEADERS)
    await websocket.prepare(request)
    hello = {"protocol": websocket.ws_protocol, "header": request.headers.get("X-Test")}
    await behave(websocket, scenario, hello)
    return websocket


async def serve(*, compress: bool) -> None:
    """Serve for ever."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return await answer(request, compress=compress)

    application = web.Application()
    application.router.add_get("/{scenario}", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    say(port=runner.addresses[0][1])
    await asyncio.Event().wait()


async def connect(url: str, scenario: str, *, compress: bool) -> None:
    """Play one scenario as a client."""
    async with aiohttp.ClientSession() as session:
        try:
            websocket = await session.ws_connect(
                url, protocols=PROTOCOLS, headers=HEADERS, autoping=False, compress=15 if compress else 0
            )
        except aiohttp.WSServerHandshakeError as refusal:
            header = None if refusal.headers is None else refusal.headers.get("X-Test")
            say(status=refusal.status, header=header)
            return
        header = websocket._response.headers.get("X-Test")
        await behave(websocket, scenario, {"protocol": websocket.protocol, "header": header})


def main() -> None:
    """Be the peer that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("url", nargs="?", default="")
    arguments = parser.parse_args()
    if arguments.role == "server":
        asyncio.run(serve(compress=not arguments.plain))
    else:
        asyncio.run(connect(arguments.url, arguments.url.rpartition("/")[2], compress=not arguments.plain))


if __name__ == "__main__":
    main()
