"""JSON-RPC 2.0 over one WebSocket: one task reads, any number of tasks call: ``python json_rpc.py``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from itertools import count
from typing import Any

import outcome
import trio

import trio_ws

Method = Callable[..., Awaitable[object]]


class RemoteError(Exception):
    """The other side answered a call with an error."""


class Peer:
    """One side of the conversation; both sides may call, and both may be called."""

    def __init__(self, ws: trio_ws.WebSocket, nursery: trio.Nursery, methods: dict[str, Method]) -> None:
        self._ws = ws
        self._nursery = nursery
        self._methods = methods
        self._numbers = count(1)
        self._waiting: dict[object, trio.MemorySendChannel[outcome.Outcome[Any]]] = {}

    async def call(self, method: str, **params: object) -> object:
        """Call a method of the other side. Cancelled, the call is forgotten, and its late answer too."""
        number = next(self._numbers)
        answer, told = trio.open_memory_channel[outcome.Outcome[Any]](1)
        self._waiting[number] = answer
        try:
            await self._send({"id": number, "method": method, "params": params})
            return (await told.receive()).unwrap()
        finally:
            del self._waiting[number]

    async def notify(self, method: str, **params: object) -> None:
        """Tell the other side something; there is no answer."""
        await self._send({"method": method, "params": params})

    async def read(self) -> None:
        """Read until the connection ends; then every call that still waits raises what ended the connection."""
        try:
            while True:
                self._take(json.loads(await self._ws.receive()))
        except trio_ws.ConnectionClosed as closed:
            for answer in self._waiting.values():
                with contextlib.suppress(trio.WouldBlock):  # it has its answer already
                    answer.send_nowait(outcome.Error(closed))

    def _take(self, message: dict[str, Any]) -> None:
        if "method" in message:
            self._nursery.start_soon(self._serve, message)
        elif (answer := self._waiting.get(message["id"])) is not None:
            failed = "error" in message
            answer.send_nowait(
                outcome.Error(RemoteError(message["error"]["message"])) if failed else outcome.Value(message["result"])
            )

    async def _serve(self, message: dict[str, Any]) -> None:
        method = self._methods.get(message["method"])
        try:
            if method is None:
                raise LookupError(f"there is no method {message['method']!r}")
            answer: dict[str, object] = {"result": await method(**message.get("params", {}))}
        except Exception as error:
            answer = {"error": {"code": -32000, "message": str(error)}}
        if "id" in message:
            with contextlib.suppress(trio_ws.ConnectionClosed):  # nobody waits for it any more
                await self._send({"id": message["id"], **answer})

    async def _send(self, message: dict[str, object]) -> None:
        await self._ws.send(json.dumps({"jsonrpc": "2.0", **message}))


@contextlib.asynccontextmanager
async def conversation(ws: trio_ws.WebSocket, methods: dict[str, Method]) -> AsyncGenerator[Peer, None]:
    """Read in the background for as long as the block lasts."""
    async with trio_ws.BackgroundNursery() as nursery:
        peer = Peer(ws, nursery, methods)
        nursery.start_soon(peer.read)
        yield peer


# ---- a server with two methods, and a client ----


async def add(a: int, b: int) -> int:
    return a + b


async def sleep(seconds: float) -> str:
    await trio.sleep(seconds)
    return "awake"


async def handler(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept() as ws, conversation(ws, {"add": add, "sleep": sleep}) as client:
        await client.notify("welcome", version=1)
        await ws.wait_closed()


async def main() -> None:
    welcomed = trio.Event()

    async def welcome(version: int) -> None:
        print(f"welcome to version {version}")
        welcomed.set()

    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(trio_ws.serve_websocket, handler, "127.0.0.1", 0)
        async with (
            trio_ws.open_websocket(f"ws://127.0.0.1:{server.port}/") as ws,
            conversation(ws, {"welcome": welcome}) as rpc,
        ):
            await welcomed.wait()
            with trio.move_on_after(0.05) as scope:
                await rpc.call("sleep", seconds=60)
            print(f"gave up: {scope.cancelled_caught}")
            print(f"1 + 2 is {await rpc.call('add', a=1, b=2)}")
            try:
                await rpc.call("divide", a=1, b=0)
            except RemoteError as error:
                print(error)
        await server.aclose()


if __name__ == "__main__":
    trio.run(main)
