"""A chat with a page, rooms and presence: ``python -m chat.server 8765``, in the folder above.

``--redis URL`` lets several processes be one chat. ``--certificate FILE`` (key and certificates, PEM) serves wss.
SIGTERM ends it: ``/readyz`` says no for ``--drain`` seconds, or until the next signal; then everyone gets Close 1001.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import ssl
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs

import trio

import trio_ws

from .brokers import BrokerAway, open_broker
from .rooms import Chat

HERE = Path(__file__).parent
FILES = {
    "/": ("text/html; charset=utf-8", (HERE / "page.html").read_bytes()),
    "/page.css": ("text/css; charset=utf-8", (HERE / "page.css").read_bytes()),
    "/page.js": ("text/javascript; charset=utf-8", (HERE / "page.js").read_bytes()),
}
# Only our own script runs, whatever people write; and no other site shows the page in a frame.
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self'; "
    "img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",  # data: is the empty icon
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
ROOM = re.compile(r"/rooms/([a-z0-9-]{1,30})")
MOST = 2000  # characters of a name and a message together
LIMITS = trio_ws.Limits(max_message_size=4 * MOST, receive_buffer=2**16)


class Service:
    """What one process does with requests."""

    def __init__(self, chat: Chat) -> None:
        self.ready = True
        self._chat = chat

    async def answer(self, request: trio_ws.HTTPRequest) -> trio_ws.HTTPResponse:
        """Serve the page, and answer those who ask how this process is."""
        if request.path == "/healthz":
            return trio_ws.HTTPResponse(200, {"Content-Type": "text/plain"}, b"well\n")
        if request.path == "/readyz":
            body = b"ready\n" if self.ready else b"draining\n"
            return trio_ws.HTTPResponse(200 if self.ready else 503, {"Content-Type": "text/plain"}, body)
        if request.path not in FILES:
            return trio_ws.HTTPResponse(404)
        kind, body = FILES[request.path]
        headers = {"Content-Type": kind, "Cache-Control": "no-cache", **SECURITY}
        return trio_ws.HTTPResponse(200, headers, b"" if request.method == "HEAD" else body)

    async def handle(self, request: trio_ws.WebSocketRequest) -> None:
        """Have somebody in a room: ``/rooms/ROOM?name=NAME``."""
        room = ROOM.fullmatch(request.path)
        name = parse_qs(request.query).get("name", [""])[0].strip()
        if room is None or not (0 < len(name) <= 30 and name.isprintable()):
            await request.reject(404)
            return
        async with request.accept() as ws, self._chat.join(room[1], name, ws) as joined:
            server = {"process": self._chat.process, "http": ws.http_version}
            history = [json.loads(said) for said in joined.history]
            # At once, so that nothing is said between the history and what follows it.
            ws.send_nowait(json.dumps({"kind": "welcome", "server": server, "history": history}))
            async for text in ws:
                if not isinstance(text, str) or len(text) > MOST:
                    raise trio_ws.WebSocketError(1008, f"a message is text of at most {MOST} characters")
                try:
                    await self._chat.say(room[1], name, text)
                except BrokerAway:
                    await ws.send(json.dumps({"kind": "unsent", "text": text}))


async def main(port: int, *, redis: str | None, certificate: Path | None, drain: float) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    async with open_broker(redis) as broker, trio.open_nursery() as nursery:
        chat = Chat(broker)
        service = Service(chat)
        await nursery.start(broker.relay, chat.hear)
        nursery.start_soon(chat.announce)
        serve = partial(
            trio_ws.serve_websocket,
            http_handler=service.answer,
            limits=LIMITS,
            close_timeout=5,
            trusted_proxies=["127.0.0.1", "::1"],
        )
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            server: trio_ws.WebSocketServer = await nursery.start(serve, service.handle, "127.0.0.1", port, context)
            print(f"http{'s' * (context is not None)}://127.0.0.1:{server.port}/", flush=True)
            async for number in signals:
                service.ready = False  # proxies send nobody new here
                if number == signal.SIGTERM:
                    with trio.move_on_after(drain):
                        await anext(signals)  # a second signal ends the draining
                await server.aclose()
                break
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A chat with a page, rooms and presence.")
    parser.add_argument("port", type=int)
    parser.add_argument("--redis", metavar="URL", help="redis://127.0.0.1:6379, say")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="key and certificates, PEM")
    parser.add_argument("--drain", type=float, default=0.0, metavar="SECONDS", help="before it stops listening")
    given = parser.parse_args()
    trio.run(partial(main, given.port, redis=given.redis, certificate=given.certificate, drain=given.drain))
