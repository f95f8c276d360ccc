"""A connection that is alone: the task that waits for a message waits for the socket itself, and reads."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_ws
import trio_ws.testing
from tests.connection.sides import start
from tests.promises.links import linked
from tests.reactors import SETS
from tests.serving import until
from trio_ws import _reactor as reactor_module
from trio_ws._net.socket_transport import SocketTransport
from trio_ws._reactor import Reactor
from trio_ws._util.nursery import BackgroundNursery
from trio_ws._wire.frames import Opcode, frame_bytes


@pytest.fixture(params=SETS, autouse=True)
def readiness(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every reactor take one set after the other."""
    monkeypatch.setattr(reactor_module, "best_readiness", SETS[request.param])


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note how many sockets each step of a reactor handles."""
    noted: list[int] = []
    handle_ready = Reactor._handle_ready

    def note(self: Reactor, until: float) -> None:
        noted.append(len(self._ready))
        handle_ready(self, until)

    monkeypatch.setattr(Reactor, "_handle_ready", note)
    return noted


@asynccontextmanager
async def lone(limits: trio_ws.Limits | None = None) -> AsyncGenerator[tuple[trio_ws.WebSocket, socket.socket], None]:
    """A client on a real socket, alone in its reactor, which has settled, and the server's socket."""
    ours, theirs = socket.socketpair()
    async with BackgroundNursery() as nursery:
        with theirs:
            websocket = start(nursery, SocketTransport(ours), is_client=True, limits=limits)
            await wait_all_tasks_blocked()
            try:
                yield websocket, theirs
            finally:
                websocket._connection.abandon()


def text(payload: str, *, fin: bool = True) -> bytes:
    return frame_bytes(Opcode.TEXT, payload.encode(), masked=False, fin=fin)


async def receive_into(websocket: trio_ws.WebSocket, got: list[str | bytes], count: int = 1) -> None:
    while count:
        got.append(await websocket.receive())
        count -= 1


async def test_the_reactor_takes_no_step_for_messages_that_a_task_waits_for(steps: list[int]) -> None:
    async with lone() as (websocket, server):
        steps.clear()
        got: list[str | bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_into, websocket, got, 3)
            for number in range(3):
                await wait_all_tasks_blocked()
                server.send(text(str(number)))
        assert got == ["0", "1", "2"]
        assert steps == []


async def test_when_no_task_waits_the_reactor_reads(steps: list[int]) -> None:
    async with lone() as (websocket, server):
        server.send(text("one"))
        assert await websocket.receive() == "one"
        server.send(text("two"))
        await until(lambda: websocket.statistics().messages_received == 2)
        server.send(frame_bytes(Opcode.PING, b"", masked=False))
        await until(lambda: websocket.statistics().pongs_sent == 1)
        assert websocket.receive_nowait() == "two"
        steps.clear()
        server.close()
        with websocket.move_on_when_closed() as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert steps


async def test_a_cancelled_task_leaves_the_socket_to_the_reactor() -> None:
    async with lone() as (websocket, server):
        for number in range(3):
            with trio.move_on_after(0):
                await websocket.receive()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(websocket.receive)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            server.send(text(str(number)))
            await until(lambda: websocket.statistics().messages_received == number + 1)  # noqa: B023
            assert await websocket.receive() == str(number)


async def test_tasks_that_come_later_wait_behind() -> None:
    async with lone() as (websocket, server):
        first: list[str | bytes] = []
        others: list[str | bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_into, websocket, first)
            await wait_all_tasks_blocked()
            for _ in range(2):
                nursery.start_soon(receive_into, websocket, others)
                await wait_all_tasks_blocked()
            server.send(text("one") + text("two"))
            await until(lambda: bool(first and others))
            assert (first, others) == (["one"], ["two"])
            server.send(text("three"))
        assert others == ["two", "three"]


