"""Work in threads that is never left behind.

A cancelled `asyncio.to_thread` returns while its function still runs, on files that the caller then
closes or removes. Here a cancellation takes effect when the function has returned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, ParamSpec, TypeVar

__all__ = ["OneBehind", "in_thread", "settle"]

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function in a worker thread; returns, or raises, only when it has ended."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await settle(task)
        raise


class OneBehind(Generic[P]):
    """Run a function in a worker thread, one call at a time, while the caller goes on.

    Each call waits for the one before, and raises what that raised.
    """

    def __init__(self, function: Callable[P, None]) -> None:
        self._function = function
        self._job: asyncio.Future[None] | None = None

    async def start(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Begin a call, once the one before has ended."""
        await self.wait()
        self._job = asyncio.ensure_future(asyncio.to_thread(self._function, *args, **kwargs))

    async def wait(self) -> None:
        """Wait for the call in progress, if any."""
        if self._job is not None:
            await asyncio.shield(self._job)
            self._job = None

    async def settle(self) -> None:
        """Wait until nothing runs, whatever came of it: before closing what it works on."""
        if self._job is not None:
            await settle(self._job)
            self._job = None


async def settle(*jobs: asyncio.Future[T]) -> None:
    """Wait for jobs to end, however often the wait is cancelled: it takes milliseconds."""
    while not all(job.done() for job in jobs):
        with suppress(asyncio.CancelledError):
            await asyncio.wait(jobs)
    for job in jobs:
        if not job.cancelled():
            # Look at the exception, or asyncio complains that nobody did.
            job.exception()
