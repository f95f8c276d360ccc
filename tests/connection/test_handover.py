"""The clock that connections share: whom it calls, when, and what is left when it is cancelled."""

from __future__ import annotations

from functools import partial

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from trio_ws._handover import CALLS_AT_ONCE, HANDOVER_DELAY, Handover


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
