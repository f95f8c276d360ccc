"""The frames of RFC 6455 §5: opcodes, what a first byte may be, and how a frame is written."""

from __future__ import annotations

import enum
import struct
from typing import Final

from .masking import new_mask
from .speedups import write_frame


class Opcode(enum.IntEnum):
    """The opcodes of RFC 6455 §5.2 that have a meaning."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


FIN: Final = 0x80
RSV1: Final = 0x40
RSV2_RSV3: Final = 0x30
OPCODE: Final = 0x0F
MASKED: Final = 0x80
LENGTH: Final = 0x7F
LENGTH_16: Final = 126
LENGTH_64: Final = 127
MAX_CONTROL: Final = 125

OPCODES: Final = frozenset(int(opcode) for opcode in Opcode)


_LARGE_HEAD = struct.Struct("!BBQ")


class LargeFrame:
    """A frame whose payload is sent from where it is, since copying it would cost more than sending it.

    Args:
        first: its first byte.
        payload: at least 64 KiB, without a mask.
    """

    __slots__ = ("head", "payload")

    def __init__(self, first: int, payload: bytes) -> None:
        self.head = _LARGE_HEAD.pack(first, LENGTH_64, len(payload))
        self.payload = payload

    def __len__(self) -> int:
        return len(self.head) + len(self.payload)


def frame_bytes(
    opcode: int, payload: bytes | bytearray | memoryview, *, masked: bool, fin: bool = True, rsv1: bool = False
) -> bytes:
    """Write one frame, its length in the fewest bytes, masked with a fresh key if it is a client's (RFC 6455 §5.1)."""
    first = opcode | (FIN if fin else 0) | (RSV1 if rsv1 else 0)
    return write_frame(first, payload, new_mask() if masked else None)
