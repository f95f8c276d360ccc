"""Pings on their way to the peer, and the tasks that wait for their pongs.

A peer need answer only the newest of several pings (RFC 6455 §5.5.3), whether a task waits for that one or not. So each
ping is noted that was sent, and a pong answers all pings up to its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .._util.waiters import Waiters

# Pings that no task waits for and that are noted, the newest: a peer that lives answers the last one in any case.
MOST_WITHOUT_A_TASK = 16


@dataclass(slots=True, eq=False)
class SentPing:
    """One ping on its way.

    Attributes:
        waited_for: whether a task waits for its pong.
        round_trip: seconds until it was answered; None: it was not.
    """

    payload: bytes
    sent_at: float
    waited_for: bool = False
    round_trip: float | None = None
    waiting: Waiters = field(default_factory=Waiters)


class Pings:
    """The pings of one connection that have no answer yet.

    Attributes:
        latency: the round trip of the last ping that was answered, in seconds.
    """

    __slots__ = ("_number", "_released", "_sent", "latency")

    def __init__(self) -> None:
        self._sent: tuple[SentPing, ...] = ()  # oldest first; no list: an empty one takes memory
        self._number = 0
        self._released = False
        self.latency: float | None = None

    def note(self, payload: bytes | None, now: float) -> SentPing:
        """Note a ping that is sent now; without a payload it gets one of its own."""
        if payload is None:
            self._number += 1
            payload = self._number.to_bytes(8, "big")
        ping = SentPing(payload, now)
        self._sent = (*self._sent, ping)
        self._forget_oldest()
        return ping

    def _forget_oldest(self) -> None:
        """Keep the number of pings bounded that no task waits for."""
        idle = [ping for ping in self._sent if not ping.waited_for]
        if len(idle) > MOST_WITHOUT_A_TASK:
            self._sent = tuple(ping for ping in self._sent if ping is not idle[0])

    def answer(self, payload: bytes, now: float) -> None:
        """Note a pong. It answers the newest ping with its payload, and those before it (RFC 6455 §5.5.3).

        Of pings with the same payload nobody can tell which one it is for. It is taken for the newest: a peer that
        answers that one alone sends no other.
        """
        for index in reversed(range(len(self._sent))):
            if self._sent[index].payload == payload:
                answered, self._sent = self._sent[: index + 1], self._sent[index + 1 :]
                self.latency = now - answered[-1].sent_at
                for ping in answered:
                    ping.round_trip = now - ping.sent_at
                    ping.waiting.unpark_all()
                return

    async def wait(self, ping: SentPing) -> float | None:
        """Wait for the pong; None: it will not come. Cancelled, the ping is still noted: its pong answers others."""
        ping.waited_for = True
        try:
            if not self._released:
                await ping.waiting.park()
        finally:
            ping.waited_for = False
            self._forget_oldest()
        return ping.round_trip

    def release(self) -> None:
        """Wake every task that waits, and let none wait any more: no pong will come."""
        self._released = True
        for ping in self._sent:
            ping.waiting.unpark_all()
