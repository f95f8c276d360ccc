"""``trio-ws serve``: where it listens, what it echoes, what it prints, and how it ends."""

from __future__ import annotations

import errno
import http.client
import os
import signal
import socket
import ssl
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
import trustme

from trio_ws import Agent, ConnectionClosedOK, HandshakeRejected, open_websocket
from trio_ws._cli import serve
from trio_ws._cli.running import Failure

from .program import HOST, TIMEOUT, run_command, run_program, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


async def serve_while(
    talk: Callable[[list[str]], Awaitable[None]], *arguments: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, list[str]]:
    """Run the command, talk to it when it listens, interrupt it; return its status and its lines."""
    lines: list[str] = []
    listening = trio.Event()
    statuses: list[int] = []

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith("listening"):
            listening.set()

    async def run() -> None:
        statuses.append(await run_command("serve", *arguments))

    monkeypatch.setattr(serve, "_say", say)
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await listening.wait()
            await talk([line.removeprefix("listening on ") for line in lines if line.startswith("listening on ")])
            os.kill(os.getpid(), signal.SIGINT)
    return statuses[0], lines


async def test_it_serves_as_its_users_see_it() -> None:
    async with running("serve", "--port", "0", "--protocol", "chat") as (process, lines):
        url = (await lines.next()).removeprefix("listening on ")
        assert url.startswith("ws://127.0.0.1:")
        done = await trio.to_thread.run_sync(
            partial(
                run_program,
                "connect",
                url + "a\x1b?b",
                "--protocol",
                "chat",
                stdin=b"hello\n\xc3\xa9\n/close 4000 bye\x07\n",
            )
        )
        assert done.returncode == 0
        line = await lines.next()
        assert line.startswith("127.0.0.1:")
        assert line.partition(" ")[2] == "/a%1B?b 4000 (private use) 'bye\\x07', 2 messages"
        async with open_websocket(url) as websocket:
            process.send_signal(signal.SIGTERM)
            assert await lines.next() == "closing 1 connection"
            with pytest.raises(ConnectionClosedOK, match="1001"):
                await websocket.receive()
        assert (await lines.next()).endswith(" / 1001 (going away), 0 messages")
        assert await process.wait() == 0
        assert await lines.rest() == ""


async def test_the_second_signal_does_not_wait() -> None:
    async with running("serve", "--port", "0") as (process, lines):
        port = int((await lines.next()).rpartition(":")[2].strip("/"))
        async with await trio.open_tcp_stream(HOST, port) as stream:
            request = f"GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            request += f"Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            await stream.send_all(request.encode())
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")
            process.send_signal(signal.SIGINT)
            assert await lines.next() == "closing 1 connection"
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130


async def test_with_tls_the_authority_that_is_named_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    async with running("serve", "--port", "0", "--tls") as (process, lines):
        ca_file = (await lines.next()).removeprefix("throw-away certificate: connect with --ca-file ")
        url = (await lines.next()).removeprefix("listening on ")
        assert url.startswith("wss://")
        run = partial(run_program, "connect", url, "--ca-file", ca_file, "--wait", "inf", stdin=b"/close\n")
        assert (await trio.to_thread.run_sync(run)).returncode == 0
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert os.listdir(tmp_path) == []


async def test_a_certificate_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    path = tmp_path / "both.pem"
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(path))
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async def talk(addresses: list[str]) -> None:
        async with open_websocket(addresses[0], ssl_context=context) as websocket:
            await websocket.send(b"bytes")
            assert await websocket.receive() == b"bytes"

    status, lines = await serve_while(talk, "--port", "0", "--tls", "--cert", str(path), monkeypatch=monkeypatch)
    assert status == 0
    assert lines[0].startswith("listening on wss://127.0.0.1:")


async def test_a_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "so\x1bcket"

    async def talk(addresses: list[str]) -> None:
        async with open_websocket("ws://h/", dispatcher=Agent(socket_path=path)) as websocket:
            await websocket.send("hello")
            assert await websocket.receive() == "hello"

    status, lines = await serve_while(talk, "--unix", str(path), monkeypatch=monkeypatch)
    assert status == 0
    assert lines[0] == f"listening on Unix socket {tmp_path}/so\\x1bcket"
    assert lines[1:] == ["over the Unix socket / 1000 (OK), 1 message", "closing 0 connections"]
    assert not path.exists()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
async def test_ipv6_addresses_are_bracketed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(addresses: list[str]) -> None:
        async with open_websocket(addresses[0]):
            pass

    try:
        status, lines = await serve_while(talk, "--host", "::1", "--port", "0", monkeypatch=monkeypatch)
    except Failure:
        pytest.skip("no IPv6 here")
    assert status == 0
    assert lines[0].startswith("listening on ws://[::1]:")
    assert lines[1].startswith("[::1]:")


