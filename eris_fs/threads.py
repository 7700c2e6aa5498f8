"""Work in a thread while the event loop goes on, one step behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, ParamSpec

from eris.threads import settle, start_in_thread

__all__ = ["OneBehind"]

P = ParamSpec("P")


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
        self._job = start_in_thread(self._function, *args, **kwargs)

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
