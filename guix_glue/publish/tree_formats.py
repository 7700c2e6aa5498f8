"""The formats of trees that items may become: how each is made, and what tells it from the others.

`name` is what records keep beside a URN. `variant` is for the cache of contents that need not be
encoded again, which for packed trees depends on the library that compresses, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import eris_fs
from eris.capability import ReadCapability
from eris.store import BlockWriter
from eris_fs import KnownContents
from eris_fs.progress import Progress

__all__ = ["DEFAULT_LEVEL", "PackedTrees", "StandardTrees", "TreeFormat", "format_named"]

DEFAULT_LEVEL: Final = 19
"""Of packed trees. An item is baked once, and fetched many times."""

# Items are baked side by side already: more packs in the works would only take more memory.
_CONCURRENCY: Final = 1


@dataclass(frozen=True, slots=True)
class StandardTrees:
    """ERIS-FS as it is specified: any reader of it can read them; names are UTF-8."""

    @property
    def name(self) -> str:
        """What records call it."""
        return "eris-fs-1"

    @property
    def variant(self) -> str:
        """What contents become depends on this."""
        return "auto"

    async def put(
        self,
        store: BlockWriter,
        root: str,
        known: KnownContents | None,
        progress: Progress | None = None,
    ) -> ReadCapability:
        """Encode a tree. Raises: as `eris_fs.put_tree`."""
        return await eris_fs.put_tree(store, root, known=known, progress=progress)


@dataclass(frozen=True, slots=True)
class PackedTrees:
    """Packed trees, compressed at a level of zstd: far fewer blocks, any names; for Kapla only."""

    level: int = DEFAULT_LEVEL

    @property
    def name(self) -> str:
        """What records call it: a newer zstd is no reason to encode all items again."""
        return f"kapla-packed-1 level {self.level}"

    @property
    def variant(self) -> str:
        """What packs become depends on this."""
        return f"kapla-packed-1, {eris_fs.writer_name(self.level)}"

    async def put(
        self,
        store: BlockWriter,
        root: str,
        known: KnownContents | None,
        progress: Progress | None = None,
    ) -> ReadCapability:
        """Encode a tree. Raises: as `eris_fs.put_packed_tree`."""
        return await eris_fs.put_packed_tree(
            store,
            root,
            level=self.level,
            concurrency=_CONCURRENCY,
            known=known,
            progress=progress,
        )


TreeFormat = StandardTrees | PackedTrees


def format_named(name: str) -> TreeFormat | None:
    """The format that records, and maps, call so; None if there is none."""
    levels = range(1, eris_fs.MAX_LEVEL + 1)
    known: list[TreeFormat] = [StandardTrees(), *map(PackedTrees, levels)]
    return next((one for one in known if one.name == name), None)
