"""The one place that chooses between ``_speedups.c`` and its twin in Python, :mod:`.pure`.

The extension is there if a compiler was when the package was built. ``TRIO_WS_PURE_PYTHON=1`` in the environment does
without it.
"""

from __future__ import annotations

import os

try:
    if os.environ.get("TRIO_WS_PURE_PYTHON", "") not in ("", "0"):
        raise ImportError("not wanted")
    from ._speedups import (
        apply_mask,
        fill,
        new_buffer,
        take_deflated,
        take_message,
        take_messages,
        weigh,
        write_frame,
        write_message,
    )
except ImportError:
    from .pure import (
        apply_mask,
        fill,
        new_buffer,
        take_deflated,
        take_message,
        take_messages,
        weigh,
        write_frame,
        write_message,
    )

COMPILED = apply_mask.__module__ != f"{__package__}.pure"

__all__ = (
    "COMPILED",
    "apply_mask",
    "fill",
    "new_buffer",
    "take_deflated",
    "take_message",
    "take_messages",
    "weigh",
    "write_frame",
    "write_message",
)
