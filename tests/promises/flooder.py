"""A hostile peer, as a process of its own: several clients that send tiny messages as fast as they can.

Started as ``flooder.py PORT CLIENTS 1`` or, for HTTP/2, ``... 2``. It writes a line when all have begun, and ends when
its standard input does.
"""

from __future__ import annotations

import base64
import contextlib
import os
import selectors
import socket
import struct
import sys

import hpack

EMPTY_TEXT = b"\x81\x80" + bytes(4)  # masked
HEADERS, WINDOW_UPDATE = 1, 8
FRAME = struct.Struct(">BHBBL")


class Flooder:
    """A client over HTTP/1.1."""

    events = selectors.EVENT_WRITE
    flood = EMPTY_TEXT * 10_000

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.left = memoryview(self.flood)
        self.open()
        self.sock.setblocking(False)

    def open(self) -> None:
        """Open a WebSocket."""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = ["GET /flood HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
        self.sock.sendall("\r\n".join(lines).encode())
        assert self.sock.recv(4096).startswith(b"HTTP/1.1 101 ")

    def go_on(self) -> None:
        """Send what goes now."""
        self.left = self.left[self.sock.send(self.left) :] or memoryview(self.flood)


class Http2Flooder(Flooder):
    """A client over HTTP/2, that keeps to the windows."""

    events = selectors.EVENT_READ | selectors.EVENT_WRITE
    flood = FRAME.pack(0, 12_000, 0, 0, 1) + EMPTY_TEXT * 2000

    def open(self) -> None:
        """Open a WebSocket."""
        self._windows = {0: 65535, 1: 65535}
        self._heard = b""
        fields = {":method": "CONNECT", ":protocol": "websocket", ":scheme": "http", ":authority": "x"}
        fields |= {":path": "/flood", "sec-websocket-version": "13"}
        block = hpack.Encoder().encode(list(fields.items()))
        settings = FRAME.pack(0, 0, 4, 0, 0)
        opening = settings + FRAME.pack(0, len(block), HEADERS, 4, 1) + block
        self.sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + opening)
        while HEADERS not in self._hear():
            pass

    def _hear(self) -> list[int]:
        self._heard += self.sock.recv(65536)
        kinds = []
        while len(self._heard) >= FRAME.size:
            high, low, kind, _, stream_id = FRAME.unpack_from(self._heard)
            end = FRAME.size + (high << 16 | low)
            if len(self._heard) < end:
                break
            if kind == WINDOW_UPDATE:
                self._windows[stream_id] += int.from_bytes(self._heard[FRAME.size : end])
            kinds.append(kind)
            self._heard = self._heard[end:]
        return kinds

    def go_on(self) -> None:
        """Send what goes now, and listen."""
        with contextlib.suppress(BlockingIOError):
            self._hear()
        if len(self.left) == len(self.flood):
            if min(self._windows.values()) < len(self.flood):
                return
            for stream_id in self._windows:
                self._windows[stream_id] -= len(self.flood) - FRAME.size
        with contextlib.suppress(BlockingIOError):
            super().go_on()


def main(port: int, clients: int, flooder: type[Flooder]) -> None:
    """Flood until the standard input ends."""
    selector = selectors.DefaultSelector()
    for _ in range(clients):
        made = flooder(port)
        selector.register(made.sock, flooder.events, made)
    selector.register(sys.stdin, selectors.EVENT_READ)
    print("flooding", flush=True)
    while True:
        for ready, _ in selector.select():
            if ready.data is None:
                return
            ready.data.go_on()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Http2Flooder if sys.argv[3] == "2" else Flooder)
