"""What every transport does once it pushes: over sockets, in each way to be told of them, over streams and TLS."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from trio_ws._net.socket_transport import MOST_READ, SocketTransport, prepare_socket
from trio_ws._net.stream_transport import StreamTransport
from trio_ws._net.tls import TLSTransport
from trio_ws._reactor import Reactor
from trio_ws._readiness import WRITE
from trio_ws._transport import Transport
from trio_ws._util.nursery import BackgroundNursery

from ..raw import as_stream, client_context, read_all, reset, server_context, tcp_pair
from ..reactors import READINESS, SETS

MEBIBYTE = bytes(range(256)) * 4096


class Listener:
    """Notes what a transport tells it, and keeps the reactor running."""

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.data = b""
        self.on_data: Callable[[bytes], None] = lambda data: None

    def has(self, size: int) -> bool:
        return len(self.data) == size

    def data_received(self, data: bytes) -> None:
        assert data
        self.data += data
        self.on_data(data)

    def eof_received(self) -> None:
        self.heard.append("eof")

    def connection_lost(self, error: Exception) -> None:
        self.heard.append(error)

    def resume_writing(self) -> None:
        self.heard.append("resume")

    def peer_ended(self) -> None:
        self.heard.append("peer ended")

    def crash(self, error: Exception) -> None:
        self.heard.append(("crash", error))

    def abandon(self) -> None:
        self.heard.append("abandon")


@dataclass
class Scene:
    """A transport that pushes, what it pushes to, and the peer's stream.

    Attributes:
        tells_early: whether the end is told while reading is paused.
        socket: the peer's, if there is one.
    """

    transport: Transport
    reactor: Reactor
    peer: trio.abc.HalfCloseableStream
    listener: Listener = field(default_factory=Listener)
    tells_early: bool = True
    socket: socket.socket | None = None


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110  # the test's own condition
            await trio.sleep(0.001)


@asynccontextmanager
async def over_socket(family: int, readiness: str) -> AsyncGenerator[Scene]:
    ours, theirs = socket.socketpair() if family == socket.AF_UNIX else tcp_pair(socket.AddressFamily(family))
    async with BackgroundNursery() as nursery, as_stream(theirs) as peer:
        reactor = Reactor(nursery, shield=True, readiness=READINESS[readiness](nursery))
        tells_early = readiness in SETS
        yield Scene(SocketTransport(prepare_socket(ours)), reactor, peer, tells_early=tells_early, socket=theirs)


@asynccontextmanager
async def over_stream() -> AsyncGenerator[Scene]:
    ours, theirs = memory_stream_pair()
    async with BackgroundNursery() as nursery:
        yield Scene(StreamTransport(ours, nursery), Reactor(nursery, shield=True), theirs, tells_early=False)


@asynccontextmanager
async def over_tls() -> AsyncGenerator[Scene]:
    ours, theirs = tcp_pair()
    async with BackgroundNursery() as nursery, as_stream(theirs) as below:
        peer = trio.SSLStream(below, client_context(), server_hostname="localhost", https_compatible=True)
        transport = TLSTransport(SocketTransport(ours), server_context(), server_side=True)
        async with trio.open_nursery() as both:
            both.start_soon(transport.handshake)
            both.start_soon(peer.do_handshake)

        class Peer(trio.abc.HalfCloseableStream):
            send_all = peer.send_all
            receive_some = peer.receive_some

            async def wait_send_all_might_not_block(self) -> None:
                raise NotImplementedError

            async def send_eof(self) -> None:
                await peer.unwrap()

            async def aclose(self) -> None:
                await peer.aclose()

        yield Scene(transport, Reactor(nursery, shield=True), Peer(), tells_early=False)


SCENES: dict[str, Callable[[], AbstractAsyncContextManager[Scene]]] = {
    **{f"tcp by {kind}": partial(over_socket, socket.AF_INET, kind) for kind in READINESS},
    **{f"unix by {kind}": partial(over_socket, socket.AF_UNIX, kind) for kind in READINESS},
    "stream": over_stream,
    "tls": over_tls,
}
SOCKETS = [kind for kind in SCENES if " by " in kind]
ANY_TCP = f"tcp by {next(iter(SETS))}"


@asynccontextmanager
async def pushing(kind: str) -> AsyncGenerator[Scene]:
    """A transport that has begun to push; at the end it is aborted, and the reactor has ended."""
    async with SCENES[kind]() as scene:
        scene.reactor.add(scene.listener)
        scene.transport.start(scene.listener, scene.reactor)
        try:
            yield scene
        finally:
            scene.transport.abort()
            scene.reactor.remove(scene.listener)


every_kind = pytest.mark.parametrize("kind", SCENES)
every_socket = pytest.mark.parametrize("kind", SOCKETS)


@every_kind
async def test_what_comes_is_pushed_and_then_the_end(kind: str) -> None:
    async with pushing(kind) as scene:
        for size in (1, 100, 10_000):
            await scene.peer.send_all(bytes(size))
            await until(partial(scene.listener.has, size))
            scene.listener.data = b""
        await scene.peer.send_all(b"last")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.peer.send_eof)
            await until(lambda: scene.listener.heard)
            scene.transport.write_eof()
        assert (scene.listener.data, scene.listener.heard) == (b"last", ["eof"])


@every_kind
async def test_nothing_is_pushed_before_start_returns_and_what_came_before_is(kind: str) -> None:
    async with SCENES[kind]() as scene:
        await scene.peer.send_all(b"early")
        await wait_all_tasks_blocked()
        scene.reactor.add(scene.listener)
        scene.transport.start(scene.listener, scene.reactor)
        assert scene.listener.data == b""
        await until(lambda: scene.listener.data == b"early")
        scene.transport.abort()
        scene.reactor.remove(scene.listener)


@every_kind
async def test_a_mebibyte_comes_and_goes(kind: str) -> None:
    async with pushing(kind) as scene:
        received = bytearray()

        async def read_peer() -> None:
            while len(received) < 2 * len(MEBIBYTE):
                received.extend(await scene.peer.receive_some(65536))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.peer.send_all, MEBIBYTE)
            scene.transport.write(MEBIBYTE[:1000])
            scene.transport.write_large(MEBIBYTE[1000:1004], MEBIBYTE[1004:])
            scene.transport.write(MEBIBYTE)
            nursery.start_soon(read_peer)
        await until(lambda: len(scene.listener.data) == len(MEBIBYTE))
        assert bytes(received) == 2 * MEBIBYTE
        assert scene.listener.data == MEBIBYTE
        await until(lambda: not scene.transport.unsent)
        assert set(scene.listener.heard) <= {"resume"}


@every_kind
async def test_it_is_told_when_some_of_what_waited_has_gone(kind: str) -> None:
    async with pushing(kind) as scene:
        scene.transport.write(MEBIBYTE * 8)
        assert scene.transport.unsent
        left = 8 * len(MEBIBYTE)
        while left:
            left -= len(await scene.peer.receive_some(65536))
        await until(lambda: not scene.transport.unsent)
        assert set(scene.listener.heard) == {"resume"}


@every_kind
async def test_a_paused_transport_pushes_nothing_until_it_is_resumed(kind: str) -> None:
    async with pushing(kind) as scene:
        scene.listener.on_data = lambda data: scene.transport.pause_reading()
        await scene.peer.send_all(b"one")
        await until(lambda: scene.listener.data)
        await scene.peer.send_all(b"two")
        await trio.sleep(0.01)
        scene.transport.poll()
        assert (scene.listener.data, scene.listener.heard) == (b"one", [])
        scene.transport.resume_reading()
        assert scene.listener.data == b"one"
        await until(lambda: scene.listener.data == b"onetwo")
        scene.transport.resume_reading()
        scene.transport.resume_reading()
        await scene.peer.send_all(b"three")
        await until(lambda: scene.listener.data == b"onetwothree")


@every_kind
async def test_what_came_before_the_end_is_pushed_after_a_pause(kind: str) -> None:
    async with pushing(kind) as scene:
        scene.transport.pause_reading()
        async with trio.open_nursery() as nursery:
            await scene.peer.send_all(b"before the end")
            nursery.start_soon(scene.peer.send_eof)
            await trio.sleep(0.01)
            assert scene.listener.data == b""
            assert "eof" not in scene.listener.heard
            if scene.tells_early:
                assert "peer ended" in scene.listener.heard
            scene.listener.heard.clear()
            scene.transport.resume_reading()
            await until(lambda: scene.listener.heard)
            scene.transport.write_eof()
        assert (scene.listener.data, scene.listener.heard) == (b"before the end", ["eof"])


@every_kind
async def test_after_abort_nothing_is_pushed(kind: str) -> None:
    async with pushing(kind) as scene:
        await scene.peer.send_all(b"late")
        scene.transport.abort()
        before = scene.listener.data
        scene.transport.poll()
        scene.transport.pause_reading()
        scene.transport.resume_reading()
        await wait_all_tasks_blocked()
        assert (scene.listener.data, scene.listener.heard) == (before, [])


@every_kind
async def test_an_abort_behind_a_resume_is_the_last(kind: str) -> None:
    async with pushing(kind) as scene:
        scene.transport.pause_reading()
        await scene.peer.send_all(b"late")
        await trio.sleep(0.01)
        scene.transport.resume_reading()
        scene.transport.abort()
        await trio.sleep(0.01)
        assert (scene.listener.data, scene.listener.heard) == (b"", [])


@every_kind
async def test_the_end_is_pushed_once(kind: str) -> None:
    async with pushing(kind) as scene, trio.open_nursery() as nursery:
        nursery.start_soon(scene.peer.send_eof)
        await until(lambda: scene.listener.heard)
        scene.transport.pause_reading()
        scene.transport.resume_reading()
        await trio.sleep(0.01)
        assert scene.listener.heard == ["eof"]
        scene.transport.write_eof()


@every_kind
async def test_an_abort_within_a_push_is_the_last(kind: str) -> None:
    async with pushing(kind) as scene:
        scene.listener.on_data = lambda data: scene.transport.abort()
        await scene.peer.send_all(MEBIBYTE[:5000])
        await until(lambda: scene.listener.data)
        await trio.sleep(0.005)
        assert scene.listener.heard == []


@every_kind
async def test_a_bug_of_the_receiver_is_its_own(kind: str) -> None:
    bug = ZeroDivisionError("a bug")

    def fail(data: bytes) -> None:
        raise bug

    async with pushing(kind) as scene:
        scene.listener.on_data = fail
        await scene.peer.send_all(b"x")
        await until(lambda: scene.listener.heard)
        assert scene.listener.heard == [("crash", bug)]


@every_kind
async def test_a_bug_after_an_abort_is_nobodys(kind: str) -> None:
    async with pushing(kind) as scene:

        def fail(data: bytes) -> None:
            scene.transport.abort()
            raise ZeroDivisionError("a bug")

        scene.listener.on_data = fail
        await scene.peer.send_all(b"x")
        await until(lambda: scene.listener.data)
        await wait_all_tasks_blocked()
        assert len(scene.listener.heard) <= 1  # a stream tells, whose task saw it


class Mute(trio.abc.SendStream):
    """A way out that is broken."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError("mute")

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_stream_that_breaks_in_a_pause_tells_and_gives_what_had_come() -> None:
    ours, theirs = memory_stream_pair()
    async with BackgroundNursery() as nursery:
        transport = StreamTransport(trio.StapledStream(Mute(), ours.receive_stream), nursery)
        listener, reactor = Listener(), Reactor(nursery, shield=True)
        reactor.add(listener)
        transport.pause_reading()
        transport.start(listener, reactor)
        await theirs.send_all(b"last")
        await wait_all_tasks_blocked()
        transport.write(b"x")
        await wait_all_tasks_blocked()
        assert (listener.data, listener.heard) == (b"", ["peer ended"])
        transport.resume_reading()
        await wait_all_tasks_blocked()
        assert listener.data == b"last"
        assert [str(heard) for heard in listener.heard[1:]] == ["mute"]
        transport.abort()
        reactor.remove(listener)


