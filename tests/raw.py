"""Peers that speak bytes: what the tests of clients, servers and transports say to them, and what they hear."""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import socket
import ssl
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
import trustme

from trio_ws._reactor import Reactor
from trio_ws._transport import Receiver, Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 §1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA

FIELDS = {
    "Host": "example.com",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def head(first_line: str, *lines: str) -> bytes:
    """Write the head of an HTTP message, a blank line at its end."""
    return "\r\n".join([first_line, *lines, "", ""]).encode("latin-1")


def request(*lines: str, first: str = "GET / HTTP/1.1", without: Iterable[str] = ()) -> bytes:
    """Write a good request for a WebSocket; each line replaces the field of its name, ``without`` names fields."""
    gone = {*without, *(line.partition(":")[0] for line in lines)}
    return head(first, *(f"{name}: {value}" for name, value in FIELDS.items() if name not in gone), *lines)


def accept_value(asked: bytes) -> str:
    """Work out the Sec-WebSocket-Accept for the head of a request."""
    key = field(asked, "Sec-WebSocket-Key").encode()
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


def answer(asked: bytes, *lines: str) -> bytes:
    """Write the 101 that accepts a request."""
    accepted = f"Sec-WebSocket-Accept: {accept_value(asked)}"
    return head("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade", accepted, *lines)


def status(answered: bytes) -> int:
    """Read the status of the answer that the bytes begin with; 0 if there is none."""
    return int(answered[9:12]) if answered.startswith(b"HTTP/1.1 ") else 0


def fields(message: bytes) -> list[tuple[str, str]]:
    """Read the header fields of the message that the bytes begin with."""
    lines = message.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


def field(message: bytes, name: str) -> str:
    """Read the one header field of a name; "" if there is none."""
    values = [value for key, value in fields(message) if key == name]
    assert len(values) < 2
    return values[0] if values else ""


def body(message: bytes) -> bytes:
    """Give what follows the head."""
    return message.partition(b"\r\n\r\n")[2]


def frame(opcode: int, payload: bytes = b"", *, masked: bool = False) -> bytes:
    """Write a short final frame; the mask is zero, so that the payload stays legible."""
    assert len(payload) < 126
    length = len(payload) | (0x80 if masked else 0)
    return bytes([0x80 | opcode, length]) + bytes(4 if masked else 0) + payload


def close_frame(code: int, reason: bytes = b"", *, masked: bool = False) -> bytes:
    """Write a Close frame."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason, masked=masked)


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Read short frames, masked or not; the bytes must hold whole ones."""
    found = []
    while data:
        masked, length = data[1] & 0x80, data[1] & 0x7F
        start = 6 if masked else 2
        mask = data[2:6] if masked else bytes(4)
        payload = data[start : start + length]
        assert len(payload) == length < 126
        found.append((data[0] & 0xF, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))))
        data = data[start + length :]
    return found


async def read_head(stream: trio.abc.ReceiveStream) -> bytes:
    """Read to a blank line, or to the end; what came with it comes too."""
    data = b""
    while b"\r\n\r\n" not in data and (more := bytes(await stream.receive_some())):
        data += more
    return data


async def read_frame(stream: trio.abc.ReceiveStream) -> tuple[int, bytes]:
    """Read one short frame."""
    data = b""
    while len(data) < 2 or len(data) < 2 + (data[1] & 0x7F) + (4 if data[1] & 0x80 else 0):
        more = bytes(await stream.receive_some(1))
        assert more, f"the stream ended after {data!r}"
        data += more
    return frames(data)[0]


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """Read to the end."""
    data = b""
    while more := bytes(await stream.receive_some()):
        data += more
    return data


async def exchange(stream: trio.abc.Stream, data: bytes) -> bytes:
    """Send some bytes, and read to the end."""
    await stream.send_all(data)
    return await read_all(stream)


