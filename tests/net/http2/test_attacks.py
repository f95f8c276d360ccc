"""What a hostile client can do to a server over HTTP/2: every limit holds, is counted, and costs nobody else."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from trio_ws import Limits

from .raw_http2 import CONNECT, GET, PREFACE, RawHttp2, echo, raw_client, raw_frame, wire

CALM = 0xB


async def keep_open(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept():
        await trio.sleep_forever()


# ---- resets ----


async def test_rapid_reset_ends_the_connection_after_a_few_hundred(autojump_clock: MockClock) -> None:
    started = live = most = 0

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        nonlocal started, live, most
        started, live = started + 1, live + 1
        most = max(most, live)
        try:
            async with request.accept() as websocket:
                await websocket.wait_closed()
        finally:
            live -= 1

    async with raw_client(handler) as peer:
        for stream_id in range(1, 20_000, 2):
            try:
                await peer.send(peer.headers(stream_id, CONNECT), RstStreamFrame(stream_id, 8))
            except trio.BrokenResourceError:
                break
        assert await peer.goaway_code() == CALM
        assert started <= 200
        assert most <= 100
        assert peer.counts.resets == 101
        assert peer.counts.limits_passed["h2_reset_burst"] == 1


async def test_rapid_reset_of_requests_that_have_ended_is_no_different(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        for stream_id in range(1, 20_000, 2):
            try:
                await peer.send(peer.headers(stream_id, GET, "END_STREAM"), RstStreamFrame(stream_id, 8))
            except trio.BrokenResourceError:
                break
        assert await peer.goaway_code() == CALM
        assert peer.counts.resets == 101


async def test_resets_at_a_peaceful_rate_are_no_attack(autojump_clock: MockClock) -> None:
    async with raw_client(limits=Limits(h2_max_streams_total=None)) as peer:
        for stream_id in range(1, 2001, 2):
            await peer.open(stream_id)
            await peer.send(RstStreamFrame(stream_id, 8))
            await trio.sleep(0.1)
        await peer.open(2001)
        assert peer.counts.resets == 1000


async def test_a_stream_that_both_have_closed_may_be_reset_as_often_as_one_likes(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        for stream_id in range(1, 601, 2):
            await peer.open(stream_id)
            await peer.data(stream_id, b"\x88\x82\0\0\0\0\x03\xe8", "END_STREAM")
            while "END_STREAM" not in (await peer.expect(DataFrame, stream_id)).flags:
                pass
            await peer.send(RstStreamFrame(stream_id, 8))
        await peer.open(601)
        assert peer.counts.resets == 0


BREACHES = ["window", "zero", "data after the end", "headers after the end", "headers in the middle", "bad trailers"]


@pytest.mark.parametrize("breach", [*BREACHES, "overrun"])
async def test_made_you_reset_ends_the_connection_as_rapid_reset_does(breach: str, autojump_clock: MockClock) -> None:
    live = most = 0

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        nonlocal live, most
        live += 1
        most = max(most, live)
        try:
            await trio.sleep(0.001)
            async with request.accept() as websocket:
                await websocket.wait_closed()
        finally:
            live -= 1

    async def http_handler(request: trio_ws.HTTPRequest) -> trio_ws.HTTPResponse:
        await trio.sleep(0.001)
        return trio_ws.HTTPResponse()

    def frames(peer: RawHttp2, stream_id: int) -> list[HeadersFrame | WindowUpdateFrame | DataFrame | bytes]:
        match breach:
            case "window":
                return [peer.headers(stream_id, CONNECT), WindowUpdateFrame(stream_id, 2**31 - 1)]
            case "zero":
                return [peer.headers(stream_id, CONNECT), raw_frame(8, bytes(4), stream_id=stream_id)]
            case "data after the end":
                return [peer.headers(stream_id, GET, "END_STREAM"), DataFrame(stream_id, b"late")]
            case "headers after the end":
                return [peer.headers(stream_id, GET, "END_STREAM"), peer.headers(stream_id, {"a": "b"}, "END_STREAM")]
            case "headers in the middle":
                return [peer.headers(stream_id, CONNECT), peer.headers(stream_id, {"a": "b"})]
            case "bad trailers":
                return [peer.headers(stream_id, CONNECT), peer.headers(stream_id, {":a": "b"}, "END_STREAM")]
            case _:
                return [peer.headers(stream_id, CONNECT), *[DataFrame(stream_id, bytes(2**14))] * 5]

    codes = {"window": 3, "zero": 1, "headers in the middle": 1, "bad trailers": 1, "overrun": 3}
    async with raw_client(handler, http_handler=http_handler) as peer:
        for stream_id in range(1, 2001, 2):
            try:
                await peer.send(*frames(peer, stream_id))
                if stream_id == 1:
                    assert await peer.reset_code(1) == codes.get(breach, 5)
                await trio.sleep(0.002)
            except trio.BrokenResourceError:
                break
        assert await peer.goaway_code() == CALM
        assert most <= 100
        assert peer.counts.limits_passed["h2_reset_burst"] == 1


# ---- frames that nothing comes of ----

FLOODS = {
    "PING": PingFrame(0, bytes(8)).serialize(),
    "PING answer": PingFrame(0, bytes(8), flags=["ACK"]).serialize(),
    "SETTINGS": SettingsFrame(0).serialize(),
    "PRIORITY": PriorityFrame(1, 0, 16).serialize(),
    "WINDOW_UPDATE": WindowUpdateFrame(0, 1).serialize(),
    "unknown": raw_frame(0x77, b"what"),
    "RST_STREAM of what has ended": RstStreamFrame(1, 8).serialize(),
    "GOAWAY": GoAwayFrame(0, 1, 0).serialize(),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_of_frames_that_nothing_comes_of_ends_the_connection(
    kind: str, autojump_clock: MockClock
) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.open(3)
        if kind.startswith("RST"):
            await peer.send(RstStreamFrame(1, 8))
        for _ in range(100):
            try:
                await peer.send(FLOODS[kind] * 100)
                await wait_all_tasks_blocked()
            except trio.BrokenResourceError:
                break
        assert await peer.goaway_code() == CALM
        assert 1000 <= peer.counts.control_frames <= 1002
        assert peer.counts.limits_passed["h2_control_burst"] == 1
        assert len(peer.heard) <= 1100


@pytest.mark.parametrize("kind", ["PING", "SETTINGS", "PRIORITY", "unknown"])
async def test_such_frames_at_a_peaceful_rate_are_no_attack(kind: str, autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        for _ in range(2000):
            await peer.send(FLOODS[kind])
            await trio.sleep(0.02)
        await peer.echo(1)


async def test_answers_that_a_peer_does_not_read_are_limited(autojump_clock: MockClock) -> None:
    limits = Limits(h2_control_burst=None)
    async with raw_client(streams=trio.testing.lockstep_stream_pair, limits=limits) as peer:
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(1000):
                await peer.send(FLOODS["PING"] * 100)
        assert peer.counts.limits_passed == {"h2_queued_control": 1}
        assert peer.counts.control_frames <= 1000 + 2 * 2**16 / 17 + 256


async def test_settings_that_nobody_knows_are_dropped_and_many_end_the_connection(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        settings = [bytes([0x10, number, 0, 0, 0, 7]) for number in range(33)]
        await peer.send(raw_frame(4, b"".join(settings[:32])))
        await peer.open(1)
        assert peer.counts.settings_dropped == 32
        await peer.send(raw_frame(4, b"".join(settings)))
        assert await peer.goaway_code() == CALM
        assert peer.counts.limits_passed == {"h2_max_settings": 1}


PASSED_LIMITS = {
    "too many settings in one frame: 33 (h2_max_settings is 32)": raw_frame(4, bytes([0x10, 0, 0, 0, 0, 7]) * 33),
    "too many frames that nothing comes of (h2_control_burst is 5, h2_control_rate 2.5 a second)": FLOODS["PING"] * 6,
    "a header block of 98 bytes or more: at most twice max_head_size (max_head_size is 40)": (
        raw_frame(1, b"", stream_id=1) + raw_frame(9, bytes(80), stream_id=1)
    ),
}


@pytest.mark.parametrize("words", PASSED_LIMITS)
async def test_the_last_words_name_the_limit_and_its_value(words: str, autojump_clock: MockClock) -> None:
    limits = Limits(h2_control_burst=5, h2_control_rate=2.5, max_head_size=40)
    async with raw_client(limits=limits) as peer:
        await peer.send(PASSED_LIMITS[words])
        said = [frame.additional_data.decode() for frame in await peer.rest() if isinstance(frame, GoAwayFrame)]
        assert said == [words]


# ---- header blocks ----


def split(peer: RawHttp2, stream_id: int, continuations: list[bytes]) -> list[HeadersFrame | ContinuationFrame]:
    """A request in pieces, the last of which ends it."""
    block = peer.encoder.encode(list(CONNECT.items()))
    frames = [ContinuationFrame(stream_id, data) for data in continuations]
    frames[-1].flags.add("END_HEADERS")
    return [HeadersFrame(stream_id, block), *frames]


async def test_a_request_in_nine_frames_is_taken_and_one_in_ten_is_not(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.send(*split(peer, 1, [b""] * 8))
        assert await peer.status(1) == "200"
        await peer.send(*split(peer, 3, [b""] * 9))
        assert await peer.goaway_code() == CALM
        assert peer.counts.continuations == 17
        assert peer.counts.limits_passed == {"h2_max_continuations": 1}


async def test_a_header_block_of_many_bytes_ends_the_connection(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.send(*split(peer, 1, [bytes(2**14)] * 2))
        assert await peer.goaway_code() == CALM
        assert peer.counts.limits_passed == {"max_head_size": 1}


async def test_a_header_block_that_does_not_end_ends_the_connection_in_time(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.send(HeadersFrame(3, b""))
        began = trio.current_time()
        assert await peer.goaway_code() == CALM
        assert trio.current_time() - began == 5
        assert peer.counts.limits_passed == {"h2_header_timeout": 1}


async def test_a_header_bomb_costs_its_stream_or_its_connection(autojump_clock: MockClock) -> None:
    big = {**CONNECT, "x": "y" * 9000}
    async with raw_client(settings={4: 0}) as peer:
        await peer.open(1)
        await peer.send(peer.headers(3, {**big, "z": "y" * 9000}))
        assert await peer.status(3) == "431"
        # A few bytes that stand for many: references to what is in the table.
        await peer.send(peer.headers(5, {**CONNECT, "bomb": "y" * 3000}))
        assert await peer.status(5) == "200"
        block = peer.encoder.encode([*CONNECT.items(), *[("bomb", "y" * 3000)] * 9])
        await peer.send(HeadersFrame(7, block, flags=["END_HEADERS"]))
        assert await peer.status(7) == "431"
        await peer.grant(1, 1000)
        await peer.echo(1)
        await peer.send(HeadersFrame(9, block + b"\xbe" * 20, flags=["END_HEADERS"]))
        assert await peer.goaway_code() == CALM


@pytest.mark.parametrize(("count", "status"), [(100, "200"), (101, "431")])
async def test_the_number_of_header_fields_is_limited(count: int, status: str, autojump_clock: MockClock) -> None:
    fields = [*CONNECT.items(), *[("cookie", str(number)) for number in range(count - len(CONNECT))]]
    async with raw_client() as peer:
        await peer.send(peer.headers(1, fields))
        assert await peer.status(1) == status


BAD_FIELDS: dict[str, list[tuple[str, str]]] = {  # RFC 9113 §8.1.1
    "a line break in a value": [*CONNECT.items(), ("a", "b\r\nc: d")],
    "a null in a value": [*CONNECT.items(), ("a", "\0")],
    "a name in upper case": [*CONNECT.items(), ("Aa", "b")],
    "an empty name": [*CONNECT.items(), ("", "b")],
    "a path twice": [(":path", "/2"), *CONNECT.items()],
    "a pseudo header at the end": [*CONNECT.items(), (":late", "b")],
    "a header of the connection": [*CONNECT.items(), ("connection", "upgrade")],
    "an authority that is none": [*CONNECT.items(), ("host", "other.example")],
    "nothing": [],
}


@pytest.mark.parametrize("what", BAD_FIELDS)
async def test_a_malformed_request_costs_only_its_own_stream(what: str, autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.send(peer.headers(3, BAD_FIELDS[what]))
        assert await peer.status(3) == "400"
        assert await peer.reset_code(3) == 1
        await peer.echo(1)


@pytest.mark.parametrize("lengths", [("many",), ("0", "1"), ("5",)])
async def test_a_websocket_with_a_length_is_refused(lengths: tuple[str, ...], autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.send(peer.headers(3, [*CONNECT.items(), *[("content-length", length) for length in lengths]]))
        assert await peer.status(3) == "400"
        assert await peer.reset_code(3) == 0
        await peer.echo(1)


# ---- DATA ----


async def test_a_frame_that_is_too_long_fails_at_its_ninth_byte(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.send(wire(2**24 - 1, 0, 0, 1))
        assert await peer.goaway_code() == 0x6


async def test_empty_data_that_ends_nothing_is_limited(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        for _ in range(3):
            await peer.send(*[DataFrame(1)] * 10)
            await peer.echo(1)
        padded = DataFrame(1, flags=["PADDED"])
        padded.pad_length = 3
        await peer.send(*[padded] * 11)
        assert await peer.goaway_code() == CALM
        assert peer.counts.empty_data_frames == 41
        assert peer.counts.limits_passed == {"h2_max_empty_data": 1}


async def test_small_data_that_nobody_reads_is_limited(autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        await trio.sleep_forever()  # it neither accepts nor reads

    async with raw_client(handler) as peer:
        await peer.connect(1)
        for _ in range(2000):
            try:
                await peer.data(1, b"x")
                await wait_all_tasks_blocked()
            except trio.BrokenResourceError:
                break
        assert await peer.goaway_code() == CALM
        assert peer.counts.small_data_frames == 2**18 // 255 + 1
        assert peer.counts.limits_passed == {"h2_small_data": 1}


async def test_large_data_read_or_not_allows_no_more_small_data(autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        if request.path == "/":
            await trio.sleep_forever()
        async with request.accept() as websocket:
            async for _ in websocket:
                pass

    async with raw_client(handler, limits=Limits(h2_small_data=600)) as peer:
        await peer.connect(1, path="/read")
        message = DataFrame(1, b"\x82\xfe\x01\x00" + bytes(4 + 256)).serialize()
        for _ in range(3):
            await peer.send(message * 100)
            await wait_all_tasks_blocked()
        await peer.connect(3)
        await peer.data(3, bytes(2**14))
        for passed in ({}, {}, {"h2_small_data": 1}):
            assert peer.counts.limits_passed == {}
            await peer.data(3, b"x")
            await wait_all_tasks_blocked()
            assert peer.counts.limits_passed == passed


async def test_100000_messages_of_one_byte_that_are_read_are_no_attack(autojump_clock: MockClock) -> None:
    received = 0

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        nonlocal received
        async with request.accept() as websocket:
            async for _ in websocket:
                received += 1

    message = DataFrame(1, b"\x82\x81\0\0\0\0x").serialize()
    async with raw_client(handler) as peer:
        await peer.open(1)
        for _ in range(1000):
            await peer.send(message * 100)
            await wait_all_tasks_blocked()
        assert received == 100_000
        assert peer.counts.limits_passed == {}


async def test_data_on_streams_that_have_ended_is_dropped_up_to_their_windows(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.open(3)
        await peer.send(RstStreamFrame(1, 8))
        for _ in range(4):
            await peer.data(1, bytes(2**14))
        await peer.echo(3)
        await peer.data(1, b"x")
        assert await peer.goaway_code() == 0x5


async def test_one_unread_stream_does_not_disturb_another(autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        if request.path == "/echo":
            await echo(request)
        else:
            await keep_open(request)

    async with raw_client(handler) as peer:
        for stream_id in range(1, 41, 2):
            await peer.open(stream_id)
            await peer.data(stream_id, b"\x82\xff" + (2**19).to_bytes(8, "big") + bytes(4))
            for _ in range(3):
                await peer.data(stream_id, bytes(2**14))
        await peer.connect(41, path="/echo")
        assert await peer.status(41) == "200"
        for _ in range(1000):
            await peer.echo(41)


async def test_the_connections_window_is_given_back_at_once(autojump_clock: MockClock) -> None:
    async with raw_client(keep_open, limits=Limits(h2_stream_window=2**22)) as peer:
        await peer.open(1)
        await peer.send(*[DataFrame(1, bytes(2**14))] * 128)
        await wait_all_tasks_blocked()
        await peer.open(3)
        updates = [frame for frame in peer.heard if isinstance(frame, WindowUpdateFrame) and not frame.stream_id]
        assert [frame.window_increment for frame in updates] == [2**20 - 65535, *[2**19] * 4]


# ---- streams ----


async def test_the_101st_stream_is_refused_and_the_first_hundred_go_on(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        for stream_id in range(1, 301, 2):
            await peer.connect(stream_id)
        for stream_id in range(201, 301, 2):
            assert await peer.reset_code(stream_id) == 0x7
        for stream_id in range(1, 201, 2):
            await peer.echo(stream_id)
        assert peer.counts.streams_refused == 50
        assert peer.counts.limits_passed == {"h2_max_streams": 50}
        assert peer.counts.streams_open == 100
        await peer.data(1, b"\x88\x82\0\0\0\0\x03\xe8", "END_STREAM")
        while "END_STREAM" not in (await peer.expect(DataFrame, 1)).flags:
            pass
        await wait_all_tasks_blocked()
        await peer.open(301)


async def test_many_refused_streams_end_the_connection(autojump_clock: MockClock) -> None:
    async with raw_client(keep_open) as peer:
        for stream_id in range(1, 1001, 2):
            try:
                await peer.connect(stream_id)
            except trio.BrokenResourceError:
                break
        assert await peer.goaway_code() == CALM
        assert peer.counts.streams_refused == 101
        assert peer.counts.limits_passed["h2_refused_burst"] == 1


async def test_a_connection_carries_only_so_many_streams_in_its_life(autojump_clock: MockClock) -> None:
    async with raw_client(limits=Limits(h2_max_streams=4, h2_max_streams_total=3)) as peer:
        await peer.open(1)
        await peer.open(3)
        await peer.connect(5)
        goaway = await peer.expect(GoAwayFrame)
        assert (goaway.error_code, goaway.last_stream_id) == (0, 2**31 - 1)
        assert await peer.status(5) == "200"
        for stream_id in (7, 9, 11, 13):  # they may have been on their way, one for each place
            await peer.connect(stream_id)
            await peer.send(RstStreamFrame(stream_id, 8))
        await peer.connect(15)
        assert await peer.reset_code(15) == 0x7
        assert peer.counts.limits_passed == {"h2_max_streams_total": 1}
        for stream_id in (1, 3, 5):
            await peer.echo(stream_id)
            await peer.send(RstStreamFrame(stream_id, 8))
        assert await peer.goaway_code() == 0


# ---- time ----


async def test_a_peer_that_gives_no_window_loses_its_stream_and_no_other(autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await websocket.send(bytes(100))
            await websocket.wait_closed()

    async with raw_client(handler, settings={4: 0}) as peer:
        await peer.open(1)
        began = trio.current_time()
        await trio.sleep(30)
        await peer.open(3)
        await peer.grant(3, 1000)
        assert await peer.reset_code(1) == 0x8
        assert trio.current_time() - began == 60
        assert [len(frame.data) for frame in peer.heard if isinstance(frame, DataFrame)] == [102]
        assert peer.counts.limits_passed == {"h2_stall_timeout": 1}


async def test_a_peer_that_gives_the_connection_no_window_loses_the_streams_that_wait(
    autojump_clock: MockClock,
) -> None:
    sizes = iter((65_000, 1000, 10, 20, 30))  # the second takes more than there is

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await websocket.send(bytes(next(sizes)))
            await websocket.wait_closed()

    async with raw_client(handler, settings={4: 2**20}) as peer:
        began = trio.current_time()
        await peer.open(1)
        await peer.open(3)
        await trio.sleep(30)
        await peer.open(5)
        await peer.open(7)
        await peer.send(RstStreamFrame(7, 8))
        assert await peer.reset_code(3) == 0x8
        assert await peer.reset_code(5) == 0x8
        assert trio.current_time() - began == 60
        assert peer.counts.limits_passed == {"h2_stall_timeout": 2}
        await peer.open(9)
        await trio.sleep(30)
        await peer.grant(0, 1000)
        assert len((await peer.expect(DataFrame, 9)).data) == 32


async def test_a_stream_whose_window_shrinks_in_the_line_waits_for_its_own(autojump_clock: MockClock) -> None:
    sizes = iter((65_000, 1000))

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await websocket.send(bytes(next(sizes)))
            await websocket.wait_closed()

    async with raw_client(handler, settings={4: 2**20}) as peer:
        await peer.open(1)
        await peer.open(3)
        first = len((await peer.expect(DataFrame, 3)).data)
        await peer.send(SettingsFrame(0, settings={4: 0}))
        await peer.grant(0, 1000)
        await trio.sleep(1)
        await peer.grant(3, first)  # what it has sent is not given back by itself
        await peer.grant(3, 1000)
        assert first + len((await peer.expect(DataFrame, 3)).data) == 1004


async def test_a_connection_without_streams_ends_after_a_while(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await trio.sleep(100)
        await peer.send(RstStreamFrame(1, 8))
        await wait_all_tasks_blocked()
        began = trio.current_time()
        assert await peer.goaway_code() == 0
        assert trio.current_time() - began == 60
        assert peer.counts.limits_passed == {"h2_idle_timeout": 1}


@pytest.mark.parametrize("sent", [b"", PREFACE[:18], PREFACE, PREFACE + wire(6, 4, 0, 0)])
async def test_settings_must_come_in_time(sent: bytes, autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    peer = RawHttp2(theirs)
    async with trio.open_nursery() as nursery:
        await trio_ws.wrap_server_stream(nursery, ours, echo, connect_timeout=10)
        await theirs.send_all(sent)
        if sent[18:]:
            assert await peer.goaway_code() == 0x4
        else:
            while await theirs.receive_some():
                pass
        assert trio.current_time() == 10


# ---- what is no HTTP/2 ----

WRONG = {
    "not the preface": (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 1),
    "no SETTINGS first": (PREFACE + FLOODS["PING"], 1),
    "an answer to SETTINGS first": (PREFACE + raw_frame(4, flags=1), 1),
}
BEGUN = {
    "SETTINGS of a wrong size": (raw_frame(4, b"12345"), 6),
    "SETTINGS for a stream": (raw_frame(4, stream_id=1), 1),
    "PING of a wrong size": (raw_frame(6, b"1"), 6),
    "a window that is too large": (raw_frame(4, b"\0\4\x80\0\0\0"), 3),
    "WINDOW_UPDATE of a wrong size": (raw_frame(8, b"1"), 6),
    "WINDOW_UPDATE of 0": (raw_frame(8, bytes(4)), 1),
    "WINDOW_UPDATE over the limit": (raw_frame(8, b"\x7f\xff\xff\xff"), 3),
    "WINDOW_UPDATE for a stream that is not": (raw_frame(8, b"\0\0\0\1", stream_id=9), 1),
    "RST_STREAM of a wrong size": (raw_frame(3, b"1", stream_id=1), 6),
    "RST_STREAM of a wrong size for what has ended": (
        raw_frame(3, bytes(4), stream_id=1) + raw_frame(3, stream_id=1),
        6,
    ),
    "RST_STREAM for a stream that is not": (raw_frame(3, bytes(4), stream_id=9), 1),
    "GOAWAY of a wrong size": (raw_frame(7, b"1"), 6),
    "GOAWAY for a stream": (raw_frame(7, bytes(8), stream_id=1), 1),
    "DATA for a stream that is not": (raw_frame(0, b"x", stream_id=9), 1),
    "DATA for no stream": (raw_frame(0, b"x"), 1),
    "DATA shorter than its padding": (raw_frame(0, b"\x05abc", flags=8, stream_id=1), 1),
    "DATA without its padding": (raw_frame(0, flags=8, stream_id=1), 6),
    "HEADERS for an even stream": (raw_frame(1, b"\x82", flags=4, stream_id=2), 1),
    "HEADERS for no stream": (raw_frame(1, b"\x82", flags=4), 1),
    "HEADERS that cannot be decompressed": (raw_frame(1, b"\xff\xff\xff\xff\xff", flags=4, stream_id=3), 9),
    "trailers that cannot be decompressed": (raw_frame(1, b"\xff\xff\xff\xff\xff", flags=5, stream_id=1), 9),
    "HEADERS shorter than their padding": (raw_frame(1, b"\x09abc", flags=0xC, stream_id=3), 1),
    "HEADERS without their padding": (raw_frame(1, flags=0xC, stream_id=3), 6),
    "HEADERS without their priority": (raw_frame(1, b"\0\0", flags=0x24, stream_id=3), 6),
    "trailers shorter than their padding": (raw_frame(1, b"\x09abc", flags=0xD, stream_id=1), 1),
    "trailers without their priority": (raw_frame(1, b"\0\0", flags=0x25, stream_id=1), 6),
    "an answer to SETTINGS with settings": (raw_frame(4, b"\0\4\0\0\1\0", flags=1), 6),
    "ENABLE_PUSH of 2": (raw_frame(4, b"\0\2\0\0\0\2"), 1),
    "MAX_FRAME_SIZE below the least": (raw_frame(4, b"\0\5\0\0\x3f\xff"), 1),
    "MAX_FRAME_SIZE over the most": (raw_frame(4, b"\0\5\1\0\0\0"), 1),
    "ENABLE_CONNECT_PROTOCOL of 2": (raw_frame(4, b"\0\x08\0\0\0\2"), 1),
    "PING for a stream": (raw_frame(6, bytes(8), stream_id=1), 1),
    "RST_STREAM for no stream": (raw_frame(3, bytes(4)), 1),
    "CONTINUATION for no stream": (raw_frame(9, b"", flags=4), 1),
    "an unknown frame in a block": (raw_frame(1, b"", stream_id=3) + raw_frame(0x77, b""), 1),
    "CONTINUATION of nothing": (raw_frame(9, b"", flags=4, stream_id=1), 1),
    "a block that is interrupted": (raw_frame(1, b"", stream_id=3) + raw_frame(0, b"x", stream_id=1), 1),
    "a block continued on another stream": (raw_frame(1, b"", stream_id=3) + raw_frame(9, b"", stream_id=5), 1),
    "PUSH_PROMISE of a client": (raw_frame(5, b"\0\0\0\2", flags=4, stream_id=1), 1),
}


@pytest.mark.parametrize("what", WRONG)
async def test_what_does_not_begin_as_http2_ends(what: str, autojump_clock: MockClock) -> None:
    data, code = WRONG[what]
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await trio_ws.wrap_server_stream(nursery, ours, echo)
        await theirs.send_all(data)
        assert await RawHttp2(theirs).goaway_code() == code


@pytest.mark.parametrize("what", BEGUN)
async def test_what_breaks_the_connection_ends_it_with_a_reason(what: str, autojump_clock: MockClock) -> None:
    data, code = BEGUN[what]
    async with raw_client() as peer:
        await peer.open(1)
        await peer.send(data)
        assert await peer.goaway_code() == code


async def test_a_stream_window_that_grows_too_large_by_settings_ends_the_connection(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.grant(1, 2**31 - 1 - 65535)
        await peer.echo(1)
        await peer.send(SettingsFrame(0, settings={4: 65535 + 7}))  # as large as one may be: the echo had 7 bytes
        await peer.echo(1)
        await peer.send(SettingsFrame(0, settings={4: 65535 + 15}))
        assert await peer.goaway_code() == 3


async def test_trailers_end_a_stream_or_break_it(autojump_clock: MockClock) -> None:
    async with raw_client(keep_open) as peer:
        await peer.open(1)
        await peer.open(3)
        await peer.open(5)
        await peer.send(peer.headers(1, {"a": "b"}, "END_STREAM"))
        assert await peer.reset_code(1) == 8  # the WebSocket was lost: no Close had come
        await peer.send(peer.headers(3, {"a": "b"}))
        assert await peer.reset_code(3) == 1
        await peer.send(RstStreamFrame(5, 8), peer.headers(5, {"c": "d"}, "END_STREAM"))
        await peer.connect(7)
        assert await peer.status(7) == "200"
    async with raw_client() as peer:
        await peer.open(1)
        await peer.send(RstStreamFrame(1, 8))
        await wait_all_tasks_blocked()
        await peer.send(peer.headers(1, {"e": "f"}, "END_STREAM"))
        await peer.open(3)  # the headers were decompressed, or these could not be
        assert peer.counts.control_frames == 2


async def test_what_comes_for_a_stream_that_was_reset_is_dropped_up_to_its_window(autojump_clock: MockClock) -> None:
    async with raw_client(keep_open) as peer:
        await peer.open(1)
        await peer.send(RstStreamFrame(1, 0x1234))
        for _ in range(4):
            await peer.data(1, bytes(2**14))
        await peer.open(3)
        await peer.data(1, b"x")
        assert await peer.goaway_code() == 0x5


async def test_more_than_the_window_right_behind_a_reset_ends_the_connection(autojump_clock: MockClock) -> None:
    async with raw_client(keep_open, limits=Limits(h2_stream_window=100)) as peer:
        await peer.open(1)
        await peer.send(RstStreamFrame(1, 8), DataFrame(1, bytes(100)))  # nobody has seen the reset yet
        await peer.open(3)
        await peer.send(RstStreamFrame(3, 8), DataFrame(3, bytes(101)))
        assert await peer.goaway_code() == 0x5


async def test_many_frames_at_once_let_others_run_between(autojump_clock: MockClock) -> None:
    steps = 0

    async def count() -> None:
        nonlocal steps
        while True:
            await trio.lowlevel.checkpoint()
            steps += 1

    async with raw_client() as peer:
        await peer.open(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await peer.send(DataFrame(1, b"\x82\x81\0\0\0\0x").serialize() * 1200)
            for _ in range(1200):
                await peer.expect(DataFrame, 1)
            nursery.cancel_scope.cancel()
        assert steps >= 1200 // 256
