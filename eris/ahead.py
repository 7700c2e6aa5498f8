"""Items made by one task some steps ahead of another that takes them.

However the maker ends, also by a cancellation of its own or before it has begun, the taker hears of
it; and however the taker ends, the maker does not outlive it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

from eris.threads import settle

__all__ = ["run_ahead"]

T = TypeVar("T")


@asynccontextmanager
async def run_ahead(
    items: AsyncGenerator[T, None], most: int
) -> AsyncIterator[Callable[[], Awaitable[T | None]]]:
    """Make up to `most` items ahead, none of them None; gives what takes the next, None at the end.

    Taking raises what making raised, once all that was made before is taken.
    """
    made: asyncio.Queue[T | None] = asyncio.Queue()
    room = asyncio.Semaphore(most)

    async def make() -> None:
        async with aclosing(items):
            async for item in items:
                await room.acquire()
                made.put_nowait(item)

    async def take() -> T | None:
        item = await made.get()
        if item is None:
            made.put_nowait(None)
            making.result()
            return None
        room.release()
        return item

    making = asyncio.ensure_future(make())
    # Not by the task itself, which may end anywhere.
    making.add_done_callback(lambda _: made.put_nowait(None))
    try:
        yield take
    finally:
        making.cancel()
        await settle(making, on_cancel=making.cancel)
