"""The chat of the examples: in headless Chromium, over ws and wss, in one process and in two with Redis and HAProxy."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .peers import HERE, HOST, TLS, require
from .test_fan_out import redis

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.interop

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SERVER = (sys.executable, "-m", "chat.server")
TIMEOUT = 90.0  # seconds


@contextmanager
def started(*command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a program in the folder of the examples; gives the first line that it writes, too."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=EXAMPLES) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


class Visitors:
    """Two people, each at a page of their own in one browser."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def do(self, who: int, method: str, *arguments: str) -> str | None:
        """Have one of them do something."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([who, method, *arguments]) + "\n")
        self._process.stdin.flush()
        answer: str | None = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def visiting(picture: Path, *urls: str) -> Iterator[Visitors]:
    """Have two people visit pages as long as the block; then write a picture of both."""
    script = str(HERE / "python" / "chat_visitors.py")
    command = [sys.executable, script, require("chromium"), require("chromedriver"), str(picture), *urls]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Visitors(process)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(TIMEOUT) == 0
        finally:
            process.terminate()


def free_port() -> int:
    with socket.create_server((HOST, 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_people_talk_on_the_page(scheme: str, tls: TLS, tmp_path: Path) -> None:
    arguments = [] if scheme == "http" else ["--certificate", str(tls.identity)]
    with started(*SERVER, "0", *arguments) as (process, url), visiting(tmp_path / "chat.png", url, url) as visitors:
        assert url.startswith(f"{scheme}://")
        visitors.do(0, "enter", "Ada")
        version = "HTTP/1.1" if scheme == "http" else "HTTP/2"
        visitors.do(0, "wait_for", "state", f"over {version}")
        visitors.do(1, "enter", "Grace")
        for who in (0, 1):
            assert visitors.do(who, "wait_for", "people", "Grace") == "Ada\nGrace"
        visitors.do(0, "say", "<img src=x onerror=alert(1)> is no markup")
        assert visitors.do(1, "wait_for", "messages", "markup") == "Ada\n<img src=x onerror=alert(1)> is no markup"
        process.send_signal(signal.SIGTERM)
        for who in (0, 1):
            visitors.do(who, "wait_for", "state", "closed (1")
        assert process.wait(TIMEOUT) == 0


def test_two_processes_are_one_chat_and_pages_come_back(tls: TLS, tmp_path: Path) -> None:
    """It also makes the picture of the how-to page, where the variable CHAT_PICTURE says so."""
    store, *ports = (free_port() for _ in range(3))
    options = ("--redis", f"redis://{HOST}:{store}", "--certificate", str(tls.identity))
    picture = Path(os.environ.get("CHAT_PICTURE", tmp_path / "chat.png"))
    with (
        redis(store, tmp_path),
        started(*SERVER, str(ports[0]), *options) as (first, one),
        started(*SERVER, str(ports[1]), *options) as (_, two),
        visiting(picture, one, two) as visitors,
    ):
        visitors.do(0, "enter", "Ada")
        visitors.do(1, "enter", "Grace")
        for who in (0, 1):
            visitors.do(who, "wait_for", "people", "Ada\nGrace")
        states = {visitors.do(who, "wait_for", "state", "connected to process") for who in (0, 1)}
        assert len(states) == 2  # each on its own
        visitors.do(0, "say", "Is anybody on the other server?")
        visitors.do(1, "wait_for", "messages", "other server?")
        visitors.do(1, "say", "Yes. Redis brought it here.")
        visitors.do(0, "wait_for", "messages", "brought it here")
        for who in (0, 1):
            visitors.do(who, "keep_picture")
        first.send_signal(signal.SIGTERM)
        assert first.wait(TIMEOUT) == 0
        visitors.do(0, "wait_for", "state", "closed (1")
        visitors.do(1, "say", "Your server is restarting")
        with started(*SERVER, str(ports[0]), *options):
            visitors.do(0, "wait_for", "state", "connected to process")
            visitors.do(1, "wait_for", "people", "Ada\nGrace")
            visitors.do(1, "say", "Welcome back")
            visitors.do(0, "wait_for", "messages", "Welcome back")
            visitors.do(0, "say", "Hello again, from a new process")
            visitors.do(1, "wait_for", "messages", "Hello again")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_one_command_shows_a_message_cross() -> None:
    require("redis-server")
    command = [sys.executable, "-m", "chat.demo", "--once"]
    done = subprocess.run(command, cwd=EXAMPLES, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True)
    *_, ada, grace, heard = done.stdout.splitlines()
    assert ada.startswith("Ada is on process ")
    assert grace.startswith("Grace is on process ")
    assert ada.rpartition(" ")[2] != grace.rpartition(" ")[2]
    assert heard == "Grace hears Ada say: hello from the other process"
