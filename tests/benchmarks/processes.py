"""Processes under test: started once for a pass, and what they have used."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.certificates import context_for
from tests.benchmarks.link import TIMEOUT, Link, accept, connect
from tests.benchmarks.link_http2 import Http2Client, Http2Server
from tests.benchmarks.subjects import CPU, HOST, SUBJECTS

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Cost:
    """What one message took.

    Attributes:
        cpu: seconds of the CPU of the side under test.
        wall: seconds of the clock.
        sent: bytes that the side under test sent.
    """

    cpu: float
    wall: float
    sent: float


class Process:
    """One side under test, and a connection to it.

    Args:
        name: of :data:`SUBJECTS`.
        role: "server" or "client".
        variant: "plain", "tls", "deflate" or "http2".
        certificate: for TLS.
        stack: ends it.
    """

    def __init__(self, name: str, role: str, variant: str, certificate: Path, stack: ExitStack) -> None:
        self.name = name
        self.subject = SUBJECTS[name]
        self.role = role
        self.port = 0
        self._deflate = variant == "deflate"
        opposite = "client" if role == "server" else "server"
        self._context: ssl.SSLContext | None = (
            context_for(opposite, certificate) if variant in ("tls", "http2") else None
        )
        self._http2: Http2Client | Http2Server | None = None  # carries all WebSockets, if that is what is measured
        self._listener = stack.enter_context(socket.create_server((HOST, 0), backlog=2048))
        self._listener.settimeout(TIMEOUT)
        command = [sys.executable, "-m", "tests.benchmarks.subjects", name, role, variant]
        command += ["--certificate", str(certificate), "--port", str(self._listener.getsockname()[1])]
        environment = {**os.environ, **self.subject.environment}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        stack.callback(self._stop)
        if role == "server":
            assert self._process.stdout is not None
            self.port = int(self._process.stdout.readline())
        if variant == "http2":
            self._http2 = self.dial_http2() if role == "server" else self.accept_http2()
        self.link = self.meet()
        self.crowd: list[Link] = []  # more of them, for those who want many at once

    def _stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def meet(self) -> Link:
        """Make one more connection, with this side's opening handshake."""
        raw = self.subject.raw
        if self._http2 is not None:
            return self._http2.open()
        if self.role == "server":
            return connect(self.port, self._context, deflate=self._deflate, raw=raw)
        return accept(self._listener, self._context, deflate=self._deflate, raw=raw)

    def dial_http2(self) -> Http2Client:
        """Make one more connection over HTTP/2, with no WebSocket yet."""
        assert self._context is not None
        return Http2Client(self.port, self._context, ends=self.subject.ends_streams)

    def accept_http2(self) -> Http2Server:
        """Accept the connection of a client under test."""
        assert self._context is not None
        return Http2Server(self._listener, self._context)

    def meet_one_more(self) -> Link:
        """Make one more connection that the side under test obeys."""
        if self.role == "server":
            return self.meet()
        self.link.order("join 1")
        link = self.meet()
        self.link.await_done()
        return link

    def measure(self, work: Callable[[], object], count: int) -> Cost:
        """Do work that makes the side under test handle so many messages."""
        cpu, wall, sent = self.cpu_seconds(), time.perf_counter(), self.received()
        work()
        return Cost(
            (self.cpu_seconds() - cpu) / count,
            (time.perf_counter() - wall) / count,
            (self.received() - sent) / count,
        )

    def received(self) -> int:
        """Count the bytes that it has sent so far."""
        return sum(link.received for link in {self.link, *self.crowd})

    def cpu_seconds(self) -> float:
        """Read the CPU time that all its threads have used so far; the kernel counts it in nanoseconds."""
        files = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(file.read_text().split()[0]) for file in files) / 1e9

    def memory(self) -> int:
        """Read how many bytes of memory it holds."""
        with open(f"/proc/{self._process.pid}/statm") as file:
            return int(file.read().split()[1]) * 4096


class Pool:
    """The processes of one pass."""

    def __init__(self, certificate: Path, stack: ExitStack) -> None:
        self._certificate = certificate
        self._stack = stack
        self._running: dict[tuple[str, str, str], Process] = {}

    def get(self, name: str, role: str, variant: str) -> Process:
        """Give the process for this, started when it is asked for first."""
        key = name, role, variant
        if key not in self._running:
            self._running[key] = Process(name, role, variant, self._certificate, self._stack)
        return self._running[key]


# At the lowest priority there is: whatever else can run there does, at once.
_SPIN = """
import os
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
os.sched_setaffinity(0, {%d})
while os.getppid() == %d:
    for _ in range(10**6):
        pass
"""


def keep_awake(stack: ExitStack) -> None:
    """Keep both cores from going to sleep: how long waking one takes is for its hypervisor to say, and that varies."""
    for core in {CPU, *os.sched_getaffinity(0)}:
        process = subprocess.Popen([sys.executable, "-c", _SPIN % (core, os.getpid())])
        stack.callback(process.wait)
        stack.callback(process.kill)
