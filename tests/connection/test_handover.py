"""The clock that connections share: whom it calls, when, and what is left when it is cancelled."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from tests.connection.memory import transport_pair
from tests.connection.sides import Peer, start
from trio_ws._connection.handover import CALLS_AT_ONCE, Handover
from trio_ws._transport import HANDOVER_DELAY


class Reader:
    """Notes how it is called, and when."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float]] = []

    def take_over_now(self) -> None:
        self.calls.append(("now", trio.current_time()))

    def take_over_if_free(self) -> None:
        self.calls.append(("if free", trio.current_time()))


async def test_who_is_expected_is_called_once_after_one_delay_or_two(autojump_clock: MockClock) -> None:
    first, second, third = Reader(), Reader(), Reader()
    async with trio.open_nursery() as nursery:
        handover = Handover(nursery)
        begin = trio.current_time()
        handover.expect(first)
        await trio.sleep(HANDOVER_DELAY / 2)
        handover.expect(second)
        assert len(nursery.child_tasks) == 1
        await trio.sleep(HANDOVER_DELAY * 2)
        assert not nursery.child_tasks  # nobody is expected
        assert first.calls == [("if free", begin + HANDOVER_DELAY)]
        assert second.calls == [("if free", begin + 2 * HANDOVER_DELAY)]
        again = trio.current_time()
        handover.expect(third)
        await trio.sleep(HANDOVER_DELAY * 1.5)
        assert third.calls == [("if free", again + HANDOVER_DELAY)]
    assert len(first.calls) == len(second.calls) == 1


async def test_cancelled_it_calls_everyone_at_once_and_lets_nobody_wait_any_more(autojump_clock: MockClock) -> None:
    first, second, late = Reader(), Reader(), Reader()
    async with trio.open_nursery() as nursery:
        handover = Handover(nursery)
        begin = trio.current_time()
        handover.expect(first)
        await wait_all_tasks_blocked()
        handover.expect(second)
        nursery.cancel_scope.cancel()
    handover.expect(late)
    assert first.calls == second.calls == late.calls == [("now", begin)]


async def test_the_clock_stops_when_nobody_is_expected_any_more(autojump_clock: MockClock) -> None:
    first, second, third = Reader(), Reader(), Reader()
    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        handover = Handover(nursery)
        handover.forget(first)
        handover.expect(first)
        handover.forget(first)  # before the clock's task has run
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks
        handover.expect(first)
        await wait_all_tasks_blocked()
        handover.expect(second)
        handover.forget(first)
        await wait_all_tasks_blocked()
        assert nursery.child_tasks  # for the second
        handover.forget(second)
        handover.expect(third)  # before the clock has stopped: it begins anew
    assert trio.current_time() == begin + HANDOVER_DELAY
    assert (first.calls, second.calls, third.calls) == ([], [], [("if free", begin + HANDOVER_DELAY)])


async def test_a_connection_that_has_ended_leaves_no_clock_behind(autojump_clock: MockClock) -> None:
    ours, theirs = transport_pair()
    before = trio.current_time()
    async with trio.open_nursery() as nursery:
        websocket = start(nursery, ours, is_client=False)
        await wait_all_tasks_blocked()
        Peer(theirs, is_client=True).send("hello")
        assert await websocket.receive() == "hello"
        await wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 2  # the clock, and the attendant that it will call
        websocket._connection.abandon()
    assert trio.current_time() == before


async def test_who_received_when_it_ended_leaves_no_clock_behind_either(autojump_clock: MockClock) -> None:
    ours, theirs = transport_pair()
    async with trio.open_nursery() as nursery:
        websocket = start(nursery, ours, is_client=False)
        await wait_all_tasks_blocked()
        Peer(theirs, is_client=True).send("hello")
        assert await websocket.receive() == "hello"
        with trio.move_on_after(1):
            await websocket.receive()  # the clock has called meanwhile
        async with trio.open_nursery() as receivers:
            receivers.start_soon(expect_the_end, websocket)
            await trio.sleep(1)
            before = trio.current_time()
            websocket._connection.abandon()
    assert trio.current_time() == before


async def expect_the_end(websocket: trio_ws.WebSocket) -> None:
    with pytest.raises(trio_ws.ConnectionClosed):
        await websocket.receive()


async def test_others_run_while_many_are_called(autojump_clock: MockClock) -> None:
    readers = [Reader() for _ in range(2 * CALLS_AT_ONCE + 1)]
    called: list[int] = []

    class Steps(trio.abc.Instrument):
        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            called.append(sum(len(reader.calls) for reader in readers))

    async with trio.open_nursery() as nursery:
        handover = Handover(nursery)
        for reader in readers:
            handover.expect(reader)
        trio.lowlevel.add_instrument(steps := Steps())
        await trio.sleep(HANDOVER_DELAY * 1.5)
        trio.lowlevel.remove_instrument(steps)
    assert {CALLS_AT_ONCE, 2 * CALLS_AT_ONCE} < set(called)
    assert called[-1] == len(readers)


async def test_the_connections_of_a_server_share_one_clock() -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await websocket.wait_closed()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(trio_ws.serve_websocket, handler, "127.0.0.1", 0))
        url = f"ws://127.0.0.1:{server.port}/"
        async with trio_ws.open_websocket(url) as one, trio_ws.open_websocket(url) as other:
            clocks = [websocket._connection.attendant._handover for websocket in (*server.connections, one, other)]
            assert clocks[0] is clocks[1]
            assert len(set(clocks)) == 3
        await server.aclose()
