"""A page and its WebSocket from one port: ``python one_port.py 8765``, then open http://127.0.0.1:8765/."""

from __future__ import annotations

import sys
from functools import partial

import trio

import trio_ws

PAGE = b"""<!doctype html>
<title>Clock</title>
<p id="clock">...</p>
<script>
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const ws = new WebSocket(`${scheme}://${location.host}/clock`);
  ws.onmessage = ({ data }) => { document.getElementById("clock").textContent = data; };
</script>
"""


async def clock(request: trio_ws.WebSocketRequest) -> None:
    if request.path != "/clock":
        await request.reject(404)
        return
    async with request.accept() as ws:
        with ws.move_on_when_closed():
            for second in range(1_000_000):
                await ws.send(f"{second} s")
                await trio.sleep(1)


async def answer(request: trio_ws.HTTPRequest) -> trio_ws.HTTPResponse:
    if request.path != "/":
        return trio_ws.HTTPResponse(404)
    return trio_ws.HTTPResponse(200, {"Content-Type": "text/html; charset=utf-8"}, PAGE)


async def main(port: int) -> None:
    async with trio.open_nursery() as nursery:
        serve = partial(trio_ws.serve_websocket, clock, "127.0.0.1", port, http_handler=answer)
        server: trio_ws.WebSocketServer = await nursery.start(serve)
        print(f"http://127.0.0.1:{server.port}/", flush=True)


if __name__ == "__main__":
    try:
        trio.run(main, int(sys.argv[1]))
    except* KeyboardInterrupt:
        pass
