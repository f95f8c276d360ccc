"""``trio-ws bench``: latency and throughput of a server that echoes.

Rules:

1. What is measured is what a user would notice: from the moment at which a message was due to the arrival of its echo.
   Without ``--rate`` a message is due when the one before it has come back; so a server that stalls is asked less, and
   its stall counts once on each connection. With ``--rate`` messages are due at fixed times, whatever the server does,
   and those that a stall holds up count with their whole delay.
2. Every echo is compared with what was sent.
3. This program may be the limit. It tells how much of its core it has used.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import string
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import trio

from .. import ConnectionClosed, connect_websocket
from .._util.nursery import BackgroundNursery
from .arguments import add_command, seconds, whole_number
from .latencies import Latencies
from .opening import (
    ClientOptions,
    add_client_arguments,
    check_version,
    client_keywords,
    describe,
    explained,
    make_agent,
    warn_of_insecurity,
)
from .running import FINE, Failure
from .terminal import Progress, Screen, Style, escape, megabytes_per_second

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from .. import Dispatcher, WebSocket
    from .arguments import Commands
    from .running import Interrupts

_DESCRIPTION = """\
Measure a server that sends every message back, such as trio-ws serve: send
messages on one or many connections, and tell how long their echoes took.

Without --rate each connection sends a message when the last one has come back:
that tells how fast the server is when it is always busy. A server that stalls
is then asked less, so its stall is seen only once on each connection, and the
percentiles look better than what users would see who do not wait for each
other (this is called coordinated omission). With --rate messages are sent at
fixed times, all connections together so many a second, and the latency counts
from the time at which a message was due.

The first Ctrl-C ends the measurement early. Every echo is compared with what
was sent. This program uses one core: where it says that it was busy nearly all
the time, it has measured itself.

Exit status: 0 measured, 1 the server cannot be reached, was lost or does not
echo, 2 wrong arguments, 130 interrupted before it was connected.

examples:
  trio-ws bench ws://127.0.0.1:8080/
  trio-ws bench wss://example.com/echo --http2 --connections 100 --rate 1000
  trio-ws bench ws://127.0.0.1:8080/ --size 16384 --binary --json
