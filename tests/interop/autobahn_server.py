"""The echo server that the Autobahn cases are run against; ``run_autobahn.py`` starts it."""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial

import trio

import trio_ws

# Cases 9.3 and 9.4 send one message of 4 MiB in up to 65,536 fragments; 9.1 and 9.2 go up to 16 MiB.
LIMITS = trio_ws.Limits(
    max_message_size=64 * 2**20,
    max_fragments=None,
    receive_buffer=64 * 2**20,
    send_buffer=2**20,
)


async def echo(request: trio_ws.WebSocketRequest) -> None:
    """Send every message back until the client closes or breaks a rule, which most cases do."""
    try:
        async with request.accept() as websocket:
            async for message in websocket:
                await websocket.send(message)
    except trio_ws.ConnectionClosed:
        pass


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    return parser.parse_args()


def main() -> None:
    """Serve until the process is ended."""
    arguments = parse_arguments()
    logging.basicConfig(stream=sys.stderr)
    serve = partial(
        trio_ws.serve_websocket,
        limits=LIMITS,
        keepalive=None,
        # The runner counts a case of 13.* as failed when a short answer comes uncompressed.
        compression=trio_ws.Compression(threshold=0),
    )
    trio.run(serve, echo, arguments.host, arguments.port)


if __name__ == "__main__":
    main()
