"""A tree to the events of its nar, so that the same sink restores and hashes both.

It may be an ERIS-FS tree in a store, or an outline and the contents from wherever they come.

A nar has its entries in the order of their bytes and names every directory, so the paths of a tree
are sorted as bytes and the directories that they imply are put in. Contents are read in that same
order, as one window of requests over all files.

A nar also has the size of a file before its content, which a tree whose files are contents of their
own does not know. So a file is held back until its last piece; one that turns out to be large has
its length looked up, while more of it arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Final, NamedTuple

from eris.store import BlockReader
from eris.threads import in_thread, settle
from eris.transfer import content_length
from eris_fs import FilePiece
from eris_fs import Path as TreePath
from eris_fs import Symlink as TreeSymlink
from eris_fs.contents import read_files
from eris_fs.model import (
    DEFAULT_LIMITS,
    EmptyDirectory,
    Entry,
    FileEntry,
    Limits,
    PackedTree,
    RegularFile,
    Tree,
    show_path,
)
from eris_fs.outline import Outline, OutlineFile
from eris_fs.paths import check_path, check_target, raw_text
from guix_glue.errors import FetchFailed
from guix_glue.formats.nar import (
    DEFAULT_NAR_LIMITS,
    Data,
    Directory,
    File,
    NarEvent,
    NarLimits,
    NarPath,
    Symlink,
)

__all__ = ["TreeEntry", "outline_events", "tree_events", "tree_limits", "tree_order"]

_BATCH_SIZE: Final = 1024 * 1024
_BATCH_ENTRIES: Final = 256

_LARGE: Final = 1024 * 1024
"""A file of more bytes than this has its length looked up: a few requests, one after the other."""
_MOST_HELD: Final = 16 * 1024 * 1024
"""Bytes that may wait for their file's length; then reading waits too."""


# The least that an entry of a directory takes in a nar.
_ENTRY_SIZE: Final = 160


