"""What people write who know another library, or asyncio: the error says what to write instead."""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys

import pytest
import trio

import trio_ws
from trio_ws import WebSocketStream, open_websocket, open_websocket_stream, serve_websocket
from trio_ws._websocket.base import OTHER_NAMES
from trio_ws.testing import memory_websocket_pair

from .serving import serving

URL = "ws://127.0.0.1:1/"


@pytest.mark.parametrize("opener", [open_websocket, open_websocket_stream])
async def test_a_scope_that_is_awaited(opener: object) -> None:
    name = opener.__name__  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match=rf"write `async with {name}\(...\) as ws:`"):
        await opener(URL)  # type: ignore[operator]


@pytest.mark.parametrize("opener", [open_websocket, open_websocket_stream])
def test_a_scope_that_is_entered_like_a_file(opener: object) -> None:
    name = opener.__name__  # type: ignore[attr-defined]
    written = rf"is an async scope: write `async with {name}\(...\) as ws:`"
    with pytest.raises(TypeError, match=written), opener(URL):  # type: ignore[operator]
        raise AssertionError("it opened")


def test_a_scope_that_is_taken_for_a_websocket() -> None:
    with pytest.raises(AttributeError) as caught:
        open_websocket(URL).send  # type: ignore[attr-defined]  # noqa: B018
    hint = "open_websocket(...) is a scope, write `async with open_websocket(...) as ws:`"
    assert str(caught.value) == f"'Scope' object has no attribute 'send': {hint}"
    with pytest.raises(AttributeError, match=r"^'Scope' object has no attribute '_sent'$"):
        open_websocket(URL)._sent  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("opener", [open_websocket, open_websocket_stream])
def test_a_client_under_asyncio(opener: object) -> None:
    async def main() -> None:
        async with opener(URL):  # type: ignore[operator]
            raise AssertionError("it opened")

    with pytest.raises(RuntimeError, match=r"runs on trio only: start the program with trio.run\(main\)"):
        asyncio.run(main())


def test_an_agent_under_asyncio() -> None:
    async def main() -> None:
        async with trio_ws.Agent():
            raise AssertionError("it was entered")

    with pytest.raises(RuntimeError, match=r"^Agent runs on trio only"):
        asyncio.run(main())


def test_reconnecting_under_asyncio() -> None:
    async def main() -> None:
        async for _ in trio_ws.reconnecting():
            raise AssertionError("it began")

    with pytest.raises(RuntimeError, match=r"^reconnecting\(\) runs on trio only"):
        asyncio.run(main())


def test_a_server_under_asyncio() -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        raise AssertionError("a request came")

    with pytest.raises(RuntimeError, match=r"^serve_websocket\(...\) runs on trio only"):
        asyncio.run(serve_websocket(handler, "127.0.0.1", 0))


async def test_a_server_as_a_scope() -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        raise AssertionError("a request came")

    with pytest.raises(TypeError) as caught:
        async with serve_websocket(handler, "127.0.0.1", 0):  # type: ignore[attr-defined]
            raise AssertionError("it serves")
    hint = (
        "serve_websocket(...) is no scope: write `server = await nursery.start(serve_websocket, handler, host, port)`"
    )
    assert str(caught.value) == hint


def test_what_gives_that_hint_is_an_async_function_all_the_same() -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        raise AssertionError("a request came")

    if sys.version_info >= (3, 12):  # where a wrapper can say so
        assert inspect.iscoroutinefunction(serve_websocket)
    assert inspect.signature(serve_websocket).parameters["hosts"].default == "auto"
    serving = serve_websocket(handler, "127.0.0.1", -1)
    assert inspect.isawaitable(serving)
    with pytest.raises(LookupError, match="thrown"):
        serving.throw(LookupError("thrown"))
    serving = serve_websocket(handler, "127.0.0.1", -1)
    with pytest.raises(RuntimeError, match="runs on trio only"):
        serving.send(None)
    serving = serve_websocket(handler, "127.0.0.1", -1)
    serving.close()
    with pytest.raises(RuntimeError, match="cannot reuse"):
        serving.send(None)