# ---- sockets alone ----


@every_socket
async def test_a_reset_is_told_as_an_error(kind: str) -> None:
    async with pushing(kind) as scene:
        assert scene.socket is not None
        await scene.peer.send_all(b"x")
        await until(lambda: scene.listener.data)
        if "unix" in kind:  # it has no reset but by what is unread
            scene.transport.write(b"unread")
        reset(scene.socket)
        await until(lambda: scene.listener.heard)
        (error,) = scene.listener.heard
        assert isinstance(error, ConnectionResetError)
        scene.transport.write(b"into the void")
        assert not scene.transport.unsent


async def test_a_reset_is_told_in_a_pause() -> None:
    async with pushing(ANY_TCP) as scene:
        assert scene.socket is not None
        scene.transport.pause_reading()
        reset(scene.socket)
        await until(lambda: scene.listener.heard)
        assert scene.listener.heard[0] == "peer ended"
        assert isinstance(scene.transport.error, ConnectionResetError)


@every_socket
async def test_what_waits_is_dropped_when_the_peer_resets(kind: str) -> None:
    async with pushing(kind) as scene:
        assert scene.socket is not None
        scene.transport.write(MEBIBYTE * 8)
        reset(scene.socket)
        await until(lambda: not scene.transport.unsent)
        await until(lambda: [heard for heard in scene.listener.heard if isinstance(heard, OSError)])


