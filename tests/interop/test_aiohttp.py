"""Our client and our server with ``aiohttp``; it has no way to send a message in fragments."""

from __future__ import annotations

import pytest

from .contract import OurClient, OurServer, Pings, Plain
from .peers import Peer, python_peer

pytestmark = pytest.mark.interop


@pytest.fixture
def peer() -> Peer:
    """The peer."""
    return python_peer("aiohttp_peer.py")


class TestOurClient(OurClient, Pings, Plain):
    """Against a server of ``aiohttp``."""

    answer_to_4002 = 1000


class TestOurServer(OurServer, Pings, Plain):
    """Against a client of ``aiohttp``."""

    answer_to_4002 = 1000
    tells_the_body = False
