"""The interface between ``_net`` and ``_connection``: what carries bytes, and what receives them."""

from __future__ import annotations

import abc
import math
from typing import TYPE_CHECKING, Protocol

from ._readiness import Guarded

if TYPE_CHECKING:
    import ssl

    from ._reactor import Reactor


class Receiver(Guarded, Protocol):
    """What a transport calls after :meth:`Transport.start`. Each call returns at once and raises nothing."""

    def data_received(self, data: bytes) -> None:
        """Some bytes came, never none."""

    def eof_received(self) -> None:
        """The peer sends nothing more. The last call about input."""

    def connection_lost(self, error: Exception) -> None:
        """The transport broke; nothing more comes, and what was unsent is lost. It may follow :meth:`eof_received`."""

    def resume_writing(self) -> None:
        """Some of what was unsent has gone."""

    def peer_ended(self) -> None:
        """The peer has ended while reading is paused; what came before can still be read, unless there is an error."""


class Transport(abc.ABC):
    """A byte stream. Bytes are pushed to a receiver; nothing here waits, but for the handshakes.

    Rules that every transport keeps:

    1. All methods but :meth:`wait_readable` and :meth:`drain` are synchronous, and none raises for a dead peer: a
       transport that broke drops what is written, and tells its receiver once all that came before was read.
       :attr:`error` says why.
    2. What could not be sent at once is :attr:`unsent`, and goes by itself after :meth:`start`.
    3. **Handshakes pull**: until :meth:`start`, one task at a time waits in :meth:`wait_readable` and one in
       :meth:`drain`; both may return early. Cancelled, they leave everything as it was. After :meth:`start` nobody
       calls these, nor :meth:`read`.
    """

    __slots__ = ("__weakref__", "error")

    error: Exception | None
    """What broke the transport, None if nothing did."""

    multiplexed = False
    """Whether this is one of the streams of a connection (RFC 8441): the peer may send what :meth:`give_back` allows,
    and no more; either side may end its direction first; and what :attr:`heard_at` tells goes for all streams."""

    @abc.abstractmethod
    def start(self, receiver: Receiver, reactor: Reactor) -> None:
        """Push to this receiver from now on, in steps of this reactor, but not before this returns; call it once."""

    @abc.abstractmethod
    def pause_reading(self) -> None:
        """Push no more until :meth:`resume_reading`; the peer has to stop. Harmless when repeated."""

    @abc.abstractmethod
    def resume_reading(self) -> None:
        """Push again, but not before this returns; harmless when repeated."""

    def poll(self) -> None:  # noqa: B027  # most transports are told of what comes
        """Push what has come already, unless reading is paused."""

    @property
    @abc.abstractmethod
    def unsent(self) -> int:
        """Bytes that were written and that the layer below has not taken."""

    @property
    def unacknowledged(self) -> int:
        """Bytes that were written and that the peer's system has not acknowledged, where that can be told; else
        :attr:`unsent`."""
        return self.unsent

    @property
    def congested(self) -> bool:
        """Whether what is written now would wait before the layer below has looked at it."""
        return self.unsent > 0

    @abc.abstractmethod
    def write(self, data: bytes) -> None:
        """Send what can be sent at once and keep the rest."""

    def write_large(self, head: bytes, payload: bytes) -> None:
        """Send both, the payload uncopied where that can be; 64 KiB or more make that worth while."""
        self.write(head + payload)

    @abc.abstractmethod
    def write_eof(self) -> None:
        """Tell the peer that nothing more will come; what is unsent must have gone before."""

    @abc.abstractmethod
    def abort(self) -> None:
        """Close at once, dropping what is unsent; the receiver is called no more. Harmless when repeated."""

    @property
    @abc.abstractmethod
    def local_address(self) -> object:
        """The address of this end: ``(host, port)`` for TCP, a path for a Unix socket, None where there is none."""

    @property
    @abc.abstractmethod
    def remote_address(self) -> object:
        """The address of the other end, in the same form."""

    def set_remote_address(self, address: object) -> None:  # noqa: B027  # a transport without addresses has none to tell
        """Give this as :attr:`remote_address` from now on: the client's, where the other end is a trusted proxy."""

    @property
    def socket_reactor(self) -> Reactor | None:
        """What reads the socket at the bottom, once this has started; None where there is no socket."""
        return None

    @property
    def has_siblings(self) -> bool:
        """Whether other transports have the same socket at the bottom."""
        return False

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS that the bytes go through, None if there is none."""
        return None

    # ---- for handshakes, before start() ----

    @abc.abstractmethod
    async def wait_readable(self) -> None:
        """Wait until :meth:`read` may have something to give; a checkpoint."""

    @abc.abstractmethod
    def read(self) -> bytes | None:
        """Give what has arrived: None when nothing has, ``b""`` at the end."""

    @abc.abstractmethod
    async def drain(self) -> None:
        """Wait until some of what is unsent has gone, or the transport is no more; a checkpoint."""

    # ---- what only a multiplexed transport has ----

    def write_last(self, data: bytes) -> None:
        """Send the last bytes before :meth:`abort`; a multiplexed transport ends its direction with them."""
        self.write(data)

    @property
    def wants_give_back(self) -> bool:
        """Whether :meth:`give_back` may be worth a frame, if nothing waits."""
        return False

    def give_back(self, waiting: int = 0) -> int:
        """Let the peer send as much again as the application has taken, if that is worth a frame.

        Args:
            waiting: bytes that were read or pushed and wait for the application.

        Returns:
            How few must wait until there is more to give back; below 0: something must come before.
        """
        return -1

    @property
    def heard_at(self) -> float:
        """When the connection below last brought a byte, for any of its streams; -inf where it carries this alone."""
        return -math.inf

    def ask(self) -> bool:
        """Ask the other end of the connection below whether it is there, once for all streams that want to know.

        Returns:
            Whether an answer will come, and show in :attr:`heard_at`; False: this transport has no question to ask.
        """
        return False