@every_socket
async def test_what_is_here_is_pushed_at_once_when_it_is_asked_for(kind: str) -> None:
    async with pushing(kind) as scene:
        await wait_all_tasks_blocked()
        assert scene.socket is not None
        scene.transport.poll()
        scene.socket.sendall(b"now")
        scene.transport.poll()
        assert scene.listener.data == b"now"


@every_socket
async def test_the_other_direction_goes_on_after_the_end(kind: str) -> None:
    async with pushing(kind) as scene:
        await scene.peer.send_eof()
        await until(lambda: scene.listener.heard)
        scene.transport.write(MEBIBYTE * 4)
        assert scene.transport.unsent

        async def end() -> None:
            await until(lambda: not scene.transport.unsent)
            scene.transport.write_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(end)
            assert await read_all(scene.peer) == MEBIBYTE * 4
        assert scene.listener.heard[0] == "eof"


@every_socket
async def test_what_waited_before_the_start_goes_by_itself(kind: str) -> None:
    async with SCENES[kind]() as scene:
        scene.transport.write(MEBIBYTE * 8)
        assert scene.transport.unsent
        scene.reactor.add(scene.listener)
        scene.transport.start(scene.listener, scene.reactor)
        left = 8 * len(MEBIBYTE)
        while left:
            left -= len(await scene.peer.receive_some(65536))
        scene.transport.abort()
        scene.reactor.remove(scene.listener)


