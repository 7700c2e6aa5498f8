"""What of a file system a tree takes: what is left out, and what is done about what cannot be read.

What nobody may take, as the files of the very program that encodes, is known by device and inode,
so that no other name for it helps; and by its name in a directory that is so known, so that it may
also appear later. What is only read from a directory costs no system call for each entry.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from eris_fs.errors import NotAFile, TreeError, Unreadable, Vanished
from eris_fs.exclude import Exclude

__all__ = ["EVERYTHING", "Forbidden", "ForbiddenFile", "Selection", "identity"]

_CANNOT_BE_READ: Final = (Unreadable, Vanished, NotAFile)

Identity = tuple[int, int]
"""Device and inode."""


def identity(status: os.stat_result) -> Identity:
    """Which file this is, whatever it is called."""
    return status.st_dev, status.st_ino


class ForbiddenFile(NamedTuple):
    """A file that no tree takes: what it is, for messages, and its path, there or not."""

    what: str
    path: str


class Forbidden:
    """Files that no tree takes.

    `tell` is called with each that is met, in whatever thread meets it.
    """

    def __init__(
        self, files: Iterable[ForbiddenFile], tell: Callable[[ForbiddenFile], None]
    ) -> None:
        self._tell = tell
        self._files: dict[Identity, ForbiddenFile] = {}
        self._directories: dict[Identity, dict[str, ForbiddenFile]] = {}
        for file in files:
            self._add(file)
        self._inodes = frozenset(inode for _, inode in self._files)

    def find(self, status: os.stat_result) -> ForbiddenFile | None:
        """The one that this is."""
        return self._files.get(identity(status))

    def names_in(self, descriptor: int) -> Mapping[str, ForbiddenFile]:
        """Those of an open directory, by name.

        Raises: OSError.
        """
        return self._directories.get(identity(os.fstat(descriptor)), {})

    def meets(self, entry: os.DirEntry[str], names: Mapping[str, ForbiddenFile]) -> bool:
        """Whether an entry is one of them; `names` are those of its directory. Says so.

        Raises: OSError.
        """
        found = names.get(entry.name)
        if found is None and entry.inode() in self._inodes:
            found = self.find(entry.stat(follow_symlinks=False))
        if found is None:
            return False
        self._tell(found)
        return True

    def _add(self, file: ForbiddenFile) -> None:
        """Find a file, and where it is or would be: also behind a symlink."""
        for path in {os.path.abspath(file.path), os.path.realpath(file.path)}:
            directory, name = os.path.split(path)
            try:
                here = identity(os.stat(directory))
                self._directories.setdefault(here, {})[name] = file
                self._files[identity(os.lstat(path))] = file
            except OSError:
                # It is not there, or nobody can see it: nor will it be read.
                continue


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a file system a tree takes."""

    exclude: Exclude | None = None
    """What is left out as if it were not there; told the path below the root."""
    one_file_system: bool = False
    """Whether a directory where another file system is mounted is taken as an empty one."""
    forbidden: Forbidden | None = None
    skip: Callable[[TreeError], None] | None = None
    """Told of each entry that cannot be read, which is then left out; without it, an error."""

    def skips(self, error: TreeError) -> bool:
        """Whether what cannot be read is left out; says so then."""
        if self.skip is None or not isinstance(error, _CANNOT_BE_READ):
            return False
        self.skip(error)
        return True


EVERYTHING: Final = Selection()
