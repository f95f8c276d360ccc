"""The README and the pages beside it: the programs run, and the links lead somewhere."""

from __future__ import annotations

import re
import socket
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import trio

import trio_ws

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TIMEOUT = 60.0


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        return int(listening.getsockname()[1])


async def test_the_client_talks_to_the_server() -> None:
    port = free_port()
    server, client = [
        program.replace("8765", str(port)) for program in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    ]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.run_process, [sys.executable, "-c", server]))
        with trio.fail_after(TIMEOUT):
            async for attempt in trio_ws.reconnecting(trio_ws.Backoff(base=0.1, cap=0.1)):
                with attempt:
                    async with trio_ws.open_websocket(f"ws://127.0.0.1:{port}/"):
                        break
            done = await trio.run_process([sys.executable, "-c", client], capture_stdout=True)
        assert done.stdout == b"hello\n"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_the_links_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text())
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_the_command_for_one_test_selects_one() -> None:
    command = re.search(r"\| one test \| .* -m pytest (\S+) -k (\w+)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert command is not None
    assert re.search(rf"def test_\w*{command[2]}", (ROOT / command[1]).read_text())
