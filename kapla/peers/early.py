"""The first moments, and those without anybody: what nobody has while peers are being dialled.

A daemon that has just started would say that nobody has a block because it has asked nobody yet; a
program that goes on after a restart would give up, and Guix would remember it for an hour. It is
the same when the only peer is gone, which may be here again in a second. Those who are there are
asked at once: what waits is the answer that nobody has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from eris.errors import StoreUnavailable
from kapla.coap.beyond import FoundDone

__all__ = ["COMES_BACK_S", "Early"]

# A peer that is not reached by then may take much longer.
_LONGEST_S: Final = 3.0

COMES_BACK_S: Final = 10.0
"""One that was there a moment ago is waited for as long as one that does not answer. It is dialled
after a second, and then after two and four more."""


class Early:
    """What waits until all were tried, or somebody came: from `begin` on, for a while."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[tuple[object, FoundDone, Callable[[], None]]] = []

    @property
    def is_now(self) -> bool:
        """Whether what is wanted should wait."""
        return self._task is not None

    def begin(self, tried: Callable[[], Awaitable[object]], longest_s: float = _LONGEST_S) -> None:
        """Wait for this, and not for long."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._wait(tried, longest_s))

    def add(self, asker: object, done: FoundDone, ask: Callable[[], None]) -> None:
        """`ask` is called at the end, unless the asker leaves: then `done`."""
        self._waiting.append((asker, done, ask))

    def again(self) -> None:
        """Somebody came: what waits is asked for. What this one has not may wait on."""
        waiting, self._waiting = self._waiting, []
        for _, _, ask in waiting:
            ask()

    def leave(self, asker: object) -> None:
        """This one waits for nothing any more."""
        mine = [item for item in self._waiting if item[0] is asker]
        if mine:
            self._waiting = [item for item in self._waiting if item[0] is not asker]
        for _, done, _ in mine:
            done(StoreUnavailable("whoever asked has gone"))

    def end(self) -> None:
        """It is over: all that waits is asked for."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self.again()

    async def _wait(self, tried: Callable[[], Awaitable[object]], longest_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(tried(), longest_s)
        self._task = None
        self.end()
