"""The example that fans messages out across processes, with a Redis server."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import trio_ws

from .peers import HOST, TIMEOUT, require

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.interop

SERVER = [sys.executable, str(Path(__file__).parents[2] / "docs" / "examples" / "fan_out.py")]
SOON = 0.2  # seconds, in which a message that must not come would have come


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def redis(port: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a Redis server that keeps nothing."""
    command = [require("redis-server"), "--bind", HOST, "--port", str(port), "--save", "", "--dir", str(folder)]
    with started(*command) as process:
        assert process.stdout is not None
        while "Ready to accept connections" not in process.stdout.readline():
            assert process.poll() is None
        yield process


@pytest.fixture
def redis_port() -> int:
    with socket.create_server((HOST, 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
async def urls(redis_port: int, tmp_path: Path) -> AsyncIterator[list[str]]:
    """Two processes of the example, and their Redis."""
    with ExitStack() as stack:
        stack.enter_context(redis(redis_port, tmp_path))
        processes = [stack.enter_context(started(*SERVER, "0", f"redis://{HOST}:{redis_port}")) for _ in range(2)]
        yield [await first_line(process) for process in processes]
        for process in processes:
            process.terminate()
        for process in processes:
            assert await trio.to_thread.run_sync(partial(process.wait, TIMEOUT)) == 0


async def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return (await trio.to_thread.run_sync(process.stdout.readline)).strip()


async def test_a_message_reaches_everyone_in_every_process(urls: list[str]) -> None:
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            everyone = [
                await trio_ws.connect_websocket(nursery, url, close_timeout=1) for url in urls for _ in range(3)
            ]
            for websocket in everyone:
                await websocket.ping()  # its handler runs
            for number, speaker in enumerate(everyone):
                await speaker.send(f"hello from {number}")
                for websocket in everyone:
                    assert await websocket.receive() == f"hello from {number}"
            await everyone[0].send(b"binary is not for this room")
            with trio.move_on_after(SOON) as nothing:
                await everyone[-1].receive()
            assert nothing.cancelled_caught
            for websocket in everyone:
                await websocket.aclose()


async def test_who_does_not_read_does_not_hold_up_the_others(urls: list[str]) -> None:
    big = "x" * 2**19
    limits = trio_ws.Limits(receive_buffer=1)
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            open_here = partial(trio_ws.connect_websocket, nursery, compression=None)
            slow = await open_here(urls[0], limits=limits)
            speaker, listener = await open_here(urls[0]), await open_here(urls[1])
            for websocket in (slow, speaker, listener):
                await websocket.ping()
            for number in range(40):  # 20 MiB: more than the buffers between the slow one and its server hold
                await speaker.send(f"{number} {big}")
                for websocket in (speaker, listener):
                    assert await websocket.receive() == f"{number} {big}"
            nursery.cancel_scope.cancel()


async def test_messages_flow_again_when_redis_was_away(redis_port: int, tmp_path: Path) -> None:
    with ExitStack() as stack, trio.fail_after(TIMEOUT):
        with redis(redis_port, tmp_path):
            process = stack.enter_context(started(*SERVER, "0", f"redis://{HOST}:{redis_port}"))
            url = await first_line(process)
            async with trio_ws.open_websocket(url) as websocket:
                await websocket.send("before")
                assert await websocket.receive() == "before"
        async with trio_ws.open_websocket(url) as listens, trio_ws.open_websocket(url) as speaks:
            await speaks.send("meanwhile")
            assert (await speaks.wait_closed()).code == 1011
            await listens.ping()
        with redis(redis_port, tmp_path):
            async with trio_ws.open_websocket(url) as websocket:
                heard = None
                while heard is None:
                    await websocket.send("after")
                    with trio.move_on_after(SOON):
                        heard = await websocket.receive()
                assert heard == "after"
