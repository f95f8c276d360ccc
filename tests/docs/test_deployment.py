"""The page on deployment: the server that it shows, started, restarted and stopped as it says."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import trio_ws

from ..activation import activated
from ..raw import CLOSE, PING, read_frame, read_head, request, status

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SERVER = [sys.executable, str(EXAMPLES / "deployed_server.py")]
HOST = "127.0.0.1"
TIMEOUT = 60.0  # seconds; nothing here takes a quarter of it
CLOSE_TIMEOUT = 5.0  # seconds, the example's
MANY = 1000


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return (await trio.to_thread.run_sync(process.stdout.readline)).strip()


async def ended(process: subprocess.Popen[str]) -> int:
    return await trio.to_thread.run_sync(partial(process.wait, TIMEOUT))


def starvation(process: subprocess.Popen[str], *, at_end: bool) -> float:
    """Tell for how many seconds a process was ready to run in vain, because others had the cores."""
    if at_end:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]) / 1e9


async def test_it_serves_on_the_sockets_of_systemd() -> None:
    with socket.create_server((HOST, 0)) as sock, activated(SERVER, sock) as process, trio.fail_after(TIMEOUT):
        # Before it listens: whoever calls now waits.
        async with trio_ws.open_websocket(f"ws://{HOST}:{sock.getsockname()[1]}/") as websocket:
            assert await url_of(process) == websocket.url
            await websocket.send("hello")
            assert await websocket.receive() == "hello"
            process.send_signal(signal.SIGTERM)
            assert (await websocket.wait_closed()).code == 1001
        assert await ended(process) == 0


async def test_it_drains_a_thousand_connections_and_one_that_is_mute() -> None:
    """reliability: each sees 1001, nobody is let in any more, and it ends in time whatever a peer does."""
    codes: list[int] = []

    async def wait(websocket: trio_ws.WebSocket) -> None:
        codes.append((await websocket.wait_closed()).code)

    with started(*SERVER, "0") as process, trio.fail_after(TIMEOUT):
        url = await url_of(process)
        port = int(url.rpartition(":")[2].strip("/"))
        mute = await trio.open_tcp_stream(HOST, port)
        await mute.send_all(request())
        assert status(await read_head(mute)) == 101
        async with trio.open_nursery() as nursery:
            for _ in range(MANY):
                websocket = await trio_ws.connect_websocket(nursery, url, compression=None, keepalive=None)
                nursery.start_soon(wait, websocket)
            starved = starvation(process, at_end=False)
            process.send_signal(signal.SIGTERM)
            started_at = time.monotonic()
            while (told := await read_frame(mute))[0] == PING:  # it takes that long on a busy machine
                pass
            assert told == (CLOSE, (1001).to_bytes(2, "big"))
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST, port)).close()
        assert codes == [1001] * MANY
        starved = await trio.to_thread.run_sync(partial(starvation, process, at_end=True)) - starved
        assert time.monotonic() - started_at - starved < CLOSE_TIMEOUT + 1
        assert await ended(process) == 0
        await mute.aclose()


class Caller:
    """A client that keeps connecting, one connection after the other."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.served = 0
        self.failures: list[Exception] = []

    async def run(self) -> None:
        while True:
            try:
                async with trio_ws.open_websocket(self._url) as websocket:
                    await websocket.send("hello")
                    assert await websocket.receive() == "hello"
                self.served += 1
            # Connections that the restart closes with 1012 were let in: that is no failure to connect.
            except trio_ws.ConnectionClosed as closed:
                if closed.code != 1012:
                    self.failures.append(closed)
            except (OSError, trio_ws.HandshakeError) as error:
                self.failures.append(error)

    async def serve_more(self) -> None:
        """Wait until ten more were served."""
        wanted = self.served + 10
        while self.served < wanted:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def restart(caller: Caller, url: str, old: subprocess.Popen[str], new: subprocess.Popen[str]) -> None:
    """Hand over from the old server to the new one, while the caller calls and somebody stays connected."""
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caller.run)
            await caller.serve_more()
            assert await url_of(new) == url
            old.send_signal(signal.SIGHUP)
            assert await ended(old) == 0
            await caller.serve_more()
            nursery.cancel_scope.cancel()


async def test_a_restart_on_a_socket_that_stays_refuses_nobody() -> None:
    with socket.create_server((HOST, 0), backlog=1024) as sock, activated(SERVER, sock) as old:
        url = await url_of(old)
        async with trio_ws.open_websocket(url) as stays:
            caller = Caller(url)
            with activated(SERVER, sock) as new:
                await restart(caller, url, old, new)
            assert caller.failures == []
            assert (await stays.wait_closed()).code == 1012


async def test_a_restart_between_two_processes_with_nobody_listening_makes_them_wait() -> None:
    """As ``systemctl restart`` does it: the new process starts when the old one has ended."""
    with socket.create_server((HOST, 0), backlog=1024) as sock, trio.fail_after(TIMEOUT):
        with activated(SERVER, sock) as old:
            caller = Caller(await url_of(old))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(caller.run)
                await caller.serve_more()
                old.send_signal(signal.SIGHUP)
                assert await ended(old) == 0
                with activated(SERVER, sock):
                    await caller.serve_more()
                    nursery.cancel_scope.cancel()
        assert caller.failures == []


async def test_a_restart_on_a_shared_port_refuses_nobody() -> None:
    with started(*SERVER, "--reuse-port", "0") as old:
        url = await url_of(old)
        port = url.rpartition(":")[2].strip("/")
        caller = Caller(url)
        with started(*SERVER, "--reuse-port", port) as new:
            await restart(caller, url, old, new)
        # Who calls in the microseconds between the last accept() and close() is reset, as the page tells.
        assert [error for error in caller.failures if not isinstance(error, ConnectionResetError)] == []
        assert len(caller.failures) <= 1


async def test_several_processes_share_one_socket() -> None:
    command = [sys.executable, str(EXAMPLES / "processes.py"), "0", "2"]
    processes: set[str | None] = set()
    with started(*command) as parent, trio.fail_after(TIMEOUT):
        url = await url_of(parent)
        while len(processes) < 2:
            async with trio_ws.open_websocket(url) as websocket:
                processes.add(websocket.response_headers["X-Process"])
        async with trio_ws.open_websocket(url) as websocket:
            parent.send_signal(signal.SIGTERM)
            assert (await websocket.wait_closed()).code == 1001
        assert await ended(parent) == 0
    assert str(os.getpid()) not in processes
