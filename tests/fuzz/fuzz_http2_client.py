"""No frames crash a client or hang it, all it says is HTTP/2, it raises what is documented; see fuzz_http2_server."""

from __future__ import annotations

import trio
import trio.testing

from trio_ws import Agent, ConnectionClosed, HandshakeError, Keepalive, Limits, WebSocket, open_websocket
from trio_ws._client.agent import ConnectRequest
from trio_ws._transport import Transport
from trio_ws._websocket.start import SharedKeywords
from trio_ws._wire.frames import Opcode, frame_bytes

from ..connection.memory import MemoryTransport, transport_pair
from .choices import Choices, seed, sized
from .http2 import (
    CALM,
    ENABLE_CONNECT,
    STREAM_CLOSED,
    Encoder,
    Listener,
    connection_fault,
    data,
    settings,
    spoilt,
    stream_fault,
)
from .silence import no_errors_logged

PATIENCE = 1000.0  # seconds of the mock clock: more than all limits together
URL = "ws://example.com/"

ISOLATED, SMALL = 1, 2  # the bits of the first byte
ANSWER, FAULT, WAIT, OPEN, TALK, ANYTHING = range(6)  # what the server may do next, or the client
_WAYS = [(ISOLATED, 0), (0, 0x21), (ISOLATED | SMALL, 0x40)]
_STEPS: list[tuple[int | bytes, ...]] = [
    (TALK, OPEN, ANSWER, 0, 0, 0, TALK),
    (OPEN, ANSWER, 1, 2, 0, 5, TALK),
    (OPEN, OPEN, ANSWER, 0, 0, 0, ANSWER, 0, 0, 0, FAULT, 0, 0, sized(b"\x81\x01a"), FAULT, 1, 2, 7, TALK, WAIT, 90),
    *((OPEN, ANSWER, 0, 0, 0, FAULT, 0, which, sized(b"data"), FAULT, 0, 1, 0, WAIT, 5, TALK) for which in range(10)),
    *((OPEN, FAULT, 0, which, sized(b"data"), TALK) for which in range(10)),
    *((ANYTHING, 0, which, sized(b"\0" * 9), sized(b"\0" * 9)) for which in range(9)),
    *((OPEN, ANSWER, 1, 1, 0, kind, which, 0, 0, TALK) for kind in (0, 1) for which in range(4)),
]
SEEDS = [seed(*_WAYS[index % 3], *steps) for index, steps in enumerate(_STEPS)]
SMALL_LIMITS = Limits(
    max_message_size=200,
    receive_buffer=300,
    h2_max_streams_total=4,
    h2_stream_window=200,
    h2_reset_burst=4,
    h2_control_burst=20,
    h2_small_data=2000,
    h2_stall_timeout=10,
)
_ANSWER = [(":status", "200")]


class FuzzAgent(Agent):
    """An agent whose connections lead to one server."""

    def __init__(self, near: MemoryTransport) -> None:
        super().__init__(h2_prior_knowledge=True)
        self._near: MemoryTransport | None = near

    async def _connect(self, request: ConnectRequest) -> Transport:
        await trio.lowlevel.checkpoint()
        if self._near is None:
            raise ConnectionRefusedError
        near, self._near = self._near, None
        return near


def TestOneInput(data: bytes) -> None:
    """Read data: a byte of switches, one that says how to cut, then what happens, step by step."""
    with no_errors_logged():
        trio.run(play, Choices(data), clock=trio.testing.MockClock(autojump_threshold=0))


async def play(choices: Choices) -> None:
    """Open WebSockets on one connection, and see them end."""
    switches, cut = choices.byte(), choices.byte()
    near, far = transport_pair()
    near.read_size = cut + 1 if cut else 2**16
    server = Server(
        near, far, isolated=bool(switches & ISOLATED), limits=SMALL_LIMITS if switches & SMALL else Limits()
    )
    with trio.fail_after(PATIENCE):
        async with FuzzAgent(near) as agent, trio.open_nursery() as nursery:
            await server.open(agent, nursery)
            steps = 0
            while choices and steps < 60:
                await server.step(choices)
                steps += 1
            await server.finish()
    counts = agent.statistics()
    assert (counts.connections_open, counts.streams_open) == (0, 0)
    assert near.closed
    if server.listener.goaways[-1:] == [CALM]:
        assert counts.limits_passed


