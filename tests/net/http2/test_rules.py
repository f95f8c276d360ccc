"""What a client must not say to a server over HTTP/2, and what it costs: its stream, or the connection."""

from __future__ import annotations

import pytest
import trio
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, PriorityFrame, RstStreamFrame
from trio.testing import MockClock

import trio_ws
from trio_ws import Limits

from .raw_http2 import CONNECT, GET, HELLO, RawHttp2, raw_client, raw_frame

PROTOCOL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 1, 5, 6
POST = {**GET, ":method": "POST"}
CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"  # 1000, with a mask of zeros

Fields = list[tuple[str, str]]


async def page(request: trio_ws.HTTPRequest) -> trio_ws.HTTPResponse:
    """Answer after a while, so that what a client says meanwhile comes first."""
    await trio.sleep(1)
    return trio_ws.HTTPResponse(200, body=b"a page")


def changed(fields: dict[str, str], **changes: str | None) -> Fields:
    """Take away and put in; "_" stands for ":" at the beginning of a name, and for "-" within."""
    named = {
        (":" if name[0] == "_" else "") + name.lstrip("_").replace("_", "-"): text for name, text in changes.items()
    }
    both = {**fields, **named}
    kept = [(name, text) for name, text in both.items() if text is not None]
    return sorted(kept, key=lambda field: not field[0].startswith(":"))


# ---- numbers of streams ----

UNUSED = {
    "HEADERS": raw_frame(1, b"\x82", flags=5, stream_id=3),
    "DATA": raw_frame(0, b"x", stream_id=3),
    "RST_STREAM": raw_frame(3, bytes(4), stream_id=3),
    "WINDOW_UPDATE": raw_frame(8, b"\0\0\0\1", stream_id=3),
    "HEADERS, even": raw_frame(1, b"\x82", flags=5, stream_id=2),
    "DATA, even": raw_frame(0, b"x", stream_id=2),
    "RST_STREAM, even": raw_frame(3, bytes(4), stream_id=4),
    "WINDOW_UPDATE, even": raw_frame(8, b"\0\0\0\1", stream_id=4),
}


