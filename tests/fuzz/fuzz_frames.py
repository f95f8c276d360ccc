"""Any bytes from a peer give events or one failure with 1002, 1007, 1008 or 1009, the same however they are cut.

``test_fuzz_frames.py`` runs this over a small corpus and random bytes. To look for more, with atheris installed::

    python -m tests.fuzz.fuzz_frames corpus/
"""

from __future__ import annotations

import sys

from trio_ws import Limits
from trio_ws._wire.reader import Close, Event, Ping, Pong

from ..wire.sequences import BYTEWISE, STINGY, Reading, make_deflate, read

MASKED, DEFLATE, SMALL, ALONE = 1, 2, 4, 8  # the bits of the first byte
CODES = (None, 1002, 1007, 1008, 1009)
SMALL_LIMITS = Limits(max_message_size=200, max_fragments=8, max_empty_fragments=2)


def TestOneInput(data: bytes) -> None:
    """Read data: a byte of switches, a byte that says how to cut, then what the peer sent."""
    if len(data) < 2:
        return
    switches, cut, sent = data[0], data[1], data[2:]
    limits = SMALL_LIMITS if switches & SMALL else Limits()
    outcomes = []
    for reading in (Reading(), BYTEWISE, STINGY, Reading(sizes=(cut % 16 + 1, cut // 16 + 1), budgets=(cut % 5 + 1,))):
        deflate = None
        if switches & DEFLATE:
            deflate = make_deflate(is_client=True, no_context_takeover=bool(switches & ALONE))
        outcomes.append(read(sent, reading, masked=bool(switches & MASKED), limits=limits, deflate=deflate))
    events, code = outcomes[0]
    check_events(events, limits)
    for other_events, other_code in outcomes:
        assert other_code in CODES, other_code
        assert other_events == events
        # A compressed text may break two rules at once, and either is told.
        assert other_code == code or (switches & DEFLATE and None not in (code, other_code))


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


def main() -> None:
    """Hand over to atheris."""
    import atheris  # type: ignore[import-untyped]

    atheris.instrument_all()
    atheris.Setup(sys.argv, TestOneInput)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
