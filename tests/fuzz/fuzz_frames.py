"""Any bytes from a peer give events or one failure with 1002, 1007, 1008 or 1009, however they are cut and read."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

from trio_ws import Limits
from trio_ws._wire import masking, pure, reader
from trio_ws._wire.events import Close, Event, Ping, Pong

from ..wire.sequences import BYTEWISE, STINGY, Outcome, Reading, make_deflate, read

if TYPE_CHECKING:
    from collections.abc import Iterator

MASKED, DEFLATE, SMALL, ALONE, ZLIB = 1, 2, 4, 8, 16  # the bits of the first byte
CODES = (None, 1002, 1007, 1008, 1009)
SMALL_LIMITS = Limits(max_message_size=200, max_fragments=8, max_empty_fragments=2)

# The switches, how to cut, and the frames.
SEEDS = [
    bytes((switches, cut)) + bytes.fromhex(frames)
    for switches, cut, frames in [
        (0, 0, ""),
        (0, 0x12, "810548656c6c6f 820548656c6c6f 8900 8a0161 880203e8"),
        (0, 0x05, "0103e282ac 8901ff 000200c3 8001a9 880603e8627965"),
        (MASKED, 0x21, "818537fa213d7f9f4d5158 89800000000088820102030402ea"),
        (0, 0x33, "827e0080" + "ab" * 128),
        (SMALL, 0x40, "827e00c8" + "00" * 200 + "827e00c9"),
        (0, 0x01, "827f0000000000010000" + "61" * 40),
        (0, 0, "827fffffffffffffffff"),
        (SMALL, 0x11, "0200 0000 0000 0000"),
        (SMALL, 0x11, "020161" + "000161" * 8),
        (DEFLATE, 0x07, "c107f248cdc9c90700 c105f200110000"),
        (DEFLATE | ALONE, 0x07, "c107f248cdc9c90700 c105f200110000"),
        (DEFLATE, 0x03, "4103f248cd 8900 8004c9c90700"),
        (DEFLATE, 0x03, "c108f348cdc9c9070000 c107f248cdc9c90700 c10100"),
        (DEFLATE, 0x24, "c10b000500faff48656c6c6f00 c10df2480500 00 00ffffcac9c90700"),
        (DEFLATE | SMALL, 0x03, "c2086360a03d000000ffff 8200"),
        (DEFLATE | SMALL, 0x01, "c1096a00000000ffff6218"),  # no UTF-8, and too much
        (DEFLATE, 0x02, "c27e00c8" + "0300" * 100),
        (DEFLATE, 0x02, "c203ffffff"),
        (DEFLATE | ZLIB, 0x07, "c107f248cdc9c90700 c105f200110000"),
        (DEFLATE | ZLIB | ALONE, 0x03, "c108f348cdc9c9070000 c107f248cdc9c90700 c10100"),
        (DEFLATE | ZLIB | SMALL, 0x03, "c2086360a03d000000ffff 8200"),
        (0, 0x02, "8104f0908080 8103eda080"),
    ]
]


def TestOneInput(data: bytes) -> None:
    """Read data: a byte of switches, a byte that says how to cut, then what the peer sent."""
    if len(data) < 2:
        return
    switches, cut, sent = data[0], data[1], data[2:]
    limits = SMALL_LIMITS if switches & SMALL else Limits()
    cut_up = Reading(sizes=(cut % 16 + 1, cut // 16 + 1), budgets=(cut % 5 + 1,), alone=bool(cut & 1))
    outcomes = [read_as(switches, sent, reading, limits) for reading in (Reading(), BYTEWISE, STINGY, cut_up)]
    with in_python():
        outcomes += [read_as(switches, sent, reading, limits) for reading in (Reading(), cut_up)]
    events, code = outcomes[0]
    check_events(events, limits)
    for other_events, other_code in outcomes:
        assert other_code in CODES, other_code
        assert other_events == events
        # A compressed text may break two rules at once, and either is told.
        assert other_code == code or (switches & DEFLATE and None not in (code, other_code))


def read_as(switches: int, sent: bytes, reading: Reading, limits: Limits) -> Outcome:
    """Read what a peer sent."""
    deflate = None
    if switches & DEFLATE:
        deflate = make_deflate(
            is_client=True,
            no_context_takeover=bool(switches & ALONE),
            backend="zlib" if switches & ZLIB else None,  # or isal, where it is installed
        )
    return read(sent, reading, masked=bool(switches & MASKED), limits=limits, deflate=deflate)


@contextmanager
def in_python() -> Iterator[None]:
    """Do without the C extension."""
    with (
        patch.object(reader, "take_deflated", pure.take_deflated),
        patch.object(reader, "take_message", pure.take_message),
        patch.object(reader, "take_messages", pure.take_messages),
        patch.object(masking, "apply_mask", pure.apply_mask),
    ):
        yield


def check_events(events: list[Event], limits: Limits) -> None:
    """Check that the events are such as may come at all."""
    most = limits.max_message_size
    assert most is not None
    for index, event in enumerate(events):
        match event:
            case str():
                assert len(event.encode()) <= most
            case bytes():
                assert len(event) <= most
            case Ping(payload) | Pong(payload):
                assert len(payload) <= 125
            case Close(info):
                assert index == len(events) - 1
                assert len(info.reason.encode()) <= 123
