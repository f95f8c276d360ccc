"""Dispatchers that go through proxies: one that is told which, and one that asks the environment."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self, TypedDict
from urllib.request import getproxies_environment

from .._net.dial import check_ssl_context
from .._net.proxy import Proxy, check_socks_extra, dial_through
from .._websocket.instrument import Instruments
from .._wire.handshake import check_headers
from .._wire.headers import Headers, check_header
from .._wire.url import join_authority, parse_proxy_url
from .agent import Agent, Dispatcher
from .no_proxy import NoProxy

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Unpack

    from .._net.http2.frame_reader import Http2Statistics
    from .._transport import Transport
    from .._websocket.instrument import Instrument
    from .._websocket.start import Opened
    from .._wire.headers import HeadersLike
    from .._wire.url import ProxyURL
    from .agent import ConnectRequest


class AgentKeywords(TypedDict, total=False):
    """The keyword arguments of :class:`Agent` that make sense through a proxy."""

    allow_h2: bool
    h2_prior_knowledge: bool
    ssl_context: ssl.SSLContext | None
    max_concurrent_streams: int
    connect_to: tuple[str, int] | None
    server_hostname: str | None
    source_address: tuple[str, int] | None
    instruments: Iterable[Instrument]


class ProxyAgent(Agent):
    """Connects to the server through a proxy: by CONNECT through HTTP proxies, for ``ws`` too, or by SOCKS 5.

    TLS to the server is verified against the server's name, as without a proxy, and the proxy sees its bytes only.
    Names are resolved by the proxy. The credentials are sent to the proxy alone, and are in no repr, error or log.

    Args:
        url: the proxy: ``http://``, ``https://`` (TLS to the proxy itself, on top of that to the server) or
            ``socks5://`` (``socks5h://`` and ``socks://`` are the same), which needs the extra ``trio-ws[socks]``.
            Without a scheme it is taken as ``http://``. The default ports are 80, 443 and 1080. User name and password
            become Basic authorization, or the user name and password of SOCKS.
        token: the whole value of Proxy-Authorization, ``"Bearer ..."`` say, in place of a user name in the URL.
        headers: what else to send with CONNECT, a User-Agent say, in place of ``user_agent_header``.
        proxy_ssl_context: for ``https://`` proxies; the default verifies the proxy against the system's authorities.
        options: the keyword arguments of :class:`Agent` but ``socket_path``. ``connect_to`` is what the proxy is asked
            for, ``source_address`` where to connect to the proxy from.

    Raises:
        InvalidURL: url breaks a rule.
        TypeError: an argument has the wrong type.
        ValueError: an argument breaks its rule; there are two kinds of credentials; or SOCKS is given what it cannot
            carry: a token, headers, a user name or password that is missing, over 255 bytes or not ASCII.
        ImportError: python-socks is missing.

    Opening a WebSocket raises :class:`ProxyError` when the proxy refuses or misbehaves, :class:`ProxyTimeout` when it
    lets ``connect_timeout`` pass, and OSError or ssl.SSLError, with a note, when it cannot be reached or verified.

    Source: undici's ``ProxyAgent``; RFC 9110 §9.3.6, RFC 1928, RFC 1929.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        headers: HeadersLike = (),
        proxy_ssl_context: ssl.SSLContext | None = None,
        **options: Unpack[AgentKeywords],
    ) -> None:
        if "socket_path" in options:
            raise TypeError("socket_path: a proxy connects by TCP")
        super().__init__(**options)
        check_ssl_context(proxy_ssl_context)
        address = parse_proxy_url(url)
        sent = _check_proxy_headers(headers, token)
        if address.scheme == "socks5":
            _check_socks(address, sent)
        elif address.authorization is not None:
            if token is not None:
                raise ValueError("token must not be passed beside a user name or password in url")
            sent.append(("Proxy-Authorization", address.authorization))
        self._proxy = Proxy(url=address, headers=Headers(sent), ssl_context=proxy_ssl_context)

    def __repr__(self) -> str:
        return f"<ProxyAgent {self._proxy.url}>"

    async def _connect(self, request: ConnectRequest) -> Transport:
        host, port = self._target(request)
        proxy = request.progress.proxy = str(self._proxy.url)
        transport, headers = await dial_through(
            self._proxy,
            host,
            port,
            request.limits,
            source_address=self._source(request),
            user_agent=request.handshake.user_agent,
        )
        request.progress.proxy = None
        instruments = Instruments((*request.instruments, *self._instruments))
        authority = join_authority(host, port)
        instruments.tell(lambda instrument: instrument.proxy_connected(proxy, authority, headers))
        return transport


def _check_proxy_headers(headers: HeadersLike, token: str | None) -> list[tuple[str, str]]:
    given = Headers(headers)
    if "Proxy-Authorization" in given:
        raise ValueError("headers must not have 'Proxy-Authorization': pass its value as token")
    if "Host" in given:
        raise ValueError("headers must not have 'Host': CONNECT names the server")
    sent = [*check_headers(given).raw]
    if token is not None:
        if not isinstance(token, str):
            raise TypeError(f"token must be a str or None, not {type(token).__name__}")
        check_header("Proxy-Authorization", token)
        sent.append(("Proxy-Authorization", token))
    return sent


