"""What ``trio-ws demo`` shows of a WebSocketStream: a connection as two channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import CloseInfo, open_websocket_stream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from .terminal import Screen

_MESSAGES = ("one", b"\x02", "three")


async def show_stream(screen: Screen, check: Callable[[bool, str], None], url: str, context: ssl.SSLContext) -> None:
    """Write messages into one channel, read their echoes from the other, close with a code."""
    screen.heading("A WebSocketStream: the same as two channels")
    async with open_websocket_stream(url, ssl_context=context) as stream:
        for message in _MESSAGES:
            await stream.writable.send(message)
        echoes = [await stream.readable.receive() for _ in _MESSAGES]
        check(tuple(echoes) == _MESSAGES, f"the stream gave {echoes!r}")
        screen.fact("readable", f"{', '.join(map(repr, echoes))}, as they were written into writable")
        stream.close(3001, "read enough")
        info = await stream.wait_closed()
    check(info == CloseInfo(3001, "read enough", was_clean=True), f"the stream was closed with {info}")
    screen.fact("closed", str(info))
