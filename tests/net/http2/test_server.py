"""A server over HTTP/2: requests and their answers, handlers, and the end."""

from __future__ import annotations

import logging
from functools import partial

import pytest
import trio
import trio.testing
from hyperframe.frame import DataFrame, GoAwayFrame, PingFrame, RstStreamFrame, SettingsFrame
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

import trio_ws
from trio_ws import Agent, HTTPRequest, HTTPResponse, Keepalive, open_websocket, serve_websocket
from trio_ws._net.socket_transport import SocketTransport, detach_socket
from trio_ws._net.stream_transport import StreamTransport
from trio_ws._net.tls import TLSTransport
from trio_ws._server.server import _check_options
from trio_ws._server.service import Service

from ...serving import LOCALHOST, serving, tls_contexts, until
from .raw_http2 import CONNECT, GET, HELLO, PREFACE, RawHttp2, echo, raw_client, raw_frame

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 §1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"
GOODBYE = b"\x88\x02\x03\xe9"


async def body_of(peer: RawHttp2, stream_id: int) -> bytes:
    """Read the DATA of an answer to its end."""
    body = b""
    while True:
        frame = await peer.expect(DataFrame, stream_id)
        body += bytes(frame.data)
        if "END_STREAM" in frame.flags:
            return body


# ---- what it says of itself ----


