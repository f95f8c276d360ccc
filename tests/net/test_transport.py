"""The two transports, over sockets and over streams of every temper, keep the rules of ``trio_ws._transport``."""

from __future__ import annotations

import contextlib
import errno
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import (
    MemoryReceiveStream,
    MemorySendStream,
    assert_checkpoints,
    lockstep_stream_pair,
    memory_stream_pair,
    wait_all_tasks_blocked,
)

from trio_ws._net.socket_transport import (
    DRAIN_LIMIT,
    LARGE_WRITE,
    LEAST_READ,
    MOST_READ,
    READ_SIZE,
    SHORT_READS,
    SMALL_WRITES,
    UNSENT,
    UNSENT_OF_LARGE,
    SocketTransport,
    detach_socket,
    prepare_socket,
)
from trio_ws._net.stream_transport import StreamTransport

from ..raw import as_stream, open_files, read_all, reset, tcp_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from pathlib import Path

    from typing_extensions import Buffer

    from trio_ws._transport import Transport

MEBIBYTE = bytes(range(256)) * 4096


@pytest.fixture
async def pair() -> AsyncIterator[tuple[SocketTransport, socket.socket]]:
    """A transport over TCP, and the peer's socket."""
    ours, theirs = tcp_pair()
    transport = SocketTransport(ours)
    yield transport, theirs
    transport.abort()
    theirs.close()


