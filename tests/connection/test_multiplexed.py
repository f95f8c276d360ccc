"""A connection on one of the streams of an HTTP/2 connection: windows, one question for all, and who ends first."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.memory import MemoryTransport
from tests.connection.sides import Peer, start
from trio_ws import CloseInfo, Keepalive, Limits, ReadyState, WebSocket
from trio_ws._connection.connection import CLIENT_STREAM_LINGER, SERVER_STREAM_LINGER
from trio_ws._util.nursery import BackgroundNursery
from trio_ws._wire.events import Close, Ping
from trio_ws._wire.frames import Opcode, frame_bytes

WINDOW = 2**16


class Stream(MemoryTransport):
    """One stream: its peer may send a window, and more when what was read is given back."""

    multiplexed = True

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []
        self.last_heard = -math.inf
        self.can_ask = True
        self._owed = 0

    def read(self) -> bytes | None:
        data = super().read()
        self._owed += len(data or b"")
        return data

    def give_back(self, waiting: int = 0) -> int:
        if waiting <= WINDOW // 2:
            owed, self._owed = self._owed, 0
            self.peer.make_room(owed)
        return WINDOW // 2

    @property
    def heard_at(self) -> float:
        return self.last_heard

    def ask(self) -> bool:
        self.log.append(f"ask {trio.current_time():g}")
        return self.can_ask

    def write_last(self, data: bytes) -> None:
        self.log.append("last")
        super().write_last(data)

    def write_eof(self) -> None:
        self.log.append("end")
        super().write_eof()

    def abort(self) -> None:
        if not self.closed:
            self.log.append("reset")
        super().abort()


@asynccontextmanager
async def one_stream(
    *, is_client: bool = True, limits: Limits | None = None, keepalive: Keepalive | None = None
) -> AsyncGenerator[tuple[WebSocket, Peer, Stream], None]:
    """Our side on a stream, and a peer played by hand whose window is ``WINDOW``."""
    ours, theirs = Stream(), MemoryTransport()
    ours.peer, theirs.peer = theirs, ours
    theirs.room = WINDOW
    async with BackgroundNursery() as nursery:
        websocket = start(nursery, ours, is_client=is_client, limits=limits, keepalive=keepalive)
        try:
            yield websocket, Peer(theirs, is_client=not is_client), ours
        finally:
            websocket._connection.abandon()


# ---- windows ----


async def test_an_application_that_does_not_read_stops_the_peer_at_about_a_window(autojump_clock: MockClock) -> None:
    async with one_stream() as (websocket, peer, _):
        for _ in range(200):
            peer.send(bytes(2**13))
        await wait_all_tasks_blocked()
        assert WINDOW <= len(peer.transport.written) <= 1.5 * WINDOW
        assert not websocket.statistics().backpressured
        for _ in range(200):
            assert len(await websocket.receive()) == 2**13
        assert peer.transport.unsent == 0


async def test_a_full_receive_buffer_gives_nothing_back_until_it_is_half_empty(autojump_clock: MockClock) -> None:
    async with one_stream(limits=Limits(receive_buffer=2**14)) as (websocket, peer, _):
        for _ in range(100):
            peer.send(bytes(2**12))
        await wait_all_tasks_blocked()
        written = len(peer.transport.written)
        assert written == WINDOW
        assert websocket.statistics().backpressured
        await websocket.receive()
        await wait_all_tasks_blocked()
        assert len(peer.transport.written) == written
        for _ in range(99):
            await websocket.receive()
        assert peer.transport.unsent == 0


async def test_a_message_larger_than_the_window_comes(autojump_clock: MockClock) -> None:
    async with one_stream() as (websocket, peer, _):
        peer.send(bytes(10 * WINDOW))
        assert len(await websocket.receive()) == 10 * WINDOW


async def test_a_large_message_behind_waiting_ones_comes_once_they_are_taken(autojump_clock: MockClock) -> None:
    async with one_stream() as (websocket, peer, _):
        for _ in range(5):
            peer.send(bytes(2**13))
        peer.send(bytes(10 * WINDOW))
        await wait_all_tasks_blocked()
        assert [len(await websocket.receive()) for _ in range(6)] == [2**13] * 5 + [10 * WINDOW]


async def test_what_waits_unread_does_not_hide_the_peers_close(autojump_clock: MockClock) -> None:
    async with one_stream() as (websocket, peer, stream):
        for _ in range(100):
            peer.send(bytes(2**13))
        peer.close(1000)
        await wait_all_tasks_blocked()
        assert peer.transport.unsent > 0
        peer.transport.write_eof = lambda: None  # type: ignore[method-assign]
        websocket._connection.start_close(1000, "")
        await wait_all_tasks_blocked()
        assert websocket._connection.protocol.close_received == CloseInfo(1000)
        assert peer.transport.unsent == 0
        stream.end()
        await websocket.wait_closed()


async def test_after_a_breach_the_peer_may_send_on_to_its_end(autojump_clock: MockClock) -> None:
    async with one_stream() as (websocket, peer, _):
        peer.send(b"", 0x3)
        for _ in range(100):
            peer.send(bytes(2**13))
        await websocket.wait_closed()
        assert peer.transport.unsent == 0


# ---- keepalive ----


async def test_the_connections_own_question_takes_the_place_of_a_ping(autojump_clock: MockClock) -> None:
    async with one_stream(keepalive=Keepalive(interval=20, timeout=20)) as (websocket, peer, stream):
        for second in range(1, 100):
            await trio.sleep(1)
            if second % 15 == 5:
                stream.last_heard = trio.current_time()  # another stream's bytes, or the answer
        assert websocket.ready_state is ReadyState.OPEN
        assert stream.log == []
        await trio.sleep(20)
        assert stream.log == ["ask 115"]
        assert peer.heard() == []


async def test_a_connection_that_is_silent_is_given_up_by_each_of_its_streams(autojump_clock: MockClock) -> None:
    async with one_stream(keepalive=Keepalive(interval=20, timeout=5)) as (websocket, peer, stream):
        reason = "internal error: no answer to a keepalive ping (interval is 20 s, timeout 5 s)"
        assert await websocket.wait_closed() == CloseInfo(1011, reason)
        assert trio.current_time() == 25
        assert stream.log[0] == "ask 20"
        assert peer.heard() == [Close(CloseInfo(1011, reason))]


async def test_an_answer_heard_below_puts_the_next_question_off(autojump_clock: MockClock) -> None:
    async with one_stream(keepalive=Keepalive(interval=20, timeout=5)) as (websocket, _, stream):
        await trio.sleep(21)
        stream.last_heard = trio.current_time()
        await trio.sleep(19.5)
        assert stream.log == ["ask 20"]
        await trio.sleep(1)
        assert stream.log == ["ask 20", "ask 41"]
        assert websocket.ready_state is ReadyState.OPEN


async def test_a_transport_without_a_question_gets_a_ping(autojump_clock: MockClock) -> None:
    async with one_stream(keepalive=Keepalive(interval=20, timeout=5)) as (_, peer, stream):
        stream.can_ask = False
        await trio.sleep(21)
        assert [type(event) for event in peer.heard()] == [Ping]


async def test_other_transports_tell_nothing_of_below(autojump_clock: MockClock) -> None:
    transport = MemoryTransport()
    assert transport.give_back(0) < 0
    assert (transport.multiplexed, transport.heard_at, transport.ask()) == (False, -math.inf, False)


# ---- who ends first ----


async def test_a_client_lets_the_server_end_the_stream_first(autojump_clock: MockClock) -> None:
    async with one_stream() as (websocket, peer, stream):
        peer.close(1000)
        await wait_all_tasks_blocked()
        assert stream.log == []
        assert peer.heard() == [Close(CloseInfo(1000))]
        peer.transport.write_eof()
        assert await websocket.wait_closed() == CloseInfo(1000, was_clean=True)
        assert trio.current_time() == 0
        assert stream.log == ["end", "reset"]


async def test_a_stream_that_the_server_does_not_end_is_reset(autojump_clock: MockClock) -> None:
    async with one_stream() as (websocket, peer, stream):
        peer.close(1000)
        assert await websocket.wait_closed() == CloseInfo(1000, was_clean=True)
        assert trio.current_time() == CLIENT_STREAM_LINGER
        assert stream.log == ["reset"]


async def test_a_client_does_not_end_the_stream_of_a_server_that_broke_a_rule(autojump_clock: MockClock) -> None:
    async with one_stream() as (websocket, peer, stream):
        peer.send(b"", 0x3)
        await websocket.wait_closed()
        assert stream.log == ["reset"]


async def test_a_server_ends_the_stream_behind_its_close(autojump_clock: MockClock) -> None:
    async with one_stream(is_client=False) as (websocket, peer, stream):
        peer.close(1000)
        await wait_all_tasks_blocked()
        assert stream.log == ["end"]
        assert peer.heard() == [Close(CloseInfo(1000))]
        peer.transport.write_eof()
        assert await websocket.wait_closed() == CloseInfo(1000, was_clean=True)
        assert stream.log[-1] == "reset"


async def test_a_client_that_does_not_end_the_stream_is_not_waited_for_long(autojump_clock: MockClock) -> None:
    async with one_stream(is_client=False) as (websocket, peer, stream):
        peer.close(1000)
        assert await websocket.wait_closed() == CloseInfo(1000, was_clean=True)
        assert trio.current_time() == SERVER_STREAM_LINGER
        assert stream.log[0] == "end"
        assert stream.log[-1] == "reset"


async def test_a_server_that_closes_first_does_not_wait_long_either(autojump_clock: MockClock) -> None:
    async with one_stream(is_client=False) as (websocket, peer, stream):
        websocket._connection.start_close(1000, "")
        await trio.sleep(1)
        assert stream.log == []
        peer.close(1000)
        assert await websocket.wait_closed() == CloseInfo(1000, was_clean=True)
        assert trio.current_time() == 1 + SERVER_STREAM_LINGER


async def test_leaving_by_cancellation_ends_the_stream_with_its_goodbye(autojump_clock: MockClock) -> None:
    async with one_stream(is_client=False) as (websocket, peer, stream):
        await wait_all_tasks_blocked()
        websocket._connection.abandon()
        assert stream.log == ["last", "reset"]
        assert peer.heard() == [Close(CloseInfo(1001))]


async def test_a_goodbye_that_cannot_go_is_not_waited_for(autojump_clock: MockClock) -> None:
    async with one_stream(is_client=False) as (websocket, peer, stream):
        stream.room = 0
        websocket._connection.abandon()
        assert stream.log == ["last", "reset"]
        assert peer.heard() == []


async def test_pings_of_the_peers_are_answered_on_a_stream(autojump_clock: MockClock) -> None:
    async with one_stream() as (_, peer, _):
        peer.transport.write(frame_bytes(Opcode.PING, b"?", masked=False))
        await wait_all_tasks_blocked()
        assert len(peer.heard()) == 1
