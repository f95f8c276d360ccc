"""Send and receive through two channels: ``python stream_echo.py ws://127.0.0.1:8765/``."""

from __future__ import annotations

import sys

import trio

import trio_ws


async def send(channel: trio.abc.SendChannel[str | bytes]) -> None:
    for number in range(5):
        await channel.send(str(number))
    await channel.send("stop")


async def main(url: str) -> None:
    async with trio_ws.open_websocket_stream(url) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(send, stream.writable)
        async for message in stream.readable:
            print(message, flush=True)
            if message == "stop":
                stream.close(1000, "thank you")  # the loop ends when the server has answered


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
