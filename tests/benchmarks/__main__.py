"""CPU time beside other libraries, all in one run: ``python -m tests.benchmarks [GROUP ...]``.

The side under test is a process pinned to one core; the load comes from this process on another. Rounds are
interleaved, so that a machine that slows down slows all of them down: a ratio is the median of the ratios of each
round, a time is the best round's. Each pass is made with new processes, as where memory comes to lie makes a difference
of several percent for as long as a process lives.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks import fairness, idle, report, sharing
from tests.benchmarks.certificates import make_certificate
from tests.benchmarks.groups import CASES, broadcast_case, run_case
from tests.benchmarks.processes import Pool, keep_awake
from trio_ws._wire.speedups import COMPILED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.groups import Case, Rounds

GROUPS = (*CASES, "broadcast", "idle", "fairness", "sharing")
DOCS = Path("docs/topics/speed.md")
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
LIBRARIES = ("trio", "h2", "hypercorn", "aethonan", "websockets", "trio-websocket", "aiohttp", "picows", "uvloop")


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", help=f"some of {', '.join(GROUPS)}; all if none is given")
    parser.add_argument("--rounds", type=int, default=5, help="of each pass")
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--only", default="", help="cases whose title has these words, separated by commas")
    parser.add_argument("--connections", type=int, nargs="+", default=[1000, 10_000], help="for idle")
    parser.add_argument("--markdown", type=Path, help="write the tables into this file as well")
    parser.add_argument("--docs", action="store_true", help=f"write them into {DOCS}, between its two markers")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    return options


class Run:
    """One run: measures, prints as it goes, and keeps what was printed.

    Args:
        options: the command line.
        folder: for a certificate.
    """

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._groups = options.groups or GROUPS
        self._certificate = make_certificate(folder)
        self._rounds: dict[str, Rounds] = {}
        self._verdicts: list[report.Verdict] = []
        self.tables: list[report.Table] = []

    def _show(self, table: report.Table) -> None:
        self.tables.append(table)
        print(report.as_text(table), flush=True)

    def _cases(self) -> Iterator[Case]:
        words = [word.strip() for word in self._options.only.split(",")]
        for name in CASES:
            if name in self._groups:
                yield from (case for case in CASES[name]() if all(word in case.title for word in words))

    def _make_pass(self, number: int) -> None:
        """Measure every case once; the last pass shows what all of them have measured."""
        with ExitStack() as stack:
            pool = Pool(self._certificate, stack)
            for case in self._cases():
                self._keep(number, case, run_case(case, pool, self._options.rounds))
            if "broadcast" in self._groups:
                self._keep(number, *broadcast_case(pool, 1000, self._options.rounds))

    def _keep(self, number: int, case: Case, rounds: Rounds) -> None:
        all_rounds = self._rounds.setdefault(case.title, {label: [] for label in rounds})
        for label, costs in rounds.items():
            all_rounds[label] += costs
        if number < self._options.passes:
            print(f"pass {number} of {self._options.passes}: {case.title}", flush=True)
            return
        self._verdicts += report.verdicts_of(case, all_rounds)
        self._show(report.table_of(case, all_rounds))

    def measure(self) -> None:
        """Measure what was asked for, then hold it against the bars."""
        groups = self._groups
        for number in range(1, self._options.passes + 1):
            self._make_pass(number)
        if "idle" in groups:
            measured = list(idle.measure_all(self._options.connections, self._certificate))
            for one in measured:
                self._verdicts += report.verdicts_of_idle(one)
            self._show(report.table_of_idle(measured))
        if "fairness" in groups:
            table, longest = fairness.table_of(self._certificate)
            self._verdicts.append(report.verdict_of_fairness(longest))
            self._show(table)
        if "sharing" in groups:
            pinned = os.sched_getaffinity(0)
            os.sched_setaffinity(0, range(os.cpu_count() or 1))  # the servers inherit it
            self._show(sharing.table_of(self._options.rounds, 1.0))
            os.sched_setaffinity(0, pinned)
        if self._verdicts:
            self._show(report.table_of_verdicts(self._verdicts))


def describe(options: argparse.Namespace) -> Iterator[str]:
    """Say what was run, and where."""
    words = [*options.groups, f"--rounds {options.rounds}", f"--passes {options.passes}"]
    yield f"Command: `nox -s bench -- {' '.join(words)}`"
    yield f"Machine: {report.machine()}"
    yield "Libraries: " + ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    yield f"C extension of trio_ws: {'yes' if COMPILED else 'no'}"


def replace_figures(page: Path, text: str) -> None:
    """Put new figures in the place of the old ones."""
    before, found, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    if not found or END not in rest:
        raise ValueError(f"{page} has no place for figures")
    page.write_text(f"{before}{BEGIN}{text}{END}{after}")


def main() -> None:
    """Measure and print the tables."""
    options = read_arguments()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    description = list(describe(options))
    print("\n".join(description) + "\n")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        keep_awake(stack)
        run = Run(options, Path(folder))
        run.measure()
    # The bars come last on a terminal, where the end is seen, and first on a page.
    tables = sorted(run.tables, key=lambda table: table[0] != report.BARS)
    text = "\n".join([*(f"* {line}" for line in description), "", *map(report.as_markdown, tables)])
    if options.markdown:
        options.markdown.write_text(text)
    if options.docs:
        replace_figures(DOCS, text)


if __name__ == "__main__":
    main()
