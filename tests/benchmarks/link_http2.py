"""The generator's end of HTTP/2: each WebSocket a stream that looks like a socket; no more than a server needs."""

from __future__ import annotations

import socket
import ssl
import struct

import hpack

from tests.benchmarks.link import CHUNK, EXTENSION, Link, prepare
from tests.benchmarks.subjects import HOST

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
MOST = 2**14  # bytes in one frame
WINDOW = 2**30
CANCEL = (8).to_bytes(4, "big")
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, ENABLE_CONNECT_PROTOCOL = 3, 4, 8

HEAD = struct.Struct(">BHBBL")


def http2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Write one frame (RFC 9113 §4.1)."""
    size = len(payload)
    return HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


class Http2Link:
    """One connection, blocking; our windows are too large to matter, the peer's are kept.

    Args:
        sock: after the handshake of TLS.
        preface: what this side sends first.
        settings: this side's.
        ends: whether the side under test ends its streams; else this side resets them.
    """

    def __init__(self, sock: ssl.SSLSocket, preface: bytes, settings: dict[int, int], *, ends: bool = True) -> None:
        if sock.selected_alpn_protocol() != "h2":
            raise ConnectionError("no HTTP/2")
        self.sock = sock
        self.encoder = hpack.Encoder()
        self._buffer = memoryview(bytearray(CHUNK))
        self._ahead = b""  # received
        self._at = 0  # how far it has been read
        self._initial = 65535
        self._window = 65535
        self._windows: dict[int, int] = {}
        self.ends = ends
        self.heard: dict[int, bytes] = {}
        self.ended: set[int] = set()
        settings = {**settings, INITIAL_WINDOW_SIZE: WINDOW}
        payload = b"".join(struct.pack(">HL", *setting) for setting in settings.items())
        self.sock.sendall(
            preface
            + http2_frame(SETTINGS, 0, 0, payload)
            + http2_frame(WINDOW_UPDATE, 0, 0, (WINDOW - 65535).to_bytes(4, "big"))
        )

    def begin(self, number: int) -> Http2Socket:
        """Begin a stream."""
        self._windows[number] = self._initial
        self.heard[number] = b""
        return Http2Socket(self, number)

    def send_headers(self, number: int, fields: list[tuple[str, str]]) -> None:
        """Send a header block."""
        self.sock.sendall(http2_frame(HEADERS, END_HEADERS, number, self.encoder.encode(fields)))

    def room(self, number: int) -> int:
        """How many bytes may be sent on a stream now."""
        return min(MOST, self._window, self._windows[number])

    def sent(self, number: int, size: int) -> None:
        """Note what was sent."""
        self._window -= size
        self._windows[number] -= size

    def _next_head(self) -> tuple[int, int, int, int]:
        while True:
            waiting = len(self._ahead) - self._at
            if waiting >= HEAD.size:
                high, low, kind, flags, number = HEAD.unpack_from(self._ahead, self._at)
                size = high << 16 | low
                if waiting >= HEAD.size + size:
                    return size, kind, flags, number
            received = self.sock.recv_into(self._buffer)
            if not received:
                raise ConnectionError("the side under test has ended the connection")
            self._ahead = self._ahead[self._at :] + bytes(self._buffer[:received])
            self._at = 0

    def step(self) -> tuple[int, int]:
        """Read one frame and do what it says; return its kind and its stream."""
        size, kind, flags, number = self._next_head()
        start, self._at = self._at + HEAD.size, self._at + HEAD.size + size
        payload = self._ahead[start : self._at]
        if kind == DATA:
            self.heard[number] += payload
        elif kind in (RST_STREAM, GOAWAY):
            self.ended.add(number)
        elif kind == SETTINGS and not flags & ACK:
            for index in range(0, size, 6):
                if payload[index : index + 2] == b"\0\4":
                    self._initial = int.from_bytes(payload[index + 2 : index + 6], "big")
            self.sock.sendall(http2_frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.sock.sendall(http2_frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE and number:
            self._windows[number] += int.from_bytes(payload, "big")
        elif kind == WINDOW_UPDATE:
            self._window += int.from_bytes(payload, "big")
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.ended.add(number)
        return kind, number


class Http2Socket:
    """One stream, with as much of a socket's methods as a Link uses."""

    def __init__(self, connection: Http2Link, number: int) -> None:
        self._connection = connection
        self._number = number

    def sendall(self, data: bytes) -> None:
        """Send, as the windows allow."""
        if len(data) <= self._connection.room(self._number):
            self._connection.sock.sendall(http2_frame(DATA, 0, self._number, data))
            self._connection.sent(self._number, len(data))
            return
        view = memoryview(data)
        while view:
            size = min(len(view), self._connection.room(self._number))
            if size <= 0:
                self._connection.step()
                continue
            self._connection.sock.sendall(http2_frame(DATA, 0, self._number, bytes(view[:size])))
            self._connection.sent(self._number, size)
            view = view[size:]

    def recv(self, size: int) -> bytes:
        """Receive something, or nothing at the end."""
        connection, number = self._connection, self._number
        while not (heard := connection.heard[number]) and number not in connection.ended:
            connection.step()
        if len(heard) <= size:
            connection.heard[number] = b""
            return heard
        connection.heard[number] = heard[size:]
        return heard[:size]

    def recv_into(self, buffer: memoryview, size: int) -> int:
        """As recv()."""
        data = self.recv(size)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """End the stream; the connection lives on."""
        if self._connection.ends:
            last = http2_frame(DATA, END_STREAM, self._number, b"")
        else:  # it has forgotten the stream, and falls over more DATA
            last = http2_frame(RST_STREAM, 0, self._number, CANCEL)
        self._connection.sock.sendall(last)


