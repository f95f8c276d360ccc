"""The browser's program of the documentation, run by Node.js, with the server that stands beside it."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import trio

from trio_ws.testing import open_test_server

from .peers import TIMEOUT, require

pytestmark = pytest.mark.interop

PROGRAM = Path(__file__).parents[2] / "docs" / "examples" / "coming_from" / "browser_program.mjs"


async def test_the_program_of_a_browser_prints_the_same() -> None:
    ours = importlib.import_module("docs.examples.coming_from.trio_ws_program")
    async with open_test_server(ours.handler, tls=False, protocols=["chat"]) as server:
        # Before version 22 Node.js has WebSocket only where it is asked for.
        command = [require("node"), "--experimental-websocket", str(PROGRAM), server.url]
        with trio.fail_after(TIMEOUT):
            done = await trio.run_process(command, capture_stdout=True)
    assert done.stdout.decode() == "chat\nhello\n4000 as you wish\n"
