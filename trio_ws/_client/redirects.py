"""Redirects: where a Location leads, whether a client follows, and what of the caller's it takes along.

1. A redirect is 301, 302, 303, 307 or 308 with one Location, read by WHATWG's rules for relative URLs.
2. It is followed so many times as the caller allows, and never from wss to ws.
3. Within one origin the caller's headers, its userinfo and its Origin are kept. Across origins they are its secrets:
   headers and userinfo stay behind, and a given Origin becomes "null", as in browsers (Fetch, "serializing a request
   origin"). They do not come back if a later redirect returns.
4. A Location with userinfo is refused: nobody but the caller chooses what the caller is known by.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .._exceptions import InvalidURL
from .._wire.headers import Headers
from .._wire.url import join_url

if TYPE_CHECKING:
    from .._exceptions import HandshakeRejected
    from .._wire.headers import HeadersLike
    from .._wire.url import WebSocketURL

MAX_REDIRECTS = 5

_STATUSES = (301, 302, 303, 307, 308)


def check_follow_redirects(value: int) -> None:
    """Check what a caller passed as ``follow_redirects``.

    Raises:
        ValueError: it is no whole number from 0 to 5.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_REDIRECTS:
        raise ValueError(f"follow_redirects={value!r}: it must be a whole number from 0 to {MAX_REDIRECTS}")


class _Refused(Exception):
    """Why a redirect is not followed."""


class RedirectState:
    """Where a call to open a WebSocket has got to.

    Args:
        url: where it begins.
        headers: the caller's.
        origin: the caller's, None if none.
        most: how many redirects may be followed.

    Attributes:
        url: where to ask now.
        headers: with which headers.
        origin: with which origin.

    Raises:
        TypeError: headers are no headers.
    """

    def __init__(self, url: WebSocketURL, headers: HeadersLike, origin: str | None, most: int) -> None:
        self.url = url
        self.headers = Headers(headers)
        self.origin = origin
        self._most = most
        self._followed = 0

    def goes_on(self, rejected: HandshakeRejected) -> bool:
        """Go where a rejection redirects to; if it is not followed, False, and a redirect is noted on it."""
        if rejected.status not in _STATUSES:
            return False
        try:
            self._follow(rejected)
        except _Refused as refused:
            rejected.add_note(f"the redirect was not followed: {refused}")
            return False
        return True

    def _follow(self, rejected: HandshakeRejected) -> None:
        if self._followed == self._most:
            raise _Refused(f"follow_redirects is {self._most}")
        locations = Headers(rejected.headers).get_all("Location")
        if len(locations) != 1:
            raise _Refused(f"it has {len(locations)} Location headers")
        try:
            url = join_url(self.url, locations[0])
        except InvalidURL:
            raise _Refused("its Location is not a WebSocket URL") from None
        if url.authorization is not None:
            raise _Refused("its Location has userinfo")
        if self.url.secure and not url.secure:
            raise _Refused("it leads from wss to ws")
        if url.origin == self.url.origin:
            url = replace(url, username=self.url.username, password=self.url.password)
        else:
            if self.origin is not None or "Origin" in self.headers:
                self.origin = "null"
            self.headers = Headers()
        self.url = url
        self._followed += 1
