"""The page that ``trio-ws serve`` shows: in a real browser, which keeps to the page's own policy."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from .peers import HERE, require

pytestmark = pytest.mark.interop

SCRIPT = HERE / "python" / "serve_page.py"


def test_the_page_talks_to_its_server() -> None:
    chromium, driver = require("chromium"), require("chromedriver")
    if importlib.util.find_spec("selenium") is None and os.environ.get("CI") != "true":
        pytest.skip("selenium is not installed")
    serve = [sys.executable, "-m", "trio_ws", "serve", "--port", "0"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().decode().removeprefix("listening on ws").strip()
            command = [sys.executable, str(SCRIPT), chromium, driver, f"http{url}path?query"]
            done = subprocess.run(command, stdout=subprocess.PIPE, timeout=90, check=True)
        finally:
            server.terminate()
    found = json.loads(done.stdout)
    connected = f"connected to ws{url}path?query"
    assert [line.strip() for line in found["lines"]] == [
        connected,
        "closed: 1000",
        "< hello <b>",
        "> hello <b>",
        connected,
    ]
    assert found["log"] == []  # nothing that the policy refused
