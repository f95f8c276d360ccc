"""Messages that are received in pieces: what has come of each, and who has it.

Rules:

1. A message that begins in pieces is *unclaimed*. Nothing is handed to a task that waits: it is woken, looks, and
   claims the message in the same step. So a task that is cancelled meanwhile leaves the message to the next one.
2. There is one unclaimed message at most, the newest. When its last piece comes before anybody has claimed it, it is
   an ordinary message, and the connection keeps it with those.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .._util.waiters import Waiters
from .._wire.events import Piece, Start
from .._wire.speedups import weigh


@dataclass(slots=True, eq=False)
class Incoming:
    """One message: what has come of it, and who waits for more of it.

    Attributes:
        finished: its last piece has come.
        given_up: the block that had claimed it was left.
    """

    is_text: bool
    finished: bool = False
    given_up: bool = False
    pieces: deque[str | bytes] = field(default_factory=deque)
    waiting: Waiters = field(default_factory=Waiters)

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

    def join(self) -> str | bytes:
        """Put its pieces together."""
        if self.is_text:
            return "".join(piece for piece in self.pieces if isinstance(piece, str))
        return b"".join(piece for piece in self.pieces if isinstance(piece, bytes))


class MessageAssembler:
    """The messages of one connection that come in pieces.

    Attributes:
        asking: how many tasks wait for a message to begin in pieces.
        unclaimed: the message in the making, while no block has claimed it.
    """

    __slots__ = ("_current", "_known", "asking", "unclaimed")

    def __init__(self) -> None:
        self.asking: int = 0
        self.unclaimed: Incoming | None = None
        self._current: Incoming | None = None  # the message in the making
        self._known: list[Incoming] = []  # claimed, and not left

    def begin(self, start: Start) -> None:
        """Note that a message begins."""
        self._current = self.unclaimed = Incoming(start.is_text)

    def take_unclaimed(self) -> Incoming:
        """Take the unclaimed message, which there is."""
        incoming, self.unclaimed = self.unclaimed, None
        assert incoming is not None
        return incoming

    def claim(self) -> Incoming:
        """Take the unclaimed message, which there is, for a block that must :meth:`leave` it."""
        incoming = self.take_unclaimed()
        self._known.append(incoming)
        return incoming

    def claim_whole(self, message: str | bytes) -> Incoming:
        """Make a whole message one that is given in pieces, of which there is one, and claim it."""
        incoming = Incoming(isinstance(message, str))
        incoming.add(Piece(message, final=True))
        self._known.append(incoming)
        return incoming

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
        self.unclaimed = None
        for incoming in self._known:
            incoming.pieces.clear()
            incoming.finished = False

    def wake(self) -> None:
        """Have every block that has a message look again."""
        for incoming in self._known:
            incoming.waiting.unpark_all()
