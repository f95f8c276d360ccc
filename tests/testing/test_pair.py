"""A pair in memory: two real ends, on a clock of the test's, that end as the block ends."""

from __future__ import annotations

import pytest
import trio
import trio.testing

import trio_ws
from trio_ws.testing import BreakAfter, ChaosStream, RecordingStream, StallAfter, memory_websocket_pair


class Boom(Exception):
    pass


@pytest.fixture(params=["1.1", "2"])
def http_version(request: pytest.FixtureRequest) -> str:
    version = request.param
    assert isinstance(version, str)
    return version


async def test_both_ends_are_real(autojump_clock: trio.testing.MockClock, http_version: str) -> None:
    async with memory_websocket_pair(
        http_version=http_version, url="wss://test.example/room?x=1", protocols=["chat"], headers={"X-Test": "yes"}
    ) as (client, server):
        await client.send("hello")
        await server.send(b"x" * 100_000)
        assert (await server.receive(), await client.receive()) == ("hello", b"x" * 100_000)
        assert client.protocol == server.protocol == "chat"
        assert server.request_headers["x-test"] == "yes"
        assert client.url == "wss://test.example/room?x=1"
        assert server.url == "ws://test.example/room?x=1"
        assert client.http_version == server.http_version == http_version
        assert "permessage-deflate" in client.extensions
        assert await client.ping() <= 0.1
    assert client.close_info == server.close_info == trio_ws.CloseInfo(1000, "", was_clean=True)
    assert trio.current_time() <= 0.1


async def test_options_are_those_of_both_ends(autojump_clock: trio.testing.MockClock, http_version: str) -> None:
    async with memory_websocket_pair(
        http_version=http_version, compression=None, limits=trio_ws.Limits(max_message_size=10)
    ) as (client, server):
        assert client.extensions == server.extensions == ""
        await client.send("x" * 11)
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            await server.receive()
        assert isinstance(caught.value.__cause__, trio_ws.MessageTooBig)


async def test_a_sender_has_to_wait_for_the_receiver(autojump_clock: trio.testing.MockClock, http_version: str) -> None:
    async with memory_websocket_pair(http_version=http_version, compression=None) as (client, server):
        sent = 0
        with trio.move_on_after(1):
            while True:
                await client.send(bytes(10_000))
                sent += 10_000
        assert (2**20 if http_version == "1.1" else 2**16) < sent < 2**20 + 2**18
        received = 0
        while received < sent:
            received += len(await server.receive())


async def test_leaving_with_full_buffers_waits_for_nothing(
    autojump_clock: trio.testing.MockClock, http_version: str
) -> None:
    async with memory_websocket_pair(http_version=http_version, compression=None) as (client, server):
        for sender in (client, server):
            with trio.move_on_after(1):
                while True:
                    await sender.send(bytes(10_000))
        assert min(client.buffered_amount, server.buffered_amount) > 0
    assert client.close_info == server.close_info == trio_ws.CloseInfo(1000, "", was_clean=True)
    assert trio.current_time() == 2


async def test_keepalive_runs_on_the_clock_of_the_test(
    autojump_clock: trio.testing.MockClock, http_version: str
) -> None:
    async with memory_websocket_pair(
        http_version=http_version,
        keepalive=trio_ws.Keepalive(interval=5, timeout=5),
        server_stream=lambda stream: StallAfter(stream, 2000),
    ) as (client, server):
        await server.send("x" * 3000, compress=False)
        with pytest.raises(trio_ws.ConnectionClosedError, match="1011"):
            await client.receive()
        assert trio.current_time() == 10


@pytest.mark.parametrize("error", [Boom(), KeyboardInterrupt()])
async def test_an_exception_comes_out_as_it_is_and_at_once(
    autojump_clock: trio.testing.MockClock, http_version: str, error: BaseException
) -> None:
    with pytest.raises(type(error)) as caught:
        async with memory_websocket_pair(http_version=http_version) as (client, server):
            raise error
    assert caught.value is error
    assert client.ready_state is server.ready_state is trio_ws.ReadyState.CLOSED
    assert trio.current_time() == 0


