"""What the messages hold: JSON as programs send it, each message another, so that none is found in a window."""

from __future__ import annotations

from functools import cache

DIFFERENT = 64  # messages, or as many as make a MiB
MUCH = 2**20


@cache
def payloads(size: int) -> tuple[bytes, ...]:
    """Make messages of a size that have nothing in common but their form; they deflate to about a fifth."""
    item = b'{"symbol":"BTC-USD","side":"%s","price":%d.%02d,"size":%d,"sequence":%d},'
    number = 1
    made = []
    for _ in range(max(2, min(DIFFERENT, MUCH // size))):
        data = bytearray(b"[")
        while len(data) < size:
            number = number * 1103515245 + 12345 & 0x7FFFFFFF
            data += item % ((b"buy", b"sell")[number & 1], number >> 16, number % 100, number % 9999, number)
        made.append(bytes(data[:size]))
    return tuple(made)
