"""What ``trio-ws demo`` shows of HTTP/2: the same WebSockets over HTTP/1.1 and over HTTP/2, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .. import Agent, connect_websocket
from .._util.nursery import BackgroundNursery

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from .. import WebSocket, WebSocketServer
    from .terminal import Screen

COUNT = 50  # WebSockets over each version
_COLUMN = 16


async def show_http2(
    screen: Screen, check: Callable[[bool, str], None], server: WebSocketServer, url: str, context: ssl.SSLContext
) -> None:
    """Open WebSockets over each version, have each echo a message of its own, and count connections at the server."""
    screen.heading(f"{COUNT} WebSockets over HTTP/1.1, and {COUNT} over HTTP/2 (RFC 8441)")
    opened: dict[str, float] = {}
    echoed: dict[str, float] = {}
    connections: dict[str, int] = {}
    streams = server.statistics().http2.streams_opened
    for version in ("1.1", "2"):
        async with Agent(allow_h2=version == "2", ssl_context=context) as agent, BackgroundNursery() as nursery:
            started_at = trio.current_time()
            websockets = [await connect_websocket(nursery, url, dispatcher=agent) for _ in range(COUNT)]
            opened[version] = trio.current_time() - started_at
            started_at = trio.current_time()
            await _echo_all(websockets, check)
            echoed[version] = trio.current_time() - started_at
            check({websocket.http_version for websocket in websockets} == {version}, f"not all speak HTTP/{version}")
            connections[version] = len({websocket.remote_address for websocket in server.connections})
            for websocket in websockets:
                await websocket.aclose()
    check(connections == {"1.1": COUNT, "2": 1}, f"the server counted {connections} connections")
    streams = server.statistics().http2.streams_opened - streams
    check(streams == COUNT, f"the server counted {streams} HTTP/2 streams")
    screen.line(f"  {'':<{_COLUMN}}{'HTTP/1.1':<{_COLUMN}}HTTP/2")
    screen.fact("connections", f"{connections['1.1']:<{_COLUMN}}{connections['2']}, as the server counts them")
    for name, times in (("all open after", opened), ("all echo within", echoed)):
        before, after = (f"{times[version] * 1000:.1f} ms" for version in ("1.1", "2"))
        screen.fact(name, f"{before:<{_COLUMN}}{after}")


async def _echo_all(websockets: list[WebSocket], check: Callable[[bool, str], None]) -> None:
    """Have all messages on their way at once."""
    messages = [f"from WebSocket {number}" for number in range(COUNT)]
    for websocket, message in zip(websockets, messages, strict=True):
        await websocket.send(message)
    for websocket, message in zip(websockets, messages, strict=True):
        echo = await websocket.receive()
        check(echo == message, f"the echo of {message!r} differs over HTTP/{websocket.http_version}")