"""

_PERCENTILES = (50, 90, 99, 99.9)
_ROWS = 12  # of the histogram
_BAR = 40  # columns
_OPENING_AT_ONCE = 50  # handshakes
_TICK = 0.1  # seconds between two looks at the clock for the progress bar
_BUSY = 0.9  # of a core
_GOODBYE = 1.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions(ClientOptions):
    """The arguments of ``trio-ws bench``."""

    connections: int
    size: int
    duration: float
    rate: float | None
    binary: bool
    json: bool


def add_parser(commands: Commands) -> None:
    """Add the command to the program's."""
    parser = add_command(
        commands, "bench", run, BenchOptions, summary="how fast a server echoes", description=_DESCRIPTION
    )
    add_client_arguments(parser)
    parser.add_argument(
        "--connections", type=_positive, default=10, metavar="N", help="WebSockets at a time (default %(default)s)"
    )
    parser.add_argument(
        "--size", type=whole_number, default=64, metavar="BYTES", help="bytes of a message (default %(default)s)"
    )
    parser.add_argument(
        "--duration",
        type=_duration,
        default=5.0,
        metavar="SECONDS",
        help="how long to measure, when all are connected (default 5)",
    )
    parser.add_argument(
        "--rate",
        type=_rate,
        metavar="N",
        help="send so many messages a second, all connections together, whether or not the server keeps up",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--text", action="store_false", default=False, dest="binary", help="send text (the default)")
    kind.add_argument("--binary", action="store_true", dest="binary", help="send binary messages")
    parser.add_argument("--json", action="store_true", help="print one line of JSON, times in seconds")


def _positive(text: str) -> int:
    value = whole_number(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return value


def _duration(text: str) -> float:
    value = seconds(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of messages a second above 0")
    return value


async def run(options: BenchOptions, interrupts: Interrupts) -> int:
    """Run the command and return its exit status."""
    warn_of_insecurity(options)
    agent = make_agent(options)
    async with agent, BackgroundNursery() as nursery:
        started_at = trio.current_time()
        websockets = await _open_all(nursery, options, agent)
        opening = trio.current_time() - started_at
        bench = _Bench(options, websockets)
        with interrupts.ending_gently(bench.end):
            result = await bench.run(Screen(sys.stderr))
        shared = agent.statistics().connections_opened
        await _close_all(websockets)
    if options.json:
        print(json.dumps(_facts(websockets[0]) | {"opening": opening, "http2_connections": shared} | asdict(result)))
    else:
        _show(Screen(sys.stdout), websockets[0], opening, shared, result)
    return FINE


async def _open_all(nursery: trio.Nursery, options: BenchOptions, agent: Dispatcher) -> list[WebSocket]:
    """Open all WebSockets, several at a time.

    Raises:
        Failure: one could not be opened.
    """
    with explained(options):
        keywords = client_keywords(options, agent)
    websockets: list[WebSocket] = []
    failures: list[Failure] = []
    missing = options.connections

    async def open_some(openers: trio.Nursery) -> None:
        nonlocal missing
        while missing:
            missing -= 1
            try:
                with explained(options):
                    websocket = await connect_websocket(nursery, options.url, options.protocols, **keywords)
                check_version(options, websocket)
                websockets.append(websocket)
            except Failure as failure:
                failures.append(failure)
                openers.cancel_scope.cancel()

    async with trio.open_nursery() as openers:
        for _ in range(min(options.connections, _OPENING_AT_ONCE)):
            openers.start_soon(open_some, openers)
    if failures:
        raise failures[0]
    return websockets


async def _close_all(websockets: list[WebSocket]) -> None:
    """Close them; who does not answer soon is left alone."""
    with trio.move_on_after(_GOODBYE):
        async with trio.open_nursery() as nursery:
            for websocket in websockets:
                nursery.start_soon(websocket.aclose)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was measured; times in seconds.

    Attributes:
        connections: WebSockets at a time.
        size: bytes of a message.
        kind: "text" or "binary".
        rate: messages a second that were due; None: each when the one before it had come back.
        duration: how long it was measured.
        messages: echoes that came.
        latency: percentiles of the time from when a message was due until its echo had come.
        histogram: the same times, as ranges: where each ends, and how many echoes lie in it.
        overdue: how long the oldest message had been waiting for its echo at the end.
        busy: the share of one core that this program used.
    """

    connections: int
    size: int
    kind: str
    rate: float | None
    duration: float
    messages: int
    latency: dict[str, float | None]
    histogram: list[tuple[float, int]]
    overdue: float
    busy: float
    messages_per_second: float


class _Bench:
    """The measurement, on WebSockets that are open."""

    def __init__(self, options: BenchOptions, websockets: list[WebSocket]) -> None:
        self._options = options
        self._websockets = websockets
        self._message = make_message(options.size, binary=options.binary)
        self._latencies = Latencies()
        self._scope = trio.CancelScope()
        self._started_at = 0.0
        # When the oldest message of each connection that has not come back was due.
        self._due: list[float] = []
        self._failure: Failure | None = None

    def end(self) -> None:
        """End before the time is up."""
        self._scope.cancel()

    async def run(self, screen: Screen) -> Result:
        """Measure.

        Raises:
            Failure: a connection was lost, or an echo was wrong.
        """
        busy = time.process_time()
        self._started_at = trio.current_time()
        self._due = [self._started_at] * len(self._websockets)
        self._scope.deadline = self._started_at + self._options.duration
        with self._scope:
            async with BackgroundNursery() as nursery:
                for number in range(len(self._websockets)):
                    for task in self._tasks():
                        nursery.start_soon(self._watch, task, number)
                await self._show_progress(screen)
        ended_at = trio.current_time()
        busy = time.process_time() - busy
        if self._failure is not None:
            raise self._failure
        return self._conclude(ended_at, busy)

    def _conclude(self, ended_at: float, busy: float) -> Result:
        duration, count = ended_at - self._started_at, self._latencies.count
        latency = {f"p{percent:g}": self._latencies.percentile(percent) for percent in _PERCENTILES}
        latency["max"] = self._latencies.longest
        return Result(
            connections=len(self._websockets),
            size=self._options.size,
            kind="binary" if self._options.binary else "text",
            rate=self._options.rate,
            duration=duration,
            messages=count,
            latency={name: value if count else None for name, value in latency.items()},
            histogram=self._latencies.histogram(_ROWS),
            overdue=max(0.0, ended_at - min(self._due)),
            busy=busy / duration,
            messages_per_second=count / duration,
        )

    # ---- one connection ----

    def _tasks(self) -> list[Callable[[int], Awaitable[None]]]:
        if self._options.rate is None:
            return [self._send_and_receive]
        return [self._send_on_time, self._receive]

    async def _watch(self, task: Callable[[int], Awaitable[None]], number: int) -> None:
        """Run a connection's task; what goes wrong ends the measurement."""
        try:
            await task(number)
        except ConnectionClosed as closed:
            failure = Failure(f"the connection was lost: {escape(str(closed))}")
        except Failure as wrong:
            failure = wrong
        self._failure = self._failure or failure
        self.end()

    async def _send_and_receive(self, number: int) -> None:
        websocket = self._websockets[number]
        while True:
            self._due[number] = due = trio.current_time()
            await websocket.send(self._message)
            self._count(await websocket.receive(), due)

    async def _send_on_time(self, number: int) -> None:
        """Send at fixed times, evenly after those of the other connections; late, if there is no room."""
        times = self._times(number)
        while True:
            await trio.sleep_until(next(times))
            await self._websockets[number].send(self._message)

    async def _receive(self, number: int) -> None:
        times = self._times(number)
        while True:
            self._due[number] = due = next(times)
            self._count(await self._websockets[number].receive(), due)

    def _times(self, number: int) -> Iterator[float]:
        """When the messages of a connection are due."""
        rate, step = self._options.rate, len(self._websockets)
        assert rate is not None
        return (self._started_at + turn / rate for turn in itertools.count(number, step))

    def _count(self, echo: str | bytes, due: float) -> None:
        if echo != self._message:
            raise Failure(f"this server does not echo: it sent {_describe_message(echo)}, and not what it got")
        self._latencies.add(trio.current_time() - due)

    # ---- what is shown meanwhile ----

    async def _show_progress(self, screen: Screen) -> None:
        if not screen.redraws:
            await trio.sleep_forever()
        progress = Progress(screen, round(self._options.duration * 1000), self._describe)
        try:
            while True:
                progress.update(round(progress.elapsed * 1000))
                await trio.sleep(_TICK)
        finally:
            screen.redraw("")

    def _describe(self, done: int) -> str:
        rate = self._latencies.count / max(done / 1000, 1e-9)
        return f"{done / 1000:.1f} of {self._options.duration:g} s  {rate:,.0f} messages/s"


def make_message(size: int, *, binary: bool) -> str | bytes:
    """Make a message of so many bytes: letters, which compress somewhat, as what is sent in earnest does."""
    text = "".join(random.Random(size).choices(string.ascii_letters, k=size))
    return text.encode() if binary else text


def _describe_message(message: str | bytes) -> str:
    return f"{'text' if isinstance(message, str) else 'bytes'} of length {len(message)}"


def _facts(websocket: WebSocket) -> dict[str, object]:
    return {"url": websocket.url, "http_version": websocket.http_version, "extensions": websocket.extensions}


def _show(screen: Screen, websocket: WebSocket, opening: float, shared: int, result: Result) -> None:
    screen.line(escape(describe(websocket)))
    carriers = f", on {shared:,} of HTTP/2" if shared else ""
    screen.fact("connections", f"{result.connections:,}{carriers}, open after {opening:.2f} s")
    how = "each when the last one came back" if result.rate is None else f"{result.rate:,g} a second were due"
    screen.fact("sent", f"{result.kind} of {result.size:,} bytes, {how}")
    screen.fact("came back", f"{result.messages:,} in {result.duration:.2f} s")
    rate = megabytes_per_second(result.messages * result.size, result.duration)
    screen.fact("throughput", f"{result.messages_per_second:,.0f} messages/s, {rate} each way")
    if result.messages:
        screen.fact("latency", ", ".join(f"{name} {value:.3f}" for name, value in _milliseconds(result)) + " ms")
    for line in _draw(screen, result.histogram):
        screen.line(line)
    if result.overdue > (result.latency["max"] or 0.0):
        screen.fact("not back", f"at the end, after {result.overdue:.3f} s, and not counted above")
    busy = f"{result.busy * 100:.0f} % of a core for this program"
    screen.fact("load", f"{busy}: it was the limit, or nearly" if result.busy > _BUSY else busy)


def _draw(screen: Screen, histogram: list[tuple[float, int]]) -> Iterator[str]:
    """Draw a histogram: in each row the milliseconds within which its echoes came, and how many they are."""
    longest = max((count for _, count in histogram), default=0)
    for end, count in histogram:
        length = math.ceil(_BAR * count / longest)
        bar = screen.paint("#" * length, Style.GOOD) + " " * (_BAR - length)
        yield f"  <= {end * 1000:>10.3f} ms  {bar}  {count:,}".rstrip()


def _milliseconds(result: Result) -> list[tuple[str, float]]:
    return [(name, value * 1000) for name, value in result.latency.items() if value is not None]
