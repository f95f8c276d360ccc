"""How Sphinx builds the documentation; nothing here needs the network."""

from __future__ import annotations

project = "trio_ws"
author = "the trio_ws authors"
project_copyright = "2026, the trio_ws authors"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib_trio", "myst_parser"]
exclude_patterns = ["_build", "examples"]

default_role = "any"
highlight_language = "python3"
html_theme = "furo"
html_title = "trio_ws"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

# Their inventories are on the network, and the build is not: these names stay without a link.
nitpick_ignore_regex = [(r"py:.*", r"(collections|contextlib|os|socket|ssl|trio|trio_ws\.compat|types|typing)\..*")]

# Type aliases: what they stand for is said at each argument. And what only the author of a dispatcher meets.
nitpick_ignore = [
    ("py:class", name)
    for name in (
        *("ClientKeywords", "Origins", "ServerKeywords"),
        *("AgentKeywords", "Agreement", "ClientHandshake", "Progress", "Transport"),
        *("AbstractAsyncContextManager", "CloseReason", "Data", "Endpoint", "ExtraHeaders", "ServeKeywords"),
        *("SharedKeywords", "WebSocketConnection"),
    )
]
nitpick_ignore.append(("py:exc", "DisconnectionTimeout"))
