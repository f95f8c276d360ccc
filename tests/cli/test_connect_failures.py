"""``trio-ws connect``: standard streams that fail, what is asked of the server, and what keeps it from connecting."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from trio_ws import HandshakeTimeout, WebSocket, WebSocketRequest, serve_websocket
from trio_ws._cli.certificates import make_authority, throwaway_context, written_to_file
from trio_ws._cli.running import Failure

from .program import HOST, replaced, run_command, standard_input
from .servers import listen, send_and_close, start_answering, start_server, told

if TYPE_CHECKING:
    from pathlib import Path


# ---- standard streams that fail ----


async def test_output_that_nobody_reads_closes(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    ended: list[object] = []

    async def talk(websocket: WebSocket) -> None:
        await websocket.send("hello")
        ended.append(await websocket.wait_closed())

    url = await start_server(nursery, talk)
    reading, writing = os.pipe()
    os.close(reading)
    async with standard_input(b"", ends=False):
        with replaced(1, writing):
            assert await run_command("connect", url) == 1
    assert [str(info) for info in ended] == ["1000 (OK)"]


async def test_output_that_fails_is_told(nursery: trio.Nursery) -> None:
    url = await start_server(nursery, send_and_close("hello"))
    async with standard_input(b"", ends=False):
        with (
            replaced(1, os.open("/dev/full", os.O_WRONLY)),
            pytest.raises(Failure, match=r"^cannot write: No space left on device$"),
        ):
            await run_command("connect", url)


async def test_notices_that_nobody_reads_do_not_matter(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_server(nursery, send_and_close("hello"))
    async with standard_input(b"", ends=False):
        with replaced(2, os.open("/dev/full", os.O_WRONLY)):
            assert await run_command("connect", url) == 0
    assert capfd.readouterr() == ("< hello\n", "")


async def test_input_that_fails_is_told(nursery: trio.Nursery, tmp_path: Path) -> None:
    url = await start_server(nursery, listen)
    with (
        replaced(0, os.open(tmp_path, os.O_RDONLY)),
        pytest.raises(Failure, match=r"^cannot read standard input: Is a"),
    ):
        await run_command("connect", url)


# ---- what is asked for, and what fails ----


async def test_every_option_of_the_handshake_is_sent(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    requests: list[WebSocketRequest] = []

    async def handler(request: WebSocketRequest) -> None:
        requests.append(request)
        async with request.accept():
            pass

    server = await nursery.start(
        partial(serve_websocket, protocols=["b"], origins=["https://page.example"]), handler, HOST, 0
    )
    arguments = ["--header", "X-Name: value", "--header", "X-Name:2", "--protocol", "a", "--protocol", "b"]
    url = f"ws://{HOST}:{server.port}/path?query"
    async with standard_input(b"", ends=False):
        assert (
            await run_command("connect", url, *arguments, "--origin", "https://page.example", "--no-compression") == 0
        )
    (request,) = requests
    assert (request.target, request.protocols, request.origin) == ("/path?query", ("a", "b"), "https://page.example")
    assert request.headers.get_all("X-Name") == ["value", "2"]
    assert "Sec-WebSocket-Extensions" not in request.headers
    assert capfd.readouterr().err.splitlines()[0] == f"connected to {url} (HTTP/1.1, subprotocol b, no extension)"


async def test_compression_is_told(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    url = await start_server(nursery, send_and_close())
    async with standard_input(b"", ends=False):
        assert await run_command("connect", url) == 0
    assert capfd.readouterr().err.startswith(f"connected to {url} (HTTP/1.1, permessage-deflate; ")


async def test_an_authority_can_be_given(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    authority = make_authority()
    url = await start_server(nursery, send_and_close("safe"), ssl_context=throwaway_context(authority))
    url = url.replace("ws:", "wss:")
    with written_to_file(authority) as path:
        async with standard_input(b"", ends=False):
            assert await run_command("connect", url, "--ca-file", path) == 0
    assert told(capfd)[0] == "< safe\n"
    with pytest.raises(Failure) as caught:
        await run_command("connect", url)
    assert str(caught.value).startswith(f"cannot connect to {url}: the server's certificate cannot be verified: ")
    assert str(caught.value).endswith("(see --ca-file and --insecure)")


LONG_AGO, FAR_AHEAD = datetime(2000, 1, 1, tzinfo=UTC), datetime(2900, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("host", "since", "until", "words"),
    [
        ("other.example", LONG_AGO, FAR_AHEAD, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        (HOST, LONG_AGO, LONG_AGO + timedelta(1), "certificate has expired"),
        (HOST, FAR_AHEAD - timedelta(1), FAR_AHEAD, "certificate is not yet valid"),
    ],
)
async def test_another_authority_is_not_advised_where_that_cannot_help(
    host: str, since: datetime, until: datetime, words: str, nursery: trio.Nursery
) -> None:
    authority = make_authority()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host, not_before=since, not_after=until).configure_cert(context)
    url = await start_server(nursery, send_and_close(), ssl_context=context)
    url = url.replace("ws:", "wss:")
    with written_to_file(authority) as path, pytest.raises(Failure) as caught:
        await run_command("connect", url, "--ca-file", path)
    assert str(caught.value) == f"cannot connect to {url}: the server's certificate cannot be verified: {words}"


async def test_a_unix_socket_can_be_given(
    nursery: trio.Nursery, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "socket"

    async def handler(request: WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await websocket.send(request.host)

    await nursery.start(serve_websocket, handler, path, None)
    async with standard_input(b"", ends=False):
        assert await run_command("connect", "--unix", str(path), "ws://a.example/") == 0
    assert told(capfd)[0] == "< a.example\n"


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (b"HTTP/1.1 403 No\r\n\r\n", "the server answered with HTTP status 403 Forbidden"),
        (
            b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\nno\x1b\xff\n",
            "the server answered with HTTP status 403 Forbidden: no\x1b\ufffd",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 201, "the server answered with HTTP status 200 OK"),
        (b"HTTP/1.1 499 Odd\r\n\r\n", "the server answered with HTTP status 499"),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: https://h/\r\nContent-Length: 0\r\n\r\n",
            "the server answered with HTTP status 301 Moved Permanently: Location https://h/",
        ),
    ],
)
async def test_a_rejection_is_one_line(answer: bytes, line: str, nursery: trio.Nursery) -> None:
    url = await start_answering(nursery, answer)
    with pytest.raises(Failure) as caught:
        await run_command("connect", url)
    assert str(caught.value) == f"cannot connect to {url}: {line}"
    assert caught.value.status == 1
    nursery.cancel_scope.cancel()


async def test_an_answer_that_is_none_is_told(nursery: trio.Nursery) -> None:
    url = await start_answering(nursery, b"220 mail.example ESMTP\r\n")
    with pytest.raises(Failure, match=rf"^cannot connect to {url}: "):
        await run_command("connect", url)
    with pytest.raises(Failure, match=r"^cannot connect to wss://.*: TLS failed: "):
        await run_command("connect", url.replace("ws:", "wss:"))
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("url", "shown", "error", "line"),
    [
        (
            "ws://user:secret@h/",
            "ws://h/",
            socket.gaierror(-2, "Name or service not known"),
            "the host cannot be found: Name or service not known",
        ),
        ("ws://h", "ws://h/", ConnectionRefusedError(errno.ECONNREFUSED, "no"), "Connection refused"),
        ("ws://h", "ws://h/", OSError("odd"), "odd"),
        ("ws://h", "ws://h/", HandshakeTimeout("too slow"), "too slow"),
    ],
)
async def test_what_keeps_it_from_connecting_is_one_line(
    url: str, shown: str, error: Exception, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def open_tcp_stream(host: str, port: int) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        raise error

    monkeypatch.setattr(trio, "open_tcp_stream", open_tcp_stream)
    with pytest.raises(Failure) as caught:
        await run_command("connect", url)
    assert str(caught.value) == f"cannot connect to {shown}: {line}"


async def test_every_address_that_was_tried_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_tcp_stream(host: str, port: int) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        refused = [ConnectionRefusedError(errno.ECONNREFUSED, "no"), ConnectionRefusedError(errno.ECONNREFUSED, "no")]
        raise OSError("all failed") from ExceptionGroup("", [*refused, OSError(errno.ENETUNREACH, "no")])

    monkeypatch.setattr(trio, "open_tcp_stream", open_tcp_stream)
    with pytest.raises(Failure, match=r"^cannot connect to ws://h/: Connection refused, Network is unreachable$"):
        await run_command("connect", "ws://h")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("ws://h/#fragment",), "url 'ws://h/#fragment' is not a WebSocket URL: "),
        (("ws://h", "--protocol", "a b"), "protocols: 'a b' is not a token"),
        (("ws://h", "--header", "Upgrade: x"), "headers must not have 'Upgrade'"),
        (("ws://h", "--origin", "\n"), "the value of header 'Origin' must not contain"),
        (("ws://h", "--ca-file", "/nowhere"), "--ca-file: cannot read /nowhere: "),
    ],
)
async def test_arguments_that_break_a_rule_are_wrong_usage(arguments: tuple[str, ...], line: str) -> None:
    with pytest.raises(Failure) as caught:
        await run_command("connect", *arguments)
    assert str(caught.value).startswith(line)
    assert caught.value.status == 2
