"""One message in pieces, both ways: what goes between, who waits, what is held, and what leaving early means."""

from __future__ import annotations

import contextlib
import math
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

import trio_ws
from tests.connection.memory import transport_pair
from tests.connection.sides import Peer, end_of, one_side, two_sides
from trio_ws import CloseInfo, Compression, IncomingMessage, Limits, ReadyState, WebSocket
from trio_ws._reactor import Reactor
from trio_ws._util.nursery import BackgroundNursery
from trio_ws._websocket.start import ConnectionOptions, Opened, start_websocket
from trio_ws._wire.deflate import DeflateParameters
from trio_ws._wire.events import Close, Ping, Pong
from trio_ws._wire.frames import Opcode, frame_bytes
from trio_ws._wire.handshake import Agreement
from trio_ws._wire.headers import Headers


class Problem(Exception):
    pass


def fragment(peer: Peer, payload: bytes, *, opcode: int = Opcode.CONTINUATION, fin: bool = False) -> None:
    """Have a server played by hand send one frame of a message."""
    peer.transport.write(frame_bytes(opcode, payload, masked=False, fin=fin))


@asynccontextmanager
async def compressed_sides(
    *, no_takeover: bool = False, limits: Limits | None = None
) -> AsyncGenerator[tuple[WebSocket, WebSocket], None]:
    """A client and a server that have agreed on permessage-deflate."""
    parameters = DeflateParameters(
        server_no_context_takeover=no_takeover,
        client_no_context_takeover=no_takeover,
        server_max_window_bits=12,
        client_max_window_bits=12,
    )
    options = ConnectionOptions(
        compression=Compression(), limits=limits or Limits(), keepalive=None, close_timeout=10, instruments=()
    )
    sides: list[WebSocket] = []
    async with BackgroundNursery() as nursery:
        for is_client, transport in zip((True, False), transport_pair(), strict=True):
            opened = Opened(
                transport=transport,
                agreement=Agreement(protocol=None, deflate=parameters, extensions="permessage-deflate"),
                http_version="1.1",
                request_headers=Headers([]),
                response_headers=Headers([]),
                rest=b"",
            )
            sides.append(
                start_websocket(opened, options, Reactor(nursery, shield=True), url="ws://x/", is_client=is_client)
            )
        try:
            yield sides[0], sides[1]
        finally:
            for side in sides:
                side._connection.abandon()


async def collect(websocket: WebSocket) -> list[str | bytes]:
    async with websocket.receive_message_stream() as parts:
        return [part async for part in parts]


# ---- sending ----


async def test_pieces_make_one_message(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server):
        async with client.send_message_stream() as part:
            await part.send(b"one ")
            await part.send(bytearray(b"two "))
            await part.send(b"")
            await part.send(memoryview(b"three"))
        async with server.send_message_stream(binary=False) as part:
            await part.send("eins ")
            await part.send("zwölf")
        assert await server.receive() == b"one two three"
        assert await client.receive() == "eins zwölf"
        assert (client.statistics().messages_sent, client.statistics().messages_received) == (1, 1)


async def test_a_message_without_a_piece_is_empty(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server):
        async with client.send_message_stream():
            pass
        async with client.send_message_stream(False) as part:
            await part.send("")
        assert (await server.receive(), await server.receive()) == (b"", "")


async def test_text_may_be_cut_anywhere(autojump_clock: MockClock) -> None:
    text = "aé€😀" * 3
    async with two_sides() as (client, server):
        async with client.send_message_stream(binary=False) as part:
            for byte in text.encode():
                await part.send(bytes((byte,)))
            await part.send("!")
        assert await server.receive() == text + "!"


async def test_a_piece_that_is_no_text_is_refused_and_the_message_goes_on(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server):
        async with client.send_message_stream(binary=False) as part:
            await part.send(b"\xe2\x82")  # the begin of a euro sign
            with pytest.raises(UnicodeDecodeError):
                await part.send("no end of it")
            with pytest.raises(UnicodeDecodeError):
                await part.send(b"\xff")
            await part.send(b"\xac")
            with pytest.raises(UnicodeEncodeError):
                await part.send("\ud800")
        assert await server.receive() == "€"


