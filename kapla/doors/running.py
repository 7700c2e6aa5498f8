"""One event loop for a process, in a thread of its own: where the doors do their work.

It is started when it is first needed. A process that forks leaves the loop behind in its parent,
and the child starts another when it needs one: nothing of the parent's is touched there, as both
share its descriptors. At the end of the program it is stopped, and waited for a little.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, Generic, Self, TypeVar

from eris.errors import StoreUnavailable
from kapla.loop import Loop

__all__ = ["Background", "Call", "background"]

T = TypeVar("T")

_GIVEN_UP_S: Final = 5.0
"""How long work that is given up may take to end. A thread that reads a pipe may not end at all."""

_END_S: Final = 3.0
"""How long the end of the program waits for what is under way."""


class Call(Generic[T]):
    """Some work in the loop of another thread: a context, at whose end it has ended."""

    def __init__(
        self,
        work: Callable[[], Coroutine[Any, Any, T]],
        result: Future[T],
        tell: Callable[[Callable[[], object]], None],
    ) -> None:
        self.result = result
        self._work = work
        self._tell = tell
        self._tasks: list[asyncio.Task[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.result.done():
            self._tell(self._give_up)
            # It may still use what the caller is about to close.
            with suppress(Exception):
                self.result.exception(_GIVEN_UP_S)

    def _give_up(self) -> None:
        for task in self._tasks:
            task.cancel()
        if not self._tasks:
            _fail(self.result)

    def begin(self) -> None:
        """Begin, within the context: so that Ctrl-C finds an end for it at any time."""
        self._tell(_beginning(self.result, self._work, self._tasks))

    def wait(self) -> T:
        """Wait for it.

        Raises: whatever the work raises; StoreUnavailable at the end of the program.
        """
        return self.result.result()


class Background:
    """An event loop that runs in a thread. See `background`, which gives the one there is."""

    def __init__(self) -> None:
        self.loop = Loop()
        self._waiting: set[Future[Any]] = set()
        self._open: set[Callable[[], Awaitable[None]]] = set()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="kapla-doors", daemon=True)
        self._thread.start()

    @property
    def is_here(self) -> bool:
        """Whether this is the one of this process, and not of one that it is a fork of."""
        return _process.background is self

    def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do some work in the loop and wait for it; what interrupts the wait cancels the work.

        Raises: whatever it raises; RuntimeError, if this is called by what runs in the loop.
        """
        with self.prepare(work) as call:
            call.begin()
            return call.wait()

    def prepare(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Call[T]:
        """Prepare some work in the loop, to be used as a context: leaving that cancels it.

        Raises: RuntimeError, if this is called by what runs in the loop.
        """
        if threading.get_ident() == self._thread.ident:
            raise RuntimeError(
                "this was called by what kapla.doors itself runs, and would wait for itself for"
                " ever; call it from another thread"
            )
        result: Future[T] = Future()
        result.add_done_callback(self._waiting.discard)
        self._waiting.add(result)
        return Call(work, result, lambda function: self._tell(function, result))

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have some work done that nobody waits for, if the loop is still there."""
        result: Future[None] = Future()
        tasks: list[asyncio.Task[None]] = []
        result.add_done_callback(self._waiting.discard)
        # Keeps the task with it, of which the loop has only a weak reference.
        result.add_done_callback(lambda _: tasks.clear())
        self._waiting.add(result)
        self._tell(_beginning(result, work, tasks), result)

    def keep_open(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have something closed at the end of the program; called in the loop."""
        self._open.add(close)

    def closed(self, close: Callable[[], Awaitable[None]]) -> None:
        """It was closed before; called in the loop."""
        self._open.discard(close)

    def stop(self) -> None:
        """End, with all that is under way; returns after some seconds at the latest."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(2 * _END_S)

    def _tell(self, function: Callable[[], object], result: Future[Any]) -> None:
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            _fail(result)
        if self._ended:
            _fail(result)

    def _run(self) -> None:
        try:
            self.loop.run_forever()
            self.loop.run_until_complete(self._wind_up())
        finally:
            self._ended = True
            for result in list(self._waiting):
                _fail(result)
            self.loop.close()

    async def _wind_up(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        tasks |= {asyncio.create_task(_close(close)) for close in self._open}
        if tasks:
            await asyncio.wait(tasks, timeout=_END_S)


async def _close(close: Callable[[], Awaitable[None]]) -> None:
    with suppress(Exception):
        await close()


def _beginning(
    result: Future[T],
    work: Callable[[], Coroutine[Any, Any, T]],
    tasks: list[asyncio.Task[None]],
) -> Callable[[], None]:
    """What begins a task in the loop that runs; the task never raises, which could end the loop."""

    async def run() -> None:
        try:
            value = await work()
        except asyncio.CancelledError:
            _fail(result)
        except BaseException as error:
            if not result.done():
                result.set_exception(error)
        else:
            if not result.done():
                result.set_result(value)

    def begin() -> None:
        task = asyncio.get_running_loop().create_task(run())
        # One that is cancelled at once never runs.
        task.add_done_callback(lambda _: _fail(result))
        tasks.append(task)

    return begin


def _fail(result: Future[Any]) -> None:
    if not result.done():
        result.set_exception(StoreUnavailable("this was given up: the program is ending"))


class _Process:
    """What there is in this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.background: Background | None = None
        # Of processes that this one is a fork of: never used, and never taken apart.
        self.left_behind: list[Background] = []

    def get(self) -> Background:
        with self.lock:
            if self.background is None:
                self.background = Background()
            return self.background

    def forked(self) -> None:
        # Another thread of the parent may have held it.
        self.lock = threading.Lock()
        if self.background is not None:
            self.left_behind.append(self.background)
            self.background = None

    def end(self) -> None:
        if self.background is not None:
            self.background.stop()


_process: Final = _Process()
os.register_at_fork(after_in_child=_process.forked)
atexit.register(_process.end)


def background() -> Background:
    """The loop of this process, started if there is none."""
    return _process.background or _process.get()
