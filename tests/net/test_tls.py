"""TLS over a transport: against the standard library's own TLS, in any pieces, and with everything that goes wrong."""

from __future__ import annotations

import contextlib
import datetime
import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trustme
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from trio_ws import ConnectionClosedError, ConnectionClosedOK, open_websocket
from trio_ws._net.socket_transport import SocketTransport
from trio_ws._net.tls import TLSTransport
from trio_ws._reactor import Reactor
from trio_ws._util.nursery import BackgroundNursery

from ..raw import (
    CLOSE,
    ScriptedTransport,
    answer,
    authority,
    client_context,
    close_frame,
    raw_server,
    read_frame,
    read_head,
    server_context,
    tcp_pair,
)

if TYPE_CHECKING:
    from collections.abc import Callable

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
Pair = tuple[TLSTransport, TLSTransport]


class Peer:
    """The other side, by hand: an ``ssl.SSLObject`` whose records a test moves as it likes."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool = False) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server_side, server_hostname=name)

    def shake(self, records: bytes = b"") -> bytes:
        """Go on with the handshake; give what is to be sent."""
        self.incoming.write(records)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def seal(self, data: bytes) -> bytes:
        """Give the records that carry some bytes."""
        self.tls.write(data)
        return self.outgoing.read()

    def say_goodbye(self) -> bytes:
        """Give the record that ends TLS."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()


async def shake_hands(client: TLSTransport, server: TLSTransport) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.handshake)
        await server.handshake()


async def tls_pair(version: ssl.TLSVersion | None = None, piece: int = 2**16) -> Pair:
    """Two transports with TLS between them."""
    near, far = ScriptedTransport.pair(piece)
    client = TLSTransport(near, client_context(version), server_side=False, server_hostname="localhost")
    server = TLSTransport(far, server_context(), server_side=True)
    await shake_hands(client, server)
    return client, server


async def server_and_peer(version: ssl.TLSVersion | None = None) -> tuple[TLSTransport, ScriptedTransport, Peer]:
    """A server of ours that has shaken hands with a client by hand."""
    below = ScriptedTransport(endless=True)
    server = TLSTransport(below, server_context(), server_side=True)
    peer = Peer(client_context(version))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.handshake)
        below.feed(peer.shake())
        while nursery.child_tasks:
            await wait_all_tasks_blocked()
            records, below.written = below.written, b""
            below.feed(peer.shake(records))
    assert server.read() is None
    return server, below, peer


async def be_refused(transport: TLSTransport) -> None:
    """Shake hands and hear that the other side does not want us: then, or with TLS 1.3 when we read."""
    heard: Exception | None = None
    try:
        await transport.handshake()
        while transport.read() is None:
            await transport.wait_readable()
    except ssl.SSLError as error:
        heard = error
    assert "alert" in str(heard or transport.error)


async def receive(transport: TLSTransport, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := transport.read()) != b"":
        if more is None:
            await transport.wait_readable()
        else:
            data += more
    return data


@pytest.mark.parametrize("piece", [1, 5, 2**16])
@pytest.mark.parametrize("version", VERSIONS)
async def test_both_sides_shake_hands_and_carry_bytes(version: ssl.TLSVersion, piece: int) -> None:
    client, server = await tls_pair(version, piece)
    assert client.tls.version() == server.tls.version() == version.name.replace("_", ".")
    client.write(b"from the client")
    server.write(b"from the server")
    assert await receive(server, 15) == b"from the client"
    assert await receive(client, 15) == b"from the server"
    assert client.unsent == server.unsent == 0
    assert client.error is server.error is None


async def test_a_megabyte_arrives_whole() -> None:
    client, server = await tls_pair()
    data = bytes(range(256)) * 4096
    client.write(data)
    assert await receive(server, len(data)) == data


@pytest.mark.parametrize("size", [2**16, 2**20 + 1])
async def test_a_large_frame_is_written_in_pieces_and_arrives_whole(size: int) -> None:
    client, server = await tls_pair()
    payload = (bytes(range(256)) * 4097)[:size]
    client.write_large(b"head", payload)
    assert await receive(server, 4 + size) == b"head" + payload


