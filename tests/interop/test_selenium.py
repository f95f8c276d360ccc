"""Selenium's CDP code, unchanged, drives headless Chromium over trio_ws as it does over trio-websocket."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from .peers import HERE, require

pytestmark = pytest.mark.interop

SCRIPT = HERE / "python" / "selenium_cdp.py"
PAGE = 'data:text/html,<script>for (const word of ["one", "two", "three"]) console.log(word)</script>'
MODULES = {"trio_ws": "trio_ws.compat.trio_websocket", "trio_websocket": "trio_websocket._impl"}


@pytest.mark.parametrize("client", MODULES)
def test_selenium_drives_chromium(client: str) -> None:
    chromium, driver = require("chromium"), require("chromedriver")
    if importlib.util.find_spec("selenium") is None and os.environ.get("CI") != "true":
        pytest.skip("selenium is not installed")
    command = [sys.executable, str(SCRIPT), client, chromium, driver, PAGE]
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=90, check=True)
    found = json.loads(done.stdout)
    assert found.pop("product").startswith("Chrome/")
    assert found == {
        "client": MODULES[client],
        "messages": ["one", "two", "three"],
        "big": 3_000_000,
        "closed": [1000, "NORMAL_CLOSURE"],
    }
