"""Our server over HTTP/2 with the npm package ``undici`` as a client: its WebSocket and its WebSocketStream."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

import trio_ws

from ..serving import echo, serving
from .contract import OurServer, Pings
from .contract_http2 import OurServerShares
from .peers import CHOSEN_PROTOCOL, HERE, HOST, PROTOCOLS, REJECTION, TIMEOUT, TLS, Peer, Program

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop


def undici(node_modules: Path, undici_modules: Path, tls: TLS, *arguments: str, script: str = "undici_peer.js") -> Peer:
    """The peer, on the Node.js that it needs."""
    node = str(undici_modules / ".bin" / "node")
    return Program(
        command=(node, "--no-warnings", str(HERE / "node" / script), *arguments),
        environment={"NODE_PATH": f"{undici_modules}:{node_modules}"},
        tls=tls,
        http_version="2",
    )


class Undici(OurServer, OurServerShares):
    """What both of undici's interfaces do."""

    async def test_a_rejection_has_status_header_and_body(self, peer: Peer) -> None:
        """Undici shows nothing of it."""
        status, body = REJECTION

        async def handler(request: trio_ws.WebSocketRequest) -> None:
            await request.reject(status, body=body.encode())

        assert await self.told_by_a_client(peer, handler) == {"failed": True}


class TestWebSocket(Undici, Pings):
    """Against ``WebSocket``, with ``ping``."""

    @pytest.fixture
    def peer(self, node_modules: Path, undici_modules: Path, tls: TLS) -> Peer:
        """The peer."""
        return undici(node_modules, undici_modules, tls)


class TestWebSocketStream(Undici):
    """Against ``WebSocketStream``."""

    @pytest.fixture
    def peer(self, node_modules: Path, undici_modules: Path, tls: TLS) -> Peer:
        """The peer."""
        return undici(node_modules, undici_modules, tls, "--stream")

    async def test_subprotocol_and_headers_reach_the_other_side(self, peer: Peer) -> None:
        """It takes and shows no headers."""
        with trio.fail_after(TIMEOUT):
            async with self.connected(peer, "hello") as (websocket, _):
                assert json.loads(await websocket.receive()) == {"protocol": CHOSEN_PROTOCOL}
                assert (websocket.protocol, websocket.http_version) == (CHOSEN_PROTOCOL, "2")

    async def test_the_request_is_told(self, peer: Peer) -> None:
        """It takes no headers."""
        with trio.fail_after(TIMEOUT):
            async with self.connected(peer, "echo") as (websocket, _):
                assert websocket.request_headers["Sec-WebSocket-Protocol"].replace(" ", "") == ",".join(PROTOCOLS)


async def test_a_place_is_free_as_soon_as_a_websocket_has_closed(
    node_modules: Path, undici_modules: Path, tls: TLS
) -> None:
    """As many are open as the server takes; each that closes makes room for the next, while its handler runs on."""

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        await echo(request)
        await trio.sleep(0.3)

    peer = undici(node_modules, undici_modules, tls, script="undici_replace.js")
    serve = partial(trio_ws.serve_websocket, handler, HOST, 0, tls.server_context)
    with trio.fail_after(TIMEOUT):
        async with (
            serving(serve) as server,
            peer.connecting(f"{peer.url_of(server.port)}/", "--sockets=100") as output,
        ):
            assert await output.line() == {"refused": 0, "lost": 0}
            counts = server.statistics().http2
            assert (counts.connections_opened, counts.streams_opened, counts.streams_refused) == (1, 200, 0)
