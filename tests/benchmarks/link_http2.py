"""The generator's end of HTTP/2: each WebSocket a stream that looks like a socket; no more than a server needs."""

from __future__ import annotations

import socket
import ssl

import hpack

from tests.benchmarks.link import EXTENSION, Link, prepare
from tests.benchmarks.subjects import HOST

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
MOST = 2**14  # bytes in one frame
WINDOW = 2**30


def http2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Write one frame (RFC 9113 §4.1)."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


class Http2Client:
    """One connection, blocking; our windows are too large to matter, the peer's are kept.

    Args:
        port: of a server under test.
        context: which offers h2.
    """

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["h2"])
        sock = socket.create_connection((HOST, port))
        prepare(sock)
        self.sock = context.wrap_socket(sock, server_hostname="localhost")
        if self.sock.selected_alpn_protocol() != "h2":
            raise ConnectionError("no HTTP/2")
        self._port = port
        self._encoder = hpack.Encoder()
        self._ahead = bytearray()
        self._next = 1
        self._initial = 65535
        self._window = 65535
        self._windows: dict[int, int] = {}
        self.heard: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        settings = (4).to_bytes(2, "big") + WINDOW.to_bytes(4, "big")
        self.sock.sendall(
            PREFACE
            + http2_frame(SETTINGS, 0, 0, settings)
            + http2_frame(WINDOW_UPDATE, 0, 0, (WINDOW - 65535).to_bytes(4, "big"))
        )
        self.step()  # its SETTINGS: may a CONNECT be extended?

    def open(self, *, deflate: bool = False) -> Link:
        """Open a WebSocket."""
        number, self._next = self._next, self._next + 2
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
        self._windows[number] = self._initial
        self.heard[number] = bytearray()
        self.sock.sendall(http2_frame(HEADERS, END_HEADERS, number, self._encoder.encode(fields)))
        stream = Http2Socket(self, number)
        stream.wait_answer()
        return Link(stream, masked=True, deflate=deflate, raw=False)  # type: ignore[arg-type]  # it has what is used

    def room(self, number: int) -> int:
        """How many bytes may be sent on a stream now."""
        return min(MOST, self._window, self._windows[number])

    def sent(self, number: int, size: int) -> None:
        """Note what was sent."""
        self._window -= size
        self._windows[number] -= size

    def step(self) -> tuple[int, int]:
        """Read one frame and do what it says; return its kind and its stream."""
        while len(self._ahead) < 9 or len(self._ahead) < 9 + int.from_bytes(self._ahead[:3], "big"):
            data = self.sock.recv(2**18)
            if not data:
                raise ConnectionError("the side under test has ended the connection")
            self._ahead += data
        size = int.from_bytes(self._ahead[:3], "big")
        kind, flags, number = self._ahead[3], self._ahead[4], int.from_bytes(self._ahead[5:9], "big")
        payload = bytes(self._ahead[9 : 9 + size])
        del self._ahead[: 9 + size]
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

    def __init__(self, connection: Http2Client, number: int) -> None:
        self._connection = connection
        self._number = number

    def wait_answer(self) -> None:
        """Wait for the headers; whoever takes no WebSocket will not send data either, and the run fails."""
        while self._connection.step() != (HEADERS, self._number):
            pass

    def sendall(self, data: bytes) -> None:
        """Send, as the windows allow."""
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
        heard = self._connection.heard[self._number]
        while not heard and self._number not in self._connection.ended:
            self._connection.step()
        data = bytes(heard[:size])
        del heard[:size]
        return data

    def recv_into(self, buffer: memoryview, size: int) -> int:
        """As recv()."""
        data = self.recv(size)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """End the stream; the connection lives on."""
        self._connection.sock.sendall(http2_frame(DATA, END_STREAM, self._number, b""))
