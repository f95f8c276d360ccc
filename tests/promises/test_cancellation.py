"""Promise 1: cancellation is safe everywhere."""

from __future__ import annotations

import random
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from wsproto.events import TextMessage

import trio_ws
from trio_ws import Limits, ReadyState
from trio_ws.testing import ChunkedStream, StallAfter

from ..cancellation.scenes import SCENES, TCP_SCENES
from ..raw import open_files, raw_server
from ..raw_peer import RawPeer
from ..serving import LOCALHOST, live_tasks, serving, tls_contexts, until
from .links import CARRIERS, URL, link, linked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..cancellation.scenes import Scene

MEBIBYTE = 2**20
LITTLE_ROOM = Limits(send_buffer=4096)


class RandomCanceller(trio.abc.Instrument):
    """Cancels the scope of the moment, each after a random number of steps of any tasks."""

    def __init__(self, seed: int, most: int) -> None:
        self._random = random.Random(seed)
        self._most = most
        self._scope: trio.CancelScope | None = None
        self._left = 0
        self.cancelled = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0 and self._scope is not None:
            self._scope.cancel()

    @contextmanager
    def at_random(self) -> Iterator[None]:
        """Cancel the block, or not, if it is left before."""
        self._left = self._random.randrange(1, self._most)
        with trio.CancelScope() as self._scope:
            yield
        self.cancelled += self._scope.cancelled_caught
        self._scope = None


@contextmanager
def cancelling_at_random(seed: int, most: int) -> Iterator[RandomCanceller]:
    """Have a RandomCanceller at work."""
    canceller = RandomCanceller(seed, most)
    trio.lowlevel.add_instrument(canceller)
    try:
        yield canceller
    finally:
        trio.lowlevel.remove_instrument(canceller)


# ---- send cancelled: the message was sent whole or not at all, and the connection goes on ----


@pytest.mark.parametrize("scene", TCP_SCENES, ids=str)
async def test_20_mebibytes_that_were_cancelled_are_not_in_the_way_of_the_next_message(scene: Scene) -> None:
    size = 20 * MEBIBYTE
    with trio.fail_after(30):
        async with scene.connected() as (websocket, peer):
            await websocket.send(bytes(size))  # there is room for one message, however large
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(websocket.send, b"\x01" * size)
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            assert scope.cancelled_caught
            async with trio.open_nursery() as nursery:
                nursery.start_soon(websocket.send, "next")
                await peer.read_until("next")
            assert peer.messages == [bytes(size), "next"]
            assert peer.whole_frames()


