"""Reconnecting to real sockets: a server, a proxy or TLS that fails in one way, and is well at the next attempt."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from hyperframe.frame import GoAwayFrame, HeadersFrame, RstStreamFrame

import trio_ws
from trio_ws import Agent, ProxyAgent, open_websocket, reconnecting

from ..net.http2.raw_http2 import PREFACE, RawHttp2
from ..raw import answer, authority, client_context, close_frame, frame, head, raw_server, read_head, server_context
from ..serving import LOCALHOST

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

Talk = Callable[[trio.SocketStream], Awaitable[None]]

HTTP2_ERROR = {name: number for number, name in enumerate(("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR"))}
REFUSED_STREAM, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY = 0x7, 0xB, 0xC


def reset(stream: trio.SocketStream) -> None:
    """Have the other side get RST when the stream is closed."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


# ---- a server's part over HTTP/1.1 ----


async def welcome(stream: trio.abc.Stream, *frames: bytes) -> None:
    """Accept a WebSocket, and send it a message."""
    await stream.send_all(answer(await read_head(stream)) + b"".join(frames or (frame(0x1, b"welcome"),)))
    await read_head(stream)


async def leave_at_once(stream: trio.SocketStream) -> None:
    await trio.lowlevel.checkpoint()


async def leave_before_the_answer(stream: trio.SocketStream) -> None:
    await read_head(stream)


async def reset_before_the_answer(stream: trio.SocketStream) -> None:
    await read_head(stream)
    reset(stream)


async def say(data: bytes, stream: trio.SocketStream) -> None:
    await read_head(stream)
    await stream.send_all(data)


async def leave_after_the_opening(stream: trio.SocketStream) -> None:
    await stream.send_all(answer(await read_head(stream)) + b"\x81")


async def fail_the_connection(frames: bytes, stream: trio.SocketStream) -> None:
    await welcome(stream, frames)


