"""What ``trio.abc`` asks of channels, asked of both of ours, in both directions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from tests.connection.memory import MemoryTransport
from tests.connection.sides import two_sides
from trio_ws import Limits, WebSocket, WebSocketStream

Message = str | bytes


@dataclass
class Pair:
    """A channel's two ends, and what is below the sender."""

    sender: trio.abc.SendChannel[Message]
    receiver: trio.abc.ReceiveChannel[Message]
    transport: MemoryTransport
    broken: type[Exception]  # what a sender gets whose receiver has closed


Factory = Callable[[], AbstractAsyncContextManager[Pair]]
LIMITS = Limits(send_buffer=100)


def transport_of(websocket: WebSocket) -> MemoryTransport:
    transport = websocket._connection.transport
    assert isinstance(transport, MemoryTransport)
    return transport


@asynccontextmanager
async def websocket_pair() -> AsyncGenerator[Pair, None]:
    # A WebSocket is one channel for both directions: what the peer's close means is one exception for both.
    async with two_sides(limits=LIMITS) as (client, server):
        yield Pair(client, server, transport_of(client), trio.EndOfChannel)


@asynccontextmanager
async def websocket_pair_backwards() -> AsyncGenerator[Pair, None]:
    async with two_sides(limits=LIMITS) as (client, server):
        yield Pair(server, client, transport_of(server), trio.EndOfChannel)


@asynccontextmanager
async def stream_pair() -> AsyncGenerator[Pair, None]:
    async with two_sides(limits=LIMITS) as (client, server):
        one, two = WebSocketStream(client), WebSocketStream(server)
        yield Pair(one.writable, two.readable, transport_of(client), trio.BrokenResourceError)


@asynccontextmanager
async def stream_pair_backwards() -> AsyncGenerator[Pair, None]:
    async with two_sides(limits=LIMITS) as (client, server):
        one, two = WebSocketStream(client), WebSocketStream(server)
        yield Pair(two.writable, one.readable, transport_of(server), trio.BrokenResourceError)


@pytest.fixture(params=[websocket_pair, websocket_pair_backwards, stream_pair, stream_pair_backwards])
def make(request: pytest.FixtureRequest, autojump_clock: MockClock) -> Factory:
    factory: Factory = request.param
    return factory


async def test_they_are_channels(make: Factory) -> None:
    async with make() as pair:
        assert isinstance(pair.sender, trio.abc.SendChannel)
        assert isinstance(pair.receiver, trio.abc.ReceiveChannel)
        assert not hasattr(pair.sender, "clone")
        assert not hasattr(pair.receiver, "clone")


async def test_messages_come_in_order_and_whole(make: Factory) -> None:
    sent: list[Message] = ["", "text", b"", b"\x00\xff", "ü" * 1000, bytes(100_000)]
    async with make() as pair, trio.open_nursery() as nursery:

        async def send() -> None:
            for message in sent:
                await pair.sender.send(message)

        nursery.start_soon(send)
        assert [await pair.receiver.receive() for _ in sent] == sent


async def test_everything_is_a_checkpoint(make: Factory) -> None:
    async with make() as pair:
        for message in ("1", "2", "3"):
            await pair.sender.send(message)
        with assert_checkpoints():
            await pair.sender.send("4")
        await wait_all_tasks_blocked()
        await pair.receiver.receive()  # it need not pass the scheduler: the reactor has run
        for _ in range(3):
            with assert_checkpoints():
                await pair.receiver.receive()
        for channel in (pair.receiver, pair.sender):
            for _ in range(2):
                with assert_checkpoints():
                    await channel.aclose()


async def test_a_cancelled_receive_loses_nothing(make: Factory) -> None:
    async with make() as pair:
        with trio.move_on_after(1) as scope:
            await pair.receiver.receive()
        assert scope.cancelled_caught
        await pair.sender.send("kept")
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await pair.receiver.receive()
        assert scope.cancelled_caught
        assert await pair.receiver.receive() == "kept"


