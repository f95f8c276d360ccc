"""A server for a test: where it is, whom a client trusts, and what a failing handler does to the test."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

import trio_ws
from trio_ws.testing import open_test_server

if TYPE_CHECKING:
    from trio_ws._server.service import Handler

ROOT = Path(__file__).parents[2]


class Boom(Exception):
    pass


async def echo(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept() as websocket:
        async for message in websocket:
            await websocket.send(message)


async def fail(request: trio_ws.WebSocketRequest) -> None:
    raise Boom


@pytest.mark.parametrize("tls", [False, True])
async def test_it_serves(tls: bool) -> None:
    async with open_test_server(echo, tls=tls) as server:
        assert server.url == f"{'wss' if tls else 'ws'}://127.0.0.1:{server.port}/"
        assert server.port == server.server.port
        assert (server.ssl_context is not None) == tls
        async with trio_ws.open_websocket(server.url, ssl_context=server.ssl_context) as websocket:
            await websocket.send("hello")
            assert await websocket.receive() == "hello"
            assert len(server.server.connections) == 1
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", server.port)


@pytest.mark.parametrize("allow_h2", [False, True])
async def test_http2_is_spoken_if_it_is_allowed(allow_h2: bool) -> None:
    async with (
        open_test_server(echo, allow_h2=allow_h2) as server,
        trio_ws.Agent(ssl_context=server.ssl_context) as agent,
        trio_ws.open_websocket(server.url, dispatcher=agent) as websocket,
    ):
        await websocket.send("hello")
        assert await websocket.receive() == "hello"
        assert websocket.http_version == ("2" if allow_h2 else "1.1")


async def test_it_takes_the_options_of_a_server() -> None:
    async with (
        open_test_server(echo, protocols=["chat"], compression=None) as server,
        trio_ws.open_websocket(server.url, "chat", ssl_context=server.ssl_context) as websocket,
    ):
        assert (websocket.protocol, websocket.extensions) == ("chat", "")


async def test_it_is_reached_by_name_too() -> None:
    async with open_test_server(echo) as server:
        url = f"wss://localhost:{server.port}/"
        async with trio_ws.open_websocket(url, ssl_context=server.ssl_context) as websocket:
            assert websocket.remote_address == ("127.0.0.1", server.port)


async def test_a_mock_clock_drives_it(autojump_clock: trio.testing.MockClock) -> None:
    keepalive = trio_ws.Keepalive(interval=100, timeout=100)
    async with (
        open_test_server(echo, keepalive=keepalive) as server,
        trio_ws.open_websocket(server.url, ssl_context=server.ssl_context) as websocket,
    ):
        await trio.sleep(3600)
        await websocket.send("still here")
        assert await websocket.receive() == "still here"
    assert 3600 <= trio.current_time() < 3660


async def test_a_failing_handler_ends_a_test_that_waits_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL, "trio_ws"), pytest.raises(Boom) as caught, trio.fail_after(10):
        async with open_test_server(fail) as server:
            with pytest.raises(trio_ws.HandshakeRejected):
                async with trio_ws.open_websocket(server.url, ssl_context=server.ssl_context):
                    pytest.fail("it was rejected")
            await trio.sleep_forever()
    assert caught.value.__cause__ is None


async def test_a_handler_that_fails_after_accepting(caplog: pytest.LogCaptureFixture) -> None:
    boom = Boom()

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await websocket.receive()
            raise boom

    with caplog.at_level(logging.CRITICAL, "trio_ws"), pytest.raises(Boom) as caught:
        async with (
            open_test_server(handler) as server,
            trio_ws.open_websocket(server.url, ssl_context=server.ssl_context) as websocket,
        ):
            await websocket.send("x")
            await websocket.receive()
    assert caught.value is boom


async def test_what_a_handler_raises_at_its_end_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            messages = [message async for message in websocket]
        assert messages == ["expected"]

    with caplog.at_level(logging.CRITICAL, "trio_ws"), pytest.raises(AssertionError, match="unexpected"):
        async with (
            open_test_server(handler) as server,
            trio_ws.open_websocket(server.url, ssl_context=server.ssl_context) as websocket,
        ):
            await websocket.send("unexpected")


async def test_the_handlers_exception_counts_more_than_the_one_of_the_block(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL, "trio_ws"), pytest.raises(Boom) as caught:
        async with open_test_server(fail) as server:
            try:
                async with trio_ws.open_websocket(server.url, ssl_context=server.ssl_context):
                    pytest.fail("it was rejected")
            finally:
                raise KeyError("of the block")
    assert isinstance(caught.value.__context__, KeyError)


async def test_the_exception_of_the_block_comes_out_as_it_is() -> None:
    boom = Boom()
    with pytest.raises(Boom) as caught:
        async with open_test_server(echo):
            raise boom
    assert caught.value is boom


async def test_the_end_of_a_connection_is_no_failure_of_the_handler() -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await websocket.receive()

    async with (
        open_test_server(handler) as server,
        trio_ws.open_websocket(server.url, ssl_context=server.ssl_context) as websocket,
    ):
        await websocket.aclose(4000)


async def close_with_a_code(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept():
        raise trio_ws.WebSocketError(4001, "bye")


async def close_from_a_nursery(request: trio_ws.WebSocketRequest) -> None:
    async with request.accept(), trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        raise trio_ws.WebSocketError(4001, "bye")


@pytest.mark.parametrize("handler", [close_with_a_code, close_from_a_nursery])
async def test_a_handler_that_closes_with_a_code_does_not_fail_the_test(
    handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        open_test_server(handler) as server,
        trio_ws.open_websocket(server.url, ssl_context=server.ssl_context) as websocket,
    ):
        assert await websocket.wait_closed() == trio_ws.CloseInfo(4001, "bye", was_clean=True)
    assert caplog.records == []


async def test_a_code_that_closes_nothing_fails_the_test(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        raise trio_ws.WebSocketError(4001, "bye")

    with caplog.at_level(logging.CRITICAL, "trio_ws"), pytest.raises(trio_ws.WebSocketError, match="4001 bye"):
        async with open_test_server(handler, tls=False) as server:
            with pytest.raises(trio_ws.HandshakeRejected):
                async with trio_ws.open_websocket(server.url):
                    pytest.fail("it was rejected")
            await trio.sleep_forever()


async def test_a_handler_that_does_not_end_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept():
            await trio.sleep_forever()

    async with open_test_server(handler, tls=False) as server, trio_ws.open_websocket(server.url):
        began = trio.current_time()
    assert trio.current_time() - began == pytest.approx(2, abs=0.1)


async def test_cancellation_passes() -> None:
    with trio.move_on_after(0.01) as scope:
        async with open_test_server(echo, tls=False):
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_without_trustme_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from trio_ws.testing import _server

    _server._authority.cache_clear()
    _server._certificate.cache_clear()
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(ImportError, match=r"the extra trio-ws\[testing\]: pip install trustme"):
        async with open_test_server(echo):
            pytest.fail("it cannot serve")
    async with open_test_server(echo, tls=False):
        pass


FIXTURES = """
import pytest, trio, trio_ws
from trio_ws.testing import open_test_server, memory_websocket_pair

async def fail(request):
    raise RuntimeError("the handler's own")

@pytest.fixture
async def server():
    async with open_test_server(fail, tls=False) as server:
        yield server

@pytest.fixture
async def pair():
    async with memory_websocket_pair() as pair:
        yield pair

async def test_fails(server):
    async with trio_ws.open_websocket(server.url):
        pass

async def test_passes(pair, autojump_clock):
    client, server = pair
    await client.send("x")
    await trio.sleep(1000)
    assert await server.receive() == "x"
"""


def test_they_work_as_fixtures_of_pytest_trio(tmp_path: Path) -> None:
    (tmp_path / "test_app.py").write_text(FIXTURES)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_app.py"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=60)
    assert "the handler's own" in done.stdout
    assert "1 failed, 1 passed" in done.stdout, done.stdout
