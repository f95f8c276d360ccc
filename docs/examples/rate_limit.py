"""Let each client send five messages a second, and close with 1008 who sends more: ``python rate_limit.py 8765``."""

from __future__ import annotations

import sys

import trio

import trio_ws

RATE = 5.0  # messages a second
BURST = 10.0


class Allowance:
    """A token bucket: it fills with time, and each message takes one."""

    def __init__(self) -> None:
        self._level = BURST
        self._filled_at = trio.current_time()

    def take(self) -> bool:
        now = trio.current_time()
        self._level = min(BURST, self._level + RATE * (now - self._filled_at))
        self._filled_at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


async def handler(request: trio_ws.WebSocketRequest) -> None:
    allowance = Allowance()
    async with request.accept() as ws:
        async for message in ws:
            if not allowance.take():
                raise trio_ws.WebSocketError(1008, "too many messages")
            await ws.send(message)


async def main(port: int) -> None:
    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(trio_ws.serve_websocket, handler, "127.0.0.1", port)
        print(f"ws://127.0.0.1:{server.port}/", flush=True)


if __name__ == "__main__":
    try:
        trio.run(main, int(sys.argv[1]))
    except* KeyboardInterrupt:
        pass
