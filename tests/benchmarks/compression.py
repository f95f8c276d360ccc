"""What the levels of each library cost and save, by kind of data: ``python -m tests.benchmarks.compression``."""

from __future__ import annotations

import base64
import json
import random
import statistics
import time
from typing import TYPE_CHECKING

from trio_ws._wire.deflate_backends import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SYNC_FLUSH = 2
ROUNDS = 5
SIZES = (2**10, 2**14)
SETTINGS = [
    *(("zlib", level, 13, 5) for level in (1, 2, 3, 6)),
    ("zlib", 2, 12, 5),
    ("zlib", 2, 13, 6),
    ("zlib", 1, 15, 8),
    *(("isal", level, 13, 5) for level in (1, 6)),
]  # library, level, window bits, memory level
SYLLABLES = (
    "ba",
    "ka",
    "lo",
    "mi",
    "nu",
    "re",
    "sa",
    "te",
    "vo",
    "an",
    "el",
    "in",
    "or",
    "us",
    "th",
    "st",
    "ing",
    "ion",
    "ly",
)

Dice = random.Random


def words(dice: Dice) -> list[str]:
    """Make a vocabulary; short words are the most common."""
    return ["".join(dice.choices(SYLLABLES, k=1 + number // 800)) for number in range(3000)]


def ticks(dice: Dice) -> Iterator[str]:
    """Trades, as an exchange tells them."""
    clock = 1_764_368_000_000
    while True:
        clock += dice.randrange(1, 90)
        symbol = dice.choice(["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"])
        price, quantity = f"{dice.uniform(100, 90_000):.2f}", f"{dice.uniform(0, 3):.5f}"
        yield json.dumps({"e": "trade", "E": clock, "s": symbol, "p": price, "q": quantity, "m": dice.random() < 0.5})


def chat(dice: Dice) -> Iterator[str]:
    """What people write."""
    vocabulary = words(dice)
    while True:
        text = " ".join(vocabulary[int(dice.paretovariate(0.6)) % len(vocabulary)] for _ in range(12))
        yield json.dumps({"user": dice.choice(["anna", "bert", "carla"]), "room": dice.randrange(40), "text": text})


def html(dice: Dice) -> Iterator[str]:
    """Rows of a table."""
    for text in chat(dice):
        link = f'<a href="/item/{dice.randrange(10**5)}">{text[40:70]}</a>'
        yield f'<tr class="row"><td>{link}</td><td>{text[70:90]}</td>\n'


def base64_text(dice: Dice) -> Iterator[str]:
    """Random bytes as text."""
    while True:
        yield base64.b64encode(dice.randbytes(300)).decode()


def noise(dice: Dice) -> Iterator[bytes]:
    """Random bytes."""
    while True:
        yield dice.randbytes(300)


KINDS: dict[str, Callable[[Dice], Iterator[str | bytes]]] = {
    "JSON ticks": ticks,
    "chat": chat,
    "HTML": html,
    "base64": base64_text,
    "random": noise,
}


def messages(kind: str, size: int) -> list[bytes]:
    """Make messages of a kind and a size, half a MiB of them."""
    pieces: Iterator[str | bytes] = KINDS[kind](random.Random(kind))
    made = []
    for _ in range(2**19 // size):
        data = b""
        while len(data) < size:
            piece = next(pieces)
            data += piece.encode() if isinstance(piece, str) else piece
        made.append(data[:size])
    return made


def measure(setting: tuple[str, int, int, int], sent: list[bytes]) -> tuple[float, float, float]:
    """Give µs to compress a message, to inflate it, and what it becomes, as a part of what it was."""
    name, level, window_bits, memory_level = setting
    backend = BACKENDS[name]
    compressor = backend.open_compressor(window_bits, level, memory_level, b"")
    began = time.process_time()
    wire = [compressor.compress(data) + compressor.flush(SYNC_FLUSH) for data in sent]
    compressed = time.process_time()
    decompressor = backend.open_decompressor(window_bits, b"")
    read = [decompressor.decompress(data, 0) for data in wire]
    inflated = time.process_time()
    assert read == sent
    count, part = len(sent), sum(len(data) - 4 for data in wire) / sum(map(len, sent))
    return (compressed - began) / count * 1e6, (inflated - compressed) / count * 1e6, part


def main() -> None:
    """Print a table in Markdown for each size: µs to compress / µs to inflate / part that is left."""
    settings = [setting for setting in SETTINGS if setting[0] in BACKENDS]
    for size in SIZES:
        sent = {kind: messages(kind, size) for kind in KINDS}
        rounds = [
            {(setting, kind): measure(setting, sent[kind]) for setting in settings for kind in KINDS}
            for _ in range(ROUNDS)
        ]
        print(f"\n| {size // 2**10} KiB | {' | '.join(KINDS)} |\n| --- |{' ---: |' * len(KINDS)}")
        for setting in settings:
            name, level, window_bits, memory_level = setting
            cells = []
            for kind in KINDS:
                costs = [one[setting, kind] for one in rounds]
                compress, inflate, part = (statistics.median(cost[index] for cost in costs) for index in range(3))
                cells.append(f"{compress:.0f} / {inflate:.0f} / {part:.3f}")
            terms = f"window {window_bits}" + (f", memory {memory_level}" if name == "zlib" else "")
            print(f"| {name} level {level}, {terms} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
