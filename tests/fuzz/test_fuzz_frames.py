"""The fuzz target on bytes that were interesting once, on those with a few bits changed, and on random ones."""

from __future__ import annotations

import random

import pytest

from trio_ws import CloseInfo, Limits
from trio_ws._wire.reader import Close, Event, Ping

from .fuzz_frames import ALONE, DEFLATE, MASKED, SMALL, TestOneInput, check_events

# The switches, how to cut, and the frames.
CORPUS = [
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
        (0, 0x02, "8104f0908080 8103eda080"),
    ]
]


@pytest.mark.parametrize("data", CORPUS, ids=bytes.hex)
def test_the_corpus_keeps_the_invariant(data: bytes) -> None:
    TestOneInput(data)


@pytest.mark.parametrize("seed", range(10))
def test_what_is_almost_the_corpus_keeps_the_invariant(seed: int) -> None:
    chance = random.Random(seed)
    for data in CORPUS:
        changed = bytearray(data + chance.choice(CORPUS)[2:])
        for _ in range(chance.randrange(1, 4)):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        TestOneInput(bytes(changed))


@pytest.mark.parametrize("seed", range(10))
def test_random_bytes_keep_the_invariant(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(40):
        TestOneInput(chance.randbytes(chance.randrange(80)))


@pytest.mark.parametrize(
    "bad",
    [["\u20ac" * 2**19], [b"x" * (2**20 + 1)], [Ping(b"x" * 126)], [Close(CloseInfo()), "late"]],
    ids=["text", "bytes", "ping", "after a close"],
)
def test_the_target_looks_at_what_comes_out(bad: list[Event]) -> None:
    check_events([Ping(b"x" * 125), "x" * 2**20, Close(CloseInfo(1000, "x" * 123))], Limits())
    with pytest.raises(AssertionError):
        check_events(bad, Limits())
