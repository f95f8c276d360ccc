"""hypercorn's asyncio worker with an ASGI application that obeys, for HTTP/2."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

from tests.benchmarks.orders import Hands, Message, Socket, obey
from tests.benchmarks.subjects import BIG, HOST, Task, say


class Closed(Exception):
    """The WebSocket has ended."""


async def receive_message(receive: Any) -> Message:  # noqa: ANN401  # ASGI's callables
    """Receive the next message."""
    event = await receive()
    if event["type"] != "websocket.receive":
        raise Closed
    message: Message = event["text"] if event.get("text") is not None else event["bytes"]
    return message


async def send_message(send: Any, message: Message) -> None:  # noqa: ANN401  # ASGI's callables
    """Send one message."""
    await send({"type": "websocket.send", "text" if isinstance(message, str) else "bytes": message})


async def main(task: Task) -> None:
    """Serve, and obey."""
    hands = Hands()

    async def application(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI's callables
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        await obey(Socket(partial(receive_message, receive), partial(send_message, send)), hands, Closed)

    listener = socket.create_server((HOST, 0))
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    assert task.certificate is not None
    config.certfile = config.keyfile = str(task.certificate)
    config.websocket_max_message_size = BIG
    config.keep_alive_max_requests = BIG  # on one connection over HTTP/2
    config.loglevel = "ERROR"
    port = socket.socket(fileno=int(config.bind[0][5:]))
    say(port.getsockname()[1])
    port.detach()
    await serve(application, config, shutdown_trigger=never)


async def never() -> None:
    """Wait for ever."""
    import asyncio

    await asyncio.Event().wait()
