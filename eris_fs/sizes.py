"""The sizes of files of a tree of either kind, many at a time.

A packed tree has them in its index. Of an ERIS-FS 1 tree they are learnt from the right edges of
the contents, a block a level; what is missing or damaged there does not stop the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from typing import Final, NamedTuple

from eris.capability import ReadCapability
from eris.errors import BlockNotFound, ContentError
from eris.sizing import stream_outcomes
from eris.store import BlockReader
from eris_fs.model import PackedFile, Path, RegularFile, Tree

__all__ = ["FoundSizes", "find_sizes"]

_WINDOW: Final = 512
"""Contents that are looked at together, a request each: 16 MiB of blocks at most."""


class FoundSizes(NamedTuple):
    """Sizes in bytes, by path, and what is wrong with the contents that have none."""

    sizes: dict[Path, int]
    failures: dict[Path, BlockNotFound | ContentError]


async def find_sizes(store: BlockReader, tree: Tree, paths: Iterable[Path]) -> FoundSizes:
    """Find the sizes of these files; paths of what is no file are passed over.

    Raises: StoreError.
    """
    found = FoundSizes({}, {})
    contents: dict[ReadCapability, list[Path]] = {}
    for path in paths:
        entry = tree.get(path)
        if isinstance(entry, PackedFile):
            found.sizes[path] = entry.size
        elif isinstance(entry, RegularFile):
            contents.setdefault(entry.capability, []).append(path)
    async with aclosing(stream_outcomes(store, contents, window=_WINDOW)) as outcomes:
        async for capability, outcome in outcomes:
            for path in contents[capability]:
                if isinstance(outcome, int):
                    found.sizes[path] = outcome
                else:
                    found.failures[path] = outcome
    return found
