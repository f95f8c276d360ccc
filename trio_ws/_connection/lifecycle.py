"""How a connection stands, and every way in which it ends.

Rules:

1. What ends it runs synchronously: it notes why, writes the Close if there is one to write, and wakes everyone. The
   attendant does the waiting.
2. :meth:`Lifecycle.end` runs once and is the only way out; everything leads there.
3. This side may close its sending alone: a half-closed connection *gives* until the peer's Close. Once it has closed
   for good it drops what comes, or a full buffer would hide the peer's Close.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio

from .._close import GOING_AWAY, NO_STATUS, NORMAL
from .._exceptions import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedLocally,
    ConnectionClosedOK,
    RemoteProtocolError,
)
from .._util.waiters import Waiters
from .._wire.protocol import OPEN, State
from .assembler import MessageAssembler
from .keepalive import KeepaliveClock
from .outbox import Outbox
from .pings import Pings

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._options import Keepalive, Limits
    from .._transport import Transport
    from .._wire.protocol import WebSocketProtocol
    from .attendant import Attendant

NEVER = -1  # no inbox is that small

_QUIET_CODES = (NORMAL, GOING_AWAY, NO_STATUS)


class Lifecycle:
    """What a connection is made of, and its end; :class:`Connection` adds the messages.

    Args:
        transport: carries the bytes; owned from here on.
        protocol: the state of this side, just opened.
        is_client: a client lets the server end TCP first (RFC 6455 §7.1.1).
        limits: what the peer may cost us.
        keepalive: when to ask whether it is there.
        close_timeout: seconds that closing may take.
        nursery: where the connection's tasks run.

    Attributes:
        stalled: ``receive_buffer`` is full.
        reading: tasks that wait for input: one, or two while one hands over to the other.
        cause: what broke the transport, or our own bug.
        ended: nothing comes or goes any more, and everyone knows.
        assembler: where those wait who want a message in pieces.
    """

    __slots__ = (
        "__weakref__",
        "_dropping",
        "_enders",
        "_local",
        "_low_mark",
        "_multiplexed",
        "_receivers",
        "_scopes",
        "_tell",
        "assembler",
        "attendant",
        "cause",
        "close_deadline",
        "close_linger",
        "close_timeout",
        "ended",
        "is_client",
        "keepalive",
        "outbox",
        "pings",
        "protocol",
        "reading",
        "stalled",
        "transport",
    )

    attendant: Attendant

    def __init__(
        self,
        transport: Transport,
        protocol: WebSocketProtocol,
        *,
        is_client: bool,
        limits: Limits,
        keepalive: Keepalive | None,
        close_timeout: float,
        nursery: trio.Nursery,
    ) -> None:
        self.transport: Transport = transport
        self.protocol: WebSocketProtocol = protocol
        self.is_client: bool = is_client
        self.outbox: Outbox = Outbox(transport, limits.send_buffer, nursery, self._moved, self._flushed)
        self.pings: Pings = Pings()
        self.assembler: MessageAssembler = MessageAssembler()
        self.keepalive: KeepaliveClock = KeepaliveClock(keepalive, trio.current_time())
        self.reading: int = 0
        self.stalled: bool = False
        self.cause: BaseException | None = None
        self.ended: bool = False
        self.close_timeout: float = close_timeout
        self.close_deadline: float = math.inf
        self.close_linger: float = limits.close_linger
        self._multiplexed = transport.multiplexed
        self._low_mark: float = NEVER  # when no more than this waits, reading goes on, or a multiplexed peer may
        self._receivers = Waiters()
        self._enders = Waiters()
        self._scopes: set[trio.CancelScope] | None = None  # to be cancelled when it closes; made for the first
        self._local = False  # this side has closed
        self._dropping = False  # ... and wants no more messages
        self._tell: Callable[[str, object], None] | None = None

    # ---- how it stands ----

    def is_open(self) -> bool:
        """Whether messages can be sent, and come."""
        protocol = self.protocol
        return protocol.state is OPEN and protocol.failure is None

    def can_receive(self) -> bool:
        """Whether messages still come: it is open, or this side has only closed its own direction."""
        protocol = self.protocol
        return protocol.failure is None and (
            protocol.state is OPEN or (protocol.state is State.CLOSE_SENT and not self._dropping)
        )

    def watch(self, tell: Callable[[str, object], None]) -> None:
        """Have ``tell(what, detail)`` called, ``what`` being the name of the Instrument's method."""
        self._tell = tell

    def closed_error(self) -> ConnectionClosed:
        """Make the exception for whoever uses a connection that is closed or closing."""
        received, sent = self.protocol.close_received, self.protocol.close_sent
        if self._local:
            return ConnectionClosedLocally(received, sent)
        if received is not None and received.code in _QUIET_CODES:
            return ConnectionClosedOK(received, sent)
        error = ConnectionClosedError(received, sent)
        error.__cause__ = self.protocol.failure or self.cause
        return error

    # ---- the end ----

    async def wait_ended(self) -> None:
        """Wait until the connection has ended."""
        if self.ended:
            await trio.lowlevel.checkpoint()
        while not self.ended:
            self._have_read()
            await self._enders.park()

    def cancel_when_closed(self, scope: trio.CancelScope) -> None:
        """Have the scope cancelled when the peer closes, or when the connection ends otherwise.

        A closing that this side has begun cancels the scope at its end only: ``aclose()`` may run in that scope.
        """
        if self._scopes is None:
            self._scopes = set()
        self._scopes.add(scope)
        if self.ended or (self.close_deadline != math.inf and not self._local):
            scope.cancel()
        else:
            self._have_read()

    def forget_scope(self, scope: trio.CancelScope) -> None:
        """Undo :meth:`cancel_when_closed`."""
        if self._scopes is not None:
            self._scopes.discard(scope)

    def _cancel_scopes(self) -> None:
        for scope in self._scopes or ():
            scope.cancel()

    def start_close(self, code: int | None, reason: str) -> None:
        """Begin the closing handshake, if it has not begun; messages that come from now on are dropped."""
        if not self.can_receive():
            return
        if self.is_open():
            self.outbox.write_close(self.protocol.encode_close(code, reason))
        self._local = self._dropping = True
        self.stalled = False
        self._low_mark = NEVER
        self.transport.give_back()
        self._begin_closing()

    def start_half_close(self) -> None:
        """Send a Close without a code, if the connection is open; what comes until the peer's is still given."""
        if self.is_open():
            self.outbox.write_close(self.protocol.encode_close(None))
            self._local = True
            self.keepalive.hear(trio.current_time())  # the peer's silence counts from now
            self._wake_senders()
            self._poke()

    def abandon(self, code: int = GOING_AWAY, reason: str = "") -> None:
        """End now: send a Close if it can be written without waiting, and drop the transport."""
        goodbye = b""
        if self.is_open():
            self._local = True
            if not self.transport.congested:
                goodbye = self.protocol.encode_close(code, reason)
        self.outbox.flush_now(goodbye)
        self.end()

    def fail(self, failure: RemoteProtocolError) -> None:
        """Tell the peer what it did wrong, and close without listening to it any more (RFC 6455 §7.1.7)."""
        self.protocol.failure = failure
        if self.protocol.state in (State.OPEN, State.CLOSE_RECEIVED):
            self.outbox.write_close(self.protocol.encode_failure(failure))
            self._told("socket_error", failure)
        self._begin_closing()

    def lose(self, error: Exception | None) -> None:
        """Note that the transport is gone."""
        self.cause = error
        self.protocol.lose()
        if self.protocol.state is State.LOST:
            self._told("socket_error", self.closed_error())
        self._begin_closing()

    def end(self) -> None:
        """Drop the transport and tell everyone; harmless when repeated."""
        if self.ended:
            return
        self.ended = True
        self.protocol.lose()
        self.transport.abort()
        self._begin_closing()
        self._enders.unpark_all()
        self._cancel_scopes()
        self._told("websocket_close", self.protocol.close_info)

    def _begin_closing(self) -> None:
        self.close_deadline = min(self.close_deadline, trio.current_time() + self.close_timeout)
        self._receivers.unpark_all()
        self.assembler.wake()
        self._wake_senders()
        if not self._local:
            self._cancel_scopes()
        self.attendant.dismiss()
        self._poke()

    def _wake_senders(self) -> None:
        self.outbox.release()
        self.pings.release()

    def _have_read(self) -> None:
        """Have the attendant read at once if nobody does: somebody waits for what comes."""
        if not self.reading and not self.stalled:
            self.attendant.take_over_now()

    def _poke(self) -> None:
        """Have everyone who waits for input look again."""
        self.attendant.look_again()
        if self.reading:
            self.transport.wake()

    def _moved(self) -> None:
        # A peer that takes what we send lives, and cannot answer a ping that is still behind a long message.
        self.keepalive.hear(trio.current_time())

    def _flushed(self) -> None:
        self.notice_loss()
        if not self.is_open():
            self._poke()

    def _told(self, what: str, detail: object) -> None:
        if self._tell is not None:
            self._tell(what, detail)

    def notice_loss(self) -> None:
        """End a connection that broke while nobody reads, and so nobody would ever learn of it."""
        if self.stalled and self.transport.error is not None:
            self.lose(self.transport.error)
