"""Our client and our server with the ``websockets`` library, over asyncio and over trio."""

from __future__ import annotations

import pytest

from .contract import Fragments, OurClient, OurServer, Pings, Plain
from .peers import Peer, python_peer

pytestmark = pytest.mark.interop


@pytest.fixture(params=["asyncio", "trio"])
def peer(request: pytest.FixtureRequest) -> Peer:
    """The peer, on each of its two event loops."""
    return python_peer("websockets_peer.py", request.param)


class TestOurClient(OurClient, Fragments, Pings, Plain):
    """Against a server of ``websockets``."""


class TestOurServer(OurServer, Fragments, Pings, Plain):
    """Against a client of ``websockets``."""
