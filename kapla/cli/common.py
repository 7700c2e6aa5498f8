"""What commands share: the event loop with its signals.

And, under this one name, what the modules beside it have for them: the store, URN arguments, the
standard streams, progress, errors.
"""

from __future__ import annotations

import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kapla.cli.outcome import CommandError, ExitCode, Interrupted
from kapla.cli.progress import (
    LARGEST_SHOWN,
    Counted,
    Progress,
    Silent,
    progress,
    shows_progress,
)
from kapla.cli.store import Store, connect, store_option
from kapla.cli.streams import standard_input, standard_output
from kapla.cli.summary import summarized
from kapla.cli.urn import read_capability, urn_argument

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "LARGEST_SHOWN",
    "CommandError",
    "Counted",
    "ExitCode",
    "Interrupted",
    "Progress",
    "Silent",
    "Store",
    "connect",
    "progress",
    "read_capability",
    "run",
    "shows_progress",
    "standard_input",
    "standard_output",
    "store_option",
    "summarized",
    "urn_argument",
]

_T = TypeVar("_T")

# How long the event loop has to notice a signal. What it does in one go takes milliseconds.
_STUCK_S: Final = 1.0


@contextmanager
def _interruptible(task: asyncio.Task[Any]) -> Iterator[list[int]]:
    """Let SIGINT, SIGTERM and SIGHUP cancel the task, so that it cleans up.

    An event loop that is stuck, writing to a pipe that nobody reads, does not come to cancel
    anything: then `Interrupted` is raised where it stands.
    """
    loop = task.get_loop()
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.setitimer(signal.ITIMER_REAL, _STUCK_S)
        loop.call_soon_threadsafe(cancel)

    def cancel() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        task.cancel()

    def give_up(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), interrupt)
    before = {
        number: signal.signal(number, handler)
        for number, handler in {**handlers, signal.SIGALRM: give_up}.items()
    }
    try:
        yield received
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def run(command: Coroutine[Any, Any, _T]) -> _T:
    """Run a command's coroutine; a signal cancels it and ends in `Interrupted`."""
    # Loaded only here: `--help` and `--version` do without.
    import asyncio

    from kapla.loop import Loop

    async def guarded() -> _T:
        task = asyncio.ensure_future(command)
        with _interruptible(task) as received:
            try:
                return await task
            except asyncio.CancelledError:
                if received:
                    raise Interrupted from None
                raise

    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(guarded())
