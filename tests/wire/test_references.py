"""No call of the C extension keeps a reference, loses one or gives one away that it did not take.

None counts above all: it is not immortal in Python 3.11, and one that is freed ends the process. ``nox -s abi`` runs
this on the oldest Python with the wheel that the newest one builds.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("trio_ws._wire._speedups") is None, reason="no compiler when the package was built"
)

CALLS = 2000
SLACK = 200  # references that others may take or leave meanwhile: a cache of the interpreter's, say
MASK = bytes.fromhex("37fa213d")
LONG = bytes(range(256)) * 20
LONG_TEXT = "\u00e9" * 2000


class Refusing:
    """What has no room for a message."""

    def __len__(self) -> int:
        raise OverflowError("no length")


# Every way through every function: what is returned, and what is raised.
ARGUMENTS: list[tuple[str, tuple[object, ...]]] = [
    ("apply_mask", (LONG, MASK)),
    ("apply_mask", (bytearray(LONG), MASK)),
    ("apply_mask", (LONG, b"123")),
    ("apply_mask", (LONG, None)),
    ("apply_mask", (None, MASK)),
    ("apply_mask", (LONG,)),
    ("write_frame", (0x82, LONG, None)),
    ("write_frame", (0x82, memoryview(LONG), MASK)),
    ("write_frame", (0x82, b"", None)),
    ("write_frame", (0x82, None, None)),
    ("write_frame", (None, LONG, None)),
    ("write_frame", (0x182, LONG, None)),
    ("write_frame", (0x82, LONG, b"123")),
    ("write_message", (LONG_TEXT, MASK)),
    ("write_message", (LONG, None)),
    ("write_message", ("\ud800", None)),
    ("write_message", (None, None)),
    ("write_message", (LONG, b"123")),
    ("new_buffer", (1000,)),
    ("new_buffer", (1,)),
    ("new_buffer", (None,)),
    ("fill", (bytes(1000), 0, LONG, 0, 1000, None)),
    ("fill", (bytes(1000), 0, LONG, 0, 1000, MASK)),
    ("fill", (bytes(1000), 0, LONG, 0, 1001, None)),
    ("fill", (bytes(1000), 0, None, 0, 0, None)),
    ("fill", (bytes(1000), None, LONG, 0, 0, None)),
    ("weigh", (LONG,)),
    ("weigh", (LONG_TEXT,)),
    ("weigh", (None,)),
    ("weigh", (Refusing(),)),
    ("take_message", (b"\x82\x03abc", 0, 1000)),
    ("take_message", (b"\x81\x03abc", 0, 1000)),
    ("take_message", (b"\x81\x83" + MASK + b"abc", 0x80, 1000)),
    ("take_message", (b"\x82\x83" + MASK + b"abc", 0x80, 1000)),
    ("take_message", (b"\x81\xfe\x08\x00" + MASK + bytes(2048), 0x80, 5000)),  # longer than the stack's share
    ("take_message", (b"", 0, 1000)),
    ("take_message", (b"\x81\x01\xff", 0, 1000)),  # no UTF-8
    ("take_message", (b"\x82\x03abc\x82", 0, 1000)),
    ("take_message", (b"\x02\x03abc", 0, 1000)),
    ("take_message", (None, 0, 1000)),
    ("take_message", (b"", None, 1000)),
    ("take_deflated", (b"\xc2\x03abc", 0, 0)),
    ("take_deflated", (b"\xc1\x83" + MASK + b"abc", 0, 0x80)),
    ("take_deflated", (b"\x81\x03abc", 0, 0)),
    ("take_deflated", (b"", 0, 0)),
    ("take_deflated", (b"", 1, 0)),
    ("take_deflated", (None, 0, 0)),
    ("take_messages", (b"\x82\x03abc\x81\x03abc", 0, 0, 1000, 256, 1e6, None)),
    ("take_messages", (b"\x82\x03abc\x81\x01\xff", 0, 0, 1000, 256, 1e6, None)),
    ("take_messages", (b"\x89\x00", 0, 0, 1000, 256, float("inf"), None)),
    ("take_messages", (b"\x82\x00", 3, 0, 1000, 256, 1e6, None)),
    ("take_messages", (b"\x82\x00", 0, None, 1000, 256, 1e6, None)),
    ("take_messages", (b"\x82\x00", 0, 0, 1000, 256, 1e6, ())),
]


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    """The extension."""
    return importlib.import_module("trio_ws._wire._speedups")


def count(objects: tuple[object, ...]) -> list[int]:
    """Count the references to each."""
    return [sys.getrefcount(one) for one in objects]


def call(module: ModuleType, name: str, arguments: tuple[object, ...], times: int) -> None:
    """Call a function again and again, with a list of its own where it appends to one."""
    function = getattr(module, name)
    for _ in range(times):
        try:
            if name == "take_messages" and arguments[6] is None:
                function(*arguments[:6], [])
            else:
                function(*arguments)
        except (TypeError, ValueError, OverflowError, SystemError):
            pass


@pytest.mark.parametrize(("name", "arguments"), ARGUMENTS)
def test_a_call_leaves_every_reference_as_it_was(
    compiled: ModuleType, name: str, arguments: tuple[object, ...]
) -> None:
    watched = (*arguments, None, True, False, NotImplemented, Ellipsis)
    # What is left over of None, by a call that gives it away, must last until it is noticed.
    spare = [None] * (2 * CALLS)
    call(compiled, name, arguments, SLACK)
    references, blocks = count(watched), sys.getallocatedblocks()
    call(compiled, name, arguments, CALLS)
    assert sys.getallocatedblocks() - blocks < SLACK
    changes = [abs(after - before) for after, before in zip(count(watched), references, strict=True)]
    assert max(changes) < SLACK, dict(zip(map(repr, watched), changes, strict=True))
    assert len(spare) == 2 * CALLS
