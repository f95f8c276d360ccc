"""Follow a feed, and know when what you have is old: ``python market_data.py ws://127.0.0.1:8765/``.

The server sends ``{"sequence": 1, "price": 100}`` and so on, and a snapshot to whoever subscribes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import trio

import trio_ws


@dataclass
class Book:
    """The newest price, and whether it can be trusted."""

    sequence: int = 0
    price: float = 0.0
    updated_at: float = -float("inf")

    def is_stale(self, after: float = 2.0) -> bool:
        """Whether nothing came for so many seconds."""
        return trio.current_time() - self.updated_at > after


class Gap(Exception):
    """Messages are missing: what was built on them is wrong."""


async def follow(url: str, book: Book) -> None:
    """Keep the book up to date, for ever. After a loss or a gap the snapshot begins it anew."""
    async for attempt in trio_ws.reconnecting(is_transient=is_worth_another_attempt):
        with attempt:
            async with trio_ws.open_websocket(url) as ws:
                await ws.send(json.dumps({"subscribe": "price"}))
                book.sequence = 0
                while True:
                    with trio.fail_after(5):  # a feed that is silent is as bad as none
                        update = json.loads(await ws.receive())
                    if book.sequence and update["sequence"] != book.sequence + 1:
                        raise Gap(f"{update['sequence']} follows {book.sequence}")
                    book.sequence, book.price = update["sequence"], update["price"]
                    book.updated_at = trio.current_time()
        print(f"again, after {type(attempt.error).__name__}", file=sys.stderr, flush=True)


def is_worth_another_attempt(error: Exception) -> bool:
    return isinstance(error, Gap) or trio_ws.is_transient(error)


async def main(url: str) -> None:
    book = Book()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, url, book)
        while True:
            await trio.sleep(0.05)
            if book.sequence >= 6:
                print(f"{book.price} {'stale' if book.is_stale() else 'fresh'}")
                nursery.cancel_scope.cancel()


if __name__ == "__main__":
    try:
        trio.run(main, sys.argv[1])
    except* KeyboardInterrupt:
        pass
