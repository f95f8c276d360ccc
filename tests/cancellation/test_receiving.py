"""A receive that is cancelled takes nothing: every message is received once, by whoever calls next."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from wsproto.events import BytesMessage, Ping, TextMessage

from .harness import cancel_everywhere
from .scenes import SCENES, TCP_SCENES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ..raw_peer import RawPeer
    from .harness import Act
    from .scenes import Scene

every_scene = pytest.mark.parametrize("scene", SCENES, ids=str)

MESSAGES = ["hello", b"\x00\x01\x02", "", "last"]


def transcript(peer: RawPeer) -> bytes:
    """Write MESSAGES in fragments, with pings between and inside them."""
    return peer.encode(
        TextMessage("he", message_finished=False),
        Ping(b"1"),
        TextMessage("llo"),
        BytesMessage(b"\x00", message_finished=False),
        BytesMessage(b"", message_finished=False),
        BytesMessage(b"\x01\x02"),
        TextMessage(""),
        TextMessage("last"),
    )


async def dribble(stream: trio.abc.SendStream, data: bytes) -> None:
    """Send byte by byte."""
    for position in range(len(data)):
        await stream.send_all(data[position : position + 1])


@every_scene
def test_what_comes_byte_by_byte_is_received_once(scene: Scene) -> None:
    byte_by_byte(scene, compression=False)


@pytest.mark.parametrize("scene", TCP_SCENES, ids=str)
def test_what_comes_compressed_is_received_once(scene: Scene) -> None:
    byte_by_byte(scene, compression=True)


def byte_by_byte(scene: Scene, *, compression: bool) -> None:
    """Sweep over a receiver of the transcript."""

    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        received: list[str | bytes] = []
        async with scene.connected(compression=compression) as (websocket, peer), trio.open_nursery() as nursery:

            async def act() -> None:
                while len(received) < len(MESSAGES):
                    received.append(await websocket.receive())

            nursery.start_soon(dribble, peer.stream, transcript(peer))
            yield act
            await act()
            assert received == MESSAGES
            while not peer.pongs or peer.pongs[-1] != b"1":
                assert await peer.read()
            assert peer.whole_frames()

    cancel_everywhere(scenario, at_least=30, clock=scene.clock)


@every_scene
def test_what_came_in_one_read_is_received_once(scene: Scene) -> None:
    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        received: list[str | bytes] = []
        async with scene.connected() as (websocket, peer), trio.open_nursery() as nursery:

            async def act() -> None:
                async for message in websocket:
                    received.append(message)
                    if message == "last":
                        break

            nursery.start_soon(peer.stream.send_all, transcript(peer))
            yield act
            if received != MESSAGES:
                await act()
            assert received == MESSAGES

    cancel_everywhere(scenario, at_least=4, clock=scene.clock)


@every_scene
def test_two_receivers_get_each_message_once(scene: Scene) -> None:
    expected = [str(number) for number in range(8)]

    @asynccontextmanager
    async def scenario() -> AsyncGenerator[Act, None]:
        received: list[str | bytes] = []
        async with scene.connected() as (websocket, peer), trio.open_nursery() as nursery:

            async def receive() -> None:
                while len(received) < len(expected):
                    received.append(await websocket.receive())
                others.cancel_scope.cancel()

            async def send() -> None:
                for text in expected:
                    await peer.send(TextMessage(text))

            nursery.start_soon(send)
            async with trio.open_nursery() as others:
                others.start_soon(receive)
                yield receive
            assert sorted(map(str, received)) == expected

    cancel_everywhere(scenario, at_least=10, clock=scene.clock)
