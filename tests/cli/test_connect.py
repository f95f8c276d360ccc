"""``trio-ws connect``: what is sent, what is printed and where, how it ends, and what it says when it fails."""

from __future__ import annotations

import errno
import os
import signal
import socket
from functools import partial
from typing import TYPE_CHECKING, cast

import pytest
import trio

from trio_ws import ConnectionClosed, HandshakeTimeout, WebSocket, WebSocketRequest, serve_websocket
from trio_ws._cli import connect
from trio_ws._cli.certificates import make_authority, throwaway_context, written_to_file
from trio_ws._cli.running import Failure
from trio_ws._wire.negotiation import accept_value

from .program import HOST, replaced, run_command, standard_input

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    Talk = Callable[[WebSocket], Awaitable[object]]


async def start_server(nursery: trio.Nursery, talk: Talk, **options: object) -> str:
    """Serve in the nursery and return the URL."""

    async def handler(request: WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await talk(websocket)

    serve = cast("Callable[..., Awaitable[None]]", partial(serve_websocket, **options))  # type: ignore[arg-type]
    server = await nursery.start(serve, handler, HOST, 0)
    return f"ws://{HOST}:{server.port}/"


async def start_answering(nursery: trio.Nursery, answer: bytes) -> str:
    """Serve bytes in place of HTTP answers, and return the URL."""

    async def handler(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        await stream.aclose()

    (listener,) = await nursery.start(partial(trio.serve_tcp, handler, 0, host=HOST))
    return f"ws://{HOST}:{listener.socket.getsockname()[1]}/"


async def start_raw_server(nursery: trio.Nursery, talk: Callable[[trio.abc.Stream], Awaitable[None]]) -> str:
    """Accept every WebSocket, leave the rest to ``talk``, and return the URL."""

    async def handler(stream: trio.abc.Stream) -> None:
        head = bytes(await stream.receive_some()).decode()
        key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
        answer = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept_value(key)}"
        await stream.send_all(f"HTTP/1.1 101 Switching Protocols\r\n{answer}\r\n\r\n".encode())
        async with stream:
            await talk(stream)

    (listener,) = await nursery.start(partial(trio.serve_tcp, handler, 0, host=HOST))
    return f"ws://{HOST}:{listener.socket.getsockname()[1]}/"


async def echo(websocket: WebSocket) -> None:
    async for message in websocket:
        await websocket.send(message)


async def listen(websocket: WebSocket) -> None:
    async for _ in websocket:
        pass


def echo_and_close(count: int, code: int = 1000, reason: str = "") -> Talk:
    async def talk(websocket: WebSocket) -> None:
        for _ in range(count):
            await websocket.send(await websocket.receive())
        await websocket.aclose(code, reason)

    return talk


def send_and_close(*messages: str | bytes) -> Talk:
    async def talk(websocket: WebSocket) -> None:
        for message in messages:
            await websocket.send(message)
        await websocket.aclose()

    return talk


def told(capfd: pytest.CaptureFixture[str]) -> tuple[str, list[str]]:
    """Return what was printed, and the notices but the first, which tells the connection."""
    output, errors = capfd.readouterr()
    return output, errors.splitlines()[1:]


# ---- messages ----


async def test_lines_are_sent_and_messages_printed(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    url = await start_server(nursery, echo_and_close(5))
    with standard_input(b"hello\n\n//slash\r\nd\xc3\xa9j\xc3\xa0 vu\n/binary 00ff1b\n", ends=False):
        assert await run_command("connect", url) == 0
    output, notices = told(capfd)
    assert output == "< hello\n< \n< /slash\n< d\xe9j\xe0 vu\n< [binary, 3 bytes] 00 ff 1b\n"
    assert notices == ["closed by the server: 1000 (OK)"]


async def test_a_last_line_without_an_end_is_a_line(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    url = await start_server(nursery, echo_and_close(2))
    with standard_input(b"one\ntwo"):
        assert await run_command("connect", url, "--wait", "inf") == 0
    assert told(capfd)[0] == "< one\n< two\n"


async def test_a_long_line_is_one_message(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    url = await start_server(nursery, echo_and_close(1))
    line = b"x" * 2**17
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(line + b"\n")

    nursery.start_soon(trio.to_thread.run_sync, write)
    with replaced(0, reading):
        assert await run_command("connect", url, "--wait", "inf") == 0
    assert told(capfd)[0] == f"< {line.decode()}\n"


async def test_nothing_that_the_server_sends_reaches_the_terminal_raw(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_server(
        nursery, send_and_close("\x1b]0;title\x07\r\n\x9b\u202e", b"\x1b[31m", bytes(range(40)), b"")
    )
    with standard_input(b"", ends=False):
        assert await run_command("connect", url) == 0
    assert told(capfd)[0].splitlines() == [
        "< \\x1b]0;title\\x07\\r\\n\\x9b\\u202e",
        "< [binary, 5 bytes] 1b 5b 33 31 6d",
        f"< [binary, 40 bytes] {bytes(range(32)).hex(' ')} ...",
        "< [binary, 0 bytes]",
    ]


async def test_raw_messages_are_for_pipes(nursery: trio.Nursery, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    url = await start_server(nursery, send_and_close("{\n\t1}", b"\x00\xff", "e"))
    with standard_input(b"", ends=False):
        assert await run_command("connect", url, "--raw") == 0
    assert capfdbinary.readouterr().out == b"{\n\t1}\n\x00\xffe\n"


async def test_without_commands_a_slash_is_a_character(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_server(nursery, echo_and_close(2))
    with standard_input(b"/close\n//\n", ends=False):
        assert await run_command("connect", url, "--no-commands") == 0
    assert told(capfd)[0] == "< /close\n< //\n"


# ---- commands ----


async def test_ping_tells_the_round_trip(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    url = await start_server(nursery, echo)
    with standard_input(b"/ping\n/ping payload\n/close\n", ends=False):
        assert await run_command("connect", url) == 0
    notices = told(capfd)[1]
    assert [notice.rstrip("0123456789. ms") for notice in notices[:2]] == ["pong after"] * 2
    assert notices[2:] == ["closed: 1000 (OK)"]


async def test_a_pong_is_not_waited_for_for_ever(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ping(websocket: WebSocket, payload: bytes | None = None) -> float:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(WebSocket, "ping", ping)
    monkeypatch.setattr(connect, "_PONG_TIMEOUT", 0.01)
    url = await start_server(nursery, echo)
    with standard_input(b"/ping\n/close\n", ends=False):
        assert await run_command("connect", url) == 0
    assert told(capfd)[1] == ["no pong within 0.01 s", "closed: 1000 (OK)"]


async def test_help_tells_the_commands(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    url = await start_server(nursery, echo)
    with standard_input(b"/help\n/close\n", ends=False):
        assert await run_command("connect", url) == 0
    assert told(capfd)[1][0].startswith("commands: /ping")


async def test_close_sends_a_code_and_a_reason(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[object] = []

    async def talk(websocket: WebSocket) -> None:
        seen.append(str(await websocket.wait_closed()))

    url = await start_server(nursery, talk)
    with standard_input(b"/close 4001 see you soon\nnever sent\n", ends=False):
        assert await run_command("connect", url) == 0
    assert told(capfd) == ("", ["closed: 4001 (private use)"])
    assert seen == ["4001 (private use) 'see you soon'"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"/nope\x1b\n", "there is no command /nope\\x1b; /help tells those that are, and //TEXT sends /TEXT"),
        (b"/close 1\n", "/close: code 1 is not allowed: it must be 1000 or from 3000 to 4999"),
        (b"\xff\n", "the line is not UTF-8"),
    ],
)
async def test_a_wrong_line_from_a_pipe_ends_the_program(
    line: bytes, complaint: str, nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_server(nursery, listen)
    with standard_input(line + b"never sent\n", ends=False):
        assert await run_command("connect", url) == 2
    assert told(capfd) == ("", [complaint, "closed: 1000 (OK)"])


# ---- the end ----


async def test_when_the_input_has_ended_it_waits_for_silence(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.send(await websocket.receive())
        await listen(websocket)

    url = await start_server(nursery, talk)
    with standard_input(b"hello\n"):
        assert await run_command("connect", url) == 0
    assert told(capfd) == ("< hello\n", ["closed: 1000 (OK)"])


async def test_it_need_not_wait(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    received: list[object] = []

    async def talk(websocket: WebSocket) -> None:
        received.append(await websocket.receive())
        await listen(websocket)

    url = await start_server(nursery, talk)
    with standard_input(b"hello\n"):
        assert await run_command("connect", url, "--wait", "0") == 0
    assert told(capfd) == ("", ["closed: 1000 (OK)"])
    assert received == ["hello"]


async def test_ctrl_c_closes(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.receive()
        os.kill(os.getpid(), signal.SIGINT)
        await listen(websocket)

    url = await start_server(nursery, talk)
    with standard_input(b"now\n", ends=False):
        assert await run_command("connect", url) == 0
    assert told(capfd) == ("", ["closed: 1000 (OK)"])


async def test_a_second_ctrl_c_does_not_wait_for_the_server(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    async def talk(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        os.kill(os.getpid(), signal.SIGINT)
        await stream.receive_some()  # a Close, which is not answered
        os.kill(os.getpid(), signal.SIGINT)
        await trio.sleep_forever()

    url = await start_raw_server(nursery, talk)
    with standard_input(b"now\n", ends=False):
        assert await run_command("connect", url) == 130
    assert told(capfd) == ("", [])
    nursery.cancel_scope.cancel()


async def test_ctrl_c_ends_the_opening(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    async def handler(stream: trio.abc.Stream) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await trio.sleep_forever()

    (listener,) = await nursery.start(partial(trio.serve_tcp, handler, 0, host=HOST))
    assert await run_command("connect", f"ws://{HOST}:{listener.socket.getsockname()[1]}/") == 130
    assert capfd.readouterr() == ("", "")
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("code", "reason", "status", "notice"),
    [
        (1000, "bye\x1b", 0, "closed by the server: 1000 (OK) 'bye\\x1b'"),
        (None, "", 0, "closed by the server: 1005 (no code)"),
        (4000, "", 1, "closed by the server: 4000 (private use)"),
    ],
)
async def test_the_servers_code_decides_the_status(
    code: int, reason: str, status: int, notice: str, nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_server(nursery, echo_and_close(0, code, reason))
    with standard_input(b"", ends=False):
        assert await run_command("connect", url) == status
    assert told(capfd) == ("", [notice])


async def test_a_message_that_is_too_big_fails_the_connection(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_server(nursery, send_and_close("x" * 11))
    with standard_input(b"", ends=False):
        assert await run_command("connect", url, "--max-size", "10") == 1
    output, notices = told(capfd)
    assert output == ""
    assert len(notices) == 1
    assert notices[0].startswith("connection failed: ")


async def test_a_lost_connection_is_told(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    async def talk(stream: trio.abc.Stream) -> None:
        await stream.receive_some()

    url = await start_raw_server(nursery, talk)
    with standard_input(b"hello\n", ends=False):
        assert await run_command("connect", url) == 1
    assert told(capfd) == ("", ["connection lost: the server ended it without a Close frame"])
    nursery.cancel_scope.cancel()


async def test_a_connection_that_breaks_the_rules_is_failed(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    async def talk(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"\xff\x00")
        await stream.receive_some()

    url = await start_raw_server(nursery, talk)
    with standard_input(b"", ends=False):
        assert await run_command("connect", url) == 1
    output, (notice,) = told(capfd)
    assert output == ""
    assert notice.startswith("connection failed: ")
    nursery.cancel_scope.cancel()


async def test_a_server_that_does_not_answer_a_close_is_told_of(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    async def talk(stream: trio.abc.Stream) -> None:
        await stream.receive_some()

    url = await start_raw_server(nursery, talk)
    with standard_input(b"/close\n", ends=False):
        assert await run_command("connect", url) == 1
    assert told(capfd) == ("", ["closed, but the server did not answer"])
    nursery.cancel_scope.cancel()


async def test_input_after_the_end_does_not_hurt(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send(websocket: WebSocket, value: str) -> None:
        await websocket.wait_closed()
        raise ConnectionClosed(None, None)

    monkeypatch.setattr(WebSocket, "send", send)
    url = await start_raw_server(nursery, close_at_once)
    with standard_input(b"hello\n"):
        assert await run_command("connect", url) == 0
    assert told(capfd) == ("", ["closed by the server: 1000 (OK)"])
    nursery.cancel_scope.cancel()


async def close_at_once(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"\x88\x02\x03\xe8")
    await stream.receive_some()


# ---- standard streams that fail ----


async def test_output_that_nobody_reads_closes(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    ended: list[object] = []

    async def talk(websocket: WebSocket) -> None:
        await websocket.send("hello")
        ended.append(await websocket.wait_closed())

    url = await start_server(nursery, talk)
    reading, writing = os.pipe()
    os.close(reading)
    with standard_input(b"", ends=False), replaced(1, writing):
        assert await run_command("connect", url) == 1
    assert [str(info) for info in ended] == ["1000 (OK)"]


async def test_output_that_fails_is_told(nursery: trio.Nursery) -> None:
    url = await start_server(nursery, send_and_close("hello"))
    with (
        standard_input(b"", ends=False),
        replaced(1, os.open("/dev/full", os.O_WRONLY)),
        pytest.raises(Failure, match=r"^cannot write: No space left on device$"),
    ):
        await run_command("connect", url)


async def test_notices_that_nobody_reads_do_not_matter(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_server(nursery, send_and_close("hello"))
    with standard_input(b"", ends=False), replaced(2, os.open("/dev/full", os.O_WRONLY)):
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
    with standard_input(b"", ends=False):
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
    with standard_input(b"", ends=False):
        assert await run_command("connect", url) == 0
    assert capfd.readouterr().err.startswith(f"connected to {url} (HTTP/1.1, permessage-deflate; ")


async def test_an_authority_can_be_given(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    authority = make_authority()
    url = await start_server(nursery, send_and_close("safe"), ssl_context=throwaway_context(authority))
    url = url.replace("ws:", "wss:")
    with written_to_file(authority) as path, standard_input(b"", ends=False):
        assert await run_command("connect", url, "--ca-file", path) == 0
    assert told(capfd)[0] == "< safe\n"
    with pytest.raises(Failure) as caught:
        await run_command("connect", url)
    assert str(caught.value).startswith(f"cannot connect to {url}: the server's certificate cannot be verified: ")
    assert str(caught.value).endswith("(see --ca-file)")


async def test_a_unix_socket_can_be_given(
    nursery: trio.Nursery, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "socket"

    async def handler(request: WebSocketRequest) -> None:
        async with request.accept() as websocket:
            await websocket.send(request.host)

    await nursery.start(serve_websocket, handler, path, None)
    with standard_input(b"", ends=False):
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
