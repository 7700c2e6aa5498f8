"""Ends what makes no progress, or too little: a deadline that moves on whenever something happens.

There are two. Silence ends after `stall_s`. That alone would let somebody who brings a byte now and
then keep us for ever: so enough must come in each window of the same length, one after the other.
The first begins with the first that comes. Time in which our own disk keeps us waiting counts for
neither, nor does time in which nothing is asked for.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

__all__ = ["TooSlow", "Watch"]


class TooSlow(TimeoutError):
    """Something comes, but too little."""


class Watch:
    """An asynchronous context that ends in TimeoutError after `stall_s` without `touch`.

    It ends in TooSlow when, on average over that time, less than `min_rate` bytes a second come.
    """

    def __init__(self, stall_s: float, min_rate: float = 0) -> None:
        self._stall_s = stall_s
        self._least = min_rate * stall_s
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0
        self._pauses = 0
        self._paused_at = 0.0
        self._window_end = float("inf")
        self._came = 0
        self._slow = False

    def touch(self, size: int) -> None:
        """So many bytes have come."""
        self._last = asyncio.get_running_loop().time()
        self._came += size
        if self._window_end == float("inf"):
            self._window_end = self._last + self._stall_s

    def pause(self) -> None:
        """Until `resume`, as often as this was called, it is we who keep ourselves waiting."""
        self._pauses += 1
        if self._pauses == 1:
            self._paused_at = asyncio.get_running_loop().time()

    def resume(self) -> None:
        """Go on watching."""
        assert self._pauses > 0
        self._pauses -= 1
        if self._pauses:
            return
        self._last = asyncio.get_running_loop().time()
        self._window_end += self._last - self._paused_at
        if self._timer is None:
            self._check()

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._last = asyncio.get_running_loop().time()
        self._check()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            if self._slow:
                raise TooSlow("too little comes") from None
            raise

    def _check(self) -> None:
        """Look at the clock now and when a deadline may be due: touching is to cost nothing."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer = None
        if self._pauses:
            # `resume` goes on.
            return
        silent_at = self._last + self._stall_s
        if self._window_end <= now < silent_at:
            self._slow = self._came < self._least
            self._came, self._window_end = 0, now + self._stall_s
        if self._slow or silent_at <= now:
            self._timeout.reschedule(now)
        else:
            self._timer = loop.call_at(min(silent_at, self._window_end), self._check)
