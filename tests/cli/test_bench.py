"""``trio-ws bench``: what it measures, what it says, and how it ends."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from trio_ws import WebSocket
from trio_ws._cli import bench
from trio_ws._cli.running import Failure
from trio_ws._cli.terminal import Screen

from .program import HOST, run_command, run_program
from .servers import echo, start_answering, start_server

if TYPE_CHECKING:
    from collections.abc import Callable

SHORT = ("--duration", "0.2")


@pytest.fixture
async def echo_url(nursery: trio.Nursery) -> str:
    return await start_server(nursery, echo)


async def measured(capsys: pytest.CaptureFixture[str], url: str, *arguments: str) -> dict[str, object]:
    """Run the command, and return what it says to programs."""
    assert await run_command("bench", url, "--json", *arguments) == 0
    output = capsys.readouterr()
    assert output.err == ""
    result = json.loads(output.out)
    assert isinstance(result, dict)
    return result


async def test_it_measures_as_its_users_see_it(echo_url: str) -> None:
    arguments = ["bench", echo_url, "--connections", "3", "--size", "1000", "--duration", "0.5"]
    done = await trio.to_thread.run_sync(lambda: run_program(*arguments))
    assert (done.returncode, done.stderr) == (0, b"")
    first, *lines = done.stdout.decode().splitlines()
    assert first.startswith(f"{echo_url} (HTTP/1.1, permessage-deflate")
    rows = [line for line in lines if line.startswith("  <= ")]
    # On a busy machine the last message may have waited longer than any that came back, and a line says so.
    lines = [line for line in lines if line not in rows and not line.startswith("  not back ")]
    assert 1 <= len(rows) <= 12
    counts = []
    for row in rows:
        match = re.fullmatch(r"  <= +[\d.]+ ms  (#*) +([\d,]+)", row)
        assert match is not None, row
        counts.append(int(match[2].replace(",", "")))
        assert bool(match[1]) == bool(counts[-1])
    assert f"  came back       {sum(counts):,} in " in lines[2]
    assert max(len(row.partition("ms  ")[2].rstrip("0123456789, ")) for row in rows) == 40
    number = r"[\d,]+(\.\d+)?"
    for line, pattern in zip(
        lines,
        [
            rf"  connections     3, open after {number} s",
            r"  sent            text of 1,000 bytes, each when the last one came back",
            rf"  came back       {number} in {number} s",
            rf"  throughput      {number} messages/s, {number} MB/s each way",
            rf"  latency         p50 {number}, p90 {number}, p99 {number}, p99.9 {number}, max {number} ms",
            rf"  load            {number} % of a core for this program.*",
        ],
        strict=True,
    ):
        assert re.fullmatch(pattern, line)


async def test_the_figures_fit_together(echo_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = await measured(capsys, echo_url, *SHORT, "--connections", "2", "--size", "10", "--no-compression")
    assert (result["url"], result["http_version"], result["extensions"]) == (echo_url, "1.1", "")
    assert (result["connections"], result["size"], result["kind"], result["rate"]) == (2, 10, "text", None)
    messages, duration, latency = result["messages"], result["duration"], result["latency"]
    assert isinstance(messages, int)
    assert isinstance(duration, float)
    assert isinstance(latency, dict)
    assert messages > 10
    assert duration >= 0.2
    assert result["messages_per_second"] == pytest.approx(messages / duration)
    assert list(latency) == ["p50", "p90", "p99", "p99.9", "max"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p99.9"] <= latency["max"] < duration
    # On two connections, one message each at a time.
    assert messages * latency["p50"] / 2 < duration * 2


@pytest.mark.parametrize(("argument", "kind"), [("--text", str), ("--binary", bytes)])
async def test_it_sends_what_it_is_told_to(
    argument: str, kind: type, nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: set[tuple[type, int]] = set()

    async def talk(websocket: WebSocket) -> None:
        async for message in websocket:
            seen.add((type(message), len(message)))
            await websocket.send(message)

    result = await measured(capsys, await start_server(nursery, talk), *SHORT, argument, "--size", "7")
    assert seen == {(kind, 7)}
    assert result["kind"] == argument.removeprefix("--")


async def test_at_a_rate_all_connections_together_keep_it(echo_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = await measured(capsys, echo_url, "--duration", "0.5", "--connections", "4", "--rate", "100")
    assert isinstance(result["messages"], int)
    assert result["rate"] == 100
    assert 0 < result["messages"] <= 51


def stall(once: float) -> Callable[[WebSocket], object]:
    """Echo, but stop once, for so many seconds, after the fifth message."""

    async def talk(websocket: WebSocket) -> None:
        for number in range(10**9):
            if number == 5:
                await trio.sleep(once)
            await websocket.send(await websocket.receive())

    return talk


async def test_a_stall_counts_for_every_message_that_was_due(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    """Coordinated omission: without a rate one message sees the stall, with a rate all that it held up."""
    url = await start_server(nursery, stall(0.3))  # type: ignore[arg-type]
    arguments = ("--connections", "1", "--duration", "0.6")
    alone = await measured(capsys, url, *arguments)
    due = await measured(capsys, url, *arguments, "--rate", "100")
    assert isinstance(alone["latency"], dict)
    assert isinstance(due["latency"], dict)
    assert alone["latency"]["max"] >= 0.3
    assert alone["latency"]["p90"] < 0.1
    assert due["latency"]["max"] >= 0.25
    assert due["latency"]["p90"] >= 0.1


async def test_what_did_not_come_back_is_told(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    async def listen(websocket: WebSocket) -> None:
        async for _ in websocket:
            pass

    url = await start_server(nursery, listen)
    assert await run_command("bench", url, *SHORT, "--rate", "50") == 0
    output = capsys.readouterr().out
    assert "\n  sent            text of 64 bytes, 50 a second were due\n" in output
    assert "\n  came back       0 in 0.2" in output
    assert re.search(r"\n  not back        at the end, after 0\.[2-9]\d* s, and not counted above\n", output)
    assert "latency" not in output
    result = await measured(capsys, url, *SHORT)
    assert result["latency"] == dict.fromkeys(["p50", "p90", "p99", "p99.9", "max"])
    assert isinstance(result["overdue"], float)
    assert result["overdue"] > 0
    assert result["histogram"] == []


async def test_a_busy_generator_says_that_it_was_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    class Busy:
        url, http_version, protocol, extensions = "ws://h/", "1.1", None, ""

    result = bench.Result(
        connections=1,
        size=1,
        kind="text",
        rate=None,
        duration=1.0,
        messages=1,
        latency={"p50": 0.5, "max": 0.5},
        histogram=[(0.1, 0), (0.5, 1)],
        overdue=0.1,
        busy=0.95,
        messages_per_second=1.0,
    )
    bench._show(Screen(sys.stdout), Busy(), 0.5, 0, result)  # type: ignore[arg-type]
    assert capsys.readouterr().out.splitlines() == [
        "ws://h/ (HTTP/1.1, no extension)",
        "  connections     1, open after 0.50 s",
        "  sent            text of 1 bytes, each when the last one came back",
        "  came back       1 in 1.00 s",
        "  throughput      1 messages/s, 0.0 MB/s each way",
        "  latency         p50 500.000, max 500.000 ms",
        "  <=    100.000 ms                                            0",
        f"  <=    500.000 ms  {'#' * 40}  1",
        "  load            95 % of a core for this program: it was the limit, or nearly",
    ]


async def test_at_a_terminal_a_bar_is_drawn_and_taken_away(
    echo_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    assert await run_command("bench", echo_url, "--duration", "0.5") == 0
    drawn = terminal.getvalue()
    assert drawn.startswith("\r  [")
    assert re.search(r"\]   \d+ %  0\.\d of 0\.5 s  [\d,]+ messages/s\x1b\[K\r", drawn)
    assert drawn.endswith("\r\x1b[K")
    assert "\n" not in drawn
    assert "\r" not in capsys.readouterr().out


# How it ends.


async def test_an_interrupt_ends_it_early_with_what_was_measured(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    async def talk(websocket: WebSocket) -> None:
        for _ in range(10):
            await websocket.send(await websocket.receive())
        os.kill(os.getpid(), signal.SIGINT)
        await websocket.wait_closed()

    result = await measured(capsys, await start_server(nursery, talk), "--duration", "60", "--connections", "1")
    assert result["messages"] == 10
    assert isinstance(result["duration"], float)
    assert result["duration"] < 20


async def failure(*arguments: str) -> str:
    with pytest.raises(Failure) as caught:
        await run_command("bench", *arguments)
    assert caught.value.status == 1
    return str(caught.value)


async def test_a_server_that_is_not_there() -> None:
    assert await failure(f"ws://{HOST}:1/") == f"cannot connect to ws://{HOST}:1/: Connection refused"


async def test_a_server_that_speaks_no_websocket(nursery: trio.Nursery) -> None:
    url = await start_answering(nursery, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    assert await failure(url) == f"cannot connect to {url}: the server answered with HTTP status 404 Not Found"


async def test_a_server_that_does_not_echo(nursery: trio.Nursery) -> None:
    async def talk(websocket: WebSocket) -> None:
        async for _ in websocket:
            await websocket.send(b"\x1b[2J")

    url = await start_server(nursery, talk)
    assert await failure(url) == "this server does not echo: it sent bytes of length 4, and not what it got"


async def test_a_server_that_greets(nursery: trio.Nursery) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.send("welcome")
        await websocket.wait_closed()

    url = await start_server(nursery, talk)
    assert await failure(url) == "this server does not echo: it sent text of length 7, and not what it got"


async def test_a_connection_that_is_lost(nursery: trio.Nursery) -> None:
    async def talk(websocket: WebSocket) -> None:
        await websocket.send(await websocket.receive())
        await websocket.aclose(4000, "enough")

    url = await start_server(nursery, talk)
    assert (await failure(url)).startswith("the connection was lost: received 4000 (private use) 'enough'")


async def test_who_does_not_answer_goodbye_is_left(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def aclose(self: WebSocket, *arguments: object) -> None:
        await trio.sleep_forever()

    url = await start_server(nursery, echo)
    monkeypatch.setattr(WebSocket, "aclose", aclose)
    monkeypatch.setattr(bench, "_GOODBYE", 0.01)
    assert (await measured(capsys, url, *SHORT))["messages"] != 0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--connections", "0"), "argument --connections: '0' is not a whole number from 1 on"),
        (("--duration", "0"), "argument --duration: '0' is not a number of seconds above 0"),
        (("--duration", "inf"), "argument --duration: 'inf' is not a number of seconds above 0"),
        (("--rate", "0"), "argument --rate: '0' is not a number of messages a second above 0"),
        (("--rate", "many"), "argument --rate: 'many' is not a number of messages a second above 0"),
        (("--text", "--binary"), "argument --binary: not allowed with argument --text"),
    ],
)
def test_wrong_arguments(arguments: tuple[str, ...], line: str) -> None:
    done = run_program("bench", "ws://h/", *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == f"trio-ws bench: {line} (see trio-ws bench --help)\n"


def test_messages_have_the_size_that_was_asked_for() -> None:
    for size in (0, 1, 64, 10_000):
        text, data = bench.make_message(size, binary=False), bench.make_message(size, binary=True)
        assert isinstance(text, str)
        assert isinstance(data, bytes)
        assert text.encode() == data
        assert len(data) == size
