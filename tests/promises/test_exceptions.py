"""Promise 5: exceptions arrive bare, and background tasks never raise into user code."""

from __future__ import annotations

import logging
import signal
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from wsproto.events import CloseConnection, TextMessage

import trio_ws
from trio_ws import (
    CloseInfo,
    ConnectionClosedError,
    ConnectionClosedOK,
    Instrument,
    WebSocket,
    WebSocketError,
    WebSocketStream,
)
from trio_ws._util.nursery import BackgroundNursery
from trio_ws._websocket.instrument import Instruments
from trio_ws.testing import BreakAfter

from ..raw_peer import RawPeer
from ..serving import LOCALHOST, echo, live_tasks, serving, until
from .links import URL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from trio_ws import WebSocketRequest

    Scope = AbstractAsyncContextManager[WebSocket]
    Opening = Callable[[str], AbstractAsyncContextManager[WebSocket | WebSocketStream]]

# Loose groups are trio's, and on their way out: what they do must not change what we do.
strict_or_loose = pytest.mark.parametrize("strict", [True, False], ids=["strict", "loose"])
loose_is_deprecated = pytest.mark.filterwarnings("ignore::trio.TrioDeprecationWarning")
pytestmark = loose_is_deprecated
each_side = pytest.mark.parametrize("side", ["client", "server"])


class Boom(Exception):
    """An error of the user's."""


@asynccontextmanager
async def scope_of(side: str) -> AsyncGenerator[Scope, None]:
    """Give the scope of a WebSocket, not yet entered; its other side echoes."""
    if side == "client":
        async with serving(partial(trio_ws.serve_websocket, echo, LOCALHOST, 0)) as server:
            yield trio_ws.open_websocket(f"ws://{LOCALHOST}:{server.port}/")
        return
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo_as_a_client, theirs)
        request = await trio_ws.wrap_server_stream(nursery, ours)
        yield request.accept()


async def echo_as_a_client(stream: trio.abc.Stream) -> None:
    """Connect over a stream and send every message back."""
    async with (
        trio.open_nursery() as nursery,
        await trio_ws.wrap_client_stream(nursery, stream, URL) as websocket,
    ):
        try:
            while True:
                await websocket.send(await websocket.receive())
        except trio_ws.ConnectionClosed:
            pass


def run(strict: bool, side: str, body: Callable[[Scope], Awaitable[None]]) -> None:
    """Run a body with a scope, under strict or loose groups; nothing may be left running."""

    async def main() -> None:
        tasks = live_tasks()
        with trio.fail_after(20):
            async with scope_of(side) as scope:
                await body(scope)
        assert live_tasks() == tasks

    trio.run(main, strict_exception_groups=strict)


# ---- the block's own exceptions ----


@each_side
@strict_or_loose
@pytest.mark.parametrize(
    "error",
    [
        Boom("mine"),
        ExceptionGroup("mine", [Boom("one"), ValueError("two")]),
        ExceptionGroup("mine", [Boom("alone")]),
        WebSocketError(4000, "enough"),
        KeyboardInterrupt("mine"),
        BaseExceptionGroup("mine", [KeyboardInterrupt()]),
        trio.TooSlowError("mine"),
        ConnectionClosedOK(None, None),
    ],
    ids=lambda error: f"{type(error).__name__}",
)
def test_the_blocks_exception_leaves_as_it_is(strict: bool, side: str, error: BaseException) -> None:
    context, cause = KeyError("context"), LookupError("cause")
    error.__context__, error.__cause__ = context, cause

    async def body(scope: Scope) -> None:
        with pytest.raises(type(error)) as caught:
            async with scope as websocket:
                await websocket.send("hello")
                raise error
        assert caught.value is error
        assert error.__context__ is context
        assert error.__cause__ is cause
        assert not hasattr(error, "__notes__")

    run(strict, side, body)


@each_side
@strict_or_loose
def test_an_exception_that_meets_a_dead_connection_leaves_as_it_is(strict: bool, side: str) -> None:
    error = Boom()

    async def body(scope: Scope) -> None:
        with pytest.raises(Boom) as caught:
            async with scope as websocket:
                websocket._connection.transport.abort()
                raise error
        assert caught.value is error
        assert error.__context__ is None

    run(strict, side, body)