@pytest.fixture
async def spare_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery that must be empty when the test is over."""
    async with trio.open_nursery() as nursery:
        yield nursery
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks


@contextmanager
def aborting(transport: Transport) -> Iterator[Transport]:
    """Abort a transport at the end, however the test goes: its tasks would go on for ever."""
    try:
        yield transport
    finally:
        transport.abort()


async def send_all_of(transport: Transport) -> None:
    while transport.unsent:
        await transport.drain()


async def receive(transport: Transport, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := transport.read()) != b"":
        if more is None:
            await transport.wait_readable()
        else:
            data += more
    return data


async def next_read(transport: Transport) -> bytes:
    """Wait until a read gives something, and return it."""
    while True:
        data = transport.read()
        if data is not None:
            return data
        await transport.wait_readable()


# Sockets.


async def test_a_write_to_a_socket_is_sent_at_once(pair: tuple[SocketTransport, socket.socket]) -> None:
    transport, peer = pair
    transport.write(b"hello")
    assert transport.unsent == 0
    assert peer.recv(100) == b"hello"


async def test_what_a_small_socket_buffer_refuses_is_sent_later_in_order() -> None:
    ours, theirs = tcp_pair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    transport = SocketTransport(ours)
    received = b""

    async def read_peer() -> None:
        nonlocal received
        received = await read_all(as_stream(theirs))

    async with trio.open_nursery() as nursery:
        transport.write(MEBIBYTE)
        first = transport.unsent
        assert 0 < first < len(MEBIBYTE)
        transport.write(b"second")
        transport.write(b"third")
        assert transport.unsent == first + len(b"secondthird")
        nursery.start_soon(read_peer)
        await send_all_of(transport)
        transport.write_eof()
    assert received == MEBIBYTE + b"secondthird"
    transport.abort()
    theirs.close()


async def test_a_socket_reads_what_came_then_nothing_then_the_end(pair: tuple[SocketTransport, socket.socket]) -> None:
    transport, peer = pair
    assert transport.read() is None
    peer.sendall(b"hello")
    await transport.wait_readable()
    assert transport.read() == b"hello"
    assert transport.read() is None
    peer.close()
    await transport.wait_readable()
    assert transport.read() == b""
    assert transport.read() == b""
    assert transport.error is None


async def test_a_reset_socket_reads_as_ended_and_drops_writes(pair: tuple[SocketTransport, socket.socket]) -> None:
    transport, peer = pair
    reset(peer)
    await transport.wait_readable()
    assert transport.read() == b""
    assert isinstance(transport.error, ConnectionResetError)
    transport.write(b"too late")
    assert transport.unsent == 0
    assert transport.read() == b""


async def test_a_write_to_a_dead_peer_is_dropped_and_tells_why(pair: tuple[SocketTransport, socket.socket]) -> None:
    transport, peer = pair
    reset(peer)
    await transport.wait_readable()
    transport.write(b"into the void")
    assert transport.unsent == 0
    assert isinstance(transport.error, OSError)
    assert transport.error.errno in (errno.ECONNRESET, errno.EPIPE)
    assert transport.read() == b""


async def test_what_is_unsent_is_dropped_when_the_peer_resets(pair: tuple[SocketTransport, socket.socket]) -> None:
    transport, peer = pair
    while not transport.unsent:
        transport.write(MEBIBYTE)
    reset(peer)
    await send_all_of(transport)
    assert isinstance(transport.error, OSError)
    transport.write(b"more")
    assert transport.unsent == 0


async def test_waits_on_a_socket_are_cancelled_without_a_trace(pair: tuple[SocketTransport, socket.socket]) -> None:
    transport, peer = pair
    while not transport.unsent:
        transport.write(MEBIBYTE)
    unsent = transport.unsent
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.wait_readable)
        nursery.start_soon(transport.drain)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert transport.unsent == unsent
    peer.sendall(b"hello")
    await transport.wait_readable()
    assert transport.read() == b"hello"


async def test_every_wait_on_a_socket_is_a_checkpoint(pair: tuple[SocketTransport, socket.socket]) -> None:
    transport, peer = pair
    with assert_checkpoints():
        await transport.drain()
    peer.sendall(b"hello")
    await transport.wait_readable()
    with assert_checkpoints():
        await transport.wait_readable()
    transport.abort()
    with assert_checkpoints():
        await transport.wait_readable()
    with assert_checkpoints():
        await transport.drain()


async def test_abort_wakes_whoever_waits_on_a_socket_and_drops_the_rest(
    pair: tuple[SocketTransport, socket.socket],
) -> None:
    transport, _ = pair
    while not transport.unsent:
        transport.write(MEBIBYTE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.wait_readable)
        nursery.start_soon(transport.drain)
        await wait_all_tasks_blocked()
        transport.abort()
    assert transport.unsent == 0


async def test_an_aborted_socket_is_closed_and_all_else_is_harmless() -> None:
    before = open_files()
    ours, theirs = tcp_pair()
    transport = SocketTransport(ours)
    transport.abort()
    transport.abort()
    transport.write_eof()
    transport.write(b"too late")
    assert transport.read() == b""
    assert transport.unsent == transport.unacknowledged == 0
    assert transport.error is None
    assert theirs.recv(100) == b""
    theirs.close()
    assert open_files() == before


async def test_the_last_bytes_before_abort_arrive_though_input_is_unread(
    pair: tuple[SocketTransport, socket.socket],
) -> None:
    transport, peer = pair
    peer.sendall(MEBIBYTE[:100_000])
    await transport.wait_readable()
    transport.write(b"goodbye")
    transport.abort()
    # A socket closed with unread input would send RST: recv() would fail.
    assert peer.recv(100) == b"goodbye"
    assert peer.recv(100) == b""


async def test_abort_leaves_nothing_to_the_system_that_a_peer_does_not_take(
    pair: tuple[SocketTransport, socket.socket],
) -> None:
    transport, peer = pair
    while not transport.unsent:
        transport.write(MEBIBYTE)
    transport.abort()
    peer.settimeout(5)
    with pytest.raises(ConnectionResetError):
        while peer.recv(2**20):
            pass


async def test_abort_reads_only_so_much_of_what_a_peer_keeps_sending(
    pair: tuple[SocketTransport, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, peer = pair
    reads = 0

    class Counting(socket.socket):
        def recv(self, size: int, flags: int = 0) -> bytes:
            nonlocal reads
            reads += 1
            return super().recv(1, flags)

    peer.sendall(b"x" * 1000)
    plain = transport._sock
    transport._sock = Counting(fileno=plain.detach())
    transport.abort()
    assert reads == DRAIN_LIMIT


# Large frames, whose payload is not copied.


class Doled(socket.socket):
    """A socket whose sendmsg() takes as much as a test says, or raises."""

    takes: int | Exception = 0

    def sendmsg(self, buffers: Iterable[Buffer], *rest: object) -> int:
        if isinstance(self.takes, Exception):
            raise self.takes
        return super().send(b"".join(buffers)[: self.takes]) if self.takes else 0


@pytest.mark.parametrize("takes", [BlockingIOError(), 0, 1, 4, 5, 100, 4 + 2**16])
async def test_a_large_frame_arrives_wherever_the_system_cuts_it(
    pair: tuple[SocketTransport, socket.socket], takes: int | Exception
) -> None:
    transport, peer = pair
    transport._sock = doled = Doled(fileno=transport._sock.detach())
    doled.takes = takes
    payload = MEBIBYTE[: 2**16]
    transport.write_large(b"head", payload)
    left = 4 + 2**16 - (takes if isinstance(takes, int) else 0)
    assert transport.unsent == left
    transport.write_large(b"more", payload)  # waits behind what waits
    assert transport.unsent == (left + 4 + 2**16 if left else 0)
    await send_all_of(transport)
    transport.write_eof()
    assert await read_all(as_stream(peer)) == b"head" + payload + b"more" + payload


class WindowsSocket(socket.socket):
    """A socket as it is on Windows: without sendmsg()."""

    @property
    def sendmsg(self) -> object:  # type: ignore[override]
        raise AttributeError


async def test_a_large_frame_is_sent_where_the_system_cannot_gather(
    pair: tuple[SocketTransport, socket.socket],
) -> None:
    transport, peer = pair
    transport._sock = WindowsSocket(fileno=transport._sock.detach())
    for payload in (MEBIBYTE[: 2**16], MEBIBYTE):
        transport.write_large(b"head", payload)
    async with trio.open_nursery() as nursery:

        async def send_the_rest() -> None:
            await send_all_of(transport)
            transport.write_eof()

        nursery.start_soon(send_the_rest)
        assert await read_all(as_stream(peer)) == b"head" + MEBIBYTE[: 2**16] + b"head" + MEBIBYTE


async def test_a_large_frame_to_a_dead_peer_is_dropped_and_tells_why(
    pair: tuple[SocketTransport, socket.socket],
) -> None:
    transport, _ = pair
    transport._sock = doled = Doled(fileno=transport._sock.detach())
    doled.takes = BrokenPipeError()
    for _ in range(2):
        transport.write_large(b"head", bytes(2**16))
        assert (transport.unsent, transport.error) == (0, doled.takes)


async def send_all_to(transport: Transport, peer: socket.socket) -> None:
    peer.setblocking(False)
    while True:
        with contextlib.suppress(BlockingIOError):
            while peer.recv(2**20):
                pass
        if not transport.unsent:
            return
        await transport.drain()


def lowat(transport: SocketTransport) -> int:
    return transport._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)


async def test_the_system_takes_more_at_once_of_what_is_large(pair: tuple[SocketTransport, socket.socket]) -> None:
    transport, peer = pair
    prepare_socket(transport._sock)
    writes: list[tuple[Callable[[], None], int]] = [
        (lambda: transport.write(bytes(LARGE_WRITE - 1)), UNSENT),
        (lambda: transport.write(bytes(LARGE_WRITE)), UNSENT_OF_LARGE),
        (lambda: transport.write_large(b"head", bytes(LARGE_WRITE)), UNSENT_OF_LARGE),
        *[(lambda: transport.write(b"small"), UNSENT_OF_LARGE)] * (SMALL_WRITES - 1),
        (lambda: transport.write(b"small"), UNSENT),
        (lambda: transport.write_large(b"head", b"small"), UNSENT),
        (lambda: transport.write_large(b"head", bytes(LARGE_WRITE)), UNSENT_OF_LARGE),
        *[(lambda: transport.write(b"small"), UNSENT_OF_LARGE)] * (SMALL_WRITES - 1),
        (lambda: transport.write(bytes(LARGE_WRITE)), UNSENT_OF_LARGE),
        *[(lambda: transport.write(b"small"), UNSENT_OF_LARGE)] * (SMALL_WRITES - 1),
    ]
    for write, size in writes:
        write()
        assert lowat(transport) == size
        await send_all_to(transport, peer)


async def test_a_system_that_cannot_be_told_what_to_take(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()  # Unix sockets have no such option
    transport = SocketTransport(prepare_socket(ours))
    with theirs, aborting(transport):
        transport.write(bytes(LARGE_WRITE))
        assert transport.error is None
        monkeypatch.setattr("trio_ws._net.socket_transport._TCP_NOTSENT_LOWAT", None)
        for _ in range(SMALL_WRITES):
            transport.write(b"small")
        await send_all_to(transport, theirs)


# How much is asked for.


async def test_reads_are_larger_while_they_are_full(pair: tuple[SocketTransport, socket.socket]) -> None:
    transport, _ = pair
    asked = []

    class Flooded(socket.socket):
        def recv(self, size: int, flags: int = 0) -> bytes:
            asked.append(size)
            return bytes(min(size, here.pop(0)))

    few = LEAST_READ
    here = [few - 1, few, READ_SIZE - 1, READ_SIZE, MOST_READ, READ_SIZE + 1, READ_SIZE, few + 1]
    asked_for = [few, few, *[READ_SIZE] * 2, *[MOST_READ] * 3, READ_SIZE]
    here += [*[few] * (SHORT_READS - 1), few + 1, *[1] * SHORT_READS, 1]  # small ones in between do not count
    asked_for += [*[READ_SIZE] * (2 * SHORT_READS), few]
    transport._sock = flooded = Flooded(fileno=transport._sock.detach())
    while here:
        transport.read()
    assert asked == asked_for
    transport._sock = socket.socket(fileno=flooded.detach())


async def test_the_end_of_writing_leaves_reading(pair: tuple[SocketTransport, socket.socket]) -> None:
    transport, peer = pair
    transport.write(b"all")
    transport.write_eof()
    assert peer.recv(100) == b"all"
    assert peer.recv(100) == b""
    peer.sendall(b"still here")
    assert transport.read() == b"still here"


async def test_the_end_of_writing_on_a_dead_socket_is_harmless(pair: tuple[SocketTransport, socket.socket]) -> None:
    transport, peer = pair
    reset(peer)
    await transport.wait_readable()
    assert transport.read() == b""
    transport.write_eof()
    transport.write_eof()


async def test_tcp_addresses_are_host_and_port(pair: tuple[SocketTransport, socket.socket]) -> None:
    transport, peer = pair
    assert transport.remote_address == peer.getsockname()
    assert transport.local_address == peer.getpeername()
    transport.abort()
    assert transport.remote_address == peer.getsockname()


async def test_addresses_of_ipv6_have_no_flow_and_scope() -> None:
    ours, theirs = tcp_pair(socket.AF_INET6)
    transport = SocketTransport(ours)
    assert transport.remote_address == ("::1", theirs.getsockname()[1])
    assert transport.local_address == ("::1", theirs.getpeername()[1])
    transport.abort()
    theirs.close()


async def test_the_address_of_a_unix_socket_is_its_path(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        ours = socket.socket(socket.AF_UNIX)
        ours.connect(path)
        transport = SocketTransport(ours)
        assert transport.remote_address == path
        transport.abort()


async def test_a_socket_carries_one_connection_and_has_no_window_to_give_back(
    pair: tuple[SocketTransport, socket.socket],
) -> None:
    transport, _ = pair
    assert not transport.has_siblings
    assert not transport.wants_give_back
    assert transport.give_back(100) < 0


async def test_an_address_that_is_gone_is_none() -> None:
    transport = SocketTransport(socket.socket())  # was never connected, which is how a reset one looks
    assert transport.remote_address is None
    transport.abort()


async def test_a_socket_is_taken_out_of_its_stream() -> None:
    ours, theirs = tcp_pair()
    stream = as_stream(ours)
    number = stream.socket.fileno()
    taken = detach_socket(stream)
    assert (taken.fileno(), taken.family, taken.type) == (number, socket.AF_INET, socket.SOCK_STREAM)
    assert stream.socket.fileno() == -1
    taken.sendall(b"hello")
    assert theirs.recv(100) == b"hello"
    taken.close()
    theirs.close()


async def test_a_socket_is_congested_while_anything_waits(pair: tuple[SocketTransport, socket.socket]) -> None:
    transport, _ = pair
    assert not transport.congested
    while not transport.unsent:
        transport.write(MEBIBYTE)
    assert transport.congested


# Streams.


class Plain(trio.abc.Stream):
    """A stream that cannot half-close, over one that can."""

    def __init__(self, below: trio.StapledStream[MemorySendStream, MemoryReceiveStream]) -> None:
        self.below = below
        self.closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.below.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.below.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.closed = True
        await self.below.aclose()


class Deaf(Plain):
    """A stream that cannot be read."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        await trio.lowlevel.checkpoint()
        raise OSError("deaf")


