"""A server that a service manager starts, restarts and stops: ``python deployed_server.py [--reuse-port] [PORT]``.

It takes the sockets that systemd hands to it, or else the port. SIGTERM stops it: everyone gets Close 1001. SIGHUP ends
it because a successor has taken over: it lets go of the port, and everyone gets Close 1012, "service restart".
"""

from __future__ import annotations

import signal
import sys
from functools import partial

import trio

import trio_ws

HANDSHAKES = 0.5  # seconds for those that have begun when a successor takes over


async def echo(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept() as ws:
        async for message in ws:
            await ws.send(message)


async def hello(request: trio_ws.HTTPRequest) -> trio_ws.HTTPResponse:
    """Answer a health check."""
    return trio_ws.HTTPResponse(200, {"Content-Type": "text/plain"}, b"well\n")


async def main(port: int, *, reuse_port: bool) -> None:
    serve = partial(
        trio_ws.serve_websocket, echo, http_handler=hello, close_timeout=5, trusted_proxies=["127.0.0.1", "::1"]
    )
    sockets = trio_ws.systemd_sockets()
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            if sockets:
                server = await nursery.start(partial(serve, None, None, sockets=sockets))
            else:
                server = await nursery.start(partial(serve, "127.0.0.1", port, reuse_port=reuse_port))
            print(f"ws://127.0.0.1:{server.port}/", flush=True)
            async for number in signals:
                if number == signal.SIGHUP:
                    server.stop_listening()
                    await trio.sleep(HANDSHAKES)
                    await server.aclose(1012)
                else:
                    await server.aclose()
                break


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--reuse-port"]
    trio.run(partial(main, int(arguments[0]) if arguments else 8080, reuse_port="--reuse-port" in sys.argv))
