"""Over streams that cut, delay and break nothing hangs, what arrives is a prefix of what was sent, both ends agree."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio
import trio.testing

from trio_ws import (
    Agent,
    CloseInfo,
    Compression,
    ConnectionClosed,
    HandshakeError,
    Keepalive,
    Limits,
    WebSocket,
    WebSocketRequest,
    open_websocket,
    wrap_server_stream,
)
from trio_ws._net.stream_transport import StreamTransport
from trio_ws.testing import ChaosStream, memory_stream_pair

from .choices import Choices, seed
from .silence import no_errors_logged

if TYPE_CHECKING:
    from trio_ws._client.agent import ConnectRequest
    from trio_ws._transport import Transport
    from trio_ws._websocket.start import SharedKeywords

PATIENCE = 600.0  # seconds of the mock clock: the chaos takes some 100 at most, and closing 10
URL = "ws://example.com/"

HTTP2, DEFLATE, BREAKS, SMALL, SERVER_CLOSES, CANCELS, LOSES = 1, 2, 4, 8, 16, 32, 64  # the bits of the first byte
SEND, RECEIVE, PING, SLEEP, HURRY, SEND_PIECES, RECEIVE_PIECES = range(7)  # what a side may do next
_STEPS = [
    (SEND, 3, RECEIVE, SEND, 200, RECEIVE, PING),
    (SEND, 7, SEND, 255, SEND, 1, RECEIVE, RECEIVE, RECEIVE),
    (SLEEP, 9, HURRY, 2, SEND, 30, HURRY, 9, RECEIVE, PING),
    (SEND_PIECES, 90, SEND, 9, RECEIVE_PIECES, 0, SEND_PIECES, 0, RECEIVE, 255, RECEIVE_PIECES, 0),
    (SEND, 254, SEND, 254, SEND, 254, SEND, 254, SLEEP, 255),
    (),
]
SEEDS = [
    seed(switches, number, *steps, *steps)
    for number, steps in enumerate(_STEPS)
    for switches in (
        0,
        HTTP2,
        DEFLATE | SMALL,
        HTTP2 | BREAKS | DEFLATE,
        BREAKS | SERVER_CLOSES,
        HTTP2 | SMALL | CANCELS,
    )
]
SMALL_LIMITS = Limits(receive_buffer=500, send_buffer=300, h2_stream_window=300)


@dataclass(slots=True)
class Side:
    """What one side has done, and how it saw the end."""

    small: bool
    sent: list[str | bytes] = field(default_factory=list)
    received: list[str | bytes] = field(default_factory=list)
    end: CloseInfo | None = None


class ChaosAgent(Agent):
    """An agent whose connection is a stream that it is given."""

    def __init__(self, stream: trio.abc.Stream, nursery: trio.Nursery, *, http2: bool) -> None:
        super().__init__(h2_prior_knowledge=http2)
        self._stream = stream
        self._nursery = nursery

    async def _connect(self, request: ConnectRequest) -> Transport:
        await trio.lowlevel.checkpoint()
        return StreamTransport(self._stream, self._nursery)


def TestOneInput(data: bytes) -> None:
    """Read data: a byte of switches, the seed of the chaos, then what either side does, step by step and by turns."""
    with no_errors_logged():
        trio.run(play, Choices(data), clock=trio.testing.MockClock(autojump_threshold=0))


async def play(choices: Choices) -> None:
    """Open one WebSocket, let both sides do something, close, and compare."""
    switches, number = choices.byte(), choices.byte()
    chance = 0.02 if switches & BREAKS else 0.0
    near, far = memory_stream_pair(2**10)
    options: SharedKeywords = {
        "limits": SMALL_LIMITS if switches & SMALL else Limits(),
        "compression": Compression(threshold=0) if switches & DEFLATE else None,
        "keepalive": Keepalive(interval=20, timeout=20),
        "connect_timeout": 100.0,
    }
    client, server = Side(bool(switches & SMALL)), Side(bool(switches & SMALL))
    plans = plan(choices), plan(choices)
    closes = bool(switches & SERVER_CLOSES)

    async def handle(request: WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await act(websocket, server, plans[1], closes=closes)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await wrap_server_stream(nursery, ChaosStream(far, number, break_chance=chance), handle, **options)
            chaos = ChaosStream(near, number + 1000, break_chance=chance)
            agent = ChaosAgent(chaos, nursery, http2=bool(switches & HTTP2))
            try:
                with trio.move_on_after(1.0 if switches & CANCELS else PATIENCE):
                    async with agent, open_websocket(URL, dispatcher=agent, **options) as websocket:
                        await act(websocket, client, plans[0], closes=not closes)
            except (HandshakeError, OSError, trio.BrokenResourceError) as error:
                assert chance, error
    check(client, server, whole=not switches & (BREAKS | CANCELS))


def plan(choices: Choices) -> list[tuple[int, int]]:
    """Decide what a side does."""
    return [(choices.byte() % 7, choices.byte()) for _ in range(12) if choices]


async def act(websocket: WebSocket, side: Side, steps: list[tuple[int, int]], *, closes: bool) -> None:
    """Do what one side is to do, then receive until the end; or close, once the other side has nothing more to send."""
    try:
        for kind, size in steps:
            await step(websocket, side, kind, size)
        while not await send(websocket, side, "end"):
            with trio.move_on_after(5):
                side.received.append(await websocket.receive())
        while "end" not in side.received:
            side.received.append(await websocket.receive())
        if closes:
            await websocket.aclose(4000, "enough")
        while True:
            side.received.append(await websocket.receive())
    except ConnectionClosed:
        pass
    finally:
        side.end = websocket.close_info
    side.end = await websocket.wait_closed()


async def step(websocket: WebSocket, side: Side, kind: int, size: int) -> None:
    """Do one thing."""
    match kind:
        case 0:
            await send(websocket, side, "x" * size if size % 2 else bytes(size * 20))
        case 1:
            with trio.move_on_after(size / 8):  # the other side may not send
                side.received.append(await websocket.receive())
        case 2:
            with trio.move_on_after(size / 8):
                await websocket.ping()
        case 3:
            await trio.sleep(size / 32)
        case 4:
            with trio.move_on_after(size / 256):
                await send(websocket, side, "hurry" * size)
        case 5 if not side.small:  # or both sides might send, and neither receive
            async with websocket.send_message_stream(binary=False) as part:
                for _ in range(3):
                    await part.send("piece" * size)
            side.sent.append("piece" * size * 3)
        case _:
            with trio.move_on_after(size / 8) as scope:
                async with websocket.receive_message_stream() as parts:
                    scope.deadline = math.inf  # what was begun will be finished
                    side.received.append(join([part async for part in parts], binary=parts.binary))


async def send(websocket: WebSocket, side: Side, message: str | bytes) -> bool:
    """Send, and tell whether it went: not if there is no room for long, for the other side may wait for the same."""
    with trio.move_on_after(5) as scope:
        await websocket.send(message)
    if not scope.cancelled_caught:
        side.sent.append(message)
    return not scope.cancelled_caught


def join(pieces: list[str | bytes], *, binary: bool) -> str | bytes:
    """Put a message together."""
    data = b"".join(piece.encode() if isinstance(piece, str) else piece for piece in pieces)
    return data if binary else data.decode()


def check(client: Side, server: Side, *, whole: bool) -> None:
    """Compare what both sides saw."""
    for one, other in ((client, server), (server, client)):
        assert one.received == other.sent[: len(one.received)]
        if whole:
            assert one.received == other.sent
    ends = [end for end in (client.end, server.end) if end is not None]
    if whole:
        assert len(ends) == 2
        assert all(end.was_clean and end.code == 4000 for end in ends), ends
    for end in ends:
        assert end.was_clean <= (end.code != 1006), end
    if len(ends) == 2 and all(end.was_clean for end in ends):
        assert ends[0].code == ends[1].code, ends  # an answer to a Close carries no reason
