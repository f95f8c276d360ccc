"""Tables and bars, for the terminal and in Markdown."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.benchmarks.bars import IDLE_MOST, RECEIVE_MOST, STEP_MOST, ratios_of
from tests.benchmarks.groups import CHECKPOINT, NOWAIT, OURS, ZLIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.benchmarks.groups import Case, Rounds
    from tests.benchmarks.idle import Idle

KIBIBYTE = 2**10
BARS = "bars"

Table = tuple[str, "Sequence[str]", "Sequence[Sequence[str]]"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One bar, and how it stands.

    Attributes:
        what: which figure, against which.
        allowed: at most this.
        measured: it is this.
        unit: what both are counted in.
    """

    what: str
    allowed: float
    measured: float
    unit: str = "times"

    @property
    def words(self) -> str:
        """Met, or missed by how much."""
        if self.measured <= self.allowed:
            return "met"
        return f"missed by {(self.measured / self.allowed - 1) * 100:.0f} %"


def ratio(rounds: Rounds, label: str, to: str) -> float:
    """The median over the rounds of one contender's CPU time divided by another's."""
    return statistics.median(one.cpu / other.cpu for one, other in zip(rounds[label], rounds[to], strict=True))


def table_of(case: Case, rounds: Rounds) -> Table:
    """Show one case: best CPU time, ratio to ours, best rate; and what was sent, where that differs."""
    rows = [
        (
            label,
            f"{min(cost.cpu for cost in costs) * 1e6:.1f}",
            f"{ratio(rounds, label, OURS):.2f}",
            f"{1 / min(cost.wall for cost in costs):,.0f}",
            *([f"{bytes_sent(rounds, label):,.0f}"] if case.variant == "deflate" else []),
        )
        for label, costs in rounds.items()
    ]
    unit = "opened" if not case.size else "messages"
    head = ("", "CPU µs", "÷ trio_ws", f"{unit}/s")
    return case.title, (*head, "bytes sent") if case.variant == "deflate" else head, rows


def bytes_sent(rounds: Rounds, label: str) -> float:
    """The median of the bytes that one contender sent for each message."""
    return statistics.median(cost.sent for cost in rounds[label])


def table_of_idle(idles: Sequence[Idle]) -> Table:
    """Show the memory of idle WebSockets."""
    columns = [idle.title for idle in idles]
    names = dict.fromkeys(name for idle in idles for name in idle.each)
    rows = [
        (name, *(f"{idle.each[name] / KIBIBYTE:.1f}" if name in idle.each else "-" for idle in idles)) for name in names
    ]
    return "memory of a server for each idle WebSocket, KiB", ("", *columns), rows


# ---- bars ----


def verdicts_of(case: Case, rounds: Rounds) -> Iterator[Verdict]:
    """Hold one case against its bars."""
    ours = OURS
    if CHECKPOINT in rounds:
        ours = NOWAIT
        pairs = zip(rounds[OURS], rounds[CHECKPOINT], strict=True)
        extra = statistics.median(one.cpu - other.cpu for one, other in pairs)
        yield Verdict(f"{case.title}: receive() beyond a checkpoint", RECEIVE_MOST, extra * 1e6, "µs")
    if case.variant == "deflate":
        yield Verdict(f"{case.title}: {ZLIB} to aiohttp", 1.0, ratio(rounds, ZLIB, "aiohttp"))
        if case.group != "deflate received":
            for label in (ZLIB, OURS):
                measured = bytes_sent(rounds, label) / bytes_sent(rounds, "aiohttp")
                yield Verdict(f"{case.title}: bytes sent by {label} to aiohttp", 1.0, measured)
    for label, allowed in ratios_of(case).items():
        if label in rounds:
            yield Verdict(f"{case.title}: {ours} to {label}", allowed, ratio(rounds, ours, label))


def verdicts_of_idle(idle: Idle) -> Iterator[Verdict]:
    """Hold the memory of idle connections against its bar."""
    if idle.variant in IDLE_MOST and OURS in idle.each:
        what = f"each of {idle.websockets:,} idle connections, {idle.variant}"
        yield Verdict(what, IDLE_MOST[idle.variant], idle.each[OURS] / KIBIBYTE, "KiB")


def verdict_of_fairness(longest: float) -> Verdict:
    """Hold the longest step of a task, in milliseconds, against its bar."""
    return Verdict("longest step of a task in a flood", STEP_MOST, longest, "ms")


def table_of_verdicts(verdicts: Sequence[Verdict]) -> Table:
    """Show the bars."""
    rows = [
        (verdict.what, f"{verdict.allowed:.2f} {verdict.unit}", f"{verdict.measured:.2f}", verdict.words)
        for verdict in verdicts
    ]
    return BARS, ("", "at most", "measured", ""), rows


# ---- forms ----


def as_text(table: Table) -> str:
    """Lay a table out for a terminal."""
    title, head, rows = table
    widths = [max(len(row[index]) for row in (head, *rows)) for index in range(len(head))]
    lines = [title]
    for row in (head, *rows):
        first, *others = row
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"


def as_markdown(table: Table) -> str:
    """Write a table in Markdown."""
    title, head, rows = table
    lines = [f"**{title}**", "", f"| {' | '.join(head)} |", f"| --- |{' ---: |' * (len(head) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Describe the machine and what runs on it."""
    model = "unknown processor"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}, load {load:.1f} at the start"
    )
