"""From the end of an opening handshake to a WebSocket that is looked after."""

from __future__ import annotations

import dataclasses

import pytest
import trio
from trio.testing import MockClock

import trio_ws
from tests.connection.memory import MemoryTransport, transport_pair
from trio_ws import CloseInfo, Compression, Keepalive, Limits, ReadyState, WebSocket
from trio_ws._reactor import Reactor
from trio_ws._websocket.start import ConnectionOptions, Opened, start_websocket
from trio_ws._wire.deflate import DeflateParameters, PerMessageDeflate
from trio_ws._wire.frames import Opcode, frame_bytes
from trio_ws._wire.handshake import Agreement
from trio_ws._wire.headers import Headers

DEFLATE = "permessage-deflate"
COMPRESSION = Compression(threshold=10)


def opened(transport: MemoryTransport, *, deflate: bool = False, rest: bytes = b"") -> Opened:
    return Opened(
        transport=transport,
        agreement=Agreement(
            protocol="chat",
            deflate=DeflateParameters() if deflate else None,
            extensions=DEFLATE if deflate else "",
        ),
        http_version="2",
        request_headers=Headers([("Origin", "https://example.com")]),
        response_headers=Headers([("Server", "test")]),
        rest=rest,
    )


def options(
    *,
    compression: Compression | None = None,
    limits: Limits | None = None,
    keepalive: Keepalive | None = None,
    close_timeout: float = 10.0,
    instruments: tuple[trio_ws.Instrument, ...] = (),
) -> ConnectionOptions:
    return ConnectionOptions(
        compression=compression,
        limits=limits or Limits(),
        keepalive=keepalive,
        close_timeout=close_timeout,
        instruments=instruments,
    )


def begin(
    nursery: trio.Nursery, what: Opened, how: ConnectionOptions, *, is_client: bool = False, shield: bool = False
) -> WebSocket:
    return start_websocket(
        what, how, Reactor(nursery, shield=shield), url="wss://example.com/chat", is_client=is_client
    )