@each_side
@strict_or_loose
def test_a_value_can_be_returned_out_of_a_scope(strict: bool, side: str) -> None:
    async def block(scope: Scope) -> str | bytes:
        async with scope as websocket:
            for _ in range(2):
                await websocket.send("hello")
                return await websocket.receive()
        raise NotImplementedError

    async def body(scope: Scope) -> None:
        assert await block(scope) == "hello"

    run(strict, side, body)


# ---- cancellation ----


@each_side
@strict_or_loose
def test_a_cancellation_from_around_is_absorbed_by_its_scope(strict: bool, side: str) -> None:
    async def body(scope: Scope) -> None:
        raised: list[BaseException] = []
        with trio.CancelScope() as around:
            try:
                async with scope as websocket:
                    around.cancel()
                    await websocket.receive()
            except BaseException as error:
                raised.append(error)
                raise
        assert around.cancelled_caught
        assert [type(error) for error in raised] == [trio.Cancelled]

    run(strict, side, body)


@each_side
@strict_or_loose
def test_a_deadline_is_a_bare_too_slow_error(strict: bool, side: str) -> None:
    async def body(scope: Scope) -> None:
        with pytest.raises(trio.TooSlowError):
            with trio.fail_after(0.01):
                async with scope as websocket:
                    await websocket.receive()

    run(strict, side, body)


@each_side
@strict_or_loose
def test_an_error_of_a_cancelled_clean_up_leaves_as_it_is(strict: bool, side: str) -> None:
    error = Boom()

    async def body(scope: Scope) -> None:
        with trio.CancelScope() as around:
            with pytest.raises(Boom) as caught:
                async with scope as websocket:
                    around.cancel()
                    try:
                        await websocket.receive()
                    finally:
                        raise error
            assert caught.value is error
            assert isinstance(error.__context__, trio.Cancelled)

    run(strict, side, body)


@each_side
@strict_or_loose
def test_ctrl_c_comes_out_bare_and_never_strikes_a_task_of_ours(strict: bool, side: str) -> None:
    class CtrlC(Instrument):
        def websocket_pong(self, websocket: WebSocket, payload: bytes) -> None:
            signal.raise_signal(signal.SIGINT)  # now, while a task of ours reads

    async def body(scope: Scope) -> None:
        async with scope as websocket:
            websocket._connection.watch(websocket._reporter(Instruments([CtrlC()])))
            trio_ws.ping(websocket)
            await trio.sleep_forever()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored: pytest &
    try:
        with pytest.raises(KeyboardInterrupt):
            bare_from_one_task(strict, side, body)
    finally:
        signal.signal(signal.SIGINT, before)


def bare_from_one_task(strict: bool, side: str, body: Callable[[Scope], Awaitable[None]]) -> None:
    """Run, and take out of its group what left the nurseries of this test."""
    try:
        run(strict, side, body)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            (error,) = error.exceptions
        raise error from None


# ---- the peer ends it ----


@strict_or_loose
@pytest.mark.parametrize(
    ("code", "expected"), [(1000, ConnectionClosedOK), (1001, ConnectionClosedOK), (1011, ConnectionClosedError)]
)
def test_the_peers_close_is_raised_bare_inside_the_block_and_out_of_it(
    strict: bool, code: int, expected: type[Exception]
) -> None:
    async def main() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        peer = RawPeer(theirs, is_client=True)
        raised: list[BaseException] = []

        async def talk() -> None:
            await peer.connect()
            await peer.send(CloseConnection(code))
            await peer.finish()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            request = await trio_ws.wrap_server_stream(nursery, ours)
            with pytest.raises(expected) as caught:
                async with request.accept() as websocket:
                    try:
                        await websocket.receive()
                    except Exception as error:
                        raised.append(error)
                        raise
            assert caught.value is raised[0]
            assert caught.value.__context__ is None

    trio.run(main, strict_exception_groups=strict)