async def test_a_sender_waits_for_room_and_a_cancelled_one_has_sent_nothing(make: Factory) -> None:
    async with make() as pair:
        pair.transport.room = 0
        await pair.sender.send(bytes(200))
        with trio.move_on_after(1) as scope:
            await pair.sender.send("never")
        assert scope.cancelled_caught
        pair.transport.make_room(float("inf"))
        await pair.sender.send("sent")
        assert [await pair.receiver.receive(), await pair.receiver.receive()] == [bytes(200), "sent"]


async def test_the_end_comes_after_everything_that_was_sent(make: Factory) -> None:
    async with make() as pair:
        for number in range(3):
            await pair.sender.send(str(number))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.sender.aclose)
            assert [message async for message in pair.receiver] == ["0", "1", "2"]
        for _ in range(2):
            with pytest.raises(trio.EndOfChannel):
                await pair.receiver.receive()


async def test_who_waits_for_a_message_learns_of_the_end(make: Factory) -> None:
    async with make() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.sender.aclose)
        with pytest.raises(trio.EndOfChannel):
            await pair.receiver.receive()


async def test_a_closed_sender_sends_no_more(make: Factory) -> None:
    async with make() as pair:
        await pair.sender.aclose()
        for _ in range(2):
            with pytest.raises(trio.ClosedResourceError):
                await pair.sender.send("late")


async def test_closing_wakes_a_sender_that_waits(make: Factory) -> None:
    async with make() as pair, trio.open_nursery() as nursery:
        pair.transport.room = 0
        await pair.sender.send(bytes(200))

        async def send() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await pair.sender.send("waits")
            pair.transport.make_room(float("inf"))

        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        await pair.sender.aclose()


async def test_a_closed_receiver_receives_no_more(make: Factory) -> None:
    async with make() as pair:
        await pair.sender.send("dropped")
        await wait_all_tasks_blocked()
        await pair.receiver.aclose()
        for _ in range(2):
            with pytest.raises(trio.ClosedResourceError):
                await pair.receiver.receive()


async def test_closing_wakes_a_receiver_that_waits(make: Factory) -> None:
    async with make() as pair, trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await pair.receiver.receive()

        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        await pair.receiver.aclose()


async def test_a_sender_learns_that_its_receiver_has_closed(make: Factory) -> None:
    async with make() as pair:
        await pair.receiver.aclose()
        await wait_all_tasks_blocked()
        for _ in range(2):
            with pytest.raises(pair.broken):
                await pair.sender.send("to nobody")


async def test_a_lost_connection_breaks_both_ends(make: Factory) -> None:
    async with make() as pair, trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await pair.receiver.receive()

        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        pair.transport.break_down(ConnectionResetError("gone"))
        pair.transport.peer.break_down(ConnectionResetError("gone"))
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            await pair.sender.send("lost")
        with pytest.raises(trio.BrokenResourceError):
            await pair.receiver.receive()


async def test_two_receivers_share_the_messages(make: Factory) -> None:
    got: list[Message] = []

    async def receive(pair: Pair) -> None:
        async for message in pair.receiver:
            got.append(message)  # two of them take turns
            await trio.sleep(0.01)

    async with make() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(receive, pair)
        nursery.start_soon(receive, pair)
        for number in range(20):
            await pair.sender.send(str(number))
        await trio.sleep(1)
        await pair.sender.aclose()
    assert sorted(got, key=int) == [str(number) for number in range(20)]


async def test_a_cancelled_aclose_has_closed(make: Factory) -> None:
    async with make() as pair:
        for channel in (pair.sender, pair.receiver):
            with trio.CancelScope() as scope:
                scope.cancel()
                await channel.aclose()
            assert scope.cancelled_caught
        with pytest.raises(trio.ClosedResourceError):
            await pair.sender.send("late")
        with pytest.raises(trio.ClosedResourceError):
            await pair.receiver.receive()


async def test_leaving_the_block_of_an_end_closes_it(make: Factory) -> None:
    async with make() as pair:
        async with pair.receiver:
            pass
        with pytest.raises(trio.ClosedResourceError):
            await pair.receiver.receive()
