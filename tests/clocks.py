"""Loops whose time does not pass by itself, so that no test depends on how busy the machine is."""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from tests.integration.daemon import GUARD_S

__all__ = ["Clock", "run_on_clock", "run_without_waiting"]

T = TypeVar("T")

# More than it takes from a socket through aiohttp to whoever waits for bytes.
_TURNS = 50
# How much of a wait counts that ended because something came.
_LATE_S = 0.01


class _Impatient(selectors.DefaultSelector):
    """Waits for nothing: when the loop would wait, the time is then."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found and timeout:
            self.now += timeout
        return found


def run_without_waiting(coroutine: Callable[[], Awaitable[None]]) -> float:
    """Run to the end; returns how long it would have taken, in seconds.

    For what talks to nobody, or over Unix sockets to itself: these have no way to be under way.
    """
    clock = _Impatient()
    loop = asyncio.SelectorEventLoop(clock)
    loop.time = lambda: clock.now  # type: ignore[method-assign]
    try:
        loop.run_until_complete(asyncio.wait_for(coroutine(), 100_000))
    finally:
        loop.close()
    return clock.now


class _Waiting(selectors.DefaultSelector):
    """Adds up what was waited for, as far as the loop wanted to wait."""

    waited = 0.0

    def select(self, timeout: float | None = None) -> Any:
        begin = time.monotonic()
        found = super().select(timeout)
        elapsed = time.monotonic() - begin
        if timeout is not None and timeout > 0:
            # Something came: that it came late is the fault of others.
            self.waited += min(elapsed, timeout, _LATE_S) if found else timeout
        return found


class Clock(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward, and goes by what the loop does and waits for.

    While other programs have the processors it stands still.
    """

    _skipped = 0.0

    def __init__(self) -> None:
        self._waiting = _Waiting()
        super().__init__(self._waiting)

    def time(self) -> float:
        return time.process_time() + self._waiting.waited + self._skipped

    def skip(self, seconds: float) -> None:
        """Let this time have passed; by any thread."""

        def forward() -> None:
            self._skipped += seconds

        self._soon(forward)

    def settle(self) -> None:
        """Let the loop see to all that it was sent; by another thread."""
        for _ in range(_TURNS):
            turn = threading.Event()
            self._soon(turn.set)
            if not turn.wait(GUARD_S):
                return

    def _soon(self, callback: Callable[[], None]) -> None:
        # The test may be over.
        with suppress(RuntimeError):
            self.call_soon_threadsafe(callback)

    async def skip_until(self, done: Coroutine[Any, Any, T], step_s: float) -> T:
        """Let time pass, a step whenever nothing else happens, until something is done."""
        task = asyncio.ensure_future(done)
        while not task.done():
            self.skip(step_s)
            # What was sent before comes first, most of the time: it need not.
            await asyncio.wait([task], timeout=step_s + 0.005)
        return task.result()


def run_on_clock(main: Callable[[Clock], Coroutine[Any, Any, T]]) -> T:
    """Run to the end; what hangs is ended, by a clock that nobody puts forward."""
    with asyncio.Runner(loop_factory=Clock) as runner:
        clock = runner.get_loop()
        assert isinstance(clock, Clock)

        async def guarded() -> T:
            task = asyncio.ensure_future(main(clock))
            guard = threading.Timer(GUARD_S, clock.call_soon_threadsafe, (task.cancel,))
            guard.start()
            try:
                return await task
            finally:
                guard.cancel()

        return runner.run(guarded())
