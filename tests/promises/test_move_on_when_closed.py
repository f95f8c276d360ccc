"""A block, or a handler, that ends with its connection: whoever ends it, however, over every carrier."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

import trio_ws
from trio_ws import ConnectionClosedError, Keepalive, WebSocket, WebSocketRequest, WebSocketStream, open_websocket
from trio_ws.testing import LocalServer, memory_websocket_pair, open_test_server

from ..connection.sides import one_side
from ..serving import until
from .links import CARRIERS, linked

Ender = Callable[[WebSocket, WebSocket], Awaitable[object]]


async def the_peer_closes(ours: WebSocket, peer: WebSocket) -> None:
    await peer.aclose(4000, "enough")


async def the_peer_vanishes(ours: WebSocket, peer: WebSocket) -> None:
    peer._connection.transport.abort()


async def we_close(ours: WebSocket, peer: WebSocket) -> None:
    await ours.aclose()


async def our_transport_breaks(ours: WebSocket, peer: WebSocket) -> None:
    ours._connection.transport.abort()
    ours._connection.lose(OSError("broken"))


ENDERS = [the_peer_closes, the_peer_vanishes, we_close, our_transport_breaks]


@pytest.mark.parametrize("end", ENDERS)
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("carrier", CARRIERS)
async def test_the_block_ends_with_the_connection(carrier: str, side: str, end: Ender) -> None:
    async with linked(carrier) as ends, trio.open_nursery() as nursery:
        ours, peer = ends if side == "client" else ends[::-1]
        with ours.move_on_when_closed() as scope:
            nursery.start_soon(end, ours, peer)
            await trio.sleep_forever()
        assert scope.cancelled_caught
        with pytest.raises(trio_ws.ConnectionClosed):
            await ours.send("too late")


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_what_came_before_the_end_is_there_behind_the_block(carrier: str) -> None:
    async with linked(carrier) as (client, server), trio.open_nursery() as nursery:
        for number in range(3):
            await client.send(str(number))
        nursery.start_soon(client.aclose, 4000, "enough")
        with server.move_on_when_closed():
            await trio.sleep_forever()
        assert [await server.receive() for _ in range(3)] == ["0", "1", "2"]
        with pytest.raises(ConnectionClosedError, match="enough"):
            await server.receive()


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_the_block_may_close_the_connection_itself(carrier: str) -> None:
    async with linked(carrier) as (client, server), trio.open_nursery() as nursery:
        with server.move_on_when_closed():
            await server.aclose(4001, "we are done")
        assert server.close_info is not None
        assert (server.close_info.code, server.close_info.was_clean) == (4001, True)
        nursery.start_soon(client.wait_closed)


async def test_a_block_that_ends_before_its_connection_is_not_cancelled() -> None:
    async with memory_websocket_pair() as (client, server):
        with server.move_on_when_closed() as scope:
            await client.send("hello")
            assert await server.receive() == "hello"
        await client.aclose()
        await server.wait_closed()
        await trio.testing.wait_all_tasks_blocked()
        assert not scope.cancel_called


async def test_on_a_connection_that_has_ended_the_block_is_cancelled_at_its_first_checkpoint() -> None:
    async with memory_websocket_pair() as (client, server):
        await client.aclose()
        await server.wait_closed()
        reached = False
        with server.move_on_when_closed() as scope:
            reached = True
            await trio.lowlevel.checkpoint()
        assert reached
        assert scope.cancelled_caught


async def test_on_a_connection_that_is_closing_by_the_peer_the_block_is_cancelled_too() -> None:
    async with memory_websocket_pair() as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose)
        with pytest.raises(trio_ws.ConnectionClosedOK):
            await server.receive()
        with server.move_on_when_closed() as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught


async def test_blocks_in_several_tasks_and_in_each_other_all_end() -> None:
    caught: list[bool] = []

    async def wait(websocket: WebSocket) -> None:
        with websocket.move_on_when_closed() as outer:
            with websocket.move_on_when_closed() as inner:
                await trio.sleep_forever()
            caught.append(inner.cancelled_caught or outer.cancelled_caught)
            await trio.lowlevel.checkpoint()
            raise AssertionError("the outer block went on")
        caught.append(outer.cancelled_caught)

    async with memory_websocket_pair() as (client, server), trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait, server)
        await trio.testing.wait_all_tasks_blocked()
        await client.aclose()
    assert caught.count(True) >= 3


async def test_an_error_leaves_the_block_as_it_was_raised() -> None:
    async with memory_websocket_pair() as (_, server):
        with pytest.raises(ZeroDivisionError), server.move_on_when_closed():
            raise ZeroDivisionError


async def test_a_cancellation_from_outside_goes_through() -> None:
    async with memory_websocket_pair() as (_, server):
        with trio.CancelScope() as outer, server.move_on_when_closed() as inner:
            outer.cancel()
            await trio.sleep_forever()
        assert outer.cancelled_caught
        assert not inner.cancelled_caught


async def test_a_peer_that_keepalive_gives_up_ends_the_block(autojump_clock: trio.testing.MockClock) -> None:
    async with one_side(is_client=False, keepalive=Keepalive(interval=5, timeout=5)) as (server, _):
        with server.move_on_when_closed() as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert trio.current_time() == 10


async def test_a_stream_has_it_too() -> None:
    async with memory_websocket_pair() as (client, server):
        stream = WebSocketStream(server)
        async with trio.open_nursery() as nursery:
            with stream.move_on_when_closed() as scope:
                nursery.start_soon(client.aclose)
                await trio.sleep_forever()
            assert scope.cancelled_caught


# ---- the server's option ----


@asynccontextmanager
async def waiting_server(tls: bool, cancel_on_close: bool = True) -> AsyncGenerator[tuple[LocalServer, list[str]]]:
    """Serve with a handler that waits for ever; list what became of handlers."""
    ends: list[str] = []

    async def handler(request: WebSocketRequest) -> None:
        try:
            async with request.accept():
                await trio.sleep_forever()
        finally:
            ends.append(request.path)

    async with open_test_server(handler, tls=tls, cancel_on_close=cancel_on_close) as server:
        yield server, ends


@pytest.mark.parametrize("http2", [False, True])
async def test_a_handler_that_never_receives_ends_with_its_connection(http2: bool) -> None:
    async with (
        waiting_server(tls=True) as (server, ends),
        trio_ws.Agent(ssl_context=server.ssl_context, allow_h2=http2) as agent,
        open_websocket(f"{server.url}one", dispatcher=agent) as first,
        open_websocket(f"{server.url}two", dispatcher=agent) as second,
    ):
        await first.aclose()
        await until(lambda: ends == ["/one"])
        assert await second.ping() > 0
        second._connection.transport.abort()
        await until(lambda: ends == ["/one", "/two"])


async def test_a_handler_without_the_option_goes_on() -> None:
    async with waiting_server(tls=False, cancel_on_close=False) as (server, ends):
        async with open_websocket(server.url):
            pass
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert ends == []
    assert ends == ["/"]


async def test_without_a_handler_there_is_nothing_to_cancel() -> None:
    ours, _ = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="cancel_on_close=True: there must be a handler to cancel"):
            await trio_ws.wrap_server_stream(nursery, ours, cancel_on_close=True)


@pytest.mark.parametrize("carrier", ["tcp", "tls", "h2"])
@pytest.mark.parametrize("end", [the_peer_closes, the_peer_vanishes])
async def test_the_end_is_seen_though_the_receive_buffer_is_full(carrier: str, end: Ender) -> None:
    limits = trio_ws.Limits(receive_buffer=1000)
    async with (
        linked(carrier, limits=limits, compression=None, close_timeout=0.5) as (client, server),
        trio.open_nursery() as nursery,
    ):  # a Close waits behind what is unread, for close_timeout: then TCP ends
        for _ in range(3):
            await client.send(bytes(1000))
        await until(lambda: server.statistics().backpressured)
        with trio.fail_after(10), server.move_on_when_closed() as scope:
            nursery.start_soon(end, server, client)
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert await server.receive() == bytes(1000)