@pytest.mark.parametrize(
    ("offered", "known", "chosen"),
    [([], [], None), (["http/1.1"], ["http/1.1"], "http/1.1"), (["h2", "http/1.1"], ["http/1.1"], "http/1.1")],
)
async def test_the_contexts_decide_about_alpn(offered: list[str], known: list[str], chosen: str | None) -> None:
    near, far = ScriptedTransport.pair()
    contexts = client_context(), server_context()
    for context, protocols in zip(contexts, (offered, known), strict=True):
        if protocols:
            context.set_alpn_protocols(protocols)
    client = TLSTransport(near, contexts[0], server_side=False, server_hostname="localhost")
    server = TLSTransport(far, contexts[1], server_side=True)
    await shake_hands(client, server)
    assert client.tls.selected_alpn_protocol() == server.tls.selected_alpn_protocol() == chosen


def expired_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    now = datetime.datetime.now(datetime.UTC)
    begin, end = now - datetime.timedelta(days=2), now - datetime.timedelta(days=1)
    authority().issue_cert("localhost", not_before=begin, not_after=end).configure_cert(context)
    return context


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("make_context", "reason"),
    [
        pytest.param(lambda: server_context(issuer=trustme.CA()), "unable to get local issuer", id="unknown issuer"),
        pytest.param(lambda: server_context("example.org"), "Hostname mismatch", id="wrong host"),
        pytest.param(expired_context, "certificate has expired", id="expired"),
    ],
)
async def test_a_server_that_cannot_be_verified_is_refused(
    make_context: Callable[[], ssl.SSLContext], reason: str, version: ssl.TLSVersion
) -> None:
    near, far = ScriptedTransport.pair()
    client = TLSTransport(near, client_context(version), server_side=False, server_hostname="localhost")
    server = TLSTransport(far, make_context(), server_side=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(be_refused, server)
        with pytest.raises(ssl.SSLCertVerificationError, match=reason):
            await client.handshake()


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_shows_its_certificate(version: ssl.TLSVersion) -> None:
    near, far = ScriptedTransport.pair()
    contexts = client_context(version), server_context()
    authority().issue_cert("client.example").configure_cert(contexts[0])
    authority().configure_trust(contexts[1])
    contexts[1].verify_mode = ssl.CERT_REQUIRED
    client = TLSTransport(near, contexts[0], server_side=False, server_hostname="localhost")
    server = TLSTransport(far, contexts[1], server_side=True)
    await shake_hands(client, server)
    certificate = server.tls.getpeercert()
    assert certificate is not None
    assert certificate["subjectAltName"] == (("DNS", "client.example"),)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_without_its_certificate_is_refused(version: ssl.TLSVersion) -> None:
    near, far = ScriptedTransport.pair()
    contexts = client_context(version), server_context()
    contexts[1].verify_mode = ssl.CERT_REQUIRED
    client = TLSTransport(near, contexts[0], server_side=False, server_hostname="localhost")
    server = TLSTransport(far, contexts[1], server_side=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(be_refused, client)
        with pytest.raises(ssl.SSLError, match="peer did not return a certificate"):
            await server.handshake()


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 100]
)
@pytest.mark.parametrize("server_side", [False, True])
async def test_what_is_no_tls_ends_the_handshake(garbage: bytes, server_side: bool) -> None:
    context = server_context() if server_side else client_context()
    name = None if server_side else "localhost"
    transport = TLSTransport(ScriptedTransport([garbage]), context, server_side=server_side, server_hostname=name)
    with pytest.raises(ssl.SSLError):
        await transport.handshake()


async def test_a_peer_that_leaves_during_the_handshake_is_an_ssl_error() -> None:
    below = ScriptedTransport()
    client = TLSTransport(below, client_context(), server_side=False, server_hostname="localhost")
    with pytest.raises(ssl.SSLEOFError):
        await client.handshake()
    assert below.written[:1] == b"\x16"


async def test_a_transport_that_breaks_during_the_handshake_raises_what_broke_it() -> None:
    below = ScriptedTransport()
    below.error = error = ConnectionResetError("reset")
    client = TLSTransport(below, client_context(), server_side=False, server_hostname="localhost")
    with pytest.raises(ConnectionResetError) as caught:
        await client.handshake()
    assert caught.value is error


