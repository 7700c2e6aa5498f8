"""Removing what is in a directory held open: a file, a symlink, or a directory with all in it.

Runs as root over trees that belong to somebody else, who may go on changing them. So nothing is
named to the kernel but one component, relative to a directory held open; what is entered is opened
first and looked at then; modes are changed on what is open. No symlink is followed, and nothing
outside of the tree is touched: neither removed nor given another mode, whatever is moved meanwhile.

Directories that their owner may not read or write are opened up first. Directories deeper than some
levels are moved up to the top, so that few are open at a time, however deep the tree is. What is
added meanwhile is removed too, but not without end.

Plain synchronous code, meant for a worker thread.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

__all__ = ["remove_at", "remove_tree"]

# A handle reads nothing, and so needs no permission of what it leads to.
_HANDLE: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_ENTER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OWNERS: Final = 0o700
# What the kernel says of a name that is gone, or leads to no directory any more.
_MOVED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_NOT_EMPTY: Final = frozenset({errno.ENOTEMPTY, errno.EEXIST})

_MOST_OPEN: Final = 64
"""Levels that are open at a time, two descriptors each; what is deeper is moved up."""

_MOST_AGAIN: Final = 100
"""How often, in all, a directory is gone through once more because it was not empty after all."""

_MOST_AT_ONCE: Final = 1_000_000
"""Entries of a directory in one go, of which there are then more: some file systems show what is
added last, and so without end. As many directories are moved up at most."""


def remove_tree(path: str | os.PathLike[str]) -> None:
    """Remove what is at `path`: see `remove_at`. The directory that holds it is believed.

    Raises: OSError.
    """
    parent, name = os.path.split(os.fspath(path).rstrip("/"))
    try:
        descriptor = os.open(parent or ".", _HANDLE)
    except FileNotFoundError:
        return
    try:
        remove_at(descriptor, name)
    finally:
        os.close(descriptor)


def remove_at(parent: int, name: str) -> None:
    """Remove what is at `name` in an open directory: a file, a symlink, or a directory with all.

    `parent` may be a mere handle (`O_PATH`); its mode and its other entries stay as they are.
    Nothing there is fine.
    Raises: OSError, also where another file system is mounted within, or where more is added as
    fast as it is removed.
    """
    if name in ("", ".", "..") or "/" in name:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
    removal = _Removal(parent)
    try:
        removal.run(name)
    finally:
        removal.close()


class _Level:
    """A directory that is being emptied: where it is, and what is still to be seen of it."""

    __slots__ = ("again", "descriptor", "entries", "moved_here", "name", "seen")

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self.descriptor = descriptor
        self.again: list[str] = []
        """Directories in it that are to be gone through once more."""
        self.moved_here = False
        self.seen = 0
        self.entries: Iterator[os.DirEntry[str]] = iter(())

    def next(self) -> str | None:
        """A name that is in it; None at the end, or after very many."""
        if self.again:
            return self.again.pop()
        self.seen += 1
        if self.seen > _MOST_AT_ONCE:
            return None
        entry = next(self.entries, None)
        return None if entry is None else entry.name


class _Removal:
    """One removal: the directories on the way to where it is."""

    def __init__(self, parent: int) -> None:
        self._parent = parent
        self._device = os.fstat(parent).st_dev
        self._open: list[_Level] = []
        # Of the parent, in which only this one name is ours.
        self._pending: list[str] = []
        self._again = 0
        self._moved_up = 0

    def run(self, name: str) -> None:
        self._pending.append(name)
        while self._open or self._pending:
            if not self._open:
                self._remove(self._pending.pop())
            elif (found := self._open[-1].next()) is not None:
                self._remove(found)
            else:
                self._leave()

    def close(self) -> None:
        while self._open:
            _close(self._open.pop())

    @property
    def _here(self) -> int:
        return self._open[-1].descriptor if self._open else self._parent

    def _remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._here)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            self._enter(name)
        except PermissionError:
            # What POSIX has for a directory, and some file systems do.
            if not stat.S_ISDIR(os.stat(name, dir_fd=self._here, follow_symlinks=False).st_mode):
                raise
            self._enter(name)

    def _enter(self, name: str) -> None:
        descriptor = self._open_directory(name)
        if descriptor is None:
            self._try_again(name)
            return
        level = _Level(name, descriptor)
        try:
            if len(self._open) >= _MOST_OPEN and self._move_up(name):
                os.close(descriptor)
                return
            level.entries = os.scandir(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._open.append(level)

    def _leave(self) -> None:
        """Remove the directory that was emptied."""
        level = self._open.pop()
        _close(level)
        try:
            os.rmdir(level.name, dir_fd=self._here)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in _NOT_EMPTY | _MOVED:
                raise
            self._try_again(level.name, counts=not level.moved_here)

    def _try_again(self, name: str, *, counts: bool = True) -> None:
        self._again += counts
        if self._again > _MOST_AGAIN or self._moved_up > _MOST_AT_ONCE:
            raise OSError(errno.ENOTEMPTY, "something goes on adding to it", name)
        (self._open[-1].again if self._open else self._pending).append(name)

    def _move_up(self, name: str) -> bool:
        """Put a directory in the topmost one, to be removed later; False where that cannot be."""
        top = self._open[0]
        fresh = f".{secrets.token_hex(8)}.removed"
        try:
            os.rename(name, fresh, src_dir_fd=self._here, dst_dir_fd=top.descriptor)
        except OSError as error:
            # EXDEV: an overlay moves no directories. Then there is one more that is open.
            if error.errno == errno.EXDEV:
                return False
            if error.errno not in _MOVED:
                raise
            self._try_again(name)
        else:
            top.moved_here = True
            self._moved_up += 1
        return True

    def _open_directory(self, name: str) -> int | None:
        """Open a directory, whatever its mode; None if the name does not lead to one any more."""
        try:
            handle = os.open(name, _HANDLE | os.O_NOFOLLOW, dir_fd=self._here)
        except OSError as error:
            if error.errno in _MOVED:
                return None
            raise
        try:
            status = os.fstat(handle)
            if status.st_dev != self._device:
                raise OSError(errno.EBUSY, "another file system is mounted in it", name)
            if stat.S_IMODE(status.st_mode) & _OWNERS != _OWNERS:
                _open_up(handle)
            return os.open(".", _ENTER, dir_fd=handle)
        finally:
            os.close(handle)


def _open_up(handle: int) -> None:
    """Let the owner do all; where that fails, opening the directory tells whether it matters."""
    with suppress(OSError):
        # A handle has no fchmod; this leads to what it holds, and nowhere else.
        os.chmod(f"/proc/self/fd/{handle}", _OWNERS)


def _close(level: _Level) -> None:
    if hasattr(level.entries, "close"):
        level.entries.close()
    os.close(level.descriptor)
