"""Rooms of one process: who is in them, what is said, and what other processes tell of the same rooms."""

from __future__ import annotations

import json
import secrets
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

import trio_ws

from .brokers import BrokerAway

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .brokers import Broker

HISTORY = 30  # messages that a newcomer is shown
MAX_BUFFERED = 2**18  # bytes that may wait for a slow member; with more it is closed, and its page connects again
HEARTBEAT = 5.0  # seconds between two lists of the people who are here
SILENT = 3 * HEARTBEAT  # seconds after which a process that sends no list is taken for dead


@dataclass(slots=True)
class Room:
    """A room that somebody of this process is in.

    Attributes:
        group: those who are connected to this process.
        here: their names.
        elsewhere: of each other process, the names that it has told last, and the time until which that holds.
        history: the messages of late, as they were sent.
    """

    group: trio_ws.Group = field(default_factory=lambda: trio_ws.Group(slow="close", max_buffered=MAX_BUFFERED))
    here: dict[trio_ws.WebSocket, str] = field(default_factory=dict)
    elsewhere: dict[str, tuple[list[str], float]] = field(default_factory=dict)
    history: deque[str] = field(default_factory=lambda: deque(maxlen=HISTORY))

    def people(self) -> list[str]:
        """Name everyone in the room, each once."""
        now = trio.current_time()
        self.elsewhere = {process: told for process, told in self.elsewhere.items() if told[1] > now}
        names = set(self.here.values()).union(*(names for names, _ in self.elsewhere.values()))
        return sorted(names, key=str.casefold)

    def show_people(self) -> None:
        """Tell everyone here who is in the room."""
        self.group.broadcast(json.dumps({"kind": "people", "people": self.people()}))


class Chat:
    """All rooms of one process. What is said goes through the broker, also to the members of this process."""

    def __init__(self, broker: Broker) -> None:
        self.process = secrets.token_hex(4)
        self._broker = broker
        self._rooms: dict[str, Room] = {}
        self._changed: set[str] = set()  # names of rooms that others must hear of
        self._wake = trio.Event()

    @asynccontextmanager
    async def join(self, room_name: str, who: str, ws: trio_ws.WebSocket) -> AsyncGenerator[Room, None]:
        """Have somebody in a room while the block lasts."""
        room = self._rooms.setdefault(room_name, Room())
        room.here[ws] = who
        try:
            async with room.group.join(ws):
                self._tell_of(room_name)
                yield room
        finally:
            del room.here[ws]
            if not room.here:
                del self._rooms[room_name]
            self._tell_of(room_name)

    async def say(self, room_name: str, who: str, text: str) -> None:
        """Say something to everyone in a room, in all processes.

        Raises:
            BrokerAway: nobody has heard it.
        """
        await self._broker.publish(json.dumps({"kind": "said", "room": room_name, "who": who, "text": text}))

    def hear(self, published: str) -> None:
        """Take what a process has published, this one or another."""
        event = json.loads(published)
        room = self._rooms.get(event["room"])
        if room is None:
            return
        if event["kind"] == "said":
            room.history.append(published)
            room.group.broadcast(published)
        elif event["process"] != self.process:
            room.elsewhere[event["process"]] = event["people"], trio.current_time() + SILENT
            room.show_people()
            if event["new"]:
                self._tell_of(event["room"], show=False)

    def _tell_of(self, room_name: str, *, show: bool = True) -> None:
        """Note that other processes must hear who is in a room; leaving it must not wait for that."""
        self._changed.add(room_name)
        self._wake.set()
        if show and room_name in self._rooms:
            self._rooms[room_name].show_people()

    async def announce(self) -> None:
        """Tell the other processes who is here: when that changes, and every few seconds."""
        told: set[str] = set()  # rooms that they have heard of from us
        while True:
            with trio.move_on_after(HEARTBEAT) as waiting:
                await self._wake.wait()
            self._wake = trio.Event()
            names, self._changed = (set(self._rooms) if waiting.cancelled_caught else self._changed), set()
            for name in names:
                room = self._rooms.get(name, Room())
                people = sorted(room.here.values())
                event = {"kind": "people", "room": name, "process": self.process, "people": people}
                try:
                    await self._broker.publish(json.dumps(event | {"new": bool(people) and name not in told}))
                except BrokerAway:
                    continue  # the next heartbeat tells it
                (told.add if people else told.discard)(name)
            if waiting.cancelled_caught:
                for room in list(self._rooms.values()):
                    room.show_people()  # without those whose process has died
