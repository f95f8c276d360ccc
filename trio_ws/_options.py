"""The options that clients and servers share: frozen, keyword-only, each described here and nowhere else."""

from __future__ import annotations

import enum
import inspect
import math
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Literal, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Keywords = TypeVar("Keywords")


class _SameOrigin(enum.Enum):
    SAME_ORIGIN = enum.auto()

    def __repr__(self) -> str:
        return "SAME_ORIGIN"


SAME_ORIGIN: Final = _SameOrigin.SAME_ORIGIN
"""The default of ``origins``: a request with an Origin is taken only if it names the host that the request is for."""

Origins = _SameOrigin | tuple[str | None, ...] | None
"""Which origins a server takes: SAME_ORIGIN, a tuple of exact origins (None: no Origin header), or None: any."""


def _check_number(owner: object, name: str, value: object, least: float, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value < least:
        none = " or None" if optional else ""
        raise ValueError(f"{type(owner).__name__}({name}={value!r}): it must be a number from {least:g}{none}")


_FROM_ZERO = ("max_message_size", "close_linger", "max_body_size", "h2_max_continuations")
_MAX_WINDOW = 2**31 - 1  # RFC 9113 §6.9.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a peer may cost us, at most; None means no limit.

    Attributes:
        max_message_size: bytes of one message, after decompression; over it the connection fails with 1009.
        max_fragments: frames of one message; over it 1008. "auto" is a 256th of max_message_size, at least 1024,
            and no limit where that has none.
        max_empty_fragments: empty frames in a row inside one message; over it 1008.
        receive_buffer: bytes of messages that wait for ``receive()``, each counted with 64 bytes more than it has,
            and text that is not ASCII with four bytes a character; when it is full, nothing is read until the
            application takes some.
        send_buffer: bytes that wait for the network; while there are as many, ``send()`` waits.
        control_burst: pings and pongs that a peer may send at once; over it 1008.
        control_rate: pings and pongs a second that a peer may send on and on.
        max_request_line: bytes of the line that begins a request; over it HTTP status 414.
        max_header_line: bytes of one header line; over it 431.
        max_headers: number of header lines; over it 431.
        max_head_size: bytes of a whole HTTP head; over it 431.
        max_body_size: bytes of an HTTP body that is read, of a rejection say; what is over it is dropped.
        close_linger: seconds to wait for the peer to close its side of TCP after both Close frames; for its end of an
            HTTP/2 stream it has a fraction of a second at most.
        h2_max_streams: streams that a peer may have open on one HTTP/2 connection, half-closed ones included; one more
            is refused with REFUSED_STREAM.
        h2_max_handlers: handlers that run for one HTTP/2 connection, those whose stream has ended included; over it a
            new stream waits until one of them has ended. "auto" is ten times h2_max_streams.
        h2_refused_burst: streams that may be refused at once; over it the connection ends with ENHANCE_YOUR_CALM, as
            with all limits below that say nothing else.
        h2_refused_rate: streams a second that may be refused on and on.
        h2_max_streams_total: streams that one connection carries in its life; then it takes no more than were on their
            way, with GOAWAY, and ends with the last of them.
        h2_stream_window: bytes that a peer may send on one stream ahead of what the application has taken, at first.
            While the application keeps up it grows with the path's round trip, to at most twice receive_buffer.
        h2_reset_burst: streams that a peer may reset before they are answered and within a second, or make us reset, at
            once.
        h2_reset_rate: streams a second that it may reset so on and on.
        h2_control_burst: frames that nothing comes of, such as PING and SETTINGS, that a peer may send at once.
        h2_control_rate: such frames a second on and on.
        h2_queued_control: frames that may wait for a peer that does not read what it asked for.
        h2_max_settings: settings in one frame.
        h2_max_continuations: CONTINUATION frames of one header block, which may have twice max_head_size bytes.
        h2_header_timeout: seconds from the first frame of a header block to its last.
        h2_max_empty_data: DATA frames in a row that bring nothing and end nothing.
        h2_small_data: what DATA frames under 256 bytes may cost while nobody has read them: 256 each, less its bytes.
            Those on a stream whose window has grown are not counted.
        h2_stall_timeout: seconds that we wait for the peer to open its window to what we have to send; then the stream
            is reset with CANCEL.
        h2_idle_timeout: seconds that a connection without streams is kept; then it ends with GOAWAY.

    Raises:
        ValueError: a value is no number, or too small.
    """

    max_message_size: int | None = 2**20
    max_fragments: int | Literal["auto"] | None = "auto"
    max_empty_fragments: int | None = 64
    receive_buffer: int | None = 2**20
    send_buffer: int | None = 2**16
    control_burst: int | None = 1000
    control_rate: float = 100.0
    max_request_line: int = 8192
    max_header_line: int = 8192
    max_headers: int = 100
    max_head_size: int = 16384
    max_body_size: int = 65536
    close_linger: float = 2.0
    h2_max_streams: int = 100
    h2_max_handlers: int | Literal["auto"] | None = "auto"
    h2_refused_burst: int | None = 100
    h2_refused_rate: float = 10.0
    h2_max_streams_total: int | None = 10_000
    h2_stream_window: int = 2**16
    h2_reset_burst: int | None = 100
    h2_reset_rate: float = 10.0
    h2_control_burst: int | None = 1000
    h2_control_rate: float = 100.0
    h2_queued_control: int | None = 1000
    h2_max_settings: int = 32
    h2_max_continuations: int = 8
    h2_header_timeout: float = 5.0
    h2_max_empty_data: int | None = 10
    h2_small_data: int | None = 2**18
    h2_stall_timeout: float = 60.0
    h2_idle_timeout: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value == "auto" and field.name in ("max_fragments", "h2_max_handlers"):
                continue
            least = 0 if field.name in _FROM_ZERO or field.name.endswith(("_rate", "_timeout")) else 1
            _check_number(self, field.name, value, least, optional="None" in str(field.type))
            # What counts bytes or things goes to zlib and to slices, which take an int of a machine word.
            if "int" in str(field.type) and value is not None and not (isinstance(value, int) and value < 2**62):
                raise ValueError(f"Limits({field.name}={value!r}): it must be an int below 2**62")
        for name in ("h2_max_streams", "h2_stream_window"):  # what HTTP/2 has 31 bits for
            if getattr(self, name) > _MAX_WINDOW:
                raise ValueError(f"Limits({name}={getattr(self, name)!r}): it must be at most 2**31 - 1")

    @property
    def fragments(self) -> float:
        """The number of frames that one message may have, with "auto" worked out."""
        if self.max_fragments != "auto":
            return math.inf if self.max_fragments is None else self.max_fragments
        return math.inf if self.max_message_size is None else max(1024, self.max_message_size // 256)

    @property
    def handlers(self) -> float:
        """The number of handlers that may run for one HTTP/2 connection, with "auto" worked out."""
        if self.h2_max_handlers != "auto":
            return math.inf if self.h2_max_handlers is None else self.h2_max_handlers
        return 10 * self.h2_max_streams


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """How permessage-deflate (RFC 7692) is offered, accepted and used; ``compression=None`` switches it off.

    Attributes:
        threshold: messages of fewer bytes are sent as they are; so is a message that does not become smaller.
        level: zlib's level, 1 (fast) to 9 (small); isal has levels that write about as much, up to 6.
        memory_level: zlib's memory level, 1 (32 times less memory) to 9, while a stream is open; isal has none.
        server_max_window_bits: largest window, 2 to the power of 9 to 15 bytes, for what the server compresses.
        client_max_window_bits: the same for what the client compresses.
        server_no_context_takeover: the server compresses each message on its own.
        client_no_context_takeover: the client compresses each message on its own.
        backend: the library that does it: "isal", which the extra ``trio-ws[speed]`` brings, or "zlib". None: what the
            environment variable ``TRIO_WS_DEFLATE`` says, and without that "isal" if it is installed. Levels 7 to 9 are
            always zlib's. ``statistics()`` tells which ones are used.

    Raises:
        ValueError: a value is out of range, or the backend is not installed.
    """

    threshold: int = 1024
    level: int = 2
    memory_level: int = 5
    server_max_window_bits: int = 13
    client_max_window_bits: int = 13
    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    backend: Literal["isal", "zlib"] | None = None

    def __post_init__(self) -> None:
        # zlib cannot make raw deflate with a window of 2**8 bytes, so 9 is the least that we can promise to use.
        ranges = {
            "threshold": (0, math.inf),
            "level": (1, 9),
            "memory_level": (1, 9),
            "server_max_window_bits": (9, 15),
            "client_max_window_bits": (9, 15),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"Compression({name}={value!r}): it must be a whole number from {least} to {most}")
        if self.backend not in ("isal", "zlib", None):
            raise ValueError(f"Compression(backend={self.backend!r}): it must be 'isal', 'zlib' or None")
        if self.backend == "isal" and find_spec("isal") is None:
            raise ValueError("Compression(backend='isal'): it is not installed; the extra trio-ws[speed] brings it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive:
    """When to ask whether a silent peer is still there; ``keepalive=None`` never asks.

    Any byte from the peer counts as life. The clock stands still while nothing is read because the application leaves
    its receive buffer full, unless bytes of ours wait for the peer: if it takes none of them for ``interval`` and
    ``timeout`` together, the connection fails with 1011. Over HTTP/2 the connection is read in any case, so its PING
    is answered and counts then, too.

    What came while the process stood still is read before anybody is given up; a peer that has said nothing then gets
    ``timeout`` seconds once more.

    Attributes:
        interval: seconds of silence before a ping is sent.
        timeout: seconds of silence after that ping before the connection fails with 1011; None: never.

    While a long message of ours is on its way, bytes that the peer's side takes are life too: it cannot answer a ping
    that is still behind them. On Linux these are the bytes that the peer's system acknowledges; elsewhere, those for
    which this system makes room.

    Raises:
        ValueError: a value is not above 0.
    """

    interval: float = 20.0
    timeout: float | None = 20.0

    def __post_init__(self) -> None:
        for name in ("interval", "timeout"):
            value = getattr(self, name)
            if value is None and name == "timeout":
                continue
            _check_number(self, name, value, 0)
            if value == 0:
                raise ValueError(f"Keepalive({name}=0): it must be above 0")


def check_timeout(name: str, value: float) -> None:
    """Check a number of seconds that a caller passed.

    Raises:
        ValueError: it is no number from 0 on.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value < 0:
        raise ValueError(f"{name}={value!r}: it must be a number of seconds from 0 on")


def check_shared_options(
    *,
    compression: Compression | None,
    limits: Limits,
    keepalive: Keepalive | None,
    connect_timeout: float,
    close_timeout: float,
) -> None:
    """Check the options that clients and servers share.

    Raises:
        TypeError: an option is of the wrong class.
        ValueError: a timeout is no number of seconds.
    """
    if not isinstance(limits, Limits):
        raise TypeError(f"limits must be a Limits, not {limits!r}")
    if not isinstance(compression, Compression | None):
        raise TypeError(f"compression must be a Compression or None, not {compression!r}")
    if not isinstance(keepalive, Keepalive | None):
        raise TypeError(f"keepalive must be a Keepalive or None, not {keepalive!r}")
    check_timeout("connect_timeout", connect_timeout)
    check_timeout("close_timeout", close_timeout)


def defaults_of(function: Callable[..., object], keywords: type[Keywords]) -> Keywords:
    """Read the defaults of keyword arguments where they are written and described: in a function's signature.

    Args:
        keywords: a TypedDict that names those that are wanted.
    """
    parameters = inspect.signature(function).parameters
    return cast("Keywords", {name: parameters[name].default for name in keywords.__annotations__})


def check_names(options: Mapping[str, object], known: Mapping[str, object]) -> None:
    """Check the names of keyword arguments that were collected with ``**``.

    Raises:
        TypeError: one is not known.
    """
    for name in options:
        if name not in known:
            raise TypeError(f"unexpected keyword argument {name!r}")
