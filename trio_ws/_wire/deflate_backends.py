"""The libraries that compress and inflate: zlib, and isal where it is installed.

Both give the same methods, and either reads what the other writes. They differ in this:

* isal knows three levels that compress; :meth:`DeflateBackend.choose_compressor` says which of zlib's they stand for.
  As small as zlib's levels 7 to 9 it cannot write, so these stay zlib's.
* isal's streams hold 64 KiB of history, whatever the window, and tables besides: 165 KiB to compress and 85 to inflate,
  where zlib takes 38 and 11. Its memory levels save nothing worth having, so there is but one.
* isal neither writes nor reads with a window of 2**8 bytes; one of 2**9 reads what was written with that.
"""

from __future__ import annotations

import os
import warnings
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, cast

try:
    from isal import isal_zlib
except ImportError:  # the extra "speed" was not asked for
    isal_zlib = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE: Final = "TRIO_WS_DEFLATE"  # of the environment: a backend for all who do not name one

_MIN_WINDOW_BITS = 9
_ISAL_MEMORY_LEVEL = 2  # with 1 it takes 60 KiB less, and a third longer; with 8 190 KiB more, and no less time
_ISAL_LEVELS = {1: 1, 2: 1, 3: 1, 4: 3, 5: 3, 6: 3}  # what writes about as much in less time


class Compressor(Protocol):
    """A stream that compresses."""

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes:
        """Take more, give what can be written now."""

    def flush(self, mode: int, /) -> bytes:
        """Give the rest."""


class Decompressor(Protocol):
    """A stream that inflates."""

    @property
    def eof(self) -> bool:
        """Whether the final block has ended."""

    @property
    def unused_data(self) -> bytes:
        """What came after that."""

    @property
    def unconsumed_tail(self) -> bytes:
        """What was not looked at, as there was enough output."""

    def decompress(self, data: bytes | bytearray | memoryview, max_length: int, /) -> bytes:
        """Take more, give at most so many bytes, or all with 0."""


@dataclass(frozen=True, slots=True)
class DeflateBackend:
    """One library.

    Attributes:
        name: as ``Compression.backend`` names it.
        open_compressor: of window bits, zlib's level, memory level and the bytes that may be referred to.
        open_decompressor: of window bits and the bytes that may be referred to.
        error: what it raises for data that is no deflate.
        levels: those of zlib that it has an equal to.
        most_compressing: streams that a thread keeps open between messages (:mod:`.open_streams`).
        most_inflating: likewise.
    """

    name: str
    open_compressor: Callable[[int, int, int, bytes], Compressor]
    open_decompressor: Callable[[int, bytes], Decompressor]
    error: type[Exception]
    levels: range
    most_compressing: int
    most_inflating: int

    def choose_compressor(self, level: int) -> DeflateBackend:
        """Give what compresses at a level: this, or zlib where this has none."""
        return self if level in self.levels else ZLIB


def _open_zlib_compressor(window_bits: int, level: int, memory_level: int, window: bytes) -> Compressor:
    if window:
        return zlib.compressobj(level, zlib.DEFLATED, -window_bits, memory_level, zlib.Z_DEFAULT_STRATEGY, window)
    return zlib.compressobj(level, zlib.DEFLATED, -window_bits, memory_level)


def _open_zlib_decompressor(window_bits: int, window: bytes) -> Decompressor:
    return zlib.decompressobj(-window_bits, window) if window else zlib.decompressobj(-window_bits)


def _open_isal_compressor(window_bits: int, level: int, memory_level: int, window: bytes) -> Compressor:
    options = (_ISAL_LEVELS[level], isal_zlib.DEFLATED, -window_bits, _ISAL_MEMORY_LEVEL)
    return isal_zlib.compressobj(*options, zdict=window) if window else isal_zlib.compressobj(*options)


def _open_isal_decompressor(window_bits: int, window: bytes) -> Decompressor:
    bits = -max(window_bits, _MIN_WINDOW_BITS)
    return isal_zlib.decompressobj(bits, window) if window else isal_zlib.decompressobj(bits)


ZLIB: Final = DeflateBackend(
    "zlib",
    _open_zlib_compressor,
    _open_zlib_decompressor,
    zlib.error,
    range(1, 10),
    most_compressing=128,
    most_inflating=16,
)
BACKENDS: Final = {"zlib": ZLIB}
if isal_zlib is not None:
    BACKENDS["isal"] = DeflateBackend(
        "isal",
        _open_isal_compressor,
        _open_isal_decompressor,
        cast("type[Exception]", isal_zlib.error),
        range(1, 7),
        most_compressing=32,
        most_inflating=1,
    )
BEST: Final = BACKENDS.get("isal", ZLIB)


def choose_backend(wanted: str | None) -> DeflateBackend:
    """Choose what compresses and inflates for a connection.

    Args:
        wanted: the name of one that is installed; None leaves it to the environment, and else to what is installed.
    """
    if wanted is not None:
        return BACKENDS[wanted]
    named = os.environ.get(VARIABLE, "")
    if named and named not in BACKENDS:
        warnings.warn(f"{VARIABLE}={named}: not one of {', '.join(BACKENDS)}, so {BEST.name} is used", stacklevel=2)
    return BACKENDS.get(named, BEST)
