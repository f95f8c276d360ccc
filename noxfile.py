"""Every check of the project, each a session; ``nox`` alone runs the ones that need nothing but Python."""

from __future__ import annotations

import os
import re
import shutil
from itertools import chain
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests", "docs"]

PUBLIC_MODULES = (
    "_client/connect",
    "_server/request",
    "_websocket/base",
    "_websocket/websocket",
    "_websocket/websocket_stream",
)
PYPROJECT = nox.project.load_toml("pyproject.toml")
# Two processes: with more, what tests measure of memory and time would say more of the machine than of the library.
PYTEST = ("pytest", "-n", "2", "--dist", "worksteal", "-m", "not interop and not network")


def find_pythons() -> list[str]:
    """Name the interpreters of this machine that the package is for, oldest first; those of pyenv count too."""
    folder = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    # In front of pyenv's own commands, which know only the versions that are switched on.
    os.environ["PATH"] = os.pathsep.join([*map(str, sorted(folder.glob("3.*/bin"))), os.environ["PATH"]])
    versions = [line.rpartition(" ")[2] for line in PYPROJECT["project"]["classifiers"]]
    return [version for version in versions if re.match(r"3\.\d+$", version) and shutil.which(f"python{version}")]


PYTHONS = find_pythons()


def lower_bounds() -> list[str]:
    """Give the oldest releases that pyproject.toml allows, of what the package needs and of its extras."""
    project = PYPROJECT["project"]
    needed = chain(project["dependencies"], *project["optional-dependencies"].values())
    return [requirement.replace(">=", "==") for requirement in needed if ">=" in requirement]


def install(session: nox.Session, *groups: str) -> None:
    """Install the package with its extras, editable, and the named dependency groups."""
    session.install("-q", "-e", ".[testing,cli]", *nox.project.dependency_groups(PYPROJECT, *groups))


@nox.session
def lint(session: nox.Session) -> None:
    """Format, lint and spelling; flake8 only for what ruff's ASYNC rules pass, trio's checkpoint rule above all."""
    session.install("-q", *nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "format", "--check")
    session.run("ruff", "check")
    session.run(
        "flake8",
        "--select=ASYNC1,ASYNC2",
        "--startable-in-context-manager=serve_websocket,serve_over_link,_run,run,_hold",
        "--transform-async-generator-decorators=scope",
        "trio_ws",
    )
    # Only what users await must be a checkpoint on every path; inside, the one await that matters is enough.
    session.run("flake8", "--select=ASYNC910,ASYNC911", *(f"trio_ws/{name}.py" for name in PUBLIC_MODULES))
    session.run("codespell")


@nox.session
def types(session: nox.Session) -> None:
    """The package, its tests and its examples under mypy --strict; and what users' type checkers see, under pyright."""
    install(session, "types")
    session.run("mypy", *session.posargs)
    session.run("mypy", "--platform", "win32", "trio_ws")  # it has less than what these machines have
    # Pyright finds the package where it is only if it is in a path of its own.
    session.install("-q", "--no-deps", "--config-settings=editable_mode=compat", "-e", ".")
    session.run("basedpyright", "--verifytypes", "trio_ws", "--ignoreexternal")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests that need nothing but Python, with branch coverage."""
    install(session, "test")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", *PYTEST, *session.posargs)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report")


@nox.session(python=PYTHONS)
@nox.parametrize("dependencies", ["oldest", "newest"])
def pythons(session: nox.Session, dependencies: str) -> None:
    """The same tests on each Python of this machine, with the oldest dependencies that are allowed and the newest.

    Each takes ten minutes or more: `nox -s "pythons-3.13(dependencies='oldest')" -- -x tests/wire` runs some of one.
    """
    options = ["--upgrade", "--upgrade-strategy=eager"]
    if dependencies == "oldest":
        # Not in the session's own folder for files: its path is too long for the Unix sockets of the tests.
        constraints = Path(session.virtualenv.location) / "constraints.txt"
        constraints.write_text("\n".join(lower_bounds()))
        options = ["-c", str(constraints)]
    session.install("-q", *options, "-e", ".[testing,cli]", *nox.project.dependency_groups(PYPROJECT, "test"))
    session.run("python", "-m", *PYTEST, *session.posargs)


@nox.session(python=PYTHONS[:1])
def abi(session: nox.Session) -> None:
    """The wheel that the newest Python of this machine builds, on the oldest."""
    folder = Path(session.create_tmp()).resolve()
    shutil.rmtree(folder)
    builder = folder / "builder"
    session.run(f"python{PYTHONS[-1]}", "-m", "venv", str(builder), external=True)
    python = str(builder / ("Scripts" if os.name == "nt" else "bin") / "python")
    session.run(python, "-m", "pip", "install", "-q", "build", external=True)
    session.run(python, "-m", "build", "--outdir", str(folder), external=True)  # the sdist, and the wheel from it
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    session.install("-q", "--force-reinstall", "--no-deps", str(wheel))
    session.install("-q", str(wheel), *nox.project.dependency_groups(PYPROJECT, "test"))
    shutil.unpack_archive(sdist, folder, filter="data")
    session.chdir(folder / sdist.name.removesuffix(".tar.gz"))
    shutil.rmtree("trio_ws")  # the tests come from here, the package from the wheel
    session.run("python", "-c", "from trio_ws._wire.speedups import COMPILED; assert COMPILED")
    session.run("pytest", "-q", "tests/wire", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation, every warning an error."""
    install(session, "docs")
    session.run("sphinx-build", "-q", "-E", "-W", "-n", "--keep-going", "docs", "docs/_build")


@nox.session
def demo(session: nox.Session) -> None:
    """What a user gets: the built package, and its demo."""
    session.install("-q", ".[cli]")
    session.run("trio-ws", "demo")


@nox.session
def interop(session: nox.Session) -> None:
    """The tests against peers from outside Python; ``.ci/run`` installs the programs that they need."""
    install(session, "test", "interop")
    session.run("pytest", "-m", "interop", *session.posargs)


@nox.session
def network(session: nox.Session) -> None:
    """The tests over bad networks, in namespaces of their own: needs Linux, root, iproute2 and /dev/net/tun."""
    install(session, "test")
    session.run("pytest", "-m", "network", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Look for inputs that break an invariant: `nox -s fuzz -- 600 frames url`, each so many seconds; 60 and all."""
    install(session, "test", "fuzz")
    seconds, *names = session.posargs or ["60"]
    for name in names or sorted(path.stem.removeprefix("fuzz_") for path in Path("tests/fuzz").glob("fuzz_*.py")):
        session.run("python", "-m", "tests.fuzz", name, f"-max_total_time={seconds}")


@nox.session
def autobahn(session: nox.Session) -> None:
    """Autobahn's cases against our client and our server; with ``-- --http2`` through HAProxy, HTTP/2 on our side."""
    install(session, "autobahn")
    session.run("python", "-m", "tests.interop.run_autobahn", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """CPU time beside other libraries; `nox -s bench -- echo flood` measures some groups, `-- --help` tells more."""
    install(session, "bench")
    session.run("python", "-m", "tests.benchmarks", *session.posargs)
