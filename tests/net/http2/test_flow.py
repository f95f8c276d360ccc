"""Windows and turns: what is sent never overruns, always arrives, and leaves its siblings room."""

from __future__ import annotations

import math
import random
from contextlib import suppress
from functools import partial

import pytest
import trio
import trio.testing
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from hyperframe.frame import DataFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from trio_ws import Agent, Limits, open_websocket, serve_websocket

from ...serving import LOCALHOST, serving, tls_contexts
from .raw_http2 import CONNECT, GET, HELLO, RawHttp2, echo, raw_client

KIBIBYTE = 2**10


async def send_much(request: trio_ws.WebSocketRequest) -> None:
    """Send as many bytes as the path says, then echo."""
    async with request.accept() as websocket:
        await websocket.send(bytes(index % 251 for index in range(int(request.path[1:]))))
        async for message in websocket:
            await websocket.send(message)


async def collect(peer: RawHttp2, stream_id: int, size: int, window: int) -> bytes:
    """Read a message of a size, granting more only when all that was granted has come."""
    data, granted = b"", window
    head = 2 if size < 126 else 4 if size < 2**16 else 10
    while len(data) < size + head:
        if len(data) == granted:
            await wait_all_tasks_blocked()
            await peer.grant(stream_id, 1000)
            granted += 1000
        data += bytes((await peer.expect(DataFrame, stream_id)).data)
        assert len(data) <= granted, "it overran the window"
    return data[head:]


@pytest.mark.parametrize("window", [0, 1, 1000, 65535])
async def test_a_message_comes_whole_through_any_window(window: int, autojump_clock: MockClock) -> None:
    async with raw_client(send_much, settings={4: window}) as peer:
        await peer.connect(1, path="/70000")
        assert await peer.status(1) == "200"
        if window < 65535:
            await peer.grant(0, 10**6)
        else:
            await peer.grant(0, 5000)
        assert await collect(peer, 1, 70000, window) == bytes(index % 251 for index in range(70000))
        assert all(len(frame.data) <= 2**14 for frame in peer.heard if isinstance(frame, DataFrame))


async def test_the_largest_window_is_no_reason_to_send_more_than_the_connection_may(autojump_clock: MockClock) -> None:
    async with raw_client(send_much, settings={4: 2**31 - 1}, limits=Limits(send_buffer=None)) as peer:
        await peer.connect(1, path="/200000")
        assert await peer.status(1) == "200"
        await trio.sleep(1)
        received = 0
        while received < 65535:
            received += len((await peer.expect(DataFrame, 1)).data)
        assert received == 65535
        with trio.move_on_after(1) as scope:
            await peer.next()
        assert scope.cancelled_caught
        await peer.grant(0, 10**6)
        while received < 200_010:
            received += len((await peer.expect(DataFrame, 1)).data)


async def test_a_window_that_shrinks_below_zero_is_waited_for(autojump_clock: MockClock) -> None:
    async with raw_client(send_much, settings={4: 10_000}) as peer:
        await peer.grant(0, 10**6)
        await peer.connect(1, path="/30000")
        received = 0
        while received < 10_000:
            received += len((await peer.expect(DataFrame, 1)).data)
        await peer.send(SettingsFrame(0, settings={4: 1_000}))  # 9,000 below
        await peer.grant(1, 9_000)
        with trio.move_on_after(1) as scope:
            await peer.expect(DataFrame, 1)
        assert scope.cancelled_caught
        await peer.grant(1, 5)
        assert len((await peer.expect(DataFrame, 1)).data) == 5
        await peer.send(SettingsFrame(0, settings={4: 50_000}))
        received += 5
        while received < 30_004:
            received += len((await peer.expect(DataFrame, 1)).data)


