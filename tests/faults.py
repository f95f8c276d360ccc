"""Streams that misbehave: each wraps another stream and hurts it in one way."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

Data = bytes | bytearray | memoryview


class WrappedStream(trio.abc.HalfCloseableStream):
    """A stream that passes everything on to the one below."""

    def __init__(self, below: trio.abc.HalfCloseableStream) -> None:
        self.below = below

    async def send_all(self, data: Data) -> None:
        await self.below.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.below.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.below.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self.below.send_eof()

    async def aclose(self) -> None:
        await self.below.aclose()


class ChunkedStream(WrappedStream):
    """Gives at most ``size`` bytes at a time to who receives."""

    def __init__(self, below: trio.abc.HalfCloseableStream, size: int) -> None:
        super().__init__(below)
        self._size = size

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.below.receive_some(self._size if max_bytes is None else min(max_bytes, self._size))


class PartialWriteStream(WrappedStream):
    """Takes ``size`` bytes at a time, with a wait of ``delay`` seconds after each: cut between two, it is torn."""

    def __init__(self, below: trio.abc.HalfCloseableStream, size: int, delay: float = 0.0) -> None:
        super().__init__(below)
        self._size = size
        self._delay = delay

    async def send_all(self, data: Data) -> None:
        view = memoryview(data)
        for start in range(0, len(view), self._size):
            await self.below.send_all(view[start : start + self._size])
            await trio.sleep(self._delay)


class BreakAfter(WrappedStream):
    """Raises once ``sent`` bytes were sent or ``received`` bytes received, both ways from then on."""

    def __init__(
        self,
        below: trio.abc.HalfCloseableStream,
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
        self._check()
        room = int(min(self._to_send, len(data)))
        self._to_send -= len(data)
        await self.below.send_all(memoryview(data)[:room])
        self._check()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self._check()
        most = min(self._to_receive, math.inf if max_bytes is None else max_bytes)
        data = await self.below.receive_some(None if most == math.inf else int(most))
        self._to_receive -= len(data)
        return data


class StallAfter(WrappedStream):
    """Takes ``sent`` bytes, then nothing more, and never says so."""

    def __init__(self, below: trio.abc.HalfCloseableStream, sent: int) -> None:
        super().__init__(below)
        self._room = sent

    async def send_all(self, data: Data) -> None:
        room = min(self._room, len(data))
        self._room -= room
        if room:
            await self.below.send_all(memoryview(data)[:room])
        if room < len(data):
            await trio.sleep_forever()


class RecordingStream(WrappedStream):
    """Keeps what went either way."""

    def __init__(self, below: trio.abc.HalfCloseableStream) -> None:
        super().__init__(below)
        self.sent = bytearray()
        self.received = bytearray()

    async def send_all(self, data: Data) -> None:
        await self.below.send_all(data)
        self.sent += data

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self.below.receive_some(max_bytes)
        self.received += data
        return data


class NoHalfClose(trio.abc.Stream):
    """A stream that cannot end one direction alone, as TLS cannot."""

    def __init__(self, below: trio.abc.Stream) -> None:
        self.below = below

    async def send_all(self, data: Data) -> None:
        await self.below.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.below.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.below.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.below.aclose()
