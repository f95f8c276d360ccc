"""wsproto and websockets, which know nothing of each other, must read what we write, and we what they write."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets import protocol as websockets_protocol
from websockets.extensions.permessage_deflate import PerMessageDeflate as WebsocketsDeflate
from websockets.frames import Frame
from websockets.frames import Opcode as WebsocketsOpcode
from wsproto import events as wsproto_events
from wsproto.connection import Connection, ConnectionType
from wsproto.extensions import Extension
from wsproto.extensions import PerMessageDeflate as WsprotoDeflate

from trio_ws import CloseInfo, Limits
from trio_ws._wire.events import Close, Event, Ping, Pong
from trio_ws._wire.protocol import WebSocketProtocol

from .sequences import BYTEWISE, WHOLE, Reading, Sent, expected, make_deflate, pieces, read, sequences, to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio_ws._wire.deflate import PerMessageDeflate


class Terms(NamedTuple):
    """What both sides agreed on, the same in both directions."""

    window_bits: int
    no_context_takeover: bool


all_terms = st.none() | st.builds(Terms, st.integers(9, 15), st.booleans())


def our_deflate(terms: Terms | None, *, is_client: bool) -> PerMessageDeflate | None:
    if terms is None:
        return None
    return make_deflate(
        is_client=is_client, window_bits=terms.window_bits, no_context_takeover=terms.no_context_takeover
    )


class WebsocketsPeer:
    """The protocol of websockets, opened."""

    def __init__(self, terms: Terms | None, *, is_client: bool) -> None:
        side = websockets_protocol.CLIENT if is_client else websockets_protocol.SERVER
        self.protocol = websockets_protocol.Protocol(side, max_size=None)
        if terms is not None:
            takeover, bits = terms.no_context_takeover, terms.window_bits
            self.protocol.extensions = [WebsocketsDeflate(takeover, takeover, bits, bits)]

    def write(self, items: Iterable[Sent | Ping | Pong]) -> bytes:
        protocol = self.protocol
        for item in items:
            match item:
                case Ping(payload):
                    protocol.send_ping(payload)
                case Pong(payload):
                    protocol.send_pong(payload)
                case Sent():
                    self._write_message(item)
        return b"".join(protocol.data_to_send())

    def _write_message(self, item: Sent) -> None:
        text = isinstance(item.message, str)
        payload = item.message.encode() if isinstance(item.message, str) else item.message
        edges = [0, *sorted(min(cut, len(payload)) for cut in item.cuts), len(payload)]
        for index in range(len(edges) - 1):
            part, fin = payload[edges[index] : edges[index + 1]], index == len(edges) - 2
            if index:
                self.protocol.send_continuation(part, fin)
            elif text:
                self.protocol.send_text(part, fin)
            else:
                self.protocol.send_binary(part, fin)
            if not fin and index < len(item.between):
                between = item.between[index]
                send = self.protocol.send_ping if isinstance(between, Ping) else self.protocol.send_pong
                send(between.payload)

    def heard(self, items: Iterable[Sent | Ping | Pong]) -> list[Event]:
        """Tell what our side must make of what was written."""
        return expected(items)

    def write_close(self, code: int, reason: str) -> bytes:
        self.protocol.send_close(code, reason)
        return b"".join(self.protocol.data_to_send())

    def read(self, data: bytes) -> list[Event]:
        self.protocol.receive_data(data)
        assert self.protocol.parser_exc is None
        events: list[Event] = []
        opcode, message = WebsocketsOpcode.CONT, b""
        for frame in self.protocol.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode is WebsocketsOpcode.PING:
                events.append(Ping(bytes(frame.data)))
            elif frame.opcode is WebsocketsOpcode.PONG:
                events.append(Pong(bytes(frame.data)))
            elif frame.opcode is WebsocketsOpcode.CLOSE:
                assert self.protocol.close_rcvd is not None
                events.append(Close(CloseInfo(self.protocol.close_rcvd.code, self.protocol.close_rcvd.reason)))
            else:
                opcode = frame.opcode or opcode
                message += frame.data
                if frame.fin:
                    events.append(message.decode() if opcode is WebsocketsOpcode.TEXT else message)
                    opcode, message = WebsocketsOpcode.CONT, b""
        return events


class WsprotoPeer:
    """The connection of wsproto, opened."""

    def __init__(self, terms: Terms | None, *, is_client: bool) -> None:
        extensions: list[Extension] = []
        if terms is not None:
            deflate = WsprotoDeflate(
                terms.no_context_takeover, terms.window_bits, terms.no_context_takeover, terms.window_bits
            )
            deflate.finalize("permessage-deflate")
            extensions.append(deflate)
        self.connection = Connection(ConnectionType.CLIENT if is_client else ConnectionType.SERVER, extensions)

    def write(self, items: Iterable[Sent | Ping | Pong]) -> bytes:
        return b"".join(self.connection.send(event) for item in items for event in self._events(item))

    def _events(self, item: Sent | Ping | Pong) -> Iterable[wsproto_events.Event]:
        if isinstance(item, Ping):
            yield wsproto_events.Ping(item.payload)
        elif isinstance(item, Pong):
            yield wsproto_events.Pong(item.payload)
        elif isinstance(item.message, str):
            yield wsproto_events.TextMessage(item.message)
        else:
            half = len(item.message) // 2  # wsproto cuts text into characters, so fragments only of what is binary
            yield wsproto_events.BytesMessage(item.message[:half], message_finished=False)
            yield from (event for between in item.between for event in self._events(between))
            yield wsproto_events.BytesMessage(item.message[half:])

    def heard(self, items: Iterable[Sent | Ping | Pong]) -> list[Event]:
        """Tell what our side must make of what was written."""
        events: list[Event] = []
        for item in items:
            if isinstance(item, Sent) and isinstance(item.message, bytes):
                events += item.between
            events.append(item.message if isinstance(item, Sent) else item)
        return events

    def write_close(self, code: int, reason: str) -> bytes:
        return self.connection.send(wsproto_events.CloseConnection(code, reason))

    def read(self, data: bytes) -> list[Event]:
        self.connection.receive_data(data)
        events: list[Event] = []
        text, binary = "", b""
        for event in self.connection.events():
            match event:
                case wsproto_events.Ping(payload):
                    events.append(Ping(bytes(payload)))
                case wsproto_events.Pong(payload):
                    events.append(Pong(bytes(payload)))
                case wsproto_events.CloseConnection(code, reason):
                    events.append(Close(CloseInfo(code, reason or "")))
                case wsproto_events.TextMessage(part):
                    text += part
                    if event.message_finished:
                        events.append(text)
                        text = ""
                case wsproto_events.BytesMessage(part):
                    binary += part
                    if event.message_finished:
                        events.append(binary)
                        binary = b""
        return events


ORACLES = [WebsocketsPeer, WsprotoPeer]
both = pytest.mark.parametrize("oracle", ORACLES)


@both
@settings(deadline=None)
@given(items=sequences, is_client=st.booleans(), terms=all_terms)
def test_they_read_what_we_write(
    oracle: type[WebsocketsPeer] | type[WsprotoPeer],
    items: list[Sent | Ping | Pong],
    is_client: bool,
    terms: Terms | None,
) -> None:
    ours = WebSocketProtocol(is_client=is_client, limits=Limits(), deflate=our_deflate(terms, is_client=is_client))
    wire = b""
    for item in items:
        match item:
            case Sent():
                wire += ours.encode_message(item.message, item.compressed)
            case Ping(payload):
                wire += ours.encode_ping(payload)
            case Pong(payload):
                wire += ours.encode_pong(payload)
    wire += ours.encode_close(4000, "\u20ac")
    said: list[Event] = [item.message if isinstance(item, Sent) else item for item in items]
    assert oracle(terms, is_client=not is_client).read(wire) == [*said, Close(CloseInfo(4000, "\u20ac"))]


@both
@settings(deadline=None)
@given(items=sequences, is_client=st.booleans(), terms=all_terms)
def test_they_read_our_frames_in_fragments(
    oracle: type[WebsocketsPeer] | type[WsprotoPeer],
    items: list[Sent | Ping | Pong],
    is_client: bool,
    terms: Terms | None,
) -> None:
    deflate = our_deflate(terms, is_client=is_client)
    if oracle is WsprotoPeer:  # it forgets that a message is compressed when a control frame comes inside it
        items = [replace(item, between=()) if isinstance(item, Sent) and item.compressed else item for item in items]
    wire = to_bytes(items, masked=is_client, deflater=None if deflate is None else deflate.deflater)
    assert oracle(terms, is_client=not is_client).read(wire) == expected(items)


@both
@settings(deadline=None)
@given(
    items=sequences,
    is_client=st.booleans(),
    terms=all_terms,
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple),
)
def test_we_read_what_they_write(
    oracle: type[WebsocketsPeer] | type[WsprotoPeer],
    items: list[Sent | Ping | Pong],
    is_client: bool,
    terms: Terms | None,
    sizes: tuple[int, ...],
) -> None:
    theirs = oracle(terms, is_client=is_client)
    wire = theirs.write(items) + theirs.write_close(4000, "\u20ac")
    heard: list[Event] = [*theirs.heard(items), Close(CloseInfo(4000, "\u20ac"))]
    for reading in (WHOLE, BYTEWISE, Reading(sizes=sizes, budgets=(1, 2))):
        deflate = our_deflate(terms, is_client=not is_client)
        assert read(wire, reading, masked=is_client, deflate=deflate) == (heard, None)


@both
@pytest.mark.parametrize("no_context_takeover", [False, True])
@pytest.mark.parametrize("is_client", [False, True])
def test_the_window_is_shared_both_ways(
    oracle: type[WebsocketsPeer] | type[WsprotoPeer], is_client: bool, no_context_takeover: bool
) -> None:
    terms = Terms(15, no_context_takeover)
    ours = WebSocketProtocol(is_client=is_client, limits=Limits(), deflate=our_deflate(terms, is_client=is_client))
    theirs = oracle(terms, is_client=not is_client)
    text = "".join(map(chr, range(0x3B1, 0x3B1 + 200)))  # nothing in it comes twice
    sizes: list[int] = []
    for _ in range(3):
        wire = ours.encode_message(text, True)
        assert theirs.read(wire) == [text]
        sizes.append(len(wire))
        back = theirs.write([Sent(message=text)])
        events: list[Event] = []
        for piece in pieces(back, (7,)):
            ours.receive_data(piece)
            ours.read_events(events, 256)
        assert events == [text]
    if no_context_takeover:
        assert sizes[0] == sizes[1] == sizes[2]
    else:
        assert max(sizes[1:]) < 30 < sizes[0]
