"""``trio-ws demo``: all that it shows is checked, and a check that fails ends it with one line."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from trio_ws import InvalidHandshake, WebSocketRequest
from trio_ws._cli import demo
from trio_ws._cli.running import Failure

from .program import ROOT, TIMEOUT, run_command, run_program

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

serve_well = demo.serve_demo


@pytest.fixture
def small_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_CHUNKS", 4)


def test_it_passes_its_checks_as_its_users_see_it() -> None:
    done = run_program("demo")
    output = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b"")
    assert "\x1b" not in output
    for part in (
        "Opening handshake with wss://127.0.0.1:",
        "\n  > Sec-WebSocket-Protocol: demo.v2, demo.v1\n",
        "\n  < HTTP/1.1 101 Switching Protocols\n",
        "\n  TLS             TLSv1.",
        "\n  certificate     verified, issued by trustme v",
        "\n  subprotocol     demo.v1, of demo.v2 and demo.v1\n",
        "\n  compression     permessage-deflate",
        "\n  text            'D\xe9j\xe0 vu, 5 \u20ac', the same came back after ",
        "\n  binary          256 bytes, 00 01 02 03 ..., the same came back after ",
        "\nA file of 16 MiB, half text, half random, in messages of 256 KiB\n",
        "\n   50 %    8.0 of 16.0 MiB  ",
        "\n  100 %   16.0 of 16.0 MiB  ",
        " MB/s each way, in ",
        " median, of 20 pings\n",
        "\n  messages        66 to the server, 66 back; both sides counted the same\n",
        "\n  readable        'one', b'\\x02', 'three', as they were written into writable\n",
        "\n  closed          3001 (registered) 'read enough'\n",
        "\n50 WebSockets over HTTP/1.1, and 50 over HTTP/2 (RFC 8441)\n",
        "\n  connections     50              1, as the server counts them\n",
        "\n  all open after ",
        "\n  /private        HTTP status 403: Nobody may come in here.\n",
        "\n  client closes   3000 (registered) 'all done'    3000 (registered) 'all done'\n",
        "\n  server closes   4000 (private use) 'enough'     4000 (private use) 'enough'\n",
        "\n  handler raises  1011 (internal error)           1011 (internal error)\n",
        "\n  server stops    1001 (going away)               1001 (going away)\n",
        "\n  server's log    handler failed: RuntimeError: a bug, put here on purpose\n",
        "\nAll 189 checks passed in ",
    ):
        assert part in output


@pytest.mark.usefixtures("small_file")
async def test_it_ends_with_status_0_when_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert await run_command("demo") == 0
    output = capsys.readouterr().out
    assert "All 129 checks passed in " in output
    assert logging.getLogger("trio_ws.server").propagate
    assert logging.getLogger("trio_ws.server").handlers == []


def test_the_file_is_half_random_and_always_the_same() -> None:
    file = demo.make_file()
    assert len(file) == 16 * 2**20
    assert file == demo.make_file()
    assert file.startswith(b"chunk 0, line 0: to the server and back again\nchunk 0, line 1: ")
    assert file[2**18 : 2**18 + 100] != file[3 * 2**18 : 3 * 2**18 + 100]


async def lie_about_text(request: WebSocketRequest) -> None:
    async with request.accept() as websocket:
        async for message in websocket:
            await websocket.send("something else" if isinstance(message, str) else message)


async def lie_about_kind(request: WebSocketRequest) -> None:
    async with request.accept() as websocket:
        async for message in websocket:
            await websocket.send(message.encode() if isinstance(message, str) else message)


async def lie_about_the_file(request: WebSocketRequest) -> None:
    async with request.accept() as websocket:
        async for message in websocket:
            flawed = isinstance(message, bytes) and message.startswith(b"chunk 2,")
            await websocket.send(b"X" + message[1:] if flawed and isinstance(message, bytes) else message)


async def lie_about_three(request: WebSocketRequest) -> None:
    async with request.accept() as websocket:
        async for message in websocket:
            await websocket.send("four" if message == "three" else message)


async def lie_over_http2(request: WebSocketRequest) -> None:
    async with request.accept() as websocket:
        async for message in websocket:
            flawed = websocket.http_version == "2" and message == "from WebSocket 7"
            await websocket.send("from nobody" if flawed else message)


async def forget_messages(request: WebSocketRequest) -> None:
    async with request.accept() as websocket:
        await websocket.receive()
        await websocket.aclose()


async def let_everybody_in(request: WebSocketRequest) -> None:
    async with request.accept() as websocket:
        async for message in websocket:
            await websocket.send(message)


async def reject_in_other_words(request: WebSocketRequest) -> None:
    if request.path == "/private":
        await request.reject(403, body=b"no")
    else:
        await serve_well(request)


async def reject_with_another_status(request: WebSocketRequest) -> None:
    if request.path == "/private":
        await request.reject(404)
    else:
        await serve_well(request)


async def close_in_other_words(request: WebSocketRequest) -> None:
    if request.path == "/enough":
        async with request.accept() as websocket:
            await websocket.aclose(4000, "too much")
    else:
        await serve_well(request)


async def have_another_bug(request: WebSocketRequest) -> None:
    if request.path == "/bug":
        async with request.accept():
            raise RuntimeError("another bug")
    await serve_well(request)


@pytest.mark.usefixtures("small_file")
@pytest.mark.parametrize(
    ("serve", "line"),
    [
        (lie_about_text, "the demo has failed: the echo of the text message differs"),
        (lie_about_kind, "the demo has failed: the echo of the text message differs"),
        (lie_about_the_file, "the demo has failed: the file's echo differs after byte 524288"),
        (lie_about_three, r"the demo has failed: the stream gave ['one', b'\x02', 'four']"),
        (lie_over_http2, "the demo has failed: the echo of 'from WebSocket 7' differs over HTTP/2"),
        (forget_messages, "ConnectionClosedOK: received 1000 (OK); sent 1000 (OK)"),
        (let_everybody_in, "the demo has failed: /private was opened"),
        (reject_in_other_words, "the demo has failed: the body is b'no'"),
        (reject_with_another_status, "the demo has failed: the HTTP status is 404"),
        (
            close_in_other_words,
            "the demo has failed: server closes: the client saw 4000 (private use) 'too much', "
            "the server 4000 (private use) 'too much'",
        ),
        (have_another_bug, "the demo has failed: the server logged ['another bug']"),
    ],
)
async def test_a_lie_ends_it_with_one_line(
    serve: Callable[[WebSocketRequest], Awaitable[None]], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "serve_demo", serve)
    with pytest.raises(Failure) as caught:
        await run_command("demo")
    assert (str(caught.value), caught.value.status) == (line, 1)


async def test_a_library_that_fails_ends_it_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_websocket(*arguments: object, **options: object) -> None:
        raise InvalidHandshake("no good")

    monkeypatch.setattr(demo, "open_websocket", open_websocket)
    with pytest.raises(Failure, match=r"^InvalidHandshake: no good$"):
        await run_command("demo")


async def test_it_ends_when_it_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(request: WebSocketRequest) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(demo, "serve_demo", serve)
    monkeypatch.setattr(demo, "_TIME_LIMIT", 0.2)
    with pytest.raises(Failure, match=r"^it took more than 0\.2 s$"):
        await run_command("demo")


def test_it_needs_trustme() -> None:
    program = "import sys; sys.modules['trustme'] = None; from trio_ws._cli import main; sys.exit(main(['demo']))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT, timeout=TIMEOUT)
    assert done.returncode == 1
    assert done.stderr.decode() == "trio-ws demo: a throw-away certificate needs trustme: pip install trustme\n"
