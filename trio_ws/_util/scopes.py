"""Scopes that say how they are used when they are used otherwise."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar, cast

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator
    from types import TracebackType

P = ParamSpec("P")
T_co = TypeVar("T_co", covariant=True)
F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])


def check_runs_on_trio(name: str) -> None:
    """Check that the caller is a task of trio's.

    Raises:
        RuntimeError: it is not, but asyncio's for example; the message names the function that was called.
    """
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        raise RuntimeError(
            f"{name} runs on trio only: start the program with trio.run(main), not with asyncio.run(main())"
        ) from None


class Scope(AbstractAsyncContextManager[T_co, None], Generic[T_co]):
    """The async context manager of a call, as ``contextlib.asynccontextmanager`` makes them.

    Args:
        manager: what it stands for.
        call: how the call is written, for messages: ``open_websocket(...)``.
    """

    __slots__ = ("_call", "_manager")

    def __init__(self, manager: AbstractAsyncContextManager[T_co, bool | None], call: str) -> None:
        self._manager = manager
        self._call = call

    async def __aenter__(self) -> T_co:
        check_runs_on_trio(self._call)
        return await self._manager.__aenter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._manager.__aexit__(exc_type, exc, traceback)  # noqa: ASYNC102  # as the manager does it

    if not TYPE_CHECKING:  # a type checker is right to refuse it

        def __await__(self) -> NoReturn:
            raise TypeError(f"{self._call} is a scope and not awaited: write `async with {self._call} as ws:`")

        def __enter__(self) -> NoReturn:
            raise TypeError(f"{self._call} is an async scope: write `async with {self._call} as ws:`")

        __exit__ = __enter__  # Python looks for both before it calls the first

        def __getattr__(self, name: str) -> NoReturn:
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            if not name.startswith("_"):
                message += f": {self._call} is a scope, write `async with {self._call} as ws:`"
            raise AttributeError(message, name=name, obj=self)


def scope(function: Callable[P, AsyncIterator[T_co]]) -> Callable[P, Scope[T_co]]:
    """Make a function that gives a :class:`Scope` of an async generator function, as ``asynccontextmanager`` does."""
    make = asynccontextmanager(function)

    @wraps(make)
    def call(*args: P.args, **kwargs: P.kwargs) -> Scope[T_co]:
        return Scope(make(*args, **kwargs), f"{function.__name__}(...)")

    return call


class _Unscoped(Coroutine[Any, Any, T_co]):
    """A coroutine that says how its function is called when it is taken for a scope."""

    __slots__ = ("_coroutine", "_hint")

    def __init__(self, coroutine: Coroutine[Any, Any, T_co], hint: str) -> None:
        self._coroutine = coroutine
        self._hint = hint

    def __await__(self) -> Generator[Any, Any, T_co]:
        return self._coroutine.__await__()

    def send(self, value: object) -> object:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> object:  # noqa: ANN401  # in three forms
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    if not TYPE_CHECKING:  # a type checker is right to refuse it

        def __aenter__(self) -> NoReturn:
            self.close()  # or there would be a warning that it was never awaited
            raise TypeError(self._hint)

        __aexit__ = __aenter__  # Python looks for both before it calls the first


# Only from Python 3.12 on can a wrapper say that it is an async function.
_mark_as_async = getattr(inspect, "markcoroutinefunction", lambda function: function)


def no_scope(hint: str) -> Callable[[F], F]:
    """Have the calls of an async function raise TypeError with this hint where ``async with`` stands before them."""

    def decorate(function: F) -> F:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> _Unscoped[Any]:  # noqa: ANN401  # those of the function
            return _Unscoped(function(*args, **kwargs), hint)

        return cast("F", _mark_as_async(call))

    return decorate
