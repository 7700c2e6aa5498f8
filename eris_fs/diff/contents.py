"""What two indexes leave open, settled: by sizes, and by reading the contents."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace

from eris.store import BlockReader
from eris_fs.contents import read_files
from eris_fs.diff.compare import Change, Sort
from eris_fs.model import Path, Tree
from eris_fs.progress import Progress

__all__ = ["settle", "settle_by_size"]


def settle_by_size(
    changes: Iterable[Change], old: dict[Path, int], new: dict[Path, int]
) -> list[Change]:
    """Call changed what is uncertain and has another size than before."""
    return [
        replace(change, sort=Sort.CHANGED)
        if change.sort is Sort.UNCERTAIN and _differ(old.get(change.path), new.get(change.path))
        else change
        for change in changes
    ]


def _differ(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one != other


async def settle(
    store: BlockReader,
    old: Tree,
    new: Tree,
    changes: Sequence[Change],
    progress: Progress | None = None,
) -> list[Change]:
    """Read what is uncertain in both trees, and tell what really changed.

    Raises: BlockNotFound, ContentError, StoreError; TreeTooLarge, for a hostile packed tree.
    """
    paths = [change.path for change in changes if change.sort is Sort.UNCERTAIN]
    counted = _Counted(progress)
    before = await _digests(store, old, paths, counted)
    now = await _digests(store, new, paths, counted)
    settled: list[Change] = []
    for change in changes:
        if change.sort is not Sort.UNCERTAIN:
            settled.append(change)
        elif before[change.path] != now[change.path]:
            settled.append(replace(change, sort=Sort.CHANGED))
        elif change.changes_mode:
            settled.append(replace(change, sort=Sort.MODE))
    return settled


class _Counted:
    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._files = self._bytes = 0

    def add(self, files: int, byte_count: int) -> None:
        self._files += files
        self._bytes += byte_count
        if self._progress is not None:
            self._progress(self._files, self._bytes)


async def _digests(
    store: BlockReader, tree: Tree, paths: Sequence[Path], counted: _Counted
) -> dict[Path, bytes]:
    digests: dict[Path, bytes] = {}
    state = hashlib.blake2b(digest_size=32)
    async with aclosing(read_files(store, tree, paths)) as pieces:
        async for path, content, last in pieces:
            state.update(content)
            counted.add(last, len(content))
            if last:
                digests[path] = state.digest()
                state = hashlib.blake2b(digest_size=32)
    return digests
