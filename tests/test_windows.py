"""What Windows lacks is used nowhere, or asked for before: by reading the source, and by taking it away."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import trio_ws

from . import unix_only

PACKAGE = Path(trio_ws.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))


def uses(source: str) -> list[str]:
    """Find what a module uses that Windows lacks, where it has not asked in the same function whether it is there."""
    found: list[str] = []

    def look(node: ast.AST, scope: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            scope = ast.unparse(node)
        found.extend(name for name in names(node) if not is_guarded(name, scope))
        for child in ast.iter_child_nodes(node):
            look(child, scope)

    tree = ast.parse(source)
    # At the top of a module only what an "if" or "try" itself holds is guarded by it.
    for statement in tree.body:
        look(statement, ast.unparse(statement))
    return found


def names(node: ast.AST) -> list[str]:
    match node:
        case ast.Attribute(value=ast.Name(id=module), attr=name) if name in unix_only.NAMES.get(module, ()):
            return [f"{module}.{name}"]
        case ast.Attribute(attr=name) if name in unix_only.SOCKET_METHODS:
            return [f".{name}"]
        case ast.ImportFrom(module=str(module), names=imported) if module in unix_only.NAMES:
            return [f"{module}.{one.name}" for one in imported if one.name in unix_only.NAMES[module]]
        case ast.ImportFrom(module=str(module)) if module in unix_only.MODULES:
            return [module]
        case ast.Import(names=imported):
            return [one.name for one in imported if one.name in unix_only.MODULES]
    return []


def is_guarded(name: str, scope: str) -> bool:
    module, _, attribute = name.rpartition(".")
    asked = f", '{attribute}')" in scope and (f"hasattr({module}, " in scope or not module)
    caught = "except ImportError" in scope or "except (ImportError" in scope
    return asked or "sys.platform" in scope or (name in unix_only.MODULES and caught)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_source_uses_nothing_that_windows_lacks_without_asking(path: Path) -> None:
    assert uses(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os\nos.fork()", ["os.fork"]),
        ("from socket import AF_INET, AF_UNIX", ["socket.AF_UNIX"]),
        ("def f(sock):\n    sock.sendmsg([])", [".sendmsg"]),
        ("def f(sock):\n    if hasattr(sock, 'sendmsg'):\n        sock.sendmsg([])", []),
        ("import termios", ["termios"]),
        ("from fcntl import flock", ["fcntl"]),
        ("def f():\n    if sys.platform != 'win32':\n        import termios", []),
        ("def f():\n    hasattr(socket, 'AF_UNIX')\ndef g():\n    socket.AF_UNIX", ["socket.AF_UNIX"]),
        ("if hasattr(os, 'fork'):\n    os.fork()", []),
        ("hasattr(os, 'fork')\nos.fork()", ["os.fork"]),
        ("class A:\n    def f(self):\n        signal.SIGHUP", ["signal.SIGHUP"]),
        ("signal.SIGTERM, os.chmod, socket.AF_INET", []),
    ],
)
def test_the_reader_of_sources_finds_what_it_looks_for(source: str, found: list[str]) -> None:
    assert uses(source) == found


# The package in a process that has nothing of this. The libraries are there already: trio itself must work here.
POORER = """
import sys
sys.path.insert(0, sys.argv[1])
import asyncio, hashlib, logging, os, random, signal, socket, ssl, subprocess, tempfile, threading, time
from functools import partial
import h2.connection, h11, hypothesis, idna, trio, trio.testing, trustme
from tests import unix_only

socket.socketpair = partial(socket.socketpair, socket.AF_UNIX)  # which works on Windows in another way
for module, names in unix_only.NAMES.items():
    if module != "select":  # trio's own loop has epoll
        for name in names:
            if hasattr(sys.modules.get(module, os), name) and module in sys.modules:
                delattr(sys.modules[module], name)
def missing(self):
    raise AttributeError
for name in unix_only.SOCKET_METHODS:
    setattr(socket.socket, name, property(missing))
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in unix_only.MODULES:
            raise ImportError(name)
for name in unix_only.MODULES:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Finder())

import trio_ws, trio_ws.testing, trio_ws._cli, trio_ws._net.socket_transport
assert not hasattr(socket.socket(), "sendmsg") and not hasattr(socket, "AF_UNIX")

async def echo(request):
    async with request.accept() as websocket:
        async for message in websocket:
            await websocket.send(message)

async def talk(tls, http2):
    limits = trio_ws.Limits(max_message_size=2**22)
    async with (
        trio_ws.testing.open_test_server(echo, tls=tls, limits=limits) as server,
        trio_ws.Agent(allow_h2=http2, ssl_context=server.ssl_context) as agent,
        trio_ws.open_websocket(server.url, dispatcher=agent, limits=limits, compression=None) as websocket,
    ):
        assert websocket.http_version == ("2" if http2 else "1.1")
        for size in (1, 2**16 - 1, 2**16, 2**20 + 1):
            await websocket.send(bytes(size))
            assert await websocket.receive() == bytes(size)

async def main():
    await talk(False, False)
    await talk(True, False)
    await talk(True, True)
    try:
        trio_ws.Agent(socket_path="/tmp/socket")
    except ValueError as error:
        print(error)
    for place, option in ((("/tmp/socket", None), {}), (("127.0.0.1", 0), {"reuse_port": True})):
        try:
            await trio_ws.serve_websocket(echo, *place, **option)
        except ValueError as error:
            print(error)
    assert trio_ws.systemd_sockets() == []

trio.run(main)
sys.argv = ["trio-ws", "connect", "--unix", "/tmp/socket", "ws://localhost/"]
try:
    print(trio_ws._cli.main())
except SystemExit as end:
    print(end.code)
"""


def test_the_package_works_without_all_that_only_unix_has() -> None:
    root = str(PACKAGE.parent)
    done = subprocess.run([sys.executable, "-c", POORER, root], capture_output=True, text=True, timeout=120)
    assert done.stderr == "trio-ws connect: --unix: socket_path='/tmp/socket': this system has no Unix sockets\n"
    assert done.stdout.splitlines() == [
        "socket_path='/tmp/socket': this system has no Unix sockets",
        "host='/tmp/socket': this system has no Unix sockets",
        "reuse_port=True: this system has no SO_REUSEPORT",
        "2",
    ]
    assert done.returncode == 0