async def test_the_handshake_sends_what_waits_and_survives_early_wakes() -> None:
    near, far = ScriptedTransport.pair()
    near.room = far.room = False
    near.arriving.append(None)
    client = TLSTransport(near, client_context(), server_side=False, server_hostname="localhost")
    server = TLSTransport(far, server_context(), server_side=True)

    async def drain_the_last_records() -> None:
        await client.handshake()
        while client.unsent:
            await client.drain()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain_the_last_records)
        await server.handshake()


async def test_a_handshake_is_cancelled_while_it_waits() -> None:
    below = ScriptedTransport(endless=True)
    client = TLSTransport(below, client_context(), server_side=False, server_hostname="localhost")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.handshake)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    client.abort()
    assert below.aborted


@pytest.mark.parametrize("version", VERSIONS)
async def test_data_that_comes_with_the_end_of_a_clients_handshake_is_read(version: ssl.TLSVersion) -> None:
    below = ScriptedTransport(endless=True)
    server = TLSTransport(below, server_context(), server_side=True)
    peer = Peer(client_context(version))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.handshake)
        below.feed(peer.shake())
        await wait_all_tasks_blocked()
        last_flight = peer.shake(below.written)
        if version is ssl.TLSVersion.TLSv1_2:
            # The client must see the server's end before it may send: what it sends then is one read later.
            below.written = b""
            below.feed(last_flight)
            await wait_all_tasks_blocked()
            assert not nursery.child_tasks
            below.feed(peer.shake(below.written) + peer.seal(b"hello"))
        else:
            below.feed(last_flight + peer.seal(b"hello"))
    with assert_checkpoints():
        await server.wait_readable()
    assert server.read() == b"hello"
    assert server.read() is None


async def test_data_that_comes_with_the_end_of_a_servers_handshake_is_read() -> None:
    below = ScriptedTransport(endless=True)
    # With TLS 1.2 the server has the last word of the handshake.
    context = client_context(ssl.TLSVersion.TLSv1_2)
    client = TLSTransport(below, context, server_side=False, server_hostname="localhost")
    peer = Peer(server_context(), server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.handshake)
        await wait_all_tasks_blocked()
        below.feed(peer.shake(below.written))
        below.written = b""
        await wait_all_tasks_blocked()
        below.feed(peer.shake(below.written) + peer.seal(b"hello"))
    with assert_checkpoints():
        await client.wait_readable()
    assert client.read() == b"hello"
    assert client.read() is None


async def test_reading_waits_for_a_whole_record() -> None:
    server, below, peer = await server_and_peer()
    records = peer.seal(b"hello") + peer.seal(b"world")
    below.feed(records[:10])
    assert server.read() is None
    below.feed(records[10:-5])
    assert server.read() == b"hello"
    assert server.read() is None
    below.feed(records[-5:])
    assert server.read() == b"world"


async def test_many_records_of_one_read_come_together() -> None:
    server, below, peer = await server_and_peer()
    below.arriving.append(b"".join(peer.seal(b"%d," % number) for number in range(100)))
    assert server.read() == b"".join(b"%d," % number for number in range(100))


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_goodbye_is_the_end_and_no_error(version: ssl.TLSVersion) -> None:
    server, below, peer = await server_and_peer(version)
    below.feed(peer.say_goodbye())
    assert server.read() == b""
    assert server.read() == b""
    assert server.error is None
    with assert_checkpoints():
        await server.wait_readable()


async def test_data_and_goodbye_in_one_read_are_data_and_then_the_end() -> None:
    server, below, peer = await server_and_peer()
    below.arriving.append(peer.seal(b"last") + peer.say_goodbye())
    assert server.read() == b"last"
    assert server.read() == b""
    assert server.error is None


async def test_an_end_without_goodbye_is_the_end_and_an_error() -> None:
    server, below, peer = await server_and_peer()
    below.feed(peer.seal(b"last"))
    below.finish()
    assert server.read() == b"last"
    assert server.read() == b""
    assert isinstance(server.error, ssl.SSLEOFError)


