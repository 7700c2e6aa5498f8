"""The port: a tree whose files are read in ranges. What a delta leads from, and what it leads to.

A directory (`DirectoryFiles`) or a tree in a store (`StoredFiles`) is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eris_fs.delta.model import BaseRange
from eris_fs.outline import Outline

__all__ = ["TreeFiles"]


class TreeFiles(Protocol):
    """A tree that was looked at once, and whose files are read later."""

    @property
    def outline(self) -> Outline:
        """What it was like when it was looked at."""

    async def read(self, ranges: Sequence[BaseRange]) -> bytes:
        """Read ranges of files, joined; together at most 64 MiB. Several reads may be under way.

        Never anything outside of the tree, never through a symlink.
        Raises: FileChanged, if a file is not there any more, is shorter, or is no regular file now;
        BlockNotFound, ContentError, StoreError, of a tree in a store; OSError.
        """
