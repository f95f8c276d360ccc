"""What every fuzz target has: a way to take decisions from bytes, and one to change bytes that were interesting."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import random
    from collections.abc import Coroutine, Iterator, Sequence

Item = TypeVar("Item")


class Choices:
    """Decisions taken from bytes, one after the other; when they are used up every decision is the first one.

    A seed is written with the bytes that lead where it wants to go: so a fuzzer's changes of it stay close.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def byte(self) -> int:
        """Take one byte."""
        return next(iter(self.take(1)), 0)

    def take(self, size: int) -> bytes:
        """Take so many bytes, fewer if there are no more."""
        taken = self._data[self._position : self._position + size]
        self._position += len(taken)
        return taken

    def long(self) -> int:
        """Take four bytes as a number."""
        return int.from_bytes(self.take(4))

    def some(self) -> bytes:
        """Take a byte that says how many, and as many bytes."""
        return self.take(self.byte())

    def rest(self) -> bytes:
        """Take what is left."""
        return self.take(len(self._data))

    def pick(self, items: Sequence[Item]) -> Item:
        """Choose one of a few."""
        return items[self.byte() % len(items)]

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Cut data where the next decision says: not at all, into bytes, or into pieces of two sizes by turns."""
        cut = self.byte()
        sizes = [len(data)] if not cut else [cut % 16 + 1, cut // 16 * 16 + 1]
        position = turn = 0
        while position < len(data):
            size = sizes[turn % len(sizes)]
            yield data[position : position + size]
            position += size
            turn += 1


def seed(*parts: bytes | int) -> bytes:
    """Write a seed: each int is one byte."""
    return b"".join(bytes([part]) if isinstance(part, int) else part for part in parts)


def sized(data: bytes) -> bytes:
    """Write what :meth:`Choices.some` takes."""
    assert len(data) < 256
    return bytes([len(data)]) + data


def mutate(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Change a few things about data: bits, bytes, pieces that go, come twice or come from the other."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(changed) + 1)
        size = chance.randrange(1, 9)
        match chance.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(changed):
                changed[at] = chance.choice((0, 1, 10, 13, 32, 127, 128, 255))
            case 2:
                del changed[at : at + size]
            case 3:
                changed[at:at] = changed[at : at + size]
            case 4:
                changed[at:] = other[chance.randrange(len(other) + 1) :]
            case _:
                changed[at:at] = chance.randbytes(size)
    return bytes(changed)


def finish(coroutine: Coroutine[object, object, Item]) -> Item:
    """Run what never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: Item = stop.value
        return result
    raise AssertionError("it waits, though all it could wait for is here")