@each_side
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_lost_connection_inside_nurseries_of_the_users_is_in_their_groups_alone(side: str, depth: int) -> None:
    async def nested(websocket: WebSocket, left: int) -> None:
        if left == 0:
            await websocket.receive()
            raise NotImplementedError
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nested, websocket, left - 1)

    async def body(scope: Scope) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            async with scope as websocket, trio.open_nursery() as nursery:
                nursery.start_soon(nested, websocket, depth - 1)
                await trio.testing.wait_all_tasks_blocked()
                websocket._connection.connection_lost(OSError("gone"))
                await trio.sleep_forever()
        error: BaseException = caught.value
        for _ in range(depth):
            assert isinstance(error, ExceptionGroup)
            (error,) = error.exceptions
        assert type(error) is ConnectionClosedError

    run(True, side, body)


@strict_or_loose
def test_scopes_inside_scopes_pass_an_exception_through(strict: bool) -> None:
    error = Boom()

    async def main() -> None:
        async with serving(partial(trio_ws.serve_websocket, echo, LOCALHOST, 0)) as server:
            url = f"ws://{LOCALHOST}:{server.port}/"
            with pytest.raises(Boom) as caught:
                async with (
                    trio_ws.open_websocket(url) as first,
                    trio_ws.open_websocket(url) as second,
                    trio_ws.open_websocket(url) as third,
                ):
                    for websocket in (first, second, third):
                        await websocket.send("hello")
                        assert await websocket.receive() == "hello"
                    raise error
            assert caught.value is error
            assert error.__context__ is None

    trio.run(main, strict_exception_groups=strict)


async def test_a_generator_that_holds_a_scope_can_be_closed() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo_as_a_client, theirs)
        request = await trio_ws.wrap_server_stream(nursery, ours)

        @asynccontextmanager
        async def session() -> AsyncGenerator[WebSocket, None]:
            async with request.accept() as websocket:
                yield websocket

        async with session() as websocket:
            await websocket.send("hello")
            assert await websocket.receive() == "hello"
        assert websocket.close_info is not None
        assert websocket.close_info.code == 1000


# ---- background tasks never raise into user code ----


@pytest.mark.parametrize("error", [OSError("link down"), trio.BrokenResourceError(), ZeroDivisionError(), Boom()])
@pytest.mark.parametrize("way", ["sent", "received"])
async def test_whatever_a_stream_raises_is_the_cause_and_disturbs_no_block(error: Exception, way: str) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    peer = RawPeer(theirs, is_client=False)
    limit = {"sent": 2000.0} if way == "sent" else {"received": 400.0}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.accept)
        breaking = BreakAfter(ours, error=lambda: error, **limit)
        async with await trio_ws.wrap_client_stream(nursery, breaking, URL) as websocket:
            if way == "sent":
                await websocket.send(bytes(10_000), compress=False)
            else:
                await peer.send(TextMessage("x" * 1000))
            await trio.testing.wait_all_tasks_blocked()
            await trio.lowlevel.checkpoint()  # the block goes on undisturbed
            with pytest.raises(ConnectionClosedError) as caught:
                await websocket.receive()
            assert caught.value.code == 1006
            assert caught.value.__cause__ is error
    assert websocket.close_info is not None


async def test_an_instrument_that_raises_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Bad(Instrument):
        def websocket_pong(self, websocket: WebSocket, payload: bytes) -> None:
            raise Boom

    async with (
        serving(partial(trio_ws.serve_websocket, echo, LOCALHOST, 0)) as server,
        trio_ws.open_websocket(f"ws://{LOCALHOST}:{server.port}/", instruments=[Bad()]) as websocket,
    ):
        assert await websocket.ping() >= 0
        await websocket.send("hello")
        assert await websocket.receive() == "hello"
    assert [record.name for record in caplog.records] == ["trio_ws.instrument"]


# ---- a handler's exceptions ----