async def test_a_closing_handshake_waits_for_the_window_too(autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await websocket.send(b"x")

    async with raw_client(handler, settings={4: 0}) as peer:
        await peer.open(1)
        await trio.sleep(1)
        await peer.grant(1, 5)
        sent = b""
        while len(sent) < 5:
            sent += bytes((await peer.expect(DataFrame, 1)).data)
        assert sent == b"\x82\x01x\x88\x02"
        await peer.grant(1, 5)
        assert bytes((await peer.expect(DataFrame, 1)).data) == b"\x03\xe8"


async def test_a_cancelled_scope_does_not_wait_for_a_window(autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        with trio.move_on_after(1):
            async with request.accept() as websocket:
                await websocket.receive()

    async with raw_client(handler, settings={4: 0}) as peer:
        await peer.open(1)
        await peer.open(3)
        await peer.grant(3, 100)
        await trio.sleep(2)
        await peer.open(5)
        codes = {frame.stream_id: frame.error_code for frame in peer.heard if isinstance(frame, RstStreamFrame)}
        assert codes == {1: 8, 3: 0}
        assert [bytes(frame.data) for frame in peer.heard if isinstance(frame, DataFrame)] == [b"\x88\x02\x03\xe9"]


async def test_a_window_that_is_opened_for_what_has_ended_does_nothing(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.data(1, b"\x88\x82\0\0\0\0\x03\xe8")
        while "END_STREAM" not in (await peer.expect(DataFrame, 1)).flags:
            pass
        await peer.grant(1, 2**31 - 1)
        await peer.open(3)
        assert peer.counts.resets == 0


async def test_a_stream_that_goes_while_it_waits_for_its_turn_gives_it_up(autojump_clock: MockClock) -> None:
    async with raw_client(send_much, settings={4: 2**30}, limits=Limits(send_buffer=None)) as peer:
        for stream_id in (1, 3):
            await peer.connect(stream_id, path="/100000")
        await peer.answer(3)
        await wait_all_tasks_blocked()  # both wait for the connection's window
        await peer.send(RstStreamFrame(1, 8), WindowUpdateFrame(0, 10**6))
        received = 0
        while received < 100_010:
            frame = await peer.expect(DataFrame)
            received += len(frame.data) if frame.stream_id == 3 else 0
        await peer.open(5)


@pytest.mark.parametrize("window", [0, 2**30])
@pytest.mark.parametrize(
    ("path", "reset", "passed"), [("/stays", True, 0), ("/stays", False, 1), ("/leaves", False, 0)]
)
async def test_a_stream_that_has_ended_waits_for_no_window_any_more(
    window: int, path: str, reset: bool, passed: int, autojump_clock: MockClock
) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        if request.path == "/echo":
            await echo(request)
            return
        with trio.move_on_after(1 if request.path == "/leaves" else math.inf):
            async with request.accept() as websocket:
                with suppress(trio_ws.ConnectionClosed):
                    await websocket.send(bytes(100_000))
                await trio.sleep_forever()

    async with raw_client(handler, settings={4: window}) as peer:
        await peer.connect(1, path=path)
        await peer.connect(3, path="/echo")
        await peer.answer(3)
        await wait_all_tasks_blocked()  # what the first sends waits for the window of its own, or for the connection's
        if reset:
            await peer.send(RstStreamFrame(1, 8))
        await trio.sleep(3 * Limits().h2_stall_timeout)
        await peer.send(WindowUpdateFrame(0, 1000), WindowUpdateFrame(3, 1000))
        await peer.echo(3)
        assert peer.counts.limits_passed == ({"h2_stall_timeout": passed} if passed else {})


# ---- what we give ----


async def test_a_stream_gets_its_window_back_as_the_application_takes(autojump_clock: MockClock) -> None:
    go_on = trio.Event()

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await go_on.wait()
            async for _ in websocket:
                pass

    async with raw_client(handler) as peer:
        await peer.open(1)
        message = b"\x82\xfe\x10\x00" + bytes(4 + 4096)
        for _ in range(15):
            await peer.data(1, message)
        await wait_all_tasks_blocked()
        go_on.set()
        update = await peer.expect(WindowUpdateFrame, 1)
        assert 2**15 <= update.window_increment <= 15 * len(message)


@pytest.mark.parametrize("over", [0, 1])
async def test_a_window_may_be_used_to_its_last_byte(over: int, autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        await trio.sleep_forever()

    async with raw_client(handler, http_handler=None) as peer:
        await peer.connect(1)
        size = Limits().h2_stream_window + over
        while size:
            await peer.data(1, bytes(min(size, 2**14)))
            size -= min(size, 2**14)
        await peer.send(peer.headers(3, GET, "END_STREAM"))
        assert await peer.status(3) == "405"
        codes = [frame.error_code for frame in peer.heard if isinstance(frame, RstStreamFrame)]
        assert codes == [3] * over


async def test_padding_is_given_back_with_what_it_pads(autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            async for _ in websocket:
                pass

    async with raw_client(handler) as peer:
        await peer.open(1)
        frame = DataFrame(1, b"\x82\x81\0\0\0\0x", flags=["PADDED"])
        frame.pad_length = 255
        for _ in range(1000):  # 263,000 bytes, of which 7,000 are DATA
            await peer.send(frame)
            await wait_all_tasks_blocked()
        await peer.send(peer.headers(3, CONNECT))
        assert await peer.status(3) == "200"
        given = sum(one.window_increment for one in peer.heard if isinstance(one, WindowUpdateFrame) and one.stream_id)
        assert given >= 1000 * 263 - 2**15


# ---- turns ----


async def test_a_sibling_of_a_bulk_sender_waits_for_one_batch_at_most(autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        await (send_much if len(request.path) > 1 else echo)(request)

    limits = Limits(send_buffer=None)
    streams = trio.testing.lockstep_stream_pair
    async with raw_client(handler, settings={4: 2**30}, limits=limits, streams=streams) as peer:
        await peer.grant(0, 2**30)
        await peer.open(1)
        await peer.connect(3, path="/2000000")
        await peer.expect(DataFrame, 3)
        await peer.data(1, b"\x89\x80\0\0\0\0")  # a ping
        between = 0
        while (frame := await peer.expect(DataFrame)).stream_id != 1:
            between += len(frame.data)
        assert bytes(frame.data) == b"\x8a\x00"
        assert between <= 3 * 2**16  # what was below, and what the streams of memory held


async def test_bulk_senders_share_a_connection_evenly(autojump_clock: MockClock) -> None:
    async with raw_client(send_much, settings={4: 2**30}, limits=Limits(send_buffer=None)) as peer:
        for stream_id in (1, 3, 5):
            await peer.connect(stream_id, path="/300000")
        await peer.answer(5)
        await wait_all_tasks_blocked()
        await peer.grant(0, 600_000)
        received = {1: 0, 3: 0, 5: 0}
        while sum(received.values()) < 600_000:
            frame = await peer.expect(DataFrame)
            received[frame.stream_id] += len(frame.data)
        assert max(received.values()) - min(received.values()) <= 2**16 + 2**14


@pytest.mark.parametrize("size", [100 * KIBIBYTE, 3 * 2**20])
async def test_many_sockets_on_one_connection_carry_much_both_ways(size: int) -> None:
    numbers = random.Random(1)
    message = numbers.randbytes(size)
    server_side, client_side = tls_contexts()
    limits = Limits(max_message_size=None)
    serve = partial(serve_websocket, echo, LOCALHOST, 0, server_side, limits=limits)

    async def use(agent: Agent, url: str) -> None:
        async with open_websocket(url, dispatcher=agent, limits=limits) as websocket, trio.open_nursery() as nursery:
            nursery.start_soon(websocket.send, message)
            assert await websocket.receive() == message

    with trio.fail_after(60):
        async with serving(serve) as server, Agent(ssl_context=client_side) as agent:
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(use, agent, f"wss://{LOCALHOST}:{server.port}/")
            assert agent.statistics().connections_opened == 1
            assert agent.statistics().limits_passed == server.statistics().http2.limits_passed == {}


async def test_a_short_message_waits_for_a_full_transport(autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        await (send_much if len(request.path) > 1 else echo)(request)

    streams = trio.testing.lockstep_stream_pair
    async with raw_client(handler, settings={4: 2**30}, streams=streams) as peer:
        await peer.grant(0, 2**30)
        await peer.open(1)
        await peer.connect(3, path=f"/{2**16 - 4}")  # a batch, with its head
        await wait_all_tasks_blocked()
        await peer.data(1, HELLO)
        await wait_all_tasks_blocked()
        received = 0
        while received < 2**16:
            received += len((await peer.expect(DataFrame, 3)).data)
        assert bytes((await peer.expect(DataFrame, 1)).data) == b"\x81\x05hello"


# ---- what is beside the library ----


def test_the_library_still_takes_no_frame_after_a_goaway() -> None:
    """The day that this fails, GOAWAY can go through it: python-hyper/h2 issue 1181."""
    client, server = (H2Connection(H2Configuration(client_side=is_client)) for is_client in (True, False))
    for one in (client, server):
        one.initiate_connection()
    client.send_headers(1, list(GET.items()))
    server.receive_data(client.data_to_send())
    server.close_connection(last_stream_id=1)
    with pytest.raises(ProtocolError):
        server.send_headers(1, [(":status", "200")])
    client.receive_data(server.data_to_send())
    with pytest.raises(ProtocolError):
        client.send_data(1, b"x")
