"""Beside another event loop, asyncio's here: ``python guest_mode.py ws://127.0.0.1:8765/``."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import trio

import trio_ws


async def trio_main(url: str) -> str:
    async with trio_ws.open_websocket(url) as ws:
        await ws.send("hello from a guest")
        return str(await ws.receive())


async def asyncio_main(url: str) -> str:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    trio.lowlevel.start_guest_run(
        trio_main,
        url,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        run_sync_soon_not_threadsafe=loop.call_soon,
        done_callback=done.set_result,
        host_uses_signal_set_wakeup_fd=True,
    )
    return str((await done).unwrap())


if __name__ == "__main__":
    print(asyncio.run(asyncio_main(sys.argv[1])))
