"""What the interop tests share."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from .peers import require

if TYPE_CHECKING:
    from pathlib import Path

pytest.register_assert_rewrite("tests.interop.contract")


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the npm packages that the scripts of ``node`` need."""
    require("node")
    folder = tmp_path_factory.mktemp("node")
    command = [require("npm"), "install", "--no-audit", "--no-fund", "--prefix", str(folder), "ws@8"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder / "node_modules"
