"""Pings that wait for their pongs."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio


@dataclass(slots=True, eq=False)
class PingWaiter:
    """One ping on its way."""

    payload: bytes
    sent_at: float
    round_trip: float | None = None
    parking_lot: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)


class Pings:
    """The pings of one connection that have no answer yet, oldest first."""

    __slots__ = ("_number", "_waiters", "latency")

    def __init__(self) -> None:
        self._waiters: tuple[PingWaiter, ...] = ()  # no list: an empty one takes memory
        self._number = 0
        self.latency: float | None = None

    def expect(self, payload: bytes | None, now: float) -> PingWaiter:
        """Note a ping that is sent now; without a payload it gets one of its own."""
        if payload is None:
            self._number += 1
            payload = self._number.to_bytes(8, "big")
        waiter = PingWaiter(payload, now)
        self._waiters = (*self._waiters, waiter)
        return waiter

    def answer(self, payload: bytes, now: float) -> None:
        """Note a pong. It answers the newest ping with its payload, and those before it (RFC 6455 §5.5.3)."""
        for index in reversed(range(len(self._waiters))):
            if self._waiters[index].payload == payload:
                answered, self._waiters = self._waiters[: index + 1], self._waiters[index + 1 :]
                self.latency = now - answered[-1].sent_at
                for waiter in answered:
                    waiter.round_trip = now - waiter.sent_at
                    waiter.parking_lot.unpark_all()
                return

    def forget(self, waiter: PingWaiter) -> None:
        """Take a ping off the books, if it is still on them."""
        self._waiters = tuple(other for other in self._waiters if other is not waiter)

    def release(self) -> None:
        """Wake everyone who waits: no pong will come any more."""
        for waiter in self._waiters:
            waiter.parking_lot.unpark_all()
