"""Threads that work on what arrives, in batches, and report back to the event loop.

Work arrives as lists with a callback, and results come back once a round, so that the cost of
threads and wake-ups is paid by the batch. Whatever fails, each callback is called exactly once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Sequence, Sized
from typing import Any, Final, Generic, TypeVar

from eris.errors import ErisError, StoreUnavailable
from kapla.storage.backlog import Backlog
from kapla.storage.complaints import Complaints

__all__ = ["Done", "Lanes", "Wanted", "Worker", "all_kept", "always", "answered"]

_log = logging.getLogger(__name__)

Wanted = Callable[[], bool]
"""Tells, from any thread, whether somebody still waits: if not, it is not done."""

Done = Callable[[object], None]
"""Called once, on the event loop, with the result or the error."""

Chore = Callable[[bool], float | None]
"""What else the thread does: after each round (False), and when nothing came (True) for as many
seconds as it said. None: only after the next round."""

Requests = TypeVar("Requests", bound=Sized)

_Item = tuple[Requests, Done, Wanted]
_STOP: Final = "stop"
_POKE: Final = "poke"


def always() -> bool:
    """Somebody waits until it is done, whatever happens."""
    return True


class Worker(Generic[Requests]):
    """A thread that gathers what has arrived, works on it at once, and reports back."""

    def __init__(
        self,
        name: str,
        round_size: int,
        work: Callable[[list[Requests]], Sequence[object]],
        prepare: Callable[[], None],
        finish: Callable[[], None],
        chore: Chore | None = None,
    ) -> None:
        self._queue: queue.SimpleQueue[tuple[_Item[Requests], object] | str] = queue.SimpleQueue()
        self._backlog: Backlog[_Item[Requests]] = Backlog()
        self._round_size = round_size
        self._work, self._prepare, self._finish = work, prepare, finish
        self._chore = chore
        self._pause: float | None = None
        self._complaints = Complaints(_log)
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._failed_in_part = False
        self._is_stopped = False
        self.waiting = 0
        """How much was handed in and is not answered yet; for the event loop."""
        # The thread's own: it has come upon the end of what was handed in.
        self._is_ending = False
        self._is_poked = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    async def start(self) -> None:
        """Start the thread and wait until it is prepared; `stop` also after this failed."""
        self._thread.start()
        # Not the future itself: it must outlive a caller who is cancelled.
        await asyncio.shield(self._ready)

    def submit(self, requests: Requests, done: Done, wanted: Wanted, group: object = None) -> None:
        """Hand in work; that of different groups is done in turn. After `stop` it is refused."""
        if self._is_stopped:
            self._tell(_deliver, [done], [StoreUnavailable("the store is closed")])
            return
        self.waiting += 1
        self._queue.put(((requests, done, wanted), group))

    def poke(self) -> None:
        """Have the chore looked after, from any thread, though nothing is asked."""
        self._queue.put(_POKE)

    async def stop(self) -> None:
        """Finish everything handed in before that is wanted, then end the thread."""
        self._is_stopped = True
        if self._thread.ident is None:
            return
        self._queue.put(_STOP)
        await asyncio.shield(self._ended)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._prepare()
        except BaseException as error:
            self._tell(_fail, self._ready, error)
            self._tell(_settle, self._ended)
            return
        self._tell(_settle, self._ready)
        try:
            # Whatever `prepare` found to be done.
            self._do_chore(is_idle=False)
            while self._round():
                pass
            self._finish()
        except Exception:
            _log.exception("A thread of the store did not end well")
        finally:
            # Whoever waits for the end must not wait for ever.
            self._tell(_settle, self._ended)

    def _tell(self, call: Callable[..., None], *arguments: object) -> None:
        """Have the event loop do this, if it is still there."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *arguments)

    def _next(self) -> _Item[Requests] | None:
        """What comes next, None at the end; the chore is looked after meanwhile."""
        self._take_in()
        while not self._backlog:
            if self._is_ending:
                return None
            if self._is_poked:
                self._is_poked = False
                self._do_chore(is_idle=False)
            try:
                self._put_by(self._queue.get(timeout=self._pause))
            except queue.Empty:
                self._do_chore(is_idle=True)
                continue
            self._take_in()
        return self._backlog.take()

    def _take_in(self) -> None:
        """Put by whatever has arrived."""
        # Nobody else takes from it.
        while not self._queue.empty():
            self._put_by(self._queue.get_nowait())

    def _put_by(self, arrived: tuple[_Item[Requests], object] | str) -> None:
        if isinstance(arrived, str):
            self._is_ending |= arrived is _STOP
            self._is_poked |= arrived is _POKE
        else:
            item, group = arrived
            self._backlog.add(group, item, len(item[0]))

    def _do_chore(self, *, is_idle: bool) -> None:
        if self._chore is None:
            return
        try:
            self._pause = self._chore(is_idle)
        except Exception as error:
            # The thread must live.
            self._pause = None
            self._complaints.tell("The store's upkeep failed", error=error)

    def _round(self) -> bool:
        item = self._next()
        batch: list[Requests] = []
        dones: list[Done] = []
        given_up: list[Done] = []
        count = 0
        while item is not None:
            requests, done, wanted = item
            if wanted():
                batch.append(requests)
                dones.append(done)
                count += len(requests)
            else:
                given_up.append(done)
                count += 1
            if count >= self._round_size:
                break
            self._take_in()
            item = self._backlog.take() if self._backlog else None
        results = self._results(batch) if batch else []
        if given_up:
            dones += given_up
            results += [StoreUnavailable("nobody waits for this any more")] * len(given_up)
        if dones:
            self._tell(self._deliver, dones, results)
        self._do_chore(is_idle=False)
        return bool(self._backlog) or not self._is_ending

    def _deliver(self, dones: list[Done], results: list[object]) -> None:
        self.waiting -= len(dones)
        _deliver(dones, results)

    def complain(self, error: ErisError) -> None:
        """Tell of what failed in part, once; for the work itself."""
        self._failed_in_part = True
        self._complaints.tell(f"The store failed: {error}")

    def _results(self, batch: list[Requests]) -> list[object]:
        try:
            results = list(self._work(batch))
        except ErisError as error:
            self._complaints.tell(f"The store failed: {error}")
            return [error] * len(batch)
        except Exception as error:
            # Whatever it is, every waiting peer must get an answer and the thread must live.
            name = type(error).__name__
            self._complaints.tell(f"The store failed: {name}", error=error)
            return [StoreUnavailable(f"the store failed: {name}")] * len(batch)
        if not self._failed_in_part:
            self._complaints.well()
        self._failed_in_part = False
        return results


