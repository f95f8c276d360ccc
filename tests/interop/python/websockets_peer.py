"""The ``websockets`` library as a peer, over asyncio or trio; ``tests/interop/peers.py`` says what a peer does."""

from __future__ import annotations

import argparse
import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING

import trio
import websockets.asyncio.client
import websockets.asyncio.server
import websockets.trio.client
import websockets.trio.server
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

if TYPE_CHECKING:
    from websockets.asyncio.connection import Connection as AsyncioConnection
    from websockets.http11 import Request, Response
    from websockets.trio.connection import Connection as TrioConnection

PROTOCOLS = [Subprotocol("chat.v2"), Subprotocol("chat.v1")]
HEADERS = {"X-Test": "from the peer"}
MAX_SIZE = 2**21  # for a frame: 1 MiB of noise gets longer when it is compressed


def say(**facts: object) -> None:
    """Write one line for the test."""
    print(json.dumps(facts), flush=True)


async def close(websocket: AsyncioConnection | TrioConnection, code: int, reason: str) -> None:
    """Close."""
    if isinstance(websocket, websockets.asyncio.connection.Connection):
        await websocket.close(code, reason)
    else:
        await websocket.aclose(code, reason)


async def ping(websocket: AsyncioConnection | TrioConnection, payload: str) -> None:
    """Send a ping and wait for its pong."""
    if isinstance(websocket, websockets.asyncio.connection.Connection):
        await (await websocket.ping(payload))
    else:
        await (await websocket.ping(payload)).wait()


async def begin(websocket: AsyncioConnection | TrioConnection, scenario: str, header: str | None) -> None:
    """Do what the scenario asks for before the echo."""
    if scenario == "hello":
        await websocket.send(json.dumps({"protocol": websocket.subprotocol, "header": header}))
    elif scenario == "where":
        await websocket.send("{}")  # each has a connection of its own
    elif scenario == "fragments":
        await websocket.send(["déjà", "", " vu €5 ", "\N{GRINNING FACE}"])
        await websocket.send([bytes(range(100)), bytes(range(100, 256))])
    elif scenario == "ping":
        await ping(websocket, "are you there")
        await websocket.send("pong: are you there")
    elif scenario == "big":
        await websocket.send("x" * 2000)
    elif scenario == "close":
        await close(websocket, 4001, "the peer says goodbye")
    elif scenario == "bye":
        await close(websocket, 1000, "")


async def behave(websocket: AsyncioConnection | TrioConnection, scenario: str, header: str | None) -> None:
    """Play one scenario to its end."""
    try:
        await begin(websocket, scenario, header)
        async for message in websocket:
            await websocket.send(message)
    except ConnectionClosed:
        pass
    say(code=websocket.close_code, reason=websocket.close_reason)


async def serve_connection(
    websocket: websockets.asyncio.server.ServerConnection | websockets.trio.server.ServerConnection,
) -> None:
    """Play the scenario that the path names."""
    assert websocket.request is not None
    await behave(websocket, websocket.request.path.strip("/"), websocket.request.headers.get("X-Test"))


def answer(
    websocket: websockets.asyncio.server.ServerConnection | websockets.trio.server.ServerConnection, request: Request
) -> Response | None:
    """Refuse what is to be refused."""
    return websocket.respond(HTTPStatus.FORBIDDEN, "no way") if request.path == "/reject" else None


def choose(_: object, offered: object) -> Subprotocol | None:
    """Choose the second protocol."""
    assert isinstance(offered, list | tuple)
    return PROTOCOLS[1] if PROTOCOLS[1] in offered else None


def add_header(_: object, __: Request, response: Response) -> None:
    """Add our header."""
    response.headers.update(HEADERS)


async def serve_on_asyncio(compression: str | None) -> None:
    """Serve for ever."""
    async with websockets.asyncio.server.serve(
        serve_connection,
        "127.0.0.1",
        0,
        compression=compression,
        max_size=MAX_SIZE,
        process_request=answer,
        process_response=add_header,
        select_subprotocol=choose,
    ) as server:
        say(port=next(iter(server.sockets)).getsockname()[1])
        await server.serve_forever()


async def serve_on_trio(compression: str | None) -> None:
    """Serve for ever."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def serve(task_status: trio.TaskStatus[object]) -> None:
            await websockets.trio.server.serve(
                serve_connection,
                listeners=listeners,
                compression=compression,
                max_size=MAX_SIZE,
                process_request=answer,
                process_response=add_header,
                select_subprotocol=choose,
                task_status=task_status,
            )

        await nursery.start(serve)
        say(port=listeners[0].socket.getsockname()[1])


async def connect_on_asyncio(url: str, scenario: str, compression: str | None) -> None:
    """Play one scenario as a client."""
    async with websockets.asyncio.client.connect(
        url, compression=compression, max_size=MAX_SIZE, subprotocols=PROTOCOLS, additional_headers=HEADERS, proxy=None
    ) as websocket:
        assert websocket.response is not None
        await behave(websocket, scenario, websocket.response.headers.get("X-Test"))


async def connect_on_trio(url: str, scenario: str, compression: str | None) -> None:
    """Play one scenario as a client."""
    async with websockets.trio.client.connect(
        url, compression=compression, max_size=MAX_SIZE, subprotocols=PROTOCOLS, additional_headers=HEADERS, proxy=None
    ) as websocket:
        assert websocket.response is not None
        await behave(websocket, scenario, websocket.response.headers.get("X-Test"))


def main() -> None:
    """Be the peer that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loop", choices=["asyncio", "trio"])
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("url", nargs="?", default="")
    arguments = parser.parse_args()
    compression = None if arguments.plain else "deflate"
    scenario = arguments.url.rpartition("/")[2]
    try:
        if arguments.role == "server" and arguments.loop == "asyncio":
            asyncio.run(serve_on_asyncio(compression))
        elif arguments.role == "server":
            trio.run(serve_on_trio, compression)
        elif arguments.loop == "asyncio":
            asyncio.run(connect_on_asyncio(arguments.url, scenario, compression))
        else:
            trio.run(connect_on_trio, arguments.url, scenario, compression)
    except InvalidStatus as refusal:
        response = refusal.response
        say(
            status=response.status_code,
            header=response.headers.get("X-Test"),
            body=bytes(response.body or b"").decode(),
        )


if __name__ == "__main__":
    main()
