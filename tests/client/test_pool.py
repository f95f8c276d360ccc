"""Agents over HTTP/2: who shares a connection, who makes the next, and what an agent does when a server says no."""

from __future__ import annotations

import functools
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame
from trio.testing import MockClock, wait_all_tasks_blocked

import trio_ws
from trio_ws import Agent, HandshakeRejected, InvalidHandshake, Limits, open_websocket, serve_websocket
from trio_ws._net.stream_transport import StreamTransport
from trio_ws._wire.negotiation import is_key

from ..net.http2.raw_http2 import RawHttp2
from ..raw import open_files
from ..serving import LOCALHOST, echo, live_tasks, serving, tls_contexts, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable

    from trio_ws import ConnectRequest, WebSocket
    from trio_ws._transport import Transport

    Serve = Callable[[RawHttp2], Awaitable[None]]

URL = "ws://test.example/"
CONNECT_SETTING = {8: 1}


class RawAgent(Agent):
    """Connects to raw servers in memory, a new one each time."""

    def __init__(self, nursery: trio.Nursery, serve: Serve, **options: int) -> None:
        super().__init__(h2_prior_knowledge=True, **options)  # type: ignore[arg-type]
        self.servers: list[RawHttp2] = []
        self._nursery = nursery
        self._serve = serve

    async def _connect(self, request: ConnectRequest) -> Transport:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        self.servers.append(RawHttp2(theirs))
        self._nursery.start_soon(self._serve, self.servers[-1])
        return StreamTransport(ours, request.nursery)


@asynccontextmanager
async def raw_agent(serve: Serve, **options: int) -> AsyncGenerator[RawAgent, None]:
    """An agent, entered, all of whose connections are served so."""
    async with trio.open_nursery() as nursery:
        async with RawAgent(nursery, serve, **options) as agent:
            yield agent
        nursery.cancel_scope.cancel()


async def begin(peer: RawHttp2, settings: dict[int, int] | None = None) -> None:
    """Begin as a server."""
    peer._buffer = bytes(await peer.stream.receive_some())
    assert peer._buffer.startswith(b"PRI * HTTP/2.0")
    peer._buffer = peer._buffer[24:]
    await peer.begin(CONNECT_SETTING if settings is None else settings, preface=False)


async def accept(peer: RawHttp2) -> int:
    """Take the next request for a WebSocket; give its stream."""
    stream_id = (await peer.expect(HeadersFrame)).stream_id
    await peer.send(peer.headers(stream_id, {":status": "200"}))
    return stream_id


async def accept_all(peer: RawHttp2, settings: dict[int, int] | None = None) -> None:
    """Take every request, and listen to no more."""
    await begin(peer, settings)
    while (frame := await peer.next()) is not None:
        if isinstance(frame, HeadersFrame):
            await peer.send(peer.headers(frame.stream_id, {":status": "200"}))


open_plain = functools.partial(open_websocket, compression=None, keepalive=None, close_timeout=0)


async def hold(agent: Agent, url: str, opened: list[WebSocket], **options: object) -> None:
    """Open a WebSocket and keep it."""
    async with open_websocket(url, dispatcher=agent, close_timeout=0, **options) as websocket:  # type: ignore[arg-type]
        opened.append(websocket)
        await trio.sleep_forever()


# ---- sharing ----


async def test_sockets_to_one_origin_share_one_connection() -> None:
    server_side, client_side = tls_contexts()
    async with (
        serving(partial(serve_websocket, echo, LOCALHOST, 0, server_side)) as server,
        Agent(ssl_context=client_side) as agent,
        AsyncExitStack() as stack,
    ):
        url = f"wss://{LOCALHOST}:{server.port}/"
        sockets = [await stack.enter_async_context(open_websocket(url, dispatcher=agent)) for _ in range(20)]
        for number, websocket in enumerate(sockets):
            await websocket.send(str(number))
        assert [await websocket.receive() for websocket in sockets] == [str(number) for number in range(20)]
        assert {websocket.http_version for websocket in sockets} == {"2"}
        assert len({websocket.local_address for websocket in sockets}) == 1
        for counts in (agent.statistics(), server.statistics().http2):
            assert (counts.connections_open, counts.streams_open, counts.limits_passed) == (1, 20, {})


