"""Promise 2: full duplex never deadlocks; reading never waits for writing."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing
from wsproto.events import BytesMessage, Ping

import trio_ws
from trio_ws import Keepalive, Limits, ReadyState
from trio_ws.testing import StallAfter

from ..cancellation.scenes import SCENES, TCP_SCENES, Scene
from ..raw_peer import RawPeer
from ..serving import until
from .links import CARRIERS, URL, linked

MEBIBYTE = 2**20
(TCP_SERVER,) = (scene for scene in TCP_SCENES if not scene.is_client)


async def send_all(websocket: trio_ws.WebSocket, message: bytes, count: int) -> None:
    """Send one message again and again."""
    for _ in range(count):
        await websocket.send(message)


async def receive_all(websocket: trio_ws.WebSocket, message: bytes, count: int) -> None:
    """Receive it as often."""
    for _ in range(count):
        assert await websocket.receive() == message


@pytest.mark.parametrize("size", [2**16, MEBIBYTE, 16 * MEBIBYTE], ids=["64KiB", "1MiB", "16MiB"])
@pytest.mark.parametrize("carrier", CARRIERS)
async def test_two_peers_that_both_send_64_mebibytes_while_receiving_finish(carrier: str, size: int) -> None:
    messages = [b"\x01" * size, b"\x02" * size]
    count = 64 * MEBIBYTE // size
    limits = Limits(max_message_size=None)
    with trio.fail_after(60):
        async with linked(carrier, compression=None, limits=limits) as ends:
            async with trio.open_nursery() as nursery:
                for end, ours, theirs in zip(ends, messages, reversed(messages), strict=True):
                    nursery.start_soon(send_all, end, ours, count)
                    nursery.start_soon(receive_all, end, theirs, count)
            assert [end.statistics().messages_received for end in ends] == [count, count]


@pytest.mark.parametrize("scene", SCENES, ids=str)
async def test_an_echo_of_more_than_all_buffers_hold_comes_back(scene: Scene) -> None:
    message = bytes(MEBIBYTE)
    with trio.fail_after(30):
        async with scene.connected() as (websocket, peer):

            async def echo() -> None:
                async for received in websocket:
                    await websocket.send(received)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(echo)
                nursery.start_soon(send_raw, peer, message, 16)
                while len(peer.messages) < 16:
                    assert await peer.read()
                nursery.cancel_scope.cancel()
    assert peer.messages == [message] * 16


async def send_raw(peer: RawPeer, message: bytes, count: int) -> None:
    """Have a raw peer send one message again and again."""
    for _ in range(count):
        await peer.send(BytesMessage(message))


async def test_reading_goes_on_while_nothing_can_be_written() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    peer = RawPeer(theirs, is_client=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.accept)
        websocket = await trio_ws.wrap_client_stream(nursery, StallAfter(ours, 1000), URL, keepalive=None)
        await websocket.send(bytes(MEBIBYTE))
        nursery.start_soon(websocket.send, b"waits for ever")
        for number in range(100):
            await peer.send(Ping(b"unanswered"))
            await peer.send(BytesMessage(bytes([number])))
            assert await websocket.receive() == bytes([number])
        assert websocket.statistics().pings_received == 100
        nursery.cancel_scope.cancel()


async def test_peers_that_both_send_and_never_receive_stall_and_can_still_close(
    autojump_clock: trio.testing.MockClock,
) -> None:
    woken: list[float] = []

    async def send(websocket: trio_ws.WebSocket) -> None:
        try:
            await send_all(websocket, bytes(2**16), 1000)
        except trio_ws.ConnectionClosedLocally:
            woken.append(trio.current_time())

    async with (
        linked("lockstep", compression=None, keepalive=None, close_timeout=10) as (client, server),
        trio.open_nursery() as nursery,
    ):
        for end in (client, server):
            nursery.start_soon(send, end)
        await trio.sleep(1000)
        # Keepalive would have given up both by now: neither takes anything of what it is sent.
        for end in (client, server):
            assert end.ready_state is ReadyState.OPEN
            assert end.statistics().backpressured
        await client.aclose()
        assert trio.current_time() == 1010
        assert woken == [1000]
        await server.aclose()
        assert trio.current_time() <= 1020


async def test_who_only_sends_learns_that_the_peer_is_gone_though_the_receive_buffer_is_full() -> None:
    async with TCP_SERVER.connected() as (websocket, peer):
        with trio.fail_after(10), pytest.raises(trio_ws.ConnectionClosedError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_raw, peer, bytes(2**16), 32)
                await until(lambda: websocket.statistics().backpressured)
                nursery.cancel_scope.cancel()
            await peer.vanish()
            while True:
                await websocket.send("tick")
                await trio.sleep(0.001)


async def test_a_peer_that_stalls_because_it_does_not_read_is_given_up_by_keepalive(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    peer = RawPeer(theirs, is_client=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.accept)
        websocket = await trio_ws.wrap_client_stream(nursery, ours, URL, keepalive=Keepalive(interval=20, timeout=20))
        with trio.fail_after(41), pytest.raises(trio_ws.ConnectionClosedError):
            await send_all(websocket, bytes(2**16), 1000)
        assert trio.current_time() == 40
        with trio.fail_after(0.1):
            assert (await websocket.wait_closed()).code == 1011  # with which this side has failed it
        nursery.cancel_scope.cancel()
    assert math.isclose(trio.current_time(), 40, abs_tol=0.2)
