"""Answers over HTTP/2 that break a rule, send a client elsewhere or never end, and a connection that has died."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from trio_ws import Agent, HandshakeRejected, InvalidHandshake, Limits, open_websocket
from trio_ws._net.stream_transport import StreamTransport

from ..net.http2.raw_http2 import Fields, RawHttp2
from ..raw import answer, read_head

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from trio_ws import ConnectRequest
    from trio_ws._transport import Transport

URL = "ws://test.example/"
HTTP_1_1_REQUIRED, PROTOCOL_ERROR, CANCEL, COMPRESSION_ERROR = 0xD, 0x1, 0x8, 0x9
OK: Fields = [(":status", "200")]

Serve = Callable[["Server"], Awaitable[None]]


class Server(RawHttp2):
    """A raw server, which finds out by the first bytes what it speaks.

    Attributes:
        number: how many connections there were before this one.
        head: of a request over HTTP/1.1, "" for HTTP/2.
        with_settings: what it sends in one piece with its SETTINGS.
    """

    number = 0
    head = ""
    with_settings: tuple[Frame, ...] = ()

    async def begin_as_server(self) -> None:
        """Take the client's preface, and send ours; over HTTP/1.1 accept the WebSocket, and wait for its end."""
        data = bytes(await self.stream.receive_some())
        if data.startswith(b"GET "):
            self.head = data.decode()
            await self.stream.send_all(answer(data))
            await read_head(self.stream)
            return
        self._buffer = data[24:]
        await self.send(SettingsFrame(0, settings={8: 1}), *self.with_settings)

    async def request(self) -> int:
        """Take the next request; give its stream."""
        return (await self.expect(HeadersFrame)).stream_id

    async def respond(self, *blocks: Fields, ended: bool = False) -> None:
        """Answer the next request with header blocks, in one piece; the last one may end the stream."""
        stream_id = await self.request()
        flags = [[], ["END_STREAM"]]
        frames = [self.headers(stream_id, block, *flags[ended and block is blocks[-1]]) for block in blocks]
        await self.send(*frames)

    async def listen(self) -> None:
        """Read on to the end."""
        while await self.next() is not None:
            pass

    def resets(self) -> list[int]:
        """Give the codes of the resets that came."""
        return [frame.error_code for frame in self.heard if isinstance(frame, RstStreamFrame)]


class RawAgent(Agent):
    """Connects to raw servers in memory, a new one each time, in any version of HTTP."""

    def __init__(self, nursery: trio.Nursery, serve: Serve) -> None:
        super().__init__(h2_prior_knowledge=True)
        self.servers: list[Server] = []
        self._nursery = nursery
        self._serve = serve

    async def _connect(self, request: ConnectRequest) -> Transport:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        server = Server(theirs)
        server.number = len(self.servers)
        self.servers.append(server)
        self._nursery.start_soon(self._run, server)
        return StreamTransport(ours, request.nursery)

    async def _run(self, server: Server) -> None:
        await server.begin_as_server()
        if not server.head:
            await self._serve(server)


@asynccontextmanager
async def raw_agent(serve: Serve, *, entered: bool = True) -> AsyncGenerator[RawAgent, None]:
    """An agent all of whose connections are served so."""
    async with trio.open_nursery() as nursery:
        agent = RawAgent(nursery, serve)
        if entered:
            async with agent:
                yield agent
        else:
            yield agent
        nursery.cancel_scope.cancel()


open_plain = partial(open_websocket, compression=None, keepalive=None, close_timeout=0)


# ---- malformed answers ----

