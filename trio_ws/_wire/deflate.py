"""permessage-deflate: what is agreed on in the handshake, and which messages are compressed (RFC 7692).

Each direction has its own terms: the sender's window, and whether a message may refer to the ones before it.
:class:`PerMessageDeflate` gives our :class:`Deflater` our half of them and our :class:`Inflater` the peer's.

What a client demands of the server's compression is a wish. Many servers cannot choose their window, those in Go say,
and either decline an offer that names it or take the offer and leave the wish out. So a plain offer follows as a
fallback, and an answer that leaves a wish out answers that one. A larger window costs us memory, some 80 KiB at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .deflate_backends import choose_backend
from .deflater import Deflater
from .inflater import Inflater

if TYPE_CHECKING:
    from .._options import Compression

ExtensionList = list[tuple[str, list[tuple[str, str | None]]]]
"""A Sec-WebSocket-Extensions value: each extension's name with its parameters, None for one without a value."""

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


# ---- the messages ----


class PerMessageDeflate:
    """Both directions of one connection.

    Args:
        parameters: what was agreed.
        compression: how to compress.
        is_client: which half of the parameters is ours.

    Attributes:
        deflater: for what this side sends.
        inflater: for what the peer sends.
        can_compress: whether we can keep to the window that was agreed for what this side sends. If not, messages go
            as they are, which a side may always do (RFC 7692 §6).
        threshold: messages of fewer bytes are sent as they are.
    """

    __slots__ = ("can_compress", "deflater", "inflater", "threshold")

    def __init__(self, parameters: DeflateParameters, compression: Compression, *, is_client: bool) -> None:
        client = (parameters.client_max_window_bits, parameters.client_no_context_takeover)
        server = (parameters.server_max_window_bits, parameters.server_no_context_takeover)
        (our_bits, ours_alone), (their_bits, theirs_alone) = (client, server) if is_client else (server, client)
        self.can_compress: bool = our_bits >= _MIN_ZLIB_WINDOW_BITS
        backend = choose_backend(compression.backend)
        self.deflater: Deflater = Deflater(
            our_bits,
            no_context_takeover=ours_alone,
            level=compression.level,
            memory_level=compression.memory_level,
            backend=backend,
        )
        self.inflater: Inflater = Inflater(their_bits, no_context_takeover=theirs_alone, backend=backend)
        self.threshold: int = compression.threshold

    def is_wanted(self, payload: bytes | bytearray | memoryview, compress: bool | None) -> bool:
        """Tell whether a message is to be compressed if that makes it smaller; ``compress`` says so in any case."""
        return len(payload) >= self.threshold if compress is None else compress

    def is_worth_while(
        self, payload: str | bytes | bytearray | memoryview, compress: bool | None, is_text: bool
    ) -> bool:
        """Tell whether to compress a message, after a short trial.

        Args:
            payload: text may be ``str`` or UTF-8.
            compress: True or False if that is not to be looked at.
            is_text: then no trial is made: UTF-8 leaves so many bytes out that it always becomes smaller.
        """
        if compress is not None:
            return compress
        if len(payload) < self.threshold:
            return False
        return is_text or isinstance(payload, str) or self.deflater.is_compressible(payload)

    def compress(self, payload: bytes | bytearray | memoryview, compress: bool | None, is_text: bool) -> bytes | None:
        """Compress a message, or tell that it must be sent as it is, by None: that is not wanted, or would not help."""
        if not self.is_worth_while(payload, compress, is_text):
            return None
        return self.deflater.compress_if_smaller(payload) if compress is None else self.deflater.compress(payload)