@pytest.mark.parametrize(
    ("arguments", "taken"),
    [
        ((), {None: True, "https://page.example": False}),
        (("--any-origin",), {None: True, "https://page.example": True}),
        (("--origin", "https://page.example"), {None: True, "https://page.example": True, "https://h.example": False}),
    ],
)
async def test_origins(
    arguments: tuple[str, ...], taken: dict[str | None, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def talk(addresses: list[str]) -> None:
        for origin, expected in taken.items():
            with nullcontext() if expected else pytest.raises(HandshakeRejected, match="403"):
                async with open_websocket(addresses[0], origin=origin):
                    pass

    assert (await serve_while(talk, "--port", "0", *arguments, monkeypatch=monkeypatch))[0] == 0


@pytest.mark.parametrize(
    ("arguments", "taken"),
    [
        ((), {"localhost:{port}": True, "evil.example:{port}": False, "chat.example": True}),
        (
            ("--allow-host", "chat.example", "--allow-host", "b.example"),
            {"localhost": True, "evil.example": False, "chat.example:{port}": True, "b.example": True},
        ),
    ],
)
async def test_hosts(arguments: tuple[str, ...], taken: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(addresses: list[str]) -> None:
        port = addresses[0].rstrip("/").rpartition(":")[2]
        for host, expected in taken.items():
            with nullcontext() if expected else pytest.raises(HandshakeRejected, match="421"):
                async with open_websocket(addresses[0], headers={"Host": host.format(port=port)}):
                    pass

    assert (await serve_while(talk, "--port", "0", *arguments, monkeypatch=monkeypatch))[0] == 0


async def test_messages_over_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(addresses: list[str]) -> None:
        async with open_websocket(addresses[0]) as websocket:
            await websocket.send("x" * 11)
            assert (await websocket.wait_closed()).code == 1009

    status, lines = await serve_while(
        talk, "--port", "0", "--max-size", "10", "--no-compression", monkeypatch=monkeypatch
    )
    assert status == 0
    assert lines[1].endswith(", 0 messages")


@pytest.mark.parametrize(
    ("method", "status", "header"),
    [("GET", 200, "text/html; charset=utf-8"), ("HEAD", 200, "text/html; charset=utf-8"), ("POST", 405, None)],
)
async def test_a_browser_gets_a_page(
    method: str, status: int, header: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(address: str) -> None:
        connection = http.client.HTTPConnection(address.removeprefix("ws://").strip("/"), timeout=TIMEOUT)
        connection.request(method, "/<script>")
        response = connection.getresponse()
        body = response.read()
        connection.close()
        assert (response.status, response.headers["Content-Type"]) == (status, header)
        assert (b"A WebSocket server to try" in body) == (method == "GET")
        policy = response.headers.get("Content-Security-Policy", "")
        assert ("script-src 'sha256-" in policy) == (method != "POST")

    async def talk(addresses: list[str]) -> None:
        await trio.to_thread.run_sync(ask, addresses[0])

    assert (await serve_while(talk, "--port", "0", monkeypatch=monkeypatch))[0] == 0


async def test_broadcast_sends_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(addresses: list[str]) -> None:
        async with open_websocket(addresses[0]) as one, open_websocket(addresses[0]) as other:
            # Both have joined when each has seen a message of its own.
            for websocket in (one, other):
                await websocket.send("joined")
                while await websocket.receive() != "joined":
                    pass
            await one.send(b"hello")
            for websocket in (one, other):
                while (message := await websocket.receive()) == "joined":
                    pass
                assert message == b"hello"

    status, lines = await serve_while(talk, "--port", "0", "--broadcast", monkeypatch=monkeypatch)
    assert status == 0
    assert sorted(line.rpartition(" / ")[2] for line in lines[1:3]) == [
        "1000 (OK), 1 message",
        "1000 (OK), 2 messages",
    ]


async def test_it_listens_on_the_default_port_of_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, str]] = []

    async def open_tcp_listeners(port: int, *, host: str) -> list[trio.SocketListener]:
        await trio.lowlevel.checkpoint()
        asked.append((port, host))
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(trio, "open_tcp_listeners", open_tcp_listeners)
    with pytest.raises(Failure, match=r"^cannot listen on 127\.0\.0\.1:8080: Address already in use$"):
        await run_command("serve")
    assert asked == [(8080, "127.0.0.1")]


async def test_a_place_where_it_cannot_listen_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=rf"^cannot listen on {tmp_path}/no/socket: No such file or directory$"):
        await run_command("serve", "--unix", f"{tmp_path}/no/socket")


async def test_a_protocol_that_breaks_the_rules_is_wrong_usage() -> None:
    with pytest.raises(Failure, match=r"^protocols: 'a b' is not a token") as caught:
        await run_command("serve", "--port", "0", "--protocol", "a b")
    assert caught.value.status == 2


async def test_lines_that_nobody_reads_do_not_hurt_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(addresses: list[str]) -> None:
        def say(line: str) -> None:
            raise BrokenPipeError

        with monkeypatch.context() as patch:
            patch.setattr(serve, "_say", say)
            async with open_websocket(addresses[0]) as websocket:
                await websocket.send("hello")
                assert await websocket.receive() == "hello"
                await websocket.aclose(4000)
                assert str(websocket.close_info) == "4000 (private use)"
            await trio.testing.wait_all_tasks_blocked(0.01)

    status, lines = await serve_while(talk, "--port", "0", monkeypatch=monkeypatch)
    assert status == 0
    assert lines[1:] == ["closing 0 connections"]


def test_lines_go_to_standard_output_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    serve._say("line")
    assert capsys.readouterr() == ("line\n", "")
