"""Promise 4: closing is bounded, and wakes everyone who waits."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from wsproto.events import BytesMessage, TextMessage

import trio_ws
from trio_ws import (
    CloseInfo,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedLocally,
    ReadyState,
    WebSocketError,
)
from trio_ws._reactor import STEP_TIME
from trio_ws.testing import ChunkedStream, NoHalfClose, PartialWriteStream, StallAfter, memory_websocket_pair

from ..cancellation.scenes import SCENES, TCP_SCENES
from ..raw import PING, TEXT, frame, reset
from ..raw_peer import RawPeer, client_frame
from ..serving import LOCALHOST, serving, until
from .links import CARRIERS, URL, link, linked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..cancellation.scenes import Scene

MEBIBYTE = 2**20


async def wait_to_be_woken(call: Callable[[], Awaitable[object]], woken: list[float]) -> None:
    """Note when a call raises ConnectionClosedLocally."""
    with pytest.raises(ConnectionClosedLocally):
        while True:
            await call()
    woken.append(trio.current_time())


async def close_with_everyone_waiting(websocket: trio_ws.WebSocket, close_timeout: float, tolerance: float) -> None:
    """Close a connection to a mute peer while a sender, a receiver and a pinger are blocked."""
    woken: list[float] = []
    async with trio.open_nursery() as nursery:
        for call in (partial(websocket.send, bytes(MEBIBYTE)), websocket.receive, websocket.ping):
            nursery.start_soon(wait_to_be_woken, call, woken)
        await trio.testing.wait_all_tasks_blocked(0.01)
        started = trio.current_time()
        await websocket.aclose()
        took = trio.current_time() - started
    assert websocket.ready_state is ReadyState.CLOSED
    assert close_timeout - 0.01 <= took <= close_timeout + tolerance
    assert len(woken) == 3
    assert max(woken) - started < tolerance


@pytest.mark.parametrize("scene", TCP_SCENES, ids=str)
async def test_aclose_takes_close_timeout_at_most_and_wakes_everyone_at_once(scene: Scene) -> None:
    async with scene.connected(close_timeout=0.5) as (websocket, _):
        await close_with_everyone_waiting(websocket, 0.5, tolerance=0.4)  # of a machine that is busy


@pytest.mark.parametrize("is_client", [True, False], ids=["client", "server"])
async def test_aclose_over_a_stream_takes_close_timeout_at_most_and_wakes_everyone_at_once(
    is_client: bool, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    peer = RawPeer(theirs, is_client=not is_client)
    stalling = StallAfter(ours, 1000)
    async with trio.open_nursery() as nursery:
        if is_client:
            nursery.start_soon(peer.accept)
            websocket = await trio_ws.wrap_client_stream(nursery, stalling, URL, keepalive=None)
            await close_with_everyone_waiting(websocket, 10, tolerance=0.01)
        else:
            nursery.start_soon(peer.connect)
            request = await trio_ws.wrap_server_stream(nursery, stalling, keepalive=None)
            async with request.accept() as websocket:
                await close_with_everyone_waiting(websocket, 10, tolerance=0.01)


@pytest.mark.parametrize("close_timeout", [0, 0.001, 1, 60])
async def test_a_peer_that_reads_but_never_answers_the_close_is_waited_for_that_long(
    close_timeout: float, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    peer = RawPeer(theirs, is_client=False)
    peer.answers = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.accept)
        websocket = await trio_ws.wrap_client_stream(nursery, ours, URL, close_timeout=close_timeout)
        nursery.start_soon(peer.read_to_the_end)
        await websocket.aclose()
        assert trio.current_time() == pytest.approx(close_timeout)
    assert peer.closed_with == (1000, "")


async def test_a_peer_that_dribbles_data_after_our_close_does_not_hold_it_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    peer = RawPeer(theirs, is_client=False)

    async def dribble() -> None:
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await theirs.send_all(frame(TEXT, b"more"))
                await trio.sleep(0.5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.accept)
        websocket = await trio_ws.wrap_client_stream(nursery, ours, URL, close_timeout=10)
        nursery.start_soon(dribble)
        await trio.sleep(5)
        await websocket.aclose()
        assert trio.current_time() == 15


@pytest.mark.parametrize("scene", SCENES, ids=str)
async def test_a_close_with_100_unread_messages_waits_for_nobody(scene: Scene) -> None:
    with trio.fail_after(5):
        async with scene.connected() as (websocket, peer):
            for number in range(100):
                await peer.send(TextMessage(str(number)))
            await until(lambda: websocket.statistics().messages_received == 100)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(peer.finish)
                await websocket.aclose(4000, "enough")
            assert websocket.close_info == CloseInfo(4000, "enough", was_clean=True)
            with pytest.raises(ConnectionClosedLocally):
                await websocket.receive()
            assert peer.closed_with == (4000, "enough")


@pytest.mark.parametrize("scene", SCENES, ids=str)
async def test_a_close_behind_a_full_receive_buffer_hears_the_peers(scene: Scene) -> None:
    async def send(peer: RawPeer) -> None:
        for _ in range(64):
            await peer.send(BytesMessage(bytes(2**16)))
        await peer.finish()

    with trio.fail_after(5):
        async with scene.connected() as (websocket, peer), trio.open_nursery() as nursery:
            nursery.start_soon(send, peer)
            await until(lambda: websocket.statistics().backpressured)
            await websocket.aclose()
            assert websocket.close_info == CloseInfo(1000, "", was_clean=True)


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_both_close_at_once(carrier: str) -> None:
    with trio.fail_after(10):
        for _ in range(20):
            async with linked(carrier) as (client, server):
                await trio.testing.wait_all_tasks_blocked(0.001)  # or what opening has left to do could read in between
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(client.aclose, 4001, "client")
                    nursery.start_soon(server.aclose, 4002, "server")
                assert client.close_info == CloseInfo(4002, "server", was_clean=True)
                assert server.close_info == CloseInfo(4001, "client", was_clean=True)


WORDS = [(1000, ""), (1000, "bye"), (4000, "\u20ac" * 41), (4999, "x" * 123), (None, "")]  # two reasons of 123 bytes


@pytest.mark.parametrize(("code", "reason"), WORDS)
@pytest.mark.parametrize("closer", ["client", "server"])
@pytest.mark.parametrize("carrier", CARRIERS)
async def test_a_close_is_answered_with_its_code_and_reason(
    carrier: str, closer: str, code: int | None, reason: str
) -> None:
    with trio.fail_after(10):
        async with linked(carrier) as ends:
            one, other = ends if closer == "client" else reversed(ends)
            await one.aclose(code, reason)
            said = CloseInfo(code or 1005, reason)
            assert one.close_info == await other.wait_closed() == CloseInfo(said.code, reason, was_clean=True)
            for websocket in (one, other):
                with pytest.raises(ConnectionClosed) as caught:
                    await websocket.receive()
                assert (caught.value.received, caught.value.sent) == (said, said)


EVERY_CODE = [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999]


@pytest.mark.parametrize("http_version", ["1.1", "2"])
async def test_every_code_of_an_endpoint_can_be_closed_with(
    http_version: str, autojump_clock: trio.testing.MockClock
) -> None:
    for code in EVERY_CODE:
        async with memory_websocket_pair(http_version=http_version) as (client, server):
            await client.aclose(code, "asked")
            assert await server.wait_closed() == CloseInfo(code, "asked", was_clean=True)
        async with memory_websocket_pair(http_version=http_version) as (client, server):
            with pytest.raises(WebSocketError, match=f"^{code} raised$"):
                async with server:
                    raise WebSocketError(code, "raised")
            assert await client.wait_closed() == CloseInfo(code, "raised", was_clean=True)


async def test_a_server_says_goodbye_with_every_code_of_an_endpoint() -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await websocket.wait_closed()

    for code in EVERY_CODE:
        async with (
            serving(partial(trio_ws.serve_websocket, handler, LOCALHOST, 0)) as server,
            trio_ws.open_websocket(f"ws://{LOCALHOST}:{server.port}/") as websocket,
        ):
            await server.aclose(code, "closing time")
            assert await websocket.wait_closed() == CloseInfo(code, "closing time", was_clean=True)


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_closing_twice_and_from_many_tasks_closes_once(carrier: str) -> None:
    with trio.fail_after(10):
        async with linked(carrier) as (client, server):
            async with trio.open_nursery() as nursery:
                for code in range(4000, 4010):
                    nursery.start_soon(client.aclose, code)
            info = await server.wait_closed()
            assert 4000 <= info.code < 4010
            assert info.was_clean
            await client.aclose()
            await server.aclose()
            assert client.close_info == CloseInfo(info.code, "", was_clean=True)


@pytest.mark.parametrize("seed", range(50))
async def test_closes_race_with_everything_else_and_the_codes_agree(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = random.Random(seed)
    carrier = numbers.choice(CARRIERS)
    # Also where each step of a reactor does but one thing, as on a machine that is slow.
    monkeypatch.setattr("trio_ws._reactor.STEP_TIME", numbers.choice([STEP_TIME, 0.0]))

    async def ping(websocket: trio_ws.WebSocket) -> None:
        with trio.move_on_after(0.05):  # while nobody receives and the receive buffer is full, no pong is seen
            await websocket.ping()

    async def use(websocket: trio_ws.WebSocket) -> None:
        calls: list[Callable[[], Awaitable[object]]] = [
            partial(websocket.send, bytes(numbers.choice([1, 1000, 10**5]))),
            websocket.receive,
            partial(ping, websocket),
        ]
        with pytest.raises(trio_ws.ConnectionClosed):
            while True:
                await numbers.choice(calls)()

    async def close(websocket: trio_ws.WebSocket, code: int) -> None:
        for _ in range(numbers.randrange(60)):
            await trio.lowlevel.checkpoint()
        await websocket.aclose(code)

    with trio.fail_after(10):
        async with linked(carrier) as (client, server):
            async with trio.open_nursery() as nursery:
                for end in (client, server):
                    for _ in range(3):
                        nursery.start_soon(use, end)
                closing = numbers.choice([(client, 4001), (server, 4002)])
                nursery.start_soon(close, *closing)
                if numbers.random() < 0.5:
                    other = (server, 4002) if closing[0] is client else (client, 4001)
                    nursery.start_soon(close, *other)
            infos = [await client.wait_closed(), await server.wait_closed()]
    codes = [info.code for info in infos]
    assert codes in ([4001, 4001], [4002, 4002], [4002, 4001])
    assert all(info.was_clean for info in infos)


# ---- a peer that hangs up rudely ----


@pytest.mark.parametrize("rudely", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("scene", TCP_SCENES, ids=str)
async def test_a_peer_that_hangs_up_at_any_byte_is_told_of_as_1006(scene: Scene, rudely: bool) -> None:
    if scene.is_client:
        talk = frame(TEXT, b"hello") + frame(PING, b"?") + b"\x01\x03one" + b"\x80\x7e\x01\x00" + bytes(10)
    else:
        talk = (
            client_frame(0x81, b"hello") + client_frame(0x89, b"?") + client_frame(0x01, b"one") + b"\x80\xfe\x01\x00"
        )
    with trio.fail_after(30):
        for cut in range(len(talk)):
            async with scene.connected() as (websocket, peer):
                await peer.stream.send_all(talk[:cut])
                if cut >= 11:
                    assert await websocket.receive() == "hello"
                assert isinstance(peer.stream, trio.SocketStream)
                if rudely:
                    reset(peer.stream.socket)  # type: ignore[arg-type]  # trio's sockets have the methods it needs
                    peer.ended = True
                else:
                    await peer.vanish()
                with pytest.raises(ConnectionClosedError) as caught:
                    while True:
                        assert await websocket.receive() == "hello"
                assert caught.value.code == 1006
                assert (await websocket.wait_closed()).code == 1006


# ---- streams ----


async def test_bytes_are_identical_over_a_stream_that_takes_them_one_by_one() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    message = random.Random(12).randbytes(20_000)
    async with trio.open_nursery() as nursery:
        partial_stream = PartialWriteStream(ours, 1)
        client, server = await link(nursery, nursery, partial_stream, ChunkedStream(theirs, 7), compression=None)
        nursery.start_soon(client.send, message)
        assert await server.receive() == message
        nursery.start_soon(client.aclose)
        assert (await server.wait_closed()).code == 1000
        nursery.cancel_scope.cancel()


async def test_a_stream_that_cannot_close_half_is_closed_without_a_wait(autojump_clock: trio.testing.MockClock) -> None:
    for closes_first in (0, 1):
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            ends = await link(nursery, nursery, NoHalfClose(ours), NoHalfClose(theirs))
            await ends[closes_first].aclose()
            assert (await ends[1 - closes_first].wait_closed()).was_clean
            nursery.cancel_scope.cancel()
    assert trio.current_time() == 0


# ---- a server's goodbye ----


async def test_a_server_that_closes_says_1001_to_all_and_is_not_held_up_by_a_mute_one() -> None:
    codes: list[int] = []
    mute: list[trio.SocketStream] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            async for _ in websocket:
                raise NotImplementedError

    async def client(url: str) -> None:
        async with trio_ws.open_websocket(url, connect_timeout=60) as websocket:
            codes.append((await websocket.wait_closed()).code)

    serve = partial(trio_ws.serve_websocket, handler, LOCALHOST, 0, close_timeout=0.5)
    with trio.fail_after(60):
        async with trio.open_nursery() as clients, serving(serve) as server:
            for _ in range(200):
                clients.start_soon(client, f"ws://{LOCALHOST}:{server.port}/")
            for _ in range(3):
                peer = RawPeer(await trio.open_tcp_stream(LOCALHOST, server.port), is_client=True)
                await peer.connect()
                assert isinstance(peer.stream, trio.SocketStream)
                mute.append(peer.stream)
            await until(lambda: len(server.connections) == 203)
            port = server.port
            started = trio.current_time()
            await server.aclose()
            took = trio.current_time() - started
            with pytest.raises(OSError, match="connect"):
                await trio.open_tcp_stream(LOCALHOST, port)
    assert codes == [1001] * 200
    assert 0.49 <= took < 1.5
    for stream in mute:
        await stream.aclose()
