"""The commands over HTTP/2: told to, they speak it or fail; a server speaks both."""

from __future__ import annotations

import json
import ssl
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

from trio_ws import serve_websocket
from trio_ws._cli.running import Failure

from ..serving import echo as handler
from .program import HOST, run_command, standard_input
from .servers import echo, start_server, told

if TYPE_CHECKING:
    from trio_ws import WebSocketServer


async def start_with_tls(nursery: trio.Nursery, ca_file: Path, *, allow_h2: bool) -> tuple[str, WebSocketServer]:
    """Serve with TLS, put the authority into a file; give the URL and the server."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    server = await nursery.start(partial(serve_websocket, handler, HOST, 0, context, allow_h2=allow_h2))
    return f"wss://{HOST}:{server.port}/", server


async def test_connect_begins_with_it_in_the_clear(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    url = await start_server(nursery, echo)
    async with standard_input(b"hello\n"):
        assert await run_command("connect", url, "--http2", "--wait", "0.2") == 0
    output = capfd.readouterr()
    assert output.out == "< hello\n"
    assert output.err.startswith(f"connected to {url} (HTTP/2, ")


@pytest.mark.parametrize("arguments", [(), ("--http2",)])
async def test_connect_agrees_on_it_in_tls_when_it_is_told_to(
    arguments: tuple[str, ...], nursery: trio.Nursery, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ca_file = tmp_path / "ca.pem"
    url, server = await start_with_tls(nursery, ca_file, allow_h2=True)
    async with standard_input(b"hello\n"):
        assert await run_command("connect", url, "--ca-file", str(ca_file), "--wait", "0.2", *arguments) == 0
    assert told(capfd)[0] == "< hello\n"
    assert server.statistics().http2.streams_opened == len(arguments)


@pytest.mark.parametrize("command", ["connect", "bench"])
async def test_a_server_that_chooses_http1_is_a_failure(command: str, nursery: trio.Nursery, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    url, _ = await start_with_tls(nursery, ca_file, allow_h2=False)
    async with standard_input(b"", ends=False):
        with pytest.raises(Failure) as caught:
            await run_command(command, url, "--http2", "--ca-file", str(ca_file))
    assert str(caught.value) == f"the server of {url} speaks no WebSocket over HTTP/2: it chose HTTP/1.1"
    assert caught.value.status == 1


async def test_bench_shares_a_connection(
    nursery: trio.Nursery, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ca_file = tmp_path / "ca.pem"
    url, server = await start_with_tls(nursery, ca_file, allow_h2=True)
    arguments = ("--http2", "--ca-file", str(ca_file), "--duration", "0.3", "--connections", "20")
    assert await run_command("bench", url, "--json", *arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["http_version"], result["connections"], result["http2_connections"]) == ("2", 20, 1)
    assert result["messages"] > 0
    counted = server.statistics()
    assert (counted.http2.connections_opened, counted.http2.streams_opened) == (1, 20)
    assert await run_command("bench", url, *arguments) == 0
    assert "\n  connections     20, on 1 of HTTP/2, open after " in capsys.readouterr().out
