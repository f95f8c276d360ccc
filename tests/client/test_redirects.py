"""Redirects, end to end: not followed by default, followed when asked to, and within the time for connecting."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

import trio_ws
from trio_ws import Agent, HandshakeRejected, ProxyAgent

from ..raw import answer, client_context, head, open_files, raw_server, read_head, server_context
from ..serving import LOCALHOST, serving, until
from ..small_proxies import SmallProxy

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator

SECRETS = {"Authorization": "Bearer secret", "X-API-Key": "secret", "Cookie": "secret"}


class Site:
    """A server that redirects where the path is known, and echoes elsewhere; it keeps the requests."""

    def __init__(self) -> None:
        self.redirects: dict[str, str] = {}
        self.requests: list[trio_ws.WebSocketRequest] = []
        self.port = 0

    async def handle(self, request: trio_ws.WebSocketRequest) -> None:
        self.requests.append(request)
        location = self.redirects.get(request.target)
        if location is not None:
            await request.reject(307, headers={"Location": location}, body=b"elsewhere")
            return
        async with request.accept(next(iter(request.protocols), None)) as websocket:
            async for message in websocket:
                await websocket.send(message)

    @asynccontextmanager
    async def running(self, context: ssl.SSLContext | None = None) -> AsyncGenerator[None, None]:
        serve = partial(trio_ws.serve_websocket, self.handle, LOCALHOST, 0, context, origins=None)
        async with serving(serve) as server:
            self.port = server.port
            yield


async def test_a_redirect_is_not_followed_by_default_and_the_rejection_says_why() -> None:
    site = Site()
    async with site.running():
        site.redirects["/old"] = "/new"
        with pytest.raises(HandshakeRejected) as caught:
            async with trio_ws.open_websocket(f"ws://{LOCALHOST}:{site.port}/old"):
                pytest.fail("it was followed")
    assert caught.value.status == 307
    assert caught.value.headers["Location"] == "/new"
    assert caught.value.body == b"elsewhere"
    assert caught.value.__notes__ == ["the redirect was not followed: follow_redirects is 0"]
    assert len(site.requests) == 1


async def test_redirects_within_an_origin_keep_what_the_caller_sends() -> None:
    site = Site()
    async with site.running():
        site.redirects |= {"/a/b": "../c?d", "/c?d": f"http://{LOCALHOST}:{site.port}/e"}
        before = open_files()
        url = f"ws://{LOCALHOST}:{site.port}"
        async with trio_ws.open_websocket(
            f"{url}/a/b", headers=SECRETS, origin="http://page", follow_redirects=2
        ) as websocket:
            assert websocket.url == f"{url}/e"
            await websocket.send("hello")
            assert await websocket.receive() == "hello"
        assert [request.target for request in site.requests] == ["/a/b", "/c?d", "/e"]
        for request in site.requests:
            assert SECRETS.items() <= dict(request.headers).items()
            assert request.headers["Origin"] == "http://page"
        assert len({request.headers["Sec-WebSocket-Key"] for request in site.requests}) == 3
        await until(lambda: open_files() == before)


@pytest.mark.parametrize("dispatcher", ["none", "agent", "proxy"])
async def test_a_redirect_to_another_port_takes_no_secrets_along(dispatcher: str) -> None:
    one, other, proxy = Site(), Site(), SmallProxy()
    async with one.running(), other.running(), proxy.running() as place:
        agents = {"none": None, "agent": Agent(), "proxy": ProxyAgent(f"http://{place}")}
        one.redirects["/"] = f"ws://{LOCALHOST}:{other.port}/"
        async with trio_ws.open_websocket(
            f"ws://user:secret@{LOCALHOST}:{one.port}/",
            "chat",
            headers={"X-API-Key": "secret", "Cookie": "secret"},
            origin="http://page",
            dispatcher=agents[dispatcher],
            follow_redirects=1,
        ) as websocket:
            assert websocket.url == f"ws://{LOCALHOST}:{other.port}/"
    (first,), (second,) = one.requests, other.requests
    assert first.headers["Authorization"].startswith("Basic ")
    assert "secret" not in str(second.headers.raw)
    assert "Authorization" not in second.headers
    assert second.headers["Origin"] == "null"
    assert second.protocols == ("chat",)
    assert len(proxy.targets) == (2 if dispatcher == "proxy" else 0)


async def test_a_redirect_from_ws_to_wss_is_followed_and_never_the_other_way() -> None:
    plain, secure = Site(), Site()
    async with plain.running(), secure.running(server_context()):
        plain.redirects["/"] = f"https://{LOCALHOST}:{secure.port}/up"
        secure.redirects["/"] = f"ws://{LOCALHOST}:{plain.port}/down"
        open_to = partial(trio_ws.open_websocket, ssl_context=client_context(), follow_redirects=5)
        async with open_to(f"ws://{LOCALHOST}:{plain.port}/") as websocket:
            assert websocket.url == f"wss://{LOCALHOST}:{secure.port}/up"
        with pytest.raises(HandshakeRejected) as caught:
            async with open_to(f"wss://{LOCALHOST}:{secure.port}/"):
                pytest.fail("it was followed")
    assert caught.value.__notes__ == ["the redirect was not followed: it leads from wss to ws"]
    assert len(plain.requests) == 1


async def test_a_loop_ends_at_the_number_given() -> None:
    site = Site()
    async with site.running():
        site.redirects["/"] = "/"
        with pytest.raises(HandshakeRejected) as caught:
            async with trio_ws.open_websocket(f"ws://{LOCALHOST}:{site.port}/", follow_redirects=5):
                pytest.fail("it came to an end")
    assert caught.value.__notes__ == ["the redirect was not followed: follow_redirects is 5"]
    assert len(site.requests) == 6


async def test_all_redirects_together_have_the_time_of_one_connection() -> None:
    site = Site()

    async def stall(request: trio_ws.WebSocketRequest) -> None:
        await trio.sleep_forever()

    async with site.running(), serving(partial(trio_ws.serve_websocket, stall, LOCALHOST, 0)) as slow:
        site.redirects["/"] = f"ws://{LOCALHOST}:{slow.port}/stalled"
        with pytest.raises(trio_ws.HandshakeTimeout, match=rf":{slow.port}/stalled within connect_timeout=0\.2"):
            async with trio_ws.open_websocket(
                f"ws://{LOCALHOST}:{site.port}/", follow_redirects=1, connect_timeout=0.2
            ):
                pytest.fail("it is open")


@pytest.mark.parametrize("length", ["Content-Length: 100", "Transfer-Encoding: chunked", "X: until the end"])
async def test_the_body_of_a_redirect_is_not_waited_for(length: str, mock_clock: MockClock) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        asked = await read_head(stream)
        redirects = asked.startswith(b"GET / ")
        await stream.send_all(head("HTTP/1.1 302 Found", "Location: /new", length) if redirects else answer(asked))
        await read_head(stream)

    async with (
        raw_server(talk) as port,
        trio_ws.open_websocket(f"ws://{LOCALHOST}:{port}/", follow_redirects=1, close_timeout=0) as websocket,
    ):
        assert websocket.url == f"ws://{LOCALHOST}:{port}/new"
    assert trio.current_time() == 0


async def test_a_websocket_in_a_nursery_of_the_callers_follows_too(nursery: trio.Nursery) -> None:
    site = Site()
    async with site.running():
        site.redirects["/"] = "/new"
        websocket = await trio_ws.connect_websocket(nursery, f"ws://{LOCALHOST}:{site.port}/", follow_redirects=1)
        assert websocket.url == f"ws://{LOCALHOST}:{site.port}/new"
        await websocket.aclose()


async def test_a_number_that_is_wrong_is_an_error_before_any_io(nursery: trio.Nursery) -> None:
    with pytest.raises(ValueError, match="follow_redirects=6"):
        async with trio_ws.open_websocket(f"ws://{LOCALHOST}:1/", follow_redirects=6):
            pytest.fail("it is open")
    ours, _ = memory_stream_pair()
    with pytest.raises(TypeError, match="follow_redirects: a stream"):
        await trio_ws.wrap_client_stream(nursery, ours, "ws://a/", follow_redirects=1)