HTTP1: dict[str, tuple[Talk, type[Exception] | None]] = {
    "FIN at once": (leave_at_once, None),
    "FIN before the answer": (leave_before_the_answer, None),
    "RST before the answer": (reset_before_the_answer, None),
    "FIN within the status line": (partial(say, b"HTTP/1.1 10"), None),
    "FIN within the head": (partial(say, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: webso"), None),
    "FIN after an interim answer": (partial(say, head("HTTP/1.1 100 Continue")), None),
    **{
        f"status {status}": (partial(say, head(f"HTTP/1.1 {status} No", "Content-Length: 0")), None)
        for status in (408, 429, 500, 502, 503, 504)
    },
    **{
        f"status {status}": (
            partial(say, head(f"HTTP/1.1 {status} No", "Content-Length: 0")),
            trio_ws.HandshakeRejected,
        )
        for status in (200, 302, 400, 401, 403, 404, 410, 426)
    },
    "no HTTP": (partial(say, b"220 mail.example ESMTP\r\n"), trio_ws.InvalidHandshake),
    "a 101 without its fields": (partial(say, head("HTTP/1.1 101 Switching Protocols")), trio_ws.InvalidHandshake),
    "FIN after the opening": (leave_after_the_opening, None),
    "an unknown opcode, so 1002": (partial(fail_the_connection, b"\x83\x00"), None),
    "text that is no UTF-8, so 1007": (partial(fail_the_connection, b"\x81\x01\xff"), None),
    "empty fragments, so 1008": (partial(fail_the_connection, b"\x01\x00" + 1000 * b"\x00\x00"), None),
    "a message too large, so 1009": (
        partial(fail_the_connection, b"\x82\x7f" + (2**40).to_bytes(8, "big")),
        trio_ws.ConnectionClosedError,
    ),
    **{f"Close {code}": (partial(fail_the_connection, close_frame(code)), None) for code in (1001, 1011, 1012, 1013)},
    **{
        f"Close {code}": (partial(fail_the_connection, close_frame(code)), trio_ws.ConnectionClosedError)
        for code in (1002, 1007, 1008, 1009, 3000, 4000)
    },
}


# ---- the same over HTTP/2 ----


async def begin(stream: trio.SocketStream) -> tuple[RawHttp2, int]:
    """Begin as a server, and read a request; give its stream."""
    peer = RawHttp2(stream)
    data = b""
    while len(data) < len(PREFACE):
        data += await stream.receive_some()
    peer._buffer = data[len(PREFACE) :]
    await peer.begin({8: 1}, preface=False)
    return peer, (await peer.expect(HeadersFrame)).stream_id


async def welcome_http2(stream: trio.SocketStream) -> None:
    peer, number = await begin(stream)
    await peer.send(peer.headers(number, {":status": "200"}))
    await peer.data(number, frame(0x1, b"welcome"))
    while await peer.next() is not None:
        pass


async def read_the_preface(stream: trio.SocketStream) -> None:
    await stream.receive_some()


async def say_to_the_preface(data: bytes, stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(data)


async def leave_before_the_headers(stream: trio.SocketStream) -> None:
    await begin(stream)


async def reset_the_stream(code: int, stream: trio.SocketStream) -> None:
    peer, number = await begin(stream)
    await peer.send(RstStreamFrame(number, error_code=code))
    while await peer.next() is not None:
        pass


async def go_away(last: int, code: int, stream: trio.SocketStream) -> None:
    peer, _ = await begin(stream)
    await peer.send(GoAwayFrame(0, last_stream_id=last, error_code=code))


async def go_away_before_settings(code: int, stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(GoAwayFrame(0, last_stream_id=0, error_code=code).serialize())


async def answer_http2(status: str, stream: trio.SocketStream) -> None:
    peer, number = await begin(stream)
    await peer.send(peer.headers(number, {":status": status}, "END_STREAM"))
    while await peer.next() is not None:
        pass


HTTP2: dict[str, tuple[Talk, type[Exception] | None]] = {
    "FIN before SETTINGS": (read_the_preface, None),
    "FIN within SETTINGS": (partial(say_to_the_preface, b"\0\0\6\4\0"), None),
    "FIN before the headers": (leave_before_the_headers, None),
    "RST_STREAM NO_ERROR": (partial(reset_the_stream, 0x0), None),
    "RST_STREAM INTERNAL_ERROR": (partial(reset_the_stream, 0x2), None),
    "RST_STREAM REFUSED_STREAM": (partial(reset_the_stream, REFUSED_STREAM), None),
    "RST_STREAM CANCEL": (partial(reset_the_stream, 0x8), None),
    "RST_STREAM ENHANCE_YOUR_CALM": (partial(reset_the_stream, ENHANCE_YOUR_CALM), None),
    "RST_STREAM of an unknown code": (partial(reset_the_stream, 0xFACADE), None),
    "RST_STREAM PROTOCOL_ERROR": (partial(reset_the_stream, 0x1), trio_ws.InvalidHandshake),
    "GOAWAY NO_ERROR, not looked at": (partial(go_away, 0, 0x0), None),
    "GOAWAY NO_ERROR, then FIN": (partial(go_away, 1, 0x0), None),
    "GOAWAY INTERNAL_ERROR, then FIN": (partial(go_away, 1, 0x2), None),
    "GOAWAY PROTOCOL_ERROR, then FIN": (partial(go_away, 1, 0x1), trio_ws.InvalidHandshake),
    "GOAWAY NO_ERROR before SETTINGS": (partial(go_away_before_settings, 0x0), None),
    "GOAWAY ENHANCE_YOUR_CALM before SETTINGS": (partial(go_away_before_settings, ENHANCE_YOUR_CALM), None),
    "GOAWAY INADEQUATE_SECURITY before SETTINGS": (
        partial(go_away_before_settings, INADEQUATE_SECURITY),
        trio_ws.InvalidHandshake,
    ),
    "no HTTP/2": (partial(say_to_the_preface, head("HTTP/1.1 400 Bad Request")), trio_ws.InvalidHandshake),
    "status 503": (partial(answer_http2, "503"), None),
    "status 429": (partial(answer_http2, "429"), None),
    "status 403": (partial(answer_http2, "403"), trio_ws.HandshakeRejected),
}


# ---- proxies ----


async def tunnel(stream: trio.SocketStream) -> None:
    """Be an HTTP proxy, and the server behind it."""
    await read_head(stream)
    await stream.send_all(head("HTTP/1.1 200 Connection established"))
    await welcome(stream)


async def tunnel_to_nobody(stream: trio.SocketStream) -> None:
    await read_head(stream)
    await stream.send_all(head("HTTP/1.1 200 Connection established"))
    await read_head(stream)


PROXY: dict[str, tuple[Talk, type[Exception] | None]] = {
    "FIN at once": (leave_at_once, None),
    "FIN before the answer": (leave_before_the_answer, None),
    "RST before the answer": (reset_before_the_answer, None),
    "FIN within the head": (partial(say, b"HTTP/1.1 200 Connec"), None),
    "FIN from the server behind it": (tunnel_to_nobody, None),
    **{f"status {status}": (partial(say, head(f"HTTP/1.1 {status} No")), None) for status in (429, 502, 503, 504)},
    **{
        f"status {status}": (partial(say, head(f"HTTP/1.1 {status} No")), trio_ws.ProxyError)
        for status in (403, 407, 302)
    },
    "no HTTP": (partial(say, b"220 mail.example ESMTP\r\n"), trio_ws.ProxyError),
}


async def socks(reply: bytes, stream: trio.SocketStream) -> None:
    """Be a SOCKS proxy that answers a request so, and the server behind it if that was a yes."""
    await stream.receive_some()
    await stream.send_all(b"\5\0")
    await stream.receive_some()
    await stream.send_all(reply)
    if reply[:2] == b"\5\0" and len(reply) == 10:
        await welcome(stream)


def socks_reply(code: int) -> bytes:
    return bytes([5, code, 0, 1]) + bytes(6)


SOCKS: dict[str, tuple[Talk, type[Exception] | None]] = {
    "FIN at once": (leave_at_once, None),
    "FIN before the reply": (partial(socks, b""), None),
    "FIN within the reply": (partial(socks, b"\5\0\0"), None),
    **{f"reply {code}": (partial(socks, socks_reply(code)), None) for code in (1, 3, 4, 5, 6)},
    **{f"reply {code}": (partial(socks, socks_reply(code)), trio_ws.ProxyError) for code in (2, 7, 8)},
    "no SOCKS": (partial(socks, b"HTTP/1.1 400 "), trio_ws.ProxyError),
}


# ---- TLS ----


async def secure(context: Callable[[], ssl.SSLContext], stream: trio.SocketStream) -> None:
    """Be a server with TLS that ends well or not; by blocking sockets, which send their alerts."""
    sock = socket.socket(fileno=stream.socket.detach())
    await trio.to_thread.run_sync(_serve_tls, context(), sock, abandon_on_cancel=True)


def _serve_tls(context: ssl.SSLContext, sock: socket.socket) -> None:
    sock.settimeout(30)
    with sock.dup() as rest:
        with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
            asked = b""
            while b"\r\n\r\n" not in asked and (more := tls.recv(4096)):
                asked += more
            tls.sendall(answer(asked) + frame(0x1, b"welcome"))
            tls.recv(4096)
        while rest.recv(4096):  # or the system would send RST, which can overtake the alert
            pass


async def leave_within_the_tls_handshake(stream: trio.SocketStream) -> None:
    await stream.receive_some()


async def leave_after_the_tls_handshake(stream: trio.SocketStream) -> None:
    await trio.SSLStream(stream, server_context(), server_side=True).do_handshake()
    await stream.aclose()


async def alert(code: int, stream: trio.SocketStream) -> None:
    """Refuse a TLS handshake by an alert (RFC 8446 §6)."""
    await stream.receive_some()
    await stream.send_all(b"\x15\x03\x03\x00\x02\x02" + bytes([code]))
    await read_head(stream)


def expired() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    now = datetime.datetime.now(datetime.UTC)
    long_ago = [now - datetime.timedelta(days=days) for days in (2, 1)]
    authority().issue_cert(LOCALHOST, not_before=long_ago[0], not_after=long_ago[1]).configure_cert(context)
    return context


def asking_for_a_certificate(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = server_context(version=version)
    context.verify_mode = ssl.CERT_REQUIRED
    authority().configure_trust(context)
    return context


V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
NO_CERTIFICATE = partial(asking_for_a_certificate, V12), partial(asking_for_a_certificate, V13)

TLS: dict[str, tuple[Talk, type[Exception] | None]] = {
    "FIN at once": (leave_at_once, None),
    "FIN within the TLS handshake": (leave_within_the_tls_handshake, None),
    "FIN after the TLS handshake": (leave_after_the_tls_handshake, None),
    "alert internal_error": (partial(alert, 80), None),
    "alert handshake_failure": (partial(alert, 40), ssl.SSLError),
    "alert protocol_version": (partial(alert, 70), ssl.SSLError),
    "alert unrecognized_name": (partial(alert, 112), ssl.SSLError),
    "a certificate for another host": (
        partial(secure, partial(server_context, "other.example")),
        ssl.SSLCertVerificationError,
    ),
    "an expired certificate": (partial(secure, expired), ssl.SSLCertVerificationError),
    "no certificate of the client's, TLS 1.2": (partial(secure, NO_CERTIFICATE[0]), ssl.SSLError),
    "no certificate of the client's, TLS 1.3": (partial(secure, NO_CERTIFICATE[1]), ssl.SSLError),
    "no TLS": (partial(say_to_the_preface, head("HTTP/1.1 400 Bad Request")), ssl.SSLError),
}

# ---- what is asked of each ----

WELL: dict[str, Talk] = {
    "http1": welcome,
    "http2": welcome_http2,
    "proxy": tunnel,
    "socks": partial(socks, socks_reply(0)),
    "tls": partial(secure, server_context),
}
CASES = [
    pytest.param(kind, talk, expected, id=f"{kind}: {name}")
    for kind, table in [("http1", HTTP1), ("http2", HTTP2), ("proxy", PROXY), ("socks", SOCKS), ("tls", TLS)]
    for name, (talk, expected) in table.items()
]


@asynccontextmanager
async def ill_then_well(talk: Talk, well: Talk) -> AsyncGenerator[int, None]:
    """Serve the first connection in one way, and those that follow in another; gives the port."""
    served = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal served
        served += 1
        await (talk if served == 1 else well)(stream)

    async with raw_server(serve) as port:
        yield port


async def listen(kind: str, port: int) -> str | bytes:
    """Connect and receive one message, by whatever way."""
    scheme, server = ("wss" if kind == "tls" else "ws"), f"{LOCALHOST}:{port}"
    dispatcher = {
        "http2": lambda: Agent(h2_prior_knowledge=True),
        "proxy": lambda: ProxyAgent(f"http://{server}"),
        "socks": lambda: ProxyAgent(f"socks5://{server}"),
    }.get(kind, lambda: None)()
    async with open_websocket(
        f"{scheme}://{server}/",
        dispatcher=dispatcher,
        ssl_context=client_context() if kind == "tls" else None,
        compression=None,
        close_timeout=0,
    ) as websocket:
        return await websocket.receive()


@pytest.mark.parametrize(("kind", "talk", "expected"), CASES)
async def test_what_is_worth_another_attempt(kind: str, talk: Talk, expected: type[Exception] | None) -> None:
    attempts: list[trio_ws.Attempt] = []
    message: str | bytes = ""
    with trio.fail_after(60):
        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(ill_then_well(talk, WELL[kind]))
            if expected is not None:
                stack.enter_context(pytest.raises(expected))
            async for attempt in reconnecting(random=lambda: 0.0):
                attempts.append(attempt)
                with attempt:
                    message = await listen(kind, port)
                    break
    assert (message, len(attempts)) == (("welcome", 2) if expected is None else ("", 1))
    error = attempts[0].error
    assert error is not None
    assert trio_ws.is_transient(error) is (expected is None)


async def test_tls_versions_that_do_not_match_end_the_loop() -> None:
    async with raw_server(partial(secure, partial(server_context, version=V12))) as port:
        with pytest.raises(ssl.SSLError) as caught, trio.fail_after(60):
            async for attempt in reconnecting(random=lambda: 0.0):
                with attempt:
                    context = client_context(V13)
                    async with open_websocket(f"wss://{LOCALHOST}:{port}/", ssl_context=context):
                        pass
    assert attempt.number == 1
    assert not trio_ws.is_transient(caught.value)


async def test_a_shared_connection_that_refuses_each_stream_is_worth_another_attempt() -> None:
    async with raw_server(partial(reset_the_stream, REFUSED_STREAM)) as port, Agent(h2_prior_knowledge=True) as agent:
        with pytest.raises(trio_ws.InvalidHandshake, match="on 3 connections") as caught:
            async with open_websocket(f"ws://{LOCALHOST}:{port}/", dispatcher=agent):
                pass
    assert caught.value.no_answer
    assert trio_ws.is_transient(caught.value)


async def test_a_deadline_of_the_callers_own_in_an_attempt_is_worth_another() -> None:
    async with ill_then_well(read_head_and_wait, welcome) as port:
        async for attempt in reconnecting(random=lambda: 0.0):
            with attempt, trio.fail_after(0.05 if attempt.number == 1 else 60):
                assert await listen("http1", port) == "welcome"
                break
    assert attempt.number == 2


async def read_head_and_wait(stream: trio.SocketStream) -> None:
    await read_head(stream)
    await trio.sleep_forever()
