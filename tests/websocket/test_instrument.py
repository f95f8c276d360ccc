"""Hooks: what they hear, and that they cannot hurt a connection."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from tests.connection.sides import end_of, one_side
from trio_ws import CloseInfo, WebSocket
from trio_ws._websocket.instrument import check_instruments
from trio_ws._wire.frames import Opcode, frame_bytes


class Recorder(trio_ws.Instrument):
    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []

    def websocket_open(self, websocket: WebSocket) -> None:
        self.heard.append(("open", websocket.url))

    def websocket_close(self, websocket: WebSocket, info: CloseInfo) -> None:
        self.heard.append(("close", info))

    def socket_error(self, websocket: WebSocket, error: BaseException | None) -> None:
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


async def test_an_instrument_may_use_the_websocket_and_raise_in_between(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Meddler(trio_ws.Instrument):
        calls = 0

        def websocket_ping(self, websocket: WebSocket, payload: bytes) -> None:
            self.calls += 1
            try:
                websocket.receive_nowait()  # reads what comes next: a pong, for which this is called again
            finally:
                raise ZeroDivisionError

        def websocket_pong(self, websocket: WebSocket, payload: bytes) -> None:
            self.calls += 1
            raise ZeroDivisionError

    meddler = Meddler()
    async with one_side(instruments=(meddler,)) as (websocket, peer):
        end_of(peer).read_size = len(frame_bytes(Opcode.PING, b"?", masked=False))
        peer.send(b"?", Opcode.PING)
        peer.send(b"!", Opcode.PONG)
        peer.send("still open")
        assert await websocket.receive() == "still open"
    assert meddler.calls == 2
    assert "internal error" not in caplog.text


async def test_an_instrument_given_twice_is_called_twice_and_dropped_once(autojump_clock: MockClock) -> None:
    faulty = Faulty()
    async with one_side(instruments=(faulty, faulty)) as (websocket, peer):
        peer.send(b"", Opcode.PING)
        peer.send("still open")
        assert await websocket.receive() == "still open"
        peer.send(b"", Opcode.PING)
        await wait_all_tasks_blocked()
    assert faulty.calls == 2


async def test_an_instrument_hears_of_a_breach_with_the_breach(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with one_side(instruments=(recorder,)) as (websocket, peer):
        peer.transport.write(b"\x83\x00")
        end_of(peer).end()
        await websocket.wait_closed()
    assert recorder.heard[1:] == [
        ("error", "RemoteProtocolError('opcode 0x3 is reserved')"),
        ("close", CloseInfo(1002, "protocol error: opcode 0x3 is reserved")),
    ]


async def test_an_instrument_hears_of_a_bug_of_ours(autojump_clock: MockClock) -> None:
    recorder = Recorder()
    async with one_side(instruments=(recorder,)) as (websocket, peer):

        def fail() -> bytes | None:
            raise ZeroDivisionError("bug")

        end_of(peer).read = fail  # type: ignore[method-assign]
        peer.send("x")
        await websocket.wait_closed()
    assert [what for what, _ in recorder.heard] == ["open", "error", "close"]


async def test_what_is_no_exception_of_an_instruments_passes(autojump_clock: MockClock) -> None:
    class Hasty(trio_ws.Instrument):
        def websocket_ping(self, websocket: WebSocket, payload: bytes) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with one_side(instruments=(Hasty(),)) as (_, peer):
            peer.send(b"", Opcode.PING)
            await trio.sleep_forever()


def test_only_instruments_are_instruments() -> None:
    recorder = Recorder()
    assert check_instruments([recorder]) == (recorder,)
    with pytest.raises(TypeError, match="is no Instrument"):
        check_instruments([object()])  # type: ignore[list-item]


def test_trio_is_not_needed_to_make_one() -> None:
    with pytest.raises(RuntimeError):
        trio.current_time()
    assert isinstance(Recorder(), trio_ws.Instrument)
