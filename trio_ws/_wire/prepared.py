"""A message that goes to many connections, written once for all that send it alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .deflater import Deflater
from .frames import Opcode, frame_bytes

if TYPE_CHECKING:
    from .deflater import DeflateSettings


class PreparedMessage:
    """One message, and each form that it has been sent in.

    Args:
        message: ``str`` for text, anything bytes-like for binary.

    Raises:
        TypeError: message is of another type.
        UnicodeEncodeError: message holds a lone surrogate.
    """

    __slots__ = ("_compressed", "_frames", "opcode", "payload")

    def __init__(self, message: str | bytes | bytearray | memoryview) -> None:
        self.opcode: Opcode
        self.payload: bytes
        if isinstance(message, str):
            self.opcode, self.payload = Opcode.TEXT, message.encode()
        elif isinstance(message, bytes | bytearray | memoryview):
            self.opcode, self.payload = Opcode.BINARY, bytes(message)
        else:
            raise TypeError(f"message must be str or bytes-like, not {type(message).__name__}")
        self._compressed: dict[DeflateSettings, bytes] = {}
        self._frames: dict[DeflateSettings | None, bytes] = {}

    def frame(self, settings: DeflateSettings | None, *, masked: bool) -> bytes:
        """Give the message as one frame.

        Args:
            settings: how to compress it, by itself; None: not.
            masked: for a client: the frame is a fresh one.
        """
        if masked:
            return self._write(settings, masked=True)
        if settings not in self._frames:
            self._frames[settings] = self._write(settings, masked=False)
        return self._frames[settings]

    def becomes_smaller(self, settings: DeflateSettings) -> bool:
        """Tell whether there is less of the message when it is compressed so."""
        return len(self._compress(settings)) < len(self.payload)

    def _write(self, settings: DeflateSettings | None, *, masked: bool) -> bytes:
        payload = self.payload if settings is None else self._compress(settings)
        return frame_bytes(self.opcode, payload, masked=masked, rsv1=settings is not None)

    def _compress(self, settings: DeflateSettings) -> bytes:
        if settings not in self._compressed:
            backend, window_bits, level, memory_level = settings
            deflater = Deflater(
                window_bits, no_context_takeover=True, level=level, memory_level=memory_level, backend=backend
            )
            self._compressed[settings] = deflater.compress(self.payload)
        return self._compressed[settings]
