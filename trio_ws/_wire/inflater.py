"""What inflates the messages of one direction (RFC 7692 §7.2.2).

Theory of operation:

1. The end of the output, its *window*, is kept as bytes. A stream is opened from it when there is none
   (:mod:`.open_streams`).
2. No call makes more than one byte over a message's limit, nor much more than is asked for at once, and the work is
   linear in what came in and what went out.
3. zlib and isal end a stream at a block marked as the last, WebSocket does not (RFC 7692 §7.2.3.4). A fresh stream
   then goes on from the window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._close import INVALID_DATA, POLICY_VIOLATION
from .._exceptions import MessageTooBig, RemoteProtocolError
from .deflate_backends import choose_backend
from .deflater import FLUSH_END
from .open_streams import THREAD, extend_window

if TYPE_CHECKING:
    from .deflate_backends import Decompressor, DeflateBackend

_STEP = 1024  # bytes of input at a time where the library copies what it leaves over: they become a MiB at most

# A final block costs up to 4 µs and an empty one has two bytes: beyond these, one for each 64 bytes of a message.
_FREE_FINAL_BLOCKS = 64
_BYTES_PER_FINAL_BLOCK = 64


class Inflater:
    """Inflates what the peer sends.

    Args:
        window_bits: the peer's window has 2 to the power of this many bytes at most, 8 to 15.
        no_context_takeover: the peer compresses each message on its own.
        backend: what does it; None: what is best.

    Attributes:
        backend: what does it.
        rest: what is not inflated yet, and whether the message ends with it; None: nothing is left.
    """

    __slots__ = (
        "__weakref__",
        "_admitted",
        "_final_blocks",
        "_history",
        "_no_context_takeover",
        "_stream",
        "_taken",
        "_window",
        "_window_bits",
        "backend",
        "rest",
    )

    def __init__(self, window_bits: int, *, no_context_takeover: bool, backend: DeflateBackend | None = None) -> None:
        self._window_bits = window_bits
        self._window = 1 << window_bits
        self._no_context_takeover = no_context_takeover
        self.backend: DeflateBackend = backend or choose_backend(None)
        self._stream: Decompressor | None = None
        self._admitted = False
        self._history = bytearray()  # the end of the output
        self._taken = 0  # bytes of this message
        self._final_blocks = 0  # of this message
        self.rest: tuple[bytes, bool] | None = None

    def inflate(
        self,
        data: bytes | bytearray | memoryview,
        *,
        final: bool,
        max_size: int | None,
        held: int = 0,
        at_once: int | None = None,
    ) -> bytes:
        """Inflate the next part of a message.

        Args:
            data: any part of the message's payload: all of it, a fragment, or a piece of one.
            final: whether the message ends with data.
            max_size: how many bytes the message may have, None for any number.
            held: how many of these were inflated before.
            at_once: bytes after which the rest is left to :meth:`go_on`, None: none is; up to a MiB more may come.

        Returns:
            All that can be told from what came so far, if there is no :attr:`rest`. The stream is of no use after an
            error.

        Raises:
            MessageTooBig: the message has more than max_size bytes.
            RemoteProtocolError: with 1007, data is no deflate; with 1008, it is cut into too many final blocks.

        Source: RFC 7692 §7.2.2.
        """
        # A message without a byte, or with none after a final block, has no block that could lack its end.
        if final and (data or (self._taken and self._stream is not None)):
            data = b"".join((data, FLUSH_END))
        self._taken += len(data)
        return self._advance(data, final, max_size, held, at_once)

    def go_on(self, *, max_size: int | None, held: int, at_once: int | None = None) -> bytes:
        """Inflate more of :attr:`rest`; otherwise as :meth:`inflate`."""
        assert self.rest is not None
        return self._advance(*self.rest, max_size, held, at_once)

    def _advance(
        self,
        data: bytes | bytearray | memoryview,
        final: bool,
        max_size: int | None,
        held: int,
        at_once: int | None,
    ) -> bytes:
        stream = self._stream or self._open()
        room = None if max_size is None else max_size - held
        limit = 0 if room is None else room + 1
        if at_once is not None and (room is None or at_once < room):
            limit = at_once
        output = self._run(stream, data, limit, max_size, held)
        if stream.eof:
            output, left = self._pass_final_blocks(stream, output, final, max_size, held, at_once)
        else:
            extend_window(self._history, output, self._window)
            # It may be that nothing is left but what the library holds, and that the next call gives b"".
            left = stream.unconsumed_tail if limit and len(output) == limit else None
        self.rest = None if left is None else (left, final)
        if final and left is None:
            self._end_message()
        return output

    def close_stream(self) -> None:
        """Do without the stream from the end of a message on."""
        self._admitted = False
        if not self._taken:
            self._stream = None

    def _end_message(self) -> None:
        self._taken = self._final_blocks = 0
        if self._no_context_takeover:
            self._stream = None
            self._history.clear()
        elif not self._admitted and self._stream is not None:
            self._admitted = True
            THREAD.inflating.admit(self, self.backend.most_inflating)

    def _open(self) -> Decompressor:
        self._stream = self.backend.open_decompressor(self._window_bits, bytes(self._history[-self._window :]))
        return self._stream

    def _run(
        self, stream: Decompressor, data: bytes | bytearray | memoryview, limit: int, max_size: int | None, held: int
    ) -> bytes:
        """Inflate data up to a final block, the limit or its end."""
        try:
            output = stream.decompress(data, limit)
        except self.backend.error as error:
            raise RemoteProtocolError("compressed message is corrupt", INVALID_DATA) from error
        if max_size is not None and held + len(output) > max_size:
            what = f"compressed message inflates to {held + len(output)} bytes or more"
            raise MessageTooBig(f"{what}, at most {max_size} are taken (max_message_size)")
        return output

    def _pass_final_blocks(
        self,
        stream: Decompressor,
        output: bytes,
        final: bool,
        max_size: int | None,
        held: int,
        at_once: int | None,
    ) -> tuple[bytes, bytes | None]:
        """Inflate what follows a final block (RFC 7692 §7.2.3.4); give the output, and what is left for later."""
        outputs = [output]
        size = len(output)
        # A view, and short steps: the library copies all input that follows a final block, for each such block.
        rest = memoryview(stream.unused_data)
        while True:
            extend_window(self._history, output, self._window)
            if stream.eof:
                self._end_stream(len(rest))
                if final and len(rest) <= len(FLUSH_END):
                    _check_end(rest)
                    break
            if not rest:
                break
            if at_once is not None and size >= at_once:
                return b"".join(outputs), bytes(rest)
            stream = self._stream or self._open()
            limit = 0 if max_size is None else max_size + 1 - held - size
            output = self._run(stream, rest[:_STEP], limit, max_size, held + size)
            outputs.append(output)
            size += len(output)
            rest = rest[min(_STEP, len(rest)) - len(stream.unused_data) :]
        return b"".join(outputs), None

    def _end_stream(self, left: int) -> None:
        self._stream = None
        self._final_blocks += 1
        # Counted by the place in the message, so that it does not matter how the message is cut into calls.
        most = _FREE_FINAL_BLOCKS + (self._taken - left) // _BYTES_PER_FINAL_BLOCK
        if self._final_blocks > most:
            raise RemoteProtocolError(f"message with too many final deflate blocks: over {most}", POLICY_VIOLATION)


def _check_end(rest: memoryview) -> None:
    # An empty block should follow the final one (RFC 7692 §7.2.1). Without it, all of our own four bytes are left.
    if rest != FLUSH_END:
        raise RemoteProtocolError("compressed message ends inside a block", INVALID_DATA)
