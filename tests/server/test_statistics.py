"""What a server counts: each way in, each way out, and the sums."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

import trio_ws
from trio_ws import Agent, Group, HandshakeRejected, Http2Statistics, open_websocket, serve_websocket
from trio_ws.testing import open_test_server

from ..raw import client_context, server_context
from ..serving import LOCALHOST, serving, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def echo_or_reject(request: trio_ws.WebSocketRequest) -> None:
    if request.path == "/no":
        await request.reject(403)
        return
    async with request.accept() as ws:
        async for message in ws:
            await ws.send(message)


async def test_websockets_are_counted_while_they_are_open_and_afterwards() -> None:
    async with serving(partial(serve_websocket, echo_or_reject, LOCALHOST, 0, compression=None)) as server:
        before = server.statistics()
        assert (before.connections, before.open, before.accepted, before.messages_received) == (0, 0, 0, 0)
        async with open_websocket(f"ws://{LOCALHOST}:{server.port}/", compression=None) as ws:
            await ws.send("four")
            await ws.receive()
            told = server.statistics()
            assert (told.connections, told.open, told.accepted, dict(told.http_versions)) == (1, 1, 1, {"1.1": 1})
            assert (told.messages_received, told.messages_sent) == (1, 1)
            assert (told.bytes_received, told.bytes_sent) == (2 + 4 + 4, 2 + 4)
        await until(lambda: server.statistics().connections == 0)
        told = server.statistics()
        assert (told.open, told.accepted, told.messages_received, told.messages_sent) == (0, 1, 1, 1)
        assert told.bytes_received > 10
        assert before.accepted == 0, "it is a copy"


async def test_versions_of_http_are_told_apart() -> None:
    async with open_test_server(echo_or_reject) as place:
        for allow_h2 in (True, True, False):
            async with (
                Agent(ssl_context=place.ssl_context, allow_h2=allow_h2) as agent,
                open_websocket(place.url, dispatcher=agent),
            ):
                pass
        told = place.server.statistics()
    assert dict(told.http_versions) == {"2": 2, "1.1": 1}
    assert (told.http2.streams_opened, told.http2.connections_opened) == (2, 2)


async def test_the_names_of_http2_go_on_working() -> None:
    async with serving(partial(serve_websocket, echo_or_reject, LOCALHOST, 0)) as server:
        told: object = server.statistics()
        for name in vars(Http2Statistics)["__slots__"]:
            assert getattr(told, name) == getattr(told.http2, name)  # type: ignore[attr-defined]
        with pytest.raises(AttributeError):
            told.frobnicated  # type: ignore[attr-defined]  # noqa: B018
        with pytest.raises(AttributeError):
            told.__frobnicated__  # type: ignore[attr-defined]  # noqa: B018


async def a_handler_rejects(port: int) -> None:
    with pytest.raises(HandshakeRejected):
        async with open_websocket(f"ws://{LOCALHOST}:{port}/no"):
            raise AssertionError("it opened")


async def a_page_from_elsewhere_asks(port: int) -> None:
    with pytest.raises(HandshakeRejected):
        async with open_websocket(f"ws://{LOCALHOST}:{port}/", origin="https://evil.example"):
            raise AssertionError("it opened")


async def a_plain_request_comes(port: int) -> None:
    stream = await trio.open_tcp_stream(LOCALHOST, port)
    await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await stream.receive_some()).startswith(b"HTTP/1.1 426 ")
    await stream.aclose()


async def a_stream_is_refused(port: int) -> None:
    async with Agent(h2_prior_knowledge=True) as agent:
        with pytest.raises(HandshakeRejected):
            async with open_websocket(f"ws://{LOCALHOST}:{port}/", origin="https://evil.example", dispatcher=agent):
                raise AssertionError("it opened")


@pytest.mark.parametrize(
    ("come", "refused"),
    [
        (a_handler_rejects, {403: 1}),
        (a_page_from_elsewhere_asks, {403: 1}),
        (a_plain_request_comes, {426: 1}),
        (a_stream_is_refused, {403: 1}),
    ],
)
async def test_refusals_are_counted_by_status(come: Callable[[int], Awaitable[None]], refused: dict[int, int]) -> None:
    async with serving(partial(serve_websocket, echo_or_reject, LOCALHOST, 0)) as server:
        await come(server.port)
        await until(lambda: dict(server.statistics().refused) == refused)
        assert (server.statistics().accepted, dict(server.statistics().failed)) == (0, {})


@pytest.mark.parametrize(
    ("secure", "says", "failed"),
    [(False, b"", {"no request": 1}), (False, b"GET / HT", {"no request": 1}), (True, b"GET / HTTP/1.1", {"tls": 1})],
)
async def test_what_came_to_nothing_is_counted_by_reason(secure: bool, says: bytes, failed: dict[str, int]) -> None:
    context = server_context() if secure else None
    async with serving(partial(serve_websocket, echo_or_reject, LOCALHOST, 0, context)) as server:
        stream = await trio.open_tcp_stream(LOCALHOST, server.port)
        if says:
            await stream.send_all(says)
        await stream.aclose()
        await until(lambda: dict(server.statistics().failed) == failed)


async def test_tls_that_takes_too_long_is_counted() -> None:
    serve = partial(serve_websocket, echo_or_reject, LOCALHOST, 0, server_context(), connect_timeout=0.05)
    async with serving(serve) as server:
        stream = await trio.open_tcp_stream(LOCALHOST, server.port)
        await until(lambda: dict(server.statistics().failed) == {"tls timeout": 1})
        await stream.aclose()


async def test_listeners_that_a_broadcast_left_out_are_counted() -> None:
    group = Group(max_buffered=0)

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as ws, group.join(ws):
            await ws.wait_closed()

    async with serving(partial(serve_websocket, handler, LOCALHOST, 0)) as server:
        limits = trio_ws.Limits(receive_buffer=1000, max_message_size=None)
        async with open_websocket(f"ws://{LOCALHOST}:{server.port}/", limits=limits):
            await until(lambda: len(group) == 1)
            assert server.statistics().slow == 0
            while not group.broadcast(bytes(2**20), compress=False).skipped:
                await trio.lowlevel.checkpoint()
            assert server.statistics().slow == 1
        await until(lambda: server.statistics().open == 0)
        assert server.statistics().slow == 1


async def test_a_server_tells_when_it_accepts_no_more() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, echo_or_reject, LOCALHOST, 0)
        assert server.is_accepting
        server.stop_listening()
        assert not server.is_accepting
        await server.aclose()
        assert not server.is_accepting


async def test_tls_works_beside_it() -> None:
    async with (
        serving(partial(serve_websocket, echo_or_reject, LOCALHOST, 0, server_context())) as server,
        open_websocket(f"wss://{LOCALHOST}:{server.port}/", ssl_context=client_context()),
    ):
        assert dict(server.statistics().failed) == {}
