"""The masking of RFC 6455 §5.3: keys that nobody can guess; the XOR itself is in :mod:`.speedups`."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from .speedups import apply_mask

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("apply_mask", "new_mask", "rotate_mask")

_POOL_SIZE = 8192

_pool: Iterator[tuple[bytes]] = iter(())


def new_mask() -> bytes:
    """Return four bytes for one frame, from the system's source of randomness.

    They are drawn 8 KiB at a time, and each is used once; a forked child draws its own.

    Source: RFC 6455 §5.3 and §10.3.
    """
    global _pool
    for (mask,) in _pool:
        return mask
    _pool = struct.iter_unpack("4s", os.urandom(_POOL_SIZE))
    return new_mask()


def rotate_mask(mask: bytes, offset: int) -> bytes:
    """Return the mask as it stands after offset bytes of a payload, to go on in the middle of it."""
    shift = offset & 3
    return mask[shift:] + mask[:shift]


def _drop_pool() -> None:
    global _pool
    _pool = iter(())


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
    os.register_at_fork(after_in_child=_drop_pool)
