"""What a server's places and handlers are bounded by: streams count while they are open, handlers while they run."""

from __future__ import annotations

import trio
from hyperframe.frame import DataFrame, GoAwayFrame, RstStreamFrame
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from trio_ws import Limits

from .raw_http2 import CONNECT, GET, RawHttp2, echo, raw_client

CALM, REFUSED = 0xB, 0x7
CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"  # 1000, with a mask of zeros


class Lingering:
    """A handler that echoes, and runs on after its WebSocket has ended until it is let go.

    Attributes:
        begun: the handlers that have begun.
        running: those that have not ended.
        most: how many have run at a time.
    """

    def __init__(self) -> None:
        self.begun = self.running = self.most = 0
        self._places = trio.Semaphore(0)

    async def __call__(self, request: trio_ws.WebSocketRequest) -> None:
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await echo(request)
            await self._places.acquire()
        finally:
            self.running -= 1

    def let_go(self, number: int) -> None:
        for _ in range(number):
            self._places.release()


async def open_and_close(peer: RawHttp2, stream_id: int) -> None:
    await peer.open(stream_id)
    await close(peer, stream_id)


async def close(peer: RawHttp2, stream_id: int) -> None:
    await peer.data(stream_id, CLOSE, "END_STREAM")
    while "END_STREAM" not in (await peer.expect(DataFrame, stream_id)).flags:
        pass


async def test_handlers_that_run_on_take_no_places_of_streams(autojump_clock: MockClock) -> None:
    handler = Lingering()
    async with raw_client(handler) as peer:
        for stream_id in range(1, 161, 2):
            await peer.open(stream_id)
        for stream_id in range(161, 1161, 2):
            await open_and_close(peer, stream_id)
        assert handler.running == 580
        for stream_id in range(1, 161, 2):
            await peer.echo(stream_id)
        assert peer.counts.streams_refused == 0
        assert peer.counts.limits_passed == {}


async def test_a_stream_takes_its_place_until_both_sides_have_ended_it(autojump_clock: MockClock) -> None:
    async with raw_client(limits=Limits(h2_max_streams=2)) as peer:
        await peer.open(1)
        await peer.open(3)
        await peer.data(1, CLOSE)
        while "END_STREAM" not in (await peer.expect(DataFrame, 1)).flags:
            pass
        await peer.connect(5)  # 1 is half-closed, and that counts (RFC 9113 §5.1.2)
        assert await peer.reset_code(5) == REFUSED
        assert await peer.reset_code(1) == 0  # NO_ERROR, a moment later
        await peer.open(7)
        await peer.send(RstStreamFrame(3, 8))
        await peer.open(9)
        await peer.connect(11)
        assert await peer.reset_code(11) == REFUSED


async def test_a_stream_that_was_reset_takes_no_place_though_its_handler_does_not_know(
    autojump_clock: MockClock,
) -> None:
    async def http_handler(request: trio_ws.HTTPRequest) -> trio_ws.HTTPResponse:
        await trio.sleep_forever()

    async with raw_client(http_handler=http_handler, limits=Limits(h2_max_streams=2)) as peer:
        for stream_id in (1, 3):
            await peer.send(peer.headers(stream_id, GET, "END_STREAM"))
        await wait_all_tasks_blocked()
        await peer.send(RstStreamFrame(1, 8), RstStreamFrame(3, 8))
        await peer.open(5)
        await peer.open(7)
        assert peer.counts.streams_refused == 0


async def test_streams_beyond_the_bound_on_handlers_wait_for_one_to_end(autojump_clock: MockClock) -> None:
    handler = Lingering()
    async with raw_client(handler, limits=Limits(h2_max_streams=2)) as peer:
        for stream_id in range(1, 41, 2):  # "auto": ten times as many
            await open_and_close(peer, stream_id)
        await peer.connect(41)
        await peer.data(41, b"\x81\x85\0\0\0\0hello")  # what comes meanwhile is kept
        await peer.connect(43)
        await trio.sleep(100)
        assert (handler.begun, handler.most) == (20, 20)
        assert peer.counts.limits_passed == {"h2_max_handlers": 2}
        assert 41 not in peer.answers
        handler.let_go(1)
        assert await peer.status(41) == "200"
        assert bytes((await peer.expect(DataFrame, 41)).data) == b"\x81\x05hello"
        await wait_all_tasks_blocked()
        assert 43 not in peer.answers
        await peer.connect(45)  # two are open, one of which waits
        assert await peer.reset_code(45) == REFUSED
        handler.let_go(1)
        assert await peer.status(43) == "200"
        assert handler.most == 20


async def test_a_stream_that_is_reset_while_it_waits_never_gets_a_handler(autojump_clock: MockClock) -> None:
    handler = Lingering()
    limits = Limits(h2_max_streams=2, h2_max_handlers=1)
    async with raw_client(handler, limits=limits) as peer:
        await open_and_close(peer, 1)
        for stream_id in range(3, 103, 2):
            await peer.send(peer.headers(stream_id, CONNECT), RstStreamFrame(stream_id, 8))
        await trio.sleep(1)  # until it is read
        assert peer.counts.resets == 50
        assert peer.counts.streams_open <= limits.h2_max_streams + 1  # those that were reset are forgotten
        await peer.connect(103)
        handler.let_go(1)
        assert await peer.status(103) == "200"
        assert handler.begun == 2
        await close(peer, 103)
        await peer.connect(105)
        await peer.connect(107)
        await peer.send(RstStreamFrame(105, 8))
        await trio.sleep(1)  # until it is read
        handler.let_go(1)
        assert await peer.status(107) == "200"
        assert handler.begun == 3
        assert peer.counts.streams_open == 1


