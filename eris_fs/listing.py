"""What is in which directory of a tree, and the names nearest to one that is not there; pure.

A tree lists files: a directory is there because something is in it. Here it has a name of its own,
with None in the place of an entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Final

from eris_fs.model import EmptyDirectory, Entry, Path, Tree

__all__ = ["entries_below", "entries_in", "is_directory", "nearest", "path_of"]

_MOST_COMPARED: Final = 20_000
"""Names that one is compared with: a tree can have a million, and each takes some microseconds."""
_MOST_NEAR: Final = 3


def path_of(text: str) -> Path:
    """Read a path as people write it: `/docs//a.txt`, `./docs/a.txt` and `docs/a.txt` are one."""
    return tuple(part for part in text.split("/") if part not in ("", "."))


def is_directory(tree: Tree, path: Path) -> bool:
    """Whether this is a directory of the tree, empty or not; the top is, unless it is an entry."""
    entry = tree.get(path)
    if entry is not None:
        return isinstance(entry, EmptyDirectory)
    return not path or any(known[: len(path)] == path for known in tree)


def entries_in(tree: Tree, directory: Path) -> dict[Path, Entry | None]:
    """What is in a directory, by whole paths, in order; None where it is a directory in its turn.

    An empty directory among them has its entry. A tree that is itself a file or a symlink has that.
    """
    depth = len(directory) + 1
    found: dict[Path, Entry | None] = {}
    for path, entry in tree.items():
        if path[: depth - 1] == directory and (len(path) >= depth or not path):
            found[path[:depth]] = entry if len(path) <= depth else None
    return {path: found[path] for path in sorted(found)}


def entries_below(tree: Tree, directory: Path) -> dict[Path, Entry]:
    """All entries in a directory and in those below it, by whole paths, in order."""
    depth = len(directory)
    return {path: tree[path] for path in sorted(tree) if path[:depth] == directory}


def nearest(tree: Tree, path: Path) -> list[Path]:
    """The paths that may have been meant by one that is not in the tree, the nearest first.

    As far as its directories are there, names in the last of these are looked at; and the same name
    elsewhere. Of more than 20,000 names only the first are.
    """
    if not path:
        return []
    there: Path = ()
    names = _names_in(tree, there)
    while len(there) < len(path) - 1 and path[len(there)] in names:
        there = path[: len(there) + 1]
        names = _names_in(tree, there)
    wanted = path[len(there)]
    close = [(*there, name) for name in _close(wanted, names)]
    elsewhere = _same_name(tree, path[-1])
    return list(dict.fromkeys([*close, *elsewhere]))[:_MOST_NEAR]


def _names_in(tree: Tree, directory: Path) -> dict[str, None]:
    depth = len(directory)
    below = (path for path in tree if len(path) > depth and path[:depth] == directory)
    return dict.fromkeys(path[depth] for path in below)


def _close(wanted: str, names: dict[str, None]) -> list[str]:
    """The names most like this one; those that differ in case alone come first."""
    compared = list(names)[:_MOST_COMPARED]
    folded = wanted.casefold()
    same = [name for name in compared if name.casefold() == folded]
    return [*same, *get_close_matches(wanted, compared, _MOST_NEAR, 0.7)]


def _same_name(tree: Tree, name: str) -> Iterator[Path]:
    found = 0
    for path in tree:
        if name in path:
            yield path[: path.index(name) + 1]
            found += 1
        if found == _MOST_NEAR:
            return
