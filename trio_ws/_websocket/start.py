"""From the end of an opening handshake to a WebSocket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from .._connection.connection import Connection
from .._options import check_shared_options
from .._wire.deflate import PerMessageDeflate
from .._wire.observed import ObservedProtocol
from .._wire.protocol import WebSocketProtocol
from .frame_log import FrameObserver, next_connection_id
from .instrument import Instruments, check_instruments
from .websocket import WebSocket

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._options import Compression, Keepalive, Limits
    from .._reactor import Reactor
    from .._transport import Transport
    from .._wire.handshake import Agreement
    from .._wire.headers import Headers
    from .instrument import Instrument


class Opened(NamedTuple):
    """What an opening handshake has led to, on either side.

    Attributes:
        transport: carries the WebSocket's bytes from here on.
        agreement: what the two sides agreed on.
        http_version: which HTTP carried the handshake.
        request_headers: the client's.
        response_headers: the server's.
        rest: bytes of the WebSocket's that came with the handshake.
        instruments: hooks of whoever opened it, a dispatcher say, to be told beside the connection's own.
    """

    transport: Transport
    agreement: Agreement
    http_version: str
    request_headers: Headers
    response_headers: Headers
    rest: bytes
    instruments: tuple[Instrument, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """The options that a connection needs for as long as it is open."""

    compression: Compression | None
    limits: Limits
    keepalive: Keepalive | None
    close_timeout: float
    instruments: tuple[Instrument, ...]


class SharedKeywords(TypedDict, total=False):
    """The keyword arguments that everything that opens or serves WebSockets has."""

    compression: Compression | None
    limits: Limits
    keepalive: Keepalive | None
    connect_timeout: float
    close_timeout: float
    instruments: Iterable[Instrument]


def check_shared_keywords(options: SharedKeywords) -> ConnectionOptions:
    """Check the shared keyword arguments, none of which may be missing.

    Raises:
        TypeError: an option is of the wrong class.
        ValueError: a timeout is no number of seconds.
    """
    check_shared_options(
        compression=options["compression"],
        limits=options["limits"],
        keepalive=options["keepalive"],
        connect_timeout=options["connect_timeout"],
        close_timeout=options["close_timeout"],
    )
    return ConnectionOptions(
        compression=options["compression"],
        limits=options["limits"],
        keepalive=options["keepalive"],
        close_timeout=options["close_timeout"],
        instruments=check_instruments(options["instruments"]),
    )


def start_websocket(
    opened: Opened,
    options: ConnectionOptions,
    reactor: Reactor,
    *,
    url: str,
    is_client: bool,
    connection_id: int | None = None,
) -> WebSocket:
    """Make the WebSocket, which this reactor drives from now on.

    Args:
        connection_id: its number, which the lines of its handshake have; None: a new one.

    Raises:
        RuntimeError: the reactor's nursery is closed.
    """
    deflate = None
    if opened.agreement.deflate is not None and options.compression is not None:
        deflate = PerMessageDeflate(opened.agreement.deflate, options.compression, is_client=is_client)
    number = next_connection_id() if connection_id is None else connection_id
    instruments = Instruments((*options.instruments, *opened.instruments))
    observer = FrameObserver(number, instruments)
    protocol: WebSocketProtocol
    if observer:
        protocol = ObservedProtocol(observer, is_client=is_client, limits=options.limits, deflate=deflate)
        instruments.put_first(observer)
    else:
        protocol = WebSocketProtocol(is_client=is_client, limits=options.limits, deflate=deflate)
    protocol.receive_data(opened.rest)
    connection = Connection(
        opened.transport,
        protocol,
        reactor,
        is_client=is_client,
        limits=options.limits,
        keepalive=options.keepalive,
        close_timeout=options.close_timeout,
    )
    websocket = WebSocket(
        connection,
        opened.agreement,
        url=url,
        http_version=opened.http_version,
        request_headers=opened.request_headers,
        response_headers=opened.response_headers,
        instruments=instruments,
        connection_id=number,
    )
    if isinstance(protocol, ObservedProtocol):
        protocol.observe_received(opened.rest)
    for headers in (opened.request_headers, opened.response_headers):
        headers.pack()
    return websocket
