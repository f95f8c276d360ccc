"""permessage-deflate: what is agreed on in the handshake, and the two streams that it then means (RFC 7692).

Theory of operation:

1. Each direction has its own terms: the sender's window, and whether a message may refer to the ones before it.
   :class:`PerMessageDeflate` gives our :class:`Deflater` our half of them and our :class:`Inflater` the peer's.
2. Nothing of zlib exists before the first compressed message, nor between messages that stand on their own.
3. What a Deflater returns ends on a byte boundary, with a sync flush: what went in can be inflated at once.
4. An Inflater never makes more than one byte over the limit, and its work is linear in what came in and what went out.
5. zlib ends its stream at a block marked as the last, WebSocket does not (RFC 7692 §7.2.3.4). A fresh stream then
   goes on, and is given the window of the old one. zlib does not show that window, so the end of the output is kept.

What a client demands of the server's compression is a wish. Many servers cannot choose their window, those in Go say,
and either decline an offer that names it or take the offer and leave the wish out. So a plain offer follows as a
fallback, and an answer that leaves a wish out answers that one. A larger window costs us memory, some 80 KiB at most.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._close import INVALID_DATA, POLICY_VIOLATION
from .._exceptions import MessageTooBig, RemoteProtocolError

if TYPE_CHECKING:
    from .._options import Compression

ExtensionList = list[tuple[str, list[tuple[str, str | None]]]]
"""A Sec-WebSocket-Extensions value: each extension's name with its parameters, None for one without a value."""

DeflateSettings = tuple[int, int, int]
"""How a message is compressed that stands by itself: window bits, level, memory level."""

_NAME = "permessage-deflate"
_SERVER_NO_CONTEXT_TAKEOVER = "server_no_context_takeover"
_CLIENT_NO_CONTEXT_TAKEOVER = "client_no_context_takeover"
_SERVER_MAX_WINDOW_BITS = "server_max_window_bits"
_CLIENT_MAX_WINDOW_BITS = "client_max_window_bits"

_FLAGS = frozenset({_SERVER_NO_CONTEXT_TAKEOVER, _CLIENT_NO_CONTEXT_TAKEOVER})
_WINDOWS = frozenset({_SERVER_MAX_WINDOW_BITS, _CLIENT_MAX_WINDOW_BITS})
_MAX_WINDOW_BITS = 15
_MIN_ZLIB_WINDOW_BITS = 9  # zlib can inflate raw deflate with a window of 2**8 bytes, but not make it
# RFC 7692 §7.1.2: a decimal integer from 8 to 15 without leading zeros.
_WINDOW_VALUES = {str(bits): bits for bits in range(8, _MAX_WINDOW_BITS + 1)}

_FLUSH_END = b"\x00\x00\xff\xff"  # RFC 7692 §7.2.1: what a sync flush ends with, and a message leaves out
_EMPTY_MESSAGE = b"\x00"  # RFC 7692 §7.2.3.6
_STEP = 4096  # bytes of input at a time where zlib copies what it leaves over

# A final block costs up to 4 µs and an empty one has two bytes: beyond these, one for each 64 bytes of a message.
_FREE_FINAL_BLOCKS = 64
_BYTES_PER_FINAL_BLOCK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DeflateParameters:
    """What both sides agreed on.

    Attributes:
        server_no_context_takeover: the server compresses each message on its own.
        client_no_context_takeover: the client compresses each message on its own.
        server_max_window_bits: largest window, 2 to the power of 8 to 15 bytes, for what the server compresses.
        client_max_window_bits: the same for what the client compresses.
    """

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = _MAX_WINDOW_BITS
    client_max_window_bits: int = _MAX_WINDOW_BITS


# ---- the handshake ----


def offer(compression: Compression) -> str:
    """Return a client's Sec-WebSocket-Extensions value: what it would like best and, if that is more, a plain offer.

    The plain one is what browsers send. It lets the server choose our window, which costs nothing.

    Source: RFC 7692 §5.1 and §7.1.
    """
    plain = _extension(_CLIENT_MAX_WINDOW_BITS)
    parameters = []
    if compression.server_max_window_bits < _MAX_WINDOW_BITS:
        parameters.append(f"{_SERVER_MAX_WINDOW_BITS}={compression.server_max_window_bits}")
    if compression.client_max_window_bits < _MAX_WINDOW_BITS:
        parameters.append(f"{_CLIENT_MAX_WINDOW_BITS}={compression.client_max_window_bits}")
    else:
        parameters.append(_CLIENT_MAX_WINDOW_BITS)
    if compression.server_no_context_takeover:
        parameters.append(_SERVER_NO_CONTEXT_TAKEOVER)
    if compression.client_no_context_takeover:
        parameters.append(_CLIENT_NO_CONTEXT_TAKEOVER)
    best = _extension(*parameters)
    return best if best == plain else f"{best}, {plain}"


