"""Reach a server as ``http_proxy`` and its kin say: ``python through_the_environments_proxy.py URL``."""

from __future__ import annotations

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
        trio_ws.EnvHttpProxyAgent(instruments=[Telling()]) as agent,
        trio_ws.open_websocket(url, dispatcher=agent) as ws,
    ):
        await ws.send("hello")
        print(await ws.receive())


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
