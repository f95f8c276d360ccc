"""Sequences of frames for the tests of the wire: hypothesis makes them, this module writes and reads them.

A :class:`Sent` is one message as a peer may send it, or one control frame; what it must become is in it too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import cycle, pairwise
from typing import TYPE_CHECKING, Literal

from hypothesis import strategies as st

from trio_ws import CloseInfo, Compression, Limits, RemoteProtocolError
from trio_ws._wire.deflate import DeflateParameters, PerMessageDeflate
from trio_ws._wire.events import Close, Event, Ping, Pong
from trio_ws._wire.frames import Opcode, frame_bytes
from trio_ws._wire.reader import MessageReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from trio_ws._wire.deflater import Deflater

Outcome = tuple[list[Event], int | None]
"""The events of some bytes, and the close code of the failure that ended them, if one did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One message of a peer's, with the control frames that come between its fragments.

    Attributes:
        message: what was said.
        cuts: where its payload is cut into fragments, as it goes on the wire.
        compressed: whether it is deflated, if that was agreed.
        between: control frames; one goes after each fragment but the last, as long as there are some.
    """

    message: str | bytes
    cuts: tuple[int, ...] = ()
    compressed: bool = False
    between: tuple[Ping | Pong, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How bytes reach a reader: in pieces of these sizes, understood in calls with these bounds, over and over.

    ``alone``: what is a whole message is taken as such.
    """

    sizes: tuple[int, ...] = (2**62,)
    budgets: tuple[int, ...] = (256,)
    rooms: tuple[float, ...] = (2**20,)
    alone: bool = False


WHOLE = Reading()
BYTEWISE = Reading(sizes=(1,))
STINGY = Reading(budgets=(1,), rooms=(1,))

payloads = st.one_of(
    st.text(max_size=40),
    st.binary(max_size=40),
    st.sampled_from(
        ["\N{GRINNING FACE}\u20ac\u00e9" * 60, b"", "", b"\x00" * 125, "x" * 126, b"y" * 127, b"spam" * 300]
    ),
)
controls = st.builds(Ping, st.binary(max_size=125)) | st.builds(Pong, st.binary(max_size=125))
sent = st.builds(
    Sent,
    message=payloads,
    cuts=st.lists(st.integers(0, 60), max_size=4).map(tuple),
    compressed=st.booleans(),
    between=st.lists(controls, max_size=3).map(tuple),
)
closes = st.builds(
    CloseInfo, st.sampled_from([1000, 1001, 1003, 1007, 1014, 3000, 4999]), st.text(max_size=30), st.just(False)
).map(Close) | st.just(Close(CloseInfo(1005)))
sequences = st.lists(sent | controls, max_size=8)
readings = st.builds(
    Reading,
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6).map(tuple),
    budgets=st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple),
    rooms=st.lists(st.integers(1, 400), min_size=1, max_size=4).map(tuple),
    alone=st.booleans(),
)


def make_deflate(
    *,
    is_client: bool,
    window_bits: int = 15,
    no_context_takeover: bool = False,
    backend: Literal["isal", "zlib"] | None = None,
) -> PerMessageDeflate:
    """Make the deflate of one side, both directions on the same terms."""
    parameters = DeflateParameters(
        server_max_window_bits=window_bits,
        client_max_window_bits=window_bits,
        server_no_context_takeover=no_context_takeover,
        client_no_context_takeover=no_context_takeover,
    )
    return PerMessageDeflate(parameters, Compression(threshold=0, backend=backend), is_client=is_client)


def expected(items: Iterable[Sent | Ping | Pong | Close]) -> list[Event]:
    """Tell what a sequence must become: control frames come out before the message that they interrupt."""
    events: list[Event] = []
    for item in items:
        if isinstance(item, Sent):
            events += item.between[: len(item.cuts)]
            events.append(item.message)
        else:
            events.append(item)
    return events


def to_bytes(
    items: Iterable[Sent | Ping | Pong | Close], *, masked: bool = False, deflater: Deflater | None = None
) -> bytes:
    """Write a sequence as frames."""
    return b"".join(frame for item in items for frame in _frames(item, masked=masked, deflater=deflater))


def _frames(item: Sent | Ping | Pong | Close, *, masked: bool, deflater: Deflater | None) -> Iterator[bytes]:
    if isinstance(item, Ping | Pong):
        yield frame_bytes(Opcode.PING if isinstance(item, Ping) else Opcode.PONG, item.payload, masked=masked)
    elif isinstance(item, Close):
        body = b"" if item.info.code == 1005 else item.info.code.to_bytes(2) + item.info.reason.encode()
        yield frame_bytes(Opcode.CLOSE, body, masked=masked)
    else:
        opcode = Opcode.TEXT if isinstance(item.message, str) else Opcode.BINARY
        payload = item.message.encode() if isinstance(item.message, str) else item.message
        rsv1 = item.compressed and deflater is not None
        if item.compressed and deflater is not None:
            payload = deflater.compress(payload)
        edges = [0, *sorted(min(cut, len(payload)) for cut in item.cuts), len(payload)]
        for index, (start, stop) in enumerate(pairwise(edges)):
            fin = index == len(edges) - 2
            yield frame_bytes(
                Opcode.CONTINUATION if index else opcode,
                payload[start:stop],
                masked=masked,
                fin=fin,
                rsv1=rsv1 and not index,
            )
            if not fin and index < len(item.between):
                yield from _frames(item.between[index], masked=masked, deflater=None)


def pieces(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Cut data into pieces of these sizes, over and over."""
    position = 0
    for size in cycle(sizes):
        if position >= len(data):
            return
        yield data[position : position + size]
        position += size


@dataclass(slots=True)
class Reader:
    """A MessageReader with what it has read; after a failure or a Close it takes nothing more, as in the protocol."""

    reader: MessageReader
    reading: Reading = WHOLE
    events: list[Event] = field(default_factory=list)
    code: int | None = None

    def read(self, data: bytes) -> Outcome:
        """Read data as the reading says; give all events so far, and the close code of a failure."""
        budgets, rooms = cycle(self.reading.budgets), cycle(self.reading.rooms)
        for piece in pieces(data, self.reading.sizes):
            if self.code is not None or (self.events and isinstance(self.events[-1], Close)):
                break
            if self.reading.alone and (message := self.reader.take_whole(piece)) is not None:
                self.events.append(message)
                continue
            self.reader.feed(piece)
            try:
                while self.reader.read_into(self.events, next(budgets), next(rooms)):
                    pass
            except RemoteProtocolError as error:
                self.code = error.close_code
                assert self.code is not None
        return self.events, self.code


def read(
    data: bytes,
    reading: Reading = WHOLE,
    *,
    masked: bool = False,
    limits: Limits | None = None,
    deflate: PerMessageDeflate | None = None,
) -> Outcome:
    """Read data with a new reader."""
    inflater = None if deflate is None else deflate.inflater
    return Reader(MessageReader(masked=masked, limits=limits or Limits(), inflater=inflater), reading).read(data)
