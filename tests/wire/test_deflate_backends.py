"""The libraries that compress: which one is chosen, what each cannot do, and that each reads what the others write."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from trio_ws import Compression
from trio_ws._wire.deflate_backends import BACKENDS, BEST, VARIABLE, ZLIB, choose_backend
from trio_ws._wire.deflater import Deflater
from trio_ws._wire.inflater import Inflater

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_isal = pytest.mark.skipif("isal" not in BACKENDS, reason="isal is not installed")
PAIRS = list(itertools.product(BACKENDS, BACKENDS))


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


# ---- which one ----


def test_the_best_that_is_installed_is_used() -> None:
    assert choose_backend(None) is BEST is BACKENDS.get("isal", ZLIB)


@pytest.mark.parametrize("name", BACKENDS)
def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(VARIABLE, name)
    assert choose_backend(None).name == name


@pytest.mark.parametrize("name", BACKENDS)
def test_an_argument_chooses_over_the_environment(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(VARIABLE, "zlib")
    assert choose_backend(name).name == name


@pytest.mark.parametrize("name", ["zlib-ng", "ZLIB", " "])
def test_what_is_not_known_in_the_environment_is_told_and_passed_over(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(VARIABLE, name)
    with pytest.warns(UserWarning, match=f"TRIO_WS_DEFLATE={name}: not one of zlib.*, so {BEST.name} is used"):
        assert choose_backend(None) is BEST


@pytest.mark.parametrize("backend", ["zlib-ng", "", True, ZLIB])
def test_an_unknown_backend_is_refused(backend: object) -> None:
    with pytest.raises(ValueError, match=r"Compression\(backend=.*\): it must be 'isal', 'zlib' or None"):
        Compression(backend=backend)  # type: ignore[arg-type]


WITHOUT = """
import sys
sys.modules["isal"] = None
import importlib.machinery as machinery
find = machinery.PathFinder.find_spec
machinery.PathFinder.find_spec = lambda name, *more: None if name == "isal" else find(name, *more)
del sys.modules["isal"]
from trio_ws import Compression
from trio_ws._wire.deflate_backends import BACKENDS, BEST
print(*BACKENDS, BEST.name)
try:
    Compression(backend="isal")
except ValueError as error:
    print(error)
"""


def test_without_isal_it_is_zlib_and_asking_for_isal_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], env=os.environ, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first == "zlib zlib"
    assert second == "Compression(backend='isal'): it is not installed; the extra trio-ws[speed] brings it"


# ---- what they cannot do ----


@needs_isal
@pytest.mark.parametrize(
    ("level", "name"), [(1, "isal"), (3, "isal"), (4, "isal"), (6, "isal"), (7, "zlib"), (9, "zlib")]
)
def test_the_smallest_levels_are_always_zlibs(level: int, name: str) -> None:
    deflater = Deflater(12, no_context_takeover=False, level=level, memory_level=5, backend=BACKENDS["isal"])
    assert deflater.backend.name == name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("level", range(1, 10))
def test_a_level_writes_about_what_zlibs_does_or_less(backend: str, level: int) -> None:
    dice = random.Random(5)
    rows = (f'{{"price": {dice.randrange(90_000) / 100}, "name": "{dice.randrange(40)}"}}' for _ in range(3000))
    data = ",".join(rows).encode()

    def size(name: str) -> int:
        deflater = Deflater(12, no_context_takeover=True, level=level, memory_level=5, backend=BACKENDS[name])
        return len(deflater.compress(data))

    assert size(backend) <= size("zlib") * 1.05


def past(window_bits: int, seed: int) -> bytes:
    """Make data with matches at every distance up to the window, and just beyond it."""
    dice = random.Random(seed)
    window = 1 << window_bits
    data = bytearray()
    blocks = [dice.randbytes(dice.randrange(4, 300)) for _ in range(200)]
    while len(data) < 3 * window:
        data += dice.choice(blocks) if dice.random() < 0.9 else dice.randbytes(50)
    for distance in (window - 1, window, window + 1, window + 300, window - 262):
        data += data[-distance:][:400]
    return bytes(data)


def messages(data: bytes, seed: int) -> Iterator[bytes]:
    """Cut data into messages."""
    dice = random.Random(seed)
    position = 0
    while position < len(data):
        size = dice.choice([1, 20, 700, 5000])
        yield data[position : position + size]
        position += size


@pytest.mark.parametrize(("writer", "reader"), PAIRS)
@pytest.mark.parametrize("window_bits", range(9, 16))
@pytest.mark.parametrize("level", [1, 6])
@pytest.mark.parametrize("closing", [False, True], ids=["one stream", "a stream for each message"])
def test_nobody_refers_back_beyond_the_window(
    writer: str, reader: str, window_bits: int, level: int, closing: bool
) -> None:
    deflater = Deflater(window_bits, no_context_takeover=False, level=level, memory_level=5, backend=BACKENDS[writer])
    inflater = Inflater(window_bits, no_context_takeover=False, backend=BACKENDS[reader])
    for message in messages(past(window_bits, level), 7):
        payload = deflater.compress(message)
        read = bytearray()
        for index in range(len(payload)):  # so that the library has its window alone to look back in
            last = index == len(payload) - 1
            read += inflater.inflate(payload[index : index + 1], final=last, max_size=None)
        assert read == message
        if closing:
            deflater.close_stream()
            inflater.close_stream()


@pytest.mark.parametrize("reader", BACKENDS)
def test_a_window_of_eight_bits_is_read_by_all(reader: str) -> None:
    deflater = Deflater(9, no_context_takeover=False, level=6, memory_level=5, backend=ZLIB)
    text = random.Random(8).randbytes(240) * 3  # zlib refers back 250 bytes at most with a window of 512
    inflater = Inflater(8, no_context_takeover=False, backend=BACKENDS[reader])
    for _ in range(3):
        assert inflater.inflate(deflater.compress(text), final=True, max_size=None) == text
        inflater.close_stream()


# ---- long messages in several calls ----


@pytest.mark.parametrize(("writer", "reader"), PAIRS)
@pytest.mark.parametrize("at_once", [1, 1000, 50_000, 10**6])
@pytest.mark.parametrize("final_block", [False, True])
def test_what_is_left_for_later_comes_later(writer: str, reader: str, at_once: int, final_block: bool) -> None:
    data = bytes(60_000) + b"spam and eggs " * 3000 + random.Random(3).randbytes(5000) + bytes(40_000)
    data = data[:6000] if at_once == 1 else data
    deflater = Deflater(12, no_context_takeover=False, level=1, memory_level=5, backend=BACKENDS[writer])
    inflater = Inflater(12, no_context_takeover=False, backend=BACKENDS[reader])
    for _ in range(2):
        payload = deflater.compress(data)
        if final_block:
            payload = b"\x03\x00" + payload  # an empty one before it
        read = inflater.inflate(payload, final=True, max_size=len(data), at_once=at_once)
        sizes = [len(read)]
        while inflater.rest is not None:
            piece = inflater.go_on(max_size=len(data), held=len(read), at_once=at_once)
            sizes.append(len(piece))
            read += piece
        assert read == data
        assert max(sizes) <= at_once + (2**20 if final_block else 0)
