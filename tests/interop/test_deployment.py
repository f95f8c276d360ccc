"""The page on deployment beside the programs that it names: HAProxy in front, and systemd's socket activation."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

import trio_ws

from .peers import HOST, TIMEOUT, require

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.interop

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
UNITS = EXAMPLES / "deploy"
SERVER = [sys.executable, str(EXAMPLES / "deployed_server.py")]


def free_port() -> int:
    with socket.create_server((HOST, 0)) as sock:
        return int(sock.getsockname()[1])


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def ended(process: subprocess.Popen[str]) -> int:
    return await trio.to_thread.run_sync(partial(process.wait, TIMEOUT))


async def until_it_listens(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            await (await trio.open_tcp_stream(HOST, port)).aclose()
            return
        await trio.sleep(0.02)


def haproxy() -> str:
    """Find HAProxy, which Debian puts where only root's path looks."""
    found = shutil.which("haproxy", path="/usr/sbin")
    return found or require("haproxy")


class Front:
    """HAProxy with two of the example's servers behind it."""

    def __init__(self, url: str, context: ssl.SSLContext, servers: dict[int, subprocess.Popen[str]]) -> None:
        self.url = url
        self.context = context
        self.servers = servers


@asynccontextmanager
async def in_front(folder: Path, *, to_servers_http2: bool = False) -> AsyncIterator[Front]:
    authority = trustme.CA()
    certificate = folder / "site.pem"
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(certificate))
    port, *servers = (free_port() for _ in range(3))
    configuration = (UNITS / "haproxy.cfg").read_text()
    for example, actual in (
        ("/etc/haproxy/site.pem", str(certificate)),
        (":8443", f":{port}"),
        (":8080\n", f":{servers[0]}{' proto h2' * to_servers_http2}\n"),
        (":8081\n", f":{servers[1]}{' proto h2' * to_servers_http2}\n"),
    ):
        assert example in configuration
        configuration = configuration.replace(example, actual)
    path = folder / "haproxy.cfg"
    path.write_text(configuration)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with ExitStack() as stack:
        processes = {number: stack.enter_context(started(*SERVER, str(number))) for number in servers}
        for number in servers:
            await until_it_listens(number)
        stack.enter_context(started(haproxy(), "-db", "-q", "-f", str(path)))
        await until_it_listens(port)
        yield Front(f"wss://{HOST}:{port}/", context, processes)


@pytest.mark.parametrize("to_servers_http2", [False, True])
@pytest.mark.parametrize("to_front_http2", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_server_behind_haproxy_may_stop(
    number: signal.Signals, to_front_http2: bool, to_servers_http2: bool, tmp_path: Path
) -> None:
    with trio.fail_after(TIMEOUT):
        async with (
            in_front(tmp_path, to_servers_http2=to_servers_http2) as front,
            trio_ws.Agent(allow_h2=to_front_http2, ssl_context=front.context) as agent,
            trio.open_nursery() as nursery,
        ):
            origin = front.url.replace("wss", "https").rstrip("/")
            connect = partial(trio_ws.connect_websocket, nursery, front.url, dispatcher=agent)
            websockets = [await connect(origin=origin) for _ in range(4)]
            for websocket in websockets:
                await websocket.send("hello" * 1000)
                assert await websocket.receive() == "hello" * 1000
                assert websocket.http_version == ("2" if to_front_http2 else "1.1")
                assert websocket.extensions.startswith("permessage-deflate")
            first, second = front.servers.values()
            first.send_signal(number)
            assert await ended(first) == 0
            # By leastconn two were on each: those on the other one go on.
            gone, alive = [], []
            for websocket in websockets:
                try:
                    await websocket.send("still here?")
                    assert await websocket.receive() == "still here?"
                    alive.append(websocket)
                except trio_ws.ConnectionClosed as closed:
                    gone.append(closed.code)
            assert gone == [1001 if number == signal.SIGTERM else 1012] * 2
            # Who comes now is let in, by the other one.
            for _ in range(4):
                alive.append(await connect())
                await alive[-1].send("hello")
                assert await alive[-1].receive() == "hello"
            second.send_signal(signal.SIGTERM)
            for websocket in alive:
                assert (await websocket.wait_closed()).code == 1001


async def test_haproxy_takes_a_page_from_elsewhere_no_further_than_we_do(tmp_path: Path) -> None:
    with trio.fail_after(TIMEOUT):
        async with in_front(tmp_path) as front:
            with pytest.raises(trio_ws.HandshakeRejected) as caught:
                async with trio_ws.open_websocket(front.url, ssl_context=front.context, origin="https://elsewhere"):
                    raise AssertionError("it was let in")
            assert caught.value.status == 403


def test_the_units_are_well_formed() -> None:
    units = [str(UNITS / name) for name in ("chat.socket", "chat.service")]
    done = subprocess.run(
        [require("systemd-analyze"), "verify", "--man=no", *units], capture_output=True, text=True, timeout=TIMEOUT
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_systemd_hands_over_its_socket() -> None:
    port = free_port()
    command = [require("systemd-socket-activate"), f"--listen={HOST}:{port}", *SERVER]
    with started(*command) as process, trio.fail_after(TIMEOUT):
        await until_it_listens(port)  # the first one who calls has the server started
        async with trio_ws.open_websocket(f"ws://{HOST}:{port}/") as websocket:
            await websocket.send("hello")
            assert await websocket.receive() == "hello"
            process.send_signal(signal.SIGTERM)
            assert (await websocket.wait_closed()).code == 1001
        assert await ended(process) == 0
