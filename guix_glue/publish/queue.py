"""Jobs in the background: a bounded queue without duplicates, and a wait before trying again.

Asking for a job costs nothing and never waits: when the queue is full the job is left out, and the
next request for the same thing asks again. A job that fails for a reason that passes (`TryLater`)
comes back by itself, after longer and longer; one that fails for a reason of its own is left alone
for a while and then only done when it is asked for. Why a job failed is said once, with its key.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from eris.errors import ErisError
from guix_glue.errors import NotBaked
from guix_glue.publish.tally import Bakings
from guix_glue.servers.complaints import Complaints

__all__ = ["JobQueue", "TryLater"]

_log = logging.getLogger(__name__)

_Job = TypeVar("_Job")

DEFAULT_LENGTH: Final = 10_000
"""Jobs that wait: more than a client asks for at once; a few hundred bytes each."""

_FIRST_DELAY_S: Final = 5.0
_LONGEST_DELAY_S: Final = 600.0


class TryLater(Exception):
    """A job cannot be done now, for a reason that passes.

    `delay_s` is when to try; None: after longer and longer. `reason` is None if it was said.
    """

    def __init__(self, delay_s: float | None = None, reason: str | None = None) -> None:
        super().__init__("try later")
        self.delay_s = delay_s
        self.reason = reason


class JobQueue(Generic[_Job]):
    """Runs `do(job)` for each key wanted, `workers` at once, a key never twice at a time."""

    def __init__(
        self,
        do: Callable[[_Job], Awaitable[None]],
        *,
        workers: int,
        length: int = DEFAULT_LENGTH,
        first_delay_s: float = _FIRST_DELAY_S,
    ) -> None:
        self._do = do
        self._first_delay_s = first_delay_s
        self._length = length
        self._waiting: asyncio.Queue[tuple[str, _Job]] = asyncio.Queue(length)
        self._taken: set[str] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        # Key -> failures in a row, and the time of the loop before which it is left alone.
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._complaints = Complaints(_log, length=length)
        self.bakings = Bakings()
        """What became of the jobs."""
        self._loop = asyncio.get_running_loop()
        self._workers = [asyncio.create_task(self._work()) for _ in range(workers)]

    @property
    def waiting(self) -> int:
        """How many jobs wait for a worker."""
        return self._waiting.qsize()

    @property
    def delayed(self) -> int:
        """How many are tried again later."""
        return len(self._timers)

    def want(self, key: str, job: _Job) -> None:
        """Have a job done, unless it is waiting already, or has failed a moment ago."""
        if key in self._taken or key in self._timers:
            return
        if self._loop.time() < self._failed.get(key, (0, 0.0))[1]:
            return
        try:
            self._waiting.put_nowait((key, job))
        except asyncio.QueueFull:
            return
        self._taken.add(key)

    async def idle(self) -> None:
        """Wait until no job is left that can be done now."""
        await self._waiting.join()

    async def close(self) -> None:
        """Cancel what is under way, and wait until it has ended."""
        for timer in self._timers.values():
            timer.cancel()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            key, job = await self._waiting.get()
            try:
                with self.bakings.one(key) as baking:
                    baking.failure = await self._attempt(key, job)
            finally:
                self._taken.discard(key)
                self._waiting.task_done()

    async def _attempt(self, key: str, job: _Job) -> str | None:
        """Returns why it failed."""
        try:
            await self._do(job)
        except TryLater as error:
            if error.reason is not None:
                self._complaints.say(key, f"Not baked: {key}: {error.reason}")
            self._try_later(key, job, self._hold(key) if error.delay_s is None else error.delay_s)
            return "later" if error.reason is None else f"later: {error.reason}"
        except (ErisError, OSError) as error:
            reason = _reason(error)
            self._complaints.say(key, f"Not baked: {key}: {reason}")
            self._hold(key)
            return reason
        except Exception as error:
            _log.debug("Baking failed", exc_info=True)
            self._complaints.say(key, f"Not baked: {key}: {error!r}")
            self._hold(key)
            return f"{error!r}"
        self._failed.pop(key, None)
        self._complaints.withdraw(key)
        return None

    def _hold(self, key: str) -> float:
        """Leave a key alone for a while; returns for how long, in seconds."""
        failures = self._failed.pop(key, (0, 0.0))[0] + 1
        delay_s = min(_LONGEST_DELAY_S, self._first_delay_s * 2.0 ** min(failures - 1, 20))
        self._failed[key] = failures, self._loop.time() + delay_s
        while len(self._failed) > self._length:
            self._failed.popitem(last=False)
        return delay_s

    def _try_later(self, key: str, job: _Job, delay_s: float) -> None:
        def now() -> None:
            del self._timers[key]
            attempts, _ = self._failed.get(key, (0, 0.0))
            if attempts:
                self._failed[key] = attempts, 0.0
            self.want(key, job)

        if len(self._timers) < self._length:
            self._timers[key] = self._loop.call_later(delay_s, now)


def _reason(error: Exception) -> str:
    """What an error says, without the number of the system's."""
    if isinstance(error, NotBaked):
        return error.reason
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return where + error.strerror
    return str(error)
