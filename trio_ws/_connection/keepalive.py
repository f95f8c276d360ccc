"""When to ask a silent peer whether it is there, and when to give it up."""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._options import Keepalive


# Seconds after which a deadline is late: the process stood still, or was not let run, and what the peer has to say may
# need it: another end in the same process, or packets that nobody acknowledged meanwhile.
LATE = 0.1


class Verdict(enum.Enum):
    """What is to be done about a peer."""

    WAIT = enum.auto()
    ASK = enum.auto()
    SILENT = enum.auto()
    """Give it up: it does not answer."""
    STUCK = enum.auto()
    """Give it up: it takes nothing of what it is sent."""


class KeepaliveClock:
    """Counts the silence of one peer. Any byte is life, not only a pong.

    Args:
        keepalive: the options, None: never ask.
        now: when the connection opened.

    Attributes:
        heard_at: when something last came from the peer.
        paused_at: when this side last stopped reading, because the application does not.
    """

    __slots__ = ("_asked_at", "_keepalive", "_late_at", "_timeout", "heard_at", "paused_at")

    def __init__(self, keepalive: Keepalive | None, now: float) -> None:
        self._keepalive = keepalive
        self._timeout = math.inf if keepalive is None or keepalive.timeout is None else keepalive.timeout
        self._asked_at = -math.inf
        self._late_at = -math.inf  # when it was last found to be late
        self.heard_at: float = now
        self.paused_at: float = -math.inf

    @property
    def limits(self) -> str:
        """The options that decide when a peer is given up, in words."""
        interval = math.inf if self._keepalive is None else self._keepalive.interval
        return f"interval is {interval:g} s, timeout {self._timeout:g} s"

    def hear(self, now: float) -> None:
        """Note that something came from the peer, or that it is listened to again: its silence begins anew."""
        self.heard_at = now

    def overhear(self, at: float) -> None:
        """Note that something came at some time, perhaps before what is noted already."""
        self.heard_at = max(self.heard_at, at)

    def pause(self, now: float) -> None:
        """Note that nobody listens to the peer from now on."""
        self.paused_at = now

    def look(self, now: float, *, listening: bool = True, stuck_since: float | None = None) -> tuple[Verdict, float]:
        """Tell what to do now, and when to look again; that is not later than now if the peer is to be given up.

        Args:
            listening: whether what the peer sends is read; else its silence tells nothing.
            stuck_since: since when it has taken no byte of those that wait for it, while nobody reads; None: none wait.
        """
        keepalive = self._keepalive
        if keepalive is None:
            return Verdict.WAIT, math.inf
        verdict, again_at = self._look_at_silence(keepalive.interval, now) if listening else (Verdict.WAIT, math.inf)
        if stuck_since is not None and again_at > now:
            gives_up = stuck_since + keepalive.interval + self._timeout
            stuck, stuck_at = self._judge(Verdict.STUCK, now, gives_up, stuck_since)
            if stuck is not Verdict.WAIT:
                return stuck, stuck_at
            again_at = min(again_at, stuck_at)
        # Where nobody listens, what waits for the peer is looked at from time to time: it may have begun to wait.
        return verdict, again_at if listening and stuck_since is None else min(again_at, now + keepalive.interval)

    def _look_at_silence(self, interval: float, now: float) -> tuple[Verdict, float]:
        if self.heard_at < self._asked_at:
            return self._judge(Verdict.SILENT, now, self._asked_at + self._timeout, self.heard_at)
        due = self.heard_at + interval
        if now < due:
            return Verdict.WAIT, due
        if self._timeout == math.inf:
            self.heard_at = now  # an answer is not asked for: just keep talking
            return Verdict.ASK, now + interval
        self._asked_at = now
        return Verdict.ASK, now + self._timeout

    def _judge(self, verdict: Verdict, now: float, gives_up: float, alive_at: float) -> tuple[Verdict, float]:
        """Give a peer up if it is time for that; if that is noticed late, it gets the same time once more."""
        gives_up = max(gives_up, self._late_at + self._timeout)
        if now < gives_up:
            return Verdict.WAIT, gives_up
        if now - gives_up > LATE and self._late_at < alive_at:
            self._late_at = now
            return Verdict.ASK, now + self._timeout
        return verdict, gives_up
