"""The daemon's scrub: all blocks are read and hashed, slowly and again and again, or at once.

In the background a store is gone through once in thirty days, at a rate that hardly shows; where it
is, is noted, and a restart goes on there. Somebody who asks has all blocks looked at now. What is
bad is dropped, and the pins that have it lack it from then on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from eris.errors import ErisError
from kapla.storage.complaints import Complaints
from kapla.storage.port import BEFORE_ALL, Looker

if TYPE_CHECKING:
    from kapla.storage.batching import BatchedStorage

__all__ = ["ScrubStatus", "Scrubbing"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_EVERY_S: Final = 30 * 24 * 3600
# It begins after as long as it takes for so many bytes: a minute, at the usual rate. A machine that
# starts has other things to read.
_FIRST_AFTER: Final = 64 * 1024 * 1024
_RETRY_S: Final = 60.0
_NOTED_EVERY_S: Final = 60.0
# Looked at at once: a few milliseconds of the interpreter. With a rate it is less.
_ROUND: Final = 512 * 1024
_LEAST_ROUND: Final = 32 * 1024


@dataclass(slots=True)
class ScrubStatus:
    """A look at all blocks that somebody asked for."""

    run: int = 0
    """Counts those since the start; 0: nobody asked."""
    is_running: bool = False
    blocks: int = 0
    bytes: int = 0
    bad: int = 0
    of: int = 0
    """Bytes there were when it began."""
    is_failed: bool = False
    """It ended before all was looked at."""


class Scrubbing:
    """For one event loop; it has a thread."""

    def __init__(
        self,
        storage: BatchedStorage,
        looker: Callable[[], Looker],
        rate: int,
        *,
        first_after_s: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`looker` begins a session; `rate`: bytes a second in the background, 0: none there."""
        self.status = ScrubStatus()
        self.bad_blocks = 0
        """Found since the start, either way."""
        self.looked_at = 0
        """Blocks since the start, either way."""
        self._storage, self._begin_session = storage, looker
        self._rate, self._first_after_s, self._clock = rate, first_after_s, clock
        self._asked_rate = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._asked: asyncio.Task[None] | None = None
        self._ends = 0
        """How often an end was asked for."""
        self._complaints = Complaints(_log)
        self._is_told = False
        self._looker: Looker | None = None
        self._executor = ThreadPoolExecutor(1, "kapla-scrub")

    def start(self) -> None:
        """Begin with the background, if there is to be one; the store is open."""
        if self._rate:
            task = asyncio.ensure_future(self._background())
            self._tasks.append(task)
            task.add_done_callback(self._tasks.remove)

    def settle(self, rate: int) -> None:
        """Go on in the background at another rate; 0: not any more."""
        if rate == self._rate:
            return
        self._rate = rate
        # Anew: it may be in a pause that the former rate made long. Where it was, it notes.
        for task in self._tasks:
            task.cancel()
        self.start()

    async def stop(self) -> None:
        """End all of it, before the store is closed. How far it has come is noted."""
        tasks = [*self._tasks, *([self._asked] if self._asked is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._looker is not None:
            await self._in_thread(self._looker.close)
            self._looker = None
        self._executor.shutdown(wait=False)

    async def ask(self, rate: int = 0) -> ScrubStatus:
        """Have all blocks looked at now, unless that is under way; `rate` 0: as fast as it goes.

        Raises: StoreUnavailable.
        """
        self._asked_rate = rate
        if not self.status.is_running:
            ends = self._ends
            totals, _ = await self._storage.totals()
            of = sum(size * count for size, count in totals.items())
            if not self.status.is_running:
                self.status = ScrubStatus(self.status.run + 1, of=of, is_failed=True)
                # Whoever asked may have had it ended meanwhile.
                if ends == self._ends:
                    self._begin(self.status)
        return self.status

    def _begin(self, status: ScrubStatus) -> None:
        def ended(_: asyncio.Task[None]) -> None:
            status.is_running = False

        status.is_running = True
        self._asked = asyncio.ensure_future(self._run_asked(status))
        # A callback, since a task that is cancelled at once never comes to a `finally` of its own.
        self._asked.add_done_callback(ended)

    async def ended(self) -> None:
        """Wait until what was asked for has ended."""
        if self._asked is not None:
            await asyncio.wait([self._asked])

    def end(self) -> None:
        """Look no further at what was asked for."""
        self._ends += 1
        if self._asked is not None:
            self._asked.cancel()

    async def _run_asked(self, status: ScrubStatus) -> None:
        try:
            after: int | None = BEFORE_ALL
            while after is not None:
                after, size = await self._round(after, self._asked_rate, status)
                if self._asked_rate:
                    await asyncio.sleep(size / self._asked_rate)
            status.is_failed = False
        except ErisError as error:
            self._complaints.tell(f"The scrub failed: {error}")

    async def _background(self) -> None:
        first_after_s = self._first_after_s
        await asyncio.sleep(_FIRST_AFTER / self._rate if first_after_s is None else first_after_s)
        while True:
            try:
                await self._pass()
            except ErisError as error:
                self._complaints.tell(f"The scrub failed, and is tried again: {error}")
                await asyncio.sleep(_RETRY_S)

    async def _pass(self) -> None:
        """Go through the store once, or what is left of that."""
        after, began = await self._storage.do(lambda writer: writer.scrub_place())
        if after is None:
            if began is not None:
                await asyncio.sleep(max(0.0, min(_EVERY_S, began + _EVERY_S - self._clock())))
            after, began = BEFORE_ALL, int(self._clock())
            await self._note(after, began)
        await self._go_through(after, began)
        await self._note(None, began)

    async def _go_through(self, after: int, began: int | None) -> None:
        noted = time.monotonic()
        place: int | None = after
        try:
            while place is not None:
                place, size = await self._round(place, self._rate, None)
                await asyncio.sleep(size / self._rate)
                if time.monotonic() - noted > _NOTED_EVERY_S:
                    noted = time.monotonic()
                    await self._note(place, began)
        except asyncio.CancelledError:
            await self._note(place, began)
            raise

    async def _round(
        self, after: int, rate: int, status: ScrubStatus | None
    ) -> tuple[int | None, int]:
        """Look at some blocks; returns after which to go on, and how many bytes it were."""
        size = min(_ROUND, max(_LEAST_ROUND, rate // 8)) if rate else _ROUND
        found = await self._in_thread(lambda: self._open().look(after, size))
        bad = 0
        if found.suspects:
            suspects = found.suspects
            bad = await self._storage.do(lambda writer: writer.drop_bad(suspects))
            self._tell(bad)
        self._complaints.well()
        self.looked_at += found.blocks
        self.bad_blocks += bad
        if status is not None:
            status.blocks += found.blocks
            status.bytes += found.bytes
            status.bad += bad
        return found.last, found.bytes

    def _tell(self, bad: int) -> None:
        """Say it once: how many there are, `kapla stat` tells."""
        if bad and not self._is_told:
            self._is_told = True
            _log.error("Some stored blocks are bad: they are dropped, and count as not there")

    def _open(self) -> Looker:
        if self._looker is None:
            self._looker = self._begin_session()
        return self._looker

    async def _note(self, after: int | None, began: int | None) -> None:
        await self._storage.do(lambda writer: writer.note_scrub(after, began))

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)
