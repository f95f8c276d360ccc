"""WebSocketStreams over real connections, from both sides."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime

import pytest
import trio

import trio_ws
from trio_ws import Agent, CloseInfo, WebSocketError, WebSocketRequest, WebSocketStream
from trio_ws.testing import open_test_server


@asynccontextmanager
async def serving(
    behave: Callable[[WebSocketStream], Awaitable[object]], protocols: tuple[str, ...] = ()
) -> AsyncGenerator[str, None]:
    """Serve streams; give the URL."""

    async def handler(request: WebSocketRequest) -> None:
        async with request.accept_stream(headers={"X-From": "stream"}) as stream:
            await behave(stream)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            lambda task_status: trio_ws.serve_websocket(
                handler, "127.0.0.1", 0, protocols=protocols, task_status=task_status
            )
        )
        yield f"ws://127.0.0.1:{server.port}/"
        await server.aclose()


async def echo(stream: WebSocketStream) -> None:
    async for message in stream.readable:
        await stream.writable.send(message)


@pytest.mark.parametrize("with_agent", [True, False])
async def test_an_echo_by_channels(with_agent: bool) -> None:
    async with serving(echo, protocols=("chat",)) as url:
        dispatcher = Agent() if with_agent else None
        async with trio_ws.open_websocket_stream(url, ["chat"], dispatcher=dispatcher) as stream:
            assert (stream.protocol, stream.url) == ("chat", url)
            assert stream.extensions.startswith("permessage-deflate")
            assert stream.response_headers["x-from"] == "stream"
            for message in ("text", b"binary", "", "x" * 100_000):
                await stream.writable.send(message)
                assert await stream.readable.receive() == message
            await stream.writable.aclose()
            assert [message async for message in stream.readable] == []
            assert await stream.wait_closed() == CloseInfo(1005, "", was_clean=True)


async def test_an_error_with_a_code_closes_with_it_from_a_server() -> None:
    async def refuse(stream: WebSocketStream) -> None:
        raise WebSocketError(4001, "bad move")

    async with serving(refuse) as url, trio_ws.open_websocket_stream(url) as stream:
        assert [message async for message in stream.readable] == []
        assert await stream.wait_closed() == CloseInfo(4001, "bad move", was_clean=True)


async def test_an_error_with_a_code_closes_with_it_from_a_client() -> None:
    seen: list[CloseInfo] = []

    async def note(stream: WebSocketStream) -> None:
        seen.append(await stream.wait_closed())

    async with serving(note) as url:
        with pytest.raises(WebSocketError, match="4001 over"):
            async with trio_ws.open_websocket_stream(url):
                raise WebSocketError(4001, "over")
    assert seen == [CloseInfo(4001, "over", was_clean=True)]


async def test_leaving_by_cancellation_says_goodbye() -> None:
    seen: list[CloseInfo] = []

    async def note(stream: WebSocketStream) -> None:
        seen.append(await stream.wait_closed())

    async with serving(note) as url:
        with trio.CancelScope() as scope:
            async with trio_ws.open_websocket_stream(url):
                scope.cancel()
                await trio.sleep_forever()
    assert seen == [CloseInfo(1001, "", was_clean=True)]


async def test_arguments_are_checked_before_any_io() -> None:
    with pytest.raises(trio_ws.InvalidURL):
        async with trio_ws.open_websocket_stream("ftp://example.com/"):
            pass
    with pytest.raises(TypeError, match="signal"):
        async with trio_ws.open_websocket_stream("ws://example.com/", signal=1):  # type: ignore[call-arg]
            pass


# ---- over HTTP/2 ----


async def test_a_stream_over_http2() -> None:
    async def handler(request: WebSocketRequest) -> None:
        if request.path == "/no":
            await request.reject(404)
            return
        async with request.accept_stream() as stream:
            await echo(stream)

    async with open_test_server(handler) as server, Agent(ssl_context=server.ssl_context) as agent:
        async with trio_ws.open_websocket_stream(server.url, dispatcher=agent) as stream:
            assert stream.http_version == "2"
            assert parsedate_to_datetime(stream.response_headers["date"])
            assert stream.ssl_object is not None
            await stream.writable.send("over HTTP/2")
            assert await stream.readable.receive() == "over HTTP/2"
            stream.close(4000, "done")
            assert [message async for message in stream.readable] == []
            assert (await stream.wait_closed()).was_clean
        with pytest.raises(trio_ws.HandshakeRejected) as caught:
            async with trio_ws.open_websocket(server.url + "no", dispatcher=agent):
                pass
        assert (caught.value.status, "date" in caught.value.headers) == (404, True)


async def test_a_message_in_pieces_over_http2() -> None:
    data = bytes(range(256)) * 2**12  # 16 windows

    async def pieces(request: WebSocketRequest) -> None:
        async with request.accept() as websocket:
            async with websocket.receive_message_stream() as parts, websocket.send_message_stream() as back:
                async for part in parts:
                    assert isinstance(part, bytes)
                    await back.send(part)
            await websocket.wait_closed()

    async with (
        open_test_server(pieces) as server,
        Agent(ssl_context=server.ssl_context) as agent,
        trio_ws.open_websocket(server.url, dispatcher=agent) as websocket,
        trio.open_nursery() as nursery,
    ):

        async def give() -> None:
            async with websocket.send_message_stream() as part:
                for start in range(0, len(data), 2**15):
                    await part.send(data[start : start + 2**15])

        nursery.start_soon(give)
        async with websocket.receive_message_stream() as parts:
            assert b"".join([part async for part in parts if isinstance(part, bytes)]) == data
