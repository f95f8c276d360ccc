"""How Sphinx builds the documentation; nothing here needs the network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx import addnodes
from sphinx.directives.code import LiteralInclude

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "trio_ws"
author = "the trio_ws authors"
project_copyright = "2026, the trio_ws authors"

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib_trio", "myst_parser", "sphinx_copybutton"]
exclude_patterns = ["_build", "examples"]

default_role = "any"
highlight_language = "python3"
html_theme = "furo"
html_title = "trio_ws"

copybutton_exclude = ".linenos, .gp, .go"  # a command without its prompt, and without what it prints

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

# Their inventories are on the network, and the build is not: these names stay without a link.
nitpick_ignore_regex = [(r"py:.*", r"(collections|contextlib|os|socket|ssl|trio|trio_ws\.compat|types|typing)\..*")]

# Type aliases: what they stand for is said at each argument. And what only the author of a dispatcher meets.
nitpick_ignore = [
    ("py:class", name)
    for name in (
        *("ClientKeywords", "Origins", "ServerKeywords"),
        *("AgentKeywords", "Agreement", "ClientHandshake", "Progress", "Reactor", "Transport"),
        *("AbstractAsyncContextManager", "CloseReason", "Data", "Endpoint", "ExtraHeaders", "ServeKeywords"),
        *("SharedKeywords", "WebSocketConnection"),
    )
]
nitpick_ignore.append(("py:exc", "DisconnectionTimeout"))

# Defaults that are options have defaults of their own, each described where the option is.
_OPTIONS = re.compile(r"\b(Backoff|Compression|Keepalive|Limits)\([^()]*\)")


def shorten_defaults(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Write ``Limits()`` in a signature, and not all of its fields."""
    return signature and _OPTIONS.sub(r"\1()", signature), returns


class DownloadableInclude(LiteralInclude):
    """``literalinclude`` with a link to the file below the code."""

    def run(self) -> list[nodes.Node]:
        """Make the nodes."""
        relative, path = self.env.relfn2path(self.arguments[0])
        name = nodes.literal(text=Path(path).name)
        link = addnodes.download_reference("", "", name, reftarget=f"/{relative}")
        return [*super().run(), nodes.paragraph("", "", nodes.Text("Download "), link)]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("literalinclude", DownloadableInclude, override=True)
    app.connect("autodoc-process-signature", shorten_defaults)