async def test_cancellation_ends_both_at_once(autojump_clock: trio.testing.MockClock, http_version: str) -> None:
    with trio.move_on_after(3) as scope:
        async with memory_websocket_pair(http_version=http_version) as (client, _):
            await client.receive()
    assert scope.cancelled_caught
    assert trio.current_time() == 3


async def test_an_end_that_the_test_closes_itself(autojump_clock: trio.testing.MockClock, http_version: str) -> None:
    async with memory_websocket_pair(http_version=http_version) as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose, 4001, "enough")
            with pytest.raises(trio_ws.ConnectionClosedError) as caught:
                await server.receive()
        assert (caught.value.code, caught.value.reason) == (4001, "enough")
    assert server.close_info == trio_ws.CloseInfo(4001, "enough", was_clean=True)


async def test_a_fault_in_the_opening_handshake_comes_out_bare(
    autojump_clock: trio.testing.MockClock, http_version: str
) -> None:
    with pytest.raises(trio_ws.HandshakeError):
        async with memory_websocket_pair(
            http_version=http_version, server_stream=lambda stream: BreakAfter(stream, sent=20)
        ):
            pytest.fail("it cannot open")
    with pytest.raises(OSError, match="no luck"):
        async with memory_websocket_pair(
            http_version=http_version,
            client_stream=lambda stream: BreakAfter(stream, received=0, error=lambda: OSError("no luck")),
        ):
            pytest.fail("it cannot open")


async def test_a_handshake_that_stalls_ends_by_itself(
    autojump_clock: trio.testing.MockClock, http_version: str
) -> None:
    with pytest.raises(trio_ws.HandshakeTimeout):
        async with memory_websocket_pair(
            http_version=http_version, server_stream=lambda stream: StallAfter(stream, 10), connect_timeout=7
        ):
            pytest.fail("it cannot open")
    assert trio.current_time() == 7


@pytest.mark.parametrize("seed", range(20))
async def test_messages_survive_chaos(autojump_clock: trio.testing.MockClock, http_version: str, seed: int) -> None:
    messages = [bytes([number]) * number * 97 for number in range(40)]
    async with (
        memory_websocket_pair(
            http_version=http_version,
            client_stream=lambda stream: ChaosStream(stream, seed),
            server_stream=lambda stream: ChaosStream(stream, ~seed),
        ) as (client, server),
        trio.open_nursery() as nursery,
    ):

        async def send(websocket: trio_ws.WebSocket) -> None:
            for message in messages:
                await websocket.send(message)

        nursery.start_soon(send, client)
        nursery.start_soon(send, server)
        for websocket in (client, server):
            assert [await websocket.receive() for _ in messages] == messages
    assert client.close_info == server.close_info == trio_ws.CloseInfo(1000, "", was_clean=True)


async def test_the_streams_between_can_be_watched(autojump_clock: trio.testing.MockClock, http_version: str) -> None:
    recorded: list[RecordingStream] = []

    def record(stream: trio.abc.Stream) -> trio.abc.Stream:
        recorded.append(RecordingStream(stream))
        return recorded[0]

    async with memory_websocket_pair(http_version=http_version, client_stream=record):
        pass
    if http_version == "1.1":
        assert recorded[0].sent.startswith(b"GET / HTTP/1.1\r\n")
        assert recorded[0].received.startswith(b"HTTP/1.1 101 ")
    else:
        assert recorded[0].sent.startswith(b"PRI * HTTP/2.0\r\n")


async def test_bad_options_are_refused_before_anything_happens() -> None:
    with pytest.raises(ValueError, match=r"http_version='3'"):
        async with memory_websocket_pair(http_version="3"):
            pytest.fail("it cannot open")
    with pytest.raises(ValueError, match="close_timeout=-1"):
        async with memory_websocket_pair(close_timeout=-1):
            pytest.fail("it cannot open")
    with pytest.raises(TypeError, match="limits"):
        async with memory_websocket_pair(limits=5):  # type: ignore[arg-type]
            pytest.fail("it cannot open")
