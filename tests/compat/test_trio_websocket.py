"""trio-websocket and our module of its names, side by side: one program, the same behaviour."""

from __future__ import annotations

import gc
import inspect
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

import pytest
import trio
import trio.testing
import trio_websocket as original

from trio_ws.compat import trio_websocket as ours
from trio_ws.testing import WrappedStream, memory_stream_pair

from ..raw import answer, client_context, raw_server, read_head, server_context

Library = types.ModuleType  # for mypy the objects are ours: that the others are alike is what is tested

HOST = "127.0.0.1"
NAMES = {name for name in vars(original) if not name.startswith("_")}
CLASSES = [name for name in sorted(NAMES) if isinstance(getattr(original, name), type)]


# The original leaves sockets for the garbage collector, which warns.
LEAKS = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(params=[pytest.param(original, marks=LEAKS, id="original"), pytest.param(ours, id="ours")])
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    library = request.param
    assert isinstance(library, types.ModuleType)
    yield library
    if library is original:
        gc.collect()


@asynccontextmanager
async def serving(
    library: Library,
    handler: Callable[[ours.WebSocketRequest], Awaitable[object]],
    ssl_context: object = None,
    **options: object,
) -> AsyncGenerator[ours.WebSocketServer, None]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(library.serve_websocket, handler, HOST, 0, ssl_context, **options))
        nursery.cancel_scope.cancel()


async def echo(request: ours.WebSocketRequest) -> None:
    connection = await request.accept()
    while True:
        try:
            await connection.send_message(await connection.get_message())
        except (original.ConnectionClosed, ours.ConnectionClosed):
            break


def url_of(server: ours.WebSocketServer, path: str = "/") -> str:
    return f"ws://{HOST}:{server.port}{path}"


def endpoint(value: object) -> ours.Endpoint:
    assert type(value).__name__ == "Endpoint"
    return cast("ours.Endpoint", value)


def reason_of(connection: ours.WebSocketConnection) -> ours.CloseReason:
    assert type(connection.closed).__name__ == "CloseReason"
    return cast("ours.CloseReason", connection.closed)


class Mutable(WrappedStream):
    """A stream that can be made to send nothing any more."""

    muted = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.muted:
            await trio.sleep_forever()
        await super().send_all(data)


async def link(
    library: Library, nursery: trio.Nursery, below: trio.abc.Stream, other: trio.abc.Stream
) -> tuple[ours.WebSocketConnection, ours.WebSocketConnection]:
    """Make a client's and a server's connection over two ends of a stream."""
    clients: list[ours.WebSocketConnection] = []

    async def open_client() -> None:
        clients.append(await library.wrap_client_stream(nursery, below, "example.com", "/x"))

    async with trio.open_nursery() as opening:
        opening.start_soon(open_client)
        request = await library.wrap_server_stream(nursery, other)
        assert (request.path, request.local, request.remote) == ("/x", repr(other), repr(other))
        server = await request.accept()
    return clients[0], server


# ---- names ----


def test_no_name_is_missing() -> None:
    assert {name for name in NAMES if not hasattr(ours, name)} == set()
    assert ours.__version__ == original.__version__


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_takes_what_the_original_takes(name: str) -> None:
    theirs = getattr(original, name)
    if not callable(theirs) or name in ("WebSocketConnection", "WebSocketRequest"):  # which nobody makes
        return
    if isinstance(theirs, type) and "__init__" not in vars(theirs):
        return  # as its base has it
    expected = inspect.signature(theirs).parameters
    given = inspect.signature(getattr(ours, name)).parameters
    assert [(one.name, one.kind, one.default) for one in given.values()] == [
        (one.name, one.kind, one.default) for one in expected.values()
    ]
    assert inspect.iscoroutinefunction(theirs) == inspect.iscoroutinefunction(getattr(ours, name))


@pytest.mark.parametrize("name", CLASSES)
def test_each_class_has_the_members_of_the_original(name: str) -> None:
    theirs, mine = getattr(original, name), getattr(ours, name)
    for member, value in vars(theirs).items():
        if member.startswith("_"):
            continue
        assert hasattr(mine, member)
        if isinstance(value, types.FunctionType):
            assert list(inspect.signature(getattr(mine, member)).parameters) == list(
                inspect.signature(value).parameters
            )
    assert [base.__name__ for base in mine.__mro__] == [base.__name__ for base in theirs.__mro__]


