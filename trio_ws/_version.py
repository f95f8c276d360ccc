"""The version of the package, and how its two sides name themselves in HTTP."""

from __future__ import annotations

__version__ = "0.1.0"

PRODUCT = f"trio_ws/{__version__}"
"""The default of User-Agent and Server (RFC 9110 §10.1.5 and §10.2.4)."""
