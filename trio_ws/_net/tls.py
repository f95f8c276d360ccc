"""TLS over any transport: an ``ssl.SSLObject`` between two memory BIOs, so that it stays synchronous.

Nothing of TLS ever waits: :meth:`TLSTransport.write` turns plain bytes into records for the transport below, and
:meth:`TLSTransport.data_received` turns records from below into plain bytes, which it pushes on. Only the handshake
waits, for the peer.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

import trio

from .._transport import Transport
from .alpn import offered, selected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._reactor import Reactor
    from .._transport import Receiver

PLAIN_SIZE = 2**14  # what a record holds at most (RFC 8446 §5.1): a read leaves nothing of one
WRITE_SIZE = 2**17  # of a large payload, encrypted at once


class TLSTransport(Transport):
    """TLS over another transport, which it owns.

    Args:
        below: carries the records.
        context: how to verify and what to speak.
        server_side: which side of TLS this is.
        server_hostname: whom a client expects; None on a server.
        alpn: the protocols to offer or to select from, the preferred first (RFC 7301). ``context``, where Python's ssl
            keeps them, has them for no longer than OpenSSL needs. None: those that it has.
    """

    __slots__ = (
        "_alpn",
        "_below",
        "_context",
        "_ended",
        "_held",
        "_incoming",
        "_outgoing",
        "_receiver",
        "_told",
        "_unencrypted",
        "_unread",
        "tls",
    )

    def __init__(
        self,
        below: Transport,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        alpn: Sequence[str] | None = None,
    ) -> None:
        self._below = below
        self.error = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._unencrypted = bytearray()  # plain bytes that TLS 1.2 held up for a renegotiation
        self._held = trio.lowlevel.ParkingLot()  # a handshake above waits for that to end
        self._unread = False  # the handshake left records that nobody has looked at
        self._ended = False
        self._receiver: Receiver | None = None
        self._told = False  # the receiver knows of the end
        self._context = context
        self._alpn = alpn if server_side else None  # to be selected from in the handshake
        offering = contextlib.nullcontext() if server_side or alpn is None else offered(context, alpn, server_hostname)
        with offering:
            self.tls = context.wrap_bio(
                self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
            )

    @property
    def ssl_object(self) -> ssl.SSLObject:
        return self.tls

    @property
    def unsent(self) -> int:
        return self._below.unsent + len(self._unencrypted)

    @property
    def unacknowledged(self) -> int:
        return self._below.unacknowledged + len(self._unencrypted)

    @property
    def congested(self) -> bool:
        return self._below.congested or bool(self._unencrypted)

    @property
    def local_address(self) -> object:
        return self._below.local_address

    @property
    def remote_address(self) -> object:
        return self._below.remote_address

    def set_remote_address(self, address: object) -> None:
        self._below.set_remote_address(address)

    @property
    def socket_reactor(self) -> Reactor | None:
        return self._below.socket_reactor

    @property
    def alpn(self) -> str | None:
        """The protocol that the handshake agreed on, None if on none."""
        try:
            return self.tls.selected_alpn_protocol()
        except UnicodeDecodeError:  # OpenSSL before 3.0.15 lets a server choose any bytes
            return "\N{REPLACEMENT CHARACTER}"

    async def handshake(self) -> None:
        """Do the TLS handshake.

        Raises:
            ssl.SSLError: it failed; an alert was sent if one could be.
            OSError: the transport below broke.
        """
        while True:
            try:
                self._do_handshake()
            except ssl.SSLWantReadError:
                self._send_records()
                await self._more_records()
            except ssl.SSLError:
                self._send_records()
                raise
            else:
                self._send_records()
                self._unread = True
                return

    def _do_handshake(self) -> None:
        if self._alpn is None:
            self.tls.do_handshake()
        else:
            with selected(self._context, self._alpn):
                self.tls.do_handshake()

    async def _more_records(self) -> None:
        while self._below.unsent:
            await self._below.drain()
        await self._below.wait_readable()
        data = self._below.read()
        if data:
            self._incoming.write(data)
        elif data is not None:
            if self._below.error is not None:
                raise self._below.error
            self._incoming.write_eof()

    def _send_records(self) -> None:
        if self._outgoing.pending:
            self._below.write(self._outgoing.read())

    def write(self, data: bytes | memoryview) -> None:
        if self.error is not None:
            return
        if self._unencrypted:
            self._unencrypted += data
            return
        try:
            self.tls.write(data)
        except ssl.SSLWantReadError:
            self._unencrypted += data
        except ssl.SSLError as error:
            self.error = error
        if self._outgoing.pending:  # as _send_records(), here and below: this is the hot path
            self._below.write(self._outgoing.read())

    def write_large(self, head: bytes, payload: bytes) -> None:
        # Piece by piece: one copy of it all after another costs more, by the new memory that each takes.
        view = memoryview(payload)
        first = PLAIN_SIZE - len(head)
        self.write(head + view[:first])
        for start in range(first, len(view), WRITE_SIZE):
            self.write(view[start : start + WRITE_SIZE])

    # ---- pushing ----

    def start(self, receiver: Receiver, reactor: Reactor) -> None:
        self._receiver = receiver
        self._below.start(self, reactor)
        if self._unread or self._ended:
            reactor.call_soon(self, self._push)

    def pause_reading(self) -> None:
        self._below.pause_reading()

    def resume_reading(self) -> None:
        self._below.resume_reading()

    def poll(self) -> None:
        self._below.poll()

    def data_received(self, data: bytes) -> None:
        """Understand records that came."""
        if not self._ended:
            self._incoming.write(data)
            self._push()

    def eof_received(self) -> None:
        """Understand that no more records come."""
        self._incoming.write_eof()
        self._push()

    def connection_lost(self, error: Exception) -> None:
        """Understand that the transport below broke, perhaps after the end of input."""
        if self._told and self._receiver is not None:
            self._receiver.connection_lost(error)
        else:
            self.eof_received()

    def resume_writing(self) -> None:
        """Let what is above write on."""
        if self._receiver is not None:
            self._receiver.resume_writing()

    def peer_ended(self) -> None:
        """Tell what is above that the peer has ended, behind what is unread."""
        self.error = self.error or self._below.error
        if self._receiver is not None:
            self._receiver.peer_ended()

    def crash(self, error: Exception) -> None:
        """End because of a bug."""
        if self._receiver is not None:
            self._receiver.crash(error)

    def _push(self) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        plain = self._understand()
        if plain:
            receiver.data_received(plain)
        if self._ended and not self._told and self._receiver is not None:
            self._told = True
            if self.error is not None:
                receiver.connection_lost(self.error)
            else:
                receiver.eof_received()

    def _understand(self) -> bytes:
        """Decrypt the records that came, and send what TLS has to say of its own."""
        self._unread = False
        plain = b"" if self._ended else self._decrypt()
        if self._outgoing.pending:  # alerts, key updates
            self._below.write(self._outgoing.read())
        if self._unencrypted:
            held, self._unencrypted = bytes(self._unencrypted), bytearray()
            self.write(held)
            self._held.unpark_all()
            self.resume_writing()
        return plain

    # ---- for handshakes ----

    async def drain(self) -> None:
        if self._unencrypted and not self._below.unsent:
            await self._held.park()  # only what the peer sends can get this on: read() does
        else:
            await self._below.drain()

    async def wait_readable(self) -> None:
        if self._unread or self._ended:
            await trio.lowlevel.checkpoint()
        else:
            await self._below.wait_readable()

    def read(self) -> bytes | None:
        if self._ended:
            return b""
        data = self._below.read()
        if data:
            self._incoming.write(data)
        elif data is not None:
            self._incoming.write_eof()
        elif not self._unread:
            return None  # all that came was looked at when it came
        return self._understand() or (b"" if self._ended else None)

    def _decrypt(self) -> bytes:
        try:
            first = self.tls.read(PLAIN_SIZE)
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLError as error:
            self._break(error)
            return b""
        if not first:
            self._ended = True
            return b""
        if not self._incoming.pending:
            return first
        pieces = [first]
        while self._incoming.pending:
            try:
                piece = self.tls.read(PLAIN_SIZE)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLError as error:
                self._break(error)
                break
            if not piece:
                self._ended = True
                break
            pieces.append(piece)
        return b"".join(pieces)

    def _break(self, error: ssl.SSLError) -> None:
        self._ended = True
        if isinstance(error, ssl.SSLZeroReturnError):  # the peer's goodbye after ours
            return
        # A peer that ends TCP without ending TLS is common; the WebSocket layer knows whether it was too early.
        self.error = self._below.error or error

    def write_eof(self) -> None:
        self._end_tls()
        self._below.write_eof()

    def abort(self) -> None:
        self._receiver = None
        self._unencrypted.clear()
        self._held.unpark_all()
        if not self._below.unsent:
            self._end_tls()
        self._below.abort()

    def _end_tls(self) -> None:
        # It wants the peer's goodbye, which nobody waits for, or there was no handshake.
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        self._send_records()