async def test_the_error_of_the_transport_below_goes_first() -> None:
    server, below, _ = await server_and_peer()
    below.error = ConnectionResetError("reset")
    below.finish()
    assert server.read() == b""
    assert server.error is below.error


async def test_a_record_that_was_changed_is_the_end_and_an_alert_is_sent() -> None:
    server, below, peer = await server_and_peer()
    record = bytearray(peer.seal(b"hello"))
    record[-1] ^= 1
    below.written = b""
    below.feed(bytes(record))
    assert server.read() == b""
    assert isinstance(server.error, ssl.SSLError)
    peer.incoming.write(below.written)
    with pytest.raises(ssl.SSLError, match="alert"):
        peer.tls.read(1)
    server.write(b"too late")
    assert server.unsent == 0


async def test_good_data_before_a_broken_record_is_given() -> None:
    server, below, peer = await server_and_peer()
    below.arriving.append(peer.seal(b"good") + b"this is no TLS")
    assert server.read() == b"good"
    assert server.read() == b""
    assert isinstance(server.error, ssl.SSLError)


async def test_the_end_of_writing_says_goodbye_before_the_transports_end() -> None:
    server, below, peer = await server_and_peer()
    server.write(b"last")
    below.written, records = b"", below.written
    server.write_eof()
    assert below.ended
    peer.incoming.write(records + below.written)
    assert peer.tls.read(100) == b"last"
    assert peer.tls.read(100) == b""
    below.feed(peer.seal(b"still here"))
    assert server.read() == b"still here"


async def test_both_goodbyes_are_a_clean_end() -> None:
    server, below, peer = await server_and_peer()
    server.write_eof()
    below.feed(peer.say_goodbye())
    assert server.read() == b""
    assert server.error is None


async def test_writing_after_goodbye_is_an_error_and_sends_nothing() -> None:
    server, below, _ = await server_and_peer()
    server.write_eof()
    below.written = b""
    server.write(b"too late")
    server.write(b"even later")
    assert below.written == b""
    assert server.unsent == 0
    assert isinstance(server.error, ssl.SSLError)


async def test_abort_says_goodbye_if_nothing_waits_before_it() -> None:
    server, below, peer = await server_and_peer()
    below.written = b""
    server.abort()
    assert below.aborted
    peer.incoming.write(below.written)
    assert peer.tls.read(100) == b""
    assert server.read() == b""
    server.abort()


async def test_abort_says_no_goodbye_where_it_would_be_a_lie() -> None:
    server, below, _ = await server_and_peer()
    below.room = False
    below.written = b""
    server.write(b"nobody takes this")
    assert server.unsent > 17
    server.abort()
    assert below.aborted
    assert below.written == b""
    assert server.unsent == 0


async def test_what_waits_for_room_is_counted_and_drained() -> None:
    client, server = await tls_pair()
    below = client._below
    assert isinstance(below, ScriptedTransport)
    below.room = False
    client.write(b"hello")
    assert client.unsent == below.unsent > 5
    with assert_checkpoints():
        await client.drain()
    assert client.unsent == 0
    assert await receive(server, 5) == b"hello"


