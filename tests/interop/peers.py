"""Programs of other libraries as peers of ours: how they are started, spoken to and ended.

A peer is a script that is started as ``SCRIPT server [--plain]`` or ``SCRIPT client URL [--plain]``; ``--plain``
switches its compression off, and with ``--sockets=N`` a client of HTTP/2 opens N WebSockets on one connection. A peer
with TLS finds its files by the variables TLS_IDENTITY (key and certificate of a server) and TLS_AUTHORITY (whom a
client trusts). What it does on a connection is said by the last part of the URL's path:

* echo: send every message back;
* hello: send ``{"protocol": ..., "header": ...}`` first, the subprotocol and our X-Test header as the peer sees them;
* fragments: send FRAGMENTED first, each in the fragments that the peer likes;
* ping: send a ping with PING_PAYLOAD, wait for its pong, send "pong: " and what it held as text;
* where: send ``{"connection": ...}`` first, a number of its HTTP/2 connection, if the peer knows one;
* big: send BIG first, close: close with PEER_CLOSE, bye: close with 1000, each in place of the echo;
* reject: a server refuses with REJECTION.

Then it goes on as with echo. It writes lines of JSON to its standard output: a server its port, then both how each
connection ended for it: ``{"code": ..., "reason": ...}``, or ``{"status", "header", "body"}`` when it was rejected.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
from abc import ABC, abstractmethod
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

import trio_ws

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

HERE = Path(__file__).parent
HOST = "127.0.0.1"
TIMEOUT = 30.0  # seconds for any one test: none needs a tenth of it

PROTOCOLS = ("chat.v2", "chat.v1")
CHOSEN_PROTOCOL = "chat.v1"
OUR_HEADER = ("X-Test", "from us")
PEER_HEADER = ("X-Test", "from the peer")

TEXT = "déjà vu €5 \N{GRINNING FACE}"
FRAGMENTED = (TEXT, bytes(range(256)))
BIG = "x" * 2000
PING_PAYLOAD = "are you there"
PEER_CLOSE = (4001, "the peer says goodbye")
REJECTION = (403, "no way")


def require(*programs: str) -> str:
    """Find the first of several programs on the path.

    Where there is none, CI fails and a developer's run skips the test.
    """
    for program in programs:
        found = shutil.which(program)
        if found is not None:
            return found
    reason = f"{' or '.join(programs)} is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class Output:
    """What a peer writes, line by line."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._data = bytearray()

    async def line(self) -> dict[str, object]:
        """Return the next line.

        Raises:
            EOFError: the peer ended.
        """
        while b"\n" not in self._data:
            chunk = await self._stream.receive_some()
            if not chunk:
                raise EOFError(f"the peer ended after {bytes(self._data)!r}")
            self._data += chunk
        end = self._data.index(b"\n")
        line = bytes(self._data[:end])
        del self._data[: end + 1]
        parsed = json.loads(line)
        assert isinstance(parsed, dict)
        return parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """A certificate for this machine's loopback, for our side and for a peer.

    Attributes:
        server_context: of a server of ours.
        client_context: of a client of ours.
        identity: a PEM file with the key and the certificate.
        authority: a PEM file with the certificate of who signed it.
    """

    server_context: ssl.SSLContext
    client_context: ssl.SSLContext
    identity: Path
    authority: Path

    @classmethod
    def create(cls, folder: Path) -> TLS:
        """Make a certificate whose files are in a folder."""
        authority = trustme.CA()
        certificate = authority.issue_cert(HOST, "localhost")
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(server_context)
        client_context = ssl.create_default_context()
        authority.configure_trust(client_context)
        identity, trusted = folder / "identity.pem", folder / "authority.pem"
        certificate.private_key_and_cert_chain_pem.write_to_path(str(identity))
        authority.cert_pem.write_to_path(str(trusted))
        return cls(server_context=server_context, client_context=client_context, identity=identity, authority=trusted)


class Peer(ABC):
    """Another program, as a server or as a client.

    Attributes:
        tls: how we speak with it over TLS; None: in the clear.
        http_version: the HTTP that our side speaks with it.
    """

    tls: TLS | None
    http_version: str

    @abstractmethod
    def serving(self, *arguments: str) -> AbstractAsyncContextManager[tuple[Output, str]]:
        """Run it as a server as long as the block; gives what it writes, and its URL without a path."""

    @abstractmethod
    def connecting(self, url: str, *arguments: str) -> AbstractAsyncContextManager[Output]:
        """Run it as a client as long as the block; gives what it writes."""

    def agent(self) -> trio_ws.Agent:
        """The agent of our client."""
        context = None if self.tls is None else self.tls.client_context
        return trio_ws.Agent(allow_h2=self.http_version == "2", ssl_context=context)

    @property
    def server_context(self) -> ssl.SSLContext | None:
        """The TLS of our server."""
        return None if self.tls is None else self.tls.server_context

    def url_of(self, port: int) -> str:
        """The URL, without a path, of a server of ours or of the peer's."""
        return f"{'ws' if self.tls is None else 'wss'}://{HOST}:{port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program(Peer):
    """A peer that is a program of its own.

    Attributes:
        command: the program and what follows it in front of the role.
        environment: variables to add to ours.
    """

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    tls: TLS | None = None
    http_version: str = "1.1"

    @asynccontextmanager
    async def serving(self, *arguments: str) -> AsyncIterator[tuple[Output, str]]:
        """Run it as a server as long as the block."""
        async with self._started("server", *arguments) as output:
            port = (await output.line())["port"]
            assert isinstance(port, int)
            yield output, self.url_of(port)

    def connecting(self, url: str, *arguments: str) -> AbstractAsyncContextManager[Output]:
        """Run it as a client as long as the block."""
        return self._started("client", url, *arguments)

    @asynccontextmanager
    async def _started(self, *arguments: str) -> AsyncIterator[Output]:
        files = {}
        if self.tls is not None:
            files = {"TLS_IDENTITY": str(self.tls.identity), "TLS_AUTHORITY": str(self.tls.authority)}
        process = await trio.lowlevel.open_process(
            [*self.command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={**os.environ, **files, **self.environment},
        )
        assert process.stdout is not None
        async with process.stdout:
            try:
                yield Output(process.stdout)
            finally:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()


def python_peer(script: str, *arguments: str, tls: TLS | None = None, http_version: str = "1.1") -> Program:
    """A peer that is a script of the folder ``python``."""
    command = (sys.executable, str(HERE / "python" / script), *arguments)
    return Program(command=command, tls=tls, http_version=http_version)