class Lanes(Generic[Requests]):
    """Workers that do the same, side by side: whoever has least to do is next."""

    def __init__(self, workers: Sequence[Worker[Requests]]) -> None:
        self._workers = workers
        # One of one is found without a look.
        self._only = workers[0] if len(workers) == 1 else None

    def submit(self, requests: Requests, done: Done, wanted: Wanted, group: object = None) -> None:
        """Hand in work: see `Worker.submit`."""
        worker = self._only or min(self._workers, key=lambda one: one.waiting)
        worker.submit(requests, done, wanted, group)


async def answered(
    hand_in: Callable[[Callable[[Any], None], Wanted], None], wanted: Wanted = always
) -> Any:
    """Hand something in, as `hand_in(done, wanted)`, and wait for its result.

    It is not wanted any more when whoever waits is cancelled. Raises: what it ends with.
    """
    answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(result: object) -> None:
        if answer.done():
            return
        if isinstance(result, ErisError):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    hand_in(done, lambda: not answer.done() and wanted())
    return await answer


async def all_kept(
    hand_in: Callable[[Callable[[Any], None], Wanted], None], wanted: Wanted = always
) -> None:
    """As `answered`, for blocks: each ends with an error or None. Raises: the first error."""
    errors: Sequence[ErisError | None] | None = await answered(hand_in, wanted)
    for error in errors or ():
        if error is not None:
            raise error


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _deliver(dones: list[Done], results: list[object]) -> None:
    for done, result in zip(dones, results, strict=True):
        try:
            done(result)
        except Exception:
            # One peer's trouble must not keep the answers of others.
            _log.exception("An answer could not be delivered")