async def test_a_request_that_is_reset_while_it_waits_is_never_asked_about(autojump_clock: MockClock) -> None:
    asked: list[str] = []

    async def http_handler(request: trio_ws.HTTPRequest) -> trio_ws.HTTPResponse:
        asked.append(request.target)
        await trio.sleep(10)
        return trio_ws.HTTPResponse()

    async with raw_client(http_handler=http_handler, limits=Limits(h2_max_handlers=1)) as peer:
        for stream_id in (1, 3, 5):
            await peer.send(peer.headers(stream_id, {**GET, ":path": f"/{stream_id}"}, "END_STREAM"))
        await trio.sleep(5)
        await peer.send(RstStreamFrame(3, 8))
        assert await peer.status(5) == "200"
        assert asked == ["/1", "/5"]


async def test_streams_that_wait_end_with_the_connection(autojump_clock: MockClock) -> None:
    handler = Lingering()
    async with raw_client(handler, limits=Limits(h2_max_handlers=1)) as peer:
        await open_and_close(peer, 1)
        await peer.connect(3)
        await peer.connect(5)
        await trio.sleep(1)
        assert peer.counts.streams_open == 2
        await peer.stream.aclose()
        await wait_all_tasks_blocked()
        assert (peer.counts.streams_open, peer.counts.connections_open) == (0, 0)
        handler.let_go(1)
        await wait_all_tasks_blocked()
        assert (handler.begun, handler.running) == (1, 0)


async def test_a_rapid_reset_of_streams_with_lingering_handlers_is_bounded(autojump_clock: MockClock) -> None:
    handler = Lingering()
    async with raw_client(handler, limits=Limits(h2_reset_burst=None)) as peer:
        for stream_id in range(1, 10_001, 2):
            await peer.send(peer.headers(stream_id, CONNECT), RstStreamFrame(stream_id, 8))
        await wait_all_tasks_blocked()
        assert handler.most <= 1000
        assert peer.counts.streams_open <= 101


async def test_streams_refused_at_a_peaceful_rate_are_no_attack(autojump_clock: MockClock) -> None:
    async with raw_client(limits=Limits(h2_max_streams=1, h2_max_streams_total=None)) as peer:
        await peer.open(1)
        for stream_id in range(3, 2003, 2):
            await peer.connect(stream_id)
            assert await peer.reset_code(stream_id) == REFUSED
            await trio.sleep(0.1)
        await peer.echo(1)
        assert peer.counts.streams_refused == 1000
        for stream_id in range(2003, 2203, 2):
            await peer.connect(stream_id)
        await peer.connect(2203)
        assert await peer.goaway_code() == CALM
        assert peer.counts.limits_passed["h2_refused_burst"] == 1


async def test_a_proxy_may_reset_any_number_of_streams_whose_clients_are_gone(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        for stream_id in range(3, 1003, 2):
            await peer.open(stream_id)
            await peer.send(RstStreamFrame(stream_id, 8))
        await peer.echo(1)
        assert peer.counts.resets == 500
        assert peer.counts.limits_passed == {}


async def test_a_proxy_may_reset_any_number_of_streams_that_waited_for_their_answer(autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        if request.path == "/slow":
            await trio.sleep_forever()
        await echo(request)

    async with raw_client(handler) as peer:
        await peer.open(1)
        for first in range(3, 1003, 100):
            numbers = range(first, first + 100, 2)
            for stream_id in numbers:
                await peer.connect(stream_id, path="/slow")
            await trio.sleep(3)
            await peer.send(*[RstStreamFrame(stream_id, 8) for stream_id in numbers])
            await peer.echo(1)
        assert peer.counts.resets == 500
        assert peer.counts.limits_passed == {}
        hasty = [peer.headers(1003 + 2 * number, {**CONNECT, ":path": "/slow"}) for number in range(150)]
        await peer.send(*[frame for each in hasty for frame in (each, RstStreamFrame(each.stream_id, 8))])
        assert await peer.goaway_code() == CALM
        assert peer.counts.limits_passed == {"h2_reset_burst": 1}


async def test_streams_on_their_way_when_the_last_was_taken_are_served(autojump_clock: MockClock) -> None:
    async with raw_client(limits=Limits(h2_max_streams=3, h2_max_streams_total=4)) as peer:
        for stream_id in range(1, 7, 2):
            await open_and_close(peer, stream_id)
        assert not any(isinstance(frame, GoAwayFrame) for frame in peer.heard)
        await peer.connect(7)
        assert (await peer.expect(GoAwayFrame)).last_stream_id == 2**31 - 1
        assert await peer.status(7) == "200"
        for stream_id in (9, 11, 13):
            await open_and_close(peer, stream_id)
        await peer.connect(15)  # no peer has that many on their way
        assert await peer.reset_code(15) == REFUSED
        await peer.echo(7)
        assert peer.counts.limits_passed == {"h2_max_streams_total": 1}
        await close(peer, 7)
        goaway = await peer.expect(GoAwayFrame)
        assert (goaway.error_code, goaway.last_stream_id) == (0, 15)
