"""Our client through real proxies, to a server of ours."""

from __future__ import annotations

import logging
import ssl
import traceback
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

import trio_ws

from ..raw import client_context, server_context
from ..serving import echo, serving
from .peers import HOST, TIMEOUT
from .proxies import PASSWORD, PROXIES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trio_ws._client.connect import ClientKeywords

    from .proxies import ProxyKind

pytestmark = pytest.mark.interop

MIB = 2**20
LIMITS = trio_ws.Limits(max_message_size=8 * MIB)
each_proxy = pytest.mark.parametrize("kind", PROXIES.values(), ids=PROXIES)


class Listening(trio_ws.Instrument):
    """Notes which proxies connected us, and where to."""

    def __init__(self) -> None:
        self.connected: list[tuple[str, str]] = []

    def proxy_connected(self, proxy: str, target: str, headers: Mapping[str, str]) -> None:
        self.connected.append((proxy, target))


def through(kind: ProxyKind, place: str, *instruments: trio_ws.Instrument, allow_h2: bool = True) -> trio_ws.ProxyAgent:
    return trio_ws.ProxyAgent(
        kind.url(place), proxy_ssl_context=client_context(), instruments=instruments, allow_h2=allow_h2
    )


@each_proxy
@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_messages_go_both_ways(kind: ProxyKind, scheme: str, tmp_path: Path) -> None:
    listening = Listening()
    context = server_context() if scheme == "wss" else None
    with trio.fail_after(TIMEOUT):
        async with (
            kind.running(tmp_path) as place,
            serving(partial(trio_ws.serve_websocket, echo, HOST, 0, context, limits=LIMITS)) as server,
            through(kind, place, listening) as agent,
        ):
            target = f"localhost:{server.port}"
            async with trio_ws.open_websocket(
                f"{scheme}://{target}/", dispatcher=agent, ssl_context=client_context(), limits=LIMITS
            ) as websocket:
                assert websocket.url == f"{scheme}://{target}/"
                for message in ("hello", b"\0" * 70_000, "x" * 5 * MIB):
                    await websocket.send(message)
                    assert await websocket.receive() == message
                assert 0 <= await websocket.ping() < TIMEOUT
                await websocket.aclose(4000, "enough")
                assert (await websocket.wait_closed()).was_clean
    expected = kind.url(place).replace("socks5h", "socks5").replace(f"user:{PASSWORD}@", "")
    assert listening.connected == [(expected, target)]


@each_proxy
async def test_websockets_over_http_2_share_one_tunnel(kind: ProxyKind, tmp_path: Path) -> None:
    listening = Listening()
    with trio.fail_after(TIMEOUT):
        async with (
            kind.running(tmp_path) as place,
            serving(partial(trio_ws.serve_websocket, echo, HOST, 0, server_context(), limits=LIMITS)) as server,
            through(kind, place, listening) as agent,
        ):
            url = f"wss://{HOST}:{server.port}/"
            options: ClientKeywords = {"dispatcher": agent, "ssl_context": client_context(), "limits": LIMITS}
            async with (
                trio_ws.open_websocket(url, **options) as one,
                trio_ws.open_websocket_stream(url, **options) as two,
            ):
                assert one.http_version == "2"
                message = b"\0" * 5 * MIB
                await one.send(message)
                await two.writable.send(message)
                assert await two.readable.receive() == await one.receive() == message
    assert len(listening.connected) == 1


@each_proxy
async def test_big_messages_in_both_directions_at_once(kind: ProxyKind, tmp_path: Path) -> None:
    """Neither side waits for the other: 16 MiB each way, sent before any of it is read."""

    async def flood(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket, trio.open_nursery() as nursery:
            nursery.start_soon(send_all, websocket)
            assert [len(await websocket.receive()) for _ in range(4)] == [4 * MIB] * 4

    async def send_all(websocket: trio_ws.WebSocket) -> None:
        for _ in range(4):
            await websocket.send(b"\0" * 4 * MIB)

    with trio.fail_after(TIMEOUT):
        async with (
            kind.running(tmp_path) as place,
            serving(
                partial(trio_ws.serve_websocket, flood, HOST, 0, server_context(), limits=LIMITS, compression=None)
            ) as server,
            trio_ws.open_websocket(
                f"wss://{HOST}:{server.port}/",
                dispatcher=through(kind, place, allow_h2=False),  # the windows of HTTP/2 would pace it
                ssl_context=client_context(),
                limits=LIMITS,
                compression=None,
            ) as websocket,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(send_all, websocket)
            assert [len(await websocket.receive()) for _ in range(4)] == [4 * MIB] * 4


@each_proxy
async def test_a_server_that_is_not_there(kind: ProxyKind, tmp_path: Path) -> None:
    with trio.fail_after(TIMEOUT):
        async with kind.running(tmp_path) as place:
            # pproxy says 200 before it has connected, and then leaves.
            with pytest.raises((trio_ws.ProxyError, trio_ws.InvalidHandshake, OSError)) as caught:
                async with trio_ws.open_websocket(f"ws://{HOST}:1/", dispatcher=through(kind, place)):
                    pytest.fail("nobody is there")
    if not kind.lies:
        assert isinstance(caught.value, trio_ws.ProxyError)
        assert (caught.value.status is not None) == kind.scheme.startswith("http")


@each_proxy
async def test_the_servers_certificate_must_name_the_server(kind: ProxyKind, tmp_path: Path) -> None:
    with trio.fail_after(TIMEOUT):
        async with (
            kind.running(tmp_path) as place,
            serving(partial(trio_ws.serve_websocket, echo, HOST, 0, server_context("other.example"))) as server,
        ):
            with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
                async with trio_ws.open_websocket(
                    f"wss://localhost:{server.port}/",
                    dispatcher=through(kind, place),
                    ssl_context=client_context(),
                ):
                    pytest.fail("the proxy's name was good enough")


@pytest.mark.parametrize("name", [name for name, kind in PROXIES.items() if kind.password])
async def test_wrong_credentials_are_refused_and_told_to_nobody(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kind = PROXIES[name]
    caplog.set_level(logging.DEBUG)
    with trio.fail_after(TIMEOUT):
        async with kind.running(tmp_path) as place:
            agent = trio_ws.ProxyAgent(kind.url(place, password="a-wrong-one"), proxy_ssl_context=client_context())
            with pytest.raises(trio_ws.ProxyError) as caught:
                async with trio_ws.open_websocket(f"ws://{HOST}:1/", dispatcher=agent):
                    pytest.fail("the proxy took a wrong password")
    if kind.scheme.startswith("http"):
        assert caught.value.status in (401, 407)  # pproxy closes after 407, tinyproxy says 401
    told = [repr(agent), str(agent), caplog.text, *traceback.format_exception(caught.value)]
    assert not [text for text in told if "a-wrong-one" in text]
