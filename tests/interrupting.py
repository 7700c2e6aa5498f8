"""Ending a coroutine at every place where it waits, and looking for what it leaves behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final

from eris import BlockSize, BlockWriter, Reference
from tests.descriptors import descriptors, left_open

__all__ = ["ODD_ERRORS", "FailingAt", "Odd", "at_every_wait", "check_run"]

_GUARD_S: Final = 60
_TICKS: Final = 20
"""Turns of the event loop in which withdrawn requests may end."""


class Odd(BaseException):
    """No `Exception`: what nobody reckons with."""


ODD_ERRORS: Final = (asyncio.CancelledError, Odd, StopIteration, StopAsyncIteration)
"""GeneratorExit is not among them: Python closes coroutines by it, which then may not wait."""


class FailingAt:
    """Raises something at one request, at once or when it is awaited."""

    def __init__(
        self, store: BlockWriter, number: int, error: type[BaseException], *, at_once: bool
    ) -> None:
        self._store = store
        self._left = number
        self._error = error
        self._at_once = at_once

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        """Fetch a block."""
        return self._ask(self._store.get(reference, block_size))

    def put(self, reference: Reference, block: bytes) -> Awaitable[None]:
        """Keep a block."""
        return self._ask(self._store.put(reference, block))

    def _ask(self, answer: Awaitable[Any]) -> Awaitable[Any]:
        self._left -= 1
        if self._left:
            return answer
        if isinstance(answer, Coroutine):
            answer.close()
        if self._at_once:
            raise self._error
        return self._fail()

    async def _fail(self) -> None:
        await asyncio.sleep(0)
        raise self._error


class _Counting(ThreadPoolExecutor):
    """Knows how many calls are running, or wait for a thread."""

    def __init__(self) -> None:
        super().__init__(4)
        self.running = 0
        self._lock = threading.Lock()

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            self.running += 1
        return super().submit(self._call, function, *args, **kwargs)

    def _call(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        finally:
            with self._lock:
                self.running -= 1


class _Interrupted:
    """A coroutine that is cancelled where it waits for the nth time, and `again` times after."""

    def __init__(self, work: Coroutine[Any, Any, Any], number: int, again: int) -> None:
        self._work = work
        self._moments = range(number, number + 1 + again)
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._work.__await__()
        task = asyncio.current_task()
        assert task is not None
        send: Callable[[], Any] = partial(next, steps)
        while True:
            try:
                wanted = send()
            except StopIteration as done:
                return done.value
            if self.waits in self._moments:
                # As if somebody else cancelled it while it waits for this.
                task.cancel()
            self.waits += 1
            try:
                send = partial(steps.send, (yield wanted))
            except BaseException as error:
                send = partial(steps.throw, error)


def check_run(work: Callable[[], Coroutine[Any, Any, Any]]) -> BaseException | None:
    """Run a coroutine to its end, which must come, and leave nothing; returns how it failed."""

    async def run() -> BaseException | None:
        executor = _Counting()
        asyncio.get_running_loop().set_default_executor(executor)
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))
        before = descriptors()
        task = asyncio.ensure_future(work())
        done, _ = await asyncio.wait([task], timeout=_GUARD_S)
        assert done, "it hangs"
        assert executor.running == 0, "a thread goes on"
        failure: BaseException | None = None
        with suppress(asyncio.CancelledError):
            failure = task.exception()
        if task.cancelled():
            failure = asyncio.CancelledError()
        for _ in range(_TICKS):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"tasks go on: {left}"
        assert not left_open(before), "something is open"
        assert not complaints, complaints
        return failure

    return asyncio.run(run())


def at_every_wait(
    make: Callable[[], Coroutine[Any, Any, Any]], *, again: int = 0, most: int = 300
) -> int:
    """Cancel a coroutine at its nth wait, for every n; returns how many there are.

    `again`: so many of the waits after that one are cancelled too.
    """
    number = 0
    while number < most:
        interrupted: list[_Interrupted] = []

        async def work(number: int = number, kept: list[_Interrupted] = interrupted) -> Any:
            kept.append(_Interrupted(make(), number, again))
            return await kept[0]

        failure = check_run(work)
        if interrupted[0].waits <= number:
            assert failure is None
            return number
        assert isinstance(failure, asyncio.CancelledError), f"wait {number}: {failure!r}"
        number += 1
    return number
