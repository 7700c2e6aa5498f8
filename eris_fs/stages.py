"""Reading, work and sending at the same time: how trees get into a store.

One thread reads, some work, the event loop sends; each is ahead of the next by some jobs, and that
is the memory it takes.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

from eris.threads import in_thread, settle

__all__ = ["processors", "run_stages"]

# Each compresses, and takes up to 100 MiB for that at level 19.
_MOST_PROCESSORS: Final = 8

Job = TypeVar("Job")
Done = TypeVar("Done")


def processors() -> int:
    """How many threads may work at once: as many as processors, and not too many."""
    return min(os.cpu_count() or 1, _MOST_PROCESSORS)


async def run_stages(
    read: Callable[[], Job | None],
    work: Callable[[Job], Iterable[Coroutine[Any, Any, Done]]],
    send: Callable[[Done], Awaitable[None]],
    at_once: int,
) -> None:
    """Read jobs in a thread until there is none, work on some at once, send in order what is done.

    A job may be work in several parts. With one at once the next is read when that one is sent, so
    that nothing is held beside it; else one is read ahead. Nothing runs any more afterwards.
    Raises: what any of the three raises; ValueError, if nothing may be worked on.
    """
    if at_once < 1:
        raise ValueError(f"with {at_once} jobs at once nothing is done")
    under_way: deque[asyncio.Task[Done]] = deque()
    reading = asyncio.create_task(in_thread(read))
    try:
        while job := await reading:
            under_way.extend(map(asyncio.create_task, work(job)))
            if at_once > 1:
                reading = asyncio.create_task(in_thread(read))
            while len(under_way) >= at_once:
                await _send_oldest(under_way, send)
            if at_once == 1:
                reading = asyncio.create_task(in_thread(read))
        while under_way:
            await _send_oldest(under_way, send)
    finally:
        for task in (reading, *under_way):
            task.cancel()
        await settle(reading)
        await settle(*under_way)


async def _send_oldest(
    under_way: deque[asyncio.Task[Done]], send: Callable[[Done], Awaitable[None]]
) -> None:
    # Awaited where it stands, so that an interruption finds it there.
    done = await under_way[0]
    under_way.popleft()
    await send(done)
