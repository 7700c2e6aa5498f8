"""A map that is an ERIS content, of which a look-up fetches one window of leaves.

The first one needs three round trips: the root; the inner nodes below it, which also tell how long
the map is; and then, together, the head and the leaves around where the entry should be by that
length. All but the leaves are kept, so that each later look-up is one round trip, for one leaf or
two. A map of more than 16 × 512 leaves has more inner nodes, and these cost a round trip more when
they are met first.

Opening goes on when whoever asked does not wait any longer, for a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from eris.capability import ReadCapability
from eris.model import BlockSize
from eris.store import BlockReader
from eris.threads import settle
from eris.transfer import stream_content
from eris_fs.reader.caches import LEAST_CACHE_SIZE, Caches
from eris_fs.reader.spans import Part
from guix_glue.formats.item_map import (
    DEFAULT_MAP_LIMITS,
    LARGEST_HEAD,
    Contents,
    Entry,
    InvalidMap,
    MapHead,
    MapLimits,
    Search,
    Window,
    first_guess,
    key_of,
    parse_head,
    split_entries,
    urn_of,
)

__all__ = ["BlockMap"]

_OPENING_S: Final = 30.0
_NODES: Final = 16
"""Inner nodes of a level that are fetched at once: half a MiB."""
_CACHE_SIZE: Final = 2 * LEAST_CACHE_SIZE
_MOST_LEVEL: Final = {BlockSize.SMALL: 6, BlockSize.LARGE: 3}
"""Above these is room for more than the largest map: a hostile one may state 255."""
_LARGEST_LOADED: Final = 1024**3


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
        self._opening: asyncio.Task[MapHead] | None = None

    def __repr__(self) -> str:
        return "<BlockMap, redacted>"

    async def find(self, hash_part: str) -> str | None:
        """See `Map`."""
        key = key_of(hash_part)
        head = await self._opened(key)
        search = Search(head, key)
        while (window := search.window) is not None:
            search.look(await self._entries(head, window))
        return None if search.found is None else urn_of(search.found)

    async def load(self) -> Contents:
        """See `Map`. Raises: InvalidMap, also for one of more than 1 GiB."""
        self._check_level()
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

    async def _opened(self, key: bytes) -> MapHead:
        task = self._opening
        if task is None or (task.done() and _failed(task)):
            task = self._opening = asyncio.create_task(self._open(key))
            task.add_done_callback(_failed)
        # Whoever leaves does not take it away from the next one.
        return await asyncio.shield(task)

    async def _open(self, key: bytes) -> MapHead:
        self._check_level()
        async with asyncio.timeout(_OPENING_S):
            last = await self._row.overview(_NODES)
            least = last * self._row.unit
            most = least + self._row.unit
            head = parse_head(await self._head(key, least, most), self._limits)
        if not least <= head.size < most:
            raise InvalidMap("it is longer or shorter than it says")
        return head

    async def _head(self, key: bytes, least: int, most: int) -> bytes:
        """The beginning, and at the same time what will be looked at next."""
        unit = self._row.unit
        start, stop = first_guess(key, most, least)
        guessed = [Part(self._row, one, 1) for one in range(start // unit, -(-stop // unit))]
        end = min(LARGEST_HEAD, most)
        return await self._caches.spans.read(self._row, 0, end, ahead=guessed)

    async def _entries(self, head: MapHead, window: Window) -> Sequence[Entry]:
        start = head.start + window.first * head.entry_size
        stop = head.start + window.stop * head.entry_size
        data = await self._caches.spans.read(self._row, start, stop)
        if len(data) != stop - start:
            raise InvalidMap("it is shorter than it says")
        return list(split_entries(data, head.entry_size))

    def _check_level(self) -> None:
        if self._capability.level > _MOST_LEVEL[self._capability.block_size]:
            raise InvalidMap("it is larger than any map is")


def _failed(task: asyncio.Task[MapHead]) -> bool:
    """How it ended, or asyncio complains that nobody looked."""
    return task.cancelled() or task.exception() is not None
