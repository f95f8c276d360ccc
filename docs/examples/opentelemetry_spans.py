"""A span of OpenTelemetry for each connection, printed to standard output: ``python opentelemetry_spans.py``.

It needs opentelemetry-sdk. A program sends its spans to a collector with OTLPSpanExporter in place of the console's.
"""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import trio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

import trio_ws


class Spans(trio_ws.Instrument):
    """A span from the opening of each connection to its end."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._spans: WeakKeyDictionary[trio_ws.WebSocket, trace.Span] = WeakKeyDictionary()

    def websocket_open(self, websocket: trio_ws.WebSocket) -> None:
        # The path alone: a query may hold a token.
        attributes = {
            "url.path": urlsplit(websocket.url).path,
            "network.protocol.version": websocket.http_version,
            "client.address": str(websocket.remote_address),
        }
        self._spans[websocket] = self._tracer.start_span("websocket", kind=trace.SpanKind.SERVER, attributes=attributes)

    def socket_error(self, websocket: trio_ws.WebSocket, error: BaseException) -> None:
        self._spans[websocket].record_exception(error)
        self._spans[websocket].set_status(trace.StatusCode.ERROR)

    def websocket_close(self, websocket: trio_ws.WebSocket, info: trio_ws.CloseInfo) -> None:
        span = self._spans.pop(websocket)
        counted = websocket.statistics()
        span.set_attribute("websocket.close.code", info.code)
        span.set_attribute("websocket.messages.received", counted.messages_received)
        span.set_attribute("websocket.messages.sent", counted.messages_sent)
        span.end()


async def echo(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept() as ws:
        async for message in ws:
            await ws.send(message)


async def main() -> None:
    provider = TracerProvider()
    # One that exports in a thread of its own, BatchSpanProcessor, is right for a server: instruments must not block.
    provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
    serve = partial(trio_ws.serve_websocket, instruments=[Spans(provider.get_tracer("chat"))])
    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(serve, echo, "127.0.0.1", 0)
        async with trio_ws.open_websocket(f"ws://127.0.0.1:{server.port}/chat?token=secret") as ws:
            await ws.send("hello")
            await ws.receive()
        await server.aclose()
    provider.shutdown()


if __name__ == "__main__":
    trio.run(main)