MALFORMED: dict[str, list[Fields]] = {
    "101": [[(":status", "101")]],
    "101 as HTTP/1.1 has it": [[(":status", "101"), ("sec-websocket-accept", "x")]],
    "101 after another": [[(":status", "103")], [(":status", "101")]],
    "no status": [[("x", "y")]],
    "no field at all": [[]],
    "no status after an interim answer": [[(":status", "100")], [("x", "y")]],
    "two": [[(":status", "200"), (":status", "200")]],
    "two that differ": [[(":status", "103"), (":status", "200")]],
    "letters": [[(":status", "2xx")]],
    "letters after a one": [[(":status", "1xx")]],
    "two digits": [[(":status", "20")]],
    "four digits": [[(":status", "0200")]],
    "an empty one": [[(":status", "")]],
    "a sign": [[(":status", "+20")]],
    "digits of another script": [[(":status", "\xb2\xb2\xb2")]],
    "0": [[(":status", "000")]],
    "600": [[(":status", "600")]],
    "after a field": [[("x", "y"), (":status", "200")]],
    "in upper case": [[(":STATUS", "200")]],
    "a field in upper case": [[*OK, ("X-Y", "z")]],
    "a field in upper case of an interim answer": [[(":status", "103"), ("X-Y", "z")]],
    "a request's pseudo header": [[*OK, (":path", "/")]],
    "an unknown pseudo header": [[*OK, (":protocol", "websocket")]],
    "connection": [[*OK, ("connection", "upgrade")]],
    "upgrade": [[*OK, ("upgrade", "websocket")]],
    "keep-alive": [[*OK, ("keep-alive", "1")]],
    "proxy-connection": [[*OK, ("proxy-connection", "x")]],
    "transfer-encoding": [[*OK, ("transfer-encoding", "chunked")]],
    "a value with a line": [[*OK, ("x", "y\r\nz: 1")]],
    "a value that begins with a space": [[*OK, ("x", " y")]],
    "an empty name": [[*OK, ("", "y")]],
    "a name with a space": [[*OK, ("x y", "z")]],
}


@pytest.mark.parametrize("ended", [False, True], ids=["open", "ended"])
@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_answer_fails_at_once_and_costs_only_its_stream(
    what: str, ended: bool, autojump_clock: MockClock
) -> None:
    async def serve(server: Server) -> None:
        await server.respond(*MALFORMED[what], ended=ended)
        await server.respond(OK)
        await server.listen()

    async with raw_agent(serve) as agent:
        with pytest.raises(InvalidHandshake, match="the server's answer") as caught:
            async with open_plain(URL, dispatcher=agent):
                pass
        assert not caught.value.no_answer
        async with open_plain(URL, dispatcher=agent):
            assert (trio.current_time(), len(agent.servers)) == (0, 1)
        assert agent.servers[0].resets()[0] == PROTOCOL_ERROR


@pytest.mark.parametrize("before", [0, 1, 8])
async def test_an_interim_answer_that_ends_the_stream_is_malformed(before: int, autojump_clock: MockClock) -> None:
    async def serve(server: Server) -> None:
        await server.respond(*[[(":status", "103")]] * before, [(":status", "100")], ended=True)
        await server.listen()

    async with raw_agent(serve) as agent:
        with pytest.raises(InvalidHandshake, match="interim"):
            async with open_plain(URL, dispatcher=agent):
                pass
        await wait_all_tasks_blocked()
        assert agent.servers[0].resets() == [PROTOCOL_ERROR]
        assert agent.statistics().connections_open == 1


async def test_interim_answers_without_an_end_are_bounded(autojump_clock: MockClock) -> None:
    async def serve(server: Server) -> None:
        await server.respond(*[[(":status", "103"), ("link", "x" * 1000)]] * 200)
        await server.listen()

    async with raw_agent(serve) as agent:
        with pytest.raises(InvalidHandshake):
            async with open_plain(URL, dispatcher=agent):
                pass
        assert trio.current_time() == 0


async def test_interim_answers_that_come_one_by_one_are_waited_through(autojump_clock: MockClock) -> None:
    async def serve(server: Server) -> None:
        stream_id = await server.request()
        for status in ("100", "103", "199", "200"):
            await trio.sleep(1)
            await server.send(server.headers(stream_id, [(":status", status)]))
        await server.listen()

    async with raw_agent(serve) as agent, open_plain(URL, dispatcher=agent):
        assert trio.current_time() == 4


