"""What is measured: groups of cases, each case a table with a row for every contender."""

from __future__ import annotations

import selectors
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from tests.benchmarks.link import BINARY, frame
from tests.benchmarks.processes import Cost, Pool, Process
from tests.benchmarks.subjects import SUBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.benchmarks.link import Link

OURS = "trio_ws"
ZLIB = "trio_ws, zlib"
NOWAIT = "trio_ws receive_nowait"
CHECKPOINT = "bare trio checkpoint"
RAW = "raw trio stream"
HTTP1 = "trio_ws, HTTP/1.1 with TLS"
HOOKS = "trio_ws, hooks for messages"
FRAME_LOG = "trio_ws, frame log"

SIZES = {"64 B": 64, "1 KiB": 2**10, "16 KiB": 2**14, "1 MiB": 2**20}
ONE_BY_ONE = {"64 B": 1000, "1 KiB": 1000, "16 KiB": 400, "1 MiB": 16}  # messages of one round
AT_ONCE = {"64 B": 5000, "1 KiB": 4000, "16 KiB": 800, "1 MiB": 24}
DEFLATED = {"1 KiB": 2**10, "16 KiB": 2**14, "256 KiB": 2**18}
ONE_BY_ONE_DEFLATED = {"1 KiB": 1000, "16 KiB": 300, "256 KiB": 24}
MANY_DEFLATED = {"1 KiB": 2000, "16 KiB": 400, "256 KiB": 100}
ROLES = ("server", "client")
HANDSHAKES = 40
BROADCASTS = 5
CROWD = 100  # WebSockets


Work = Callable[["Process", int], object]


