"""Two servers of the chat, HAProxy in front and Redis behind them: ``python -m chat.demo``, in the folder above.

It needs ``haproxy`` and ``redis-server``, and from PyPI coredis and trustme. One WebSocket is opened on each server, by
HAProxy; what the one says the other hears. Then the chat is open to a browser until Ctrl-C; ``--once`` ends it there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import sys
import tempfile
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio
import trustme

import trio_ws

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = Path(__file__).parent
HAPROXY = HERE.parent / "deploy" / "haproxy.cfg"
HOST = "127.0.0.1"
PORT = 8443  # the one that HAProxy's configuration names
STARTING = 15.0  # seconds for each program


def find(program: str) -> str:
    """Find a program, also where Debian puts those of administrators."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        sys.exit(f"{program} is not installed")
    return found


def free_port(preferred: int = 0) -> int:
    """Give a port that nobody listens on, the preferred one if it is free."""
    for port in (preferred, 0):
        with suppress(OSError), socket.create_server((HOST, port)) as sock:
            return int(sock.getsockname()[1])
    raise OSError("there is no free port")


@asynccontextmanager
async def running(name: str, command: list[str], port: int) -> AsyncIterator[trio.Process]:
    """Run a program as long as the block, which begins when it listens; SIGTERM ends it."""
    print(f"{name:8} on port {port}", flush=True)
    with tempfile.TemporaryFile() as log:
        # A session of its own: Ctrl-C is for us, and we end them one after the other.
        process = await trio.lowlevel.open_process(
            command, stdout=log, stderr=log, cwd=HERE.parent, start_new_session=True
        )
        try:
            with trio.fail_after(STARTING):
                while True:
                    with suppress(OSError):
                        await (await trio.open_tcp_stream(HOST, port)).aclose()
                        break
                    if process.poll() is not None:
                        log.seek(0)
                        sys.exit(f"{name} ended:\n{log.read().decode(errors='replace')}")
                    await trio.sleep(0.02)
            yield process
        finally:
            process.terminate()
            with trio.move_on_after(10, shield=True):
                await process.wait()
            process.kill()


async def receive_kind(ws: trio_ws.WebSocket, kind: str) -> dict[str, object]:
    """Receive events up to one of a kind."""
    while True:
        event: dict[str, object] = json.loads(await ws.receive())
        if event["kind"] == kind:
            return event


async def show_a_message_cross(port: int, context: ssl.SSLContext) -> None:
    """Have Ada and Grace talk, each on a server of her own."""
    url = f"wss://{HOST}:{port}/rooms/lobby?name="
    async with (
        trio_ws.open_websocket(url + "Ada", ssl_context=context) as ada,
        trio_ws.open_websocket(url + "Grace", ssl_context=context) as grace,
    ):
        for name, ws in (("Ada", ada), ("Grace", grace)):
            server = (await receive_kind(ws, "welcome"))["server"]
            assert isinstance(server, dict)
            print(f"{name} is on process {server['process']}", flush=True)
        while (await receive_kind(ada, "people"))["people"] != ["Ada", "Grace"]:
            pass  # her server has not heard of Grace yet
        await ada.send("hello from the other process")
        said = await receive_kind(grace, "said")
        print(f"Grace hears {said['who']} say: {said['text']}", flush=True)


def write_configuration(folder: Path, authority: trustme.CA, port: int, servers: list[int]) -> None:
    """Write what HAProxy needs: the certificate, and the example of the page on deployment with the ports of today."""
    certificate = folder / "site.pem"
    authority.issue_cert(HOST, "localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    configuration = HAPROXY.read_text().replace("/etc/haproxy/site.pem", str(certificate))
    for told, actual in ((":8443 ", f":{port} "), (":8080\n", f":{servers[0]}\n"), (":8081\n", f":{servers[1]}\n")):
        configuration = configuration.replace(told, actual)
    (folder / "haproxy.cfg").write_text(configuration)


async def main(*, once: bool) -> None:
    """Start everything, show that it works, and wait for Ctrl-C."""
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    port, redis, *servers = (free_port(preferred) for preferred in (PORT, 6379, 8080, 8081))
    with tempfile.TemporaryDirectory() as folder:
        write_configuration(Path(folder), authority, port, servers)
        chat = [sys.executable, "-m", "chat.server", "--redis", f"redis://{HOST}:{redis}"]
        store = [find("redis-server"), "--bind", HOST, "--port", str(redis), "--save", "", "--dir", folder]
        front = [find("haproxy"), "-db", "-q", "-f", f"{folder}/haproxy.cfg"]
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with (
                running("Redis", store, redis),
                running("server", [*chat, str(servers[0])], servers[0]),
                running("server", [*chat, str(servers[1])], servers[1]),
                running("HAProxy", front, port),
            ):
                with trio.fail_after(STARTING):
                    await show_a_message_cross(port, context)
                if not once:
                    print(f"https://{HOST}:{port}/ until Ctrl-C; the browser will warn of the certificate", flush=True)
                    async for _ in signals:
                        break


if __name__ == "__main__":
    trio.run(partial(main, once="--once" in sys.argv))
