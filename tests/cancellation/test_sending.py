"""A send that is cancelled sent the whole message or nothing of it, and the connection goes on."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from .harness import cancel_everywhere
from .scenes import SCENES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from .harness import Act
    from .scenes import Scene

every_scene = pytest.mark.parametrize("scene", SCENES, ids=str)

MEBIBYTE = 2**20
SMALL_BUFFER = 16384  # bytes that a socket holds
WORDS = "the quick brown fox jumps over the lazy dog; "


@every_scene
def test_a_small_message_is_sent_whole_or_not_at_all(scene: Scene) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        sent: list[str | bytes] = []
        async with scene.connected() as (websocket, peer):

            async def act() -> None:
                for message in ("one", b"two", "three", b"four", "five", b"six", "seven", b"eight"):
                    await websocket.send(message)
                    sent.append(message)

            yield act
            await websocket.send("after")
            await peer.read_until("after")
            assert peer.messages == [*sent, "after"]
            assert peer.whole_frames()

    cancel_everywhere(scenario, at_least=6, clock=scene.clock)


@every_scene
def test_a_large_message_to_a_slow_reader_is_sent_whole_or_not_at_all(scene: Scene) -> None:
    large = "x" * MEBIBYTE

    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        sent: list[str | bytes] = []
        async with scene.connected(buffers=SMALL_BUFFER) as (websocket, peer), trio.open_nursery() as nursery:

            async def act() -> None:
                for message in (large, "next"):  # the next one has to wait until most of it has gone
                    await websocket.send(message)
                    sent.append(message)

            peer.read_size = SMALL_BUFFER
            nursery.start_soon(peer.read_until, "after")
            yield act
            await websocket.send("after")
        assert peer.messages == [*sent, "after"]
        assert peer.whole_frames()

    cancel_everywhere(scenario, at_least=16, clock=scene.clock)


@every_scene
def test_a_cancelled_compressed_message_leaves_the_window_as_it_was(scene: Scene) -> None:
    messages = [WORDS * number for number in range(30, 46)]

    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        sent: list[str | bytes] = []
        async with scene.connected(compression=True) as (websocket, peer):
            assert "permessage-deflate" in websocket.extensions
            assert "takeover" not in websocket.extensions

            async def act() -> None:
                for message in messages:
                    await websocket.send(message)
                    sent.append(message)

            yield act
            for message in (WORDS * 50, WORDS * 51):
                await websocket.send(message)
            await peer.read_until(WORDS * 51)
            assert peer.messages == [*sent, WORDS * 50, WORDS * 51]
            assert websocket.statistics().bytes_sent < sum(map(len, peer.messages)) / 10

    cancel_everywhere(scenario, at_least=12, clock=scene.clock)