async def test_an_answer_that_accepts_and_ends_is_no_websocket(autojump_clock: MockClock) -> None:
    async def serve(server: Server) -> None:
        await server.respond(OK, ended=True)
        await server.listen()

    async with raw_agent(serve) as agent:
        with pytest.raises(InvalidHandshake, match="200 ends the stream"):
            async with open_plain(URL, dispatcher=agent):
                pass
        await wait_all_tasks_blocked()
        assert agent.statistics().connections_open == 1


@pytest.mark.parametrize("interim", [[], [[(":status", "103")]]], ids=["nothing", "an interim answer"])
async def test_data_before_the_answer_costs_its_stream(interim: list[Fields], autojump_clock: MockClock) -> None:
    async def serve(server: Server) -> None:
        stream_id = await server.request()
        await server.send(*[server.headers(stream_id, block) for block in interim], DataFrame(stream_id, b"too early"))
        await server.respond(OK)
        await server.listen()

    async with raw_agent(serve) as agent:
        with pytest.raises(InvalidHandshake, match="DATA before the answer"):
            async with open_plain(URL, dispatcher=agent):
                pass
        async with open_plain(URL, dispatcher=agent):
            assert (trio.current_time(), len(agent.servers)) == (0, 1)
        assert agent.servers[0].resets()[0] == PROTOCOL_ERROR
        assert agent.statistics().resets == 1


async def test_headers_that_do_not_decompress_end_the_connection(autojump_clock: MockClock) -> None:
    async def serve(server: Server) -> None:
        stream_id = await server.request()
        await server.send(HeadersFrame(stream_id, blocks[server.number], flags=["END_HEADERS"]))
        assert await server.goaway_code() == COMPRESSION_ERROR

    # An index that is not in the table, an update of its size that is too large, and a number without an end.
    blocks = [
        b"\xff\xff\xff\xff\x0f",
        b"\x3f\xff\xff\x7f",
        b"\x7f",
        b"\xff" + b"\xff" * 20,
        b"\x00\x84\xff\xff\xff\xff",
    ]
    async with raw_agent(serve, entered=False) as agent:
        for _ in blocks:
            with pytest.raises(InvalidHandshake, match=r"HPACK|Table"):
                async with open_plain(URL, dispatcher=agent):
                    pass
    assert len(agent.servers) == len(blocks)


async def test_malformed_answers_without_end_end_the_connection_and_raise_nothing_else(
    autojump_clock: MockClock,
) -> None:
    async def serve(server: Server) -> None:
        with suppress(AssertionError, trio.BrokenResourceError):  # the client has left
            while True:
                await server.respond([(":status", "101")])

    async with raw_agent(serve) as agent:
        for _ in range(150):
            with pytest.raises(InvalidHandshake, match="101"):
                async with open_plain(URL, dispatcher=agent):
                    pass
        assert len(agent.servers) == 2
        assert agent.statistics().limits_passed == {"h2_reset_burst": 1}


async def test_a_server_that_resets_without_end_what_it_was_asked_ends_the_connection(
    autojump_clock: MockClock,
) -> None:
    async def serve(server: Server) -> None:
        with suppress(AssertionError, trio.BrokenResourceError):  # the client has left
            while True:
                await server.send(RstStreamFrame(await server.request(), CANCEL))

    async with raw_agent(serve) as agent:
        for _ in range(150):
            with pytest.raises(InvalidHandshake, match="reset"):
                async with open_plain(URL, dispatcher=agent):
                    pass
        assert len(agent.servers) == 2
        assert agent.statistics().resets == 150
        assert agent.statistics().limits_passed == {"h2_reset_burst": 1}