@pytest.mark.parametrize("name", OTHER_NAMES)
async def test_a_name_of_another_library(name: str) -> None:
    async with memory_websocket_pair() as (client, server):
        for websocket in (client, WebSocketStream(server)):
            if name == "close" and isinstance(websocket, WebSocketStream):
                continue  # which has it, as in a browser
            with pytest.raises(AttributeError) as caught:
                getattr(websocket, name)
            kind = type(websocket).__name__
            assert str(caught.value) == f"{kind!r} object has no attribute {name!r}: here it is {OTHER_NAMES[name]}"
            assert (caught.value.name, caught.value.obj) == (name, websocket)


async def test_a_name_that_nobody_has() -> None:
    async with memory_websocket_pair() as (client, _):
        with pytest.raises(AttributeError, match=r"^'WebSocket' object has no attribute 'frobnicate'$"):
            client.frobnicate()  # type: ignore[attr-defined]
        assert not hasattr(client, "recv")


@pytest.mark.parametrize("awaited", [True, False])
async def test_accept_without_a_block(awaited: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        accepting = request.accept()
        if awaited:
            await accepting  # type: ignore[misc]

    async def serve(*, task_status: trio.TaskStatus[trio_ws.WebSocketServer]) -> None:
        await serve_websocket(handler, "127.0.0.1", 0, task_status=task_status)

    with caplog.at_level(logging.ERROR, "trio_ws.server"):
        async with serving(serve) as server:
            with pytest.raises(trio_ws.HandshakeRejected) as caught:
                async with open_websocket(f"ws://127.0.0.1:{server.port}/"):
                    raise AssertionError("it opened")
    assert caught.value.status == 500
    assert "async with request.accept() as ws" in caplog.text


async def send_at_once(request: trio_ws.WebSocketRequest) -> None:
    await request.send("hello")  # type: ignore[attr-defined]


async def receive_as_elsewhere(request: trio_ws.WebSocketRequest) -> None:
    await request.recv()  # type: ignore[attr-defined]


async def iterate_at_once(request: trio_ws.WebSocketRequest) -> None:
    async for _ in request:  # type: ignore[attr-defined]
        raise AssertionError("a message came")


async def send_without_a_block(request: trio_ws.WebSocketRequest) -> None:
    websocket = request.accept()
    await websocket.send("hello")  # type: ignore[attr-defined]


async def iterate_without_a_block(request: trio_ws.WebSocketRequest) -> None:
    async for _ in request.accept():  # type: ignore[attr-defined]
        raise AssertionError("a message came")


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (send_at_once, "'WebSocketRequest' object has no attribute 'send': the WebSocket comes from"),
        (receive_as_elsewhere, "'WebSocketRequest' object has no attribute 'recv': the WebSocket comes from"),
        (iterate_at_once, "a request is no WebSocket: the WebSocket comes from"),
        (send_without_a_block, "'_Acceptance' object has no attribute 'send': request.accept() is a scope: write"),
        (iterate_without_a_block, "request.accept() is a scope: write"),
    ],
)
async def test_a_handler_that_takes_the_request_for_a_websocket(
    handler: trio_ws.Handler, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve(*, task_status: trio.TaskStatus[trio_ws.WebSocketServer]) -> None:
        await serve_websocket(handler, "127.0.0.1", 0, task_status=task_status)

    with caplog.at_level(logging.ERROR, "trio_ws.server"):
        async with serving(serve) as server:
            with pytest.raises(trio_ws.HandshakeRejected):
                async with open_websocket(f"ws://127.0.0.1:{server.port}/"):
                    raise AssertionError("it opened")
    assert f"{error} `async with request.accept() as ws:`" in caplog.text


async def test_a_name_that_neither_has() -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        with pytest.raises(AttributeError, match=r"^'WebSocketRequest' object has no attribute 'frobnicate'$"):
            request.frobnicate()  # type: ignore[attr-defined]
        with pytest.raises(AttributeError, match=r"^'_Acceptance' object has no attribute '_websocket'$"):
            request.accept()._websocket  # type: ignore[attr-defined]  # noqa: B018
        await request.reject(404)
        asked.append(request)

    asked: list[trio_ws.WebSocketRequest] = []

    async def serve(*, task_status: trio.TaskStatus[trio_ws.WebSocketServer]) -> None:
        await serve_websocket(handler, "127.0.0.1", 0, task_status=task_status)

    async with serving(serve) as server:
        with pytest.raises(trio_ws.HandshakeRejected):
            async with open_websocket(f"ws://127.0.0.1:{server.port}/"):
                raise AssertionError("it opened")
    assert len(asked) == 1
