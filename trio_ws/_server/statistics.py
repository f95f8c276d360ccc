"""What a server has counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .._net.http2.frame_reader import Http2Statistics
    from .._websocket.websocket import WebSocket


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatistics:
    """What a server has counted since it began, and how it stands now; ``WebSocketServer.statistics()`` gives it.

    Attributes:
        connections: connections that are open, of TCP or of Unix sockets; one over HTTP/2 may carry many WebSockets.
        open: WebSockets that are open.
        accepted: WebSockets that handlers have accepted, those that are open among them.
        http_versions: how many of these by the version of HTTP, "1.1" or "2".
        refused: requests for a WebSocket that were answered with another HTTP status, by that status: 403 is a foreign
            origin or a handler's ``reject()``, 421 a host that is not this server's, 408 a request that took too long,
            426 a request that asked for no WebSocket, 503 a server that is closing.
        failed: connections on which no request came about, by reason: "tls" failed; "tls timeout"; "no request" came
            before the client left.
        messages_received: messages of all WebSockets, also those that have ended, as :class:`Statistics` counts them.
        messages_sent: likewise.
        bytes_received: likewise.
        bytes_sent: likewise.
        slow: WebSockets that a broadcast has left out, or closed, because too much waited for their network.
        http2: what the connections over HTTP/2 have counted.
    """

    connections: int
    open: int
    accepted: int
    http_versions: Mapping[str, int]
    refused: Mapping[int, int]
    failed: Mapping[str, int]
    messages_received: int
    messages_sent: int
    bytes_received: int
    bytes_sent: int
    slow: int
    http2: Http2Statistics

    if not TYPE_CHECKING:  # statistics() gave an Http2Statistics before: its names go on working

        def __getattr__(self, name: str) -> object:
            if name.startswith("__"):
                raise AttributeError(name)
            return getattr(self.http2, name)


class ServerCounters:
    """Counts while a server runs.

    Attributes:
        refused: by HTTP status.
        failed: by reason.
    """

    __slots__ = ("_ended", "_http_versions", "failed", "refused")

    def __init__(self) -> None:
        self.refused: Counter[int] = Counter()
        self.failed: Counter[str] = Counter()
        self._http_versions: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()  # sums of the WebSockets that have ended

    def begin(self, websocket: WebSocket) -> None:
        """Count a WebSocket that was accepted."""
        self._http_versions[websocket.http_version] += 1

    def end(self, websocket: WebSocket) -> None:
        """Count what a WebSocket that has ended has counted."""
        _add(self._ended, websocket)

    def statistics(self, connections: int, websockets: Iterable[WebSocket], http2: Http2Statistics) -> ServerStatistics:
        """Sum up, with the WebSockets that are open."""
        sums = Counter(self._ended)
        number = 0
        for websocket in websockets:
            number += 1
            _add(sums, websocket)
        return ServerStatistics(
            connections=connections,
            open=number,
            accepted=self._http_versions.total(),
            http_versions=MappingProxyType(dict(self._http_versions)),
            refused=MappingProxyType(dict(self.refused)),
            failed=MappingProxyType(dict(self.failed)),
            messages_received=sums["messages_received"],
            messages_sent=sums["messages_sent"],
            bytes_received=sums["bytes_received"],
            bytes_sent=sums["bytes_sent"],
            slow=sums["slow"],
            http2=replace(http2, limits_passed=dict(http2.limits_passed)),
        )


def _add(sums: Counter[str], websocket: WebSocket) -> None:
    connection = websocket._connection
    counted = connection.counters
    sums["messages_received"] += counted.messages_received
    sums["messages_sent"] += counted.messages_sent
    sums["bytes_received"] += counted.bytes_received
    sums["bytes_sent"] += connection.outbox.bytes_sent
    sums["slow"] += counted.broadcasts_missed > 0