async def test_a_server_that_resets_websockets_long_after_it_opened_them_is_counted_too(
    autojump_clock: MockClock,
) -> None:
    async def serve(server: Server) -> None:
        for _ in range(3):
            stream_id = await server.request()
            await server.send(server.headers(stream_id, OK))
            await trio.sleep(60)
            await server.send(RstStreamFrame(stream_id, CANCEL))
        await server.listen()

    limits = Limits(h2_reset_burst=2, h2_reset_rate=0)
    async with raw_agent(serve) as agent:
        for _ in range(3):
            async with open_plain(URL, dispatcher=agent, limits=limits) as websocket:
                await websocket.wait_closed()
        assert len(agent.servers) == 1
        assert agent.statistics().limits_passed == {"h2_reset_burst": 1}


# ---- HTTP_1_1_REQUIRED ----


async def reset_it(server: Server) -> None:
    await server.send(RstStreamFrame(await server.request(), HTTP_1_1_REQUIRED))
    await server.listen()


async def reset_it_after_an_interim_answer(server: Server) -> None:
    stream_id = await server.request()
    await server.send(server.headers(stream_id, [(":status", "103")]), RstStreamFrame(stream_id, HTTP_1_1_REQUIRED))
    await server.listen()


async def go_away(server: Server, last: int = 0, *, leave: bool = True) -> None:
    await server.request()
    await server.send(GoAwayFrame(0, last, HTTP_1_1_REQUIRED))
    if leave:
        await server.stream.aclose()
    else:
        await server.listen()


async def go_away_at_once(server: Server) -> None:
    await server.send(GoAwayFrame(0, 0, HTTP_1_1_REQUIRED))
    await server.listen()


@pytest.mark.parametrize("entered", [True, False], ids=["shared", "alone"])
@pytest.mark.parametrize(
    "serve",
    [
        reset_it,
        reset_it_after_an_interim_answer,
        go_away,
        partial(go_away, leave=False),
        partial(go_away, last=2**31 - 1),
        partial(go_away, last=2**31 - 1, leave=False),
        go_away_at_once,
    ],
    ids=["reset", "interim, reset", "goaway", "goaway, open", "goaway later", "goaway later, open", "goaway at once"],
)
async def test_a_server_that_wants_http1_gets_it_and_an_origin_remembers(
    serve: Serve, entered: bool, autojump_clock: MockClock
) -> None:
    async with raw_agent(serve, entered=entered) as agent:
        for opened in (1, 2):
            async with open_plain(URL, dispatcher=agent) as websocket:
                assert websocket.http_version == "1.1"
            assert len(agent.servers) == (1 + opened if entered else 2 * opened)
        assert trio.current_time() == 0
        assert agent.servers[1].head.startswith("GET / HTTP/1.1")


async def test_a_server_that_wants_http1_may_say_so_with_its_settings(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "with_settings", (GoAwayFrame(0, 0, HTTP_1_1_REQUIRED),))
    async with raw_agent(Server.listen) as agent:
        for _ in range(2):
            async with open_plain(URL, dispatcher=agent) as websocket:
                assert websocket.http_version == "1.1"
        assert [bool(server.head) for server in agent.servers] == [False, True, True]


async def test_a_websocket_that_is_open_is_left_alone_when_another_is_sent_to_http1(autojump_clock: MockClock) -> None:
    async def serve(server: Server) -> None:
        await server.respond(OK)
        await reset_it(server)

    async with (
        raw_agent(serve) as agent,
        open_plain(URL, dispatcher=agent) as first,
        open_plain(URL, dispatcher=agent) as second,
    ):
        assert (first.http_version, second.http_version) == ("2", "1.1")
        assert first.ready_state is trio_ws.ReadyState.OPEN


# ---- the body of a refusal ----


@pytest.mark.parametrize(("connect_timeout", "waited"), [(10, 1), (0.5, 0.5)])
@pytest.mark.parametrize("body", [b"and so on", b""])
async def test_a_refusal_whose_body_does_not_end_keeps_its_status(
    body: bytes, connect_timeout: float, waited: float, autojump_clock: MockClock
) -> None:
    async def serve(server: Server) -> None:
        stream_id = await server.request()
        await server.send(server.headers(stream_id, [(":status", "403"), ("x", "y")]))
        if body:
            await server.data(stream_id, body)
        await server.listen()

    async with raw_agent(serve) as agent:
        with pytest.raises(HandshakeRejected) as caught:
            async with open_plain(URL, dispatcher=agent, connect_timeout=connect_timeout):
                pass
        assert (caught.value.status, caught.value.headers["x"], caught.value.body) == (403, "y", body)
        assert trio.current_time() == waited
        await wait_all_tasks_blocked()
        assert agent.servers[0].resets() == [CANCEL]
        assert agent.statistics().connections_open == 1


