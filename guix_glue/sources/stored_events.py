"""An item out of the blocks of its tree: the events of its nar, and no more than that may have."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from eris.capability import ReadCapability
from eris.store import BlockReader
from eris_fs import load_tree
from guix_glue.formats.nar import NarEvent, NarLimits
from guix_glue.local.tree_events import tree_events, tree_limits

__all__ = ["stored_events"]


async def stored_events(
    store: BlockReader, capability: ReadCapability, nar_size: int
) -> AsyncGenerator[list[NarEvent], None]:
    """Read a tree as the events of its nar, of `nar_size` bytes at most, many at a time.

    Close the iterator (`contextlib.aclosing`) if it is not read to its end.
    Raises: TreeError, for what is no tree; FetchFailed; BlockNotFound, ContentError, StoreError.
    """
    tree = await load_tree(store, capability, limits=tree_limits(nar_size))
    async with aclosing(tree_events(store, tree, NarLimits(size=nar_size))) as batches:
        async for events in batches:
            yield events
