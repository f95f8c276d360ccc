"""Who the client is, told by its certificate before the request is answered: over HTTP/1.1, HTTP/2 and plain HTTP."""

from __future__ import annotations

import http.client
import ssl
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from trio_ws import (
    Agent,
    HandshakeRejected,
    HTTPRequest,
    HTTPResponse,
    WebSocketRequest,
    open_websocket,
    serve_websocket,
)

from ..raw import authority, client_context, server_context
from ..serving import serving

if TYPE_CHECKING:
    import trustme


def mutual_contexts(name: str | None) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make the contexts of a server that asks for certificates, and of a client that has one of this name, or none."""
    server, client = server_context(), client_context()
    server.verify_mode = ssl.CERT_OPTIONAL
    authority().configure_trust(server)
    if name is not None:
        certificate: trustme.LeafCert = authority().issue_cert("client.example", common_name=name)
        certificate.configure_cert(client)
    return server, client


def common_name(tls: ssl.SSLObject | None) -> str:
    """Read whom a client's certificate names; "" if it has shown none."""
    assert tls is not None
    certificate = tls.getpeercert() or {}
    subject = certificate.get("subject", ())
    return next((pair[1] for names in subject for pair in names if pair[0] == "commonName"), "")


async def let_alice_in(request: WebSocketRequest) -> None:
    """Accept Alice, and tell her that she is known."""
    name = common_name(request.ssl_object)
    if name != "alice":
        await request.reject(403)
        return
    async with request.accept() as websocket:
        assert websocket.ssl_object is request.ssl_object
        await websocket.send(f"{name} over HTTP/{request.http_version}")
        await websocket.wait_closed()


async def greet(request: HTTPRequest) -> HTTPResponse:
    """Answer a plain request with the client's name."""
    return HTTPResponse(200, (), f"{common_name(request.ssl_object)} asked for {request.url}".encode())


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_a_handler_knows_the_client_before_it_accepts(version: str) -> None:
    for name, welcome in (("alice", True), ("mallory", False), (None, False)):
        server_side, client_side = mutual_contexts(name)
        async with (
            serving(partial(serve_websocket, let_alice_in, "127.0.0.1", 0, server_side)) as server,
            Agent(allow_h2=version == "2") as agent,
        ):
            opening = open_websocket(f"wss://127.0.0.1:{server.port}/", dispatcher=agent, ssl_context=client_side)
            if welcome:
                async with opening as websocket:
                    assert await websocket.receive() == f"alice over HTTP/{version}"
            else:
                with pytest.raises(HandshakeRejected) as caught:
                    async with opening:
                        pytest.fail("it is open")
                assert caught.value.status == 403


async def test_a_plain_request_knows_the_client_too() -> None:
    server_side, client_side = mutual_contexts("alice")

    def ask(port: int) -> bytes:
        connection = http.client.HTTPSConnection("127.0.0.1", port, context=client_side, timeout=10)
        connection.request("GET", "/who?now")
        return connection.getresponse().read()

    serve = partial(serve_websocket, let_alice_in, "127.0.0.1", 0, server_side, http_handler=greet)
    async with serving(serve) as server:
        answer = await trio.to_thread.run_sync(ask, server.port)
        assert answer == f"alice asked for https://127.0.0.1:{server.port}/who?now".encode()
