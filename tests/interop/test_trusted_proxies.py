"""Behind HAProxy and nginx, on loopback with the public Host: who the client is, and what its lies come to."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import trio_ws

from .peers import HOST, TIMEOUT, require

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.interop

CLIENT = "127.0.0.2"  # all of 127.0.0.0/8 is this machine; the proxies connect from 127.0.0.1
LIES = [
    ("X-Forwarded-For", "192.0.2.1"),
    ("X-Forwarded-Proto", "https"),
    ("Forwarded", "for=192.0.2.1;proto=https"),
]

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 60s
frontend public
    bind 127.0.0.1:{port}
    {lines}
    default_backend chat
backend chat
    server one 127.0.0.1:{server}
"""
X_FORWARDED = """
    option forwardfor
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    http-request del-header Forwarded
"""
FORWARDED = """
    http-request add-header Forwarded for=%[src];proto=%[ssl_fc,iif(https,http)]
    http-request del-header X-Forwarded-For
    http-request del-header X-Forwarded-Proto
"""
CARELESS = "option forwardfor"  # it passes the client's own Forwarded on

NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{server};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header Forwarded "";
        }}
    }}
}}
"""


@asynccontextmanager
async def running(name: str, template: str, server: int, folder: Path, lines: str = "") -> AsyncIterator[int]:
    """Run a proxy in front of a server; gives its port."""
    program = shutil.which(name, path="/usr/sbin") or require(name)
    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    port: int = listener.socket.getsockname()[1]
    await listener.aclose()
    configuration = folder / f"{name}.conf"
    configuration.write_text(template.format(port=port, server=server, folder=folder, lines=lines))
    arguments = ["-db", "-f", str(configuration)] if name == "haproxy" else ["-e", "stderr", "-c", str(configuration)]
    process = await trio.lowlevel.open_process([program, *arguments], stdin=subprocess.DEVNULL)
    try:
        with trio.fail_after(TIMEOUT):
            while True:
                try:
                    await (await trio.open_tcp_stream(HOST, port)).aclose()
                    break
                except OSError:
                    await trio.sleep(0.02)
        yield port
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await process.wait()


@pytest.mark.parametrize(
    ("name", "template", "lines", "believed"),
    [
        pytest.param("haproxy", HAPROXY, X_FORWARDED, CLIENT, id="HAProxy, X-Forwarded-For"),
        pytest.param("haproxy", HAPROXY, FORWARDED, CLIENT, id="HAProxy, Forwarded"),
        pytest.param("haproxy", HAPROXY, CARELESS, HOST, id="HAProxy that passes a lie on"),
        pytest.param("nginx", NGINX, "", CLIENT, id="nginx"),
    ],
)
async def test_a_lie_gets_nobody_anothers_address(
    name: str, template: str, lines: str, believed: str, tmp_path: Path
) -> None:
    seen: list[tuple[object, str]] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            assert isinstance(websocket.remote_address, tuple)
            seen.append((websocket.remote_address[0], websocket.url))
            await websocket.wait_closed()

    serve = partial(trio_ws.serve_websocket, handler, HOST, 0, trusted_proxies=[HOST])
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve)
            async with running(name, template, server.port, tmp_path, lines) as port:
                stream = await trio.open_tcp_stream(HOST, port, local_address=CLIENT)
                websocket = await trio_ws.wrap_client_stream(
                    nursery, stream, "ws://chat.example/", headers=LIES, origin="http://chat.example"
                )
                await websocket.aclose()
            await server.aclose()
    assert seen == [(believed, "ws://chat.example/")]
