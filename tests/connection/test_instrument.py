"""Hooks: what they hear, and that they cannot hurt a connection."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from tests.connection.sides import end_of, one_side
from trio_ws import CloseInfo, WebSocket
from trio_ws._instrument import check_instruments
from trio_ws._wire.frames import Opcode


class Recorder(trio_ws.Instrument):
    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []

    def websocket_open(self, websocket: WebSocket) -> None:
        self.heard.append(("open", websocket.url))

    def websocket_close(self, websocket: WebSocket, info: CloseInfo) -> None:
        self.heard.append(("close", info))

    def websocket_error(self, websocket: WebSocket, error: BaseException | None) -> None:
        self.heard.append(("error", repr(error)))

    def websocket_ping(self, websocket: WebSocket, payload: bytes) -> None:
        self.heard.append(("ping", payload))

    def websocket_pong(self, websocket: WebSocket, payload: bytes) -> None:
        self.heard.append(("pong", payload))


class Deaf(trio_ws.Instrument):
    """Overrides nothing."""


class Faulty(trio_ws.Instrument):
    calls = 0

    def websocket_ping(self, websocket: WebSocket, payload: bytes) -> None:
        self.calls += 1
        raise ZeroDivisionError("in an instrument")


async def test_an_instrument_hears_everything_in_order(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with one_side(instruments=(recorder, Deaf())) as (websocket, peer):
        peer.send(b"there?", Opcode.PING)
        peer.send(b"yes", Opcode.PONG)
        await wait_all_tasks_blocked()
        peer.close(1000, "bye")
        peer.transport.write_eof()
        await websocket.wait_closed()
    assert recorder.heard == [
        ("open", "ws://example.com/"),
        ("ping", b"there?"),
        ("pong", b"yes"),
        ("close", CloseInfo(1000, "bye", was_clean=True)),
    ]


async def test_an_error_is_heard_before_the_close(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with one_side(instruments=(recorder, Deaf())) as (websocket, peer):
        end_of(peer).break_down(ConnectionResetError("gone"))
        await websocket.wait_closed()
    lost = "ConnectionClosedError('the connection was lost: no Close frame was received or sent')"
    assert recorder.heard[1:] == [("error", lost), ("close", CloseInfo(1006))]


async def test_an_instrument_that_raises_is_logged_and_dropped(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    faulty, recorder = Faulty(), Recorder()
    async with one_side(instruments=(faulty, recorder)) as (_, peer):
        for _ in range(2):
            peer.send(b"", Opcode.PING)
        await wait_all_tasks_blocked()
    assert faulty.calls == 1
    assert recorder.heard.count(("ping", b"")) == 2
    assert "is not called again" in caplog.text


def test_only_instruments_are_instruments() -> None:
    recorder = Recorder()
    assert check_instruments([recorder]) == (recorder,)
    with pytest.raises(TypeError, match="is no Instrument"):
        check_instruments([object()])  # type: ignore[list-item]


def test_trio_is_not_needed_to_make_one() -> None:
    with pytest.raises(RuntimeError):
        trio.current_time()
    assert isinstance(Recorder(), trio_ws.Instrument)
