"""Stay connected, with growing pauses between the attempts: ``python reconnecting.py ws://127.0.0.1:8765/``."""

from __future__ import annotations

import sys

import trio

import trio_ws


async def listen(url: str) -> None:
    async for attempt in trio_ws.reconnecting():
        with attempt:
            async with trio_ws.open_websocket(url) as ws:
                async for message in ws:
                    print(message, flush=True)
                    if message == "that is all":
                        return
        print(f"not connected: {attempt.error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        trio.run(listen, sys.argv[1])
    except* KeyboardInterrupt:
        pass
