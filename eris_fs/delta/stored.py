"""A tree in a store, of either kind, whose files are read in ranges."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from eris.store import BlockReader
from eris.threads import in_thread
from eris_fs.delta.model import BaseRange
from eris_fs.errors import FileChanged
from eris_fs.model import (
    DEFAULT_LIMITS,
    FileEntry,
    Limits,
    Path,
    Tree,
    show_path,
)
from eris_fs.outline import Outline, OutlineEntry, OutlineFile
from eris_fs.reader import TreeReader
from eris_fs.sizes import find_sizes

__all__ = ["StoredFiles"]


class StoredFiles:
    """The files of a tree that was loaded, as `TreeFiles`.

    ```python
    async with StoredFiles(store, tree) as files:
        files.outline
    ```

    Entering it finds the sizes of the files, which a packed tree has in its index and others have
    not: that takes a block or two for each of these.
    Raises, then: UnsafePath, TreeTooLarge; BlockNotFound, ContentError, StoreError.
    """

    def __init__(self, store: BlockReader, tree: Tree, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self._store = store
        self._tree = tree
        self._limits = limits
        self._outline: Outline | None = None
        self._reader = TreeReader(store, tree)

    async def __aenter__(self) -> Self:
        sizes = await _sizes(self._store, self._tree)
        self._outline = await in_thread(_outline, self._tree, sizes, self._limits)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._reader.aclose()

    @property
    def outline(self) -> Outline:
        """The tree but for its contents.

        Raises: ValueError, before it is entered.
        """
        if self._outline is None:
            raise ValueError("the sizes of its files are not known yet: use it as a context")
        return self._outline

    async def read(self, ranges: Sequence[BaseRange]) -> bytes:
        """As `TreeFiles.read`.

        Raises: FileChanged, if a content is shorter than its own end says; BlockNotFound,
        ContentError, StoreError.
        """
        # One after the other: the reader fetches what follows ahead, and small files together.
        return b"".join([await self._read(one) for one in ranges])

    async def _read(self, one: BaseRange) -> bytes:
        path = self.outline.files[one.file]
        found = await self._reader.read(path, one.offset, one.length)
        if len(found) != one.length:
            raise FileChanged(show_path(path), "it is shorter than it was")
        return found


async def _sizes(store: BlockReader, tree: Tree) -> dict[Path, int]:
    files = [path for path, entry in tree.items() if isinstance(entry, FileEntry)]
    found = await find_sizes(store, tree, files)
    for path, failure in found.failures.items():
        failure.add_note(f"while reading {show_path(path)}")
        raise failure
    return found.sizes


def _outline(tree: Tree, sizes: dict[Path, int], limits: Limits) -> Outline:
    entries: dict[Path, OutlineEntry] = {}
    for path, entry in tree.items():
        if isinstance(entry, FileEntry):
            entries[path] = OutlineFile(sizes[path], entry.executable)
        else:
            entries[path] = entry
    return Outline(entries, limits)
