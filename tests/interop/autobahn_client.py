"""The client that runs the cases of an Autobahn fuzzing server; ``run_autobahn.py`` starts it."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import trio

import trio_ws

AGENT = "trio_ws"
CASE_TIMEOUT = 300.0

# As in autobahn_server.py.
LIMITS = trio_ws.Limits(
    max_message_size=64 * 2**20,
    max_fragments=None,
    receive_buffer=64 * 2**20,
    send_buffer=2**20,
)


Connect = Callable[[str], AbstractAsyncContextManager[trio_ws.WebSocket]]


async def count_cases(connect: Connect) -> int:
    """Ask how many cases were chosen."""
    with trio.fail_after(30):
        async with connect("/getCaseCount") as websocket:
            return int(await websocket.receive())


async def run_case(connect: Connect, number: int) -> str | None:
    """Run one case: send every message back. Returns what went wrong on this side of it, if anything."""
    with trio.move_on_after(CASE_TIMEOUT):
        try:
            async with connect(f"/runCase?case={number}&agent={AGENT}") as websocket:
                async for message in websocket:
                    await websocket.send(message)
        except trio_ws.ConnectionClosed:
            pass  # the server breaks a rule in most cases
        except (trio_ws.WebSocketError, OSError) as error:
            return f"case number {number}: {error!r}"
        return None
    return f"case number {number}: no end after {CASE_TIMEOUT} s"


async def update_reports(connect: Connect) -> None:
    """Have the reports written."""
    # kosoku ends on this without a Close.
    with trio.fail_after(60), contextlib.suppress(trio_ws.ConnectionClosed):
        async with connect(f"/updateReports?agent={AGENT}") as websocket:
            async for _ in websocket:
                pass


async def run_all(connect: Connect, concurrency: int) -> list[str]:
    """Run all cases, several at a time; returns what went wrong."""
    count = await count_cases(connect)
    numbers = iter(range(1, count + 1))
    problems: list[str] = []

    async def work() -> None:
        for number in numbers:
            problem = await run_case(connect, number)
            if problem is not None:
                problems.append(problem)

    async with trio.open_nursery() as nursery:
        for _ in range(concurrency):
            nursery.start_soon(work)
    await update_reports(connect)
    return problems


async def run(arguments: argparse.Namespace) -> list[str]:
    """Run all cases in the way that the command line says."""
    # The runner counts a case of 13.* as failed when a short answer comes uncompressed: threshold 0.
    compression = trio_ws.Compression(threshold=0, client_no_context_takeover=arguments.no_context_takeover)
    async with trio_ws.Agent(allow_h2=arguments.http2, h2_prior_knowledge=arguments.http2) as agent:

        def connect(path: str) -> AbstractAsyncContextManager[trio_ws.WebSocket]:
            return trio_ws.open_websocket(
                arguments.url + path, dispatcher=agent, limits=LIMITS, keepalive=None, compression=compression
            )

        return await run_all(connect, arguments.concurrency)


def main() -> int:
    """Run all cases; the exit status tells whether each of them could be run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--http2", action="store_true", help="over HTTP/2 with prior knowledge")
    parser.add_argument("--no-context-takeover", action="store_true", help="offer client_no_context_takeover")
    arguments = parser.parse_args()
    problems = trio.run(run, arguments)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
