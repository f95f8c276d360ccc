"""A peer asks for a window of 2**8 bytes, to which zlib cannot keep: each side sends as it can, and reads all."""

from __future__ import annotations

from functools import partial

import trio
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory
from websockets.trio.client import connect
from websockets.trio.server import ServerConnection, serve

import trio_ws

from ..serving import echo, serving

TEXT = "words that come again, " * 500


async def send_in_pieces(websocket: trio_ws.WebSocket) -> None:
    async with websocket.send_message_stream(binary=False) as message:
        await message.send(TEXT[:5000])
        await message.send(TEXT[5000:])


async def test_a_client_sends_uncompressed_to_a_server_that_asks_for_so_small_a_window() -> None:
    lengths: list[int] = []

    async def note_and_echo(websocket: ServerConnection) -> None:
        async for message in websocket:
            lengths.append(len(message))
            await websocket.send(message)

    extension = ServerPerMessageDeflateFactory(client_max_window_bits=8)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(serve, note_and_echo, 0, host="127.0.0.1", compression=None, extensions=[extension])
        )
        (listener,) = server.listeners
        port = listener.socket.getsockname()[1]
        async with trio_ws.open_websocket(f"ws://127.0.0.1:{port}/") as websocket:
            assert websocket.extensions == "permessage-deflate; server_max_window_bits=13; client_max_window_bits=8"
            await websocket.send(TEXT, compress=True)
            assert await websocket.receive() == TEXT
            await send_in_pieces(websocket)
            assert await websocket.receive() == TEXT
            counted = websocket.statistics()
        nursery.cancel_scope.cancel()
    assert lengths == [len(TEXT)] * 2
    assert counted.bytes_sent > 2 * len(TEXT)
    assert counted.bytes_received < len(TEXT), "what the server sends is compressed"


async def test_a_server_sends_uncompressed_to_a_client_that_asks_for_so_small_a_window() -> None:
    extension = ClientPerMessageDeflateFactory(server_max_window_bits=8, client_max_window_bits=True)
    async with serving(partial(trio_ws.serve_websocket, echo, "127.0.0.1", 0)) as server:
        uri = f"ws://127.0.0.1:{server.port}/"
        async with connect(uri, compression=None, extensions=[extension]) as websocket:
            (agreed,) = websocket.protocol.extensions
            assert agreed.name == "permessage-deflate"
            await websocket.send(TEXT)
            assert await websocket.recv() == TEXT
            (ours,) = server.connections
            assert ours.extensions == "permessage-deflate; server_max_window_bits=8; client_max_window_bits=13"
            counted = ours.statistics()
    assert counted.bytes_sent > len(TEXT)
    assert counted.bytes_received < len(TEXT)
