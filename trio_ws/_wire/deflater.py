"""What compresses the messages of one direction (RFC 7692 §7.2.1).

Theory of operation:

1. What the next message may refer to is the end of what was sent: its *window*, kept as bytes. A stream is opened from
   it when there is none (:mod:`.open_streams`), and a message that is not sent after all leaves no trace in it. Who has
   lost the stream to others keeps the last 4 KiB of its window only: we may refer to less than the peer remembers.
2. What is returned ends on a byte boundary, with a sync flush: what went in can be inflated at once.
3. Without context takeover nothing is kept between messages. To open a stream costs 1 µs, so none is shared either.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from .deflate_backends import choose_backend
from .open_streams import THREAD, extend_window

if TYPE_CHECKING:
    from .deflate_backends import Compressor, DeflateBackend

FLUSH_END: Final[bytes] = b"\x00\x00\xff\xff"  # RFC 7692 §7.2.1: what a sync flush ends with, and a message leaves out
_EMPTY_MESSAGE = b"\x00"  # RFC 7692 §7.2.3.6
STEP: Final = 2**15  # characters, or twice as many bytes, that are compressed in 2 ms or so, whatever is in them

_WINDOW_WITHOUT_STREAM: Final = 2**12  # bytes: twice as many make what is sent at most 2 % smaller

# A trial: bytes that are looked at, and compressed if they have too many values to be text or records. Of random bytes
# three quarters of the next 192 are not among the first 64, of base64 a third, of English a tenth.
_FEW, _LOOK = 64, 256
_TRIAL = 1024
_WORTH_IT = 0.95


class Deflater:
    """Compresses what this side sends.

    Args:
        window_bits: the window has 2 to the power of this many bytes, 9 to 15.
        no_context_takeover: compress each message on its own.
        level: zlib's level.
        memory_level: zlib's memory level.
        backend: what does it, if it has that level; None: what is best.

    Attributes:
        backend: what does it.
        in_steps: a message is being compressed in steps: no other may be compressed.
    """

    __slots__ = (
        "__weakref__",
        "_admitted",
        "_in_message",
        "_level",
        "_memory_level",
        "_no_context_takeover",
        "_stream",
        "_window",
        "_window_bits",
        "backend",
        "in_steps",
    )

    def __init__(
        self,
        window_bits: int,
        *,
        no_context_takeover: bool,
        level: int,
        memory_level: int,
        backend: DeflateBackend | None = None,
    ) -> None:
        self._window_bits = window_bits
        self._no_context_takeover = no_context_takeover
        self._level = level
        self._memory_level = memory_level
        self.backend: DeflateBackend = (backend or choose_backend(None)).choose_compressor(level)
        self._stream: Compressor | None = None
        self._admitted = False
        self._in_message = False
        self._window = bytearray()
        self.in_steps: bool = False

    @property
    def settings(self) -> DeflateSettings:
        """What a message that is compressed alike by several depends on."""
        return self.backend, self._window_bits, self._level, self._memory_level

    def compress(self, data: bytes | bytearray | memoryview, *, final: bool = True) -> bytes:
        """Compress a message, or a fragment of it; what is returned must be sent, in this order.

        Args:
            data: the message, or its next part.
            final: whether the message ends with data.

        Returns:
            The payload of the frame; the peer can inflate all of it when it comes, also if the message goes on.

        Source: RFC 7692 §7.2.1.
        """
        if data:
            stream = self._stream or self._open()
            compressed = stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)
            if final:
                compressed = compressed[: -len(FLUSH_END)]
            self._remember(data)
        else:
            compressed = _EMPTY_MESSAGE if final else b""
        self._in_message = not final
        if final:
            self._end_message()
        return compressed

    def compress_if_smaller(self, data: bytes | bytearray | memoryview) -> bytes | None:
        """Compress a message if that makes it smaller; None: it must be sent as it is."""
        stream = self._stream or self._open()
        compressed = (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[: -len(FLUSH_END)]
        # A short message may grow: it is what the next ones refer to. Random bytes will not come again.
        if len(compressed) >= len(data) and (len(data) >= _TRIAL or looks_random(data)):
            self._stream = None
            return None
        self._remember(data)
        self._end_message()
        return compressed

    def compress_in_steps(self, data: str | bytes, *, always: bool) -> CompressionInSteps:
        """Begin with a long message that is not in fragments; it must be finished or closed.

        Args:
            always: also if it does not become smaller.
        """
        stream, self._stream = self._stream or self._open(), None  # what is given up must not be gone on with
        self.in_steps = True
        return CompressionInSteps(self, stream, data, always=always)

    def end_in_steps(self, stream: Compressor, window: bytearray) -> None:
        """Note that :class:`CompressionInSteps` has finished its message."""
        self._stream = stream
        if not self._no_context_takeover:
            self._window = window
        self._end_message()

    def begin_anew(self) -> None:
        """Refer to nothing before the next message: the peer's window has got what was not compressed here."""
        self._stream = None
        self._window.clear()

    def close_stream(self) -> None:
        """Do without the stream from the end of a message on, and with a small window."""
        self._admitted = False
        if not self._in_message:
            self._stream = None
            self._window = self._window[-_WINDOW_WITHOUT_STREAM:]  # a copy: to cut might keep the memory

    @property
    def window(self) -> bytearray:
        """A copy of what the next message may refer to."""
        return bytearray(self._window)

    @property
    def window_size(self) -> int:
        """Bytes of it that count."""
        return 1 << self._window_bits

    def is_compressible(self, data: bytes | bytearray | memoryview) -> bool:
        """Tell whether it is worth while to compress binary data, by what its first bytes compress to."""
        if not looks_random(data):
            return True
        head = bytes(data[:_TRIAL])
        stream = self.backend.open_compressor(self._window_bits, 1, self._memory_level, b"")
        return len(stream.compress(head) + stream.flush(zlib.Z_SYNC_FLUSH)) < len(head) * _WORTH_IT

    def _open(self) -> Compressor:
        window = bytes(self._window[-self.window_size :])
        self._stream = self.backend.open_compressor(self._window_bits, self._level, self._memory_level, window)
        return self._stream

    def _remember(self, data: bytes | bytearray | memoryview) -> None:
        if not self._no_context_takeover:
            extend_window(self._window, data, self.window_size)

    def _end_message(self) -> None:
        if self._no_context_takeover:
            self._stream = None
        elif not self._admitted and self._stream is not None:
            self._admitted = True
            THREAD.compressing.admit(self, self.backend.most_compressing)


