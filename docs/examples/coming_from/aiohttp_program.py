"""A server and a client by aiohttp: ``python aiohttp_program.py``."""

from __future__ import annotations

import asyncio

from aiohttp import ClientSession, WSMsgType, web


async def handler(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse(protocols=["chat"], heartbeat=20)
    await websocket.prepare(request)
    async for message in websocket:
        if message.type is not WSMsgType.TEXT:
            break
        if message.data == "bye":
            await websocket.close(code=4000, message=b"as you wish")
        else:
            await websocket.send_str(message.data)
    return websocket


async def main() -> None:
    application = web.Application()
    application.router.add_get("/", handler)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    async with ClientSession() as session, session.ws_connect(f"http://127.0.0.1:{port}/", protocols=["chat"]) as ws:
        print(ws.protocol)
        await ws.send_str("hello")
        print(await ws.receive_str(timeout=5))
        await ws.send_str("bye")
        closed = await ws.receive()
        assert closed.type is WSMsgType.CLOSE
        print(closed.data, closed.extra)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
