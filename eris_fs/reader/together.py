"""Which small files are fetched together with one that is read; pure.

Whoever reads one small file of a directory mostly reads those beside it too, and one after the
other each would cost a round trip. So the first read brings what comes next in the directory, and
what stands before it, as much as costs little; what was brought once is not brought again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from eris.capability import ReadCapability
from eris_fs.model import Path, RegularFile, Tree
from eris_fs.reader.directories import Directories
from eris_fs.reader.lru import LeastRecent
from eris_fs.reader.small import is_small, most_blocks

__all__ = ["Together"]

_MOST_FILES: Final = 256
_MOST_BYTES: Final = 1024 * 1024
"""Brought by one read at most, in blocks: some milliseconds of a slow link."""

_MOST_LOOKED_AT: Final = 1024
"""Entries: a directory may have a million of other kinds."""

_REMEMBERED: Final = 4 * 1024 * 1024
"""Bytes of table for the files that were brought: 16 thousand of them."""


class Together:
    """The small files of a tree, and which of them were brought."""

    def __init__(self, tree: Tree, directories: Directories) -> None:
        self._tree = tree
        self._directories = directories
        self._brought: LeastRecent[None] = LeastRecent(_REMEMBERED)

    def bring(self, path: Path) -> Iterator[ReadCapability]:
        """The contents to fetch beside that of a small file, which is now read."""
        if not path or path in self._brought:
            return
        self._brought.put(path, None, 0)
        files = size = 0
        for beside in islice(self._beside(path), _MOST_LOOKED_AT):
            entry = self._tree.get(beside)
            if not isinstance(entry, RegularFile) or not is_small(entry.capability):
                continue
            size += most_blocks(entry.capability) * entry.capability.block_size
            files += 1
            if files > _MOST_FILES or size > _MOST_BYTES or beside in self._brought:
                return
            self._brought.put(beside, None, 0)
            yield entry.capability

    def _beside(self, path: Path) -> Iterator[Path]:
        directory, own = path[:-1], path[-1]
        for name in self._directories.names(directory, own):
            if name != own:
                yield (*directory, name)
        for name in self._directories.names(directory):
            if name == own:
                return
            yield (*directory, name)
