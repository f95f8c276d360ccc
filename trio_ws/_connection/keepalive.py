"""When to ask a silent peer whether it is there, and when to give it up."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._options import Keepalive


class Verdict(enum.Enum):
    """What is to be done about a peer."""

    WAIT = enum.auto()
    ASK = enum.auto()
    GIVE_UP = enum.auto()


class KeepaliveClock:
    """Counts the silence of one peer. Any byte is life, not only a pong.

    Args:
        keepalive: the options, None: never ask.
        now: when the connection opened.

    Attributes:
        heard_at: when something last came from the peer.
    """

    __slots__ = ("_asked_at", "_keepalive", "_stopped", "_timeout", "heard_at")

    def __init__(self, keepalive: Keepalive | None, now: float) -> None:
        self._keepalive = keepalive
        self._timeout = math.inf if keepalive is None or keepalive.timeout is None else keepalive.timeout
        self.heard_at: float = now
        self._asked_at: float | None = None
        self._stopped = False

    def hear(self, now: float) -> None:
        """Note that something came from the peer."""
        self.heard_at = now

    def overhear(self, at: float) -> None:
        """Note that something came at some time, perhaps before what is noted already."""
        self.heard_at = max(self.heard_at, at)

    def stop(self) -> None:
        """Stand still: nobody listens to the peer now."""
        self._stopped = True

    def restart(self, now: float) -> None:
        """Begin anew: somebody listens again."""
        self._stopped = False
        self.heard_at = now
        self._asked_at = None

    def look(self, now: float) -> tuple[Verdict, float]:
        """Tell what to do now, and when to look again."""
        keepalive = self._keepalive
        if keepalive is None or self._stopped:
            return Verdict.WAIT, math.inf
        if self._asked_at is not None:
            if self.heard_at < self._asked_at:
                gives_up = self._asked_at + self._timeout
                return Verdict.WAIT if now < gives_up else Verdict.GIVE_UP, gives_up
            self._asked_at = None
        due = self.heard_at + keepalive.interval
        if now < due:
            return Verdict.WAIT, due
        if self._timeout == math.inf:
            self.heard_at = now  # an answer is not asked for: just keep talking
            return Verdict.ASK, now + keepalive.interval
        self._asked_at = now
        return Verdict.ASK, now + self._timeout
