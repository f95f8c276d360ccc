"""The file that keeps what was typed, between runs of ``trio-ws connect``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_BYTES = 2**20
_KEPT_BYTES = 2**19


def history_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Tell where the file is: in the user's folder for state, as the XDG Base Directory Specification names it."""
    if sys.platform == "win32":
        state = environment.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        state = environment.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "trio-ws" / "history"


def prepare_history(path: Path) -> bool:
    """Make sure of a file that can be written, that only its owner reads, and that does not grow for ever.

    Returns:
        False if there can be none: nothing is kept then.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        if path.stat().st_size > _MOST_BYTES:
            # An entry begins with an empty line, and "# " with its time.
            newest = path.read_bytes()[-_KEPT_BYTES:]
            path.write_bytes(newest[max(0, newest.find(b"\n# ")) :])
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return False
    return True
