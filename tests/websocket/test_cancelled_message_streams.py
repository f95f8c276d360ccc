"""A task that waits for a message in pieces is cancelled in the step in which the message comes: the next call gets it.

The connection's own task reads here; the task that waits has its cancellation already, and has not run yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.connection.sides import one_side
from trio_ws import (
    ConnectionClosedError,
    ConnectionClosedLocally,
    ConnectionClosedOK,
    Limits,
    MessageTooBig,
    WebSocket,
    WebSocketStream,
)
from trio_ws._connection.connection import FRAMES_AT_ONCE
from trio_ws._wire.events import Pong
from trio_ws._wire.frames import Opcode, frame_bytes

TEXT = "aé€😀" * 30


def fragment(payload: bytes, *, opcode: int = Opcode.CONTINUATION, fin: bool = False) -> bytes:
    """Write a frame as a server does."""
    return frame_bytes(opcode, payload, masked=False, fin=fin)


async def receive_pieces(websocket: WebSocket) -> str | bytes:
    async with websocket.receive_message_stream() as parts:
        pieces = [part async for part in parts]
        return b"".join(map(bytes, pieces)) if parts.binary else "".join(map(str, pieces))  # type: ignore[arg-type]


async def receive_when_it_is_here(websocket: WebSocket) -> str | bytes:
    while True:
        try:
            return websocket.receive_nowait()
        except trio.WouldBlock:
            await trio.sleep(1)


NEXT_CALLS = [WebSocket.receive, receive_pieces, receive_when_it_is_here]
every_next_call = pytest.mark.parametrize("receive", NEXT_CALLS)


async def cancel_as_it_comes(websocket: WebSocket, arrive: Callable[[], object], *, tasks: int = 1) -> None:
    """Have tasks wait for a message in pieces; ``arrive`` has it come, and it is read in the step that cancels them."""

    async def ask() -> None:
        await receive_pieces(websocket)
        raise AssertionError("it was cancelled")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(websocket.wait_closed)  # somebody must read
        await wait_all_tasks_blocked()
        for _ in range(tasks):
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        arrive()
        websocket._connection.read_now()


@every_next_call
@pytest.mark.parametrize("message", [TEXT, TEXT.encode(), "", b""])
async def test_the_next_call_gets_a_message_that_came_whole(
    receive: Callable[[WebSocket], Awaitable[object]], message: str | bytes, autojump_clock: MockClock
) -> None:
    async with one_side() as (websocket, peer):
        await cancel_as_it_comes(websocket, lambda: peer.send(message))
        peer.send("next")
        assert await receive(websocket) == message
        assert await receive(websocket) == "next"
        assert websocket.statistics().receive_buffer == 0
        assert websocket.statistics().messages_received == 2


@every_next_call
@pytest.mark.parametrize("receive_buffer", [1, 100, 2**20])
@pytest.mark.parametrize("begun", [0, 1, 2, 7, 50])
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("text", [True, False])
async def test_the_next_call_gets_a_message_that_had_begun(
    receive: Callable[[WebSocket], Awaitable[object]],
    receive_buffer: int,
    begun: int,
    frames: int,
    text: bool,
    autojump_clock: MockClock,
) -> None:
    """However much of it had come, also in the middle of a character."""
    payload = TEXT.encode()
    opcode = Opcode.TEXT if text else Opcode.BINARY
    if frames == 1:
        wire = fragment(payload, opcode=opcode, fin=True)
    else:
        wire = fragment(payload[:begun], opcode=opcode) + fragment(payload[begun:], fin=True)
    come = 2 + (begun if frames == 2 else begun + 2)  # headers and payload
    async with one_side(limits=Limits(receive_buffer=receive_buffer)) as (websocket, peer):
        await cancel_as_it_comes(websocket, lambda: peer.transport.write(wire[:come]))
        assert websocket.statistics().messages_received == 0
        got: list[object] = []

        async def receive_two() -> None:
            got.append(await receive(websocket))
            got.append(await receive(websocket))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_two)
            for position in range(come, len(wire), 10):
                await trio.sleep(1)
                peer.transport.write(wire[position : position + 10])
            peer.send("next")
        assert got == [TEXT if text else payload, "next"]
        assert websocket.statistics().receive_buffer == 0


@pytest.mark.parametrize("wire", [[b"whole"], [b"who", b"le"]], ids=["whole", "begun"])
async def test_a_receiver_that_waits_already_gets_the_message(wire: list[bytes], autojump_clock: MockClock) -> None:
    """Also if it is larger than the receive buffer."""
    async with one_side(limits=Limits(receive_buffer=1)) as (websocket, peer), trio.open_nursery() as nursery:
        got: list[object] = []
        scope = trio.CancelScope()

        async def receive() -> None:
            got.append(await websocket.receive())

        async def ask() -> None:
            with scope:
                got.append(await receive_pieces(websocket))
                got.append(await receive_pieces(websocket))

        nursery.start_soon(websocket.wait_closed)
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        peer.send("before")
        await wait_all_tasks_blocked()
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        scope.cancel()
        peer.transport.write(fragment(wire[0], opcode=Opcode.BINARY, fin=len(wire) == 1))
        websocket._connection.read_now()
        await wait_all_tasks_blocked()
        for piece in wire[1:]:
            peer.transport.write(fragment(piece, fin=True))
            await wait_all_tasks_blocked()
        assert got == ["before", b"whole"]
        nursery.cancel_scope.cancel()


async def test_after_one_that_was_cancelled_messages_are_received_whole(autojump_clock: MockClock) -> None:
    """The limits of a whole message hold again, and not those of pieces."""
    async with one_side(limits=Limits(receive_buffer=100, max_message_size=1000)) as (websocket, peer):
        with trio.move_on_after(1):
            await receive_pieces(websocket)
        async with trio.open_nursery() as nursery:
            got: list[object] = []

            async def receive() -> None:
                got.append(await websocket.receive())

            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            peer.transport.write(fragment(bytes(400), opcode=Opcode.BINARY))
            await trio.sleep(1)
            peer.transport.write(fragment(bytes(400), fin=True))
            await trio.sleep(1)
            assert got == [bytes(800)]
            nursery.cancel_scope.cancel()
        peer.send(bytes(1001))
        with pytest.raises(ConnectionClosedError) as caught:
            await websocket.receive()
        assert isinstance(caught.value.__cause__, MessageTooBig)


async def test_a_message_whose_end_is_here_already_goes_to_who_takes_its_pieces(autojump_clock: MockClock) -> None:
    """And not to a receiver that has waited for longer."""
    async with one_side() as (websocket, peer), trio.open_nursery() as nursery:
        connection, got = websocket._connection, list[object]()

        async def receive() -> None:
            got.append(await websocket.receive())

        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        rest = [fragment(b"x")] * (FRAMES_AT_ONCE - 1) + [fragment(b"!", fin=True)]
        connection.data_received(b"".join([fragment(b"x", opcode=Opcode.BINARY), *rest]))
        start = connection.protocol.stream_next()
        assert start is not None
        connection.begin_in_pieces(start)
        assert connection.has_message
        assert connection.assembler.asking == 0
        assert connection.take() == b"x" * FRAMES_AT_ONCE + b"!"
        peer.send("next")
        await wait_all_tasks_blocked()
        assert got == ["next"]
        nursery.cancel_scope.cancel()


@every_next_call
async def test_messages_of_several_that_are_cancelled_keep_their_order(
    receive: Callable[[WebSocket], Awaitable[object]], autojump_clock: MockClock
) -> None:
    async with one_side() as (websocket, peer):

        def arrive() -> None:
            for number in range(4):
                peer.send(str(number))
            peer.transport.write(fragment(b"four", opcode=Opcode.BINARY))

        await cancel_as_it_comes(websocket, arrive, tasks=5)
        peer.transport.write(fragment(b"!", fin=True))
        assert [await receive(websocket) for _ in range(5)] == ["0", "1", "2", "3", b"four!"]


async def test_a_receiver_leaves_a_message_to_those_who_asked_for_its_pieces(autojump_clock: MockClock) -> None:
    """So that no limit of a whole message fails what was to come in pieces."""
    async with one_side(limits=Limits(max_message_size=1000)) as (websocket, peer), trio.open_nursery() as nursery:
        got: list[object] = []

        async def note(receive: Callable[[WebSocket], Awaitable[object]]) -> None:
            got.append(await receive(websocket))

        nursery.start_soon(websocket.wait_closed)
        await wait_all_tasks_blocked()
        for receive in (WebSocket.receive, WebSocket.receive, receive_pieces):
            nursery.start_soon(note, receive)
            await wait_all_tasks_blocked()
        peer.transport.write(fragment(bytes(500), opcode=Opcode.BINARY))
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            websocket.receive_nowait()
        peer.transport.write(fragment(bytes(600), fin=True))
        await wait_all_tasks_blocked()
        assert got == [bytes(1100)]
        peer.send("1")
        peer.send("2")
        await wait_all_tasks_blocked()
        assert got == [bytes(1100), "1", "2"]
        nursery.cancel_scope.cancel()


async def test_a_message_without_a_limit_stays_without_one_for_who_takes_its_pieces(autojump_clock: MockClock) -> None:
    wire = fragment(bytes(5000), opcode=Opcode.BINARY, fin=True)
    for receive in (receive_pieces, WebSocket.receive):
        async with one_side(limits=Limits(max_message_size=1000)) as (websocket, peer):

            def arrive(peer_write: Callable[[bytes], None] = peer.transport.write) -> None:
                peer_write(wire[:100])

            await cancel_as_it_comes(websocket, arrive)
            peer.transport.write(wire[100:])
            if receive is receive_pieces:
                assert await receive(websocket) == bytes(5000)
            else:
                with pytest.raises(ConnectionClosedError) as caught:
                    await receive(websocket)
                assert isinstance(caught.value.__cause__, MessageTooBig)


async def test_a_message_without_a_limit_fails_a_receiver_after_a_half_close_too(autojump_clock: MockClock) -> None:
    async with one_side(limits=Limits(max_message_size=100)) as (websocket, peer):
        start = fragment(bytes(101), opcode=Opcode.BINARY)
        await cancel_as_it_comes(websocket, lambda: peer.transport.write(start))
        await WebSocketStream(websocket).writable.aclose()
        with pytest.raises(ConnectionClosedLocally):
            await websocket.receive()
        assert trio.current_time() == 0


@every_next_call
async def test_a_message_whose_end_never_comes_is_no_message(
    receive: Callable[[WebSocket], Awaitable[object]], autojump_clock: MockClock
) -> None:
    async with one_side() as (websocket, peer):
        await cancel_as_it_comes(websocket, lambda: peer.transport.write(fragment(b"half", opcode=Opcode.BINARY)))
        peer.close(1000)
        # A task that has claimed its pieces must not take them for all of it.
        with pytest.raises(ConnectionClosedError if receive is receive_pieces else ConnectionClosedOK):
            await receive(websocket)


async def test_closing_drops_a_message_that_nobody_has_claimed(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        await cancel_as_it_comes(websocket, lambda: peer.transport.write(fragment(b"half", opcode=Opcode.BINARY)))
        assert websocket.statistics().receive_buffer > 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(websocket.aclose)
            await wait_all_tasks_blocked()
            assert websocket.statistics().receive_buffer == 0
            peer.transport.write(fragment(b"late", fin=True))
            peer.close(1000)
            peer.transport.write_eof()
        assert websocket.statistics().receive_buffer == 0


async def test_a_message_stream_is_of_no_use_before_its_block(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, _):
        parts = websocket.receive_message_stream()
        with pytest.raises(trio.ClosedResourceError):
            await anext(parts)
        with pytest.raises(trio.ClosedResourceError):
            _ = parts.binary


async def test_one_that_is_cancelled_before_anything_came_leaves_the_others_waiting(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer), trio.open_nursery() as nursery:
        got: list[object] = []

        async def take() -> None:
            got.append(await receive_pieces(websocket))

        with trio.CancelScope() as scope:
            async with trio.open_nursery() as doomed:
                doomed.start_soon(receive_pieces, websocket)
                await wait_all_tasks_blocked()
                nursery.start_soon(take)
                await wait_all_tasks_blocked()
                scope.cancel()
        peer.transport.write(fragment(b"piece", opcode=Opcode.BINARY, fin=True))
        await trio.sleep(1)
        assert got == [b"piece"]


# ---- a task that waited, and does so no longer ----


@pytest.mark.parametrize("how", ["cancelled", "served", "asking"])
async def test_who_stops_reading_hands_the_reading_on(how: str, autojump_clock: MockClock) -> None:
    """To the receiver that waits, which gets what comes then."""
    async with one_side() as (websocket, peer), trio.open_nursery() as nursery:
        got: list[object] = []

        async def receive() -> None:
            got.append(await websocket.receive())

        async def take_pieces() -> None:
            with scope:
                async with websocket.receive_message_stream() as parts:
                    async for part in parts:
                        assert part == b"piece"

        scope = trio.CancelScope()
        if how != "asking":
            peer.transport.write(fragment(b"piece", opcode=Opcode.BINARY))
        nursery.start_soon(take_pieces)
        await trio.sleep(1)
        nursery.start_soon(receive)
        await trio.sleep(1)
        if how == "served":
            peer.transport.write(fragment(b"piece", fin=True))
            await trio.sleep(1)
        else:
            scope.cancel()
            await trio.sleep(1)
            if how == "cancelled":
                peer.transport.write(fragment(b"left", fin=True))
        peer.send("next")
        await trio.sleep(1)
        assert got == ["next"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["cancelled", "asking"])
async def test_when_nobody_reads_any_more_the_connection_does(how: str, autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        if how == "cancelled":
            peer.transport.write(fragment(b"piece", opcode=Opcode.BINARY))
        with trio.move_on_after(1):
            await receive_pieces(websocket)
        await trio.sleep(1)
        peer.send(b"?", Opcode.PING)
        await trio.sleep(1)
        assert peer.heard() == [Pong(b"?")]
