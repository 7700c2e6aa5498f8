"""What is in the directories of a tree, which lists files only; pure.

In the order of component tuples all that lies in a directory is in one row. So a directory is a
range of the sorted paths, found by bisection when somebody asks for it; no table of directories is
made, which would take longer, and more memory, than all that is ever asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from eris_fs.model import EmptyDirectory, Path, Tree

__all__ = ["Directories"]


class Directories:
    """The directories of a tree, which must not change."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._sorted: list[Path] | None = None

    def prepare(self) -> None:
        """Sort the paths now, rather than when it is needed: a second for a million."""
        if self._sorted is None:
            self._sorted = sorted(self._tree)

    def __contains__(self, path: object) -> bool:
        """Whether this is the path of a directory. The top of a tree that is empty is one."""
        assert isinstance(path, tuple)
        entry = self._tree.get(path)
        if entry is not None:
            return isinstance(entry, EmptyDirectory)
        first = self._first(path)
        paths = self._paths()
        return not path or (first < len(paths) and paths[first][: len(path)] == path)

    def names(self, directory: Path, begin: str = "") -> Iterator[str]:
        """The names in a directory from `begin` on, sorted; none in what is no directory."""
        paths, depth = self._paths(), len(directory)
        at = self._first((*directory, begin) if begin else directory)
        while at < len(paths) and paths[at][:depth] == directory:
            if len(paths[at]) == depth:
                # A path that is an entry itself is no directory, or an empty one.
                return
            name = paths[at][depth]
            yield name
            if len(paths[at]) == depth + 1:
                at += 1
            else:
                # Behind all that begins with this name: no name lies between, or holds a NUL.
                at = self._first((*directory, name + "\0"), at)

    def _paths(self) -> list[Path]:
        self.prepare()
        assert self._sorted is not None
        return self._sorted

    def _first(self, path: Path, after: int = 0) -> int:
        return bisect_left(self._paths(), path, after)
