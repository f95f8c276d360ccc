"""What the commands' argument parsers share."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, NoReturn, TypeVar

from .. import Compression, Limits
from .running import WRONG_USAGE
from .terminal import escape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .running import Interrupts

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

Options = TypeVar("Options")


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """End the program with one line."""
        self.exit(WRONG_USAGE, f"{self.prog}: {escape(message)} (see {self.prog} --help)\n")


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[Options, Interrupts], Awaitable[int]],
    options: Callable[..., Options],
    *,
    summary: str,
    description: str,
) -> argparse.ArgumentParser:
    """Add a command whose arguments, by their names, make the options that ``run`` takes."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(name=name, run=run, options=options)
    return parser


def add_shared_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that ``connect`` and ``serve`` share."""
    parser.add_argument(
        "--protocol",
        action="append",
        default=[],
        metavar="NAME",
        dest="protocols",
        help="subprotocol to speak; may be repeated, the preferred first",
    )
    parser.add_argument(
        "--max-size",
        type=whole_number,
        default=Limits().max_message_size,
        metavar="BYTES",
        help="largest message to receive, after decompression (default %(default)s); a larger one closes with 1009",
    )
    parser.add_argument(
        "--no-compression",
        action="store_const",
        const=None,
        default=Compression(),
        dest="compression",
        help="do not negotiate permessage-deflate",
    )


def whole_number(text: str) -> int:
    """Parse a number of bytes."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def port_number(text: str) -> int:
    """Parse a TCP port."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a whole number from 0 to 65535")
    return int(text)


def seconds(text: str) -> float:
    """Parse a number of seconds, ``inf`` among them."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0:  # nan is not
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 on")
    return value


def header(text: str) -> tuple[str, str]:
    """Parse a header; the value may be a secret, so errors do not show it."""
    name, colon, value = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError("a header is written 'Name: value', with a colon")
    return name, value.strip(" \t")
