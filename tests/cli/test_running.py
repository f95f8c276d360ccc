"""Ctrl-C and SIGTERM: the first ends a command gently if it can be, the next one at once."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
import trio

from trio_ws._cli.running import Failure, run_interruptible

if TYPE_CHECKING:
    from trio_ws._cli.running import Interrupts

SIGNALS = [signal.SIGINT, signal.SIGTERM]


async def test_a_command_that_is_left_alone_ends_with_its_status() -> None:
    async def command(interrupts: Interrupts) -> int:
        await trio.lowlevel.checkpoint()
        return 7

    assert await run_interruptible(command) == 7


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_ends_a_command_that_cannot_end_gently(number: signal.Signals) -> None:
    async def command(interrupts: Interrupts) -> int:
        with interrupts.ending_gently(lambda: None):
            pass
        os.kill(os.getpid(), number)
        await trio.sleep_forever()
        return 7

    assert await run_interruptible(command) == 130


@pytest.mark.parametrize("number", SIGNALS)
async def test_the_first_signal_ends_gently(number: signal.Signals) -> None:
    async def command(interrupts: Interrupts) -> int:
        ended = trio.Event()
        with interrupts.ending_gently(ended.set):
            os.kill(os.getpid(), number)
            await ended.wait()
        return 7

    assert await run_interruptible(command) == 7


async def test_the_second_signal_ends_at_once() -> None:
    async def command(interrupts: Interrupts) -> int:
        ended = trio.Event()
        with interrupts.ending_gently(ended.set):
            os.kill(os.getpid(), signal.SIGINT)
            await ended.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.sleep_forever()
        return 7

    assert await run_interruptible(command) == 130


async def test_what_a_command_raises_comes_out_bare() -> None:
    failure = Failure("no luck")

    async def command(interrupts: Interrupts) -> int:
        raise failure

    with pytest.raises(Failure) as caught:
        await run_interruptible(command)
    assert caught.value is failure
    assert failure.status == 1
