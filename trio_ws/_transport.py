"""What a connection needs of whatever carries its bytes: the one interface between ``_net`` and ``_connection``."""

from __future__ import annotations

import abc
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable


# Seconds before a task of the connection's reads for an application that does not. Long enough that an application that
# answers messages as they come is never interrupted, short enough that a ping to one that is busy is answered soon.
HANDOVER_DELAY = 0.01

# Passes of the scheduler in which all that lies in a socket comes up through any pile of streams. Who ends a connection
# because of the clock waits so long: the process may have stood still, and what it waits for came meanwhile.
INPUT_PASSES = 16


class Transport(abc.ABC):
    """A byte stream whose only waiting is for input and for room.

    Rules that every transport keeps:

    1. ``write``, ``read``, ``wake``, ``write_eof`` and ``abort`` are synchronous and never raise for a dead peer: a
       transport that broke takes writes and drops them, and reads as ended; :attr:`error` says why.
    2. What could not be sent at once is :attr:`unsent`, and :meth:`drain` sends it.
    3. One task at a time waits in :meth:`wait_readable`, one in :meth:`drain`. Both may return early: the caller
       looks again. Cancelled, both leave everything as it was.
    """

    __slots__ = ("__weakref__", "error")

    error: Exception | None
    """What broke the transport, None if nothing did."""

    handover = False
    """Whether a reader lets the application come back and read for itself for a while before it reads on."""

    has_input = True
    """Whether :meth:`read` may have something to give, the end too; where only a system call tells, always."""

    multiplexed = False
    """Whether this is one of the streams of a connection (RFC 8441): the peer may send what :meth:`give_back` allows,
    and no more; either side may end its direction first; and what :attr:`heard_at` tells goes for all streams."""

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
    async def drain(self) -> None:
        """Wait until some of what is unsent has gone, or the transport is no more; a checkpoint."""

    @abc.abstractmethod
    async def wait_readable(self) -> None:
        """Wait until :meth:`read` may have something to give, or someone called :meth:`wake`; a checkpoint."""

    def readable(self) -> Awaitable[None]:
        """Do as :meth:`wait_readable`, which may take a coroutine more for it.

        Raises:
            trio.ClosedResourceError: someone called :meth:`wake`, or so it may.
        """
        return self.wait_readable()

    @abc.abstractmethod
    def read(self) -> bytes | None:
        """Give what has arrived: None when nothing has, ``b""`` at the end."""

    @abc.abstractmethod
    def wake(self) -> None:
        """Make whoever waits here return, to look again."""

    @abc.abstractmethod
    def write_eof(self) -> None:
        """Tell the peer that nothing more will come; what is unsent must have gone before."""

    @abc.abstractmethod
    def abort(self) -> None:
        """Close at once, dropping what is unsent; harmless when repeated."""

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
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS that the bytes go through, None if there is none."""
        return None

    # ---- what only a multiplexed transport has ----

    def write_last(self, data: bytes) -> None:
        """Send the last bytes before :meth:`abort`; a multiplexed transport ends its direction with them."""
        self.write(data)

    def give_back(self, waiting: int = 0) -> int:
        """Let the peer send as much again as the application has taken, if that is worth a frame.

        Args:
            waiting: bytes that were read and wait for the application.

        Returns:
            How few must wait until there is more to give back; below 0: something must be read before.
        """
        return -1

    def watch(self, notice: Callable[[], None]) -> None:  # noqa: B027  # most transports cannot tell
        """Have ``notice()`` called when :attr:`has_input` becomes true and nobody waits, where it is ever false."""

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
