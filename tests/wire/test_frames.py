"""Frames as bytes: lengths in the fewest bytes, flags, masks."""

from __future__ import annotations

import pytest

from trio_ws._wire.frames import Opcode, frame_bytes


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, "8200"),
        (125, "827d"),
        (126, "827e007e"),
        (65535, "827effff"),
        (65536, "827f0000000000010000"),
    ],
)
def test_a_length_takes_the_fewest_bytes(size: int, head: str) -> None:
    assert frame_bytes(Opcode.BINARY, bytes(size), masked=False) == bytes.fromhex(head) + bytes(size)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_a_masked_frame_carries_its_key_and_the_masked_payload(size: int) -> None:
    payload = bytes(number % 256 for number in range(size))
    frame = frame_bytes(Opcode.BINARY, payload, masked=True)
    start = 2 if size < 126 else 4 if size < 65536 else 10
    mask = frame[start : start + 4]
    assert frame[1] & 0x80
    assert bytes(byte ^ mask[index % 4] for index, byte in enumerate(frame[start + 4 :])) == payload


@pytest.mark.parametrize(
    ("opcode", "fin", "rsv1", "first"),
    [
        (Opcode.TEXT, True, False, 0x81),
        (Opcode.TEXT, False, False, 0x01),
        (Opcode.CONTINUATION, True, False, 0x80),
        (Opcode.BINARY, True, True, 0xC2),
        (Opcode.CLOSE, True, False, 0x88),
        (Opcode.PING, True, False, 0x89),
        (Opcode.PONG, True, False, 0x8A),
    ],
)
def test_flags_and_opcode_make_the_first_byte(opcode: Opcode, fin: bool, rsv1: bool, first: int) -> None:
    assert frame_bytes(opcode, b"x", masked=False, fin=fin, rsv1=rsv1) == bytes((first, 1)) + b"x"


def test_each_frame_has_a_key_of_its_own() -> None:
    keys = {frame_bytes(Opcode.TEXT, b"", masked=True)[2:6] for _ in range(10000)}
    assert len(keys) > 9990  # among 2**32 keys, two equal ones are a chance of one in a hundred