@pytest.mark.parametrize(
    ("error", "code", "logged"),
    [
        (Boom(), 1011, True),
        (ExceptionGroup("several", [Boom(), Boom()]), 1011, True),
        (WebSocketError(4000, "enough"), 4000, False),
        (WebSocketError(1013), 1013, False),
        (ExceptionGroup("nursery", [ExceptionGroup("nursery", [WebSocketError(4000)])]), 4000, False),
        (ExceptionGroup("nursery", [WebSocketError(4000), ConnectionClosedOK(None, None)]), 4000, False),
        (ExceptionGroup("nursery", [WebSocketError(4000), Boom()]), 1011, True),
        (ExceptionGroup("nursery", [WebSocketError(4000), WebSocketError(4001)]), 1011, True),
        (WebSocketError("no code"), 1011, True),
        (ConnectionClosedOK(None, None), 1011, False),
        (ExceptionGroup("several", [ConnectionClosedOK(None, None)]), 1011, False),
    ],
    ids=[
        "error",
        "group",
        "code",
        "code of the protocol's",
        "code in groups",
        "code beside closed",
        "code beside an error",
        "two codes",
        "no code",
        "closed",
        "group of closed",
    ],
)
async def test_what_a_handler_raises_ends_its_connection_and_nothing_else(
    error: Exception, code: int, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: WebSocketRequest) -> None:
        async with request.accept() as websocket:
            if request.path == "/fail":
                raise error
            await websocket.send(await websocket.receive())

    caplog.set_level(logging.ERROR)
    async with serving(partial(trio_ws.serve_websocket, handler, LOCALHOST, 0)) as server:
        url = f"ws://{LOCALHOST}:{server.port}"
        async with trio_ws.open_websocket(f"{url}/echo") as bystander:
            async with trio_ws.open_websocket(f"{url}/fail") as websocket:
                assert (await websocket.wait_closed()).code == code
            await bystander.send("hello")
            assert await bystander.receive() == "hello"
        await until(lambda: not server.connections)
    assert [record.name for record in caplog.records] == ["trio_ws.server"] * logged


@asynccontextmanager
async def connect_in_a_nursery(url: str) -> AsyncGenerator[WebSocket, None]:
    async with BackgroundNursery() as nursery, await trio_ws.connect_websocket(nursery, url) as websocket:
        yield websocket


@each_side
@strict_or_loose
@pytest.mark.parametrize("opening", [trio_ws.open_websocket, trio_ws.open_websocket_stream, connect_in_a_nursery])
def test_a_code_that_comes_out_of_a_nursery_closes_with_it_and_leaves_as_it_came(
    strict: bool, side: str, opening: Opening, caplog: pytest.LogCaptureFixture
) -> None:
    came: list[Exception] = []
    closed: list[CloseInfo] = []

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise WebSocketError(4001, "enough")

    async def raise_in_nurseries() -> None:
        try:
            async with trio.open_nursery() as outer, trio.open_nursery() as inner:
                inner.start_soon(fail)
                outer.start_soon(trio.sleep_forever)
        except Exception as error:
            came.append(error)
            raise

    async def handler(request: WebSocketRequest) -> None:
        accepted: AbstractAsyncContextManager[WebSocket | WebSocketStream] = request.accept()
        if opening is trio_ws.open_websocket_stream:
            accepted = request.accept_stream()
        async with accepted as end:
            await (raise_in_nurseries() if side == "server" else note_close(end))

    async def note_close(end: WebSocket | WebSocketStream) -> None:
        closed.append(await end.wait_closed())

    async def main() -> None:
        async with serving(partial(trio_ws.serve_websocket, handler, LOCALHOST, 0)) as server:
            try:
                async with opening(f"ws://{LOCALHOST}:{server.port}/") as end:
                    await (raise_in_nurseries() if side == "client" else note_close(end))
            except (WebSocketError, ExceptionGroup) as error:
                left.append(error)

    caplog.set_level(logging.INFO)
    left: list[Exception] = []
    trio.run(main, strict_exception_groups=strict)
    assert [id(error) for error in left] == [id(error) for error in came if side == "client"]
    assert closed == [CloseInfo(4001, "enough", was_clean=True)]
    assert caplog.records == []
