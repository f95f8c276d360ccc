"""``trio-ws connect``: what is sent, what is printed and where, how it ends, and what it says when it fails."""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from trio_ws import ConnectionClosed, WebSocket
from trio_ws._cli import session

from .program import HOST, replaced, run_command, standard_input
from .servers import echo, echo_and_close, listen, send_and_close, start_raw_server, start_server, told

if TYPE_CHECKING:
    from collections.abc import Callable

# ---- messages ----


async def test_lines_are_sent_and_messages_printed(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    url = await start_server(nursery, echo_and_close(5))
    async with standard_input(b"hello\n\n//slash\r\nd\xc3\xa9j\xc3\xa0 vu\n/binary 00ff1b\n", ends=False):
        assert await run_command("connect", url) == 0
    output, notices = told(capfd)
    assert output == "< hello\n< \n< /slash\n< d\xe9j\xe0 vu\n< [binary, 3 bytes] 00 ff 1b\n"
    assert notices == ["closed by the server: 1000 (OK)"]


async def test_a_last_line_without_an_end_is_a_line(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    url = await start_server(nursery, echo_and_close(2))
    async with standard_input(b"one\ntwo"):
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


async def test_many_lines_make_few_hops_between_threads_and_none_is_lost(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hops: list[object] = []
    run_sync = trio.to_thread.run_sync

    async def counted(function: Callable[..., object], *args: object, abandon_on_cancel: bool = False) -> object:
        hops.append(function)
        return await run_sync(function, *args, abandon_on_cancel=abandon_on_cancel)

    monkeypatch.setattr(trio.to_thread, "run_sync", counted)
    count = 10_000

    async def talk(websocket: WebSocket) -> None:
        messages = [await websocket.receive() for _ in range(count)]
        for message in messages:
            try:
                websocket.send_nowait(message)
            except trio.WouldBlock:
                await websocket.send(message)
        await websocket.aclose()

    url = await start_server(nursery, talk)
    data = b"".join(b"%d\n" % number for number in range(count))
    assert len(data) < 2**16
    async with standard_input(data):
        assert await run_command("connect", url, "--wait", "inf") == 0
    assert told(capfd)[0] == "".join(f"< {number}\n" for number in range(count))
    assert len(hops) < count / 10


async def test_nothing_that_the_server_sends_reaches_the_terminal_raw(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_server(
        nursery, send_and_close("\x1b]0;title\x07\r\n\x9b\u202e", b"\x1b[31m", bytes(range(40)), b"")
    )
    async with standard_input(b"", ends=False):
        assert await run_command("connect", url) == 0
    assert told(capfd)[0].splitlines() == [
        "< \\x1b]0;title\\x07\\r\\n\\x9b\\u202e",
        "< [binary, 5 bytes] 1b 5b 33 31 6d",
        f"< [binary, 40 bytes] {bytes(range(32)).hex(' ')} ...",
        "< [binary, 0 bytes]",
    ]


async def test_raw_messages_are_for_pipes(nursery: trio.Nursery, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    url = await start_server(nursery, send_and_close("{\n\t1}", b"\x00\xff", "e"))
    async with standard_input(b"", ends=False):
        assert await run_command("connect", url, "--raw") == 0
    assert capfdbinary.readouterr().out == b"{\n\t1}\n\x00\xffe\n"


async def test_without_commands_a_slash_is_a_character(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_server(nursery, echo_and_close(2))
    async with standard_input(b"/close\n//\n", ends=False):
        assert await run_command("connect", url, "--no-commands") == 0
    assert told(capfd)[0] == "< /close\n< //\n"


# ---- commands ----


async def test_ping_tells_the_round_trip(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    url = await start_server(nursery, echo)
    async with standard_input(b"/ping\n/ping payload\n/close\n", ends=False):
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
    monkeypatch.setattr(session, "_PONG_TIMEOUT", 0.01)
    url = await start_server(nursery, echo)
    async with standard_input(b"/ping\n/close\n", ends=False):
        assert await run_command("connect", url) == 0
    assert told(capfd)[1] == ["no pong within 0.01 s", "closed: 1000 (OK)"]


async def test_help_tells_the_commands(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    url = await start_server(nursery, echo)
    async with standard_input(b"/help\n/close\n", ends=False):
        assert await run_command("connect", url) == 0
    assert told(capfd)[1][0].startswith("commands: /ping")


async def test_close_sends_a_code_and_a_reason(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[object] = []

    async def talk(websocket: WebSocket) -> None:
        seen.append(str(await websocket.wait_closed()))

    url = await start_server(nursery, talk)
    async with standard_input(b"/close 4001 see you soon\nnever sent\n", ends=False):
        assert await run_command("connect", url) == 0
    assert told(capfd) == ("", ["closed: 4001 (private use) 'see you soon'"])
    assert seen == ["4001 (private use) 'see you soon'"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"/nope\x1b\n", "there is no command /nope\\x1b; /help tells those that are, and //TEXT sends /TEXT"),
        (b"/close 1\n", "/close: code 1 is not allowed: it must be 1000 to 1003, 1007 to 1014 or 3000 to 4999"),
        (b"\xff\n", "the line is not UTF-8"),
    ],
)
async def test_a_wrong_line_from_a_pipe_ends_the_program(
    line: bytes, complaint: str, nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_server(nursery, listen)
    async with standard_input(line + b"never sent\n", ends=False):
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
    async with standard_input(b"hello\n"):
        assert await run_command("connect", url) == 0
    assert told(capfd) == ("< hello\n", ["closed: 1000 (OK)"])


async def test_it_need_not_wait(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    received: list[object] = []

    async def talk(websocket: WebSocket) -> None:
        received.append(await websocket.receive())
        await listen(websocket)

    url = await start_server(nursery, talk)
    async with standard_input(b"hello\n"):
        assert await run_command("connect", url, "--wait", "0") == 0
    assert told(capfd) == ("", ["closed: 1000 (OK)"])
    assert received == ["hello"]


async def test_ctrl_c_closes(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.receive()
        os.kill(os.getpid(), signal.SIGINT)
        await listen(websocket)

    url = await start_server(nursery, talk)
    async with standard_input(b"now\n", ends=False):
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
    async with standard_input(b"now\n", ends=False):
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
        (4000, "", 0, "closed by the server: 4000 (private use)"),
    ],
)
async def test_the_servers_code_decides_the_status(
    code: int, reason: str, status: int, notice: str, nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_server(nursery, echo_and_close(0, code, reason))
    async with standard_input(b"", ends=False):
        assert await run_command("connect", url) == status
    assert told(capfd) == ("", [notice])


async def test_a_message_that_is_too_big_fails_the_connection(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_server(nursery, send_and_close("x" * 11))
    async with standard_input(b"", ends=False):
        assert await run_command("connect", url, "--max-size", "10") == 1
    output, notices = told(capfd)
    assert output == ""
    assert notices == [
        "connection failed: message of 11 bytes or more, at most 10 are taken (max_message_size) (see --max-size)"
    ]


async def test_a_lost_connection_is_told(nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]) -> None:
    async def talk(stream: trio.abc.Stream) -> None:
        await stream.receive_some()

    url = await start_raw_server(nursery, talk)
    async with standard_input(b"hello\n", ends=False):
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
    async with standard_input(b"", ends=False):
        assert await run_command("connect", url) == 1
    output, (notice,) = told(capfd)
    assert output == ""
    assert notice.startswith("connection failed: ")
    nursery.cancel_scope.cancel()


async def test_a_server_that_answers_a_close_with_nonsense_is_told_of(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    async def talk(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"\xff\x00")
        await stream.receive_some()

    url = await start_raw_server(nursery, talk)
    async with standard_input(b"/close\n", ends=False):
        assert await run_command("connect", url) == 1
    assert told(capfd) == ("", ["closed, and failed: 1002 (protocol error) 'protocol error: opcode 0xf is reserved'"])
    nursery.cancel_scope.cancel()


async def test_a_server_that_does_not_answer_a_close_is_told_of(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    async def talk(stream: trio.abc.Stream) -> None:
        await stream.receive_some()

    url = await start_raw_server(nursery, talk)
    async with standard_input(b"/close\n", ends=False):
        assert await run_command("connect", url) == 1
    assert told(capfd) == ("", ["closed, but the server did not answer"])
    nursery.cancel_scope.cancel()


async def test_a_line_that_comes_too_late_does_not_hurt(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = trio.Event()

    def send_nowait(websocket: WebSocket, value: str) -> None:
        tried.set()
        raise ConnectionClosed(None, None)

    async def talk(stream: trio.abc.Stream) -> None:
        await tried.wait()
        await stream.send_all(b"\x88\x02\x03\xe8")
        await stream.receive_some()

    monkeypatch.setattr(WebSocket, "send_nowait", send_nowait)
    url = await start_raw_server(nursery, talk)
    async with standard_input(b"hello\n"):
        assert await run_command("connect", url, "--wait", "0") == 0
    assert told(capfd) == ("", ["closed by the server: 1000 (OK)"])
    nursery.cancel_scope.cancel()