@pytest.mark.parametrize(
    ("options", "settings"), [({"max_concurrent_streams": 3}, {8: 1}), ({}, {8: 1, 3: 3}), ({}, {8: 1, 3: 3, 1: 0})]
)
async def test_a_full_connection_is_followed_by_another(
    options: dict[str, int], settings: dict[int, int], autojump_clock: MockClock
) -> None:
    async with raw_agent(partial(accept_all, settings=settings), **options) as agent, trio.open_nursery() as nursery:
        opened: list[WebSocket] = []
        for _ in range(7):
            nursery.start_soon(hold, agent, URL, opened)
        await wait_all_tasks_blocked()
        assert len(opened) == 7
        assert len(agent.servers) == agent.statistics().connections_open == 3
        nursery.cancel_scope.cancel()


async def test_a_slot_that_is_free_again_is_used(autojump_clock: MockClock) -> None:
    async with raw_agent(accept_all, max_concurrent_streams=1) as agent:
        for _ in range(5):
            async with open_plain(URL, dispatcher=agent):
                pass
        assert len(agent.servers) == 1


async def test_a_server_that_wants_no_streams_gets_none(autojump_clock: MockClock) -> None:
    async with raw_agent(partial(accept_all, settings={8: 1, 3: 0})) as agent:
        with pytest.raises(trio_ws.InvalidHandshake, match="no room"):
            async with open_plain(URL, dispatcher=agent):
                pass
        assert len(agent.servers) == 1


async def test_openers_that_come_together_share_one_dial(autojump_clock: MockClock) -> None:
    async def serve(peer: RawHttp2) -> None:
        await trio.sleep(1)
        await accept_all(peer)

    async with raw_agent(serve) as agent, trio.open_nursery() as nursery:
        opened: list[WebSocket] = []
        for _ in range(50):
            nursery.start_soon(hold, agent, URL, opened)
        await trio.sleep(2)
        assert len(opened) == 50
        assert len(agent.servers) == 1
        nursery.cancel_scope.cancel()


async def test_an_opener_that_is_cancelled_fails_no_other(autojump_clock: MockClock) -> None:
    async def serve(peer: RawHttp2) -> None:
        await trio.sleep(1)
        with suppress(trio.BrokenResourceError):
            await accept_all(peer)

    async with raw_agent(serve) as agent, trio.open_nursery() as nursery:
        opened: list[WebSocket] = []
        async with trio.open_nursery() as first:
            first.start_soon(hold, agent, URL, opened)
            await wait_all_tasks_blocked()
            for _ in range(3):
                nursery.start_soon(hold, agent, URL, opened)
            await trio.sleep(0.5)
            first.cancel_scope.cancel()
        await trio.sleep(0.9)
        assert opened == []
        await trio.sleep(0.2)
        assert len(opened) == 3
        assert len(agent.servers) == 2
        assert agent.servers[0].stream is not None
        assert agent.statistics().connections_open == 1
        nursery.cancel_scope.cancel()


async def test_each_origin_and_each_context_has_its_own_connection(autojump_clock: MockClock) -> None:
    class Keyed(RawAgent):
        def _pool_key(self, request: ConnectRequest) -> tuple[Hashable, ...]:
            return (*super()._pool_key(request), request.url.target)

    async with trio.open_nursery() as servers:
        async with Keyed(servers, accept_all) as agent, trio.open_nursery() as nursery:
            opened: list[WebSocket] = []
            for url in ("ws://a/1", "ws://a/1", "ws://a/2", "ws://b/1", "ws://a:81/1", "ws://a/1"):
                nursery.start_soon(hold, agent, url, opened)
            await wait_all_tasks_blocked()
            assert len(opened) == 6
            assert len(agent.servers) == 4
            nursery.cancel_scope.cancel()
        servers.cancel_scope.cancel()


# ---- the end ----


async def test_an_idle_connection_ends_and_the_next_socket_gets_another(autojump_clock: MockClock) -> None:
    async with raw_agent(accept_all) as agent:
        for _ in range(2):
            async with open_plain(URL, dispatcher=agent):
                await trio.sleep(100)
        assert len(agent.servers) == 1
        await trio.sleep(59)
        assert agent.statistics().connections_open == 1
        await trio.sleep(2)
        assert agent.statistics().connections_open == 0
        assert isinstance(agent.servers[0].heard[-1], GoAwayFrame)
        async with open_plain(URL, dispatcher=agent):
            assert len(agent.servers) == 2


