"""Our client and our server over HTTP/2 with HAProxy, which speaks HTTP/1.1 to ``ws`` on its other side."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from .contract import Fragments, OurClient, OurServer, Pings, Plain
from .contract_http2 import OurClientShares
from .haproxy import BACK_CLEAR, BACK_TLS, FRONT_TLS, bridging
from .peers import HERE, TLS, Peer, Program, require

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from .peers import Output

pytestmark = pytest.mark.interop


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridged(Peer):
    """A peer of HTTP/1.1 behind HAProxy, with which our side speaks HTTP/2.

    Attributes:
        program: HAProxy's path.
        inner: the peer.
        folder: for HAProxy's files.
    """

    program: str
    inner: Peer
    folder: Path
    tls: TLS | None
    http_version: str = "2"

    @asynccontextmanager
    async def serving(self, *arguments: str) -> AsyncIterator[tuple[Output, str]]:
        """Run the peer as a server and HAProxy as its front."""
        assert self.tls is not None
        async with self.inner.serving(*arguments) as (output, url):
            port = int(url.rpartition(":")[2])
            async with bridging(self.program, port, FRONT_TLS, self.folder, self.tls.identity) as front:
                yield output, self.url_of(front)

    @asynccontextmanager
    async def connecting(self, url: str, *arguments: str) -> AsyncIterator[Output]:
        """Run HAProxy with our server as its back end, and the peer as a client of it."""
        place, _, path = url.partition("://")[2].partition("/")
        sides = BACK_CLEAR if self.tls is None else BACK_TLS
        async with (
            bridging(self.program, int(place.rpartition(":")[2]), sides, self.folder) as port,
            self.inner.connecting(f"{self.inner.url_of(port)}/{path}", *arguments) as output,
        ):
            yield output


def bridged(node_modules: Path, folder: Path, tls: TLS | None) -> Peer:
    """Put HAProxy in front of ``ws``."""
    script = str(HERE / "node" / "ws_peer.js")
    inner = Program(command=(require("node"), script), environment={"NODE_PATH": str(node_modules)})
    return Bridged(program=require("haproxy"), inner=inner, folder=folder, tls=tls)


class TestOurClient(OurClient, Fragments, Pings, Plain, OurClientShares):
    """With HAProxy as a front: HTTP/2 over TLS to it."""

    @pytest.fixture
    def peer(self, node_modules: Path, tmp_path: Path, tls: TLS) -> Peer:
        """The peer."""
        return bridged(node_modules, tmp_path, tls)


class TestOurServer(OurServer, Fragments, Pings, Plain):
    """With HAProxy as a client: it speaks HTTP/2 to its back end, over TLS or with prior knowledge in the clear."""

    @pytest.fixture(params=["clear", "TLS"])
    def peer(self, request: pytest.FixtureRequest, node_modules: Path, tmp_path: Path, tls: TLS) -> Peer:
        """The peer."""
        return bridged(node_modules, tmp_path, tls if request.param == "TLS" else None)
