"""Symlinks of a tree, followed within it; pure but for asking what is at a path.

A tree is read where its own root is all there is: what a link names outside it, by an absolute path
or by going up too far, is not there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final

from eris_fs.errors import NotADirectory, NotFound, PathError
from eris_fs.model import Path, show_path
from eris_fs.reader import EntryInfo, Kind

__all__ = ["LeadsOut", "follow", "path_of", "system_error"]

_MOST: Final = 40
"""Links in one path: as many as Linux follows."""


class LeadsOut(PathError):
    """A symlink leads out of the tree, or only to other symlinks."""

    errno = errno.ELOOP
    _what = "is a symlink that leads out of the tree, or in a circle"


def path_of(text: str) -> Path:
    """Split a path in a tree into its components; `""` is the tree itself."""
    return tuple(part for part in text.split("/") if part not in ("", "."))


def follow(info: Callable[[Path], EntryInfo], path: Path) -> EntryInfo:
    """Tell what is at a path, with the symlinks on the way, and the one at its end, followed.

    `info` tells what is at a path, as `TreeReader.info` does.
    Raises: NotFound, NotADirectory, LeadsOut.
    """
    # What is straight there needs no walk.
    try:
        found = info(path)
    except (NotFound, NotADirectory):
        pass
    else:
        if found.kind is not Kind.SYMLINK:
            return found
    return _walk(info, path)


def _walk(info: Callable[[Path], EntryInfo], path: Path) -> EntryInfo:
    found = info(())
    where: Path = ()
    rest = list(reversed(path))
    links = 0
    while True:
        if found.kind is Kind.SYMLINK:
            links += 1
            assert found.target is not None
            if links > _MOST or found.target.startswith("/") or not where:
                raise LeadsOut(path)
            where = where[:-1]
            rest += [part for part in reversed(found.target.split("/")) if part not in ("", ".")]
            found = info(where)
        if not rest:
            return found
        if found.kind is not Kind.DIRECTORY:
            raise NotADirectory(where)
        part = rest.pop()
        if part == "..":
            if not where:
                raise LeadsOut(path)
            where = where[:-1]
        else:
            where = (*where, part)
        found = info(where)


def system_error(error: PathError) -> OSError:
    """The error of the system's that says the same, as whoever opens files expects it."""
    what = os.strerror(error.errno)
    if isinstance(error, LeadsOut):
        what = "A symlink leads out of the tree, or in a circle"
    return OSError(error.errno, what, show_path(error.path))