class Note:
    """Notes what a transport tells it."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)

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
        raise NotImplementedError


async def test_what_the_transport_below_tells_goes_up_and_after_abort_nothing() -> None:
    async with BackgroundNursery() as nursery:
        client, server = await tls_pair()
        below, note, reactor = server._below, Note(), Reactor(nursery, shield=True)
        assert isinstance(below, ScriptedTransport)
        reactor.add(note)
        server.start(note, reactor)
        client.write(b"hello")
        await wait_all_tasks_blocked()
        assert note.heard == [b"hello"]
        below.error = broken = BrokenPipeError("gone")
        bug = ZeroDivisionError("a bug")
        server.resume_writing()
        server.peer_ended()
        server.crash(bug)
        assert server.error is broken
        assert note.heard[1:] == ["resume", "peer ended", ("crash", bug)]
        below.error = server.error = None
        client.write_eof()
        await wait_all_tasks_blocked()
        server.connection_lost(broken)  # what was unsent is lost, which is told after the end too
        assert note.heard[4:] == ["eof", broken]
        server.data_received(b"dropped: TLS has ended")
        server.abort()
        for tell in (server.resume_writing, server.peer_ended, server.eof_received):
            tell()
        server.crash(bug)
        server.connection_lost(broken)
        assert len(note.heard) == 6
        reactor.remove(note)


def client_and_peer() -> tuple[TLSTransport, ScriptedTransport, Peer]:
    """A client of ours and a server by hand that have not shaken hands.

    What is written now waits for the handshake, as it does when a TLS 1.2 server begins another one later.
    """
    below = ScriptedTransport(endless=True)
    client = TLSTransport(below, client_context(), server_side=False, server_hostname="localhost")
    return client, below, Peer(server_context(), server_side=True)


async def test_data_that_a_handshake_holds_up_goes_after_it_in_order() -> None:
    client, below, peer = client_and_peer()
    client.write(b"first,")
    client.write(b"second")
    assert client.unsent == 12
    below.feed(peer.shake(below.written))
    below.written = b""
    assert client.read() is None
    assert client.unsent == 0
    peer.shake(below.written)
    assert peer.tls.read(100) == b"first,second"


async def test_drain_waits_while_a_handshake_holds_the_data() -> None:
    client, below, peer = client_and_peer()
    client.write(b"held")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.drain)
        await wait_all_tasks_blocked()
        assert nursery.child_tasks, "a flusher would spin"
        below.feed(peer.shake(below.written))
        assert client.read() is None


async def test_tls_is_congested_while_anything_waits_here_or_below() -> None:
    client, below, _ = client_and_peer()
    assert not client.congested
    below.room = False
    below.write(b"records")
    assert client.congested
    client, _, _ = client_and_peer()
    client.write(b"held")
    assert client.congested


async def test_abort_drops_what_a_handshake_holds() -> None:
    client, below, _ = client_and_peer()
    client.write(b"held")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.drain)
        await wait_all_tasks_blocked()
        client.abort()
    assert client.unsent == 0
    assert below.aborted


async def test_what_a_handshake_holds_is_dropped_when_it_fails() -> None:
    client, below, _ = client_and_peer()
    client.write(b"held")
    below.feed(b"this is no TLS")
    assert client.read() == b""
    assert client.unsent == 0
    assert isinstance(client.error, ssl.SSLError)


async def test_addresses_are_those_of_the_transport_below() -> None:
    ours, theirs = tcp_pair()
    below = SocketTransport(ours)
    server = TLSTransport(below, server_context(), server_side=True)
    assert server.local_address == theirs.getpeername()
    assert server.remote_address == theirs.getsockname()
    server.abort()
    theirs.close()


async def serve_and_cut_off(stream: trio.SocketStream, *last: bytes) -> None:
    """Accept a WebSocket over TLS, send some frames, and end TCP without ending TLS."""
    tls = trio.SSLStream(stream, server_context(), server_side=True)
    await tls.send_all(answer(await read_head(tls)) + b"".join(last))
    if last:
        assert await read_frame(tls) == (CLOSE, (1000).to_bytes(2, "big"))
    await stream.send_eof()
    await trio.sleep_forever()


async def test_tcp_that_ends_before_tls_and_before_a_close_frame_is_1006() -> None:
    async with raw_server(serve_and_cut_off) as port:
        url = f"wss://localhost:{port}/"
        with pytest.raises(ConnectionClosedError) as caught:
            async with open_websocket(url, ssl_context=client_context()) as websocket:
                await websocket.receive()
    assert caught.value.code == 1006
    assert isinstance(caught.value.__cause__, ssl.SSLEOFError)


async def test_tcp_that_ends_before_tls_but_after_a_close_frame_is_normal() -> None:
    async with raw_server(lambda stream: serve_and_cut_off(stream, close_frame(1000))) as port:
        url = f"wss://localhost:{port}/"
        async with open_websocket(url, ssl_context=client_context()) as websocket:
            with pytest.raises(ConnectionClosedOK):
                await websocket.receive()
            closed = await websocket.wait_closed()
    assert (closed.code, closed.was_clean) == (1000, True)
