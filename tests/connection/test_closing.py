"""How a connection ends, and what each end looks like from every side."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from tests.connection.sides import Peer, end_of, one_side, two_sides
from trio_ws import CloseInfo, Keepalive, Limits, ReadyState, WebSocket
from trio_ws._wire.events import Close
from trio_ws._wire.frames import Opcode, frame_bytes

OK, ERROR, LOCALLY = trio_ws.ConnectionClosedOK, trio_ws.ConnectionClosedError, trio_ws.ConnectionClosedLocally
CLEAN_1000 = CloseInfo(1000, "", was_clean=True)


async def answer(peer: Peer, code: int | None, reason: str = "") -> None:
    """Close as a peer does, TCP too."""
    if code is None:
        peer.send(b"", Opcode.CLOSE)
    else:
        peer.close(code, reason)
    await wait_all_tasks_blocked()
    end_of(peer).end()


async def close_with(websocket: WebSocket, peer: Peer, theirs: int | None) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(websocket.aclose, 4000, "ours")
        await wait_all_tasks_blocked()
        await answer(peer, theirs, "theirs" if theirs else "")


async def close_unanswered(websocket: WebSocket, peer: Peer) -> None:
    await websocket.aclose(4000, "ours")


async def abandon(websocket: WebSocket, peer: Peer) -> None:
    websocket._connection.abandon()


async def abandon_without_room(websocket: WebSocket, peer: Peer) -> None:
    end_of(peer).room = 0
    await websocket.send("stuck")
    await wait_all_tasks_blocked()
    websocket._connection.abandon()


async def lose(websocket: WebSocket, peer: Peer) -> None:
    end_of(peer).end()


async def break_down(websocket: WebSocket, peer: Peer) -> None:
    end_of(peer).break_down(ConnectionResetError("reset"))


async def lose_after_our_close(websocket: WebSocket, peer: Peer) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(websocket.aclose, 4000, "ours")
        await wait_all_tasks_blocked()
        end_of(peer).break_down(ConnectionResetError("reset"))


async def breach(websocket: WebSocket, peer: Peer) -> None:
    peer.transport.write(b"\x83\x00")
    end_of(peer).end()


@dataclass(frozen=True, kw_only=True)
class End:
    """One way to end, and all that is to be seen of it."""

    by: Callable[[WebSocket, Peer], Awaitable[None]]
    error: type[trio_ws.ConnectionClosed]
    code: int
    reason: str = ""
    received: CloseInfo | None = None
    sent: CloseInfo | None = None
    cause: str = "None"
    info: CloseInfo = field(default_factory=CloseInfo)


ENDS = {
    "the peer says 1000": End(
        by=lambda _, peer: answer(peer, 1000, "bye"),
        error=OK,
        code=1000,
        reason="bye",
        received=CloseInfo(1000, "bye"),
        sent=CloseInfo(1000, "bye"),
        info=CloseInfo(1000, "bye", was_clean=True),
    ),
    "the peer says 1001": End(
        by=lambda _, peer: answer(peer, 1001),
        error=OK,
        code=1001,
        received=CloseInfo(1001),
        sent=CloseInfo(1001),
        info=CloseInfo(1001, "", was_clean=True),
    ),
    "the peer says no code": End(
        by=lambda _, peer: answer(peer, None),
        error=OK,
        code=1005,
        received=CloseInfo(1005),
        sent=CloseInfo(1005),
        info=CloseInfo(1005, "", was_clean=True),
    ),
    "the peer says 1011": End(
        by=lambda _, peer: answer(peer, 1011, "oops"),
        error=ERROR,
        code=1011,
        reason="oops",
        received=CloseInfo(1011, "oops"),
        sent=CloseInfo(1011, "oops"),
        info=CloseInfo(1011, "oops", was_clean=True),
    ),
    "the peer says 3000": End(
        by=lambda _, peer: answer(peer, 3000),
        error=ERROR,
        code=3000,
        received=CloseInfo(3000),
        sent=CloseInfo(3000),
        info=CloseInfo(3000, "", was_clean=True),
    ),
    "we close and are answered": End(
        by=partial(close_with, theirs=4000),
        error=LOCALLY,
        code=4000,
        reason="theirs",
        received=CloseInfo(4000, "theirs"),
        sent=CloseInfo(4000, "ours"),
        info=CloseInfo(4000, "theirs", was_clean=True),
    ),
    "both close at once": End(
        by=partial(close_with, theirs=1011),
        error=LOCALLY,
        code=1011,
        reason="theirs",
        received=CloseInfo(1011, "theirs"),
        sent=CloseInfo(4000, "ours"),
        info=CloseInfo(1011, "theirs", was_clean=True),
    ),
    "we close and are not answered": End(
        by=close_unanswered, error=LOCALLY, code=4000, reason="ours", sent=CloseInfo(4000, "ours")
    ),
    "we close and the transport breaks": End(
        by=lose_after_our_close, error=LOCALLY, code=4000, reason="ours", sent=CloseInfo(4000, "ours")
    ),
    "we go, with a word": End(by=abandon, error=LOCALLY, code=1001, sent=CloseInfo(1001)),
    "we go, without a word": End(by=abandon_without_room, error=LOCALLY, code=1006),
    "the transport ends": End(by=lose, error=ERROR, code=1006),
    "the transport breaks": End(by=break_down, error=ERROR, code=1006, cause="ConnectionResetError('reset')"),
    "the peer breaks a rule": End(
        by=breach,
        error=ERROR,
        code=1006,
        sent=CloseInfo(1002, "protocol error: opcode 0x3 is reserved"),
        cause="RemoteProtocolError('opcode 0x3 is reserved')",
        info=CloseInfo(1002, "protocol error: opcode 0x3 is reserved"),
    ),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
async def test_each_end_is_told_in_full_by_every_call(end: End, autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        await wait_all_tasks_blocked()
        await end.by(websocket, peer)
        assert await websocket.wait_closed() == websocket.close_info == end.info
        await websocket.aclose(4999, "too late")
        assert websocket.close_info == end.info
        sync: list[Callable[[], object]] = [partial(websocket.send_nowait, "x"), websocket.receive_nowait]
        calls: list[Callable[[], Awaitable[object]]]
        calls = [partial(websocket.send, "x"), websocket.receive, websocket.ping, websocket.pong]
        for number in range(6):
            with pytest.raises(end.error) as caught:
                await calls[number]() if number < 4 else sync[number - 4]()
            error = caught.value
            assert type(error) is end.error
            assert (error.code, error.reason) == (end.code, end.reason)
            assert (error.received, error.sent) == (end.received, end.sent)
            assert error.was_clean == (end.received is not None and end.sent is not None)
            assert repr(error.__cause__) == end.cause


FAILURES: list[tuple[bytes, int, str]] = [
    (b"\x83\x00", 1002, "protocol error: opcode 0x3 is reserved"),
    (b"\xc1\x00", 1002, "protocol error: reserved bits are set"),
    (b"\x81\x80\0\0\0\0", 1002, "protocol error: the peer's frames must not be masked"),
    (b"\x09\x00", 1002, "protocol error: a control frame must not be fragmented"),
    (b"\x80\x00", 1002, "protocol error: a continuation without a message"),
    (b"\x88\x01\x00", 1002, "protocol error: a Close frame with one byte"),
    (b"\x88\x02\x03\xed", 1002, "protocol error: close code 1005 must not be sent"),
    (b"\x81\x01\xff", 1007, "invalid data: text is not UTF-8"),
    (b"\x88\x03\x03\xe8\xff", 1007, "invalid data: text is not UTF-8"),
    (
        b"\x02\x01x" + b"\x00\x00" * 3,
        1008,
        "policy violation: more than 2 empty fragments in a row (max_empty_fragments): 3",
    ),
    (
        b"\x02\x01x" + b"\x00\x01x" * 4,
        1008,
        "policy violation: message in more than 4 fragments (max_fragments): 5 or more",
    ),
    (
        b"\x82\x7e\x01\x01",
        1009,
        "message too big: message of 257 bytes or more, at most 256 are taken (max_message_size)",
    ),
]
TIGHT = Limits(max_message_size=256, max_fragments=4, max_empty_fragments=2, control_burst=5, control_rate=0)


@pytest.mark.parametrize(("data", "code", "reason"), FAILURES)
async def test_each_breach_is_told_to_the_peer_and_is_the_cause(
    data: bytes, code: int, reason: str, autojump_clock: MockClock
) -> None:
    async with one_side(limits=TIGHT) as (websocket, peer):
        peer.send("good")
        peer.transport.write(data + frame_bytes(Opcode.TEXT, b"after", masked=False))
        assert await websocket.receive() == "good"
        with pytest.raises(ERROR) as caught:
            await websocket.receive()
        assert peer.heard() == [Close(CloseInfo(code, reason))]
        assert (caught.value.code, caught.value.received) == (1006, None)
        assert caught.value.sent == CloseInfo(code, reason)
        cause = caught.value.__cause__
        assert type(cause) is (trio_ws.MessageTooBig if code == 1009 else trio_ws.RemoteProtocolError)
        assert cause.close_code == code
        assert str(cause) in reason
        end_of(peer).end()
        assert await websocket.wait_closed() == CloseInfo(code, reason)


async def test_a_flood_of_control_frames_is_told_to_the_peer_and_is_the_cause(autojump_clock: MockClock) -> None:
    async with one_side(limits=TIGHT) as (websocket, peer):
        peer.transport.write(b"\x8a\x00" * 6)
        with pytest.raises(ERROR) as caught:
            await websocket.receive()
        reason = "policy violation: too many control frames (control_burst is 5, control_rate 0 a second): 6"
        assert peer.heard() == [Close(CloseInfo(1008, reason))]
        assert isinstance(caught.value.__cause__, trio_ws.RemoteProtocolError)
        assert caught.value.__cause__.close_code == 1008


async def test_a_peer_that_is_given_up_is_told_1011_and_left_at_once(autojump_clock: MockClock) -> None:
    async with one_side(keepalive=Keepalive(interval=3, timeout=2)) as (websocket, peer):
        before = trio.current_time()
        assert await websocket.wait_closed() == CloseInfo(
            1011, "internal error: no answer to a keepalive ping (interval is 3 s, timeout 2 s)"
        )
        assert trio.current_time() == before + 5
        assert peer.heard()[1:] == [
            Close(CloseInfo(1011, "internal error: no answer to a keepalive ping (interval is 3 s, timeout 2 s)"))
        ]
        assert end_of(peer).closed
        with pytest.raises(ERROR) as caught:
            await websocket.receive()
        assert caught.value.__cause__ is not None
        assert str(caught.value.__cause__) == "no answer to a keepalive ping (interval is 3 s, timeout 2 s)"


async def test_a_peer_that_does_not_read_is_given_up_too(autojump_clock: MockClock) -> None:
    async with one_side(keepalive=Keepalive(interval=3, timeout=2)) as (websocket, peer):
        end_of(peer).room = 0
        await websocket.send("stuck")
        before = trio.current_time()
        assert await websocket.wait_closed() == CloseInfo(
            1011, "internal error: no answer to a keepalive ping (interval is 3 s, timeout 2 s)"
        )
        assert trio.current_time() == before + 5


async def test_a_peer_that_sends_and_takes_nothing_has_its_time_from_when_reading_stops(
    autojump_clock: MockClock,
) -> None:
    limits = Limits(receive_buffer=300)
    async with one_side(keepalive=Keepalive(interval=3, timeout=2), limits=limits) as (websocket, peer):
        end_of(peer).room = 0
        await websocket.send("stuck")
        for _ in range(3):
            await trio.sleep(2)
            peer.send(b"?", Opcode.PING)
        await trio.sleep(2)
        peer.send(bytes(300))
        before = trio.current_time()
        assert await websocket.wait_closed() == CloseInfo(
            1011, "internal error: the peer takes nothing of what it is sent (interval is 3 s, timeout 2 s)"
        )
        assert trio.current_time() == before + 5


# ---- what is still to be had ----


async def test_what_came_before_the_peers_close_is_received_after_the_end(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        for number in range(4):
            peer.send(str(number))
        await answer(peer, 1000)
        await websocket.wait_closed()
        assert websocket.ready_state is ReadyState.CLOSED
        assert [await websocket.receive(), websocket.receive_nowait()] == ["0", "1"]
        assert [message async for message in websocket] == ["2", "3"]


@pytest.mark.parametrize("by", [lose, break_down, breach])
async def test_what_came_before_a_bad_end_is_received_too(
    by: Callable[[WebSocket, Peer], Awaitable[None]], autojump_clock: MockClock
) -> None:
    async with one_side() as (websocket, peer):
        peer.send("whole")
        peer.transport.write(frame_bytes(Opcode.TEXT, b"torn", masked=False)[:-1] if by is not breach else b"")
        await wait_all_tasks_blocked()
        await by(websocket, peer)
        await websocket.wait_closed()
        assert await websocket.receive() == "whole"
        with pytest.raises(ERROR):
            await websocket.receive()


async def test_what_comes_after_our_close_is_dropped(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer), trio.open_nursery() as nursery:
        peer.send("before")
        await wait_all_tasks_blocked()
        nursery.start_soon(websocket.aclose)
        await wait_all_tasks_blocked()
        for _ in range(3):
            peer.send("after")
        peer.send(b"", Opcode.PING)
        await wait_all_tasks_blocked()
        assert websocket.statistics().messages_received == 1
        assert websocket.statistics().receive_buffer == 0
        with pytest.raises(LOCALLY):
            websocket.receive_nowait()
        assert peer.heard() == [Close(CloseInfo(1000))]  # RFC 6455 §5.5.1: nothing after it, no Pong either
        await answer(peer, 1000)


async def test_a_server_that_says_goodbye_leaves_its_handlers_what_had_come(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False) as (websocket, peer):
        peer.send("before")
        await wait_all_tasks_blocked()
        websocket._connection.start_close(1001, "restart")
        websocket._connection.start_close(1001, "again")
        peer.send("after")
        await wait_all_tasks_blocked()
        assert await websocket.receive() == "before"
        with pytest.raises(LOCALLY):
            await websocket.receive()
        assert peer.heard() == [Close(CloseInfo(1001, "restart"))]


# ---- how long it takes ----


async def time_of(call: Callable[[], Awaitable[object]]) -> float:
    before = trio.current_time()
    await call()
    return trio.current_time() - before


@pytest.mark.parametrize(("close_timeout", "linger", "seconds"), [(10, 2, 2), (1, 2, 1), (0, 2, 0), (10, 0, 0)])
async def test_lingering_is_within_close_timeout(
    close_timeout: float, linger: float, seconds: float, autojump_clock: MockClock
) -> None:
    limits = Limits(close_linger=linger)
    async with one_side(close_timeout=close_timeout, limits=limits) as (websocket, peer):
        await wait_all_tasks_blocked()
        peer.close(1000)
        assert await time_of(websocket.wait_closed) == seconds
        assert peer.heard() == [Close(CloseInfo(1000))]


async def test_a_peer_that_does_not_take_our_close_costs_close_timeout_whoever_began(autojump_clock: MockClock) -> None:
    for theirs in (True, False):
        async with one_side(close_timeout=3) as (websocket, peer):
            end_of(peer).room = 0
            await websocket.send("stuck")
            if theirs:
                peer.close(1000)
                assert await time_of(websocket.wait_closed) == 3
            else:
                assert await time_of(websocket.aclose) == 3
            assert peer.heard() == []


async def test_a_close_that_had_to_wait_is_followed_by_the_end_at_once(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False, limits=Limits(close_linger=1)) as (websocket, peer):
        end_of(peer).room = 0
        await websocket.send("waits")
        peer.close(1000)
        await trio.sleep(3)
        end_of(peer).make_room(math.inf)
        await wait_all_tasks_blocked()
        assert end_of(peer).eof_written
        assert await time_of(websocket.wait_closed) == 1


async def test_the_second_close_does_not_begin_the_time_anew(autojump_clock: MockClock) -> None:
    async with one_side(close_timeout=3) as (websocket, _), trio.open_nursery() as nursery:
        before = trio.current_time()
        nursery.start_soon(websocket.aclose)
        await trio.sleep(2)
        await websocket.aclose(4000)
        assert trio.current_time() == before + 3


async def test_a_breach_in_the_answer_does_not_begin_the_time_anew(autojump_clock: MockClock) -> None:
    async with one_side(close_timeout=3, limits=Limits(close_linger=60)) as (websocket, peer):
        async with trio.open_nursery() as nursery:
            before = trio.current_time()
            nursery.start_soon(websocket.aclose)
            await trio.sleep(2)
            peer.transport.write(b"\x83\x00")
        assert trio.current_time() == before + 3


async def test_closing_without_a_code_sends_an_empty_close(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False, close_timeout=0) as (websocket, peer):
        await websocket.aclose(None)
        assert bytes(end_of(peer).written) == b"\x88\x00"
        with pytest.raises(LOCALLY) as caught:
            await websocket.receive()
        assert caught.value.sent == CloseInfo(1005)


async def test_cancelling_one_aclose_ends_the_other(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        async with trio.open_nursery() as nursery:
            before = trio.current_time()
            nursery.start_soon(websocket.aclose)
            with trio.move_on_after(1):
                await websocket.aclose()
        assert trio.current_time() == before + 1
        assert end_of(peer).closed


async def test_cancelling_wait_closed_does_nothing_to_the_connection(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server):
        with trio.move_on_after(1):
            await client.wait_closed()
        await client.send("still here")
        assert await server.receive() == "still here"


async def test_everybody_who_waits_for_the_end_is_told(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        told: list[CloseInfo] = []

        async def wait() -> None:
            told.append(await websocket.wait_closed())

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            await answer(peer, 1000)
        assert told == [CLEAN_1000] * 3


async def test_the_peers_close_wakes_everybody_at_once(autojump_clock: MockClock) -> None:
    async with one_side(limits=Limits(send_buffer=1)) as (websocket, peer):
        end_of(peer).room = 0
        await websocket.send("stuck")
        woken: list[float] = []

        async def expect_the_end(call: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(OK):
                await call()
            woken.append(trio.current_time())

        calls: list[Callable[[], Awaitable[object]]]
        calls = [partial(websocket.send, "x"), partial(websocket.send, "y"), websocket.receive, websocket.receive]
        calls += [websocket.ping, partial(websocket.ping, b"z")]
        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(expect_the_end, call)
            await trio.sleep(1)
            peer.close(1000)
        assert woken == [1.0] * 6


# ---- frames in the last batch ----


async def test_nothing_counts_after_the_peers_close(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        batch = [
            frame_bytes(Opcode.CLOSE, b"", masked=False),
            frame_bytes(Opcode.PING, b"?", masked=False),
            frame_bytes(Opcode.TEXT, b"x", masked=False),
        ]
        peer.transport.write(b"".join(batch))
        await wait_all_tasks_blocked()
        assert peer.heard() == [Close(CloseInfo(1005))]
        assert websocket.statistics().pings_received == 0
        with pytest.raises(OK):
            await websocket.receive()


async def test_a_flood_in_the_last_batch_does_not_undo_the_peers_close(autojump_clock: MockClock) -> None:
    async with one_side(limits=Limits(control_burst=2, control_rate=0)) as (websocket, peer):
        peer.transport.write(
            frame_bytes(Opcode.PING, b"", masked=False) * 5 + frame_bytes(Opcode.CLOSE, b"", masked=False)
        )
        await wait_all_tasks_blocked()
        assert [type(event) for event in peer.heard()].count(Close) == 1
        end_of(peer).end()
        await websocket.wait_closed()


async def test_a_half_written_frame_is_not_followed_by_a_goodbye(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False) as (websocket, peer):
        end_of(peer).room = 3
        await websocket.send("stuck")
        await wait_all_tasks_blocked()
        websocket._connection.abandon()
        end_of(peer).make_room(math.inf)
        await wait_all_tasks_blocked()
        assert bytes(end_of(peer).written) == b"\x81\x05s"


async def test_nothing_counts_after_a_flood_of_control_frames(autojump_clock: MockClock) -> None:
    async with one_side(limits=TIGHT) as (websocket, peer):
        peer.transport.write(b"\x8a\x00" * 6 + frame_bytes(Opcode.TEXT, b"after", masked=False))
        with pytest.raises(ERROR):
            await websocket.receive()


async def test_an_end_leaves_no_timer(autojump_clock: MockClock) -> None:
    """It would keep all of the connection in memory, for as long as the keepalive's interval."""
    async with one_side(keepalive=Keepalive(interval=20, timeout=20)) as (websocket, _):
        await trio.sleep(1)
        timers = websocket._connection._reactor._timers
        assert any(timer.call for *_, timer in timers)
        websocket._connection.abandon()
        assert not any(timer.call for *_, timer in timers)