@pytest.mark.parametrize("code", [*range(990, 1020), 1999, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 65535])
def test_close_codes_have_their_names(code: int) -> None:
    theirs, mine = original.CloseReason(code, "because"), ours.CloseReason(code, "because")
    assert (mine.code, mine.name, mine.reason, repr(mine)) == (theirs.code, theirs.name, theirs.reason, repr(theirs))


@pytest.mark.parametrize("arguments", [(HOST, 80, False), (HOST, 443, True), (HOST, 80, True), ("::1", 8000, False)])
def test_endpoints(arguments: tuple[str, int, bool]) -> None:
    theirs, mine = original.Endpoint(*arguments), ours.Endpoint(*arguments)
    assert (mine.address, mine.port, mine.is_ssl) == (theirs.address, theirs.port, theirs.is_ssl)
    assert (mine.url, repr(mine)) == (theirs.url, repr(theirs))


def test_errors_show_themselves_as_the_original_ones_do() -> None:
    for module in (original, ours):
        assert repr(module.ConnectionClosed(None)) == "ConnectionClosed<None>"
        assert repr(module.ConnectionRejected(403, (), None)) == "ConnectionRejected<status_code=403>"
        reason = module.CloseReason(1001, None)
        assert str(module.ConnectionClosed(reason)) == "CloseReason<code=1001, name=GOING_AWAY, reason=None>"
    assert "HTTP status 403" in str(ours.ConnectionRejected(403, (), None))


# ---- programs ----


async def test_an_echo_server_and_its_client(library: Library) -> None:
    async with serving(library, echo) as server, library.open_websocket_url(url_of(server)) as connection:
        await connection.send_message("hello")
        await connection.send_message(b"\x00\xff")
        assert [await connection.get_message(), await connection.get_message()] == ["hello", b"\x00\xff"]
        with pytest.raises(ValueError, match="must be str or bytes"):
            await connection.send_message(5)
        await connection.ping()
        await connection.ping(b"payload")
        await connection.pong()
        assert connection.closed is None
    assert repr(connection.closed) == "CloseReason<code=1000, name=NORMAL_CLOSURE, reason=None>"
    with pytest.raises(library.ConnectionClosed) as caught:
        await connection.send_message("too late")
    assert caught.value.reason.code == 1000
    for call in (connection.get_message, connection.ping, connection.pong):
        with pytest.raises(library.ConnectionClosed):
            await call()
    await connection.aclose()


async def test_what_both_sides_know_of_each_other(library: Library) -> None:
    async def handler(request: ours.WebSocketRequest) -> None:
        assert request.path == "/chat/room?x=1"
        assert request.proposed_subprotocols == ("b", "a")
        assert (b"x-from", b"client") in request.headers
        assert {b"host", b"sec-websocket-protocol"}.isdisjoint(dict(request.headers))
        connection = await request.accept(subprotocol="a", extra_headers=[(b"X-From", b"server")])
        assert (connection.subprotocol, connection.path) == ("a", "/chat/room?x=1")
        assert (connection.is_client, connection.is_server) == (False, True)
        assert (endpoint(connection.local).port, endpoint(connection.remote).is_ssl) == (server.port, False)
        assert repr(connection.local) == repr(request.local)
        assert repr(connection.remote) == repr(request.remote)
        await connection.send_message(endpoint(connection.remote).url)

    async with serving(library, handler) as server:
        assert [endpoint(listener).url for listener in server.listeners] == [f"ws://{HOST}:{server.port}"]
        async with library.open_websocket(
            *(HOST, server.port, "/chat/room?x=1"),
            use_ssl=False,
            subprotocols=["b", "a"],
            extra_headers=[(b"X-From", b"client")],
        ) as connection:
            assert await connection.get_message() == connection.local.url
            assert (connection.subprotocol, connection.path) == ("a", "/chat/room?x=1")
            assert (connection.is_client, connection.is_server) == (True, False)
            assert connection.remote.url == url_of(server, "")
            headers = dict(connection.handshake_headers)
            assert headers[b"x-from"] == b"server"
            assert {b"upgrade", b"sec-websocket-accept"}.isdisjoint(headers)
            assert str(connection).startswith("client-")


async def test_over_tls(library: Library) -> None:
    async with serving(library, echo, server_context()) as server:
        assert endpoint(server.listeners[0]).is_ssl
        async with (
            library.open_websocket("localhost", server.port, "/", use_ssl=client_context()) as connection,
            library.open_websocket_url(f"wss://localhost:{server.port}", client_context()) as other,
        ):
            for one in (connection, other):
                await one.send_message("hello")
                assert await one.get_message() == "hello"
                assert (one.remote.is_ssl, one.local.is_ssl) == (True, True)


