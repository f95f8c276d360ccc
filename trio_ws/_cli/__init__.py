"""The command ``trio-ws``: a demo, a client for the terminal and for pipes, an echo server, a bench.

Rules:

1. Exit status: 0 it went well, 1 it failed, 2 wrong arguments, 130 interrupted before it could end by itself.
2. An error is one line on standard error, never a traceback.
3. What a peer sends reaches the terminal escaped: :func:`.terminal.escape`.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import sys
from functools import partial
from typing import TYPE_CHECKING

import trio

from .. import __version__
from . import bench, connect, demo, serve
from .arguments import Parser
from .running import FAILED, INTERRUPTED, Failure, run_interruptible
from .terminal import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLES = """\
examples:
  trio-ws demo                            see what the library does
  trio-ws serve                           echo server on ws://127.0.0.1:8080/
  trio-ws connect ws://127.0.0.1:8080/    type lines, see what comes back
  echo hello | trio-ws connect ws://127.0.0.1:8080/
  trio-ws bench ws://127.0.0.1:8080/      how fast does it echo?
  trio-ws COMMAND --help                  every option of a command
"""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; what it parses has ``run`` and ``options``, see :func:`main`."""
    parser = Parser(
        prog="trio-ws",
        description="WebSocket for trio: a demo, a client, an echo server, a bench.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    versions = f"Python {platform.python_version()}, trio {trio.__version__}"
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__} ({versions})")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for command in (demo, connect, serve, bench):
        command.add_parser(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: those after the program's name; None: the process's.

    Returns:
        The exit status.

    Raises:
        SystemExit: ``--help``, ``--version``, or wrong arguments.
    """
    _prepare_streams()
    values = vars(build_parser().parse_args(arguments))
    name, run, make_options = (values.pop(key) for key in ("name", "run", "options"))
    try:
        status = trio.run(run_interruptible, partial(run, make_options(**values)))
        sys.stdout.flush()
    except Failure as failure:
        print(f"trio-ws {name}: {escape(str(failure))}", file=sys.stderr)
        return failure.status
    except BrokenPipeError:
        # Nobody reads our output any more. What is left in the buffer must not fail again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        print(f"trio-ws {name}: {escape(str(error))}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status == INTERRUPTED:
        print(file=sys.stderr)  # the terminal has written ^C
    return status


def _prepare_streams() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # It was closed when Python began. Opened now, it takes the lowest descriptor that is free, its own; or else
            # a socket would take it, and be written to.
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 is no reason to fail
