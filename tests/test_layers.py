"""The contracts of ``[tool.importlinter]`` in pyproject.toml: the package keeps them, and each of them bites."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SKELETON = [
    *("__init__", "__main__", "_exceptions", "_options", "_close", "_transport"),
    *("_cli/__init__", "testing/__init__", "compat/__init__", "compat/trio_websocket/__init__"),
    *("_client/__init__", "_client/agent", "_client/connect", "_server/__init__", "_server/server"),
    *("_websocket/__init__", "_websocket/websocket", "_websocket/websocket_stream", "_websocket/instrument"),
    *("_connection/__init__", "_connection/connection", "_connection/outbox", "_connection/statistics"),
    *("_util/__init__", "_util/nursery", "_util/token_bucket"),
    *("_wire/__init__", "_wire/url", "_wire/headers", "_wire/handshake", "_wire/frames", "_wire/protocol"),
    *("_net/__init__", "_net/http1", "_net/dial", "_net/http2/__init__", "_net/http2/h2_adapter"),
]


def lint_imports(folder: Path) -> tuple[int, str]:
    """Check the package in folder; return the exit status and what was printed, on one line."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    arguments = ["--no-cache", "--no-logo", "--config", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.returncode, " ".join(done.stdout.decode().split())


def write_package(folder: Path, lines: dict[str, str]) -> None:
    """Write a package of modules that are empty but for these lines."""
    for name in {*SKELETON, *lines}:
        path = folder / "trio_ws" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(lines.get(name, ""))


def test_the_package_keeps_every_contract() -> None:
    status, output = lint_imports(ROOT)
    assert status == 0, output


def test_imports_that_point_down_are_allowed(tmp_path: Path) -> None:
    lines = {
        "__main__": "from ._cli import main",
        "_cli/__init__": "from .. import _client, _server, testing",
        "testing/__init__": "from .. import _client, _server",
        "_client/connect": "from . import agent\nfrom .._websocket import websocket, websocket_stream",
        "_client/agent": "from .._connection import connection\nfrom .._net import dial",
        "_websocket/websocket": "from .._connection import connection, statistics\nfrom .._util import nursery",
        "_connection/connection": "from . import outbox\nfrom .. import _transport\nfrom .._wire import protocol",
        "_net/http1": "import h11",
        "_net/http2/h2_adapter": "import hpack, hyperframe.frame\nfrom h2.connection import H2Connection",
        "_net/dial": "import ssl, trio\nfrom .. import _transport\nfrom .._wire import handshake, headers, url",
        "_wire/handshake": "import zlib\nfrom . import frames\nfrom .. import _exceptions, _options",
        "_exceptions": "import trio\nfrom . import _close",
    }
    write_package(tmp_path, lines)
    status, output = lint_imports(tmp_path)
    assert status == 0, output


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ({"_wire/frames": "from .._websocket import websocket"}, "Imports point one way BROKEN"),
        ({"_wire/frames": "from .._util import nursery"}, "Imports point one way BROKEN"),
        ({"_net/dial": "from .._connection import connection"}, "Imports point one way BROKEN"),
        ({"_connection/connection": "from .._net import dial"}, "Imports point one way BROKEN"),
        ({"_client/connect": "from .._server import server"}, "Imports point one way BROKEN"),
        ({"_server/server": "from .._client import agent"}, "Imports point one way BROKEN"),
        ({"_options": "from . import _exceptions"}, "Imports point one way BROKEN"),
        (
            {"__init__": "from ._client import connect", "_connection/connection": "import trio_ws"},
            "Imports point one way BROKEN",
        ),
        ({"_stray": ""}, "Imports point one way BROKEN"),
        ({"_wire/url": "from . import headers", "_wire/headers": "from . import url"}, "No module needs itself BROKEN"),
        (
            {"_client/agent": "from . import connect", "_client/connect": "from . import agent"},
            "No module needs itself BROKEN",
        ),
        ({"_wire/frames": "import trio"}, "The wire knows no I/O, no clock and no HTTP library BROKEN"),
        ({"_wire/url": "from time import monotonic"}, "The wire knows no I/O, no clock and no HTTP library BROKEN"),
        ({"_net/dial": "from .._wire import frames"}, "The net knows no frame and no connection BROKEN"),
        ({"_net/http2/h2_adapter": "from ..._wire import frames"}, "The net knows no frame and no connection BROKEN"),
        ({"_net/http2/h2_adapter": "import h11"}, "HTTP/1.1 is one module's business BROKEN"),
        ({"_server/server": "from h2.connection import H2Connection"}, "HTTP/2 is one module's business BROKEN"),
    ],
)
def test_an_import_that_breaks_a_contract_is_found(tmp_path: Path, lines: dict[str, str], complaint: str) -> None:
    write_package(tmp_path, lines)
    status, output = lint_imports(tmp_path)
    assert status == 1
    assert complaint in output
