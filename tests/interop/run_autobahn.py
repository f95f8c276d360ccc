"""Run the cases of the Autobahn test suite against our server and our client, and judge the outcome.

Run it as a module: ``python -m tests.interop.run_autobahn``. With ``--http2`` our side speaks HTTP/2 to HAProxy, which
speaks HTTP/1.1 to the runner.

Two runners speak the suite's protocol: ``kosoku`` (a package of this Python), which cannot run 36 of the cases, and the
original ``wstest`` (Python 2.7; this script installs it into a cache folder when there is a ``python2.7``). Both
directions run at the same time.

The exit status is 0 only when every case that was asked for ran and ended as OK or INFORMATIONAL, or as a NON-STRICT
that ``autobahn_expected.json`` permits; 1 when a case did not; 2 when nothing could be run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trio

from .haproxy import BACK_CLEAR, FRONT_CLEAR, bridging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

HERE = Path(__file__).parent
HOST = "127.0.0.1"
QUICK_EXCLUDE = ("9.*", "12.*", "13.*")
# In these cases a server asks the client for client_no_context_takeover, but only if the client has offered it.
NO_TAKEOVER = ("13.2.*", "13.5.*", "13.6.*")
# Compressed text: kosoku hashes a str of its own there, and ends the case itself with "Strings must be encoded".
KOSOKU_CANNOT = ("12.2.*", "12.5.*")
VERDICTS = ("OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "FAILED")
GOOD = frozenset({"OK", "INFORMATIONAL"})
START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
SHOWN = 10


class ToolMissing(Exception):
    """The runner that was asked for cannot be had here."""


class RunFailed(Exception):
    """A process did not do its part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says.

    Attributes:
        include: globs of the cases to run.
        exclude: globs of the cases to leave out.
        out: the folder of the reports and logs.
        concurrency: how many cases run at once in one direction, where the runner can do that.
        timeout: seconds that one direction may take.
        haproxy: its path, to go through it over HTTP/2; None: straight.
    """

    include: tuple[str, ...]
    exclude: tuple[str, ...]
    out: Path
    concurrency: int
    timeout: float
    haproxy: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How one case ended.

    Attributes:
        number: "6.4.1".
        behavior: the runner's word on the messages.
        close: the runner's word on the closing.
    """

    number: str
    behavior: str
    close: str

    @property
    def verdict(self) -> str:
        """One of VERDICTS; what none of them names is FAILED."""
        return self.behavior if self.close in GOOD and self.behavior in VERDICTS else "FAILED"


class Runner(Protocol):
    """A runner of the suite: the command of each of its two sides."""

    name: str
    stops_itself: bool

    def client(self, url: str, options: Options, out: Path) -> list[str]:
        """The fuzzing client against the server at url."""

    def server(self, port: int, options: Options, out: Path) -> list[str]:
        """The fuzzing server on a port."""


class Kosoku:
    """The runner from PyPI."""

    name = "kosoku"
    stops_itself = True  # the server ends after updateReports, and writes the reports only then

    def __init__(self) -> None:
        found = shutil.which("kosoku", path=str(Path(sys.executable).parent)) or shutil.which("kosoku")
        if found is None:
            raise ToolMissing("kosoku is not installed: pip install kosoku")
        self._program = found

    def _command(self, mode: str, address: str, options: Options, out: Path) -> list[str]:
        included = [argument for glob in options.include for argument in ("-i", glob)]
        excluded = [argument for glob in options.exclude for argument in ("-x", glob)]
        return [self._program, "-m", mode, address, *included, *excluded, "-o", str(out)]

    def client(self, url: str, options: Options, out: Path) -> list[str]:
        """The fuzzing client against the server at url."""
        return [*self._command("fuzzingclient", url, options, out), "-p", str(options.concurrency)]

    def server(self, port: int, options: Options, out: Path) -> list[str]:
        """The fuzzing server on a port."""
        return self._command("fuzzingserver", f"{HOST}:{port}", options, out)


