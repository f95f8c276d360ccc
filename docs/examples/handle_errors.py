"""Tell a person why there is no connection: ``python handle_errors.py ws://127.0.0.1:8765/``."""

from __future__ import annotations

import ssl
import sys

import trio

import trio_ws


async def explain(url: str) -> str:
    try:
        async with trio_ws.open_websocket(url, connect_timeout=5) as ws:
            await ws.send("hello")
            return f"the server says {await ws.receive()!r}"
    except trio_ws.InvalidURL as error:
        return f"this is no URL of a WebSocket: {error}"
    except trio_ws.HandshakeRejected as error:
        return f"the server says no, with status {error.status}"
    except trio_ws.HandshakeError as error:
        return f"there is no WebSocket server: {error}"
    except trio_ws.ConnectionClosed as error:
        return f"the connection is closed: {error.code} {error.reason!r}"
    except ssl.SSLCertVerificationError as error:
        return f"its certificate cannot be trusted: {error.verify_message}"
    except OSError:
        return "nobody answers there"


if __name__ == "__main__":
    print(trio.run(explain, sys.argv[1]))
