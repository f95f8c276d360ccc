"""The WebSocket as a user sees it."""

from __future__ import annotations

import array
import weakref
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

import trio_ws
from tests.connection.sides import end_of, one_side, two_sides
from trio_ws import CloseInfo, ReadyState, WebSocket, WebSocketError
from trio_ws._wire.events import Close, Pong
from trio_ws._wire.frames import Opcode


async def test_what_is_known_of_it(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        assert (websocket.url, websocket.protocol, websocket.extensions) == ("ws://example.com/", "chat", "")
        assert (websocket.http_version, websocket.latency) == ("1.1", None)
        assert websocket.request_headers["host"] == "example.com"
        assert websocket.response_headers["upgrade"] == "websocket"
        assert (websocket.local_address, websocket.remote_address) == (("127.0.0.1", 1), ("127.0.0.1", 2))
        assert (websocket.ready_state, websocket.close_info) == (ReadyState.OPEN, None)
        assert repr(websocket) == f"<WebSocket client ws://example.com/ HTTP/1.1 OPEN #{websocket.id}>"
        peer.transport.write_eof()
        await websocket.wait_closed()
        assert (websocket.ready_state, websocket.close_info) == (ReadyState.CLOSED, CloseInfo(1006))
    async with one_side(is_client=False) as (websocket, _):
        assert repr(websocket) == f"<WebSocket server ws://example.com/ HTTP/1.1 OPEN #{websocket.id}>"


async def test_it_counts(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server):
        await client.send("hello")
        await server.send(await server.receive())
        assert await client.receive() == "hello"
        await client.ping(b"1234")
        counted = client.statistics()
        assert (counted.messages_sent, counted.messages_received) == (1, 1)
        assert (counted.bytes_sent, counted.bytes_received) == (11 + 10, 7 + 6)
        assert (counted.pings_sent, counted.pongs_received, server.statistics().pongs_sent) == (1, 1, 1)
        assert (server.statistics().pings_received, counted.send_buffer, counted.receive_buffer) == (1, 0, 0)


async def test_iteration_ends_when_the_peer_closes_normally(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        for number in range(3):
            peer.send(str(number))
        peer.close(1001)
        assert [message async for message in websocket] == ["0", "1", "2"]


async def test_iteration_raises_when_the_connection_breaks(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.send("0")
        peer.close(4000)
        got = []
        with pytest.raises(trio_ws.ConnectionClosedError):
            async for message in websocket:
                got.append(message)  # noqa: PERF401  # what came before the error matters
        assert got == ["0"]


@pytest.mark.parametrize("payload", ["text", 5, ["x"]])
async def test_a_payload_is_bytes(payload: object, autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        for call in (websocket.ping, websocket.pong):
            with pytest.raises(TypeError, match="payload must be bytes-like"):
                await call(payload)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="payload must be bytes-like"):
            trio_ws.ping(websocket, payload)  # type: ignore[arg-type]
        assert peer.heard() == []


async def test_a_payload_has_at_most_125_bytes(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with pytest.raises(ValueError, match="126 bytes: at most 125"):
            await websocket.ping(bytes(126))
        with pytest.raises(ValueError, match="126 bytes: at most 125"):
            await websocket.pong(bytes(126))
        with pytest.raises(ValueError, match="126 bytes: at most 125"):
            trio_ws.ping(websocket, bytes(126))
        assert peer.heard() == []
        await websocket.pong(bytearray(125))
        await websocket.pong(memoryview(b"view"))
        assert peer.heard() == [Pong(bytes(125)), Pong(b"view")]


@pytest.mark.parametrize("kind", [str, bytes, bytearray, lambda data: memoryview(data)[::1]])
@pytest.mark.parametrize("text", [None, True, False])
async def test_a_message_is_sent_and_received_as_the_caller_wants(
    kind: Callable[..., str | bytes], text: bool | None, autojump_clock: MockClock
) -> None:
    value = "grüße" if kind is str else kind("grüße".encode())
    as_text = kind is str if text is None else text
    async with two_sides() as (client, server):
        for _ in range(2):
            await client.send(value, text=text)
            client.send_nowait(value, text=text)
        assert await server.receive() == ("grüße" if as_text else "grüße".encode())
        assert await server.receive(decode=True) == "grüße"
        assert await server.receive(decode=False) == "grüße".encode()
        await wait_all_tasks_blocked()
        assert server.receive_nowait(decode=not as_text) == ("grüße".encode() if as_text else "grüße")


async def test_what_is_no_utf8_is_neither_sent_as_text_nor_lost(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server):
        for send in (client.send_nowait, client.send):
            with pytest.raises(UnicodeDecodeError):
                await send(b"\xff", text=True)  # type: ignore[misc]
            with pytest.raises(TypeError, match="message must be str or bytes-like, not int"):
                await send(5, text=True)  # type: ignore[arg-type, misc]
        await client.send(b"\xff")
        with pytest.raises(UnicodeDecodeError) as caught:
            await server.receive(decode=True)
        assert caught.value.object == b"\xff"
        await server.send("still works")
        assert await client.receive() == "still works"


async def test_bad_arguments_send_nothing(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with pytest.raises(TypeError):
            await websocket.send(5)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            websocket.send_nowait(None)  # type: ignore[arg-type]
        with pytest.raises(UnicodeEncodeError):
            await websocket.send("\ud800")
        with pytest.raises(ValueError, match="code 1004 is not allowed"):
            await websocket.aclose(1004)
        with pytest.raises(ValueError, match="reason has"):
            await websocket.aclose(1000, "x" * 124)
        with pytest.raises(TypeError, match="code must be"):
            await websocket.aclose("1000")  # type: ignore[arg-type]
        assert peer.heard() == []
        assert websocket.ready_state is ReadyState.OPEN
        await websocket.send("still works")
        assert peer.heard() == ["still works"]


class Problem(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (None, 1000, ""),
        (Problem("secret"), 1011, ""),
        (WebSocketError(4001, "bye"), 4001, "bye"),
        (WebSocketError("no code"), 1011, ""),
        (trio_ws.MessageTooBig("too big"), 1009, "too big"),
        (trio_ws.ConnectionClosedError(CloseInfo(4001, "theirs"), None), 4001, "theirs"),
        (trio_ws.ConnectionClosedError(None, None), 1011, ""),
        (trio_ws.HandshakeRejected(403, {}), 1011, ""),
        (ExceptionGroup("several", [Problem()]), 1011, ""),
        (ExceptionGroup("", [ExceptionGroup("", [WebSocketError(4001, "bye")])]), 4001, "bye"),
        (ExceptionGroup("", [WebSocketError(4001), Problem()]), 1011, ""),
        (trio.TooSlowError(), 1011, ""),
    ],
)
async def test_leaving_the_block_closes_with_a_code(
    error: Exception | None, code: int, reason: str, autojump_clock: MockClock
) -> None:
    caught = None
    async with one_side(close_timeout=1) as (websocket, peer):
        try:
            async with websocket:
                if error is not None:
                    raise error
        except Exception as raised:
            caught = raised
        assert peer.heard() == [Close(CloseInfo(code, reason))]
    assert caught is error


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_leaving_the_block_in_a_hurry_drops_the_connection(
    error: type[BaseException], autojump_clock: MockClock
) -> None:
    async with one_side() as (websocket, peer):
        before = trio.current_time()
        with pytest.raises(error):
            async with websocket:
                raise error
        assert trio.current_time() == before
        assert peer.heard() == [Close(CloseInfo(1001))]
        assert end_of(peer).closed


async def test_leaving_the_block_by_cancellation_drops_the_connection(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        with trio.move_on_after(1):
            async with websocket:
                await websocket.receive()
        assert peer.heard() == [Close(CloseInfo(1001))]
        assert websocket.ready_state is ReadyState.CLOSED


@pytest.mark.parametrize("is_client", [True, False])
async def test_a_code_raised_while_the_block_is_cancelled_is_sent_without_waiting(
    is_client: bool, autojump_clock: MockClock
) -> None:
    async def raise_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise WebSocketError(4001, "cleared")

    async with one_side(is_client=is_client) as (websocket, peer):
        before = trio.current_time()
        with pytest.RaisesGroup(WebSocketError), trio.move_on_after(1):
            async with websocket, trio.open_nursery() as nursery:
                nursery.start_soon(raise_when_cancelled)
                nursery.start_soon(trio.sleep_forever)
        assert trio.current_time() == before + 1
        assert peer.heard() == [Close(CloseInfo(4001, "cleared"))]
        assert end_of(peer).closed


async def test_what_can_wait_is_a_checkpoint(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server):
        with assert_checkpoints():
            await client.send("x")
        await wait_all_tasks_blocked()
        server.send_nowait("y")
        await wait_all_tasks_blocked()
        with assert_checkpoints():
            await server.receive()
            await server.send("z")  # of two calls one passes the scheduler, whatever the reactor did before
        with assert_checkpoints():
            await client.ping()
        with assert_checkpoints():
            await client.pong()
        with assert_checkpoints():
            await client.aclose()
        with assert_checkpoints():
            await client.aclose()
        with assert_checkpoints():
            await client.wait_closed()


async def test_a_call_need_not_pass_the_scheduler_if_the_reactor_has_run_and_two_in_a_row_do(
    autojump_clock: MockClock,
) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with one_side() as (websocket, peer), trio.open_nursery() as nursery:
        for number in range(100):
            peer.send(str(number))
        await wait_all_tasks_blocked()
        nursery.start_soon(count_turns)
        await trio.lowlevel.checkpoint()
        for _ in range(100):
            await websocket.receive()
        assert 98 <= turns <= 100  # but for the first call, each lets others run
        turns = 0
        for _ in range(100):
            await websocket.send("x")
        assert 99 <= turns <= 101
        nursery.cancel_scope.cancel()


async def test_a_call_that_need_not_pass_the_scheduler_looks_for_cancellation(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        for call in (websocket.receive, partial(websocket.send, "never")):
            peer.send("kept")
            await wait_all_tasks_blocked()
            with trio.CancelScope() as scope:
                scope.cancel()
                await call()
            assert scope.cancelled_caught
        assert [await websocket.receive(), await websocket.receive()] == ["kept", "kept"]
        assert peer.heard() == []


async def test_what_cannot_wait_is_no_checkpoint(autojump_clock: MockClock) -> None:
    async with two_sides() as (client, server):
        with assert_no_checkpoints():
            client.send_nowait("x")
        with assert_no_checkpoints():
            trio_ws.ping(client)
        await wait_all_tasks_blocked()
        with assert_no_checkpoints():
            assert server.receive_nowait() == "x"


async def test_nothing_happens_in_a_cancelled_scope(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        for call in (
            lambda: websocket.send("x"),
            websocket.receive,
            websocket.ping,
            websocket.pong,
            websocket.wait_closed,
        ):
            with trio.CancelScope() as scope:
                scope.cancel()
                await call()
            assert scope.cancelled_caught
        assert peer.heard() == []
        assert websocket.ready_state is ReadyState.OPEN


async def test_what_is_known_of_it_tells_how_it_stands(autojump_clock: MockClock) -> None:
    async with one_side(is_client=False) as (websocket, peer):
        assert (websocket.buffered_amount, list(ReadyState)) == (0, [0, 1, 2, 3])
        end_of(peer).room = 3
        await websocket.send(b"12345678")
        assert websocket.buffered_amount == 7
        peer.close(4000)
        await wait_all_tasks_blocked()
        assert (websocket.ready_state, websocket.close_info) == (ReadyState.CLOSING, None)
        assert websocket.buffered_amount == 7 + 4
        assert repr(websocket) == f"<WebSocket server ws://example.com/ HTTP/1.1 CLOSING #{websocket.id}>"
        end_of(peer).make_room(100)
        end_of(peer).end()
        assert await websocket.wait_closed() == CloseInfo(4000, "", was_clean=True)
        assert (websocket.ready_state, websocket.buffered_amount) == (ReadyState.CLOSED, 0)
        assert repr(websocket) == f"<WebSocket server ws://example.com/ HTTP/1.1 CLOSED #{websocket.id}>"


class Listener(trio_ws.Instrument):
    def __init__(self) -> None:
        self.heard: list[tuple[str, WebSocket, object]] = []

    def websocket_open(self, websocket: WebSocket) -> None:
        self.heard.append(("open", websocket, None))

    def websocket_ping(self, websocket: WebSocket, payload: bytes) -> None:
        self.heard.append(("ping", websocket, payload))

    def websocket_pong(self, websocket: WebSocket, payload: bytes) -> None:
        self.heard.append(("pong", websocket, payload))

    def socket_error(self, websocket: WebSocket, error: BaseException) -> None:
        self.heard.append(("error", websocket, type(error)))

    def websocket_close(self, websocket: WebSocket, info: CloseInfo) -> None:
        self.heard.append(("close", websocket, info))


async def test_each_instrument_is_told_with_the_websocket_itself(autojump_clock: MockClock) -> None:
    one, two = Listener(), Listener()
    async with one_side(instruments=(one, two)) as (websocket, peer):
        peer.send(b"?", Opcode.PING)
        peer.send(b"!", Opcode.PONG)
        peer.transport.write_eof()
        await websocket.wait_closed()
        assert one.heard == [
            ("open", websocket, None),
            ("ping", websocket, b"?"),
            ("pong", websocket, b"!"),
            ("error", websocket, trio_ws.ConnectionClosedError),
            ("close", websocket, CloseInfo(1006)),
        ]
        assert two.heard == one.heard


async def test_the_block_gives_the_websocket_and_passes_its_value_on(autojump_clock: MockClock) -> None:
    async with one_side(close_timeout=0) as (websocket, _):
        async with websocket as same:
            assert same is websocket
        assert websocket.ready_state is ReadyState.CLOSED


async def test_a_block_left_by_the_connections_own_end_says_nothing_more(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.close(4001, "theirs")
        end_of(peer).end()
        with pytest.raises(trio_ws.ConnectionClosedError) as caught:
            async with websocket:
                await websocket.receive()
        assert (caught.value.code, caught.value.reason) == (4001, "theirs")
        assert peer.heard() == [Close(CloseInfo(4001, "theirs"))]


async def test_a_reason_too_long_to_pass_on_is_cut_between_characters(autojump_clock: MockClock) -> None:
    async with one_side(close_timeout=0) as (websocket, peer):
        with pytest.raises(trio_ws.MessageTooBig):
            async with websocket:
                raise trio_ws.MessageTooBig("€" * 50)
        assert peer.heard() == [Close(CloseInfo(1009, "€" * 41))]


@pytest.mark.parametrize(
    "error",
    [
        BaseExceptionGroup("interrupted", [KeyboardInterrupt(), ValueError()]),
        GeneratorExit(),
        BaseExceptionGroup("nested", [BaseExceptionGroup("inner", [SystemExit()])]),
    ],
)
async def test_what_is_no_exception_drops_the_connection_in_groups_too(
    error: BaseException, autojump_clock: MockClock
) -> None:
    async with one_side() as (websocket, peer):
        before = trio.current_time()
        with pytest.raises(type(error)) as caught:
            async with websocket:
                raise error
        assert caught.value is error
        assert trio.current_time() == before
        assert peer.heard() == [Close(CloseInfo(1001))]


async def test_leaving_the_block_is_bounded_by_a_scope_around(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        before = trio.current_time()
        with trio.move_on_after(2) as scope:
            async with websocket:
                pass
        assert (scope.cancelled_caught, trio.current_time()) == (True, before + 2)
        assert peer.heard() == [Close(CloseInfo(1000))]
        assert end_of(peer).closed


BAD_CALLS: list[tuple[Callable[[WebSocket], Awaitable[object]], type[Exception], str]] = [
    (lambda ws: ws.aclose(True), TypeError, "code must be an int, not bool"),
    (lambda ws: ws.aclose(1000.0), TypeError, "code must be an int, not float"),  # type: ignore[arg-type]
    (lambda ws: ws.aclose(1000, b"x"), TypeError, "reason must be a str, not bytes"),  # type: ignore[arg-type]
    (lambda ws: ws.aclose(None, "x"), ValueError, "reason 'x' needs a code"),
    (lambda ws: ws.aclose(999), ValueError, "code 999 is not allowed"),
    (lambda ws: ws.aclose(1005), ValueError, "code 1005 is not allowed"),
    (lambda ws: ws.aclose(1006), ValueError, "code 1006 is not allowed"),
    (lambda ws: ws.aclose(2999), ValueError, "code 2999 is not allowed"),
    (lambda ws: ws.aclose(5000), ValueError, "code 5000 is not allowed"),
    (lambda ws: ws.aclose(1000, "€" * 42), ValueError, "reason has 126 bytes"),
    (lambda ws: ws.aclose(1000, "\ud800"), ValueError, "cannot be encoded"),
    (lambda ws: ws.send(None), TypeError, "message must be str or bytes-like, not NoneType"),  # type: ignore[arg-type]
    (lambda ws: ws.send(["x"]), TypeError, "message must be str or bytes-like, not list"),  # type: ignore[arg-type]
    (lambda ws: ws.pong("x"), TypeError, "payload must be bytes-like, not str"),  # type: ignore[arg-type]
    (lambda ws: ws.ping(0), TypeError, "payload must be bytes-like, not int"),  # type: ignore[arg-type]
    (lambda ws: ws.ping(bytearray(126)), ValueError, "payload has 126 bytes"),
]


@pytest.mark.parametrize(("call", "error", "words"), BAD_CALLS)
async def test_what_breaks_a_rule_is_refused_and_sends_nothing(
    call: Callable[[WebSocket], Awaitable[object]], error: type[Exception], words: str, autojump_clock: MockClock
) -> None:
    async with one_side() as (websocket, peer):
        with pytest.raises(error, match=words):
            await call(websocket)
        assert peer.heard() == []
        assert websocket.ready_state is ReadyState.OPEN
        assert websocket.statistics() == trio_ws.Statistics()


@pytest.mark.parametrize("make", [bytearray, memoryview])
async def test_what_was_sent_may_be_changed_afterwards(
    make: Callable[[bytearray], bytearray | memoryview], autojump_clock: MockClock
) -> None:
    async with one_side(is_client=False) as (websocket, peer):
        end_of(peer).room = 0
        data = bytearray(b"before")
        await websocket.send(make(data))
        await websocket.send(make(data))
        data[:] = b"after!"
        await wait_all_tasks_blocked()
        end_of(peer).make_room(1000)
        await wait_all_tasks_blocked()
        assert peer.heard() == [b"before", b"before"]


class StepsOf(trio.abc.Instrument):
    """Notes what ``look`` gives after each step of one task."""

    def __init__(self, name: str, look: Callable[[], object]) -> None:
        self._name = name
        self._look = look
        self.seen: list[object] = []

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name == self._name:
            self.seen.append(self._look())


class Tracked(bytearray):
    """A message that tells when it is gone."""


async def test_a_sender_holds_no_message_while_others_run(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, _), trio.open_nursery() as nursery:
        message = [Tracked(b"x")]
        reference = weakref.ref(message[0])
        steps = StepsOf("sender", lambda: (websocket.statistics().messages_sent, reference() is None))
        trio.lowlevel.add_instrument(steps)
        nursery.start_soon(lambda: websocket.send(message.pop()), name="sender")
        await wait_all_tasks_blocked()
        trio.lowlevel.remove_instrument(steps)
        assert steps.seen == [(1, True), (1, True)]  # its checkpoint, its end


async def test_a_wide_memoryview_is_sent_as_its_bytes(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        view = memoryview(array.array("I", [1, 2]))
        await websocket.send(view)
        await websocket.pong(view)
        assert peer.heard() == [view.tobytes(), Pong(view.tobytes())]


async def test_the_sync_calls_never_wait_also_when_it_is_closed(autojump_clock: MockClock) -> None:
    async with one_side() as (websocket, peer):
        peer.close()
        await wait_all_tasks_blocked()
        with assert_no_checkpoints():
            trio_ws.ping(websocket)
            with pytest.raises(trio_ws.ConnectionClosedOK):
                websocket.send_nowait("x")
            with pytest.raises(trio_ws.ConnectionClosedOK):
                websocket.receive_nowait()
            websocket.statistics()
            repr(websocket)
        assert peer.heard() == [Close(CloseInfo(1000))]
