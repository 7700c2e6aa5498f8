"""A coroutine whose first step is done at once.

Most requests of the slow lane are answered without waiting for anything: a path that is not there,
an option that is not understood. A task for each, begun in the next turn of the event loop, costs
more than the answer does. So the coroutine is stepped by hand until it waits; only then a task goes
on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Generic, TypeVar

__all__ = ["Begun"]

_Result = TypeVar("_Result")


class Begun(Generic[_Result]):
    """Work that has been begun; `await` it if it is not `done`.

    Each of its steps is done inside `context`. The first has no task around it: `asyncio.timeout`
    and whatever else asks for the current task is not for it.
    """

    def __init__(
        self, work: Coroutine[Any, Any, _Result], context: AbstractContextManager[None]
    ) -> None:
        self.done = False
        self.result: _Result
        self._work = work
        self._context = context
        self._awaited: Any = None
        self._step(partial(work.send, None))

    def __await__(self) -> Generator[Any, Any, _Result]:
        while not self.done:
            try:
                yield self._awaited
                step = partial(self._work.send, None)
            except BaseException as error:
                step = partial(self._work.throw, error)
            try:
                self._step(step)
            finally:
                del step
        return self.result

    async def rest(self) -> _Result:
        """What is left of it, for a task."""
        return await self

    def _step(self, step: Callable[[], Any]) -> None:
        """Do one; a step that throws an error in is forgotten before that comes out again.

        For its traceback has the frames of all who wait in the work and here: if one of these held
        the error, nothing that the work held would be free before Python looks for circles.
        """
        with self._context:
            try:
                self._awaited = step()
            except StopIteration as stop:
                self.result = stop.value
                self.done = True
            finally:
                del step
