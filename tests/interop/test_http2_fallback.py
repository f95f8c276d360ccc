"""Our agent with servers that take HTTP/2 for everything but WebSockets: it goes back to HTTP/1.1, and remembers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

import trio_ws

from .contract_http2 import echoes
from .haproxy import HTTP1_TLS, bridging
from .peers import HERE, HOST, TIMEOUT, TLS, Program, require
from .relay import relaying, to_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    Connect = Callable[[], Awaitable[trio.SocketStream]]

pytestmark = pytest.mark.interop

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    server {{
        listen unix:{folder}/socket ssl http2;
        ssl_certificate {identity};
        ssl_certificate_key {identity};
        location / {{
            proxy_pass http://{host}:{port};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }}
    }}
}}
"""


async def connect_to_unix(path: Path) -> trio.SocketStream:
    """Reach a server by its socket's path."""
    return await trio.open_unix_socket(path)


async def come_up(process: trio.Process, connect: Connect, log: Path) -> None:
    """Wait until a server takes connections."""
    while process.poll() is None:
        with suppress(OSError):
            await trio.aclose_forcefully(await connect())
            return
        await trio.sleep(0.05)
    pytest.fail(await trio.Path(log).read_text())


@asynccontextmanager
async def listening(command: Sequence[str], path: Path, log: Path) -> AsyncIterator[Connect]:
    """Run a server that listens on a Unix socket as long as the block; gives how to reach it."""
    with log.open("wb") as output:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        connect = partial(connect_to_unix, path)
        await come_up(process, connect, log)
        yield connect
    finally:
        # Granian has processes of its own: they are one group.
        os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()


@asynccontextmanager
async def node_without_the_setting(node_modules: Path, tls: TLS, folder: Path) -> AsyncIterator[Connect]:
    """Node's ``http2`` without ENABLE_CONNECT_PROTOCOL, which takes HTTP/1.1 too."""
    program = Program(
        command=(require("node"), str(HERE / "node" / "http2_peer.js")),
        environment={"NODE_PATH": str(node_modules), "SETTING": "off"},
        tls=tls,
    )
    async with program.serving() as (_, url):
        yield to_port(int(url.rpartition(":")[2]))


@asynccontextmanager
async def nginx(node_modules: Path, tls: TLS, folder: Path) -> AsyncIterator[Connect]:
    """Nginx in front of ``ws``."""
    environment = {"NODE_PATH": str(node_modules)}
    program = Program(command=(require("node"), str(HERE / "node" / "ws_peer.js")), environment=environment)
    async with program.serving() as (_, url):
        configuration = folder / "nginx.conf"
        port = url.rpartition(":")[2]
        configuration.write_text(NGINX.format(folder=folder, host=HOST, port=port, identity=tls.identity))
        command = [require("nginx"), "-c", str(configuration), "-p", str(folder)]
        async with listening(command, folder / "socket", folder / "log") as connect:
            yield connect


@asynccontextmanager
async def granian(node_modules: Path, tls: TLS, folder: Path) -> AsyncIterator[Connect]:
    """Granian with the application of ``hypercorn_peer.py``."""
    key = load_pem_private_key(tls.identity.read_bytes(), password=None)
    key_file = folder / "key.pem"
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    program = [sys.executable, "-m", "granian", "--interface", "asgi", "--uds", str(folder / "socket")]
    files = ["--ssl-certificate", str(tls.identity), "--ssl-keyfile", str(key_file)]
    application = ["--working-dir", str(HERE / "python"), "hypercorn_peer:application"]
    async with listening([*program, *files, *application], folder / "socket", folder / "log") as connect:
        yield connect


@asynccontextmanager
async def haproxy_without_http2(node_modules: Path, tls: TLS, folder: Path) -> AsyncIterator[Connect]:
    """HAProxy that offers nothing but HTTP/1.1, in front of ``ws``."""
    environment = {"NODE_PATH": str(node_modules)}
    program = Program(command=(require("node"), str(HERE / "node" / "ws_peer.js")), environment=environment)
    async with (
        program.serving() as (_, url),
        bridging(require("haproxy"), int(url.rpartition(":")[2]), HTTP1_TLS, folder, tls.identity) as port,
    ):
        yield to_port(port)


@pytest.mark.parametrize(
    ("serve", "wasted"),
    # Where ALPN says it, the connection is used. Where SETTINGS do, it was an HTTP/2 connection for nothing.
    [(haproxy_without_http2, 0), (node_without_the_setting, 1), (nginx, 1), (granian, 1)],
)
async def test_an_agent_goes_back_to_http1_and_remembers(
    serve: Callable[[Path, TLS, Path], AbstractAsyncContextManager[Connect]],
    wasted: int,
    node_modules: Path,
    tls: TLS,
    tmp_path: Path,
) -> None:
    with trio.fail_after(TIMEOUT):
        async with (
            serve(node_modules, tls, tmp_path) as connect,
            relaying(connect) as relay,
            trio_ws.Agent(ssl_context=tls.client_context) as agent,
            AsyncExitStack() as stack,
        ):
            url = f"wss://{HOST}:{relay.port}/echo"
            for number in (1, 2, 3):
                websocket = await stack.enter_async_context(trio_ws.open_websocket(url, dispatcher=agent))
                assert websocket.http_version == "1.1"
                assert await echoes(websocket, "é" * 100_000)
                assert relay.connections == wasted + number
