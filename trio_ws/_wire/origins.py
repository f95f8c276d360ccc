"""Which origins a server takes: the defence against cross-site WebSocket hijacking (RFC 6455 §10.2, RFC 6454).

A browser says in Origin whose page opens the WebSocket, and sends that user's cookies with it. SAME_ORIGIN takes a
request whose Origin has the host and the port that the request is for. The scheme is left out of the comparison, for
behind a proxy that ends TLS the request is plain while the page is https; and for the same reason a port that Host
leaves out is the default of the *Origin's* scheme: only the browser knows which one it connected to. What this takes
beyond the same origin in the strict sense is a page from the same host over the other scheme, both at default ports.
Where a trusted proxy tells that the browser connected by TLS, a page that came without is refused: anybody in its way
can have written it. The other way round is taken, since many a proxy behind a proxy says http of all it gets.

A client that is no browser can put anything into Origin. This check protects users of browsers, not the server.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .._options import SAME_ORIGIN, Origins
from .opening import Refusal
from .url import DEFAULT_PORTS, split_authority

if TYPE_CHECKING:
    from .opening import OpeningRequest

_SECURE_SCHEMES = ("https", "wss")
_SCHEME = frozenset(string.ascii_lowercase + string.digits + "+-.")


def check_origins(origins: Origins | Iterable[str | None]) -> Origins:
    """Check the ``origins`` that a caller passes.

    Args:
        origins: SAME_ORIGIN; origins as browsers send them, "https://example.com" or "https://example.com:8443", and
            None among them for a request without Origin; or None for any.

    Raises:
        TypeError: it is neither of these; one str alone is not an iterable of origins.
        ValueError: an entry is no origin: it has a path, say, or no scheme.
    """
    if origins is None or origins is SAME_ORIGIN:
        return origins
    if isinstance(origins, str | bytes) or not isinstance(origins, Iterable):
        raise TypeError(f"origins must be SAME_ORIGIN, None or an iterable of origins, not {origins!r}")
    checked = tuple(origins)
    for origin in checked:
        if origin is None:
            continue
        if not isinstance(origin, str):
            raise TypeError(f"origins: {origin!r} must be a str or None, not {type(origin).__name__}")
        try:
            _parse_origin(origin)
        except ValueError:
            raise ValueError(f"origins: {origin!r} must be scheme://host or scheme://host:port") from None
    return checked


def check_origin(request: OpeningRequest, origins: Origins, *, https_only: bool = False) -> None:
    """Check the Origin of a request against what the server takes.

    Args:
        request: as it was read.
        https_only: it is known that the browser connected by TLS, so a page that came without is of another origin.
        origins: as ``check_origins`` returned it. A tuple is compared by scheme, host and port, in any case, a
            default port left out or not; "null" must be listed to be taken.

    Raises:
        Refusal: 403.
    """
    if origins is None:
        return
    if origins is not SAME_ORIGIN:
        taken = _is_listed(request.origin, origins)
    else:
        taken = request.origin is None or _is_same_origin(request.origin, request.host, https_only=https_only)
    if not taken:
        raise Refusal(403, "This origin may not open a WebSocket here.")


def _is_listed(origin: str | None, origins: tuple[str | None, ...]) -> bool:
    if origin is None:
        return None in origins
    try:
        wanted = _parse_origin(origin)
    except ValueError:
        return False
    return any(_parse_origin(entry) == wanted for entry in origins if entry is not None)


def _is_same_origin(origin: str, authority: str, *, https_only: bool) -> bool:
    try:
        scheme, host, port = _parse_origin(origin)
    except ValueError:
        return False
    own_host, own_port = split_authority(authority)
    if scheme not in (_SECURE_SCHEMES if https_only else DEFAULT_PORTS):
        return False
    return (host, port) == (own_host, own_port or DEFAULT_PORTS[scheme])


def _parse_origin(text: str) -> tuple[str, str, int | None]:
    """Split an origin into scheme, host and port, the scheme's default if it is left out; None if there is none."""
    if text == "null":
        return text, "", None
    scheme, separator, authority = text.partition("://")
    scheme = scheme.lower()
    # RFC 3986 lets a name have an asterisk, but whoever writes one here means a pattern, and there are none.
    if not separator or not scheme or not _SCHEME.issuperset(scheme) or "*" in authority:
        raise ValueError(f"{text!r} is no origin")
    if not authority and scheme not in DEFAULT_PORTS:
        # Some web views send "file://" for a page of the application itself.
        return scheme, "", None
    host, port = split_authority(authority)
    return scheme, host, port or DEFAULT_PORTS.get(scheme)