def accept_offer(offers: ExtensionList, compression: Compression) -> tuple[DeflateParameters, str] | None:
    """Choose among a client's offers.

    Args:
        offers: all extensions of the request, in order.
        compression: what this server wants.

    Returns:
        What was agreed and the Sec-WebSocket-Extensions value that says so, for the first offer that lets us compress,
        else the first that lets only the client compress; None if there is none. An offer that breaks a rule is
        declined, and the next one looked at.

    Source: RFC 7692 §5.1 and §7.1.
    """
    one_way: dict[str, int] | None = None
    for name, parameters in offers:
        if name != _NAME:
            continue
        try:
            terms = _read_parameters(parameters, is_offer=True)
        except ValueError:
            continue
        if terms.get(_SERVER_MAX_WINDOW_BITS, _MAX_WINDOW_BITS) >= _MIN_ZLIB_WINDOW_BITS:
            return _accept(terms, compression)
        one_way = one_way or terms
    return None if one_way is None else _accept(one_way, compression)


def check_answer(answer: ExtensionList, compression: Compression) -> DeflateParameters:
    """Check what a server answered to :func:`offer`.

    A wish of ours that the answer leaves out is given up, see above.

    Args:
        answer: all extensions of the response.
        compression: what was offered.

    Raises:
        ValueError: the answer breaks a rule, or names something else.

    Source: RFC 7692 §5.1, §7 and §7.1.
    """
    if [name for name, _ in answer] != [_NAME]:
        raise ValueError(f"the server must answer with {_NAME} once and no other extension")
    terms = _read_parameters(answer[0][1], is_offer=False)
    return DeflateParameters(
        server_no_context_takeover=_SERVER_NO_CONTEXT_TAKEOVER in terms,
        client_no_context_takeover=compression.client_no_context_takeover or _CLIENT_NO_CONTEXT_TAKEOVER in terms,
        server_max_window_bits=terms.get(_SERVER_MAX_WINDOW_BITS, _MAX_WINDOW_BITS),
        client_max_window_bits=min(
            compression.client_max_window_bits, terms.get(_CLIENT_MAX_WINDOW_BITS, _MAX_WINDOW_BITS)
        ),
    )


def _extension(*parameters: str) -> str:
    return "; ".join((_NAME, *parameters))


def _read_parameters(parameters: list[tuple[str, str | None]], *, is_offer: bool) -> dict[str, int]:
    """Check each parameter by itself; a flag that is there gets 1, a window its bits (RFC 7692 §7.1)."""
    terms: dict[str, int] = {}
    for name, value in parameters:
        if name in terms:
            raise ValueError(f"parameter {name} comes twice")
        if name in _FLAGS and value is None:
            terms[name] = 1
        elif name in _WINDOWS and value in _WINDOW_VALUES:
            terms[name] = _WINDOW_VALUES[value]
        elif is_offer and name == _CLIENT_MAX_WINDOW_BITS and value is None:
            terms[name] = _MAX_WINDOW_BITS  # RFC 7692 §7.1.2.2: only an offer may leave the value out
        else:
            raise ValueError(f"parameter {name!r:.60} with value {value!r:.60} is not one of RFC 7692")
    return terms


