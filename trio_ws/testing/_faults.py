"""Streams that misbehave: each wraps another stream and hurts it in one way, so that they can be combined."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

Data = bytes | bytearray | memoryview


class WrappedStream(trio.abc.HalfCloseableStream):
    """A stream that passes everything on to the one below; subclass it to make a fault of your own.

    Args:
        below: any stream. One that cannot end a single direction, TLS say, is closed by ``send_eof``.
    """

    def __init__(self, below: trio.abc.Stream) -> None:
        self.below = below

    async def send_all(self, data: Data) -> None:
        """Send on the stream below."""
        await self.below.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for the stream below."""
        await self.below.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive from the stream below."""
        return await self.below.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """End one direction of the stream below, or close it."""
        if isinstance(self.below, trio.abc.HalfCloseableStream):
            await self.below.send_eof()
        else:
            await self.below.aclose()

    async def aclose(self) -> None:
        """Close the stream below."""
        await self.below.aclose()


class ChunkedStream(WrappedStream):
    """Gives at most ``size`` bytes at a time to who receives."""

    def __init__(self, below: trio.abc.Stream, size: int) -> None:
        super().__init__(below)
        self._size = size

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive a piece."""
        return await self.below.receive_some(self._size if max_bytes is None else min(max_bytes, self._size))


class PartialWriteStream(WrappedStream):
    """Takes ``size`` bytes at a time, with a wait of ``delay`` seconds after each: cut between two, it is torn."""

    def __init__(self, below: trio.abc.Stream, size: int, delay: float = 0.0) -> None:
        super().__init__(below)
        self._size = size
        self._delay = delay

    async def send_all(self, data: Data) -> None:
        """Send in pieces."""
        view = memoryview(data)
        for start in range(0, len(view), self._size):
            await self.below.send_all(view[start : start + self._size])
            await trio.sleep(self._delay)


class DelayedStream(WrappedStream):
    """Waits ``delay`` seconds before it sends, and before it receives. Cancelled while it waits, nothing happened."""

    def __init__(self, below: trio.abc.Stream, delay: float) -> None:
        super().__init__(below)
        self._delay = delay

    async def send_all(self, data: Data) -> None:
        """Wait and send."""
        await trio.sleep(self._delay)
        await self.below.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Wait and receive."""
        await trio.sleep(self._delay)
        return await self.below.receive_some(max_bytes)


class BreakAfter(WrappedStream):
    """Raises once ``sent`` bytes were sent or ``received`` bytes received, both ways from then on.

    Args:
        below: any stream; it stays open.
        sent: bytes that still go.
        received: bytes that still come.
        error: makes what is raised.
    """

    def __init__(
        self,
        below: trio.abc.Stream,
        *,
        sent: float = math.inf,
        received: float = math.inf,
        error: Callable[[], Exception] = trio.BrokenResourceError,
    ) -> None:
        super().__init__(below)
        self._to_send = sent
        self._to_receive = received
        self._error = error

    def _check(self) -> None:
        if self._to_send <= 0 or self._to_receive <= 0:
            raise self._error()

    async def send_all(self, data: Data) -> None:
        """Send what still goes."""
        self._check()
        room = int(min(self._to_send, len(data)))
        self._to_send -= len(data)
        await self.below.send_all(memoryview(data)[:room])
        self._check()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive what still comes."""
        self._check()
        most = min(self._to_receive, math.inf if max_bytes is None else max_bytes)
        data = await self.below.receive_some(None if most == math.inf else int(most))
        self._to_receive -= len(data)
        return data


class StallAfter(WrappedStream):
    """Takes ``sent`` bytes and gives ``received`` bytes, then nothing more, and never says so."""

    def __init__(self, below: trio.abc.Stream, sent: float = math.inf, *, received: float = math.inf) -> None:
        super().__init__(below)
        self._to_send = sent
        self._to_receive = received

    async def send_all(self, data: Data) -> None:
        """Send what still goes, and wait for ever if that is not all."""
        room = int(min(self._to_send, len(data)))
        self._to_send -= room
        if room:
            await self.below.send_all(memoryview(data)[:room])
        if room < len(data):
            await trio.sleep_forever()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive what still comes, or wait for ever."""
        if self._to_receive <= 0:
            await trio.sleep_forever()
        most = min(self._to_receive, math.inf if max_bytes is None else max_bytes)
        data = await self.below.receive_some(None if most == math.inf else int(most))
        self._to_receive -= len(data)
        return data


class RecordingStream(WrappedStream):
    """Keeps what went either way.

    Attributes:
        sent: all bytes that the stream below has taken.
        received: all bytes that it has given.
    """

    def __init__(self, below: trio.abc.Stream) -> None:
        super().__init__(below)
        self.sent: bytearray = bytearray()
        self.received: bytearray = bytearray()

    async def send_all(self, data: Data) -> None:
        """Send and keep."""
        await self.below.send_all(data)
        self.sent += data

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive and keep."""
        data = await self.below.receive_some(max_bytes)
        self.received += data
        return data


class ChaosStream(WrappedStream):
    """Cuts what goes either way at random places, with random waits between; one seed, one behaviour.

    Args:
        below: any stream; it stays open.
        seed: of the random numbers. The same seed and the same calls give the same cuts, waits and break.
        max_delay: seconds of a wait, at most; one piece in four has to wait.
        break_chance: how likely a piece is the last, 0 to 1; the stream raises ``trio.BrokenResourceError`` then, both
            ways from then on.
    """

    def __init__(
        self, below: trio.abc.Stream, seed: int, *, max_delay: float = 0.05, break_chance: float = 0.0
    ) -> None:
        super().__init__(below)
        self._random = random.Random(seed)
        self._max_delay = max_delay
        self._break_chance = break_chance
        self._broken = False

    async def _piece(self) -> int:
        """Wait, or break; tell how many bytes go next."""
        self._broken = self._broken or self._random.random() < self._break_chance
        if self._broken:
            raise trio.BrokenResourceError("chaos")
        waits = self._random.random() < 0.25
        await trio.sleep(self._random.uniform(0, self._max_delay) if waits else 0)
        return self._random.randint(1, 2 ** self._random.randint(0, 14))  # small ones are as likely as large ones

    async def send_all(self, data: Data) -> None:
        """Send in pieces."""
        rest = memoryview(data)
        while rest:
            size = await self._piece()
            await self.below.send_all(rest[:size])
            rest = rest[size:]

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive a piece."""
        size = await self._piece()
        return await self.below.receive_some(size if max_bytes is None else min(size, max_bytes))


class NoHalfClose(trio.abc.Stream):
    """A stream that cannot end one direction alone, as TLS cannot."""

    def __init__(self, below: trio.abc.Stream) -> None:
        self.below = below

    async def send_all(self, data: Data) -> None:
        """Send on the stream below."""
        await self.below.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for the stream below."""
        await self.below.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive from the stream below."""
        return await self.below.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close the stream below."""
        await self.below.aclose()
