"""Connections that are told the same: membership that ends with a block."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

import trio

from .base import WebSocketBase
from .broadcast import check_slow_policy, send_to_all

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator

    from .._wire.protocol import Message
    from .broadcast import BroadcastResult
    from .websocket import WebSocket
    from .websocket_stream import WebSocketStream


class Group:
    """A set of connections that :meth:`broadcast` sends the same message to: the members of a room, or of a topic.

    ``async with group.join(ws):`` makes a connection a member for as long as the block lasts, however it is left. One
    connection may join several groups, and one group several times; it is a member until the last of these blocks is
    left, and gets each message once.

    Args:
        slow: what becomes of a member whose peer takes too little, as for :func:`broadcast`: "skip" leaves a message
            out for it, "close" closes it with 1008.
        max_buffered: bytes that may wait for the network on a member, before a message; with more it is slow.

    Raises:
        ValueError: an argument breaks its rule.
    """

    __slots__ = ("__weakref__", "_blocks", "_max_buffered", "_slow")

    def __init__(self, *, slow: Literal["skip", "close"] = "skip", max_buffered: int = 2**20) -> None:
        check_slow_policy(slow, max_buffered)
        self._slow = slow
        self._max_buffered = max_buffered
        self._blocks: dict[WebSocket | WebSocketStream, int] = {}  # how many blocks of join() each member is in

    @asynccontextmanager
    async def join(self, connection: WebSocket | WebSocketStream) -> AsyncGenerator[None, None]:
        """Make a connection a member while the block lasts.

        The block goes on when the connection ends: what it does with the connection then raises ConnectionClosed.
        Cancelled before the block begins, the connection has not joined.

        Args:
            connection: a WebSocket or a WebSocketStream, of a client or a server.

        Raises:
            TypeError: connection is neither.
        """
        if not isinstance(connection, WebSocketBase):
            raise TypeError(f"connection: {connection!r} is no WebSocket")
        await trio.lowlevel.checkpoint()
        self._blocks[connection] = self._blocks.get(connection, 0) + 1
        try:
            yield
        finally:
            if self._blocks[connection] == 1:
                del self._blocks[connection]
            else:
                self._blocks[connection] -= 1

    def broadcast(
        self,
        message: Message,
        *,
        exclude: Iterable[WebSocket | WebSocketStream] = (),
        compress: bool | None = None,
    ) -> BroadcastResult:
        """Send one message to all members, and wait for none of them, as :func:`broadcast` does.

        Args:
            message: ``str`` is sent as text; ``bytes``, ``bytearray`` or ``memoryview`` as binary.
            exclude: members that do not get it, the one that it came from for example.
            compress: as for ``WebSocket.send``.

        Returns:
            Which members got it and which did not; the excluded ones are in no list.

        Raises:
            TypeError: an argument has the wrong type.
            UnicodeEncodeError: message holds a lone surrogate. Nothing was sent to anyone, as with the other.
        """
        excluded = set(exclude)
        targets = [member for member in self._blocks if member not in excluded]
        return send_to_all(targets, message, slow=self._slow, max_buffered=self._max_buffered, compress=compress)

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[WebSocket | WebSocketStream]:
        """Give the members of this moment, the one that joined first before the others."""
        return iter(tuple(self._blocks))

    def __contains__(self, connection: object) -> bool:
        return connection in self._blocks

    def __repr__(self) -> str:
        return f"<Group of {len(self._blocks)}>"
