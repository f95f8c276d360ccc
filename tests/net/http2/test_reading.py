"""Reading of many streams: nobody waits for another's application, and answers go together."""

from __future__ import annotations

import contextvars
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hyperframe.frame import DataFrame, PingFrame, RstStreamFrame
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from tests.connection.memory import MemoryTransport
from trio_ws import Http2Statistics, Limits
from trio_ws._net.http2.connection import Http2Connection
from trio_ws._reactor import Reactor

from ...promises.links import linked
from .raw_http2 import CONNECT, HELLO, PREFACE, RawHttp2, echo, raw_client, raw_frame

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from trio_ws._net.http2.h2_adapter import Fields
    from trio_ws._net.http2.stream import Http2Stream

PING = b"\x89\x80\0\0\0\0"
PONG = b"\x8a\x00"


async def hear(peer: RawHttp2, stream_id: int) -> bytes:
    """Read on to DATA of a stream."""
    return bytes((await peer.expect(DataFrame, stream_id)).data)


async def echo_or_sleep(request: trio_ws.WebSocketRequest) -> None:
    """Send every message back; fall asleep on /busy when one has come."""
    async with request.accept() as websocket:
        async for message in websocket:
            if request.path == "/busy":
                await trio.sleep(1000)
            await websocket.send(message)


# ---- nobody waits for another ----


async def test_a_busy_handler_delays_no_message_for_another_stream(mock_clock: MockClock) -> None:
    async with raw_client(echo_or_sleep) as peer:
        await peer.connect(1, path="/busy")
        await peer.answer(1)
        await peer.open(3)
        await peer.data(1, HELLO)
        await peer.echo(3)
        await peer.echo(3)
        assert trio.current_time() == 0


async def test_a_busy_handler_delays_no_new_stream(autojump_clock: MockClock) -> None:
    async with raw_client(echo_or_sleep) as peer:
        await peer.connect(1, path="/busy")
        await peer.answer(1)
        await peer.data(1, HELLO)
        await wait_all_tasks_blocked()
        began = trio.current_time()
        await peer.open(3)
        assert trio.current_time() == began
        began = trio.current_time()
        await peer.open(5)
        assert trio.current_time() == began


async def test_a_deadline_that_counts_no_more_changes_nothing(autojump_clock: MockClock) -> None:
    async with raw_client(echo_or_sleep, limits=Limits(h2_idle_timeout=1)) as peer:
        await wait_all_tasks_blocked()
        await peer.connect(1, path="/busy")
        await peer.answer(1)
        await trio.sleep(0.995)
        await peer.data(1, HELLO)
        await trio.sleep(0.006)
        await peer.open(3)
        assert trio.current_time() == pytest.approx(1.001)


