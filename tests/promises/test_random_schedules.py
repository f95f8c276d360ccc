"""Random schedules: tasks that send, receive, stream and ping on both ends, each call cancelled at any step.

Nothing that was sent may be lost, doubled, changed or out of order, nothing that was cancelled may arrive, and nothing
may hang. The transports in memory run on a mock clock, and Hypothesis has trio schedule tasks from the same seed in the
same order: such a run can be repeated. ``TRIO_WS_SCHEDULES=1000`` has so many schedules run on each transport.
"""

from __future__ import annotations

import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import trio_ws
from trio_ws import Compression, Limits, WebSocket
from trio_ws.testing import memory_websocket_pair

from ..serving import live_tasks
from .links import linked

SIZES = [0, 1, 10, 125, 126, 1000, 5000, 65535, 65536, 100_000]
PIECES = [1, 7, 100, 20_000, 50_000]
COMPRESSIONS = [
    None,
    Compression(threshold=0),
    Compression(threshold=0, server_max_window_bits=9, client_max_window_bits=9, memory_level=1),
    Compression(threshold=0, server_no_context_takeover=True, client_no_context_takeover=True),
]
HANG = 60.0  # seconds


class RandomCancellations(trio.abc.Instrument):
    """Cancels some scope of those that are open before some steps of any task."""

    def __init__(self, choose: random.Random) -> None:
        self.choose = choose
        self.chance = choose.choice([0.002, 0.02, 0.1, 0.3])
        self.count = 0
        self._scopes: list[trio.CancelScope] = []

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._scopes and self.choose.random() < self.chance:
            scope = self.choose.choice(self._scopes)
            self.count += not scope.cancel_called
            scope.cancel()

    async def attempt(self, call: Callable[[], Awaitable[object]]) -> object | None:
        """Make a call that may be cancelled; give its result in a tuple, or None if it was cancelled."""
        with trio.CancelScope() as scope:
            self._scopes.append(scope)
            try:
                return (await call(),)
            finally:
                self._scopes.remove(scope)
        return None


class Side:
    """One end, and what its tasks have sent and received."""

    def __init__(self, name: str, websocket: WebSocket, cancellations: RandomCancellations) -> None:
        self.name = name
        self.websocket = websocket
        self.cancellations = cancellations
        self.choose = cancellations.choose
        self.sent: dict[str, str | bytes] = {}
        self.received: list[str | bytes] = []
        self.receivers = self.choose.choice([1, 2, 3])

    # ---- sending ----

    async def send_all(self, task: int, count: int) -> None:
        for number in range(count):
            label = f"{self.name}{task}.{number}|"
            text = label + self.choose.choice("xé€") * self.choose.choice(SIZES)
            message = text if self.choose.random() < 0.5 else label.encode() + self.choose.randbytes(len(text))
            if await self.choose.choice([self.send] * 5 + [self.send_nowait, self.send_pieces])(message):
                self.sent[label] = message
            await self.choose.choice([self.ping, self.ping_nowait, self.rest, self.go_on, self.go_on])()

    async def send(self, message: str | bytes) -> bool:
        compress = self.choose.choice([None, True, False])
        return await self.cancellations.attempt(lambda: self.websocket.send(message, compress=compress)) is not None

    async def send_nowait(self, message: str | bytes) -> bool:
        await trio.lowlevel.checkpoint()
        try:
            self.websocket.send_nowait(message)
        except trio.WouldBlock:
            return False
        return True

    async def send_pieces(self, message: str | bytes) -> bool:
        outgoing = self.websocket.send_message_stream(binary=isinstance(message, bytes))
        if await self.cancellations.attempt(outgoing.__aenter__) is None:
            return False
        position = 0
        while position < len(message):
            piece = message[position : position + self.choose.choice(PIECES)]
            if await self.cancellations.attempt(lambda piece=piece: outgoing.send(piece)):  # type: ignore[misc]
                position += len(piece)  # else nothing of it was sent
        await outgoing.__aexit__(None, None, None)
        return True

    async def ping(self) -> None:
        await self.cancellations.attempt(self.websocket.ping)

    async def ping_nowait(self) -> None:
        trio_ws.ping(self.websocket, b"q")
        await trio.lowlevel.checkpoint()

    async def rest(self) -> None:
        await trio.sleep(self.choose.random() * 0.002)

    async def go_on(self) -> None:
        await trio.lowlevel.checkpoint()

    # ---- receiving ----

    async def receive_all(self) -> None:
        while True:
            await self.choose.choice(
                [self.receive] * 4 + [self.receive_next, self.receive_nowait, self.receive_pieces]
            )()

    async def receive(self) -> None:
        self._note(await self.cancellations.attempt(self.websocket.receive))

    async def receive_next(self) -> None:
        self._note(await self.cancellations.attempt(self.websocket.__anext__))

    async def receive_nowait(self) -> None:
        with suppress(trio.WouldBlock):
            self._note((self.websocket.receive_nowait(),))
        await trio.sleep(self.choose.choice([0, 0, 0, 0.03]))

    async def receive_pieces(self) -> None:
        incoming = self.websocket.receive_message_stream()
        if await self.cancellations.attempt(incoming.__aenter__) is None:
            return
        pieces: list[object] = []
        ended = False
        while not ended:

            async def next_piece() -> None:
                nonlocal ended
                try:
                    pieces.append(await anext(incoming))
                except StopAsyncIteration:
                    ended = True

            await self.cancellations.attempt(next_piece)  # cancelled, the next call gets it
        self._note((b"".join(pieces) if incoming.binary else "".join(pieces),))  # type: ignore[arg-type]
        await incoming.__aexit__(None, None, None)

    def _note(self, result: object | None) -> None:
        if result is not None:
            self.received.append(result[0])  # type: ignore[index]


