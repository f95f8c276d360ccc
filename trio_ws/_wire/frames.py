"""The frames of RFC 6455 §5: opcodes, what a first byte may be, and how a frame is written."""

from __future__ import annotations

import enum
import struct
from typing import TYPE_CHECKING, Final

from .masking import apply_mask, new_mask
from .speedups import write_frame

if TYPE_CHECKING:
    from collections.abc import Iterator


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


LARGE: Final = 2**16  # bytes of payload
SIZED: Final = frozenset({str, bytes, bytearray, memoryview})  # types of a message, whose length tells whether it is
PIECE: Final = 2**18  # bytes that are masked at once, and near at hand when they are sent; a multiple of a mask's

_LARGE_HEAD = struct.Struct("!BBQ")


class LargeFrame:
    """A frame that is not put together, since copying all of it would cost more than sending it.

    Args:
        first: its first byte.
        payload: at least :data:`LARGE` bytes.
        mask: four bytes to mask it with, or None.
    """

    __slots__ = ("head", "mask", "payload")

    def __init__(self, first: int, payload: bytes, mask: bytes | None = None) -> None:
        mask_bit = 0 if mask is None else MASKED
        self.head: bytes = _LARGE_HEAD.pack(first, LENGTH_64 | mask_bit, len(payload)) + (mask or b"")
        self.mask: bytes | None = mask
        self.payload: bytes = payload

    def __len__(self) -> int:
        return len(self.head) + len(self.payload)


def masked_pieces(head: bytes, payload: bytes, mask: bytes) -> Iterator[bytes]:
    """Give a frame that is masked piece by piece."""
    view = memoryview(payload)
    for start in range(0, len(view), PIECE):
        yield head + apply_mask(view[start : start + PIECE], mask)
        head = b""


def frame_bytes(
    opcode: int, payload: bytes | bytearray | memoryview, *, masked: bool, fin: bool = True, rsv1: bool = False
) -> bytes:
    """Write one frame, its length in the fewest bytes, masked with a fresh key if it is a client's (RFC 6455 §5.1)."""
    first = opcode | (FIN if fin else 0) | (RSV1 if rsv1 else 0)
    return write_frame(first, payload, new_mask() if masked else None)
