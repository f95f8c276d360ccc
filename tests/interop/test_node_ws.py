"""Our client and our server with the npm package ``ws`` on Node.js."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .contract import Fragments, OurClient, OurServer, Pings, Plain
from .peers import HERE, Peer, Program, require

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.interop


@pytest.fixture
def peer(node_modules: Path) -> Peer:
    """The peer."""
    return Program(
        command=(require("node"), str(HERE / "node" / "ws_peer.js")), environment={"NODE_PATH": str(node_modules)}
    )


class TestOurClient(OurClient, Fragments, Pings, Plain):
    """Against a server of ``ws``."""


class TestOurServer(OurServer, Fragments, Pings, Plain):
    """Against a client of ``ws``."""