async def test_a_rejection(library: Library) -> None:
    async def handler(request: ours.WebSocketRequest) -> None:
        await request.reject(403, extra_headers=[(b"X-Why", b"no")], body=b"go away")

    async with serving(library, handler) as server:
        with pytest.raises(library.ConnectionRejected) as caught:
            async with library.open_websocket_url(url_of(server)):
                pytest.fail("it was rejected")
    assert isinstance(caught.value, library.HandshakeError)
    assert (caught.value.status_code, caught.value.body) == (403, b"go away")
    assert dict(caught.value.headers)[b"x-why"] == b"no"


async def test_a_rejection_without_a_body(library: Library) -> None:
    async with serving(library, lambda request: request.reject(404)) as server:
        with pytest.raises(library.ConnectionRejected) as caught:
            async with library.open_websocket_url(url_of(server)):
                pytest.fail("it was rejected")
    assert (caught.value.status_code, caught.value.body) == (404, b"")


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1012), 3000, 4001])
async def test_the_code_and_the_reason_of_a_close(library: Library, code: int) -> None:
    told: list[ours.CloseReason | None] = []
    ended = trio.Event()

    async def handler(request: ours.WebSocketRequest) -> None:
        connection = await request.accept()
        with pytest.raises(library.ConnectionClosed) as caught:
            await connection.get_message()
        told.extend((caught.value.reason, connection.closed))
        ended.set()

    async with serving(library, handler) as server:
        async with library.open_websocket_url(url_of(server)) as connection:
            await connection.aclose(code, "the reason")
        with trio.fail_after(5):
            await ended.wait()
    assert [repr(reason) for reason in [*told, connection.closed]] == [repr(ours.CloseReason(code, "the reason"))] * 3


async def test_messages_before_a_close_are_given_first(library: Library) -> None:
    async def handler(request: ours.WebSocketRequest) -> None:
        connection = await request.accept()
        await connection.send_message("one")
        await connection.send_message("two")
        await connection.aclose(4000)

    async with (
        serving(library, handler) as server,
        library.open_websocket_url(url_of(server), message_queue_size=5) as connection,
    ):
        assert [await connection.get_message(), await connection.get_message()] == ["one", "two"]
        with pytest.raises(library.ConnectionClosed) as caught:
            await connection.get_message()
        assert (caught.value.reason.code, caught.value.reason.reason) == (4000, None)


async def test_a_message_that_is_too_big(library: Library) -> None:
    async with (
        serving(library, echo, max_message_size=100) as server,
        library.open_websocket_url(url_of(server)) as connection,
    ):
        await connection.send_message("x" * 100)
        assert await connection.get_message() == "x" * 100
        await connection.send_message("x" * 101)
        with pytest.raises(library.ConnectionClosed) as caught:
            await connection.get_message()
        assert (caught.value.reason.code, caught.value.reason.name) == (1009, "MESSAGE_TOO_BIG")


async def test_a_peer_that_vanishes(library: Library) -> None:
    one, other = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        client, server = await link(library, nursery, one, other)
        await server.send_message("hello")
        assert await client.get_message() == "hello"
        await trio.aclose_forcefully(other)
        with pytest.raises(library.ConnectionClosed) as caught:
            await client.get_message()
        assert (caught.value.reason.code, caught.value.reason.name) == (1006, "ABNORMAL_CLOSURE")
        await client.aclose()
        await server.aclose()


async def test_a_connection_in_a_nursery_of_the_caller(library: Library) -> None:
    async with serving(library, echo) as server, trio.open_nursery() as nursery:
        for connection in (
            await library.connect_websocket(nursery, HOST, server.port, "/", use_ssl=False),
            await library.connect_websocket_url(nursery, url_of(server), max_message_size=2**24),
        ):
            async with connection:
                await connection.send_message("hello")
                assert await connection.get_message() == "hello"
            assert connection.closed is not None


async def test_pings_with_one_payload_cannot_be_on_their_way_twice(library: Library) -> None:
    one, other = memory_stream_pair()
    mutable = Mutable(other)
    async with trio.open_nursery() as nursery:
        client, _ = await link(library, nursery, one, mutable)
        mutable.muted = True
        nursery.start_soon(client.ping, b"x")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(ValueError, match="x"):
            await client.ping(b"x")
        nursery.cancel_scope.cancel()


