"""What the interop tests share."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from .peers import TLS, require

if TYPE_CHECKING:
    from pathlib import Path

pytest.register_assert_rewrite("tests.interop.contract", "tests.interop.contract_http2")


def install(folder: Path, *packages: str) -> Path:
    """Install npm packages into a folder; gives the one that Node.js looks for them in."""
    require("node")
    command = [require("npm"), "install", "--no-audit", "--no-fund", "--prefix", str(folder), *packages]
    subprocess.run(command, check=True, capture_output=True, timeout=180)
    return folder / "node_modules"


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the npm packages that the scripts of ``node`` need."""
    return install(tmp_path_factory.mktemp("node"), "ws@8")


@pytest.fixture(scope="session")
def undici_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with undici, and with a Node.js that is new enough for it; pinned, for both are on the move."""
    return install(tmp_path_factory.mktemp("undici"), "undici@8.12.4", "node@26.10.0")


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TLS:
    """The certificate of every server over TLS."""
    return TLS.create(tmp_path_factory.mktemp("tls"))
