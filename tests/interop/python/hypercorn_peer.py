"""``hypercorn`` as a server over HTTP/2, on asyncio; ``tests/interop/peers.py`` says what a peer does.

ASGI shows an application neither pings nor how a client closed, and has no way to refuse compression.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from typing import TYPE_CHECKING, Any

import hypercorn.asyncio
import hypercorn.config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Scope = dict[str, Any]
    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

PROTOCOLS = ("chat.v2", "chat.v1")
HEADERS = [(b"x-test", b"from the peer")]


def say(**facts: object) -> None:
    """Write one line for the test."""
    print(json.dumps(facts), flush=True)


async def begin(send: Send, scenario: str, scope: Scope) -> None:
    """Do what the scenario asks for before the echo."""
    if scenario == "hello":
        header = dict(scope["headers"]).get(b"x-test", b"").decode()
        hello = {"protocol": PROTOCOLS[1], "header": header}
        await send({"type": "websocket.send", "text": json.dumps(hello)})
    elif scenario == "where":
        await send({"type": "websocket.send", "text": json.dumps({"connection": scope["client"][1]})})
    elif scenario == "big":
        await send({"type": "websocket.send", "text": "x" * 2000})
    elif scenario == "close":
        await send({"type": "websocket.close", "code": 4001, "reason": "the peer says goodbye"})
    elif scenario == "bye":
        await send({"type": "websocket.close", "code": 1000})


async def reject(send: Send) -> None:
    """Refuse the request."""
    await send({"type": "websocket.http.response.start", "status": 403, "headers": HEADERS})
    await send({"type": "websocket.http.response.body", "body": b"no way"})


async def behave(scope: Scope, receive: Receive, send: Send) -> None:
    """Play the scenario that the path names."""
    scenario = scope["path"].rpartition("/")[2]
    await receive()
    if scenario == "reject":
        await reject(send)
        return
    chosen = PROTOCOLS[1] if PROTOCOLS[1] in scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": chosen, "headers": HEADERS})
    await begin(send, scenario, scope)
    while (message := await receive())["type"] == "websocket.receive":
        content = {kind: message[kind] for kind in ("text", "bytes") if message.get(kind) is not None}
        await send({"type": "websocket.send", **content})
    say(code=message["code"], reason="")


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer WebSockets; 404 to anything else."""
    if scope["type"] == "websocket":
        await behave(scope, receive, send)
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    else:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})


def main() -> None:
    """Serve for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    say(port=listener.getsockname()[1])
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.certfile = config.keyfile = os.environ["TLS_IDENTITY"]
    config.errorlog = None
    asyncio.run(hypercorn.asyncio.serve(application, config))  # type: ignore[arg-type]  # its TypedDicts


if __name__ == "__main__":
    main()