@pytest.mark.parametrize("most", [0, 2, 3])
async def test_no_more_of_a_refusals_body_is_waited_for_than_is_wanted(most: int, autojump_clock: MockClock) -> None:
    async def serve(server: Server) -> None:
        stream_id = await server.request()
        await server.send(server.headers(stream_id, [(":status", "403")]), DataFrame(stream_id, b"123"))
        await server.listen()

    async with raw_agent(serve) as agent:
        with pytest.raises(HandshakeRejected) as caught:
            async with open_plain(URL, dispatcher=agent, limits=Limits(max_body_size=most)):
                pass
        assert (caught.value.body, trio.current_time()) == (b"123"[:most], 0)


async def test_a_body_that_is_larger_than_the_window_is_read_whole(autojump_clock: MockClock) -> None:
    async def serve(server: Server) -> None:
        stream_id = await server.request()
        frame = DataFrame(stream_id, bytes(2**14))
        await server.send(server.headers(stream_id, [(":status", "403")]), *[frame] * 4)
        await server.expect(WindowUpdateFrame, stream_id)
        await server.data(stream_id, b"the end", "END_STREAM")
        await server.listen()

    async with raw_agent(serve) as agent:
        with pytest.raises(HandshakeRejected) as caught:
            async with open_plain(URL, dispatcher=agent, limits=Limits(max_body_size=2**17)):
                pass
        assert caught.value.body == bytes(2**16) + b"the end"
        assert trio.current_time() == 0


async def test_the_body_of_a_redirect_is_not_waited_for(autojump_clock: MockClock) -> None:
    async def serve(server: Server) -> None:
        await server.respond([(":status", "302"), ("location", "/new")])
        await server.respond(OK)
        await server.listen()

    async with (
        raw_agent(serve) as agent,
        open_plain(URL, dispatcher=agent, follow_redirects=1) as websocket,
    ):
        assert (websocket.url, trio.current_time()) == (f"{URL}new", 0)


async def test_a_refusal_that_is_reset_keeps_its_status(autojump_clock: MockClock) -> None:
    async def serve(server: Server) -> None:
        stream_id = await server.request()
        await server.send(server.headers(stream_id, [(":status", "503")]), RstStreamFrame(stream_id, 2))
        await server.listen()

    async with raw_agent(serve) as agent:
        with pytest.raises(HandshakeRejected) as caught:
            async with open_plain(URL, dispatcher=agent):
                pass
        assert (caught.value.status, trio.current_time()) == (503, 0)


# ---- a path that has died ----


async def fall_silent(server: Server, *, answers_ping: bool = False, delay: float = 0) -> None:
    """Accept one WebSocket; then, on the first connection, answer nothing but perhaps a PING, or all of it late."""
    await server.respond(OK)
    while (frame := await server.next()) is not None:
        if server.number == 0:
            if isinstance(frame, SettingsFrame) or (isinstance(frame, PingFrame) and not answers_ping):
                continue
            await trio.sleep(delay)
        if isinstance(frame, PingFrame):
            await server.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))
        elif isinstance(frame, HeadersFrame) and (server.number or delay):
            await server.send(server.headers(frame.stream_id, OK))


