"""Every example of the documentation, run as a reader would run it."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

import trio_ws

from ..small_proxies import SmallProxy

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TIMEOUT = 60.0  # seconds; an example takes one


def run(name: str, *arguments: str) -> str:
    """Run an example to its end and return what it printed."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True)
    return done.stdout


@contextmanager
def serving(name: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run an example that serves; give the URL that it printed."""
    command = [sys.executable, str(EXAMPLES / name), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def test_every_example_is_run_by_a_test() -> None:
    sources = [path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py")]
    names = {path.name for path in EXAMPLES.rglob("*.*") if "__pycache__" not in path.parts}
    assert {name for name in names if not any(f'"{name}"' in source for source in sources)} == set()


def test_the_echo_client_talks_to_the_echo_server() -> None:
    with serving("echo_server.py") as (url, _):
        assert run("echo_client.py", url) == "hello\n"


def test_a_client_connects_to_another_place_than_the_urls() -> None:
    with serving("echo_server.py") as (url, _):
        port = url.rstrip("/").rpartition(":")[2]
        told = run("connect_to.py", "ws://nowhere.invalid/", "127.0.0.1", port)
    assert told == f"nowhere.invalid at ('127.0.0.1', {port})\nhello\n"


def test_two_tasks_send_and_receive() -> None:
    with serving("echo_server.py") as (url, _):
        assert run("two_tasks.py", url) == "0\n1\n2\n3\n4\nstop\n"


@pytest.mark.parametrize("name", ["through_a_proxy.py", "through_the_environments_proxy.py"])
async def test_a_proxy_connects_the_client(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("all_proxy", "no_proxy", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    proxy = SmallProxy()
    with serving("echo_server.py") as (url, _):
        async with proxy.running() as place:
            monkeypatch.setenv("http_proxy", f"http://{place}")
            monkeypatch.setenv("PROXY", f"http://user:secret@{place}")
            assert await trio.to_thread.run_sync(run, name, url) == f"connected by http://{place}\nhello\n"
    assert len(proxy.targets) == 1


def test_a_redirect_is_followed() -> None:
    assert run("redirects.py") == "ws://127.0.0.1/new\n"


def test_the_secure_server_greets() -> None:
    assert run("secure_server.py") == "hello, trio\n"


def test_many_sockets_share_a_connection() -> None:
    assert run("many_sockets.py") == "50 WebSockets on 1 connection\n7 squared is 49\n"


def test_a_stream_echoes() -> None:
    with serving("echo_server.py") as (url, _):
        assert run("stream_echo.py", url) == "0\n1\n2\n3\n4\nstop\n"


def test_a_file_is_hashed_while_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(random.randbytes(3 * 2**20))
    assert run("send_file.py", str(path)).strip() == hashlib.sha256(path.read_bytes()).hexdigest()


SERVERS = [
    "chat_server.py",
    "deployed_server.py",
    "echo_server.py",
    "feed.py",
    "market_feed.py",
    "one_port.py",
    "probes.py",
    "prometheus_metrics.py",
    "rate_limit.py",
    "ticker.py",
]


@pytest.mark.parametrize("name", SERVERS)
def test_ctrl_c_ends_a_server_without_a_traceback(name: str) -> None:
    with serving(name) as (_, process):
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 0  # a traceback goes with another status


async def test_the_ticker_ticks_for_everyone() -> None:
    with serving("ticker.py") as (url, _), trio.fail_after(TIMEOUT):
        async with trio_ws.open_websocket(url) as one, trio_ws.open_websocket(url) as two:
            tick = await two.receive()
            while await one.receive() != tick:
                pass


async def test_the_feed_ends_with_its_client() -> None:
    with serving("feed.py") as (url, process), trio.fail_after(TIMEOUT):
        async with trio_ws.open_websocket(url) as ws:
            assert await ws.receive() == "price 0"
        assert process.stdout is not None
        assert await trio.to_thread.run_sync(process.stdout.readline) == "the client has gone\n"


def test_a_person_is_told_why_there_is_no_connection() -> None:
    with serving("echo_server.py") as (url, _):
        assert run("handle_errors.py", url) == "the server says 'hello'\n"
    assert run("handle_errors.py", "ftp://127.0.0.1/").startswith("this is no URL of a WebSocket: ")
    assert run("handle_errors.py", "ws://127.0.0.1:1/") == "nobody answers there\n"


async def test_a_person_is_told_what_the_server_did() -> None:
    async def handler(request: trio_ws.WebSocketRequest) -> None:
        if request.path == "/no":
            await request.reject(403)
            return
        async with request.accept() as ws:
            if request.path == "/close":
                await ws.aclose(4001, "bye")
            await ws.send("hello")

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_ws.serve_websocket, handler, "127.0.0.1", 0)
        told = [
            await trio.to_thread.run_sync(run, "handle_errors.py", f"ws://127.0.0.1:{server.port}/{path}")
            for path in ("no", "close", "hello")
        ]
        await server.aclose()
    assert told == [
        "the server says no, with status 403\n",
        "the connection is closed: 4001 'bye'\n",
        "the server says 'hello'\n",
    ]


def test_calls_go_both_ways_over_one_websocket() -> None:
    assert run("json_rpc.py").splitlines() == [
        "welcome to version 1",
        "gave up: True",
        "1 + 2 is 3",
        "there is no method 'divide'",
    ]


def test_clients_say_who_they_are_in_five_ways() -> None:
    assert run("authentication.py").splitlines() == [
        "header: hello, ada",
        "Basic, in the URL: hello, ada",
        "cookie: hello, ada",
        "query: hello, ada",
        "first message: hello, ada",
        "a wrong token: status 401",
        "a wrong first message: closed with 1008 who are you?",
    ]


async def test_who_sends_too_much_is_closed() -> None:
    with serving("rate_limit.py") as (url, _), trio.fail_after(TIMEOUT):
        async with trio_ws.open_websocket(url) as ws:
            with pytest.raises(trio_ws.ConnectionClosedError, match="too many messages"):
                for _ in range(1000):
                    await ws.send("x")
                    assert await ws.receive() == "x"


def test_a_feed_that_loses_messages_is_followed() -> None:
    with serving("market_feed.py") as (url, _):
        price, state = run("market_data.py", url).split()
    assert 100 <= float(price) < 110
    assert state == "fresh"


async def test_a_feed_is_followed_over_a_gap_and_a_loss() -> None:
    parts = iter([[1, 2, 4], [2, 3], [4, 5, 6]])

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept() as ws:
            assert json.loads(await ws.receive()) == {"subscribe": "price"}
            for number in next(parts):
                await ws.send(json.dumps({"sequence": number, "price": 100 + number}))
            if number == 4:
                await ws.wait_closed()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_ws.serve_websocket, handler, "127.0.0.1", 0)
        told = await trio.to_thread.run_sync(run, "market_data.py", f"ws://127.0.0.1:{server.port}/")
        await server.aclose()
    assert told == "106 fresh\n"
    assert next(parts, None) is None


@pytest.mark.parametrize(
    ("name", "told"),
    [("from_threads.py", "from a thread\nwithout waiting\n"), ("guest_mode.py", "hello from a guest\n")],
)
def test_trio_is_not_alone_in_its_process(name: str, told: str) -> None:
    with serving("echo_server.py") as (url, _):
        assert run(name, url) == told


def test_a_connection_is_watched() -> None:
    with serving("echo_server.py") as (url, _):
        assert run("watching.py", url).splitlines() == [
            "hook: open",
            "hook: pong b'still there?'",
            "event: open",
            "event: message hello",
            "hook: close 1000 (OK)",
            "event: close 1000  True",
        ]


async def test_the_chat_server_tells_everyone_and_ends_well() -> None:
    with serving("chat_server.py") as (url, process), trio.fail_after(TIMEOUT):
        async with trio_ws.open_websocket(url) as one, trio_ws.open_websocket(url) as two:
            await two.ping()  # both are in the room
            await one.send("hello")
            assert [await one.receive(), await two.receive()] == ["hello", "hello"]
            process.send_signal(signal.SIGTERM)
            assert (await one.wait_closed(), (await two.wait_closed()).code) == (
                trio_ws.CloseInfo(1001, "", was_clean=True),
                1001,
            )
        assert await trio.to_thread.run_sync(process.wait) == 0


async def test_the_reconnecting_client_comes_back_after_a_loss() -> None:
    requests = 0

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        nonlocal requests
        requests += 1
        if requests == 1:
            await request.reject(503)
        else:
            async with request.accept() as ws:
                await ws.send("welcome back")
                await ws.send("that is all")

    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_ws.serve_websocket, handler, "127.0.0.1", 0)
        url = f"ws://127.0.0.1:{server.port}/"
        assert await trio.to_thread.run_sync(run, "reconnecting.py", url) == "welcome back\nthat is all\n"
        await server.aclose()
    assert requests == 2


def test_the_tests_of_the_chat_server_pass(tmp_path: Path) -> None:
    for name in ("chat_server.py", "test_chat_server.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "--override-ini=trio_mode=true", "test_chat_server.py"]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT)
    assert "3 passed" in done.stdout, done.stdout


def test_a_library_for_trio_websocket_runs_unchanged() -> None:
    with serving("echo_server.py") as (url, _):
        assert run("unchanged_library.py", url) == "hello by trio_ws.compat.trio_websocket\n"


def test_a_time_limit_leaves_the_connection_as_it_was() -> None:
    with serving("echo_server.py") as (url, _):
        assert run("time_limits.py", url) == "anything new?\n"


def test_a_slow_consumer_makes_the_sender_wait() -> None:
    expected = ["the sender waits: True", "the receiver keeps: 94 messages", "all came, and it goes on: True"]
    assert run("slow_consumer.py").splitlines() == expected
