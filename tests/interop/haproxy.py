"""HAProxy between HTTP/1.1 and HTTP/2, for WebSockets in either direction."""

from __future__ import annotations

import socket
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HOST = "127.0.0.1"
CONFIGURATION = """
global
    maxconn 2000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 600s
listen bridge
    bind {bind}
    server target {host}:{port} {server}
"""
# Front: a client speaks HTTP/2 to HAProxy, which speaks HTTP/1.1 to the server. Back: the other way round.
FRONT_TLS = ("ssl crt {identity} alpn h2,http/1.1", "")
FRONT_CLEAR = ("proto h2", "")
BACK_TLS = ("", "ssl verify none alpn h2")
BACK_CLEAR = ("", "proto h2")
HTTP1_TLS = ("ssl crt {identity} alpn http/1.1", "")


@asynccontextmanager
async def bridging(
    program: str, port: int, sides: tuple[str, str], folder: Path, identity: Path | None = None
) -> AsyncIterator[int]:
    """Run HAProxy as long as the block.

    Args:
        program: the path of ``haproxy``.
        port: where the server is.
        sides: one of the pairs above.
        folder: for the configuration and the log.
        identity: the PEM file with key and certificate, where a client is to speak TLS.

    Yields:
        The port that it listens on. It is bound already: nobody has to wait for HAProxy to come up.
    """
    bind, server = sides
    with socket.create_server((HOST, 0), backlog=1024) as listener:
        own_port: int = listener.getsockname()[1]
        listens_on = f"fd@{listener.fileno()} {bind.format(identity=identity)}"
        configuration = folder / f"haproxy-{own_port}.cfg"
        configuration.write_text(CONFIGURATION.format(bind=listens_on, host=HOST, port=port, server=server))
        with (folder / f"haproxy-{own_port}.log").open("wb") as log:
            process = await trio.lowlevel.open_process(
                [program, "-db", "-f", str(configuration)],  # -db: in the foreground
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[listener.fileno()],
            )
        try:
            yield own_port
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
