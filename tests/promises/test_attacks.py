"""Promise 5, the server's half: a peer can never crash a server, nor keep what it holds, nor starve the others."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import resource
import socket
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

import trio_ws
from trio_ws import Limits

from ..fuzz.choices import Choices
from ..fuzz.http2 import PREFACE, REQUEST, Encoder, connection_fault, data, settings, stream_fault
from ..raw import as_stream, open_files, read_all, request, reset, status
from ..raw_peer import client_frame
from ..serving import LOCALHOST, live_tasks, serving, tls_contexts, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # its first bytes
HTTP2_OPENING = PREFACE + settings() + Encoder().headers(1, REQUEST)
TLS_ALERT = b"\x15\x03\x03\x00\x02\x02\x28"


async def handle(websocket_request: trio_ws.WebSocketRequest) -> None:
    """Echo, or fail in the way that the path names."""
    match websocket_request.path:
        case "/fail-before":
            raise ZeroDivisionError
        case "/no-answer":
            return
    async with websocket_request.accept() as websocket:
        if websocket_request.path == "/fail-after":
            raise ZeroDivisionError
        async for message in websocket:
            await websocket.send(message)


def garbage(numbers: random.Random) -> bytes:
    """Make up what a hostile or broken client sends."""
    path = numbers.choice(["/", "/fail-before", "/fail-after", "/no-answer"])
    opening = request(first=f"GET {path} HTTP/1.1")
    kinds: list[Callable[[], bytes]] = [
        lambda: b"",
        lambda: numbers.randbytes(numbers.randrange(1, 300)),
        lambda: opening[: numbers.randrange(len(opening))],
        lambda: CLIENT_HELLO,
        lambda: TLS_ALERT,
        lambda: PREFACE,
        lambda: b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        lambda: b"GET /" + b"x" * 10_000,
        lambda: opening,
        lambda: opening + numbers.randbytes(numbers.randrange(1, 300)),
        lambda: opening + client_frame(0x81, b"hello") + client_frame(0x88, b"\x03\xe8"),
        lambda: opening + client_frame(0x82, numbers.randbytes(1000))[: numbers.randrange(1000)],
    ]
    return numbers.choice(kinds)()


def http2_garbage(numbers: random.Random) -> bytes:
    """Make up what a client of HTTP/2 sends that is no better."""
    kinds: list[Callable[[], bytes]] = [
        lambda: HTTP2_OPENING[: numbers.randrange(len(HTTP2_OPENING))],
        lambda: HTTP2_OPENING + data(1, client_frame(0x81, b"hello")) + data(1, client_frame(0x88, b"\x03\xe8")),
        lambda: HTTP2_OPENING + connection_fault(Choices(numbers.randbytes(300)), Encoder(), 1),
        lambda: HTTP2_OPENING + stream_fault(Choices(numbers.randbytes(300)), Encoder(), 1),
    ]
    return numbers.choice(kinds)()


def attack(port: int, numbers: random.Random, make: Callable[[random.Random], bytes]) -> socket.socket | None:
    """Connect, send garbage, and hang up, rudely or not, or give the socket to be closed later."""
    sock = socket.create_connection((LOCALHOST, port))
    with contextlib.suppress(ConnectionError):  # the server may have hung up first
        sock.sendall(make(numbers))
    match numbers.randrange(3):
        case 0:
            reset(sock)
        case 1:
            sock.shutdown(socket.SHUT_WR)
            return sock
        case _:
            sock.close()
    return None


@asynccontextmanager
async def still_echoing(url: str, options: dict[str, object]) -> AsyncGenerator[trio_ws.WebSocket, None]:
    """Keep a client that is served before, meanwhile and after."""
    async with trio_ws.open_websocket(url, **options) as websocket:  # type: ignore[arg-type]
        await check_echo(websocket)
        yield websocket
        await check_echo(websocket)


async def check_echo(websocket: trio_ws.WebSocket) -> float:
    """Send and receive once; return the seconds that it took."""
    started = trio.current_time()
    await websocket.send("hello")
    assert await websocket.receive() == "hello"
    return trio.current_time() - started


@pytest.mark.parametrize(
    ("secure", "make", "count", "seed"),
    [
        *((False, garbage, 1_000, seed) for seed in range(10)),  # in parts: a busy machine takes its time for all
        *((True, garbage, 500, seed) for seed in range(4)),
        *((False, http2_garbage, 500, seed) for seed in range(2)),
    ],
)
async def test_garbage_connections_leave_the_server_echoing_and_nothing_behind(
    secure: bool, make: Callable[[random.Random], bytes], count: int, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "trio_ws")
    numbers = random.Random(f"{make.__name__} {seed}")
    server_context, client_context = tls_contexts() if secure else (None, None)
    serve = partial(trio_ws.serve_websocket, handle, LOCALHOST, 0, server_context, limits=Limits(close_linger=0.2))
    async with serving(serve) as server:
        url = f"{'wss' if secure else 'ws'}://{LOCALHOST}:{server.port}/"
        options: dict[str, object] = {"ssl_context": client_context}
        async with still_echoing(url, options) as bystander:
            await trio.testing.wait_all_tasks_blocked(0.1)  # no task is counted that lives for a moment
            tasks, files = live_tasks(), open_files()
            for _ in range(count // 100):
                with trio.fail_after(60):
                    held = [sock for _ in range(100) if (sock := attack(server.port, numbers, make))]
                    async with still_echoing(url, options):  # accepted after all of these
                        await check_echo(bystander)
                    for sock in held:
                        sock.close()
                    await until(lambda: live_tasks() - tasks < 50)
            with trio.fail_after(60):
                # A WebSocket that has just ended is not forgotten in the same step.
                await until(lambda: (live_tasks(), open_files(), len(server.connections)) == (tasks, files, 1))
        async with still_echoing(url, options):
            pass


# ---- slow and silent peers ----


async def test_a_request_that_comes_slowly_gets_408_at_connect_timeout(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await trio_ws.wrap_server_stream(nursery, ours, handle, connect_timeout=10)
    answered: list[tuple[float, bytes]] = []

    async def listen() -> None:
        answer = bytes(await theirs.receive_some())
        answered.append((trio.current_time(), answer))

    async with trio.open_nursery() as talking:
        talking.start_soon(listen)
        for byte in request():
            await theirs.send_all(bytes([byte]))
            await trio.sleep(1)
            if answered:
                break
    ((time, answer),) = answered
    assert time == pytest.approx(10, abs=0.1)
    assert status(answer) == 408


async def test_a_tls_handshake_that_does_not_come_is_ended_at_connect_timeout(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    await trio_ws.wrap_server_stream(nursery, ours, handle, ssl_context=tls_contexts()[0], connect_timeout=10)
    await theirs.send_all(CLIENT_HELLO)
    await read_all(theirs)
    assert trio.current_time() == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
async def test_500_half_open_handshakes_are_closed_while_others_are_served(http2: bool) -> None:
    serve = partial(trio_ws.serve_websocket, handle, LOCALHOST, 0, connect_timeout=1.0, limits=Limits(close_linger=0.2))
    closed: list[bytes] = []

    async def wait_for_end(sock: socket.socket) -> None:
        async with as_stream(sock) as stream:
            closed.append(await read_all(stream))

    with trio.fail_after(30):
        async with (
            serving(serve) as server,
            trio.open_nursery() as nursery,
            still_echoing(f"ws://{LOCALHOST}:{server.port}/", {}) as bystander,
        ):
            started = trio.current_time()
            for number in range(500):
                sock = socket.create_connection((LOCALHOST, server.port))
                # Of HTTP/2 all but the last byte of SETTINGS, at most.
                sock.sendall((HTTP2_OPENING[:32] if http2 else request())[: number % (33 if http2 else 100)])
                nursery.start_soon(wait_for_end, sock)
            while len(closed) < 500:
                await check_echo(bystander)
                await trio.sleep(0.01)
            took = trio.current_time() - started
    assert 0.9 < took < 10
    if http2:  # GOAWAY with SETTINGS_TIMEOUT, if so much has come that it was HTTP/2
        told = [answer for answer in closed if answer.endswith(b"\x00\x00\x00\x04no SETTINGS came in time")]
        assert len(told) == sum(number % 33 >= 18 for number in range(500))
    else:
        assert {status(answer) for answer in closed if answer} == {408}
        assert closed.count(b"") == 5, "who has sent nothing needs no answer"


# ---- floods ----


@pytest.mark.parametrize(("burst", "count"), [(1000, 1_000_000), (None, 200_000)], ids=["limited", "unlimited"])
async def test_a_flood_of_pings_by_a_peer_that_never_reads_stays_bounded_and_ends(
    burst: int | None, count: int
) -> None:
    block = client_frame(0x89, b"x" * 125) * 1000
    ended: list[int] = []  # pings that were heard
    largest = 0

    async def handler(websocket_request: trio_ws.WebSocketRequest) -> None:
        nonlocal largest
        async with websocket_request.accept() as websocket:
            while websocket.close_info is None:
                largest = max(largest, websocket.buffered_amount)
                await trio.sleep(0.001)
            ended.append(websocket.statistics().pings_received)
        attacking.cancel_scope.cancel()

    async def flood(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            for _ in range(count // 1000):
                await stream.send_all(block)
            await stream.send_eof()

    limits = Limits(control_burst=burst, close_linger=0.2)
    serve = partial(trio_ws.serve_websocket, handler, LOCALHOST, 0, limits=limits, close_timeout=1)
    with trio.fail_after(60):
        async with serving(serve) as server:
            tasks, memory = live_tasks(), resident_memory()
            sock = trio.socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await sock.connect((LOCALHOST, server.port))
            async with trio.SocketStream(sock) as stream, trio.open_nursery() as attacking:
                await stream.send_all(request())
                attacking.start_soon(flood, stream)
            await until(lambda: live_tasks() == tasks)
            grown = resident_memory() - memory
    assert ended == [count] if burst is None else 1000 <= ended[0] <= 2000
    assert largest < 2**17
    assert grown < 2**24


def resident_memory() -> int:
    """Tell the bytes of memory that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


async def test_a_server_without_descriptors_serves_on_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    serve = partial(trio_ws.serve_websocket, handle, LOCALHOST, 0)
    with trio.fail_after(20):
        async with serving(serve) as server:
            url = f"ws://{LOCALHOST}:{server.port}/"
            async with still_echoing(url, {}) as bystander:
                tasks, started = live_tasks(), trio.current_time()
                waiting = [socket.socket() for _ in range(20)]
                try:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (highest_descriptor() + 6, hard))
                    for sock in waiting:
                        sock.connect((LOCALHOST, server.port))
                    await until(lambda: bool(caplog.records))
                    for _ in range(100):
                        await check_echo(bystander)
                        await trio.sleep(0.001)
                    assert live_tasks() - tasks < 10
                finally:
                    for sock in waiting:
                        sock.close()
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                freed = trio.current_time()
                async with still_echoing(url, {}):
                    assert trio.current_time() - freed < 2
                took = freed - started
    assert 1 <= len(caplog.records) <= 1 + took  # one a second at most
    assert os.strerror(errno.EMFILE) in caplog.text


def highest_descriptor() -> int:
    """Tell the descriptor that is free next."""
    with socket.socket() as sock:
        return sock.fileno()
