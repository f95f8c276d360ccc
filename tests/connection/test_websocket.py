"""The WebSocket as a user sees it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

import trio_ws
from tests.connection.sides import end_of, one_side, two_sides
from trio_ws import CloseInfo, ReadyState, WebSocketError
from trio_ws._wire.reader import Close, Pong


async def test_what_is_known_of_it(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        assert (websocket.url, websocket.protocol, websocket.extensions) == ("ws://example.com/", "chat", "")
        assert (websocket.http_version, websocket.latency) == ("1.1", None)
        assert websocket.request_headers["host"] == "example.com"
        assert websocket.response_headers["upgrade"] == "websocket"
        assert (websocket.local_address, websocket.remote_address) == (("127.0.0.1", 1), ("127.0.0.1", 2))
        assert (websocket.ready_state, websocket.close_info) == (ReadyState.OPEN, None)
        assert repr(websocket) == "<WebSocket client ws://example.com/ HTTP/1.1 OPEN>"
        peer.transport.write_eof()
        await websocket.wait_closed()
        assert (websocket.ready_state, websocket.close_info) == (ReadyState.CLOSED, CloseInfo(1006))
    async with one_side(is_client=False) as (websocket, _):
        assert repr(websocket) == "<WebSocket server ws://example.com/ HTTP/1.1 OPEN>"


async def test_it_counts(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server):
        await client.send("hello")
        await server.send(await server.receive())
        assert await client.receive() == "hello"
        await client.ping(b"1234")
        counted = client.statistics()
        assert (counted.messages_sent, counted.messages_received) == (1, 1)
        assert (counted.bytes_sent, counted.bytes_received) == (11 + 10, 7 + 6)
        assert (counted.pings_sent, counted.pongs_received, server.statistics().pongs_sent) == (1, 1, 1)
        assert (server.statistics().pings_received, counted.send_buffer, counted.receive_buffer) == (1, 0, 0)


async def test_iteration_ends_when_the_peer_closes_normally(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        for number in range(3):
            peer.send(str(number))
        peer.close(1001)
        assert [message async for message in websocket] == ["0", "1", "2"]


async def test_iteration_raises_when_the_connection_breaks(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.send("0")
        peer.close(4000)
        got = []
        with pytest.raises(trio_ws.ConnectionClosedError):
            async for message in websocket:
                got.append(message)  # noqa: PERF401  # what came before the error matters
        assert got == ["0"]


@pytest.mark.parametrize("payload", ["text", 5, ["x"]])
async def test_a_payload_is_bytes(payload: object, autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        for call in (websocket.ping, websocket.pong):
            with pytest.raises(TypeError, match="payload must be bytes-like"):
                await call(payload)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="payload must be bytes-like"):
            trio_ws.ping(websocket, payload)  # type: ignore[arg-type]
        assert peer.heard() == []


async def test_a_payload_has_at_most_125_bytes(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with pytest.raises(ValueError, match="126 bytes: at most 125"):
            await websocket.ping(bytes(126))
        with pytest.raises(ValueError, match="126 bytes: at most 125"):
            await websocket.pong(bytes(126))
        with pytest.raises(ValueError, match="126 bytes: at most 125"):
            trio_ws.ping(websocket, bytes(126))
        assert peer.heard() == []
        await websocket.pong(bytearray(125))
        await websocket.pong(memoryview(b"view"))
        assert peer.heard() == [Pong(bytes(125)), Pong(b"view")]


async def test_bad_arguments_send_nothing(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with pytest.raises(TypeError):
            await websocket.send(5)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            websocket.send_nowait(None)  # type: ignore[arg-type]
        with pytest.raises(UnicodeEncodeError):
            await websocket.send("\ud800")
        with pytest.raises(ValueError, match="code 1001 is not allowed"):
            await websocket.aclose(1001)
        with pytest.raises(ValueError, match="reason has"):
            await websocket.aclose(1000, "x" * 124)
        with pytest.raises(TypeError, match="code must be"):
            await websocket.aclose("1000")  # type: ignore[arg-type]
        assert peer.heard() == []
        assert websocket.ready_state is ReadyState.OPEN
        await websocket.send("still works")
        assert peer.heard() == ["still works"]


class Problem(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (None, 1000, ""),
        (Problem("secret"), 1011, ""),
        (WebSocketError(4001, "bye"), 4001, "bye"),
        (WebSocketError("no code"), 1011, ""),
        (trio_ws.MessageTooBig("too big"), 1009, "too big"),
        (trio_ws.ConnectionClosedError(CloseInfo(4001, "theirs"), None), 4001, "theirs"),
        (trio_ws.ConnectionClosedError(None, None), 1011, ""),
        (ExceptionGroup("several", [Problem()]), 1011, ""),
        (trio.TooSlowError(), 1011, ""),
    ],
)
async def test_leaving_the_block_closes_with_a_code(
    error: Exception | None, code: int, reason: str, autojump_clock: MockClock
) -> None:
    caught = None
    async with one_side(close_timeout=1) as (websocket, peer):
        try:
            async with websocket:
                if error is not None:
                    raise error
        except Exception as raised:
            caught = raised
        assert peer.heard() == [Close(CloseInfo(code, reason))]
    assert caught is error


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_leaving_the_block_in_a_hurry_drops_the_connection(
    error: type[BaseException], autojump_clock: MockClock
) -> None:
    async with one_side() as (websocket, peer):
        before = trio.current_time()
        with pytest.raises(error):
            async with websocket:
                raise error
        assert trio.current_time() == before
        assert peer.heard() == [Close(CloseInfo(1001))]
        assert end_of(peer).closed


async def test_leaving_the_block_by_cancellation_drops_the_connection(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with trio.move_on_after(1):
            async with websocket:
                await websocket.receive()
        assert peer.heard() == [Close(CloseInfo(1001))]
        assert websocket.ready_state is ReadyState.CLOSED


async def test_what_can_wait_is_a_checkpoint(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server):
        with assert_checkpoints():
            await client.send("x")
        await wait_all_tasks_blocked()
        with assert_checkpoints():
            await server.receive()
        with assert_checkpoints():
            await client.ping()
        with assert_checkpoints():
            await client.pong()
        with assert_checkpoints():
            await client.aclose()
        with assert_checkpoints():
            await client.aclose()
        with assert_checkpoints():
            await client.wait_closed()


async def test_what_cannot_wait_is_no_checkpoint(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server):
        with assert_no_checkpoints():
            client.send_nowait("x")
        with assert_no_checkpoints():
            trio_ws.ping(client)
        await wait_all_tasks_blocked()
        with assert_no_checkpoints():
            assert server.receive_nowait() == "x"


async def test_nothing_happens_in_a_cancelled_scope(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        for call in (
            lambda: websocket.send("x"),
            websocket.receive,
            websocket.ping,
            websocket.pong,
            websocket.wait_closed,
        ):
            with trio.CancelScope() as scope:
                scope.cancel()
                await call()
            assert scope.cancelled_caught
        assert peer.heard() == []
        assert websocket.ready_state is ReadyState.OPEN