async def test_text_that_ends_inside_a_character_fails_the_connection(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with pytest.raises(UnicodeDecodeError):
            async with websocket.send_message_stream(binary=False) as part:
                await part.send(b"\xe2\x82")
        assert peer.heard() == [Close(CloseInfo(1011))]


async def test_pieces_of_another_type_are_refused(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        async with websocket.send_message_stream() as part:
            with pytest.raises(TypeError, match=r"send_message_stream\(binary=False\)"):
                await part.send("text")
            with pytest.raises(TypeError, match="not int"):
                await part.send(5)  # type: ignore[arg-type]
        assert peer.heard() == [b""]
        with pytest.raises(TypeError, match="binary must be a bool"):
            websocket.send_message_stream("text")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="compress must be a bool"):
            websocket.send_message_stream(compress="yes")  # type: ignore[arg-type]


async def test_a_part_is_of_no_use_outside_its_block(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        message = websocket.send_message_stream()
        with pytest.raises(trio.ClosedResourceError):
            await message.send(b"early")
        async with message as part:
            await part.send(b"in time")
        with pytest.raises(trio.ClosedResourceError):
            await part.send(b"late")
        assert peer.heard() == [b"in time"]


async def test_everybody_else_waits_in_order_until_the_message_is_finished(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server), trio.open_nursery() as nursery:
        async with client.send_message_stream() as part:
            await part.send(b"begun")
            for number in range(3):
                nursery.start_soon(client.send, str(number))
                await wait_all_tasks_blocked()
            with pytest.raises(trio.WouldBlock):
                client.send_nowait("impatient")
            await part.send(b" and ended")
            assert server.statistics().messages_received == 0
        assert [await server.receive() for _ in range(4)] == [b"begun and ended", "0", "1", "2"]
        client.send_nowait("free again")
        assert await server.receive() == "free again"


async def test_a_second_message_in_pieces_waits_for_the_first(autojump_clock: MockClock) -> None:
    async def send(client: WebSocket, data: bytes) -> None:
        async with client.send_message_stream() as part:
            for byte in data:
                await part.send(bytes((byte,)))
                await trio.sleep(1)

    async with two_sides() as (client, server), trio.open_nursery() as nursery:
        for data in (b"abc", b"def"):
            nursery.start_soon(send, client, data)
        assert sorted([await server.receive(), await server.receive()], key=str) == [b"abc", b"def"]


async def test_control_frames_go_between_the_pieces(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        async with websocket.send_message_stream() as part:
            await part.send(b"one")
            trio_ws.ping(websocket, b"?")
            await websocket.pong(b"beat")
            peer.send(b"!", Opcode.PING)
            await wait_all_tasks_blocked()
            with trio.move_on_after(1):
                await websocket.ping(b"??")
            assert peer.heard() == [Ping(b"?"), Pong(b"beat"), Pong(b"!"), Ping(b"??")]
        assert peer.heard() == [b"one"]


async def test_a_piece_waits_for_room_and_so_does_a_ping(autojump_clock: MockClock) -> None:
    async with two_sides(limits=Limits(send_buffer=100)) as (client, server):
        transport = end_of(Peer(server._connection.transport, is_client=False))  # type: ignore[arg-type]
        async with client.send_message_stream() as part, trio.open_nursery() as nursery:
            transport.room = 0
            await part.send(bytes(200))
            with trio.move_on_after(1) as scope:
                await part.send(b"never")
            assert scope.cancelled_caught
            nursery.start_soon(part.send, b"later")
            nursery.start_soon(client.ping)
            await wait_all_tasks_blocked()
            assert client.statistics().pings_sent == 0
            transport.make_room(math.inf)
        assert await server.receive() == bytes(200) + b"later"
        assert client.statistics().pongs_received == 1


async def test_a_waiting_piece_whose_block_is_left_is_not_sent(autojump_clock: MockClock) -> None:
    async with two_sides(limits=Limits(send_buffer=100)) as (client, server), trio.open_nursery() as nursery:
        transport = end_of(Peer(server._connection.transport, is_client=False))  # type: ignore[arg-type]

        async def late(part: trio_ws.OutgoingMessage) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await part.send(b"late")

        async with client.send_message_stream() as part:
            transport.room = 0
            await part.send(bytes(200))
            nursery.start_soon(late, part)
            await wait_all_tasks_blocked()
        transport.make_room(math.inf)
        assert await server.receive() == bytes(200)


@pytest.mark.parametrize("how", ["error", "cancellation"])
async def test_leaving_a_begun_message_fails_the_connection(how: str, autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with pytest.raises(Problem) if how == "error" else trio.CancelScope() as scope:
            async with websocket.send_message_stream() as part:
                await part.send(b"begun")
                if how == "error":
                    raise Problem
                assert isinstance(scope, trio.CancelScope)
                scope.cancel()
                await trio.sleep_forever()
        assert peer.heard() == [Close(CloseInfo(1011))]
        with pytest.raises(trio_ws.ConnectionClosedLocally):
            await websocket.send("late")


async def test_leaving_a_message_of_which_nothing_went_does_nothing(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with pytest.raises(Problem):
            async with websocket.send_message_stream():
                raise Problem
        await websocket.send("on it goes")
        assert peer.heard() == ["on it goes"]


async def test_waiting_for_the_turn_can_be_cancelled(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        async with websocket.send_message_stream() as part:
            with trio.move_on_after(1) as scope:
                async with websocket.send_message_stream():
                    pytest.fail("it is not its turn")
            assert scope.cancelled_caught
            await part.send(b"undisturbed")
        await websocket.send("on")
        assert peer.heard() == [b"undisturbed", "on"]


async def test_a_close_ends_a_message_in_the_making_and_everybody_in_line(autojump_clock: MockClock) -> None:
    async def wait_in_line(websocket: WebSocket) -> None:
        with pytest.raises(trio_ws.ConnectionClosedOK):
            async with websocket.send_message_stream():
                pass

    async with one_side() as (websocket, peer), trio.open_nursery() as nursery:
        with pytest.raises(trio_ws.ConnectionClosedOK):
            async with websocket.send_message_stream() as part:
                await part.send(b"begun")
                nursery.start_soon(wait_in_line, websocket)
                await wait_all_tasks_blocked()
                peer.close(1000)
                await wait_all_tasks_blocked()
                await part.send(b"too late")
        with pytest.raises(trio_ws.ConnectionClosedOK):
            async with websocket.send_message_stream():
                pass


async def test_a_message_whose_peer_closed_before_its_end_was_not_sent(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with pytest.raises(trio_ws.ConnectionClosedOK):
            async with websocket.send_message_stream() as part:
                await part.send(b"begun")
                peer.close(1000)
                await wait_all_tasks_blocked()
        assert websocket.statistics().messages_sent == 0


async def test_sending_in_pieces_is_made_of_checkpoints(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server):
        message = client.send_message_stream()
        with assert_checkpoints():
            part = await message.__aenter__()
        for piece in (b"", b"piece"):
            with assert_checkpoints():
                await part.send(piece)
        with assert_checkpoints():
            await message.__aexit__(None, None, None)
        incoming = server.receive_message_stream()
        with assert_checkpoints():
            parts = await incoming.__aenter__()
        with assert_checkpoints():
            assert await anext(parts) == b"piece"
        with assert_checkpoints(), pytest.raises(StopAsyncIteration):
            await anext(parts)
        with assert_checkpoints():
            await incoming.__aexit__(None, None, None)


# ---- receiving ----


async def test_pieces_come_as_they_arrive(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer), trio.open_nursery() as nursery:

        async def send() -> None:
            fragment(peer, b"one", opcode=Opcode.BINARY)
            await trio.sleep(1)
            fragment(peer, b"two")
            await trio.sleep(1)
            fragment(peer, b"three", fin=True)
            peer.send("next")

        nursery.start_soon(send)
        async with websocket.receive_message_stream() as parts:
            assert parts.binary
            times = [(trio.current_time(), part) async for part in parts]
        assert [part for _, part in times] == [b"one", b"two", b"three"]
        assert times[1][0] - times[0][0] == 1
        assert await websocket.receive() == "next"


async def test_a_message_that_is_here_comes_whole(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.send("here")
        peer.send(b"")
        await wait_all_tasks_blocked()
        assert await collect(websocket) == ["here"]
        assert await collect(websocket) == []
        peer.send("short")
        assert await collect(websocket) == ["short"]


async def test_a_message_that_has_begun_to_come_comes_from_its_begin(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        fragment(peer, "aé€".encode()[:-1], opcode=Opcode.TEXT)
        await wait_all_tasks_blocked()
        async with websocket.receive_message_stream() as parts:
            assert not parts.binary
            assert await anext(parts) == "aé"
            fragment(peer, "€".encode()[-1:], fin=True)
            assert [part async for part in parts] == ["€"]


async def test_text_in_pieces_is_text_in_each(autojump_clock: MockClock) -> None:
    text = "aé€😀" * 5
    async with one_side() as (websocket, peer), trio.open_nursery() as nursery:

        async def send() -> None:
            fragment(peer, b"", opcode=Opcode.TEXT)
            for byte in text.encode():
                await trio.sleep(0.1)
                fragment(peer, bytes((byte,)))
            fragment(peer, b"", fin=True)

        nursery.start_soon(send)
        parts = await collect(websocket)
        assert "".join(str(part) for part in parts) == text
        assert len(parts) == len(text)


@pytest.mark.parametrize("ending", [b"\xff", b"\xe2\x82"])
async def test_text_that_is_none_fails_the_connection(ending: bytes, autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        fragment(peer, b"good", opcode=Opcode.TEXT)
        await wait_all_tasks_blocked()
        async with websocket.receive_message_stream() as parts:
            assert await anext(parts) == "good"
            fragment(peer, ending, fin=True)
            with pytest.raises(trio_ws.ConnectionClosedError) as caught:
                await anext(parts)
        assert isinstance(caught.value.__cause__, trio_ws.RemoteProtocolError)
        assert caught.value.sent is not None
        assert caught.value.sent.code == 1007


async def test_max_message_size_is_no_limit_and_the_next_message_has_it_again(autojump_clock: MockClock) -> None:
    async with one_side(limits=Limits(max_message_size=100)) as (websocket, peer), trio.open_nursery() as nursery:

        async def send() -> None:
            peer.send(bytes(10_000))
            await trio.sleep(1)
            peer.send(bytes(101))

        nursery.start_soon(send)
        assert sum(len(part) for part in await collect(websocket)) == 10_000
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await websocket.receive()
        assert isinstance(caught.value.__cause__, trio_ws.MessageTooBig)


async def test_fragments_are_bounded_by_what_they_bring(autojump_clock: MockClock) -> None:
    limits = Limits(max_fragments=4, max_empty_fragments=2)

    async def receive(count: int, size: int) -> int | None:
        async with one_side(limits=limits) as (websocket, peer):
            fragment(peer, bytes(size), opcode=Opcode.BINARY)
            with contextlib.suppress(trio_ws.ConnectionClosedError):
                async with websocket.receive_message_stream() as parts:
                    for _ in range(count - 2):
                        fragment(peer, bytes(size))
                    fragment(peer, bytes(size), fin=True)
                    async for _ in parts:
                        pass
            failure = websocket._connection.protocol.failure
            return None if failure is None else failure.close_code

    assert await receive(4, 1) is None
    assert await receive(5, 1) == 1008
    assert await receive(100, 256) is None
    assert await receive(4, 0) == 1008


async def test_a_reader_that_does_not_take_pieces_slows_the_peer_down(autojump_clock: MockClock) -> None:
    async with one_side(limits=Limits(receive_buffer=2**17)) as (websocket, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.transport.drain)
        peer.send(bytes(2**20))
        async with websocket.receive_message_stream() as parts:
            await trio.sleep(1)
            statistics = websocket.statistics()
            assert statistics.backpressured
            assert 2**17 <= statistics.receive_buffer <= 2**17 + 2**16 + 128
            with pytest.raises(trio.WouldBlock):
                websocket.receive_nowait()
            with trio.move_on_after(1):
                await websocket.receive()
            assert websocket.statistics().receive_buffer == statistics.receive_buffer
            assert sum([len(part) async for part in parts]) == 2**20
        assert websocket.statistics().receive_buffer == 0


async def test_reading_goes_on_when_half_of_the_buffer_is_taken_in_pieces(autojump_clock: MockClock) -> None:
    async with one_side(limits=Limits(receive_buffer=400)) as (websocket, peer):
        fragment(peer, bytes(36), opcode=Opcode.BINARY)  # each counts as 100
        async with websocket.receive_message_stream() as parts:
            for _ in range(3):
                await wait_all_tasks_blocked()
                assert not websocket.statistics().backpressured
                fragment(peer, bytes(36))
            await wait_all_tasks_blocked()
            for _ in range(2):
                assert websocket.statistics().backpressured
                assert len(await anext(parts)) == 36
            assert not websocket.statistics().backpressured


async def test_a_few_compressed_bytes_do_not_fill_the_memory(autojump_clock: MockClock) -> None:
    async with compressed_sides() as (client, server), trio.open_nursery() as nursery:
        compressed = zlib.compressobj(9, wbits=-12)
        data = b"".join(compressed.compress(bytes(2**20)) for _ in range(64)) + compressed.flush(zlib.Z_SYNC_FLUSH)
        frame = frame_bytes(Opcode.BINARY, data[:-4], masked=True, rsv1=True)
        client._connection.transport.write(frame)
        got = 0
        async with server.receive_message_stream() as parts:
            async for part in parts:
                got += len(part)
                assert server.statistics().receive_buffer < 2**21
        assert got == 2**26
        nursery.cancel_scope.cancel()


async def test_what_is_inflated_fills_the_buffer_and_one_message_is_more(autojump_clock: MockClock) -> None:
    size, limit = 2**16, 2**19
    async with compressed_sides(limits=Limits(receive_buffer=limit)) as (client, server):
        await wait_all_tasks_blocked()
        for count in (4, 60):
            frames = b"".join(client._connection.protocol.encode_message(bytes(size), True) for _ in range(count))
            client._connection.transport.write(frames)
            await wait_all_tasks_blocked()
        assert limit <= server.statistics().receive_buffer <= limit + size + 64
        for _ in range(64):
            assert await server.receive() == bytes(size)


async def test_one_step_inflates_a_mebibyte_and_a_message_at_most(autojump_clock: MockClock) -> None:
    async with compressed_sides(limits=Limits(receive_buffer=None)) as (client, server):
        await wait_all_tasks_blocked()
        frames = b"".join(client._connection.protocol.encode_message(bytes(2**20), True) for _ in range(20))
        client._connection.transport.write(frames)
        server._connection.read_now()
        assert server.statistics().messages_received == 1  # of those that came in the same read
        for _ in range(20):
            assert await server.receive() == bytes(2**20)


async def test_each_step_can_be_cancelled_and_nothing_is_lost(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with trio.move_on_after(1) as scope:
            await collect(websocket)
        assert scope.cancelled_caught
        fragment(peer, b"one", opcode=Opcode.BINARY)
        await wait_all_tasks_blocked()
        async with websocket.receive_message_stream() as parts:
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(parts)
            assert await anext(parts) == b"one"
            with trio.move_on_after(1) as scope:
                await anext(parts)
            assert scope.cancelled_caught
            fragment(peer, b"two", fin=True)
            await wait_all_tasks_blocked()
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(parts)
            assert [part async for part in parts] == [b"two"]


async def test_a_cancelled_wait_leaves_the_message_to_the_next(autojump_clock: MockClock) -> None:
    async with one_side(limits=Limits(max_message_size=10)) as (websocket, peer):
        with trio.move_on_after(1):
            await collect(websocket)
        peer.send("whole")
        assert await websocket.receive() == "whole"
        peer.send(bytes(11))
        with pytest.raises(trio_ws.ConnectionClosedError):
            await websocket.receive()


async def test_a_task_that_waits_for_a_piece_is_told_when_the_block_is_left(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer), trio.open_nursery() as nursery:

        async def wait_in_vain(parts: IncomingMessage) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await anext(parts)

        fragment(peer, b"one", opcode=Opcode.BINARY)
        async with websocket.receive_message_stream() as parts:
            assert await anext(parts) == b"one"
            nursery.start_soon(wait_in_vain, parts)
            await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks


async def test_nothing_is_kept_of_messages_whose_blocks_were_left(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        for final in (True, False):
            fragment(peer, b"piece", opcode=Opcode.BINARY, fin=final)
            async with websocket.receive_message_stream():
                pass
        assert websocket._connection.assembler._known == []


async def test_closing_cuts_a_message_that_has_come_whole_and_was_not_taken(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer), trio.open_nursery() as nursery:
        peer.send("whole")
        async with websocket.receive_message_stream() as parts:
            nursery.start_soon(websocket.aclose)
            await wait_all_tasks_blocked()
            with pytest.raises(trio_ws.ConnectionClosedLocally):
                await anext(parts)
        nursery.cancel_scope.cancel()


async def test_what_is_left_of_a_message_is_dropped_as_it_comes(autojump_clock: MockClock) -> None:
    async with one_side(limits=Limits(receive_buffer=2**17)) as (websocket, peer):
        peer.send(bytes(2**20))
        peer.send("next")
        async with websocket.receive_message_stream() as parts:
            await anext(parts)
            await trio.sleep(1)
        with pytest.raises(trio.ClosedResourceError):
            await anext(parts)
        assert websocket.statistics().receive_buffer == 0
        assert await websocket.receive() == "next"


async def test_two_who_ask_get_a_message_each(autojump_clock: MockClock) -> None:
    got: list[list[str | bytes]] = []

    async def receive(websocket: WebSocket) -> None:
        got.append(await collect(websocket))

    async with one_side() as (websocket, peer), trio.open_nursery() as nursery:
        nursery.start_soon(receive, websocket)
        nursery.start_soon(receive, websocket)
        await wait_all_tasks_blocked()
        fragment(peer, b"1", opcode=Opcode.BINARY)
        fragment(peer, b"1", fin=True)
        peer.send("2")
        peer.send("3")
        assert await websocket.receive() == "3"
    assert sorted(b"".join(p.encode() if isinstance(p, str) else p for p in parts) for parts in got) == [b"11", b"2"]


async def test_a_message_can_begin_while_another_is_still_being_taken(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer), trio.open_nursery() as nursery:
        fragment(peer, b"first", opcode=Opcode.BINARY)
        await wait_all_tasks_blocked()
        async with websocket.receive_message_stream() as parts:
            assert await anext(parts) == b"first"
            got: list[str | bytes] = []

            async def receive() -> None:
                got.append(await websocket.receive())

            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            fragment(peer, b"!", fin=True)
            peer.send("second")
            await wait_all_tasks_blocked()
            assert got == ["second"]
            assert [part async for part in parts] == [b"!"]


async def test_who_takes_the_last_piece_lets_a_receiver_read_on(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer), trio.open_nursery() as nursery:
        got: list[str | bytes] = []

        async def receive() -> None:
            got.append(await websocket.receive())

        async def send() -> None:
            fragment(peer, b"last", fin=True)
            peer.send("next")

        fragment(peer, b"first", opcode=Opcode.BINARY)
        await wait_all_tasks_blocked()
        async with websocket.receive_message_stream() as parts:
            assert await anext(parts) == b"first"
            nursery.start_soon(receive)  # it runs when we read already
            with trio.move_on_after(0.001):
                await anext(parts)
            nursery.start_soon(receive)
            nursery.start_soon(send)
            assert await anext(parts) == b"last"
            peer.send("and another")
        await wait_all_tasks_blocked()
        assert got == ["next", "and another"]


@pytest.mark.parametrize("code", [1000, 4000])
async def test_a_close_inside_a_message_is_an_error(code: int, autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        fragment(peer, b"half", opcode=Opcode.BINARY)
        await wait_all_tasks_blocked()
        async with websocket.receive_message_stream() as parts:
            fragment(peer, b" more")
            peer.close(code)
            got: list[str | bytes] = []
            with pytest.raises(trio_ws.ConnectionClosedError):
                async for part in parts:
                    got.append(part)  # noqa: PERF401  # what came before the error matters
        assert b"".join(bytes(part) for part in got) == b"half more"  # type: ignore[arg-type]


async def test_asking_when_the_peer_closes_raises_what_receive_raises(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.close(1000)
        for _ in range(2):
            with pytest.raises(trio_ws.ConnectionClosedOK):
                await collect(websocket)


async def test_closing_drops_what_was_not_taken(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        fragment(peer, b"all", opcode=Opcode.BINARY, fin=True)
        fragment(peer, b"half", opcode=Opcode.BINARY)
        await wait_all_tasks_blocked()
        async with websocket.receive_message_stream() as whole, websocket.receive_message_stream() as half:
            await trio.sleep(1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(websocket.aclose)
                await wait_all_tasks_blocked()
                fragment(peer, b"late", fin=True)
                fragment(peer, b"", opcode=Opcode.BINARY)
                peer.close(1000)
                peer.transport.write_eof()
            for parts in (whole, half):
                with pytest.raises((trio_ws.ConnectionClosedLocally, StopAsyncIteration)):
                    while True:
                        await anext(parts)
        assert websocket.statistics().receive_buffer == 0


# ---- compression ----


@pytest.mark.parametrize("no_takeover", [False, True])
async def test_pieces_are_compressed_and_the_window_is_kept(no_takeover: bool, autojump_clock: MockClock) -> None:
    words = [f"word {number % 7} of many, " * 20 for number in range(30)]
    async with compressed_sides(no_takeover=no_takeover) as (client, server):
        for sender, receiver in ((client, server), (server, client)):
            await sender.send("before " * 300)
            async with sender.send_message_stream(binary=False) as part:
                for word in words:
                    await part.send(word)
            async with sender.send_message_stream(compress=False) as part:
                await part.send(b"as it is")
            async with sender.send_message_stream():
                pass
            await sender.send("after " * 300)
            assert await receiver.receive() == "before " * 300
            assert await receiver.receive() == "".join(words)
            assert [await receiver.receive(), await receiver.receive()] == [b"as it is", b""]
            assert await receiver.receive() == "after " * 300
            sent = sender.statistics().bytes_sent
            assert sent < sum(map(len, words)) / 3


async def test_compressed_pieces_arrive_before_the_message_ends(autojump_clock: MockClock) -> None:
    async with compressed_sides() as (client, server):
        async with client.send_message_stream(binary=False) as part:
            await part.send("zero")
            async with server.receive_message_stream() as parts:
                assert await anext(parts) == "zero"
                for word in ("one", "two", "three"):
                    await part.send(word)
                    assert await anext(parts) == word
        assert server.ready_state is ReadyState.OPEN


async def test_a_piece_that_was_cancelled_does_not_spoil_the_window(autojump_clock: MockClock) -> None:
    async with compressed_sides() as (client, server):
        transport = client._connection.transport
        client._connection.outbox._limit = 10
        async with client.send_message_stream(binary=False) as part:
            transport.room = 0  # type: ignore[attr-defined]
            await part.send("first, which waits " * 10)
            with trio.move_on_after(1) as scope:
                await part.send("never " * 100)
            assert scope.cancelled_caught
            transport.make_room(math.inf)  # type: ignore[attr-defined]
            await part.send("second")
        await client.send("third " * 200)
        assert await server.receive() == "first, which waits " * 10 + "second"
        assert await server.receive() == "third " * 200
