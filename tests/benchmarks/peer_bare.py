"""What trio itself costs at the least: no streams and no WebSocket, a socket is waited for, read and written.

The waiting is trio's, and each message is followed by a checkpoint, as it is in every library on trio that keeps its
rules. TLS is an ``ssl.SSLObject`` between two memory BIOs. Nothing is looked at, and no error is handled.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING

import trio

from tests.benchmarks.subjects import HOST, Task, say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SIZE = 65536  # bytes of a read
RECORD = 16384  # bytes that a TLS record holds at most


async def send_all(sock: socket.socket, data: bytes) -> None:
    """Send, waiting only if there is no room."""
    while data:
        try:
            data = data[sock.send(data) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)


async def echo(sock: socket.socket) -> None:
    """Send back what comes."""
    while True:
        await trio.lowlevel.wait_readable(sock)
        data = sock.recv(SIZE)
        if not data:
            return
        await send_all(sock, data)
        await trio.lowlevel.checkpoint()


async def echo_tls(context: ssl.SSLContext, server_side: bool, sock: socket.socket) -> None:
    """Send back what comes, over TLS."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side, None if server_side else "localhost")
    shaken = False
    while True:
        with contextlib.suppress(ssl.SSLWantReadError):
            if not shaken:
                tls.do_handshake()
                shaken = True
            pass_on(tls)  # the first message may have come with the end of the handshake
        await send_all(sock, outgoing.read())
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.wait_readable(sock)
        data = sock.recv(SIZE)
        if not data:
            return
        incoming.write(data)


def pass_on(tls: ssl.SSLObject) -> None:
    """Write what is read, as long as there is something."""
    while True:
        tls.write(tls.read(RECORD))


async def main(task: Task) -> None:
    """Serve or connect, and echo."""
    work: Callable[[socket.socket], Awaitable[None]] = echo
    if task.ssl_context is not None:
        work = partial(echo_tls, task.ssl_context, task.role == "server")
    if task.role == "client":
        await work(prepare(socket.create_connection((HOST, task.port))))
        return
    with socket.create_server((HOST, 0)) as listener:
        listener.setblocking(False)
        say(listener.getsockname()[1])
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(listener)
                nursery.start_soon(work, prepare(listener.accept()[0]))


def prepare(sock: socket.socket) -> socket.socket:
    """Set what everybody sets."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
