"""``trio-ws demo``: a server and a client in one process, and what they say to each other over TLS on loopback.

Whatever is shown was checked: :meth:`_Demo.check` ends the demo with status 1 as soon as something is not as it should
be.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
import statistics
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import trio

from .. import (
    CloseInfo,
    HandshakeRejected,
    Instrument,
    WebSocketError,
    __version__,
    open_websocket,
    serve_websocket,
)
from .._util.nursery import BackgroundNursery
from .arguments import add_command
from .certificates import make_authority, throwaway_context, trusting_context
from .demo_http2 import COUNT, show_http2
from .demo_stream import show_stream
from .running import FINE, Failure
from .terminal import Progress, Screen, Style, escape, megabytes_per_second

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from .. import Headers, Statistics, WebSocket, WebSocketRequest, WebSocketServer
    from .arguments import Commands
    from .running import Interrupts

_DESCRIPTION = """\
Serve on loopback with a throw-away certificate, open a wss:// WebSocket to it,
and show what happens: the handshake, the negotiated compression, text, binary
and a file of 16 MiB sent and echoed back, pings, a WebSocketStream, fifty
WebSockets on one HTTP/2 connection, a rejection, close codes.

Exit status: 0 if all that is shown was checked and found right, 1 if not.
"""

_HOST = "127.0.0.1"
_OFFERED_PROTOCOLS = ("demo.v2", "demo.v1")
_SPOKEN_PROTOCOL = "demo.v1"
_TEXT = "D\xe9j\xe0 vu, 5 \u20ac"
_BINARY = bytes(range(256))
_CHUNK = 2**18
_CHUNKS = 64
_PINGS = 20
_REJECTION = b"Nobody may come in here."
_BUG = "a bug, put here on purpose"
_TIME_LIMIT = 60.0  # seconds; a slow machine needs a tenth of it
_SERVER_LOG = "trio_ws.server"
_COLUMN = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """The arguments of ``trio-ws demo``: none."""


def add_parser(commands: Commands) -> None:
    """Add the command to the program's."""
    add_command(commands, "demo", run, DemoOptions, summary="see what the library does", description=_DESCRIPTION)


async def run(options: DemoOptions, interrupts: Interrupts) -> int:
    """Run the command and return its exit status."""
    try:
        with trio.move_on_after(_TIME_LIMIT):
            await _show_everything(Screen(sys.stdout))
            return FINE
    except WebSocketError as error:
        raise Failure(f"{type(error).__name__}: {error}") from None
    raise Failure(f"it took more than {_TIME_LIMIT:g} s")


# ---- the server ----


