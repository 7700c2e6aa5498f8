"""What takes long to make: once for all who wait for it, and no longer than they do.

Whoever is near goes first: of what others want, only some is given to the threads at a time, and
the rest waits here; after what was dear there is a pause as long as it took. So nobody from far
away keeps all threads at work, nor any thread all the time. What nobody waits for any more is made
all the same if it was begun, for whoever comes next; else it is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

__all__ = ["FAR_AT_ONCE", "Later", "Slowly"]

W = TypeVar("W")

FAR_AT_ONCE: Final = 2
"""Things that are made for those who are not near: half of what `kapla seed` has threads for."""

# What takes less needs no pause.
_SHORT_S: Final = 0.05


class Later(Protocol):
    """A block that takes long to make. What has one `key` is made together, and fails together."""

    @property
    def key(self) -> Hashable:
        """What it is made with."""
        ...

    @property
    def make(self) -> Callable[[], bytes | None]:
        """Makes it, in a thread; None if it cannot be made after all."""
        ...


@dataclass(slots=True, eq=False)
class _Work(Generic[W]):
    """One thing to be made, and who waits; the first of them wants the block that comes of it."""

    later: Later
    near: bool
    first: W
    waiting: list[W]
    timer: asyncio.TimerHandle
    future: Future[bytes | None] | None = field(default=None)
    """Of the thread, once it was given to one."""
    took_s: float = 0.0


class Slowly(Generic[W]):
    """Has `threads` make things; `longest_s`: how long anybody waits for one.

    Each who waits comes out by one way: `on_made` with the block, or None if there is none;
    `on_again`, if what it wants can be had now; `on_late`, if it waited too long.
    """

    def __init__(
        self,
        threads: Executor,
        longest_s: float,
        *,
        on_made: Callable[[Sequence[W], bytes | None], None],
        on_again: Callable[[Sequence[W]], None],
        on_late: Callable[[Sequence[W]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = threads
        self._longest_s = longest_s
        self._on_made = on_made
        self._on_again = on_again
        self._on_late = on_late
        self._clock = clock
        self._works: dict[Hashable, _Work[W]] = {}
        # Of those who are not near: what waits for its turn, and how many things threads have, or
        # had a moment ago.
        self._far: deque[_Work[W]] = deque()
        self._far_begun = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(work.waiting) for work in self._works.values())

    def add(self, one: W, later: Later, *, near: bool) -> None:
        """One more who waits."""
        work = self._works.get(later.key)
        if work is None:
            timer = self._loop.call_later(self._longest_s, self._late, later.key)
            work = self._works[later.key] = _Work(later, near, one, [one], timer)
            if near:
                self._begin(work)
            else:
                self._far.append(work)
                self._begin_far()
            return
        work.waiting.append(one)
        if near and work.future is None:
            self._far.remove(work)
            work.near = True
            self._begin(work)

    def forget(self) -> None:
        """Nobody waits any more."""
        for work in list(self._works.values()):
            work.waiting.clear()
            self._drop(work)

    def _begin_far(self) -> None:
        while self._far and self._far_begun < FAR_AT_ONCE:
            self._far_begun += 1
            self._begin(self._far.popleft())

    def _begin(self, work: _Work[W]) -> None:
        work.future = self._threads.submit(self._make, work)
        done = partial(self._loop.call_soon_threadsafe, self._done, work)
        work.future.add_done_callback(lambda _: done())

    def _make(self, work: _Work[W]) -> bytes | None:
        """In a thread."""
        began = self._clock()
        try:
            return work.later.make()
        finally:
            work.took_s = self._clock() - began

    def _make_room(self) -> None:
        self._far_begun -= 1
        self._begin_far()

    def _done(self, work: _Work[W]) -> None:
        """It has ended, for certain: only here it counts no more."""
        if not work.near and work.took_s > _SHORT_S:
            self._loop.call_later(work.took_s, self._make_room)
        elif not work.near:
            self._make_room()
        assert work.future is not None
        if work.future.cancelled():
            return
        del self._works[work.later.key]
        work.timer.cancel()
        block = None if work.future.exception() is not None else work.future.result()
        waiting, work.waiting = work.waiting, []
        if block is None:
            self._on_made(waiting, None)
            return
        if work.first in waiting:
            waiting.remove(work.first)
            self._on_made([work.first], block)
        # What they want is there now, or at least can be made.
        self._on_again(waiting)

    def _late(self, key: Hashable) -> None:
        """Who waits for this is told to ask others."""
        work = self._works[key]
        waiting, work.waiting = work.waiting, []
        if not self._drop(work):
            work.timer = self._loop.call_later(self._longest_s, self._late, key)
        self._on_late(waiting)

    def _drop(self, work: _Work[W]) -> bool:
        """Do not make this, unless it was begun; tells whether it is dropped."""
        if work.future is None:
            self._far.remove(work)
        elif not work.future.cancel():
            return False
        del self._works[work.later.key]
        work.timer.cancel()
        return True