class Wstest:
    """The original runner, in a virtual environment of Python 2.7."""

    name = "wstest"
    stops_itself = False

    def __init__(self, cache: Path) -> None:
        self._program = cache / "wstest" / "bin" / "wstest"
        if not self._program.exists():
            install_wstest(find_python27(), cache)

    def _command(self, mode: str, options: Options, out: Path, where: dict[str, object]) -> list[str]:
        out.mkdir(parents=True, exist_ok=True)
        spec = out.parent / f"{out.name}-spec.json"
        chosen = {"cases": options.include, "exclude-cases": options.exclude, "exclude-agent-cases": {}}
        spec.write_text(json.dumps({"outdir": str(out), **chosen, **where}))
        # -u 0: no web port, which would be a fixed one.
        return [str(self._program), "-m", mode, "-u", "0", "-s", str(spec)]

    def client(self, url: str, options: Options, out: Path) -> list[str]:
        """The fuzzing client against the server at url."""
        return self._command("fuzzingclient", options, out, {"servers": [{"agent": "trio_ws", "url": url}]})

    def server(self, port: int, options: Options, out: Path) -> list[str]:
        """The fuzzing server on a port."""
        return self._command("fuzzingserver", options, out, {"url": f"ws://{HOST}:{port}"})


def find_python27() -> str:
    """Find a Python 2.7 that starts: the variable PYTHON27, the path, pyenv.

    Raises:
        ToolMissing: there is none.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [os.environ.get("PYTHON27"), shutil.which("python2.7")]
    candidates += [str(path) for path in sorted(pyenv.glob("versions/2.7*/bin/python2.7"))]
    for candidate in candidates:
        # A pyenv shim is there even when no version answers to it.
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    raise ToolMissing("wstest needs a python2.7, and none was found (set PYTHON27 to its path)")


def install_wstest(python: str, cache: Path) -> None:
    """Build the virtual environment of wstest; it takes half a minute."""
    boot = cache / "virtualenv"
    place = cache / "wstest"
    pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check"]
    try:
        subprocess.run([python, *pip, "--upgrade", "--target", str(boot), "virtualenv<20.22"], check=True)
        environment = {**os.environ, "PYTHONPATH": str(boot)}
        subprocess.run([python, "-m", "virtualenv", "-q", str(place)], env=environment, check=True)
        subprocess.run([str(place / "bin" / "python"), *pip, "autobahntestsuite==25.10.1"], check=True)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(place, ignore_errors=True)
        raise ToolMissing(f"wstest could not be installed: {error}") from error


@asynccontextmanager
async def started(command: Sequence[str], log: Path) -> AsyncIterator[trio.Process]:
    """Run a process for as long as the block; its output goes to a file."""
    with log.open("wb") as output:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with trio.move_on_after(STOP_TIMEOUT, shield=True):
                await process.wait()
            if process.returncode is None:
                process.kill()


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


async def wait_until_it_listens(process: trio.Process, port: int, log: Path) -> None:
    """Wait for a server to take connections.

    Raises:
        RunFailed: it ended, or took too long.
    """
    with trio.move_on_after(START_TIMEOUT):
        while process.poll() is None:
            with contextlib.suppress(OSError):
                await trio.aclose_forcefully(await trio.open_tcp_stream(HOST, port))
                return
            await trio.sleep(0.05)
    raise RunFailed(f"no server came up on port {port}:\n{tail(log)}")


async def wait_for(process: trio.Process, seconds: float, log: Path) -> int:
    """Wait for the end of a process.

    Raises:
        RunFailed: it took too long.
    """
    with trio.move_on_after(seconds):
        return await process.wait()
    raise RunFailed(f"no end after {seconds:g} s:\n{tail(log)}")


def tail(log: Path) -> str:
    """The end of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


@asynccontextmanager
async def reaching(port: int, sides: tuple[str, str], options: Options) -> AsyncIterator[int]:
    """Give the port by which a server is reached: its own, or HAProxy's."""
    if options.haproxy is None:
        yield port
        return
    async with bridging(options.haproxy, port, sides, options.out) as bridge:
        yield bridge


