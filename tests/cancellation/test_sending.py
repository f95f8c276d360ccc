"""A send that is cancelled sent the whole message or nothing of it, and the connection goes on."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from .harness import cancel_everywhere
from .scenes import SCENES, TCP_SCENES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ..raw_peer import RawPeer
    from .harness import Act
    from .scenes import Scene

every_scene = pytest.mark.parametrize("scene", SCENES, ids=str)

MEBIBYTE = 2**20
SMALL_BUFFER = 4096  # bytes that a socket holds
WORDS = "the quick brown fox jumps over the lazy dog; "


async def read_until(peer: RawPeer, last: str | bytes) -> None:
    """Read messages up to this one."""
    while not peer.messages or peer.messages[-1] != last:
        assert await peer.read()


@every_scene
def test_a_small_message_is_sent_whole_or_not_at_all(scene: Scene) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        sent: list[str | bytes] = []
        async with scene.connected() as (websocket, peer):

            async def act() -> None:
                for message in ("one", b"two", "three"):
                    await websocket.send(message)
                    sent.append(message)

            yield act
            await websocket.send("after")
            await read_until(peer, "after")
            assert peer.messages == [*sent, "after"]
            assert peer.whole_frames()

    cancel_everywhere(scenario, at_least=6, clock=scene.clock)


@every_scene
def test_a_large_message_to_a_slow_reader_is_sent_whole_or_not_at_all(scene: Scene) -> None:
    messages = [bytes([number]) * MEBIBYTE for number in range(3)]

    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        sent: list[bytes] = []
        async with scene.connected(buffers=SMALL_BUFFER) as (websocket, peer):

            async def act() -> None:
                for message in messages:
                    await websocket.send(message)
                    sent.append(message)

            async with reading_on(peer):
                yield act
                await websocket.send("after")
                await read_until(peer, "after")
            assert peer.messages == [*sent, "after"]
            assert peer.whole_frames()

    cancel_everywhere(scenario, at_least=8, clock=scene.clock, stride=7 if scene in TCP_SCENES else 3)