class CompressionInSteps:
    """One long message that is being compressed; given up in the middle, it was never there.

    Args:
        deflater: whose message it is.
        stream: of that.
        data: the message.
        always: also if it does not become smaller.
    """

    __slots__ = ("_always", "_data", "_deflater", "_position", "_size", "_stream", "_window", "parts")

    def __init__(self, deflater: Deflater, stream: Compressor, data: str | bytes, *, always: bool) -> None:
        self._deflater = deflater
        self._stream = stream
        self._data = data
        self._always = always
        self._position = 0
        self._size = 0
        self._window = deflater.window
        self.parts: list[bytes] = []

    def advance(self) -> bool:
        """Compress the next part of it; False when that was the last.

        Raises:
            UnicodeEncodeError: it holds a lone surrogate.
        """
        step = STEP if isinstance(self._data, str) else 2 * STEP
        data = self._data[self._position : self._position + step]
        self._position += step
        part = data.encode() if isinstance(data, str) else data
        self._size += len(part)
        extend_window(self._window, part, self._deflater.window_size)
        self.parts.append(self._stream.compress(part))
        return self._position < len(self._data)

    def close(self) -> None:
        """Give it up, if it is not finished."""
        self._deflater.in_steps = False

    def finish(self) -> bytes | None:
        """Give the payload of the frame, which must be sent; None: the message must be sent as it is."""
        self.close()
        self.parts.append(self._stream.flush(zlib.Z_SYNC_FLUSH))
        payload = b"".join(self.parts)[: -len(FLUSH_END)]
        if len(payload) >= self._size and not self._always:
            return None
        self._deflater.end_in_steps(self._stream, self._window)
        return payload


def looks_random(data: bytes | bytearray | memoryview) -> bool:
    """Tell whether more than half of the first bytes have values that the first few have not."""
    sample = bytes(data[:_LOOK])
    return len(sample.translate(None, sample[:_FEW])) * 2 > max(len(sample) - _FEW, 0)


DeflateSettings = tuple["DeflateBackend", int, int, int]
"""How a message is compressed that stands by itself: backend, window bits, level, memory level."""
