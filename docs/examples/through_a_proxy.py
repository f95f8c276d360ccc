"""Reach a server through a proxy: ``PROXY=http://user:password@host:port python through_a_proxy.py URL``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import trio

import trio_ws

if TYPE_CHECKING:
    from collections.abc import Mapping


class Telling(trio_ws.Instrument):
    def proxy_connected(self, proxy: str, target: str, headers: Mapping[str, str]) -> None:
        print("connected by", proxy)


async def main(url: str) -> None:
    async with (
        trio_ws.ProxyAgent(os.environ["PROXY"], instruments=[Telling()]) as agent,
        trio_ws.open_websocket(url, dispatcher=agent) as ws,
    ):
        await ws.send("hello")
        print(await ws.receive())


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
