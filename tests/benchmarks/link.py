"""The generator's end of one connection: blocking, written by hand, and cheap enough never to be what is measured."""

from __future__ import annotations

import base64
import hashlib
import socket
import zlib
from itertools import cycle, islice
from typing import TYPE_CHECKING

from tests.benchmarks.orders import DONE
from tests.benchmarks.payloads import payloads
from tests.benchmarks.subjects import HOST

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
EXTENSION = "permessage-deflate"
MASK = b"\x01\x02\x03\x04"
CHUNK = 2**18  # bytes that are handed to the kernel at once
TIMEOUT = 60.0  # seconds

TEXT, BINARY, CLOSE = 0x81, 0x82, 0x88
COMPRESSED = 0x40


def frame(first: int, body: bytes, *, masked: bool) -> bytes:
    """Write one frame; masking it with a mask that is not all zero costs the other side what any mask does."""
    size = len(body)
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 2**16:
        head = bytes((first, bit | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, bit | 127)) + size.to_bytes(8, "big")
    if not masked:
        return head + body
    mask = int.from_bytes((MASK * (size // 4 + 1))[:size], "big")
    return head + MASK + (int.from_bytes(body, "big") ^ mask).to_bytes(size, "big")


def deflated(body: bytes) -> bytes:
    """Compress a message so that it can be sent again and again: it refers to nothing before it."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(body) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


class Link:
    """One open connection.

    Args:
        sock: connected, after the handshakes of TLS and WebSocket.
        masked: whether this end is the client.
        deflate: whether permessage-deflate was agreed on.
        raw: whether there are no frames at all.
        ends: whether the other side ends the connection, or the stream, after its Close.
    """

    def __init__(self, sock: socket.socket, *, masked: bool, deflate: bool, raw: bool, ends: bool = True) -> None:
        self.sock = sock
        self._masked = masked
        self._deflate = deflate
        self._raw = raw
        self._ends = ends
        self.received = 0  # bytes
        self._endless: dict[int, Iterator[bytes]] = {}
        self._buffer = memoryview(bytearray(CHUNK))
        self._ahead = b""  # received, not looked at

    def messages(self, size: int) -> Iterator[bytes]:
        """Write binary messages of a size as they go over this connection, and go on where the last ones ended."""
        if size not in self._endless:
            bodies: Iterable[bytes] = payloads(size)
            first = BINARY
            if self._deflate and not self._raw:
                bodies, first = map(deflated, bodies), BINARY | COMPRESSED
            self._endless[size] = cycle(
                [body if self._raw else frame(first, body, masked=self._masked) for body in bodies]
            )
        return self._endless[size]

    def answer_size(self, size: int) -> int:
        """Tell how many bytes come for a message of this size, if it is not compressed."""
        return size if self._raw else len(frame(BINARY, bytes(size), masked=not self._masked))

    def order(self, words: str) -> None:
        """Send an order."""
        if not self._raw:
            self.sock.sendall(frame(TEXT, words.encode(), masked=self._masked))

    def await_done(self) -> None:
        """Read up to the answer to an order."""
        if not self._raw:
            while True:
                first, body = self.read_frame()
                if first & 0x0F == 1:
                    assert first & COMPRESSED or body == DONE.encode(), body
                    return

    def echo(self, size: int, count: int) -> None:
        """Have messages echoed, one by one."""
        messages = islice(self.messages(size), count)
        self.order(f"echo {count}")
        if self._deflate:
            for data in messages:
                self.sock.sendall(data)
                self.read_frame()
        else:
            answer = self.answer_size(size)
            for data in messages:
                self.sock.sendall(data)
                self.skip(answer)
        self.await_done()

    def skip_answer(self, size: int) -> None:
        """Read the echo of a message of this size."""
        if self._deflate:
            self.read_frame()
        else:
            self.skip(self.answer_size(size))

    def flood(self, verb: str, size: int, count: int) -> None:
        """Send messages as fast as they are taken."""
        messages = self.messages(size)
        self.order(f"{verb} {count}")
        while count:
            block = b""
            while count and len(block) < CHUNK:
                block += next(messages)
                count -= 1
            self.sock.sendall(block)
        self.await_done()

    def take(self, size: int, count: int) -> None:
        """Have messages sent, and read them."""
        self.order(f"send {count} {size}")
        if not self._deflate:
            self.skip(count * len(frame(BINARY, bytes(size), masked=not self._masked)))
        self.await_done()

    def close(self) -> None:
        """Close as a WebSocket should, and wait for the other end to do so too."""
        if not self._raw:
            self.sock.sendall(frame(CLOSE, b"\x03\xe8", masked=self._masked))
            while self.read_frame()[0] != CLOSE:
                pass
            while self._ends and self.sock.recv(CHUNK):
                pass
        self.sock.close()

    def answer_close(self) -> None:
        """Wait for the other end's Close, answer it, and end the connection."""
        while self.read_frame()[0] != CLOSE:
            pass
        self.sock.sendall(frame(CLOSE, b"\x03\xe8", masked=self._masked))
        self.sock.close()

    def skip(self, size: int) -> None:
        """Read so many bytes."""
        taken = min(size, len(self._ahead))
        self._ahead = self._ahead[taken:]
        size -= taken
        while size:
            received = self.sock.recv_into(self._buffer, min(size, CHUNK))
            if not received:
                raise ConnectionError("the side under test has ended the connection")
            size -= received
            self.received += received

    def read(self, size: int) -> bytes:
        """Read exactly so many bytes."""
        while len(self._ahead) < size:
            data = self.sock.recv(CHUNK)
            if not data:
                raise ConnectionError("the side under test has ended the connection")
            self._ahead += data
            self.received += len(data)
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data

    def read_frame(self) -> tuple[int, bytes]:
        """Read one frame; give its first byte and its payload, without its mask."""
        first, second = self.read(2)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(self.read(2 if size == 126 else 8), "big")
        mask = self.read(4) if second & 0x80 else bytes(4)
        body = self.read(size)
        if any(mask):
            key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
            body = (int.from_bytes(body, "big") ^ key).to_bytes(size, "big")
        return first, body


def read_head(sock: socket.socket) -> bytes:
    """Read an HTTP head, and nothing after it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = sock.recv(1)
        if not data:
            raise ConnectionError(f"no whole HTTP head: {head!r}")
        head += data
    return head


def prepare(sock: socket.socket) -> None:
    """Have small writes go at once, and never wait for ever."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(TIMEOUT)


def connect(port: int, context: ssl.SSLContext | None, *, deflate: bool, raw: bool) -> Link:
    """Connect to a server under test."""
    sock = socket.create_connection((HOST, port))
    prepare(sock)
    if context is not None:
        sock = context.wrap_socket(sock, server_hostname="localhost")
    if not raw:
        offer = f"Sec-WebSocket-Extensions: {EXTENSION}\r\n" if deflate else ""
        sock.sendall(
            f"GET / HTTP/1.1\r\nHost: localhost:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n".encode()
        )
        head = read_head(sock)
        if not head.startswith(b"HTTP/1.1 101") or (EXTENSION.encode() in head) is not deflate:
            raise ConnectionError(f"not the answer that was asked for: {head!r}")
    return Link(sock, masked=True, deflate=deflate, raw=raw)


def accept(listener: socket.socket, context: ssl.SSLContext | None, *, deflate: bool, raw: bool) -> Link:
    """Accept a client under test."""
    sock, _ = listener.accept()
    prepare(sock)
    if context is not None:
        sock = context.wrap_socket(sock, server_side=True)
    if not raw:
        fields = dict(line.split(b": ", 1) for line in read_head(sock).split(b"\r\n")[1:-2])
        fields = {name.lower(): value for name, value in fields.items()}
        digest = hashlib.sha1(fields[b"sec-websocket-key"] + GUID.encode()).digest()
        accepted = f"Sec-WebSocket-Extensions: {EXTENSION}\r\n" if deflate else ""
        sock.sendall(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}\r\n{accepted}\r\n".encode()
        )
    return Link(sock, masked=False, deflate=deflate, raw=raw)
