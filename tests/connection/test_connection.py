"""A connection: who reads, who waits, how it ends."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from tests.connection.memory import transport_pair
from tests.connection.sides import Peer, end_of, one_side, start, two_sides
from trio_ws import CloseInfo, Keepalive, Limits, ReadyState
from trio_ws._wire.events import Close, Ping, Pong
from trio_ws._wire.frames import Opcode, frame_bytes

SMALL = Limits(receive_buffer=300, send_buffer=100)


async def collect(websocket: trio_ws.WebSocket, into: list[object], count: int = 1) -> None:
    into += [await websocket.receive() for _ in range(count)]


async def catch(into: list[BaseException], call: Callable[[], Awaitable[object]]) -> None:
    try:
        await call()
    except trio_ws.ConnectionClosed as error:
        into.append(error)


# ---- receiving ----


async def test_a_receiver_reads_for_itself(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        got: list[object] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect, websocket, got, 3)
            await wait_all_tasks_blocked()
            for number in range(3):
                peer.send(str(number))
                await wait_all_tasks_blocked()
        assert got == ["0", "1", "2"]


async def test_messages_that_came_with_the_handshake_are_received(autojump_clock: MockClock) -> None:
    async with one_side(rest=frame_bytes(Opcode.TEXT, b"early", masked=False)) as (websocket, _):
        assert await websocket.receive() == "early"


async def test_each_message_goes_to_one_of_several_receivers(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        got: list[object] = []
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(collect, websocket, got, 20)
            for number in range(100):
                peer.send(str(number))
                if number % 7 == 0:
                    await trio.sleep(0.005)
        assert sorted(map(int, map(str, got))) == list(range(100))


async def test_a_cancelled_receiver_hands_over_to_the_next(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        got: list[object] = []
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(collect, websocket, got)
                await trio.lowlevel.checkpoint()
                nursery.start_soon(collect, websocket, got)
                await wait_all_tasks_blocked()
                scope.cancel()
                await collect(websocket, got)
            await wait_all_tasks_blocked()
            peer.send("one")
            peer.send("two")
        assert got == ["one", "two"]


async def test_a_cancelled_receive_loses_nothing(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.send("kept")
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await websocket.receive()
        assert scope.cancelled_caught
        with trio.move_on_after(1):
            assert await websocket.receive() == "kept"
            await websocket.receive()
        peer.send("later")
        assert await websocket.receive() == "later"


async def test_pings_are_answered_while_the_application_is_busy(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        await wait_all_tasks_blocked()
        peer.send("work")
        assert await websocket.receive() == "work"
        peer.send(b"there?", Opcode.PING)
        await trio.sleep(0.005)
        assert peer.heard() == [Pong(b"there?")]
        peer.send("more")
        assert await websocket.receive() == "more"


async def test_an_application_that_comes_back_reads_again_for_itself(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        for number in range(20):
            peer.send(str(number))
            assert await websocket.receive() == str(number)
            await trio.sleep(0.004)
        await trio.sleep(1)
        peer.send("last")
        assert await websocket.receive() == "last"


async def test_a_full_receive_buffer_stops_the_peer_and_resumes_at_half(autojump_clock: MockClock) -> None:
    async with one_side(limits=SMALL) as (websocket, peer):
        for _ in range(3):
            peer.send(b"x" * 36)  # counted as 100
            await trio.sleep(1)
        peer.send(b"ping", Opcode.PING)
        await trio.sleep(1)
        assert peer.heard() == []
        assert websocket.statistics().backpressured
        assert websocket.statistics().receive_buffer == 300
        await websocket.receive()
        await trio.sleep(1)
        assert peer.heard() == []
        await websocket.receive()
        await trio.sleep(1)
        assert not websocket.statistics().backpressured
        assert peer.heard() == [Pong(b"ping")]


async def test_a_flood_of_frames_lets_others_run(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        seen: list[int] = []

        async def watch() -> None:
            while len(seen) < 3:
                seen.append(websocket.statistics().messages_received)
                await trio.lowlevel.checkpoint()

        for _ in range(1000):
            peer.send("x")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            assert await websocket.receive() == "x"
        assert max(seen) <= 768
        for _ in range(999):
            assert await websocket.receive() == "x"


async def test_receive_nowait_takes_what_is_here(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with pytest.raises(trio.WouldBlock):
            websocket.receive_nowait()
        peer.send("one")
        peer.send("two")
        assert [websocket.receive_nowait(), websocket.receive_nowait()] == ["one", "two"]
        await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            websocket.receive_nowait()
        peer.close()
        await wait_all_tasks_blocked()
        with pytest.raises(trio_ws.ConnectionClosedOK):
            websocket.receive_nowait()


# ---- sending ----


async def test_senders_wait_in_line(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False, limits=SMALL) as (websocket, peer):
        end_of(peer).room = 0
        await websocket.send(b"a" * 200)
        with pytest.raises(trio.WouldBlock):
            websocket.send_nowait(b"no")
        async with trio.open_nursery() as nursery:
            for letter in (b"b", b"c", b"d"):
                nursery.start_soon(websocket.send, letter * 200)
                await wait_all_tasks_blocked()
            assert websocket.buffered_amount == 204
            end_of(peer).make_room(150)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.WouldBlock):
                websocket.send_nowait(b"not before those who wait")
            end_of(peer).make_room(math.inf)
        await wait_all_tasks_blocked()
        websocket.send_nowait(b"e")
        assert peer.heard() == [b"a" * 200, b"b" * 200, b"c" * 200, b"d" * 200, b"e"]


async def test_a_cancelled_sender_sends_nothing_and_leaves_the_line(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False, limits=SMALL) as (websocket, peer):
        end_of(peer).room = 0
        await websocket.send(b"a" * 200)
        with trio.move_on_after(1):
            await websocket.send(b"never")
        end_of(peer).make_room(math.inf)
        await websocket.send(b"b")
        await wait_all_tasks_blocked()
        assert peer.heard() == [b"a" * 200, b"b"]


async def test_small_frames_that_waited_leave_together(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False, limits=Limits(send_buffer=None)) as (websocket, peer):
        end_of(peer).room = 0
        for _ in range(3):
            await websocket.send(b"x" * 40000)
        for _ in range(100):
            await websocket.send(b"y" * 1000)
        end_of(peer).make_room(math.inf)
        await wait_all_tasks_blocked()
        assert peer.heard() == [b"x" * 40000] * 3 + [b"y" * 1000] * 100


async def test_one_pong_waits_the_newest_and_goes_before_messages(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False) as (websocket, peer):
        end_of(peer).room = 0
        await websocket.send(b"first")
        await websocket.send(b"second")
        for number in range(100):
            peer.send(str(number).encode(), Opcode.PING)
        await wait_all_tasks_blocked()
        end_of(peer).make_room(math.inf)
        await wait_all_tasks_blocked()
        assert peer.heard() == [b"first", Pong(b"99"), b"second"]


async def test_a_close_goes_after_all_that_waits_and_nothing_after_it(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False) as (websocket, peer):
        end_of(peer).room = 0
        await websocket.send(b"first")
        await websocket.send(b"second")
        peer.send(b"ping", Opcode.PING)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(websocket.aclose, 4000, "bye")
            await wait_all_tasks_blocked()
            peer.send(b"late", Opcode.PING)
            await wait_all_tasks_blocked()
            end_of(peer).make_room(math.inf)
            await wait_all_tasks_blocked()
            assert peer.heard() == [b"first", Pong(b"ping"), b"second", Close(CloseInfo(4000, "bye"))]
            peer.close(4000)
            peer.transport.write_eof()


# ---- pings ----


async def test_a_ping_gives_its_round_trip(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        trips: list[float] = []

        async def ping(payload: bytes | None) -> None:
            trips.append(await websocket.ping(payload))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ping, None)
            await wait_all_tasks_blocked()
            first = peer.heard()[0]
            assert isinstance(first, Ping)
            await trio.sleep(0.25)
            nursery.start_soon(ping, b"mine")
            await wait_all_tasks_blocked()
            assert peer.heard() == [Ping(b"mine")]
            await trio.sleep(0.5)
            peer.send(b"somebody else's", Opcode.PONG)
            await trio.sleep(0.25)
            assert trips == []
            peer.send(b"mine", Opcode.PONG)  # answers the one before it, too
        assert sorted(trips) == [0.75, 1.0]
        assert websocket.latency == 0.75
        assert websocket.statistics().pongs_received == 2


@pytest.mark.parametrize("later", ["ping(ws)", "cancelled", "keepalive"])
async def test_a_pong_for_a_later_ping_of_any_kind_answers_those_before(later: str, autojump_clock: MockClock) -> None:
    """A peer need answer only the newest (RFC 6455 §5.5.3)."""
    keepalive = Keepalive(interval=2, timeout=20) if later == "keepalive" else None
    async with one_side(keepalive=keepalive) as (websocket, peer), trio.open_nursery() as nursery:
        trips: list[float] = []

        async def ping() -> None:
            trips.append(await websocket.ping())

        nursery.start_soon(ping)
        await trio.sleep(1)
        nursery.start_soon(ping)
        await wait_all_tasks_blocked()
        if later == "ping(ws)":
            trio_ws.ping(websocket, b"later")
        elif later == "cancelled":
            with trio.move_on_after(1):
                await websocket.ping()
        await trio.sleep_until(3)
        pings = peer.heard()
        assert [type(ping) for ping in pings] == [Ping] * 3
        peer.send(pings[-1].payload, Opcode.PONG)  # type: ignore[union-attr]
        await wait_all_tasks_blocked()
        assert trips in ([3, 2], [2, 3])
        assert websocket.latency == (1 if later == "keepalive" else 2)


async def test_however_many_pings_are_sent_the_newest_answers_all(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer), trio.open_nursery() as nursery:
        answered: list[int] = []

        async def ping(number: int) -> None:
            await websocket.ping(b"mine %d" % number)
            answered.append(number)

        for number in range(50):
            nursery.start_soon(ping, number)
            await wait_all_tasks_blocked()
            for _ in range(50):
                trio_ws.ping(websocket, b"%d" % number)
        assert len(websocket._connection.pings._sent) <= 50 + 16
        peer.send(b"mine 20", Opcode.PONG)
        await wait_all_tasks_blocked()
        assert sorted(answered) == list(range(21))
        peer.send(b"49", Opcode.PONG)
        await wait_all_tasks_blocked()
        assert sorted(answered) == list(range(50))
        assert websocket._connection.pings._sent == ()
        nursery.cancel_scope.cancel()


async def test_a_pong_that_answers_nothing_wakes_nobody(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with trio.move_on_after(10) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(websocket.ping, b"")
                await wait_all_tasks_blocked()
                for payload in (b"x", b"\0", bytes(8), bytes(125)):
                    peer.send(payload, Opcode.PONG)
        assert scope.cancelled_caught
        assert websocket.latency is None
        peer.send(b"", Opcode.PONG)  # the task has gone, but this is the pong
        await trio.sleep(1)
        assert websocket.latency == 10


async def test_whoever_waits_is_woken_by_the_end(autojump_clock: MockClock) -> None:
    async with one_side(limits=SMALL, close_timeout=1) as (websocket, peer):
        end_of(peer).room = 0
        await websocket.send(b"x" * 200)
        ends: list[BaseException] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catch, ends, partial(websocket.send, "blocked"))
            nursery.start_soon(catch, ends, partial(websocket.receive))
            nursery.start_soon(catch, ends, partial(websocket.ping))
            await wait_all_tasks_blocked()
            before = trio.current_time()
            await websocket.aclose()
            assert trio.current_time() - before == 1
        assert [type(error) for error in ends] == [trio_ws.ConnectionClosedLocally] * 3
        assert websocket.close_info == CloseInfo(1006)


async def test_a_ping_on_its_way_ends_with_the_connection(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        ends: list[BaseException] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catch, ends, partial(websocket.ping))
            await wait_all_tasks_blocked()
            end_of(peer).break_down(ConnectionResetError("gone"))
        assert isinstance(ends[0], trio_ws.ConnectionClosedError)
        assert repr(ends[0].__cause__) == "ConnectionResetError('gone')"
        for call in (websocket.ping, websocket.pong, websocket.receive, partial(websocket.send, "x")):
            with pytest.raises(trio_ws.ConnectionClosedError):
                await call()
        with pytest.raises(trio_ws.ConnectionClosedError):
            websocket.send_nowait("x")
        trio_ws.ping(websocket)  # does nothing


async def test_pongs_nobody_asked_for_and_pings_nobody_waits_for(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        await websocket.pong(b"beat")
        trio_ws.ping(websocket, b"fire")
        assert peer.heard() == [Pong(b"beat"), Ping(b"fire")]
        peer.send(b"", Opcode.PONG)
        await wait_all_tasks_blocked()
        assert websocket.ready_state is ReadyState.OPEN


async def test_a_flood_of_control_frames_fails(autojump_clock: MockClock) -> None:
    async with one_side(limits=Limits(control_burst=10, control_rate=1)) as (websocket, peer):
        for _ in range(10):
            peer.send(b"", Opcode.PING)
        await trio.sleep(5)
        for _ in range(5):
            peer.send(b"", Opcode.PONG)
        await wait_all_tasks_blocked()
        assert websocket.ready_state is ReadyState.OPEN
        peer.send(b"", Opcode.PING)
        await wait_all_tasks_blocked()
        assert peer.heard()[-1] == Close(
            CloseInfo(
                1008,
                "policy violation: too many control frames (control_burst is 10, control_rate 1 a second): 16",
            )
        )
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await websocket.receive()
        assert isinstance(caught.value.__cause__, trio_ws.RemoteProtocolError)


# ---- keepalive ----


async def test_a_silent_peer_is_asked_and_given_up(autojump_clock: MockClock) -> None:
    async with one_side(keepalive=Keepalive(interval=20, timeout=5)) as (websocket, peer):
        before = trio.current_time()
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await websocket.receive()
        assert trio.current_time() - before == 25
        assert "no answer to a keepalive ping" in str(caught.value.__cause__)
        assert caught.value.sent is not None
        assert caught.value.sent.code == 1011
        heard = peer.heard()
        assert isinstance(heard[0], Ping)
        assert isinstance(heard[1], Close)
        assert await websocket.wait_closed() == caught.value.sent


async def test_any_byte_is_life(autojump_clock: MockClock) -> None:
    async with one_side(keepalive=Keepalive(interval=20, timeout=5)) as (websocket, peer):
        frame = frame_bytes(Opcode.BINARY, bytes(60), masked=False)
        for byte in frame:
            peer.transport.write(bytes((byte,)))
            await trio.sleep(4)
        assert await websocket.receive() == bytes(60)
        assert peer.heard() == []
        await trio.sleep(18)
        (ping,) = peer.heard()
        assert isinstance(ping, Ping)
        peer.send("not a pong, but life")
        await trio.sleep(10)
        assert websocket.ready_state is ReadyState.OPEN


async def test_the_keepalive_clock_stands_still_while_the_application_does_not_receive(
    autojump_clock: MockClock,
) -> None:
    async with one_side(limits=SMALL, keepalive=Keepalive(interval=20, timeout=5)) as (websocket, peer):
        for _ in range(3):
            peer.send(b"x" * 36)
        await trio.sleep(1000)
        assert websocket.ready_state is ReadyState.OPEN
        for _ in range(3):
            await websocket.receive()
        await trio.sleep(19)
        assert peer.heard() == []
        await trio.sleep(2)
        assert len(peer.heard()) == 1


# ---- closing ----


@pytest.mark.parametrize("is_client", [True, False])
async def test_this_side_closes_first(is_client: bool, autojump_clock: MockClock) -> None:
    async with one_side(is_client=is_client) as (websocket, peer):
        peer.send("unread")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(websocket.aclose, 4001, "enough")
            await wait_all_tasks_blocked()
            assert websocket.ready_state is ReadyState.CLOSING
            assert peer.heard() == [Close(CloseInfo(4001, "enough"))]
            peer.send("dropped")
            peer.close(4001)
            await wait_all_tasks_blocked()
            assert end_of(peer).eof_written is not is_client  # RFC 6455 §7.1.1: the server ends TCP first
            peer.transport.write_eof()
        assert websocket.close_info == CloseInfo(4001, "", was_clean=True)
        with pytest.raises(trio_ws.ConnectionClosedLocally) as caught:
            await websocket.receive()
        assert (caught.value.sent, caught.value.received) == (CloseInfo(4001, "enough"), CloseInfo(4001))
        await websocket.aclose()
        assert await websocket.wait_closed() == websocket.close_info


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (1000, trio_ws.ConnectionClosedOK),
        (1001, trio_ws.ConnectionClosedOK),
        (None, trio_ws.ConnectionClosedOK),
        (1011, trio_ws.ConnectionClosedError),
        (4000, trio_ws.ConnectionClosedError),
    ],
)
async def test_the_peer_closes_first(
    code: int | None, error: type[trio_ws.ConnectionClosed], autojump_clock: MockClock
) -> None:
    async with one_side() as (websocket, peer):
        peer.send("before")
        if code is None:
            peer.send(b"", Opcode.CLOSE)
        else:
            peer.close(code, "why")
        await wait_all_tasks_blocked()
        assert await websocket.receive() == "before"
        with pytest.raises(error) as caught:
            await websocket.receive()
        assert caught.value.code == (code or 1005)
        assert peer.heard() == [Close(CloseInfo(code or 1005, "why" if code else ""))]
        peer.transport.write_eof()
        assert await websocket.wait_closed() == CloseInfo(code or 1005, "why" if code else "", was_clean=True)


async def test_both_sides_close_at_once(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(client.aclose, 4001)
        nursery.start_soon(server.aclose, 4002)
    assert (client.close_info, server.close_info) == (
        CloseInfo(4002, "", was_clean=True),
        CloseInfo(4001, "", was_clean=True),
    )


async def test_a_peer_that_never_answers_costs_close_timeout(autojump_clock: MockClock) -> None:
    async with one_side(close_timeout=3) as (websocket, _):
        before = trio.current_time()
        await websocket.aclose()
        assert trio.current_time() - before == 3
        assert websocket.close_info == CloseInfo(1006)


@pytest.mark.parametrize("is_client", [True, False])
async def test_a_peer_that_never_ends_tcp_costs_close_linger(is_client: bool, autojump_clock: MockClock) -> None:
    async with one_side(is_client=is_client, limits=Limits(close_linger=1.5)) as (websocket, peer):
        peer.close()
        before = trio.current_time()
        assert (await websocket.wait_closed()).was_clean
        assert trio.current_time() - before == 1.5
        assert end_of(peer).closed


async def test_a_peer_that_sends_on_cannot_keep_a_connection(autojump_clock: MockClock) -> None:
    async with one_side(close_timeout=2, limits=SMALL) as (websocket, peer):

        async def flood() -> None:
            while not websocket.close_info:
                peer.send(b"x" * 1000)
                await trio.sleep(0.1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            await trio.sleep(1)
            before = trio.current_time()
            await websocket.aclose()
            assert trio.current_time() - before == 2


async def test_a_cancelled_aclose_has_closed(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with trio.move_on_after(1):
            await websocket.aclose(4000)
        assert end_of(peer).closed
        assert peer.heard() == [Close(CloseInfo(4000))]
        assert websocket.ready_state is ReadyState.CLOSED


async def test_abandoning_says_1001_if_that_needs_no_waiting(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        websocket._connection.abandon()
        assert peer.heard() == [Close(CloseInfo(1001))]
    async with one_side() as (websocket, peer):
        end_of(peer).room = 4
        await websocket.send("blocked")
        websocket._connection.abandon()
        assert len(end_of(peer).written) == 4
        with pytest.raises(trio_ws.ConnectionClosedLocally):
            await websocket.receive()


async def test_a_nursery_that_is_cancelled_abandons(autojump_clock: MockClock) -> None:
    ours, theirs = transport_pair()
    peer = Peer(theirs, is_client=False)
    async with trio.open_nursery() as nursery:
        websocket = start(nursery, ours, is_client=True, shield=False)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert peer.heard() == [Close(CloseInfo(1001))]
    assert websocket.ready_state is ReadyState.CLOSED


async def test_a_breach_fails_the_connection(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.send("good")
        peer.transport.write(b"\x83\x00")
        await wait_all_tasks_blocked()
        assert await websocket.receive() == "good"
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await websocket.receive()
        assert isinstance(caught.value.__cause__, trio_ws.RemoteProtocolError)
        assert caught.value.sent == CloseInfo(1002, "protocol error: opcode 0x3 is reserved")
        assert end_of(peer).eof_written
        peer.transport.write_eof()
        assert await websocket.wait_closed() == caught.value.sent


async def test_a_breach_after_our_close_ends_the_connection(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(websocket.aclose)
            await wait_all_tasks_blocked()
            before = trio.current_time()
            peer.transport.write(b"\x83\x00")
        assert trio.current_time() - before == 2  # close_linger
        assert len(peer.heard()) == 1


async def test_a_transport_that_ends_after_our_close(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(websocket.aclose)
            await wait_all_tasks_blocked()
            peer.transport.write_eof()
        assert websocket.close_info == CloseInfo(1006)


async def test_a_bug_in_a_transport_ends_its_connection_only(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with one_side() as (websocket, peer):

        def fail() -> bytes | None:
            raise ZeroDivisionError("bug")

        end_of(peer).read = fail  # type: ignore[method-assign]
        peer.send("x")
        await websocket.wait_closed()
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await websocket.receive()
    assert repr(caught.value.__cause__) == "ZeroDivisionError('bug')"
    assert "internal error" in caplog.text


async def test_a_receiver_that_is_woken_to_end_may_still_see_the_peers_close(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        ends: list[BaseException] = []
        async with trio.open_nursery() as nursery:
            peer.send("one")
            await websocket.receive()
            nursery.start_soon(catch, ends, partial(websocket.receive))
            await wait_all_tasks_blocked()
            before = trio.current_time()
            peer.close()
            peer.transport.write_eof()
            await websocket.aclose()
            assert trio.current_time() == before
        assert websocket.close_info == CloseInfo(1000, "", was_clean=True)


@pytest.mark.parametrize(
    ("message", "weight"), [("a" * 100, 164), ("é" * 100, 464), ("🙂" * 100, 464), (b"\xff" * 100, 164), ("", 64)]
)
async def test_what_waits_is_counted_in_bytes(message: str | bytes, weight: int, autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.send(message)
        await trio.sleep(1)
        assert websocket.statistics().receive_buffer == weight
        if message:
            size = len(message.encode() if isinstance(message, str) else message)
            assert size + 64 <= weight
        assert await websocket.receive() == message
        assert websocket.statistics().receive_buffer == 0


async def test_what_inflates_to_much_does_not_pile_up(autojump_clock: MockClock) -> None:
    limits = Limits(receive_buffer=10000)
    async with one_side(limits=limits) as (websocket, peer):
        peer.transport.write(b"".join(frame_bytes(Opcode.BINARY, bytes(4000), masked=False) for _ in range(10)))
        await trio.sleep(1)
        assert websocket.statistics().receive_buffer == 3 * 4064
        for _ in range(10):
            assert await websocket.receive() == bytes(4000)


async def test_the_end_of_tcp_after_both_closes_is_no_error(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.close()
        await wait_all_tasks_blocked()
        peer.transport.write_eof()
        assert await websocket.wait_closed() == CloseInfo(1000, "", was_clean=True)


async def test_a_lost_connection_does_not_wait_for_what_it_cannot_send(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        end_of(peer).room = 0
        await websocket.send("never")
        before = trio.current_time()
        peer.transport.write_eof()
        assert await websocket.wait_closed() == CloseInfo(1006)
        assert trio.current_time() == before


async def test_a_goodbye_is_said_when_the_last_byte_has_just_gone(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False) as (websocket, peer):
        end_of(peer).room = 0
        await websocket.send("waits")
        end_of(peer).make_room(math.inf)
        websocket._connection.abandon()
        assert peer.heard() == ["waits", Close(CloseInfo(1001))]


async def test_nobody_goes_before_a_sender_that_was_let_in(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False, limits=SMALL) as (websocket, peer):
        end_of(peer).room = 0
        await websocket.send(b"a" * 200)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(websocket.send, b"b" * 200)
            await wait_all_tasks_blocked()
            end_of(peer).make_room(math.inf)
            websocket._connection.outbox.let_next_in()
            with pytest.raises(trio.WouldBlock):
                websocket.send_nowait(b"c")
        await wait_all_tasks_blocked()
        assert peer.heard() == [b"a" * 200, b"b" * 200]


async def test_keepalive_pings_that_other_bytes_answered_do_not_pile_up(autojump_clock: MockClock) -> None:
    async with one_side(keepalive=Keepalive(interval=1, timeout=1)) as (websocket, peer):
        for _ in range(50):
            await trio.sleep(1.5)
            peer.send(b"no answer", Opcode.PONG)
        assert len(websocket._connection.pings._sent) == 16


async def test_reading_stops_when_the_connection_has_ended(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        ends: list[BaseException] = []
        async with trio.open_nursery() as nursery:
            peer.send("one")
            await websocket.receive()
            nursery.start_soon(catch, ends, partial(websocket.receive))
            await wait_all_tasks_blocked()
            websocket._connection.abandon()
        assert isinstance(ends[0], trio_ws.ConnectionClosedLocally)


async def test_a_close_that_waits_is_flushed_before_the_end(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False) as (websocket, peer):
        end_of(peer).room = 0
        await websocket.send("waits")
        peer.close(4000)
        await trio.sleep(5)
        assert not end_of(peer).closed
        end_of(peer).make_room(math.inf)
        await wait_all_tasks_blocked()
        assert peer.heard() == ["waits", Close(CloseInfo(4000))]
        peer.transport.write_eof()
        assert (await websocket.wait_closed()).was_clean


@pytest.mark.parametrize("how", ["the end", "room", "sending"])
async def test_a_loss_is_noticed_while_a_full_buffer_pauses_reading(how: str, autojump_clock: MockClock) -> None:
    """At once where the transport tells of its end or of room, else by sending."""
    async with one_side(limits=SMALL) as (websocket, peer):
        peer.send(bytes(300))
        await trio.sleep(1)
        assert websocket.statistics().backpressured
        end_of(peer).error = ConnectionResetError("gone")
        await trio.sleep(1)
        assert websocket.close_info is None
        if how == "the end":
            end_of(peer).end()
        elif how == "room":
            websocket._connection.resume_writing()
        else:
            await websocket.send("into the void")
        await wait_all_tasks_blocked()
        assert websocket.ready_state is ReadyState.CLOSED
        assert await websocket.wait_closed() == CloseInfo(1006)
        assert await websocket.receive() == bytes(300)
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await websocket.receive()
        assert repr(caught.value.__cause__) == "ConnectionResetError('gone')"


async def test_a_watcher_is_told_what_happens(autojump_clock: MockClock) -> None:
    told: list[tuple[str, object]] = []
    async with one_side() as (websocket, peer):
        websocket._connection.watch(lambda what, detail: told.append((what, detail)))
        peer.send(b"?", Opcode.PING)
        peer.send(b"!", Opcode.PONG)
        peer.transport.write_eof()
        await websocket.wait_closed()
    assert [what for what, _ in told] == ["websocket_ping", "websocket_pong", "socket_error", "websocket_close"]
    assert [detail for _, detail in told[:2]] == [b"?", b"!"]
    assert isinstance(told[2][1], trio_ws.ConnectionClosedError)
    assert told[3][1] == CloseInfo(1006)
