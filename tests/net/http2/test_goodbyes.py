"""How a client's stream ends on the wire: servers forget a stream early, and some take more DATA on it ill."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import h2.config
import h2.connection
import h2.events
import trio
from h2.settings import SettingCodes, Settings
from hyperframe.frame import DataFrame, Frame, RstStreamFrame

import trio_ws
from tests.serving import LOCALHOST

END_STREAM = "END_STREAM"
CLOSE = b"\x88\x02\x03\xe8"
CANCEL = 0x8


class Server:
    """A server of the h2 library that accepts every WebSocket and sends nothing of its own accord.

    Attributes:
        connections: how many there have been.
        frames: what came on streams once they were open.
        ended: set when the client has gone.
    """

    def __init__(self, *, closes_at_once: bool = False) -> None:
        self.connections = 0
        self.frames: list[Frame] = []
        self.ended = trio.Event()
        self._closes_at_once = closes_at_once
        self._stream: trio.SocketStream | None = None
        self._data = b""
        config = h2.config.H2Configuration(client_side=False, header_encoding="ascii")
        self._h2 = h2.connection.H2Connection(config)
        self._h2.local_settings = Settings(client=False, initial_values={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})

    async def serve(self, stream: trio.SocketStream) -> None:
        """Take a connection."""
        self.connections += 1
        self._stream = stream
        self._h2.initiate_connection()
        await self.send()
        async for chunk in stream:
            self._note(chunk)
            for event in self._h2.receive_data(chunk):
                if isinstance(event, h2.events.RequestReceived):
                    self._answer(event.stream_id)
            await self.send()
        self.ended.set()

    def _answer(self, stream_id: int) -> None:
        self._h2.send_headers(stream_id, [(":status", "200")])
        if self._closes_at_once:
            self._h2.send_data(stream_id, CLOSE, end_stream=True)
            self._h2.reset_stream(stream_id, CANCEL)

    async def send(self, data: bytes = b"", *, end: bool = False) -> None:
        """Send what there is, and bytes of the first stream."""
        assert self._stream is not None
        if data:
            self._h2.send_data(1, data, end_stream=end)
        await self._stream.send_all(self._h2.data_to_send())

    def _note(self, chunk: bytes | bytearray) -> None:
        self._data += chunk
        self._data = self._data.removeprefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        while len(self._data) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self._data[:9]))
            if len(self._data) < 9 + length:
                break
            frame.parse_body(memoryview(self._data[9 : 9 + length]))
            self._data = self._data[9 + length :]
            if isinstance(frame, DataFrame | RstStreamFrame):
                self.frames.append(frame)


@asynccontextmanager
async def reached(server: Server) -> AsyncGenerator[tuple[str, trio_ws.Agent], None]:
    """Run a server as long as the block; gives its URL and an agent."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, server.serve, 0, host=LOCALHOST))
        with trio.fail_after(30):
            async with trio_ws.Agent(h2_prior_knowledge=True) as agent:
                yield f"ws://{LOCALHOST}:{listeners[0].socket.getsockname()[1]}/", agent
            await server.ended.wait()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected() -> AsyncGenerator[tuple[Server, trio_ws.WebSocket, trio.CancelScope], None]:
    """A WebSocket over HTTP/2 to a server, and the scope that its block is in."""
    server = Server()
    async with reached(server) as (url, agent):
        with trio.CancelScope() as scope:
            async with trio_ws.open_websocket(url, dispatcher=agent, keepalive=None) as websocket:
                yield server, websocket, scope


async def test_a_cancelled_scope_sends_its_close_and_the_end_in_one_frame() -> None:
    async with connected() as (server, _, scope):
        scope.cancel()
        await trio.lowlevel.checkpoint()
    [data, reset] = server.frames
    assert isinstance(data, DataFrame)
    assert END_STREAM in data.flags
    assert len(data.data) == 8
    assert isinstance(reset, RstStreamFrame)


async def test_after_both_closes_the_end_answers_that_of_the_server() -> None:
    async with connected() as (server, websocket, _):
        await server.send(CLOSE, end=True)
        assert await websocket.wait_closed() == trio_ws.CloseInfo(1000, "", was_clean=True)
    close, end = server.frames
    assert isinstance(close, DataFrame)
    assert isinstance(end, DataFrame)
    assert (END_STREAM in close.flags, END_STREAM in end.flags, end.data) == (False, True, b"")


async def test_after_both_closes_a_stream_that_the_server_does_not_end_is_reset() -> None:
    async with connected() as (server, websocket, _):
        await server.send(CLOSE)
        assert await websocket.wait_closed() == trio_ws.CloseInfo(1000, "", was_clean=True)
    close, reset = server.frames
    assert isinstance(close, DataFrame)
    assert END_STREAM not in close.flags
    assert isinstance(reset, RstStreamFrame)
    assert reset.error_code == CANCEL


async def test_a_server_may_reset_every_stream_that_it_has_ended() -> None:
    server = Server(closes_at_once=True)
    async with reached(server) as (url, agent):
        for _ in range(150):  # more than the limit on resets
            async with trio_ws.open_websocket(url, dispatcher=agent) as websocket:
                assert (await websocket.wait_closed()).code == 1000
    assert server.connections == 1
    assert agent.statistics().resets == 0
