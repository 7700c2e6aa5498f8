"""An answer that is found once for all who ask in the same moment.

Each waits for it as long as it likes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from eris.errors import StoreUnavailable

__all__ = ["Shared"]

_T = TypeVar("_T")


class Shared(Generic[_T]):
    """What `find` gives, which is asked anew when the last answer is `fresh_s` old.

    There is one `find` under way at a time, however many wait, and however often they give up.
    """

    def __init__(self, find: Callable[[], Awaitable[_T]], fresh_s: float) -> None:
        self._find = find
        self._fresh_s = fresh_s
        self._task: asyncio.Task[_T] | None = None
        self._found_at = float("-inf")

    async def get(self, patience_s: float) -> _T:
        """The answer, an error of `find`, or StoreUnavailable if it does not come in time."""
        task = self._task
        now = asyncio.get_running_loop().time()
        if task is None or (task.done() and now - self._found_at >= self._fresh_s):
            task = self._task = asyncio.ensure_future(self._found())
            # Looked at, though nobody may wait for it any more.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Not `asyncio.timeout`, which is for tasks: an answer takes its first step outside of one.
        done, _ = await asyncio.wait([task], timeout=patience_s)
        if not done:
            raise StoreUnavailable(f"it does not answer within {patience_s:g} s")
        return task.result()

    async def _found(self) -> _T:
        try:
            return await self._find()
        finally:
            self._found_at = asyncio.get_running_loop().time()