@pytest.mark.parametrize("what", UNUSED)
async def test_a_number_below_the_newest_that_was_never_used_is_no_stream(what: str, autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.open(5)
        await peer.send(UNUSED[what])
        assert await peer.goaway_code() == PROTOCOL_ERROR


async def test_the_first_stream_may_have_any_odd_number_and_uses_up_those_below(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(7)
        await peer.open(9)
        await peer.echo(7)
        await peer.connect(5)
        assert await peer.goaway_code() == PROTOCOL_ERROR


async def test_a_stream_behind_a_gap_is_one_that_was_used(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.send(peer.headers(5, GET, "END_STREAM"))
        assert await peer.status(5) == "405"
        await peer.data(5, b"late")
        assert await peer.reset_code(5) == STREAM_CLOSED
        await peer.open(7)


async def test_what_is_kept_of_numbers_left_out_is_bounded(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        for stream_id in range(5, 605, 4):  # 150 gaps: all of 4n + 3
            await peer.send(peer.headers(stream_id, GET, "END_STREAM"))
            assert await peer.status(stream_id) == "405"
        await peer.send(peer.headers(3, GET, "END_STREAM"))  # forgotten: taken for one that has ended
        await peer.open(605)
        await peer.send(peer.headers(599, GET, "END_STREAM"))
        assert await peer.goaway_code() == PROTOCOL_ERROR


async def test_a_number_left_out_is_remembered_however_many_streams_follow(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        for stream_id in range(5, 305, 2):
            await peer.send(peer.headers(stream_id, GET, "END_STREAM"))
            assert await peer.status(stream_id) == "405"
        await peer.data(3, b"x")
        assert await peer.goaway_code() == PROTOCOL_ERROR


# ---- PRIORITY ----


async def test_priority_for_no_stream_ends_the_connection(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.send(raw_frame(2, bytes(5)))
        assert await peer.goaway_code() == PROTOCOL_ERROR


@pytest.mark.parametrize("size", [0, 4, 6])
async def test_priority_of_a_wrong_size_costs_its_stream(size: int, autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.open(3)
        await peer.send(raw_frame(2, bytes(size), stream_id=3))
        assert await peer.reset_code(3) == FRAME_SIZE_ERROR
        await peer.echo(1)
        assert peer.counts.resets == 1


@pytest.mark.parametrize("state", ["idle", "closed", "reset"])
async def test_priority_of_a_wrong_size_for_a_stream_that_is_not_open_ends_the_connection(
    state: str, autojump_clock: MockClock
) -> None:
    async with raw_client(http_handler=page) as peer:
        await peer.open(1)
        if state == "closed":
            await peer.data(1, CLOSE, "END_STREAM")
            await trio.sleep(1)
        elif state == "reset":
            await peer.send(peer.headers(3, GET, "END_STREAM"), RstStreamFrame(3, 8))
        stream_id = {"idle": 9, "closed": 1, "reset": 3}[state]
        await peer.send(raw_frame(2, bytes(4), stream_id=stream_id))
        assert await peer.goaway_code() == FRAME_SIZE_ERROR


async def test_priority_is_ignored_for_any_stream_open_or_not(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.send(*[PriorityFrame(stream_id, 0, 16) for stream_id in (1, 2, 3, 99)])
        await peer.open(3)
        await peer.echo(1)
        assert [frame.stream_id for frame in peer.heard if isinstance(frame, RstStreamFrame)] == []


# ---- streams that have ended ----


@pytest.mark.parametrize("kind", ["DATA", "HEADERS"])
@pytest.mark.parametrize("ending", ["END_STREAM", "DATA", "RST_STREAM"])
@pytest.mark.parametrize("answered", [False, True])
async def test_a_client_that_goes_on_after_its_end_is_told_once(
    kind: str, ending: str, answered: bool, autojump_clock: MockClock
) -> None:
    def late(peer: RawHttp2) -> Frame:
        return DataFrame(3, b"late") if kind == "DATA" else peer.headers(3, {"a": "b"}, "END_STREAM")

    async with raw_client(http_handler=page) as peer:
        await peer.open(1)
        end = peer.headers(3, GET, "END_STREAM") if ending == "END_STREAM" else peer.headers(3, GET)
        await peer.send(end)
        if ending == "DATA":
            await peer.data(3, b"x", "END_STREAM")
        elif ending == "RST_STREAM":
            await peer.send(RstStreamFrame(3, 8))
        if answered:
            await trio.sleep(2)
        await peer.send(late(peer))
        assert await peer.reset_code(3) == STREAM_CLOSED
        await peer.send(late(peer), late(peer))
        await trio.sleep(2)
        await peer.echo(1)
        resets = [frame for frame in peer.heard if isinstance(frame, RstStreamFrame) and frame.stream_id == 3]
        assert len(resets) == 1


async def test_what_was_on_its_way_when_the_server_ended_the_stream_is_not_answered(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.send(peer.headers(1, POST))
        assert await peer.reset_code(1) == 0  # answered in full
        await peer.data(1, b"body")
        await peer.send(peer.headers(1, {"a": "b"}, "END_STREAM"))
        await peer.open(3)
        resets = [frame for frame in peer.heard if isinstance(frame, RstStreamFrame)]
        assert len(resets) == 1


async def test_more_data_than_was_on_its_way_after_a_reset_ends_the_connection(autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        await trio.sleep_forever()  # so the stream is not forgotten

    async with raw_client(handler) as peer:
        await peer.send(peer.headers(1, CONNECT), RstStreamFrame(1, 8))
        await trio.sleep(2)
        await peer.send(*[DataFrame(1, bytes(2**14)) for _ in range(5)])
        assert await peer.goaway_code() == STREAM_CLOSED


async def test_streams_that_the_client_has_ended_first_leave_their_places(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        for stream_id in range(1, 2 * Limits().h2_max_streams + 6, 2):
            await peer.open(stream_id)
            await peer.data(stream_id, CLOSE, "END_STREAM")
            while "END_STREAM" not in (await peer.expect(DataFrame, stream_id)).flags:
                pass
        assert not any(isinstance(frame, RstStreamFrame) for frame in peer.heard)


async def test_what_is_kept_of_streams_that_have_ended_is_bounded(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        for stream_id in range(1, 2005, 2):
            await peer.send(peer.headers(stream_id, GET, "END_STREAM"))
            assert await peer.status(stream_id) == "405"
        await peer.data(1, b"x", "END_STREAM")  # forgotten: taken for one that the server had ended
        await peer.data(5, b"x", "END_STREAM")
        assert await peer.reset_code(5) == STREAM_CLOSED
        assert [frame.stream_id for frame in peer.heard if isinstance(frame, RstStreamFrame)] == [5]


# ---- what a request says, and what follows it ----


@pytest.mark.parametrize(
    ("length", "frames", "fails"),
    [
        ("5", [(b"hello", True)], False),
        ("5", [(b"he", False), (b"llo", True)], False),
        ("5", [(b"hello", False), (b"", True)], False),
        ("0", [(b"", True)], False),
        ("005", [(b"hello", True)], False),
        ("5", [(b"hell", True)], True),
        ("5", [(b"hell", False), (b"", True)], True),
        ("5", [(b"hello!", True)], True),
        ("5", [(b"hello!", False)], True),
        ("5", [(b"hello", False), (b"!", False)], True),
        ("5", [(b"", True)], True),
        ("0", [(b"x", True)], True),
        ("999999999999999999", [(b"x", True)], True),
    ],
)
async def test_the_data_of_a_request_must_match_its_content_length(
    length: str, frames: list[tuple[bytes, bool]], fails: bool, autojump_clock: MockClock
) -> None:
    async with raw_client(http_handler=page) as peer:
        await peer.open(1)
        content = [DataFrame(3, data, flags=["END_STREAM"] if end else []) for data, end in frames]
        await peer.send(peer.headers(3, changed(POST, content_length=length)), *content)
        if fails:
            assert await peer.reset_code(3) == PROTOCOL_ERROR
            assert peer.counts.resets == 1
        else:
            assert await peer.status(3) == "200"
            await peer.expect(DataFrame, 3)
        await peer.echo(1)
        assert fails or not any(isinstance(frame, RstStreamFrame) for frame in peer.heard)  # it was read to its end


async def test_padding_is_no_content(autojump_clock: MockClock) -> None:
    frame = DataFrame(1, b"hello", flags=["PADDED", "END_STREAM"])
    frame.pad_length = 10
    async with raw_client(http_handler=page) as peer:
        await peer.send(peer.headers(1, changed(POST, content_length="5")), frame)
        assert await peer.status(1) == "200"


async def test_a_request_that_ends_at_once_must_have_announced_nothing(autojump_clock: MockClock) -> None:
    async with raw_client(http_handler=page) as peer:
        await peer.send(peer.headers(1, changed(GET, content_length="1"), "END_STREAM"))
        assert await peer.reset_code(1) == PROTOCOL_ERROR
        await peer.send(peer.headers(3, changed(GET, content_length="0"), "END_STREAM"))
        assert await peer.status(3) == "200"
        assert peer.counts.streams_open == 0


@pytest.mark.parametrize("length", [b"hello", b"hell"])
async def test_trailers_end_the_content_too(length: bytes, autojump_clock: MockClock) -> None:
    async with raw_client(http_handler=page) as peer:
        await peer.send(peer.headers(1, changed(POST, content_length="5")))
        await peer.data(1, length)
        await peer.send(peer.headers(1, {"checksum": "1"}, "END_STREAM"))
        if length == b"hello":
            assert await peer.status(1) == "200"
        else:
            assert await peer.reset_code(1) == PROTOCOL_ERROR


BAD_TRAILERS: list[Fields] = [
    [(":path", "/")],
    [(":status", "200")],
    [("Upper", "a")],
    [("a", "b\r\nc")],
    [("connection", "close")],
]


@pytest.mark.parametrize("fields", BAD_TRAILERS)
async def test_malformed_trailers_cost_their_stream(fields: Fields, autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.open(3)
        await peer.send(peer.headers(3, fields, "END_STREAM"))
        assert await peer.reset_code(3) == PROTOCOL_ERROR
        await peer.echo(1)


async def test_trailers_that_are_too_large_to_be_looked_at_end_the_stream(autojump_clock: MockClock) -> None:
    async with raw_client(http_handler=page) as peer:
        await peer.send(peer.headers(1, POST))
        await peer.send(peer.headers(1, [("a", "b" * 9000), ("c", "d" * 9000)], "END_STREAM"))
        assert await peer.status(1) == "200"


MALFORMED: dict[str, Fields] = {
    "no method": changed(GET, _method=None),
    "an empty method": changed(GET, _method=""),
    "no scheme": changed(GET, _scheme=None),
    "another scheme": changed(GET, _scheme="ftp"),
    "no path": changed(GET, _path=None),
    "an empty path": changed(GET, _path=""),
    "a path that is a URL": changed(GET, _path="http://test.example/"),
    "a fragment": changed(GET, _path="/a#b"),
    "an asterisk": changed(GET, _path="*"),
    "an empty authority": changed(GET, _authority=""),
    "an empty authority, with Host": changed(GET, _authority="", host="test.example"),
    "an empty Host": changed(GET, _authority=None, host=""),
    "userinfo": changed(GET, _authority="user@test.example"),
    "another Host": changed(GET, host="other.example"),
    "two Hosts": [*changed(GET, _authority=None), ("host", "test.example"), ("host", "test.example")],
    "a method twice": [(":method", "GET"), *changed(GET)],
    "an unknown pseudo header": changed(GET, _late="a"),
    "a status": changed(GET, _status="200"),
    "a protocol without CONNECT": changed(GET, _protocol="websocket"),
    "a pseudo header behind a header": [("a", "b"), *changed(GET)],
    "a header of the connection": changed(GET, connection="close"),
    "te": changed(GET, te="gzip"),
    "upper case": [*changed(GET), ("A", "b")],
    "a length that is no number": changed(GET, content_length="+1"),
    "a length of thousands of digits": changed(GET, content_length="9" * 5000),
    "two lengths": [*changed(GET), ("content-length", "0"), ("content-length", "0")],
    "CONNECT without a protocol": changed(CONNECT, _protocol=None),
    "CONNECT without an authority": changed({}, _method="CONNECT"),
    "extended CONNECT without a scheme": changed(CONNECT, _scheme=None),
    "extended CONNECT without a path": changed(CONNECT, _path=None),
    "extended CONNECT without an authority": changed(CONNECT, _authority=None),
    "extended CONNECT to *": changed(CONNECT, _path="*"),
    "extended CONNECT with another Host": changed(CONNECT, host="other.example"),
}


@pytest.mark.parametrize("flags", [(), ("END_STREAM",)])
@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_request_is_answered_and_its_stream_fails(
    what: str, flags: tuple[str, ...], autojump_clock: MockClock
) -> None:
    async with raw_client(http_handler=page) as peer:
        await peer.open(1)
        await peer.send(peer.headers(3, MALFORMED[what], *flags))
        assert await peer.reset_code(3) == PROTOCOL_ERROR
        assert peer.answers[3][":status"] == "400"
        assert not any("END_STREAM" in frame.flags for frame in peer.heard if frame.stream_id == 3)
        await peer.echo(1)
        assert peer.counts.resets == 0  # nothing was begun for it


WELL_FORMED: dict[str, Fields] = {
    "Host in place of :authority": changed(GET, _authority=None, host="test.example"),
    "Host and the same :authority": changed(GET, host="Test.example:80"),
    "OPTIONS of all": changed(GET, _method="OPTIONS", _path="*"),
    "te": changed(GET, te="trailers"),
}


async def test_a_plain_request_need_not_name_a_host(autojump_clock: MockClock) -> None:
    """RFC 9113 §8.3.1 wants one; the health checks of HAProxy have none."""

    async def health(request: trio_ws.HTTPRequest) -> trio_ws.HTTPResponse:
        assert (request.host, request.headers.get_all("host")) == ("", [])
        return trio_ws.HTTPResponse(204)

    async with raw_client(http_handler=health) as peer:
        await peer.send(peer.headers(1, changed(GET, _authority=None), "END_STREAM"))
        assert await peer.status(1) == "204"


@pytest.mark.parametrize("what", WELL_FORMED)
async def test_a_well_formed_request_is_answered(what: str, autojump_clock: MockClock) -> None:
    async def host(request: trio_ws.HTTPRequest) -> trio_ws.HTTPResponse:
        return trio_ws.HTTPResponse(200, body=",".join(request.headers.get_all("host")).encode())

    async with raw_client(http_handler=host) as peer:
        await peer.send(peer.headers(1, WELL_FORMED[what], "END_STREAM"))
        assert await peer.status(1) == "200"
        assert bytes((await peer.expect(DataFrame, 1)).data) == b"test.example"


@pytest.mark.parametrize("origin", ["http://test.example", "http://other.example"])
async def test_extended_connect_may_have_host_in_place_of_the_authority(origin: str, autojump_clock: MockClock) -> None:
    hosts: list[str] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        hosts.extend([request.host, request.headers["host"], request.url])
        async with request.accept() as websocket:
            await websocket.send(await websocket.receive())

    async with raw_client(handler) as peer:
        await peer.send(peer.headers(1, changed(CONNECT, _authority=None, host="test.example", origin=origin)))
        if origin == "http://test.example":
            await peer.data(1, HELLO)
            assert bytes((await peer.expect(DataFrame, 1)).data) == b"\x81\x05hello"
            assert hosts == ["test.example", "test.example", "ws://test.example/"]
        else:  # the check of origins sees it as well
            assert await peer.status(1) == "403"


async def test_the_messages_of_a_websocket_are_no_content(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.send(peer.headers(1, changed(CONNECT, content_length="0")))
        await peer.echo(1)


async def test_plain_connect_is_well_formed_and_not_for_this_server(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.send(peer.headers(1, {":method": "CONNECT", ":authority": "test.example:443"}))
        assert await peer.status(1) == "501"
        assert await peer.reset_code(1) == 0


async def test_the_answer_to_a_malformed_request_waits_for_its_window_and_no_longer(autojump_clock: MockClock) -> None:
    async with raw_client(settings={4: 0}) as peer:
        await peer.send(peer.headers(1, MALFORMED["no scheme"]))
        began = trio.current_time()
        assert await peer.status(1) == "400"
        assert await peer.reset_code(1) == PROTOCOL_ERROR
        assert trio.current_time() - began == 2  # close_linger
        assert not any(isinstance(frame, GoAwayFrame | DataFrame) for frame in peer.heard)


async def test_a_malformed_request_that_is_reset_meanwhile_is_not_reset_again(autojump_clock: MockClock) -> None:
    async with raw_client(settings={4: 0}) as peer:
        await peer.send(peer.headers(1, MALFORMED["no scheme"]))
        assert isinstance(await peer.expect(HeadersFrame, 1), HeadersFrame)
        await peer.send(RstStreamFrame(1, 8))
        await trio.sleep(5)
        await peer.open(3)
        assert not any(isinstance(frame, RstStreamFrame) for frame in peer.heard)


async def test_trailers_that_stand_for_very_many_bytes_end_the_connection(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        block = peer.encoder.encode([("bomb", "y" * 3000)])
        await peer.send(HeadersFrame(1, block + b"\xbe" * 20, flags=["END_HEADERS", "END_STREAM"]))
        assert await peer.goaway_code() == 0xB
