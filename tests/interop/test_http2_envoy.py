"""Our client over HTTP/2 with Envoy, which speaks HTTP/1.1 to ``websockets`` on its other side, as a front does.

Envoy hands on the headers that it gets: a WebSocket over HTTP/2 needs no key (RFC 8441 §5), and over HTTP/1.1 it does.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from .contract import Fragments, OurClient, Pings, Plain
from .contract_http2 import OurClientShares
from .envoy import front
from .peers import TLS, Peer, python_peer
from .proxies import ProxyKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from .peers import Output

pytestmark = pytest.mark.interop


@dataclass(frozen=True, slots=True, kw_only=True)
class BehindEnvoy(Peer):
    """A server of HTTP/1.1 behind Envoy.

    Attributes:
        inner: the server.
        folder: for Envoy's files.
    """

    inner: Peer
    folder: Path
    tls: TLS
    http_version: str = "2"

    @asynccontextmanager
    async def serving(self, *arguments: str) -> AsyncIterator[tuple[Output, str]]:
        """Run the server and Envoy as long as the block."""
        async with self.inner.serving(*arguments) as (output, url):
            proxy = ProxyKind(scheme="wss", command=front(int(url.rpartition(":")[2]), self.tls.identity))
            async with proxy.running(self.folder) as place:
                yield output, self.url_of(int(place.rpartition(":")[2]))

    def connecting(self, url: str, *arguments: str) -> AbstractAsyncContextManager[Output]:
        """Not here: Envoy with a server of ours is tested where many clients share its connections."""
        raise NotImplementedError


class TestOurClient(OurClient, Fragments, Pings, Plain, OurClientShares):
    """With Envoy as a front: HTTP/2 over TLS to it."""

    @pytest.fixture
    def peer(self, tmp_path: Path, tls: TLS) -> Peer:
        """The peer."""
        return BehindEnvoy(inner=python_peer("websockets_peer.py", "asyncio"), folder=tmp_path, tls=tls)
