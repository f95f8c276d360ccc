"""Programs of other libraries beside ours: they print the same."""

from __future__ import annotations

import builtins
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import trio_ws
import trio_ws.testing

ROOT = Path(__file__).parents[2]
PROGRAMS = ROOT / "docs" / "examples" / "coming_from"
PRINTED = "chat\nhello\n4000 as you wish\n"
TIMEOUT = 60.0  # seconds


@pytest.mark.parametrize("name", ["trio_ws_program.py", "websockets_program.py", "aiohttp_program.py"])
def test_each_program_prints_the_same(name: str) -> None:
    done = subprocess.run([sys.executable, PROGRAMS / name], stdout=subprocess.PIPE, text=True, timeout=TIMEOUT)
    assert (done.returncode, done.stdout) == (0, PRINTED)


async def test_events_come_as_in_a_browser() -> None:
    program = importlib.import_module("docs.examples.coming_from.trio_ws_program")
    async with trio_ws.testing.open_test_server(program.handler, tls=False, protocols=["chat"]) as server:
        command = [sys.executable, str(PROGRAMS / "as_in_a_browser.py"), server.url]
        with trio.fail_after(TIMEOUT):
            done = await trio.run_process(command, capture_stdout=True)
    assert done.stdout.decode() == PRINTED


@pytest.mark.parametrize("page", ["coming-from-websockets", "coming-from-aiohttp", "coming-from-browser"])
def test_the_names_of_ours_exist(page: str) -> None:
    text = (ROOT / "docs" / "howto" / f"{page}.md").read_text()
    ours = " ".join(line.split(" | ")[1] for line in text.splitlines() if line.startswith("| ") and " | " in line)
    names = set(re.findall(r"`ws\.(\w+)", ours))
    assert names
    assert [name for name in names if not hasattr(trio_ws.WebSocket, name)] == []
    classes = set(re.findall(r"`([A-Z]\w+)[`(]", ours))
    assert classes
    assert [name for name in classes if not hasattr(trio_ws, name) and not hasattr(builtins, name)] == []