async def try_server(runner: Runner, options: Options) -> None:
    """Run the fuzzing client against our server."""
    port = free_port()
    ours, theirs = options.out / "server-ours.log", options.out / "server-runner.log"
    async with started([sys.executable, str(HERE / "autobahn_server.py"), "--port", str(port)], ours) as server:
        await wait_until_it_listens(server, port, ours)
        async with reaching(port, BACK_CLEAR, options) as reached:
            command = runner.client(f"ws://{HOST}:{reached}", options, options.out / "server")
            async with started(command, theirs) as client:
                await wait_for(client, options.timeout, theirs)
        if server.poll() is not None:
            raise RunFailed(f"our server ended with status {server.returncode}:\n{tail(ours)}")


async def try_client(runner: Runner, options: Options) -> None:
    """Run our client against the fuzzing server, then again for the cases that need another offer of it."""
    special = [case for case in Expected.load().chosen(options) if matches(case, NO_TAKEOVER)]
    others = replace(options, exclude=(*options.exclude, *NO_TAKEOVER))
    if Expected.load().chosen(others):
        await run_client(runner, others, "client")
    if special:
        await run_client(
            runner, replace(options, include=tuple(special), exclude=()), "client-no-takeover", "--no-context-takeover"
        )


async def run_client(runner: Runner, options: Options, name: str, *arguments: str) -> None:
    """Run our client once against a fuzzing server."""
    port = free_port()
    ours, theirs = options.out / f"{name}-ours.log", options.out / f"{name}-runner.log"
    async with started(runner.server(port, options, options.out / name), theirs) as server:
        await wait_until_it_listens(server, port, theirs)
        async with reaching(port, FRONT_CLEAR, options) as reached:
            script = [sys.executable, str(HERE / "autobahn_client.py"), f"ws://{HOST}:{reached}", *arguments]
            script += ["--concurrency", str(options.concurrency), *(["--http2"] if options.haproxy else [])]
            async with started(script, ours) as client:
                if await wait_for(client, options.timeout, ours) != 0:
                    raise RunFailed(f"our client could not run every case:\n{tail(ours)}")
        if runner.stops_itself:
            await wait_for(server, START_TIMEOUT, theirs)


DIRECTIONS = {"server": try_server, "client": try_client}


def read_reports(out: Path, direction: str) -> dict[str, Case]:
    """Read how the cases of a direction ended; without a report none did."""
    cases = {}
    for index in out.glob(f"{direction}*/index.json"):
        for agent in json.loads(index.read_text()).values():
            for number, entry in agent.items():
                cases[number] = Case(number=number, behavior=entry["behavior"], close=entry["behaviorClose"])
    return cases


def matches(number: str, globs: Sequence[str]) -> bool:
    """Tell whether a case is one of those that the globs mean."""
    return any(fnmatchcase(number, glob) for glob in globs)


@dataclass(frozen=True, slots=True)
class Expected:
    """What ``autobahn_expected.json`` says.

    Attributes:
        suite: every case of the suite.
        non_strict: the cases that may be NON-STRICT, each with the reason.
    """

    suite: frozenset[str]
    non_strict: dict[str, str]

    @classmethod
    def load(cls) -> Expected:
        """Read the file; it counts the cases by the part of their number before the last dot, and sorts by reason."""
        content = json.loads((HERE / "autobahn_expected.json").read_text())
        groups: dict[str, int] = content["cases"]
        suite = (f"{group}.{last}" for group, count in groups.items() for last in range(1, count + 1))
        reasons: dict[str, list[str]] = content["non_strict"]
        return cls(frozenset(suite), {case: reason for reason, cases in reasons.items() for case in cases})

    def chosen(self, options: Options) -> set[str]:
        """The cases that have to run."""
        return {case for case in self.suite if matches(case, options.include) and not matches(case, options.exclude)}


def in_order(number: str) -> list[int]:
    """The key that puts 2.10 after 2.9."""
    return [int(part) for part in number.split(".")]


