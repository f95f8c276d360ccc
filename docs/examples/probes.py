"""A server that Kubernetes asks how it is, and stops: ``python probes.py 8080 [SECONDS]``.

SECONDS is how long it goes on after SIGTERM, not ready, so that nobody new is sent to it when it stops listening.
"""

from __future__ import annotations

import signal
import sys
from functools import partial

import trio

import trio_ws


class Service:
    """An echo, and what it says about itself.

    Attributes:
        ready: whether somebody new may be sent here.
    """

    def __init__(self) -> None:
        self.ready = True

    async def handle(self, request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as ws:
            async for message in ws:
                await ws.send(message)

    async def answer(self, request: trio_ws.HTTPRequest) -> trio_ws.HTTPResponse:
        match request.path:
            case "/healthz":  # the process runs: it is not to be killed
                return trio_ws.HTTPResponse(200)
            case "/readyz":
                return trio_ws.HTTPResponse(200 if self.ready else 503)
            case _:
                return trio_ws.HTTPResponse(404)


async def main(port: int, drain: float) -> None:
    service = Service()
    # Probes come from the node, to the pod's address: any host.
    serve = partial(trio_ws.serve_websocket, http_handler=service.answer, close_timeout=5)
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            server: trio_ws.WebSocketServer = await nursery.start(serve, service.handle, None, port)
            print(f"ws://127.0.0.1:{server.port}/", flush=True)
            if await anext(signals) == signal.SIGTERM:
                service.ready = False
                with trio.move_on_after(drain):
                    await anext(signals)  # a second signal ends the draining
            await server.aclose(1012, "moving to another pod")


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
