"""What trees are made of: their blocks, each counted once, and the bytes they stand for.

Only internal nodes are fetched, and the last leaf of each content whose length is nowhere stated;
the references of all other leaves stand in the nodes above them, or in capabilities.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass, field

from eris.capability import ReadCapability
from eris.model import BlockSize, Reference
from eris.store import BlockReader
from eris_fs.model import PackedFile, PackedTree, RegularFile, Tree
from eris_fs.walk import contents_of, walk_contents

__all__ = ["Survey", "survey_content", "survey_tree"]


@dataclass(slots=True)
class Survey:
    """The distinct blocks of something, and how many bytes of content it has.

    Of a tree these are the bytes of its files, those of equal content each time.
    """

    raw_bytes: int = 0
    references: dict[BlockSize, set[Reference]] = field(
        default_factory=lambda: {size: set() for size in BlockSize}
    )

    @property
    def blocks(self) -> int:
        """How many distinct blocks."""
        return sum(map(len, self.references.values()))

    @property
    def block_bytes(self) -> int:
        """The bytes of them."""
        return sum(size * len(references) for size, references in self.references.items())

    def without(self, other: Survey) -> Survey:
        """The blocks that another one does not have."""
        mine, others = self.references, other.references
        return Survey(self.raw_bytes, {size: mine[size] - others[size] for size in mine})


async def survey_content(store: BlockReader, capability: ReadCapability) -> Survey:
    """Survey a plain content.

    Raises: BlockNotFound, ContentError, StoreError.
    """
    found = Survey()
    lengths: dict[ReadCapability, int] = {}
    await _note(store, found, [capability], lengths)
    found.raw_bytes = lengths[capability]
    return found


async def survey_tree(store: BlockReader, capability: ReadCapability, tree: Tree) -> Survey:
    """Survey a tree that was loaded, its index included.

    Raises: BlockNotFound, ContentError, StoreError.
    """
    found = Survey()
    await _note(store, found, [capability], None)
    if isinstance(tree, PackedTree):
        await _note(store, found, contents_of(tree), None)
        files = (entry for entry in tree.values() if isinstance(entry, PackedFile))
        found.raw_bytes = sum(file.size for file in files)
        return found
    lengths: dict[ReadCapability, int] = {}
    await _note(store, found, contents_of(tree), lengths)
    times = Counter(entry.capability for entry in tree.values() if isinstance(entry, RegularFile))
    found.raw_bytes = sum(length * times[one] for one, length in lengths.items())
    return found


async def _note(
    store: BlockReader,
    found: Survey,
    contents: Iterable[ReadCapability],
    lengths: dict[ReadCapability, int] | None,
) -> None:
    async with aclosing(walk_contents(store, contents, lengths)) as runs:
        async for run in runs:
            for block in run:
                found.references[block.block_size].add(block.reference)
