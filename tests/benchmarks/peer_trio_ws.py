"""This library under test."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import trio

import trio_ws
from tests.benchmarks.orders import Hands, Socket, obey
from tests.benchmarks.subjects import BIG, HOST, Task, say


async def drain(websocket: trio_ws.WebSocket, count: int) -> None:
    """Receive so many messages, without awaiting while there are some."""
    receive_nowait = websocket.receive_nowait
    missing = count
    while missing:
        await websocket.receive()
        missing -= 1
        try:
            while missing:
                receive_nowait()
                missing -= 1
        except trio.WouldBlock:
            pass


def bind(websocket: trio_ws.WebSocket) -> Socket:
    """Give the methods their common form."""
    return Socket(websocket.receive, websocket.send, partial(drain, websocket), websocket)


async def broadcast(connections: list[Any], payload: bytes) -> None:
    """Send to all, and let others run."""
    result = trio_ws.broadcast(connections, payload)
    assert len(result.sent) == len(connections), "one was too slow"
    await trio.lowlevel.checkpoint()


class Counter(trio_ws.Instrument):
    """Hears of each message."""

    def __init__(self) -> None:
        self.sent = self.received = 0

    def message_sent(self, websocket: trio_ws.WebSocket, message: str | bytes) -> None:
        self.sent += 1

    def message_received(self, websocket: trio_ws.WebSocket, message: str | bytes) -> None:
        self.received += 1


class Formatted(logging.Handler):
    """Formats each line, and keeps none."""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)


async def main(task: Task) -> None:
    """Serve or connect, and obey."""
    hands = Hands(broadcast=broadcast)
    options: dict[str, Any] = {
        "limits": trio_ws.Limits(max_message_size=BIG),
        "compression": trio_ws.Compression() if task.deflate else None,
        "keepalive": None,
        "instruments": [Counter()] if task.variant == "hooks" else (),
    }
    if task.variant == "frame log":
        frames = logging.getLogger("trio_ws.frames")
        frames.setLevel(logging.DEBUG)
        frames.addHandler(Formatted())
        frames.propagate = False

    async def handle(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await obey(bind(websocket), hands, trio_ws.ConnectionClosed)

    if task.role == "server":
        serve = partial(trio_ws.serve_websocket, handle, HOST, 0, task.ssl_context, **options)
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve)
            say(server.port)
        return
    async with trio_ws.Agent() as agent, trio.open_nursery() as nursery:
        # A call without a dispatcher speaks HTTP/1.1.
        dispatcher = agent if task.variant == "http2" else None
        connect = partial(
            trio_ws.open_websocket, task.url, ssl_context=task.ssl_context, dispatcher=dispatcher, **options
        )

        async def open_one() -> None:
            async with connect():
                pass

        async def join(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            async with connect() as websocket:
                task_status.started()
                await obey(bind(websocket), hands, trio_ws.ConnectionClosed)

        hands.open_one = open_one
        hands.join_one = partial(nursery.start, join)
        await nursery.start(join)
