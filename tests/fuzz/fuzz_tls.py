"""Any bytes where TLS is expected end the handshake or the connection by an error of TLS, and raise nothing else."""

from __future__ import annotations

import contextlib
import functools
import ssl

from trio_ws import InvalidHandshake
from trio_ws._net.dial import start_tls
from trio_ws._net.tls import TLSTransport

from ..raw import ScriptedTransport, client_context, server_context
from .choices import Choices, finish, seed

ALPN = ("h2", "http/1.1")
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
HELLO = b"hello" * 10
SERVER, CLIENT = 0, 1
TLS12, TLS13 = 0, 1
UNCHANGED = 0
_RECORDS = [
    b"\x15\x03\x03\x00\x02\x02\x28",  # an alert: handshake_failure
    b"\x15\x03\x03\x00\x02\x01\x00",  # an alert: close_notify
    b"\x14\x03\x03\x00\x01\x01",
    b"\x16\x03\x01\x00\x04\x00\x00\x00\x00",
    b"\x16\x03\x03\x40\x01" + bytes(100),
    b"\x17\x03\x03\x00\x05hello",
    b"\x17\x03\x03\x00\x00",
    b"\x18\x03\x03\x00\x03\x01\x40\x00",
    b"\xff\x03\x03\x00\x01\x00",
    b"GET / HTTP/1.1\r\n\r\n",
    b"",
]
SIDES = [(side, version) for side in (SERVER, CLIENT) for version in (TLS12, TLS13)]
SEEDS = [seed(*side, step, 0, UNCHANGED, record) for record in _RECORDS for side in SIDES for step in (0, 1, 3)]
SEEDS += [seed(*side, step, at, 1) for side in SIDES for step in range(4) for at in (0, 1, 11, 30)]


def TestOneInput(data: bytes) -> None:
    """Read data: our side, the version, the flight in which the peer goes wrong, where and how, and what it adds."""
    choices = Choices(data)
    side, version = choices.byte() % 2, VERSIONS[choices.byte() % 2]
    client, server = contexts(version)
    peer = Peer(server if side == CLIENT else client, choices, server_side=side == CLIENT)
    below = _Network(peer)
    try:
        if side == CLIENT:
            ours = finish(start_tls(below, client, "localhost", ALPN))
        else:
            ours = TLSTransport(below, server, server_side=True, alpn=ALPN)
            finish(ours.handshake())
    except (ssl.SSLError, InvalidHandshake):
        return
    assert ours.alpn in ALPN
    assert ours.tls.version() == version.name.replace("_", ".")
    below.feed(peer.seal(HELLO))
    below.finish()
    use(ours)


def use(ours: TLSTransport) -> None:
    """Read to the end, and write: neither raises, and what is read is what the peer wrote."""
    ours.write(HELLO)
    read = b""
    for _ in range(100):
        data = ours.read()
        if data == b"":
            break
        read += data or b""
    assert ours.read() == b"", "it has ended"
    assert HELLO.startswith(read)
    assert ours.error is None or isinstance(ours.error, ssl.SSLError)
    ours.write(HELLO)
    ours.write_eof()
    ours.abort()


@functools.cache
def contexts(version: ssl.TLSVersion) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make contexts that agree, of a client and of a server."""
    client, server = client_context(version), server_context(version=version)
    for context in (client, server):
        context.set_alpn_protocols(["http/1.1"])
    return client, server


class Peer:
    """The other side, by the standard library, that goes wrong in one of its flights.

    Args:
        context: its own.
        choices: which flight that is, the place in it, the bits that change there, and what follows.
        server_side: which side it is.
    """

    def __init__(self, context: ssl.SSLContext, choices: Choices, *, server_side: bool) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=name)
        self._good = choices.byte() % 4
        self._place, self._change = choices.byte() * 4, choices.byte()
        self._more = choices.rest()

    def answer(self, records: bytes) -> bytes:
        """Go on with the handshake; give the next flight."""
        self._incoming.write(records)
        with contextlib.suppress(ssl.SSLError):  # what it hears in answer to nonsense may be an alert
            self._tls.do_handshake()
        return self._spoil(self._outgoing.read())

    def seal(self, data: bytes) -> bytes:
        """Give the records that carry some bytes."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.write(data)
        return self._spoil(self._outgoing.read())

    def _spoil(self, flight: bytes) -> bytes:
        self._good -= 1
        if self._good != -1:
            return flight
        changed = bytearray(flight)
        if changed:
            changed[self._place % len(changed)] ^= self._change
        return bytes(changed) + self._more


class _Network(ScriptedTransport):
    """Carries records to the peer, and has its answer at once; when it has none, that is the end."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(endless=True)
        self._peer = peer

    async def wait_readable(self) -> None:
        if not self.arriving:
            records, self.written = self.written, b""
            flight = self._peer.answer(records)
            if flight:
                self.feed(flight)
            else:
                self.finish()
