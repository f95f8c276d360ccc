"""Servers of ours to test against, and what of the process they hold."""

from __future__ import annotations

import functools
import os
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
import trustme

import trio_ws

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

LOCALHOST = "127.0.0.1"


async def echo(request: trio_ws.WebSocketRequest) -> None:
    """Send every message back."""
    async with request.accept() as websocket:
        async for message in websocket:
            await websocket.send(message)


@functools.cache
def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make the contexts of a server on LOCALHOST and of a client that trusts it."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(LOCALHOST, key_type=trustme.KeyType.ECDSA).configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return server, client


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


def open_descriptors() -> int:
    """Count the file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something becomes true; the caller bounds it."""
    while not condition():
        await trio.sleep(0.001)
