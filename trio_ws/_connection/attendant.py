"""The task that looks after one connection while nobody else does: reading, keepalive, and the way out.

Rules:

1. It waits for input or for being told to look again, in a scope of its own each time, and then looks at everything
   anew.
2. While the application reads it only keeps the peer alive. It reads when :class:`.Handover` finds that nobody does or
   has of late, or at once when somebody waits for what only reading brings: a pong, the end. A transport that tells
   when there is something to read is left alone until then.
3. A half-closed connection, one that has sent Close and still gives what comes, is ended when the peer has been silent
   for ``close_timeout``. Every other closing is bounded as a whole.
4. Before it ends a connection because of the clock it has everything read that has come: the process may have stood
   still, and the peer answered meanwhile.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import trio

from .._close import INTERNAL_ERROR
from .._exceptions import RemoteProtocolError
from .._transport import INPUT_PASSES
from .._wire.protocol import State
from .keepalive import Verdict

if TYPE_CHECKING:
    from .connection import Connection
    from .handover import Handover

# Seconds to wait for the peer's END_STREAM after both Close frames.
CLIENT_STREAM_LINGER = 0.25  # it comes with the server's Close or right behind it
SERVER_STREAM_LINGER = 0.1  # it answers ours, or never comes

_FAILURES = {
    Verdict.SILENT: "no answer to a keepalive ping",
    Verdict.STUCK: "the peer takes nothing of what it is sent",
}

logger = logging.getLogger("trio_ws.connection")


class Attendant:
    """Looks after one connection; :meth:`attend` must run from its start to its end.

    Args:
        connection: the connection.
        handover: tells when to take over reading.

    Attributes:
        relieved: somebody reads, and whoever stops has to :meth:`arm` this.
    """

    __slots__ = ("_connection", "_handover", "_heard_at", "_parked", "_reads", "relieved")

    def __init__(self, connection: Connection, handover: Handover) -> None:
        self._connection = connection
        self._handover = handover
        self._parked: trio.lowlevel.Task | None = None  # no ParkingLot: an idle connection would hold 300 bytes more
        self._reads = True
        self._heard_at = 0.0  # when something had last come as it began to wait to be called
        self.relieved: bool = False
        connection.transport.watch(self.notice)

    # ---- what others tell it ----

    def arm(self) -> None:
        """Have it take over reading after the handover delay, unless somebody reads by then."""
        connection = self._connection
        if not connection.has_unread:  # the transport tells when that changes
            self.relieved, self._reads = True, False
        elif not connection.transport.handover:
            self.take_over_now()
        elif (self.relieved or self._reads) and connection.can_receive():  # else it is expected, or nothing will come
            self.relieved = self._reads = False
            self._expect_call()

    def _expect_call(self) -> None:
        self._heard_at = self._connection.keepalive.heard_at
        self._handover.expect(self)

    def notice(self) -> None:
        """Take note of something to read that nobody waits for."""
        if self.relieved and not self._connection.stalled:
            self.arm()

    def take_over_now(self) -> None:
        """Have it read at once: somebody waits for what comes."""
        self.relieved, self._reads = False, True
        self.look_again()

    def take_over_if_free(self) -> None:
        """Have it read unless somebody does, or has meanwhile: the handover delay is over."""
        connection = self._connection
        if connection.reading or connection.stalled or not connection.has_unread:
            self.relieved = True
        elif connection.keepalive.heard_at > self._heard_at:
            self._expect_call()
        else:
            self.take_over_now()

    def dismiss(self) -> None:
        """Have it read no more for the application, which gets nothing any more."""
        self._handover.forget(self)

    def look_again(self) -> None:
        """Have it look again at how the connection stands."""
        if self._parked is not None:
            trio.lowlevel.reschedule(self._parked)
            self._parked = None

    # ---- the task ----

    @trio.lowlevel.enable_ki_protection
    async def attend(self, *, shield: bool) -> None:
        """Look after the connection until it has ended; cancelled, it is abandoned.

        Args:
            shield: live on when the nursery is cancelled, until ``abandon`` or ``aclose``: for a connection whose
                block may still use it while it is cancelled.
        """
        connection = self._connection
        try:
            # No scope around all of this, nor a coroutine for each part: memory that an idle connection would hold.
            while connection.can_receive():
                deadline, read = self._plan()
                if deadline <= trio.current_time():
                    await self._look_at_input(shield=shield)
                    self._end_if_overdue()
                    continue
                # As _wait(), which it does not call, for the same reason.
                with trio.CancelScope(deadline=deadline, shield=shield):
                    await (connection.read_more() if read else self._park())
                if read:
                    self._hand_on()
            await self._while_closing(shield=shield)
        # A bug of ours or of a transport's ends this connection, and nothing else.
        except Exception as error:
            logger.exception("internal error on a connection to %.256r", connection.transport.remote_address)
            connection.lose(error)
        finally:
            connection.abandon()

    async def _wait(self, deadline: float, *, read: bool, shield: bool) -> None:
        with trio.CancelScope(deadline=deadline, shield=shield):
            await (self._connection.read_more() if read else self._park())

    async def _park(self) -> None:
        """Wait to be told to look again."""

        def abort(_: object) -> trio.lowlevel.Abort:
            self._parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._parked = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _hand_on(self) -> None:
        """Wake a receiver if there is something for it; it may go on reading."""
        connection = self._connection
        if connection.received or connection.assembler.unclaimed is not None:
            connection.wake_receiver()
            self.arm()

    def _plan(self) -> tuple[float, bool]:
        """Decide until when to wait, and whether to read meanwhile; when that has passed, the peer may be given up."""
        connection = self._connection
        deadline = self._look_at_clock()[1] if connection.is_open() else self._silence_deadline()
        if self._reads and (connection.reading or connection.stalled):
            self.relieved, self._reads = True, False
        return deadline, self._reads and connection.can_receive()

    def _look_at_clock(self) -> tuple[Verdict, float]:
        """Ping a peer that is silent; return whether it is to be given up, and when to look again."""
        connection, transport = self._connection, self._connection.transport
        stuck_since = self._stuck_since()
        connection.keepalive.overhear(transport.heard_at)
        listening = transport.multiplexed or not connection.stalled
        now = trio.current_time()
        verdict, again_at = connection.keepalive.look(now, listening=listening, stuck_since=stuck_since)
        if verdict is Verdict.ASK and listening and not transport.ask():
            connection.send_ping(None)
        return verdict, again_at

    def _stuck_since(self) -> float | None:
        """Tell since when neither side has taken a byte, if nobody reads and some wait for the peer."""
        connection, outbox = self._connection, self._connection.outbox
        if not outbox.buffered:
            return None
        outbox.look_at_progress()
        return max(outbox.waiting_since, connection.keepalive.paused_at) if connection.stalled else None

    def _silence_deadline(self) -> float:
        """Tell until when a half-closed connection waits for its peer's messages and its Close (rule 3)."""
        connection = self._connection
        alive_at = self._stuck_since() if connection.stalled else connection.keepalive.heard_at
        return math.inf if alive_at is None else alive_at + connection.close_timeout

    async def _look_at_input(self, *, shield: bool) -> None:
        """Understand what has come, or have the task do so that reads (rule 4)."""
        connection = self._connection
        with trio.CancelScope(shield=shield):
            for _ in range(INPUT_PASSES):
                if not connection.reading and not connection.stalled and self._expects_input():
                    connection.read_now()
                await trio.lowlevel.checkpoint()
        self._hand_on()

    def _end_if_overdue(self) -> None:
        connection = self._connection
        if connection.is_open():
            verdict, _ = self._look_at_clock()
            if verdict in _FAILURES:
                text = f"{_FAILURES[verdict]} ({connection.keepalive.limits})"
                connection.fail(RemoteProtocolError(text, INTERNAL_ERROR))
                connection.close_deadline = trio.current_time()  # it will not answer a Close either
        elif connection.can_receive() and trio.current_time() >= self._silence_deadline():
            seconds = f"{connection.close_timeout:g} s"
            connection.lose(trio.TooSlowError(f"the peer did not close within {seconds} (close_timeout)"))

    async def _while_closing(self, *, shield: bool) -> None:
        connection, protocol = self._connection, self._connection.protocol
        looked = False
        while protocol.state is not State.LOST and (connection.outbox.buffered or self._expects_close()):
            if trio.current_time() >= connection.close_deadline:
                if looked:
                    break
                looked = True
                await self._look_at_input(shield=shield)
                continue
            await self._wait(connection.close_deadline, read=self._expects_close(), shield=shield)
        else:
            if protocol.state is not State.LOST and not connection.ended:
                await self._end_transport(shield=shield)
        connection.end()

    def _expects_input(self) -> bool:
        return self._connection.can_receive() or self._expects_close()

    def _expects_close(self) -> bool:
        protocol = self._connection.protocol
        return protocol.state is State.CLOSE_SENT and protocol.failure is None

    async def _end_transport(self, *, shield: bool) -> None:
        # RFC 6455 §7.1.1: the server ends TCP first, so that TIME_WAIT stays with it. A socket closed before the
        # peer's end came would send RST, which can destroy the Close on its way: hence the wait. A stream of HTTP/2
        # has no such state, but there are servers that have forgotten it once they have read a Close: they never end
        # it, and take our END_STREAM (RFC 8441 §5) ill. So that answers theirs; without it the stream is reset. There
        # are clients that never end a stream either, and each stream that waits for them takes one of their places.
        connection, transport = self._connection, self._connection.transport
        linger = connection.close_linger
        if transport.multiplexed:
            linger = min(linger, CLIENT_STREAM_LINGER if connection.is_client else SERVER_STREAM_LINGER)
        if not connection.is_client or (connection.protocol.failure is not None and not transport.multiplexed):
            transport.write_eof()
        with trio.CancelScope(deadline=min(connection.close_deadline, trio.current_time() + linger), shield=shield):
            while transport.read() != b"":
                transport.give_back()
                await transport.wait_readable()
            if transport.multiplexed:
                transport.write_eof()
