"""Clients that show a certificate: ``python mutual_tls.py``; it needs trustme."""

from __future__ import annotations

import ssl
from functools import partial
from typing import cast

import trio
import trustme

import trio_ws


def common_name(ssl_object: ssl.SSLObject | None) -> str | None:
    """Name the client by its certificate, which TLS has verified; None: it has shown none."""
    certificate = ssl_object and ssl_object.getpeercert()
    if not certificate:
        return None
    subject = cast("tuple[tuple[tuple[str, str], ...], ...]", certificate["subject"])
    return next((value for name in subject for key, value in name if key == "commonName"), None)


async def greet(request: trio_ws.WebSocketRequest) -> None:
    name = common_name(request.ssl_object)
    if name is None:
        await request.reject(401, body=b"show a certificate")
        return
    async with request.accept() as ws:
        await ws.send(f"hello, {name}")


async def main() -> None:
    servers, clients = trustme.CA(), trustme.CA()  # who vouches for servers, and who for clients
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    servers.issue_cert("localhost").configure_cert(server_context)
    clients.configure_trust(server_context)
    # With CERT_REQUIRED, a client without a certificate gets no further than TLS, and learns less of why.
    server_context.verify_mode = ssl.CERT_OPTIONAL

    anybody = ssl.create_default_context()
    servers.configure_trust(anybody)
    ada = ssl.create_default_context()
    servers.configure_trust(ada)
    clients.issue_cert("ada@example.com", common_name="Ada").configure_cert(ada)

    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(
            partial(trio_ws.serve_websocket, greet, "localhost", 0, ssl_context=server_context)
        )
        for context in (ada, anybody):
            try:
                async with trio_ws.open_websocket(f"wss://localhost:{server.port}/", ssl_context=context) as ws:
                    print(await ws.receive())
            except trio_ws.HandshakeRejected as rejected:
                print(rejected.status, rejected.body.decode())
        await server.aclose()


if __name__ == "__main__":
    trio.run(main)
