"""aethonan, a server in Rust, with an ASGI application that obeys, for HTTP/2."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any

from aethonan.constants import HTTPModes, Interfaces
from aethonan.http import HTTP2Settings
from aethonan.server.embed import Server

from tests.benchmarks.orders import Hands, Socket, obey
from tests.benchmarks.peer_hypercorn import Closed, receive_message, send_message
from tests.benchmarks.subjects import HOST, Task, say


async def say_when_listening(port: int) -> None:
    """Tell the port once connections are taken: the server itself does not say when."""
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            say(port)
            return


async def main(task: Task) -> None:
    """Serve, and obey."""
    hands = Hands()

    async def application(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI's callables
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        await obey(Socket(partial(receive_message, receive), partial(send_message, send)), hands, Closed)

    assert task.certificate is not None
    with socket.create_server((HOST, 0)) as free:  # it takes a number, and no socket
        port = free.getsockname()[1]
    server = Server(
        application,
        address=HOST,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http2,
        http2_settings=HTTP2Settings(max_concurrent_streams=200),
        log_enabled=False,
        ssl_cert=task.certificate,
        ssl_key=task.certificate,
    )
    await asyncio.gather(server.serve(), say_when_listening(port))
