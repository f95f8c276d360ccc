"""One real side of a connection, and a peer that a test plays by hand; or two real sides."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from tests.connection.memory import MemoryTransport, transport_pair
from trio_ws import Instrument, Keepalive, Limits, WebSocket
from trio_ws._reactor import Reactor
from trio_ws._transport import Transport
from trio_ws._util.nursery import BackgroundNursery
from trio_ws._websocket.start import ConnectionOptions, Opened, start_websocket
from trio_ws._wire.events import Event
from trio_ws._wire.frames import Opcode, frame_bytes
from trio_ws._wire.handshake import Agreement
from trio_ws._wire.headers import Headers
from trio_ws._wire.reader import MessageReader


class Peer:
    """A peer that a test plays by hand: it writes frames, and reads what our side wrote."""

    def __init__(self, transport: MemoryTransport, *, is_client: bool) -> None:
        self.transport = transport
        self._masked = is_client
        self._reader = MessageReader(masked=not is_client, limits=Limits(max_message_size=None))

    def send(self, payload: str | bytes, opcode: int | None = None) -> None:
        """Write one frame: text or binary, or what ``opcode`` says."""
        data = payload.encode() if isinstance(payload, str) else payload
        kind = opcode or (Opcode.TEXT if isinstance(payload, str) else Opcode.BINARY)
        self.transport.write(frame_bytes(kind, data, masked=self._masked))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Write a Close."""
        self.send(code.to_bytes(2, "big") + reason.encode(), Opcode.CLOSE)

    def heard(self) -> list[Event]:
        """Give what our side has sent since the last call."""
        events: list[Event] = []
        self._reader.feed(bytes(self.transport.arrived))
        self.transport.arrived.clear()
        while self._reader.read_into(events, 256):
            pass
        return events


def start(
    nursery: trio.Nursery,
    transport: Transport,
    *,
    is_client: bool,
    limits: Limits | None = None,
    keepalive: Keepalive | None = None,
    close_timeout: float = 10.0,
    instruments: tuple[Instrument, ...] = (),
    shield: bool = True,
    rest: bytes = b"",
    reactor: Reactor | None = None,
) -> WebSocket:
    """Start a WebSocket on a transport, as if the opening handshake had just been done."""
    opened = Opened(
        transport=transport,
        agreement=Agreement(protocol="chat", deflate=None, extensions=""),
        http_version="1.1",
        request_headers=Headers([("Host", "example.com")]),
        response_headers=Headers([("Upgrade", "websocket")]),
        rest=rest,
    )
    options = ConnectionOptions(
        compression=None,
        limits=limits or Limits(),
        keepalive=keepalive,
        close_timeout=close_timeout,
        instruments=instruments,
    )
    driver = reactor or Reactor(nursery, shield=shield)
    return start_websocket(opened, options, driver, url="ws://example.com/", is_client=is_client)


@asynccontextmanager
async def one_side(
    *,
    is_client: bool = True,
    limits: Limits | None = None,
    keepalive: Keepalive | None = None,
    close_timeout: float = 10.0,
    instruments: tuple[Instrument, ...] = (),
    rest: bytes = b"",
) -> AsyncGenerator[tuple[WebSocket, Peer], None]:
    """Our side and a peer played by hand; the block ends by dropping the connection."""
    ours, theirs = transport_pair()
    async with BackgroundNursery() as nursery:
        websocket = start(
            nursery,
            ours,
            is_client=is_client,
            limits=limits,
            keepalive=keepalive,
            close_timeout=close_timeout,
            instruments=instruments,
            rest=rest,
        )
        try:
            yield websocket, Peer(theirs, is_client=not is_client)
        finally:
            websocket._connection.abandon()


@asynccontextmanager
async def two_sides(
    *, limits: Limits | None = None, keepalive: Keepalive | None = None
) -> AsyncGenerator[tuple[WebSocket, WebSocket], None]:
    """A client's and a server's WebSocket on one pair of transports."""
    one, two = transport_pair()
    async with BackgroundNursery() as nursery:
        client = start(nursery, one, is_client=True, limits=limits, keepalive=keepalive)
        server = start(nursery, two, is_client=False, limits=limits, keepalive=keepalive)
        try:
            yield client, server
        finally:
            client._connection.abandon()
            server._connection.abandon()


def end_of(peer: Peer) -> MemoryTransport:
    """Give our side's transport."""
    return peer.transport.peer