def _accept(terms: dict[str, int], compression: Compression) -> tuple[DeflateParameters, str]:
    agreed = DeflateParameters(
        server_no_context_takeover=compression.server_no_context_takeover or _SERVER_NO_CONTEXT_TAKEOVER in terms,
        client_no_context_takeover=compression.client_no_context_takeover or _CLIENT_NO_CONTEXT_TAKEOVER in terms,
        server_max_window_bits=min(
            compression.server_max_window_bits, terms.get(_SERVER_MAX_WINDOW_BITS, _MAX_WINDOW_BITS)
        ),
        # RFC 7692 §7.1.2.2: a client that does not name it keeps to no window but the largest.
        client_max_window_bits=min(compression.client_max_window_bits, terms[_CLIENT_MAX_WINDOW_BITS])
        if _CLIENT_MAX_WINDOW_BITS in terms
        else _MAX_WINDOW_BITS,
    )
    parameters = []
    # RFC 7692 §7.1.2.1: who accepts an offer that names the server's window must name it too.
    if agreed.server_max_window_bits < _MAX_WINDOW_BITS or _SERVER_MAX_WINDOW_BITS in terms:
        parameters.append(f"{_SERVER_MAX_WINDOW_BITS}={agreed.server_max_window_bits}")
    if agreed.client_max_window_bits < _MAX_WINDOW_BITS:
        parameters.append(f"{_CLIENT_MAX_WINDOW_BITS}={agreed.client_max_window_bits}")
    if agreed.server_no_context_takeover:
        parameters.append(_SERVER_NO_CONTEXT_TAKEOVER)
    if agreed.client_no_context_takeover:
        parameters.append(_CLIENT_NO_CONTEXT_TAKEOVER)
    return agreed, _extension(*parameters)


# ---- the streams ----


class Deflater:
    """Compresses what this side sends.

    Args:
        window_bits: the window has 2 to the power of this many bytes, 9 to 15.
        no_context_takeover: compress each message on its own.
        level: zlib's level.
        memory_level: zlib's memory level.
    """

    __slots__ = ("_level", "_memory_level", "_no_context_takeover", "_stream", "_window_bits")

    def __init__(self, window_bits: int, *, no_context_takeover: bool, level: int, memory_level: int) -> None:
        self._window_bits = window_bits
        self._no_context_takeover = no_context_takeover
        self._level = level
        self._memory_level = memory_level
        self._stream: zlib._Compress | None = None

    def compress(self, data: bytes | bytearray | memoryview, *, final: bool = True) -> bytes:
        """Compress a message, or a fragment of it; what is returned must be sent, in this order.

        Args:
            data: the message, or its next part.
            final: whether the message ends with data.

        Returns:
            The payload of the frame; the peer can inflate all of it when it comes, also if the message goes on.

        Source: RFC 7692 §7.2.1.
        """
        if not data:
            compressed = _EMPTY_MESSAGE if final else b""
        else:
            stream = self._stream
            if stream is None:
                stream = zlib.compressobj(self._level, zlib.DEFLATED, -self._window_bits, self._memory_level)
                self._stream = stream
            compressed = stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)
            if final:
                compressed = compressed[: -len(_FLUSH_END)]
        if final and self._no_context_takeover:
            self._stream = None
        return compressed

    @property
    def settings(self) -> DeflateSettings:
        """What a message that is compressed alike by several depends on."""
        return self._window_bits, self._level, self._memory_level

    def begin_anew(self) -> None:
        """Refer to nothing before the next message: the peer's window has got what was not compressed here."""
        self._stream = None