@pytest.mark.parametrize("compression", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("scene", SCENES, ids=str)
async def test_200_sends_cancelled_at_random_leave_whole_messages(scene: Scene, compression: bool) -> None:
    numbers = random.Random(200)
    sent: list[str | bytes] = []
    with trio.fail_after(30):
        async with (
            scene.connected(compression=compression, buffers=16384, limits=LITTLE_ROOM) as (websocket, peer),
            trio.open_nursery() as nursery,
        ):
            peer.read_size = 8192
            nursery.start_soon(peer.read_until, "the end")
            with cancelling_at_random(seed=1, most=12) as canceller:
                for number in range(200):
                    message = number.to_bytes() + numbers.randbytes(numbers.choice([1, 100, 5_000, 70_000]))
                    with canceller.at_random():
                        await websocket.send(message)
                        sent.append(message)
            await websocket.send("the end")
    assert 10 <= canceller.cancelled <= 190
    assert peer.messages == [*sent, "the end"]
    assert peer.whole_frames()


# ---- receive cancelled: nothing lost, nothing twice ----


@pytest.mark.parametrize("carrier", ["tcp", "h2", "memory", "h2-memory"])
async def test_10000_messages_are_received_once_by_a_receiver_that_is_always_cancelled(carrier: str) -> None:
    count = 10_000
    received: list[str | bytes] = []
    async with linked(carrier, keepalive=None, compression=None) as (client, server):

        async def send() -> None:
            for number in range(count):
                await server.send(str(number))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            with cancelling_at_random(seed=2, most=6) as canceller:
                while len(received) < count:
                    with canceller.at_random():
                        received.append(await client.receive())
    assert canceller.cancelled > 500
    assert received == [str(number) for number in range(count)]


async def test_messages_in_chunks_of_one_byte_are_received_once_by_a_receiver_that_is_always_cancelled() -> None:
    received: list[str | bytes] = []
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        client, server = await link(nursery, nursery, ChunkedStream(ours, 1), theirs, keepalive=None)
        for number in range(1000):
            await server.send(str(number))
        with cancelling_at_random(seed=3, most=8) as canceller:
            while len(received) < 1000:
                with canceller.at_random():
                    received.append(await client.receive())
        nursery.cancel_scope.cancel()
    assert canceller.cancelled > 500
    assert received == [str(number) for number in range(1000)]


# ---- aclose cancelled: the transport is closed at once ----


@pytest.mark.parametrize("scene", SCENES, ids=str)
async def test_aclose_cancelled_closes_the_transport_at_once(scene: Scene) -> None:
    async with scene.connected(close_timeout=60.0) as (websocket, peer):
        peer.answers = False
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(websocket.aclose)
                await peer.read()
                assert peer.closed_with == (1000, "")
                assert websocket.ready_state is ReadyState.CLOSING
                scope.cancel()
        assert websocket.ready_state is ReadyState.CLOSED
        with trio.fail_after(5):
            await peer.read_to_the_end()


# ---- opening cancelled: nothing is left open ----


@pytest.mark.parametrize("secure", [False, True], ids=["tcp", "tls"])
async def test_opening_cancelled_leaves_nothing_open(secure: bool) -> None:
    heard = trio.Event()
    ended = trio.Event()

    async def mute(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        heard.set()
        while await stream.receive_some():
            pass
        ended.set()

    with trio.fail_after(10):
        async with raw_server(mute) as port, trio.open_nursery() as nursery:
            await trio.testing.wait_all_tasks_blocked()
            files, tasks = open_files(), live_tasks()
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as opening:
                    url = f"{'wss' if secure else 'ws'}://{LOCALHOST}:{port}/"
                    connect = partial(trio_ws.connect_websocket, ssl_context=tls_contexts()[1])
                    opening.start_soon(connect, nursery, url)
                    await heard.wait()
                    scope.cancel()
            assert not nursery.child_tasks
            await ended.wait()
            await until(lambda: (open_files(), live_tasks()) == (files, tasks))


# ---- leaving a scope by cancellation: Close 1001, never a wait, never a shield ----


@pytest.mark.parametrize("carrier", ["tcp", "tls"])
async def test_a_scope_left_by_cancellation_says_1001_without_waiting(carrier: str) -> None:
    codes: list[int] = []
    server_context, client_context = tls_contexts() if carrier == "tls" else (None, None)

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            codes.append((await websocket.wait_closed()).code)

    with trio.fail_after(10):
        async with serving(partial(trio_ws.serve_websocket, handler, LOCALHOST, 0, server_context)) as server:
            url = f"{'ws' if client_context is None else 'wss'}://{LOCALHOST}:{server.port}/"
            for _ in range(20):
                with trio.CancelScope() as scope:
                    async with trio_ws.open_websocket(url, ssl_context=client_context, close_timeout=60) as websocket:
                        scope.cancel()
                        await websocket.receive()
                assert websocket.ready_state is ReadyState.CLOSED
            await until(lambda: len(codes) == 20)
    assert codes == [1001] * 20


@pytest.mark.parametrize("carrier", ["tcp", "tls"])
async def test_a_shielded_clean_up_still_has_the_websocket_and_then_says_1001(carrier: str) -> None:
    ends: list[tuple[list[str | bytes], int]] = []
    server_context, client_context = tls_contexts() if carrier == "tls" else (None, None)

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            received = []
            async for message in websocket:
                received.append(message)
                await websocket.send(message)
            ends.append((received, (await websocket.wait_closed()).code))

    with trio.fail_after(10):
        async with serving(partial(trio_ws.serve_websocket, handler, LOCALHOST, 0, server_context)) as server:
            url = f"{'ws' if client_context is None else 'wss'}://{LOCALHOST}:{server.port}/"
            with trio.CancelScope() as scope:
                async with trio_ws.open_websocket(url, ssl_context=client_context) as websocket:
                    try:
                        scope.cancel()
                        await websocket.receive()
                    finally:
                        with trio.CancelScope(shield=True):
                            await websocket.send("log out")
                            assert await websocket.receive() == "log out"
                            assert await websocket.ping() >= 0
            await until(lambda: len(ends) == 1)
    assert ends == [(["log out"], 1001)]


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_a_nursery_of_the_callers_that_is_cancelled_says_1001(carrier: str) -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as around:
            async with trio.open_nursery() as nursery:
                client, server = await around.start(hold_link, carrier, nursery)
                nursery.cancel_scope.cancel()
            assert client.ready_state is ReadyState.CLOSED
            assert (await server.wait_closed()).code == 1001
            around.cancel_scope.cancel()


async def hold_link(
    carrier: str,
    nursery: trio.Nursery,
    *,
    task_status: trio.TaskStatus[tuple[trio_ws.WebSocket, trio_ws.WebSocket]],
) -> None:
    """Keep a connection whose client's end lives in the nursery."""
    async with linked(carrier, nursery) as ends:
        task_status.started(ends)
        await trio.sleep_forever()


async def test_a_server_that_is_cancelled_says_1001_to_every_client() -> None:
    codes: list[int] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await websocket.receive()

    async def client(url: str) -> None:
        async with trio_ws.open_websocket(url) as websocket:
            codes.append((await websocket.wait_closed()).code)

    serve = partial(trio_ws.serve_websocket, handler, LOCALHOST, 0)
    with trio.fail_after(10):
        async with trio.open_nursery() as clients, serving(serve) as server:
            for _ in range(20):
                clients.start_soon(client, f"ws://{LOCALHOST}:{server.port}/")
            await until(lambda: len(server.connections) == 20)
    assert codes == [1001] * 20


async def test_a_scope_left_by_cancellation_never_waits_for_a_peer_that_does_not_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    stalling = StallAfter(ours, 2000)  # the handshake, and some more
    peer = RawPeer(theirs, is_client=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.accept)
        with trio.CancelScope() as scope:
            async with await trio_ws.wrap_client_stream(nursery, stalling, URL, keepalive=None) as websocket:
                await websocket.send(bytes(MEBIBYTE))
                scope.cancel()
                await websocket.send("no room")
        assert trio.current_time() == 0
        assert websocket.ready_state is ReadyState.CLOSED
        await peer.read_to_the_end()
    assert trio.current_time() == 0
    assert peer.closed_with is None


async def test_a_server_scope_left_by_cancellation_says_1001() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    peer = RawPeer(theirs, is_client=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.connect)
        request = await trio_ws.wrap_server_stream(nursery, ours)
        with trio.CancelScope() as scope:
            async with request.accept() as websocket:
                await until(lambda: peer.open)
                await peer.send(TextMessage("hello"))
                assert await websocket.receive() == "hello"
                scope.cancel()
                await websocket.receive()
        assert scope.cancelled_caught
        await peer.read_to_the_end()
    assert peer.closed_with == (1001, "")
