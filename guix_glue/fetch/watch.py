"""Ends what makes no progress: a deadline that moves on whenever something happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Self

from eris.model import BlockSize, Reference
from eris.store import BlockReader

__all__ = ["Watch", "WatchedStore"]


class Watch:
    """An asynchronous context that ends in TimeoutError after `stall_s` without `touch`."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0
        self._paused = False

    def touch(self) -> None:
        """Something happened."""
        self._last = asyncio.get_running_loop().time()

    def pause(self) -> None:
        """Until `resume` it is our own disk that keeps us waiting."""
        self._paused = True

    def resume(self) -> None:
        """Go on watching."""
        self._paused = False
        self.touch()

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self.touch()
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
        await self._timeout.__aexit__(kind, error, traceback)

    def _check(self) -> None:
        """Look at the clock now and when the deadline may be due: touching is to cost nothing."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = now + self._stall_s if self._paused else self._last + self._stall_s
        if due <= now:
            self._timer = None
            self._timeout.reschedule(now)
        else:
            self._timer = loop.call_at(due, self._check)


class WatchedStore:
    """A store of which every block that comes is progress."""

    def __init__(self, store: BlockReader, watch: Watch) -> None:
        self._store = store
        self._watch = watch

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        """Fetch a block: see `eris.store.BlockReader`."""
        future = asyncio.ensure_future(self._store.get(reference, block_size))
        future.add_done_callback(self._came)
        return future

    def _came(self, future: asyncio.Future[bytes]) -> None:
        if not future.cancelled() and future.exception() is None:
            self._watch.touch()
