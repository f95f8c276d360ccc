"""The logger ``trio_ws.frames``, and the hooks for frames, messages and handshakes."""

from __future__ import annotations

import logging
import re

import pytest
from trio.testing import MockClock

import trio_ws
from tests.connection.sides import one_side
from trio_ws import FrameInfo, HandshakeInfo, WebSocket, WebSocketRequest
from trio_ws._websocket.frame_log import describe_frame
from trio_ws._wire.frames import Opcode, frame_bytes
from trio_ws._wire.protocol import WebSocketProtocol
from trio_ws.testing import memory_websocket_pair, open_test_server

LOGGER = "trio_ws.frames"


class Listener(trio_ws.Instrument):
    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []
        self.handshakes: list[HandshakeInfo] = []

    def websocket_open(self, websocket: WebSocket) -> None:
        self.heard.append(("open", websocket.id))

    def message_sent(self, websocket: WebSocket, message: str | bytes) -> None:
        self.heard.append(("message sent", message))

    def message_received(self, websocket: WebSocket, message: str | bytes) -> None:
        self.heard.append(("message received", message))

    def frame_sent(self, websocket: WebSocket, frame: FrameInfo) -> None:
        self.heard.append(("frame sent", frame.name))

    def frame_received(self, websocket: WebSocket, frame: FrameInfo) -> None:
        self.heard.append(("frame received", frame.name))

    def handshake_sent(self, handshake: HandshakeInfo) -> None:
        assert handshake.sent
        self.handshakes.append(handshake)

    def handshake_received(self, handshake: HandshakeInfo) -> None:
        assert not handshake.sent
        self.handshakes.append(handshake)


def lines_of(caplog: pytest.LogCaptureFixture, connection_id: int) -> list[str]:
    messages = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    start = f"#{connection_id} "
    return [message.removeprefix(start) for message in messages if message.startswith(start)]


