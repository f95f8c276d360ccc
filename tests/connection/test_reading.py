"""How messages come: each once, in order, and no more than may wait; also over real sockets."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from tests import raw
from tests.connection.memory import transport_pair
from tests.connection.sides import end_of, one_side, start
from trio_ws import CloseInfo, Limits, WebSocket
from trio_ws._connection.connection import Connection
from trio_ws._net.socket_transport import SocketTransport
from trio_ws._reactor import Reactor
from trio_ws._util.nursery import BackgroundNursery
from trio_ws._wire.events import Pong
from trio_ws._wire.frames import Opcode, frame_bytes

SHORT = 0.01  # seconds


async def take(websocket: WebSocket, into: list[object], count: int) -> None:
    for _ in range(count):
        into.append(await websocket.receive())  # noqa: PERF401  # others look at it meanwhile


class TaskSteps(trio.abc.Instrument):
    """Counts the steps of each task."""

    def __init__(self) -> None:
        self.counts: Counter[trio.lowlevel.Task] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.counts[task] += 1


@pytest.mark.parametrize("receivers", [1, 2, 3, 4])
async def test_nobody_waits_for_messages_after_the_last(receivers: int, autojump_clock: MockClock) -> None:
    for _ in range(20):  # trio shuffles the tasks of a step
        got: list[str | bytes] = []

        async def take_all(websocket: trio_ws.WebSocket, got: list[str | bytes] = got) -> None:
            with pytest.raises(trio_ws.ConnectionClosedOK):
                while True:
                    got.append(await websocket.receive())

        async with one_side() as (websocket, peer):
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for _ in range(receivers):
                    nursery.start_soon(take_all, websocket)
                await wait_all_tasks_blocked()
                for message in ("one", "two"):
                    peer.send(message)
                peer.close()
            assert trio.current_time() == began
        assert sorted(map(str, got)) == ["one", "two"]


async def test_a_message_that_comes_alone_costs_one_step_of_the_reactor_and_one_of_the_receiver(
    autojump_clock: MockClock,
) -> None:
    async with one_side() as (websocket, peer):
        got: list[object] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, websocket, got, 10)
            await wait_all_tasks_blocked()
            steps = TaskSteps()
            me = trio.lowlevel.current_task()
            trio.lowlevel.add_instrument(steps)
            for number in range(10):
                peer.send(str(number))
                await wait_all_tasks_blocked()
            trio.lowlevel.remove_instrument(steps)
        assert got == [str(number) for number in range(10)]
        del steps.counts[me]
        assert max(steps.counts.values()) <= 20  # the memory's transport looks once more whether something came
        assert min(steps.counts.values()) == 10


async def test_an_idle_connection_costs_no_step(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.send("first")
        assert await websocket.receive() == "first"
        await wait_all_tasks_blocked()
        steps = TaskSteps()
        trio.lowlevel.add_instrument(steps)
        with trio.move_on_after(10_000):
            await websocket.receive()
        trio.lowlevel.remove_instrument(steps)
        assert steps.counts.total() <= 3  # ours, and the clock's


async def test_a_connection_has_no_task_and_a_reactor_ends_with_its_last_member(autojump_clock: MockClock) -> None:
    async with BackgroundNursery() as nursery:
        websockets, peers = [], []
        reactor = Reactor(nursery, shield=True)
        for _ in range(5):
            ours, theirs = transport_pair()
            websockets.append(start(nursery, ours, is_client=True, reactor=reactor))
            peers.append(theirs)
        await wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        for websocket in websockets:
            websocket._connection.abandon()
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks


async def test_several_receivers_get_the_messages_of_one_read_in_order(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        got: list[object] = []
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(take, websocket, got, 10)
            await wait_all_tasks_blocked()
            peer.transport.write(
                b"".join(frame_bytes(Opcode.TEXT, b"%d" % number, masked=False) for number in range(100))
            )
        assert got == [str(number) for number in range(100)]


async def test_a_receiver_that_cannot_wait_reads_what_is_here(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with pytest.raises(trio.WouldBlock):
            websocket.receive_nowait()
        peer.send("alone")
        assert websocket.receive_nowait() == "alone"
        peer.send("one")
        peer.send(b"two")
        assert [websocket.receive_nowait(), websocket.receive_nowait()] == ["one", b"two"]
        assert websocket.statistics().messages_received == 3


async def test_what_another_task_has_read_meanwhile_comes_first(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        got: list[object] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, websocket, got, 2)
            await wait_all_tasks_blocked()
            websocket._connection.understand(frame_bytes(Opcode.TEXT, b"one", masked=False))
            peer.send("two")
        assert got == ["one", "two"]


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_is_lost_or_comes_twice_however_receivers_come_and_go(
    seed: int, autojump_clock: MockClock
) -> None:
    dice, total = random.Random(seed), 200
    got: list[object] = []

    async def come_and_go(websocket: WebSocket) -> None:
        while len(got) < total:
            with trio.move_on_after(dice.choice((0, 0.001, SHORT, 0.5))):
                while len(got) < total:
                    got.append(await websocket.receive())
                    if dice.random() < 0.2:
                        await trio.sleep(dice.choice((0, SHORT, 0.03)))
            await trio.sleep(dice.choice((0, 0.001, SHORT, 0.03)))

    async with one_side(limits=Limits(receive_buffer=700)) as (websocket, peer):
        end_of(peer).read_size = dice.choice((1, 5, 100))
        async with trio.open_nursery() as nursery:
            for _ in range(dice.randint(1, 4)):
                nursery.start_soon(come_and_go, websocket)
            for number in range(total):
                peer.send(str(number))
                if dice.random() < 0.1:
                    await trio.sleep(dice.choice((0, 0.001, SHORT, 0.1)))
            with trio.move_on_after(60) as scope:
                while len(got) < total:  # noqa: ASYNC110  # the clock is the test's
                    await trio.sleep(0.1)
            assert not scope.cancelled_caught
            nursery.cancel_scope.cancel()
    assert got == [str(number) for number in range(total)]


# ---- the buffer and the budget ----


@pytest.mark.parametrize(("size", "resumes"), [(87, False), (86, True)])
async def test_reading_goes_on_at_half_of_the_buffer_and_not_before(
    size: int, resumes: bool, autojump_clock: MockClock
) -> None:
    async with one_side(limits=Limits(receive_buffer=300)) as (websocket, peer):
        for length in (86, size):  # counted as 150, and 150 or 151
            peer.send(bytes(length))
        peer.send(b"?", Opcode.PING)
        end_of(peer).read_size = 2 + 86 + 2 + size
        await trio.sleep(1)
        assert websocket.statistics().backpressured
        await websocket.receive()
        await trio.sleep(1)
        assert websocket.statistics().backpressured is not resumes
        assert peer.heard() == ([Pong(b"?")] if resumes else [])
        await websocket.receive()
        await trio.sleep(1)
        assert peer.heard() == ([] if resumes else [Pong(b"?")])


async def test_a_message_larger_than_the_buffer_comes_too(autojump_clock: MockClock) -> None:
    async with one_side(limits=Limits(receive_buffer=1)) as (websocket, peer):
        for size in (0, 10, 1000):
            peer.send(bytes(size))
        for size in (0, 10, 1000):
            await trio.sleep(1)
            assert websocket.statistics().receive_buffer == size + 64
            assert await websocket.receive() == bytes(size)


async def test_without_a_limit_everything_is_read(autojump_clock: MockClock) -> None:
    async with one_side(limits=Limits(receive_buffer=None)) as (websocket, peer):
        for _ in range(100):
            peer.send(bytes(10**5))
        await trio.sleep(2)
        assert websocket.statistics().messages_received == 100
        assert not websocket.statistics().backpressured


async def test_a_full_buffer_does_not_hide_the_peers_close_from_aclose(autojump_clock: MockClock) -> None:
    async with one_side(limits=Limits(receive_buffer=100)) as (websocket, peer):
        for _ in range(5):
            peer.send(bytes(100))
        await trio.sleep(1)
        peer.close(1000)
        end_of(peer).end()
        before = trio.current_time()
        await websocket.aclose()
        assert websocket.close_info == CloseInfo(1000, "", was_clean=True)
        assert trio.current_time() == before
        counted = websocket.statistics()
        assert (counted.messages_received, counted.receive_buffer, counted.backpressured) == (1, 0, False)


@pytest.mark.parametrize("receives", [True, False])
async def test_no_step_understands_more_than_the_budget(receives: bool, autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        counts: list[int] = []

        class Steps(trio.abc.Instrument):
            def after_task_step(self, task: trio.lowlevel.Task) -> None:
                counts.append(websocket.statistics().messages_received)

        peer.transport.write(frame_bytes(Opcode.TEXT, b"x", masked=False) * 1000)
        trio.lowlevel.add_instrument(Steps())
        if receives:
            await take(websocket, [], 1000)
        else:
            await trio.sleep(1)
        steps = [after - before for before, after in zip([0, *counts], counts, strict=False) if after != before]
        assert steps == [256, 256, 256, 232]


@pytest.mark.parametrize("error", [None, ConnectionResetError("gone")])
async def test_an_end_that_comes_with_more_than_a_step_understands_comes_after_it(
    error: Exception | None, autojump_clock: MockClock
) -> None:
    async with one_side() as (websocket, peer):
        peer.transport.write(frame_bytes(Opcode.TEXT, b"x", masked=False) * 1000)
        end_of(peer).end()
        if error is not None:
            end_of(peer).error = error
        got: list[object] = []
        await take(websocket, got, 1000)
        assert got == ["x"] * 1000
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await websocket.receive()
        assert caught.value.__cause__ is error


async def test_an_end_that_comes_when_nothing_but_the_buffer_is_full_is_told(autojump_clock: MockClock) -> None:
    async with one_side(limits=Limits(receive_buffer=100)) as (websocket, _):
        connection = websocket._connection
        connection.data_received(frame_bytes(Opcode.TEXT, b"x" * 100, masked=False))
        connection.eof_received()
        await wait_all_tasks_blocked()
        assert websocket.close_info is None
        assert await websocket.receive() == "x" * 100
        with pytest.raises(trio_ws.ConnectionClosedError):
            await websocket.receive()


@pytest.mark.parametrize("full", [False, True])
async def test_an_end_that_is_pushed_in_a_pause_comes_after_what_waits(full: bool, autojump_clock: MockClock) -> None:
    """As TLS does that decrypts the goodbye with the rest."""
    async with one_side(limits=Limits(receive_buffer=100 if full else None)) as (websocket, _):
        connection = websocket._connection
        connection.data_received(frame_bytes(Opcode.TEXT, b"x" * 100, masked=False) * 300)
        connection.eof_received()
        connection.read_now()
        assert websocket.close_info is None
        got: list[object] = []
        await take(websocket, got, 300)
        assert got == ["x" * 100] * 300
        with pytest.raises(trio_ws.ConnectionClosedError):
            await websocket.receive()


@pytest.mark.parametrize("half_closed", [False, True])
@pytest.mark.parametrize("push", [Connection.peer_ended, Connection.eof_received])
async def test_who_wants_to_know_of_the_end_is_told_in_a_pause(
    push: Callable[[Connection], None], half_closed: bool, autojump_clock: MockClock
) -> None:
    """If it was the peer who began: a block that closes ends by itself."""
    async with one_side(limits=Limits(receive_buffer=300)) as (websocket, peer):
        peer.send(bytes(300))
        await trio.sleep(1)
        assert websocket.statistics().backpressured
        with trio.move_on_after(1), websocket.move_on_when_closed() as scope:
            if half_closed:
                websocket._connection.start_half_close()
            push(websocket._connection)
            await trio.sleep_forever()
        assert scope.cancelled_caught is not half_closed
        assert await websocket.receive() == bytes(300)


async def test_a_transport_that_breaks_after_both_closes_loses_nothing(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.close(1000)
        await wait_all_tasks_blocked()
        websocket._connection.lose(OSError("gone"))
        assert await websocket.wait_closed() == CloseInfo(1000, "", was_clean=True)


async def test_nothing_is_understood_while_pieces_fill_the_buffer(autojump_clock: MockClock) -> None:
    async with one_side(limits=Limits(receive_buffer=200)) as (websocket, peer):
        peer.transport.write(frame_bytes(Opcode.BINARY, b"x", masked=False, fin=False))
        async with websocket.receive_message_stream() as parts:
            peer.transport.write(frame_bytes(Opcode.CONTINUATION, b"x", masked=False, fin=False) * 100)
            await trio.sleep(1)
            before = websocket.statistics()
            assert before.backpressured
            with pytest.raises(trio.WouldBlock):
                websocket.receive_nowait()
            assert websocket.statistics() == before
            assert await anext(parts)


async def test_others_run_between_two_budgets(autojump_clock: MockClock) -> None:
    async with one_side(limits=Limits(control_burst=None)) as (websocket, peer):
        peer.transport.write(frame_bytes(Opcode.PONG, b"", masked=False) * 2560)
        ran: list[int] = []

        async def other() -> None:
            while websocket.statistics().pongs_received < 2560:
                ran.append(websocket.statistics().pongs_received)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
        assert len(set(ran)) >= 4  # trio shuffles: of two passes one may come right after the other


# ---- over real sockets ----


@asynccontextmanager
async def over_tcp(
    clock: MockClock, *, is_client: bool = False
) -> AsyncGenerator[tuple[WebSocket, trio.SocketStream], None]:
    """A WebSocket on a TCP socket; the test has the other end. The clock jumps when the sockets are silent."""
    clock.autojump_threshold = 0.01
    ours, theirs = raw.tcp_pair()
    async with BackgroundNursery() as nursery, raw.as_stream(theirs) as stream:
        websocket = start(nursery, SocketTransport(ours), is_client=is_client)
        try:
            yield websocket, stream
        finally:
            websocket._connection.abandon()


async def test_a_busy_application_has_its_pings_answered_over_tcp(mock_clock: MockClock) -> None:
    async with over_tcp(mock_clock) as (websocket, stream):
        await stream.send_all(raw.frame(raw.TEXT, b"work", masked=True))
        assert await websocket.receive() == "work"
        before = trio.current_time()
        await stream.send_all(raw.frame(raw.PING, b"there?", masked=True))
        assert await raw.read_frame(stream) == (raw.PONG, b"there?")
        assert trio.current_time() == before
        await stream.send_all(raw.frame(raw.PING, b"and now?", masked=True))
        assert await raw.read_frame(stream) == (raw.PONG, b"and now?")
        assert trio.current_time() == before
        await stream.send_all(raw.frame(raw.TEXT, b"more", masked=True))
        assert await websocket.receive() == "more"


async def test_a_busy_application_has_the_peers_close_answered_over_tcp(mock_clock: MockClock) -> None:
    async with over_tcp(mock_clock) as (websocket, stream):
        await stream.send_all(raw.frame(raw.TEXT, b"work", masked=True))
        assert await websocket.receive() == "work"
        await stream.send_all(raw.frame(raw.TEXT, b"last", masked=True) + raw.close_frame(4000, masked=True))
        assert raw.frames(await raw.read_all(stream)) == [(raw.CLOSE, (4000).to_bytes(2, "big"))]
        await stream.aclose()
        assert await websocket.receive() == "last"
        with pytest.raises(trio_ws.ConnectionClosedError):
            await websocket.receive()
        assert await websocket.wait_closed() == CloseInfo(4000, "", was_clean=True)


async def test_messages_over_tcp_come_once_and_in_order_whoever_reads(mock_clock: MockClock) -> None:
    async with over_tcp(mock_clock) as (websocket, stream):
        got: list[object] = []
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(take, websocket, got, 40)
            for number in range(120):
                await stream.send_all(raw.frame(raw.TEXT, b"%d" % number, masked=True))
                if number % 10 == 0:
                    await trio.sleep(0.02)
        assert got == [str(number) for number in range(120)]


@pytest.mark.parametrize("is_client", [True, False])
async def test_both_sides_closing_at_once_never_wait_for_each_other(is_client: bool, mock_clock: MockClock) -> None:
    """The peer's Close is in the socket, a receiver waits there, and now this side closes: whoever reads it first."""
    for _ in range(10):
        async with over_tcp(mock_clock, is_client=is_client) as (websocket, stream), trio.open_nursery() as nursery:
            await wait_all_tasks_blocked()
            await stream.send_all(raw.frame(raw.TEXT, b"x", masked=not is_client))
            await websocket.receive()
            nursery.start_soon(expect_the_end, websocket)
            await wait_all_tasks_blocked()
            before = trio.current_time()
            os.write(stream.socket.fileno(), raw.close_frame(1000, masked=not is_client))  # no pass of the scheduler
            nursery.start_soon(end_tcp, stream, is_client)
            await websocket.aclose()
            assert trio.current_time() - before < 0.5
            assert websocket.close_info == CloseInfo(1000, "", was_clean=True)


async def expect_the_end(websocket: WebSocket) -> None:
    with pytest.raises(trio_ws.ConnectionClosed):
        await websocket.receive()


async def end_tcp(stream: trio.SocketStream, first: bool) -> None:
    """End TCP as the peer does: first if it is the server, or when our side has."""
    if not first:
        await raw.read_all(stream)
    await stream.aclose()
