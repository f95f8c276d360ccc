"""The chat of the examples as one process: what its clients are told, slow ones, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import trio_ws

from ..raw import body, read_all, status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ROOT = Path(__file__).parents[2]
FILES = ("server.py", "rooms.py", "brokers.py", "redis.py", "page.html", "page.js", "page.css", "demo.py")
HOST = "127.0.0.1"
TIMEOUT = 60.0  # seconds


class Chat:
    """A process of the chat."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def url(self, name: str, room: str = "lobby") -> str:
        return f"ws://{HOST}:{self.port}/rooms/{room}?name={name}"

    async def get(self, path: str) -> bytes:
        stream = await trio.open_tcp_stream(HOST, self.port)
        async with stream:
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: {HOST}:{self.port}\r\n\r\n".encode())
            return await read_all(stream)

    async def ended(self) -> int:
        return await trio.to_thread.run_sync(partial(self.process.wait, TIMEOUT))


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "chat.server", "0", *arguments]
    folder = ROOT / "docs" / "examples"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        try:
            yield process
        finally:
            process.kill()


@asynccontextmanager
async def serving(*arguments: str) -> AsyncIterator[Chat]:
    with started(*arguments) as process, trio.fail_after(TIMEOUT):
        assert process.stdout is not None
        url = await trio.to_thread.run_sync(process.stdout.readline)
        yield Chat(process, int(url.strip().rstrip("/").rpartition(":")[2]))


async def heard(ws: trio_ws.WebSocket, **wanted: object) -> dict[str, object]:
    """Receive up to the event that has these values."""
    while True:
        event: dict[str, object] = json.loads(await ws.receive())
        if wanted.items() <= event.items():
            return event


def test_the_page_shows_every_file() -> None:
    page = (ROOT / "docs" / "howto" / "chat.md").read_text()
    assert {path.name for path in (ROOT / "docs" / "examples" / "chat").iterdir() if path.is_file()} == set(FILES)
    assert [name for name in FILES if f"{{literalinclude}} ../examples/chat/{name}\n" not in page] == []


async def test_people_hear_each_other_and_who_is_there() -> None:
    async with serving() as chat, trio_ws.open_websocket(chat.url("Ada")) as ada:
        await heard(ada, kind="people", people=["Ada"])
        async with trio_ws.open_websocket(chat.url("Grace")) as grace:
            await heard(ada, kind="people", people=["Ada", "Grace"])
            await ada.send("<b>hello</b>")
            for ws in (ada, grace):
                assert (await heard(ws, kind="said"))["text"] == "<b>hello</b>"
        await heard(ada, kind="people", people=["Ada"])
        async with trio_ws.open_websocket(chat.url("Linus")) as linus:
            welcome = await heard(linus, kind="welcome")
            assert welcome["history"] == [{"kind": "said", "room": "lobby", "who": "Ada", "text": "<b>hello</b>"}]
        async with trio_ws.open_websocket(chat.url("Ken", "kitchen")) as ken:
            assert (await heard(ken, kind="welcome"))["history"] == []
            await ada.send("not for the kitchen")
            await ken.send("soup")
            assert (await heard(ken, kind="said"))["text"] == "soup"


@pytest.mark.parametrize("target", ["/", "/rooms/lobby", "/rooms/LOBBY?name=a", f"/rooms/a?name={'x' * 31}"])
async def test_who_names_no_room_or_nobody_is_turned_away(target: str) -> None:
    async with serving() as chat:
        with pytest.raises(trio_ws.HandshakeRejected) as caught:
            async with trio_ws.open_websocket(f"ws://{HOST}:{chat.port}{target}"):
                pytest.fail("it was let in")
        assert caught.value.status == 404


@pytest.mark.parametrize("message", [b"binary", "x" * 2001])
async def test_what_is_no_message_of_the_chat_ends_the_connection(message: str | bytes) -> None:
    async with serving() as chat, trio_ws.open_websocket(chat.url("Ada")) as ws:
        await ws.send(message)
        assert (await ws.wait_closed()).code == 1008


async def test_a_slow_consumer_is_closed_and_nobody_waits() -> None:
    async with serving() as chat, trio.open_nursery() as nursery:
        limits = trio_ws.Limits(receive_buffer=1)
        slow = await trio_ws.connect_websocket(nursery, chat.url("Slow"), compression=None, limits=limits)
        async with trio_ws.open_websocket(chat.url("Ada"), compression=None) as ada:
            await heard(ada, kind="people", people=["Ada", "Slow"])
            await heard(ada, kind="welcome")
            while True:
                await ada.send("x" * 2000)
                event = json.loads(await ada.receive())
                if event["kind"] == "people" and event["people"] == ["Ada"]:
                    break  # Slow was closed, and Ada went on all the while
                assert event["kind"] == "said"
        with pytest.raises(trio_ws.ConnectionClosed) as caught:
            while True:
                await slow.receive()
        assert caught.value.code == 1008
        nursery.cancel_scope.cancel()


async def test_it_serves_its_page_and_says_how_it_is() -> None:
    async with serving() as chat:
        for path, expected in (("/", b"<!doctype html>"), ("/page.js", b'"use strict"'), ("/page.css", b":root")):
            answer = await chat.get(path)
            assert status(answer) == 200
            assert body(answer).startswith(expected)
        assert [status(await chat.get(path)) for path in ("/healthz", "/readyz", "/page.py")] == [200, 200, 404]


async def test_sigterm_drains_and_says_goodbye() -> None:
    async with serving("--drain", "60") as chat, trio_ws.open_websocket(chat.url("Ada")) as ada:
        await heard(ada, kind="welcome")
        chat.process.send_signal(signal.SIGTERM)
        while status(await chat.get("/readyz")) == 200:
            pass
        assert status(await chat.get("/healthz")) == 200
        await ada.send("still here")
        assert (await heard(ada, kind="said"))["text"] == "still here"
        chat.process.send_signal(signal.SIGTERM)  # long enough
        assert await ada.wait_closed() == trio_ws.CloseInfo(1001, "", was_clean=True)
        assert await chat.ended() == 0
