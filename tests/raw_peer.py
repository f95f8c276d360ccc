"""The other end of a connection, spoken by wsproto: what our side sent is judged by somebody else's parser."""

from __future__ import annotations

import contextlib

import trio
import wsproto
from wsproto import events
from wsproto.connection import ConnectionState
from wsproto.extensions import Extension, PerMessageDeflate


def client_frame(first: int, payload: bytes = b"") -> bytes:
    """Write a frame as a client does, with a mask of zeros, so that the payload can be read in it."""
    length = len(payload)
    if length < 126:
        head = bytes((first, 0x80 | length))
    elif length < 2**16:
        head = bytes((first, 0x80 | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((first, 0x80 | 127)) + length.to_bytes(8, "big")
    return head + bytes(4) + payload


class RawPeer:
    """One end of a stream, on which it is a client or a server.

    Attributes:
        messages: the whole messages that came.
        pings: payloads of the pings that came.
        pongs: payloads of the pongs that came.
        closed_with: code and reason of the Close that came; code 1005 if it had none.
        open: whether the opening handshake is done.
        rejected_with: the HTTP status of a rejection.
        ended: whether the end of the stream was read.
    """

    def __init__(self, stream: trio.abc.Stream, *, is_client: bool, compression: bool = False) -> None:
        self.stream = stream
        self.answers = True  # pings and the Close
        self.read_size = 2**16
        self.messages: list[str | bytes] = []
        self._pieces: list[str | bytes] = []  # of the next one
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.closed_with: tuple[int, str] | None = None
        self.ended = False
        self.rejected_with: int | None = None
        self._compression = compression
        self._wsproto = wsproto.WSConnection(
            wsproto.ConnectionType.CLIENT if is_client else wsproto.ConnectionType.SERVER
        )
        self.open = False

    def _extensions(self) -> list[Extension]:
        return [PerMessageDeflate()] if self._compression else []

    async def connect(self, path: str = "/") -> None:
        """Open the WebSocket, as a client."""
        await self.send(events.Request(host="test.example", target=path, extensions=self._extensions()))
        await self._shake_hands()

    async def accept(self) -> None:
        """Open the WebSocket, as a server."""
        await self._shake_hands()

    async def _shake_hands(self) -> None:
        while not self.open and self.rejected_with is None:
            if not await self.read():
                raise EOFError("the stream ended in the opening handshake")

    async def read(self) -> bool:
        """Read once and understand it; False at the end of the stream."""
        try:
            data = await self.stream.receive_some(self.read_size)
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self.ended = True
            return False
        self._wsproto.receive_data(bytes(data))
        for event in self._wsproto.events():
            await self._understand(event)
        return True

    async def read_until(self, last: str | bytes) -> None:
        """Read messages up to this one."""
        while not self.messages or self.messages[-1] != last:
            assert await self.read(), f"the stream ended before {last!r:.50}"

    async def read_to_the_end(self) -> None:
        """Read until the stream ends."""
        while await self.read():
            pass

    async def finish(self) -> None:
        """Read on to the Close or to the end, and close the stream."""
        while self.closed_with is None and not self.ended:
            await self.read()
        await trio.aclose_forcefully(self.stream)

    async def vanish(self) -> None:
        """Close the stream and say nothing."""
        self.ended = True
        await trio.aclose_forcefully(self.stream)

    async def _understand(self, event: events.Event) -> None:
        match event:
            case events.Request():
                await self.send(events.AcceptConnection(extensions=self._extensions()))
                self.open = True
            case events.AcceptConnection():
                self.open = True
            case events.RejectConnection(status_code=status):
                self.rejected_with = status
            case events.RejectData():
                pass
            case events.TextMessage() | events.BytesMessage():
                self._add(event)
            case events.Ping():
                self.pings.append(bytes(event.payload))
                if self.answers:
                    await self._answer(event.response())
            case events.Pong():
                self.pongs.append(bytes(event.payload))
            case events.CloseConnection():
                self.closed_with = int(event.code), event.reason or ""
                if self.answers and self._wsproto.state is ConnectionState.REMOTE_CLOSING:
                    await self._answer(event.response())
            case _:
                raise AssertionError(f"wsproto says {event!r}")

    async def _answer(self, event: events.Event) -> None:
        with contextlib.suppress(trio.BrokenResourceError):  # the other side may be gone
            await self.send(event)

    def _add(self, event: events.TextMessage | events.BytesMessage) -> None:
        self._pieces.append(event.data if isinstance(event.data, str) else bytes(event.data))
        if event.message_finished:
            empty = self._pieces[0][:0]
            self.messages.append(empty.join(self._pieces))  # type: ignore[arg-type]  # all of one type
            self._pieces.clear()

    async def send(self, event: events.Event) -> None:
        """Send what wsproto makes of an event."""
        await self.stream.send_all(self.encode(event))

    def encode(self, *several: events.Event) -> bytes:
        """Write what wsproto makes of events, to be sent by the caller."""
        return b"".join(map(self._wsproto.send, several))

    def whole_frames(self) -> bool:
        """Whether all that came were whole frames, with nothing after the Close."""
        if self._wsproto.connection is None:
            return True
        decoder = self._wsproto.connection._proto._frame_decoder
        return decoder.header is None and not decoder.buffer.buffer
