"""Tree to file system. All safety of paths against a hostile index lives here.

Nothing is ever named to the kernel but a single component, relative to a directory that we made and
hold open: no path string can lead out of the target, and no symlink can be walked through, whatever
the index says. Everything is created, never opened if it is there, so that two names which the
target's file system takes for one (by case, or by Unicode form) show as a clash and are refused.
Symlinks are made when all else is done. Zeros become holes.

The entries are created in the order of their paths (those of an outline in the order of their
bytes), so that each directory is entered once, and at most one is open for each component; file
contents must be handed over in that same order.

Plain synchronous code, meant for a worker thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path as SystemPath
from typing import Final, NoReturn

from eris_fs.errors import TargetExists, UnsafePath
from eris_fs.fetch import FilePiece
from eris_fs.model import (
    DEFAULT_LIMITS,
    EmptyDirectory,
    Limits,
    PackedFile,
    PackedTree,
    Path,
    RegularFile,
    Symlink,
    Tree,
)
from eris_fs.outline import Outline, OutlineFile, canonical_order
from eris_fs.paths import check_path, check_target, common_length, order_paths, raw_text
from eris_fs.sparse import SparseFile

__all__ = ["Restorer"]

_File = RegularFile | PackedFile | OutlineFile

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTER: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
# Less the umask, which the kernel sees to.
_FILE_MODE: Final = 0o666
_EXECUTABLE_MODE: Final = 0o777


class Restorer:
    """Create a tree at `target`, where nothing may be, below a directory that is there.

    Of an outline its files come in its own order, which is that of their bytes.

    ```python
    restorer = Restorer(tree, target)
    try:
        restorer.begin()
        restorer.write(pieces)     # of `restorer.files`, in that order; any number of times
        restorer.finish()
    finally:
        restorer.close()
    ```

    After an error the target is left as it is: see `remove_tree`.
    Raises: UnsafePath, TreeTooLarge, if the tree is not one that may be restored.
    """

    def __init__(
        self,
        tree: Tree | Outline,
        target: str | os.PathLike[str],
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._target = SystemPath(target)
        self._tree = tree
        order = canonical_order if isinstance(tree, Outline) else order_paths
        self._order = order(tree, limits)
        self._check(limits)
        self.files: list[Path] = [path for path in self._order if isinstance(tree[path], _File)]
        self._plan = iter(self._order)
        self._current: SparseFile | None = None
        self._directories = _Directories(self._target, create=True)

    def begin(self) -> None:
        """Create the target itself, unless it is a file or a symlink.

        Raises: TargetExists; OSError.
        """
        self._directories.open()
        if () not in self._tree:
            self._directories.enter(())

    def write(self, pieces: Iterable[FilePiece]) -> None:
        """Write the next pieces of files, creating what comes before them in the tree.

        Raises: UnsafePath, if the file system takes an entry for another one; TargetExists;
        OSError.
        """
        for path, content, last in pieces:
            if self._current is None:
                self._current = SparseFile(self._advance(path))
            if content:
                self._current.write(content)
            if last:
                self._current.finish()
                self._close_file()

    def finish(self) -> None:
        """Create what is left: last directories, then all symlinks.

        Raises: as `write`.
        """
        self._make_until(None)
        # All is there; what was created must now be found, and is never created on the way.
        directories = _Directories(self._target, create=False)
        try:
            directories.open_beside(self._directories)
            self._directories.close()
            for path in self._order:
                entry = self._tree[path]
                if isinstance(entry, Symlink):
                    directories.make_symlink(path, entry.target)
        finally:
            directories.close()

    def close(self) -> None:
        """Close whatever is open; again is harmless."""
        self._close_file()
        self._directories.close()

    def _close_file(self) -> None:
        if self._current is not None:
            current, self._current = self._current, None
            os.close(current.fileno())

    def _check(self, limits: Limits) -> None:
        any_bytes = isinstance(self._tree, PackedTree | Outline)
        for path in self._order:
            check_path(path, limits, any_bytes=any_bytes)
            entry = self._tree[path]
            if isinstance(entry, Symlink):
                check_target(path, entry.target, limits, any_bytes=any_bytes)

    def _advance(self, wanted: Path) -> int:
        """Make the file `wanted` and all directories before it; returns it open."""
        found = self._make_until(wanted)
        if found is None:
            raise ValueError("contents are not given in the order of the files")
        return self._directories.make_file(wanted, found.executable)

    def _make_until(self, wanted: Path | None) -> _File | None:
        """Make the directories up to the next file; it is returned if it is the one wanted."""
        for path in self._plan:
            entry = self._tree[path]
            if isinstance(entry, _File):
                return entry if path == wanted else None
            if isinstance(entry, EmptyDirectory):
                self._directories.enter(path)
            elif path:
                self._directories.enter(path[:-1])
        return None


class _Directories:
    """Where we are in the target: one open directory for each component of the way there.

    The lowest one is the target's parent, in which the target is but a name, like any other.
    """

    def __init__(self, target: SystemPath, *, create: bool) -> None:
        self._target = target
        self._create = create
        self._way: Path = ()
        self._open: list[int] = []

    def open(self) -> None:
        """Open the directory that holds the target, which the caller vouches for."""
        if self._target.name in ("", ".", ".."):
            raise TargetExists(str(self._target))
        self._open.append(os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def open_beside(self, other: _Directories) -> None:
        """Begin in the very directory that another one began in, wherever its path leads now."""
        self._open.append(os.dup(other._open[0]))

    def enter(self, path: Path) -> int:
        """Go to a directory of the tree; returns its descriptor, good until the next move."""
        return self._move((self._target.name, *path), path)

    def make_file(self, path: Path, executable: bool) -> int:
        """Create a file; returns a descriptor to write to, which the caller closes."""
        parent, name = self._parent(path)
        try:
            mode = _EXECUTABLE_MODE if executable else _FILE_MODE
            return os.open(name, _CREATE, mode, dir_fd=parent)
        except OSError as error:
            self._explain(error, path)

    def make_symlink(self, path: Path, target: str) -> None:
        """Create a symlink."""
        parent, name = self._parent(path)
        try:
            os.symlink(raw_text(target), name, dir_fd=parent)
        except OSError as error:
            self._explain(error, path)

    def close(self) -> None:
        """Close all of them; again is harmless."""
        while self._open:
            os.close(self._open.pop())
        self._way = ()

    def _parent(self, path: Path) -> tuple[int, bytes]:
        """Go where an entry belongs; returns that directory and the entry's name there."""
        if not path:
            return self._move((), path), os.fsencode(self._target.name)
        return self.enter(path[:-1]), raw_text(path[-1])

    def _move(self, way: Path, path: Path) -> int:
        if way != self._way:
            common = common_length(way, self._way)
            while len(self._open) > common + 1:
                os.close(self._open.pop())
            self._way = way[:common]
            for name in way[common:]:
                # The target's own name is the caller's, and in the system's encoding.
                raw = raw_text(name) if self._way else os.fsencode(name)
                self._open.append(self._step(raw, path[: len(self._way)]))
                self._way = (*self._way, name)
        return self._open[-1]

    def _step(self, name: bytes, path: Path) -> int:
        """Enter one directory below the one we are in, first making it if that is our part."""
        parent = self._open[-1]
        try:
            if self._create:
                os.mkdir(name, dir_fd=parent)
            return os.open(name, _ENTER, dir_fd=parent)
        except OSError as error:
            self._explain(error, path)

    def _explain(self, error: OSError, path: Path) -> NoReturn:
        where = str(self._target.joinpath(*path))
        if isinstance(error, FileExistsError):
            if not path:
                raise TargetExists(where) from error
            raise UnsafePath(path, "the file system takes its name for another entry's") from error
        raise OSError(error.errno, os.strerror(error.errno or 0), where) from error
