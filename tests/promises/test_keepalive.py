"""Promise 6: keepalive tells the truth. Time is virtual here: nobody waits for it."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from wsproto.events import TextMessage

import trio_ws
from trio_ws import ConnectionClosedError, Keepalive, Limits, ReadyState
from trio_ws.testing import PartialWriteStream

from ..raw_peer import RawPeer
from ..serving import LOCALHOST, serving, until
from .links import CARRIERS, URL, link, linked

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from trio.testing import MockClock

KEEPALIVE = Keepalive(interval=20, timeout=20)
MEBIBYTE = 2**20
NO_LIMIT = Limits(max_message_size=None, receive_buffer=None)


@asynccontextmanager
async def to_a_raw_peer(
    streams: Callable[
        [], tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]
    ] = trio.testing.memory_stream_pair,
    keepalive: Keepalive | None = KEEPALIVE,
    limits: Limits = NO_LIMIT,
) -> AsyncGenerator[tuple[trio_ws.WebSocket, RawPeer], None]:
    """Open a client of ours to a raw server that does nothing by itself."""
    ours, theirs = streams()
    peer = RawPeer(theirs, is_client=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.accept)
        websocket = await trio_ws.wrap_client_stream(
            nursery, ours, URL, compression=None, keepalive=keepalive, limits=limits
        )
        await until(lambda: peer.open)
        yield websocket, peer
        nursery.cancel_scope.cancel()


# ---- a dead peer ----


@pytest.mark.parametrize(
    "keepalive",
    [KEEPALIVE, Keepalive(interval=1, timeout=5), Keepalive(interval=30, timeout=0.5)],
    ids=["20+20", "1+5", "30+0.5"],
)
async def test_a_dead_peer_is_found_after_interval_and_timeout(keepalive: Keepalive, autojump_clock: MockClock) -> None:
    assert keepalive.timeout is not None
    async with to_a_raw_peer(keepalive=keepalive) as (websocket, _):
        opened = trio.current_time()
        with pytest.raises(ConnectionClosedError) as caught:
            await websocket.receive()
        assert trio.current_time() - opened == pytest.approx(keepalive.interval + keepalive.timeout, abs=0.1)
        assert caught.value.code == 1006
        assert caught.value.sent is not None
        assert caught.value.sent.code == 1011
        with trio.fail_after(2.1):
            assert await websocket.wait_closed() == caught.value.sent


async def test_a_dead_peer_is_found_whatever_the_application_does(autojump_clock: MockClock) -> None:
    async with to_a_raw_peer() as (websocket, peer):
        await peer.send(TextMessage("unread"))
        await trio.sleep(60)  # busy elsewhere: nobody calls anything
        assert websocket.ready_state is ReadyState.CLOSED
        assert await websocket.receive() == "unread"
        with pytest.raises(ConnectionClosedError):
            await websocket.receive()


async def test_everyone_who_waits_is_woken_when_the_peer_is_given_up(autojump_clock: MockClock) -> None:
    woken: list[float] = []
    async with to_a_raw_peer(trio.testing.lockstep_stream_pair) as (websocket, _):

        async def wait(call: Callable[[], object]) -> None:
            with pytest.raises(ConnectionClosedError):
                await call()  # type: ignore[misc]
            woken.append(trio.current_time())

        await websocket.send(bytes(MEBIBYTE))  # the peer never reads it
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, websocket.receive)
            nursery.start_soon(wait, websocket.ping)
            nursery.start_soon(wait, lambda: websocket.send("no room"))
    assert woken == [pytest.approx(40, abs=0.1)] * 3


async def test_a_ping_that_waits_is_woken_when_the_link_dies(autojump_clock: MockClock) -> None:
    async with to_a_raw_peer(keepalive=None) as (websocket, peer), trio.open_nursery() as nursery:

        async def die() -> None:
            await trio.sleep(100)
            await peer.vanish()

        nursery.start_soon(die)
        with pytest.raises(ConnectionClosedError):
            await websocket.ping()
        assert trio.current_time() == pytest.approx(100, abs=0.1)


async def test_without_keepalive_a_dead_peer_is_waited_for(autojump_clock: MockClock) -> None:
    async with to_a_raw_peer(keepalive=None) as (websocket, peer):
        with trio.move_on_after(10_000) as scope:
            await websocket.receive()
        assert scope.cancelled_caught
        assert websocket.ready_state is ReadyState.OPEN
        assert peer.pings == []


# ---- a live peer ----


async def test_a_silent_peer_that_answers_pings_is_kept(autojump_clock: MockClock) -> None:
    async with to_a_raw_peer() as (websocket, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.read_to_the_end)
        await trio.sleep(1000)
        assert websocket.ready_state is ReadyState.OPEN
        assert 48 <= len(peer.pings) <= 50
        nursery.cancel_scope.cancel()


async def test_any_byte_is_life(autojump_clock: MockClock) -> None:
    async with to_a_raw_peer() as (websocket, peer):
        frame = peer.encode(TextMessage("x" * 60))
        for position in range(len(frame)):  # no ping is ever answered
            await trio.sleep(15)
            await peer.stream.send_all(frame[position : position + 1])
        assert await websocket.receive() == "x" * 60
        assert websocket.ready_state is ReadyState.OPEN
        assert websocket.statistics().pings_sent == 0


async def test_a_byte_that_is_no_pong_answers_a_ping(autojump_clock: MockClock) -> None:
    async with to_a_raw_peer() as (websocket, peer):
        frame = peer.encode(TextMessage("x" * 60))
        for position in range(len(frame)):  # each comes when a ping is on its way
            await trio.sleep(35)
            await peer.stream.send_all(frame[position : position + 1])
        assert await websocket.receive() == "x" * 60
        assert websocket.statistics().pings_sent >= 60


async def test_a_frame_of_16_mebibytes_that_comes_in_64_seconds_kills_nothing(autojump_clock: MockClock) -> None:
    async with to_a_raw_peer() as (websocket, peer), trio.open_nursery() as nursery:
        frame = b"\x82\x7f" + (16 * MEBIBYTE).to_bytes(8, "big") + bytes(16 * MEBIBYTE)

        async def dribble() -> None:
            for start in range(0, len(frame), 2**18):
                await trio.sleep(1)
                await peer.stream.send_all(frame[start : start + 2**18])

        nursery.start_soon(dribble)
        assert await websocket.receive() == bytes(16 * MEBIBYTE)
        assert trio.current_time() >= 64


@pytest.mark.parametrize("seconds", [64, 600])
async def test_a_frame_of_16_mebibytes_that_takes_long_to_send_kills_nothing(
    seconds: int, autojump_clock: MockClock
) -> None:
    # The peer has nothing to say meanwhile, and the ping is behind the frame.
    ours, theirs = trio.testing.lockstep_stream_pair()
    slow = PartialWriteStream(ours, 2**16, delay=seconds / 256)
    message = bytes(16 * MEBIBYTE)
    async with trio.open_nursery() as nursery:
        client, server = await link(
            nursery, nursery, slow, theirs, compression=None, keepalive=KEEPALIVE, limits=NO_LIMIT
        )
        nursery.start_soon(client.send, message)
        assert await server.receive() == message
        assert trio.current_time() >= seconds
        assert client.ready_state is ReadyState.OPEN
        await server.send("thanks")
        assert await client.receive() == "thanks"
        nursery.cancel_scope.cancel()


# ---- a process that stood still ----


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("receiving", [True, False], ids=["receiving", "idle"])
async def test_a_peer_that_answered_while_the_process_stood_still_is_kept(
    carrier: str, receiving: bool, mock_clock: MockClock
) -> None:
    """The clock is far behind the deadline, and both ends of the connection are in this process."""
    mock_clock.autojump_threshold = 0.005
    async with linked(carrier, keepalive=KEEPALIVE) as (client, server), trio.open_nursery() as nursery:
        if receiving:
            nursery.start_soon(client.receive)
            nursery.start_soon(server.receive)
        for standstill in (19, 21, 39.99, 40, 40.05, 41, 1000):
            await trio.sleep(30)  # a ping is on its way some of the time
            mock_clock.jump(standstill)
            await trio.sleep(1)
            assert client.ready_state is server.ready_state is ReadyState.OPEN, standstill
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("receiving", [True, False], ids=["receiving", "idle"])
@pytest.mark.parametrize("late", [0.0, 0.05, 1000])
async def test_a_pong_that_lies_in_the_stream_when_time_is_up_counts(
    receiving: bool, late: float, mock_clock: MockClock
) -> None:
    mock_clock.autojump_threshold = 0
    for _ in range(10):  # tasks run in any order
        async with to_a_raw_peer() as (websocket, peer), trio.open_nursery() as nursery:
            if receiving:
                nursery.start_soon(websocket.receive)
            await trio.sleep(30)
            assert websocket.statistics().pings_sent == 1
            await peer.send(TextMessage(""))  # it lies in the stream: nothing of ours has run since
            mock_clock.jump(10 + late)
            if not receiving:
                assert await websocket.receive() == ""
            await trio.sleep(1)
            assert websocket.ready_state is ReadyState.OPEN
            nursery.cancel_scope.cancel()


async def test_a_peer_that_is_dead_is_found_after_the_process_stood_still(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0
    async with to_a_raw_peer() as (websocket, _):
        await trio.sleep(30)
        mock_clock.jump(1000)
        started = trio.current_time()
        with pytest.raises(ConnectionClosedError):
            await websocket.receive()
        assert trio.current_time() - started == pytest.approx(20, abs=0.1)  # the time to answer, once more
        assert websocket.statistics().pings_sent == 2


# ---- a peer that takes nothing while the application does not read ----

SMALL = Limits(receive_buffer=10_000, max_message_size=None)


@pytest.mark.parametrize("carrier", [carrier for carrier in CARRIERS if carrier != "memory"])  # that takes everything
async def test_two_that_only_send_are_given_up(carrier: str, mock_clock: MockClock) -> None:
    """Neither reads, so neither answers, and what both have to say fills every buffer between them."""
    mock_clock.autojump_threshold = 0.05
    limits = Limits(receive_buffer=10_000, h2_stall_timeout=10_000)
    async with linked(carrier, keepalive=KEEPALIVE, limits=limits, compression=None) as (client, server):
        ended: list[float] = []

        async def send(websocket: trio_ws.WebSocket) -> None:
            with pytest.raises(ConnectionClosedError):
                while True:
                    await websocket.send(bytes(2**16))
            ended.append(trio.current_time() - started)

        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, client)
            nursery.start_soon(send, server)
        assert 39.9 <= ended[0] <= 41
        causes = [str(end._connection.protocol.failure).partition(" (")[0] for end in (client, server)]
        assert "the peer takes nothing of what it is sent" in causes


async def test_a_peer_that_sent_much_and_takes_nothing_is_given_up(autojump_clock: MockClock) -> None:
    async with to_a_raw_peer(trio.testing.lockstep_stream_pair, limits=SMALL) as (websocket, peer):
        await peer.send(TextMessage("x" * 20_000))
        await trio.sleep(100)  # nothing of ours waits: the clock stands still
        assert websocket.statistics().backpressured
        started = trio.current_time()
        with pytest.raises(ConnectionClosedError) as caught:
            while True:
                await websocket.send(bytes(2**16))
        assert trio.current_time() - started == pytest.approx(40, abs=0.1)
        assert "takes nothing" in str(caught.value.__cause__)
        assert await websocket.receive() == "x" * 20_000


async def test_a_peer_that_takes_a_little_now_and_then_is_kept(autojump_clock: MockClock) -> None:
    async with to_a_raw_peer(trio.testing.lockstep_stream_pair, limits=SMALL) as (websocket, peer):
        await peer.send(TextMessage("x" * 20_000))
        await websocket.send(bytes(MEBIBYTE))
        for _ in range(15):
            await trio.sleep(39)
            assert websocket.ready_state is ReadyState.OPEN
            for _ in range(2**16 // 2**12):
                await peer.stream.receive_some(2**12)
        await trio.sleep(41)
        assert websocket.ready_state is ReadyState.CLOSED


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell how much it holds")
async def test_what_the_system_holds_of_ours_counts_as_well(mock_clock: MockClock) -> None:
    """A slow peer takes bytes for long before the system says that there is room for more."""
    mock_clock.autojump_threshold = 0.005

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            opened.append(websocket)
            with pytest.raises(ConnectionClosedError):
                await websocket.send(bytes(2**24))
                await websocket.send(bytes(2**24))

    opened: list[trio_ws.WebSocket] = []
    serve = partial(trio_ws.serve_websocket, handler, LOCALHOST, 0, compression=None, keepalive=KEEPALIVE)
    async with serving(serve) as server:
        sock = trio.socket.socket()
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 2**16)  # it tells of little room, too
        await sock.connect((LOCALHOST, server.port))
        stream = trio.SocketStream(sock)
        peer = RawPeer(stream, is_client=True)
        await peer.connect()
        await trio.sleep(1)
        (websocket,) = opened
        buffered = websocket.buffered_amount
        for _ in range(5):
            await stream.receive_some(2**17)
            await trio.sleep(30)
            assert websocket.ready_state is ReadyState.OPEN
        assert websocket.buffered_amount - buffered < 100  # nothing has gone to the system, and a few pings wait
        await trio.sleep(81)
        assert websocket.ready_state is ReadyState.CLOSED
        await stream.aclose()


# ---- a busy application ----


async def test_a_busy_application_that_leaves_messages_unread_is_not_killed(autojump_clock: MockClock) -> None:
    async with to_a_raw_peer(limits=Limits()) as (websocket, peer), trio.open_nursery() as nursery:
        await peer.send(TextMessage("unread"))
        nursery.start_soon(peer.read_to_the_end)
        await trio.sleep(1000)
        assert websocket.ready_state is ReadyState.OPEN
        assert await websocket.receive() == "unread"
        nursery.cancel_scope.cancel()


async def test_the_clock_stands_still_while_the_receive_buffer_is_full(autojump_clock: MockClock) -> None:
    text = "x" * 1000
    async with (
        to_a_raw_peer(trio.testing.lockstep_stream_pair, limits=Limits(receive_buffer=10_000)) as (websocket, peer),
        trio.open_nursery() as nursery,
    ):

        async def send() -> None:
            for _ in range(200):
                await peer.send(TextMessage(text))
            await peer.read_to_the_end()  # not a pong before all has been sent

        nursery.start_soon(send)
        await trio.sleep(1000)
        assert websocket.statistics().backpressured
        assert websocket.ready_state is ReadyState.OPEN
        for _ in range(200):
            assert await websocket.receive() == text
            await trio.sleep(1)
        assert websocket.ready_state is ReadyState.OPEN
        await trio.sleep(1000)
        assert websocket.ready_state is ReadyState.OPEN
        nursery.cancel_scope.cancel()


async def test_the_clock_goes_on_when_the_receive_buffer_has_room_again(autojump_clock: MockClock) -> None:
    async with to_a_raw_peer(limits=Limits(receive_buffer=10_000)) as (websocket, peer):
        await peer.send(TextMessage("x" * 20_000))
        await trio.sleep(1000)
        assert websocket.ready_state is ReadyState.OPEN
        started = trio.current_time()
        assert await websocket.receive() == "x" * 20_000
        with pytest.raises(ConnectionClosedError):
            await websocket.receive()
        assert trio.current_time() - started == pytest.approx(40, abs=0.1)


async def test_a_ping_of_the_peers_is_answered_while_the_application_is_busy(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        client, server = await link(nursery, nursery, ours, theirs, keepalive=None)
        for _ in range(10):
            await server.send("unread")
            await trio.sleep(1)
            assert await client.ping() < 0.1  # its application never calls
        assert server.statistics().pongs_sent == 10
        nursery.cancel_scope.cancel()