@pytest.mark.parametrize("http_version", ["1.1", "2"])
async def test_each_side_logs_its_handshake_and_its_frames(
    http_version: str, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    async with memory_websocket_pair(http_version=http_version, compression=None) as (client, server):
        await client.send("hello")
        assert await server.receive() == "hello"
        await server.send(bytes(40))
        await client.receive()
    assert client.id != server.id
    assert repr(client).endswith(f" #{client.id}>")
    sent, received, *frames = lines_of(caplog, client.id)
    method, status = ("GET", 101) if http_version == "1.1" else ("CONNECT", 200)
    assert sent.startswith(f"> HTTP/{http_version} {method} ws://localhost/ [(")
    assert received.startswith(f"< HTTP/{http_version} {status} [(")
    assert frames[:2] == ["> TEXT fin masked 5 bytes b'hello'", f"< BINARY fin 40 bytes {bytes(32)!r}..."]
    assert sorted(frames[2:]) == [
        "< CLOSE fin 2 bytes b'\\x03\\xe8'",
        "> CLOSE fin masked 2 bytes b'\\x03\\xe8'",
    ]
    mirrored = [line.translate(str.maketrans("<>", "><")) for line in lines_of(caplog, server.id)]
    assert mirrored[0].startswith(f"> HTTP/{http_version} {method} ws://localhost/ [(")
    assert mirrored[1].startswith(f"< HTTP/{http_version} {status} [(")
    assert mirrored[2:4] == frames[:2]


@pytest.mark.parametrize("http_version", ["1.1", "2"])
async def test_an_instrument_hears_in_order(http_version: str, autojump_clock: MockClock) -> None:
    listener = Listener()
    agent_listener = Listener()

    async def handler(request: WebSocketRequest) -> None:
        async with request.accept() as ws:
            async for message in ws:
                await ws.send(message)

    async with (
        open_test_server(handler, tls=False, compression=None) as local,
        trio_ws.Agent(h2_prior_knowledge=http_version == "2", instruments=[agent_listener]) as agent,
        trio_ws.open_websocket(local.url, dispatcher=agent, instruments=[listener]) as ws,
    ):
        await ws.send("there and back")
        assert await ws.receive() == "there and back"
    assert listener.heard[:5] == [
        ("open", ws.id),
        ("message sent", "there and back"),
        ("frame sent", "TEXT"),
        ("frame received", "TEXT"),
        ("message received", "there and back"),
    ]
    assert agent_listener.heard == listener.heard
    request, answer = listener.handshakes
    assert agent_listener.handshakes == listener.handshakes
    assert (request.id, request.url, request.http_version, request.status) == (ws.id, local.url, http_version, None)
    assert (answer.id, answer.status) == (ws.id, 101 if http_version == "1.1" else 200)
    assert request.headers["User-Agent"] == ws.request_headers["User-Agent"]
    assert answer.headers == ws.response_headers


async def test_a_refusal_is_told_on_both_sides(caplog: pytest.LogCaptureFixture, autojump_clock: MockClock) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    ids = []

    async def handler(request: WebSocketRequest) -> None:
        ids.append(request.id)
        await request.reject(403, [("X-Why", "no")])

    listener = Listener()
    async with open_test_server(handler, tls=False, instruments=[listener]) as local:
        with pytest.raises(trio_ws.HandshakeRejected):
            async with trio_ws.open_websocket(local.url, headers=[("Authorization", "Bearer abc")]):
                pass
    assert [handshake.status for handshake in listener.handshakes] == [None, 403]
    received, sent = lines_of(caplog, ids[0])
    assert received.startswith("< HTTP/1.1 GET ws://127.0.0.1:")
    assert sent.startswith("> HTTP/1.1 403 [('X-Why', 'no')")
    assert len([record for record in caplog.records if record.name == LOGGER]) == 4
    assert "abc" not in caplog.text
    assert "('Authorization', '<hidden>')" in caplog.text


async def test_frames_that_came_with_the_handshake_are_told_after_the_opening() -> None:
    listener = Listener()
    rest = frame_bytes(Opcode.TEXT, b"early", masked=False)
    async with one_side(instruments=(listener,), rest=rest) as (websocket, _):
        assert await websocket.receive() == "early"
    assert listener.heard[:3] == [("open", websocket.id), ("frame received", "TEXT"), ("message received", "early")]


async def test_one_that_sends_when_it_hears_of_the_opening_is_told_of_what_it_sent() -> None:
    class Greeter(Listener):
        def websocket_open(self, websocket: WebSocket) -> None:
            super().websocket_open(websocket)
            websocket.send_nowait("welcome")

    greeter = Greeter()
    async with one_side(instruments=(greeter,)):
        assert greeter.heard[1:] == [("message sent", "welcome"), ("frame sent", "TEXT")]


async def test_one_that_raises_is_not_called_again_by_any_hook(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(Listener):
        def frame_received(self, websocket: WebSocket, frame: FrameInfo) -> None:
            super().frame_received(websocket, frame)
            raise ZeroDivisionError

    faulty, listener = Faulty(), Listener()
    async with one_side(instruments=(faulty, listener)) as (websocket, peer):
        peer.send("first")
        assert await websocket.receive() == "first"
    assert faulty.heard == [("open", websocket.id), ("frame received", "TEXT")]
    assert ("message received", "first") in listener.heard
    assert caplog.text.count("is not called again") == 1


async def test_nothing_is_observed_where_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    class Deaf(trio_ws.Instrument):
        def websocket_ping(self, websocket: WebSocket, payload: bytes) -> None:
            raise AssertionError

    async with one_side(instruments=(Deaf(),)) as (websocket, peer):
        assert type(websocket._connection.protocol) is WebSocketProtocol
        caplog.set_level(logging.DEBUG, LOGGER)  # too late for this connection
        peer.send("unseen")
        assert await websocket.receive() == "unseen"
    assert not caplog.records


async def test_a_method_that_an_instance_has_of_its_own_is_called() -> None:
    instrument = trio_ws.Instrument()
    heard = []
    instrument.message_sent = lambda websocket, message: heard.append(message)  # type: ignore[method-assign]
    async with one_side(instruments=(instrument,)) as (websocket, _):
        await websocket.send("heard")
    assert heard == ["heard"]


async def test_a_line_is_bounded_and_escaped(caplog: pytest.LogCaptureFixture, autojump_clock: MockClock) -> None:
    caplog.set_level(logging.DEBUG, LOGGER)
    headers = [("X-Long", "x" * 3000), ("X-Latin", "\xe9")]
    async with memory_websocket_pair(headers=headers, url=f"ws://localhost/{'p' * 3000}"):
        pass
    assert max(len(line) for line in caplog.messages) < 4200
    assert all(re.fullmatch(r"[ -~]*", line) for line in caplog.messages)


def test_each_flag_is_named() -> None:
    frame = FrameInfo(opcode=0, fin=False, rsv1=True, reserved=1, masked=False, length=0, first_bytes=b"")
    assert describe_frame(frame) == "CONTINUATION rsv1 reserved bits 0 bytes b''"
