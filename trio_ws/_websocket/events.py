"""A connection told as events, in the order that WHATWG's WebSocket fires them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from .._close import ABNORMAL
from .._exceptions import ConnectionClosed

if TYPE_CHECKING:
    from .._connection.connection import Connection


@dataclass(frozen=True, slots=True)
class OpenEvent:
    """The connection is open: the first event."""


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """A message came.

    Attributes:
        data: ``str`` for text, ``bytes`` for binary.
    """

    data: str | bytes


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """The connection ended without a Close frame of the peer's; a CloseEvent follows.

    Attributes:
        error: what ``receive()`` would raise; its ``__cause__`` says why if that is known.
    """

    error: ConnectionClosed


@dataclass(frozen=True, slots=True)
class CloseEvent:
    """The connection has ended: the last event.

    Attributes:
        code: the close code, as a browser tells it: 1005 when the peer's Close frame carried none, 1006 when the peer
            sent no Close frame. Then the ErrorEvent before this one says why, and so does ``close_info``.
        reason: the text that came with it, "" if none.
        was_clean: True when both sides sent a Close frame.
    """

    code: int
    reason: str
    was_clean: bool


Event = OpenEvent | MessageEvent | ErrorEvent | CloseEvent


class Events:
    """What ``ws.events()`` iterates over."""

    __slots__ = ("_connection", "_next")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._next: list[Event] | None = [OpenEvent()]  # known already, the last first; None: all has been told

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        if self._next is None:
            await trio.lowlevel.checkpoint()
            raise StopAsyncIteration
        if self._next:
            await trio.lowlevel.checkpoint()
        else:
            try:
                return MessageEvent(await self._connection.receive())
            except ConnectionClosed as error:
                closed = error
            await self._connection.wait_ended()
            protocol = self._connection.protocol
            received = protocol.close_received
            if received is not None:
                self._next = [CloseEvent(received.code, received.reason, protocol.close_info.was_clean)]
            else:
                self._next = [CloseEvent(ABNORMAL, "", was_clean=False), ErrorEvent(closed)]
        event = self._next.pop()
        if isinstance(event, CloseEvent):
            self._next = None
        return event
