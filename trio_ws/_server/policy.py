"""What a server demands of a request before anybody sees it, and whom it takes for its client."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .._wire.handshake import Refusal, check_origin
from .._wire.url import split_authority
from .forwarded import Contradiction

if TYPE_CHECKING:
    from .._options import Origins
    from .._transport import Transport
    from .._wire.handshake import OpeningRequest
    from .._wire.headers import Headers
    from .forwarded import TrustedProxies
    from .hosts import HostCheck

logger = logging.getLogger("trio_ws.server")


class RequestPolicy:
    """Judges requests by the options ``hosts``, ``origins`` and ``trusted_proxies``.

    Args:
        hosts: checks which host a request is for.
        origins: whose pages may open WebSockets.
        trusted_proxies: whose word counts on who the client is.
        secure: the server speaks TLS.
    """

    def __init__(self, hosts: HostCheck, origins: Origins, trusted_proxies: TrustedProxies, *, secure: bool) -> None:
        self._hosts = hosts
        self._origins = origins
        self._trusted_proxies = trusted_proxies
        self._secure = secure
        self._told_of_host = False
        self._told_of_contradiction = False

    def admit(self, transport: Transport, request: OpeningRequest) -> OpeningRequest:
        """Check a request for a WebSocket, and return it as the client has sent it to the first trusted proxy.

        Raises:
            Refusal: 421 for its host, 403 for its origin.
        """
        told = self._see_through_proxies(transport, request.headers)
        self.check_host(request.host)
        check_origin(request, self._origins, https_only=told is True)
        return request if told is None else request._replace(secure=told)

    def scheme(self, transport: Transport, headers: Headers) -> str:
        """Tell by which scheme a plain request came, as :meth:`admit` does it."""
        told = self._see_through_proxies(transport, headers)
        return "https" if (self._secure if told is None else told) else "http"

    def check_host(self, authority: str) -> None:
        """Check the ``host[:port]`` that a request is for, "" if it names none.

        Raises:
            Refusal: 400 if it is malformed (RFC 9112 §3.2), 421 if it is not served here.
        """
        try:
            taken = self._hosts.takes(*(split_authority(authority) if authority else ("", None)))
        except ValueError:
            raise Refusal(400, "Host must be valid.") from None
        if not taken:
            if not self._told_of_host:
                self._told_of_host = True
                logger.warning(
                    "refused a request for the host %.256r: if it is this server's, name it in the option hosts, "
                    "by --allow-host for trio-ws serve (of such requests no more is told)",
                    authority,
                )
            raise Refusal(421, "This server is not known by that host name.")  # RFC 9110 §15.5.20

    def _see_through_proxies(self, transport: Transport, headers: Headers) -> bool | None:
        """Have the transport tell the client's address; return whether the client connected by TLS, None: unknown."""
        peer = transport.remote_address
        try:
            client = self._trusted_proxies.client_of(peer, headers)
        except Contradiction:
            if not self._told_of_contradiction:
                self._told_of_contradiction = True
                logger.warning(
                    "Forwarded and X-Forwarded-For contradict each other, and neither is believed: have the proxy "
                    "%.256r remove the one that it does not write (of such requests no more is told)",
                    peer,
                )
            return None
        if client.address is not None:
            transport.set_remote_address(client.address)
        return client.secure
