"""picows on uvloop under test: callbacks instead of coroutines, so it obeys in its own way."""

from __future__ import annotations

import asyncio
from itertools import cycle, islice
from typing import TYPE_CHECKING

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

from tests.benchmarks.orders import DONE
from tests.benchmarks.payloads import payloads
from tests.benchmarks.subjects import BIG, HOST, Task, say

if TYPE_CHECKING:
    from picows import WSCloseCode, WSUpgradeRequest

everyone: set[Obedient] = set()
running: set[asyncio.Task[None]] = set()


class Obedient(WSListener):
    """Carries out orders; what it echoes or swallows, it does in the callback."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.echoes = False
        self.missing = 0  # messages of the order in hand
        self.writable = asyncio.Event()
        self.writable.set()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Note a connection."""
        self.transport = transport
        everyone.add(self)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Forget a connection."""
        everyone.discard(self)

    def pause_writing(self) -> None:
        """Wait with sending."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """Go on sending."""
        self.writable.set()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take one message."""
        if frame.msg_type == WSMsgType.BINARY:
            payload = frame.get_payload_as_bytes()
            if self.echoes:
                transport.send(WSMsgType.BINARY, payload)
            self.missing -= 1
            if not self.missing:
                transport.send(WSMsgType.TEXT, DONE.encode())
        elif frame.msg_type == WSMsgType.TEXT:
            self.obey(frame.get_payload_as_utf8_text())
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def obey(self, order: str) -> None:
        """Begin to carry out an order."""
        verb, *numbers = order.split()
        count = int(numbers[0])
        if verb in ("echo", "sink"):
            self.echoes, self.missing = verb == "echo", count
            return
        work = self.open_some(count) if verb == "open" else self.send_some(verb, count, int(numbers[1]))
        going_on = asyncio.create_task(work)
        running.add(going_on)
        going_on.add_done_callback(running.discard)

    async def send_some(self, verb: str, count: int, size: int) -> None:
        """Send messages, here or to all others, as fast as they are taken."""
        listeners = [self] if verb == "send" else [other for other in everyone if other is not self]
        for payload in islice(cycle(payloads(size)), count):
            for listener in listeners:
                if not listener.writable.is_set():
                    await listener.writable.wait()
                listener.transport.send(WSMsgType.BINARY, payload)
        self.transport.send(WSMsgType.TEXT, DONE.encode())

    async def open_some(self, count: int) -> None:
        """Open and close connections."""
        for _ in range(count):
            transport = await connect(self.task)
            transport.send_close(WSCloseCode.OK)
            await transport.wait_disconnected()
        self.transport.send(WSMsgType.TEXT, DONE.encode())


async def connect(task: Task) -> WSTransport:
    """Connect to the generator."""
    transport, _ = await ws_connect(lambda: Obedient(task), task.url, ssl_context=task.ssl_context, max_frame_size=BIG)
    return transport


async def main(task: Task) -> None:
    """Serve or connect, and obey."""
    if task.role == "client":
        await (await connect(task)).wait_disconnected()
        return

    def listen(request: WSUpgradeRequest) -> WSListener:
        return Obedient(task)

    server = await ws_create_server(listen, HOST, 0, ssl=task.ssl_context, max_frame_size=BIG)
    say(server.sockets[0].getsockname()[1])
    await server.serve_forever()
