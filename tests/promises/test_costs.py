"""What others cost: how long a victim waits beside flooders, and how much memory a connection takes."""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import tracemalloc
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import trio_ws
from trio_ws import Compression

from ..fuzz.http2 import PREFACE, REQUEST, Encoder, Listener, data, settings
from ..raw import read_head, request
from ..raw_peer import client_frame
from ..serving import LOCALHOST, echo, live_tasks, serving, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

FLOODER = Path(__file__).with_name("flooder.py")
KIBIBYTE = 2**10
ROUNDS = 200  # echoes of the victim
CONNECTIONS = 500
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
# "hello", deflated (RFC 7692 §7.2.3.1), as it comes from a client whose mask is zero
COMPRESSED_HELLO = client_frame(0xC1, bytes.fromhex("f248cdc9c90700"))


async def take_or_echo(websocket_request: trio_ws.WebSocketRequest) -> None:
    """Swallow a flood; echo anything else."""
    async with websocket_request.accept() as websocket:
        async for message in websocket:
            if websocket_request.path != "/flood":
                await websocket.send(message)


@pytest.mark.parametrize("http_version", ["1", "2"])
async def test_a_victim_beside_ten_flooders_is_served(
    http_version: str, record_property: Callable[[str, object], None]
) -> None:
    latencies: list[float] = []
    flood = 0  # messages
    with trio.fail_after(60):
        async with (
            serving(partial(trio_ws.serve_websocket, take_or_echo, LOCALHOST, 0)) as server,
            trio_ws.open_websocket(f"ws://{LOCALHOST}:{server.port}/echo") as victim,
        ):
            command = [sys.executable, str(FLOODER), str(server.port), "10", http_version]
            process = await trio.lowlevel.open_process(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            assert process.stdin is not None
            assert process.stdout is not None
            async with process.stdin, process.stdout:
                assert await process.stdout.receive_some() == b"flooding\n"
                for _ in range(ROUNDS):
                    started = trio.current_time()
                    await victim.send("hello")
                    assert await victim.receive() == "hello"
                    latencies.append(trio.current_time() - started)
                    await trio.sleep(0.005)
                assert len(server.connections) == 11
                for websocket in server.connections:
                    flood += websocket.statistics().messages_received
            await process.wait()
    assert flood > 10_000
    percentiles = statistics.quantiles(latencies, n=100)
    median, worst = percentiles[49] * 1000, percentiles[98] * 1000
    record_property("p50 in ms", median)
    record_property("p99 in ms", worst)
    print(f"beside 10 flooders over HTTP/{http_version}, {flood} messages: p50 {median:.1f} ms, p99 {worst:.1f} ms")
    assert worst < 1000


@pytest.fixture
def untraced() -> Iterator[None]:
    """Take the coverage tool away for a test: what it keeps for each frame is not the library's memory."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


async def memory_of_each(
    open_all: Callable[[], Awaitable[None]], close_all: Callable[[], Awaitable[None]]
) -> tuple[float, float]:
    """Measure what each of :data:`CONNECTIONS` takes while they are open, and what is left of it afterwards."""

    def measure() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = measure()
        await open_all()
        taken = measure() - before
        await close_all()
        before = measure()  # the first of them have filled what Python and trio keep for the next
        await open_all()
        await close_all()
        return taken / CONNECTIONS, (measure() - before) / CONNECTIONS
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    ("compression", "most"),
    [
        (None, 12 * KIBIBYTE),
        (Compression(threshold=0), 64 * KIBIBYTE),
        (Compression(threshold=0, server_no_context_takeover=True), 12 * KIBIBYTE),
    ],
    ids=["plain", "deflate", "deflate without context takeover"],
)
async def test_an_idle_connection_takes_little_memory_and_gives_it_back(
    compression: Compression | None, most: int, record_property: Callable[[str, object], None]
) -> None:
    compressed = compression is not None
    streams: list[trio.SocketStream] = []
    asked = request(OFFER) if compressed else request()

    async def open_and_echo() -> None:
        stream = await trio.open_tcp_stream(LOCALHOST, server.port)
        streams.append(stream)
        await stream.send_all(asked)
        assert (b"permessage-deflate" in await read_head(stream)) is compressed
        await stream.send_all(COMPRESSED_HELLO if compressed else client_frame(0x81, b"hello"))
        assert (bytes(await stream.receive_some())[0] == 0xC1) is compressed

    async def close(stream: trio.SocketStream) -> None:
        await stream.send_all(client_frame(0x88))
        await stream.receive_some()
        await stream.aclose()

    serve = partial(trio_ws.serve_websocket, echo, LOCALHOST, 0, compression=compression)
    with trio.fail_after(60):
        async with serving(serve) as server:
            await open_and_echo()  # what is made once is made
            tasks = live_tasks()

            async def open_all() -> None:
                for _ in range(CONNECTIONS):
                    await open_and_echo()

            async def close_all() -> None:
                for stream in streams[1:]:
                    await close(stream)
                await until(lambda: live_tasks() <= tasks)  # fewer: a clock of the first one may have ended
                del streams[1:]

            each, left = await memory_of_each(open_all, close_all)
            await close(streams[0])
    record_property("bytes for each connection", round(each))
    print(f"{each / KIBIBYTE:.1f} KiB for each connection, {left / KIBIBYTE:.2f} KiB after it")
    assert each < most
    assert left < each / 20


@pytest.mark.usefixtures("untraced")
async def test_an_idle_stream_of_http2_takes_no_more_than_a_connection(
    record_property: Callable[[str, object], None],
) -> None:
    streams: list[trio.SocketStream] = []

    async def open_and_echo(websockets: int) -> None:
        """Open so many WebSockets on one connection."""
        stream = await trio.open_tcp_stream(LOCALHOST, server.port)
        streams.append(stream)
        encoder, listener = Encoder(), Listener(is_client=False)
        await stream.send_all(PREFACE + settings())
        for stream_id in range(1, 2 * websockets, 2):
            await stream.send_all(encoder.headers(stream_id, REQUEST) + data(stream_id, client_frame(0x81, b"hello")))
            while bytes(listener.data[stream_id]) != b"\x81\x05hello":
                listener.hear(bytes(await stream.receive_some()))
                await stream.send_all(listener.answers())

    with trio.fail_after(60):
        async with serving(partial(trio_ws.serve_websocket, echo, LOCALHOST, 0)) as server:
            await open_and_echo(1)  # what is made once is made
            tasks = live_tasks()

            async def open_all() -> None:
                for _ in range(CONNECTIONS // 100):
                    await open_and_echo(100)

            async def close_all() -> None:
                for stream in streams[1:]:
                    await stream.aclose()
                await until(lambda: live_tasks() <= tasks)  # fewer: a clock of the first one may have ended
                del streams[1:]

            each, left = await memory_of_each(open_all, close_all)
            await streams[0].aclose()
    record_property("bytes for each stream", round(each))
    print(f"{each / KIBIBYTE:.1f} KiB for each stream, {left / KIBIBYTE:.2f} KiB after it")
    assert each < 24 * KIBIBYTE
    assert left < each / 20