async def test_a_connection_that_died_in_silence_costs_a_second_and_not_the_timeout(
    autojump_clock: MockClock,
) -> None:
    async with raw_agent(fall_silent) as agent, open_plain(URL, dispatcher=agent) as first:
        await trio.sleep(10)
        async with open_plain(URL, dispatcher=agent):
            assert (trio.current_time(), len(agent.servers)) == (11, 2)
        kinds = [type(frame) for frame in agent.servers[0].heard]
        assert kinds.index(PingFrame) < len(kinds) - 1 - kinds[::-1].index(HeadersFrame)  # before the second request
        assert agent.servers[0].resets() == [CANCEL]
        assert first.ready_state is trio_ws.ReadyState.OPEN  # to be given up by its own keepalive
        async with open_plain(URL, dispatcher=agent):
            assert (trio.current_time(), len(agent.servers)) == (11, 2)


async def test_all_who_wait_on_a_connection_that_died_go_elsewhere_together(autojump_clock: MockClock) -> None:
    async def use(agent: Agent) -> None:
        async with open_plain(URL, dispatcher=agent):
            opened.append(trio.current_time())

    opened: list[float] = []
    async with raw_agent(fall_silent) as agent, open_plain(URL, dispatcher=agent):
        await trio.sleep(10)
        async with trio.open_nursery() as nursery:
            for after in (0, 0, 0.5):
                nursery.start_soon(use, agent)
                await trio.sleep(after)
        assert opened == [11, 11, 11]
        assert agent.statistics().pings_sent == 1


async def test_a_peer_that_answers_a_ping_has_all_the_time_for_its_answer(autojump_clock: MockClock) -> None:
    async with raw_agent(partial(fall_silent, answers_ping=True)) as agent, open_plain(URL, dispatcher=agent):
        await trio.sleep(10)
        with pytest.raises(trio_ws.HandshakeTimeout):
            async with open_plain(URL, dispatcher=agent, connect_timeout=7):
                pass
        assert (trio.current_time(), len(agent.servers)) == (17, 1)


async def test_an_answer_is_as_good_as_that_to_the_ping(autojump_clock: MockClock) -> None:
    async with raw_agent(partial(fall_silent, delay=0.9)) as agent, open_plain(URL, dispatcher=agent):
        await trio.sleep(10)
        async with open_plain(URL, dispatcher=agent):
            assert len(agent.servers) == 1
        await trio.sleep(2)
        assert agent.statistics().connections_open == 1


async def test_an_answer_that_came_while_the_process_stood_still_counts(mock_clock: MockClock) -> None:
    go_on = trio.Event()

    async def serve(server: Server) -> None:
        await server.respond(OK)
        ping, stream_id = await server.expect(PingFrame), await server.request()
        await go_on.wait()
        await server.send(PingFrame(0, ping.opaque_data, flags=["ACK"]), server.headers(stream_id, OK))
        await server.listen()

    async def use(agent: RawAgent) -> None:
        async with open_plain(URL, dispatcher=agent):
            opened.append(len(agent.servers))

    opened: list[int] = []
    async with raw_agent(serve) as agent, open_plain(URL, dispatcher=agent):
        mock_clock.jump(6)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use, agent)
            await wait_all_tasks_blocked()
            go_on.set()
            mock_clock.jump(3)
        assert opened == [1]


async def test_a_connection_that_was_heard_lately_is_not_asked(autojump_clock: MockClock) -> None:
    async with raw_agent(fall_silent) as agent, open_plain(URL, dispatcher=agent):
        await trio.sleep(4.5)
        with pytest.raises(trio_ws.HandshakeTimeout):
            async with open_plain(URL, dispatcher=agent, connect_timeout=3):
                pass
        assert agent.statistics().pings_sent == 0


async def test_on_a_long_path_the_answer_has_four_round_trips(autojump_clock: MockClock) -> None:
    async def serve(server: Server) -> None:
        await trio.sleep(0.75)
        await server.send(SettingsFrame(0, flags=["ACK"]))
        await fall_silent(server)

    async with raw_agent(serve) as agent, open_plain(URL, dispatcher=agent):
        await trio.sleep(10)
        asked_at = trio.current_time()
        async with open_plain(URL, dispatcher=agent):
            assert (trio.current_time() - asked_at, len(agent.servers)) == (3.75, 2)