async def test_tasks_behind_one_that_is_cancelled_get_what_comes() -> None:
    async with lone() as (websocket, server):
        got: list[str | bytes] = []
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def wait_in_vain() -> None:
                with scope:
                    await websocket.receive()

            nursery.start_soon(wait_in_vain)
            await wait_all_tasks_blocked()
            nursery.start_soon(receive_into, websocket, got)
            await wait_all_tasks_blocked()
            scope.cancel()
            await wait_all_tasks_blocked()
            server.send(text("one"))
        assert got == ["one"]


async def test_a_message_that_comes_by_another_way_wakes_the_task() -> None:
    async with lone() as (websocket, server):
        got: list[str | bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_into, websocket, got)
            await wait_all_tasks_blocked()
            websocket._connection.data_received(text("one"))
        assert got == ["one"]
        server.send(text("two"))
        assert await websocket.receive() == "two"


async def test_more_than_a_step_understands_comes_whole() -> None:
    count = 2000
    async with lone() as (websocket, server):
        got: list[str | bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_into, websocket, got, count)
            await wait_all_tasks_blocked()
            server.send(b"".join(text(str(number)) for number in range(count)))
        assert got == [str(number) for number in range(count)]


async def test_a_task_that_waits_hears_of_the_end() -> None:
    for end in ("close", "abort", "bug"):
        async with lone() as (websocket, server), trio.open_nursery() as nursery:

            async def wait_for_the_end(websocket: trio_ws.WebSocket = websocket) -> None:
                with pytest.raises(trio_ws.ConnectionClosed):
                    await websocket.receive()

            nursery.start_soon(wait_for_the_end)
            await wait_all_tasks_blocked()
            if end == "close":
                websocket._connection.start_close(1000, "")
                await wait_all_tasks_blocked()
                assert not nursery.child_tasks
            elif end == "abort":
                websocket._connection.abandon()
            else:
                server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                server.close()


async def test_a_bug_while_a_task_reads_ends_the_connection_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with lone() as (websocket, server):
        error = LookupError("a bug")

        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(type(websocket._connection), "data_received", fail)
        server.send(text("one"))
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await websocket.receive()
        assert caught.value.__cause__ is error
    assert "internal error" in caplog.text


async def test_what_cannot_be_sent_at_once_goes_while_a_task_waits() -> None:
    async with lone() as (websocket, server):
        server.setblocking(False)
        got: list[str | bytes] = []
        async with trio.open_nursery() as nursery:
            for _ in range(3):  # the first time the set tells of room as well, later no more
                nursery.start_soon(receive_into, websocket, got)
                await wait_all_tasks_blocked()
                websocket._connection.outbox.write(b"x" * 2**20)
                assert websocket.buffered_amount
                while websocket.buffered_amount:
                    await trio.lowlevel.wait_readable(server)
                    server.recv(2**20)
                server.send(text("now"))
                await until(lambda: not nursery.child_tasks)
        assert got == ["now"] * 3


async def test_what_cannot_be_sent_at_once_goes_when_no_task_waits_any_more() -> None:
    async with lone() as (websocket, server):
        server.setblocking(False)

        async def send_much() -> None:
            websocket._connection.outbox.write(b"x" * 2**20)
            assert websocket.buffered_amount
            while websocket.buffered_amount:
                await trio.lowlevel.wait_readable(server)
                server.recv(2**20)

        got: list[str | bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_into, websocket, got)
            await wait_all_tasks_blocked()
            await send_much()
            server.send(text("now"))
        assert got == ["now"]
        with trio.fail_after(10):
            await send_much()