class Inflater:
    """Inflates what the peer sends.

    Args:
        window_bits: the peer's window has 2 to the power of this many bytes at most, 8 to 15.
        no_context_takeover: the peer compresses each message on its own.
    """

    __slots__ = ("_final_blocks", "_history", "_no_context_takeover", "_stream", "_taken", "_window", "_window_bits")

    def __init__(self, window_bits: int, *, no_context_takeover: bool) -> None:
        self._window_bits = window_bits
        self._window = 1 << window_bits
        self._no_context_takeover = no_context_takeover
        self._stream: zlib._Decompress | None = None
        self._history = bytearray()  # the end of the output: the last window of it, and at most a quarter more
        self._taken = 0  # bytes of this message
        self._final_blocks = 0  # of this message

    def inflate(
        self, data: bytes | bytearray | memoryview, *, final: bool, max_size: int | None, held: int = 0
    ) -> bytes:
        """Inflate the next part of a message.

        Args:
            data: any part of the message's payload: all of it, a fragment, or a piece of one.
            final: whether the message ends with data.
            max_size: how many bytes the message may have, None for any number.
            held: how many of these were inflated before.

        Returns:
            All that can be told from what came so far. The stream is of no use after an error.

        Raises:
            MessageTooBig: the message has more than max_size bytes.
            RemoteProtocolError: with 1007, data is no deflate; with 1008, it is cut into too many final blocks.

        Source: RFC 7692 §7.2.2.
        """
        # A message without a byte, or with none after a final block, has no block that could lack its end.
        if final and (data or (self._taken and self._stream is not None)):
            data = b"".join((data, _FLUSH_END))
        self._taken += len(data)
        stream = self._stream or self._open()
        output = _run(stream, data, max_size, held)
        if stream.eof:
            output = self._go_on(stream, output, final=final, max_size=max_size, held=held)
        else:
            self._remember(output)
        if final:
            self._taken = self._final_blocks = 0
            if self._no_context_takeover:
                self._stream = None
                self._history.clear()
        return output

    def _open(self) -> zlib._Decompress:
        if self._history:
            stream = zlib.decompressobj(-self._window_bits, self._history[-self._window :])
        else:
            stream = zlib.decompressobj(-self._window_bits)
        self._stream = stream
        return stream

    def _remember(self, output: bytes) -> None:
        window, history = self._window, self._history
        if len(output) >= window:
            history[:] = output[-window:]
        else:
            history += output
            if len(history) > window + window // 4:  # now and then: each time would cost more than to inflate
                del history[:-window]

    def _go_on(self, stream: zlib._Decompress, output: bytes, *, final: bool, max_size: int | None, held: int) -> bytes:
        """Inflate what follows a final block (RFC 7692 §7.2.3.4), until the data ends."""
        outputs = [output]
        # A view, and short steps: zlib copies all input that follows a final block, for each such block.
        rest = memoryview(stream.unused_data)
        while True:
            self._remember(output)
            if stream.eof:
                self._end_stream(len(rest))
                if final and len(rest) <= len(_FLUSH_END):
                    _check_end(rest)
                    break
            if not rest:
                break
            stream = self._stream or self._open()
            held += len(output)
            output = _run(stream, rest[:_STEP], max_size, held)
            outputs.append(output)
            rest = rest[min(_STEP, len(rest)) - len(stream.unused_data) :]
        return b"".join(outputs)

    def _end_stream(self, left: int) -> None:
        self._stream = None
        self._final_blocks += 1
        # Counted by the place in the message, so that it does not matter how the message is cut into calls.
        most = _FREE_FINAL_BLOCKS + (self._taken - left) // _BYTES_PER_FINAL_BLOCK
        if self._final_blocks > most:
            raise RemoteProtocolError(f"message with too many final deflate blocks: over {most}", POLICY_VIOLATION)


def _run(stream: zlib._Decompress, data: bytes | bytearray | memoryview, max_size: int | None, held: int) -> bytes:
    """Inflate data up to a final block or its end; one byte over max_size is enough to know that it is too much."""
    try:
        output = stream.decompress(data, 0 if max_size is None else max_size + 1 - held)
    except zlib.error as error:
        raise RemoteProtocolError("compressed message is corrupt", INVALID_DATA) from error
    if max_size is not None and held + len(output) > max_size:
        what = f"compressed message inflates to {held + len(output)} bytes or more"
        raise MessageTooBig(f"{what}, at most {max_size} are taken (max_message_size)")
    return output


def _check_end(rest: memoryview) -> None:
    # An empty block should follow the final one (RFC 7692 §7.2.1). Without it, all of our own four bytes are left.
    if rest != _FLUSH_END:
        raise RemoteProtocolError("compressed message ends inside a block", INVALID_DATA)


class PerMessageDeflate:
    """Both streams of one connection.

    Args:
        parameters: what was agreed.
        compression: how to compress.
        is_client: which half of the parameters is ours.

    Attributes:
        deflater: for what this side sends.
        inflater: for what the peer sends.
        can_compress: whether zlib can keep to the window that was agreed for what this side sends. If not, messages go
            as they are, which a side may always do (RFC 7692 §6).
        threshold: messages of fewer bytes are better sent as they are.
    """

    __slots__ = ("can_compress", "deflater", "inflater", "threshold")

    def __init__(self, parameters: DeflateParameters, compression: Compression, *, is_client: bool) -> None:
        client = (parameters.client_max_window_bits, parameters.client_no_context_takeover)
        server = (parameters.server_max_window_bits, parameters.server_no_context_takeover)
        (our_bits, ours_alone), (their_bits, theirs_alone) = (client, server) if is_client else (server, client)
        self.can_compress = our_bits >= _MIN_ZLIB_WINDOW_BITS
        self.deflater: Deflater = Deflater(
            our_bits,
            no_context_takeover=ours_alone,
            level=compression.level,
            memory_level=compression.memory_level,
        )
        self.inflater: Inflater = Inflater(their_bits, no_context_takeover=theirs_alone)
        self.threshold: int = compression.threshold
