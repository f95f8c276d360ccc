"""What is logged: under ``trio_ws`` only, and whatever a peer sends, escaped and cut."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path

import pytest
import trio

import trio_ws
from trio_ws import WebSocketError, WebSocketRequest

from ..raw import request

PACKAGE = Path(trio_ws.__file__).parent
EVIL = "\x1b[2J\r\n2026-01-01 CRITICAL root: forged " + "x" * 5000


def logging_calls() -> list[tuple[str, ast.Call]]:
    """Find every call on a logger in the package."""
    return [
        (path.name, node)
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "logger"
        and node.func.attr in ("debug", "info", "warning", "error", "exception", "critical", "log")
    ]


def test_every_call_escapes_and_cuts_what_it_logs() -> None:
    calls = logging_calls()
    assert len(calls) >= 9
    for name, call in calls:
        if name == "frame_log.py":
            continue  # which cuts and escapes by itself: tests/websocket/test_frame_log.py
        form = call.args[0]
        assert isinstance(form, ast.Constant), f"{name}:{call.lineno} makes its own text"
        placeholders = re.findall(r"%[^a-z%]*[a-z%]", str(form.value))
        assert set(placeholders) <= {"%.256r", "%d", "%.3g"}, f"{name}:{call.lineno} logs with {placeholders}"


def test_every_logger_is_below_ours() -> None:
    names = [name for path in PACKAGE.rglob("*.py") for name in re.findall(r'getLogger\("(.*?)"', path.read_text())]
    assert len(names) >= 4
    assert [name for name in names if not name.startswith("trio_ws.")] == []


async def ask(port: int, data: bytes) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(data)
        with trio.move_on_after(5):
            while await stream.receive_some(65536):
                pass


async def test_a_hostile_peer_forges_no_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def handler(request: WebSocketRequest) -> None:
        if request.path == "/silent":
            return
        if request.path == "/broken":
            raise ZeroDivisionError
        async with request.accept() as websocket:
            await websocket.receive()
            await websocket.receive()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_ws.serve_websocket, handler, "127.0.0.1", 0)
        port = server.port
        await ask(port, f"GET /{EVIL} HTTP/1.1\r\n\r\n".encode())
        await ask(port, request(first="GET /\x1b[2J\x9b HTTP/1.1"))
        await ask(port, request(first="GET /silent?" + "x" * 5000 + " HTTP/1.1"))
        await ask(port, request(first="GET /broken?\x7f HTTP/1.1"))
        await ask(port, request(first="GET /broken?%1b" + "x" * 5000 + " HTTP/1.1"))
        await ask(port, request("Origin: http://\x1b[2J.example"))
        await ask(port, request("Origin: http://" + "e" * 5000 + ".example"))
        await ask(port, request("Sec-WebSocket-Version: " + "9" * 500))
        await ask(port, request("Sec-WebSocket-Protocol: \u00fc\x1b"))
        await ask(port, b"\x16\x03\x01" + bytes(range(256)))
        url = f"ws://127.0.0.1:{port}/"
        with pytest.raises(WebSocketError, match="bye"):
            async with trio_ws.open_websocket(url):
                raise WebSocketError("bye", close_code=4000, reason="\x1b[2J\r\nCRITICAL forged")
        await server.aclose()
    ours = [record for record in caplog.records if record.name.startswith("trio_ws.")]
    assert {record.name for record in ours} == {record.name for record in caplog.records}
    assert len(ours) >= 6
    for record in ours:
        message = record.getMessage()
        assert message.isprintable(), message
        assert len(message) < 700, len(message)
    assert any("CRITICAL forged" in record.getMessage() for record in ours)
