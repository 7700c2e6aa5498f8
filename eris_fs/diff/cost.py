"""Which blocks one set of contents has that another has not: what moving on to it takes.

Only internal nodes are fetched: the references of leaves stand in these, or in capabilities.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from typing import NamedTuple, Protocol

from eris.capability import ReadCapability
from eris.model import Reference
from eris.store import BlockReader
from eris_fs.walk import walk_contents

__all__ = ["Amount", "References", "new_blocks"]


class Amount(NamedTuple):
    """So many blocks, and their bytes."""

    blocks: int
    bytes: int


class References(Protocol):
    """A set of references, which may be many: what keeps them is the caller's choice."""

    def add(self, reference: Reference, /) -> object:
        """Add one."""

    def __contains__(self, reference: Reference, /) -> bool: ...


async def new_blocks(
    store: BlockReader,
    old: Iterable[ReadCapability],
    new: Iterable[ReadCapability],
    seen: References,
) -> Amount:
    """Count the distinct blocks of the new contents that none of the old ones has.

    `seen` is empty, and has all references in the end.
    Raises: BlockNotFound, ContentError, StoreError.
    """
    before = dict.fromkeys(old)
    async with aclosing(walk_contents(store, before)) as runs:
        async for run in runs:
            for found in run:
                seen.add(found.reference)
    blocks = size = 0
    added = (capability for capability in new if capability not in before)
    async with aclosing(walk_contents(store, added)) as runs:
        async for run in runs:
            for found in run:
                if found.reference not in seen:
                    seen.add(found.reference)
                    blocks += 1
                    size += found.block_size
    return Amount(blocks, size)