async def test_a_busy_handler_delays_no_room_for_another_stream(mock_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        if request.path == "/busy":
            await echo_or_sleep(request)
            return
        async with request.accept() as websocket:
            await websocket.send(bytes(200))
            await websocket.wait_closed()

    async with raw_client(handler, settings={4: 100}) as peer:
        await peer.connect(1, path="/busy")
        await peer.answer(1)
        await peer.open(3)
        assert len(await hear(peer, 3)) == 100
        await peer.data(1, HELLO)
        await wait_all_tasks_blocked()
        await peer.grant(3, 60)
        assert len(await hear(peer, 3)) == 60
        await peer.grant(3, 60)
        assert len(await hear(peer, 3)) == 44
        assert trio.current_time() == 0


async def test_room_is_noticed_by_whoever_reads(mock_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            for _ in range(2):
                await websocket.receive()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(websocket.receive)
                await wait_all_tasks_blocked()
                await websocket.send(bytes(200))

    async with raw_client(handler, settings={4: 100}) as peer:
        await peer.open(1)
        for _ in range(2):
            await peer.data(1, HELLO)
            await wait_all_tasks_blocked()
        assert len(await hear(peer, 1)) == 100
        await peer.grant(1, 200)
        assert len(await hear(peer, 1)) == 104
        assert trio.current_time() == 0


async def test_a_pong_that_waits_behind_more_frames_than_are_read_at_once_is_sent(autojump_clock: MockClock) -> None:
    async with raw_client(echo_or_sleep, limits=Limits(h2_small_data=None)) as peer:
        await peer.connect(1, path="/busy")
        await peer.answer(1)
        await peer.data(1, HELLO * 400 + PING)
        assert await hear(peer, 1) == PONG
        assert trio.current_time() < 0.1


async def test_more_http2_frames_than_are_read_at_once_are_read_on(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.echo(1)
        await peer.send(b"".join(DataFrame(1, HELLO).serialize() for _ in range(600)))
        heard = b""
        while len(heard) < 600 * 7:
            heard += await hear(peer, 1)
        assert heard == b"\x81\x05hello" * 600


async def test_who_leaves_in_the_middle_of_a_wait_lets_others_read(autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            while True:
                with trio.move_on_after(0.003):
                    await websocket.send(await websocket.receive())

    async with raw_client(handler) as peer:
        await peer.open(1)
        await peer.open(3)
        for _ in range(10):
            for stream_id in (1, 3):
                await peer.echo(stream_id)
                await trio.sleep(0.004)


async def test_who_is_aborted_while_it_reads_is_woken(autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket, trio.open_nursery() as nursery:
            nursery.start_soon(echo_all, websocket)
            await trio.sleep(1)
            await websocket.aclose(4000)

    async def echo_all(websocket: trio_ws.WebSocket) -> None:
        with pytest.raises(trio_ws.ConnectionClosedLocally):
            async for message in websocket:
                await websocket.send(message)

    async with raw_client(handler) as peer:
        await peer.open(1)
        await peer.echo(1)
        await peer.echo(1)
        assert (await hear(peer, 1))[2:] == (4000).to_bytes(2, "big")
        assert trio.current_time() == 1
        await peer.send(PingFrame(0, b"12345678"))
        assert (await peer.expect(PingFrame)).opaque_data == b"12345678"


async def test_who_reads_from_a_socket_is_woken_too() -> None:
    async def receive(websocket: trio_ws.WebSocket) -> None:
        with pytest.raises(trio_ws.ConnectionClosedLocally):
            await websocket.receive()

    with trio.fail_after(10):
        async with linked("h2") as (client, server):
            for _ in range(3):
                await server.send("news")
                assert await client.receive() == "news"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive, client)
                await wait_all_tasks_blocked(0.001)
                await client.aclose()
            assert client.close_info == trio_ws.CloseInfo(1000, "", was_clean=True)


async def test_a_stream_that_nobody_waits_for_is_looked_at_when_it_is_reset(autojump_clock: MockClock) -> None:
    ended: list[float] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await websocket.receive()
            await trio.sleep(1)
            await websocket.wait_closed()
            ended.append(trio.current_time())

    async with raw_client(handler) as peer:
        await peer.open(1)
        await peer.data(1, HELLO)
        await trio.sleep(0.5)
        await peer.send(RstStreamFrame(1, 8))
        await trio.sleep(1)
    assert ended == [1]


async def test_a_bug_shows_in_the_log_and_not_in_the_task_that_reads(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[BaseException] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            try:
                while True:
                    await websocket.send(await websocket.receive())
            except trio_ws.ConnectionClosed as error:
                ended.append(error)

    def crash(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    caplog.set_level(logging.ERROR, "trio_ws.http2")
    async with raw_client(handler) as peer:
        await peer.open(1)
        await peer.echo(1)
        await peer.echo(1)
        monkeypatch.setattr("trio_ws._net.http2.receiver.Receiver.take_data", crash)
        await peer.data(1, HELLO)
        assert await peer.goaway_code() == 2
        await wait_all_tasks_blocked()
    assert [type(error) for error in ended] == [trio_ws.ConnectionClosedError]
    assert "internal error" in caplog.text


async def test_a_handler_has_not_the_context_of_the_one_that_read_its_request(autojump_clock: MockClock) -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")
    seen: list[str] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        seen.append(name.get())
        name.set(request.path)
        await echo(request)

    async with raw_client(handler) as peer:
        await peer.open(1)
        await peer.echo(1)
        await peer.echo(1)
        await peer.open(3)
    assert seen == ["nobody", "nobody"]


# ---- answers that go together ----


class Below(MemoryTransport):
    """What carries a connection, and notes each write."""

    def __init__(self) -> None:
        super().__init__()
        self.peer = MemoryTransport()
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        super().write(data)


@asynccontextmanager
async def answering(answer: bytes) -> AsyncGenerator[tuple[Http2Connection, Below, list[bytes]]]:
    """Serve ten streams that answer whatever comes; give what carries them, and a frame for each."""

    async def serve(stream: Http2Stream, fields: Fields | None) -> None:
        connection.send_headers(stream, [(":status", "200")])
        while (data := stream.read()) != b"":
            if data is None:
                await stream.wait_readable()
            else:
                stream.write(answer)

    below = Below()
    raw = RawHttp2(trio.testing.memory_stream_pair()[0])
    numbers = range(1, 20, 2)
    async with trio.open_nursery() as nursery:
        connection = Http2Connection(below, Limits(), Http2Statistics(), Reactor(nursery, shield=False), serve=serve)
        requests = b"".join(raw.headers(number, CONNECT).serialize() for number in numbers)
        connection.start(data=PREFACE + raw_frame(4) + requests, handlers=nursery)
        await wait_all_tasks_blocked()
        below.writes.clear()
        yield connection, below, [DataFrame(number, b"question").serialize() for number in numbers]
        connection.close()


async def test_what_streams_answer_that_were_woken_together_goes_in_one_write(mock_clock: MockClock) -> None:
    async with answering(b"answer") as (_, below, frames):
        below.arrive(b"".join(frames))
        await wait_all_tasks_blocked()
        assert [len(data) for data in below.writes] == [150]
        below.writes.clear()
        below.arrive(frames[0])
        await wait_all_tasks_blocked()
        assert [len(data) for data in below.writes] == [15]


async def test_what_is_held_back_is_little_more_than_a_record(mock_clock: MockClock) -> None:
    async with answering(bytes(5000)) as (_, below, frames):
        below.arrive(b"".join(frames))
        await wait_all_tasks_blocked()
        assert [len(data) for data in below.writes] == [20036, 20036, 10018]


async def test_the_end_of_the_connection_goes_behind_what_was_held_back(mock_clock: MockClock) -> None:
    async with answering(b"") as (connection, below, _):
        connection._sender.holding = True
        for number in (1, 3):
            connection.streams[number].write(b"answer")
        assert below.writes == []
        connection.close()
        assert [(data[3], len(data)) for data in below.writes] == [(0, 30), (7, 17)]


async def test_the_last_bytes_are_dropped_where_no_window_is_left(mock_clock: MockClock) -> None:
    async with answering(b"") as (connection, below, _):
        stream = connection.streams[1]
        stream.send_window = 0
        stream.write_last(b"goodbye")
        assert below.writes == []
        assert not stream.local_ended


async def test_a_write_of_several_frames_goes_in_one(mock_clock: MockClock) -> None:
    async with answering(bytes(40_000)) as (_, below, frames):
        below.arrive(frames[0])
        await wait_all_tasks_blocked()
        assert [len(data) for data in below.writes] == [40_000 + 3 * 9]
        (data,) = below.writes
        lengths = []
        while data:
            lengths.append(int.from_bytes(data[:3], "big"))
            data = data[9 + lengths[-1] :]
        assert lengths == [2**14, 2**14, 40_000 - 2**15]


# ---- DATA that goes up together ----

FULL = bytes(2**14)


class Heard:
    """What a stream tells of what comes, each time in one word."""

    def __init__(self) -> None:
        self.words: list[object] = []

    def data_received(self, data: bytes) -> None:
        self.words.append(len(data))

    def eof_received(self) -> None:
        self.words.append("end")

    def connection_lost(self, error: Exception) -> None:
        self.words.append(f"lost: {getattr(error, 'code', None)}")

    def resume_writing(self) -> None:
        raise AssertionError("nothing is written")

    peer_ended = resume_writing

    def crash(self, error: Exception) -> None:
        raise error


def data_frame(stream_id: int, payload: bytes, *flags: str) -> bytes:
    return DataFrame(stream_id, payload, flags=list(flags)).serialize()


@pytest.mark.parametrize(
    ("frames", "first", "second"),
    [
        ([data_frame(1, FULL), data_frame(1, b"rest")], [2**14 + 4], []),
        ([data_frame(1, FULL)] * 3 + [data_frame(1, b"")], [3 * 2**14], []),
        ([data_frame(1, FULL)] * 3, [3 * 2**14], []),
        ([data_frame(1, FULL), data_frame(3, b"other"), data_frame(1, b"rest")], [2**14, 4], [5]),
        ([data_frame(1, FULL), data_frame(3, FULL), data_frame(3, b"rest")], [2**14], [2**14 + 4]),
        ([data_frame(1, FULL), data_frame(1, b"rest", "END_STREAM")], [2**14, 4, "end"], []),
        ([data_frame(1, FULL), data_frame(1, b"", "END_STREAM")], [2**14, "end"], []),
        ([data_frame(1, FULL, "END_STREAM")], [2**14, "end"], []),
        ([data_frame(1, FULL), PingFrame(opaque_data=bytes(8)).serialize(), data_frame(1, b"rest")], [2**14, 4], []),
        ([data_frame(1, FULL), RstStreamFrame(1, error_code=8).serialize()], [2**14, "lost: 8"], []),
        # More than the window, and a frame that ends the connection: what came before is there.
        ([data_frame(1, FULL)] * 5, [4 * 2**14, "lost: 3"], []),
        ([data_frame(1, FULL), data_frame(1, bytes(2**14 + 1))], [2**14, "lost: 6"], ["lost: 6"]),
        ([data_frame(1, FULL), data_frame(99, b"")], [2**14, "lost: 1"], ["lost: 1"]),
    ],
)
async def test_a_full_frame_goes_up_with_what_follows_on_its_stream(
    frames: list[bytes], first: list[object], second: list[object]
) -> None:
    heard = {1: Heard(), 3: Heard()}
    async with trio.open_nursery() as nursery:
        reactor = Reactor(nursery, shield=False)

        async def serve(stream: Http2Stream, fields: Fields | None) -> None:
            stream.start(heard[stream.id], reactor)
            await stream.wait_closed()

        below, raw = Below(), RawHttp2(trio.testing.memory_stream_pair()[0])
        connection = Http2Connection(below, Limits(), Http2Statistics(), reactor, serve=serve)
        requests = b"".join(raw.headers(number, CONNECT).serialize() for number in heard)
        connection.start(data=PREFACE + raw_frame(4) + requests, handlers=nursery)
        await wait_all_tasks_blocked()
        connection.data_received(b"".join(frames))
        words = {number: list(listener.words) for number, listener in heard.items()}
        for stream in tuple(connection.streams.values()):
            stream.abort()
        connection.close()
    assert words == {1: first, 3: second}


async def test_one_stream_that_several_frames_wake_is_not_held_back(mock_clock: MockClock) -> None:
    async with answering(b"answer") as (connection, _, frames):
        connection.data_received(frames[0] + frames[0])
        assert not connection._sender.holding
        connection.data_received(frames[0] + frames[1])
        assert connection._sender.holding


async def test_a_stream_that_is_dropped_is_kept_by_nothing(mock_clock: MockClock) -> None:
    async with answering(b"answer") as (connection, _, frames):
        connection.data_received(frames[0] + frames[1])
        stream = connection.streams[1]
        assert stream in connection.woken
        stream.abort()
        assert stream not in connection.woken
