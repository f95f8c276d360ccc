"""The examples of the pages on operation: probes, draining, metrics and traces."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import trio_ws

from ..raw import body, read_all, status

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TIMEOUT = 60.0  # seconds


@contextmanager
def serving(name: str, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run an example that serves; give the URL that it printed."""
    command = [sys.executable, str(EXAMPLES / name), "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


async def get(url: str, path: str) -> bytes:
    """Ask a server for a page."""
    place = url.removeprefix("ws://").rstrip("/")
    host, _, port = place.rpartition(":")
    async with await trio.open_tcp_stream(host, int(port)) as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        return await read_all(stream)


async def test_a_pod_drains_before_it_says_goodbye() -> None:
    with serving("probes.py", "600") as (url, process), trio.fail_after(TIMEOUT):
        assert [status(await get(url, path)) for path in ("/healthz", "/readyz", "/")] == [200, 200, 404]
        async with trio_ws.open_websocket(url) as ws:
            process.send_signal(signal.SIGTERM)
            while status(await get(url, "/readyz")) == 200:
                pass
            assert status(await get(url, "/healthz")) == 200
            async with trio_ws.open_websocket(url) as late:
                await late.send("sent here before the cluster knew")
                assert await late.receive() == "sent here before the cluster knew"
            process.send_signal(signal.SIGTERM)
            assert (await ws.wait_closed()).code == 1012
        assert await trio.to_thread.run_sync(partial(process.wait, TIMEOUT)) == 0


async def test_a_pod_stops_without_draining_too() -> None:
    with serving("probes.py") as (url, process), trio.fail_after(TIMEOUT):
        async with trio_ws.open_websocket(url) as ws:
            process.send_signal(signal.SIGTERM)
            assert (await ws.wait_closed()).code == 1012
        assert await trio.to_thread.run_sync(partial(process.wait, TIMEOUT)) == 0


@pytest.mark.parametrize("name", ["kubernetes.yaml", "traefik.yaml", "haproxy.cfg"])
async def test_the_server_answers_what_they_ask(name: str) -> None:
    text = (EXAMPLES / "deploy" / name).read_text()
    paths = set(re.findall(r"(?:path:|httpchk GET) (/\w+)", text))
    assert paths
    with serving("probes.py") as (url, _), trio.fail_after(TIMEOUT):
        assert {path: status(await get(url, path)) for path in paths} == dict.fromkeys(paths, 200)


async def test_prometheus_is_told() -> None:
    with serving("prometheus_metrics.py") as (url, _), trio.fail_after(TIMEOUT):
        async with trio_ws.open_websocket(url) as ws:
            await ws.send("hello")
            await ws.receive()
            assert 'websocket_open{http="1.1"} 1.0' in body(await get(url, "/metrics")).decode()
            await ws.aclose(4321)
        while 'websocket_closed_total{code="application"} 1.0' not in (
            text := body(await get(url, "/metrics")).decode()
        ):
            pass  # it has not heard of the end yet
        assert 'websocket_open{http="1.1"} 0.0' in text
        assert "websocket_seconds_count 1.0" in text
        assert 'websocket_messages_total{way="received"} 1.0' in text
        assert 'websocket_messages_total{way="sent"} 1.0' in text
        assert status(await get(url, "/")) == 404


def test_opentelemetry_is_told() -> None:
    command = [sys.executable, str(EXAMPLES / "opentelemetry_spans.py")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True)
    span = json.loads(done.stdout)
    assert span["name"] == "websocket"
    assert span["kind"] == "SpanKind.SERVER"
    assert span["end_time"] >= span["start_time"]
    told = span["attributes"]
    assert told["url.path"] == "/chat"
    assert (told["websocket.close.code"], told["websocket.messages.received"], told["websocket.messages.sent"]) == (
        1000,
        1,
        1,
    )
    assert "secret" not in done.stdout
