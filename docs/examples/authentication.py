"""Five ways to say who a client is, at one server: ``python authentication.py``."""

from __future__ import annotations

import base64
import hmac
from http.cookies import SimpleCookie
from urllib.parse import parse_qs

import trio

import trio_ws

USERS = {"token-of-ada": "ada"}
PASSWORDS = {"ada": "secret"}


def user_of_token(token: str) -> str | None:
    """Compare in constant time, so that nobody learns a token by trying."""
    return next((user for known, user in USERS.items() if hmac.compare_digest(known, token)), None)


def user_of_request(request: trio_ws.WebSocketRequest) -> str | None:
    """Tell who asks, by the headers or the URL; None if they do not say."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return user_of_token(value)
    if scheme.lower() == "basic":
        name, _, password = base64.b64decode(value).decode().partition(":")
        return name if hmac.compare_digest(PASSWORDS.get(name, ""), password) else None
    if cookie := SimpleCookie(request.headers.get("Cookie", "")).get("session"):
        return user_of_token(cookie.value)
    for token in parse_qs(request.query).get("token", ()):  # it is in logs of proxies: let it be good for a minute
        return user_of_token(token)
    return None


async def handler(request: trio_ws.WebSocketRequest) -> None:
    user = user_of_request(request)
    if user is None and request.path != "/first-message":
        await request.reject(401, {"WWW-Authenticate": "Bearer"})
        return
    async with request.accept() as ws:
        if user is None:  # a browser's page can set no headers: it says who it is by its first message
            with trio.move_on_after(5):
                user = user_of_token(str(await ws.receive()))
        if user is None:
            raise trio_ws.WebSocketError(1008, "who are you?")
        await ws.send(f"hello, {user}")


async def show(name: str, url: str, headers: trio_ws.HeadersLike = (), first: str | None = None) -> None:
    try:
        async with trio_ws.open_websocket(url, headers=headers) as ws:
            if first is not None:
                await ws.send(first)
            print(f"{name}: {await ws.receive()!s}")
    except trio_ws.HandshakeRejected as error:
        print(f"{name}: status {error.status}")
    except trio_ws.ConnectionClosedError as error:
        print(f"{name}: closed with {error.code} {error.reason}")


async def main() -> None:
    async with trio.open_nursery() as nursery:
        server: trio_ws.WebSocketServer = await nursery.start(trio_ws.serve_websocket, handler, "127.0.0.1", 0)
        place = f"127.0.0.1:{server.port}"
        await show("header", f"ws://{place}/", {"Authorization": "Bearer token-of-ada"})
        await show("Basic, in the URL", f"ws://ada:secret@{place}/")
        await show("cookie", f"ws://{place}/", {"Cookie": "session=token-of-ada"})
        await show("query", f"ws://{place}/?token=token-of-ada")
        await show("first message", f"ws://{place}/first-message", first="token-of-ada")
        await show("a wrong token", f"ws://{place}/", {"Authorization": "Bearer of-bad-news"})
        await show("a wrong first message", f"ws://{place}/first-message", first="let me in")
        await server.aclose()


if __name__ == "__main__":
    trio.run(main)
