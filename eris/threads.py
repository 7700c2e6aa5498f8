"""Work that is never left behind, in threads and in other tasks.

A cancelled `asyncio.to_thread` returns while its function still runs, on files that the caller then
closes or removes. Here a cancellation takes effect when the function has returned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, ParamSpec, TypeVar

__all__ = ["in_thread", "settle", "start_in_thread", "withdraw", "work_done_by"]

P = ParamSpec("P")
T = TypeVar("T")

_workers: ContextVar[Executor | None] = ContextVar("workers", default=None)


@contextmanager
def work_done_by(workers: Executor) -> Iterator[None]:
    """Have these threads do what is called here meanwhile: they may be few, or less urgent.

    It holds for the task that enters it, and for tasks that it starts.
    """
    token = _workers.set(workers)
    try:
        yield
    finally:
        _workers.reset(token)


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function in a worker thread; returns, or raises, only when it has ended."""
    call = start_in_thread(function, *args, **kwargs)
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await settle(call)
        raise


def start_in_thread(
    function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> asyncio.Future[T]:
    """Have a function run in a worker thread; the future is done when it has ended, not before.

    No task, which an event loop that ends would cancel while the function still runs. To be waited
    for under `asyncio.shield`, or by `settle`.
    """
    call = partial(copy_context().run, _called, partial(function, *args, **kwargs))
    return asyncio.get_running_loop().run_in_executor(_workers.get(), call)


def _called(function: Callable[[], T]) -> T:
    try:
        return function()
    except StopIteration as error:
        # No future takes it: whoever waits would wait for ever.
        raise RuntimeError("what runs in a thread raised StopIteration") from error


async def settle(
    *futures: asyncio.Future[Any],
    on_cancel: Callable[[], object] = lambda: None,
    too_late: bool = False,
) -> None:
    """Wait until all have ended, however often the wait is cancelled; says so each time.

    Never raises, so that more can be cleared away behind it: a cancellation meanwhile comes at the
    next `await`, unless it is `too_late` for it.
    """
    cancelled = False
    while not all(future.done() for future in futures):
        try:
            await asyncio.wait(futures)
        except asyncio.CancelledError:
            cancelled = True
            on_cancel()
    for future in futures:
        _look_at(future)
    task = asyncio.current_task()
    if cancelled and not too_late and task is not None:
        # The same request as before, not one more.
        task.uncancel()
        task.cancel()


def withdraw(futures: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel what nobody waits for any more."""
    for future in futures:
        future.cancel()
        # It may end with an error all the same.
        future.add_done_callback(_look_at)


def _look_at(future: asyncio.Future[Any]) -> None:
    """Look at how a future ended, or asyncio complains that nobody saw its exception."""
    if not future.cancelled():
        future.exception()
