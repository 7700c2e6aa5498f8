"""What the files of one reader share: the store, what was read, and the inner nodes."""

from __future__ import annotations

from typing import Final

from eris.capability import ReadCapability
from eris.store import BlockReader
from eris_fs.reader.leaves import Leaves, Node, node_size
from eris_fs.reader.shared import Shared
from eris_fs.reader.spans import Spans

__all__ = ["DEFAULT_CACHE_SIZE", "LEAST_CACHE_SIZE", "Caches"]

DEFAULT_CACHE_SIZE: Final = 64 * 1024 * 1024
"""Bytes that are kept: some packs of the largest size, or what a few dozen readers in order use."""

LEAST_CACHE_SIZE: Final = 4 * 1024 * 1024
"""Less would not hold what one read needs until the next one."""

# Parts of the whole that are for inner nodes, and for what is under way for nobody yet.
_NODES: Final = 4
_AHEAD: Final = 4


class Caches:
    """Up to `cache_size` bytes of what was read, beside what is under way."""

    def __init__(self, store: BlockReader, cache_size: int) -> None:
        if cache_size < LEAST_CACHE_SIZE:
            raise ValueError(f"a cache of {cache_size} bytes; it needs {LEAST_CACHE_SIZE}")
        self.store = store
        self._nodes: Shared[Node] = Shared(cache_size // _NODES, node_size)
        self._data: Shared[bytes] = Shared(
            cache_size - cache_size // _NODES, len, cache_size // _AHEAD
        )
        self.spans = Spans(self._data)

    def leaves(self, capability: ReadCapability) -> Leaves:
        """A content as a row of leaves."""
        return Leaves(self.store, capability, self._nodes)

    async def aclose(self) -> None:
        """Give up what is under way, and return when it has ended."""
        # What fetches data waits for nodes.
        await self._data.aclose()
        await self._nodes.aclose()
