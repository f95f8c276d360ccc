"""The HTTP/2 connections that an agent shares: which there are to one origin, and who makes the next.

Rules:

1. Whoever needs a connection that is not there makes it, in its own task; the others that want one to the same origin
   wait for that. If it fails, or is cancelled, the next of them tries for itself: nobody gets another's exception.
2. What an origin speaks is found out once. One that has no WebSocket over HTTP/2 gets HTTP/1.1 from then on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .._net.http2.connection import Http2Connection
from .._reactor import Reactor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Hashable

    from .._transport import Transport


class Origin:
    """What an agent knows of one origin.

    Attributes:
        connections: those over HTTP/2 that have not ended.
        http1: whether it is known to take WebSockets over HTTP/1.1 only.
    """

    __slots__ = ("_dialing", "_waiting", "connections", "http1")

    def __init__(self) -> None:
        self.connections: list[Http2Connection] = []
        self.http1 = False
        self._dialing = False
        self._waiting = trio.lowlevel.ParkingLot()

    def pick(self, shunned: Collection[Http2Connection]) -> Http2Connection | None:
        """Give the first connection that has room, so that the last ones fall idle; None if there is none."""
        self.connections = [connection for connection in self.connections if not connection.ended]
        for connection in self.connections:
            if connection.has_room and connection not in shunned:
                return connection
        return None

    async def dial(self, make: Callable[[], Awaitable[Http2Connection | Transport | None]]) -> Transport | None:
        """Make a connection, or wait until somebody else has tried to; then look again.

        Args:
            make: gives a connection over HTTP/2, or else one that can carry one WebSocket over HTTP/1.1, or None.

        Returns:
            The connection for HTTP/1.1, if that was made here.
        """
        if self._dialing:
            await self._waiting.park()
            return None
        self._dialing = True
        try:
            made = await make()
        finally:
            self._dialing = False
            self._waiting.unpark_all()
        if isinstance(made, Http2Connection):
            self.connections.append(made)
            return None
        self.http1 = True
        return made


class Pool:
    """The origins that one agent has seen.

    Args:
        nursery: where the tasks of the connections run.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.reactor = Reactor(nursery, shield=True)
        self._origins: dict[Hashable, Origin] = {}

    def origin(self, key: Hashable) -> Origin:
        """Give what is known of an origin."""
        return self._origins.setdefault(key, Origin())

    def close(self) -> None:
        """End every connection at once, and what it carries."""
        for origin in self._origins.values():
            for connection in origin.connections:
                connection.close()
