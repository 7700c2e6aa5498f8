"""What is being worked on for one peer, and that each piece of it ends exactly once.

Whoever counts work up and leaves counting down to the work itself loses count the day the work is
cancelled before its first step, or raises, or is answered twice. Here a piece is entered before it
starts and left by what comes for certain: a list by the store's callback, the first one; a task by
its done-callback, which asyncio runs however the task ends. Nothing else counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["UnderWay"]

_log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class UnderWay:
    """Counts the requests that are worked on for a peer, and what they weigh together.

    `ended` is called each time a piece has ended, after its answer was given.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        self.requests = 0
        self.weight = 0
        self._ended = ended
        self._tasks: set[asyncio.Task[Any]] = set()

    def hand_on(
        self,
        requests: int,
        weight: int,
        start: Callable[[Callable[[_Result], None]], None],
        answer: Callable[[_Result], None],
    ) -> None:
        """Have `start` begin what calls back with a result, at once or later, for `answer`.

        A second call is passed over. If `start` raises, nothing is under way.
        """
        is_over = False

        def end() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                self._leave(requests, weight)

        def done(result: _Result) -> None:
            if not is_over:
                try:
                    answer(result)
                finally:
                    end()

        self._enter(requests, weight)
        try:
            start(done)
        except BaseException:
            end()
            raise

    def run(
        self,
        work: Coroutine[Any, Any, _Result],
        weight: int,
        answer: Callable[[_Result | None], None],
    ) -> None:
        """Answer one request by a task; `answer` gets None if it came to no result."""

        def done(task: asyncio.Task[_Result]) -> None:
            self._tasks.discard(task)
            try:
                answer(_result_of(task))
            finally:
                self._leave(1, weight)

        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        self._enter(1, weight)
        task.add_done_callback(done)

    def _enter(self, requests: int, weight: int) -> None:
        self.requests += requests
        self.weight += weight

    def _leave(self, requests: int, weight: int) -> None:
        self.requests -= requests
        self.weight -= weight
        self._ended()


def _result_of(task: asyncio.Task[_Result]) -> _Result | None:
    if task.cancelled():
        return None
    error = task.exception()
    if error is not None:
        _log.error("A request failed", exc_info=error)
        return None
    return task.result()
