"""A stream that pushes: pauses, what is held, a bug of what is above, and the end of the connection below."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from tests.connection.memory import MemoryTransport
from trio_ws import Http2Statistics, Limits
from trio_ws._net.http2.connection import Http2Connection
from trio_ws._net.http2.frame_reader import Http2ConnectionError
from trio_ws._net.http2.receive_window import ReceiveWindow
from trio_ws._net.http2.stream import PUSHED_AT_ONCE, Http2Stream
from trio_ws._reactor import Reactor
from trio_ws._util.nursery import BackgroundNursery

from ..test_pushing import Listener
from .raw_http2 import HELLO, raw_client
from .test_stream import Recorder


def make_stream() -> Http2Stream:
    return Http2Stream(Recorder(), 1, send_window=100, receive_window=ReceiveWindow(100, 100))


async def test_a_paused_stream_holds_what_comes_and_tells_of_the_end(autojump_clock: MockClock) -> None:
    async with BackgroundNursery() as nursery:
        stream, listener, reactor = make_stream(), Listener(), Reactor(nursery, shield=True)
        reactor.add(listener)
        stream.start(listener, reactor)
        stream.pause_reading()
        stream.resume_reading()  # nothing has come
        stream.pause_reading()
        stream.arrive(b"one", 3, 0)
        stream.arrive(b"two", 3, 0, ended=True)
        await wait_all_tasks_blocked()
        assert (listener.data, listener.heard) == (b"", ["peer ended"])
        stream.resume_reading()
        assert listener.data == b""
        await wait_all_tasks_blocked()
        assert (listener.data, listener.heard) == (b"onetwo", ["peer ended", "eof"])
        reactor.remove(listener)


async def test_the_end_is_told_once(autojump_clock: MockClock) -> None:
    async with BackgroundNursery() as nursery:
        stream, listener, reactor = make_stream(), Listener(), Reactor(nursery, shield=True)
        reactor.add(listener)
        stream.start(listener, reactor)
        stream.arrive(b"", 0, 0, ended=True)
        await wait_all_tasks_blocked()
        stream.finish()
        await wait_all_tasks_blocked()
        assert listener.heard == ["eof"]
        reactor.remove(listener)


async def test_what_is_held_goes_before_what_comes(autojump_clock: MockClock) -> None:
    async with BackgroundNursery() as nursery:
        stream, listener, reactor = make_stream(), Listener(), Reactor(nursery, shield=True)
        reactor.add(listener)
        stream.arrive(b"in the handshake,", 17, 0)
        stream.start(listener, reactor)
        stream.arrive(b"behind it", 9, 0)
        await wait_all_tasks_blocked()
        assert listener.data == b"in the handshake,behind it"
        stream.resume_reading()
        stream.abort()
        stream.resume_reading()
        await wait_all_tasks_blocked()
        reactor.remove(listener)


@pytest.mark.parametrize("ends", [False, True])
async def test_what_is_held_goes_in_parts_with_turns_between(autojump_clock: MockClock, ends: bool) -> None:
    sizes: list[int] = []
    turns: list[int] = []
    async with BackgroundNursery() as nursery:
        stream, listener, reactor = make_stream(), Listener(), Reactor(nursery, shield=True)
        listener.on_data = lambda data: sizes.append(len(data))
        reactor.add(listener)
        stream.start(listener, reactor)
        stream.pause_reading()
        for number, size in enumerate((PUSHED_AT_ONCE // 2, PUSHED_AT_ONCE // 2, 300, 2 * PUSHED_AT_ONCE, 5000, 5000)):
            stream.arrive(bytes([number]) * size, size, 0)
        if ends:
            stream.finish()
        stream.resume_reading()
        while len(sizes) < 4:
            await trio.lowlevel.checkpoint()
            turns.append(len(sizes))
        stream.arrive(b"behind it", 9, 0, ended=True)
        await wait_all_tasks_blocked()
        reactor.remove(listener)
    assert sizes == [PUSHED_AT_ONCE, 300, 2 * PUSHED_AT_ONCE, 10_000, 9]
    assert max(after - before for before, after in pairwise([0, *turns])) <= 2  # two steps may come between
    assert listener.heard == [*(["peer ended"] * 4 if ends else []), "eof"]


async def test_what_small_frames_cost_is_given_back_when_the_last_part_has_gone(autojump_clock: MockClock) -> None:
    async with BackgroundNursery() as nursery:
        stream, listener, reactor = make_stream(), Listener(), Reactor(nursery, shield=True)
        log = stream._connection.log  # type: ignore[attr-defined]
        seen: list[list[object]] = []
        listener.on_data = lambda _: seen.append(list(log))
        reactor.add(listener)
        stream.start(listener, reactor)
        stream.pause_reading()
        stream.arrive(b"small", 5, 251)
        stream.arrive(bytes(PUSHED_AT_ONCE), PUSHED_AT_ONCE, 0)
        stream.resume_reading()
        await wait_all_tasks_blocked()
        assert seen == [[("charge", 251)], [("charge", 251), ("refund", 251)]]
        reactor.remove(listener)


async def test_what_is_held_goes_on_no_further_than_a_pause_or_the_end(autojump_clock: MockClock) -> None:
    for stops in (Http2Stream.pause_reading, Http2Stream.abort):
        async with BackgroundNursery() as nursery:
            stream, listener, reactor = make_stream(), Listener(), Reactor(nursery, shield=True)
            listener.on_data = lambda _, stream=stream, stops=stops: stops(stream)  # type: ignore[misc]
            reactor.add(listener)
            stream.start(listener, reactor)
            stream.pause_reading()
            for _ in range(3):
                stream.arrive(bytes(PUSHED_AT_ONCE), PUSHED_AT_ONCE, 0)
            stream.resume_reading()
            await wait_all_tasks_blocked()
            assert len(listener.data) == PUSHED_AT_ONCE
            reactor.remove(listener)


async def test_room_is_told_once_and_not_after_abort(autojump_clock: MockClock) -> None:
    async with BackgroundNursery() as nursery:
        for aborts in (False, True):
            stream, listener, reactor = make_stream(), Listener(), Reactor(nursery, shield=True)
            stream._connection.takes = False  # type: ignore[attr-defined]
            reactor.add(listener)
            stream.start(listener, reactor)
            stream.write(b"abc")
            assert (stream.take(1), stream.take(1)) == (b"a", b"b")
            if aborts:
                stream.abort()
            await wait_all_tasks_blocked()
            assert listener.heard == ([] if aborts else ["resume"])
            reactor.remove(listener)


async def test_a_bug_of_one_websocket_ends_its_stream_and_no_other(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "trio_ws.connection")
    opened: list[trio_ws.WebSocket] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            opened.append(websocket)
            async for message in websocket:
                await websocket.send(message)

    def crash(data: bytes) -> None:
        raise ZeroDivisionError("a bug")

    async with raw_client(handler) as peer:
        await peer.open(1)
        await peer.open(3)
        await wait_all_tasks_blocked()
        monkeypatch.setattr(type(opened[0]._connection.protocol), "take_whole", lambda self, data: crash(data))
        await peer.data(1, HELLO)
        await wait_all_tasks_blocked()
        monkeypatch.undo()
        await peer.echo(3)
        assert (await opened[0].wait_closed()).code == 1006
    assert "internal error" in caplog.text


async def test_a_connection_that_has_ended_goes_when_its_last_bytes_have_or_after_a_while(
    autojump_clock: MockClock,
) -> None:
    for takes in (True, False):
        below = MemoryTransport()
        below.peer = MemoryTransport()
        async with trio.open_nursery() as nursery:
            reactor = Reactor(nursery, shield=False)
            connection = Http2Connection(below, Limits(close_linger=3), Http2Statistics(), reactor)
            connection.start()
            await wait_all_tasks_blocked()
            below.room = 0
            connection.drain()
            connection.end_with_its_streams()
            assert connection.ended
            below.make_room(1)
            await wait_all_tasks_blocked()
            assert not below.closed
            began = trio.current_time()
            if takes:
                below.make_room(1000)
            await trio.sleep(5)
            assert below.closed
            assert trio.current_time() == began + 5
        assert not reactor._members


async def test_a_transport_that_breaks_ends_the_connection(autojump_clock: MockClock) -> None:
    below = MemoryTransport()
    below.peer = MemoryTransport()
    async with trio.open_nursery() as nursery:
        connection = Http2Connection(below, Limits(), Http2Statistics(), Reactor(nursery, shield=False))
        connection.start()
        below.break_down(OSError("gone"))
        await connection.wait_done()
        assert str(connection.error) == "gone"


async def test_an_end_that_comes_with_more_than_a_step_understands_comes_after_it(autojump_clock: MockClock) -> None:
    below = MemoryTransport()
    below.peer = MemoryTransport()
    async with trio.open_nursery() as nursery:
        connection = Http2Connection(
            below, Limits(h2_control_burst=None), Http2Statistics(), Reactor(nursery, shield=False)
        )
        connection.start()
        settings, ping = b"\0\0\0\x04\0\0\0\0\0", b"\0\0\x08\x06\0\0\0\0\0" + bytes(8)
        connection.data_received(settings + ping * 300)
        connection.eof_received()
        assert not connection.ended
        await connection.wait_done()
        assert connection.error is None


async def test_data_for_a_stream_that_was_reset_has_the_bound_of_its_window(autojump_clock: MockClock) -> None:
    """Such a stream is kept while its handler runs."""
    async with BackgroundNursery() as nursery:
        below = MemoryTransport()
        below.peer = MemoryTransport()
        connection = Http2Connection(below, Limits(), Http2Statistics(), Reactor(nursery, shield=False))
        stream = make_stream()
        stream.local_ended = stream.remote_ended = True
        connection._receiver._on_data_after_end(stream, 100)  # as much as was allowed when it was reset
        with pytest.raises(Http2ConnectionError, match="DATA for a stream that was reset"):
            connection._receiver._on_data_after_end(stream, 1)