async def test_nobody_listens(library: Library) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(library.HandshakeError) as caught:
        async with library.open_websocket_url(f"ws://{HOST}:{port}/"):
            pytest.fail("nobody listens")
    assert isinstance(caught.value.__cause__, OSError)
    async with trio.open_nursery() as nursery:
        with pytest.raises(OSError, match="connect"):
            await library.connect_websocket_url(nursery, f"ws://{HOST}:{port}/")


async def test_a_server_that_says_nothing() -> None:  # in which the original waits for ever
    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    async with listener:
        url = f"ws://{HOST}:{listener.socket.getsockname()[1]}/"
        with pytest.raises(ours.ConnectionTimeout):
            async with ours.open_websocket_url(url, connect_timeout=0.05):
                pytest.fail("nobody answers")


async def test_a_server_that_does_not_close(library: Library) -> None:
    async def talk(stream: trio.SocketStream) -> None:
        await stream.send_all(answer(await read_head(stream)))
        await trio.sleep_forever()

    async with raw_server(talk) as port:
        url = f"ws://{HOST}:{port}/"
        with pytest.raises(library.DisconnectionTimeout):
            async with library.open_websocket_url(url, disconnect_timeout=0.05):
                pass
        with pytest.raises(KeyError):
            async with library.open_websocket_url(url, disconnect_timeout=0.05):
                raise KeyError("of the block")


async def test_the_exception_of_a_block_comes_out_as_it_is(library: Library) -> None:
    boom = KeyError()
    async with serving(library, echo) as server:
        with pytest.raises(KeyError) as caught:
            async with library.open_websocket_url(url_of(server)) as connection:
                raise boom
    assert caught.value is boom
    assert connection.closed.code == 1000


async def test_a_cancelled_block(library: Library) -> None:
    async with serving(library, echo) as server:
        with trio.move_on_after(0.05) as scope:
            async with library.open_websocket_url(url_of(server)) as connection:
                await connection.get_message()
    assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda library: library.open_websocket_url("http://x/"), "ws:"),
        (lambda library: library.open_websocket_url("ws:/x"), "host"),
        (lambda library: library.open_websocket_url("ws://x/", client_context()), "None for ws:"),
    ],
)
def test_urls_are_checked_at_once(library: Library, call: Callable[[Library], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(library)


async def test_use_ssl_is_checked(library: Library) -> None:
    with pytest.raises(TypeError, match="use_ssl"):
        async with library.open_websocket(HOST, 1, "/", use_ssl="yes"):
            pytest.fail("no such thing")


async def test_a_server_on_listeners_of_the_caller(library: Library) -> None:
    listeners = await trio.open_ssl_over_tcp_listeners(0, server_context(), host=HOST, https_compatible=True)
    server = library.WebSocketServer(echo, listeners)
    assert server.listeners[0].url == f"wss://{HOST}:{server.port}"
    async with trio.open_nursery() as nursery:
        assert await nursery.start(server.run) is server
        async with library.open_websocket_url(f"wss://{HOST}:{server.port}", client_context()) as connection:
            await connection.send_message("hello")
            assert await connection.get_message() == "hello"
        nursery.cancel_scope.cancel()


async def test_listeners_without_a_port(library: Library) -> None:
    with pytest.raises(ValueError, match="at least one"):
        library.WebSocketServer(echo, [])
    one, two = (await trio.open_tcp_listeners(0, host=HOST))[0], (await trio.open_tcp_listeners(0, host=HOST))[0]
    async with one, two:
        with pytest.raises(RuntimeError, match="more than"):
            library.WebSocketServer(echo, [one, two]).port  # noqa: B018

    class Odd(trio.abc.Listener[trio.abc.Stream]):
        async def accept(self) -> trio.abc.Stream:
            raise AssertionError

        async def aclose(self) -> None:
            raise AssertionError

    server = library.WebSocketServer(echo, [Odd()])
    assert "Odd" in server.listeners[0]
    with pytest.raises(RuntimeError, match="port"):
        server.port  # noqa: B018


async def test_handlers_in_a_nursery_of_the_caller(library: Library) -> None:
    async with trio.open_nursery() as nursery, serving(library, echo, handler_nursery=nursery) as server:
        async with library.open_websocket_url(url_of(server)) as connection:
            await connection.send_message("hello")
            assert await connection.get_message() == "hello"
            assert nursery.child_tasks
        nursery.cancel_scope.cancel()


async def test_a_client_that_never_asks_is_dropped(library: Library) -> None:
    async with serving(library, echo, connect_timeout=0.05) as server:
        stream = await trio.open_tcp_stream(HOST, server.port)
        async with stream:
            with trio.fail_after(5):
                while await stream.receive_some():
                    pass  # ours says 408 first
