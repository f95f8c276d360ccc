"""Where the sweeps take place: a WebSocket of ours and a raw peer, on either side, over one of several carriers."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio
import trio.testing

import trio_ws

from ..raw_peer import RawPeer
from ..serving import LOCALHOST, serving, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    StreamPair = Callable[[], tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]]

URL = "ws://test.example/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A carrier and a side.

    Attributes:
        name: for the ids of tests.
        is_client: which side is ours.
        streams: makes the two ends; None: TCP.
    """

    name: str
    is_client: bool
    streams: StreamPair | None

    def __str__(self) -> str:
        return self.name

    @property
    def clock(self) -> Callable[[], trio.abc.Clock] | None:
        """Real time for real sockets, and none at all for the rest."""
        return None if self.streams is None else partial(trio.testing.MockClock, autojump_threshold=0.0)

    @asynccontextmanager
    async def connected(
        self, *, compression: bool = False, buffers: int | None = None, **options: object
    ) -> AsyncGenerator[tuple[trio_ws.WebSocket, RawPeer], None]:
        """Open a WebSocket of ours to a raw peer.

        Args:
            compression: whether permessage-deflate is agreed on.
            buffers: size of the socket buffers on both sides.
            options: for what opens it.
        """
        options.setdefault("keepalive", None)
        if not compression:
            options["compression"] = None
        make = self._tcp if self.streams is None else self._over_streams
        async with make(compression, buffers, options) as (websocket, peer):
            yield websocket, peer

    @asynccontextmanager
    async def _over_streams(
        self, compression: bool, buffers: int | None, options: dict[str, object]
    ) -> AsyncGenerator[tuple[trio_ws.WebSocket, RawPeer], None]:
        assert self.streams is not None
        ours, theirs = self.streams()
        peer = RawPeer(theirs, is_client=not self.is_client, compression=compression)
        async with trio.open_nursery() as nursery:
            if self.is_client:
                nursery.start_soon(peer.accept)
                websocket = await trio_ws.wrap_client_stream(nursery, ours, URL, **options)  # type: ignore[arg-type]
                await until(lambda: peer.open)
                yield websocket, peer
                await finish(websocket, peer)
            else:
                nursery.start_soon(peer.connect)
                request = await trio_ws.wrap_server_stream(nursery, ours, **options)  # type: ignore[call-overload]
                async with request.accept() as websocket:
                    await until(lambda: peer.open)
                    yield websocket, peer
                    await finish(websocket, peer)

    @asynccontextmanager
    async def _tcp(
        self, compression: bool, buffers: int | None, options: dict[str, object]
    ) -> AsyncGenerator[tuple[trio_ws.WebSocket, RawPeer], None]:
        make = self._tcp_client if self.is_client else self._tcp_server
        async with make(compression, buffers, options) as (websocket, peer):
            yield websocket, peer
            await finish(websocket, peer)

    @staticmethod
    @asynccontextmanager
    async def _tcp_client(
        compression: bool, buffers: int | None, options: dict[str, object]
    ) -> AsyncGenerator[tuple[trio_ws.WebSocket, RawPeer], None]:
        (listener,) = await trio.open_tcp_listeners(0, host=LOCALHOST)
        shrink(listener.socket, buffers)
        async with listener, trio.open_nursery() as nursery:
            peers: list[RawPeer] = []

            async def accept() -> None:
                peers.append(RawPeer(await listener.accept(), is_client=False, compression=compression))
                await peers[0].accept()

            nursery.start_soon(accept)
            url = f"ws://{LOCALHOST}:{listener.socket.getsockname()[1]}/"
            websocket = await trio_ws.connect_websocket(nursery, url, **options)  # type: ignore[arg-type]
            await until(lambda: peers[0].open)
            if buffers is not None:
                shrink(websocket._connection.transport._sock, buffers)  # type: ignore[attr-defined]
            yield websocket, peers[0]

    @staticmethod
    @asynccontextmanager
    async def _tcp_server(
        compression: bool, buffers: int | None, options: dict[str, object]
    ) -> AsyncGenerator[tuple[trio_ws.WebSocket, RawPeer], None]:
        given: list[trio_ws.WebSocket] = []

        async def handler(request: trio_ws.WebSocketRequest) -> None:
            async with request.accept() as websocket:
                given.append(websocket)
                await websocket.wait_closed()

        serve = partial(trio_ws.serve_websocket, handler, LOCALHOST, 0, **options)  # type: ignore[arg-type]
        async with serving(serve) as server:
            shrink(server.listeners[0].socket, buffers)
            sock = trio.socket.socket()
            shrink(sock, buffers)  # before it connects: a window that was promised is not taken back
            await sock.connect((LOCALHOST, server.port))
            peer = RawPeer(trio.SocketStream(sock), is_client=True, compression=compression)
            await peer.connect()
            yield given[0], peer


async def finish(websocket: trio_ws.WebSocket, peer: RawPeer) -> None:
    """Close on both sides."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.finish)
        await websocket.aclose()


def shrink(sock: trio.socket.SocketType | socket.socket, size: int | None) -> None:
    """Give a socket, and those that it accepts, small buffers."""
    if size is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def _scenes() -> list[Scene]:
    carriers: dict[str, StreamPair | None] = {
        "tcp": None,
        "memory": trio.testing.memory_stream_pair,
        "lockstep": trio.testing.lockstep_stream_pair,
    }
    return [
        Scene(name=f"{carrier}-{side}", is_client=side == "client", streams=streams)
        for carrier, streams in carriers.items()
        for side in ("client", "server")
    ]


SCENES = _scenes()
TCP_SCENES = [scene for scene in SCENES if scene.streams is None]
