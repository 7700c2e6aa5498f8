"""The sizes of contents, asked of a store: the pump of `eris.size`.

Of one content a block a level is fetched, each only known from the one before. Of many contents
many are looked at together, so that a thousand files take no more round trips than one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from itertools import islice
from typing import Final

from eris.capability import ReadCapability
from eris.errors import BlockNotFound, ContentError
from eris.size import SizeFinder
from eris.store import BlockReader
from eris.threads import withdraw

__all__ = [
    "DEFAULT_SIZE_WINDOW",
    "Outcome",
    "content_size",
    "content_sizes",
    "stream_outcomes",
    "stream_sizes",
]

DEFAULT_SIZE_WINDOW: Final = 1024
"""Contents looked at together, one request each: 32 MiB of blocks at most, mostly far less."""

Outcome = int | BlockNotFound | ContentError
"""The size of a content in bytes, or why it cannot be found."""


async def content_size(store: BlockReader, capability: ReadCapability) -> int:
    """Find the size of a content in bytes: one block a level, down the right edge of the tree.

    Raises: BlockNotFound, ContentError, StoreError.
    """
    finder = SizeFinder(capability)
    while (reference := finder.wanted) is not None:
        finder.receive(await store.get(reference, finder.block_size))
    assert finder.size is not None
    return finder.size


async def content_sizes(
    store: BlockReader,
    capabilities: Iterable[ReadCapability],
    *,
    window: int = DEFAULT_SIZE_WINDOW,
) -> list[int]:
    """Find the sizes of many contents in bytes, in the order given, up to `window` at a time.

    Raises: BlockNotFound, ContentError, StoreError, of the first content that has one in time.
    """
    wanted = list(capabilities)
    sizes: dict[ReadCapability, int] = {}
    async with aclosing(stream_sizes(store, dict.fromkeys(wanted), window=window)) as found:
        async for capability, size in found:
            sizes[capability] = size
    return [sizes[capability] for capability in wanted]


async def stream_sizes(
    store: BlockReader,
    capabilities: Iterable[ReadCapability],
    *,
    window: int = DEFAULT_SIZE_WINDOW,
) -> AsyncGenerator[tuple[ReadCapability, int], None]:
    """Find the sizes of many contents, and give each as it is found, in any order.

    Close the iterator (`contextlib.aclosing`) if it is not read to its end.
    Raises: BlockNotFound, ContentError, StoreError.
    """
    async with aclosing(stream_outcomes(store, capabilities, window=window)) as found:
        async for capability, outcome in found:
            if not isinstance(outcome, int):
                raise outcome
            yield capability, outcome


async def stream_outcomes(
    store: BlockReader,
    capabilities: Iterable[ReadCapability],
    *,
    window: int = DEFAULT_SIZE_WINDOW,
) -> AsyncGenerator[tuple[ReadCapability, Outcome], None]:
    """As `stream_sizes`; what is missing or damaged of one content does not stop the others.

    Raises: StoreError.
    """
    if window < 1:
        raise ValueError(f"a window of {window} contents finds no size")
    coming = iter(capabilities)
    under_way: deque[tuple[ReadCapability, SizeFinder, asyncio.Future[bytes]]] = deque()

    def ask(capability: ReadCapability, finder: SizeFinder) -> None:
        assert finder.wanted is not None
        future = asyncio.ensure_future(store.get(finder.wanted, finder.block_size))
        under_way.append((capability, finder, future))

    try:
        while True:
            # In runs, which is cheaper than one by one.
            if len(under_way) <= window // 2:
                for capability in islice(coming, window - len(under_way)):
                    ask(capability, SizeFinder(capability))
            if not under_way:
                return
            # Awaited where it stands, so that an interruption finds it in the queue.
            capability, finder, future = under_way[0]
            outcome = await _step(finder, future)
            under_way.popleft()
            if outcome is None:
                ask(capability, finder)
            else:
                yield capability, outcome
    finally:
        withdraw(future for _, _, future in under_way)


async def _step(finder: SizeFinder, future: asyncio.Future[bytes]) -> Outcome | None:
    """Take one block; the size, or what is wrong, or None if there is more to look at."""
    try:
        finder.receive(await future)
    except (BlockNotFound, ContentError) as error:
        return error
    return finder.size
