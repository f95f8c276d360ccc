"""What is left out of logs, of error messages and of a ``repr``: secrets in URLs and headers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .headers import Headers

_HIDDEN: Final = "<hidden>"
_MAX_PROTOCOL: Final = 40  # characters of a subprotocol: longer ones are tokens that had no other place

# RFC 3986's userinfo, and what applications call their secrets, in headers and in queries.
_USERINFO = re.compile(r"(?<=//)[^/?#\s]*@")
_SECRET_NAME = re.compile(
    r"auth|cookie|token|secret|passw|pwd|api.?key|access.?key|signature|^sig$|^key$|credential|session|jwt|ticket|^code$",
    re.IGNORECASE,
)
_QUERY = re.compile(r"\?([^#\s]*)")
_PROTOCOLS = re.compile(rf"[^,\s]{{{_MAX_PROTOCOL + 1},}}")


def hide_secrets_of_url(url: str) -> str:
    """Hide the userinfo of a URL, and the values in its query that have a secret's name or none."""
    return _QUERY.sub(lambda query: "?" + hide_secrets_of_query(query[1]), _USERINFO.sub("", url))


def hide_secrets_of_query(query: str) -> str:
    """Hide the values in a query that have a secret's name or none."""
    return "&".join(map(_hide_parameter, query.split("&")))


def _hide_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    if not equals:
        return parameter if len(parameter) <= _MAX_PROTOCOL else _HIDDEN
    return f"{name}={_HIDDEN}" if _SECRET_NAME.search(name) else parameter


def hide_secrets_of_headers(headers: Headers) -> list[tuple[str, str]]:
    """Hide the values of the headers that have a secret's name, and the secrets in URLs and subprotocols."""
    shown = []
    for name, value in headers.raw:
        if _SECRET_NAME.search(name):
            shown.append((name, _HIDDEN))
        elif name.lower() == "sec-websocket-protocol":
            shown.append((name, _PROTOCOLS.sub(_HIDDEN, value)))
        else:
            shown.append((name, hide_secrets_of_url(value)))
    return shown
