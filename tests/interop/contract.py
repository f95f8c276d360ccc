"""What our client and our server do with any peer: one set of tests, which each peer's module runs in both roles.

``OurClient`` connects to the peer, ``OurServer`` is connected to by it; the tests of ``Common`` hold for both. A module
gives the fixture ``peer`` and subclasses the two; ``Fragments``, ``Pings`` and ``Plain`` are for peers that can do
more.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

import trio_ws

from .peers import (
    BIG,
    CHOSEN_PROTOCOL,
    FRAGMENTED,
    HOST,
    OUR_HEADER,
    PEER_CLOSE,
    PEER_HEADER,
    PING_PAYLOAD,
    PROTOCOLS,
    REJECTION,
    TEXT,
    TIMEOUT,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from .peers import Output, Peer

MIB = 2**20
# The lengths are those where the form of the frame changes, and the most that Limits allows as it is.
MESSAGES: tuple[str | bytes, ...] = (
    "",
    b"",
    "text",
    bytes(range(256)),
    TEXT,
    "a\x00b\N{REPLACEMENT CHARACTER}\N{ZERO WIDTH NO-BREAK SPACE}",
    "x" * 125,
    b"y" * 126,
    "é" * 32767 + "x",
    b"\x80" * 65536,
    "€\N{GRINNING FACE}!" * (MIB // 8),
    bytes(range(256)) * (MIB // 256),
)

DEFAULT_COMPRESSION = trio_ws.Compression()
DEFAULT_LIMITS = trio_ws.Limits()


@asynccontextmanager
async def connected_to(
    peer: Peer, scenario: str, *, plain: bool, compression: trio_ws.Compression | None, limits: trio_ws.Limits
) -> AsyncIterator[tuple[trio_ws.WebSocket, Output]]:
    """Start the peer as a server and connect to it."""
    async with (
        peer.serving(*(["--plain"] if plain else [])) as (output, url),
        peer.agent() as agent,
        trio_ws.open_websocket(
            f"{url}/{scenario}",
            PROTOCOLS,
            dispatcher=agent,
            headers=[OUR_HEADER],
            compression=compression,
            limits=limits,
        ) as websocket,
    ):
        yield websocket, output


@asynccontextmanager
async def connected_by(
    peer: Peer, scenario: str, *, plain: bool, compression: trio_ws.Compression | None, limits: trio_ws.Limits
) -> AsyncIterator[tuple[trio_ws.WebSocket, Output]]:
    """Start our server, then the peer as its client."""
    sender, receiver = trio.open_memory_channel[trio_ws.WebSocket](0)
    finished = trio.Event()

    async def handler(request: trio_ws.WebSocketRequest) -> None:
        async with request.accept(CHOSEN_PROTOCOL, headers=[OUR_HEADER]) as websocket:
            await sender.send(websocket)
            await finished.wait()

    serve = partial(trio_ws.serve_websocket, compression=compression, limits=limits)
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve, handler, HOST, 0, peer.server_context)
        url = f"{peer.url_of(server.port)}/{scenario}"
        async with peer.connecting(url, *(["--plain"] if plain else [])) as output:
            yield await receiver.receive(), output
            finished.set()
            # The handler closes now: a peer that has not told how it ended would not be waited for.
            await server.aclose()
        nursery.cancel_scope.cancel()


async def be_noticed(websocket: trio_ws.WebSocket) -> None:
    """Have the peer's handler run: the server of websockets.trio starts none for a client that closes at once."""
    await websocket.send("here")
    assert await websocket.receive() == "here"


async def echo_plainly(websocket: trio_ws.WebSocket) -> None:
    """Send all messages and see them come back, without compression."""
    assert websocket.extensions == ""
    for message in MESSAGES:
        await websocket.send(message)
        assert await websocket.receive() == message