class Http2Client(Http2Link):
    """The client's end.

    Args:
        port: of a server under test.
        context: which offers h2.
        ends: whether the server ends its streams.
    """

    def __init__(self, port: int, context: ssl.SSLContext, *, ends: bool = True) -> None:
        context.set_alpn_protocols(["h2"])
        sock = socket.create_connection((HOST, port))
        prepare(sock)
        super().__init__(context.wrap_socket(sock, server_hostname="localhost"), PREFACE, {}, ends=ends)
        self._port = port
        self._next = 1
        self.step()  # its SETTINGS: may a CONNECT be extended?

    def open(self, *, deflate: bool = False) -> Link:
        """Open a WebSocket."""
        number, self._next = self._next, self._next + 2
        stream = self.begin(number)
        fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":path", "/"),
            (":authority", f"localhost:{self._port}"),
            ("sec-websocket-version", "13"),
        ]
        if deflate:
            fields.append(("sec-websocket-extensions", EXTENSION))
        self.send_headers(number, fields)
        # Whoever takes no WebSocket will not send data either, and the run fails.
        while self.step() != (HEADERS, number):
            pass
        return Link(stream, masked=True, deflate=deflate, raw=False, ends=self.ends)  # type: ignore[arg-type]  # it has what is used


class Http2Server(Http2Link):
    """The server's end.

    Args:
        listener: where a client under test connects to.
        context: which chooses h2.
    """

    def __init__(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["h2"])
        sock, _ = listener.accept()
        prepare(sock)
        super().__init__(
            context.wrap_socket(sock, server_side=True),
            b"",
            {MAX_CONCURRENT_STREAMS: 2**16, ENABLE_CONNECT_PROTOCOL: 1},
        )
        missing = len(PREFACE)
        while missing:
            missing -= len(self.sock.recv(missing))

    def open(self) -> Link:
        """Accept the next WebSocket."""
        kind = 0
        while kind != HEADERS:
            kind, number = self.step()
        stream = self.begin(number)
        self.send_headers(number, [(":status", "200")])
        return Link(stream, masked=False, deflate=False, raw=False)  # type: ignore[arg-type]  # it has what is used
