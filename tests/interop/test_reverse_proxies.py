"""The configurations for nginx and Caddy that the documentation shows, with the server of its page on deployment."""

from __future__ import annotations

import re
import shutil
import signal
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import trio

import trio_ws

from .peers import HOST, TIMEOUT, TLS, require
from .test_deployment import ended, free_port, started, until_it_listens

pytestmark = pytest.mark.interop

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SERVER = [sys.executable, str(EXAMPLES / "deployed_server.py")]
# What keeps nginx in this test's folder.
IN_FOLDER = """http {{
    access_log off;
    client_body_temp_path {0}/body;
    proxy_temp_path {0}/proxy;
    fastcgi_temp_path {0}/fastcgi;
    uwsgi_temp_path {0}/uwsgi;
    scgi_temp_path {0}/scgi;
"""


def command_of(name: str, configuration: Path, folder: Path) -> list[str]:
    if name == "nginx.conf":
        program = shutil.which("nginx", path="/usr/sbin") or require("nginx")
        return [
            program,
            "-e",
            "stderr",
            "-g",
            f"daemon off; master_process off; pid {folder}/pid;",
            "-c",
            str(configuration),
        ]
    return [require("caddy"), "run", "--adapter", "caddyfile", "--config", str(configuration)]


@pytest.mark.parametrize("allow_h2", [False, True])
@pytest.mark.parametrize("name", ["nginx.conf", "Caddyfile"])
async def test_a_server_behind_it_may_stop(
    name: str, allow_h2: bool, tls: TLS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where Caddy keeps its state
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    port, *servers = (free_port() for _ in range(3))
    text = (EXAMPLES / "deploy" / name).read_text().replace("http {\n", IN_FOLDER.format(tmp_path))
    ports = {"8443": str(port), "8080": str(servers[0]), "8081": str(servers[1])}
    assert all(told in text for told in ports)
    # In one pass: a port that was put in may have the digits of another.
    text = re.sub("|".join(ports), lambda found: ports[found[0]], text)
    configuration = tmp_path / name
    configuration.write_text(
        text.replace("/etc/nginx/site.pem", str(tls.identity)).replace("/etc/caddy/site.pem", str(tls.identity))
    )
    url = f"wss://{HOST}:{port}/"
    with ExitStack() as stack, trio.fail_after(TIMEOUT):
        first, second = [stack.enter_context(started(*SERVER, str(number))) for number in servers]
        for number in servers:
            await until_it_listens(number)
        stack.enter_context(started(*command_of(name, configuration, tmp_path)))
        await until_it_listens(port)
        async with (
            trio_ws.Agent(allow_h2=allow_h2, ssl_context=tls.client_context) as agent,
            trio.open_nursery() as nursery,
        ):
            connect = partial(trio_ws.connect_websocket, nursery, url, dispatcher=agent)
            websockets = [await connect(origin=url.replace("wss", "https").rstrip("/")) for _ in range(4)]
            for websocket in websockets:
                await websocket.send("hello" * 1000)
                assert await websocket.receive() == "hello" * 1000
                assert websocket.http_version == "1.1"
                assert websocket.extensions.startswith("permessage-deflate")
            with pytest.raises(trio_ws.HandshakeRejected) as caught:
                await connect(origin="https://elsewhere")
            assert caught.value.status == 403
            first.send_signal(signal.SIGTERM)
            assert await ended(first) == 0
            alive = []
            for websocket in websockets:
                try:
                    await websocket.send("still here?")
                    assert await websocket.receive() == "still here?"
                    alive.append(websocket)
                except trio_ws.ConnectionClosed as closed:
                    assert closed.code == 1001  # noqa: PT017
            assert len(alive) == 2  # two were on each
            for _ in range(4):  # who comes now is let in, by the other one
                alive.append(await connect())
                await alive[-1].send("hello")
                assert await alive[-1].receive() == "hello"
            second.send_signal(signal.SIGTERM)
            for websocket in alive:
                assert (await websocket.wait_closed()).code == 1001
