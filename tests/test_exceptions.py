"""The tree of errors: each is what it means."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest
import trio

import trio_ws
from trio_ws import CloseInfo, WebSocketError
from trio_ws._exceptions import closes_with, is_only_closed

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (trio_ws.InvalidURL, (WebSocketError, ValueError)),
        (trio_ws.HandshakeRejected, (trio_ws.HandshakeError,)),
        (trio_ws.InvalidHandshake, (trio_ws.HandshakeError,)),
        (trio_ws.ProxyError, (trio_ws.HandshakeError,)),
        (trio_ws.HandshakeTimeout, (trio_ws.HandshakeError, trio.TooSlowError)),
        (trio_ws.ConnectionClosedOK, (trio_ws.ConnectionClosed, trio.EndOfChannel)),
        (trio_ws.ConnectionClosedError, (trio_ws.ConnectionClosed, trio.BrokenResourceError)),
        (trio_ws.ConnectionClosedLocally, (trio_ws.ConnectionClosed, trio.ClosedResourceError)),
        (trio_ws.LocalProtocolError, (trio_ws.ProtocolError,)),
        (trio_ws.RemoteProtocolError, (trio_ws.ProtocolError,)),
        (trio_ws.MessageTooBig, (trio_ws.RemoteProtocolError,)),
        (trio_ws.ProtocolError, (WebSocketError,)),
        (trio_ws.ConnectionClosed, (WebSocketError,)),
        (trio_ws.HandshakeError, (WebSocketError,)),
    ],
)
def test_an_error_is_what_it_means(error: type[Exception], bases: tuple[type[Exception], ...]) -> None:
    assert all(issubclass(error, base) for base in bases)


def test_the_root_takes_a_code_or_a_message() -> None:
    short = WebSocketError(4001, "bye")
    assert (short.close_code, short.reason, str(short)) == (4001, "bye", "4001 bye")
    full = WebSocketError("bad move", close_code=4001, reason="cheating")
    assert (full.close_code, full.reason, str(full)) == (4001, "cheating", "bad move")
    plain = WebSocketError("what happened")
    assert (plain.close_code, plain.reason, str(plain)) == (None, "", "what happened")
    assert str(WebSocketError()) == ""
    assert WebSocketError(reason="no code means 1000").close_code == 1000
    assert WebSocketError(1011, "out of memory").close_code == 1011  # and every other that an endpoint may send


def test_the_root_checks_its_code() -> None:
    with pytest.raises(ValueError, match="code 1006 is not allowed"):
        WebSocketError(1006)
    with pytest.raises(ValueError, match="reason has 124 bytes"):
        WebSocketError(close_code=1000, reason="x" * 124)


def test_a_rejection_carries_the_answer() -> None:
    error = trio_ws.HandshakeRejected(403, {"server": "x"}, b"no")
    assert (error.status, error.headers, error.body) == (403, {"server": "x"}, b"no")
    assert str(error) == "the server rejected the WebSocket handshake with HTTP status 403"


@pytest.mark.parametrize(
    ("error", "received", "sent", "code", "reason", "clean", "text"),
    [
        (
            trio_ws.ConnectionClosedOK,
            CloseInfo(1000, "done"),
            CloseInfo(1000),
            1000,
            "done",
            True,
            "received 1000 (OK) 'done'; sent 1000 (OK)",
        ),
        (
            trio_ws.ConnectionClosedError,
            None,
            CloseInfo(1002),
            1006,
            "",
            False,
            "no Close frame received; sent 1002 (protocol error)",
        ),
        (
            trio_ws.ConnectionClosedError,
            None,
            None,
            1006,
            "",
            False,
            "the connection was lost: no Close frame was received or sent",
        ),
        (
            trio_ws.ConnectionClosedLocally,
            None,
            CloseInfo(4000, "mine"),
            4000,
            "mine",
            False,
            "no Close frame received; sent 4000 (private use) 'mine'",
        ),
        (trio_ws.ConnectionClosedLocally, None, None, 1006, "", False, None),
        (trio_ws.ConnectionClosedLocally, CloseInfo(4000, "theirs"), CloseInfo(4001), 4000, "theirs", True, None),
        (
            trio_ws.ConnectionClosedError,
            CloseInfo(4000),
            None,
            4000,
            "",
            False,
            "received 4000 (private use); none sent",
        ),
    ],
)
def test_a_closed_connection_explains_itself(
    error: type[trio_ws.ConnectionClosed],
    received: CloseInfo | None,
    sent: CloseInfo | None,
    code: int,
    reason: str,
    clean: bool,
    text: str | None,
) -> None:
    closed = error(received, sent)
    assert (closed.received, closed.sent, closed.code, closed.reason) == (received, sent, code, reason)
    assert (closed.close_code, closed.was_clean) == (code, clean)
    assert text is None or str(closed) == text


ASKED = WebSocketError(4001, "bye")
LOST = trio_ws.ConnectionClosedError(None, None)
THEIRS = trio_ws.ConnectionClosedError(CloseInfo(4002, "theirs"), None)


async def cancelled() -> trio.Cancelled:
    """Give a Cancelled, which only trio can make."""
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as error:
            caught = error
            raise
    return caught


def in_groups(*errors: BaseException) -> BaseException:
    """Put errors into a group, the last one deeper than the others, as nurseries inside each other do."""
    *first, last = errors
    return BaseExceptionGroup("outer", [*first, BaseExceptionGroup("inner", [BaseExceptionGroup("", [last])])])


CLOSING: list[tuple[list[BaseException], tuple[int, str] | None]] = [
    ([ASKED], (4001, "bye")),
    ([WebSocketError(1011)], (1011, "")),
    ([WebSocketError("\u20ac", close_code=1008, reason="\u20ac" * 41)], (1008, "\u20ac" * 41)),
    ([WebSocketError("no code")], None),
    ([trio_ws.MessageTooBig("x" * 200)], (1009, "x" * 123)),
    ([trio_ws.MessageTooBig("\ud800")], (1009, "?")),
    ([trio_ws.HandshakeTimeout("slow")], None),
    ([LOST], None),
    ([trio_ws.ConnectionClosedOK(CloseInfo(1005), None)], None),
    ([THEIRS], (4002, "theirs")),
    ([ValueError()], None),
    ([KeyboardInterrupt()], None),
    # Several at once: only one can be told.
    ([ASKED, WebSocketError("the same", close_code=4001, reason="bye")], (4001, "bye")),
    ([ASKED, WebSocketError(4001, "another reason")], None),
    ([ASKED, WebSocketError("no code")], None),
    ([ASKED, ValueError()], None),
    ([ValueError(), ASKED], None),
    ([ASKED, KeyboardInterrupt()], None),
    ([ASKED, LOST], (4001, "bye")),
    ([THEIRS, ASKED], (4001, "bye")),
    ([LOST, THEIRS], None),
    ([LOST, ValueError()], None),
]


@pytest.mark.parametrize(("errors", "said"), CLOSING)
def test_what_an_error_closes_with(errors: list[BaseException], said: tuple[int, str] | None) -> None:
    assert closes_with(in_groups(*errors)) == said
    if len(errors) == 1:
        assert closes_with(errors[0]) == said


async def test_a_cancelled_says_nothing_of_the_code() -> None:
    assert closes_with(await cancelled()) is None
    assert closes_with(in_groups(await cancelled(), await cancelled())) is None
    assert closes_with(in_groups(await cancelled(), ASKED)) == (4001, "bye")
    assert closes_with(in_groups(ASKED, await cancelled())) == (4001, "bye")
    assert closes_with(in_groups(ValueError(), await cancelled())) is None


def test_an_error_that_only_tells_that_connections_are_closed() -> None:
    assert all(is_only_closed(error) for error in (LOST, THEIRS, in_groups(LOST), in_groups(LOST, THEIRS)))
    others = (ASKED, in_groups(ASKED), in_groups(LOST, ASKED), ValueError(), in_groups(LOST, ValueError()))
    assert not any(is_only_closed(error) for error in others)


def test_a_breach_knows_its_code() -> None:
    breach = trio_ws.RemoteProtocolError("what")
    assert (breach.close_code, breach.reason, str(breach)) == (1002, "what", "what")
    assert trio_ws.RemoteProtocolError("what", 1008).close_code == 1008
    assert trio_ws.MessageTooBig("how big").close_code == 1009


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize(
    "error",
    [
        WebSocketError("bad move", close_code=4001, reason="cheating"),
        WebSocketError(4001, "bye"),
        trio_ws.InvalidURL("no"),
        trio_ws.HandshakeRejected(403, {"server": "x"}, b"no"),
        trio_ws.HandshakeTimeout("slow"),
        trio_ws.ConnectionClosedOK(CloseInfo(1000, "done"), CloseInfo(1000)),
        trio_ws.ConnectionClosedError(None, CloseInfo(1002)),
        trio_ws.ConnectionClosedLocally(None, None),
        trio_ws.RemoteProtocolError("what", 1008),
        trio_ws.MessageTooBig("how big"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_can_be_copied_and_sent_to_another_process(
    error: WebSocketError, copied: Callable[[WebSocketError], WebSocketError]
) -> None:
    other = copied(error)
    assert type(other) is type(error)
    assert (str(other), other.args, vars(other)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize("first", [True, b"x", 4001.0])
def test_the_root_takes_nothing_else_first(first: object) -> None:
    with pytest.raises(TypeError, match="code must be an int"):
        WebSocketError(first)  # type: ignore[call-overload]


def test_a_reason_after_a_message_must_be_named() -> None:
    with pytest.raises(TypeError, match="reason"):
        WebSocketError("message", "reason")  # type: ignore[call-overload]
