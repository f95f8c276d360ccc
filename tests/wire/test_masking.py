"""Masks: the XOR against the RFC's own words, whichever was built, and keys that nobody can guess."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_ws._wire import masking
from trio_ws._wire.masking import apply_mask, new_mask, rotate_mask

MASK = bytes.fromhex("37fa213d")
POOL = masking._POOL_SIZE


def by_the_book(data: bytes, mask: bytes) -> bytes:
    # RFC 6455 §5.3: octet i of the result is octet i of the data XOR octet i MOD 4 of the key.
    return bytes(octet ^ mask[index % 4] for index, octet in enumerate(data))


@pytest.fixture
def empty_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_pool", iter(()))


def test_the_masked_hello_of_the_rfc() -> None:
    assert apply_mask(b"Hello", MASK) == bytes.fromhex("7f9f4d5158")
    assert apply_mask(bytes.fromhex("7f9f4d5158"), MASK) == b"Hello"


@given(data=st.binary(max_size=300), mask=st.binary(min_size=4, max_size=4))
def test_masking_twice_gives_the_data_back(data: bytes, mask: bytes) -> None:
    assert apply_mask(data, mask) == by_the_book(data, mask)
    assert apply_mask(apply_mask(data, mask), mask) == data


@pytest.mark.parametrize(
    ("offset", "rotated"),
    [(0, "37fa213d"), (1, "fa213d37"), (2, "213d37fa"), (3, "3d37fa21"), (4, "37fa213d"), (2**40 + 3, "3d37fa21")],
)
def test_a_rotated_mask_begins_at_the_offset(offset: int, rotated: str) -> None:
    assert rotate_mask(MASK, offset) == bytes.fromhex(rotated)


@given(data=st.binary(max_size=50), cuts=st.lists(st.integers(0, 50), max_size=5))
def test_a_payload_in_pieces_is_masked_as_in_one(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    mask, masked = MASK, b""
    for start, stop in itertools.pairwise(edges):
        masked += apply_mask(data[start:stop], mask)
        mask = rotate_mask(mask, stop - start)
    assert masked == by_the_book(data, MASK)


@pytest.mark.usefixtures("empty_pool")
def test_each_random_byte_is_used_in_one_mask_only(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bytes] = []

    def draw(size: int) -> bytes:
        # Every four bytes are a number of their own.
        start = sum(map(len, drawn)) // 4
        drawn.append(b"".join(number.to_bytes(4) for number in range(start, start + size // 4)))
        return drawn[-1]

    monkeypatch.setattr(os, "urandom", draw)
    count = POOL // 4 + 1
    assert [int.from_bytes(new_mask()) for _ in range(count)] == list(range(count))
    assert [len(block) for block in drawn] == [POOL, POOL]


def test_ten_thousand_masks_are_distinct_but_for_chance() -> None:
    masks = [new_mask() for _ in range(10_000)]
    assert {len(mask) for mask in masks} == {4}
    # A pair of equal ones turns up in one run of 86; three pairs in one of 4 million.
    assert len(set(masks)) >= 9_998


@pytest.mark.usefixtures("empty_pool")
def test_the_global_random_generator_has_no_say() -> None:
    def after_seed() -> list[bytes]:
        masking._drop_pool()
        random.seed(0)
        return [new_mask() for _ in range(4)]

    state = random.getstate()
    try:
        assert after_seed() != after_seed()
    finally:
        random.setstate(state)


@pytest.mark.usefixtures("empty_pool")
def test_a_dropped_pool_is_never_given_out() -> None:
    new_mask()
    dropped = masking._pool
    masking._drop_pool()
    mask = new_mask()
    assert len(list(dropped)) == POOL // 4 - 1
    assert len(mask) == 4


FORK = """
import os
from trio_ws._wire.masking import new_mask

new_mask()
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.write(writer, b"".join(new_mask() for _ in range(500)))
    os._exit(0)
os.close(writer)
with open(reader, "rb") as pipe:
    drawn = pipe.read()
os.waitpid(child, 0)
theirs = {drawn[start : start + 4] for start in range(0, len(drawn), 4)}
ours = {new_mask() for _ in range(500)}
print(len(theirs | ours))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_child_draws_masks_of_its_own() -> None:
    # In a process of its own: forking this one would warn about its threads.
    root = str(Path(__file__).parents[2])
    finished = subprocess.run(
        [sys.executable, "-c", FORK], env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, check=True
    )
    assert int(finished.stdout) >= 998  # of 1000: an equal pair by chance is rare, three are never seen
