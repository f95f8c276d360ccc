"""Promise 3: everything is bounded, in bytes; a full receive buffer stops the peer."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from wsproto.events import BytesMessage

import trio_ws
from trio_ws import ConnectionClosedError, Limits
from trio_ws.testing import ChunkedStream, RecordingStream, StallAfter

from ..cancellation.scenes import SCENES, TCP_SCENES
from ..raw import PING, frame, raw_server, read_head, request
from ..raw_peer import RawPeer, client_frame
from ..serving import LOCALHOST, until
from .links import URL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..cancellation.scenes import Scene

KIBIBYTE = 2**10
MEBIBYTE = 2**20
READ = 2**16  # bytes that are read at once
HEADER = 14  # bytes of the largest
SERVER_SCENES = [scene for scene in SCENES if not scene.is_client]


@contextmanager
def measured_peak() -> Iterator[list[int]]:
    """Measure the most memory that a block holds at a time, in bytes; it is put into the list."""
    peaks: list[int] = []
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        yield peaks
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()


# ---- receive buffer ----


async def test_a_full_receive_buffer_stops_the_peer_to_the_byte_and_starts_it_again() -> None:
    limit = 256 * KIBIBYTE
    ours, theirs = trio.testing.lockstep_stream_pair()
    recording = RecordingStream(ours)
    peer = RawPeer(theirs, is_client=True)
    messages = [bytes([number % 256]) * KIBIBYTE for number in range(1000)]

    async def send() -> None:
        for message in messages:
            await peer.send(BytesMessage(message))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.connect)
        accepting = await trio_ws.wrap_server_stream(nursery, recording, limits=Limits(receive_buffer=limit))
        async with accepting.accept() as websocket:
            await until(lambda: peer.open)
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            accepted = len(recording.received)
            assert limit < accepted * (1 + 64 / KIBIBYTE) + READ
            assert accepted < limit + READ + KIBIBYTE
            assert limit <= websocket.statistics().receive_buffer < limit + READ
            assert websocket.statistics().backpressured
            # Half of it may be taken before the peer may go on.
            for message in messages[:100]:
                assert await websocket.receive() == message
            await trio.testing.wait_all_tasks_blocked()
            assert len(recording.received) == accepted
            for message in messages[100:]:
                assert await websocket.receive() == message
            assert not websocket.statistics().backpressured
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("scene", TCP_SCENES, ids=str)
async def test_a_full_receive_buffer_stops_a_peer_over_tcp(scene: Scene) -> None:
    limit = 256 * KIBIBYTE
    buffers = 16 * KIBIBYTE
    message = bytes(KIBIBYTE)
    count = 4000
    sent = 0

    async def send(peer: RawPeer) -> None:
        nonlocal sent
        for _ in range(count):
            await peer.send(BytesMessage(message))
            sent += 1

    with trio.fail_after(20):
        async with (
            scene.connected(buffers=buffers, limits=Limits(receive_buffer=limit)) as (websocket, peer),
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(send, peer)
            await until(lambda: websocket.statistics().backpressured)
            for _ in range(1000):
                await trio.lowlevel.checkpoint()
            # Linux doubles the sizes of socket buffers, on both sides.
            assert sent * KIBIBYTE < limit + READ + 4 * buffers + MEBIBYTE
            assert websocket.statistics().receive_buffer < limit + READ
            for _ in range(count):
                assert await websocket.receive() == message


async def test_what_one_read_inflates_to_is_bounded_by_the_receive_buffer() -> None:
    stream = zlib.compressobj(9, zlib.DEFLATED, -12)
    payloads = []
    for _ in range(60):
        payload = stream.compress(bytes(MEBIBYTE)) + stream.flush(zlib.Z_SYNC_FLUSH)
        payloads.append(payload[:-4])
    bombs = b"".join(client_frame(0xC2, payload) for payload in payloads)
    assert len(bombs) < READ + 20_000
    ours, theirs = trio.testing.memory_stream_pair()
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    async with trio.open_nursery() as nursery:
        await theirs.send_all(request(offer))
        accepting = await trio_ws.wrap_server_stream(nursery, ours)
        async with accepting.accept() as websocket:
            await read_head(theirs)
            with measured_peak() as peaks:
                await theirs.send_all(bombs)
                await trio.testing.wait_all_tasks_blocked()
            assert websocket.statistics().receive_buffer <= 2 * MEBIBYTE + 1000
            assert peaks[0] < 6 * MEBIBYTE
            for _ in range(60):
                assert await websocket.receive() == bytes(MEBIBYTE)
            nursery.cancel_scope.cancel()


async def test_what_comes_after_our_close_takes_no_room(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await theirs.send_all(request())
        accepting = await trio_ws.wrap_server_stream(nursery, ours)
        async with accepting.accept() as websocket:
            nursery.start_soon(websocket.aclose)
            with measured_peak() as peaks:
                for _ in range(100):
                    await theirs.send_all(client_frame(0x82, bytes(MEBIBYTE)))
                    await trio.testing.wait_all_tasks_blocked()
            assert websocket.statistics().bytes_received > 100 * MEBIBYTE
            assert websocket.statistics().receive_buffer == 0
            assert peaks[0] < 10 * MEBIBYTE


# ---- send buffer ----


async def test_a_hundred_senders_to_a_peer_that_does_not_read_hold_no_more_than_the_send_buffer() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    peer = RawPeer(theirs, is_client=False)
    limit = 2**16
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.accept)
        stalling = StallAfter(ours, 2000)
        websocket = await trio_ws.wrap_client_stream(
            nursery, stalling, URL, compression=None, keepalive=None, limits=Limits(send_buffer=limit)
        )

        async def send() -> None:
            while True:
                await websocket.send(bytes(KIBIBYTE))

        for _ in range(100):
            nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        assert limit <= websocket.buffered_amount < limit + KIBIBYTE + HEADER
        with pytest.raises(trio.WouldBlock):
            websocket.send_nowait("x")
        nursery.cancel_scope.cancel()


async def test_pongs_for_a_peer_that_does_not_read_take_the_room_of_one() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await theirs.send_all(request())
        limits = Limits(control_burst=None)
        stalling = StallAfter(ours, 500)  # the answer, and some more
        accepting = await trio_ws.wrap_server_stream(nursery, stalling, limits=limits, keepalive=None)
        async with accepting.accept() as websocket:
            await websocket.send(bytes(KIBIBYTE))
            await trio.testing.wait_all_tasks_blocked()
            before = websocket.buffered_amount
            for _ in range(100):
                await theirs.send_all(frame(PING, b"x" * 125, masked=True) * 100)
                await trio.testing.wait_all_tasks_blocked()
            assert websocket.statistics().pings_received == 10_000
            assert websocket.buffered_amount <= before + 2 * (125 + 2)
            nursery.cancel_scope.cancel()


# ---- messages ----


@pytest.mark.parametrize("scene", SERVER_SCENES, ids=str)
async def test_a_message_that_is_too_big_is_refused_by_its_header(scene: Scene) -> None:
    with trio.fail_after(10):
        async with scene.connected() as (websocket, peer):
            await peer.stream.send_all(b"\x82\xff" + (2**40).to_bytes(8, "big") + bytes(4))
            with pytest.raises(ConnectionClosedError) as caught:
                await websocket.receive()
            assert isinstance(caught.value.__cause__, trio_ws.MessageTooBig)
            await peer.finish()
            assert peer.closed_with is not None
            assert peer.closed_with[0] == 1009


async def test_a_message_in_single_bytes_is_not_held_as_an_object_for_each() -> None:
    size = 2**14
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await theirs.send_all(request())
        accepting = await trio_ws.wrap_server_stream(nursery, ChunkedStream(ours, 1))
        async with accepting.accept() as websocket:
            message = client_frame(0x82, bytes(size))
            before = sys.getallocatedblocks()
            await theirs.send_all(message[:-1])
            await trio.testing.wait_all_tasks_blocked()
            assert sys.getallocatedblocks() - before < size / 8
            await theirs.send_all(message[-1:])
            assert await websocket.receive() == bytes(size)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("flood", "rule"),
    [
        (client_frame(0x01) + client_frame(0x00) * 1_000_000, "empty fragments"),
        (client_frame(0x01, b"x") + client_frame(0x00, b"x") * 1_000_000, "fragments"),
        (client_frame(0x89) * 1_000_000, "control frames"),
        (client_frame(0x8A) * 1_000_000, "control frames"),
    ],
    ids=["empty fragments", "tiny fragments", "pings", "pongs"],
)
async def test_a_flood_of_frames_that_bring_nothing_ends_the_connection(flood: bytes, rule: str) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await theirs.send_all(request())
        accepting = await trio_ws.wrap_server_stream(nursery, ours)
        async with accepting.accept() as websocket:
            with measured_peak() as peaks:
                await theirs.send_all(flood)
                base = len(flood)  # the memory stream's own copy
                with pytest.raises(ConnectionClosedError, match="1008") as caught:
                    await websocket.receive()
            assert rule in str(caught.value.__cause__)
            nursery.cancel_scope.cancel()
    assert peaks[0] < 2 * base + MEBIBYTE


# ---- handshakes ----


async def test_a_servers_endless_answer_is_refused_by_a_client() -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n")
        try:
            while True:
                await stream.send_all(b"X-Filler: " + b"x" * 1000 + b"\r\n")
        except trio.BrokenResourceError:
            pass

    with trio.fail_after(10):
        async with raw_server(talk) as port:
            with pytest.raises(trio_ws.InvalidHandshake, match="head"):
                async with trio_ws.open_websocket(f"ws://{LOCALHOST}:{port}/"):
                    raise NotImplementedError


async def test_a_rejection_that_nobody_takes_ends_all_the_same(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await theirs.send_all(request())
        accepting = await trio_ws.wrap_server_stream(nursery, StallAfter(ours, 1000))
        with trio.fail_after(60):
            await accepting.reject(403, body=bytes(MEBIBYTE))
    assert trio.current_time() <= 12.1


# ---- one message in pieces ----


def test_a_message_of_any_size_goes_through_little_memory() -> None:
    command = [sys.executable, "-m", "tests.promises.large_message", "64"]
    # The coverage tool, which follows into subprocesses, keeps as much as the library does.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    grown, peak = map(int, done.stdout.split())
    assert grown < 8 * 1024  # both sides, in KiB; the message has 64 MiB each way
    assert peak < 100 * 1024
