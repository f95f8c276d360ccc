"""Stay connected, with growing pauses between the attempts: ``python reconnecting.py ws://127.0.0.1:8765/``."""

from __future__ import annotations

import random
import sys

import trio

import trio_ws


async def listen(url: str) -> None:
    pause = 1.0
    while True:
        try:
            async with trio_ws.open_websocket(url) as ws:
                pause = 1.0
                async for message in ws:
                    print(message, flush=True)
            return  # the server closed and meant it
        except (OSError, trio_ws.HandshakeError, trio_ws.ConnectionClosed) as error:
            print(f"{error}; again in at most {pause:g} s", file=sys.stderr, flush=True)
        # Anything between nothing and the pause, so that not all clients come back at once.
        await trio.sleep(random.uniform(0, pause))
        pause = min(pause * 2, 60)


if __name__ == "__main__":
    trio.run(listen, sys.argv[1])