def judge(cases: dict[str, Case], expected: Expected, options: Options) -> list[str]:
    """Say what is wrong with a run, nothing if all is well; the lines that are only worth knowing are printed."""
    missing = sorted(expected.chosen(options) - cases.keys(), key=in_order)
    problems = []
    if missing:
        more = ", ..." if len(missing) > SHOWN else ""
        problems.append(f"{len(missing)} cases did not run: {', '.join(missing[:SHOWN])}{more}")
    for number in sorted(cases, key=in_order):
        case = cases[number]
        if case.verdict in GOOD:
            continue
        line = f"{number}: {case.behavior}, close {case.close}"
        if case.verdict == "NON-STRICT" and number in expected.non_strict:
            print(f"  permitted: {line}: {expected.non_strict[number]}")
        else:
            problems.append(line)
    return problems


async def run_direction(direction: str, runner: Runner, options: Options) -> bool:
    """Run one direction and print how it went; True when all is well."""
    begin = time.monotonic()
    broken = []
    try:
        await DIRECTIONS[direction](runner, options)
    except RunFailed as error:
        broken.append(str(error))
    seconds = time.monotonic() - begin
    cases = read_reports(options.out, direction)
    counts = Counter(case.verdict for case in cases.values())
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    way = " over HTTP/2" if options.haproxy else ""
    print(f"our {direction} against {runner.name}{way}: {len(cases)} cases in {seconds:.1f} s: {told}")
    problems = judge(cases, Expected.load(), options) + broken
    for problem in problems:
        print(f"  WRONG: {problem}")
    return not problems


async def run_directions(directions: Sequence[str], runner: Runner, options: Options) -> bool:
    """Run the directions side by side; True when all is well. SIGTERM stops everything that was started."""
    well = []

    async def run(direction: str) -> None:
        well.append(await run_direction(direction, runner, options))

    async def stop_on_signal(scope: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                scope.cancel()

    async with trio.open_nursery() as watch:
        watch.start_soon(stop_on_signal, watch.cancel_scope)
        async with trio.open_nursery() as nursery:
            for direction in directions:
                nursery.start_soon(run, direction)
        watch.cancel_scope.cancel()
    return len(well) == len(directions) and all(well)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["client", "server", "both"], default="both", help="which side of ours")
    parser.add_argument("--runner", choices=["kosoku", "wstest"], default="kosoku")
    parser.add_argument("--http2", action="store_true", help="through HAProxy, over HTTP/2 on our side of it")
    parser.add_argument("--cases", action="append", metavar="GLOB", help="cases to run (default: all; repeatable)")
    parser.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="cases to leave out")
    parser.add_argument("--quick", action="store_true", help=f"leave out {', '.join(QUICK_EXCLUDE)}")
    parser.add_argument("--out", type=Path, help="folder for reports and logs (default: a new one in the temp folder)")
    parser.add_argument("--concurrency", type=int, default=8, help="cases at once in each direction (kosoku)")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one direction")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "trio_ws-interop"
    parser.add_argument("--cache", type=Path, default=cache, help="where wstest is installed")
    return parser.parse_args(arguments)


def main() -> int:
    """Run what the command line asks for."""
    arguments = parse_arguments()
    options = Options(
        include=tuple(arguments.cases or ["*"]),
        exclude=(
            *arguments.exclude,
            *(QUICK_EXCLUDE if arguments.quick else ()),
            *(KOSOKU_CANNOT if arguments.runner == "kosoku" else ()),
        ),
        out=arguments.out or Path(tempfile.mkdtemp(prefix="autobahn-")),
        concurrency=arguments.concurrency,
        timeout=arguments.timeout,
        haproxy=shutil.which("haproxy") if arguments.http2 else None,
    )
    if arguments.http2 and options.haproxy is None:
        print("haproxy is not installed", file=sys.stderr)
        return 2
    if not Expected.load().chosen(options):
        print("no case of the suite is chosen", file=sys.stderr)
        return 2
    try:
        runner: Runner = Kosoku() if arguments.runner == "kosoku" else Wstest(arguments.cache)
    except ToolMissing as error:
        print(error, file=sys.stderr)
        return 2
    directions = list(DIRECTIONS) if arguments.mode == "both" else [arguments.mode]
    options.out.mkdir(parents=True, exist_ok=True)
    for index in options.out.glob("*/index.json"):
        index.unlink()  # the report of an earlier run must not be taken for this one's
    well = trio.run(run_directions, directions, runner, options)
    print(f"reports and logs: {options.out}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