async def test_leaving_an_agent_ends_what_it_still_carries(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery, trio.open_nursery() as sockets:
        async with RawAgent(nursery, accept_all) as agent:
            websocket = await trio_ws.connect_websocket(sockets, URL, dispatcher=agent)
        assert (await websocket.wait_closed()).code == 1006
        await wait_all_tasks_blocked()
        assert agent.servers[0].ended
        assert isinstance(agent.servers[0].heard[-1], GoAwayFrame)
        nursery.cancel_scope.cancel()


async def test_sockets_in_a_cancelled_agent_say_goodbye(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with RawAgent(nursery, accept_all) as agent, open_plain(URL, dispatcher=agent) as websocket:
                scope.cancel()
                await websocket.receive()
        await wait_all_tasks_blocked()
        heard = agent.servers[0].heard
        assert next(bytes(frame.data)[:2] for frame in heard if isinstance(frame, DataFrame)) == b"\x88\x82"
        assert agent.servers[0].ended
        nursery.cancel_scope.cancel()


async def test_an_agent_is_entered_once_at_a_time() -> None:
    agent = Agent()
    for _ in range(2):
        async with agent:
            with pytest.raises(RuntimeError, match="entered before"):
                await agent.__aenter__()


async def test_an_agent_that_was_not_entered_shares_nothing_and_leaves_nothing() -> None:
    server_side, client_side = tls_contexts()
    async with serving(partial(serve_websocket, echo, LOCALHOST, 0, server_side)) as server:
        url = f"wss://{LOCALHOST}:{server.port}/"
        files, tasks = open_files(), live_tasks()
        agent = Agent(ssl_context=client_side)
        async with (
            open_websocket(url, dispatcher=agent) as one,
            open_websocket(url, dispatcher=agent) as other,
        ):
            assert one.http_version == other.http_version == "2"
            assert one.local_address != other.local_address
            await one.send("hello")
            assert await one.receive() == "hello"
        assert agent.statistics().connections_opened == 2
        await until(lambda: (open_files(), live_tasks()) == (files, tasks))


# ---- what the server speaks ----


async def test_a_server_without_http2_gets_http1_on_the_connection_that_is_there_and_that_is_remembered() -> None:
    server_side, client_side = tls_contexts()
    serve = partial(serve_websocket, echo, LOCALHOST, 0, server_side, allow_h2=False)
    async with serving(serve) as server, Agent(ssl_context=client_side) as entered:
        for agent in (entered, Agent(ssl_context=client_side)):
            url = f"wss://{LOCALHOST}:{server.port}/"
            for _ in range(3):
                async with open_websocket(url, dispatcher=agent) as websocket:
                    assert websocket.http_version == "1.1"
                    await websocket.send("hello")
                    assert await websocket.receive() == "hello"
            assert agent.statistics().connections_opened == 0


async def test_an_agent_may_be_told_to_speak_http1_only() -> None:
    server_side, client_side = tls_contexts()
    async with (
        serving(partial(serve_websocket, echo, LOCALHOST, 0, server_side)) as server,
        Agent(ssl_context=client_side, allow_h2=False) as agent,
        open_websocket(f"wss://{LOCALHOST}:{server.port}/", dispatcher=agent) as websocket,
    ):
        assert websocket.http_version == "1.1"


@pytest.mark.parametrize("entered", [True, False])
async def test_http2_without_websockets_gets_http1_on_a_new_connection_and_that_is_remembered(
    entered: bool, autojump_clock: MockClock
) -> None:
    asked: list[bytes] = []

    async def serve(peer: RawHttp2) -> None:
        data = bytes(await peer.stream.receive_some())
        asked.append(data[:3])
        if data.startswith(b"PRI"):
            await peer.begin({}, preface=False)
            await peer.goaway_code()
        else:
            await peer.stream.send_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
        agent = RawAgent(nursery, serve)
        if entered:
            await stack.enter_async_context(agent)
        for _ in range(2):
            with pytest.raises(HandshakeRejected):
                async with open_plain(URL, dispatcher=agent):
                    pass
        assert asked == ([b"PRI", b"GET", b"GET"] if entered else [b"PRI", b"GET"] * 2)
        nursery.cancel_scope.cancel()


async def test_a_server_that_speaks_no_http2_where_it_must_is_an_invalid_handshake(autojump_clock: MockClock) -> None:
    async def serve(peer: RawHttp2) -> None:
        await peer.stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.stream.aclose()

    async def hang_up(peer: RawHttp2) -> None:
        await peer.stream.aclose()

    for how in (serve, hang_up):
        async with raw_agent(how) as agent:
            with pytest.raises(InvalidHandshake, match="HTTP/2 ended before it began"):
                async with open_plain(URL, dispatcher=agent):
                    pass


@pytest.mark.parametrize("begun", [False, True], ids=["while it begins", "before the answer"])
async def test_a_connection_that_breaks_is_an_os_error(begun: bool) -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        if begun:
            peer = RawHttp2(stream)
            await begin(peer)
            await peer.expect(HeadersFrame)
        else:
            await stream.receive_some()
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await stream.aclose()

    listeners = await trio.open_tcp_listeners(0, host=LOCALHOST)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, hang_up, listeners)
        port = listeners[0].socket.getsockname()[1]
        async with Agent(h2_prior_knowledge=True) as agent:
            with pytest.raises(ConnectionResetError):
                async with open_plain(f"ws://{LOCALHOST}:{port}/", dispatcher=agent):
                    pass
        nursery.cancel_scope.cancel()


# ---- answers ----


async def answer_with(peer: RawHttp2, fields: list[dict[str, str]], body: bytes = b"", *, ended: bool = True) -> None:
    await begin(peer)
    stream_id = (await peer.expect(HeadersFrame)).stream_id
    for some in fields:
        last = some is fields[-1] and not body and ended
        await peer.send(peer.headers(stream_id, some, *(["END_STREAM"] if last else [])))
    if body:
        await peer.data(stream_id, body, *(["END_STREAM"] if ended else []))
    while await peer.next() is not None:
        pass


@pytest.mark.parametrize("status", ["200", "204", "299"])
async def test_any_2xx_accepts(status: str, autojump_clock: MockClock) -> None:
    fields = [{":status": "103", "link": "a"}] * 8 + [{":status": status, "sec-websocket-accept": "?", "x": "y"}]
    async with (
        raw_agent(partial(answer_with, fields=fields, ended=False)) as agent,
        open_plain(URL, dispatcher=agent) as websocket,
    ):
        assert websocket.response_headers["x"] == "y"
        assert websocket.request_headers["Host"] == "test.example"
        assert is_key(websocket.request_headers["sec-websocket-key"])


@pytest.mark.parametrize("status", [300, 304, 404, 599])
async def test_no_other_status_accepts(status: int, autojump_clock: MockClock) -> None:
    async with raw_agent(partial(answer_with, fields=[{":status": str(status)}], ended=False)) as agent:
        with pytest.raises(HandshakeRejected) as caught:
            async with open_plain(URL, dispatcher=agent):
                pass
        assert caught.value.status == status


async def test_any_other_answer_is_a_rejection_with_its_body(autojump_clock: MockClock) -> None:
    for body, told in ((b"go away", b"go away"), (b"", b""), (bytes(300), bytes(100))):
        async with raw_agent(partial(answer_with, fields=[{":status": "403", "x": "y"}], body=body)) as agent:
            with pytest.raises(HandshakeRejected) as caught:
                async with open_plain(URL, dispatcher=agent, limits=Limits(max_body_size=100)):
                    pass
            assert (caught.value.status, caught.value.headers["x"], caught.value.body) == (403, "y", told)
            assert trio.current_time() == 0
            assert agent.statistics().streams_open == 0
            assert agent.statistics().connections_open == 1


UNACCEPTABLE: dict[str, list[dict[str, str]]] = {
    "a protocol that was not offered": [{":status": "200", "sec-websocket-protocol": "chat"}],
    "an extension that was not offered": [{":status": "200", "sec-websocket-extensions": "permessage-deflate"}],
    "headers that are too large": [{":status": "200", "x": "y" * 17000}],
    "only interim answers": [{":status": "103"}] * 9,
}


@pytest.mark.parametrize("what", UNACCEPTABLE)
async def test_an_answer_that_cannot_be_taken_is_an_invalid_handshake_and_costs_only_its_stream(
    what: str, autojump_clock: MockClock
) -> None:
    async with raw_agent(partial(answer_with, fields=UNACCEPTABLE[what], ended=False)) as agent:
        with pytest.raises(InvalidHandshake):
            async with open_plain(URL, dispatcher=agent):
                pass
        await wait_all_tasks_blocked()
        assert agent.statistics().connections_open == 1
        assert [frame.error_code for frame in agent.servers[0].heard if isinstance(frame, RstStreamFrame)] == [8]


@pytest.mark.parametrize("how", ["reset", "end", "data", "goaway", "hang up"])
async def test_no_answer_is_an_invalid_handshake(how: str, autojump_clock: MockClock) -> None:
    async def serve(peer: RawHttp2) -> None:
        await begin(peer)
        stream_id = (await peer.expect(HeadersFrame)).stream_id
        match how:
            case "reset":
                await peer.send(RstStreamFrame(stream_id, 2))
            case "end" | "data":
                await peer.data(stream_id, b"x")
            case "goaway":
                await peer.send(GoAwayFrame(0, stream_id, 2))
        if how in ("goaway", "hang up"):
            await peer.stream.aclose()
        else:
            await peer.goaway_code()

    async with raw_agent(serve) as agent:
        with pytest.raises(InvalidHandshake, match="did not answer"):
            async with open_plain(URL, dispatcher=agent):
                pass


# ---- a server that goes, or refuses ----


async def test_streams_after_the_last_of_a_goaway_move_on_and_those_before_stay(autojump_clock: MockClock) -> None:
    async def serve(peer: RawHttp2) -> None:
        await begin(peer)
        if len(agent.servers) > 1:
            await accept(peer)
            await peer.next()
            return
        assert await accept(peer) == 1
        assert (await peer.expect(HeadersFrame)).stream_id == 3
        await peer.send(GoAwayFrame(0, 1, 0))
        await peer.send(DataFrame(1, b"\x81\x05still"))
        await peer.goaway_code()

    async with raw_agent(serve) as agent, open_plain(URL, dispatcher=agent) as first:
        async with open_plain(URL, dispatcher=agent) as second:
            assert len(agent.servers) == 2
            assert await first.receive() == "still"
            assert second.ready_state is trio_ws.ReadyState.OPEN
        assert agent.statistics().connections_open == 2
    await wait_all_tasks_blocked()


@pytest.mark.parametrize("refusals", [1, 2, 3])
async def test_a_refused_stream_is_tried_elsewhere_a_few_times(refusals: int, autojump_clock: MockClock) -> None:
    async def serve(peer: RawHttp2) -> None:
        await begin(peer)
        if len(agent.servers) <= refusals:
            await peer.send(RstStreamFrame((await peer.expect(HeadersFrame)).stream_id, 7))
        else:
            await accept(peer)
        await peer.goaway_code()

    async with raw_agent(serve) as agent:
        if refusals < 3:
            async with open_plain(URL, dispatcher=agent):
                assert len(agent.servers) == refusals + 1
        else:
            with pytest.raises(InvalidHandshake, match="refused"):
                async with open_plain(URL, dispatcher=agent):
                    pass
        assert agent.statistics().streams_refused == refusals


async def test_a_refused_stream_of_an_agent_that_shares_nothing_is_an_invalid_handshake(
    autojump_clock: MockClock,
) -> None:
    async def serve(peer: RawHttp2) -> None:
        await begin(peer)
        await peer.send(RstStreamFrame((await peer.expect(HeadersFrame)).stream_id, 7))
        await peer.goaway_code()

    async with trio.open_nursery() as nursery:
        with pytest.raises(InvalidHandshake, match="refused"):
            async with open_plain(URL, dispatcher=RawAgent(nursery, serve)):
                pass


async def test_when_the_numbers_of_streams_are_used_up_another_connection_is_made(autojump_clock: MockClock) -> None:
    async with raw_agent(accept_all) as agent, AsyncExitStack() as stack:
        await stack.enter_async_context(open_plain(URL, dispatcher=agent))
        assert agent._pool is not None
        (origin,) = agent._pool._origins.values()
        origin.connections[0]._h2._h2.highest_outbound_stream_id = 2**31 - 3
        await stack.enter_async_context(open_plain(URL, dispatcher=agent))
        assert len(agent.servers) == 1
        await stack.enter_async_context(open_plain(URL, dispatcher=agent))
        assert len(agent.servers) == 2


async def test_a_connection_that_has_carried_enough_is_followed_by_another(autojump_clock: MockClock) -> None:
    async with raw_agent(accept_all) as agent:
        for number in range(1, 6):
            async with open_plain(URL, dispatcher=agent, limits=Limits(h2_max_streams_total=2)):
                assert len(agent.servers) == (number + 1) // 2
        await wait_all_tasks_blocked()
        assert agent.statistics().connections_open == 1


async def test_a_connection_that_is_silent_gets_no_more_sockets(autojump_clock: MockClock) -> None:
    async def serve(peer: RawHttp2) -> None:
        await begin(peer)
        await accept(peer)
        if len(agent.servers) == 1:
            await trio.sleep_forever()
        await peer.goaway_code()

    async with raw_agent(serve) as agent, open_plain(URL, dispatcher=agent) as first:
        with trio.move_on_after(0.5) as scope:
            async with open_plain(URL, dispatcher=agent):
                pass
        assert scope.cancelled_caught
        with pytest.raises(trio_ws.HandshakeTimeout):
            async with open_plain(URL, dispatcher=agent, connect_timeout=10):
                pass
        assert len(agent.servers) == 1
        async with open_plain(URL, dispatcher=agent):
            assert len(agent.servers) == 2
            assert first.ready_state is trio_ws.ReadyState.OPEN


async def test_extended_connect_may_not_be_taken_back(autojump_clock: MockClock) -> None:
    async def serve(peer: RawHttp2) -> None:
        await begin(peer)
        await accept(peer)
        await peer.send(SettingsFrame(0, settings={8: 0}))
        assert await peer.goaway_code() == 1

    async with raw_agent(serve) as agent, open_plain(URL, dispatcher=agent) as websocket:
        assert (await websocket.wait_closed()).code == 1006
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await websocket.receive()
        assert "taken back" in str(caught.value.__cause__)


async def test_a_frame_for_a_stream_of_the_servers_own_ends_the_connection(autojump_clock: MockClock) -> None:
    async def serve(peer: RawHttp2) -> None:
        await begin(peer)
        await accept(peer)
        await peer.send(peer.headers(2, {":status": "200"}))
        await peer.send(peer.headers(4, {":status": "200"}))
        assert await peer.goaway_code() == 1

    async with raw_agent(serve) as agent, open_plain(URL, dispatcher=agent) as websocket:
        assert (await websocket.wait_closed()).code == 1006


# ---- arguments ----


async def test_a_connection_that_is_slow_and_not_silent_gets_more_sockets(autojump_clock: MockClock) -> None:
    async def serve(peer: RawHttp2) -> None:
        await begin(peer)
        await accept(peer)
        await peer.expect(HeadersFrame)
        await trio.sleep(5)
        await peer.send(SettingsFrame(0))
        await accept(peer)
        await peer.goaway_code()

    async with raw_agent(serve) as agent, open_plain(URL, dispatcher=agent):
        with pytest.raises(trio_ws.HandshakeTimeout):
            async with open_plain(URL, dispatcher=agent, connect_timeout=10):
                pass
        async with open_plain(URL, dispatcher=agent):
            assert len(agent.servers) == 1


@pytest.mark.parametrize("wrong", [0, -1])
def test_the_number_of_streams_must_be_positive(wrong: int) -> None:
    with pytest.raises(ValueError, match="max_concurrent_streams"):
        Agent(max_concurrent_streams=wrong)


@pytest.mark.parametrize("wrong", [True, "100", 1.5, None])
def test_the_number_of_streams_must_be_a_number(wrong: object) -> None:
    with pytest.raises(TypeError, match="max_concurrent_streams"):
        Agent(max_concurrent_streams=wrong)  # type: ignore[arg-type]
