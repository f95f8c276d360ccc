"""A nursery for tasks in the background of a block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from types import TracebackType


class BackgroundNursery:
    """A nursery whose tasks are cancelled when its block is left, and which never wraps what the block raised.

    ``async with BackgroundNursery() as nursery:`` gives a ``trio.Nursery``. It is for a scope that is built on a
    WebSocket, with tasks in the background that its user need not know of: a reader, say. All scopes of this library
    are made so.

    * What the block raises comes out as it is: same object, same context, in no ExceptionGroup.
    * A cancellation from outside comes out as one bare ``Cancelled``.
    * What a task raises cancels the block and comes out, bare if it is the only one.

    Leaving the block waits until the tasks have ended.
    """

    __slots__ = ("_manager", "_nursery")

    async def __aenter__(self) -> trio.Nursery:
        self._manager = trio.open_nursery()
        self._nursery = await self._manager.__aenter__()
        return self._nursery

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._nursery.child_tasks:
            self._nursery.cancel_scope.cancel()
        error: BaseException | None = None
        try:
            # Never told of the block's exception: it would wrap it in a group (rule 1). Its tasks were cancelled.
            await self._manager.__aexit__(None, None, None)  # noqa: ASYNC102
        except BaseExceptionGroup as group:
            crashes = group.split(trio.Cancelled)[1]
            if crashes is not None:
                error = _unwrap(crashes)
            elif exc is None:
                error = _first(group)
        # Out here: what a task raised keeps its cause, and has the block's exception for context, not the group.
        if error is not None:
            raise error


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _unwrap(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the one exception that a group has, or the group if it has several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
