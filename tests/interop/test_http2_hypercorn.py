"""Our client over HTTP/2 with a server of ``hypercorn`` on asyncio.

Its trio worker ends its process when a stream closes cleanly. Both end the whole connection when a DATA frame comes on
a stream that they have forgotten, and our answer to a Close of theirs is one: nothing is asked of the peer then.
"""

from __future__ import annotations

import pytest

from .contract import OurClient
from .contract_http2 import OurClientShares
from .peers import TLS, Peer, python_peer

pytestmark = pytest.mark.interop


@pytest.fixture
def peer(tls: TLS) -> Peer:
    """The peer."""
    return python_peer("hypercorn_peer.py", tls=tls, http_version="2")


class TestOurClient(OurClient, OurClientShares):
    """Against a server of ``hypercorn``."""

    heard_of_cancelled = (1006,)
    tells_of_its_own_close = False

    def told(self, code: int, reason: str = "") -> dict[str, object]:
        """ASGI's application learns no code of a Close that the client sent."""
        return {"code": 1006, "reason": ""}
