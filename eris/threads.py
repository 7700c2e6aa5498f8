"""Work in threads that is never left behind.

A cancelled `asyncio.to_thread` returns while its function still runs, on files that the caller then
closes or removes. Here a cancellation takes effect when the function has returned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

__all__ = ["in_thread", "settle"]

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function in a worker thread; returns, or raises, only when it has ended."""
    call = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await settle(call)
        raise


async def settle(
    *futures: asyncio.Future[Any], on_cancel: Callable[[], object] = lambda: None
) -> None:
    """Wait until all have ended, however often the wait is cancelled; says so each time."""
    while not all(future.done() for future in futures):
        try:
            await asyncio.wait(futures)
        except asyncio.CancelledError:
            on_cancel()
    for future in futures:
        if not future.cancelled():
            # Look at the exception, or asyncio complains that nobody did.
            future.exception()
