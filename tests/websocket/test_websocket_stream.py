"""The WebSocketStream: what it adds to two channels. After WPT's and undici's cases of that name."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from tests.connection.memory import MemoryTransport
from tests.connection.sides import Peer, end_of, one_side, two_sides
from trio_ws import CloseInfo, Keepalive, Limits, ReadyState, WebSocketStream
from trio_ws._wire.events import Close
from trio_ws._wire.frames import Opcode


@asynccontextmanager
async def one_stream(
    limits: Limits | None = None, keepalive: Keepalive | None = None, close_timeout: float = 10.0
) -> AsyncGenerator[tuple[WebSocketStream, Peer], None]:
    async with one_side(limits=limits, keepalive=keepalive, close_timeout=close_timeout) as (websocket, peer):
        yield WebSocketStream(websocket), peer


async def test_it_tells_what_a_websocket_tells(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server):
        stream, other = WebSocketStream(client), WebSocketStream(server)
        assert (stream.url, stream.protocol, stream.extensions) == ("ws://example.com/", "chat", "")
        assert (stream.http_version, stream.ready_state, stream.close_info) == ("1.1", ReadyState.OPEN, None)
        assert repr(stream) == f"<WebSocketStream client ws://example.com/ HTTP/1.1 OPEN #{stream.id}>"
        assert stream.ssl_object is None
        assert await stream.ping() == stream.latency == 0
        assert other.statistics().pings_received == 1


# ---- close ----


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ((), CloseInfo(1005)),
        ((None,), CloseInfo(1005)),
        ((None, "reason alone"), CloseInfo(1000, "reason alone")),
        ((3456, "pizza"), CloseInfo(3456, "pizza")),
        ((4999,), CloseInfo(4999)),
        ((1000, "x" * 123), CloseInfo(1000, "x" * 123)),
    ],
)
async def test_close_begins_the_closing_handshake(
    arguments: tuple[int | None, str], sent: CloseInfo, autojump_clock: MockClock
) -> None:
    async with one_stream() as (stream, peer):
        stream.close(*arguments)
        stream.close(3000, "only the first counts")
        assert peer.heard() == [Close(sent)]
        peer.close(3456, "echoed")
        peer.transport.write_eof()
        assert await stream.wait_closed() == CloseInfo(3456, "echoed", was_clean=True)


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (999, "", ValueError),
        (1001, "", ValueError),
        (1003, "", ValueError),
        (1006, "", ValueError),
        (1011, "", ValueError),
        (2999, "", ValueError),
        (5000, "", ValueError),
        ("1000", "", TypeError),
        (True, "", TypeError),
        (1000, "x" * 124, ValueError),
        (None, "ü" * 62, ValueError),
        (1000, b"bytes", TypeError),
    ],
)
async def test_close_checks_before_it_sends(
    code: int, reason: str, error: type[Exception], autojump_clock: MockClock
) -> None:
    async with one_stream() as (stream, peer):
        with pytest.raises(error):
            stream.close(code, reason)
        assert peer.heard() == []
        assert stream.ready_state is ReadyState.OPEN


async def test_what_came_before_close_is_given_and_what_comes_later_is_dropped(autojump_clock: MockClock) -> None:
    async with one_stream() as (stream, peer):
        peer.send("before")
        await wait_all_tasks_blocked()
        stream.close()
        peer.send("after")
        peer.close(1000)
        peer.transport.write_eof()
        assert [message async for message in stream.readable] == ["before"]
        with pytest.raises(trio.ClosedResourceError):
            await stream.writable.send("late")


async def test_a_close_that_nobody_answers_is_no_clean_end(autojump_clock: MockClock) -> None:
    async with one_stream(close_timeout=3) as (stream, _):
        stream.close(4000, "bye")
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await stream.readable.receive()
        assert (caught.value.received, caught.value.sent) == (None, CloseInfo(4000, "bye"))
        assert trio.current_time() == 3
        assert await stream.wait_closed() == CloseInfo(1006)


async def test_closing_the_whole_ends_a_receive_that_waits(autojump_clock: MockClock) -> None:
    async with one_stream() as (stream, peer), trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(trio_ws.ConnectionClosedOK):
                await stream.readable.receive()

        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        stream.close(4001)
        peer.close(4001)
        peer.transport.write_eof()


# ---- the peer closes ----


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3456])
async def test_any_code_is_a_clean_end(code: int, autojump_clock: MockClock) -> None:
    async with one_stream() as (stream, peer):
        peer.send("last")
        peer.close(code, "pizza")
        peer.transport.write_eof()
        assert [message async for message in stream.readable] == ["last"]
        with pytest.raises(trio_ws.ConnectionClosedOK) as caught:
            await stream.readable.receive()
        assert caught.value.code == code
        with pytest.raises(trio_ws.ConnectionClosedError) as broken:
            await stream.writable.send("late")
        assert broken.value.code == code
        assert await stream.wait_closed() == CloseInfo(code, "pizza", was_clean=True)


async def test_an_end_without_a_close_is_an_error_and_still_gives_what_came(autojump_clock: MockClock) -> None:
    async with one_stream() as (stream, peer):
        peer.send("last")
        end_of(peer).break_down(ConnectionResetError("gone"))
        assert await stream.readable.receive() == "last"
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await stream.readable.receive()
        assert isinstance(caught.value.__cause__, ConnectionResetError)
        assert await stream.wait_closed() == CloseInfo(1006)


async def test_a_breach_is_an_error_with_its_cause(autojump_clock: MockClock) -> None:
    async with one_stream() as (stream, peer):
        peer.send(b"", 0x3)
        peer.transport.write_eof()
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await stream.readable.receive()
        assert isinstance(caught.value.__cause__, trio_ws.RemoteProtocolError)


# ---- closing one direction ----


async def test_a_closed_writable_sends_close_and_the_rest_is_still_given(autojump_clock: MockClock) -> None:
    async with one_stream(keepalive=Keepalive(interval=1, timeout=1)) as (stream, peer):
        peer.send("before")
        await stream.writable.aclose()
        assert peer.heard() == [Close(CloseInfo(1005))]
        for number in range(5):
            await trio.sleep(8)  # each is in time, and all together take longer than close_timeout
            peer.send(str(number))
            peer.send(b"", Opcode.PING)
        peer.close(1000, "done")
        peer.transport.write_eof()
        assert [message async for message in stream.readable] == ["before", "0", "1", "2", "3", "4"]
        assert peer.heard() == []  # nothing follows a Close
        assert await stream.wait_closed() == CloseInfo(1000, "done", was_clean=True)


async def test_a_peer_that_is_silent_after_a_half_close_is_left(autojump_clock: MockClock) -> None:
    async with one_stream() as (stream, peer):
        await trio.sleep(100)
        await stream.writable.aclose()
        await trio.sleep(6)
        peer.send("a sign of life")
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            async for message in stream.readable:
                assert message == "a sign of life"
        assert trio.current_time() == 116
        assert isinstance(caught.value.__cause__, trio.TooSlowError)


@pytest.mark.parametrize(("interval", "silent"), [(20, 15), (5, 0)])
async def test_keepalive_plays_no_part_after_a_half_close(
    interval: float, silent: float, autojump_clock: MockClock
) -> None:
    """No silence of before counts, and no ping goes behind the Close."""
    async with one_stream(keepalive=Keepalive(interval=interval, timeout=20)) as (stream, peer):
        await trio.sleep(silent)
        await stream.writable.aclose()
        assert await stream.wait_closed() == CloseInfo(1006)
        assert trio.current_time() == silent + 10
        assert peer.heard() == [Close(CloseInfo(1005))]
        assert stream.statistics().pings_sent == 0


async def test_a_half_close_wakes_who_waits_to_send(autojump_clock: MockClock) -> None:
    async with one_stream(limits=Limits(send_buffer=1)) as (stream, peer), trio.open_nursery() as nursery:

        async def wait_in_vain(call: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(trio_ws.ConnectionClosedLocally):
                await call()

        end_of(peer).room = 0
        await stream.writable.send("waits")
        nursery.start_soon(wait_in_vain, partial(stream.writable.send, "late"))
        nursery.start_soon(wait_in_vain, stream.ping)
        await wait_all_tasks_blocked()
        await stream.writable.aclose()
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks


async def test_a_full_buffer_after_a_half_close_is_nobodys_silence(autojump_clock: MockClock) -> None:
    async with one_stream(limits=Limits(receive_buffer=100)) as (stream, peer):
        peer.send(bytes(200))
        peer.send("more")
        peer.close(1000)
        peer.transport.write_eof()
        await wait_all_tasks_blocked()
        await stream.writable.aclose()
        await trio.sleep(60)
        assert [message async for message in stream.readable] == [bytes(200), "more"]


async def test_silence_counts_again_once_a_full_buffer_was_taken(autojump_clock: MockClock) -> None:
    async with one_stream(limits=Limits(receive_buffer=100)) as (stream, peer):
        peer.send(bytes(200))
        await wait_all_tasks_blocked()
        await stream.writable.aclose()
        await trio.sleep(60)
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            async for message in stream.readable:
                assert message == bytes(200)
        assert trio.current_time() == 70
        assert isinstance(caught.value.__cause__, trio.TooSlowError)


async def test_leaving_after_a_half_close_is_bounded(autojump_clock: MockClock) -> None:
    async with one_side(close_timeout=2) as (websocket, _):
        async with websocket:
            await WebSocketStream(websocket).writable.aclose()
            await trio.sleep(1)
        assert trio.current_time() == 3
        assert websocket.close_info == CloseInfo(1006)


async def test_close_after_a_half_close_drops_what_comes(autojump_clock: MockClock) -> None:
    async with one_stream() as (stream, peer):
        await stream.writable.aclose()
        stream.close(4000)
        peer.send("dropped")
        peer.close(1000)
        peer.transport.write_eof()
        assert [message async for message in stream.readable] == []


async def test_closing_writable_after_the_peer_closed_does_nothing(autojump_clock: MockClock) -> None:
    async with one_stream() as (stream, peer):
        peer.send("last")
        peer.close(1000)
        peer.transport.write_eof()
        await wait_all_tasks_blocked()
        await stream.writable.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stream.writable.send("late")
        assert [message async for message in stream.readable] == ["last"]


async def test_a_closed_readable_closes_without_a_code(autojump_clock: MockClock) -> None:
    async with one_stream() as (stream, peer):
        await stream.readable.aclose()
        assert peer.heard() == [Close(CloseInfo(1005))]
        peer.send("dropped")
        peer.close(1000)
        peer.transport.write_eof()
        with pytest.raises(trio.ClosedResourceError):
            await stream.writable.send("late")
        assert await stream.wait_closed() == CloseInfo(1000, was_clean=True)


async def test_a_readable_closed_while_the_end_is_awaited_is_closed(autojump_clock: MockClock) -> None:
    async with one_stream() as (stream, _), trio.open_nursery() as nursery:
        stream.close()

        async def receive() -> None:
            with pytest.raises(trio_ws.ConnectionClosedLocally):
                await stream.readable.receive()

        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        await stream.readable.aclose()


# ---- backpressure ----


async def test_a_reader_that_does_not_read_stops_the_writer(autojump_clock: MockClock) -> None:
    limits = Limits(receive_buffer=2**16, send_buffer=2**14)
    async with two_sides(limits=limits) as (client, server):
        one, two = WebSocketStream(client), WebSocketStream(server)
        transport = client._connection.transport
        assert isinstance(transport, MemoryTransport)
        transport.room = 2**17
        sent = 0
        with trio.move_on_after(1):
            while True:
                await one.writable.send(bytes(2**10))
                sent += 1
        held = sent * 2**10
        assert 2**17 < held < 2**17 + 2**14 + 2**12
        transport.make_room(float("inf"))
        for _ in range(sent):
            assert len(await two.readable.receive()) == 2**10