class Mute(Plain):
    """A stream that cannot be written to."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError("mute")


class Full(Plain):
    """A stream that never has room."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep_forever()


class Stuck(Plain):
    """A stream that cannot be closed in peace."""

    async def aclose(self) -> None:  # noqa: ASYNC910
        raise OSError("stuck")


async def test_a_stream_carries_bytes_both_ways(spare_nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    with aborting(StreamTransport(ours, spare_nursery)) as transport:
        transport.write(b"hel")
        transport.write(b"lo")
        assert transport.unsent == 5
        await send_all_of(transport)
        assert await theirs.receive_some() == b"hello"
        assert transport.read() is None
        await theirs.send_all(b"world")
        assert await next_read(transport) == b"world"
        assert transport.read() is None
        assert transport.local_address is None
        assert transport.remote_address is None


async def test_a_stream_gets_large_writes_in_pieces(spare_nursery: trio.Nursery) -> None:
    ours, theirs = lockstep_stream_pair()
    sizes: list[int] = []

    class Measured(Plain):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            sizes.append(len(data))
            await super().send_all(data)

    with aborting(StreamTransport(Measured(ours), spare_nursery)) as transport:  # type: ignore[arg-type]
        transport.write(MEBIBYTE)
        received = b""
        while len(received) < len(MEBIBYTE):
            received += await theirs.receive_some()
        await send_all_of(transport)
        assert received == MEBIBYTE
        assert sizes == [READ_SIZE] * (len(MEBIBYTE) // READ_SIZE)


async def test_a_stream_is_congested_when_more_waits_than_goes_in_one_piece(spare_nursery: trio.Nursery) -> None:
    ours, _ = memory_stream_pair()
    with aborting(StreamTransport(Full(ours), spare_nursery)) as transport:
        transport.write(b"x" * READ_SIZE)
        assert not transport.congested
        transport.write(b"x")
        assert transport.congested


async def test_one_chunk_is_taken_ahead_and_no_more(spare_nursery: trio.Nursery) -> None:
    ours, theirs = lockstep_stream_pair()
    with aborting(StreamTransport(ours, spare_nursery)) as transport:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.send_all, b"first")
            await wait_all_tasks_blocked()
            nursery.start_soon(theirs.send_all, b"second")
            await wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 1
            assert transport.read() == b"first"
            assert await next_read(transport) == b"second"


async def test_a_stream_that_ends_reads_as_ended_and_still_takes_writes(spare_nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    with aborting(StreamTransport(ours, spare_nursery)) as transport:
        await theirs.send_eof()
        await transport.wait_readable()
        assert transport.read() == b""
        assert transport.read() == b""
        assert transport.error is None
        transport.write(b"goodbye")
        await send_all_of(transport)
        assert await theirs.receive_some() == b"goodbye"


async def test_the_end_of_writing_follows_what_was_written(spare_nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    with aborting(StreamTransport(ours, spare_nursery)) as transport:
        transport.write(b"all")
        transport.write_eof()
        assert await read_all(theirs) == b"all"
        await theirs.send_all(b"still here")
        assert await next_read(transport) == b"still here"


async def test_an_end_that_cannot_be_told_ends_both_ways(spare_nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    with aborting(StreamTransport(Plain(ours), spare_nursery)) as transport:
        transport.write(b"all")
        transport.write_eof()
        await transport.wait_readable()
        # Only closing tells this peer, and whoever waits for the peer's end does that as soon as it reads the end.
        assert transport.read() == b""
        assert transport.error is None
        assert transport.unsent == 0
        transport.abort()
        assert await read_all(theirs) == b"all"


async def test_an_end_that_cannot_be_told_leaves_what_has_come(spare_nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    with aborting(StreamTransport(Plain(ours), spare_nursery)) as transport:
        await theirs.send_all(b"last")
        await wait_all_tasks_blocked()
        transport.write_eof()
        await wait_all_tasks_blocked()
        assert transport.read() == b"last"


async def test_waits_on_a_stream_are_cancelled_without_a_trace(spare_nursery: trio.Nursery) -> None:
    ours, theirs = lockstep_stream_pair()
    with aborting(StreamTransport(ours, spare_nursery)) as transport:
        transport.write(b"whole")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.wait_readable)
            nursery.start_soon(transport.drain)
            await wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 2
            nursery.cancel_scope.cancel()
        assert transport.unsent == 5
        assert await theirs.receive_some() == b"whole"
        await theirs.send_all(b"hello")
        assert await next_read(transport) == b"hello"


async def test_every_wait_on_a_stream_is_a_checkpoint(spare_nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    with aborting(StreamTransport(ours, spare_nursery)) as transport:
        with assert_checkpoints():
            await transport.drain()
        await theirs.send_all(b"hello")
        await wait_all_tasks_blocked()
        with assert_checkpoints():
            await transport.wait_readable()
        transport.abort()
        with assert_checkpoints():
            await transport.wait_readable()
        with assert_checkpoints():
            await transport.drain()


async def test_a_stream_that_cannot_be_read_reads_as_ended(spare_nursery: trio.Nursery) -> None:
    ours, _ = memory_stream_pair()
    with aborting(StreamTransport(Deaf(ours), spare_nursery)) as transport:
        await transport.wait_readable()
        assert transport.read() == b""
        assert repr(transport.error) == "OSError('deaf')"
        transport.write(b"too late")
        assert transport.unsent == 0


async def test_a_stream_that_cannot_be_written_to_drops_what_waits(spare_nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    with aborting(StreamTransport(Mute(ours), spare_nursery)) as transport:
        transport.write(b"hello")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transport.wait_readable)
            nursery.start_soon(transport.drain)
        assert transport.unsent == 0
        assert repr(transport.error) == "OSError('mute')"
        assert transport.read() == b""
        await theirs.send_all(b"later")
        await wait_all_tasks_blocked()
        assert transport.read() == b""


async def test_a_stream_that_breaks_gives_what_had_come_and_then_ends(spare_nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    with aborting(StreamTransport(Mute(ours), spare_nursery)) as transport:
        await theirs.send_all(b"last")
        await wait_all_tasks_blocked()
        transport.write(b"hello")
        await wait_all_tasks_blocked()
        assert transport.read() == b"last"
        await wait_all_tasks_blocked()
        assert transport.read() == b""
        await theirs.send_all(b"later")
        await wait_all_tasks_blocked()
        assert transport.read() == b""


async def test_abort_wakes_whoever_waits_on_a_stream_and_closes_it(spare_nursery: trio.Nursery) -> None:
    ours, theirs = lockstep_stream_pair()
    with aborting(StreamTransport(ours, spare_nursery)) as transport:
        async with trio.open_nursery() as nursery:
            transport.write(b"x" * 10)
            nursery.start_soon(transport.wait_readable)
            nursery.start_soon(transport.drain)
            await wait_all_tasks_blocked()
            transport.abort()
        assert transport.unsent == 0
        assert transport.read() == b""
        await read_all(theirs)
        transport.abort()
        transport.write(b"too late")
        transport.write_eof()
        assert transport.unsent == 0


async def test_the_last_words_before_abort_arrive_if_there_is_room(spare_nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    with aborting(StreamTransport(ours, spare_nursery)) as transport:
        await wait_all_tasks_blocked()
        transport.write(b"goodbye")
        transport.abort()
        assert await read_all(theirs) == b"goodbye"


async def test_last_words_never_wait_for_room(spare_nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    with aborting(StreamTransport(Full(ours), spare_nursery)) as transport:
        await wait_all_tasks_blocked()
        transport.write(b"goodbye")
        transport.abort()
        await wait_all_tasks_blocked()
        assert not spare_nursery.child_tasks
        assert await read_all(theirs) == b""


async def test_last_words_follow_what_is_being_sent(spare_nursery: trio.Nursery) -> None:
    ours, theirs = lockstep_stream_pair()
    with aborting(StreamTransport(ours, spare_nursery)) as transport:
        transport.write(b"hello")
        await wait_all_tasks_blocked()
        transport.write(b"goodbye")
        assert await theirs.receive_some(2) == b"he"
        transport.abort()
        # The whole, in order, or as much of it as the few passes allowed.
        assert b"llogoodbye".startswith(await read_all(theirs))


async def test_last_words_to_a_broken_stream_are_dropped(spare_nursery: trio.Nursery) -> None:
    ours, theirs = memory_stream_pair()
    with aborting(StreamTransport(Mute(ours), spare_nursery)) as transport:
        await wait_all_tasks_blocked()
        transport.write(b"goodbye")
        transport.abort()
        assert await read_all(theirs) == b""


async def test_a_stream_lives_on_in_a_cancelled_nursery_until_it_is_aborted() -> None:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        transport = StreamTransport(ours, nursery)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            transport.write(b"hello")
            assert await theirs.receive_some() == b"hello"
            await theirs.send_all(b"world")
            assert await next_read(transport) == b"world"
            transport.write(b"goodbye")
            transport.abort()
    assert await read_all(theirs) == b"goodbye"


@pytest.mark.parametrize("start", [False, True])
async def test_abort_closes_a_stream_whether_its_tasks_have_started_or_not(start: bool) -> None:
    ours, _ = memory_stream_pair()
    stream = Plain(ours)
    async with trio.open_nursery() as nursery:
        transport = StreamTransport(stream, nursery)
        if start:
            await wait_all_tasks_blocked()
        transport.abort()
    assert stream.closed


async def test_a_stream_that_fails_to_close_raises_nothing() -> None:
    ours, _ = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        transport = StreamTransport(Stuck(ours), nursery)
        transport.abort()