class Common(ABC):
    """What holds for our client and for our server."""

    answer_to_4002 = 4002
    """The code with which the peer answers a Close with code 4002."""
    tells_of_its_own_close = True
    """Whether the peer writes how a connection ended that it closed itself."""

    def told(self, code: int, reason: str = "") -> dict[str, object]:
        """What the peer writes about a Close of ours."""
        return {"code": code, "reason": reason}

    @abstractmethod
    def connected(
        self,
        peer: Peer,
        scenario: str,
        *,
        plain: bool = False,
        compression: trio_ws.Compression | None = DEFAULT_COMPRESSION,
        limits: trio_ws.Limits = DEFAULT_LIMITS,
    ) -> AbstractAsyncContextManager[tuple[trio_ws.WebSocket, Output]]:
        """Connect with the peer; gives our side of the connection and what the peer writes."""

    @pytest.mark.parametrize("threshold", [0, 1024])
    async def test_messages_come_back_as_they_were_with_compression(self, peer: Peer, threshold: int) -> None:
        compression = trio_ws.Compression(threshold=threshold)
        with trio.fail_after(TIMEOUT):
            async with self.connected(peer, "echo", compression=compression) as (websocket, _):
                assert websocket.extensions.startswith("permessage-deflate")
                for message in MESSAGES:
                    await websocket.send(message)
                    assert await websocket.receive() == message

    async def test_messages_come_back_as_they_were_without_compression(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with self.connected(peer, "echo", compression=None) as (websocket, _):
                await echo_plainly(websocket)

    @pytest.mark.parametrize(
        "compression",
        [
            trio_ws.Compression(threshold=0, client_no_context_takeover=True, server_no_context_takeover=True),
            trio_ws.Compression(threshold=0, client_max_window_bits=9, server_max_window_bits=9),
            trio_ws.Compression(threshold=0, client_max_window_bits=15, server_max_window_bits=15),
        ],
        ids=["no context takeover", "smallest window", "largest window"],
    )
    async def test_all_ways_to_compress_are_understood(self, peer: Peer, compression: trio_ws.Compression) -> None:
        with trio.fail_after(TIMEOUT):
            async with self.connected(peer, "echo", compression=compression) as (websocket, _):
                assert websocket.extensions.startswith("permessage-deflate")
                for message in (*MESSAGES, *MESSAGES):
                    await websocket.send(message)
                    assert await websocket.receive() == message

    async def test_messages_sent_at_once_come_back_in_order(self, peer: Peer) -> None:
        messages = [f"message {number}" * number for number in range(200)]
        received: list[str | bytes] = []
        with trio.fail_after(TIMEOUT):
            async with self.connected(peer, "echo") as (websocket, _), trio.open_nursery() as nursery:

                async def send_all() -> None:
                    for message in messages:
                        await websocket.send(message)

                nursery.start_soon(send_all)
                while len(received) < len(messages):
                    received.append(await websocket.receive())
        assert received == messages

    async def test_the_peer_answers_our_pings(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with self.connected(peer, "echo") as (websocket, _):
                assert 0 <= await websocket.ping() < TIMEOUT
                assert 0 <= await websocket.ping(b"p" * 125) < TIMEOUT
                await websocket.pong(b"nobody asked")
                await websocket.send("still there")
                assert await websocket.receive() == "still there"

    async def test_the_peer_sees_our_code_and_reason(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with self.connected(peer, "echo") as (websocket, output):
                await be_noticed(websocket)
                await websocket.aclose(4002, "so long €")
                assert await output.line() == self.told(4002, "so long €")
                closed = await websocket.wait_closed()
                assert (closed.code, closed.was_clean) == (self.answer_to_4002, True)
                with pytest.raises(trio_ws.ConnectionClosedLocally) as caught:
                    await websocket.send("too late")
                assert caught.value.sent is not None
                assert (caught.value.sent.code, caught.value.sent.reason) == (4002, "so long €")

    async def test_we_see_the_code_and_reason_of_the_peer(self, peer: Peer) -> None:
        code, reason = PEER_CLOSE
        with trio.fail_after(TIMEOUT):
            async with self.connected(peer, "close") as (websocket, output):
                with pytest.raises(trio_ws.ConnectionClosedError) as caught:
                    await websocket.receive()
                assert (caught.value.code, caught.value.reason, caught.value.was_clean) == (code, reason, True)
                assert await websocket.wait_closed() == trio_ws.CloseInfo(code, reason, was_clean=True)
                if self.tells_of_its_own_close:
                    assert (await output.line())["code"] == code

    async def test_a_normal_close_of_the_peer_ends_the_iteration(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with self.connected(peer, "bye") as (websocket, output):
                assert [message async for message in websocket] == []
                assert await websocket.wait_closed() == trio_ws.CloseInfo(1000, "", was_clean=True)
                if self.tells_of_its_own_close:
                    assert (await output.line())["code"] == 1000

    async def test_subprotocol_and_headers_reach_the_other_side(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with self.connected(peer, "hello") as (websocket, _):
                hello = await websocket.receive()
                assert isinstance(hello, str)
                assert json.loads(hello) == {"protocol": CHOSEN_PROTOCOL, "header": OUR_HEADER[1]}
                assert websocket.protocol == CHOSEN_PROTOCOL
                assert websocket.http_version == peer.http_version

    async def test_a_message_over_our_limit_closes_with_1009(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            limits = trio_ws.Limits(max_message_size=len(BIG) - 1)
            async with self.connected(peer, "big", limits=limits) as (websocket, output):
                with pytest.raises(trio_ws.ConnectionClosedError) as caught:
                    await websocket.receive()
                assert isinstance(caught.value.__cause__, trio_ws.MessageTooBig)
                assert caught.value.sent is not None
                assert caught.value.sent.code == 1009
                assert (await output.line())["code"] == self.told(1009)["code"]

    async def test_a_message_of_just_our_limit_is_taken(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            limits = trio_ws.Limits(max_message_size=len(BIG))
            async with self.connected(peer, "big", limits=limits) as (websocket, _):
                assert await websocket.receive() == BIG


class OurClient(Common):
    """Our client and the peer as a server."""

    def connected(
        self,
        peer: Peer,
        scenario: str,
        *,
        plain: bool = False,
        compression: trio_ws.Compression | None = DEFAULT_COMPRESSION,
        limits: trio_ws.Limits = DEFAULT_LIMITS,
    ) -> AbstractAsyncContextManager[tuple[trio_ws.WebSocket, Output]]:
        """Start the peer as a server and connect to it."""
        return connected_to(peer, scenario, plain=plain, compression=compression, limits=limits)

    async def test_the_header_of_the_answer_is_read(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with self.connected(peer, "echo") as (websocket, _):
                assert websocket.response_headers[PEER_HEADER[0]] == PEER_HEADER[1]

    async def test_leaving_the_scope_closes_with_1000(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with peer.serving() as (output, url), peer.agent() as agent:
                async with trio_ws.open_websocket(f"{url}/echo", dispatcher=agent) as websocket:
                    await be_noticed(websocket)
                assert await output.line() == self.told(1000)

    async def test_a_rejection_has_status_headers_and_body(self, peer: Peer) -> None:
        status, body = REJECTION
        with trio.fail_after(TIMEOUT):
            async with peer.serving() as (_, url), peer.agent() as agent:
                with pytest.raises(trio_ws.HandshakeRejected) as caught:
                    async with trio_ws.open_websocket(f"{url}/reject", dispatcher=agent):
                        pytest.fail("the peer accepted")
        assert caught.value.status == status
        assert caught.value.headers[PEER_HEADER[0]] == PEER_HEADER[1]
        assert caught.value.body.decode().rstrip() == body


class OurServer(Common):
    """Our server and the peer as a client."""

    tells_the_body = True
    """Whether the peer shows the body of a rejection."""

    def connected(
        self,
        peer: Peer,
        scenario: str,
        *,
        plain: bool = False,
        compression: trio_ws.Compression | None = DEFAULT_COMPRESSION,
        limits: trio_ws.Limits = DEFAULT_LIMITS,
    ) -> AbstractAsyncContextManager[tuple[trio_ws.WebSocket, Output]]:
        """Start our server, then the peer as its client."""
        return connected_by(peer, scenario, plain=plain, compression=compression, limits=limits)

    async def test_the_request_is_told(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with self.connected(peer, "echo") as (websocket, _):
                assert websocket.request_headers[PEER_HEADER[0]] == PEER_HEADER[1]
                assert websocket.request_headers["Sec-WebSocket-Protocol"].replace(" ", "") == ",".join(PROTOCOLS)

    async def test_leaving_the_scope_closes_with_1000(self, peer: Peer) -> None:
        async def handler(request: trio_ws.WebSocketRequest) -> None:
            async with request.accept(CHOSEN_PROTOCOL):
                pass

        assert await self.told_by_a_client(peer, handler) == self.told(1000)

    async def test_a_handler_that_fails_closes_with_1011(self, peer: Peer) -> None:
        async def handler(request: trio_ws.WebSocketRequest) -> None:
            async with request.accept(CHOSEN_PROTOCOL):
                raise RuntimeError("a bug")

        told = await self.told_by_a_client(peer, handler)
        assert told["code"] == 1011

    async def test_a_rejection_has_status_header_and_body(self, peer: Peer) -> None:
        status, body = REJECTION

        async def handler(request: trio_ws.WebSocketRequest) -> None:
            await request.reject(status, headers=[OUR_HEADER], body=body.encode())

        expected = {"status": status, "header": OUR_HEADER[1], "body": body}
        if not self.tells_the_body:
            del expected["body"]
        assert await self.told_by_a_client(peer, handler) == expected

    @staticmethod
    async def told_by_a_client(
        peer: Peer, handler: Callable[[trio_ws.WebSocketRequest], Awaitable[None]]
    ) -> dict[str, object]:
        """Have the peer connect to a server with this handler; returns what it tells."""
        with trio.fail_after(TIMEOUT):
            async with trio.open_nursery() as nursery:
                server = await nursery.start(trio_ws.serve_websocket, handler, HOST, 0, peer.server_context)
                async with peer.connecting(f"{peer.url_of(server.port)}/echo") as output:
                    told = await output.line()
                nursery.cancel_scope.cancel()
        return told


class Plain(Common):
    """For peers that can go without compression."""

    async def test_messages_come_back_as_they_were_when_the_peer_refuses_compression(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with self.connected(peer, "echo", plain=True) as (websocket, _):
                await echo_plainly(websocket)


class Pings(Common):
    """For peers that can send a ping."""

    async def test_we_answer_the_pings_of_the_peer(self, peer: Peer) -> None:
        with trio.fail_after(TIMEOUT):
            async with self.connected(peer, "ping") as (websocket, _):
                assert await websocket.receive() == f"pong: {PING_PAYLOAD}"


class Fragments(Common):
    """For peers that can send one message in fragments."""

    @pytest.mark.parametrize("compression", [None, trio_ws.Compression()], ids=["plain", "compressed"])
    async def test_fragments_of_the_peer_arrive_as_one_message(
        self, peer: Peer, compression: trio_ws.Compression | None
    ) -> None:
        with trio.fail_after(TIMEOUT):
            async with self.connected(peer, "fragments", compression=compression) as (websocket, _):
                for message in FRAGMENTED:
                    assert await websocket.receive() == message