@dataclass(frozen=True, slots=True)
class Case:
    """One table: what is done, and by whom.

    Attributes:
        group: what it is asked for by.
        role: which side is under test.
        variant: "plain", "tls" or "deflate".
        size: of a message, as it is shown; "" if messages do not matter.
        count: messages of one round.
        contenders: rows, and what each does: ``work(process, count)``.
        variants: of the rows that have another.
    """

    group: str
    role: str
    variant: str
    size: str
    count: int
    contenders: Mapping[str, tuple[str, Work]]
    variants: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What stands above the table."""
        words = {
            "echo": "echo",
            "crowd": f"echo on {CROWD} connections in turn",
            "flood": "flood received",
            "send": "flood sent",
            "handshake": "open and close",
        }
        return ", ".join(filter(None, (words.get(self.group, self.group), self.size, self.role, self.variant)))


Rounds = dict[str, list[Cost]]


def run_case(case: Case, pool: Pool, rounds: int) -> Rounds:
    """Measure every contender once in each round, after a short one that does not count."""
    processes = {
        label: pool.get(name, case.role, case.variants.get(label, case.variant))
        for label, (name, _) in case.contenders.items()
    }
    for label, (_, work) in case.contenders.items():
        work(processes[label], max(1, case.count // 10))
    costs: Rounds = {label: [] for label in case.contenders}
    for _ in range(rounds):
        for label, (_, work) in case.contenders.items():
            process = processes[label]
            costs[label].append(process.measure(partial(work, process, case.count), case.count))
    return costs


def able(role: str, variant: str, *, raw: bool = False) -> list[str]:
    """Name the sides under test that can do this."""
    return [
        name
        for name, subject in SUBJECTS.items()
        if role in subject.roles and variant in subject.variants and (raw or not subject.raw)
    ]


def echo_cases() -> Iterator[Case]:
    """One message at a time, sent back."""
    for variant in ("plain", "tls"):
        for label, size in SIZES.items():
            for role in ROLES:
                rows = {name: (name, partial(echo, size)) for name in able(role, variant, raw=True)}
                yield Case("echo", role, variant, label, ONE_BY_ONE[label], rows)


def echo(size: int, process: Process, count: int) -> None:
    """Have messages echoed, one by one."""
    process.link.echo(size, count)


def crowd_cases() -> Iterator[Case]:
    """A server with many connections that is never idle: what waking up costs does not count."""
    for variant in ("plain", "tls"):
        for label in ("64 B", "16 KiB"):
            work = partial(echo_in_a_crowd, size=SIZES[label])
            rows = {name: (name, work) for name in able("server", variant, raw=True)}
            yield Case("crowd", "server", variant, label, 4 * ONE_BY_ONE[label], rows)


def echo_in_a_crowd(process: Process, count: int, size: int = 64) -> None:
    """Have messages echoed on many WebSockets in turn, one of each on its way at a time."""
    while len(process.crowd) < CROWD:  # the first is there already, and 100 streams are what most servers allow
        process.crowd.append(process.meet_one_more() if process.crowd else process.link)
    each = max(1, count // CROWD)
    messages = process.link.messages(size)
    for link in process.crowd:
        link.order(f"echo {each}")
    for data in islice(messages, each):
        for link in process.crowd:
            link.sock.sendall(data)
        for link in reversed(process.crowd):  # it sleeps for the last answer: who answers wakes it once for all
            link.skip_answer(size)
    for link in process.crowd:
        link.await_done()


def flood_cases() -> Iterator[Case]:
    """Messages received as fast as they can be."""

    for variant in ("plain", "tls"):
        for label, size in SIZES.items():
            for role in ROLES:
                rows: dict[str, tuple[str, Work]] = {
                    name: (name, partial(flood, "sink", size)) for name in able(role, variant)
                }
                rows[NOWAIT] = (OURS, partial(flood, "drain", size))
                if label == "64 B":
                    rows[CHECKPOINT] = (OURS, pass_checkpoints)
                yield Case("flood", role, variant, label, AT_ONCE[label], rows)


def flood(verb: str, size: int, process: Process, count: int) -> None:
    """Flood it."""
    process.link.flood(verb, size, count)


def pass_checkpoints(process: Process, count: int) -> None:
    """Have it pass bare checkpoints: what trio takes for itself."""
    process.link.order(f"checkpoint {count}")
    process.link.await_done()


def send_cases() -> Iterator[Case]:
    """Messages sent as fast as they can be."""
    for variant in ("plain", "tls"):
        for label, size in SIZES.items():
            for role in ROLES:
                rows = {name: (name, partial(take, size)) for name in able(role, variant)}
                yield Case("send", role, variant, label, AT_ONCE[label], rows)


def take(size: int, process: Process, count: int) -> None:
    """Have messages sent."""
    process.link.take(size, count)


def handshake_cases() -> Iterator[Case]:
    """Connections opened and closed, one after another."""
    for variant in ("plain", "tls"):
        for role in ROLES:
            rows = {name: (name, open_and_close) for name in able(role, variant)}
            yield Case("handshake", role, variant, "", HANDSHAKES, rows)


def open_and_close(process: Process, count: int) -> None:
    """Open and close connections."""
    if process.role == "server":
        for _ in range(count):
            process.meet().close()
        return
    process.link.order(f"open {count}")
    for _ in range(count):
        process.meet().answer_close()
    process.link.await_done()


def deflate_cases() -> Iterator[Case]:
    """Messages that are compressed; each is another, so that nobody finds one in its window."""
    for label, size in DEFLATED.items():
        work: dict[str, tuple[Work, tuple[str, ...]]] = {
            "deflate echo": (partial(echo, size), ROLES),
            "deflate received": (partial(flood, "sink", size), ROLES),
            "deflate sent": (partial(take, size), ROLES),
            f"deflate echo on {CROWD} connections": (partial(echo_in_a_crowd, size=size), ("server",)),
        }
        for what, (do, roles) in work.items():
            for role in roles:
                rows = {name: (name, do) for name in able(role, "deflate")}
                count = MANY_DEFLATED[label] if "on" in what.split() else ONE_BY_ONE_DEFLATED[label]
                yield Case(what, role, "deflate", label, count, rows)


def http2_cases() -> Iterator[Case]:
    """WebSockets on one connection over HTTP/2, beside our own over HTTP/1.1 with TLS."""
    for role in ROLES:
        for what, size, count, work in (
            ("http2 echo, 1 socket", "64 B", 1000, partial(echo, 64)),
            ("http2 echo, 1 socket", "16 KiB", 400, partial(echo, 2**14)),
            ("http2 open and close", "", HANDSHAKES, open_and_close),
            ("http2 echo, 100 sockets", "64 B", 2000, echo_in_a_crowd),
            ("http2 echo, 100 sockets", "16 KiB", 500, partial(echo_in_a_crowd, size=2**14)),
        ):
            rows = {name: (name, work) for name in able(role, "http2")}
            rows[HTTP1] = (OURS, work)
            yield Case(what, role, "http2", size, count, rows, {HTTP1: "tls"})


def watched_cases() -> Iterator[Case]:
    """Echo while nobody, an instrument, or the frame log hears of it."""
    for size in ("64 B", "16 KiB"):
        work = partial(echo, SIZES[size])
        rows = dict.fromkeys((OURS, HOOKS, FRAME_LOG), (OURS, work))
        variants = {HOOKS: "hooks", FRAME_LOG: "frame log"}
        yield Case("echo, watched", "server", "plain", size, ONE_BY_ONE[size], rows, variants)


CASES: dict[str, Callable[[], Iterator[Case]]] = {
    "echo": echo_cases,
    "crowd": crowd_cases,
    "flood": flood_cases,
    "send": send_cases,
    "deflate": deflate_cases,
    "handshake": handshake_cases,
    "http2": http2_cases,
    "watched": watched_cases,
}


# ---- what needs many connections ----


def broadcast_case(pool: Pool, connections: int, rounds: int) -> tuple[Case, Rounds]:
    """Send a message to many connections, again and again; the cost is that of one message to one of them."""
    names = able("server", "plain")
    sent = BROADCASTS * connections
    audience = {name: [pool.get(name, "server", "plain").meet() for _ in range(connections)] for name in names}

    def work(process: Process, count: int) -> None:
        broadcast(process.link, audience[process.name], max(1, count // connections))

    case = Case(f"broadcast to {connections}", "server", "plain", "64 B", sent, {name: (name, work) for name in names})
    costs = run_case(case, pool, rounds)
    for links in audience.values():
        for link in links:
            link.sock.close()
    return case, costs


def broadcast(link: Link, audience: list[Link], count: int) -> None:
    """Order broadcasts, and read them everywhere."""
    missing = dict.fromkeys(audience, count * len(frame(BINARY, bytes(64), masked=False)))
    with selectors.DefaultSelector() as selector:
        for listener in audience:
            selector.register(listener.sock, selectors.EVENT_READ, listener)
        link.order(f"broadcast {count} 64")
        while missing:
            for key, _ in selector.select(60):
                listener = key.data
                missing[listener] -= len(listener.sock.recv(65536))
                if not missing[listener]:
                    del missing[listener]
                    selector.unregister(listener.sock)
    link.await_done()
