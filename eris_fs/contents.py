"""The files of a tree of either kind, through one door."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator

from eris.capability import ReadCapability
from eris.store import BlockReader
from eris_fs.fetch import DEFAULT_WINDOW, FilePiece, fetch_files
from eris_fs.model import PackedTree, Path, RegularFile, Tree
from eris_fs.packed.decode import read_packed_files

__all__ = ["read_files"]


def read_files(
    store: BlockReader, tree: Tree, paths: Iterable[Path], *, window: int = DEFAULT_WINDOW
) -> AsyncGenerator[FilePiece, None]:
    """Read files of a tree piece by piece, each whole before the next, in the order given.

    Quickest in the order of the paths. Close the iterator (`contextlib.aclosing`) if it is not read
    to its end.
    Raises: BlockNotFound, ContentError (InvalidPack is one), StoreError; TreeTooLarge, for a
    hostile packed tree; ValueError for a path that is no file of the tree.
    """
    if isinstance(tree, PackedTree):
        return read_packed_files(store, tree, paths, window=window)
    return fetch_files(store, _capabilities(tree, paths), window=window)


def _capabilities(tree: Tree, paths: Iterable[Path]) -> Iterator[tuple[Path, ReadCapability]]:
    for path in paths:
        entry = tree.get(path)
        if not isinstance(entry, RegularFile):
            raise ValueError(f"{path} is not a file of this tree")
        yield path, entry.capability
