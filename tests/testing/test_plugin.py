"""The pytest plugin, in runs of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PAIR = """
async def test_pair(websocket_pair):
    client, server = websocket_pair
    await client.send("to the server")
    assert await server.receive() == "to the server"
"""
SERVER = """
import trio_ws

async def test_server(websocket_server):
    async def handler(request):
        async with request.accept() as ws:
            async for message in ws:
                await ws.send(message)

    async with websocket_server(handler, tls=False) as server:
        async with trio_ws.open_websocket(server.url) as ws:
            await ws.send("to the server")
            assert await ws.receive() == "to the server"
"""


def run_pytest(folder: Path, text: str, *arguments: str, trio_mode: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the tests of one module, with the plugin loaded by name: the package may not be installed."""
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text(f"[pytest]\ntrio_mode = {str(trio_mode).lower()}\npythonpath = {ROOT}\n")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-p", "trio_ws_pytest", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.mark.parametrize("trio_mode", [True, False])
def test_the_fixtures_with_and_without_trio_mode(tmp_path: Path, trio_mode: bool) -> None:
    text = PAIR + SERVER
    if not trio_mode:
        text = "import pytest\n" + text.replace("async def test", "@pytest.mark.trio\nasync def test")
    run = run_pytest(tmp_path, text, trio_mode=trio_mode)
    assert run.returncode == 0, run.stdout
    for name in ("test_pair[http/1.1]", "test_pair[http/2]", "test_server"):
        assert f"::{name} PASSED" in run.stdout
    assert "WebSocket frames" not in run.stdout


@pytest.mark.parametrize("text", [PAIR, SERVER])
def test_a_test_that_fails_shows_the_frames_of_both_sides(tmp_path: Path, text: str) -> None:
    run = run_pytest(tmp_path, text.replace('== "to the server"', '== "elsewhere"'))
    assert run.returncode == 1
    assert "WebSocket frames" in run.stdout
    assert " > TEXT fin masked 13 bytes b'to the server'" in run.stdout
    assert " < TEXT fin masked 13 bytes b'to the server'" in run.stdout
    assert "Captured log call" not in run.stdout


def test_caplog_of_the_test_is_left_alone(tmp_path: Path) -> None:
    text = "def test(websocket_frames, caplog):\n    import logging, trio_ws\n"
    text += "    logging.getLogger('trio_ws.frames').debug('a line')\n    assert not caplog.records\n"
    run = run_pytest(tmp_path, text)
    assert run.returncode == 0, run.stdout


def test_lines_that_the_test_asks_for_reach_caplog(tmp_path: Path) -> None:
    text = "def test(websocket_frames, caplog):\n    import logging\n"
    text += "    caplog.set_level(logging.DEBUG, 'trio_ws.frames')\n"
    text += "    logging.getLogger('trio_ws.frames').debug('a line')\n    assert caplog.messages == ['a line']\n"
    run = run_pytest(tmp_path, text)
    assert run.returncode == 0, run.stdout


def test_a_level_that_shows_the_lines_already_is_left_alone(tmp_path: Path) -> None:
    text = "import logging\nlogger = logging.getLogger('trio_ws.frames')\nlogger.setLevel(logging.DEBUG)\n\n"
    text += "def test(caplog, websocket_frames):\n    assert logger.level == logging.DEBUG\n"
    text += "    logger.debug('one line')\n    assert caplog.messages == ['one line']\n    raise LookupError\n"
    run = run_pytest(tmp_path, text)
    assert "LookupError" in run.stdout
    assert run.stdout.index("WebSocket frames") < run.stdout.rindex("one line")


def test_a_run_that_does_not_use_it_imports_nothing_of_trio_ws(tmp_path: Path) -> None:
    text = "import sys\n\ndef test():\n    assert not {'trio_ws', 'trio', 'h2'} & set(sys.modules)\n"
    run = run_pytest(tmp_path, text, "-p", "no:trio", "-p", "no:hypothesispytest", "-p", "no:anyio")
    assert run.returncode == 0, run.stdout
