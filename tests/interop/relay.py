"""A TCP relay that counts the connections through it and can cut them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

HOST = "127.0.0.1"


class Relay:
    """What stands between a client and a server.

    Attributes:
        port: where the client finds it.
        connections: how many there have been.
    """

    def __init__(self, connect: Callable[[], Awaitable[trio.SocketStream]]) -> None:
        self._connect = connect
        self._open: set[trio.CancelScope] = set()
        self.port = 0
        self.connections = 0

    def cut(self) -> None:
        """End every connection at once."""
        for scope in self._open:
            scope.cancel()

    async def carry(self, client: trio.SocketStream) -> None:
        """Carry one connection to its end."""
        self.connections += 1
        with trio.CancelScope() as scope:
            self._open.add(scope)
            try:
                async with client, await self._connect() as server, trio.open_nursery() as nursery:
                    nursery.start_soon(pump, client, server)
                    nursery.start_soon(pump, server, client)
            finally:
                self._open.discard(scope)


async def pump(source: trio.SocketStream, target: trio.SocketStream) -> None:
    """Carry one direction; an end of the stream is carried too."""
    try:
        async for chunk in source:
            await target.send_all(chunk)
        await target.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        await trio.aclose_forcefully(source)
        await trio.aclose_forcefully(target)


@asynccontextmanager
async def relaying(connect: Callable[[], Awaitable[trio.SocketStream]]) -> AsyncIterator[Relay]:
    """Run a relay as long as the block.

    Args:
        connect: reaches the server.
    """
    relay = Relay(connect)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, relay.carry, 0, host=HOST))
        relay.port = listeners[0].socket.getsockname()[1]
        yield relay
        nursery.cancel_scope.cancel()


def to_port(port: int) -> Callable[[], Awaitable[trio.SocketStream]]:
    """Reach a server on this machine."""
    return partial(trio.open_tcp_stream, HOST, port)
