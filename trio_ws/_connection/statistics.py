"""What a connection has counted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Statistics:
    """Counts since a connection opened, and how it stands now.

    Attributes:
        messages_sent: messages handed to the network.
        messages_received: messages that came, also those that still wait for ``receive()``.
        bytes_sent: bytes of frames handed to the network, before TLS.
        bytes_received: bytes of frames that came, after TLS.
        pings_sent: Ping frames, those of the keepalive too.
        pongs_received: Pong frames.
        pings_received: Ping frames of the peer's.
        pongs_sent: Pong frames, less those that a newer one replaced.
        broadcasts_missed: messages of :func:`broadcast` and of groups that were left out because too much waited for
            the network, and the one for which the connection was closed.
        receive_buffer: bytes of messages that wait for ``receive()``, as ``Limits.receive_buffer`` counts them.
        send_buffer: bytes that wait for the network.
        backpressured: whether reading has stopped because the receive buffer is full.
        compressed_by: the library that compresses what is sent, "zlib" or "isal"; "" without permessage-deflate.
        inflated_by: the library that inflates what is received, likewise.
    """

    messages_sent: int = 0
    messages_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    pings_sent: int = 0
    pongs_received: int = 0
    pings_received: int = 0
    pongs_sent: int = 0
    broadcasts_missed: int = 0
    receive_buffer: int = 0
    send_buffer: int = 0
    backpressured: bool = False
    compressed_by: str = ""
    inflated_by: str = ""
