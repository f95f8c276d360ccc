"""Real proxies: how each is started on a port, and the URL that a client goes through it by."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from ..raw import authority
from .peers import HOST, require

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

USER, PASSWORD = "user", "secret-of-the-proxy"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyKind:
    """A proxy program, set up in one way.

    Attributes:
        scheme: of the URL that a client goes through it by.
        command: writes what the proxy needs into a folder, and returns the command that runs it on a port.
        password: whether it wants USER and PASSWORD.
        name: the host in its URL.
        lies: whether it says that it has connected before it has.
    """

    scheme: str
    command: Callable[[Path, int], list[str]]
    password: bool = False
    name: str = HOST
    lies: bool = False

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator[str]:
        """Run the proxy as long as the block; gives the rest of its URL, ``host:port``."""
        port = free_port()
        # Not with trio, which would begin it in a thread: Envoy ends with the thread that has begun it.
        process = subprocess.Popen(  # noqa: ASYNC220
            self.command(folder, port),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            while not await listens(port):
                assert process.poll() is None, "the proxy ended before it listened"
                await trio.sleep(0.02)
            yield f"{self.name}:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # some have processes of their own: they are one group
            process.wait()  # noqa: ASYNC222  # it is dead

    def url(self, place: str, *, user: str = USER, password: str = PASSWORD) -> str:
        """Write the proxy's URL, with the right credentials if it wants any."""
        return f"{self.scheme}://{f'{user}:{password}@' if self.password else ''}{place}"


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


async def listens(port: int) -> bool:
    """Tell whether somebody listens on a port."""
    try:
        await (await trio.open_tcp_stream(HOST, port)).aclose()
    except OSError:
        return False
    return True


def write(folder: Path, name: str, *lines: str) -> str:
    """Write a file that any user may read, and return its path: some proxies change theirs."""
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(parent.stat().st_mode | 0o055)
    path = folder / name
    path.write_text("\n".join([*lines, ""]))
    path.chmod(0o644)
    return str(path)


def certificate(folder: Path) -> tuple[str, str]:
    """Write a certificate for this machine and its key, and return their paths."""
    issued = authority().issue_cert("localhost", HOST)
    chain = "".join(blob.bytes().decode() for blob in issued.cert_chain_pems)
    return write(folder, "cert.pem", chain), write(folder, "key.pem", issued.private_key_pem.bytes().decode())


def tinyproxy(*settings: str) -> Callable[[Path, int], list[str]]:
    """tinyproxy, with lines of its configuration."""

    def command(folder: Path, port: int) -> list[str]:
        lines = (f"Port {port}", f"Listen {HOST}", "Timeout 60", "MaxClients 20", *settings)
        return [require("tinyproxy"), "-d", "-c", write(folder, "tinyproxy.conf", *lines)]

    return command


def squid(*, password: bool = False, tls: bool = False) -> Callable[[Path, int], list[str]]:
    """Squid, of a build with OpenSSL."""

    def command(folder: Path, port: int) -> list[str]:
        program = require("squid")
        listen = f"http_port {HOST}:{port}"
        if tls:
            cert, key = certificate(folder)
            listen = f"https_port {HOST}:{port} tls-cert={cert} tls-key={key}"
        access = ["http_access allow all"]
        if password:
            # A plain password: squid's helper takes an MD5 one, which openssl makes.
            made = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], capture_output=True, text=True, check=True)
            users = write(folder, "users", f"{USER}:{made.stdout.strip()}")
            access = [
                f"auth_param basic program /usr/lib/squid/basic_ncsa_auth {users}",
                "acl known proxy_auth REQUIRED",
                "http_access allow known",
                "http_access deny all",
            ]
        lines = (
            listen,
            *access,
            "pid_filename none",
            "cache deny all",
            "access_log none",
            "cache_log /dev/null",
            "netdb_filename none",
            "shutdown_lifetime 0 seconds",
            f"visible_hostname {HOST}",
            f"coredump_dir {folder}",
        )
        return [program, "-N", "-f", write(folder, "squid.conf", *lines)]

    return command


def microsocks(*arguments: str) -> Callable[[Path, int], list[str]]:
    """microsocks."""
    return lambda folder, port: [require("microsocks"), "-i", HOST, "-p", str(port), *arguments]


def dante(folder: Path, port: int) -> list[str]:
    """Dante; with passwords it would ask for those of the system's users."""
    lines = (
        f"internal: {HOST} port = {port}",
        f"external: {HOST}",
        "clientmethod: none",
        "socksmethod: none",
        "user.privileged: root",
        "user.unprivileged: nobody",
        "client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }",
        "socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }",
    )
    return [require("danted", "sockd"), "-f", write(folder, "danted.conf", *lines), "-p", str(folder / "danted.pid")]


def pproxy(listen: str) -> Callable[[Path, int], list[str]]:
    """pproxy, from PyPI, on a URL of its own with PORT in it."""

    def command(folder: Path, port: int) -> list[str]:
        # It wants a loop that is there before there is one, which newer Pythons refuse, and so does uvloop.
        run = "import asyncio, sys; sys.modules['uvloop'] = None; asyncio.set_event_loop(asyncio.new_event_loop()); "
        run += "from pproxy.server import main; main()"
        arguments = [sys.executable, "-c", run, "-l", listen.replace("PORT", str(port))]
        if "ssl" in listen:
            cert, key = certificate(folder)
            arguments += ["--ssl", f"{cert},{key}"]
        return arguments

    return command


_BOTH = f"http+socks5://{HOST}:PORT"
_BOTH_LOCKED = f"{_BOTH}#{USER}:{PASSWORD}"

PROXIES: dict[str, ProxyKind] = {
    "tinyproxy": ProxyKind(scheme="http", command=tinyproxy()),
    "tinyproxy, password": ProxyKind(scheme="http", command=tinyproxy(f"BasicAuth {USER} {PASSWORD}"), password=True),
    "squid": ProxyKind(scheme="http", command=squid()),
    "squid, password": ProxyKind(scheme="http", command=squid(password=True), password=True),
    "squid, TLS": ProxyKind(scheme="https", command=squid(tls=True), name="localhost"),
    "squid, TLS, password": ProxyKind(scheme="https", command=squid(tls=True, password=True), password=True),
    "microsocks": ProxyKind(scheme="socks5", command=microsocks()),
    "microsocks, password": ProxyKind(scheme="socks5h", command=microsocks("-u", USER, "-P", PASSWORD), password=True),
    "dante": ProxyKind(scheme="socks5", command=dante),
    "pproxy, HTTP": ProxyKind(lies=True, scheme="http", command=pproxy(_BOTH)),
    "pproxy, HTTP, password": ProxyKind(lies=True, scheme="http", command=pproxy(_BOTH_LOCKED), password=True),
    "pproxy, SOCKS": ProxyKind(lies=True, scheme="socks5", command=pproxy(_BOTH)),
    "pproxy, SOCKS, password": ProxyKind(lies=True, scheme="socks5", command=pproxy(_BOTH_LOCKED), password=True),
    "pproxy, TLS": ProxyKind(lies=True, scheme="https", command=pproxy(f"http+ssl://{HOST}:PORT")),
}
