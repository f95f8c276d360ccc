"""A peer that speaks HTTP/2 frame by frame: what the tests of clients and servers say, and what they hear."""

from __future__ import annotations

import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import hpack
import trio
import trio.testing
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

import trio_ws
from trio_ws import Http2Statistics
from trio_ws._net.stream_transport import StreamTransport
from trio_ws._server.server import _check_options
from trio_ws._server.service import Service

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from typing import Unpack

    from trio_ws._server.server import ServerKeywords
    from trio_ws._server.service import Handler

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CONNECT = {
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":scheme": "http",
    ":authority": "test.example",
    ":path": "/",
    "sec-websocket-version": "13",
}
HELLO = b"\x81\x85\0\0\0\0hello"  # a text message of a client's, with a mask of zeros
GET = {":method": "GET", ":scheme": "http", ":authority": "test.example", ":path": "/"}

Fields = list[tuple[str, str]]
FrameType = TypeVar("FrameType", bound=Frame)


def wire(length: int, kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Write a frame as it is told, right or wrong."""
    return struct.pack(">BHBBL", length >> 16, length & 0xFFFF, kind, flags, stream_id) + payload


def raw_frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream_id: int = 0) -> bytes:
    """Write a frame of any kind."""
    return wire(len(payload), kind, flags, stream_id, payload)


class RawHttp2:
    """One side of an HTTP/2 connection.

    Attributes:
        counts: what the other side has counted.
        heard: every frame that came.
        answers: the headers that came, by stream, without the date and the server.
        dates: those of the answers, "" for none.
        servers: likewise.
        ended: whether the other side has ended the connection.
    """

    def __init__(self, stream: trio.abc.Stream, counts: Http2Statistics | None = None) -> None:
        self.stream = stream
        self.counts = counts or Http2Statistics()
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.heard: list[Frame] = []
        self.answers: dict[int, dict[str, str]] = {}
        self.dates: list[str] = []
        self.servers: list[str] = []
        self.ended = False
        self._buffer = b""

    async def begin(self, settings: dict[int, int] | None = None, *, preface: bool = True) -> None:
        """Send the preface of a client, or that of a server."""
        await self.send(PREFACE if preface else b"", SettingsFrame(0, settings=settings or {}))

    async def send(self, *frames: Frame | bytes) -> None:
        """Send frames in one piece."""
        data = b"".join(frame if isinstance(frame, bytes) else frame.serialize() for frame in frames)
        await self.stream.send_all(data)

    def headers(self, stream_id: int, fields: dict[str, str] | Fields, *flags: str) -> HeadersFrame:
        """Make the frame of a header block, whole unless flags say otherwise."""
        pairs = list(fields.items()) if isinstance(fields, dict) else fields
        return HeadersFrame(stream_id, self.encoder.encode(pairs), flags=["END_HEADERS", *flags])

    async def connect(self, stream_id: int, **changed: str) -> None:
        """Ask for a WebSocket."""
        await self.send(self.headers(stream_id, {**CONNECT, **{f":{name}": text for name, text in changed.items()}}))

    async def data(self, stream_id: int, data: bytes, *flags: str) -> None:
        """Send DATA, in one frame."""
        await self.send(DataFrame(stream_id, data, flags=list(flags)))

    async def next(self) -> Frame | None:
        """Give the next frame, None at the end."""
        while True:
            if len(self._buffer) >= 9:
                frame, length = Frame.parse_frame_header(memoryview(self._buffer[:9]))
                if len(self._buffer) >= 9 + length:
                    frame.parse_body(memoryview(self._buffer[9 : 9 + length]))
                    self._buffer = self._buffer[9 + length :]
                    self.heard.append(frame)
                    if isinstance(frame, HeadersFrame):  # in the order in which they come: the compression has a memory
                        fields = self.decoder.decode(bytes(frame.data))
                        answer = {str(name): str(value) for name, value in fields}
                        self.dates.append(answer.pop("date", ""))
                        self.servers.append(answer.pop("server", ""))
                        self.answers[frame.stream_id] = answer
                    return frame
            try:
                data = await self.stream.receive_some()
            except trio.BrokenResourceError:
                data = b""
            if not data:
                self.ended = True
                return None
            self._buffer += data

    async def expect(self, kind: type[FrameType], stream_id: int | None = None) -> FrameType:
        """Read on to a frame of a kind, and of a stream."""
        while (frame := await self.next()) is not None:
            if isinstance(frame, kind) and stream_id in (None, frame.stream_id):
                return frame
        raise AssertionError(f"no {kind.__name__} came; {self.heard[-5:]}")

    async def answer(self, stream_id: int) -> dict[str, str]:
        """Read on to the headers of an answer, if they have not come."""
        while stream_id not in self.answers:
            if await self.next() is None:
                raise AssertionError(f"no answer came; {self.heard[-5:]}")
        return self.answers[stream_id]

    async def status(self, stream_id: int) -> str:
        """Read on to the status of an answer."""
        return (await self.answer(stream_id))[":status"]

    async def open(self, stream_id: int) -> None:
        """Open a WebSocket."""
        await self.connect(stream_id)
        assert await self.status(stream_id) == "200"

    async def echo(self, stream_id: int) -> None:
        """Have a message come back."""
        await self.data(stream_id, HELLO)
        assert bytes((await self.expect(DataFrame, stream_id)).data) == b"\x81\x05hello"

    async def reset_code(self, stream_id: int) -> int:
        """Read on to the reset of a stream; give its code."""
        return int((await self.expect(RstStreamFrame, stream_id)).error_code)

    async def rest(self) -> list[Frame]:
        """Read on to the end of the connection; give the frames."""
        frames: list[Frame] = []
        while (frame := await self.next()) is not None:
            frames.append(frame)
        return frames

    async def goaway_code(self) -> int:
        """Read on to the GOAWAY that ends the connection, and to its end; give the code."""
        codes = [frame.error_code for frame in await self.rest() if isinstance(frame, GoAwayFrame)]
        return codes[-1] if codes else -1

    async def grant(self, stream_id: int, size: int) -> None:
        """Let the other side send more."""
        await self.send(WindowUpdateFrame(stream_id, size))


async def echo(request: trio_ws.WebSocketRequest) -> None:
    """Send every message back."""
    async with request.accept() as websocket:
        async for message in websocket:
            await websocket.send(message)


@asynccontextmanager
async def raw_client(
    handler: Handler = echo,
    settings: dict[int, int] | None = None,
    *,
    streams: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = trio.testing.memory_stream_pair,
    **options: Unpack[ServerKeywords],
) -> AsyncGenerator[RawHttp2, None]:
    """Serve a raw client in memory, whose preface has gone."""
    given: ServerKeywords = {"compression": None, "keepalive": None, **options}
    ours, theirs = streams()
    service = Service(_check_options(**given))
    peer = RawHttp2(theirs, service.http2)
    async with trio.open_nursery() as nursery:
        service.nursery = nursery
        nursery.start_soon(service.serve, StreamTransport(ours, nursery), handler)
        await peer.begin(settings)
        yield peer
        await theirs.aclose()
        nursery.cancel_scope.cancel()
