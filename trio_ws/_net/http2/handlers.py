"""The handlers of a server's streams: so many run at a time, and the others wait.

A handler may run on when its stream has ended, and the stream's place is free by then (RFC 9113 §5.1.2). So running
handlers have a bound of their own. Without that a peer which opens streams and resets them would have any number of
handlers run (CVE-2023-44487). The streams that wait are open ones, which are limited too.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import trio

    from ..._options import Limits
    from .frame_reader import Http2Statistics
    from .h2_adapter import Fields
    from .stream import Http2Stream


class Handlers:
    """Runs a handler for each stream of one connection.

    Args:
        serve: what a handler does with a stream and with its headers; the stream ends with it.
        limits: how many run at a time.
        counts: where it is counted that one had to wait.
        ended: called when one has ended.

    Attributes:
        running: how many have begun and not ended.
        nursery: where they run; to be set before the first.
    """

    __slots__ = ("_context", "_counts", "_ended", "_most", "_serve", "_waiting", "nursery", "running")

    nursery: trio.Nursery

    def __init__(
        self,
        serve: Callable[[Http2Stream, Fields | None], Awaitable[None]],
        limits: Limits,
        counts: Http2Statistics,
        ended: Callable[[], None],
    ) -> None:
        self._serve = serve
        self._most = limits.handlers
        self._counts = counts
        self._ended = ended
        self._context = contextvars.copy_context()
        self._waiting: dict[Http2Stream, Fields | None] = {}
        self.running = 0

    def add(self, stream: Http2Stream, fields: Fields | None) -> None:
        """Begin the handler of a stream, or have the stream wait for one of those that run to end."""
        if self.running < self._most:
            self._begin(stream, fields)
            return
        self._counts.pass_limit("h2_max_handlers")
        for ended in [other for other in self._waiting if other.both_ended]:  # so no more wait than are open
            del self._waiting[ended]
            ended.abort()
        self._waiting[stream] = fields

    def drop_waiting(self) -> None:
        """Begin no more: the connection has ended."""
        waiting, self._waiting = self._waiting, {}
        for stream in waiting:
            stream.abort()

    def _begin(self, stream: Http2Stream, fields: Fields | None) -> None:
        self.running += 1
        # Not in the context of whoever reads, which may be another stream's handler.
        self._context.run(self.nursery.start_soon, self._run_handler, stream, fields)

    async def _run_handler(self, stream: Http2Stream, fields: Fields | None) -> None:
        try:
            await self._serve(stream, fields)
        finally:
            self.running -= 1
            stream.abort()
            self._begin_next()
            self._ended()

    def _begin_next(self) -> None:
        while self._waiting and self.running < self._most:
            stream = next(iter(self._waiting))
            fields = self._waiting.pop(stream)
            if stream.both_ended:  # it was reset while it waited
                stream.abort()
            else:
                self._begin(stream, fields)
