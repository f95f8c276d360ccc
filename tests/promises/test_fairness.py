"""No task handles more than so many frames and bytes without letting others run, counted step by step of trio's.

How long that takes depends on the machine: the group ``fairness`` of ``tests/benchmarks`` measures it.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import pytest
import trio

from trio_ws import Limits
from trio_ws._connection.connection import FRAMES_AT_ONCE, MOST_AT_ONCE
from trio_ws._net.socket_transport import MOST_READ
from trio_ws._wire.frames import Opcode, frame_bytes

from .links import linked

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio_ws import WebSocket

CARRIERS = ["tcp", "tls", "h2", "memory"]
FLOOD = 3000  # frames, in one write
ROUNDS = 5


class Steps(trio.abc.Instrument):
    """Counts what happens within single steps of tasks."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._before = 0
        self.most = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._before = self._count()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.most = max(self.most, self._count() - self._before)


class Victim:
    """A task that only wants to run now and then."""

    turns = 0

    async def run(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.turns += 1


def flood(client: WebSocket, opcode: Opcode, count: int) -> None:
    """Hand over many frames at once, as a peer does that wants them to be read at once."""
    client._connection.outbox.write(
        b"".join(frame_bytes(opcode, b"%d" % number, masked=True) for number in range(count))
    )


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_a_receiver_that_is_flooded_lets_others_run_at_each_message(carrier: str) -> None:
    victim = Victim()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, linked(carrier) as (client, server):
            steps = Steps(lambda: server.statistics().messages_received)
            nursery.start_soon(victim.run)
            trio.lowlevel.add_instrument(steps)
            turns = 0
            for _ in range(ROUNDS):
                flood(client, Opcode.BINARY, FLOOD)
                before = victim.turns
                assert [await server.receive() for _ in range(FLOOD)] == [b"%d" % number for number in range(FLOOD)]
                turns += victim.turns - before
            trio.lowlevel.remove_instrument(steps)
            nursery.cancel_scope.cancel()
    # Each step of the reader spares one call the pass of the scheduler.
    assert turns >= (FLOOD - 2 * FLOOD // FRAMES_AT_ONCE - 2) * ROUNDS
    assert FLOOD / 100 < steps.most <= FRAMES_AT_ONCE


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("opcode", [Opcode.BINARY, Opcode.PONG])
async def test_a_flood_that_nobody_waits_for_lets_others_run(carrier: str, opcode: Opcode) -> None:
    victim = Victim()
    limits = Limits(control_burst=10 * FLOOD)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, linked(carrier, limits=limits) as (client, server):

            def count() -> int:
                told = server.statistics()
                return told.messages_received + told.pongs_received

            steps = Steps(count)
            nursery.start_soon(victim.run)
            trio.lowlevel.add_instrument(steps)
            flood(client, opcode, FLOOD)
            while count() < FLOOD:
                await trio.lowlevel.checkpoint()
            trio.lowlevel.remove_instrument(steps)
            nursery.cancel_scope.cancel()
    # It runs once in each pass of the scheduler: for certain in those between the first read and the last.
    assert victim.turns >= FLOOD // FRAMES_AT_ONCE - 1
    assert FLOOD / 100 < steps.most <= FRAMES_AT_ONCE


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("size", [2**14, 2**20])
async def test_no_step_reads_more_than_a_few_hundred_kilobytes(carrier: str, size: int) -> None:
    messages = 2**22 // size
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery, linked(carrier, compression=None) as (client, server):
            steps = Steps(lambda: server.statistics().bytes_received)
            nursery.start_soon(send_all, client, bytes(size), messages)
            trio.lowlevel.add_instrument(steps)
            for _ in range(messages):
                assert len(await server.receive()) == size
            trio.lowlevel.remove_instrument(steps)
    # What TLS decrypts of one read may begin with the end of a record that came before.
    assert 2**12 < steps.most <= MOST_READ + 2**14


async def send_all(client: WebSocket, message: bytes, count: int) -> None:
    """Send a message so many times."""
    for _ in range(count):
        await client.send(message)


def bomb(size: int) -> bytes:
    """Write a message of so many zeros, compressed, that refers to nothing before it."""
    compressor = zlib.compressobj(wbits=-12)
    payload = (compressor.compress(bytes(size)) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    return frame_bytes(Opcode.BINARY, payload, masked=True, rsv1=True)


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("size", [2**10, 2**16, 2**19])
async def test_no_step_inflates_more_than_a_megabyte_and_one_message(carrier: str, size: int) -> None:
    messages = 2**24 // size if size > 2**10 else FLOOD
    with trio.fail_after(60):
        async with linked(carrier, limits=Limits(receive_buffer=None)) as (client, server):
            steps = Steps(lambda: server.statistics().messages_received * size)
            client._connection.outbox.write(bomb(size) * messages)
            trio.lowlevel.add_instrument(steps)
            for _ in range(messages):
                assert len(await server.receive()) == size
            trio.lowlevel.remove_instrument(steps)
    assert size < steps.most <= min(MOST_AT_ONCE + size, FRAMES_AT_ONCE * size)


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_no_step_puts_more_than_a_few_hundred_fragments_together(carrier: str) -> None:
    pieces = 1000
    first, middle, last = (
        frame_bytes(Opcode.BINARY, b"1", masked=True, fin=False),
        frame_bytes(Opcode.CONTINUATION, b"2", masked=True, fin=False),
        frame_bytes(Opcode.CONTINUATION, b"3", masked=True),
    )
    with trio.fail_after(60):
        async with linked(carrier) as (client, server):
            statistics, protocol = server.statistics, server._connection.protocol
            steps = Steps(lambda: (statistics().bytes_received - protocol.pending) // len(middle))
            client._connection.outbox.write((first + middle * (pieces - 2) + last) * ROUNDS)
            trio.lowlevel.add_instrument(steps)
            for _ in range(ROUNDS):
                assert await server.receive() == b"1" + b"2" * (pieces - 2) + b"3"
            trio.lowlevel.remove_instrument(steps)
    assert FRAMES_AT_ONCE / 4 < steps.most <= FRAMES_AT_ONCE + 1