def tree_limits(nar_size: int) -> Limits:
    """The limits of a tree of which the nar has so many bytes, whoever wrote its index."""
    entries = min(DEFAULT_LIMITS.entries, nar_size // _ENTRY_SIZE + 1)
    return Limits(entries=entries)


class TreeEntry(NamedTuple):
    """An entry of a tree, and where it is: in the nar, and in the tree."""

    path: NarPath
    tree_path: TreePath
    entry: Entry | OutlineFile


def tree_order(
    tree: Mapping[TreePath, Entry | OutlineFile], limits: NarLimits = DEFAULT_NAR_LIMITS
) -> list[TreeEntry]:
    """Bring the entries of a tree, or of an outline, in the order of a nar, and check them.

    Raises: UnsafePath, if a nar cannot have such a path or target; FetchFailed, if one lies under
    another, or if with the directories that they imply they are more than `limits.entries`.
    """
    any_bytes = isinstance(tree, PackedTree | Outline)
    rules = replace(
        DEFAULT_LIMITS,
        depth=limits.depth,
        name_size=limits.name_size,
        target_size=limits.target_size,
    )
    found = []
    for path, entry in tree.items():
        check_path(path, rules, any_bytes=any_bytes)
        if isinstance(entry, TreeSymlink):
            check_target(path, entry.target, rules, any_bytes=any_bytes)
        found.append(TreeEntry(tuple(map(raw_text, path)), path, entry))
    # Paths are unique, so the entries themselves are never compared.
    found.sort()
    _check_order(found, limits)
    return found


def _check_order(ordered: list[TreeEntry], limits: NarLimits) -> None:
    """Look at neighbours: whatever lies under an entry follows it immediately."""
    total = 0
    before: NarPath | None = None
    for path, tree_path, _ in ordered:
        first = _first_new(before, path)
        if before is not None and first > len(before):
            raise FetchFailed(f"{show_path(tree_path)} lies under another entry of its tree")
        # The directories that are new, and the entry itself.
        total += len(path) + 1 - first
        if total > limits.entries:
            raise FetchFailed(f"the tree has more than {limits.entries} entries")
        before = path


async def tree_events(
    store: BlockReader, tree: Tree, limits: NarLimits = DEFAULT_NAR_LIMITS
) -> AsyncGenerator[list[NarEvent], None]:
    """Read a tree from a store as the events of its nar, many at a time.

    Close the iterator (`contextlib.aclosing`) if it is not read to its end.
    Raises: FetchFailed, UnsafePath; BlockNotFound, ContentError, StoreError.
    """
    ordered = await in_thread(tree_order, tree, limits)
    files = (item.tree_path for item in ordered if isinstance(item.entry, FileEntry))
    async with (
        aclosing(read_files(store, tree, files)) as pieces,
        aclosing(_batches(ordered, pieces, store, limits)) as batches,
    ):
        async for batch in batches:
            yield batch


async def outline_events(
    outline: Outline,
    pieces: AsyncGenerator[FilePiece, None],
    limits: NarLimits = DEFAULT_NAR_LIMITS,
) -> AsyncGenerator[list[NarEvent], None]:
    """Make the events of a nar of an outline and the pieces of all its files, in their order.

    Close the iterator, and then `pieces`, if it is not read to its end; it is not closed here.
    Raises: FetchFailed, UnsafePath; whatever the iteration of `pieces` raises.
    """
    ordered = await in_thread(tree_order, outline, limits)
    async with aclosing(_batches(ordered, pieces, None, limits)) as batches:
        async for batch in batches:
            yield batch


async def _batches(
    ordered: list[TreeEntry],
    pieces: AsyncGenerator[FilePiece, None],
    store: BlockReader | None,
    limits: NarLimits,
) -> AsyncGenerator[list[NarEvent], None]:
    batch: list[NarEvent] = []
    entries = size = total = 0
    async with aclosing(_events(ordered, pieces, store)) as events:
        async for event in events:
            batch.append(event)
            if isinstance(event, Data):
                size += len(event.content)
            else:
                entries += 1
                total += event.size if isinstance(event, File) else 0
            if total > limits.size:
                raise FetchFailed(f"the files of the tree have more than {limits.size} bytes")
            if size >= _BATCH_SIZE or entries >= _BATCH_ENTRIES:
                yield batch
                batch, entries, size = [], 0, 0
    if batch:
        yield batch


async def _events(
    ordered: list[TreeEntry], pieces: AsyncGenerator[FilePiece, None], store: BlockReader | None
) -> AsyncGenerator[NarEvent, None]:
    before: NarPath | None = None
    for path, _, entry in ordered:
        for length in range(_first_new(before, path), len(path)):
            yield Directory(path[:length])
        before = path
        match entry:
            case EmptyDirectory():
                yield Directory(path)
            case TreeSymlink(target):
                yield Symlink(path, raw_text(target))
            case _:
                async with aclosing(_file_events(store, path, entry, pieces)) as events:
                    async for event in events:
                        yield event
    if before is None:
        yield Directory(())


async def _file_events(
    store: BlockReader | None,
    path: NarPath,
    entry: FileEntry | OutlineFile,
    pieces: AsyncGenerator[FilePiece, None],
) -> AsyncGenerator[NarEvent, None]:
    """One file: its size, as soon as it is known, and its content."""
    length = _Length(store, entry)
    held: list[bytes] = []
    begun = False
    count = 0
    try:
        async for piece in pieces:
            if piece.content:
                held.append(piece.content)
                count += len(piece.content)
            size = await length.after(count, last=piece.last)
            if size is not None:
                if count > size or (piece.last and count < size):
                    raise FetchFailed(f"{show_path(piece.path)} is not as long as its tree says")
                if not begun:
                    begun = True
                    yield File(path, size, entry.executable)
                for content in held:
                    yield Data(content)
                held.clear()
            if piece.last:
                return
    finally:
        await length.close()


class _Length:
    """How long a file is: as its tree says, or as long as what came, or looked up meanwhile."""

    def __init__(self, store: BlockReader | None, entry: FileEntry | OutlineFile) -> None:
        self._store = store
        self._entry = entry
        self._known = None if isinstance(entry, RegularFile) else entry.size
        self._lookup: asyncio.Task[int] | None = None

    async def after(self, count: int, *, last: bool) -> int | None:
        """The length, if it is known when so many bytes have come, the last one or not."""
        if self._known is None:
            if last:
                self._known = count
            elif count > _LARGE:
                self._known = await self._look_up(wait=count > _MOST_HELD)
        return self._known

    async def close(self) -> None:
        """End looking it up."""
        if self._lookup is not None:
            self._lookup.cancel()
            await settle(self._lookup)

    async def _look_up(self, *, wait: bool) -> int | None:
        if self._lookup is None:
            assert isinstance(self._entry, RegularFile), "of all others the size is known"
            assert self._store is not None, "such a file is in one"
            self._lookup = asyncio.create_task(content_length(self._store, self._entry.capability))
        return await self._lookup if wait or self._lookup.done() else None


def _first_new(before: NarPath | None, path: NarPath) -> int:
    """How long the shortest prefix of a path is that does not lead to the one before it."""
    if before is None:
        return 0
    length = 0
    for left, right in zip(before, path, strict=False):
        if left != right:
            break
        length += 1
    return length + 1
