"""Staying connected: attempts, the pauses between them, and what is worth another one.

An attempt is a scope of its own, opened and closed by the caller's task: nothing here owns a task, a nursery or a
connection, so cancelling the loop is cancelling whatever it is at.
"""

from __future__ import annotations

import logging
import math
import random as system_random
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import trio

from .._close import MESSAGE_TOO_BIG
from .._exceptions import ConnectionClosed, ConnectionClosedLocally, HandshakeError, WebSocketError, leaves
from .._util.scopes import check_runs_on_trio

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

logger = logging.getLogger("trio_ws.reconnecting")

# Statuses below 500 that tell a client to come back: Request Timeout, Too Early, Too Many Requests.
_COME_BACK = (408, 425, 429)
# Close codes of a loss or of the server's own trouble. Others would come again, or are the application's to judge.
_TRANSIENT_CODES = (1000, 1001, 1005, 1006, 1011, 1012, 1013, 1014)
# What TLS says of bytes that were damaged, and of trouble at the other end. The rest is about certificates, versions
# and settings, which another attempt finds as they were.
_TRANSIENT_TLS = (
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC",
    "SSLV3_ALERT_BAD_RECORD_MAC",
    "TLSV1_ALERT_INTERNAL_ERROR",
    "TLSV1_ALERT_USER_CANCELLED",
)
# RFC 9110 §5.6.7: the three forms of an HTTP-date.
_HTTP_DATE = re.compile(
    r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT"
    r"|[A-Z][a-z]{5,8}, [0-9]{2}-[A-Z][a-z]{2}-[0-9]{2} [0-9:]{8} GMT"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [0-9]{4}"
)
_MOST_DOUBLINGS = 64  # enough for every float that somebody may mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before the next attempt: full jitter over a bound that doubles.

    Attributes:
        base: seconds; the first pause is anything from 0 to this, and the bound doubles with each failure.
        cap: seconds; no pause is longer, not even one that a server asks for.
        reset_after: seconds; an attempt that lasted so long, and had a connection, was none that failed.

    Raises:
        ValueError: base or cap is not above 0, reset_after is below 0, or one of them is no number.
    """

    base: float = 1.0
    cap: float = 60.0
    reset_after: float = 10.0

    def __post_init__(self) -> None:
        for name in ("base", "cap", "reset_after"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
            if not number or value < 0 or (value == 0 and name != "reset_after"):
                rule = "from 0 on" if name == "reset_after" else "above 0"
                raise ValueError(f"Backoff({name}={value!r}): it must be a number of seconds {rule}")

    def pause(self, failures: int, fraction: float, retry_after: float | None = None) -> float:
        """Work out a pause, in seconds.

        Args:
            failures: how many attempts failed before the last one.
            fraction: a random number from 0 to 1.
            retry_after: what the server asked for, in seconds; the pause is at least that, within the cap.
        """
        jitter = fraction * min(self.cap, self.base * 2.0 ** min(failures, _MOST_DOUBLINGS))
        return min(self.cap, jitter + (retry_after or 0.0))


def is_transient(error: BaseException) -> bool:
    """Tell whether an error may go away by itself, so that connecting again is worth it.

    Yes:

    * ``OSError``, ``trio.BrokenResourceError`` and ``trio.TooSlowError``, HandshakeTimeout among them;
    * a handshake to which no answer came: ``HandshakeError.no_answer``;
    * HandshakeRejected and ProxyError with a status from 500 on, or 408, 425 or 429;
    * ConnectionClosed by the server with 1000, 1001, no code, or 1011 to 1014; one that was lost (1006); one that was
      failed here, as the server broke a rule;
    * an exception group, if all that is in it is.

    No: anything else. Among it ``ssl.SSLError`` about a certificate, or about versions that do not match; other
    statuses; an answer that breaks the rules; close codes that accuse this side (1002, 1007 to 1009) or are the
    application's own (3000 to 4999); a message over ``max_message_size``; what this side has closed; a cancellation,
    Ctrl-C.
    """
    match error:
        case BaseExceptionGroup():
            return all(map(is_transient, error.exceptions))
        case HandshakeError():
            status: int | None = getattr(error, "status", None)
            return error.no_answer or (status is not None and (status >= 500 or status in _COME_BACK))
        case ConnectionClosed():
            return _may_open_again(error)
        case ssl.SSLError():
            return _is_transient_tls(error)
        case _:
            return isinstance(error, OSError | trio.BrokenResourceError | trio.TooSlowError)


def _may_open_again(error: ConnectionClosed) -> bool:
    if isinstance(error, ConnectionClosedLocally):
        return False
    if error.received is not None:
        return error.received.code in _TRANSIENT_CODES
    # The next connection may be well, but a message that is too large comes again.
    return error.sent is None or error.sent.code != MESSAGE_TOO_BIG


def _is_transient_tls(error: ssl.SSLError) -> bool:
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
        return True
    reason = getattr(error, "reason", None)
    return not isinstance(error, ssl.SSLCertVerificationError) and (reason is None or reason in _TRANSIENT_TLS)


class Attempt(AbstractContextManager["Attempt"]):
    """One attempt to be connected: ``with attempt:`` around all of it.

    An error that is transient ends the attempt and no more: it is logged, and the loop goes on. Any other error, and
    cancellation, comes out as it is.

    Attributes:
        number: 1 for the first, and so on.
        pause: seconds that were waited before it.
        error: what ended it; None before, and if nothing did.
    """

    def __init__(self, number: int, pause: float, transient: Callable[[Exception], bool]) -> None:
        self.number = number
        self.pause = pause
        self.error: Exception | None = None
        self._transient = transient
        self._began = trio.current_time()
        self._lasted: float | None = None

    def __enter__(self) -> Attempt:
        self._began = trio.current_time()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._lasted = trio.current_time() - self._began
        if not isinstance(exc, Exception):
            return False
        self.error = exc
        if not all(map(self._transient, leaves(exc))):
            return False
        logger.info("attempt %d ended: %.256r", self.number, exc)
        return True

    def _lived(self, reset_after: float) -> bool:
        """Whether it had a connection, and for so long."""
        if self._lasted is None or self._lasted < reset_after:
            return False
        return not any(isinstance(error, OSError | HandshakeError) for error in leaves(self.error))


def _retry_after(error: Exception | None) -> float | None:
    """Read what a server that refused has asked for, in seconds (RFC 9110 §10.2.3)."""
    for one in leaves(error):
        headers: Mapping[str, str] | None = getattr(one, "headers", None) if isinstance(one, WebSocketError) else None
        if headers is None:
            continue
        value = headers.get("Retry-After", "")
        if value.isascii() and value.isdigit():
            return float(value)
        until = _read_date(value)
        if until is not None:
            # By the server's own clock if it tells, so that ours does not matter.
            now = _read_date(headers.get("Date", "")) or datetime.now(UTC)
            return max(0.0, (until - now).total_seconds())
    return None


def _read_date(value: str) -> datetime | None:
    """Read an HTTP-date (RFC 9110 §5.6.7), None if it is none."""
    if not _HTTP_DATE.fullmatch(value):
        return None
    try:
        return parsedate_to_datetime(value).replace(tzinfo=UTC)
    except ValueError:  # February 30
        return None


class _Attempts(AsyncIterator[Attempt]):
    def __init__(self, backoff: Backoff, transient: Callable[[Exception], bool], random: Callable[[], float]) -> None:
        self._backoff = backoff
        self._transient = transient
        self._random = random
        self._failures = 0
        self._last: Attempt | None = None

    async def __anext__(self) -> Attempt:
        check_runs_on_trio("reconnecting()")
        pause = self._pause()
        await trio.sleep(pause)
        number = 1 if self._last is None else self._last.number + 1
        self._last = Attempt(number, pause, self._transient)
        return self._last

    def _pause(self) -> float:
        last = self._last
        if last is None:
            return 0.0
        if last._lasted is None:
            raise RuntimeError("the attempt before was not used: write `with attempt:` in the loop")
        if last._lived(self._backoff.reset_after):
            self._failures = 0
        pause = self._backoff.pause(self._failures, self._random(), _retry_after(last.error))
        self._failures += 1
        logger.info("attempt %d begins in %.3g s", last.number + 1, pause)
        return pause


def reconnecting(
    backoff: Backoff = Backoff(),
    *,
    is_transient: Callable[[Exception], bool] = is_transient,
    random: Callable[[], float] = system_random.random,
) -> AsyncIterator[Attempt]:
    """Loop for as long as it takes to stay connected, with a pause between the attempts.

    ::

        async for attempt in reconnecting():
            with attempt:
                async with open_websocket(url) as ws:
                    async for message in ws:
                        ...

    Each round is an attempt: it may open any connection, by any function, and use it. When it ends, by a transient
    error or because its block is done, the next one follows after a pause. ``break`` or ``return`` leaves the loop, and
    so does any other error. The loop may be cancelled at any point; nothing is left open.

    The first attempt begins at once. A server that refuses with Retry-After, in seconds or as a date, is not asked
    again before that, within the cap of the pauses.

    Args:
        backoff: how long the pauses are.
        is_transient: which errors end an attempt only; a function of yours may call :func:`trio_ws.is_transient`. Of
            an ExceptionGroup it is asked for each error in it, and all must be.
        random: gives numbers from 0 to 1; a test passes its own.

    Raises:
        TypeError: an argument has the wrong type.
        RuntimeError: from the loop: the attempt before was not used with ``with``.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: full jitter.
    """
    if not isinstance(backoff, Backoff):
        raise TypeError(f"backoff must be a Backoff, not {backoff!r}")
    for name, function in (("is_transient", is_transient), ("random", random)):
        if not callable(function):
            raise TypeError(f"{name} must be a function, not {function!r}")
    return _Attempts(backoff, is_transient, random)
