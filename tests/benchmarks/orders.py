"""What the generator orders a side under test to do, in text messages; all libraries obey with the same loops.

``VERB COUNT [SIZE]``, answered with "done" when it has been done: "echo" sends so many messages back, "sink" receives
them with ``await receive()``, "drain" with ``receive_nowait()`` where there is one, "send" sends them, "open" opens and
closes connections to the generator, "join" opens more that obey as this one does, "broadcast" sends to every connection
but this one, "checkpoint" passes so many bare checkpoints of trio.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import trio

from tests.benchmarks.payloads import payloads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Message = str | bytes

DONE = "done"


@dataclass(slots=True, eq=False)
class Socket:
    """One open WebSocket of any library: its own methods, with nothing between them and the loops."""

    receive: Callable[[], Awaitable[Message]]
    send: Callable[[Message], Awaitable[object]]
    drain: Callable[[int], Awaitable[None]] | None = None
    connection: object = None  # for Hands.broadcast


@dataclass(slots=True)
class Hands:
    """What else a side under test can do."""

    sockets: list[Socket] = field(default_factory=list)  # all that are open
    open_one: Callable[[], Awaitable[None]] | None = None
    join_one: Callable[[], Awaitable[None]] | None = None
    broadcast: Callable[[list[Any], bytes], Awaitable[None]] | None = None  # None: a send for each


async def obey(socket: Socket, hands: Hands, closed: type[Exception]) -> None:
    """Carry out orders until the connection ends, which the library tells by an exception of this type."""
    receive, send = socket.receive, socket.send
    hands.sockets.append(socket)
    try:
        while True:
            order = await receive()
            assert isinstance(order, str)
            verb, *numbers = order.split()
            await carry_out(verb, [int(number) for number in numbers], socket, hands)
            await send(DONE)
    except closed:
        pass
    finally:
        hands.sockets.remove(socket)


async def carry_out(verb: str, numbers: list[int], socket: Socket, hands: Hands) -> None:
    """Carry out one order."""
    receive, send = socket.receive, socket.send
    count = numbers[0]
    if verb == "echo":
        for _ in range(count):
            await send(await receive())
    elif verb == "sink":
        for _ in range(count):
            await receive()
    elif verb == "drain":
        assert socket.drain is not None
        await socket.drain(count)
    elif verb == "send":
        for payload in islice(cycle(payloads(numbers[1])), count):
            await send(payload)
    elif verb == "open":
        assert hands.open_one is not None
        for _ in range(count):
            await hands.open_one()
    elif verb == "join":
        assert hands.join_one is not None
        for _ in range(count):
            await hands.join_one()
    elif verb == "broadcast":
        await broadcast(count, bytes(numbers[1]), [other for other in hands.sockets if other is not socket], hands)
    elif verb == "checkpoint":
        for _ in range(count):
            await trio.lowlevel.checkpoint()
    else:
        raise ValueError(f"no such order: {verb}")


async def broadcast(count: int, payload: bytes, others: list[Socket], hands: Hands) -> None:
    """Send so many messages to each, by what the library has for that."""
    connections = [other.connection for other in others]
    for _ in range(count):
        if hands.broadcast is not None:
            await hands.broadcast(connections, payload)
        else:
            for other in others:
                await other.send(payload)