async def serve_demo(request: WebSocketRequest) -> None:
    """Serve one connection of the demo; its path says how."""
    if request.path == "/private":
        await request.reject(HTTPStatus.FORBIDDEN, {"Content-Type": "text/plain"}, _REJECTION)
        return
    async with request.accept() as websocket:
        if request.path == "/enough":
            await websocket.aclose(4000, "enough")
        elif request.path == "/bug":
            raise RuntimeError(_BUG)
        async for message in websocket:
            await websocket.send(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    """What the server knew of a connection when it had ended."""

    info: CloseInfo
    statistics: Statistics


class _Endings(Instrument):
    """Hears of the server's connections how they end."""

    def __init__(self) -> None:
        self.sender, self.receiver = trio.open_memory_channel[_Ending](math.inf)

    def websocket_close(self, websocket: WebSocket, info: CloseInfo) -> None:
        self.sender.send_nowait(_Ending(info=info, statistics=websocket.statistics()))


class _LogKeeper(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def _captured_log() -> Iterator[list[logging.LogRecord]]:
    """Collect what the server logs, instead of having it printed."""
    handler = _LogKeeper()
    logger = logging.getLogger(_SERVER_LOG)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield handler.records
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


# ---- the client, and what it shows ----


async def _show_everything(screen: Screen) -> None:
    screen.line(f"trio-ws {__version__}: a server and a client in this process, over TLS on loopback")
    authority = make_authority()
    endings = _Endings()
    serve = partial(serve_websocket, protocols=_SPOKEN_PROTOCOL, instruments=[endings])
    with _captured_log() as log, endings.sender, endings.receiver:
        async with BackgroundNursery() as nursery:
            server = await nursery.start(serve, serve_demo, _HOST, 0, throwaway_context(authority))
            await _Demo(screen, server, trusting_context(authority), endings, log).run()


class _Demo:
    """The steps of the demo."""

    def __init__(
        self,
        screen: Screen,
        server: WebSocketServer,
        context: ssl.SSLContext,
        endings: _Endings,
        log: list[logging.LogRecord],
    ) -> None:
        self._screen = screen
        self._server = server
        self._context = context
        self._endings = endings
        self._log = log
        self._checks = 0

    async def run(self) -> None:
        """Show every step."""
        started_at = trio.current_time()
        async with self._open("/echo", _OFFERED_PROTOCOLS) as websocket:
            self._show_handshake(websocket)
            self._show_agreement(websocket)
            await self._show_messages(websocket)
            await self._show_file(websocket)
            await self._show_pings(websocket)
        await self._show_statistics(websocket)
        await self._show_stream()
        await self._show_http2()
        await self._show_rejection()
        await self._show_closing()
        self._screen.line()
        elapsed = trio.current_time() - started_at
        self._screen.line(self._screen.paint(f"All {self._checks} checks passed in {elapsed:.1f} s.", Style.GOOD))

    def check(self, holds: bool, otherwise: str) -> None:
        """Count a check that holds.

        Raises:
            Failure: it does not.
        """
        if not holds:
            raise Failure(f"the demo has failed: {otherwise}")
        self._checks += 1

    def _open(self, path: str, protocols: tuple[str, ...] = ()) -> AbstractAsyncContextManager[WebSocket]:
        return open_websocket(self._url(path), protocols, ssl_context=self._context)

    def _url(self, path: str) -> str:
        return f"wss://{_HOST}:{self._server.port}{path}"

    def _show_handshake(self, websocket: WebSocket) -> None:
        self._screen.heading(f"Opening handshake with {websocket.url}")
        self._show_head(">", Style.SENT, "GET /echo HTTP/1.1", websocket.request_headers)
        self._show_head("<", Style.RECEIVED, "HTTP/1.1 101 Switching Protocols", websocket.response_headers)
        self.check(websocket.http_version == "1.1", f"HTTP/{websocket.http_version} was not asked for")

    def _show_head(self, mark: str, style: Style, first_line: str, headers: Headers) -> None:
        self._screen.line(self._screen.paint(f"  {mark} {first_line}", style))
        for name, value in headers.raw:
            self._screen.line(self._screen.paint(f"  {mark} ", style) + escape(f"{name}: {value}"))

    def _show_agreement(self, websocket: WebSocket) -> None:
        self._screen.heading("Agreed")
        tls = websocket.ssl_object
        assert tls is not None, "the demo's server speaks TLS"
        cipher, certificate = tls.cipher(), tls.getpeercert()
        self.check(cipher is not None and tls.version() in ("TLSv1.2", "TLSv1.3"), f"TLS version {tls.version()}")
        self.check(bool(certificate), "the server has no certificate that was verified")
        self._screen.fact("TLS", f"{tls.version()}, {cipher and cipher[0]}")
        self._screen.fact("certificate", f"verified, issued by {_issuer(certificate)}")
        self.check(websocket.protocol == _SPOKEN_PROTOCOL, f"the subprotocol is {websocket.protocol!r}")
        self._screen.fact("subprotocol", f"{websocket.protocol}, of {' and '.join(_OFFERED_PROTOCOLS)}")
        self.check(websocket.extensions.startswith("permessage-deflate"), f"extensions {websocket.extensions!r}")
        self._screen.fact("compression", websocket.extensions)

    async def _show_messages(self, websocket: WebSocket) -> None:
        self._screen.heading("Messages, sent and echoed back")
        await self._show_echo(websocket, "text", _TEXT, repr(_TEXT))
        await self._show_echo(websocket, "binary", _BINARY, f"{len(_BINARY)} bytes, {_BINARY[:4].hex(' ')} ...")

    async def _show_echo(self, websocket: WebSocket, kind: str, message: str | bytes, shown: str) -> None:
        started_at = trio.current_time()
        await websocket.send(message)
        echo = await websocket.receive()
        elapsed = trio.current_time() - started_at
        self.check(type(echo) is type(message) and echo == message, f"the echo of the {kind} message differs")
        self._screen.fact(kind, f"{shown}, the same came back after {_milliseconds(elapsed)}")

    async def _show_file(self, websocket: WebSocket) -> None:
        self._screen.heading(
            f"A file of {_CHUNK * _CHUNKS // 2**20} MiB, half text, half random, in messages of {_CHUNK // 2**10} KiB"
        )
        file = make_file()
        frames_before = websocket.statistics().bytes_sent
        digest = hashlib.sha256()
        progress = Progress(self._screen, len(file))
        async with BackgroundNursery() as nursery:
            nursery.start_soon(_send_file, websocket, file)
            for start in range(0, len(file), _CHUNK):
                echo = await websocket.receive()
                self.check(echo == file[start : start + _CHUNK], f"the file's echo differs after byte {start}")
                digest.update(cast("bytes", echo))
                progress.update(start + _CHUNK)
            elapsed = progress.elapsed
        self.check(digest.digest() == hashlib.sha256(file).digest(), "the SHA-256 of the echo differs")
        frames = websocket.statistics().bytes_sent - frames_before
        self._screen.fact("came back", f"the same, SHA-256 {digest.hexdigest()[:16]}...")
        self._screen.fact("throughput", f"{megabytes_per_second(len(file), elapsed)} each way, in {elapsed:.2f} s")
        self._screen.fact("compressed", f"to {frames / 2**20:.1f} MiB, {frames * 100 // len(file)} %")

    async def _show_pings(self, websocket: WebSocket) -> None:  # noqa: ASYNC910  # there are pings
        self._screen.heading("Pings")
        round_trips = [await websocket.ping() for _ in range(_PINGS)]
        self.check(websocket.statistics().pongs_received >= _PINGS, "a pong is missing")
        least, median = min(round_trips), statistics.median(round_trips)
        self._screen.fact(
            "round trip", f"{_milliseconds(least)} at least, {_milliseconds(median)} median, of {_PINGS} pings"
        )

    async def _show_statistics(self, websocket: WebSocket) -> None:
        self._screen.heading("Statistics of that connection")
        client, server = websocket.statistics(), (await self._endings.receiver.receive()).statistics
        for name, sent, received in (
            (
                "messages",
                (client.messages_sent, server.messages_sent),
                (server.messages_received, client.messages_received),
            ),
            ("bytes", (client.bytes_sent, server.bytes_sent), (server.bytes_received, client.bytes_received)),
            ("pings", (client.pings_sent, server.pings_sent), (server.pings_received, client.pings_received)),
        ):
            self.check(sent == received, f"{name}: {sent} were sent, {received} received")
            self._screen.fact(name, f"{sent[0]:,} to the server, {sent[1]:,} back; both sides counted the same")

    async def _show_stream(self) -> None:
        await show_stream(self._screen, self.check, self._url("/echo"), self._context)
        await self._endings.receiver.receive()

    async def _show_http2(self) -> None:
        await show_http2(self._screen, self.check, self._server, self._url("/echo"), self._context)
        for _ in range(2 * COUNT):
            await self._endings.receiver.receive()

    async def _show_rejection(self) -> None:  # noqa: ASYNC910  # opening is a checkpoint
        self._screen.heading("A path that nobody may open")
        try:
            async with self._open("/private"):
                raise Failure("the demo has failed: /private was opened")
        except HandshakeRejected as rejection:
            self.check(rejection.status == HTTPStatus.FORBIDDEN, f"the HTTP status is {rejection.status}")
            self.check(rejection.body == _REJECTION, f"the body is {rejection.body!r}")
            self._screen.fact("/private", f"HTTP status {rejection.status}: {escape(rejection.body.decode())}")

    async def _show_closing(self) -> None:
        self._screen.heading("Closing, and how each side saw it")
        self._screen.line(f"  {'':<16}{'client':<{_COLUMN}}server")
        await self._show_end("client closes", "/echo", (_ended(3000, "all done"), _ended(3000, "all done")), _close)
        await self._show_end("server closes", "/enough", (_ended(4000, "enough"), _ended(4000, "enough")))
        await self._show_end("handler raises", "/bug", (_ended(1011), _ended(1011)))
        await self._show_end("server stops", "/echo", (_ended(1001), _ended(1001)), lambda _: self._server.aclose())
        logged = [str(record.exc_info[1]) for record in self._log if record.exc_info]
        self.check(logged == [_BUG], f"the server logged {logged}")
        self._screen.fact("server's log", f"handler failed: RuntimeError: {_BUG}")

    async def _show_end(
        self,
        name: str,
        path: str,
        expected: tuple[CloseInfo, CloseInfo],
        begin: Callable[[WebSocket], Awaitable[None]] | None = None,
    ) -> None:
        """Open a WebSocket, see it closed, show what the client and the server know of it."""
        async with self._open(path) as websocket:
            if begin is not None:
                await begin(websocket)
            client = await websocket.wait_closed()
        server = (await self._endings.receiver.receive()).info
        self.check((client, server) == expected, f"{name}: the client saw {client}, the server {server}")
        self._screen.fact(name, f"{client!s:<{_COLUMN}}{server}")


async def _close(websocket: WebSocket) -> None:
    await websocket.aclose(3000, "all done")


def _ended(code: int, reason: str = "") -> CloseInfo:
    return CloseInfo(code, reason, was_clean=True)


def make_file() -> bytes:
    """Make the file that is sent: chunks of text and chunks of random bytes in turn, the same each time."""
    source = random.Random(0)
    chunks = []
    for index in range(0, _CHUNKS, 2):
        lines = (b"chunk %d, line %d: to the server and back again\n" % (index, line) for line in range(_CHUNK // 40))
        chunks += [b"".join(lines)[:_CHUNK], source.randbytes(_CHUNK)]
    return b"".join(chunks)


async def _send_file(websocket: WebSocket, file: bytes) -> None:  # noqa: ASYNC910  # the file is not empty
    for start in range(0, len(file), _CHUNK):
        await websocket.send(file[start : start + _CHUNK])


def _issuer(certificate: object) -> str:
    names = cast("dict[str, tuple[tuple[tuple[str, str], ...], ...]]", certificate)["issuer"]
    return ", ".join(value for relative_name in names for _, value in relative_name)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
