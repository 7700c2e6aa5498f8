"""Hashes entries of a directory, those first that need the least.

Entries take turns: a worker goes on with the one that has the least left, for a moment, and then
looks again. So an entry never waits for a larger one, however many of these there are; and what is
small is done many at a time. Nobody waits without end either: who asks is told after a while that
hashing is still going on (`StillHashing`), and it does go on.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Generator
from collections.abc import Set as AbstractSet
from typing import Final

from eris.threads import in_thread, settle
from guix_glue.errors import GuixError, InvalidItems, StillHashing, UnsupportedItem
from guix_glue.local.archive import hash_steps
from guix_glue.local.item_listing import Stamp
from guix_glue.local.known_hashes import Hashed, KnownHashes
from guix_glue.local.tree_stamp import TreeStamp, stamp_steps

__all__ = ["PATIENCE_S", "Hasher"]

_log = logging.getLogger(__name__)

# One that is large must not take the whole processor; more would only share the disk.
_WORKERS: Final = 2
_TURN_S: Final = 0.05
PATIENCE_S: Final = 3.0
"""How long requests wait after there was nothing to hash: clients give up after ten seconds."""
_GRACE_S: Final = 2.0
"""How long each waits, in any case, while there is something small left, which is soon done."""
_SMALL: Final = 16 * 1024 * 1024
_TRY_AGAIN_S: Final = 10.0
"""An entry that could not be hashed, and looks the same, is left alone for so long."""

_Steps = Generator[int, None, Hashed]


class _Job:
    """An entry that is to be hashed. `left` is about how many bytes there are to read still."""

    def __init__(self, entry: str, stamp: Stamp, steps: _Steps) -> None:
        self.entry = entry
        self.stamp = stamp
        self.steps = steps
        self.left = 0
        self.dropped = False
        self.outcome: Hashed | Exception | None = None

    def go_on(self, until: float) -> bool:
        """Work until a time (of the monotonic clock); whether that was the end."""
        try:
            while not self.dropped:
                self.left = next(self.steps)
                if time.monotonic() >= until:
                    return False
            self.steps.close()
        except StopIteration as end:
            self.outcome = end.value
        except OSError as error:
            self.outcome = InvalidItems(f"cannot read {self.entry!r}: {error.strerror}")
        except Exception as error:
            self.outcome = error
        return True


class Hasher:
    """Hashes entries of `directory`; tells `on_hashed` or `on_failed` of each, on the event loop.

    Once there was nothing left to hash, whoever asks waits for `patience_s` at most from when there
    is something again. `close()` it.
    """

    def __init__(
        self,
        directory: str,
        known: KnownHashes,
        on_hashed: Callable[[str, Hashed], None],
        on_failed: Callable[[str, GuixError], None],
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._directory = directory
        self._known = known
        self._on_hashed = on_hashed
        self._on_failed = on_failed
        self._patience_s = patience_s
        self._jobs: dict[str, _Job] = {}
        self._results: dict[str, tuple[Stamp, Hashed]] = {}
        # The error, and when to try again.
        self._failures: dict[str, tuple[Stamp, GuixError, float]] = {}
        self._heap: list[tuple[int, int, _Job]] = []
        self._in_hand: set[_Job] = set()
        self._counter = itertools.count()
        self._guard = threading.Lock()
        self._stopping = False
        self._workers: list[asyncio.Task[None]] = []
        self._progress = asyncio.Event()
        self._patient_until = 0.0

    def want(self, entry: str, stamp: Stamp) -> Hashed | None:
        """The hash of an entry that has this stamp, if it is known; else it will be hashed.

        Raises: GuixError, if that failed a moment ago.
        """
        known = self.known(entry, stamp)
        if known is None:
            job = self._jobs.get(entry)
            if job is None or job.stamp != stamp:
                self._begin(entry, stamp)
        return known

    def known(self, entry: str, stamp: Stamp) -> Hashed | None:
        """The hash of an entry that has this stamp, if it is known.

        Raises: GuixError, if hashing it failed a moment ago.
        """
        result = self._results.get(entry)
        if result is not None and result[0] == stamp:
            return result[1]
        failure = self._failures.get(entry)
        if failure is not None and failure[0] == stamp and time.monotonic() < failure[2]:
            raise failure[1]
        return None

    def is_busy_with(self, entries: AbstractSet[str]) -> bool:
        """Whether one of these is being hashed, or waits for it."""
        return not entries.isdisjoint(self._jobs)

    async def wait(self, over: Callable[[], bool]) -> None:
        """Wait until something is the case, which hashing may bring about.

        Raises: StillHashing, when that would take too long.
        """
        graceful_until = time.monotonic() + _GRACE_S
        while not over() and self._jobs:
            until = max(self._patient_until, graceful_until if self._is_small_left() else 0.0)
            progress = self._progress
            try:
                async with asyncio.timeout(until - time.monotonic()):
                    await progress.wait()
            except TimeoutError:
                raise StillHashing from None

    def doubt(self, entry: str) -> None:
        """Forget the hash of an entry: its files were found to be others."""
        self._results.pop(entry, None)

    def forget_others(self, entries: AbstractSet[str]) -> None:
        """Forget all that is none of these entries."""
        self._drop([self._jobs.pop(name) for name in self._jobs.keys() - entries])
        self._results = {name: known for name, known in self._results.items() if name in entries}
        self._failures = {name: known for name, known in self._failures.items() if name in entries}

    async def close(self) -> None:
        """End hashing, after the turn that is under way."""
        self._stopping = True
        if self._workers:
            await settle(*self._workers)
        self._drop(list(self._jobs.values()))
        self._jobs.clear()

    def _begin(self, entry: str, stamp: Stamp) -> None:
        before = self._jobs.get(entry)
        if before is not None:
            self._drop([before])
        elif not self._jobs:
            self._patient_until = time.monotonic() + self._patience_s
        self._jobs[entry] = job = _Job(entry, stamp, self._steps(entry))
        self._put(job)
        self._workers = [worker for worker in self._workers if not worker.done()]
        if len(self._workers) < _WORKERS and not self._stopping:
            self._workers.append(asyncio.create_task(self._work()))

    def _drop(self, jobs: list[_Job]) -> None:
        """Leave off. What a thread has in hand it closes itself."""
        if not jobs:
            return
        with self._guard:
            for job in jobs:
                job.dropped = True
            for _, _, job in self._heap:
                if job.dropped:
                    job.steps.close()
            self._heap = [waiting for waiting in self._heap if not waiting[2].dropped]
            heapq.heapify(self._heap)

    def _steps(self, entry: str) -> _Steps:
        """All that hashing an entry takes; each step gives what is left, as far as it is known."""
        path = os.path.join(self._directory, entry)
        before: TreeStamp = yield from stamp_steps(path)
        known = self._known.recall(entry, before.digest)
        if known is not None:
            return known
        reading = hash_steps(path)
        try:
            while True:
                yield max(0, before.cost - next(reading))
        except StopIteration as end:
            hashed = Hashed(*end.value)
        finally:
            reading.close()
        after = yield from stamp_steps(path)
        if after.digest != before.digest:
            raise UnsupportedItem(path, "it changed while it was read")
        if before.settled:
            self._known.keep(entry, before.digest, hashed)
        return hashed

    async def _work(self) -> None:
        while not self._stopping and self._heap:
            for job in await in_thread(self._turn):
                self._end(job)
            progress, self._progress = self._progress, asyncio.Event()
            progress.set()

    def _turn(self) -> list[_Job]:
        """For a moment, go on with what has the least left; gives the jobs that have ended."""
        until = time.monotonic() + _TURN_S
        ended = []
        while not self._stopping and time.monotonic() < until and (job := self._take()) is not None:
            if job.go_on(until):
                ended.append(job)
                with self._guard:
                    self._in_hand.discard(job)
            else:
                self._put(job)
        return ended

    def _end(self, job: _Job) -> None:
        if self._jobs.get(job.entry) is not job:
            # It was dropped meanwhile, for another or for none.
            return
        del self._jobs[job.entry]
        self._failures.pop(job.entry, None)
        match job.outcome:
            case Hashed() as hashed:
                self._results[job.entry] = job.stamp, hashed
                self._on_hashed(job.entry, hashed)
            case GuixError() as error:
                self._fail(job, error)
            case error:
                _log.error("Hashing %r failed", job.entry, exc_info=error)
                self._fail(job, InvalidItems(f"cannot hash {job.entry!r}"))

    def _fail(self, job: _Job, error: GuixError) -> None:
        self._results.pop(job.entry, None)
        self._failures[job.entry] = job.stamp, error, time.monotonic() + _TRY_AGAIN_S
        self._on_failed(job.entry, error)

    def _put(self, job: _Job) -> None:
        with self._guard:
            self._in_hand.discard(job)
            if job.dropped:
                job.steps.close()
            else:
                heapq.heappush(self._heap, (job.left, next(self._counter), job))

    def _take(self) -> _Job | None:
        with self._guard:
            if not self._heap:
                return None
            job = heapq.heappop(self._heap)[2]
            self._in_hand.add(job)
            return job

    def _is_small_left(self) -> bool:
        with self._guard:
            least = [self._heap[0][0]] if self._heap else []
            return any(left <= _SMALL for left in (*least, *(job.left for job in self._in_hand)))