async def test_what_cannot_be_sent_at_once_goes_after_the_task_that_waited_is_cancelled() -> None:
    size = 2**20
    async with lone() as (websocket, server):
        server.setblocking(False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(websocket.receive)
            await wait_all_tasks_blocked()
            websocket._connection.outbox.write(bytes(size))
            assert websocket.buffered_amount
            nursery.cancel_scope.cancel()
        with trio.fail_after(10):
            while size:
                await trio.lowlevel.wait_readable(server)
                size -= len(server.recv(size))


async def test_a_task_that_begins_to_wait_while_something_is_unsent_waits_behind_the_reactor(steps: list[int]) -> None:
    async with lone() as (websocket, server):
        server.setblocking(False)
        websocket._connection.outbox.write(b"x" * 2**20)
        got: list[str | bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_into, websocket, got)
            await wait_all_tasks_blocked()
            steps.clear()
            server.send(text("now"))
        assert got == ["now"]
        assert steps


async def test_a_second_connection_of_the_same_reactor_ends_it(steps: list[int]) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    got: list[str | bytes] = []
    async with BackgroundNursery() as background:
        reactor = Reactor(background, shield=True)
        first = start(background, SocketTransport(pairs[0][0]), is_client=True, reactor=reactor)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_into, first, got)
            await wait_all_tasks_blocked()
            second = start(background, SocketTransport(pairs[1][0]), is_client=True, reactor=reactor)
            nursery.start_soon(receive_into, second, got)
            await wait_all_tasks_blocked()
            assert reactor.lone_socket is None
            pairs[1][1].send(text("second"))
            await until(lambda: got == ["second"])
            pairs[0][1].send(text("first"))
        assert got == ["second", "first"]
        steps.clear()
        pairs[0][1].send(text("again"))
        assert await first.receive() == "again"
        assert steps
        first._connection.abandon()
        assert reactor.lone_socket is not None
        second._connection.abandon()
        assert reactor.lone_socket is None
    for _, theirs in pairs:
        theirs.close()


async def test_a_task_that_begins_to_wait_while_reading_is_paused_waits_for_the_reactor() -> None:
    async with lone(trio_ws.Limits(receive_buffer=100)) as (websocket, server):
        got: list[str | bytes] = []
        server.send(text("x" * 100, fin=False))
        async with trio.open_nursery() as nursery, websocket.receive_message_stream() as parts:
            await until(lambda: websocket.statistics().backpressured)
            nursery.start_soon(receive_into, websocket, got)
            await wait_all_tasks_blocked()
            server.send(frame_bytes(Opcode.CONTINUATION, b"y", masked=False) + text("next"))
            assert [part async for part in parts] == ["x" * 100, "y"]
        assert got == ["next"]


# ---- over HTTP/2 ----


async def soon(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        await until(condition)


async def test_the_only_websocket_of_an_http2_connection_is_alone(steps: list[int]) -> None:
    async with linked("h2c") as (client, server):
        got: list[str | bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_into, client, got, 3)
            nursery.start_soon(receive_into, server, got, 3)
            await wait_all_tasks_blocked(0.01)
            steps.clear()
            for number in range(3):
                await server.send(f"to the client {number}")
                await client.send(f"to the server {number}")
                await soon(lambda: len(got) == 2 * number + 2)  # noqa: B023
        assert {*got} == {f"to the {end} {number}" for number in range(3) for end in ("client", "server")}
        assert steps == []
        assert await client.ping() >= 0


async def test_a_second_websocket_of_the_same_http2_connection_ends_it() -> None:
    first: list[str | bytes] = []
    second: list[str | bytes] = []

    async def say_twice(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            for _ in range(2):
                await websocket.send(request.path)
                await websocket.receive()

    async with (
        trio_ws.testing.open_test_server(say_twice) as server,
        trio_ws.Agent(ssl_context=server.ssl_context) as agent,
        trio_ws.open_websocket(f"{server.url}first", dispatcher=agent) as one,
        trio.open_nursery() as nursery,
    ):
        assert await one.receive() == "/first"
        nursery.start_soon(receive_into, one, first)  # alone as yet
        await wait_all_tasks_blocked(0.01)
        async with trio_ws.open_websocket(f"{server.url}second", dispatcher=agent) as other:
            assert agent.statistics().connections_opened == 1
            transport = one._connection.transport
            assert transport.has_siblings
            nursery.start_soon(receive_into, other, second, 2)
            await soon(lambda: second == ["/second"])
            await one.send("go on")
            await soon(lambda: first == ["/first"])
            await other.send("go on")
            await soon(lambda: second == ["/second"] * 2)
        await soon(lambda: not transport.has_siblings)