async def test_what_the_handshake_led_to_is_on_the_websocket(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    ours, _ = transport_pair()
    websocket = begin(nursery, opened(ours, deflate=True), options(compression=COMPRESSION))
    assert (websocket.url, websocket.http_version) == ("wss://example.com/chat", "2")
    assert (websocket.protocol, websocket.extensions) == ("chat", DEFLATE)
    assert websocket.request_headers == Headers([("Origin", "https://example.com")])
    assert websocket.response_headers == Headers([("Server", "test")])
    assert websocket.ready_state is ReadyState.OPEN


@pytest.mark.parametrize("is_client", [True, False])
async def test_a_client_masks_and_a_server_does_not(
    is_client: bool, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ours, theirs = transport_pair()
    websocket = begin(nursery, opened(ours), options(), is_client=is_client)
    await websocket.send("x")
    assert theirs.arrived[1] == (0x81 if is_client else 0x01)
    theirs.write(frame_bytes(Opcode.TEXT, b"answer", masked=not is_client))
    assert await websocket.receive() == "answer"


@pytest.mark.parametrize("compression", [COMPRESSION, None])
async def test_messages_are_compressed_if_that_was_agreed_on(
    compression: Compression | None, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    ours, theirs = transport_pair()
    agreed = compression is not None
    websocket = begin(nursery, opened(ours, deflate=agreed), options(compression=compression))
    sent = [("a" * 10, None, 0xC1), ("a" * 9, None, 0x81), ("a", True, 0xC1), ("a" * 99, False, 0x81)]
    for message, compress, first_byte in sent:
        await websocket.send(message, compress=compress)
        assert theirs.arrived[0] == (first_byte if agreed else 0x81)
        theirs.arrived.clear()
    websocket.send_nowait("a" * 99, compress=agreed)
    assert theirs.arrived[0] == (0xC1 if agreed else 0x81)


async def test_what_the_client_compressed_is_inflated(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    ours, theirs = transport_pair()
    websocket = begin(nursery, opened(ours, deflate=True), options(compression=COMPRESSION))
    deflater = PerMessageDeflate(DeflateParameters(), COMPRESSION, is_client=True).deflater
    for _ in range(2):  # the second one out of the window
        theirs.write(frame_bytes(Opcode.TEXT, deflater.compress(b"hello " * 20), masked=True, rsv1=True))
        assert await websocket.receive() == "hello " * 20


async def test_what_came_with_the_handshake_comes_first(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    ours, theirs = transport_pair()
    rest = frame_bytes(Opcode.TEXT, b"one", masked=True) + frame_bytes(Opcode.TEXT, b"two", masked=True)
    theirs.write(rest[-4:] + frame_bytes(Opcode.TEXT, b"three", masked=True))
    websocket = begin(nursery, opened(ours, rest=rest[:-4]), options())
    assert [await websocket.receive() for _ in range(3)] == ["one", "two", "three"]


async def test_the_options_reach_the_connection(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    ours, theirs = transport_pair()
    how = options(limits=Limits(max_message_size=5), keepalive=Keepalive(interval=3), close_timeout=7)
    websocket = begin(nursery, opened(ours), how)
    await trio.sleep(2.9)
    assert theirs.arrived == b""
    await trio.sleep(0.2)
    assert theirs.arrived[0] == 0x80 | Opcode.PING
    start = trio.current_time()
    await websocket.aclose()
    assert trio.current_time() - start == 7

    ours, theirs = transport_pair()
    websocket = begin(nursery, opened(ours), how)
    theirs.write(frame_bytes(Opcode.BINARY, bytes(6), masked=True))
    with pytest.raises(trio_ws.ConnectionClosedError) as caught:
        await websocket.receive()
    assert isinstance(caught.value.__cause__, trio_ws.MessageTooBig)


async def test_instruments_hear_of_it_first(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    heard: list[str] = []

    class Listener(trio_ws.Instrument):
        def websocket_open(self, websocket: WebSocket) -> None:
            heard.append(f"open {websocket.ready_state.name} {websocket.protocol}")
            websocket.send_nowait("hello")

        def websocket_close(self, websocket: WebSocket, info: CloseInfo) -> None:
            heard.append(f"close {info.code}")

    ours, theirs = transport_pair()
    ours.end()
    websocket = begin(nursery, opened(ours), options(instruments=(Listener(),)))
    assert heard == ["open OPEN chat"]
    assert theirs.arrived == frame_bytes(Opcode.TEXT, b"hello", masked=False)
    await websocket.wait_closed()
    assert heard == ["open OPEN chat", "close 1006"]


async def test_without_a_shield_it_ends_with_its_nursery(autojump_clock: MockClock) -> None:
    ours, theirs = transport_pair()
    async with trio.open_nursery() as nursery:
        websocket = begin(nursery, opened(ours), options(), shield=False)
        nursery.cancel_scope.cancel()
    assert websocket.ready_state is ReadyState.CLOSED
    assert bytes(theirs.arrived) == b"\x88\x02\x03\xe9"


async def test_with_a_shield_it_is_of_use_until_it_is_closed(autojump_clock: MockClock) -> None:
    ours, theirs = transport_pair()
    async with trio.open_nursery() as nursery:
        websocket = begin(nursery, opened(ours), options(), shield=True)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            theirs.write(frame_bytes(Opcode.TEXT, b"question", masked=True))
            assert await websocket.receive() == "question"
            theirs.write(frame_bytes(Opcode.PING, b"?", masked=True))
            await trio.sleep(0.05)
            assert bytes(theirs.arrived) == b"\x8a\x01?"
            theirs.write(frame_bytes(Opcode.CLOSE, b"", masked=True))
            ours.end()
            assert await websocket.wait_closed() == CloseInfo(1005, "", was_clean=True)


@pytest.mark.parametrize("made", [opened(MemoryTransport()), options()])
def test_what_was_agreed_on_cannot_be_changed(made: Opened | ConnectionOptions) -> None:
    names = made._fields if isinstance(made, Opened) else [field.name for field in dataclasses.fields(made)]
    for name in names:
        with pytest.raises(AttributeError):  # FrozenInstanceError is one
            setattr(made, name, None)