class Server:
    """A server that does what it is told, and good to the WebSocket on stream 1, and the clients that ask it."""

    def __init__(self, near: MemoryTransport, far: MemoryTransport, *, isolated: bool, limits: Limits) -> None:
        self._near = near
        self._far = far
        self._isolated = isolated
        self._limits = limits
        # What it does is wrong for a stream at most, but may be too much, or more than the window of one that is gone.
        self._allowed = {0, CALM} if limits != SMALL_LIMITS else {0, CALM, STREAM_CLOSED}
        self._encoder = Encoder()
        self._heard = 0
        self._first: WebSocket | None = None
        self._open = 0
        self.listener = Listener(is_client=True)

    async def open(self, agent: Agent, nursery: trio.Nursery) -> None:
        """Open the good stream."""
        self._agent, self._nursery = agent, nursery
        nursery.start_soon(self._client, True)
        await self._listen()
        self._far.write(settings([(ENABLE_CONNECT, 1)]))
        await self._listen()
        self._far.write(self._encoder.headers(1, _ANSWER))
        await self._listen()
        assert self._first is not None
        await self._talk()

    async def _client(self, first: bool) -> None:
        """Open a WebSocket, and echo on it until it ends."""
        self._open += 1
        options: SharedKeywords = {"limits": self._limits, "keepalive": Keepalive(interval=20, timeout=20)}
        try:
            async with open_websocket(URL, dispatcher=self._agent, **options) as websocket:
                if first:
                    self._first = websocket
                while True:
                    await websocket.send(await websocket.receive())
        except (HandshakeError, ConnectionClosed, OSError):
            pass
        finally:
            self._open -= 1

    async def step(self, choices: Choices) -> None:
        """Do the next thing."""
        kind = choices.byte() % 6
        others = sorted(stream for stream in self.listener.headers if stream > 1)
        match kind:
            case 0 if others:  # ANSWER
                stream_id = choices.pick(others)
                fields = spoilt(_ANSWER, choices) if choices.byte() % 2 else _ANSWER
                self._far.write(self._encoder.headers(stream_id, fields, end=choices.byte() % 8 == 7))
            case 1 if others:  # FAULT
                self._far.write(stream_fault(choices, self._encoder, choices.pick(others)))
            case 2:  # WAIT
                for _ in range(choices.byte() % 32):
                    await trio.sleep(1)
                    await self._listen()
            case 3 if self._open < 8:  # OPEN
                self._nursery.start_soon(self._client, False)
            case 4:  # TALK
                await self._talk()
            case _ if not self._isolated:  # ANYTHING
                self._far.write(connection_fault(choices, self._encoder, choices.byte() % 10))
        await self._listen()

    async def _talk(self) -> None:
        before = len(self.listener.data[1])
        self._far.write(data(1, frame_bytes(Opcode.TEXT, b"hello", masked=False)))
        await self._listen()
        if self._isolated and not self.listener.goaways:
            assert len(self.listener.data[1]) == before + 11, "a masked frame with five bytes"

    async def _listen(self) -> None:
        await trio.testing.wait_all_tasks_blocked()
        self._far.arrived.clear()
        heard = bytes(self._near.written[self._heard :])
        self._heard += len(heard)
        self.listener.hear(heard)
        self._far.write(self.listener.answers())
        if self._isolated:
            assert set(self.listener.goaways) <= self._allowed, self.listener.goaways
        assert self._near.unsent < 2**20

    async def finish(self) -> None:
        """Talk once more, and go."""
        await self._talk()
        if self._isolated and not self.listener.goaways and self._first is not None:
            assert self._first.close_info is None
        self._far.abort()
