"""Run a library that was written for trio-websocket on trio_ws: ``python unchanged_library.py ws://127.0.0.1:8765/``."""

from __future__ import annotations

import sys

from trio_ws.compat import trio_websocket

trio_websocket.install()  # before the library is imported

import trio  # noqa: E402
from trio_websocket import open_websocket_url  # noqa: E402


async def main(url: str) -> None:
    async with open_websocket_url(url) as connection:
        await connection.send_message("hello")
        print(await connection.get_message(), "by", type(connection).__module__)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
