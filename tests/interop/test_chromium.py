"""A page in headless Chromium and our server: over ws, and over wss by HTTP/1.1 and by HTTP/2."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlencode

import pytest
import trio
import trustme

import trio_ws

from .peers import CHOSEN_PROTOCOL, HERE, HOST, TIMEOUT, require

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.interop

PAGE = (HERE / "chromium" / "page.html").read_bytes()
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--ignore-certificate-errors",
)
EVERY_CHECK = ("echo", "many", "protocol", "ping", "closing", "answers", "refusal", "stream")
EUROS = "€" * 41  # 123 bytes
ANSWERS = [
    *((1005, ""), (1000, ""), (1000, "bye"), (3000, EUROS), (4999, "x" * 123), (4000, "\ufffd")),
    *((1005, ""), (4000, ""), (1000, EUROS), (1000, "no code")),  # of a WebSocketStream
]


class Site:
    """A server of ours that serves the page, and what it sees of the page's connections."""

    def __init__(self) -> None:
        self.ended: dict[str, list[tuple[str, trio_ws.CloseInfo]]] = {}
        self.connections: set[str] = set()
        self._told, self.told = trio.open_memory_channel[dict[str, object]](1)

    async def answer(self, request: trio_ws.HTTPRequest) -> trio_ws.HTTPResponse:
        """Serve the page, and take what it tells."""
        path, _, query = request.target.partition("?")
        if path == "/tell":
            self._told.send_nowait(json.loads(unquote(query)))
            return trio_ws.HTTPResponse(204)
        if path == "/":
            return trio_ws.HTTPResponse(200, [("Content-Type", "text/html")], PAGE)
        return trio_ws.HTTPResponse(404)

    async def handle(self, request: trio_ws.WebSocketRequest) -> None:
        """Do what the path says, and note how it ended."""
        path = request.target
        if path == "/reject":
            await request.reject(403)
            return
        protocol = CHOSEN_PROTOCOL if CHOSEN_PROTOCOL in request.protocols else None
        async with request.accept(protocol) as websocket:
            self.connections.add(str(websocket.remote_address))
            with suppress(trio_ws.ConnectionClosedError):  # the page closes with codes of its own
                await converse(websocket, path)
            closed = await websocket.wait_closed()
            self.ended.setdefault(path, []).append((websocket.http_version, closed))


async def converse(websocket: trio_ws.WebSocket, path: str) -> None:
    """Do what a path stands for."""
    if path in ("/echo", "/many"):
        async for message in websocket:
            await websocket.send(message)
    elif path == "/ping":
        assert 0 <= await websocket.ping(b"are you there") < TIMEOUT
        await websocket.send("ponged")
        await websocket.aclose()
    elif path == "/close":
        await websocket.aclose(4001, "the server says goodbye")