def _check_socks(url: ProxyURL, headers: list[tuple[str, str]]) -> None:
    if headers:
        raise ValueError("token and headers are for HTTP proxies: SOCKS cannot carry them")
    # RFC 1929 §2: one byte for each length, and neither may be empty.
    if (url.username or url.password) and not all(
        text.isascii() and 1 <= len(text) <= 255 for text in (url.username, url.password)
    ):
        raise ValueError("the user name and the password of a SOCKS proxy must be 1 to 255 ASCII characters each")
    check_socks_extra()


class _UnusableProxy(Dispatcher):
    """A proxy that the environment names in a way that cannot be used; opening a WebSocket through it raises.

    Args:
        name: the variable.
        error: what is wrong with its value.
    """

    def __init__(self, name: str, error: ValueError | ImportError) -> None:
        self._kind = type(error)
        self._text = f"{name}: {error}"

    def error(self) -> ValueError | ImportError:
        """Make the exception, a new one each time."""
        return self._kind(self._text)

    async def open(self, request: ConnectRequest) -> Opened:
        raise self.error()

    async def __aexit__(self, *args: object) -> None:
        """Do nothing: there is nothing to close."""


class EnvHttpProxyAgent(Dispatcher):
    """Connects as the environment says: through ``http_proxy``, ``https_proxy`` or ``all_proxy``, or straight.

    * ``ws`` goes through ``http_proxy``, else ``all_proxy``. ``wss`` goes through ``https_proxy``, else ``all_proxy``,
      else ``http_proxy``. Without any, the connection is straight.
    * ``no_proxy`` names hosts that are reached straight, between commas or spaces: ``example.com``, ``.example.com``
      or ``*.example.com`` for a domain and all below it, an IP address, a network as in ``10.0.0.0/8``, each with
      ``:port`` if only that port is meant; ``*`` for every host.
    * A lower-case variable, an empty one too, wins over its upper-case twin. ``HTTP_PROXY`` is ignored where
      ``REQUEST_METHOD`` is set: in CGI it is a header of the client's.

    The environment is read once, when the agent is made. The values are the URLs that :class:`ProxyAgent` takes. A
    variable that has no such value hurts only who would go through it: opening such a WebSocket raises what
    :class:`ProxyAgent` does, with the name of the variable.

    Args:
        http_proxy: in place of the variable; "" for no proxy.
        https_proxy: in place of the variable; "" for none of its own.
        all_proxy: in place of the variable; "" for no proxy.
        no_proxy: in place of the variable.
        proxy_ssl_context: as in :class:`ProxyAgent`.
        options: the keyword arguments of :class:`Agent` but ``socket_path``.

    Raises:
        InvalidURL: a proxy's URL that was passed breaks a rule.
        TypeError: an argument has the wrong type.
        ValueError: an argument breaks its rule.
        ImportError: a proxy that was passed is ``socks5://`` and python-socks is missing.

    Source: undici's ``EnvHttpProxyAgent``; curl for ``all_proxy``.
    """

    def __init__(
        self,
        *,
        http_proxy: str | None = None,
        https_proxy: str | None = None,
        all_proxy: str | None = None,
        no_proxy: str | None = None,
        proxy_ssl_context: ssl.SSLContext | None = None,
        **options: Unpack[AgentKeywords],
    ) -> None:
        given = {"http": http_proxy, "https": https_proxy, "all": all_proxy, "no": no_proxy}
        values = getproxies_environment()
        for name, value in given.items():
            if not isinstance(value, str | None):
                raise TypeError(f"{name}_proxy must be a str or None, not {type(value).__name__}")
            if value is not None:
                values[name] = value

        def agent(*names: str) -> Dispatcher:
            name = next((name for name in names if values.get(name)), None)
            if name is None:
                return self._direct
            try:
                chosen = ProxyAgent(values[name], proxy_ssl_context=proxy_ssl_context, **options)
            except (ValueError, ImportError) as error:  # InvalidURL is a ValueError
                unusable = _UnusableProxy(f"{name}_proxy", error)
                if given[name] is not None:
                    raise unusable.error() from None
                return unusable
            chosen._counts = self._direct._counts  # one count for all
            return chosen

        check_ssl_context(proxy_ssl_context)
        self._direct = Agent(**options)
        self._plain = agent("http", "all")
        self._secure = agent("https", "all", "http")
        self._no_proxy = NoProxy(values.get("no", ""))
        self._entered = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for agent in dict.fromkeys((self._direct, self._plain, self._secure)):
                await stack.enter_async_context(agent)
            self._entered = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._entered.__aexit__(exc_type, exc, traceback)  # noqa: ASYNC102  # the agents do not wait

    def statistics(self) -> Http2Statistics:
        """What its HTTP/2 connections have counted so far, whichever way they go; a copy."""
        return self._direct.statistics()

    async def open(self, request: ConnectRequest) -> Opened:
        if self._no_proxy.covers(request.url):
            return await self._direct.open(request)
        return await (self._secure if request.url.secure else self._plain).open(request)
