"""No frames crash a server or hang it, all it says is HTTP/2, and what is wrong with one stream leaves others be."""

from __future__ import annotations

import trio
import trio.testing

from trio_ws import Keepalive, Limits
from trio_ws._close import GOING_AWAY
from trio_ws._server.server import _check_options
from trio_ws._server.service import Service
from trio_ws._wire.frames import Opcode, frame_bytes

from ..connection.memory import MemoryTransport, transport_pair
from ..serving import echo
from .choices import Choices, seed, sized
from .http2 import (
    CALM,
    PREFACE,
    REQUEST,
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

ISOLATED, SMALL, DEAF = 1, 2, 4  # the bits of the first byte
OPEN, FAULT, WAIT, READ, TALK, ANYTHING = range(6)  # what the peer may do next
_WAYS = [(ISOLATED, 0), (0, 0x21), (ISOLATED | SMALL, 0x40), (DEAF, 0)]
_STEPS: list[tuple[int | bytes, ...]] = [
    (TALK, TALK),
    (OPEN, 0, 0, FAULT, 0, 0, sized(b"\x81\x80\0\0\0\0"), TALK),
    (OPEN, 1, 1, 0, 9, 0, TALK, OPEN, 1, 1, 2, sized(b"x")),
    *((OPEN, 0, 0, FAULT, 0, which, sized(b"data"), FAULT, 0, 1, sized(b""), WAIT, 5, TALK) for which in range(10)),
    *((OPEN, 1, 1, which, 6, 0, TALK) for which in range(17)),
    (*[OPEN, 0, 0] * 3, *[FAULT, 0, 2, 8] * 3, WAIT, 200, TALK),
    *((ANYTHING, 0, which, sized(b"\0" * 9), sized(b"\0" * 9)) for which in range(9)),
    (READ, 0, TALK, WAIT, 30, READ, 1, TALK),
]
SEEDS = [seed(*_WAYS[index % 2], *steps) for index, steps in enumerate(_STEPS)]
SEEDS += [seed(*_WAYS[2 + index % 2], *steps) for index, steps in enumerate(_STEPS) if index % 4 == 0]
SMALL_LIMITS = Limits(
    max_message_size=200,
    receive_buffer=300,
    h2_max_streams=3,
    h2_max_handlers=4,
    h2_refused_burst=3,
    h2_refused_rate=1,
    h2_max_streams_total=6,
    h2_stream_window=200,
    h2_reset_burst=4,
    h2_control_burst=20,
    h2_small_data=2000,
    h2_stall_timeout=10,
)


def TestOneInput(data: bytes) -> None:
    """Read data: a byte of switches, one that says how to cut, then what the peer does, step by step."""
    with no_errors_logged():
        trio.run(play, Choices(data), clock=trio.testing.MockClock(autojump_threshold=0))


async def play(choices: Choices) -> None:
    """Serve one connection to its end."""
    switches, cut = choices.byte(), choices.byte()
    limits = SMALL_LIMITS if switches & SMALL else Limits()
    service = Service(_check_options(limits=limits, origins=None, keepalive=Keepalive(interval=20, timeout=20)))
    near, far = transport_pair()
    near.read_size = cut + 1 if cut else 2**16
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            service.nursery = nursery
            nursery.start_soon(service.serve, near, echo)
            peer = Peer(near, far, switches)
            await peer.open()
            steps = 0
            while choices and steps < 60:
                await peer.step(choices)
                steps += 1
            await peer.finish()
    assert not service.websockets
    assert service.http2.connections_open == 0
    assert service.http2.streams_open == 0
    assert near.closed
    if peer.listener.goaways[-1:] == [CALM]:
        assert service.http2.limits_passed


class Peer:
    """A client that does what it is told, with one WebSocket, on stream 1, that it is good to."""

    def __init__(self, near: MemoryTransport, far: MemoryTransport, switches: int) -> None:
        self._near = near
        self._far = far
        self._isolated = bool(switches & ISOLATED)
        self._deaf = bool(switches & DEAF)
        # What it does is wrong for a stream at most, but may be too much, or more than the window of one that is gone.
        self._allowed = {0, CALM} if not switches & SMALL else {0, CALM, STREAM_CLOSED}
        self._encoder = Encoder()
        self._next = 3
        self._heard = 0
        self._echoed = b""
        self.listener = Listener(is_client=False)

    async def open(self) -> None:
        """Open the good stream."""
        self._far.write(PREFACE + settings() + self._encoder.headers(1, REQUEST))
        await self._listen()
        assert self.listener.headers[1][0][0] == (":status", "200")
        await self._talk()

    async def step(self, choices: Choices) -> None:
        """Do the next thing."""
        kind = choices.byte() % 6
        match kind:
            case 0:  # OPEN
                fields = spoilt(REQUEST, choices) if choices.byte() % 2 else REQUEST
                self._far.write(self._encoder.headers(self._next, fields, end=choices.byte() % 8 == 7))
                self._next += 2
            case 1 if self._next > 3:  # FAULT
                stream_id = self._next - 2 - 2 * (choices.byte() % ((self._next - 3) // 2))
                self._far.write(stream_fault(choices, self._encoder, stream_id))
            case 2:  # WAIT
                for _ in range(choices.byte() % 32):
                    await trio.sleep(1)
                    await self._listen()
            case 3:  # READ
                reads = choices.byte() % 2
                if self._isolated:
                    pass
                elif reads:
                    self._near.make_room(float("inf"))
                else:
                    self._near.room = 0
            case 4:  # TALK
                await self._talk()
            case _ if not self._isolated:  # ANYTHING
                self._far.write(connection_fault(choices, self._encoder, choices.byte() % (self._next + 2)))
        await self._listen()

    async def _talk(self) -> None:
        self._far.write(data(1, frame_bytes(Opcode.TEXT, b"hello", masked=True)))
        self._echoed += b"\x81\x05hello"
        await self._listen()
        if self._isolated and not self.listener.goaways:
            assert self.listener.data[1] == self._echoed

    async def _listen(self) -> None:
        await trio.testing.wait_all_tasks_blocked()
        if not self._deaf:
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
        if self._deaf:  # the server's own patience ends it
            return
        self._near.make_room(float("inf"))
        await self._listen()
        if not self.listener.goaways and not self.listener.ended(1):
            close = frame_bytes(Opcode.CLOSE, GOING_AWAY.to_bytes(2), masked=True)
            self._far.write(data(1, close))
            await self._listen()
            if self._isolated:
                assert self.listener.data[1] == self._echoed + b"\x88\x02" + GOING_AWAY.to_bytes(2)
        self._far.abort()