def tcp_pair(family: socket.AddressFamily = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
    """Two sockets that are connected by TCP."""
    with socket.socket(family) as listener:
        listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        listener.listen()
        one = socket.socket(family)
        one.connect(listener.getsockname())
        other, _ = listener.accept()
    return one, other


def as_stream(sock: socket.socket) -> trio.SocketStream:
    """Make a trio stream of a socket."""
    sock.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


def reset(sock: socket.socket) -> None:
    """Close a socket so that the other side gets RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def open_files() -> int:
    """Count the descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


@asynccontextmanager
async def raw_server(
    talk: Callable[[trio.SocketStream], Awaitable[object]], host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """Serve TCP with ``talk`` for each connection, which is closed after it; gives the port."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await talk(stream)

    (listener,) = await trio.open_tcp_listeners(0, host=host)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@functools.cache
def authority() -> trustme.CA:
    """A certificate authority for all tests."""
    return trustme.CA()


def server_context(
    *names: str, issuer: trustme.CA | None = None, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """A server's context with a certificate for the names, localhost and the loopback addresses by default."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (issuer or authority()).issue_cert(*(names or ("localhost", "127.0.0.1", "::1"))).configure_cert(context)
    _pin(context, version)
    return context


def client_context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client's context that trusts the authority of the tests alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    _pin(context, version)
    return context


def _pin(context: ssl.SSLContext, version: ssl.TLSVersion | None) -> None:
    if version is not None:
        context.minimum_version = context.maximum_version = version


class ScriptedTransport(Transport):
    """A transport that gives what a test wrote down, and keeps what it is given.

    Args:
        arriving: what each read gives: bytes, or None for nothing yet; ``b""`` when it is used up.
        endless: when it is used up, nothing comes rather than the end.
    """

    __slots__ = (
        "_reactor",
        "_receiver",
        "_told",
        "_waiting",
        "aborted",
        "arriving",
        "ended",
        "endless",
        "far",
        "held",
        "paused",
        "piece",
        "room",
        "written",
    )

    def __init__(self, arriving: Iterable[bytes | None] = (), *, endless: bool = False) -> None:
        self.arriving = deque(arriving)
        self.endless = endless
        self.error = None
        self.far: ScriptedTransport | None = None
        self.piece = 2**16
        self.written = b""
        self.held = b""
        self.room = True  # False: what is written waits for drain()
        self.ended = False
        self.aborted = False
        self.paused = False
        self._waiting = trio.lowlevel.ParkingLot()
        self._receiver: Receiver | None = None
        self._reactor: Reactor | None = None
        self._told = False

    @classmethod
    def pair(cls, piece: int = 2**16) -> tuple[ScriptedTransport, ScriptedTransport]:
        """Make two that are joined; each read gives at most so many bytes."""
        one, other = cls(endless=True), cls(endless=True)
        one.far, other.far = other, one
        one.piece = other.piece = piece
        return one, other

    def feed(self, data: bytes) -> None:
        """Let some bytes arrive."""
        self.arriving.extend(data[start : start + self.piece] for start in range(0, len(data), self.piece))
        self._come()

    def finish(self) -> None:
        """Let the end arrive, after all else."""
        self.endless = False
        self._come()

    @property
    def unsent(self) -> int:
        return len(self.held)

    @property
    def local_address(self) -> object:
        return ("127.0.0.1", 80)

    @property
    def remote_address(self) -> object:
        return ("127.0.0.1", 4711)

    def write(self, data: bytes) -> None:
        if self.error is not None or self.aborted:
            return
        if self.room:
            self._send(data)
        else:
            self.held += data
            if self._receiver is not None and self._reactor is not None:
                self._reactor.call_soon(self._receiver, self._send_held)

    def _send(self, data: bytes) -> None:
        self.written += data
        if self.far is not None:
            self.far.feed(data)

    async def drain(self) -> None:
        await trio.lowlevel.checkpoint()
        data, self.held = self.held, b""
        self._send(data)

    async def wait_readable(self) -> None:
        if self.endless and not self.arriving and not self.aborted:
            await self._waiting.park()
        else:
            await trio.lowlevel.checkpoint()

    def read(self) -> bytes | None:
        if self.aborted:
            return b""
        if self.arriving:
            return self.arriving.popleft()
        return None if self.endless else b""

    # ---- pushing ----

    def start(self, receiver: Receiver, reactor: Reactor) -> None:
        self._receiver, self._reactor = receiver, reactor
        self._come()

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        self._come()

    def _come(self) -> None:
        self._waiting.unpark_all()
        if self._receiver is not None and self._reactor is not None:
            self._reactor.call_soon(self._receiver, self._push)

    def _push(self) -> None:
        receiver = self._receiver
        if receiver is None or self._told or self.paused or self.aborted:
            return
        data = self.read()
        if data:
            self._come()
            receiver.data_received(data)
        elif data is not None:
            self._told = True
            if self.error is not None:
                receiver.connection_lost(self.error)
            else:
                receiver.eof_received()
        elif self.arriving:
            self._come()

    def _send_held(self) -> None:
        data, self.held = self.held, b""
        self._send(data)
        if self._receiver is not None:
            self._receiver.resume_writing()

    def write_eof(self) -> None:
        assert not self.held
        self.ended = True
        if self.far is not None:
            self.far.finish()

    def abort(self) -> None:
        self.aborted = True
        self.held = b""
        self._come()
        if self.far is not None:
            self.far.finish()
