"""Count what a server does, for Prometheus, on its own port: ``python prometheus_metrics.py 8765``.

It needs prometheus_client.
"""

from __future__ import annotations

import sys
from functools import partial
from weakref import WeakKeyDictionary

import trio
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

import trio_ws

DURATIONS = (1, 10, 60, 600, 3600, 4 * 3600, 24 * 3600)  # seconds


class Metrics(trio_ws.Instrument):
    """What Prometheus is told of all connections that have this instrument."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._since: WeakKeyDictionary[trio_ws.WebSocket, float] = WeakKeyDictionary()
        self._open = Gauge("websocket_open", "WebSockets that are open", ["http"], registry=registry)
        # Only the codes of RFC 6455 by themselves: a client chooses its code, and each one is a series.
        self._closed = Counter("websocket_closed", "WebSockets that have ended", ["code"], registry=registry)
        self._seconds = Histogram("websocket_seconds", "How long they were open", buckets=DURATIONS, registry=registry)
        self._messages = Counter("websocket_messages", "Messages of ended WebSockets", ["way"], registry=registry)

    def websocket_open(self, websocket: trio_ws.WebSocket) -> None:
        self._since[websocket] = trio.current_time()
        self._open.labels(websocket.http_version).inc()

    def websocket_close(self, websocket: trio_ws.WebSocket, info: trio_ws.CloseInfo) -> None:
        self._open.labels(websocket.http_version).dec()
        self._closed.labels(str(info.code) if info.code < 3000 else "application").inc()
        self._seconds.observe(trio.current_time() - self._since.pop(websocket))
        counted = websocket.statistics()
        self._messages.labels("received").inc(counted.messages_received)
        self._messages.labels("sent").inc(counted.messages_sent)


async def echo(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept() as ws:
        async for message in ws:
            await ws.send(message)


async def main(port: int) -> None:
    registry = CollectorRegistry()

    async def answer(request: trio_ws.HTTPRequest) -> trio_ws.HTTPResponse:
        if request.path != "/metrics":
            return trio_ws.HTTPResponse(404)
        return trio_ws.HTTPResponse(200, {"Content-Type": CONTENT_TYPE_LATEST}, generate_latest(registry))

    serve = partial(trio_ws.serve_websocket, http_handler=answer, instruments=[Metrics(registry)])
    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(serve, echo, "127.0.0.1", port)
        print(f"ws://127.0.0.1:{server.port}/", flush=True)


if __name__ == "__main__":
    try:
        trio.run(main, int(sys.argv[1]))
    except* KeyboardInterrupt:
        pass
