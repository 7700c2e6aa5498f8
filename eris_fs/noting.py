"""Which blocks a content became: for a cache, while it is encoded."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from itertools import compress

from eris.model import BlockSize, EncodedBlock, Reference
from eris.store import BlockFinder, BlockWriter, ManyWriter

__all__ = ["NotingStore", "noting_store"]


def noting_store(store: BlockWriter, finder: BlockFinder) -> NotingStore:
    """One around this store that takes many blocks at once, if this one does."""
    if isinstance(store, ManyWriter):
        return _NotingMany(store, finder)
    return NotingStore(store, finder)


class NotingStore:
    """A store that notes the references of what is put into it, or need not be."""

    def __init__(self, store: BlockWriter, finder: BlockFinder) -> None:
        self.references = bytearray()
        self._store = store
        self._finder = finder

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        """Fetch a block."""
        return self._store.get(reference, block_size)

    def put(self, reference: Reference, block: bytes) -> Awaitable[None]:
        """Keep a block, and note it."""
        self.references += reference
        return self._store.put(reference, block)

    async def find(self, references: Sequence[Reference]) -> list[bool]:
        """Tell which blocks are there, and note these."""
        found = await self._finder.find(references)
        self.references += b"".join(compress(references, found))
        return found


class _NotingMany(NotingStore):
    """Likewise, of many at once."""

    def __init__(self, store: ManyWriter, finder: BlockFinder) -> None:
        super().__init__(store, finder)
        self._many = store

    def put_all(self, blocks: Sequence[EncodedBlock]) -> Awaitable[None]:
        """Keep blocks, and note them."""
        self.references += b"".join(reference for reference, _ in blocks)
        return self._many.put_all(blocks)
