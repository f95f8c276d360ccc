"""``python -m trio_ws``: the same as the command ``trio-ws``."""

from __future__ import annotations

import sys

from ._cli import main

if __name__ == "__main__":
    sys.exit(main())
