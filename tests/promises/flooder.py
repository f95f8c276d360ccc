"""A hostile peer, as a process of its own: several clients that send tiny messages as fast as they can.

Started as ``flooder.py PORT CLIENTS``. It writes a line when all have begun, and ends when its standard input does.
"""

from __future__ import annotations

import base64
import os
import selectors
import socket
import sys


def main(port: int, clients: int) -> None:
    """Flood until the standard input ends."""
    selector = selectors.DefaultSelector()
    flood = (b"\x81\x80" + bytes(4)) * 10_000  # empty texts, masked
    left: dict[socket.socket, memoryview] = {}
    for _ in range(clients):
        sock = socket.create_connection(("127.0.0.1", port))
        key = base64.b64encode(os.urandom(16)).decode()
        lines = ["GET /flood HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
        sock.sendall("\r\n".join(lines).encode())
        assert sock.recv(4096).startswith(b"HTTP/1.1 101 ")
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_WRITE)
        left[sock] = memoryview(flood)
    selector.register(sys.stdin, selectors.EVENT_READ)
    print("flooding", flush=True)
    while True:
        for ready, _ in selector.select():
            flooding = ready.fileobj
            if not isinstance(flooding, socket.socket):
                return
            sent = flooding.send(left[flooding])
            left[flooding] = left[flooding][sent:] or memoryview(flood)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