async def test_an_aborted_transport_is_not_watched() -> None:
    async with over_socket(socket.AF_INET, next(iter(SETS))) as scene:
        scene.transport.abort()
        scene.reactor.add(scene.listener)
        scene.transport.start(scene.listener, scene.reactor)
        await wait_all_tasks_blocked()
        scene.reactor.remove(scene.listener)
        assert scene.listener.heard == []


async def test_a_repeated_abort_leaves_the_next_socket_of_that_descriptor_alone() -> None:
    async with pushing(ANY_TCP) as scene:
        assert isinstance(scene.transport, SocketTransport)
        ours, theirs = tcp_pair()
        with ours, theirs:
            scene.transport.abort()
            os.dup2(ours.fileno(), scene.transport.fd)
            following, listener = SocketTransport(socket.socket(fileno=scene.transport.fd)), Listener()
            following.start(listener, scene.reactor)
            scene.transport.abort()
            theirs.send(b"still here")
            await until(lambda: listener.data == b"still here")
            following.abort()


async def test_a_step_reads_a_socket_once_and_others_run_between(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pushing(ANY_TCP) as scene:
        sizes: list[int] = []
        scene.listener.on_data = lambda data: sizes.append(len(data))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.peer.send_all, MEBIBYTE * 8)
            await until(lambda: sum(sizes) == 8 * len(MEBIBYTE))
        assert max(sizes) <= MOST_READ


async def test_a_paused_transport_pushes_nothing_when_it_is_asked() -> None:
    async with pushing(ANY_TCP) as scene:
        assert scene.socket is not None
        scene.transport.pause_reading()
        scene.socket.sendall(b"later")
        await wait_all_tasks_blocked()
        scene.transport.poll()
        assert scene.listener.data == b""
        scene.transport.resume_reading()
        await until(lambda: scene.listener.data == b"later")
        scene.transport.abort()
        scene.transport.poll()
        assert scene.listener.data == b"later"


async def test_a_transport_that_has_not_been_started_has_nobody_to_push_to() -> None:
    ours, theirs = tcp_pair()
    async with as_stream(theirs) as peer:
        transport = SocketTransport(prepare_socket(ours))
        await peer.send_all(b"early")
        transport.poll()
        with trio.fail_after(5):
            while (data := transport.read()) is None:
                await transport.wait_readable()
        assert data == b"early"
        transport.abort()


async def test_room_that_is_not_there_is_not_told() -> None:
    async with pushing(ANY_TCP) as scene:
        assert isinstance(scene.transport, SocketTransport)
        scene.transport.write(MEBIBYTE * 8)
        await wait_all_tasks_blocked()
        waiting = scene.transport.unsent
        assert waiting
        heard = list(scene.listener.heard)
        assert scene.transport.handle_events(WRITE) == 0
        assert (scene.transport.unsent, scene.listener.heard) == (waiting, heard)


async def test_where_the_system_does_not_say_what_it_holds_only_ours_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pushing(ANY_TCP) as scene:
        scene.transport.write(MEBIBYTE * 8)
        await wait_all_tasks_blocked()
        assert scene.transport.unacknowledged > scene.transport.unsent > 0
        monkeypatch.setattr("trio_ws._net.socket_transport._ASK_HELD", None)
        assert scene.transport.unacknowledged == scene.transport.unsent
