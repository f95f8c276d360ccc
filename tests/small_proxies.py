"""Small proxies that keep what they hear: honest ones, and the parts to make dishonest ones from."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from .raw import head, raw_server, read_head, server_context

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

ESTABLISHED = head("HTTP/1.1 200 Connection established", "Via: small")
SOCKS_CONNECTED = b"\5\0\0\1\0\0\0\0\0\0"  # RFC 1928 §6, bound to 0.0.0.0:0


class SmallProxy:
    """An honest proxy.

    Args:
        scheme: "http", "https" or "socks5".
        name: what the certificate of an https proxy is for.

    Attributes:
        asked: what each client said before it was connected: the head of CONNECT, or the SOCKS messages.
        targets: the hosts and ports that it was asked for, and connected to on this machine.
        sent: all that the clients sent after that.
    """

    def __init__(self, scheme: str = "http", name: str = "127.0.0.1") -> None:
        self.scheme = scheme
        self.name = name
        self.asked: list[bytes] = []
        self.targets: list[tuple[str, int]] = []
        self.sent = b""

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[str, None]:
        """Serve as long as the block; gives ``host:port``."""
        async with raw_server(self.serve) as port:
            yield f"{self.name}:{port}"

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one client."""
        try:
            if self.scheme == "socks5":
                await self._relay(stream, *await self._negotiate(stream))
            elif self.scheme == "http":
                await self._connect(stream)
            else:
                context = server_context(*([] if self.name == "127.0.0.1" else [self.name]))
                tls = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
                await self._connect(tls)
        except trio.BrokenResourceError:
            pass  # the client left

    async def _connect(self, stream: trio.abc.Stream) -> None:
        asked = await read_head(stream)
        if not asked:
            return
        self.asked.append(asked)
        host, _, port = asked.split()[1].decode().rpartition(":")
        await stream.send_all(ESTABLISHED)
        await self._relay(stream, host.strip("[]"), int(port))

    async def _negotiate(self, stream: trio.abc.Stream) -> tuple[str, int]:
        hello = bytes(await stream.receive_some())
        locked = b"\2" in hello[2:]
        asked = hello
        await stream.send_all(b"\5\2" if locked else b"\5\0")
        if locked:
            asked += bytes(await stream.receive_some())
            await stream.send_all(b"\1\0")
        request = bytes(await stream.receive_some())
        self.asked.append(asked + request)
        if not request:
            raise trio.BrokenResourceError
        await stream.send_all(SOCKS_CONNECTED)
        host = request[5:-2].decode() if request[3] == 3 else ".".join(map(str, request[4:-2]))
        return host, int.from_bytes(request[-2:], "big")

    async def _relay(self, stream: trio.abc.Stream, host: str, port: int) -> None:
        self.targets.append((host, port))
        async with await trio.open_tcp_stream("127.0.0.1", port) as server, trio.open_nursery() as nursery:
            nursery.start_soon(partial(self._pump, server, stream, nursery.cancel_scope))
            await self._pump(stream, server, nursery.cancel_scope, keep=True)

    async def _pump(
        self, source: trio.abc.Stream, sink: trio.abc.Stream, scope: trio.CancelScope, *, keep: bool = False
    ) -> None:
        try:
            while data := bytes(await source.receive_some()):
                if keep:
                    self.sent += data
                await sink.send_all(data)
        except trio.BrokenResourceError:
            pass  # one of the two left
        scope.cancel()