@asynccontextmanager
async def serving(
    site: Site,
    *,
    ssl_context: ssl.SSLContext | None = None,
    origins: tuple[str | None, ...] | None = None,
    allow_h2: bool = True,
) -> AsyncIterator[str]:
    """Run the site; gives what follows the scheme in its URL. Without origins the default applies."""
    serve = partial(trio_ws.serve_websocket, http_handler=site.answer, allow_h2=allow_h2)
    if origins is not None:
        serve = partial(serve, origins=origins)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve, site.handle, HOST, 0, ssl_context)
        yield f"{HOST}:{server.port}"
        await server.aclose()  # waits for the handlers: each has noted how its connection ended
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def browsing(url: str, profile: Path) -> AsyncIterator[None]:
    """Have Chromium show a page as long as the block."""
    process = await trio.lowlevel.open_process(
        [require("chromium", "chromium-browser", "google-chrome"), *FLAGS, f"--user-data-dir={profile}", url],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        # The browser has processes of its own: they are one group.
        os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()


async def told_by_page(
    site: Site, page: str, websockets: str, checks: tuple[str, ...], profile: Path
) -> dict[str, object]:
    """Show the page of a site, have it make the checks, and return what it tells."""
    query = urlencode({"url": websockets, "checks": ",".join(checks)})
    async with browsing(f"{page}/?{query}", profile):
        return await site.told.receive()


def server_context() -> ssl.SSLContext:
    """TLS for the loopback, with a certificate that nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(HOST).configure_cert(context)
    return context


@pytest.mark.parametrize(("scheme", "http_version"), [("ws", "1.1"), ("wss", "1.1"), ("wss", "2")])
async def test_a_page_and_our_server_understand_each_other(scheme: str, http_version: str, tmp_path: Path) -> None:
    site = Site()
    context = server_context() if scheme == "wss" else None
    with trio.fail_after(TIMEOUT):
        async with serving(site, ssl_context=context, allow_h2=http_version == "2") as place:
            page = f"{scheme.replace('ws', 'http')}://{place}"
            told = await told_by_page(site, page, f"{scheme}://{place}", EVERY_CHECK, tmp_path)
    assert told == {
        "echo": {
            "unequal": [],
            "extensions": "permessage-deflate",
            "code": 4002,
            "reason": "so long €",
            "wasClean": True,
        },
        "many": 20,
        "protocol": {"chosen": CHOSEN_PROTOCOL, "code": 1005, "reason": "", "wasClean": True},
        "ping": "ponged",
        "closing": {"code": 4001, "reason": "the server says goodbye", "wasClean": True},
        "answers": [
            {"code": code, "reason": reason} | ({"wasClean": True} if number < 6 else {})
            for number, (code, reason) in enumerate(ANSWERS)
        ],
        "refusal": {"opened": False, "code": 1006, "reason": "", "wasClean": False},
        "stream": {"unequal": [], "closeCode": 4002, "reason": "so long €"},
    }
    said_4002 = trio_ws.CloseInfo(4002, "so long €", was_clean=True)
    no_code = trio_ws.CloseInfo(1005, "", was_clean=True)
    ends = {
        "/echo": [said_4002, no_code, said_4002],
        "/many": [no_code] * 20,
        "/ping": [trio_ws.CloseInfo(1000, "", was_clean=True)],
        "/close": [trio_ws.CloseInfo(4001, "the server says goodbye", was_clean=True)],
        "/answer": [trio_ws.CloseInfo(code, reason, was_clean=True) for code, reason in ANSWERS],
    }
    # Over HTTP/2 all of them came on the connection that had brought the page.
    assert site.ended == {path: [(http_version, closed) for closed in each] for path, each in ends.items()}
    assert len(site.connections) == (1 if http_version == "2" else 35)


async def test_a_page_of_another_origin_is_refused(tmp_path: Path) -> None:
    page, other = Site(), Site()
    with trio.fail_after(TIMEOUT):
        async with serving(page) as place, serving(other) as other_place:
            told = await told_by_page(page, f"http://{place}", f"ws://{other_place}", ("refusal", "protocol"), tmp_path)
            with pytest.raises(trio_ws.HandshakeRejected) as caught:
                async with trio_ws.open_websocket(f"ws://{other_place}/echo", origin=f"http://{place}"):
                    pytest.fail("another origin was taken")
    assert told == {
        "refusal": {"opened": False, "code": 1006, "reason": "", "wasClean": False},
        "protocol": "Error: /echo did not open",
    }
    assert caught.value.status == 403
    assert other.ended == {}


async def test_a_page_of_a_permitted_origin_is_taken(tmp_path: Path) -> None:
    page, other = Site(), Site()
    with trio.fail_after(TIMEOUT):
        async with serving(page) as place, serving(other, origins=(f"http://{place}",)) as other_place:
            told = await told_by_page(page, f"http://{place}", f"ws://{other_place}", ("protocol",), tmp_path)
    assert told == {"protocol": {"chosen": CHOSEN_PROTOCOL, "code": 1005, "reason": "", "wasClean": True}}
    assert other.ended == {"/echo": [("1.1", trio_ws.CloseInfo(1005, "", was_clean=True))]}
