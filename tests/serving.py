"""Servers of ours to test against, and what of the process they hold."""

from __future__ import annotations

import functools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

import trio_ws

from .raw import client_context, server_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Awaitable, Callable

LOCALHOST = "127.0.0.1"


async def echo(request: trio_ws.WebSocketRequest) -> None:
    """Send every message back."""
    async with request.accept() as websocket:
        async for message in websocket:
            await websocket.send(message)


@functools.cache
def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make the contexts of a server on this machine and of a client that trusts it."""
    return server_context(), client_context()


@asynccontextmanager
async def serving(
    serve: Callable[..., Awaitable[None]],
) -> AsyncGenerator[trio_ws.WebSocketServer, None]:
    """Run ``partial(serve_websocket, ...)`` for as long as the block lasts."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve)
        yield server
        nursery.cancel_scope.cancel()


def live_tasks() -> int:
    """Count the tasks of this run."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    waiting, count = [root], 0
    while waiting:
        task = waiting.pop()
        count += 1
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)
    return count


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something becomes true; the caller bounds it."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.001)
