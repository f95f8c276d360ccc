"""``trio-ws connect``: the options that say what is sent, how long it stays, and what it tells."""

from __future__ import annotations

import os
import re
import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

from trio_ws import FrameInfo, WebSocket, WebSocketRequest, serve_websocket
from trio_ws._cli.certificates import make_authority, throwaway_context
from trio_ws._cli.console import Console
from trio_ws._cli.running import Failure
from trio_ws._cli.trace import Trace
from trio_ws.testing import memory_websocket_pair

from .program import HOST, replaced, run_command, standard_input
from .servers import echo, echo_and_close, start_answering, start_raw_server, start_server, told

if TYPE_CHECKING:
    from pathlib import Path

# ---- what is sent ----


async def test_execute_sends_without_an_input(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    url = await start_server(nursery, echo)
    async with standard_input(b"never read\n"):
        assert await run_command("connect", url, "-x", "one\ntwo", "--execute", "//three", "--wait", "0.3") == 0
    assert told(capfd) == ("< one\\ntwo\n< /three\n", ["closed: 1000 (OK)"])


async def test_a_wrong_command_to_execute_is_wrong_usage(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_server(nursery, echo)
    assert await run_command("connect", url, "-x", "/nope", "-x", "never sent", "--follow") == 2
    output, (complaint, _) = told(capfd)
    assert output == ""
    assert complaint.startswith("there is no command /nope")


async def test_binary_pipes_carry_bytes_as_they_are(
    nursery: trio.Nursery, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    received: list[str | bytes] = []
    data = bytes(range(256)) * 200

    async def talk(websocket: WebSocket) -> None:
        while len(b"".join(part for part in received if isinstance(part, bytes))) < len(data):
            received.append(await websocket.receive())
            await websocket.send(received[-1])
        await websocket.send("text")
        await websocket.aclose()

    url = await start_server(nursery, talk)
    async with standard_input(data):
        assert await run_command("connect", url, "--binary", "--follow") == 0
    assert capfdbinary.readouterr().out == data + b"text"


async def test_binary_is_not_for_people(nursery: trio.Nursery) -> None:
    person, device = os.openpty()
    with replaced(0, device), pytest.raises(Failure, match=r"^--binary is for a pipe or a file") as caught:
        await run_command("connect", "ws://h/", "--binary")
    os.close(person)
    assert caught.value.status == 2


async def test_a_full_buffer_is_waited_for(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def send_nowait(websocket: WebSocket, value: str) -> None:
        raise trio.WouldBlock

    monkeypatch.setattr(WebSocket, "send_nowait", send_nowait)
    url = await start_server(nursery, echo_and_close(1))
    async with standard_input(b"hello\n"):
        assert await run_command("connect", url, "--follow") == 0
    assert told(capfd)[0] == "< hello\n"


async def test_what_is_written_at_once_has_a_bound(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    async def talk(websocket: WebSocket) -> None:
        for letter in "abcd":
            await websocket.send(letter * 40_000)
        await websocket.aclose()

    url = await start_server(nursery, talk, compression=None)
    assert await run_command("connect", url, "-x", "/ping", "-f") == 0
    assert told(capfd)[0] == "".join(f"< {letter * 40_000}\n" for letter in "abcd")


# ---- how long it stays ----


async def test_follow_outlives_the_input(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.receive()
        await trio.sleep(0.05)
        await websocket.send("late")
        await websocket.aclose()

    url = await start_server(nursery, talk)
    async with standard_input(b"subscribe\n"):
        assert await run_command("connect", url, "--follow") == 0
    assert told(capfd)[0] == "< late\n"


@pytest.mark.parametrize(
    ("code", "arguments", "status"),
    [
        (3000, (), 0),
        (4999, (), 0),
        (4000, ("--strict",), 1),
        (1000, ("--strict",), 0),
        (1011, (), 1),
    ],
)
async def test_the_servers_code_decides_the_status(
    code: int, arguments: tuple[str, ...], status: int, nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_server(nursery, echo_and_close(0, code))
    assert await run_command("connect", url, "-x", "/help", "-f", *arguments) == status


async def test_reconnect_opens_again_and_sends_what_was_not_sent(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_ws._client.reconnecting.system_random.random", lambda: 0.0)
    received: list[list[str | bytes]] = []

    async def talk(websocket: WebSocket) -> None:
        received.append([])
        for _ in range(2):
            received[-1].append(await websocket.receive())
        await websocket.aclose(*((1012, "restart") if len(received) == 1 else (4000, "enough")))

    url = await start_server(nursery, talk)
    assert await run_command("connect", url, "-x", "one", "-x", "two", "-f", "--reconnect") == 0
    assert received == [["one", "two"]] * 2
    notices = told(capfd)[1]
    assert notices[0] == "closed by the server: 1012 (service restart) 'restart'"
    assert notices[1].startswith("connecting again, after ")
    assert notices[2].startswith("connected to ")
    assert notices[3:] == ["closed by the server: 4000 (private use) 'enough'"]


async def test_reconnect_reads_its_input_once(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = 0
    received: list[str | bytes] = []

    async def talk(websocket: WebSocket) -> None:
        nonlocal connections
        connections += 1
        async for message in websocket:
            received.append(message)
            if len(received) == 1:
                os.write(writing, b"two\n")
                await websocket.aclose(1012)

    url = await start_server(nursery, talk)
    reading, writing = os.pipe()
    os.write(writing, b"one\n")

    async def end_input() -> None:
        while len(received) < 2:  # noqa: ASYNC110
            await trio.sleep(0.01)
        os.close(writing)

    nursery.start_soon(end_input)
    with replaced(0, reading):
        assert await run_command("connect", url, "--reconnect", "--wait", "0") == 0
    assert connections == 2
    assert received == ["one", "two"]


async def test_reconnect_tries_again_what_cannot_be_opened_yet(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0

    async def handler(request: WebSocketRequest) -> None:
        nonlocal attempts
        attempts += 1
        await request.reject(503 if attempts == 1 else 403)

    server = await nursery.start(serve_websocket, handler, HOST, 0)
    with pytest.raises(Failure, match="HTTP status 403 Forbidden"):
        await run_command("connect", f"ws://{HOST}:{server.port}/", "--reconnect", "-x", "hello")
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].endswith("the server answered with HTTP status 503 Service Unavailable")
    assert lines[1].startswith("connecting again, after ")
    assert attempts == 2


async def test_reconnect_does_not_try_wrong_arguments_again() -> None:
    with pytest.raises(Failure) as caught:
        await run_command("connect", "ftp://h/", "--reconnect", "-x", "hello")
    assert caught.value.status == 2


@pytest.mark.parametrize(("seconds", "pings"), [("0.01", True), ("0", False)])
async def test_keepalive(seconds: str, pings: bool, nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    received: list[bytes] = []

    async def talk(stream: trio.abc.Stream) -> None:
        with trio.move_on_after(0.3):
            received.append(bytes(await stream.receive_some()))
        await stream.send_all(b"\x88\x02\x03\xe8")
        await stream.receive_some()

    url = await start_raw_server(nursery, talk)
    async with standard_input(b"", ends=False):
        assert await run_command("connect", url, "--keepalive", seconds) == 0
    assert [data[0] for data in received] == ([0x89] if pings else [])
    nursery.cancel_scope.cancel()


# ---- TLS ----


async def test_insecure_takes_any_certificate_and_says_so(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_server(nursery, echo_and_close(1), ssl_context=throwaway_context(make_authority()))
    url = url.replace("ws:", "wss:")
    with pytest.raises(Failure, match=r"\(see --ca-file and --insecure\)$"):
        await run_command("connect", url, "-x", "hello")
    capfd.readouterr()
    assert await run_command("connect", url, "-x", "hello", "--insecure", "-f") == 0
    output, errors = capfd.readouterr()
    assert output == "< hello\n"
    warning, connected, _ = errors.splitlines()
    assert warning == (
        "--insecure: the server may be anybody, who can read and change all that is sent, passwords among it"
    )
    assert connected.startswith("connected to wss://")


async def test_a_certificate_of_the_clients_is_shown(
    nursery: trio.Nursery, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    authority = trustme.CA()
    context = throwaway_context(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    files = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(files["ca"])
    certificate = authority.issue_cert("client@h.example")
    certificate.cert_chain_pems[0].write_to_path(files["cert"])
    certificate.private_key_pem.write_to_path(files["key"])
    url = (await start_server(nursery, echo_and_close(1), ssl_context=context)).replace("ws:", "wss:")
    arguments = ("--ca-file", files["ca"], "--cert", files["cert"], "--key", files["key"])
    assert await run_command("connect", url, "-x", "hello", "-f", *arguments) == 0
    assert told(capfd)[0] == "< hello\n"
    with pytest.raises(Failure, match=r"^no certificate and its key in .*ca\.pem"):
        await run_command("connect", url, "-x", "hello", "--cert", files["ca"])
    with pytest.raises(Failure, match=r"^--key needs --cert$"):
        await run_command("connect", url, "-x", "hello", "--key", files["key"])


# ---- what it tells ----


async def test_verbose_tells_the_handshake_and_what_goes_to_and_fro(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.ping(b"\x01\x02")
        await websocket.send(await websocket.receive())
        await websocket.send(b"\x00")
        await websocket.aclose()

    url = await start_server(nursery, talk)
    header = ("--header", "Cookie: secret")
    assert (
        await run_command("connect", f"{url}a?b&token=secret", "-v", "-x", "hello", "-f", "--no-compression", *header)
        == 0
    )
    output, errors = capfd.readouterr()
    assert output == "< hello\n< [binary, 1 bytes] 00\n"
    lines = errors.splitlines()
    assert "secret" not in errors
    for line in (
        f"> HTTP/1.1 GET {url}a?b&token=<hidden>",
        "> Cookie: <hidden>",
        "< HTTP/1.1 101",
        f"* connected to {HOST} port {url.rpartition(':')[2].strip('/')}",
        "< PING fin 2 bytes b'\\x01\\x02'",
        "> PONG fin masked 2 bytes b'\\x01\\x02'",
        "> TEXT fin masked 5 bytes b'hello'",
        "< TEXT fin 5 bytes b'hello'",
        "< BINARY fin 1 bytes b'\\x00'",
        "< CLOSE fin 2 bytes b'\\x03\\xe8'",
        "* ended with 1000 (OK), cleanly",
    ):
        assert line in lines
    assert lines.index("< HTTP/1.1 101") < lines.index(next(filter(re.compile("connected").match, lines)))


async def test_verbose_tells_tls_and_http2_and_pongs(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    url = await start_server(nursery, echo, ssl_context=throwaway_context(make_authority()))
    url = url.replace("ws:", "wss:")
    assert await run_command("connect", url, "-v", "-x", "/ping xyz", "--insecure", "--http2", "--wait", "0") == 0
    lines = capfd.readouterr().err.splitlines()
    assert any(re.match(r"\* TLSv1\.[23], \S+, ALPN h2$", line) for line in lines)
    assert f"> HTTP/2 CONNECT {url}" in lines
    assert "< HTTP/2 200" in lines
    assert "< PONG fin 3 bytes b'xyz'" in lines


async def test_verbose_tells_no_address_of_a_unix_socket(
    nursery: trio.Nursery, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def handler(request: WebSocketRequest) -> None:
        async with request.accept():
            pass

    await nursery.start(serve_websocket, handler, tmp_path / "socket", None)
    assert await run_command("connect", "ws://h/", "-v", "-x", "/help", "-f", "--unix", str(tmp_path / "socket")) == 0
    errors = capfd.readouterr().err
    assert errors.startswith("> HTTP/1.1 GET ws://h/\n")
    assert "* connected" not in errors


async def test_verbose_tells_the_end_before_the_program_ends(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []

    async def write_slowly(console: Console, descriptor: int, data: bytes) -> None:
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        written.append(data)

    monkeypatch.setattr(Console, "_write", write_slowly)
    url = await start_server(nursery, echo)
    assert await run_command("connect", url, "-v", "-x", "/close 4001 bye") == 0
    *_, sent, received, ended, closed = b"".join(written).decode().splitlines()
    assert (sent, received) == ("> CLOSE fin masked 5 bytes b'\\x0f\\xa1bye'", "< CLOSE fin 5 bytes b'\\x0f\\xa1bye'")
    assert ended == "* ended with 4001 (private use) 'bye', cleanly"
    assert closed == "closed: 4001 (private use) 'bye'"


async def test_what_is_too_much_to_tell_is_counted() -> None:
    trace = Trace()
    frame = FrameInfo(opcode=1, fin=True, rsv1=False, reserved=0, masked=True, length=5, first_bytes=b"hello")
    async with memory_websocket_pair() as (websocket, _):
        for _ in range(1003):
            trace.frame_sent(websocket, frame)
    lines = trace.take()
    assert lines == ["> TEXT fin masked 5 bytes b'hello'"] * 1000 + ["* 3 more lines were left out"]
    assert trace.take() == []


async def test_verbose_tells_a_rejection(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    head = b"HTTP/1.1 499 Nope\r\nSet-Cookie: secret\r\nContent-Length: 4\r\n\r\n"
    url = await start_answering(nursery, head + b"no\n\x1b")
    with pytest.raises(Failure):
        await run_command("connect", url, "-v", "-x", "hello")
    lines = capfd.readouterr().err.splitlines()
    answer = lines[lines.index("< HTTP/1.1 499") :]
    assert list(map(str.lower, answer[1:3])) == ["< set-cookie: <hidden>", "< content-length: 4"]
    assert answer[3:] == ["< no", "< \\x1b"]


async def test_verbose_tells_an_answer_that_breaks_a_rule(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_answering(nursery, b"HTTP/1.1 101 Odd\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n")
    with pytest.raises(Failure, match="Connection: Upgrade"):
        await run_command("connect", url, "-v", "-x", "hello")
    lines = capfd.readouterr().err.splitlines()
    assert f"> HTTP/1.1 GET {url}" in lines
    assert "< connection: close" in map(str.lower, lines)


async def test_verbose_tells_why_a_connection_broke(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    async def talk(stream: trio.abc.Stream) -> None:
        await stream.send_all(b"\xff\x00")
        await stream.receive_some()

    url = await start_raw_server(nursery, talk)
    assert await run_command("connect", url, "-v", "-x", "/help", "-f") == 1
    assert any(line.startswith("* RemoteProtocolError: ") for line in capfd.readouterr().err.splitlines())
    nursery.cancel_scope.cancel()
