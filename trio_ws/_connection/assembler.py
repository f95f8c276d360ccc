"""Messages that are received in pieces: who has asked for one, and what has come of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .._util.waiters import Waiters
from .._wire.reader import Piece, Start
from .._wire.speedups import weigh


@dataclass(slots=True, eq=False)
class Incoming:
    """One message: asked for, begun, finished, and given up by whoever asked for it."""

    begun: bool = False
    is_text: bool = False
    finished: bool = False
    given_up: bool = False
    pieces: deque[str | bytes] = field(default_factory=deque)
    waiting: Waiters = field(default_factory=Waiters)

    def begin(self, *, is_text: bool) -> None:
        """Note that it has begun."""
        self.begun = True
        self.is_text = is_text
        self.waiting.unpark_all()

    def add(self, piece: Piece) -> int:
        """Keep a piece of it; return how many bytes wait now that did not before."""
        self.finished = piece.final
        self.waiting.unpark_all()
        if not piece.data:
            return 0
        self.pieces.append(piece.data)
        return weigh(piece.data)

    def is_ready(self) -> bool:
        """Whether whoever has it need not wait: for a piece, for its end, or at all."""
        return bool(self.pieces) or self.finished or self.given_up

    @property
    def size(self) -> int:
        """Bytes of its pieces that wait, as :func:`weigh` counts them."""
        return sum(map(weigh, self.pieces))


class MessageAssembler:
    """Where those wait who want a message in pieces: first come, first served.

    Attributes:
        asking: who waits for a message to begin.
    """

    __slots__ = ("_current", "_known", "asking")

    def __init__(self) -> None:
        self.asking: list[Incoming] = []
        self._current: Incoming | None = None  # the message in the making
        self._known: list[Incoming] = []  # begun, and not left by whoever has it

    def begin(self, start: Start, incoming: Incoming | None = None) -> None:
        """Give the message that begins to ``incoming``, or to who has asked first."""
        self._current = self.asking.pop(0) if incoming is None else incoming
        self._known.append(self._current)
        self._current.begin(is_text=start.is_text)

    def put(self, message: str | bytes, incoming: Incoming) -> int:
        """Give ``incoming`` a whole message; return how many bytes wait so."""
        self._known.append(incoming)
        incoming.begin(is_text=isinstance(message, str))
        return incoming.add(Piece(message, final=True))

    def deliver(self, piece: Piece) -> int:
        """Hand on a piece of the message in the making; return how many bytes wait now that did not before."""
        assert self._current is not None  # begin() comes before the first piece
        return 0 if self._current.given_up else self._current.add(piece)

    def leave(self, incoming: Incoming) -> int:
        """Note that nobody wants the rest of a message; return how many bytes of it waited."""
        size = incoming.size
        incoming.given_up = True
        incoming.waiting.unpark_all()
        incoming.pieces.clear()
        self._known.remove(incoming)
        return size

    def drop(self) -> None:
        """Drop what waits: this side has closed."""
        for incoming in self._known:
            incoming.pieces.clear()
            incoming.finished = False

    def wake(self) -> None:
        """Have everyone look again."""
        for incoming in (*self.asking, *self._known):
            incoming.waiting.unpark_all()
