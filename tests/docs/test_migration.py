"""What the page on the migration from trio-websocket says of both libraries."""

from __future__ import annotations

from contextlib import suppress
from types import ModuleType

import pytest
import trio
import trio_websocket

import trio_ws
from trio_ws.compat import trio_websocket as compat

from ..raw import close_frame, frame, read_frame, read_head, request


@pytest.mark.parametrize("library", [trio_websocket, compat])
async def test_the_old_names_answer_close_and_take_any_host(library: ModuleType) -> None:
    async def handler(asked: trio_websocket.WebSocketRequest) -> None:
        with suppress(library.ConnectionClosed):
            await (await asked.accept()).get_message()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(library.serve_websocket, handler, "127.0.0.1", 0, None)
        asks = request().replace(b"Host: ", b"Host: elsewhere.example:%d\r\nX-Host: " % server.port)
        for close in (close_frame(1000, b"bye", masked=True), close_frame(4001, masked=True), frame(8, masked=True)):
            async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
                await stream.send_all(asks)
                answer = await read_head(stream)
                assert answer.startswith(b"HTTP/1.1 101 ")
                assert (b"Server: trio_ws/" in answer) == (library is compat)
                await stream.send_all(close)
                opcode, payload = await read_frame(stream)
                assert frame(opcode, payload)[2:] == bytes(
                    x ^ y for x, y in zip(close[6:], close[2:6] * 64, strict=False)
                )
        nursery.cancel_scope.cancel()


async def test_the_new_names_check_hosts_and_say_1011() -> None:
    codes: list[int] = []

    async def handler(asked: trio_ws.WebSocketRequest) -> None:
        async with asked.accept() as ws:
            codes.append((await ws.wait_closed()).code)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_ws.serve_websocket, handler, "127.0.0.1", 0)
        asks = request().replace(b"Host: ", b"Host: elsewhere.example:%d\r\nX-Host: " % server.port)
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
            await stream.send_all(asks)
            assert (await read_head(stream)).startswith(b"HTTP/1.1 421 ")
        with pytest.raises(KeyError):
            async with trio_ws.open_websocket(f"ws://127.0.0.1:{server.port}/"):
                raise KeyError("of the user")
        await server.aclose()
    assert codes == [1011]
