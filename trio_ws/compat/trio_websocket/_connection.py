"""trio-websocket's connection object over a WebSocket of ours."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import trio

from ..._close import check_close, truncate_reason
from ..._options import Limits
from ..._websocket.base import ReadyState
from ._errors import as_pairs, close_reason, closed_as_theirs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..._websocket.websocket import WebSocket
    from ._endpoint import Endpoint
    from ._errors import CloseReason

CONN_TIMEOUT = 60.0  # seconds, to connect or to disconnect
MESSAGE_QUEUE_SIZE = 1
MAX_MESSAGE_SIZE = 2**20  # bytes
RECEIVE_BYTES = 4096

# What trio-websocket keeps for itself of a server's answer.
_OF_THE_ANSWER = frozenset(
    ("connection", "sec-websocket-accept", "sec-websocket-extensions", "sec-websocket-protocol", "upgrade")
)
# What the library writes itself; trio-websocket promises that a caller's are overwritten.
_OF_THE_LIBRARY = frozenset(("connection", "content-length", "transfer-encoding", "upgrade"))
_MOST = 2**61  # bytes; Limits takes no more


def limits_for(message_queue_size: float, max_message_size: int) -> Limits:
    """Give the limits that come closest: room for so many messages of the largest size."""
    most = max(message_queue_size, 1) * max(max_message_size, 1)
    receive_buffer = None if most == math.inf else min(int(most), _MOST)
    return Limits(max_message_size=max_message_size, receive_buffer=receive_buffer)


def added_headers(extra_headers: Iterable[tuple[bytes | str, bytes | str]] | None) -> list[tuple[str, str]]:
    """Give ``extra_headers`` as ours takes them, without those that the protocol uses."""
    pairs = [(_text(name), _text(value)) for name, value in extra_headers or ()]
    return [
        (name, value)
        for name, value in pairs
        if name.lower() not in _OF_THE_LIBRARY and not name.lower().startswith("sec-websocket-")
    ]


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else bytes(value).decode("latin-1")


class WebSocketConnection(trio.abc.AsyncResource):
    """A WebSocket connection.

    Attributes:
        websocket: the WebSocket of trio_ws that it stands on; its methods may be used beside these.
    """

    CONNECTION_ID = itertools.count()

    def __init__(
        self,
        websocket: WebSocket,
        *,
        is_client: bool,
        path: str,
        local: Endpoint | str,
        remote: Endpoint | str,
    ) -> None:
        self.websocket = websocket
        self._is_client = is_client
        self._path = path
        self._local = local
        self._remote = remote
        self._id = next(self.CONNECTION_ID)
        self._payloads: set[bytes] = set()  # of the pings on their way

    @property
    def closed(self) -> CloseReason | None:
        """Why the connection was or is being closed; None while it is open."""
        if self.websocket.ready_state is ReadyState.OPEN:
            return None
        return close_reason(self.websocket._connection.closed_error())

    @property
    def is_client(self) -> bool:
        """Whether this is the client's end."""
        return self._is_client

    @property
    def is_server(self) -> bool:
        """Whether this is the server's end."""
        return not self._is_client

    @property
    def local(self) -> Endpoint | str:
        """Where this end is; a str for what is no TCP connection."""
        return self._local

    @property
    def remote(self) -> Endpoint | str:
        """Where the other end is, in the same form."""
        return self._remote

    @property
    def path(self) -> str:
        """The path and the query that were asked for."""
        return self._path

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed, None if none."""
        return self.websocket.protocol

    @property
    def handshake_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The headers of the other side's part of the handshake, names in lower case."""
        if self._is_client:
            return as_pairs(self.websocket.response_headers, without=_OF_THE_ANSWER)
        return as_pairs(self.websocket.request_headers)

    async def get_message(self) -> str | bytes:
        """Receive the next message. Cancelled, nothing is lost.

        Raises:
            ConnectionClosed: the connection is closed. Messages that came before the peer closed are given first.
        """
        with closed_as_theirs():
            return await self.websocket.receive()

    async def send_message(self, message: str | bytes) -> None:
        """Send one message. Cancelled, nothing of it was sent.

        Raises:
            ValueError: message is neither str nor bytes.
            ConnectionClosed: the connection is closed or closing.
        """
        if not isinstance(message, str | bytes):
            raise ValueError(f"message must be str or bytes, not {type(message).__name__}")
        with closed_as_theirs():
            await self.websocket.send(message)

    async def ping(self, payload: bytes | None = None) -> None:
        """Send a ping and wait for its pong.

        Args:
            payload: at most 125 bytes; None: one that no other ping has.

        Raises:
            ValueError: another ping with this payload is on its way, or payload is too long.
            ConnectionClosed: the connection is closed, or was before the pong came.
        """
        if payload is None:
            with closed_as_theirs():
                await self.websocket.ping()
            return
        if payload in self._payloads:
            raise ValueError(f"payload {payload!r} is on its way already")
        self._payloads.add(payload)
        try:
            with closed_as_theirs():
                await self.websocket.ping(payload)
        finally:
            self._payloads.discard(payload)

    async def pong(self, payload: bytes | None = None) -> None:
        """Send a pong that nobody asked for.

        Raises:
            ConnectionClosed: the connection is closed or closing.
        """
        with closed_as_theirs():
            await self.websocket.pong(payload or b"")

    async def aclose(self, code: int = 1000, reason: str | None = None) -> None:
        """Close, and wait until the connection has ended; harmless when repeated. Cancelled, it has ended too.

        Args:
            code: a code that an endpoint may send (RFC 6455 §7.4).
            reason: cut at 123 bytes of UTF-8.

        Raises:
            ValueError: code may not be sent.
        """
        text = truncate_reason(reason or "")
        check_close(code, text)
        await self.websocket._connection.aclose(code, text)

    def __str__(self) -> str:
        return f"{'client' if self._is_client else 'server'}-{self._id}"
