"""The examples of the pages on subprotocols, mTLS, memory, and a page on the port of its WebSocket."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import trio_ws

from ..raw import body, read_all, status

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TIMEOUT = 60.0  # seconds


def run(name: str, *arguments: str) -> list[str]:
    """Run an example to its end and return the lines that it printed."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True).stdout.splitlines()


def test_the_preferred_subprotocol_is_spoken() -> None:
    assert run("subprotocols.py") == [
        'weather.v2 {"celsius": 21}',
        "weather.v1 21",
        "400 offer one of weather.v2, weather.v1",
    ]


def test_a_client_is_known_by_its_certificate() -> None:
    assert run("mutual_tls.py") == ["hello, Ada", "401 show a certificate"]


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_the_memory_of_a_connection_is_measured() -> None:
    lines = run("memory_use.py", "50")
    figures = [re.fullmatch(r"([a-z ]+): (\d+\.\d) KiB", line) for line in lines]
    assert [figure and figure[1] for figure in figures] == [
        "default",
        "no context takeover",
        "smallest windows",
        "no compression",
    ]
    # What a window costs, and that without one less is held, is far above what an allocator blurs.
    assert figures[0] is not None
    assert figures[3] is not None
    assert float(figures[0][2]) > float(figures[3][2])


async def test_a_page_and_its_websocket_share_a_port() -> None:
    command = [sys.executable, str(EXAMPLES / "one_port.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, trio.fail_after(TIMEOUT):  # noqa: ASYNC220
        try:
            assert process.stdout is not None
            origin = (await trio.to_thread.run_sync(process.stdout.readline)).strip().rstrip("/")
            place = origin.removeprefix("http://")
            host, _, port = place.rpartition(":")
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                await stream.send_all(f"GET / HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
                answer = await read_all(stream)
            assert status(answer) == 200
            assert b"new WebSocket" in body(answer)
            async with trio_ws.open_websocket(f"ws://{place}/clock", origin=origin) as ws:
                assert [await ws.receive(), await ws.receive()] == ["0 s", "1 s"]
            for path, sent in (("/clock", "http://elsewhere.example"), ("/other", origin)):
                with pytest.raises(trio_ws.HandshakeRejected) as caught:
                    async with trio_ws.open_websocket(f"ws://{place}{path}", origin=sent):
                        pytest.fail("it was let in")
                assert caught.value.status == (403 if path == "/clock" else 404)
        finally:
            process.kill()
