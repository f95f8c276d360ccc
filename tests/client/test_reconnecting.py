"""Attempts, their pauses and what is worth another one, on a clock of the test's."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest
import trio
import trio.testing

import trio_ws
from trio_ws import Backoff, CloseInfo, is_transient, reconnecting
from trio_ws.testing import memory_websocket_pair

CONSTANTLY = 1.0  # the whole of each bound


async def pauses(
    errors: list[Exception | None], backoff: Backoff = Backoff(), *, lasting: float = 0.0, fraction: float = CONSTANTLY
) -> list[float]:
    """End an attempt by each of the errors; give the pauses before the next."""
    found: list[float] = []
    endings = iter(errors)
    async for attempt in reconnecting(backoff, random=lambda: fraction):
        found.append(attempt.pause)
        ending = next(endings, StopIteration())
        if isinstance(ending, StopIteration):
            return found[1:]
        began = trio.current_time()
        with attempt:
            await trio.sleep(lasting)
            if ending is not None:
                raise ending
        assert attempt.error is ending
        assert attempt.number == len(found)
        assert trio.current_time() == began + lasting
    raise AssertionError


async def test_pauses_double_up_to_the_cap(autojump_clock: trio.testing.MockClock) -> None:
    assert await pauses([OSError()] * 8) == [1, 2, 4, 8, 16, 32, 60, 60]
    assert trio.current_time() == sum([1, 2, 4, 8, 16, 32, 60, 60])
    assert await pauses([OSError()] * 4, fraction=0.25) == [0.25, 0.5, 1, 2]
    assert await pauses([OSError()] * 3, fraction=0) == [0, 0, 0]
    assert await pauses([OSError()] * 4, Backoff(base=3, cap=7)) == [3, 6, 7, 7]


async def test_a_long_time_without_success_is_no_overflow(autojump_clock: trio.testing.MockClock) -> None:
    assert Backoff().pause(10**9, 0.5) == 30


async def test_a_connection_that_lived_begins_anew(autojump_clock: trio.testing.MockClock) -> None:
    lost = trio_ws.ConnectionClosedError(None, None)
    assert await pauses([lost] * 3, lasting=10) == [1, 1, 1]
    assert await pauses([None] * 3, lasting=10) == [1, 1, 1]
    assert await pauses([ExceptionGroup("", [lost])] * 3, lasting=10) == [1, 1, 1]
    assert await pauses([lost] * 3, lasting=9.9) == [1, 2, 4]
    assert await pauses([None] * 3) == [1, 2, 4]
    assert await pauses([None] * 3, Backoff(reset_after=0)) == [1, 1, 1]


async def test_a_handshake_that_took_long_is_no_connection_that_lived(autojump_clock: trio.testing.MockClock) -> None:
    assert await pauses([trio_ws.HandshakeTimeout("slow")] * 3, lasting=10) == [1, 2, 4]
    assert await pauses([ExceptionGroup("", [OSError()])] * 3, lasting=10) == [1, 2, 4]


def rejected(**headers: str) -> trio_ws.HandshakeRejected:
    fields = trio_ws.Headers([(name.replace("_", "-"), value) for name, value in headers.items()])
    return trio_ws.HandshakeRejected(503, fields)


NOW = "Wed, 25 Nov 2026 12:00:00 GMT"
LATER = "Wed, 25 Nov 2026 12:00:30 GMT"
# One time in the three forms of RFC 9110 §5.6.7.
HTTP_DATES = "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (rejected(Retry_After="30"), 30.5),
        (rejected(Retry_After="0"), 0.5),
        (rejected(Retry_After="3600"), 60),
        (rejected(Retry_After="9" * 400), 60),
        (ExceptionGroup("", [OSError(), rejected(Retry_After="30")]), 30.5),
        (rejected(Retry_After=LATER, Date=NOW), 30.5),
        (rejected(Retry_After=NOW, Date=LATER), 0.5),
        (rejected(Retry_After=HTTP_DATES[0], Date="Sun, 06 Nov 1994 08:49:07 GMT"), 30.5),
        (rejected(Retry_After=HTTP_DATES[1], Date="Sun, 06 Nov 1994 08:49:07 GMT"), 30.5),
        (rejected(Retry_After=HTTP_DATES[2], Date="Sun Nov  6 08:49:07 1994"), 30.5),
        (rejected(Retry_After=NOW), 0.5),  # has passed by our clock
        (rejected(Retry_After=formatdate(time.time() + 3600, usegmt=True)), 60),
        (rejected(Retry_After=formatdate(time.time() + 3600, usegmt=True), Date="today"), 60),
        (rejected(Retry_After="Fri, 31 Dec 9999 23:59:59 GMT", Date="Mon, 01 Jan 0001 00:00:00 GMT"), 60),
        (rejected(Retry_After="Mon, 01 Jan 2020 00:00:00 +99999999999999"), 0.5),
        (rejected(Retry_After=LATER, Date="Mon, 01 Jan 2020 00:00:00 +99999999999999"), 0.5),
        (rejected(Retry_After="Mon, 30 Feb 2026 00:00:00 GMT", Date=NOW), 0.5),
        (rejected(Retry_After="Mon, 01 Jan 2020 99:99:99 GMT", Date=NOW), 0.5),
        (rejected(Retry_After="Mon, 01 Jan 2020 :::::::: GMT", Date=NOW), 0.5),
        (rejected(Retry_After="\u00b2"), 0.5),  # a digit to str.isdigit()
        (rejected(Retry_After="soon", Date=NOW), 0.5),
        (rejected(Retry_After="-5"), 0.5),
        (rejected(Retry_After="1.5"), 0.5),
        (rejected(), 0.5),
    ],
    ids=str,
)
async def test_retry_after_is_honoured_within_the_cap(
    autojump_clock: trio.testing.MockClock, error: Exception, expected: float
) -> None:
    assert await pauses([error], fraction=0.5) == [expected]


def closed(code: int | None, *, by_peer: bool = True) -> trio_ws.ConnectionClosed:
    info = None if code is None else CloseInfo(code)
    kind = trio_ws.ConnectionClosedOK if code in (1000, 1001, 1005) else trio_ws.ConnectionClosedError
    return kind(info, None) if by_peer else kind(None, info)


def tls_error(reason: str, kind: type[ssl.SSLError] = ssl.SSLError) -> ssl.SSLError:
    error = kind(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("", errors)


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(), ConnectionRefusedError(), trio.BrokenResourceError(), trio.TooSlowError(), TimeoutError()),
        *(ssl.SSLError(), ssl.SSLEOFError(), ssl.SSLZeroReturnError(), ssl.SSLSyscallError()),
        tls_error("UNEXPECTED_EOF_WHILE_READING", ssl.SSLEOFError),
        *(tls_error("TLSV1_ALERT_INTERNAL_ERROR"), tls_error("DECRYPTION_FAILED_OR_BAD_RECORD_MAC")),
        *(trio_ws.HandshakeTimeout("slow"), trio_ws.ProxyTimeout("slow")),
        *(trio_ws.InvalidHandshake("gone", no_answer=True), trio_ws.ProxyError("gone", no_answer=True)),
        *(trio_ws.HandshakeRejected(status, trio_ws.Headers()) for status in (408, 425, 429, 500, 502, 503, 599)),
        *(closed(code) for code in (None, 1000, 1001, 1005, 1006, 1011, 1012, 1013, 1014)),
        *(closed(code, by_peer=False) for code in (1002, 1003, 1007, 1008, 1011)),
        group(OSError(), group(closed(1012))),
    ],
    ids=repr,
)
def test_what_is_transient(error: BaseException) -> None:
    assert is_transient(error)


def test_a_proxys_status_is_what_counts() -> None:
    error = trio_ws.ProxyError("no")
    assert not is_transient(error)
    for error.status in (408, 429, 502, 503):
        assert is_transient(error)
    for error.status in (302, 403, 407):
        assert not is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        *(KeyError(), trio.ClosedResourceError(), trio.WouldBlock(), trio.EndOfChannel()),
        *(ssl.SSLCertVerificationError(), tls_error("CERTIFICATE_VERIFY_FAILED", ssl.SSLCertVerificationError)),
        *(
            tls_error(reason)
            for reason in (
                *("TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE"),
                *("WRONG_VERSION_NUMBER", "SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_UNKNOWN_CA"),
                *("TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_UNRECOGNIZED_NAME"),
            )
        ),
        *(
            trio_ws.InvalidURL("x"),
            trio_ws.InvalidHandshake("x"),
            trio_ws.ProxyError("x"),
            trio_ws.WebSocketError(4000),
        ),
        *(trio_ws.HandshakeRejected(status, trio_ws.Headers()) for status in (200, 301, 400, 401, 403, 404, 426)),
        *(closed(code) for code in (1002, 1003, 1007, 1008, 1009, 1010, 3000, 4000, 4999)),
        closed(1009, by_peer=False),
        trio_ws.ConnectionClosedLocally(None, CloseInfo(1000)),
        *(group(OSError(), KeyError()), group(OSError(), group(closed(1002)))),
        *(KeyboardInterrupt(), SystemExit(), group(OSError(), KeyboardInterrupt())),
    ],
    ids=repr,
)
async def test_what_is_not(error: BaseException) -> None:
    assert not is_transient(error)
    rounds = 0
    with pytest.raises(type(error)) as caught:
        async for attempt in reconnecting():
            rounds += 1
            with attempt:
                raise error
    assert (caught.value, rounds) == (error, 1)


async def test_the_predicate_may_be_the_callers(autojump_clock: trio.testing.MockClock) -> None:
    errors: Iterator[Exception] = iter([KeyError(), OSError(), ValueError()])
    with pytest.raises(ValueError, match=r"^$"):
        async for attempt in reconnecting(
            is_transient=lambda error: isinstance(error, KeyError) or is_transient(error)
        ):
            with attempt:
                raise next(errors)
    assert attempt.number == 3


async def test_the_callers_predicate_is_asked_for_the_members_of_a_group(
    autojump_clock: trio.testing.MockClock,
) -> None:
    asked: list[type[Exception]] = []

    def only_keys(error: Exception) -> bool:
        asked.append(type(error))
        return isinstance(error, KeyError)

    keys: list[Exception] = [KeyError(1), KeyError(2)]
    groups = iter([ExceptionGroup("", keys), ExceptionGroup("", [KeyError(), ExceptionGroup("", [OSError()])])])
    with pytest.raises(ExceptionGroup) as caught:
        async for attempt in reconnecting(is_transient=only_keys):
            with attempt:
                raise next(groups)
    assert asked == [KeyError, KeyError, KeyError, OSError]
    assert caught.value is attempt.error
    assert attempt.number == 2


async def test_a_cancellation_in_a_group_is_never_swallowed(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(ExceptionGroup) as caught, trio.move_on_after(5):
        async for attempt in reconnecting(is_transient=lambda _: True):
            with attempt:
                try:
                    await trio.sleep_forever()
                except trio.Cancelled as cancelled:
                    raise group(OSError(), cancelled) from None
    assert [type(error) for error in caught.value.exceptions] == [OSError]
    assert (attempt.number, attempt.error) == (1, None)


async def test_a_connection_that_is_lost_again_and_again(autojump_clock: trio.testing.MockClock) -> None:
    received: list[str | bytes] = []
    async for attempt in reconnecting(random=lambda: CONSTANTLY):
        with attempt:
            async with memory_websocket_pair() as (client, server):
                await server.send(str(attempt.number))
                received.append(await client.receive())
                if attempt.number == 3:
                    break
                server._connection.transport.abort()
                await client.receive()
    assert received == ["1", "2", "3"]
    assert isinstance(attempt.error, trio_ws.ConnectionClosedError | None)
    assert trio.current_time() == 1 + 2


async def test_cancelled_in_a_pause_or_in_an_attempt(autojump_clock: trio.testing.MockClock) -> None:
    with trio.move_on_after(1000) as scope:
        async for attempt in reconnecting(random=lambda: CONSTANTLY):
            with attempt:
                raise OSError
    assert scope.cancelled_caught
    with trio.move_on_after(1) as scope:
        async for attempt in reconnecting():
            with attempt:
                async with memory_websocket_pair() as (client, _):
                    await client.receive()
    assert scope.cancelled_caught
    assert client.ready_state is trio_ws.ReadyState.CLOSED
    assert attempt.error is None
    assert trio.current_time() == 1001


async def test_each_round_is_a_checkpoint() -> None:
    attempts = reconnecting(random=lambda: 0.0)
    for _ in range(3):
        with trio.testing.assert_checkpoints():
            attempt = await anext(attempts)
        with attempt as entered:
            assert entered is attempt


async def test_an_attempt_that_is_not_used_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="`with attempt:`"):
        async for _ in reconnecting():
            pass


async def test_it_tells_the_log(autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "trio_ws.reconnecting"):
        await pauses([OSError("no route\n")])
    assert [record.getMessage() for record in caplog.records] == [
        "attempt 1 ended: OSError('no route\\n')",
        "attempt 2 begins in 1 s",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": 0}, r"Backoff(base=0): it must be a number of seconds above 0"),
        ({"cap": -1}, r"Backoff(cap=-1): it must be a number of seconds above 0"),
        ({"reset_after": -1}, r"Backoff(reset_after=-1): it must be a number of seconds from 0 on"),
        ({"base": float("nan")}, "Backoff(base=nan)"),
        ({"base": "1"}, "Backoff(base='1')"),
        ({"cap": True}, "Backoff(cap=True)"),
    ],
)
def test_options_are_checked(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Backoff(**options)
    assert message in str(caught.value)


def test_arguments_are_checked() -> None:
    with pytest.raises(TypeError, match="backoff must be a Backoff"):
        reconnecting(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is_transient must be a function"):
        reconnecting(is_transient=OSError())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="random must be a function"):
        reconnecting(random=0.5)  # type: ignore[arg-type]