def label_of(message: str | bytes) -> str:
    """Read which message it is."""
    head = message[:20] if isinstance(message, str) else message[:20].decode("latin-1")
    return head.split("|")[0] + "|"


async def run_schedule(ends: AbstractAsyncContextManager[tuple[WebSocket, WebSocket]], choose: random.Random) -> int:
    """Run one schedule over a connection; return how many calls were cancelled."""
    cancellations = RandomCancellations(choose)
    async with ends as (client, server):
        sides = Side("c", client, cancellations), Side("s", server, cancellations)
        trio.lowlevel.add_instrument(cancellations)
        try:
            async with trio.open_nursery() as receivers:
                for side in sides:
                    for _ in range(side.receivers):
                        receivers.start_soon(side.receive_all)
                async with trio.open_nursery() as senders:
                    for side in sides:
                        for task in range(choose.choice([1, 2, 4])):
                            senders.start_soon(side.send_all, task, choose.choice([5, 20]))
                cancellations.chance = 0
                while any(len(to.received) < len(by.sent) for by, to in (sides, sides[::-1])):  # noqa: ASYNC110
                    await trio.sleep(0.01)
                await trio.testing.wait_all_tasks_blocked(0.001)  # nothing more may come
                receivers.cancel_scope.cancel()
        finally:
            trio.lowlevel.remove_instrument(cancellations)
        for by, to in (sides, sides[::-1]):
            check(by, to)
    return cancellations.count


def check(by: Side, to: Side) -> None:
    """Compare what was sent with what was received."""
    labels = [label_of(message) for message in to.received]
    assert sorted(labels) == sorted(by.sent), "a message was lost, doubled, or sent although its call was cancelled"
    for label, message in zip(labels, to.received, strict=True):
        assert message == by.sent[label]
    if to.receivers == 1:
        for task in {label.split(".")[0] for label in labels}:
            numbers = [int(label.split(".")[1][:-1]) for label in labels if label.split(".")[0] == task]
            assert numbers == sorted(numbers)


@asynccontextmanager
async def in_memory(http_version: str, options: dict[str, object]) -> AsyncGenerator[tuple[WebSocket, WebSocket], None]:
    async with memory_websocket_pair(http_version=http_version, **options) as ends:  # type: ignore[arg-type]
        yield ends


def run(carrier: str, seed: int) -> None:
    """Run one schedule; what went wrong tells its seed."""
    choose = random.Random(seed)
    options: dict[str, object] = {
        "limits": Limits(
            send_buffer=choose.choice([1, 1000, 65536, None]), receive_buffer=choose.choice([1, 500, 2**20, None])
        ),
        "compression": choose.choice(COMPRESSIONS),
        "close_timeout": 3.0,
    }
    memory = carrier.startswith("memory")

    async def main() -> None:
        tasks = live_tasks()
        with trio.fail_after(HANG):
            version = carrier.removeprefix("memory ")
            ends = in_memory(version, options) if memory else linked(carrier, None, **options)
            await run_schedule(ends, choose)
        assert live_tasks() == tasks

    try:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0) if memory else None)
    except BaseException as error:
        error.add_note(f"carrier {carrier!r}, seed {seed}")
        raise


@pytest.mark.parametrize("carrier", ["memory 1.1", "memory 2", "tcp", "tls", "h2", "h2c"])
def test_nothing_is_lost_or_doubled_and_nothing_hangs(carrier: str) -> None:
    count = int(os.environ.get("TRIO_WS_SCHEDULES", "20" if carrier.startswith("memory") else "5"))

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],  # a seed has nothing that could shrink
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**32 - 1))
    def run_one(seed: int) -> None:
        run(carrier, seed)

    run_one()
