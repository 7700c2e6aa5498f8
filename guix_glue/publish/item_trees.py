"""What deltas are made of, as the records of a publisher or of a mirror have it: a `TreesOfItems`.

Items of a publisher are read where they lie, as long as they are in its store; those of a mirror
lie nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from eris.threads import in_thread
from guix_glue.errors import GuixError
from guix_glue.kept.delta_results import DeltaResult
from guix_glue.local.items import Items
from guix_glue.model import StoreItem
from guix_glue.publish.cache import BakedCache
from guix_glue.publish.delta_trees import KnownTree
from guix_glue.upstream.kept_narinfos import MirrorCache

__all__ = ["ItemTrees"]


class ItemTrees:
    """The items that are in the records; `items` are those of a store, if there is one."""

    def __init__(self, cache: BakedCache | MirrorCache, items: Items | None, store_id: str) -> None:
        self._cache = cache
        self._items = items
        self._store_id = store_id

    def items(self) -> Iterator[tuple[str, float]]:
        """See `TreesOfItems`."""
        return self._cache.items()

    async def look(self, hash_part: str) -> KnownTree | None:
        """See `TreesOfItems`."""
        found = await in_thread(self._cache.tree, hash_part)
        if found is None:
            return None
        item, eris = found
        return KnownTree(item, eris, await self._location(item))

    async def keep(self, tree: KnownTree, result: DeltaResult) -> None:
        """See `TreesOfItems`."""
        urn = None if tree.eris is None else tree.eris.urn
        part = tree.item.hash_part
        await in_thread(self._cache.keep_delta, part, urn, self._store_id, result)

    async def _location(self, item: StoreItem) -> str | None:
        if self._items is None:
            return None
        try:
            found = await self._items.find(item.hash_part)
            if found is None or (found.path, found.nar_hash) != (item.path, item.nar_hash):
                return None
            return self._items.location(found)
        except GuixError:
            # Its tree is in the store of blocks, whether or not it is in the other.
            return None