async def test_the_first_settings_offer_websockets(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        settings = (await peer.expect(SettingsFrame)).settings
        assert settings == {1: 4096, 2: 0, 3: 100, 4: 65536, 5: 16384, 6: 16384, 8: 1}


# ---- requests for WebSockets ----


async def test_a_handler_cannot_tell_the_versions_apart_but_by_asking(autojump_clock: MockClock) -> None:
    seen: list[trio_ws.WebSocketRequest] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        seen.append(request)
        async with request.accept(headers={"X-Answer": "1"}) as websocket:
            assert websocket.http_version == "2"
            await websocket.send(await websocket.receive())

    async with raw_client(handler, protocols=("b", "a")) as peer:
        await peer.send(peer.headers(1, {**CONNECT, ":path": "/p?q", "sec-websocket-protocol": "a, b", "x": "y"}))
        answer = await peer.answer(1)
        assert answer == {":status": "200", "sec-websocket-protocol": "b", "x-answer": "1"}
        await peer.echo(1)
    (request,) = seen
    assert (request.url, request.path, request.query) == ("ws://test.example/p?q", "/p", "q")
    assert (request.headers["Host"], request.headers["X"], request.http_version) == ("test.example", "y", "2")
    assert request.remote_address is None


@pytest.mark.parametrize("key", [KEY, None])
async def test_a_key_is_answered_if_there_is_one(key: str | None, autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.send(peer.headers(1, {**CONNECT, **({} if key is None else {"sec-websocket-key": key})}))
        assert (await peer.answer(1)).get("sec-websocket-accept") == (key and ACCEPT)


REFUSED: list[tuple[dict[str, str | None], str]] = [
    ({}, "200"),
    ({":protocol": "WebSocket"}, "200"),
    ({":protocol": "connect-udp"}, "501"),
    ({":protocol": None, ":scheme": None, ":path": None}, "501"),
    ({"sec-websocket-version": None}, "400"),
    ({"sec-websocket-version": "8"}, "400"),
    ({"content-length": "5"}, "400"),
    ({"origin": "https://evil.example"}, "403"),
    ({"origin": "http://test.example"}, "200"),
]


@pytest.mark.parametrize(("changes", "status"), REFUSED)
async def test_the_rules_of_connect(changes: dict[str, str | None], status: str, autojump_clock: MockClock) -> None:
    fields = {name: value for name, value in {**CONNECT, **changes}.items() if value is not None}
    async with raw_client() as peer:
        await peer.send(peer.headers(1, fields))
        assert await peer.status(1) == status
        if status != "200":
            assert await body_of(peer, 1)
            assert await peer.reset_code(1) == 0
        await peer.open(3)
        await peer.echo(3)


async def test_a_request_that_ends_its_stream_is_refused(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.send(peer.headers(1, CONNECT, "END_STREAM"))
        assert await peer.status(1) == "400"
        assert await body_of(peer, 1)
        await peer.open(3)
        assert not [frame for frame in peer.heard if isinstance(frame, RstStreamFrame)]


async def test_a_handler_may_reject(autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        await request.reject(404, {"Connection": "close", "X-Y": "z"} if request.path == "/" else {}, b"gone")

    async with raw_client(handler) as peer:
        await peer.connect(1, path="/1")
        answer = await peer.answer(1)
        assert answer == {":status": "404", "content-length": "4"}
        assert await body_of(peer, 1) == b"gone"


async def test_a_rejected_stream_is_gone_though_its_handler_runs_on(autojump_clock: MockClock) -> None:
    rejected = trio.Event()

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        with assert_checkpoints():
            await request.reject(404)
        rejected.set()
        await trio.sleep_forever()

    async with raw_client(handler) as peer:
        await peer.connect(1)
        assert await peer.status(1) == "404"
        end = await peer.expect(DataFrame, 1)
        assert (end.data, set(end.flags)) == (b"", {"END_STREAM"})
        assert await peer.reset_code(1) == 0
        assert peer.counts.streams_open == 0
        await wait_all_tasks_blocked()
        assert rejected.is_set()


@pytest.mark.parametrize(("option", "named"), [({}, f"trio_ws/{trio_ws.__version__}"), ({"server_header": None}, "")])
async def test_every_answer_names_the_server_unless_it_is_not_to(
    option: dict[str, None], named: str, autojump_clock: MockClock
) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        if request.path == "/no":
            await request.reject()
            return
        async with request.accept() as websocket:
            await websocket.wait_closed()

    async def http_handler(request: HTTPRequest) -> HTTPResponse:
        return HTTPResponse()

    async with raw_client(handler, http_handler=http_handler, **option) as peer:  # type: ignore[arg-type]
        await peer.connect(1)
        await peer.connect(3, path="/no")
        await peer.connect(5, protocol="other")
        await peer.send(peer.headers(7, GET, "END_STREAM"))
        assert [await peer.status(stream_id) for stream_id in (1, 3, 5, 7)] == ["200", "403", "501", "200"]
        assert peer.servers == [named] * 4


async def test_a_rejection_waits_for_the_window_only_so_long(autojump_clock: MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        await request.reject(403, body=bytes(100))

    async with raw_client(handler, settings={4: 10}) as peer:
        await peer.connect(1)
        assert await peer.status(1) == "403"
        began = trio.current_time()
        assert await peer.reset_code(1) == 8
        assert trio.current_time() - began == 2
        await peer.connect(3)
        await peer.grant(3, 90)
        assert await peer.status(3) == "403"
        assert len(await body_of(peer, 3)) == 100


async def test_what_a_handler_raises_ends_its_stream_only(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        if request.path == "/none":
            return
        if request.path == "/early":
            raise ValueError("a bug")
        async with request.accept() as websocket:
            if await websocket.receive() == "hello" and request.path == "/late":
                raise ValueError("another")
            await websocket.send("well")

    caplog.set_level(logging.CRITICAL, "trio_ws.server")
    async with raw_client(handler) as peer:
        for stream_id, path in ((1, "/none"), (3, "/early")):
            await peer.connect(stream_id, path=path)
            assert await peer.status(stream_id) == "500"
        await peer.connect(5, path="/late")
        await peer.connect(7, path="/good")
        await peer.data(5, HELLO)
        assert bytes((await peer.expect(DataFrame, 5)).data)[:4] == b"\x88\x02\x03\xf3"  # 1011
        await peer.data(7, HELLO)
        assert bytes((await peer.expect(DataFrame, 7)).data) == b"\x81\x04well"


async def test_a_stream_that_is_reset_before_its_answer_is_a_lost_websocket(autojump_clock: MockClock) -> None:
    ended: list[BaseException | None] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        await trio.sleep(1)
        async with request.accept() as websocket:
            with pytest.raises(trio_ws.ConnectionClosedError) as caught:
                await websocket.receive()
            ended.append(caught.value.__cause__)

    async with raw_client(handler) as peer:
        await peer.connect(1)
        await peer.send(RstStreamFrame(1, 8))
        await trio.sleep(2)
        assert [str(cause) for cause in ended] == ["the peer reset the stream: CANCEL (0x8)"]


async def test_the_end_follows_the_close(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.data(1, CLOSE, "END_STREAM")
        assert await body_of(peer, 1) == b"\x88\x02\x03\xe8"
        await wait_all_tasks_blocked()
        assert peer.counts.streams_open == 0


async def test_a_reset_answers_the_servers_end_and_is_no_attack(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.data(1, CLOSE)
        while "END_STREAM" not in (await peer.expect(DataFrame, 1)).flags:
            pass
        assert peer.counts.streams_open == 1
        began = trio.current_time()
        await peer.send(RstStreamFrame(1, 8))
        await wait_all_tasks_blocked()
        assert (peer.counts.streams_open, peer.counts.resets) == (0, 0)
        assert trio.current_time() == began  # and not when closing has taken too long


# ---- other requests ----


async def test_other_requests_are_told_what_this_is(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        for stream_id, method in ((1, "GET"), (3, "POST"), (5, "HEAD")):
            await peer.send(peer.headers(stream_id, {**GET, ":method": method}, "END_STREAM"))
            answer = await peer.answer(stream_id)
            assert (answer[":status"], answer["allow"]) == ("405", "CONNECT")
            assert bool(await body_of(peer, stream_id)) == (method != "HEAD")


async def test_an_http_handler_answers_them(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    async def http_handler(request: HTTPRequest) -> HTTPResponse:
        if request.target == "/bug":
            raise ValueError("a bug")
        told = f"{request.method} {request.target} {request.http_version} {request.headers['host']}"
        return HTTPResponse(200, {"Content-Type": "text/plain"}, told.encode())

    caplog.set_level(logging.CRITICAL, "trio_ws.server")
    async with raw_client(http_handler=http_handler) as peer:
        await peer.send(peer.headers(1, {**GET, ":path": "/a?b"}, "END_STREAM"))
        told = b"GET /a?b 2 test.example"
        answer = {":status": "200", "content-type": "text/plain", "content-length": str(len(told))}
        assert await peer.answer(1) == answer
        assert await body_of(peer, 1) == told
        await peer.send(peer.headers(3, {**GET, ":method": "HEAD"}, "END_STREAM"))
        assert (await peer.answer(3))["content-length"] == str(len(b"HEAD / 2 test.example"))
        assert await body_of(peer, 3) == b""
        await peer.send(peer.headers(5, {**GET, ":path": "/bug"}, "END_STREAM"))
        assert await peer.status(5) == "500"
        await peer.send(peer.headers(7, {**GET, ":method": "POST", ":authority": ""}))
        assert await peer.status(7) == "400"
        await peer.send(peer.headers(9, {**GET, ":path": "*"}))
        assert await peer.status(9) == "400"
        await peer.send(peer.headers(11, {":method": "OPTIONS", ":scheme": "http", ":path": "*", "host": "h"}))
        assert await peer.status(11) == "200"
        await peer.send(peer.headers(13, {":method": "GET", ":path": "/"}))
        assert await peer.status(13) == "400"


async def test_the_body_of_a_request_is_not_read_and_the_stream_is_reset(autojump_clock: MockClock) -> None:
    async def http_handler(request: HTTPRequest) -> HTTPResponse:
        return HTTPResponse(204)

    async with raw_client(http_handler=http_handler) as peer:
        await peer.send(peer.headers(1, {**GET, ":method": "POST"}), DataFrame(1, bytes(1000)))
        assert await peer.answer(1) == {":status": "204"}
        assert peer.dates[0].endswith(" GMT")
        assert await body_of(peer, 1) == b""
        assert await peer.reset_code(1) == 0


# ---- liveness ----


async def test_one_ping_serves_all_websockets(autojump_clock: MockClock) -> None:
    async with raw_client(keepalive=Keepalive(interval=20, timeout=20)) as peer:
        for stream_id in range(1, 21, 2):
            await peer.open(stream_id)
        for number in range(1, 4):
            ping = await peer.expect(PingFrame)
            assert peer.counts.pings_sent == number
            assert trio.current_time() == 20 * number
            await peer.send(PingFrame(0, ping.opaque_data, flags=["ACK"]))
        assert not [frame for frame in peer.heard if isinstance(frame, DataFrame)]
        # Unanswered, each gives up by itself.
        await peer.expect(PingFrame)
        while len([frame for frame in peer.heard if isinstance(frame, RstStreamFrame)]) < 10:
            await peer.next()
        codes = [bytes(frame.data)[2:4] for frame in peer.heard if isinstance(frame, DataFrame) and frame.data]
        assert codes == [b"\x03\xf3"] * 10  # 1011
        assert 100 <= trio.current_time() <= 102


async def test_pings_of_the_peers_are_answered(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.send(PingFrame(0, b"12345678"))
        answer = await peer.expect(PingFrame)
        assert (bytes(answer.opaque_data), "ACK" in answer.flags) == (b"12345678", True)


# ---- the end of a server ----


async def test_a_server_that_closes_says_goodbye_on_each_stream_and_then_goes() -> None:
    done: list[int] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            done.append((await websocket.wait_closed()).code)

    with trio.fail_after(10):
        async with serving(partial(serve_websocket, handler, LOCALHOST, 0, compression=None)) as server:
            peer = RawHttp2(await trio.open_tcp_stream(LOCALHOST, server.port))
            await peer.begin()
            for stream_id in (1, 3, 5):
                await peer.open(stream_id)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.aclose)
                goaway = await peer.expect(GoAwayFrame)
                assert (goaway.error_code, goaway.last_stream_id) == (0, 2**31 - 1)
                await peer.connect(7)
                assert await peer.status(7) == "503"
                for stream_id in (1, 3, 5):
                    assert (
                        GOODBYE in [bytes(frame.data) for frame in peer.heard if isinstance(frame, DataFrame)]
                        or bytes((await peer.expect(DataFrame, stream_id)).data) == GOODBYE
                    )
                    await peer.data(stream_id, b"\x88\x82\0\0\0\0\x03\xe9", "END_STREAM")
                last = await peer.expect(GoAwayFrame)
                assert (last.error_code, last.last_stream_id) == (0, 7)
                assert await peer.next() is None
            await peer.stream.aclose()
            assert server.statistics().http2.connections_open == 0
    assert done == [1001] * 3


async def test_a_connection_that_begins_while_the_server_closes_is_let_go() -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await websocket.wait_closed()

    with trio.fail_after(10):
        async with serving(partial(serve_websocket, handler, LOCALHOST, 0)) as server:
            busy = RawHttp2(await trio.open_tcp_stream(LOCALHOST, server.port))
            await busy.begin()
            await busy.open(1)
            late = await trio.open_tcp_stream(LOCALHOST, server.port)
            await late.send_all(PREFACE[:10])
            await trio.sleep(0.05)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.aclose)
                await wait_all_tasks_blocked()
                assert bytes(await late.receive_some()).startswith(b"HTTP/1.1 503")
                await busy.data(1, b"\x88\x82\0\0\0\0\x03\xe9", "END_STREAM")
            await late.aclose()
            await busy.stream.aclose()


async def test_http2_that_begins_at_the_very_end_is_told_to_go(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    peer = RawHttp2(theirs)
    service = Service(_check_options())
    service.closing = True
    async with trio.open_nursery() as nursery:
        service.nursery = nursery
        nursery.start_soon(service._serve_http2, echo, StreamTransport(ours, nursery), PREFACE, 10)
        assert await peer.goaway_code() == 0


async def test_a_server_that_is_told_twice_to_take_no_more_says_so_once(autojump_clock: MockClock) -> None:
    service = Service(_check_options(keepalive=None))
    ours, theirs = trio.testing.memory_stream_pair()
    peer = RawHttp2(theirs)
    async with trio.open_nursery() as nursery:
        service.nursery = nursery
        nursery.start_soon(service.serve, StreamTransport(ours, nursery), echo)
        await peer.begin()
        await peer.open(1)
        service.refuse_new()
        service.refuse_new()
        await peer.send(RstStreamFrame(1, 8))
        assert await peer.goaway_code() == 0
        assert len([frame for frame in peer.heard if isinstance(frame, GoAwayFrame)]) == 2
    assert not service._http2_connections


async def test_a_server_that_is_cancelled_says_1001_to_every_stream() -> None:
    codes: list[int] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await websocket.receive()

    async def client(agent: Agent, url: str) -> None:
        async with open_websocket(url, dispatcher=agent) as websocket:
            codes.append((await websocket.wait_closed()).code)

    server_side, client_side = tls_contexts()
    with trio.fail_after(10):
        async with (
            Agent(ssl_context=client_side) as agent,
            trio.open_nursery() as clients,
            serving(partial(serve_websocket, handler, LOCALHOST, 0, server_side)) as server,
        ):
            for _ in range(20):
                clients.start_soon(client, agent, f"wss://{LOCALHOST}:{server.port}/")
            await until(lambda: len(server.connections) == 20)
            assert agent.statistics().connections_opened == 1
    assert codes == [1001] * 20


@pytest.mark.parametrize("where", ["http2.receiver.Receiver.take_data", "http2.connection.Http2Connection._take"])
async def test_a_crash_of_ours_ends_the_connection_and_is_logged(
    where: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[int] = []

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            ended.append((await websocket.wait_closed()).code)

    def crash(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    caplog.set_level(logging.ERROR, "trio_ws.http2")
    async with raw_client(handler) as peer:
        await peer.open(1)
        monkeypatch.setattr(f"trio_ws._net.{where}", crash)
        await peer.data(1, HELLO)
        assert await peer.goaway_code() == 2
        await trio.sleep(1)  # the message before the end may be read first
    assert ended == [1006]
    assert "internal error" in caplog.text


# ---- telling the versions apart ----


async def test_http2_that_is_not_allowed_is_told_so() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        await trio_ws.wrap_server_stream(nursery, ours, echo, allow_h2=False)
        await theirs.send_all(PREFACE)
        assert bytes(await theirs.receive_some()).startswith(b"HTTP/1.1 505")
        await theirs.aclose()


async def test_http2_that_tls_has_not_agreed_on_is_refused() -> None:
    server_side, client_side = tls_contexts()
    with trio.fail_after(10):
        async with serving(partial(serve_websocket, echo, LOCALHOST, 0, server_side)) as server:
            stream = await trio.open_tcp_stream(LOCALHOST, server.port)
            tls = TLSTransport(
                SocketTransport(detach_socket(stream)),
                client_side,
                server_side=False,
                server_hostname=LOCALHOST,
                alpn=["http/1.1"],
            )
            await tls.handshake()
            tls.write(PREFACE)
            while not (data := tls.read()):
                await tls.wait_readable()
            assert data.startswith(b"HTTP/1.1 505")
            tls.abort()


async def test_wrapped_without_a_handler_a_connection_carries_one_websocket(autojump_clock: MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    peer = RawHttp2(theirs)
    async with trio.open_nursery() as nursery:
        await peer.begin()
        await peer.send(peer.headers(1, GET, "END_STREAM"), peer.headers(3, CONNECT))
        request = await trio_ws.wrap_server_stream(nursery, ours, compression=None, keepalive=None)
        assert await peer.status(1) == "405"
        await peer.connect(5)
        assert await peer.status(5) == "503"
        async with request.accept() as websocket:
            assert await peer.status(3) == "200"
            await peer.data(3, HELLO)
            assert await websocket.receive() == "hello"
            nursery.start_soon(peer.data, 3, CLOSE, "END_STREAM")
            await websocket.wait_closed()
        assert await peer.goaway_code() == 0


async def test_wrapped_without_a_handler_other_requests_are_answered_before_the_websocket(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    peer = RawHttp2(theirs)

    async def ask() -> None:
        await peer.begin()
        await peer.send(peer.headers(1, GET, "END_STREAM"))
        assert await peer.status(1) == "405"
        await peer.connect(3)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        request = await trio_ws.wrap_server_stream(nursery, ours, compression=None, keepalive=None)
        assert trio.current_time() == 0
        async with request.accept() as websocket:
            assert await peer.status(3) == "200"
            assert any(isinstance(frame, GoAwayFrame) for frame in peer.heard)  # no second one will be taken
            nursery.start_soon(peer.data, 3, CLOSE, "END_STREAM")
            await websocket.wait_closed()


@pytest.mark.parametrize("how", ["nothing", "hang up", "cancel"])
async def test_wrapped_without_a_handler_a_connection_that_asks_for_nothing_ends(
    how: str, autojump_clock: MockClock
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    peer = RawHttp2(theirs)
    async with trio.open_nursery() as nursery:
        await peer.begin()
        if how == "hang up":
            await theirs.send_eof()
        with trio.move_on_after(5 if how == "cancel" else 100) as scope:
            with pytest.raises((trio_ws.InvalidHandshake, trio.Cancelled)):
                await trio_ws.wrap_server_stream(nursery, ours, connect_timeout=10)
            await trio.lowlevel.checkpoint_if_cancelled()
        assert scope.cancelled_caught == (how == "cancel")
        assert await peer.goaway_code() == 0
        assert trio.current_time() == {"nothing": 10, "hang up": 0, "cancel": 5}[how]


async def test_wrapped_without_a_handler_a_request_that_is_left_unanswered_goes_with_the_nursery(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    peer = RawHttp2(theirs)
    async with trio.open_nursery() as nursery:
        await peer.begin()
        await peer.connect(1)
        await trio_ws.wrap_server_stream(nursery, ours)
        nursery.cancel_scope.cancel()
    assert await peer.reset_code(1) == 8
    assert await peer.goaway_code() == 0


async def test_unknown_frames_do_no_harm(autojump_clock: MockClock) -> None:
    async with raw_client() as peer:
        await peer.open(1)
        await peer.send(raw_frame(0xEE, b"grease", stream_id=1), raw_frame(0xEE))
        await peer.echo(1)
