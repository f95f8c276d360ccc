"""One message to many connections: written and compressed once for all that agree on how, and waiting for nobody.

Rules:

1. Servers send the same bytes to everyone, so there is one frame for each way of compressing. A client masks each
   frame with a key of its own (RFC 6455 §5.3), so only the payload is shared.
2. A message that is compressed by itself can be inflated by any peer whose window is not smaller, also by one that
   keeps the window of earlier messages. Our own deflater has not seen it, and would go on to refer to places that have
   moved; so it begins anew with the next message.
3. Between the frames of a message in pieces no other may go: who is sending one is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from .._close import POLICY_VIOLATION
from .._wire.prepared import PreparedMessage
from .base import WebSocketBase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._wire.protocol import Message
    from .websocket import WebSocket
    from .websocket_stream import WebSocketStream


@dataclass(frozen=True, slots=True)
class BroadcastResult:
    """What :func:`broadcast` did with each connection; each is in one of the lists.

    Attributes:
        sent: the message is on its way.
        skipped: it did not get the message: too much waits for the network, or it is sending a message in pieces.
        closed: too much waits for the network, and it was closed with 1008.
        gone: it was closed or closing already.
    """

    sent: list[WebSocket | WebSocketStream] = field(default_factory=list)
    skipped: list[WebSocket | WebSocketStream] = field(default_factory=list)
    closed: list[WebSocket | WebSocketStream] = field(default_factory=list)
    gone: list[WebSocket | WebSocketStream] = field(default_factory=list)


def broadcast(
    connections: Iterable[WebSocket | WebSocketStream],
    message: Message,
    *,
    slow: Literal["skip", "close"] = "skip",
    max_buffered: int = 2**20,
    compress: bool | None = None,
) -> BroadcastResult:
    """Send one message to many connections, and wait for none of them.

    The message is written once, and compressed once for all connections that compress alike, so that a thousand
    listeners cost little more than a thousand system calls. It may go before messages that wait in ``send``.

    This is synchronous, some 20 µs for each connection: with tens of thousands, call it on batches of them and let
    others run in between.

    Args:
        connections: WebSockets and WebSocketStreams, clients or servers.
        message: ``str`` is sent as text; ``bytes``, ``bytearray`` or ``memoryview`` as binary.
        slow: what becomes of a connection whose peer takes too little: "skip" leaves this message out for it, "close"
            closes it with 1008.
        max_buffered: bytes that may wait for the network on a connection, before this message; with more it is slow.
            Memory is bounded by this and one message for each connection.
        compress: as for ``WebSocket.send``.

    Returns:
        Which connections got it and which did not.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: slow or max_buffered breaks its rule.
        UnicodeEncodeError: message holds a lone surrogate. Nothing was sent to anyone, as with the others.
    """
    targets = list(connections)
    for target in targets:
        if not isinstance(target, WebSocketBase):
            raise TypeError(f"connections: {target!r} is no WebSocket")
    check_slow_policy(slow, max_buffered)
    return send_to_all(targets, message, slow=slow, max_buffered=max_buffered, compress=compress)


def check_slow_policy(slow: object, max_buffered: object) -> None:
    """Check what is to become of slow connections.

    Raises:
        ValueError: an argument breaks its rule.
    """
    if slow not in ("skip", "close"):
        raise ValueError(f"slow={slow!r}: it must be 'skip' or 'close'")
    if isinstance(max_buffered, bool) or not isinstance(max_buffered, int) or max_buffered < 0:
        raise ValueError(f"max_buffered={max_buffered!r}: it must be a number of bytes from 0 on")


def send_to_all(
    targets: list[WebSocket | WebSocketStream],
    message: Message,
    *,
    slow: Literal["skip", "close"],
    max_buffered: int,
    compress: bool | None,
) -> BroadcastResult:
    """Do what :func:`broadcast` tells, for arguments that are checked."""
    prepared = PreparedMessage(message)
    result = BroadcastResult()
    for target in targets:
        connection = target._connection
        if not connection.is_open():
            result.gone.append(target)
        elif connection.outbox.buffered > max_buffered:
            connection.counters.broadcasts_missed += 1
            if slow == "close":
                text = f"too slow: {connection.outbox.buffered} bytes wait, at most {max_buffered} may (max_buffered)"
                connection.start_close(POLICY_VIOLATION, text)
            (result.closed if slow == "close" else result.skipped).append(target)
        elif connection.outbox.held:
            result.skipped.append(target)
        else:
            connection.send_prepared(prepared, compress)
            result.sent.append(target)
    return result
