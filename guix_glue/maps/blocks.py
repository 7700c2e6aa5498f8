"""A map that is an ERIS content, of which a look-up fetches one leaf.

The root node tells how many pages there are, and with that the place of an item is known. So the
first look-up in a million items is three round trips, for the root, the inner node above the page,
and the page. Inner nodes are kept, and so each later look-up is one round trip, or two where it is
the first below its inner node.

A map of few items is one leaf, or some small ones, and read at once.
"""

from __future__ import annotations

import asyncio
from typing import Final

from eris.capability import ReadCapability
from eris.model import BlockSize
from eris.store import BlockReader
from eris.threads import settle
from eris.transfer import get_content, stream_content
from eris_fs.reader.caches import LEAST_CACHE_SIZE, Caches
from guix_glue.formats.item_map import (
    DEFAULT_MAP_LIMITS,
    PAGE_SIZE,
    Contents,
    InvalidMap,
    MapLimits,
    Page,
    Search,
    key_of,
    parse_page,
    urn_of,
)

__all__ = ["BlockMap"]

_OPENING_S: Final = 30.0
_CACHE_SIZE: Final = 2 * LEAST_CACHE_SIZE
_LARGEST_LOADED: Final = 1024**3
# The leaves of a map that are no page: its head, and padding.
_OTHER_LEAVES: Final = 2

_Opened = Contents | int
"""A small map, or how many pages a large one has."""


class BlockMap:
    """A map under a capability. `close()` it; the store stays open."""

    def __init__(
        self,
        store: BlockReader,
        capability: ReadCapability,
        limits: MapLimits = DEFAULT_MAP_LIMITS,
    ) -> None:
        self._store = store
        self._capability = capability
        self._limits = limits
        self._caches = Caches(store, _CACHE_SIZE)
        self._row = self._caches.leaves(capability)
        self._opening: asyncio.Task[_Opened] | None = None

    def __repr__(self) -> str:
        return "<BlockMap, redacted>"

    async def find(self, hash_part: str) -> str | None:
        """See `Map`."""
        key = key_of(hash_part)
        opened = await self._opened()
        if isinstance(opened, Contents):
            return opened.find(hash_part)
        search = Search(key, opened)
        while (number := search.page) is not None:
            search.look(await self._page(number))
        return None if search.found is None else urn_of(search.found)

    async def load(self) -> Contents:
        """See `Map`. Raises: InvalidMap, also for one of more than 1 GiB."""
        _check(self._capability)
        data = bytearray()
        pieces = stream_content(self._store, self._capability)
        try:
            async for piece in pieces:
                data += piece
                if len(data) > _LARGEST_LOADED:
                    raise InvalidMap("it is larger than is read into memory, 1 GiB")
        finally:
            await pieces.aclose()
        return Contents.parse(bytes(data), self._limits)

    async def close(self) -> None:
        """Give up what is under way."""
        if self._opening is not None:
            self._opening.cancel()
            await settle(self._opening)
        await self._caches.aclose()

    async def _opened(self) -> _Opened:
        task = self._opening
        if task is None or (task.done() and _failed(task)):
            task = self._opening = asyncio.create_task(self._open())
            task.add_done_callback(_failed)
        # Whoever leaves does not take it away from the next one.
        return await asyncio.shield(task)

    async def _open(self) -> _Opened:
        _check(self._capability)
        async with asyncio.timeout(_OPENING_S):
            if self._capability.block_size is BlockSize.SMALL or self._capability.level == 0:
                data = await get_content(self._store, self._capability)
                return Contents.parse(data, self._limits)
            return await self._row.breadth() - _OTHER_LEAVES

    async def _page(self, number: int) -> Page:
        start = number * PAGE_SIZE
        data = await self._caches.spans.read(self._row, start, start + PAGE_SIZE)
        return parse_page(data)


def _check(capability: ReadCapability) -> None:
    """Raises: InvalidMap, for a level that no map has: a hostile one may state 255."""
    # Of small blocks one inner node has the 16 KiB from which on blocks are large.
    most = 1 if capability.block_size is BlockSize.SMALL else 2
    if capability.level > most:
        raise InvalidMap("it is larger than any map is")


def _failed(task: asyncio.Task[_Opened]) -> bool:
    """How it ended, or asyncio complains that nobody looked."""
    return task.cancelled() or task.exception() is not None
